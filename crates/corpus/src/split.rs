//! Cutting a set in two so that nothing that belongs together is cut apart.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use arable_core::{Digest, Example, Fraction, Seed, Stream};

use crate::dedup::digest_of_words;
use crate::times::latest;

/// Items that belong together, directly or through others.
pub(crate) struct Cluster {
    /// Depends on the items' keys alone, not on their order.
    key: Digest,
    /// Indices of the items, rising.
    pub(crate) items: Vec<usize>,
}

/// What an item shares with those that belong to it: its group, and its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) group: Option<Digest>,
    pub(crate) words: Digest,
}

impl Keys {
    /// `words` as [`digest_of_words`] gives it.
    pub(crate) fn new(group: Option<&str>, words: Digest) -> Self {
        Self { group: group.map(|group| Digest::of_json(&("group", group))), words }
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = Digest> {
        self.group.into_iter().chain([self.words])
    }
}

/// Puts items together that share their words or their group.
pub(crate) fn clusters(keys: &[Keys]) -> Vec<Cluster> {
    let mut parents: Vec<usize> = (0..keys.len()).collect();
    let mut owners: HashMap<Digest, usize> = HashMap::new();
    for (i, keys) in keys.iter().enumerate() {
        for key in keys.each() {
            join(&mut parents, *owners.entry(key).or_insert(i), i);
        }
    }
    let mut clusters: Vec<Cluster> = Vec::new();
    let mut places: HashMap<usize, usize> = HashMap::new();
    for (i, keys) in keys.iter().enumerate() {
        let smallest = keys.each().min().expect("every item has the key of its text");
        let place = *places.entry(root(&mut parents, i)).or_insert_with(|| {
            clusters.push(Cluster { key: smallest, items: Vec::new() });
            clusters.len() - 1
        });
        clusters[place].key = clusters[place].key.min(smallest);
        clusters[place].items.push(i);
    }
    clusters
}

fn root(parents: &mut [usize], mut i: usize) -> usize {
    while parents[i] != i {
        parents[i] = parents[parents[i]];
        i = parents[i];
    }
    i
}

fn join(parents: &mut [usize], i: usize, j: usize) {
    let (a, b) = (root(parents, i), root(parents, j));
    parents[a.max(b)] = a.min(b);
}

/// Groups that are one because of copies: what a copy that was dropped belonged to, the text that stays for it belongs to
/// as well.
pub(crate) struct Bound {
    by_item: HashMap<usize, Digest>,
    by_group: HashMap<Digest, Digest>,
}

impl Bound {
    /// From pairs of a copy and what it is a copy of, which may be a copy itself, and from the group of each.
    pub(crate) fn new(copies: &[(usize, usize)], group: impl Fn(usize) -> Option<Digest>) -> Self {
        let items: BTreeSet<usize> = copies.iter().flat_map(|&(copy, of)| [copy, of]).collect();
        let items: Vec<usize> = items.into_iter().collect();
        let place = |item: &usize| items.binary_search(item).expect("every item is listed");
        let mut parents: Vec<usize> = (0..items.len()).collect();
        copies.iter().for_each(|(copy, of)| join(&mut parents, place(copy), place(of)));
        let grouped = items.iter().enumerate().filter_map(|(i, &item)| Some((i, group(item)?)));
        let grouped: Vec<(usize, Digest)> = grouped.collect();
        let mut owners: HashMap<Digest, usize> = HashMap::new();
        grouped.iter().for_each(|&(i, group)| join(&mut parents, *owners.entry(group).or_insert(i), i));
        let roots: Vec<usize> = (0..items.len()).map(|i| root(&mut parents, i)).collect();
        let mut smallest: HashMap<usize, Digest> = HashMap::new();
        for &(i, group) in &grouped {
            let least = smallest.entry(roots[i]).or_insert(group);
            *least = group.min(*least);
        }
        let of_item = |(&item, root): (&usize, &usize)| Some((item, *smallest.get(root)?));
        let by_item = items.iter().zip(&roots).filter_map(of_item).collect();
        let by_group = grouped.into_iter().map(|(i, group)| (group, smallest[&roots[i]])).collect();
        Self { by_item, by_group }
    }

