//! Curation as a whole, on small corpora.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use arable_core::{Document, Fraction, Hint, Seed};
use arable_corpus::{
    CorpusConfig, CurateError, DedupConfig, DropReason, Dropped, HeldOut, HeldOutSet, NearConfig, PiiCounts, PiiKind,
    QualityConfig, RuleCounts, SourceConfig, normalize,
};
use proptest::prelude::*;

use common::{Curated, curated, curated_documents};

/// A folder with files of these names and texts.
fn root_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(root.path().join(name), text).unwrap();
    }
    root
}

fn config(sources: &[(&str, &str)]) -> CorpusConfig {
    CorpusConfig {
        source: sources.iter().map(|(name, path)| SourceConfig::new(name, path)).collect(),
        held_out: HeldOut::Share(Fraction::new(0.2).unwrap()),
        min_words: 3,
        ..CorpusConfig::default()
    }
}

fn lines(texts: impl IntoIterator<Item = String>) -> String {
    texts.into_iter().map(|text| format!("{}\n", serde_json::json!({ "text": text }))).collect()
}

#[test]
fn what_keep_leaves_out_is_counted_by_condition() {
    let texts = ["a document with five words", "four words are here", "many many many many many many words", "x y z"];
    let root = root_with(&[("a.jsonl", &lines((0..12).map(|i| format!("{i} {}", texts[i % 4]))))]);
    let mut config = config(&[("a", "a.jsonl")]);
    config.keep = Some("varied AND num_words > 5".into());
    config.rule = [("varied".into(), "unique_word_ratio > 0.5".into())].into();
    let found = curated(&config, root.path(), &[], Seed(1)).unwrap();
    let rule =
        |name: &str, num_failed, num_failed_alone| RuleCounts { name: name.into(), num_failed, num_failed_alone };
    let counts = &found.counts;
    assert_eq!(counts.rules, [rule("varied: unique_word_ratio > 0.5", 3, 3), rule("num_words > 5", 6, 6)]);
    assert_eq!((counts.num_filtered, counts.num_train + counts.num_held_out), (9, 3));
    let reason = DropReason::Filtered { failed: vec!["num_words > 5".into()] };
    assert_eq!(found.dropped.iter().filter(|dropped| dropped.reason == reason).count(), 6);

    config.keep = Some("num_words > 100".into());
    let error = curated(&config, root.path(), &[], Seed(1)).unwrap_err();
    assert!(error.to_string().contains("12 that `keep` leaves out"), "{error}");
    config.keep = Some("num_word > 100".into());
    let error = curated(&config, root.path(), &[], Seed(1)).unwrap_err();
    assert_eq!(error.hint().unwrap(), "did you mean `num_words`?");
}

#[test]
fn everything_is_kept_or_counted() {
    let planted = "one two three four five six seven eight nine ten";
    let a = lines((0..20).map(|i| format!("a document, number {i}")));
    let b = lines(["A document: number 3".into(), "short".into(), format!("so: {planted}.")]) + "{\n";
    let root = root_with(&[("a.jsonl", &(a + &lines(["a document, number 3".into()]))), ("b.jsonl", &b)]);
    let sets = [HeldOutSet { task: "t".into(), texts: vec![("x".into(), planted.into())] }];
    let mut config = config(&[("a", "a.jsonl"), ("b", "b.jsonl")]);
    let error = curated(&config, root.path(), &sets, Seed(1)).unwrap_err();
    assert!(error.hint().unwrap().starts_with("most often `invalid_json`"), "{error:?}");

    config.max_reject_rate = arable_core::Probability::new(0.25).unwrap();
    let found = curated(&config, root.path(), &sets, Seed(1)).unwrap();
    let counts = &found.counts;
    assert_eq!((counts.num_train, counts.num_held_out, counts.num_train_words), (16, 4, 64));
    assert_eq!((counts.num_too_short, counts.num_overlap), (1, 1));
    assert_eq!((counts.num_exact_duplicates, counts.num_normalized_duplicates), (1, 1));
    assert_eq!(counts.rejects["invalid_json"], 1);
    assert_eq!(found.rejects[0]["line"], 4);
    let kept: Vec<_> = counts.sources.iter().map(|source| (source.num_documents, source.num_kept)).collect();
    assert_eq!(kept, [(21, 20), (3, 0)]);
    let found = &counts.overlap[0];
    assert_eq!((found.num_examples, found.num_examples_found, found.num_documents_removed), (1, 1, 1));
}

