//! Text in other encodings than UTF-8, told by its bytes and turned into UTF-8 while it is read.
//!
//! UTF-8 passes through unchanged. The first bytes that are not UTF-8 decide, once for a file: where UTF-8 letters stood
//! before them, or outnumber them in what follows, the file is UTF-8 with broken bytes, which spoil their records alone.
//! Otherwise it is in the encoding that it declares, or that `chardetng`, the detector of Firefox, tells from what follows.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;
use std::sync::LazyLock;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{
    Decoder, DecoderResult, Encoding, ISO_2022_JP, ISO_8859_2, ISO_8859_4, ISO_8859_13, UTF_8, UTF_16BE, UTF_16LE,
    WINDOWS_1250, WINDOWS_1252, WINDOWS_1254, WINDOWS_1257, WINDOWS_1258,
};
use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An encoding of text, by any of its names on the web (the labels of the WHATWG standard).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct TextEncoding(&'static Encoding);

/// A name that no encoding has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an encoding such as `utf-8`, `windows-1252`, `utf-16le` or `shift_jis`, got `{label}`")]
pub struct UnknownEncoding {
    /// The name.
    label: String,
}

impl TextEncoding {
    /// The name that the standard prefers, such as `windows-1252` for `latin1`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

impl TryFrom<String> for TextEncoding {
    type Error = UnknownEncoding;

    fn try_from(label: String) -> Result<Self, UnknownEncoding> {
        Encoding::for_label_no_replacement(label.as_bytes()).map(Self).ok_or(UnknownEncoding { label })
    }
}

impl From<TextEncoding> for String {
    fn from(encoding: TextEncoding) -> Self {
        encoding.name().to_owned()
    }
}

/// What a file was decoded from, once that is known; `None` for UTF-8.
pub(crate) type Decoded = Rc<Cell<Option<TextEncoding>>>;

/// Read at a time, and looked at to tell an encoding.
const CHUNK: usize = 64 << 10;

/// A reader that gives UTF-8. Bytes that are none, and none of the encoding told, stay bytes that are not UTF-8.
pub(crate) struct Utf8Reader {
    reader: Box<dyn BufRead>,
    state: State,
    decoded: Decoded,
    /// What a page of markup says about itself.
    declared: Option<&'static Encoding>,
    /// Read, and not looked at.
    held: Vec<u8>,
    at_end: bool,
    /// What may be given, from `given_to` on.
    given: Vec<u8>,
    given_to: usize,
}

enum State {
    /// Nothing is known. `Some` is what a person says.
    Start(Option<TextEncoding>),
    /// All UTF-8 so far; whether any of it was more than ASCII.
    Utf8 {
        is_beyond_ascii: bool,
    },
    /// UTF-8, whatever comes.
    Passing,
    Decoding(Box<Decoder>),
}

impl Utf8Reader {
    /// Reads text in `encoding`, or in the one that its bytes tell. `may_declare` is for HTML and XML, which can name it.
    pub(crate) fn new(
        reader: Box<dyn BufRead>,
        encoding: Option<TextEncoding>,
        may_declare: bool,
        decoded: Decoded,
    ) -> io::Result<Self> {
        let (state, held, given) = (State::Start(encoding), Vec::new(), Vec::new());
        let mut text = Self { reader, state, decoded, declared: None, held, at_end: false, given, given_to: 0 };
        text.hold(CHUNK)?;
        text.declared = declared(&text.held).filter(|_| may_declare);
        Ok(text)
    }

    /// Reads until `len` bytes are held or nothing is left.
    fn hold(&mut self, len: usize) -> io::Result<()> {
        while self.held.len() < len && !self.at_end {
            let bytes = self.reader.fill_buf()?;
            let num_bytes = bytes.len();
            self.held.extend_from_slice(bytes);
            self.reader.consume(num_bytes);
            self.at_end = num_bytes == 0;
        }
        Ok(())
    }

    /// Makes more of what is read ready to be given; nothing at the end.
    fn advance(&mut self) -> io::Result<()> {
        self.given.clear();
        self.given_to = 0;
        while self.given.is_empty() && !(self.at_end && self.held.is_empty()) {
            self.hold(CHUNK)?;
            match &mut self.state {
                State::Start(told) => {
                    let told = *told;
                    self.start(told);
                }
                State::Utf8 { is_beyond_ascii } => {
                    let was_beyond_ascii = *is_beyond_ascii;
                    self.check(was_beyond_ascii)?;
                }
                State::Passing => std::mem::swap(&mut self.held, &mut self.given),
                State::Decoding(decoder) => decode(decoder, &mut self.held, self.at_end, &mut self.given),
            }
        }
        Ok(())
    }

    fn start(&mut self, told: Option<TextEncoding>) {
        let stateful = self.declared.filter(|declared| *declared == ISO_2022_JP);
        let found = match told {
            Some(TextEncoding(encoding)) => Some(encoding),
            None => Encoding::for_bom(&self.held).map(|(encoding, _)| encoding).filter(|own| *own != UTF_8),
        };
        match found.or_else(|| utf16_without_mark(&self.held)).or(stateful) {
            Some(encoding) if encoding == UTF_8 => self.state = State::Passing,
            Some(encoding) => self.decode_from(encoding),
            None => self.state = State::Utf8 { is_beyond_ascii: false },
        }
    }

    fn decode_from(&mut self, encoding: &'static Encoding) {
        self.decoded.set(Some(TextEncoding(encoding)));
        self.state = State::Decoding(Box::new(encoding.new_decoder()));
    }

    /// Gives what is UTF-8, and decides at the first byte that is not.
    fn check(&mut self, was_beyond_ascii: bool) -> io::Result<()> {
        let (num_good, is_broken) = match std::str::from_utf8(&self.held) {
            Ok(text) => (text.len(), false),
            Err(error) => (error.valid_up_to(), error.error_len().is_some() || self.at_end),
        };
        let is_beyond_ascii = was_beyond_ascii || !self.held[..num_good].is_ascii();
        if !is_broken {
            self.state = State::Utf8 { is_beyond_ascii };
            let rest = self.held.split_off(num_good);
            self.given = std::mem::replace(&mut self.held, rest);
            return Ok(());
        }
        self.hold(num_good + CHUNK)?;
        self.state = State::Passing;
        if !is_beyond_ascii && !is_mostly_utf8(&self.held) {
            let declared = self.declared.filter(|own| *own != UTF_8);
            if let Some(encoding) = declared.or_else(|| guess(&self.held, num_good, self.at_end)) {
                self.decode_from(encoding);
            }
        }
        Ok(())
    }
}

/// Decodes all that is held. What cannot be decoded becomes a byte that is not UTF-8, so that its record is rejected.
fn decode(decoder: &mut Decoder, held: &mut Vec<u8>, is_last: bool, given: &mut Vec<u8>) {
    let mut bytes = &held[..];
    loop {
        let len = given.len();
        let most = decoder.max_utf8_buffer_length_without_replacement(bytes.len());
        given.resize(len + most.expect("a chunk is far from the largest size"), 0);
        let (result, num_read, num_written) =
            decoder.decode_to_utf8_without_replacement(bytes, &mut given[len..], is_last);
        given.truncate(len + num_written);
        bytes = &bytes[num_read..];
        match result {
            DecoderResult::InputEmpty => break,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => given.push(0xff),
        }
    }
    held.clear();
}

impl Read for Utf8Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let num_bytes = self.fill_buf()?.read(buffer)?;
        self.consume(num_bytes);
        Ok(num_bytes)
    }
}

