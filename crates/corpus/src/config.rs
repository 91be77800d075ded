//! What a person may set about sources, curation and tasks.

use std::collections::BTreeMap;

use arable_core::{Fraction, Probability};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bm25::Bm25Config;
use crate::encoding::TextEncoding;
use crate::hazard::HazardConfig;
use crate::held_out::HeldOut;
use crate::pii::PiiKind;
use crate::quality::QualityConfig;
use crate::relevance::RelevanceConfig;
use crate::sample::SampleConfig;

/// How a file's bytes are cut into documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// One JSON array of objects, or one object of objects, which then have the field `@key`.
    Json,
    /// Comma-separated values with a line of column names.
    Csv,
    /// Tab-separated values with a line of column names.
    Tsv,
    /// Plain text.
    Text,
    /// Markdown, a document for each file, its markup kept: `text`, `title`, and what its front matter says, by name.
    Markdown,
    /// XML, a document for each element that `record` names.
    Xml,
    /// Parquet, a document for each row.
    Parquet,
    /// Arrow (or Feather), a file or a stream, a document for each row.
    Arrow,
    /// HTML, a document for each page: the text that a reader sees, `title`, `lang`, and each `<meta>` by its name.
    Html,
    /// PDF, a document for each file.
    Pdf,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 11] = [
        Self::Jsonl,
        Self::Json,
        Self::Csv,
        Self::Tsv,
        Self::Text,
        Self::Markdown,
        Self::Xml,
        Self::Parquet,
        Self::Arrow,
        Self::Html,
        Self::Pdf,
    ];

    /// Whether its bytes are text in some encoding.
    pub(crate) fn is_text(self) -> bool {
        !matches!(self, Self::Parquet | Self::Arrow | Self::Pdf)
    }

    /// The file name extensions it is recognised by, before `.gz` and its like.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Jsonl => &["jsonl", "ndjson"],
            Self::Json => &["json"],
            Self::Csv => &["csv"],
            Self::Tsv => &["tsv", "tab"],
            Self::Text => &["txt", "text"],
            Self::Markdown => &["md", "markdown"],
            Self::Xml => &["xml"],
            Self::Parquet => &["parquet"],
            Self::Arrow => &["arrow", "arrows", "feather", "ipc"],
            Self::Html => &["html", "htm", "xhtml"],
            Self::Pdf => &["pdf"],
        }
    }

    /// The format that a file name tells.
    pub fn of_name(name: &str) -> Option<Self> {
        let extension = extension(name)?;
        Self::ALL.into_iter().find(|format| format.extensions().contains(&extension.as_str()))
    }
}

/// What names of packed files end with.
pub(crate) const PACKED: [&str; 4] = [".gz", ".zst", ".bz2", ".xz"];

/// The last extension of a file name in lower case, before `.gz` and its like.
pub(crate) fn extension(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let bare = PACKED.iter().find_map(|packed| name.strip_suffix(*packed)).unwrap_or(&name);
    bare.rsplit_once('.').map(|(_, extension)| extension.to_owned())
}

