//! Finding files by name, folder or glob, and opening them whatever they are packed with.

use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive;
use crate::config::{Format, PACKED};
use crate::reject::RejectReason;
use arable_core::{Digest, Digester, Hint};
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use fs_err as fs;
use globset::{GlobBuilder, GlobMatcher};
use lzma_rust2::XzReader;
use walkdir::{DirEntry, WalkDir};

/// A file that could not be found or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing lies at the path.
    #[error("find `{}`", path.display())]
    Missing {
        /// The path, joined to the data root.
        path: PathBuf,
        /// The most similar name beside it.
        nearest: Option<String>,
    },
    /// A folder or glob without a file to read.
    #[error("find a file to read in `{}`", path.display())]
    NoMatch {
        /// The folder or glob, joined to the data root.
        path: PathBuf,
        /// What file names have to end with.
        extensions: Vec<&'static str>,
    },
    /// A glob that cannot be understood.
    #[error("understand the glob `{pattern}`")]
    Glob {
        /// The glob.
        pattern: String,
        /// What is wrong with it.
        source: globset::Error,
    },
    /// A name that does not tell a format.
    #[error("tell the format of `{}` by its name", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What file names have to end with.
        extensions: Vec<&'static str>,
    },
    /// A table whose first line does not name its columns.
    #[error("read the column names in the first line of `{}`: {problem}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// A packed file that ends early or is damaged.
    #[error("unpack `{}`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        source: io::Error,
    },
    /// A packed file that is made to do harm; a source goes on after it with the next file.
    #[error("unpack `{}`", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: RejectReason,
    },
    /// A file that is not what its name says.
    #[error("read `{}` as {format}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// What the reader says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system cannot read the file.
    #[error("read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Hint for FileError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { path, .. } if path.to_string_lossy().contains("://") => Some(
                "objects in buckets are read as sources, by `s3://`, `gs://` or `az://`; fetch others first".to_owned(),
            ),
            Self::Missing { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::Missing { .. } => Some("paths are relative to the data root; check the path's spelling".to_owned()),
            Self::NoMatch { extensions, .. } | Self::UnknownFormat { extensions, .. } => {
                let names: Vec<String> = extensions.iter().map(|extension| format!("`.{extension}`")).collect();
                Some(format!(
                    "files are recognised by their names ({}, also with {} behind); rename the file or, for a source, name it \
                     with a glob and set `format`",
                    names.join(", "),
                    PACKED.join(", ")
                ))
            }
            Self::Glob { .. } => Some("write globs like `notes/**/*.txt`".to_owned()),
            Self::Header { .. } => {
                Some("start the table with one line of column names, each once, in UTF-8".to_owned())
            }
            Self::Damaged { .. } => Some("the file is damaged or was cut off; fetch or pack it again".to_owned()),
            Self::Unreadable { .. } => {
                Some("the file is damaged, was cut off, or is something else; write it again".to_owned())
            }
            Self::Refused { source, .. } => Some(source.advice()),
            Self::Io { .. } => Some("check that the file may be read".to_owned()),
        }
    }
}

/// A file to read.
#[derive(Clone, Debug)]
pub(crate) struct FoundFile {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Relative to what was asked for: names documents that have no id, so it must not depend on where the root lies.
    pub(crate) name: String,
    /// Relative to the data root where it lies below it: names the file to people.
    pub(crate) shown: String,
}

impl FoundFile {
    fn new(path: PathBuf, base: &Path, root: &Path) -> Self {
        let name = slashed(path.strip_prefix(base).unwrap_or(&path));
        let shown = address(&path).unwrap_or_else(|| slashed(path.strip_prefix(root).unwrap_or(&path)));
        Self { path, name, shown }
    }
}

/// The folder of objects that were fetched.
const FETCHED: &str = "fetched-objects";

/// Where below `folder` the object at `address` (`s3://bucket/key`) has to lie once it was fetched, so that readers show
/// it by its address. A glob stays a glob.
pub fn fetched_path(folder: &Path, address: &str) -> PathBuf {
    folder.join(FETCHED).join(address.replacen("://", "/", 1))
}

