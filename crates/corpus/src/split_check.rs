//! A look at a split once it is made: the proof that it cuts nothing apart.

use serde::{Deserialize, Serialize};

use crate::split::{Clusters, Key, Keys, newest};
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

/// Where an item of a split is: its day where parts are cut by time, and the number of its part.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) day: Option<&'a str>,
    pub(crate) part: usize,
}

impl SplitCheck {
    /// Looks at every item of parts that were cut, the oldest first where they are cut by time. `witnesses` must not cross
    /// either: what was dropped as a copy of an item, with the part where that stands, and items with the keys that they
    /// came with.
    pub(crate) fn of<'a>(
        parts: &[&str],
        items: &[Keys],
        place: impl Fn(usize) -> Place<'a>,
        witnesses: impl Iterator<Item = (Keys, usize)> + Clone,
    ) -> Self {
        let clusters = Clusters::of(items);
        let mut groups: Vec<Key> = items.iter().filter_map(|keys| keys.group).collect();
        groups.sort_unstable();
        groups.dedup();
        let all = items.iter().enumerate().map(|(item, keys)| (*keys, place(item).part)).chain(witnesses);
        let of_groups = all.clone().filter_map(|(keys, part)| Some((keys.group?, part)));
        let of_words = all.map(|(keys, part)| (keys.words, part));
        let mut check = Self {
            num_clusters: clusters.len(),
            num_groups: groups.len(),
            num_crossings: num_crossing(of_groups) + num_crossing(of_words),
            ..Self::default()
        };
        let day = |item: usize| place(item).day;
        let timed = || (0..items.len()).filter_map(|item| Some((place(item).part, latest(day(item)?))));
        let num_timed = timed().count();
        if num_timed == 0 {
            return check;
        }
        check.num_untimed = items.len() - num_timed;
        for (part, name) in parts.iter().enumerate().skip(1) {
            let is_own = |cluster: &u32| clusters.items(*cluster).any(|item| place(item).part == part);
            let own = clusters.all().into_iter().filter(is_own);
            let days = own.filter_map(|cluster| newest(clusters.items(cluster), day));
            let Some(from) = days.min_by_key(|day| latest(day)) else { continue };
            let border = latest(from);
            check.num_crossings += timed().filter(|(own, day)| *own < part && *day > border).count();
            let num_moved = timed().filter(|(own, day)| *own == part && *day < border).count();
            check.borders.push(Border { part: (*name).to_owned(), from: from.to_owned(), num_moved });
        }
        check
    }
}

/// Keys that stand in more than one part.
fn num_crossing(keys: impl Iterator<Item = (Key, usize)> + Clone) -> usize {
    let mut all: Vec<(Key, u32)> = Vec::with_capacity(keys.clone().count());
    all.extend(keys.map(|(key, part)| (key, part as u32)));
    all.sort_unstable();
    all.chunk_by(|a, b| a.0 == b.0).filter(|same| same[0].1 != same[same.len() - 1].1).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::digest_of_words;

    #[test]
    fn a_bad_split_is_seen() {
        let keys = |group: Option<&str>, text: &str| Keys::new(group, digest_of_words(text));
        let item = |keys, day, part| (keys, Place { day, part });
        let of = |items: &[(Keys, Place<'_>)], copy: Option<(Keys, usize)>| {
            let keys: Vec<Keys> = items.iter().map(|(keys, _)| *keys).collect();
            SplitCheck::of(&["train", "dev", "test"], &keys, |item| items[item].1, copy.into_iter())
        };
        let check = |items: &[(Keys, Place<'_>)]| of(items, None);
        let found = check(&[
            item(keys(Some("a"), "one"), None, 0),
            item(keys(Some("a"), "two"), None, 1),
            item(keys(None, "Two!"), None, 2),
            item(keys(None, "three"), None, 2),
        ]);
        assert_eq!((found.num_clusters, found.num_groups, found.num_crossings), (2, 1, 2));
        assert!(found.borders.is_empty() && found.num_untimed == 0);
        let own = [item(keys(None, "one"), None, 0), item(keys(Some("a"), "two"), None, 1)];
        let copy = |part| of(&own, Some((keys(Some("a"), "one more"), part)));
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
