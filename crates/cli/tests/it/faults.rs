//! Faults of the disk below the real program: `faults.c` is put between it and the C library.

use std::path::{Path, PathBuf};
use std::process::Command;

use arable_core::Seed;

use crate::domain::{Domain, text};
use crate::resume::LONG;

/// Kinds of faults, and which count of `faults.c` says how often each could happen in a run.
const KINDS: [(&str, &str); 5] =
    [("full", "writes"), ("sync", "syncs"), ("torn", "writes"), ("rename", "renames"), ("flip", "renames")];

/// How often the test injects a fault: a few times of each kind, or as `ARABLE_FAULTS` says.
fn num_faults_wanted() -> u64 {
    std::env::var("ARABLE_FAULTS").map_or(15, |text| text.parse().expect("ARABLE_FAULTS is a number"))
}

/// The faults, compiled; nothing where there is no C compiler.
fn compiled(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("faults.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults.c");
    let status =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(status.as_ref().map_or(true, |status| status.success()), "faults.c compiles");
    status.ok().map(|_| library)
}

struct Fault<'a> {
    kind: &'a str,
    at: u64,
    draw: u64,
}

/// A run of the program on faulty storage; what happened goes to `log`.
fn faulty(domain: &Domain, library: &Path, out: &str, fault: Option<&Fault<'_>>) -> std::process::Output {
    let mut command = domain.command(&[&["run", "--out", out][..], &LONG].concat());
    let under = std::fs::canonicalize(domain.path("")).unwrap();
    command.env("LD_PRELOAD", library).env("FAULT_UNDER", under.join(out)).env("FAULT_LOG", domain.path("log"));
    if let Some(Fault { kind, at, draw }) = fault {
        command.env("FAULT_KIND", kind).env("FAULT_AT", at.to_string()).env("FAULT_DRAW", draw.to_string());
    }
    command.output().unwrap()
}

/// Goes on after a fault as a person would: a folder that the program calls broken is deleted, as its hint says.
fn recover(domain: &Domain, out: &str, what: &str) -> String {
    let command = [&["run", "--out", out][..], &LONG].concat();
    let mut told = String::new();
    for _ in 0..4 {
        let output = domain.arable(&command);
        let said = text(&output);
        told.push_str(&said);
        if output.status.success() {
            return told;
        }
        let broken = said.lines().find_map(|line| line.split("delete the folder to have it rebuilt: ").nth(1));
        let broken = broken.unwrap_or_else(|| panic!("{what}: no advice in {said}"));
        std::fs::remove_dir_all(domain.path(broken)).unwrap();
    }
    panic!("{what}: {told}");
}

/// Whatever the disk does, the next run says what is broken, goes on from what is whole, and comes to the same weights.
#[cfg(target_os = "linux")]
#[test]
fn faults_of_the_disk_change_no_bit_of_the_weights() {
    let domain = Domain::new();
    let Some(library) = compiled(&domain.path("")) else {
        eprintln!("SKIPPED: faults_of_the_disk_change_no_bit_of_the_weights needs a C compiler");
        return;
    };
    let whole = faulty(&domain, &library, "whole", None);
    assert!(whole.status.success(), "{}", text(&whole));
    let want = domain.weights("whole");
    let counts = std::fs::read_to_string(domain.path("log")).unwrap();
    let count_of = |name: &str| -> usize {
        let mut words = counts.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).unwrap().parse().unwrap()
    };
    let mut draws = Seed(17).stream("faults").at(0, 0);
    for number in 0..num_faults_wanted() {
        let (kind, counted) = KINDS[number as usize % KINDS.len()];
        let fault = Fault { kind, at: 1 + draws.below(count_of(counted)) as u64, draw: draws.below(1 << 30) as u64 };
        std::fs::remove_file(domain.path("log")).unwrap();
        std::fs::write(domain.path("log"), "").unwrap();
        let out = format!("runs-{number}");
        let first = faulty(&domain, &library, &out, Some(&fault));
        let happened = std::fs::read_to_string(domain.path("log")).unwrap();
        let what = format!("fault {number}, {kind} {} {}: {happened}", fault.at, fault.draw);
        eprint!("{what}");
        assert!(!happened.is_empty(), "{what} did not happen: {}", text(&first));
        let said = text(&first);
        if kind == "full" && !first.status.success() {
            assert!(said.contains("free some space"), "{what}: {said}");
        }
        let told = recover(&domain, &out, &what);
        assert_eq!(domain.weights(&out), want, "{what}: {told}");
        domain.ok(&["verify", "--out", &out]);
        std::fs::remove_dir_all(domain.path(&out)).unwrap();
    }
}
