//! Which documents are kept aside for the held-out loss: some of all, or the newest.

use std::fmt;

use arable_core::{Fraction, Hint, Seed};
use schemars::JsonSchema;
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::split::{Clusters, HELD_OUT_STREAM, Keys, cut_newest, hold_out, newest, part_of};
use crate::times::{Day, latest};

/// What is kept aside: `0.02` of the documents, the newest (`{ newest = 0.02 }`), or those from a time on
/// (`{ from = "2015" }`).
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HeldOut {
    /// A part of all documents, drawn by chance.
    Share(Fraction),
    /// The newest. Documents of one group or of equal words are as new as the newest of them; those without a time are
    /// trained on.
    Newer(Newer),
}

/// Which documents are the newest.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Newer {
    /// A part of all documents.
    Newest(Fraction),
    /// Those of a year, a month or a day, and later ones.
    From(Day),
}

impl<'de> Deserialize<'de> for HeldOut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// A key of the table.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum NewerKey {
    Newest,
    From,
}

/// Reads a number or a table.
struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = HeldOut;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part such as 0.02, { newest = 0.02 } or { from = \"2015\" }")
    }

    fn visit_f64<E: Error>(self, share: f64) -> Result<HeldOut, E> {
        Fraction::deserialize(share.into_deserializer()).map(HeldOut::Share)
    }

    fn visit_u64<E: Error>(self, share: u64) -> Result<HeldOut, E> {
        self.visit_f64(share as f64)
    }

    fn visit_i64<E: Error>(self, share: i64) -> Result<HeldOut, E> {
        self.visit_f64(share as f64)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeldOut, A::Error> {
        const ONE: &str = "it takes one of `newest` and `from`";
        let newer = match map.next_key()? {
            Some(NewerKey::Newest) => Newer::Newest(map.next_value()?),
            Some(NewerKey::From) => Newer::From(map.next_value()?),
            None => return Err(A::Error::custom(ONE)),
        };
        match map.next_key::<NewerKey>()? {
            None => Ok(HeldOut::Newer(newer)),
            Some(_) => Err(A::Error::custom(ONE)),
        }
    }
}

/// A corpus that cannot be cut by time.
#[derive(Debug, thiserror::Error)]
pub enum HeldOutError {
    /// No document says when it was written.
    #[error("keep the newest documents aside: none of {num_documents} has a time that begins with a year")]
    NoTime {
        /// Documents left after curation.
        num_documents: usize,
    },
    /// All documents are older.
    #[error("keep documents from {from} on aside: the newest is of {newest}")]
    NoneNewer {
        /// What was asked for.
        from: String,
        /// The newest time there is.
        newest: String,
    },
    /// No document is older, or none that does not belong to a newer one.
    #[error("train on documents from before {from}: all that belongs together is of {oldest} or later")]
    AllNewer {
        /// What was asked for.
        from: String,
        /// The newest time of what is the oldest.
        oldest: String,
    },
}

impl Hint for HeldOutError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoTime { .. } => {
                "set `time` of each source to the field that says when a document was written, or write a part of all, \
                 `held_out = 0.02`"
                    .to_owned()
            }
            Self::NoneNewer { newest, .. } => format!("write `from` = \"{newest}\" or an earlier time"),
            Self::AllNewer { oldest, .. } => {
                format!("write a time after {oldest}, or `held_out = {{ newest = 0.02 }}`")
            }
        })
    }
}

/// Which items to keep aside, given what they share and the day of each. Items that belong together stay on one side, and
/// which side that is depends on them and on the seed, not on their order. None is kept aside when all belong together.
///
/// # Errors
/// When they are cut by time, and times do not allow it.
pub(crate) fn keep_aside<'a>(
    held_out: &HeldOut,
    keys: &[Keys],
    day: impl Fn(usize) -> Option<&'a str>,
    seed: Seed,
) -> Result<Vec<bool>, HeldOutError> {
    match held_out {
        HeldOut::Share(share) => Ok(hold_out(keys, *share, seed)),
        HeldOut::Newer(newer) => {
            let clusters = Clusters::of(keys);
            Ok(clusters.has(&newer_ones(newer, &clusters, day, keys.len(), seed)?))
        }
    }
}