/// A named place that documents come from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What the source is called; unique in the corpus, without `/`.
    pub name: String,
    /// A file, a folder (read with all its subfolders) or a glob such as `notes/**/*.txt.gz`, relative to the data root; or
    /// the same in a bucket: `s3://bucket/notes/*.jsonl.gz`, `gs://...`, `az://...`.
    /// Of archives (`.tar`, `.tar.gz`, `.tgz`, `.zip` and so on) the members are read. What is packed
    /// with gzip, zstd, bzip2 or xz is unpacked.
    pub path: String,
    /// How files are cut into documents; by default told by each file's name.
    #[serde(default)]
    pub format: Option<Format>,
    /// The field that holds the text, or a list of texts, which are joined by line ends. Fields inside fields are paths:
    /// `article/body`.
    #[serde(default = "text_field")]
    pub text: String,
    /// The field that names a document; by default `id` where there is one.
    #[serde(default)]
    pub id: Option<String>,
    /// The field of what must stay on one side of a split; by default `group` where there is one.
    #[serde(default)]
    pub group: Option<String>,
    /// The field of the time of writing; by default `time` where there is one.
    #[serde(default)]
    pub time: Option<String>,
    /// The field of where inside the source a document comes from, such as a site or a journal. A record without it has
    /// none.
    #[serde(default)]
    pub origin: Option<String>,
    /// The field of a document's licence; a record without it has the `default_licence`, or none.
    #[serde(default)]
    pub licence: Option<String>,
    /// The licence of documents that name none, such as `CC-BY-4.0`.
    #[serde(default)]
    pub default_licence: Option<String>,
    /// The field of a document's labels: a list, or one text cut at `;`. A record without it has none.
    #[serde(default)]
    pub labels: Option<String>,
    /// XML only: the element that is a document, by name or by the end of its path. Fields are then paths below it:
    /// `Abstract/AbstractText`, `@id` for an attribute, `.` for all its text, `/Set/@name` for an attribute around it.
    #[serde(default)]
    pub record: Option<String>,
    /// Of archives, the members to read, as a glob such as `articles/*.txt`; by default those whose names tell a format.
    #[serde(default)]
    pub members: Option<String>,
    /// Plain text only: a document for each paragraph (set off by blank lines) instead of each file.
    #[serde(default)]
    pub paragraphs: bool,
    /// Plain text only: a document for each line that is not blank.
    #[serde(default)]
    pub lines: bool,
    /// The encoding of text, such as `windows-1252`; by default UTF-8, or what a file's bytes tell where they are not.
    /// `utf-8` rejects all else.
    #[serde(default)]
    pub encoding: Option<TextEncoding>,
}

impl SourceConfig {
    /// A source with every optional setting left out.
    pub fn new(name: &str, path: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_owned(),
            format: None,
            text: text_field(),
            id: None,
            group: None,
            time: None,
            origin: None,
            licence: None,
            default_licence: None,
            labels: None,
            record: None,
            members: None,
            paragraphs: false,
            lines: false,
            encoding: None,
        }
    }
}

pub(crate) fn text_field() -> String {
    "text".to_owned()
}

fn fraction(value: f64) -> Fraction {
    Fraction::new(value).expect("a constant in range")
}

fn five_percent() -> Probability {
    Probability::new(0.05).expect("a constant in range")
}

/// How a corpus is read and curated.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorpusConfig {
    /// Where documents come from. Of duplicates, the one of the best `quality` stays where there is a table
    /// `[corpus.quality]`; of equally good ones, the one from the earlier source, then the one whose id comes first.
    pub source: Vec<SourceConfig>,
    /// The largest part of a source's records that may be unreadable.
    pub max_reject_rate: Probability,
    /// Which duplicates are dropped.
    pub dedup: DedupConfig,
    /// When a document counts as holding a held-out example.
    pub overlap: OverlapConfig,
    /// What is done about personal data.
    pub pii: PiiConfig,
    /// What is kept aside for the held-out loss: a part of the documents, `0.02`, the newest, `{ newest = 0.02 }`, or
    /// those from a time on, `{ from = "2015" }`. What belongs together, by its group or by equal words, stays together:
    /// by time, on the newer side.
    pub held_out: HeldOut,
    /// Documents with fewer words (separated by white space) are dropped.
    pub min_words: usize,
    /// Documents stay for which this holds: an SQL expression over attributes and rules, such as
    /// `gopher_quality AND language = 'eng'`. `arable data attributes` lists their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
    /// Names for expressions, to be used in `keep` and in each other.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rule: BTreeMap<String, String>,
    /// How many documents of which kind stay; without it, all do. What is kept aside for the held-out loss is a part of
    /// the sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleConfig>,
    /// Good and bad texts that the attribute `quality` is learned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityConfig>,
    /// Texts such as those wanted, for the attribute `domain_weight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relevance: Option<RelevanceConfig>,
    /// How documents are compared with tasks, for the attribute `task_bm25`. `bm25 = {}` takes the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bm25: Option<Bm25Config>,
    /// Words and phrases of your own to look for, for the attribute `num_own_terms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hazard: Option<HazardConfig>,
}