/// Two patients share a letter, of which one copy is dropped: whatever else there is of both stands on one side.
#[test]
fn a_dropped_copy_binds_its_group() {
    let row = |patient: usize, text: String| format!("{}\n", serde_json::json!({ "text": text, "patient": patient }));
    let own = (0..60).map(|i| row(i / 3, format!("note {i} of patient {}", i / 3)));
    let shared = [0, 1].map(|patient| row(patient, "a letter that both have".to_owned()));
    let root = root_with(&[("a.jsonl", &own.chain(shared).collect::<String>())]);
    let mut config = config(&[("a", "a.jsonl")]);
    config.source[0].group = Some("patient".into());
    let sides = (0..20).map(|seed| {
        let found = curated(&config, root.path(), &[], Seed(seed)).unwrap();
        assert_eq!((found.counts.num_exact_duplicates, found.counts.split.num_crossings), (1, 0));
        let held_out = found.held_out.iter().filter(|document| matches!(document.group.as_deref(), Some("0" | "1")));
        held_out.count()
    });
    assert_eq!(sides.collect::<BTreeSet<_>>(), [0, 7].into());
}

#[test]
fn personal_data_is_counted_and_masked_where_asked_for() {
    let text = |i: usize| match i {
        3 => "write to ann@x.org or ben@x.org soon".to_owned(),
        5 => "write to eve@x.org or call +49 30 1234567".to_owned(),
        i => format!("a document, number {i}"),
    };
    let root = root_with(&[("a.jsonl", &lines((0..20).map(text)))]);
    let mut config = config(&[("a", "a.jsonl")]);
    let texts = |curated: &Curated| {
        curated.train.iter().chain(&curated.held_out).map(|document| document.text.clone()).collect::<String>()
    };
    let left = curated(&config, root.path(), &[], Seed(1)).unwrap();
    config.pii.mask = vec![PiiKind::Email];
    let masked = curated(&config, root.path(), &[], Seed(1)).unwrap();
    let expected = [
        (PiiKind::Email, PiiCounts { num_found: 3, num_documents: 2 }),
        (PiiKind::Phone, PiiCounts { num_found: 1, num_documents: 1 }),
    ];
    assert_eq!((&left.counts.pii, &masked.counts.pii), (&expected.into(), &expected.into()));
    assert!(texts(&left).contains("ann@x.org"));
    let masked = texts(&masked);
    assert!(masked.contains("write to [EMAIL] or [EMAIL] soon") && masked.contains("+49 30") && !masked.contains('@'));
}

#[test]
fn what_cannot_be_a_corpus_has_a_hint() {
    let root = root_with(&[
        ("one.jsonl", &lines(["only this one here".into()])),
        ("short.jsonl", &lines(["x".into()])),
        ("empty.jsonl", ""),
    ]);
    let check = |sources: &[(&str, &str)], expected: &str| {
        let error = curated(&config(sources), root.path(), &[], Seed(1)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some(), "{error}");
    };
    check(&[], "find a source");
    check(&[("a", "one.jsonl"), ("a", "one.jsonl")], "occurs twice");
    check(&[("a/b", "one.jsonl")], "contains `/`");
    check(&[("a", "one.jsonl")], "all 1 belong together");
    check(&[("a", "short.jsonl")], "keep a document: of 1 there are 1 too short");
    check(&[("a", "empty.jsonl")], "read the source `a`");
    check(&[("a", "missing.jsonl")], "read the source `a`");
}

const SOURCES: [&str; 3] = ["b", "a", "c"];

fn document(source: &str, id: usize, text: &str) -> Document {
    let (id, source) = (format!("{source}/{id}"), source.to_owned());
    Document { id, source, text: text.to_owned(), ..Document::default() }
}

