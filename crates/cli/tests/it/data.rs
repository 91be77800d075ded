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