    /// The keys of an item, with the group that it belongs to by all that is known.
    pub(crate) fn keys(&self, item: usize, keys: Keys) -> Keys {
        let of_group = || keys.group.map(|group| self.by_group.get(&group).copied().unwrap_or(group));
        Keys { group: self.by_item.get(&item).copied().or_else(of_group), ..keys }
    }
}

/// Takes whole clusters in an order drawn for each from its key, up to `num_items` items; clusters that are too large
/// or that `may_take` keeps back are passed over. Where every cluster is too large, the smallest one is taken, as
/// long as another is left. Returns what was taken and what was left.
pub(crate) fn cut(
    mut clusters: Vec<Cluster>,
    num_items: usize,
    stream: Stream,
    mut may_take: impl FnMut(&Cluster) -> bool,
) -> (Vec<Cluster>, Vec<Cluster>) {
    clusters.sort_by_cached_key(|cluster| (draw(stream, cluster.key), cluster.key));
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    let mut num_free = num_items.max(1);
    for cluster in clusters {
        if cluster.items.len() <= num_free && may_take(&cluster) {
            num_free -= cluster.items.len();
            taken.push(cluster);
        } else {
            left.push(cluster);
        }
    }
    if taken.is_empty() && left.len() > 1 {
        let mut order: Vec<usize> = (0..left.len()).collect();
        order.sort_by_key(|i| left[*i].items.len());
        let smallest = order.into_iter().find(|i| may_take(&left[*i]));
        taken.extend(smallest.map(|i| left.remove(i)));
    }
    (taken, left)
}

/// A number drawn for what has this key.
pub(crate) fn draw(stream: Stream, key: Digest) -> u64 {
    let half =
        |range: std::ops::Range<usize>| u64::from_le_bytes(key.as_bytes()[range].try_into().expect("eight bytes"));
    stream.at(half(0..8), half(8..16)).bits()
}

/// The newest day of a cluster's items; none where no item has one.
pub(crate) fn newest<'a>(cluster: &Cluster, days: &[Option<&'a str>]) -> Option<&'a str> {
    cluster.items.iter().filter_map(|&i| days[i]).max_by_key(|day| latest(day))
}

/// Takes whole clusters, the newest first, until there are `num_items` items; of equally new ones, in an order drawn for
/// each. A cluster is as new as its newest item: what is taken may be older than what is left, never the other way
/// round. Clusters without a day are left, and at least one is. Returns what was taken and what was left.
pub(crate) fn cut_newest(
    mut clusters: Vec<Cluster>,
    days: &[Option<&str>],
    num_items: usize,
    stream: Stream,
) -> (Vec<Cluster>, Vec<Cluster>) {
    let time = |cluster: &Cluster| newest(cluster, days).map(latest);
    clusters.sort_by_cached_key(|cluster| (Reverse(time(cluster)), draw(stream, cluster.key), cluster.key));
    let most = clusters.iter().filter(|cluster| time(cluster).is_some()).count().min(clusters.len().saturating_sub(1));
    let (mut num_taken, mut num_items_taken) = (0, 0);
    while num_taken < most && num_items_taken < num_items.max(1) {
        num_items_taken += clusters[num_taken].items.len();
        num_taken += 1;
    }
    let left = clusters.split_off(num_taken);
    (clusters, left)
}

/// How many of `num_items` items a part is.
pub(crate) fn part_of(num_items: usize, part: Fraction) -> usize {
    (part.get() * num_items as f64).round() as usize
}

/// For each of `num_items` items, whether it is in one of the clusters.
pub(crate) fn is_in(clusters: &[Cluster], num_items: usize) -> Vec<bool> {
    let mut is_in = vec![false; num_items];
    clusters.iter().flat_map(|cluster| &cluster.items).for_each(|i| is_in[*i] = true);
    is_in
}

/// What decides about documents kept aside.
pub(crate) const HELD_OUT_STREAM: &str = "held out documents";

/// Which items to keep aside. Items that belong together stay on one side, and which side that is depends on them and on
/// the seed, not on their order. Nothing is kept aside when all belong together.
pub(crate) fn hold_out(keys: &[Keys], fraction: Fraction, seed: Seed) -> Vec<bool> {
    let clusters = clusters(keys);
    let mut num_left = clusters.len();
    let (taken, _) = cut(clusters, part_of(keys.len(), fraction), seed.stream(HELD_OUT_STREAM), |_| {
        num_left -= 1;
        num_left > 0
    });
    is_in(&taken, keys.len())
}

