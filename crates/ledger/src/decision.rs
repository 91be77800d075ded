//! What was decided about a run, by people and by gates: a log that is only added to.

use std::io::{self, Write};
use std::path::Path;

use fs_err as fs;
use serde::{Deserialize, Serialize};

/// The name of the log in a run's folder.
pub const DECISIONS: &str = "decisions.jsonl";

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When, as RFC 3339 text that the caller hands in.
    pub at: String,
    /// What was decided.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Adds a decision to the log of the run in `folder`; it is on the disk when this returns.
///
/// # Errors
/// When writing fails.
pub fn decide(folder: &Path, decision: &Decision) -> io::Result<()> {
    let line = serde_json::to_string(decision).expect("a decision has a JSON form") + "\n";
    let mut file = fs::OpenOptions::new().create(true).append(true).open(folder.join(DECISIONS))?;
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

/// The decisions about the run in `folder`, in order. A line that a kill cut off is passed over.
///
/// # Errors
/// When the log is there and cannot be read.
pub fn decisions(folder: &Path) -> io::Result<Vec<Decision>> {
    match fs::read_to_string(folder.join(DECISIONS)) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_kept_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(decisions(dir.path()).unwrap(), []);
        let made = ["one", "two"].map(|what| Decision { at: "2026".into(), what: what.into(), why: "a\nb".into() });
        made.iter().for_each(|decision| decide(dir.path(), decision).unwrap());
        let mut file = fs::OpenOptions::new().append(true).open(dir.path().join(DECISIONS)).unwrap();
        file.write_all(b"{\"at\": \"20").unwrap();
        assert_eq!(decisions(dir.path()).unwrap(), made);
    }
}