/// The address of an object that was fetched.
fn address(path: &Path) -> Option<String> {
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let at = parts.iter().rposition(|part| part == FETCHED)?;
    Some(format!("{}://{}", parts.get(at + 1)?, parts[at + 2..].join("/")))
}

fn slashed(path: &Path) -> String {
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    parts.join("/").replacen("//", "/", 1)
}

/// The files that `path` (a file, folder or glob relative to `root`) stands for, sorted by name. In a folder only
/// files with one of `extensions` count; hidden files and folders never do.
pub(crate) fn find_files(path: &str, root: &Path, extensions: &[&'static str]) -> Result<Vec<FoundFile>, FileError> {
    let full = root.join(path);
    if full.is_dir() {
        let wanted = |file: &Path| has_extension(file, extensions);
        return not_empty(walk(&full, root, wanted)?, full, extensions);
    }
    if full.exists() {
        let base = full.parent().unwrap_or(root).to_owned();
        return Ok(vec![FoundFile::new(full, &base, root)]);
    }
    if !path.contains(['*', '?', '[', '{']) {
        return Err(FileError::Missing { nearest: nearest_beside(&full), path: full });
    }
    let (base, matcher) = parse_glob(path, root)?;
    if !base.is_dir() {
        return Err(FileError::Missing { nearest: nearest_beside(&base), path: base });
    }
    let wanted = |file: &Path| matcher.is_match(file.strip_prefix(&base).unwrap_or(file));
    not_empty(walk(&base, root, wanted)?, full, extensions)
}

/// The digest of all files that `path` stands for: their names and bytes, whatever their format.
///
/// # Errors
/// When there is no such file or one cannot be read.
pub fn content_digest(path: &str, root: &Path) -> Result<Digest, FileError> {
    let mut digester = Digester::default();
    for file in find_files(path, root, &all_extensions())? {
        let content = digest_of_file(&file.path).map_err(|error| reading_failed(&file.path, error))?;
        digester.update(file.name.as_bytes()).update(content.as_bytes());
    }
    Ok(digester.finish())
}

fn all_extensions() -> Vec<&'static str> {
    let formats = Format::ALL.iter().flat_map(|format| format.extensions());
    formats.chain(&["conll", "iob", "bio"]).chain(&archive::EXTENSIONS).copied().collect()
}

/// Whether a file's name tells that it can be read.
pub fn is_readable_name(name: &str) -> bool {
    has_extension(Path::new(name), &all_extensions())
}

/// What a glob over paths matches.
///
/// # Errors
/// When it cannot be understood.
pub fn path_matcher(pattern: &str) -> Result<impl Fn(&str) -> bool + use<>, FileError> {
    let matcher = member_matcher(pattern)?;
    Ok(move |path: &str| matcher.is_match(path))
}

fn digest_of_file(path: &Path) -> io::Result<Digest> {
    let (mut file, mut digester) = (fs::File::open(path)?, Digester::default());
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(digester.finish()),
            num => digester.update(&bytes[..num]),
        };
    }
}

fn not_empty(files: Vec<FoundFile>, path: PathBuf, extensions: &[&'static str]) -> Result<Vec<FoundFile>, FileError> {
    if files.is_empty() { Err(FileError::NoMatch { path, extensions: extensions.to_vec() }) } else { Ok(files) }
}

fn has_extension(file: &Path, extensions: &[&str]) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    crate::config::extension(&name).is_some_and(|extension| extensions.contains(&extension.as_str()))
}

/// Splits a glob into the folder before its first special part and a matcher for what lies below.
fn parse_glob(path: &str, root: &Path) -> Result<(PathBuf, GlobMatcher), FileError> {
    let special = path.find(['*', '?', '[', '{']).unwrap_or(path.len());
    let cut = path[..special].rfind('/').map_or(0, |at| at + 1);
    let (folder, pattern) = path.split_at(cut);
    let wrong = |source| FileError::Glob { pattern: path.to_owned(), source };
    Ok((root.join(folder), matcher(pattern).map_err(wrong)?))
}

