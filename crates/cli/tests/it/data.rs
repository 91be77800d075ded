//! What the sources hold, and decisions tried on it.

use crate::domain::Domain;

#[test]
fn conditions_are_tried_then_take_effect() {
    let domain = Domain::new();
    let missing = domain.fails(2, &["data", "rules"]);
    assert!(missing.contains("corpus.keep") && missing.contains("hint: say --keep"), "{missing}");
    let typo = domain.fails(2, &["data", "rules", "--keep", "num_word > 3"]);
    assert!(typo.contains("No field named num_word") && typo.contains("did you mean `num_words`?"), "{typo}");

    let hot = "text NOT LIKE '%rotor overheats%' AND num_words < 1000";
    let output = domain.arable(&["data", "rules", "--keep", hot, "--json"]);
    let tried: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let dropped = tried["num_dropped"].as_u64().unwrap();
    assert!(dropped > 10 && dropped < tried["num_documents"].as_u64().unwrap() / 2, "{tried}");
    let rule = &tried["rules"][0];
    assert_eq!(rule["num_failed_alone"], dropped);
    assert!(rule["samples"][0]["text"].as_str().unwrap().contains("rotor overheats"), "{rule}");
    let again = domain.ok(&["data", "rules", "--keep", hot]);
    assert!(again.contains("unchanged"), "attributes are measured once: {again}");
    assert!(again.lines().all(|line| line.chars().count() <= 80), "{again}");

    let keep = format!("corpus.keep={hot}");
    domain.ok(&["run", "--set", &keep]);
    let results = std::fs::read_to_string(domain.path("runs/small/results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&results).unwrap();
    assert_eq!(results["corpus"]["num_filtered"], dropped);
    assert_eq!(results["corpus"]["rules"][0]["num_failed"], dropped);
    assert_eq!(results["profile"]["num_documents"], tried["num_documents"]);
}

#[test]
fn the_profile_names_what_there_is() {
    let domain = Domain::new();
    let said = domain.ok(&["profile"]);
    for part in ["documents", "num_words", "languages", "notes"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    let names = domain.ok(&["data", "attributes"]);
    assert!(names.contains("gopher_repetition") && names.contains("mean_word_length"), "{names}");
    assert!(names.lines().all(|line| line.chars().count() <= 80), "{names}");
}

#[test]
fn checks_end_with_three_where_the_corpus_is_otherwise() {
    let domain = Domain::new();
    let none = domain.fails(2, &["check"]);
    assert!(none.contains("hint: write a table [check]"), "{none}");
    let (fine, wrong) = ("check.enough=num_train > 10 AND reject_rate = 0", "check.more=num_train > 1000000");
    let said = domain.ok(&["check", "--set", fine]);
    assert!(said.contains("holds  enough") && said.contains("reject_rate 0"), "{said}");
    let said = domain.fails(3, &["check", "--set", fine, "--set", wrong]);
    assert!(said.contains("FAILS  more") && said.contains("1 of 2 checks do not hold (more)"), "{said}");
    let typo = domain.fails(2, &["check", "--set", "check.more=num_trian > 3"]);
    assert!(typo.contains("did you mean `num_train`?"), "{typo}");
}

#[test]
fn what_shifted_is_named_and_fails_a_check() {
    let domain = Domain::new();
    let none = domain.fails(2, &["diff"]);
    assert!(none.contains("find the profile `previous`: 0 fit") && none.contains("hint: `arable profile`"), "{none}");
    let same = "check.same=shift_words_js < 0.005 AND shift_num = 0";
    let said = domain.ok(&["check", "--set", same]);
    assert!(said.contains("shift_words_js 0"), "{said}");
    let json = domain.arable(&["profile", "--json"]).stdout;
    domain.write("first.json", json);

    // A month of longer documents about other things.
    let mut notes = std::fs::read_to_string(domain.path("notes.jsonl")).unwrap();
    for i in 0..80 {
        let text = format!("Turbine blade {i} was replaced and balanced again by the crew of the day. ").repeat(9);
        let line = serde_json::json!({ "id": format!("new{i}"), "text": text, "time": "2024-06-01" });
        notes += &format!("{line}\n");
    }
    domain.write("notes.jsonl", notes);
    let said = domain.fails(3, &["check", "--set", same]);
    assert!(said.contains("FAILS  same"), "{said}");
    let again = domain.fails(3, &["check", "--set", same]);
    assert!(again.contains("FAILS  same"), "what fails is not accepted: {again}");
    let said = domain.ok(&["diff"]);
    for part in ["words shifted", "turbine", "attribute num_words", "documents that show it", "notes/new"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    let output = domain.arable(&["diff", "first.json", "latest", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["words"]["is_shift"] == true && found["words"]["terms"][0]["example"] != "", "{found}");
    let said = domain.ok(&["diff", "first.json", "previous"]);
    assert!(said.contains("nothing shifted"), "{said}");
    let broken = domain.fails(2, &["diff", "notes.jsonl", "latest"]);
    assert!(broken.contains("as a profile"), "{broken}");

    domain.ok(&["check", "--set", "check.any=shift_num > 0"]);
    let said = domain.ok(&["check", "--set", same]);
    assert!(said.contains("holds  same"), "what was accepted is compared with: {said}");
}

/// The notes of [`Domain`] with a site, and a year from 2000 to 2009 on all but a few.
fn dated(domain: &Domain) {
    let notes = std::fs::read_to_string(domain.path("notes.jsonl")).unwrap();
    let dated = |(idx, line): (usize, &str)| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["site"] = ["north", "south", "south", "south"][idx % 4].into();
        record["group"] = format!("shift {}", idx / 3).into();
        if idx % 50 != 7 {
            record["time"] = (2000 + idx / 40).into();
        }
        format!("{record}\n")
    };
    domain.write("notes.jsonl", notes.lines().enumerate().map(dated).collect::<String>());
}

#[test]
fn samples_and_splits_are_said_wherever_one_looks() {
    let domain = Domain::new();
    dated(&domain);
    let settings = [
        "corpus.source.notes.origin=\"site\"",
        "corpus.sample.by=\"origin\"",
        "corpus.sample.share={ north = 0.5, south = 0.5 }",
        "corpus.sample.total=300",
        "corpus.held_out={ from = \"2009\" }",
        "check.cut=\"num_crossings = 0 AND num_sampled_out = 150 AND sample_shortfall > 0.3\"",
    ];
    let sets: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    let said = domain.ok(&[&["run"], &sets[..]].concat());
    for part in ["falls short", "`north` 100 of 150", "from 2009 on", "nothing stands in two"] {
        assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(part), "{part}: {said}");
    }
    let table = said.lines().skip_while(|line| !line.starts_with("value")).take(3).collect::<Vec<_>>();
    let cells = table.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(cells, ["value there are asked taken short", "north 100 150 100 50", "south 300 150 150 –"]);
    let shown = domain.ok(&["data", "show"]);
    assert!(shown.contains("beyond the sample") && shown.contains("sample by origin"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let page = std::fs::read_to_string(domain.path("runs/small/report.md")).unwrap();
    assert!(page.contains("| south | 300 | 150 | 150 | – |") && page.contains("Split of corpus: "), "{page}");
    domain.ok(&[&["check"], &sets[..]].concat());

    domain.ok(&["data", "restore", "latest", "--to", "out"]);
    let read = |name: &str| std::fs::read_to_string(domain.path("out").join(name)).unwrap();
    assert_eq!(read("quarantine.jsonl").matches("\"sampled_out\":{\"value\":\"south\"}").count(), 150);
    assert!(!read("train.jsonl").contains("\"time\":\"2009\"") && read("held_out.jsonl").contains("\"time\":\"2009\""));
    let late = domain.fails(2, &[&["check"], &sets[..], &["--set", "corpus.held_out={ from = \"2030\" }"]].concat());
    assert!(late.contains("the newest is of 2009") && late.contains("hint: write `from` = \"2009\""), "{late}");
    let flaw = domain.fails(2, &["check", "--set", "corpus.sample.by=\"origin\""]);
    assert!(flaw.contains("corpus.sample.by") && flaw.contains("hint: write `total`"), "{flaw}");
}

#[test]
fn a_task_is_cut_by_time_where_it_says_so() {
    let domain = Domain::new();
    let task = std::fs::read_to_string(domain.path("kind.jsonl")).unwrap();
    let dated =
        |(idx, line): (usize, &str)| line.replacen('{', &format!("{{\"when\":\"2024-{:02}\",", idx / 10 + 1), 1) + "\n";
    domain.write("kind.jsonl", task.lines().enumerate().map(dated).collect::<String>());
    let sets = ["task.kind.time=\"when\"", "task.kind.split.by=\"time\"", "check.cut=\"num_crossings = 0\""];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let said = domain.ok(&[&["check"], &sets[..]].concat());
    assert!(said.contains("dev from 2024-09 on, test from 2024-10 on"), "{said}");
    let alone =
        domain.fails(2, &["check", "--set", "task.kind.time=\"when\"", "--set", "check.some=\"num_train > 0\""]);
    assert!(alone.contains("setting `time`") && alone.contains("hint: "), "{alone}");
}