impl Default for CorpusConfig {
    fn default() -> Self {
        Self {
            source: Vec::new(),
            max_reject_rate: five_percent(),
            dedup: DedupConfig::default(),
            overlap: OverlapConfig::default(),
            pii: PiiConfig::default(),
            held_out: HeldOut::Share(fraction(0.02)),
            min_words: 5,
            keep: None,
            rule: BTreeMap::new(),
            sample: None,
            quality: None,
            relevance: None,
            bm25: None,
            hazard: None,
        }
    }
}

impl CorpusConfig {
    /// Whether curation looks at what was measured of documents: to decide, to choose among duplicates, or
    /// to tell documents of a sample apart.
    pub fn reads_attributes(&self) -> bool {
        self.keep.is_some() || self.quality.is_some() || self.sample.is_some()
    }

    /// Whether there is the table, by its name, that [`crate::Attributes::RELATIVE`] gives.
    pub(crate) fn has_table(&self, table: &str) -> bool {
        match table {
            "corpus.quality" => self.quality.is_some(),
            "corpus.relevance" => self.relevance.is_some(),
            "corpus.bm25" => self.bm25.is_some(),
            "corpus.hazard" => self.hazard.is_some(),
            _ => unreachable!("every relative attribute has one of these tables"),
        }
    }
}

/// Which duplicates are dropped.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DedupConfig {
    /// Texts that are equal byte for byte.
    pub exact: bool,
    /// Texts that are equal after NFKC, lower-casing and taking every run of punctuation and white space as one space.
    pub normalized: bool,
    /// Texts that share most of their runs of words. `near = {}` takes the defaults; without it, none are looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<NearConfig>,
}

impl Default for DedupConfig {
    fn default() -> Self {
        Self { exact: true, normalized: true, near: None }
    }
}

/// What is done about personal data, which is counted in any case.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PiiConfig {
    /// Kinds that are replaced by words such as `[EMAIL]`.
    pub mask: Vec<PiiKind>,
}

/// When two texts are near-duplicates. The number of bands and of rows decides which pairs are looked at: of pairs with
/// similarity s, 1 - (1 - s^rows)^bands.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NearConfig {
    /// Words in a run.
    pub ngram: usize,
    /// Bands of a signature.
    pub num_bands: usize,
    /// Numbers in a band.
    pub rows_per_band: usize,
    /// Of the distinct runs of two texts, the part that both hold from which the later text is dropped.
    pub min_similarity: Fraction,
}

impl Default for NearConfig {
    fn default() -> Self {
        Self { ngram: 5, num_bands: 14, rows_per_band: 8, min_similarity: fraction(0.8) }
    }
}

/// When a document counts as holding a held-out example of a task.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverlapConfig {
    /// Words in an n-gram; an example with fewer words is looked for as a whole.
    #[schemars(range(min = 1))]
    pub ngram: usize,
    /// The share of an example's distinct n-grams that a document must contain to be removed.
    pub min_share: Fraction,
    /// Examples with fewer words are not looked for: such texts occur by chance.
    pub min_words: usize,
    /// Whether development examples are looked for beside test examples.
    pub dev: bool,
}

impl Default for OverlapConfig {
    fn default() -> Self {
        Self { ngram: 13, min_share: fraction(0.5), min_words: 8, dev: true }
    }
}

/// What a task asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// One class out of several for a text or a pair of texts.
    Classification,
    /// Any number of classes for a text or a pair of texts.
    Multilabel,
    /// An IOB2 tag for each word.
    Tagging,
}

impl TaskKind {
    /// The name used in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Multilabel => "multilabel",
            Self::Tagging => "tagging",
        }
    }

    /// The label field when none is set.
    pub(crate) fn label_field(self) -> &'static str {
        match self {
            Self::Classification => "label",
            Self::Multilabel => "labels",
            Self::Tagging => "tags",
        }
    }
}

/// What happens to development and test examples with a label that training never saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnseenLabels {
    /// The task is not read.
    #[default]
    Error,
    /// They are left out and counted among the rejects.
    Drop,
}

/// What decides which examples are cut from the training file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Chance, so that no label is lost to training.
    #[default]
    Chance,
    /// Time: the newest examples are the test set, the next newest the development set. What belongs together is as new
    /// as the newest of it; examples without a time are trained on.
    Time,
}

