//! A look at a split once it is made: the proof that it cuts nothing apart.

use std::collections::{BTreeSet, HashMap};

use arable_core::Digest;
use serde::{Deserialize, Serialize};

use crate::split::{Keys, clusters, newest};
use crate::times::latest;

/// What a look at the parts of a split finds, once they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitCheck {
    /// Sets of items that belong together, by their words or their group, through others too; most are of one item.
    pub num_clusters: usize,
    /// Distinct groups; those that copies tie together are one.
    pub num_groups: usize,
    /// Texts and groups that stand in more than one part, and items that are newer than a part that should be newer.
    pub num_crossings: usize,
    /// Items without a time, where parts are cut by time: they are in the oldest part, unless they belong to a newer item.
    #[serde(default)]
    pub num_untimed: usize,
    /// Where one part ends and the next begins, where parts are cut by time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub borders: Vec<Border>,
}

/// The older end of a part that is cut by time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Border {
    /// The part: `held_out`, `dev` or `test`.
    pub part: String,
    /// The oldest time for which something was put into it.
    pub from: String,
    /// Items that are older and in it for all that, because they belong to a newer one.
    pub num_moved: usize,
}

/// An item of a split: what it shares, its day where parts are cut by time, and the number of its part.
pub(crate) struct Placed<'a> {
    pub(crate) keys: Keys,
    pub(crate) day: Option<&'a str>,
    pub(crate) part: usize,
}

impl SplitCheck {
    /// Looks at every item of parts that were cut, the oldest first where they are cut by time. `witnesses` must not cross
    /// either: what was dropped as a copy of an item, where that stands, and items with the keys that they came with.
    pub(crate) fn of<'a>(
        parts: &[&str],
        items: &[Placed<'_>],
        witnesses: impl IntoIterator<Item = Placed<'a>>,
    ) -> Self {
        let clusters = clusters(&items.iter().map(|item| item.keys).collect::<Vec<_>>());
        let groups: BTreeSet<Digest> = items.iter().filter_map(|item| item.keys.group).collect();
        let mut check = Self {
            num_clusters: clusters.len(),
            num_groups: groups.len(),
            num_crossings: num_crossing_keys(
                items.iter().map(place).chain(witnesses.into_iter().map(|own| place(&own))),
            ),
            ..Self::default()
        };
        let days: Vec<Option<&str>> = items.iter().map(|item| item.day).collect();
        if days.iter().all(Option::is_none) {
            return check;
        }
        check.num_untimed = days.iter().filter(|day| day.is_none()).count();
        for (part, name) in parts.iter().enumerate().skip(1) {
            let own = clusters.iter().filter(|cluster| items[cluster.items[0]].part == part);
            let Some(from) = own.filter_map(|cluster| newest(cluster, &days)).min_by_key(|day| latest(day)) else {
                continue;
            };
            let border = latest(from);
            let timed = || items.iter().filter_map(|item| Some((item.part, latest(item.day?))));
            check.num_crossings += timed().filter(|(own, day)| *own < part && *day > border).count();
            let num_moved = timed().filter(|(own, day)| *own == part && *day < border).count();
            check.borders.push(Border { part: (*name).to_owned(), from: from.to_owned(), num_moved });
        }
        check
    }
}

fn place(item: &Placed<'_>) -> (Keys, usize) {
    (item.keys, item.part)
}

/// Texts and groups that stand in more than one part.
fn num_crossing_keys(items: impl Iterator<Item = (Keys, usize)>) -> usize {
    let mut parts: HashMap<Digest, usize> = HashMap::new();
    let mut crossing = BTreeSet::new();
    for (keys, part) in items {
        for key in keys.each() {
            if *parts.entry(key).or_insert(part) != part {
                crossing.insert(key);
            }
        }
    }
    crossing.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::digest_of_words;

    #[test]
    fn a_bad_split_is_seen() {
        let keys = |group: Option<&str>, text: &str| Keys::new(group, digest_of_words(text));
        let item = |keys, day, part| Placed { keys, day, part };
        let check = |items: &[Placed<'_>]| SplitCheck::of(&["train", "dev", "test"], items, []);
        let found = check(&[
            item(keys(Some("a"), "one"), None, 0),
            item(keys(Some("a"), "two"), None, 1),
            item(keys(None, "Two!"), None, 2),
            item(keys(None, "three"), None, 2),
        ]);
        assert_eq!((found.num_clusters, found.num_groups, found.num_crossings), (2, 1, 2));
        assert!(found.borders.is_empty() && found.num_untimed == 0);
        let own = [item(keys(None, "one"), None, 0), item(keys(Some("a"), "two"), None, 1)];
        let copy = |part| SplitCheck::of(&["train", "dev"], &own, [item(keys(Some("a"), "one more"), None, part)]);
        assert_eq!((copy(1).num_crossings, copy(0).num_crossings), (0, 1), "group a stands in both through a copy");
        let found = check(&[
            item(keys(None, "one"), Some("2015"), 0),
            item(keys(None, "two"), Some("2014-03"), 1),
            item(keys(None, "three"), None, 0),
            item(keys(Some("b"), "four"), Some("2011"), 2),
            item(keys(Some("b"), "five"), Some("2016"), 2),
        ]);
        assert_eq!((found.num_crossings, found.num_untimed), (1, 1), "2015 is newer than what is held out");
        let border = |part: &str, from: &str, num_moved| Border { part: part.into(), from: from.into(), num_moved };
        assert_eq!(found.borders, [border("dev", "2014-03", 0), border("test", "2016", 1)]);
    }
}
