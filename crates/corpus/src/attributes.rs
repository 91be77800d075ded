//! What is measured of every document: numbers that decisions are made on.
//!
//! Attributes say what a text is like, not whether it stays; that is said by one expression over them
//! ([`crate::decide`]). Most come from the filters of Gopher (Rae et al. 2021, table A1), C4 (Raffel et al. 2020) and
//! FineWeb (Penedo et al. 2024). Words are separated by white space, characters are Unicode scalars.

use std::collections::BTreeSet;

use crate::pii::find_pii;
use crate::repetition::{Repetition, repeated};
use crate::scorers::Scorers;
use crate::words::{hash_word, normalize, word_hashes};

/// Declares the attributes once: a field each, and their names with what they mean; those that need a table of the
/// configuration come last, with its name.
macro_rules! attributes {
    ($($(#[doc = $about:literal])+ $name:ident,)+; $($(#[doc = $what:literal])+ $relative:ident: $table:literal,)+) => {
        /// The attributes of a document. Shares are between 0 and 1; of nothing, they are 0.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Attributes {
            /// The language, as ISO 639-3 has it (`eng`); empty where it cannot be told.
            pub language: String,
            $($(#[doc = $about])+ pub $name: f64,)+
            $($(#[doc = $what])+ pub $relative: Option<f64>,)+
        }

        impl Attributes {
            /// The numbers and what they mean, in the order of [`Self::numbers`].
            pub const NUMBERS: &'static [(&'static str, &'static str)] = &[
                $((stringify!($name), concat!($($about),+)),)+
                $((stringify!($relative), concat!($($what),+)),)+
            ];
            /// The numbers that are there only with a table of the configuration, and its name.
            pub const RELATIVE: &'static [(&'static str, &'static str)] = &[$((stringify!($relative), $table),)+];

            /// From the language and what [`Self::numbers`] gives.
            pub(crate) fn of(
                language: String,
                [$($name,)+ $($relative),+]: [Option<f64>; Self::NUMBERS.len()],
            ) -> Self {
                Self { language, $($name: $name.unwrap_or_default(),)+ $($relative),+ }
            }

            /// The numbers, as far as they are there.
            pub fn numbers(&self) -> [Option<f64>; Self::NUMBERS.len()] {
                [$(Some(self.$name),)+ $(self.$relative),+]
            }
        }
    };
}

attributes! {
    /// Characters.
    num_chars,
    /// Words.
    num_words,
    /// Lines that hold more than white space.
    num_lines,
    /// Sentences: runs of text up to a full stop, question mark or exclamation mark before white space.
    num_sentences,
    /// Characters in a word, on average.
    mean_word_length,
    /// Words with a letter, as a share of all.
    alpha_word_ratio,
    /// Distinct words out of: the, be, to, of, and, that, have, with.
    num_stop_words,
    /// `#` for each word.
    hash_ratio,
    /// `...` and `…` for each word.
    ellipsis_ratio,
    /// Lines that begin with a bullet, as a share of all.
    bullet_line_ratio,
    /// Lines that end with an ellipsis, as a share of all.
    ellipsis_line_ratio,
    /// Lines that end with `.`, `!`, `?` or a quotation mark, as a share of all.
    terminal_line_ratio,
    /// Lines of at most 30 characters, as a share of all.
    short_line_ratio,
    /// Line breaks for each word.
    newlines_per_word,
    /// Lines that occurred before, as a share of all.
    duplicate_line_ratio,
    /// Characters in lines that occurred before, as a share of all.
    duplicate_line_char_ratio,
    /// Paragraphs that occurred before, as a share of all.
    duplicate_paragraph_ratio,
    /// Characters in paragraphs that occurred before, as a share of all.
    duplicate_paragraph_char_ratio,
    /// Characters in the most frequent run of 2 words, as a share of all.
    top_2gram_char_ratio,
    /// Characters in the most frequent run of 3 words, as a share of all.
    top_3gram_char_ratio,
    /// Characters in the most frequent run of 4 words, as a share of all.
    top_4gram_char_ratio,
    /// Characters in runs of 5 words that occurred before, as a share of all.
    duplicate_5gram_char_ratio,
    /// Characters in runs of 6 words that occurred before, as a share of all.
    duplicate_6gram_char_ratio,
    /// Characters in runs of 7 words that occurred before, as a share of all.
    duplicate_7gram_char_ratio,
    /// Characters in runs of 8 words that occurred before, as a share of all.
    duplicate_8gram_char_ratio,
    /// Characters in runs of 9 words that occurred before, as a share of all.
    duplicate_9gram_char_ratio,
    /// Characters in runs of 10 words that occurred before, as a share of all.
    duplicate_10gram_char_ratio,
    /// Distinct words, as a share of all.
    unique_word_ratio,
    /// Digits, as a share of all characters.
    digit_ratio,
    /// Capital letters, as a share of all letters.
    upper_ratio,
    /// Characters beyond ASCII, as a share of all.
    non_ascii_ratio,
    /// Characters that come from wrong decoding (`U+FFFD`, `Ã©`, `â€™`), as a share of all.
    encoding_fault_ratio,
    /// Characters that no text has (control characters but tab and line breaks), as a share of all.
    control_ratio,
    /// Lines with two tabs or bars at least, as a share of all.
    table_line_ratio,
    /// Lines that end with `{`, `}` or `;`, as a share of all.
    code_line_ratio,
    /// `{` and `}`.
    num_curly_brackets,
    /// Lines with the word "javascript".
    num_javascript_lines,
    /// Lines with words such as "cookie policy" or "terms of use".
    num_policy_lines,
    /// 1 where "lorem ipsum" occurs.
    lorem_ipsum,
    /// 1 where the text ends without a mark that ends a sentence.
    ends_open,
    /// Ease of reading (Flesch 1948): 100 is easy, 30 is a scientific paper. Meant for English.
    reading_ease,
    /// Bits by which a letter surprises after the one before it, on average, in a model of pairs of letters learned from
    /// the sources: high for what no language has.
    char_surprise,
    /// Personal data that has a form of its own, such as an e-mail address.
    num_pii,
    /// How sure the language is, between 0 and 1.
    language_confidence,
    /// Words and phrases of all the built-in lists below: a reason to look, not a verdict; what is used to abuse is also
    /// what medicine, law and history write about.
    num_hazard_terms,
    /// Insults and slurs.
    num_abuse_terms,
    /// Sexually explicit words.
    num_sexual_terms,
    /// Words about harming oneself.
    num_self_harm_terms,
    /// Words about killing and hurting.
    num_violence_terms,
    /// Words about weapons and explosives.
    num_weapon_terms,
    ;
    /// How alike the good examples of `[corpus.quality]` the text is and unlike the bad ones: a probability.
    quality: "corpus.quality",
    /// How much likelier its words and pairs of words are in the target of `[corpus.relevance]` than in the sources: a
    /// natural logarithm, on average over them.
    domain_weight: "corpus.relevance",
    /// How well it answers a task's most telling words (`[corpus.bm25]`), for the task that it answers best: between 0
    /// and 1.
    task_bm25: "corpus.bm25",
    /// Words and phrases of your own list (`[corpus.hazard]`).
    num_own_terms: "corpus.hazard",
}

const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];
const POLICY: [&str; 6] =
    ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];
const SHORT_LINE: usize = 30;
/// A language shows in so many bytes, and telling it takes time.
const LANGUAGE_BYTES: usize = 1000;

/// Measures a text.
pub fn measure(text: &str, scorers: &Scorers) -> Attributes {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut attributes = Attributes { num_pii: find_pii(text).len() as f64, ..Attributes::default() };
    of_chars(&mut attributes, text);
    of_words(&mut attributes, text, &words);
    of_lines(&mut attributes, text, words.len());
    of_repetition(&mut attributes, repeated(text, &words));
    of_language(&mut attributes, text);
    scorers.score(&mut attributes, text, &word_hashes(&normalize(text)));
    attributes
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn of_chars(attributes: &mut Attributes, text: &str) {
    let (mut num_chars, mut digits, mut letters, mut upper, mut wide, mut control, mut curly) = (0, 0, 0, 0, 0, 0, 0);
    for c in text.chars() {
        num_chars += 1;
        if c.is_ascii() {
            digits += usize::from(c.is_ascii_digit());
            letters += usize::from(c.is_ascii_alphabetic());
            upper += usize::from(c.is_ascii_uppercase());
            control += usize::from(c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r'));
            curly += usize::from(matches!(c, '{' | '}'));
        } else {
            wide += 1;
            letters += usize::from(c.is_alphabetic());
            upper += usize::from(c.is_uppercase());
            control += usize::from(c.is_control());
        }
    }
    attributes.num_chars = num_chars as f64;
    attributes.digit_ratio = share(digits, num_chars);
    attributes.upper_ratio = share(upper, letters);
    attributes.non_ascii_ratio = share(wide, num_chars);
    attributes.control_ratio = share(control, num_chars);
    attributes.num_curly_brackets = curly as f64;
    attributes.encoding_fault_ratio = if wide == 0 { 0.0 } else { share(encoding_faults(text), num_chars) };
}

/// Characters that stand where others were before: the replacement character, and UTF-8 read as Windows-1252, which
/// shows as a capital `Ã` or `Â` or a small `â` before a character that follows none of them in any language.
fn encoding_faults(text: &str) -> usize {
    let follows = |lead: char, next: char| match lead {
        'Ã' | 'Â' => matches!(next, '\u{80}'..='\u{bf}'),
        'â' => matches!(next, '\u{80}'..='\u{9f}' | '€' | '‚' | '„' | '†' | '‡' | '‰' | 'ˆ'),
        _ => false,
    };
    let pairs = text.chars().zip(text.chars().skip(1)).filter(|(lead, next)| follows(*lead, *next)).count();
    2 * pairs + text.matches('\u{fffd}').count()
}

fn of_words(attributes: &mut Attributes, text: &str, words: &[&str]) {
    let num_words = words.len();
    let (mut chars, mut alpha, mut syllables, mut num_sentences) = (0, 0, 0, 0);
    let (mut stop_words, mut distinct) = (BTreeSet::new(), Vec::with_capacity(num_words));
    for word in words {
        chars += if word.is_ascii() { word.len() } else { word.chars().count() };
        alpha += usize::from(word.chars().any(char::is_alphabetic));
        syllables += num_syllables(word);
        num_sentences += usize::from(ends_sentence(word));
        stop_words.extend(STOP_WORDS.iter().position(|stop| word.eq_ignore_ascii_case(stop)));
        distinct.push(hash_word(word));
    }
    distinct.sort_unstable();
    distinct.dedup();
    let ends_open = words.last().is_some_and(|last| !ends_sentence(last));
    let num_sentences = num_sentences + usize::from(ends_open);
    attributes.num_words = num_words as f64;
    attributes.num_sentences = num_sentences as f64;
    attributes.mean_word_length = share(chars, num_words);
    attributes.alpha_word_ratio = share(alpha, num_words);
    attributes.num_stop_words = stop_words.len() as f64;
    attributes.unique_word_ratio = share(distinct.len(), num_words);
    attributes.hash_ratio = share(text.bytes().filter(|&byte| byte == b'#').count(), num_words);
    attributes.ellipsis_ratio = share(text.matches("...").count() + text.matches('…').count(), num_words);
    attributes.ends_open = f64::from(u8::from(ends_open));
    attributes.reading_ease = if num_words == 0 {
        0.0
    } else {
        206.835 - 1.015 * share(num_words, num_sentences) - 84.6 * share(syllables, num_words)
    };
}

/// Groups of vowels, without a silent `e` at the end (of "cake", not of "table").
fn num_syllables(word: &str) -> usize {
    let is_vowel = |byte: &u8| matches!(byte.to_ascii_lowercase(), b'a' | b'e' | b'i' | b'o' | b'u' | b'y');
    let letters = word.trim_end_matches(|c: char| !c.is_alphabetic()).as_bytes();
    let groups = letters.chunk_by(|a, b| is_vowel(a) == is_vowel(b)).filter(|group| is_vowel(&group[0])).count();
    let silent = match letters {
        [.., before, b'l', b'e'] => is_vowel(before),
        [.., before, b'e'] => !is_vowel(before),
        _ => false,
    };
    (groups - usize::from(silent && groups > 1)).max(1)
}

/// Whether a sentence ends with this word: `.`, `!` or `?`, perhaps before quotation marks or brackets.
fn ends_sentence(word: &str) -> bool {
    let closed = word.trim_end_matches(['"', '\'', ')', ']', '”', '’', '»']);
    closed.ends_with(['.', '!', '?', '。', '！', '？'])
}

fn of_lines(attributes: &mut Attributes, text: &str, num_words: usize) {
    let (mut num_lines, mut bullets, mut ellipses, mut terminal, mut short) = (0, 0, 0, 0, 0);
    let (mut tables, mut code, mut javascript, mut policy) = (0, 0, 0, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        num_lines += 1;
        bullets += usize::from(line.starts_with(['•', '‣', '◦', '⁃', '*', '-', '–']));
        ellipses += usize::from(line.ends_with("...") || line.ends_with('…'));
        terminal += usize::from(line.ends_with(['.', '!', '?', '"', '”', '\'', '’']));
        short += usize::from(line.chars().take(SHORT_LINE + 1).count() <= SHORT_LINE);
        tables += usize::from(line.bytes().filter(|byte| matches!(byte, b'|' | b'\t')).count() >= 2);
        code += usize::from(line.ends_with(['{', '}', ';']));
        javascript += usize::from(contains(line, "javascript"));
        policy += usize::from(POLICY.iter().any(|words| contains(line, words)));
    }
    attributes.num_lines = num_lines as f64;
    attributes.bullet_line_ratio = share(bullets, num_lines);
    attributes.ellipsis_line_ratio = share(ellipses, num_lines);
    attributes.terminal_line_ratio = share(terminal, num_lines);
    attributes.short_line_ratio = share(short, num_lines);
    attributes.newlines_per_word = share(text.bytes().filter(|&byte| byte == b'\n').count(), num_words);
    attributes.table_line_ratio = share(tables, num_lines);
    attributes.code_line_ratio = share(code, num_lines);
    attributes.num_javascript_lines = javascript as f64;
    attributes.num_policy_lines = policy as f64;
    attributes.lorem_ipsum = f64::from(u8::from(contains(text, "lorem ipsum")));
}

/// Whether `text` holds `words`, which are ASCII in lower case, in any case.
fn contains(text: &str, words: &str) -> bool {
    let (text, words) = (text.as_bytes(), words.as_bytes());
    let starts = [words[0], words[0].to_ascii_uppercase()];
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| starts.contains(byte)) {
        let rest = &text[from + at..];
        if rest.len() >= words.len() && rest[..words.len()].eq_ignore_ascii_case(words) {
            return true;
        }
        from += at + 1;
    }
    false
}

fn of_repetition(attributes: &mut Attributes, found: Repetition) {
    let num_chars = attributes.num_chars as usize;
    let part = |chars: usize| share(chars, num_chars);
    attributes.duplicate_line_ratio = share(found.lines.num_repeated, found.lines.num);
    attributes.duplicate_line_char_ratio = part(found.lines.chars);
    attributes.duplicate_paragraph_ratio = share(found.paragraphs.num_repeated, found.paragraphs.num);
    attributes.duplicate_paragraph_char_ratio = part(found.paragraphs.chars);
    [attributes.top_2gram_char_ratio, attributes.top_3gram_char_ratio, attributes.top_4gram_char_ratio] =
        found.top_chars.map(part);
    [
        attributes.duplicate_5gram_char_ratio,
        attributes.duplicate_6gram_char_ratio,
        attributes.duplicate_7gram_char_ratio,
        attributes.duplicate_8gram_char_ratio,
        attributes.duplicate_9gram_char_ratio,
        attributes.duplicate_10gram_char_ratio,
    ] = found.repeated_chars.map(part);
}

fn of_language(attributes: &mut Attributes, text: &str) {
    let start = &text[..text.floor_char_boundary(LANGUAGE_BYTES)];
    if let Some(info) = whatlang::detect(start) {
        attributes.language = info.lang().code().to_owned();
        attributes.language_confidence = info.confidence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(text: &str) -> Attributes {
        super::measure(text, &Scorers::default())
    }

    fn check(text: &str, expected: &[(&str, f64)]) {
        let numbers = measure(text).numbers();
        for (name, expected) in expected {
            let at = Attributes::NUMBERS.iter().position(|(known, _)| known == name).unwrap();
            let found = numbers[at].unwrap();
            assert!((found - expected).abs() < 1e-9, "{name} of {text:?}: {found} instead of {expected}");
        }
    }

    #[test]
    fn words_and_sentences() {
        check(
            "The cat sat. And then? \"It slept.\"\nwith 3 mice",
            &[
                ("num_words", 10.0),
                ("num_sentences", 4.0),
                ("mean_word_length", 3.7),
                ("alpha_word_ratio", 0.9),
                ("num_stop_words", 3.0),
                ("ends_open", 1.0),
                ("num_lines", 2.0),
                ("newlines_per_word", 0.1),
            ],
        );
        check("", &[("num_words", 0.0), ("num_sentences", 0.0), ("reading_ease", 0.0), ("ends_open", 0.0)]);
    }

    #[test]
    fn lines() {
        check(
            "- a bullet\n* another one...\n| a | b |\nif (x) {\nPlease enable JavaScript.\nThe Terms of Use apply to all that is written here.",
            &[
                ("bullet_line_ratio", 2.0 / 6.0),
                ("ellipsis_line_ratio", 1.0 / 6.0),
                ("terminal_line_ratio", 3.0 / 6.0),
                ("table_line_ratio", 1.0 / 6.0),
                ("code_line_ratio", 1.0 / 6.0),
                ("short_line_ratio", 5.0 / 6.0),
                ("num_javascript_lines", 1.0),
                ("num_policy_lines", 1.0),
                ("num_curly_brackets", 1.0),
                ("lorem_ipsum", 0.0),
            ],
        );
        check("Lorem Ipsum dolor", &[("lorem_ipsum", 1.0)]);
    }

    #[test]
    fn wrong_decoding_shows() {
        let faults = |text: &str| measure(text).encoding_fault_ratio;
        let wrong: String = "naïve – “quoted” café".bytes().map(windows_1252).collect();
        assert!(faults(&wrong) > 0.2, "{wrong}");
        assert!(faults("bad \u{fffd}") > 0.0);
        for fine in ["naïve – “quoted” café", "SÃO PAULO", "Âge, âge, âne", "âpre", "plain"] {
            assert!(faults(fine) < f64::EPSILON, "{fine}");
        }
    }

    /// What the byte is in Windows-1252, as far as the test needs it.
    fn windows_1252(byte: u8) -> char {
        match byte {
            0x80 => '€',
            0x93 => '“',
            0x9c => 'œ',
            0x9d => '\u{9d}',
            _ => char::from(byte),
        }
    }

    #[test]
    fn syllables_and_ease() {
        let counts = ["cat", "table", "reading", "the", "hypertension", "a", "pie", "cake"].map(num_syllables);
        assert_eq!(counts, [1, 2, 2, 1, 4, 1, 1, 1]);
        let (easy, hard) = (
            measure("The cat sat on the mat. It was a big cat."),
            measure("Immunohistochemical characterisation demonstrated considerable heterogeneity throughout."),
        );
        assert!(easy.reading_ease > 90.0 && hard.reading_ease < 0.0, "{} {}", easy.reading_ease, hard.reading_ease);
    }

    #[test]
    fn languages() {
        let text = "Der Patient wurde am nächsten Morgen entlassen und kehrte nach Hause zurück.";
        assert_eq!(measure(text).language, "deu");
        assert_eq!(measure("The patient was discharged the next morning and went back home.").language, "eng");
        assert_eq!(measure("12 34").language, "");
    }

    #[test]
    fn every_attribute_says_what_it_is() {
        for (name, about) in Attributes::NUMBERS {
            assert!(about.trim().ends_with('.'), "{name}");
        }
    }
}