/// The parts cut from the training file where a development or test file is not given.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    /// The part of the training file's examples that becomes the development set.
    pub dev: Fraction,
    /// The part of the training file's examples that becomes the test set.
    pub test: Fraction,
    /// What decides which examples they are.
    pub by: SplitBy,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { dev: fraction(0.1), test: fraction(0.2), by: SplitBy::default() }
    }
}

/// Where the examples of a task come from.
///
/// The format is told by the file's name: `.jsonl`, `.csv`, `.tsv`, and for tagging also `.conll`, `.iob`, `.iob2`,
/// `.bio` (a word and its tag per line, sentences set off by blank lines), each also with `.gz` or `.zst`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// What the task asks for.
    pub kind: TaskKind,
    /// Training examples: a file, folder or glob, relative to the data root.
    pub train: String,
    /// Development examples; cut from the training examples when not given.
    #[serde(default)]
    pub dev: Option<String>,
    /// Test examples; cut from the training examples when not given.
    #[serde(default)]
    pub test: Option<String>,
    /// The field that holds the text (for tagging: the list of words).
    #[serde(default = "text_field")]
    pub text: String,
    /// The field that holds a second text.
    #[serde(default)]
    pub text_pair: Option<String>,
    /// The field that holds the label; by default `label`, for multilabel `labels`, for tagging `tags`.
    #[serde(default)]
    pub label: Option<String>,
    /// The field that names an example; by default `id` where there is one.
    #[serde(default)]
    pub id: Option<String>,
    /// The field of what must stay on one side of a split; by default `group` where there is one.
    #[serde(default)]
    pub group: Option<String>,
    /// The field of the time of writing, for a split by time; by default `time` where there is one.
    #[serde(default)]
    pub time: Option<String>,
    /// Strings that every text must hold, such as `["<<", ">>"]` around a marked entity. They stay in the text.
    #[serde(default)]
    pub markers: Vec<String>,
    /// Sizes of the parts that have no file.
    #[serde(default)]
    pub split: SplitConfig,
    /// What happens to labels that training never saw.
    #[serde(default)]
    pub unseen_labels: UnseenLabels,
    /// Files of corrected labels, as `arable labels correct` writes them, relative to the data root; applied in order.
    #[serde(default)]
    pub corrections: Vec<String>,
    /// The largest part of a file's records that may be unreadable.
    #[serde(default = "five_percent")]
    pub max_reject_rate: Probability,
}

impl TaskConfig {
    /// A task with every optional setting left out.
    pub fn new(kind: TaskKind, train: &str) -> Self {
        Self {
            kind,
            train: train.to_owned(),
            dev: None,
            test: None,
            text: text_field(),
            text_pair: None,
            label: None,
            id: None,
            group: None,
            time: None,
            markers: Vec::new(),
            split: SplitConfig::default(),
            unseen_labels: UnseenLabels::default(),
            corrections: Vec::new(),
            max_reject_rate: five_percent(),
        }
    }

    /// The label field, set or by default.
    pub fn label_field(&self) -> &str {
        self.label.as_deref().unwrap_or(self.kind.label_field())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_names() {
        for (name, format) in [
            ("a.jsonl", Some(Format::Jsonl)),
            ("A.CSV.GZ", Some(Format::Csv)),
            ("x.tar.tsv.zst", Some(Format::Tsv)),
            ("notes.txt", Some(Format::Text)),
            ("picture.png", None),
            ("gz", None),
        ] {
            assert_eq!(Format::of_name(name), format, "{name}");
        }
    }

    #[test]
    fn unknown_settings_are_errors() {
        assert!(toml::from_str::<CorpusConfig>("min_word = 3").is_err());
        assert!(toml::from_str::<SourceConfig>("name = 'a'\npath = 'b'\nformt = 'csv'").is_err());
        let config: TaskConfig = toml::from_str("kind = 'multilabel'\ntrain = 'x.jsonl'\nsplit.dev = 0.2").unwrap();
        assert_eq!(config.label_field(), "labels");
        assert_eq!(config.split.test.get(), 0.2);
    }
}
