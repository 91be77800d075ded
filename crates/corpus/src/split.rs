//! Cutting a set in two so that nothing that belongs together is cut apart.

use std::cmp::Reverse;

use arable_core::{Digest, Example, Fraction, Seed, Stream};

use crate::dedup::digest_of_words;
use crate::times::latest;

/// What tells texts and groups apart: half a digest. There may be many, and of a billion, two are the same by chance once in
/// 10^20 times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key([u8; 16]);

impl From<Digest> for Key {
    fn from(digest: Digest) -> Self {
        Self(digest.as_bytes()[..16].try_into().expect("half of a digest"))
    }
}

/// What an item shares with those that belong to it: its group, and its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) group: Option<Key>,
    pub(crate) words: Key,
}

impl Keys {
    /// `words` as [`digest_of_words`] gives it.
    pub(crate) fn new(group: Option<&str>, words: Digest) -> Self {
        Self { group: group.map(|group| Digest::of_json(&("group", group)).into()), words: words.into() }
    }

    fn smallest(&self) -> Key {
        self.group.map_or(self.words, |group| group.min(self.words))
    }
}

/// Items that belong together, directly or through others: clusters, known by their numbers.
pub(crate) struct Clusters {
    /// Depend on the items' keys alone, not on their order.
    keys: Vec<Key>,
    /// Where the items of each begin, and where the last ones end.
    starts: Vec<u32>,
    /// The items of one after the other, rising in each.
    items: Vec<u32>,
}

impl Clusters {
    /// Puts items together that share their words or their group.
    pub(crate) fn of(items: &[Keys]) -> Self {
        let numbers = numbers(items);
        let num_clusters = numbers.iter().max().map_or(0, |last| *last as usize + 1);
        let (mut keys, mut starts) = (Vec::with_capacity(num_clusters), vec![0; num_clusters + 1]);
        for (keys_of_item, &number) in items.iter().zip(&numbers) {
            let own = keys_of_item.smallest();
            match keys.get_mut(number as usize) {
                Some(key) => *key = own.min(*key),
                None => keys.push(own),
            }
            starts[number as usize + 1] += 1;
        }
        (1..=num_clusters).for_each(|next| starts[next] += starts[next - 1]);
        let (mut ends, mut sorted) = (starts.clone(), vec![0; items.len()]);
        for (item, number) in (0..).zip(numbers) {
            let end = &mut ends[number as usize];
            sorted[*end as usize] = item;
            *end += 1;
        }
        Self { keys, starts, items: sorted }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The numbers of all.
    pub(crate) fn all(&self) -> Vec<u32> {
        (0..self.len() as u32).collect()
    }

    /// The items of one, rising.
    pub(crate) fn items(&self, cluster: u32) -> impl ExactSizeIterator<Item = usize> + '_ {
        let [start, end] = [0, 1].map(|next| self.starts[cluster as usize + next] as usize);
        self.items[start..end].iter().map(|item| *item as usize)
    }

    /// What the order of clusters is drawn by, and what decides between equal draws.
    fn drawn(&self, stream: Stream, cluster: u32) -> (u64, Key) {
        let key = self.keys[cluster as usize];
        (draw(stream, key), key)
    }

    /// For each item, whether it is in one of these clusters.
    pub(crate) fn has(&self, clusters: &[u32]) -> Vec<bool> {
        let mut has = vec![false; self.items.len()];
        clusters.iter().flat_map(|cluster| self.items(*cluster)).for_each(|item| has[item] = true);
        has
    }
}

/// The number of each item's cluster, in the order of their first items.
fn numbers(items: &[Keys]) -> Vec<u32> {
    let num_items = u32::try_from(items.len()).expect("fewer than four billion items");
    let mut parents: Vec<u32> = (0..num_items).collect();
    join_equal(&mut parents, items.iter().map(|keys| Some(keys.words)));
    join_equal(&mut parents, items.iter().map(|keys| keys.group));
    for item in 0..items.len() {
        parents[item] = root(&mut parents, item as u32);
    }
    // A root is the first item of its cluster, so that it has its number before others ask for it.
    let mut num_clusters = 0;
    for item in 0..items.len() {
        parents[item] = if parents[item] == item as u32 {
            num_clusters += 1;
            num_clusters - 1
        } else {
            parents[parents[item] as usize]
        };
    }
    parents
}

