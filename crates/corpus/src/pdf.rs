//! The text of a PDF, read by a process of its own: what reads PDF may fail, hang or grow on odd files, and a run must not.
//!
//! The program starts itself, with one argument that `cli` knows; the process reads a PDF from its standard input and
//! writes what it found to its standard output. Whatever becomes of it, the worst is a rejected file.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::Duration;

use pdf_extract::{Document, OutputError, PlainTextOutput, output_doc_page};
use regex::Regex;

use crate::lines::MAX_BYTES;
use crate::reject::RejectReason;

/// The hidden command that makes the program a reader of one PDF.
pub const PDF_COMMAND: &str = "read-pdf";

/// What the answer begins with: another program, or another version, would say something else.
const TEXT: &[u8] = b"arable-pdf-1 text\n";
const PROBLEM: &[u8] = b"arable-pdf-1 problem\n";

/// What one PDF may take.
const MAX_MEMORY: u64 = 2 << 30;
const MAX_CPU_S: u64 = 60;
const MAX_WALL: Duration = Duration::from_secs(120);

/// The text of a PDF, by a process of its own; why there is none where it fails, hangs or takes too much.
pub(crate) fn pdf_text(bytes: Vec<u8>) -> Result<String, RejectReason> {
    let unreadable = |problem: String| RejectReason::Unreadable { problem };
    let answer = ask(bytes).map_err(|error| unreadable(format!("its reader cannot be started: {error}")))?;
    let answer = answer.map_err(unreadable)?;
    if answer.len() > MAX_BYTES {
        return Err(RejectReason::TooLong { max_bytes: MAX_BYTES });
    }
    match (answer.strip_prefix(TEXT), answer.strip_prefix(PROBLEM)) {
        (Some(text), _) => String::from_utf8(text.to_vec()).map_err(|_| RejectReason::InvalidUtf8),
        (_, Some(problem)) => Err(unreadable(String::from_utf8_lossy(problem).into_owned())),
        _ => Err(unreadable("this program has no reader for it".to_owned())),
    }
}

/// What the process says, or how it ended without saying anything.
fn ask(bytes: Vec<u8>) -> io::Result<Result<Vec<u8>, String>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(PDF_COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn()?;
    let (input, output) = (process.stdin.take(), process.stdout.take());
    let (Some(mut input), Some(output)) = (input, output) else { return Err(io::ErrorKind::BrokenPipe.into()) };
    // A process that ends before it has read everything has said why, or how it ended says it.
    spawn(move || drop(input.write_all(&bytes)));
    let (give, answer) = channel();
    spawn(move || {
        let mut answer = Vec::new();
        let result = output.take(MAX_BYTES as u64 + 1).read_to_end(&mut answer);
        // Nobody is left to hear it after the time is over.
        drop(give.send(result.map(|_| answer)));
    });
    let answer = match answer.recv_timeout(MAX_WALL) {
        Ok(answer) => answer?,
        Err(_) => {
            process.kill()?;
            process.wait()?;
            return Ok(Err(format!("its reader took more than {} s", MAX_WALL.as_secs())));
        }
    };
    let status = process.wait()?;
    Ok(if answer.is_empty() { Err(format!("its reader failed ({status})")) } else { Ok(answer) })
}

/// Reads a PDF from `input` and writes its text, or what is wrong with it, to `output`: what the process does. Limits the
/// process for good.
///
/// # Errors
/// When the limits cannot be set, or nothing can be read or written.
pub fn read_pdf(mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    limit()?;
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    // Written at once: a reader that fails on the way has said nothing.
    let (start, said) = match extract(&bytes) {
        Ok(text) => (TEXT, text),
        Err(error) => (PROBLEM, error.to_string()),
    };
    output.write_all(&[start, said.as_bytes()].concat())?;
    output.flush()
}

#[cfg(unix)]
fn limit() -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    for (resource, most) in [(Resource::RLIMIT_AS, MAX_MEMORY), (Resource::RLIMIT_CPU, MAX_CPU_S)] {
        let (_, allowed) = getrlimit(resource)?;
        setrlimit(resource, most.min(allowed), allowed)?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn limit() -> io::Result<()> {
    Ok(())
}

/// The pages of a PDF, set off by blank lines.
fn extract(bytes: &[u8]) -> Result<String, OutputError> {
    let mut document = Document::load_mem(bytes)?;
    if document.is_encrypted() {
        document.decrypt("")?;
    }
    let mut pages = Vec::new();
    for number in document.get_pages().into_keys() {
        let mut page = String::new();
        output_doc_page(&document, &mut PlainTextOutput::new(&mut page), number)?;
        pages.push(tidy(&page));
    }
    pages.retain(|page| !page.is_empty());
    Ok(pages.join("\n\n"))
}

/// Joins words that a line end cuts, and leaves one blank line where there are several.
fn tidy(page: &str) -> String {
    static CUT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\p{L})[-\u{ad}\u{2010}][ \t]*\n[ \t]*(\p{Ll})").expect("a constant pattern"));
    static BLANK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[ \t]*\n(?:[ \t]*\n)+").expect("a constant pattern"));
    let joined = CUT.replace_all(page.trim(), "$1$2");
    BLANK.replace_all(&joined, "\n\n").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_words_are_joined_and_blank_lines_are_single() {
        assert_eq!(tidy("\n\nThe exam-\nple of pre-\n1900 art\n \n\n\nEnd \n"), "The example of pre-\n1900 art\n\nEnd");
    }

    #[test]
    fn another_program_is_no_reader() {
        // The program is this test, which takes the command for a filter.
        let reason = pdf_text(b"%PDF-1.4".to_vec()).unwrap_err();
        assert_eq!(reason.to_string(), "not readable: this program has no reader for it");
        assert!(extract(b"%PDF-1.4 and no more").is_err());
    }
}