fn matcher(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher())
}

/// What a glob over the names of an archive's members matches.
pub(crate) fn member_matcher(pattern: &str) -> Result<GlobMatcher, FileError> {
    matcher(pattern).map_err(|source| FileError::Glob { pattern: pattern.to_owned(), source })
}

fn walk(base: &Path, root: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<FoundFile>, FileError> {
    let mut files = Vec::new();
    let entries = WalkDir::new(base).follow_links(true).into_iter();
    for entry in entries.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry)) {
        let entry = entry
            .map_err(|error| FileError::Io { path: error.path().unwrap_or(base).to_owned(), source: error.into() })?;
        if entry.file_type().is_file() && wanted(entry.path()) {
            files.push(FoundFile::new(entry.into_path(), base, root));
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

/// The most similar name in the folder of a path that does not exist.
fn nearest_beside(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let entries = fs::read_dir(path.parent()?).ok()?;
    let names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    nearest(&name, &names)
}

/// The name most similar to `wanted`, if one is similar at all; the first in order among equals.
pub(crate) fn nearest(wanted: &str, names: &[String]) -> Option<String> {
    let mut scored: Vec<(f64, &String)> =
        names.iter().map(|name| (strsim::jaro_winkler(&wanted.to_lowercase(), &name.to_lowercase()), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.first().filter(|(score, _)| *score > 0.75).map(|(_, name)| (*name).clone())
}

/// Opens a file and unpacks it by what its first bytes say, not by its name: names outlive what they told.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>, FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let num_packed = file.metadata().map_err(failed)?.len();
    unpacking(path, num_packed, BufReader::with_capacity(1 << 16, file))
}

/// A file that is not packed, for readers that go back and forth in it; `None` where it is packed.
pub(crate) fn open_plain(path: &Path) -> Result<Option<std::fs::File>, FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut start = Vec::new();
    (&mut file).take(16).read_to_end(&mut start).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(Packing::of(&start).is_none().then(|| file.into_parts().0))
}

/// How a file is packed.
enum Packing {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Packing {
    fn of(start: &[u8]) -> Option<Self> {
        // The name of bzip2 alone (`BZh9`) could be a word: the mark of a first block follows, or of the end.
        let is_bzip2 = |mark: &[u8]| mark == b"1AY&SY" || mark == b"\x17\x72\x45\x38\x50\x90";
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // The second is a frame that is passed over: what we write has nothing else where nothing is packed.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [b'B', b'Z', b'h', _, mark @ ..] if mark.get(..6).is_some_and(is_bzip2) => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ => None,
        }
    }
}

/// Reads `num_packed` bytes and unpacks them where they are packed.
pub(crate) fn unpacking(
    path: &Path,
    num_packed: u64,
    mut reader: impl BufRead + 'static,
) -> Result<Box<dyn BufRead>, FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let start = reader.fill_buf().map_err(failed)?;
    let decoder: Box<dyn Read> = match Packing::of(start) {
        None => return Ok(Box::new(reader)),
        Some(Packing::Gzip) => Box::new(MultiGzDecoder::new(reader)),
        Some(Packing::Zstd) => Box::new(zstd::Decoder::with_buffer(reader).map_err(failed)?),
        Some(Packing::Bzip2) => Box::new(MultiBzDecoder::new(reader)),
        Some(Packing::Xz) => Box::new(XzReader::new_mem_limit(reader, true, MAX_XZ_KIB)),
    };
    let guarded = Guarded { decoder, num_packed, num_bytes: 0 };
    Ok(Box::new(BufReader::with_capacity(1 << 16, guarded)))
}

/// What an xz file may ask for; what `xz -9` writes needs 65 MiB.
const MAX_XZ_KIB: u32 = 1 << 20;

/// A decoder that refuses to go on when a little becomes very much.
struct Guarded {
    decoder: Box<dyn Read>,
    num_packed: u64,
    num_bytes: u64,
}

impl Read for Guarded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let num_bytes = self.decoder.read(buffer)?;
        self.num_bytes += num_bytes as u64;
        check_expansion(self.num_packed, self.num_bytes)?;
        Ok(num_bytes)
    }
}