/// Documents of the sources [`SOURCES`], with some unlike all others, so that a part can be kept aside.
fn some_documents() -> impl Strategy<Value = Vec<Document>> {
    let text = prop::sample::select(vec!["One two", "one  two!", "one two", "1", "?", "!", "ONE-TWO", "three"]);
    prop::collection::vec((prop::sample::select(SOURCES.to_vec()), text), 0..24).prop_map(|rows| {
        let own = rows.into_iter().enumerate().map(|(i, (source, text))| document(source, i, text));
        own.chain((90..93).map(|i| document("c", i, &format!("number {i}")))).collect()
    })
}

fn of_three_sources() -> CorpusConfig {
    let source = SOURCES.map(|name| SourceConfig::new(name, "unread"));
    CorpusConfig { source: source.to_vec(), min_words: 0, ..CorpusConfig::default() }
}

/// Ids of what was kept, and what was left out, in order.
fn sorted(curated: &Curated) -> (BTreeSet<String>, Vec<Dropped>) {
    let kept = curated.train.iter().chain(&curated.held_out).map(|document| document.id.clone()).collect();
    let mut dropped = curated.dropped.clone();
    dropped.sort_by(|a, b| a.document.id.cmp(&b.document.id));
    (kept, dropped)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn one_of_each_text_stays_whatever_the_order(documents in some_documents(), seed in 0_u64..1000) {
        let config = of_three_sources();
        let expected = sorted(&curated_documents(&config, &documents, &[]).unwrap());
        let mut shuffled = documents.clone();
        Seed(seed).stream("test").at(0, 0).shuffle(&mut shuffled);
        prop_assert_eq!(&sorted(&curated_documents(&config, &shuffled, &[]).unwrap()), &expected);
        let kept: Vec<Document> = documents.iter().filter(|one| expected.0.contains(&one.id)).cloned().collect();
        let again = sorted(&curated_documents(&config, &kept, &[]).unwrap());
        prop_assert!(again.0 == expected.0 && again.1.is_empty());
        prop_assert_eq!(expected.0.len() + expected.1.len(), documents.len());
        let word_less = |document: &&Document| normalize(&document.text).is_empty();
        let texts: BTreeSet<String> = kept.iter().map(|document| normalize(&document.text)).collect();
        let num_word_less = kept.iter().filter(word_less).count();
        prop_assert!(num_word_less <= 2);
        prop_assert_eq!(texts.len() + num_word_less.saturating_sub(1), kept.len());
    }
}

#[test]
fn the_earlier_source_stays() {
    let documents = vec![
        document("a", 1, "One two."),
        document("b", 2, "one two"),
        document("a", 0, "One two."),
        document("a", 2, "?"),
        document("a", 3, "!"),
    ];
    let mut config = of_three_sources();
    let (kept, dropped) = sorted(&curated_documents(&config, &documents, &[]).unwrap());
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), ["a/2", "a/3", "b/2"]);
    assert_eq!(dropped[0].reason, DropReason::NormalizedDuplicate { of: "b/2".into() });
    assert_eq!(dropped[1].reason, DropReason::ExactDuplicate { of: "a/0".into() });
    config.dedup = DedupConfig { exact: false, normalized: false, near: None };
    assert!(curated_documents(&config, &documents, &[]).unwrap().dropped.is_empty());
}

