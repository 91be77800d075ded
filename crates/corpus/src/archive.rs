//! Members of tar and zip archives, one after the other, as they are asked for. Nothing is unpacked onto the disk.
//!
//! What an archive may do harm with is refused with its reason: names that lead out of it, links, archives inside it, more
//! members than [`MAX_MEMBERS`], members that share bytes, and more bytes than text can have been packed into.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::spawn;

use fs_err as fs;

use crate::files::{FileError, FoundFile, check_expansion, open, reading_failed, refusal, refused};
use crate::lines::MAX_BYTES;
use crate::reject::RejectReason;

/// What archives' names end with, by [`crate::config::extension`].
pub(crate) const EXTENSIONS: [&str; 5] = ["tar", "tgz", "tbz2", "txz", "zip"];

/// Members of one archive, at most.
const MAX_MEMBERS: usize = 10_000_000;

/// Members that wait to be read, at most.
const MEMBERS_AHEAD: usize = 2;

/// What is done with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Read,
    /// Nobody asked for it.
    Pass,
    /// It would be read, were it not an archive itself.
    Nested,
}

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
    /// Members that `choose` takes by their names; folders and hidden files are never read.
    pub(crate) fn open(file: &FoundFile, choose: impl Fn(&str) -> Choice + Send + 'static) -> Self {
        let (give, members) = sync_channel(MEMBERS_AHEAD);
        let file = file.clone();
        spawn(move || {
            let is_zip = crate::config::extension(&file.name).as_deref() == Some("zip");
            let unpacked = if is_zip { unzip(&file, &choose, &give) } else { untar(&file, &choose, &give) };
            if let Err(error) = unpacked {
                // What is refused costs the rest of this archive alone.
                let last = match refusal(&error) {
                    Some(reason) => Ok(Member { file, content: Err(reason) }),
                    None => Err(reading_failed(&file.path, error)),
                };
                // Nobody may be left to hear it.
                drop(give.send(last));
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

fn untar(archive: &FoundFile, choose: &dyn Fn(&str) -> Choice, give: &Give) -> io::Result<()> {
    let reader = open(&archive.path).map_err(io::Error::other)?;
    for (idx, entry) in tar::Archive::new(reader).entries()?.enumerate() {
        let entry = entry?;
        check_count(idx + 1)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        let is_link = kind.is_symlink() || kind.is_hard_link();
        if !(kind.is_file() || is_link) {
            continue;
        }
        let content = match check(&name, is_link, choose) {
            None => continue,
            Some(Ok(())) => content_of(entry)?,
            Some(Err(reason)) => Err(reason),
        };
        if !hand_over(archive, &name, content, give) {
            return Ok(());
        }
    }
    Ok(())
}

fn unzip(archive: &FoundFile, choose: &dyn Fn(&str) -> Choice, give: &Give) -> io::Result<()> {
    let file = fs::File::open(&archive.path)?;
    let num_packed = file.metadata()?.len();
    let mut zip = zip::ZipArchive::new(io::BufReader::new(file)).map_err(damaged)?;
    check_count(zip.len())?;
    if zip.has_overlapping_entries().map_err(damaged)? {
        return Err(refused(RejectReason::OverlappingMembers));
    }
    let mut num_bytes = 0;
    for idx in 0..zip.len() {
        let member = zip.by_index(idx).map_err(damaged)?;
        let name = member.name().map_err(damaged)?.into_owned();
        if member.is_dir() {
            continue;
        }
        let content = match check(&name, member.is_symlink(), choose) {
            None => continue,
            Some(Ok(())) => content_of(member)?,
            Some(Err(reason)) => Err(reason),
        };
        // What a member says about its size may be a lie.
        num_bytes += content.as_ref().map_or(MAX_BYTES, Vec::len) as u64;
        check_expansion(num_packed, num_bytes)?;
        if !hand_over(archive, &name, content, give) {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a member is read; `None` where nobody asked for it.
fn check(name: &str, is_link: bool, choose: &dyn Fn(&str) -> Choice) -> Option<Result<(), RejectReason>> {
    let choice = choose(name);
    if choice == Choice::Pass || !is_visible(name) {
        return None;
    }
    Some(match choice {
        _ if leads_out(name) => Err(RejectReason::UnsafeName),
        _ if is_link => Err(RejectReason::Link),
        Choice::Nested => Err(RejectReason::NestedArchive),
        _ => Ok(()),
    })
}

/// Whether a name, unpacked, would lie outside the folder that it is unpacked to, on any system.
fn leads_out(name: &str) -> bool {
    let has_drive = matches!(name.as_bytes(), [drive, b':', b'/' | b'\\', ..] if drive.is_ascii_alphabetic());
    has_drive || name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..")
}

fn damaged(error: zip::result::ZipError) -> io::Error {
    match error {
        zip::result::ZipError::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

fn check_count(num_members: usize) -> io::Result<()> {
    let too_many = || refused(RejectReason::TooManyMembers { max_members: MAX_MEMBERS });
    if num_members <= MAX_MEMBERS { Ok(()) } else { Err(too_many()) }
}

fn is_visible(name: &str) -> bool {
    !name.split('/').any(|part| part.starts_with('.') && part != "." && part != "..")
}

/// What a member holds, or that it is too much.
fn content_of(reader: impl Read) -> io::Result<Result<Vec<u8>, RejectReason>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(if bytes.len() > MAX_BYTES { Err(RejectReason::TooLong { max_bytes: MAX_BYTES }) } else { Ok(bytes) })
}

/// Gives a member away. Returns whether somebody took it.
fn hand_over(archive: &FoundFile, name: &str, content: Result<Vec<u8>, RejectReason>, give: &Give) -> bool {
    let inside = |outer: &str| format!("{outer}/{}", name.trim_start_matches("./"));
    let file = FoundFile { path: archive.path.clone(), name: inside(&archive.name), shown: inside(&archive.shown) };
    give.send(Ok(Member { file, content })).is_ok()
}

/// A member's bytes, unpacked where they are packed themselves.
pub(crate) fn unpacked(file: &FoundFile, bytes: Vec<u8>) -> Result<Box<dyn BufRead>, FileError> {
    crate::files::unpacking(&file.path, bytes.len() as u64, io::Cursor::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_are_known() {
        for name in ["../a.txt", "x/../../a.txt", "/etc/a.txt", "..\\a.txt", "\\a.txt", "C:\\a.txt", "c:/a.txt", "x/.."]
        {
            assert!(leads_out(name), "{name}");
        }
        for name in ["a.txt", "./x/a.txt", "x/..a.txt", "x/a..txt", "a: b.txt", "..."] {
            assert!(!leads_out(name), "{name}");
        }
    }

    #[test]
    fn too_many_members_are_refused() {
        assert!(check_count(MAX_MEMBERS).is_ok());
        let error = check_count(MAX_MEMBERS + 1).unwrap_err();
        assert_eq!(refusal(&error).unwrap().name(), "too_many_members");
    }
}
