//! Files that are made, or happen, to do harm: each is found, the rest of its source is read, and memory stays bounded.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a survey that prints what it found")]

use std::io::{Cursor, Read, Write};
use std::path::Path;

use arable_corpus::{Reject, SourceConfig, read_source};
use flate2::Compression;
use flate2::write::GzEncoder;
use zip::write::SimpleFileOptions;

/// A document that stands beside every fault, so that precision can be told.
const GOOD: &[u8] = b"{\"text\": \"A plain record, as there are many.\"}\n";
const GIB: u64 = 1 << 30;

fn gz(reader: impl Read) -> Vec<u8> {
    let (mut reader, mut encoder) = (reader, GzEncoder::new(Vec::new(), Compression::fast()));
    std::io::copy(&mut reader, &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// A line of about two gibibytes that expands 130 times, which is not yet beyond measure, before and after a good record.
/// It is one packed mebibyte over and over.
fn long_line() -> Vec<u8> {
    let mut mebibyte = vec![b'a'; 1 << 20];
    let mut state = 7_u32;
    for byte in &mut mebibyte[..15_000] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = b"0123456789abcdef"[(state >> 28) as usize];
    }
    let packed = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let start = packed(&[GOOD, b"{\"text\": \""].concat());
    let end = packed(&[b"\"}\n", GOOD].concat());
    [start, packed(&mebibyte).repeat(2 * 1024), end].concat()
}

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// 10 GiB of zeros, packed 64 MiB at a time.
fn zeros() -> Vec<u8> {
    gz(std::io::repeat(b'0').take(64 << 20)).repeat(160)
}

/// A good member, and one of 10 GiB of zeros.
fn large_in_tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut good = header("good.jsonl", tar::EntryType::Regular, GOOD.len() as u64);
    good.set_cksum();
    builder.append(&good, GOOD).unwrap();
    let mut large = header("zeros.txt", tar::EntryType::Regular, 10 * GIB);
    large.set_cksum();
    let start = [&builder.get_ref()[..], large.as_bytes()].concat();
    [gz(&start[..]), zeros(), gz(&[0; 1024][..])].concat()
}

/// A good member, and one of 2 GiB of zeros.
fn large_member() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("good.jsonl", SimpleFileOptions::default()).unwrap();
    writer.write_all(GOOD).unwrap();
    writer.start_file("zeros.txt", SimpleFileOptions::default().large_file(true)).unwrap();
    std::io::copy(&mut std::io::repeat(b'0').take(2 * GIB), &mut writer).unwrap();
    writer.finish().unwrap().into_inner()
}

/// Every entry of the directory points to the same packed bytes (as Fifield 2019, without his quoting of headers).
fn overlapping() -> Vec<u8> {
    let mut bytes = zip(&[("a.txt", &[b'0'; 1 << 20]), ("b.txt", &[b'0'; 1 << 20])]);
    let at = |mark: &[u8], from: usize| from + bytes[from..].windows(4).position(|four| four == mark).unwrap();
    let first = at(b"PK\x01\x02", 0);
    let second = at(b"PK\x01\x02", first + 4);
    // Where an entry of the directory says that its member begins.
    bytes[second + 42..second + 46].copy_from_slice(&[0; 4]);
    bytes
}

fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_entry_type(kind);
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header
}