/// The clusters that are the newest.
fn newer_ones<'a>(
    newer: &Newer,
    clusters: &Clusters,
    day: impl Fn(usize) -> Option<&'a str>,
    num_items: usize,
    seed: Seed,
) -> Result<Vec<u32>, HeldOutError> {
    let newest = |cluster: u32| newest(clusters.items(cluster), &day);
    let mut known: Vec<&str> = clusters.all().into_iter().filter_map(newest).collect();
    known.sort_by_cached_key(|day| latest(day));
    let Some((oldest, last)) = known.first().zip(known.last()) else {
        return Err(HeldOutError::NoTime { num_documents: num_items });
    };
    match newer {
        Newer::Newest(share) => {
            let stream = seed.stream(HELD_OUT_STREAM);
            Ok(cut_newest(clusters, clusters.all(), &day, part_of(num_items, *share), stream).0)
        }
        Newer::From(from) => {
            let is_newer = |own: &u32| newest(*own).is_some_and(|day| *latest(day) >= *from.as_str());
            let (taken, left): (Vec<u32>, Vec<u32>) = clusters.all().into_iter().partition(is_newer);
            let from = from.as_str().to_owned();
            if taken.is_empty() {
                Err(HeldOutError::NoneNewer { from, newest: (*last).to_owned() })
            } else if left.is_empty() {
                Err(HeldOutError::AllNewer { from, oldest: (*oldest).to_owned() })
            } else {
                Ok(taken)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::digest_of_words;

    /// Items of a text each: their groups and days.
    fn aside(which: &str, items: &[(Option<&str>, Option<&str>)]) -> Result<Vec<bool>, HeldOutError> {
        let keys: Vec<Keys> =
            (0..items.len()).map(|i| Keys::new(items[i].0, digest_of_words(&format!("text {i}")))).collect();
        keep_aside(&serde_json::from_str(which).unwrap(), &keys, |item| items[item].1, Seed(1))
    }

    #[test]
    fn a_part_or_a_time_is_read() {
        let read = |text: &str| serde_json::from_str::<HeldOut>(text);
        for text in ["0.02", "{\"newest\":0.02}", "{\"from\":\"2015-03\"}"] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
        }
        assert_eq!(read("1").unwrap(), HeldOut::Share(Fraction::new(1.0).unwrap()));
        for (text, expected) in [
            ("0", "outside (0, 1]"),
            ("true", "a part such as 0.02"),
            ("{\"newst\": 0.02}", "expected `newest` or `from`"),
            ("{}", "one of `newest` and `from`"),
            ("{\"newest\": 0.1, \"from\": \"2015\"}", "one of `newest` and `from`"),
            ("{\"from\": \"soon\"}", "not a time such as 2015"),
        ] {
            assert!(read(text).unwrap_err().to_string().contains(expected), "{}", read(text).unwrap_err());
        }
    }

    #[test]
    fn what_belongs_together_is_as_new_as_the_newest_of_it() {
        let items = [
            (Some("a"), Some("2011")),
            (Some("a"), Some("2015-02")),
            (None, Some("2014-12-31")),
            (None, Some("2015")),
            (None, None),
            (Some("b"), Some("2012")),
        ];
        assert_eq!(aside("{\"from\": \"2015\"}", &items).unwrap(), [true, true, false, true, false, false]);
        assert_eq!(aside("{\"from\": \"2015-03\"}", &items).unwrap(), [false, false, false, true, false, false]);
        assert_eq!(aside("{\"newest\": 0.5}", &items).unwrap(), [true, true, false, true, false, false]);
        assert_eq!(aside("{\"newest\": 1.0}", &items).unwrap(), [true, true, true, true, false, true]);
        assert_eq!(aside("{\"newest\": 1.0}", &items[..2]).unwrap(), [false, false]);
    }

    #[test]
    fn times_that_cut_nothing_have_a_hint() {
        let check = |which: &str, items: &[(Option<&str>, Option<&str>)], message: &str, hint: &str| {
            let error = aside(which, items).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        };
        let items = [(None, Some("2014")), (None, Some("2015-03"))];
        check("{\"newest\": 0.1}", &[(None, None), (None, None)], "none of 2 has a time", "set `time`");
        check("{\"from\": \"2016\"}", &items, "the newest is of 2015-03", "`from` = \"2015-03\"");
        check("{\"from\": \"2014\"}", &items, "is of 2014 or later", "a time after 2014");
    }
}