/// Puts items with equal keys together. Sorted pairs take a third of the memory of a map.
fn join_equal(parents: &mut [u32], keys: impl Iterator<Item = Option<Key>>) {
    let mut owners: Vec<(Key, u32)> = Vec::with_capacity(parents.len());
    owners.extend((0..).zip(keys).filter_map(|(item, key)| Some((key?, item))));
    owners.sort_unstable();
    owners.windows(2).filter(|two| two[0].0 == two[1].0).for_each(|two| join(parents, two[0].1, two[1].1));
}

fn root(parents: &mut [u32], mut item: u32) -> u32 {
    while parents[item as usize] != item {
        parents[item as usize] = parents[parents[item as usize] as usize];
        item = parents[item as usize];
    }
    item
}

fn join(parents: &mut [u32], one: u32, other: u32) {
    let (a, b) = (root(parents, one), root(parents, other));
    parents[a.max(b) as usize] = a.min(b);
}

/// Groups that are one because of copies: what a copy that was dropped belonged to, the text that stays for it belongs to
/// as well.
pub(crate) struct Bound {
    /// Items that are tied to others, rising, with the group of all that are.
    by_item: Vec<(usize, Option<Key>)>,
    /// Groups of such items, rising, with the one that stands for them.
    by_group: Vec<(Key, Key)>,
}

impl Bound {
    /// From pairs of a copy and what it is a copy of, which may be a copy itself, and from the group of each.
    pub(crate) fn new(copies: &[(usize, usize)], group: impl Fn(usize) -> Option<Key>) -> Self {
        let mut items: Vec<usize> = copies.iter().flat_map(|&(copy, of)| [copy, of]).collect();
        items.sort_unstable();
        items.dedup();
        let place = |item: &usize| items.binary_search(item).expect("every item is listed") as u32;
        let mut parents: Vec<u32> = (0..items.len() as u32).collect();
        copies.iter().for_each(|(copy, of)| join(&mut parents, place(copy), place(of)));
        join_equal(&mut parents, items.iter().map(|&item| group(item)));
        let mut smallest: Vec<Option<Key>> = vec![None; items.len()];
        for (place, &item) in items.iter().enumerate() {
            let root = root(&mut parents, place as u32) as usize;
            smallest[root] = smallest[root].into_iter().chain(group(item)).min();
        }
        let mut of_place = |place: usize| smallest[root(&mut parents, place as u32) as usize];
        let by_item: Vec<_> = items.iter().enumerate().map(|(place, &item)| (item, of_place(place))).collect();
        let mut by_group: Vec<_> = by_item.iter().filter_map(|&(item, least)| Some((group(item)?, least?))).collect();
        by_group.sort_unstable();
        by_group.dedup();
        Self { by_item, by_group }
    }

    /// The keys of an item, with the group that it belongs to by all that is known.
    pub(crate) fn keys(&self, item: usize, keys: Keys) -> Keys {
        let of_item = || self.by_item[self.by_item.binary_search_by_key(&item, |(item, _)| *item).ok()?].1;
        let of_group = |group| match self.by_group.binary_search_by_key(&group, |(group, _)| *group) {
            Ok(at) => self.by_group[at].1,
            Err(_) => group,
        };
        Keys { group: of_item().or_else(|| keys.group.map(of_group)), ..keys }
    }
}

/// Takes whole clusters in an order drawn for each from its key, up to `num_items` items; clusters that are too large
/// or that `may_take` keeps back are passed over. Where every cluster is too large, the smallest one is taken, as
/// long as another is left. Returns what was taken and what was left.
pub(crate) fn cut(
    clusters: &Clusters,
    mut order: Vec<u32>,
    num_items: usize,
    stream: Stream,
    mut may_take: impl FnMut(u32) -> bool,
) -> (Vec<u32>, Vec<u32>) {
    order.sort_by_cached_key(|cluster| clusters.drawn(stream, *cluster));
    let (mut taken, mut left) = (Vec::new(), Vec::with_capacity(order.len()));
    let mut num_free = num_items.max(1);
    for cluster in order {
        if clusters.items(cluster).len() <= num_free && may_take(cluster) {
            num_free -= clusters.items(cluster).len();
            taken.push(cluster);
        } else {
            left.push(cluster);
        }
    }
    if taken.is_empty() && left.len() > 1 {
        let mut places: Vec<usize> = (0..left.len()).collect();
        places.sort_by_key(|place| clusters.items(left[*place]).len());
        let smallest = places.into_iter().find(|place| may_take(left[*place]));
        taken.extend(smallest.map(|place| left.remove(place)));
    }
    (taken, left)
}