/// Of copies in two sources, the better one stays, whatever its source and however the copies are alike.
#[test]
fn the_better_document_stays() {
    let good = |i: usize| format!("Measured carefully, sample {i} was stable under every load that we applied.");
    let bad = |i: usize| format!("buy now!! cheap cheap offer {i} click here and win");
    let long = (0..60).map(|i| format!("word{i}")).collect::<Vec<_>>().join(" ");
    let pairs = [
        (format!("{long} buy now cheap"), format!("{long} measured carefully")),
        ("Sample buy 3".to_owned(), "Sample buy 3".to_owned()),
    ];
    let (first, second): (Vec<String>, Vec<String>) = pairs.into_iter().unzip();
    let root = root_with(&[
        ("a.jsonl", &lines(first.into_iter().chain((0..8).map(bad)))),
        ("b.jsonl", &lines(second)),
        ("good.jsonl", &lines((0..40).map(good))),
        ("bad.jsonl", &lines((0..40).map(bad))),
    ]);
    let mut config = config(&[("a", "a.jsonl"), ("b", "b.jsonl")]);
    config.dedup.near = Some(NearConfig { min_similarity: Fraction::new(0.5).unwrap(), ..NearConfig::default() });
    let kept = |config: &CorpusConfig| {
        let found = curated(config, root.path(), &[], Seed(1)).unwrap();
        assert_eq!((found.counts.num_near_duplicates, found.counts.num_exact_duplicates), (1, 1));
        let of_b = found.train.iter().chain(&found.held_out).filter(|document| document.source == "b");
        of_b.map(|document| document.text.clone()).collect::<Vec<_>>()
    };
    assert!(kept(&config).is_empty(), "without quality, the earlier source goes first");
    let quality = QualityConfig { good: "good.jsonl".into(), bad: "bad.jsonl".into(), text: "text".into() };
    config.quality = Some(quality);
    let of_b = kept(&config);
    assert!(of_b.len() == 1 && of_b[0].ends_with("measured carefully"), "equal texts are equally good: {of_b:?}");
}

