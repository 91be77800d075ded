//! A version described in Croissant 1.1 (Akhtar et al. 2024, <http://mlcommons.org/croissant/1.1>), so that tools for data
//! sets know what it holds.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use fs_err as fs;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Version;

/// A file whose SHA-256 is taken while it is written.
pub(super) struct Summed {
    file: fs::File,
    sum: Sha256,
    num_bytes: u64,
}

/// Size and SHA-256 of a file.
pub(super) struct Sum {
    num_bytes: u64,
    sha256: String,
}

/// A file of documents, with the fields that any of them has.
pub(super) struct Part {
    pub(super) path: &'static str,
    pub(super) sum: Sum,
    pub(super) fields: Vec<&'static str>,
    /// The licences that its documents name.
    pub(super) licences: BTreeSet<String>,
}

impl Summed {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: fs::File::create(path)?, sum: Sha256::new(), num_bytes: 0 })
    }

    /// Ends the file on the disk.
    pub(super) fn finish(self) -> io::Result<Sum> {
        self.file.sync_all()?;
        let sha256 = self.sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Sum { num_bytes: self.num_bytes, sha256 })
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let num_bytes = self.file.write(bytes)?;
        self.sum.update(&bytes[..num_bytes]);
        self.num_bytes += num_bytes as u64;
        Ok(num_bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The fields of a document, with what they mean.
const FIELDS: [(&str, &str); 8] = [
    ("id", "Unique in the corpus."),
    ("source", "The named source that the document was read from."),
    ("group", "What must stay on one side of a split; not given everywhere."),
    ("time", "When it was written, as ISO 8601 text of any precision; not given everywhere."),
    ("origin", "Where inside its source it comes from; not given everywhere."),
    ("licence", "The licence that it may be used under; not given everywhere."),
    ("labels", "The labels that it came with."),
    ("text", "The text."),
];

/// The description of `version`, whose documents lie in `parts`.
pub(super) fn describe(name: &str, version: &Version, parts: &[Part]) -> Value {
    let distribution = parts.iter().map(|Part { path, sum: Sum { num_bytes, sha256 }, .. }| {
        json!({
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "contentUrl": path,
            "contentSize": format!("{num_bytes} B"),
            "encodingFormat": "application/jsonlines",
            "sha256": sha256,
        })
    });
    let record_sets = parts.iter().map(|Part { path, fields, .. }| {
        let set = path.trim_end_matches(".jsonl");
        let fields = FIELDS.iter().filter(|(field, _)| fields.contains(field)).map(|(field, about)| {
            let mut described = json!({
                "@type": "cr:Field",
                "@id": format!("{set}/{field}"),
                "name": field,
                "description": about,
                "dataType": "sc:Text",
                "source": { "fileObject": { "@id": path }, "extract": { "column": field } },
            });
            if *field == "labels" {
                (described["isArray"], described["arrayShape"]) = (true.into(), "-1".into());
            }
            described
        });
        json!({ "@type": "cr:RecordSet", "@id": set, "name": set, "field": fields.collect::<Vec<_>>() })
    });
    let mut described = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": format!(
            "A curated corpus of {} documents; version {} by content (BLAKE3).", version.num_documents, version.digest
        ),
        "version": format!("1.0.0+{}", version.digest.short()),
        "distribution": distribution.collect::<Vec<_>>(),
        "recordSet": record_sets.collect::<Vec<_>>(),
    });
    let licences: BTreeSet<&String> = parts.iter().flat_map(|part| &part.licences).collect();
    if !licences.is_empty() {
        described["license"] = licences.into_iter().map(|licence| licence_url(licence)).collect();
    }
    described
}

/// A licence by its page where it is called by its name in the list of SPDX, else as it is given.
fn licence_url(licence: &str) -> String {
    let is_name = licence.chars().all(|c| c.is_ascii_alphanumeric() || "-.+".contains(c));
    let is_known = is_name && licence.contains(['-', '0']);
    if is_known { format!("https://spdx.org/licenses/{licence}.html") } else { licence.to_owned() }
}

/// The names that the format asks for (its specification, "Namespaces").
fn context() -> Value {
    let mut context = json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "prov": "http://www.w3.org/ns/prov#",
        "wd": "http://www.wikidata.org/wiki/",
        "conformsTo": "dct:conformsTo",
        "citeAs": "cr:citeAs",
        "data": { "@id": "cr:data", "@type": "@json" },
        "dataType": { "@id": "cr:dataType", "@type": "@vocab" },
        "examples": { "@id": "cr:examples", "@type": "@json" },
    });
    for name in [
        "annotation",
        "arrayShape",
        "column",
        "containedIn",
        "equivalentProperty",
        "excludes",
        "extract",
        "field",
        "fileObject",
        "fileProperty",
        "fileSet",
        "format",
        "includes",
        "isArray",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "path",
        "readLines",
        "recordSet",
        "references",
        "regex",
        "repeated",
        "replace",
        "samplingRate",
        "separator",
        "source",
        "subField",
        "transform",
        "unArchive",
        "value",
    ] {
        context[name] = json!(format!("cr:{name}"));
    }
    context
}
