//! Personal data that has a form of its own: addresses and numbers that identify a person, found and masked.
//!
//! Names and postal addresses have no such form and are not found here.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;

use arable_core::Document;
use rayon::prelude::*;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PiiKind {
    /// An e-mail address.
    Email,
    /// A bank account number (ISO 13616) with its check digits right.
    Iban,
    /// The number of a payment card (ISO/IEC 7812) with its check digit right.
    CreditCard,
    /// A social security number of the United States.
    Ssn,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// A telephone number: international, in the form of North America or with a leading zero; others after a word such as
    /// "phone".
    Phone,
}

/// Personal data in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pii {
    /// What it is.
    pub kind: PiiKind,
    /// Where it is, in bytes.
    pub range: Range<usize>,
}

impl PiiKind {
    /// All kinds. Where two claim the same text, the earlier one has it.
    pub const ALL: [Self; 6] = [Self::Email, Self::Iban, Self::CreditCard, Self::Ssn, Self::IpAddress, Self::Phone];

    /// The name used in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Iban => "iban",
            Self::CreditCard => "credit_card",
            Self::Ssn => "ssn",
            Self::IpAddress => "ip_address",
            Self::Phone => "phone",
        }
    }

    /// What stands in its place after masking.
    pub fn mask(self) -> &'static str {
        match self {
            Self::Email => "[EMAIL]",
            Self::Iban => "[IBAN]",
            Self::CreditCard => "[CREDIT_CARD]",
            Self::Ssn => "[SSN]",
            Self::IpAddress => "[IP_ADDRESS]",
            Self::Phone => "[PHONE]",
        }
    }

    fn pattern(self) -> &'static Regex {
        static PATTERNS: LazyLock<BTreeMap<PiiKind, Regex>> = LazyLock::new(|| {
            let compiled =
                |kind: PiiKind| (kind, Regex::new(&format!("(?-u){}", kind.source())).expect("the pattern is tested"));
            PiiKind::ALL.into_iter().map(compiled).collect()
        });
        &PATTERNS[&self]
    }

    /// What may be one, in ASCII; [`Self::holds`] decides.
    fn source(self) -> &'static str {
        match self {
            Self::Email => r"[\w.%+'-]*[\w%+-]@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}",
            Self::Iban => r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?\b",
            Self::CreditCard => {
                r"\b\d{4}[ -]?\d{4}[ -]?\d{4}(?:[ -]?\d{1,4}){0,2}\b|\b3\d{3}[ -]\d{6}[ -]\d{5}\b|\b\d{12,19}\b"
            }
            Self::Ssn => r"\b\d{3}-\d{2}-\d{4}\b",
            Self::IpAddress => {
                r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b(?:[0-9A-Fa-f]{1,4}:){2,7}(?::|[0-9A-Fa-f]{1,4})(?::?[0-9A-Fa-f]{1,4})*\b"
            }
            Self::Phone => concat!(
                r"(?:\+|\b00)[1-9]\d{0,2}(?:[ .\-/]?\(?\d{1,4}\)?){2,6}(?:[ -]?(?:x|ext\.? ?)\d{1,5})?\b",
                r"|(?:\b(?:1|001)[ .-])?(?:\(\d{3}\) ?|\b\d{3}[ .-])\d{3}[ .-]\d{4}(?: ?(?:x|ext\.? ?)\d{1,5})?\b",
                r"|\b0\d{1,4}(?:[ /-]\d{2,8}){1,4}\b|\(0?\d{1,4}\) ?\d{2,4}(?:[ -]\d{2,4}){1,3}\b",
                r"|\b\d{2,8}(?:[ .-]\d{2,8}){0,4}\b",
            ),
        }
    }

    fn holds(self, text: &str, found: &Range<usize>) -> bool {
        let matched = &text[found.clone()];
        let digits: String = matched.chars().filter(char::is_ascii_digit).collect();
        let before = text[..found.start].chars().next_back();
        let after = text[found.end..].chars().next();
        // A part of something longer.
        if before.is_some_and(|c| c == '.' || c == '-' || c == '/') && self != Self::Email {
            return false;
        }
        match self {
            Self::Email => true,
            Self::Iban => is_iban(matched),
            Self::CreditCard => is_card(&digits),
            Self::Ssn => after != Some('-') && is_ssn(&digits),
            Self::IpAddress => is_ip(matched),
            Self::Phone => after != Some('-') && is_phone(text, found, &digits),
        }
    }
}

/// Personal data in `text`, in order, none overlapping.
pub fn find_pii(text: &str) -> Vec<Pii> {
    let mut found: Vec<Pii> = Vec::new();
    let num_digits = text.bytes().filter(u8::is_ascii_digit).count();
    for kind in PiiKind::ALL {
        let possible = match kind {
            PiiKind::Email => text.contains('@'),
            _ => num_digits >= 7 || kind == PiiKind::IpAddress && num_digits >= 4,
        };
        let candidates = possible.then(|| kind.pattern().find_iter(text)).into_iter().flatten();
        for range in candidates.map(|candidate| candidate.range()) {
            let is_free = found.iter().all(|other| other.range.end <= range.start || range.end <= other.range.start);
            if is_free && kind.holds(text, &range) {
                found.push(Pii { kind, range });
            }
        }
    }
    found.sort_by_key(|pii| pii.range.start);
    found
}