/// How much may come out of packed bytes: text is packed to a tenth, seldom to a hundredth.
const MAX_EXPANSION: u64 = 200;
/// What may come out of anything.
const HARMLESS_BYTES: u64 = 1 << 30;

/// An error when `num_bytes` is too much to come out of `num_packed`.
pub(crate) fn check_expansion(num_packed: u64, num_bytes: u64) -> io::Result<()> {
    if num_bytes > HARMLESS_BYTES && num_bytes / MAX_EXPANSION > num_packed {
        return Err(refused(RejectReason::Expands { max_times: MAX_EXPANSION, bytes: HARMLESS_BYTES }));
    }
    Ok(())
}

/// An error of reading that [`refusal`] finds again.
pub(crate) fn refused(reason: RejectReason) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Names the file in an error that came while reading it.
pub(crate) fn reading_failed(path: &Path, source: io::Error) -> FileError {
    let path = path.to_owned();
    if let Some(source) = refusal(&source) {
        return FileError::Refused { path, source };
    }
    match source.kind() {
        // What decoders say; the system itself says none of these about a regular file.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            FileError::Damaged { path, source }
        }
        _ if source.raw_os_error().is_none() && source.get_ref().is_some() && is_packed(&path) => {
            FileError::Damaged { path, source }
        }
        _ => FileError::Io { path, source },
    }
}

/// Why a file is refused, however deep readers of archives have wrapped it.
pub(crate) fn refusal(error: &io::Error) -> Option<RejectReason> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().or(error.downcast_ref::<Arc<io::Error>>().map(|error| &**error));
        let inner = || inner.and_then(refusal);
        if let Some(reason) = error.downcast_ref::<RejectReason>().cloned().or_else(inner) {
            return Some(reason);
        }
        cause = error.source();
    }
    None
}

fn is_packed(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    PACKED.iter().any(|packed| name.ends_with(packed))
        || crate::config::extension(&name).is_some_and(|extension| archive::EXTENSIONS.contains(&extension.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, root: &Path) -> Vec<String> {
        find_files(path, root, &["txt"]).unwrap().into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn files_folders_and_globs() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for name in ["b.txt", "a.txt.gz", "sub/c.txt", "sub/d.dat", ".hidden/e.txt"] {
            fs::create_dir_all(root.join("x").join(name).parent().unwrap()).unwrap();
            fs::write(root.join("x").join(name), "text").unwrap();
        }
        assert_eq!(names("x", root), ["a.txt.gz", "b.txt", "sub/c.txt"]);
        assert_eq!(names("x/b.txt", root), ["b.txt"]);
        assert_eq!(names("x/*.txt", root), ["b.txt"]);
        assert_eq!(names("x/**/*.txt", root), ["b.txt", "sub/c.txt"]);
        assert_eq!(names("x/sub/*", root), ["c.txt", "d.dat"]);
        assert_eq!(find_files("x/sub/c.txt", root, &[]).unwrap()[0].shown, "x/sub/c.txt");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::write(root.join("train.jsonl"), "").unwrap();
        let error = find_files("tran.jsonl", root, &[]).unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean `train.jsonl`?");
        assert!(matches!(find_files("*.csv", root, &["csv"]), Err(FileError::NoMatch { .. })));
        assert!(matches!(find_files(".", root, &["csv"]), Err(FileError::NoMatch { .. })));
        assert!(matches!(find_files("a[.csv", root, &["csv"]), Err(FileError::Glob { .. })));
        assert!(matches!(find_files("nowhere/*.csv", root, &["csv"]), Err(FileError::Missing { .. })));
    }
}