/// A name that leads out, links out of the archive, an archive inside, and a good member.
fn escaping() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let inner = zip(&[("x.txt", b"text")]);
    for (name, bytes) in
        [("../../etc/x.txt", &b"x"[..]), ("/etc/x.txt", b"x"), ("inner.zip", &inner), ("a.jsonl", GOOD)]
    {
        let mut header = header(name, tar::EntryType::Regular, bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }
    for (name, kind) in [("soft.txt", tar::EntryType::Symlink), ("hard.txt", tar::EntryType::Link)] {
        let mut header = header(name, kind, 0);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn deep_json() -> Vec<u8> {
    let deep = [b"{\"text\": ".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat();
    [GOOD, &deep, b"\n", GOOD].concat()
}

fn utf16(text: &str, has_mark: bool) -> Vec<u8> {
    let mark = if has_mark { &[0xff, 0xfe][..] } else { &[] };
    mark.iter().copied().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

/// What a file holds: reasons, in order, of what has to be rejected, and how many documents have to be read.
struct Fault {
    about: &'static str,
    name: &'static str,
    bytes: Vec<u8>,
    reasons: &'static [&'static str],
    num_good: usize,
}

fn faults() -> Vec<Fault> {
    let fault = |about, name, bytes, reasons, num_good| Fault { about, name, bytes, reasons, num_good };
    let text = "Plain words, an é and a ß among them, line after line.\n";
    let mixed = [text.as_bytes(), b"in latin-1: \xe9t\xe9\n", text.as_bytes()].concat();
    let deep_xml = [b"<a>".repeat(100_000), b"</a>".repeat(100_000)].concat();
    vec![
        fault("10 GiB of zeros, packed with gzip", "zeros.jsonl.gz", [gz(GOOD), zeros()].concat(), &["expands"], 1),
        fault("2 GiB of zeros in a member of a zip", "large.zip", large_member(), &["too_long"], 1),
        fault("10 GiB of zeros in a packed tar", "zeros.tar.gz", large_in_tar(), &["too_long", "expands"], 1),
        fault("members of a zip that overlap", "overlap.zip", overlapping(), &["overlapping_members"], 0),
        fault(
            "a zip that holds zips that hold zips",
            "nested.zip",
            zip(&[("1.zip", &zip(&[("2.zip", &zip(&[("a.txt", b"0")]))])), ("good.jsonl", GOOD)]),
            &["nested_archive"],
            1,
        ),
        fault(
            "names and links that lead out of a tar, an archive in it",
            "escape.tar",
            escaping(),
            &["unsafe_name", "unsafe_name", "nested_archive", "link", "link"],
            1,
        ),
        fault("a line of 2 GiB", "line.jsonl.zst", long_line(), &["too_long"], 2),
        fault("JSON 100,000 levels deep", "deep.jsonl", deep_json(), &["invalid_json"], 2),
        fault("XML 100,000 levels deep", "deep.xml", deep_xml, &["invalid_xml"], 0),
        fault("bytes of another encoding among UTF-8", "mixed.txt", mixed, &["invalid_utf8"], 0),
        fault("UTF-16 with a mark", "mark.txt", utf16(text, true), &[], 1),
        fault("UTF-16 without a mark", "bare.txt", utf16(text, false), &[], 1),
        fault("windows-1252", "latin.txt", b"Un \xe9t\xe9 \xe0 la mer, une for\xeat, tr\xe8s loin.\n".to_vec(), &[], 1),
        fault(
            "NUL characters in text",
            "nul.txt",
            b"a record that was cut\0\0\0\0\0\0\0".to_vec(),
            &["nul_characters"],
            0,
        ),
        fault(
            "NUL characters in JSON",
            "nul.jsonl",
            [GOOD, b"{\"text\": \"a\\u0000b\"}\n"].concat(),
            &["nul_characters"],
            1,
        ),
        fault("no text at all", "binary.txt", [0x9c, 0x00, 0xff, 0xfe, 0x81].repeat(999), &["invalid_utf8"], 0),
    ]
}

fn read(folder: &Path, name: &str) -> (usize, Vec<Reject>) {
    let record = Some("r".to_owned()).filter(|_| name.ends_with(".xml"));
    let source = SourceConfig { record, ..SourceConfig::new("s", name) };
    let records: Result<Vec<_>, _> = read_source(&source, folder).unwrap().collect();
    let (good, bad): (Vec<_>, Vec<_>) = records.unwrap().into_iter().partition(Result::is_ok);
    (good.len(), bad.into_iter().filter_map(Result::err).collect())
}

/// The most memory that the process ever had, in MiB.
fn peak_mib() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? >> 10)
}

#[test]
fn hostile_files_are_found_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    println!("| fault | found as | good records beside it, read | packed, KB | seconds |");
    for Fault { about, name, bytes, reasons, num_good } in faults() {
        let num_packed = bytes.len() / 1000;
        fs_err::write(folder.path().join(name), bytes).unwrap();
        let start = std::time::Instant::now();
        let (got, rejects) = read(folder.path(), name);
        let found: Vec<_> = rejects.iter().map(|reject| reject.reason.name()).collect();
        let time_s = start.elapsed().as_secs_f64();
        println!("| {about} | {} | {got} of {num_good} | {num_packed} | {time_s:.1} |", found.join(", "));
        assert_eq!((&found[..], got), (reasons, num_good), "{about}");
        fs_err::remove_file(folder.path().join(name)).unwrap();
    }
    if let Some(peak) = peak_mib() {
        println!("memory, at most: {peak} MiB");
        assert!(peak < 700, "{peak} MiB");
    }
}