/// Documents with groups and times, some of them copies of others.
fn dated_documents() -> impl Strategy<Value = Vec<Document>> {
    let row = (
        prop::sample::select(SOURCES.to_vec()),
        0_usize..60,
        prop::option::of(0_u8..20),
        prop::option::of(1990_u16..2010),
    );
    prop::collection::vec(row, 20..80).prop_map(|rows| {
        let rows = rows.into_iter().enumerate();
        let own = rows.map(|(i, (source, text, group, year))| {
            let (group, time) = (group.map(|group| group.to_string()), year.map(|year| format!("{year}-07")));
            Document { group, time, ..document(source, i, &format!("text {text}")) }
        });
        let single =
            |year: u16| Document { time: Some(year.to_string()), ..document("a", year.into(), &format!("in {year}")) };
        own.chain((1980..1990).map(single)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A sample by decade, of which the newest part is kept aside: the same for any order of input, and cut cleanly.
    #[test]
    fn samples_and_splits_are_those_of_the_documents(documents in dated_documents(), seed in 0_u64..1000) {
        let mut config = of_three_sources();
        config.sample = Some(toml::from_str("by = \"left(time, 3) || '0s'\"\ntotal = 30\ntemperature = 2").unwrap());
        config.held_out = toml::from_str::<CorpusConfig>("held_out = { newest = 0.2 }").unwrap().held_out;
        let found = curated_documents(&config, &documents, &[]).unwrap();
        let mut shuffled = documents.clone();
        Seed(seed).stream("test").at(0, 0).shuffle(&mut shuffled);
        let again = curated_documents(&config, &shuffled, &[]).unwrap();
        prop_assert_eq!(&again.counts, &found.counts);
        prop_assert_eq!(sorted(&again), sorted(&found));
        let ids = |part: &[Document]| part.iter().map(|document| document.id.clone()).collect::<BTreeSet<_>>();
        prop_assert_eq!(ids(&again.held_out), ids(&found.held_out));

        let sample = found.counts.sample.as_ref().unwrap();
        prop_assert_eq!(sample.num_taken(), found.train.len() + found.held_out.len());
        prop_assert!(sample.values.iter().all(|own| own.num_taken <= own.num_documents));
        let is_out = |dropped: &&Dropped| matches!(dropped.reason, DropReason::SampledOut { .. });
        prop_assert_eq!(found.dropped.iter().filter(is_out).count(), found.counts.num_sampled_out);
        prop_assert_eq!(found.dropped.len() + sample.num_taken(), documents.len());

        let groups = |part: &[Document]| -> BTreeSet<String> {
            part.iter().filter_map(|document| Some(format!("{}/{}", document.source, document.group.as_ref()?))).collect()
        };
        prop_assert!(groups(&found.train).is_disjoint(&groups(&found.held_out)));
        let split = &found.counts.split;
        prop_assert_eq!((split.num_crossings, split.borders.len()), (0, 1));
        let border = &split.borders[0].from;
        let newest = found.train.iter().filter_map(|document| document.time.clone()).max();
        prop_assert!(newest.is_none_or(|newest| newest[..4] <= border[..4]), "{:?}", split);
    }
}

#[test]
fn quotas_are_reached_and_the_rest_is_in_quarantine() {
    let texts = |name: &str, num: usize| lines((0..num).map(|i| format!("{name} document, number {i}")));
    let root = root_with(&[("a.jsonl", &texts("a", 60)), ("b.jsonl", &texts("b", 30))]);
    let mut config = config(&[("a", "a.jsonl"), ("b", "b.jsonl")]);
    let drawn = |sample: &str, config: &mut CorpusConfig| {
        config.sample = Some(toml::from_str(sample).unwrap());
        curated(config, root.path(), &[], Seed(1))
    };
    let found = drawn("share = { a = 0.25, b = 0.75 }", &mut config).unwrap();
    let kept: Vec<usize> = found.counts.sources.iter().map(|source| source.num_kept).collect();
    assert_eq!((kept, found.counts.num_sampled_out, found.held_out.len()), (vec![10, 30], 50, 8));
    assert!(found.dropped.iter().all(|dropped| dropped.reason == DropReason::SampledOut { value: "a".into() }));
    assert_eq!(found.dropped[0].reason.to_string(), "sampled out: there are enough of a");

    let short = drawn("share = { a = 0.25, b = 0.75 }\ntotal = 80", &mut config).unwrap().counts.sample.unwrap();
    assert_eq!((short.num_asked, short.num_taken(), short.values[1].num_short()), (80, 50, 30));
    let none = drawn("count = { a = 0, b = 0 }", &mut config).unwrap_err();
    assert!(none.to_string().contains("90 beyond the sample") && none.hint().is_some(), "{none}");
    let unknown = drawn("share = { c = 0.5 }", &mut config).unwrap_err();
    assert!(
        unknown.to_string().contains("corpus.sample") && unknown.hint().unwrap().contains("one of a, b"),
        "{unknown}"
    );
    let wrong = drawn("by = 'sorce'\ntotal = 9", &mut config).unwrap_err();
    assert!(wrong.hint().unwrap().contains("source"), "{wrong:?}");
}

#[test]
fn times_that_cut_nothing_have_a_hint() {
    let root = root_with(&[("a.jsonl", &lines((0..9).map(|i| format!("a document, number {i}"))))]);
    let mut config = config(&[("a", "a.jsonl")]);
    config.held_out = toml::from_str::<CorpusConfig>("held_out = { newest = 0.2 }").unwrap().held_out;
    let error = curated(&config, root.path(), &[], Seed(1)).unwrap_err();
    assert!(error.to_string().contains("none of 9 has a time") && error.hint().unwrap().contains("`time`"), "{error}");
    let crossing = CurateError::Crossing { num_crossings: 1 };
    assert!(crossing.to_string().contains("1 texts, groups or times") && crossing.hint().is_some());
}

/// More text than fits a block, near-copies far apart, on any number of threads.
#[test]
fn blocks_and_threads_do_not_show() {
    let text = |i: usize| {
        let mut draws = Seed(1).stream("text").at(0, (i % 700) as u64);
        let words: Vec<String> = (0..400).map(|_| format!("w{}", draws.below(9000))).collect();
        format!("{} {}", words.join(" "), if i < 700 { "end" } else { "of the copy" })
    };
    let documents: Vec<Document> = (0..1400).map(|i| document("a", i, &text(i))).collect();
    let mut config = of_three_sources();
    config.dedup.near = Some(NearConfig::default());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| curated_documents(&config, &documents, &[]).unwrap())
    };
    let expected = run(1);
    assert_eq!((expected.counts.num_near_duplicates, expected.train.len() + expected.held_out.len()), (700, 700));
    for threads in [2, 5] {
        assert_eq!(run(threads), expected);
    }
}
