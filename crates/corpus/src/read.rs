//! Documents out of files, one by one; dirty records are values, not errors.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use arable_core::{Document, Hint, Probability};
use globset::GlobMatcher;

use crate::archive::{self, Choice, Member, Members};
use crate::config::{Format, SourceConfig};
use crate::encoding::Decoded;
use crate::files::{FileError, FoundFile, find_files, member_matcher, nearest};
use crate::ids::UniqueIds;
use crate::pieces::{Piece, PieceResult, Reading, format_of, line_piece, paragraph, row_piece};
use crate::reject::{Reject, RejectReason, count_by_reason};
use crate::rows::{FieldWatch, Row};

/// Data that cannot be read as configured.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file that cannot be found or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A field that no record has.
    #[error("find the field `{field}` (setting `{setting}`) in `{name}`")]
    WrongField {
        /// The source or task.
        name: String,
        /// The setting that names the field.
        setting: &'static str,
        /// The field looked for.
        field: String,
        /// The fields there are.
        fields: Vec<String>,
        /// The most similar of them.
        nearest: Option<String>,
    },
    /// A source with a setting that does not fit its files.
    #[error("use the setting `{setting}` of `{name}`: {problem}")]
    Setting {
        /// The source.
        name: String,
        /// The setting.
        setting: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// Files without a record.
    #[error("find a record in `{name}`: `{path}` is empty")]
    Empty {
        /// The source or task.
        name: String,
        /// What was read.
        path: String,
    },
    /// More unreadable records than allowed.
    #[error("read `{name}`: {summary}")]
    TooManyRejects {
        /// The source or task.
        name: String,
        /// What was rejected.
        summary: Box<RejectSummary>,
    },
}

/// Rejects of a source or task taken together.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{num_rejected} of {num_records} records cannot be used (at most {:.1} % may be), first {}",
    max_rate.get() * 100.0, show(first)
)]
pub struct RejectSummary {
    /// Records that cannot be used.
    pub num_rejected: usize,
    /// All records.
    pub num_records: usize,
    /// The limit.
    pub max_rate: Probability,
    /// The most frequent reason, by its name.
    pub top_reason: String,
    /// The first few records that cannot be used.
    pub first: Vec<Reject>,
    /// What to do about the most frequent reason.
    pub advice: String,
}

impl ReadError {
    pub(crate) fn wrong_field(name: &str, setting: &'static str, field: &str, fields: Vec<String>) -> Self {
        let nearest = nearest(field, &fields);
        Self::WrongField { name: name.to_owned(), setting, field: field.to_owned(), fields, nearest }
    }

    pub(crate) fn no_record(name: &str) -> Self {
        let problem = "XML is read by the element that is a document";
        Self::Setting { name: name.to_owned(), setting: "record", problem }
    }
}

impl Hint for ReadError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File(error) => return error.hint(),
            Self::Setting { setting: "record", .. } => {
                "for XML, set `record` to the name of the element that is a document, such as `record = \"article\"`"
                    .to_owned()
            }
            Self::Setting { setting, .. } => format!("take `{setting}` out of the source"),
            Self::WrongField { setting, fields, nearest, .. } => {
                let names = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
                match nearest {
                    Some(nearest) => format!("the fields are {names}; did you mean `{setting} = \"{nearest}\"`?"),
                    None => format!("the fields are {names}; set `{setting}` to one of them"),
                }
            }
            Self::Empty { .. } => "put documents there, or take it out of the configuration".to_owned(),
            Self::TooManyRejects { summary, .. } => {
                let RejectSummary { top_reason, advice, .. } = &**summary;
                format!("most often `{top_reason}`: {advice}; or raise `max_reject_rate`")
            }
        })
    }
}

fn show(rejects: &[Reject]) -> String {
    let shown: Vec<String> =
        rejects.iter().map(|reject| format!("{}:{}: {}", reject.file, reject.line, reject.reason)).collect();
    shown.join("; ")
}

