//! TensorBoard event files with scalars, written by hand.
//!
//! A file is a run of TFRecords: length (`u64`), masked CRC-32C of the length, bytes, masked CRC-32C of the bytes, all
//! little-endian. The bytes are an `Event` protocol buffer, of which four fields are needed: wall time, step, file
//! version, and a summary of one tag and one value.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use fs_err as fs;

const FILE_VERSION: &str = "brain.Event:2";

// Keys of protocol buffer fields: number << 3 | wire type (0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes).
const EVENT_WALL_TIME: u8 = 1 << 3 | 1;
const EVENT_STEP: u8 = 2 << 3;
const EVENT_FILE_VERSION: u8 = 3 << 3 | 2;
const EVENT_SUMMARY: u8 = 5 << 3 | 2;
const SUMMARY_VALUE: u8 = 1 << 3 | 2;
const VALUE_TAG: u8 = 1 << 3 | 2;
const VALUE_SIMPLE_VALUE: u8 = 2 << 3 | 5;

const HEADER_BYTES: usize = 12;
const FOOTER_BYTES: usize = 4;

/// The name of a new event file: TensorBoard shows every file whose name contains `tfevents`.
pub fn file_name(wall_time_s: f64) -> String {
    format!("events.out.tfevents.{}.arable", wall_time_s.max(0.0) as u64)
}

/// Writes scalars to one event file. Events reach the disk with `flush` or when the writer is dropped.
pub struct EventWriter {
    file: BufWriter<fs::File>,
}

impl EventWriter {
    /// Starts a new file, over an old one of the same name. `wall_time_s` is in seconds since 1970.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path, wall_time_s: f64) -> io::Result<Self> {
        let mut writer = Self { file: BufWriter::new(fs::File::create(path)?) };
        writer.record(&version_event(wall_time_s))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Goes on with a file after its last whole record; a torn tail is cut off. Starts the file where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn append_to(path: &Path, wall_time_s: f64) -> io::Result<Self> {
        let bytes = read_or_empty(path)?;
        let num_valid = records(&bytes).last().map_or(0, |record| record.end);
        if num_valid == 0 {
            return Self::create(path, wall_time_s);
        }
        let file = fs::OpenOptions::new().append(true).open(path)?;
        file.set_len(num_valid as u64)?;
        Ok(Self { file: BufWriter::new(file) })
    }

    /// Writes one value of the curve called `tag`. Tags with a slash are grouped by what stands before it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time_s: f64, value: f64) -> io::Result<()> {
        self.record(&scalar_event(tag, step, wall_time_s, value))
    }

    /// Hands everything written so far to the operating system, so that TensorBoard sees it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn record(&mut self, event: &[u8]) -> io::Result<()> {
        self.file.write_all(&framed(event))
    }
}

/// What `truncate_after` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Records kept.
    pub num_kept: usize,
    /// Whole records dropped because their step comes after.
    pub num_dropped: usize,
    /// Bytes of a torn or damaged tail.
    pub num_torn_bytes: usize,
}

/// Rewrites a file with its whole records up to and including `step`, so that a run which resumes from `step` does not
/// show two values for the steps it does again. A file that does not exist stays so.
///
/// # Errors
/// When the file cannot be read or written.
pub fn truncate_after(path: &Path, step: u64) -> io::Result<Truncated> {
    let bytes = read_or_empty(path)?;
    let mut kept = Vec::with_capacity(bytes.len());
    let mut report = Truncated { num_kept: 0, num_dropped: 0, num_torn_bytes: bytes.len() };
    for record in records(&bytes) {
        if event_step(record.event) <= step {
            kept.extend_from_slice(&bytes[record.start..record.end]);
            report.num_kept += 1;
        } else {
            report.num_dropped += 1;
        }
        report.num_torn_bytes = bytes.len() - record.end;
    }
    if kept.len() < bytes.len() {
        replace(path, &kept)?;
    }
    Ok(report)
}

/// A crash leaves either the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = fs::File::create(&name)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&name, path)
}

fn read_or_empty(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// One whole record of a file.
struct Record<'a> {
    start: usize,
    end: usize,
    event: &'a [u8],
}

/// The whole records from the start of a file up to the first that is torn or damaged.
fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let event = event_at(bytes.get(start..)?)?;
        let end = start + HEADER_BYTES + event.len() + FOOTER_BYTES;
        let record = Record { start, end, event };
        start = end;
        Some(record)
    })
}

fn event_at(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (length_crc, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*length_crc) != masked_crc(length) {
        return None;
    }
    let (event, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let crc = rest.first_chunk::<4>()?;
    (u32::from_le_bytes(*crc) == masked_crc(event)).then_some(event)
}

fn framed(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(HEADER_BYTES + event.len() + FOOTER_BYTES);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(event);
    out.extend_from_slice(&masked_crc(event).to_le_bytes());
    out
}

/// CRC-32C rotated and shifted, as TFRecord wants it, so that a checksum of bytes with checksums in them stays strong.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn version_event(wall_time_s: f64) -> Vec<u8> {
    let mut event = vec![EVENT_WALL_TIME];
    event.extend_from_slice(&wall_time_s.to_le_bytes());
    put_bytes(&mut event, EVENT_FILE_VERSION, FILE_VERSION.as_bytes());
    event
}

