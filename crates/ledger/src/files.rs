//! Files that are whole or absent: write beside the name, sync, rename, sync the folder.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use arable_core::{Digest, Digester};
use fs_err as fs;

/// What the names of unfinished files and folders end in.
const UNFINISHED: &str = ".tmp";

/// Bytes read at a time when hashing.
const CHUNK: usize = 1 << 20;

/// `path` with `suffix` at its end, beside it.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The name under which `path` is written before it is renamed.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    with_suffix(path, UNFINISHED)
}

/// Whether `path` is the rest of a write that was interrupted; such files and folders may be deleted at any time.
pub fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(UNFINISHED))
}

/// The folder that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Makes the entries of a folder durable. Elsewhere than on Unix a folder cannot be opened, and the rename has to do.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Makes a folder and those above it, durably; one that exists is fine.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    make_folder(parent(folder))?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(parent(folder)),
    }
}

/// Writes a file so that its name holds the old content or the new one, never a part: temporary file, fsync, rename,
/// fsync of the folder. One writer per path at a time.
///
/// # Errors
/// When writing fails; the old content, if there was one, is then still in place.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = unfinished(path);
    if let Err(error) = write_synced(&beside, bytes) {
        // What was written is worthless, and on a full disk its space is needed.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    fs::rename(&beside, path)?;
    sync_folder(parent(path))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Moves a finished folder to its name and makes the move durable.
pub(crate) fn move_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(parent(to))
}

/// Removes a folder with all it holds; one that is not there is fine.
pub(crate) fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The size in bytes and the digest of what `reader` gives.
pub(crate) fn digest(reader: &mut impl Read) -> io::Result<(u64, Digest)> {
    let mut digester = Digester::default();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let got = reader.read(&mut buffer)?;
        if got == 0 {
            return Ok((bytes, digester.finish()));
        }
        digester.update(&buffer[..got]);
        bytes += got as u64;
    }
}

/// The entries of a folder, sorted by name.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_replaces_whole_files_and_leaves_nothing_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(entries(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomic(&path, b"old").unwrap();
        fs::create_dir(unfinished(&path)).unwrap();
        assert!(write_atomic(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn hashing_in_pieces_equals_hashing_at_once() {
        let bytes: Vec<u8> = (0..CHUNK + 77).map(|i| (i % 251) as u8).collect();
        assert_eq!(digest(&mut bytes.as_slice()).unwrap(), (bytes.len() as u64, Digest::of(&bytes)));
    }
}