/// The fold of each example, out of `num_folds` of about equal size, for cross-validation. Examples of equal words or of
/// one group are in one fold, which depends on them and on the seed, not on the order of examples.
///
/// # Panics
/// When there is no fold.
pub fn folds(examples: &[Example], num_folds: usize, seed: Seed) -> Vec<usize> {
    assert!(num_folds > 0, "a fold to put examples in");
    let mut clusters = clusters(&examples.iter().map(keys_of_example).collect::<Vec<_>>());
    let stream = seed.stream("folds");
    clusters.sort_by_cached_key(|cluster| (draw(stream, cluster.key), cluster.key));
    let (mut sizes, mut folds) = (vec![0; num_folds], vec![0; examples.len()]);
    for cluster in clusters {
        let smallest = (0..num_folds).min_by_key(|&fold| sizes[fold]).expect("there is a fold");
        sizes[smallest] += cluster.items.len();
        cluster.items.iter().for_each(|&idx| folds[idx] = smallest);
    }
    folds
}

/// The keys of an example.
pub(crate) fn keys_of_example(example: &Example) -> Keys {
    Keys::new(example.group.as_deref(), digest_of_words(&example.input.text()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::split_check::{Placed, SplitCheck};

    fn items() -> impl Strategy<Value = Vec<Keys>> {
        let row = (prop::option::of(0_u8..12), 0_u16..60, any::<bool>());
        prop::collection::vec(row, 2..80).prop_map(|rows| {
            let keys = |(group, text, upper): (Option<u8>, u16, bool)| {
                let group = group.map(|group| group.to_string());
                Keys::new(
                    group.as_deref(),
                    digest_of_words(&format!("{} {text}", if upper { "WORD" } else { "word," })),
                )
            };
            rows.into_iter().map(keys).collect()
        })
    }

    /// Items of a text each, in so many groups, or in none.
    fn grouped(num_items: usize, num_groups: usize) -> Vec<Keys> {
        let group = |i: usize| (num_groups > 0).then(|| (i % num_groups).to_string());
        (0..num_items).map(|i| Keys::new(group(i).as_deref(), digest_of_words(&format!("text {i}")))).collect()
    }

    proptest! {
        #[test]
        fn nothing_crosses_and_order_does_not_count(items in items(), seed in 0_u64..99, percent in 1_u32..60) {
            let fraction = Fraction::new(f64::from(percent) / 100.0).unwrap();
            let held_out = hold_out(&items, fraction, Seed(seed));
            prop_assert!(held_out.contains(&false));
            for (a, _) in items.iter().zip(&held_out).filter(|(_, is_held_out)| !**is_held_out) {
                for (b, _) in items.iter().zip(&held_out).filter(|(_, is_held_out)| **is_held_out) {
                    prop_assert!(a.group.is_none() || a.group != b.group, "group {:?} crosses", a.group);
                    prop_assert_ne!(a.words, b.words);
                }
            }
            let mut order: Vec<usize> = (0..items.len()).collect();
            Seed(seed).stream("test").at(0, 0).shuffle(&mut order);
            let again = hold_out(&order.iter().map(|&at| items[at]).collect::<Vec<_>>(), fraction, Seed(seed));
            prop_assert_eq!(again, order.iter().map(|&at| held_out[at]).collect::<Vec<_>>());
        }
    }

    proptest! {
        /// The newest part: as large as asked, but for what belongs together; older than no item that is left.
        #[test]
        fn the_newest_are_taken(items in items(), years in prop::collection::vec(prop::option::of(2000_u16..2020), 80),
                                seed in 0_u64..99, num in 1_usize..40) {
            let years: Vec<Option<String>> = years.into_iter().map(|year| year.map(|year| year.to_string())).collect();
            let taken = |order: &[usize]| {
                let keys: Vec<Keys> = order.iter().map(|&at| items[at]).collect();
                let days: Vec<Option<&str>> = order.iter().map(|&at| years[at].as_deref()).collect();
                let (taken, left) = cut_newest(clusters(&keys), &days, num, Seed(seed).stream("test"));
                let is_taken = is_in(&taken, keys.len());
                let placed = |(i, keys): (usize, &Keys)| Placed { keys: *keys, day: days[i], part: is_taken[i].into() };
                let check = SplitCheck::of(&["old", "new"], &keys.iter().enumerate().map(placed).collect::<Vec<_>>(), []);
                let last = taken.last().map_or(0, |cluster| cluster.items.len());
                (is_taken, check, last, left.len())
            };
            let order: Vec<usize> = (0..items.len()).collect();
            let (is_taken, check, last, num_left) = taken(&order);
            prop_assert_eq!(check.num_crossings, 0);
            prop_assert!(num_left > 0);
            prop_assert!(is_taken.iter().filter(|taken| **taken).count() < num + last.max(1));
            let mut shuffled = order;
            Seed(seed).stream("order").at(0, 0).shuffle(&mut shuffled);
            let again = taken(&shuffled);
            prop_assert_eq!(again.0, shuffled.iter().map(|&at| is_taken[at]).collect::<Vec<_>>());
            prop_assert_eq!(again.1, check);
        }
    }

    #[test]
    fn sizes_are_met_where_clusters_allow() {
        let held_out = |num_groups, fraction| {
            let held_out = hold_out(&grouped(1000, num_groups), Fraction::new(fraction).unwrap(), Seed(1));
            held_out.into_iter().filter(|is_held_out| *is_held_out).count()
        };
        assert_eq!(held_out(0, 0.02), 20);
        assert_eq!(held_out(100, 0.05), 50);
        assert_eq!(held_out(10, 0.02), 100);
        assert_eq!(held_out(1, 0.02), 0);
        assert!(held_out(0, 1.0) < 1000);
    }

    #[test]
    fn copies_bind_what_they_belonged_to() {
        let group = |name: &str| Keys::new(Some(name), digest_of_words("")).group;
        // 1 and 2 are copies of 0, 4 is one of 3, 6 is one of 5 which is one of 3.
        let groups = [None, group("a"), group("b"), group("c"), None, None, group("b"), group("b"), group("d"), None];
        let bound = Bound::new(&[(1, 0), (2, 1), (4, 3), (5, 3), (6, 5)], |item| groups[item]);
        let of = |item: usize| bound.keys(item, Keys { group: groups[item], words: digest_of_words("") }).group;
        for item in [1, 2, 3, 4, 5, 6, 7] {
            assert_eq!(of(item), of(0), "{item} has group b or is tied to what has it");
        }
        assert!([group("a"), group("b"), group("c")].contains(&of(0)));
        assert_eq!((of(8), of(9)), (group("d"), None));
    }

    #[test]
    fn seeds_draw_different_parts() {
        let part = |seed| hold_out(&grouped(100, 0), Fraction::new(0.2).unwrap(), Seed(seed));
        assert_ne!(part(1), part(2));
        assert_eq!(part(1), part(1));
    }

    #[test]
    fn folds_are_even_and_cut_nothing_apart() {
        let example = |idx: usize| Example {
            id: idx.to_string(),
            group: idx.is_multiple_of(3).then(|| format!("patient {}", idx % 21)),
            input: arable_core::Input::Text(format!("text {}", if idx.is_multiple_of(3) { idx } else { idx % 90 })),
            target: arable_core::Target::Class("x".into()),
        };
        let mut examples: Vec<Example> = (0..120).map(example).collect();
        let found = folds(&examples, 5, Seed(1));
        for (a, first) in examples.iter().enumerate() {
            for (b, second) in examples.iter().enumerate() {
                if first.input == second.input || (first.group.is_some() && first.group == second.group) {
                    assert_eq!(found[a], found[b]);
                }
            }
        }
        let sizes: Vec<usize> = (0..5).map(|fold| found.iter().filter(|&&it| it == fold).count()).collect();
        assert!(sizes.iter().all(|&size| (15..=35).contains(&size)), "{sizes:?}");
        examples.reverse();
        assert_eq!(folds(&examples, 5, Seed(1)), found.into_iter().rev().collect::<Vec<_>>());
    }
}