impl BufRead for Utf8Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.given_to == self.given.len() {
            self.advance()?;
        }
        Ok(&self.given[self.given_to..])
    }

    fn consume(&mut self, num_bytes: usize) {
        self.given_to += num_bytes;
    }
}

/// The encoding that HTML or XML names at its start.
fn declared(start: &[u8]) -> Option<&'static Encoding> {
    static NAMED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i-u)<(?:meta|\?xml)\s[^>]*?\b(?:charset|encoding)\s*=\s*["']?\s*([\w:.-]+)"#)
            .expect("a constant pattern")
    });
    let label = NAMED.captures(&start[..start.len().min(1024)])?.get(1)?.as_bytes();
    let encoding = Encoding::for_label_no_replacement(label)?;
    // What could be read up to here is not UTF-16, whatever it says.
    Some(if encoding.is_ascii_compatible() || encoding == ISO_2022_JP { encoding } else { UTF_8 })
}

/// UTF-16 by its zero bytes: text has none, but UTF-16 has one beside every ASCII character.
fn utf16_without_mark(start: &[u8]) -> Option<&'static Encoding> {
    let start = &start[..start.len().min(1024) & !1];
    let num_zeros = |at: usize| start.iter().skip(at).step_by(2).filter(|byte| **byte == 0).count();
    let is_many = |num_zeros: usize| num_zeros * 20 > start.len();
    match (num_zeros(0), num_zeros(1)) {
        (0, low) if is_many(low) => Some(UTF_16LE),
        (high, 0) if is_many(high) => Some(UTF_16BE),
        _ => None,
    }
}