/// What was found of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PiiCounts {
    /// Places in documents.
    pub num_found: usize,
    /// Documents with at least one.
    pub num_documents: usize,
}

/// Counts personal data in `documents` by kind, and replaces the kinds in `masked` by [`PiiKind::mask`].
pub fn remove_pii(documents: &mut [Document], masked: &[PiiKind]) -> BTreeMap<PiiKind, PiiCounts> {
    let of_each: Vec<Vec<PiiKind>> = documents
        .par_iter_mut()
        .map(|document| {
            let found = find_pii(&document.text);
            if let Some(text) = mask_pii(&document.text, &found, masked) {
                document.text = text;
            }
            found.into_iter().map(|pii| pii.kind).collect()
        })
        .collect();
    let mut counts: BTreeMap<PiiKind, PiiCounts> = BTreeMap::new();
    for kinds in of_each {
        for kind in PiiKind::ALL {
            let num_found = kinds.iter().filter(|&&its| its == kind).count();
            if num_found > 0 {
                let of_kind = counts.entry(kind).or_default();
                of_kind.num_found += num_found;
                of_kind.num_documents += 1;
            }
        }
    }
    counts
}

/// `text` with personal data of some kinds replaced by [`PiiKind::mask`]; `None` where there is none of them.
pub fn mask_pii(text: &str, found: &[Pii], kinds: &[PiiKind]) -> Option<String> {
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for Pii { kind, range } in found.iter().filter(|pii| kinds.contains(&pii.kind)) {
        masked.push_str(&text[done..range.start]);
        masked.push_str(kind.mask());
        done = range.end;
    }
    if done == 0 {
        return None;
    }
    masked.push_str(&text[done..]);
    Some(masked)
}

/// ISO 13616: the remainder by 97 of the number with its first four characters last is 1.
fn is_iban(text: &str) -> bool {
    let bare: Vec<u8> = text.bytes().filter(u8::is_ascii_alphanumeric).collect();
    let num_digits = bare.iter().filter(|byte| byte.is_ascii_digit()).count();
    // Small letters in groups are words.
    let are_words = bare.len() < text.len() && bare.iter().any(u8::is_ascii_lowercase);
    if !(15..=34).contains(&bare.len()) || num_digits < 8 || are_words {
        return false;
    }
    let turned = bare[4..].iter().chain(&bare[..4]);
    let remainder = turned.fold(0u32, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        letter => (sum * 100 + u32::from(letter.to_ascii_uppercase() - b'A') + 10) % 97,
    });
    remainder == 1
}

/// Lengths and leading digits of the large networks, and the check digit (Luhn 1960).
fn is_card(digits: &str) -> bool {
    let leads = |len: usize| digits.get(..len).and_then(|lead| lead.parse::<u32>().ok()).unwrap_or(0);
    let fits = match digits.len() {
        16 => {
            matches!(leads(2), 51..=55 | 62 | 65)
                || leads(1) == 4
                || leads(4) == 6011
                || matches!(leads(4), 2221..=2720)
                || matches!(leads(4), 3528..=3589)
                || matches!(leads(3), 644..=649)
        }
        15 => matches!(leads(2), 34 | 37) || matches!(leads(4), 1800 | 2131),
        14 => matches!(leads(2), 36 | 38 | 39) || matches!(leads(3), 300..=305),
        13 | 19 => leads(1) == 4,
        _ => false,
    };
    // The Maestro network takes 12 to 19 digits.
    let fits = fits || (12..=19).contains(&digits.len()) && (matches!(leads(2), 50 | 56..=58) || matches!(leads(1), 6));
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            if place % 2 == 0 { digit } else { digit * 2 - if digit > 4 { 9 } else { 0 } }
        })
        .sum();
    fits && sum.is_multiple_of(10)
}

/// Numbers that were never given out are none.
fn is_ssn(digits: &str) -> bool {
    !matches!(&digits[..3], "000" | "666") && digits < "900" && &digits[3..5] != "00" && &digits[5..] != "0000"
}

fn is_ip(text: &str) -> bool {
    match text.parse::<Ipv4Addr>() {
        // The first of a network and what nobody owns are as often numbers of versions or chapters.
        Ok(address) => address.octets()[0] > 9 || address.octets().iter().any(|&octet| octet > 31),
        Err(_) => text.matches(':').count() > 3 && text.parse::<Ipv6Addr>().is_ok(),
    }
}

fn is_phone(text: &str, found: &Range<usize>, digits: &str) -> bool {
    let matched = &text[found.clone()];
    let is_parted = digits.len() < matched.len();
    let is_sure = match matched.as_bytes() {
        [b'+', ..] => digits.len() > 7,
        [b'(', year @ ..] if is_year(&String::from_utf8_lossy(&year[..4])) => false,
        [b'(', ..] => digits.len() > 7,
        [b'0', ..] => is_parted && digits.len() > 8,
        _ => NORTH_AMERICAN.is_match(matched),
    };
    let num_cues = if is_parted { CUES.len() } else { NUM_STRONG_CUES };
    (7..=18).contains(&digits.len())
        && !looks_like_a_date(matched)
        && (is_sure || has_cue(&text[..found.start], num_cues))
}