fn scalar_event(tag: &str, step: u64, wall_time_s: f64, value: f64) -> Vec<u8> {
    let mut entry = Vec::new();
    put_bytes(&mut entry, VALUE_TAG, tag.as_bytes());
    entry.push(VALUE_SIMPLE_VALUE);
    entry.extend_from_slice(&(value as f32).to_le_bytes());
    let mut summary = Vec::new();
    put_bytes(&mut summary, SUMMARY_VALUE, &entry);

    let mut event = vec![EVENT_WALL_TIME];
    event.extend_from_slice(&wall_time_s.to_le_bytes());
    event.push(EVENT_STEP);
    put_varint(&mut event, step);
    put_bytes(&mut event, EVENT_SUMMARY, &summary);
    event
}

fn put_bytes(out: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    out.push(key);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The step of an event; 0 for one without, such as the file version.
fn event_step(event: &[u8]) -> u64 {
    let step = |(key, field): (u64, Field<'_>)| match field {
        Field::Varint(step) if key == u64::from(EVENT_STEP) => Some(step),
        _ => None,
    };
    fields(event).find_map(step).unwrap_or(0)
}

/// The content of one field of a protocol buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message by key, up to the first that is not understood.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let key = take_varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Varint(take_varint(&mut message)?),
            1 => Field::Bytes(take(&mut message, 8)?),
            2 => {
                let length = take_varint(&mut message)?;
                Field::Bytes(take(&mut message, length)?)
            }
            5 => Field::Bytes(take(&mut message, 4)?),
            _ => return None,
        };
        Some((key, field))
    })
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (head, rest) = message.split_at_checked(usize::try_from(length).ok()?)?;
    *message = rest;
    Some(head)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tag, step and value of every scalar in a file.
    fn scalars(path: &Path) -> Vec<(String, u64, f32)> {
        let bytes = fs::read(path).unwrap();
        records(&bytes).filter_map(|record| scalar(record.event)).collect()
    }

    fn inside(message: &[u8], key: u8) -> Option<&[u8]> {
        fields(message).find_map(|(own, field)| match field {
            Field::Bytes(bytes) if own == u64::from(key) => Some(bytes),
            _ => None,
        })
    }

    fn scalar(event: &[u8]) -> Option<(String, u64, f32)> {
        let entry = inside(inside(event, EVENT_SUMMARY)?, SUMMARY_VALUE)?;
        let tag = String::from_utf8(inside(entry, VALUE_TAG)?.to_vec()).unwrap();
        let value = f32::from_le_bytes(inside(entry, VALUE_SIMPLE_VALUE)?.try_into().unwrap());
        Some((tag, event_step(event), value))
    }

    fn write_steps(path: &Path, steps: &[u64]) {
        let mut writer = EventWriter::append_to(path, 1.7e9).unwrap();
        for &step in steps {
            writer.scalar("train/loss", step, 1.7e9 + step as f64, step as f64 / 2.0).unwrap();
        }
    }

    fn steps(path: &Path) -> Vec<u64> {
        scalars(path).into_iter().map(|scalar| scalar.1).collect()
    }

    #[test]
    fn bytes_are_those_of_tensorflow() {
        // The first record of every file that TensorFlow writes, here at wall time 0.
        let expected = b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22\x09\0\0\0\0\0\0\0\0\x1a\x0dbrain.Event:2";
        let record = framed(&version_event(0.0));
        assert_eq!(&record[..expected.len()], expected);
        // RFC 3720, appendix B.4: thirty-two zero bytes have the CRC-32C 0x8a9136aa.
        assert_eq!(masked_crc(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file_name(1.7e9));
        write_steps(&path, &[1, 300]);
        write_steps(&path, &[1 << 40]);
        let expected = [(1, 0.5), (300, 150.0), (1 << 40, (1_u64 << 39) as f32)];
        assert_eq!(scalars(&path), expected.map(|(step, value)| ("train/loss".to_owned(), step, value)));
    }

    #[test]
    fn truncation_keeps_the_step_and_survives_a_torn_tail() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        write_steps(&path, &[1, 2, 3, 4]);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let report = truncate_after(&path, 2).unwrap();
        assert_eq!((report.num_kept, report.num_dropped), (3, 1), "the version and two scalars stay");
        assert!(report.num_torn_bytes > 0);
        assert_eq!(steps(&path), [1, 2]);
        write_steps(&path, &[3]);
        assert_eq!(steps(&path), [1, 2, 3]);
        let missing = folder.path().join("missing");
        assert_eq!(truncate_after(&missing, 2).unwrap().num_kept, 0);
        assert!(!missing.exists());
    }

    #[test]
    fn appending_cuts_any_torn_tail() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        write_steps(&path, &[1, 2]);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            write_steps(&path, &[9]);
            assert_eq!(steps(&path).last(), Some(&9), "cut at {length}");
        }
        let mut damaged = whole.clone();
        damaged[60] ^= 1;
        fs::write(&path, &damaged).unwrap();
        write_steps(&path, &[9]);
        assert_eq!(steps(&path), [9]);
    }

    #[test]
    #[ignore = "writes a file for TensorBoard's own reader"]
    fn write_example() {
        let path = std::env::temp_dir().join("arable-tensorboard").join(file_name(1.7e9));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::remove_file(&path).ok();
        write_steps(&path, &(0..200).collect::<Vec<_>>());
        truncate_after(&path, 99).unwrap();
        write_steps(&path, &(100..150).collect::<Vec<_>>());
    }
}