/// Whether letters in UTF-8 are at least as many as bytes that are not UTF-8. In other encodings few bytes happen to be
/// UTF-8: at most every sixth character of Chinese in GBK, almost none elsewhere.
fn is_mostly_utf8(bytes: &[u8]) -> bool {
    let (mut num_letters, mut num_broken) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        num_letters += chunk.valid().chars().filter(|char| !char.is_ascii()).count();
        num_broken += usize::from(!chunk.invalid().is_empty());
    }
    num_letters >= num_broken
}

/// The encoding that bytes look like, which are ASCII up to `num_good`; `None` where they look like no text at all.
fn guess(bytes: &[u8], num_good: usize, is_all: bool) -> Option<&'static Encoding> {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, is_all);
    let mut encoding = detector.guess(None, Utf8Detection::Deny);
    let (mut text, _) = encoding.decode_without_bom_handling(&bytes[num_good..]);
    if is_latin(encoding) && !has_many_accents(&text) {
        encoding = WINDOWS_1252;
        text = encoding.decode_without_bom_handling(&bytes[num_good..]).0;
    }
    let num_beyond_ascii = text.chars().filter(|char| !char.is_ascii()).count();
    let num_odd = text.chars().filter(|char| is_odd(*char)).count();
    (num_odd * 10 <= num_beyond_ascii).then_some(encoding)
}

/// Encodings of languages whose every second word has an accent. A few odd signs in English look like them, too.
fn is_latin(encoding: &'static Encoding) -> bool {
    [ISO_8859_2, ISO_8859_4, ISO_8859_13, WINDOWS_1250, WINDOWS_1254, WINDOWS_1257, WINDOWS_1258].contains(&encoding)
}

fn has_many_accents(text: &str) -> bool {
    let (plain, accented): (Vec<char>, Vec<char>) =
        text.chars().filter(|char| char.is_alphabetic()).partition(char::is_ascii);
    accented.len() * 25 > plain.len()
}

