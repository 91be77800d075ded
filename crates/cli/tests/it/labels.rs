//! Doubtful labels found, judged by people, and put right.

use crate::domain::Domain;

/// The domain with the labels of these examples turned around.
fn with_wrong_labels(ids: &[&str]) -> Domain {
    let domain = Domain::new();
    let turn = |line: &str| {
        let mut example: serde_json::Value = serde_json::from_str(line).unwrap();
        if ids.contains(&example["id"].as_str().unwrap()) {
            example["label"] = if example["label"] == "heat" { "other" } else { "heat" }.into();
        }
        example.to_string() + "\n"
    };
    let text = std::fs::read_to_string(domain.path("kind.jsonl")).unwrap();
    domain.write("kind.jsonl", text.lines().map(turn).collect::<String>());
    domain
}

fn suspects(domain: &Domain) -> Vec<serde_json::Value> {
    let output = domain.arable(&["labels", "suspects", "kind", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    found["suspects"].as_array().unwrap().clone()
}

/// Answers a review table as `judge` says of (id, given, suggested).
fn fill_in(domain: &Domain, name: &str, judge: impl Fn(&str, &str, &str) -> String) {
    let table = std::fs::read_to_string(domain.path(name)).unwrap();
    let mut lines = table.lines();
    let mut filled = lines.next().unwrap().to_owned() + "\n";
    for line in lines {
        let id = line.split(',').next().unwrap();
        let found = suspects(domain).into_iter().find(|found| found["id"] == id).unwrap();
        let label = judge(id, found["given"].as_str().unwrap(), found["suggested"].as_str().unwrap());
        filled += &format!("{},{label},,2026-11-24\n", line.strip_suffix(",,,").unwrap());
    }
    domain.write(name, filled);
}

/// Training examples, spread over the folds.
const WRONG: [&str; 4] = ["10003", "10031", "10058", "10093"];

#[test]
fn doubtful_labels_are_found_reviewed_and_corrected() {
    let domain = with_wrong_labels(&WRONG);
    let in_training: Vec<&str> = {
        let said = domain.ok(&["labels", "suspects", "kind", "--reviewers", "anna,ben", "--to", "review"]);
        assert!(said.contains("training labels") && said.contains("wrote review/anna.csv"), "{said}");
        let found = suspects(&domain);
        WRONG.into_iter().filter(|id| found.iter().any(|found| found["id"] == *id)).collect()
    };
    assert!(in_training.len() >= 2, "of {WRONG:?} only {in_training:?}");
    let again = domain.fails(2, &["labels", "suspects", "kind", "--reviewers", "anna", "--to", "review"]);
    assert!(again.contains("anna.csv"), "{again}");

    // Ben does not see what is wrong with one of them.
    let keep = in_training[0];
    let right = |id: &str, given: &str, suggested: &str| if WRONG.contains(&id) { suggested } else { given }.to_owned();
    fill_in(&domain, "review/anna.csv", right);
    fill_in(
        &domain,
        "review/ben.csv",
        |id, given, suggested| {
            if id == keep { given.to_owned() } else { right(id, given, suggested) }
        },
    );
    let review = ["labels", "review", "kind", "review/anna.csv", "review/ben.csv"];
    let said = domain.ok(&[&review[..], &["--to", "first.jsonl"]].concat());
    assert!(said.contains("Cohen's kappa") && said.contains("Krippendorff's alpha"), "{said}");
    assert!(said.contains(&format!("{} labels to correct", in_training.len() - 1)), "{said}");
    assert!(said.contains("1 disputed"), "{said}");

    let disputed = std::fs::read_to_string(domain.path("first.disputed.csv")).unwrap();
    assert!(disputed.contains(keep) && disputed.lines().count() == 2, "{disputed}");
    let said_of_keep = disputed.lines().nth(1).unwrap();
    let label = if said_of_keep.contains("anna: heat") { "heat" } else { "other" };
    domain.write("carol.csv", format!("id,label,note\n{keep},{label},asked the shift\n"));
    domain.ok(&[&review[..], &["--adjudicated", "carol.csv", "--to", "all.jsonl"]].concat());
    let corrections = std::fs::read_to_string(domain.path("all.jsonl")).unwrap();
    assert_eq!(corrections.lines().count(), in_training.len(), "{corrections}");
    assert!(corrections.contains(r#""by":["carol"]"#) && corrections.contains("asked the shift"), "{corrections}");

    let config = std::fs::read_to_string(domain.path("arable.toml")).unwrap();
    domain.write(
        "arable.toml",
        config.replace("train = \"kind.jsonl\"", "train = \"kind.jsonl\"\ncorrections = [\"all.jsonl\"]"),
    );
    let left = suspects(&domain);
    assert!(left.iter().all(|found| !in_training.contains(&found["id"].as_str().unwrap())), "{left:?}");
    let plan = domain.ok(&["run", "--dry-run"]);
    assert!(plan.contains("task-kind"), "{plan}");
}

#[test]
fn what_cannot_be_reviewed_is_said() {
    let domain = Domain::new();
    let unknown = domain.fails(2, &["labels", "suspects", "kinds"]);
    assert!(unknown.contains("there are: kind"), "{unknown}");
    domain.write("anna.csv", "id,label\n10003,heta\n");
    let typo = domain.fails(2, &["labels", "review", "kind", "anna.csv"]);
    assert!(typo.contains("did you mean `heat`"), "{typo}");
    let missing = domain.fails(2, &["labels", "review", "kind", "nobody.csv"]);
    assert!(missing.contains("nobody.csv"), "{missing}");
}