/// An error when too many of `num_records` records are rejects.
pub(crate) fn check_rejects(
    name: &str,
    rejects: &[Reject],
    num_records: usize,
    max_rate: Probability,
) -> Result<(), ReadError> {
    if rejects.len() as f64 <= max_rate.get() * num_records as f64 {
        return Ok(());
    }
    let counts = count_by_reason(rejects);
    // Names are sorted, so that the first of equally frequent ones wins.
    let most = counts.values().copied().max().unwrap_or(0);
    let top_reason = counts.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name).unwrap_or_default();
    let advice = rejects.iter().find(|reject| reject.reason.name() == top_reason).map(|reject| reject.reason.advice());
    let summary = RejectSummary {
        num_rejected: rejects.len(),
        num_records,
        max_rate,
        top_reason,
        first: rejects.iter().take(3).cloned().collect(),
        advice: advice.unwrap_or_default(),
    };
    Err(ReadError::TooManyRejects { name: name.to_owned(), summary: Box::new(summary) })
}

/// Finds the files of a source and makes ready to read them, in the order of their names. `root` is the folder that
/// the source's path is relative to.
///
/// # Errors
/// When there is no such file, or a file's format cannot be told.
pub fn read_source(config: &SourceConfig, root: &Path) -> Result<Source, ReadError> {
    let extensions: Vec<&'static str> = match config.format {
        Some(format) => format.extensions().to_vec(),
        None => Format::ALL.iter().flat_map(|format| format.extensions()).copied().collect(),
    };
    let extensions = [&extensions[..], &archive::EXTENSIONS].concat();
    let files = find_files(&config.path, root, &extensions)?;
    let unknown = |file: &FoundFile| format_of(config, file).is_none() && !is_archive(file);
    if let Some(file) = files.iter().find(|file| unknown(file)) {
        return Err(FileError::UnknownFormat { path: file.path.clone(), extensions }.into());
    }
    check_settings(config, &files)?;
    let wanted = config.members.as_deref().map(member_matcher).transpose()?;
    let named = [
        ("id", &config.id),
        ("group", &config.group),
        ("time", &config.time),
        ("origin", &config.origin),
        ("licence", &config.licence),
        ("labels", &config.labels),
    ];
    let named = named.into_iter().filter_map(|(setting, field)| Some((setting, field.clone()?)));
    let watch = FieldWatch::new([("text", config.text.clone())].into_iter().chain(named));
    Ok(Source {
        config: config.clone(),
        files: files.into(),
        wanted,
        members: None,
        current: None,
        decoded: BTreeMap::new(),
        watch,
        ids: UniqueIds::default(),
        num_records: 0,
        done: false,
    })
}

fn is_archive(file: &FoundFile) -> bool {
    crate::config::extension(&file.name).is_some_and(|extension| archive::EXTENSIONS.contains(&extension.as_str()))
}

/// XML needs the name of a record's element, and nothing else has one; not every file is text in an encoding.
fn check_settings(config: &SourceConfig, files: &[FoundFile]) -> Result<(), ReadError> {
    let wrong = |setting, problem| Err(ReadError::Setting { name: config.name.clone(), setting, problem });
    let is_xml = |file: &FoundFile| format_of(config, file) == Some(Format::Xml);
    match &config.record {
        None if files.iter().any(is_xml) => Err(ReadError::no_record(&config.name)),
        Some(record) if record.split('/').all(str::is_empty) => wrong("record", "it is empty"),
        Some(_) if !files.iter().any(|file| is_xml(file) || is_archive(file)) => {
            wrong("record", "only XML has such elements")
        }
        _ => Ok(()),
    }?;
    let is_text = |file: &FoundFile| is_archive(file) || format_of(config, file).is_some_and(Format::is_text);
    if config.members.is_some() && !files.iter().any(is_archive) {
        return wrong("members", "none of its files is an archive");
    }
    let is_plain = |file: &FoundFile| is_archive(file) || format_of(config, file) == Some(Format::Text);
    for (setting, is_set) in [("paragraphs", config.paragraphs), ("lines", config.lines)] {
        if is_set && !files.iter().any(is_plain) {
            return wrong(setting, "none of its files is plain text");
        }
    }
    if config.paragraphs && config.lines {
        return wrong("lines", "`paragraphs` cuts its files already");
    }
    if config.encoding.is_some() && !files.iter().any(is_text) {
        return wrong("encoding", "none of its files is text");
    }
    Ok(())
}