static NORTH_AMERICAN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?-u)^(?:(?:1|001)[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}(?: ?(?:x|ext\.? ?)\d{1,5})?$")
        .expect("it is tested")
});

/// Words before a telephone number; after the first ones also digits without a gap are one.
const CUES: &[&str] = &[
    "phone",
    "phones",
    "telephone",
    "tel",
    "fax",
    "mobile",
    "cellphone",
    "dial",
    "call",
    "calls",
    "called",
    "calling",
    "answering",
    "reach",
    "contact",
    "office",
];
const NUM_STRONG_CUES: usize = 8;

/// Whether one of the first `num_cues` cues is among the words just before.
fn has_cue(before: &str, num_cues: usize) -> bool {
    let start = before.char_indices().rev().nth(40).map_or(0, |(at, _)| at);
    let near = before[start..].to_lowercase();
    near.split(|c: char| !c.is_alphanumeric()).any(|word| CUES[..num_cues].contains(&word))
}

fn is_year(text: &str) -> bool {
    text.len() == 4 && (text.starts_with("19") || text.starts_with("20"))
}

fn looks_like_a_date(text: &str) -> bool {
    let numbers: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).collect();
    let below = |text: &str, top: u32| text.parse::<u32>().is_ok_and(|number| number <= top);
    match numbers[..] {
        [year, month, day] if is_year(year) => below(month, 12) && below(day, 31),
        [day, month, year] => (is_year(year) || year.len() == 2) && below(day, 31) && below(month, 31),
        [from, to] => is_year(from) && (is_year(to) || to.len() == 2),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(PiiKind, &str)]) {
        let found = find_pii(text);
        let got: Vec<(PiiKind, &str)> = found.iter().map(|pii| (pii.kind, &text[pii.range.clone()])).collect();
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn what_has_a_form_is_found() {
        use PiiKind::{CreditCard, Email, Iban, IpAddress, Phone, Ssn};
        check("Write to j.o'hara+x@mail.example.co.uk.", &[(Email, "j.o'hara+x@mail.example.co.uk")]);
        check("IBAN GB82 WEST 1234 5698 7654 32, please", &[(Iban, "GB82 WEST 1234 5698 7654 32")]);
        check(
            "card 4111-1111-1111-1111 and 378282246310005.",
            &[(CreditCard, "4111-1111-1111-1111"), (CreditCard, "378282246310005")],
        );
        check("her SSN is 078-05-1120", &[(Ssn, "078-05-1120")]);
        check(
            "from 203.0.113.7 and 2001:db8::8a2e:370:7334",
            &[(IpAddress, "203.0.113.7"), (IpAddress, "2001:db8::8a2e:370:7334")],
        );
        check("ask +49 30 1234567 or (212) 555-0143 x12", &[(Phone, "+49 30 1234567"), (Phone, "(212) 555-0143 x12")]);
        check("1-800-555-0199; 030 123 45 67", &[(Phone, "1-800-555-0199"), (Phone, "030 123 45 67")]);
        check("phone: 60-56-85-91", &[(Phone, "60-56-85-91")]);
    }

    #[test]
    fn numbers_that_are_something_else_stay() {
        for text in [
            "from 1990-1995 and 2019-12-31, at 12/24/2020",
            "GB82 WEST 1234 5698 7654 33 is no account, 4111 1111 1111 1112 no card",
            "CAS 7732-18-5, 50-00-0 and version 1.2.3.4",
            "900-12-3456, 666-12-3456 and 123-00-4567",
            "10.5 to 20.3 mg, 1 000 000 cells, 5 x 10 6, PMID 12345678, 60-56-85-91",
            "std::vector::begin at 12:30:45, ratio 1:2:3:4",
            "doi 10.1000/182.2020.1234567 at home@ and @you",
            "residues 100-200, 300-400 of 1234 5678",
            "Virol. 65 (1991) 3131-3139; 0. 00502 (11) 0. 0049 (10) 0. 0094; NP_001018285",
            "the murine nm23 gene suppresses; Ki67-positive cells; cell contact, UI 99111421",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn masks_stand_where_the_data_stood() {
        let text = "Ann, ann@x.org, +1 212 555 0143, ann@y.org";
        let found = find_pii(text);
        assert_eq!(mask_pii(text, &found, &[PiiKind::Email]).unwrap(), "Ann, [EMAIL], +1 212 555 0143, [EMAIL]");
        assert_eq!(mask_pii(text, &found, &PiiKind::ALL).unwrap(), "Ann, [EMAIL], [PHONE], [EMAIL]");
        assert_eq!(mask_pii(text, &found, &[PiiKind::Iban]), None);
        assert_eq!(find_pii(&mask_pii(text, &found, &PiiKind::ALL).unwrap()), []);
    }
}