/// A number drawn for what has this key.
pub(crate) fn draw(stream: Stream, Key(key): Key) -> u64 {
    let half = |range: std::ops::Range<usize>| u64::from_le_bytes(key[range].try_into().expect("eight bytes"));
    stream.at(half(0..8), half(8..16)).bits()
}

/// The newest day of items; none where no item has one.
pub(crate) fn newest<'a>(
    items: impl Iterator<Item = usize>,
    day: impl Fn(usize) -> Option<&'a str>,
) -> Option<&'a str> {
    items.filter_map(day).max_by_key(|day| latest(day))
}

/// Takes whole clusters, the newest first, until there are `num_items` items; of equally new ones, in an order drawn for
/// each. A cluster is as new as its newest item: what is taken may be older than what is left, never the other way
/// round. Clusters without a day are left, and at least one is. Returns what was taken and what was left.
pub(crate) fn cut_newest<'a>(
    clusters: &Clusters,
    mut order: Vec<u32>,
    day: impl Fn(usize) -> Option<&'a str>,
    num_items: usize,
    stream: Stream,
) -> (Vec<u32>, Vec<u32>) {
    let time = |cluster: &u32| newest(clusters.items(*cluster), &day).map(latest);
    order.sort_by_cached_key(|cluster| (Reverse(time(cluster)), clusters.drawn(stream, *cluster)));
    let most = order.iter().filter(|cluster| time(cluster).is_some()).count().min(order.len().saturating_sub(1));
    let (mut num_taken, mut num_items_taken) = (0, 0);
    while num_taken < most && num_items_taken < num_items.max(1) {
        num_items_taken += clusters.items(order[num_taken]).len();
        num_taken += 1;
    }
    let left = order.split_off(num_taken);
    (order, left)
}

/// How many of `num_items` items a part is.
pub(crate) fn part_of(num_items: usize, part: Fraction) -> usize {
    (part.get() * num_items as f64).round() as usize
}

/// What decides about documents kept aside.
pub(crate) const HELD_OUT_STREAM: &str = "held out documents";

/// Which items to keep aside. Items that belong together stay on one side, and which side that is depends on them and on
/// the seed, not on their order. Nothing is kept aside when all belong together.
pub(crate) fn hold_out(keys: &[Keys], fraction: Fraction, seed: Seed) -> Vec<bool> {
    let clusters = Clusters::of(keys);
    let mut num_left = clusters.len();
    let num_items = part_of(keys.len(), fraction);
    let (taken, _) = cut(&clusters, clusters.all(), num_items, seed.stream(HELD_OUT_STREAM), |_| {
        num_left -= 1;
        num_left > 0
    });
    clusters.has(&taken)
}

/// The fold of each example, out of `num_folds` of about equal size, for cross-validation. Examples of equal words or of
/// one group are in one fold, which depends on them and on the seed, not on the order of examples.
///
/// # Panics
/// When there is no fold.
pub fn folds(examples: &[Example], num_folds: usize, seed: Seed) -> Vec<usize> {
    assert!(num_folds > 0, "a fold to put examples in");
    let clusters = Clusters::of(&examples.iter().map(keys_of_example).collect::<Vec<_>>());
    let (mut order, stream) = (clusters.all(), seed.stream("folds"));
    order.sort_by_cached_key(|cluster| clusters.drawn(stream, *cluster));
    let (mut sizes, mut folds) = (vec![0; num_folds], vec![0; examples.len()]);
    for cluster in order {
        let smallest = (0..num_folds).min_by_key(|&fold| sizes[fold]).expect("there is a fold");
        sizes[smallest] += clusters.items(cluster).len();
        clusters.items(cluster).for_each(|idx| folds[idx] = smallest);
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
    use crate::split_check::{Place, SplitCheck};

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
                let day = |i: usize| years[order[i]].as_deref();
                let clusters = Clusters::of(&keys);
                let (taken, left) = cut_newest(&clusters, clusters.all(), day, num, Seed(seed).stream("test"));
                let is_taken = clusters.has(&taken);
                let place = |i: usize| Place { day: day(i), part: is_taken[i].into() };
                let check = SplitCheck::of(&["old", "new"], &keys, place, std::iter::empty());
                let last = taken.last().map_or(0, |cluster| clusters.items(*cluster).len());
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
        let of = |item: usize| bound.keys(item, Keys { group: groups[item], words: digest_of_words("").into() }).group;
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