/// The records of a source, read as they are asked for: `Ok(Ok(document))`, `Ok(Err(reject))`, or an error after which
/// nothing follows. Ids are `<source>/<id>`, or `<source>/<file>#<line>` without one; repeated ids get `~2`, `~3`, ...
pub struct Source {
    config: SourceConfig,
    files: VecDeque<FoundFile>,
    /// What the names of members have to match.
    wanted: Option<GlobMatcher>,
    /// Members of the archive that is being read.
    members: Option<Members>,
    current: Option<Current>,
    /// Files by the encoding that they were decoded from.
    decoded: BTreeMap<&'static str, usize>,
    watch: FieldWatch,
    ids: UniqueIds,
    num_records: usize,
    done: bool,
}

/// The file that is being read.
struct Current {
    file: FoundFile,
    reading: Reading,
    decoded: Decoded,
}

impl Iterator for Source {
    type Item = Result<Result<Document, Reject>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.step().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl Source {
    fn step(&mut self) -> Result<Option<Result<Document, Reject>>, ReadError> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return self.finish().map(|()| None);
            }
            let piece = match self.next_piece() {
                Err(ReadError::File(FileError::Refused { source, .. })) => Some(self.refuse_rest(source)),
                piece => piece?,
            };
            if let Some(piece) = piece {
                self.num_records += 1;
                return Ok(Some(self.name_piece(piece)));
            }
            let encoding = self.current.take().and_then(|current| current.decoded.get());
            encoding.into_iter().for_each(|own| *self.decoded.entry(own.name()).or_default() += 1);
        }
    }

    /// Files read so far that were not UTF-8, by the encoding that they were decoded from.
    pub fn decoded(&self) -> &BTreeMap<&'static str, usize> {
        &self.decoded
    }

    fn open_next(&mut self) -> Result<bool, ReadError> {
        loop {
            if let Some(members) = &self.members {
                if let Some(Member { file, content }) = members.next_member()? {
                    self.begin(file, Some(content))?;
                    return Ok(true);
                }
                self.members = None;
            }
            let Some(file) = self.files.pop_front() else { return Ok(false) };
            if is_archive(&file) {
                self.members = Some(Members::open(&file, choose_members(self.config.format, self.wanted.clone())));
            } else {
                self.begin(file, None)?;
                return Ok(true);
            }
        }
    }

    fn begin(&mut self, file: FoundFile, member: Option<Result<Vec<u8>, RejectReason>>) -> Result<(), ReadError> {
        let decoded = Decoded::default();
        let reading = match member.transpose() {
            Ok(member) => match Reading::begin(&self.config, &file, member, Decoded::clone(&decoded)) {
                Err(ReadError::File(FileError::Refused { source, .. })) => Reading::unusable(source),
                reading => reading?,
            },
            Err(reason) => Reading::unusable(reason),
        };
        self.current = Some(Current { file, reading, decoded });
        Ok(())
    }

    /// Passes over the rest of a file.
    fn refuse_rest(&mut self, reason: RejectReason) -> PieceResult {
        self.current.iter_mut().for_each(|current| current.reading = Reading::Whole(None));
        Err((1, reason))
    }

    fn next_piece(&mut self) -> Result<Option<PieceResult>, ReadError> {
        let Some(Current { file, reading, .. }) = &mut self.current else { return Ok(None) };
        match reading {
            Reading::Whole(piece) => Ok(piece.take()),
            Reading::Page(fields) => {
                let Some(fields) = fields.take() else { return Ok(None) };
                self.watch.see(&fields, &self.config.name)?;
                let piece = row_piece(&self.config, 1, &fields).map(|piece| Piece { line: None, ..piece });
                Ok(Some(piece.map_err(|reason| (1, reason))))
            }
            Reading::Paragraphs(lines) => Ok(paragraph(lines, file)?),
            Reading::Lines(lines) => Ok(line_piece(lines, file)?),
            Reading::Rows(rows) => {
                let Some(Row { line, fields }) = rows.next_row()? else { return Ok(None) };
                if let Ok(fields) = &fields {
                    self.watch.see(fields, &self.config.name)?;
                }
                let piece = fields.and_then(|fields| row_piece(&self.config, line, &fields));
                Ok(Some(piece.map_err(|reason| (line, reason))))
            }
        }
    }

    fn finish(&self) -> Result<(), ReadError> {
        self.watch.finish(&self.config.name)?;
        if self.num_records > 0 {
            return Ok(());
        }
        Err(ReadError::Empty { name: self.config.name.clone(), path: self.config.path.clone() })
    }

    fn name_piece(&mut self, piece: PieceResult) -> Result<Document, Reject> {
        let file = &self.current.as_ref().expect("a piece comes from an open file").file;
        let source = self.config.name.clone();
        let piece = piece.map_err(|(line, reason)| Reject {
            source: source.clone(),
            file: file.shown.clone(),
            line,
            reason,
        })?;
        let id = match (piece.id, piece.line) {
            (Some(id), _) => format!("{source}/{id}"),
            (None, Some(line)) => format!("{source}/{}#{line}", file.name),
            (None, None) => format!("{source}/{}", file.name),
        };
        let Piece { text, group, time, origin, licence, labels, .. } = piece;
        let licence = licence.or_else(|| self.config.default_licence.clone());
        Ok(Document { id: self.ids.take(id), source, group, time, origin, licence, labels, text })
    }
}

