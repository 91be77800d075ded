//! Lines of a file with their numbers and a limit to their length.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

/// The longest line (and the longest file of plain text) that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 64 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A line without its end.
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    /// Empty for a line that is too long.
    pub(crate) bytes: Vec<u8>,
    /// Whether the line passes the limit.
    pub(crate) too_long: bool,
}

impl Line {
    /// Whether there is nothing but white space.
    pub(crate) fn is_blank(&self) -> bool {
        !self.too_long && self.bytes.iter().all(u8::is_ascii_whitespace)
    }
}

/// The lines of a reader: `\n` or `\r\n` at their ends, a byte order mark at the start skipped.
pub(crate) struct Lines {
    reader: Box<dyn BufRead>,
    num_read: u64,
    max_bytes: usize,
    returned: VecDeque<Line>,
}

impl Lines {
    pub(crate) fn new(reader: Box<dyn BufRead>) -> Self {
        Self { reader, num_read: 0, max_bytes: MAX_BYTES, returned: VecDeque::new() }
    }

    /// The longest line that is read, in bytes.
    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// The next line, or `None` after the last.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Line>> {
        match self.returned.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read_line(),
        }
    }

    /// Gives lines back, so that they are the next ones again, in the order given.
    pub(crate) fn give_back(&mut self, lines: Vec<Line>) {
        lines.into_iter().rev().for_each(|line| self.returned.push_front(line));
    }

    fn read_line(&mut self) -> io::Result<Option<Line>> {
        let limit = self.max_bytes as u64 + 1;
        let mut bytes = Vec::new();
        let num_bytes = (&mut self.reader).take(limit).read_until(b'\n', &mut bytes)?;
        if num_bytes == 0 {
            return Ok(None);
        }
        self.num_read += 1;
        let too_long = num_bytes as u64 == limit && !bytes.ends_with(b"\n");
        if too_long {
            bytes = Vec::new();
            self.reader.skip_until(b'\n')?;
        }
        trim_line(&mut bytes, self.num_read == 1);
        Ok(Some(Line { number: self.num_read, bytes, too_long }))
    }
}

fn trim_line(bytes: &mut Vec<u8>, is_first: bool) {
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    if bytes.ends_with(b"\r") {
        bytes.pop();
    }
    if is_first && bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &'static str, max_bytes: usize, expected: &[(u64, &str, bool)]) {
        let mut lines = Lines { max_bytes, ..Lines::new(Box::new(text.as_bytes())) };
        let mut got = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            got.push((line.number, String::from_utf8(line.bytes).unwrap(), line.too_long));
        }
        let expected: Vec<_> =
            expected.iter().map(|(number, text, long)| (*number, (*text).to_owned(), *long)).collect();
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn line_ends_marks_and_limits() {
        check("", 9, &[]);
        check("\u{feff}a\r\n\nb", 9, &[(1, "a", false), (2, "", false), (3, "b", false)]);
        check("123456\n12345\n123456", 5, &[(1, "", true), (2, "12345", false), (3, "", true)]);
    }

    #[test]
    fn lines_given_back_come_again_in_order() {
        let mut lines = Lines::new(Box::new("a\nb\nc".as_bytes()));
        let first = lines.next_line().unwrap().unwrap();
        let second = lines.next_line().unwrap().unwrap();
        lines.give_back(vec![first, second]);
        for expected in ["a", "b", "c"] {
            assert_eq!(lines.next_line().unwrap().unwrap().bytes, expected.as_bytes());
        }
    }
}
