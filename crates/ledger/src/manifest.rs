//! What an artifact is, what it was made from, and how both become digests.

use arable_core::{Digest, Seed};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of the file that makes a folder an artifact.
pub const MANIFEST: &str = "manifest.json";

/// The layout of manifests that this program writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that decides what an artifact will hold: equal fingerprints mean equal artifacts, so that the second one
/// need not be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// What sort of artifact it is: lower-case letters, digits and dashes, for it becomes part of a folder name.
    pub kind: String,
    /// Digest of the part of the configuration that matters here.
    pub config_digest: Digest,
    /// Digests of the artifacts it is made from, in the order the stage takes them.
    pub inputs: Vec<Digest>,
    /// The seed of the run.
    pub seed: Seed,
    /// The version of the program that makes it.
    pub code_version: String,
}

impl Fingerprint {
    /// The digest of all fields.
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// The folder name of such an artifact in a store: `<kind>-<short digest>`.
    ///
    /// # Panics
    /// When the kind has other characters than lower-case letters, digits and dashes.
    pub fn folder(&self) -> String {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(!self.kind.is_empty() && self.kind.chars().all(allowed), "`{}` is no kind of artifact", self.kind);
        format!("{}-{}", self.kind, self.digest().short())
    }
}

/// One file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the artifact's folder, with `/` between the parts.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Digest of the content.
    pub blake3: Digest,
}

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What sort of artifact it is.
    pub kind: String,
    /// Layout of the manifest.
    pub schema_version: u32,
    /// Identity of the content: the digest of kind, schema version and files, so neither of time nor of place.
    pub digest: Digest,
    /// Digests of the artifacts it was made from.
    pub inputs: Vec<Digest>,
    /// Digest of the configuration it was made with.
    pub config_digest: Digest,
    /// The seed of the run that made it.
    pub seed: Seed,
    /// The version of the program that made it.
    pub code_version: String,
    /// Every file, sorted by path.
    pub files: Vec<FileEntry>,
    /// A few facts for people and for later stages, in whatever form the kind calls for.
    pub summary: Value,
    /// The digest of everything above, by which a change of the manifest itself is noticed.
    pub seal: Digest,
}

impl Manifest {
    /// The manifest of `files`, which are sorted here.
    pub fn new(fingerprint: &Fingerprint, mut files: Vec<FileEntry>, summary: Value) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let made_from = fingerprint.clone();
        let mut manifest = Self {
            kind: made_from.kind,
            schema_version: SCHEMA_VERSION,
            digest: Digest::of(b""),
            inputs: made_from.inputs,
            config_digest: made_from.config_digest,
            seed: made_from.seed,
            code_version: made_from.code_version,
            files,
            summary,
            seal: Digest::of(b""),
        };
        manifest.digest = manifest.content_digest();
        manifest.seal = manifest.seal_digest();
        manifest
    }

    /// What the artifact was made from.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            kind: self.kind.clone(),
            config_digest: self.config_digest,
            inputs: self.inputs.clone(),
            seed: self.seed,
            code_version: self.code_version.clone(),
        }
    }

    /// Whether both digests fit the fields they are of.
    pub fn is_consistent(&self) -> bool {
        self.digest == self.content_digest() && self.seal == self.seal_digest()
    }

    fn content_digest(&self) -> Digest {
        Digest::of_json(&(&self.kind, self.schema_version, &self.files))
    }

    fn seal_digest(&self) -> Digest {
        Digest::of_json(&(self.digest, self.fingerprint(), &self.summary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint() -> Fingerprint {
        Fingerprint {
            kind: "shards".into(),
            config_digest: Digest::of(b"config"),
            inputs: vec![Digest::of(b"corpus")],
            seed: Seed(u64::MAX),
            code_version: "0.1.0".into(),
        }
    }

    fn manifest(paths: &[&str]) -> Manifest {
        let file = |path: &&str| FileEntry { path: (*path).into(), bytes: 1, blake3: Digest::of(path.as_bytes()) };
        let summary = serde_json::json!({ "loss": 0.1 + 0.2, "small": 1e-300, "z": [1, null], "a": "é" });
        Manifest::new(&fingerprint(), paths.iter().map(file).collect(), summary)
    }

    #[test]
    fn every_field_of_a_fingerprint_counts() {
        let base = fingerprint();
        let others = [
            Fingerprint { kind: "corpus".into(), ..base.clone() },
            Fingerprint { config_digest: Digest::of(b"other"), ..base.clone() },
            Fingerprint { inputs: vec![], ..base.clone() },
            Fingerprint { seed: Seed(1), ..base.clone() },
            Fingerprint { code_version: "0.1.1".into(), ..base.clone() },
        ];
        assert!(others.iter().all(|other| other.digest() != base.digest()));
    }

    #[test]
    fn content_identity_knows_neither_the_order_of_files_nor_what_they_were_made_from() {
        let other = Fingerprint { seed: Seed(1), ..fingerprint() };
        let files = manifest(&["b", "a"]).files;
        assert_eq!(manifest(&["a", "b"]).digest, Manifest::new(&other, files, Value::Null).digest);
        assert_ne!(manifest(&["a"]).digest, manifest(&["a", "b"]).digest);
    }

    #[test]
    fn a_manifest_survives_its_text_and_notices_changes() {
        let manifest = manifest(&["a"]);
        let text = serde_json::to_string_pretty(&manifest).unwrap();
        let back: Manifest = serde_json::from_str(&text).unwrap();
        assert!(back == manifest && back.is_consistent());
        let changed: Manifest = serde_json::from_str(&text.replace("0.30000000000000004", "0.4")).unwrap();
        assert!(!changed.is_consistent());
    }
}