/// Members to read: those that the setting names, or those of the format that is set, or of any that their names tell.
fn choose_members(format: Option<Format>, wanted: Option<GlobMatcher>) -> impl Fn(&str) -> Choice + Send + 'static {
    move |name| {
        let told = Format::of_name(name);
        let is_named = wanted.as_ref().map(|wanted| wanted.is_match(name.trim_start_matches("./")));
        let is_archive = crate::config::extension(name).is_some_and(|own| archive::EXTENSIONS.contains(&own.as_str()));
        match (is_named, format) {
            (Some(true), _) | (None, None) if is_archive => Choice::Nested,
            (Some(true), _) if format.or(told).is_some() => Choice::Read,
            (None, Some(format)) if told == Some(format) => Choice::Read,
            (None, None) if told.is_some() => Choice::Read,
            _ => Choice::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use fs_err as fs;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bz2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(6)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn with(files: &[(&str, &[u8])]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, bytes) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            Self(folder)
        }

        fn read(&self, config: &SourceConfig) -> Result<Vec<Result<Document, Reject>>, ReadError> {
            read_source(config, self.0.path())?.collect()
        }

        /// (id, text) of documents, (line, reason) of rejects.
        fn texts(&self, config: &SourceConfig) -> Vec<(String, String)> {
            let show = |record| match record {
                Ok(Document { id, text, .. }) => (id, text),
                Err(Reject { file, line, reason, .. }) => (format!("{file}:{line}"), reason.name().to_owned()),
            };
            self.read(config).unwrap().into_iter().map(show).collect()
        }
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn every_packing_reads_the_same() {
        let bytes = b"{\"id\": 7, \"text\": \"one\", \"time\": 1864, \"group\": \"g\"}\r\n{\"text\": \"two\"}\r\n";
        let two_members = [gz(&bytes[..30]), gz(&bytes[30..])].concat();
        let two_frames = [&bytes[..30], &bytes[30..]].map(|part| zstd::encode_all(part, 3).unwrap()).concat();
        let folder = Folder::with(&[
            ("a.jsonl", bytes),
            ("f.jsonl.zst", &two_frames),
            ("b.jsonl.gz", &gz(bytes)),
            ("c.jsonl.zst", &zstd::encode_all(&bytes[..], 3).unwrap()),
            ("d.jsonl.gz", &two_members),
            ("e.jsonl.gz", bytes),
            ("g.jsonl.bz2", &[bz2(&bytes[..30]), bz2(&bytes[30..])].concat()),
            ("h.jsonl.xz", &[xz(&bytes[..30]), xz(&bytes[30..])].concat()),
        ]);
        let packed = ["b.jsonl.gz", "c.jsonl.zst", "d.jsonl.gz", "f.jsonl.zst", "g.jsonl.bz2", "h.jsonl.xz"];
        for name in packed.into_iter().chain(["a.jsonl", "e.jsonl.gz"]) {
            let got = folder.texts(&SourceConfig::new("s", name));
            assert_eq!(got, pairs(&[("s/7", "one"), (&format!("s/{name}#2"), "two")]));
        }
        let documents = folder.read(&SourceConfig::new("s", "a.jsonl")).unwrap();
        let first = documents[0].as_ref().unwrap();
        assert_eq!((first.time.as_deref(), first.group.as_deref()), (Some("1864"), Some("g")));
        assert_eq!(folder.texts(&SourceConfig::new("s", "*.jsonl*")).len(), 16);
    }

    #[test]
    fn repeated_ids_are_told_apart() {
        let folder = Folder::with(&[("x/a.csv", b"id,text\n1,a\n1,b\n"), ("x/b.tsv", b"id\ttext\n1\tc\n")]);
        let got = folder.texts(&SourceConfig::new("s", "x"));
        assert_eq!(got, pairs(&[("s/1", "a"), ("s/1~2", "b"), ("s/1~3", "c")]));
    }

    #[test]
    fn plain_text_by_file_and_by_paragraph() {
        let folder = Folder::with(&[
            ("t/a.txt", "\u{feff}one\r\ntwo\r\n\r\nthree".as_bytes()),
            ("t/b.txt", b"good\nb\xffd\n\n\n fine "),
            ("t/c.txt", b" \n"),
        ]);
        let mut config = SourceConfig::new("s", "t");
        assert_eq!(
            folder.texts(&config),
            pairs(&[("s/a.txt", "one\ntwo\n\nthree"), ("t/b.txt:2", "invalid_utf8"), ("t/c.txt:1", "empty_text"),])
        );
        config.paragraphs = true;
        assert_eq!(
            folder.texts(&config),
            pairs(&[
                ("s/a.txt#1", "one\ntwo"),
                ("s/a.txt#4", "three"),
                ("t/b.txt:2", "invalid_utf8"),
                ("s/b.txt#5", " fine "),
            ])
        );
    }

    #[test]
    fn a_wrong_field_is_told_from_dirty_records() {
        let folder = Folder::with(&[
            ("a.jsonl", b"{\"txt\": \"a\", \"key\": 1}\n{\"txt\": \"b\"}\n"),
            ("b.jsonl", b"{\"text\": \"a\"}\n{\"txt\": \"b\"}\n{\"text\": [1]}\n{\"text\": \" \"}\n"),
            ("c.csv", b"Body,id\nx,1\n"),
        ]);
        let error = folder.read(&SourceConfig::new("s", "a.jsonl")).unwrap_err();
        assert_eq!(error.to_string(), "find the field `text` (setting `text`) in `s`");
        assert_eq!(error.hint().unwrap(), "the fields are `key`, `txt`; did you mean `text = \"txt\"`?");
        let config = SourceConfig { text: "body".into(), ..SourceConfig::new("s", "c.csv") };
        assert!(folder.read(&config).unwrap_err().hint().unwrap().contains("`text = \"Body\"`"));
        let config = SourceConfig { group: Some("page".into()), ..SourceConfig::new("s", "b.jsonl") };
        assert!(matches!(folder.read(&config), Err(ReadError::WrongField { setting: "group", .. })));
        let reasons: Vec<_> = folder.texts(&SourceConfig::new("s", "b.jsonl")).into_iter().map(|(_, r)| r).collect();
        assert_eq!(reasons, ["a", "missing_field", "wrong_type", "empty_text"]);
    }

    #[test]
    fn a_long_file_with_a_wrong_field_is_not_read_to_its_end() {
        let bytes = [b"{\"a\": 1}\n".repeat(1000), b"{\"text\": \"late\"}\n".to_vec()].concat();
        let folder = Folder::with(&[("a.jsonl", &bytes)]);
        assert!(matches!(folder.read(&SourceConfig::new("s", "a.jsonl")), Err(ReadError::WrongField { .. })));
    }

    #[test]
    fn broken_input_has_an_error_with_a_hint() {
        let lines = b"{\"text\": \"a longer line of text\"}\n".repeat(99);
        let cut = |packed: Vec<u8>| packed[..packed.len() - 12].to_vec();
        let folder = Folder::with(&[
            ("cut.jsonl.gz", &cut(gz(&lines))),
            ("cut.jsonl.zst", &cut(zstd::encode_all(&lines[..], 3).unwrap())),
            ("cut.jsonl.bz2", &cut(bz2(&lines))),
            ("cut.jsonl.xz", &cut(xz(&lines))),
            ("none.jsonl", b""),
            ("header.csv", b"id,text\n"),
            ("twice.csv", b"id,id\n"),
            ("x.dat", b"x"),
        ]);
        let check = |path: &str, expected: &str| {
            let error = folder.read(&SourceConfig::new("s", path)).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(expected), "{path}: {message}");
            assert!(error.hint().is_some(), "{path}");
        };
        check("cut.jsonl.gz", "unpack");
        check("cut.jsonl.zst", "unpack");
        check("cut.jsonl.bz2", "unpack");
        check("cut.jsonl.xz", "unpack");
        check("none.jsonl", "find a record in `s`: `none.jsonl` is empty");
        check("header.csv", "is empty");
        check("twice.csv", "a name occurs twice");
        check("x.dat", "tell the format");
        check("missing.jsonl", "find `");
    }

    const XML: &str =
        "<Doc id='7'>\n<Pair pid='1'><A>one <i>two</i></A></Pair>\n<Pair pid='2'><A>three</A></Pair><Pair/>\n</Doc>";

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            // As a hostile writer would: names are not checked.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn xml_source(path: &str) -> SourceConfig {
        SourceConfig {
            record: Some("Pair".into()),
            text: "A".into(),
            id: Some("@pid".into()),
            group: Some("/Doc/@id".into()),
            ..SourceConfig::new("s", path)
        }
    }

    #[test]
    fn archives_are_read_like_folders() {
        let line = b"{\"text\": \"a line\"}\n";
        let members: [(&str, &[u8]); 6] = [
            ("./x/b.jsonl", line),
            ("a.txt", b"plain"),
            (".hidden/c.txt", b"no"),
            ("d.dat", b"no"),
            ("../../e.txt", b"leads out"),
            ("f.jsonl.gz", &gz(line)),
        ];
        let folder = Folder::with(&[
            ("t/a.tar", &tar(&members)),
            ("t/b.tar.gz", &gz(&tar(&members))),
            ("t/c.tgz", &gz(&tar(&members))),
            ("t/d.zip", &zip(&members)),
            ("t/d1.tar.bz2", &bz2(&tar(&members))),
            ("t/d2.tar.xz", &xz(&tar(&members))),
            ("t/d3.tbz2", &bz2(&tar(&members))),
            ("t/d4.txz", &xz(&tar(&members))),
            ("t/e.txt", b"beside"),
        ]);
        let each = |name: &str| {
            let texts = [("x/b.jsonl#1", "a line"), ("a.txt", "plain"), ("f.jsonl.gz#1", "a line")];
            let mut texts = texts.map(|(member, text)| (format!("s/{name}/{member}"), text.to_owned())).to_vec();
            texts.insert(2, (format!("t/{name}/../../e.txt:1"), "unsafe_name".to_owned()));
            texts
        };
        let names = ["a.tar", "b.tar.gz", "c.tgz", "d.zip", "d1.tar.bz2", "d2.tar.xz", "d3.tbz2", "d4.txz"];
        let mut expected = names.map(each).concat();
        expected.push(("s/e.txt".into(), "beside".into()));
        assert_eq!(folder.texts(&SourceConfig::new("s", "t")), expected);
        let text_only = SourceConfig { format: Some(Format::Text), ..SourceConfig::new("s", "t/d.zip") };
        assert_eq!(
            folder.texts(&text_only),
            pairs(&[("s/d.zip/a.txt", "plain"), ("t/d.zip/../../e.txt:1", "unsafe_name")])
        );
        let some = |pattern: &str| SourceConfig { members: Some(pattern.into()), ..SourceConfig::new("s", "t/a.tar") };
        assert_eq!(folder.texts(&some("x/*")), pairs(&[("s/a.tar/x/b.jsonl#1", "a line")]));
        let any_name = SourceConfig { format: Some(Format::Text), ..some("*.dat") };
        assert_eq!(folder.texts(&any_name), pairs(&[("s/a.tar/d.dat", "no")]));
        let error = read_source(&some("x/["), folder.0.path()).err().unwrap();
        assert!(error.hint().unwrap().contains("write globs like"), "{error}");
        let plain = SourceConfig { path: "t/e.txt".into(), ..some("*") };
        let error = read_source(&plain, folder.0.path()).err().unwrap();
        assert_eq!(error.hint().unwrap(), "take `members` out of the source");
    }

    #[test]
    fn xml_is_read_by_its_elements_also_in_archives() {
        let folder = Folder::with(&[
            ("a.xml", XML.as_bytes()),
            ("b.tar.gz", &gz(&tar(&[("b.xml", XML.as_bytes()), ("cut.xml", &XML.as_bytes()[..40])]))),
        ]);
        let expected = [("s/1", "one two"), ("s/2", "three"), ("a.xml:3", "missing_field")];
        assert_eq!(folder.texts(&xml_source("a.xml")), pairs(&expected));
        let groups = folder.read(&xml_source("a.xml")).unwrap().into_iter().flatten().map(|found| found.group);
        assert_eq!(groups.collect::<Vec<_>>(), [Some("7".to_owned()), Some("7".to_owned())]);
        let texts = folder.texts(&xml_source("b.tar.gz"));
        assert_eq!(texts[2], ("b.tar.gz/b.xml:3".to_owned(), "missing_field".to_owned()));
        assert_eq!(texts[3], ("b.tar.gz/cut.xml:2".to_owned(), "invalid_xml".to_owned()));
        let refused = |config: &SourceConfig| {
            let error = folder.read(config).unwrap_err();
            format!("{error} {}", error.hint().unwrap())
        };
        assert!(refused(&SourceConfig::new("s", "a.xml")).contains("record = "));
        let misread = SourceConfig { text: "B".into(), ..xml_source("a.xml") };
        assert!(refused(&misread).contains("`A`, `A/i`"), "{}", refused(&misread));
    }

    #[test]
    fn what_expands_beyond_measure_is_refused() {
        let zeros = zstd::encode_all(std::io::repeat(b'0').take((1 << 30) + (1 << 24)), 1).unwrap();
        let folder =
            Folder::with(&[("a.jsonl.zst", &zeros), ("b.tar.zst", b""), ("cut.zip", &zip(&[("a.txt", b"x")])[..50])]);
        let got = folder.texts(&SourceConfig::new("s", "a.jsonl.zst"));
        assert_eq!(got, pairs(&[("a.jsonl.zst:1", "expands")]));
        assert!(matches!(folder.read(&SourceConfig::new("s", "b.tar.zst")), Err(ReadError::Empty { .. })));
        let cut = folder.read(&SourceConfig::new("s", "cut.zip")).unwrap_err();
        assert!(matches!(cut, ReadError::File(FileError::Damaged { .. })), "{cut:?}");
    }

    #[test]
    fn a_json_array_is_read_object_by_object() {
        let folder = Folder::with(&[
            ("a.json", b"[{\"text\": \"one\", \"id\": 5},\n {\"text\": 2}, 3, {\"text\": \"four\"}]"),
            ("b.json", b"[{\"text\": \"cut"),
        ]);
        let expected =
            [("s/5", "one"), ("a.json:2", "wrong_type"), ("a.json:3", "invalid_json"), ("s/a.json#4", "four")];
        assert_eq!(folder.texts(&SourceConfig::new("s", "a.json")), pairs(&expected));
        assert_eq!(folder.texts(&SourceConfig::new("s", "b.json")), pairs(&[("b.json:1", "invalid_json")]));
    }
}
