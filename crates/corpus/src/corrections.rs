//! Labels that reviewers corrected, put into the examples of a task.

use std::collections::BTreeMap;
use std::path::Path;

use arable_core::Target;

use crate::config::TaskConfig;
use crate::conll::repair_tags;
use crate::files::{find_files, reading_failed};
use crate::read::ReadError;
use crate::review::Correction;
use crate::task::{Found, TaskError};

/// Replaces labels as the files of corrections say. Returns how many.
///
/// After the parts are cut, so that a correction moves no example from one to another.
pub(crate) fn correct(
    name: &str,
    config: &TaskConfig,
    root: &Path,
    parts: &mut [Vec<Found>; 3],
) -> Result<usize, TaskError> {
    let mut labels: BTreeMap<String, &mut String> = BTreeMap::new();
    for found in parts.iter_mut().flatten() {
        let id = &found.example.id;
        match &mut found.example.target {
            Target::Class(label) => drop(labels.insert(id.clone(), label)),
            Target::Tags(tags) => labels.extend((0..).zip(tags).map(|(idx, tag)| (word_id(id, idx), tag))),
            Target::Classes(_) => {}
        }
    }
    let mut num_corrected = 0;
    for path in &config.corrections {
        let read = |source| TaskError::Read { task: name.to_owned(), part: "corrected", source: Box::new(source) };
        for (line, correction) in read_corrections(path, root).map_err(read)? {
            let Correction { id, from, to, .. } = correction;
            let problem = match labels.get_mut(&id) {
                None => "there is no such example".to_owned(),
                Some(label) if **label != from => format!("its label is `{label}`, not `{from}`"),
                Some(label) => {
                    **label = to;
                    num_corrected += 1;
                    continue;
                }
            };
            return Err(TaskError::Correction { task: name.to_owned(), file: path.clone(), line, id, problem });
        }
    }
    drop(labels);
    for found in parts.iter_mut().flatten() {
        // A span that lost its first word begins with its second.
        if let Target::Tags(tags) = &mut found.example.target {
            repair_tags(tags)
                .map_err(|_| TaskError::CorrectedTag { task: name.to_owned(), id: found.example.id.clone() })?;
        }
    }
    Ok(num_corrected)
}

/// The name of a word of a tagged example, for reviews and corrections.
pub fn word_id(example: &str, idx: usize) -> String {
    format!("{example}#{idx}")
}

fn read_corrections(path: &str, root: &Path) -> Result<Vec<(usize, Correction)>, ReadError> {
    let mut corrections = Vec::new();
    for file in find_files(path, root, &["jsonl"])? {
        let text = fs_err::read_to_string(&file.path).map_err(|error| reading_failed(&file.path, error))?;
        for (idx, line) in text.lines().enumerate() {
            let correction = serde_json::from_str(line).map_err(|error| {
                reading_failed(&file.path, std::io::Error::other(format!("line {}: {error}", idx + 1)))
            })?;
            corrections.push((idx + 1, correction));
        }
    }
    Ok(corrections)
}

#[cfg(test)]
mod tests {
    use arable_core::{Hint, Seed};

    use super::*;
    use crate::config::TaskKind;
    use crate::task::{Task, read_task};
    use crate::testing::root_with;

    fn read(files: &[(&str, &str)], config: &TaskConfig) -> Result<Task, TaskError> {
        read_task("t", config, root_with(files).path(), Seed(1))
    }

    fn three_files(kind: TaskKind, extension: &str) -> TaskConfig {
        let file = |part: &str| format!("{part}.{extension}");
        TaskConfig { dev: Some(file("dev")), test: Some(file("test")), ..TaskConfig::new(kind, &file("train")) }
    }

    #[test]
    fn corrections_replace_labels_in_order_and_stale_ones_are_refused() {
        let correction = |id: &str, from: &str, to: &str| {
            format!(
                "{{\"id\": \"{id}\", \"from\": \"{from}\", \"to\": \"{to}\", \"by\": [\"anna\"], \"date\": \"2026-11-24\", \
                 \"why\": \"\"}}\n"
            )
        };
        let train =
            "{\"id\": \"1\", \"text\": \"a\", \"label\": \"x\"}\n{\"id\": \"2\", \"text\": \"b\", \"label\": \"y\"}\n";
        let read_with = |first: &str, second: &str| {
            let mut config = three_files(TaskKind::Classification, "jsonl");
            config.corrections = vec!["first.jsonl".into(), "second.jsonl".into()];
            let rest = [("train.jsonl", train), ("dev.jsonl", "{\"id\": \"3\", \"text\": \"c\", \"label\": \"x\"}")];
            let test = ("test.jsonl", "{\"id\": \"4\", \"text\": \"d\", \"label\": \"y\"}");
            read(&[rest[0], rest[1], test, ("first.jsonl", first), ("second.jsonl", second)], &config)
        };
        let task =
            read_with(&correction("1", "x", "y"), &(correction("1", "y", "x") + &correction("4", "y", "x"))).unwrap();
        assert_eq!(task.num_corrected, 3);
        assert_eq!(
            (&task.train[0].target, &task.test[0].target),
            (&Target::Class("x".into()), &Target::Class("x".into()))
        );
        let stale = read_with(&correction("1", "x", "y"), &correction("1", "x", "y")).unwrap_err();
        assert!(stale.to_string().contains("its label is `y`, not `x`") && stale.hint().is_some(), "{stale}");
        let unknown = read_with("", &correction("9", "x", "y")).unwrap_err();
        assert!(unknown.to_string().contains("(second.jsonl:1)"), "{unknown}");
        assert!(matches!(read_with("", "no json").unwrap_err(), TaskError::Read { part: "corrected", .. }));
    }

    #[test]
    fn tags_are_corrected_word_by_word() {
        let mut config = three_files(TaskKind::Tagging, "conll");
        config.corrections = vec!["tags.jsonl".into()];
        let correction = |id: &str, from: &str, to: &str| {
            serde_json::json!({ "id": id, "from": from, "to": to, "by": ["anna"], "date": "2026-11-24", "why": "" })
                .to_string()
        };
        let files = |corrections: &str| {
            let sentence = "new B-x\npump I-x\nleaks O\n\n";
            let twice = sentence.repeat(2);
            let files = [
                ("train.conll", &twice[..]),
                ("dev.conll", sentence),
                ("test.conll", sentence),
                ("tags.jsonl", corrections),
            ];
            read(&files, &config)
        };
        let id = files("").unwrap().train[0].id.clone();
        let task = files(&correction(&word_id(&id, 0), "B-x", "O")).unwrap();
        let tags = |tags: [&str; 3]| Target::Tags(tags.map(str::to_owned).to_vec());
        assert_eq!(
            (&task.train[0].target, &task.dev[0].target),
            (&tags(["O", "B-x", "O"]), &tags(["B-x", "I-x", "O"]))
        );
        let wrong = files(&correction(&word_id(&id, 2), "O", "x")).unwrap_err();
        assert!(matches!(wrong, TaskError::CorrectedTag { .. }) && wrong.hint().is_some(), "{wrong}");
    }
}