/// Whether a character is one that bytes other than text turn into: controls, and what stands for 0xff.
fn is_odd(char: char) -> bool {
    let is_control = char.is_control() && !matches!(char, '\t' | '\n' | '\r' | '\x0c' | '\x1a');
    is_control || matches!(char, '\u{fffd}' | '\u{ff}' | '\u{2500}'..='\u{259f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GERMAN: &str = "Die Bäume blühten früh; über dem Fluß hingen Nebelschwaden. „Schön“, sagte Jürgen.\n";
    const FRENCH: &str = "L'été dernier, le garçon a mangé des crêpes à la crème près de la forêt.\n";
    const ENGLISH: &str =
        "Nearly ½ of the patients improved, as naïve readers of the first report had hoped all along.\n";
    const POLISH: &str = "Żółta łódź płynęła powoli, a dzieci śmiały się i machały rękami z brzegu.\n";
    const GREEK: &str = "Η γλώσσα μας αλλάζει κάθε μέρα και κανείς δεν ξέρει πώς θα είναι αύριο.\n";
    const RUSSIAN: &str = "Вчера вечером мы долго гуляли по набережной и говорили о книгах.\n";
    const JAPANESE: &str = "昨日は友達と一緒に図書館へ行きました。本を三冊借りて、夜まで読んでいました。\n";
    const CHINESE: &str = "昨天晚上我们在图书馆看书，后来一起去吃饭，大家都很高兴。\n";

    fn encode(text: &str, label: &str) -> Vec<u8> {
        let big = label == "utf-16be";
        let unit = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        match label {
            "utf-16le" | "utf-16be" => text.encode_utf16().flat_map(unit).collect(),
            _ => {
                let (bytes, encoding, is_lossy) = Encoding::for_label(label.as_bytes()).unwrap().encode(text);
                assert!(!is_lossy, "{text} in {}", encoding.name());
                bytes.into_owned()
            }
        }
    }

    /// What is read, seven bytes at a time and all at once, and what it was decoded from.
    fn read(bytes: &[u8], encoding: Option<&str>, may_declare: bool) -> (Vec<u8>, Option<&'static str>) {
        let encoding = encoding.map(|label| TextEncoding::try_from(label.to_owned()).unwrap());
        let read = |capacity| {
            let decoded = Decoded::default();
            let reader = Box::new(io::BufReader::with_capacity(capacity, io::Cursor::new(bytes.to_vec())));
            let mut text = Vec::new();
            let mut reader = Utf8Reader::new(reader, encoding, may_declare, Decoded::clone(&decoded)).unwrap();
            reader.read_to_end(&mut text).unwrap();
            (text, decoded.get().map(TextEncoding::name))
        };
        assert_eq!(read(7), read(1 << 16));
        read(7)
    }

    fn check(text: &str, label: &str) {
        for text in [text.to_owned(), format!("{}{text}", "Only ASCII here.\n".repeat(9_000)), text.repeat(3_000)] {
            let (got, decoded) = read(&encode(&text, label), None, false);
            assert_eq!(String::from_utf8(got).unwrap(), text, "{label}");
            assert!(decoded.is_some(), "{label}");
        }
    }

    #[test]
    fn what_is_not_utf8_is_told_by_its_bytes() {
        for (text, labels) in [
            (GERMAN, &["windows-1252"][..]),
            (FRENCH, &["windows-1252", "latin1"]),
            (ENGLISH, &["windows-1252"]),
            (POLISH, &["windows-1250", "iso-8859-2"]),
            (GREEK, &["windows-1253"]),
            (RUSSIAN, &["windows-1251", "koi8-r"]),
            (JAPANESE, &["shift_jis", "euc-jp"]),
            (CHINESE, &["gbk"]),
        ] {
            labels.iter().for_each(|label| check(text, label));
        }
    }

    #[test]
    fn utf_16_is_told_by_its_mark_or_by_zeros() {
        for label in ["utf-16le", "utf-16be"] {
            for text in [GERMAN, RUSSIAN, JAPANESE] {
                let (got, decoded) = read(&encode(&format!("\u{feff}{text}"), label), None, false);
                assert_eq!((std::str::from_utf8(&got), decoded), (Ok(text), Some(&*label.to_uppercase())));
            }
            let text = format!("{{\"text\": \"{RUSSIAN}\"}}");
            assert_eq!(read(&encode(&text, label), None, false).0, text.as_bytes());
        }
    }

    #[test]
    fn utf_8_with_broken_bytes_stays_what_it_is() {
        let mixed = [GERMAN.as_bytes(), b"\xe4\xfc broken\n", GERMAN.as_bytes()].concat();
        let after = [b"\xe4 broken\n", RUSSIAN.as_bytes()].concat();
        let binary = [&b"PK\x03\x04"[..], &[0, 159, 146, 150, 255, 0, 7].repeat(40)].concat();
        for bytes in [mixed, after, binary, b"b\xffd\n".to_vec(), Vec::new()] {
            assert_eq!(read(&bytes, None, false), (bytes, None));
        }
        let whole = format!("\u{feff}{JAPANESE}").repeat(2_000);
        assert_eq!(read(whole.as_bytes(), None, true), (whole.into_bytes(), None));
    }

    #[test]
    fn what_is_set_or_declared_is_used() {
        assert_eq!(read(b"caf\xe9", Some("cp1251"), false), ("cafй".into(), Some("windows-1251")));
        assert_eq!(read(b"caf\xe9", Some("utf8"), false), (b"caf\xe9".to_vec(), None));
        assert_eq!(read(b"a\xffb", Some("shift_jis"), false), (b"a\xffb".to_vec(), Some("Shift_JIS")));
        let declared = b"<?xml version='1.0' encoding='ISO-8859-5'?><a>\xb6</a>";
        let text = "<?xml version='1.0' encoding='ISO-8859-5'?><a>Ж</a>";
        assert_eq!(read(declared, None, true), (text.into(), Some("ISO-8859-5")));
        let page = b"<meta http-equiv=x content=\"text/html; charset=koi8-r\"><p>\xf6";
        assert_eq!(read(page, None, true).1, Some("KOI8-R"));
        assert_eq!(read("<meta charset=latin1>ж".as_bytes(), None, true).1, None);
        let error = TextEncoding::try_from("latin-9".to_owned()).unwrap_err();
        assert!(error.to_string().ends_with("got `latin-9`"), "{error}");
    }
}
