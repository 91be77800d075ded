//! Members of tar and zip archives, one after the other, as they are asked for. Nothing is unpacked onto the disk, so that
//! a member's name is never more than a name.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::spawn;

use fs_err as fs;

use crate::files::{FileError, FoundFile, open, reading_failed};
use crate::lines::MAX_BYTES;
use crate::reject::RejectReason;

/// What archives' names end with, by [`crate::config::extension`].
pub(crate) const EXTENSIONS: [&str; 5] = ["tar", "tgz", "tbz2", "txz", "zip"];

/// Members of one archive, at most.
const MAX_MEMBERS: usize = 10_000_000;

/// Members that wait to be read, at most.
const MEMBERS_AHEAD: usize = 2;

/// A file in an archive.
pub(crate) struct Member {
    /// The archive, with the member's name behind its own.
    pub(crate) file: FoundFile,
    /// What it holds, or why it cannot be used.
    pub(crate) content: Result<Vec<u8>, RejectReason>,
}

/// The members of an archive in the order in which they lie there; unpacked by a thread of their own.
pub(crate) struct Members(Receiver<Result<Member, FileError>>);

impl Members {
    /// Members whose names are `wanted`; folders, links and hidden files never are.
    pub(crate) fn open(file: &FoundFile, wanted: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let (give, members) = sync_channel(MEMBERS_AHEAD);
        let file = file.clone();
        spawn(move || {
            let unpacked = if crate::config::extension(&file.name).as_deref() == Some("zip") {
                unzip(&file, &wanted, &give)
            } else {
                untar(&file, &wanted, &give)
            };
            if let Err(error) = unpacked {
                // Nobody may be left to hear it.
                drop(give.send(Err(reading_failed(&file.path, error))));
            }
        });
        Self(members)
    }

    /// The next member, or `None` after the last.
    pub(crate) fn next_member(&self) -> Result<Option<Member>, FileError> {
        self.0.recv().ok().transpose()
    }
}

type Give = SyncSender<Result<Member, FileError>>;

fn untar(archive: &FoundFile, wanted: &dyn Fn(&str) -> bool, give: &Give) -> io::Result<()> {
    let reader = open(&archive.path).map_err(io::Error::other)?;
    for (idx, entry) in tar::Archive::new(reader).entries()?.enumerate() {
        let entry = entry?;
        check_count(idx)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_file = entry.header().entry_type().is_file();
        if is_file && is_visible(&name) && wanted(&name) && !hand_over(archive, &name, entry, give)? {
            return Ok(());
        }
    }
    Ok(())
}

fn unzip(archive: &FoundFile, wanted: &dyn Fn(&str) -> bool, give: &Give) -> io::Result<()> {
    let file = fs::File::open(&archive.path)?;
    let num_packed = file.metadata()?.len();
    let mut zip = zip::ZipArchive::new(io::BufReader::new(file)).map_err(damaged)?;
    check_count(zip.len())?;
    let mut num_bytes = 0;
    for idx in 0..zip.len() {
        let member = zip.by_index(idx).map_err(damaged)?;
        let name = member.name().map_err(damaged)?.into_owned();
        if !(member.is_file() && is_visible(&name) && wanted(&name)) {
            continue;
        }
        num_bytes += member.size().min(MAX_BYTES as u64);
        crate::files::check_expansion(num_packed, num_bytes)?;
        if !hand_over(archive, &name, member, give)? {
            return Ok(());
        }
    }
    Ok(())
}

fn damaged(error: zip::result::ZipError) -> io::Error {
    match error {
        zip::result::ZipError::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

fn check_count(num_members: usize) -> io::Result<()> {
    let too_many = || io::Error::new(io::ErrorKind::InvalidData, format!("more than {MAX_MEMBERS} members"));
    if num_members <= MAX_MEMBERS { Ok(()) } else { Err(too_many()) }
}

fn is_visible(name: &str) -> bool {
    !name.split('/').any(|part| part.starts_with('.') && part != "." && part != "..")
}

/// Reads a member and gives it away. Returns whether somebody took it.
fn hand_over(archive: &FoundFile, name: &str, reader: impl Read, give: &Give) -> io::Result<bool> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let too_long = bytes.len() > MAX_BYTES;
    let content = if too_long { Err(RejectReason::TooLong { max_bytes: MAX_BYTES }) } else { Ok(bytes) };
    let inside = |outer: &str| format!("{outer}/{}", name.trim_start_matches("./"));
    let file = FoundFile { path: archive.path.clone(), name: inside(&archive.name), shown: inside(&archive.shown) };
    Ok(give.send(Ok(Member { file, content })).is_ok())
}

/// A member's bytes, unpacked where they are packed themselves.
pub(crate) fn unpacked(file: &FoundFile, bytes: Vec<u8>) -> Result<Box<dyn BufRead>, FileError> {
    crate::files::unpacking(&file.path, bytes.len() as u64, io::Cursor::new(bytes))
}
