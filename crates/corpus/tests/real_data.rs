//! The readers, the overlap check and the tasks against public data sets, where they are at hand.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests count as no test to clippy")]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use arable_core::{Document, Seed};
use arable_corpus::{
    CorpusConfig, DedupConfig, DropReason, HeldOutSet, OverlapConfig, PiiKind, SourceConfig, Task, TaskConfig,
    TaskKind, find_pii, read_source, read_task,
};

use common::{Curated, curated_documents, data};

struct Expected {
    name: &'static str,
    kind: TaskKind,
    extension: &'static str,
    sizes: [usize; 3],
    num_labels: usize,
}

const TASKS: [Expected; 7] = {
    use TaskKind::{Classification, Multilabel, Tagging};
    const fn task(name: &'static str, kind: TaskKind, sizes: [usize; 3], num_labels: usize) -> Expected {
        let extension = if matches!(kind, Tagging) { "conll" } else { "jsonl" };
        Expected { name, kind, extension, sizes, num_labels }
    }
    [
        task("question-type", Classification, [11_604, 1_497, 3_306], 16),
        task("chemprot", Classification, [4_169, 2_427, 3_469], 13),
        task("scicite", Classification, [7_320, 916, 1_861], 3),
        task("hallmarks", Multilabel, [12_012, 1_777, 3_675], 0),
        task("bc5cdr-ner", Tagging, [4_560, 4_581, 4_797], 5),
        task("ncbi-disease-ner", Tagging, [5_424, 923, 940], 3),
        task("pubmedqa", Classification, [388, 112, 500], 3),
    ]
};

fn read(expected: &Expected, data: &Path) -> Task {
    let path = |part: &str| format!("biomed/tasks/{}/{part}.{}", expected.name, expected.extension);
    let mut config = TaskConfig::new(expected.kind, &path("train"));
    (config.dev, config.test) = (Some(path("dev")), Some(path("test")));
    match expected.name {
        "pubmedqa" => config.text_pair = Some("question".to_owned()),
        "chemprot" => config.markers = ["<<", ">>", "[[", "]]"].map(str::to_owned).to_vec(),
        _ => {}
    }
    read_task(expected.name, &config, data, Seed(1)).unwrap()
}

#[test]
fn tasks_are_read_whole() {
    let Some(data) = data() else { return };
    for expected in &TASKS {
        let task = read(expected, &data);
        println!(
            "{}: {} labels, {} test texts in training, {} tags repaired, {} rejects",
            task.name,
            task.labels.len(),
            task.num_test_in_train,
            task.num_repaired_tags,
            task.rejects.len()
        );
        assert_eq!(task.rejects, [], "{}", task.name);
        assert_eq!([&task.train, &task.dev, &task.test].map(|part| part.len()), expected.sizes, "{}", task.name);
        assert!(expected.num_labels == 0 || task.labels.len() == expected.num_labels, "{}", task.name);
    }
}

#[test]
fn corpora_are_read_whole() {
    let Some(data) = data() else { return };
    let check = |path: &str, num_documents: usize| {
        let records = read_source(&SourceConfig::new("s", path), &data).unwrap();
        let ids: HashSet<String> = records.map(|record| record.unwrap().unwrap().id).collect();
        assert_eq!(ids.len(), num_documents, "{path}");
    };
    check("biomed/corpus", 16_407 + 6_292 + 84);
    check("general/corpus/{history,reviews}.jsonl.gz", 2_173);
    check("general/corpus/novels.jsonl.gz", 13_698);
}

/// As published: XML in a packed archive, a file for each page.
#[test]
fn raw_xml_in_an_archive_is_read_by_configuration_alone() {
    let Some(data) = data() else { return };
    let source = SourceConfig {
        record: Some("QAPair".into()),
        text: "Answer".into(),
        group: Some("/Document/@id".into()),
        ..SourceConfig::new("medquad", "raw/biomed-medquad/medquad-with-answers.tar.gz")
    };
    let (mut texts, mut groups, mut reasons) = (HashSet::new(), HashSet::new(), BTreeMap::new());
    for record in read_source(&source, &data).unwrap() {
        match record.unwrap() {
            Ok(document) => {
                texts.insert(document.text.split_whitespace().collect::<String>());
                groups.insert(document.group);
            }
            Err(reject) => *reasons.entry(reject.reason.to_string()).or_insert(0) += 1,
        }
    }
    println!("{} texts, {} groups, {reasons:?}", texts.len(), groups.len());
    let ready = read_source(&SourceConfig::new("ready", "biomed/corpus/medquad.jsonl.gz"), &data).unwrap();
    let ready: Vec<Document> = ready.map(|record| record.unwrap().unwrap()).collect();
    let num_same = ready.iter().filter(|own| texts.contains(&own.text.split_whitespace().collect::<String>())).count();
    println!("{num_same} of {} ready texts are among them", ready.len());
    assert!(num_same * 100 >= ready.len() * 95);
}

/// A set as it was published, the settings that read it, and what has to come out.
struct Raw {
    set: &'static str,
    settings: &'static str,
    num_documents: usize,
    num_rejects: usize,
    /// Documents with a value: id of their own, group, time, origin, licence, labels.
    has: &'static str,
}

/// Counts are those of the READMEs of the sets where they say any, else counted apart from this crate.
const RAW: [Raw; 17] = {
    const fn raw(set: &'static str, settings: &'static str, num_documents: usize, num_rejects: usize) -> Raw {
        Raw { set, settings, num_documents, num_rejects, has: "" }
    }
    const fn with(raw: Raw, has: &'static str) -> Raw {
        Raw { has, ..raw }
    }
    [
        with(
            raw(
                "biomed-pubmedqa/ori_pqal.json",
                "id = '@key'\ntext = 'CONTEXTS'\ntime = 'YEAR'\nlabels = 'final_decision'\ndefault_licence = 'MIT'",
                1_000,
                0,
            ),
            "licence labels",
        ),
        with(
            raw(
                "biomed-medquad/medquad-with-answers.tar.gz",
                "record = 'QAPair'\ntext = 'Answer'\ngroup = '/Document/@id'\norigin = '/Document/@source'\n\
                 labels = 'Question/@qtype'\ndefault_licence = 'CC-BY-4.0'",
                16_407,
                5,
            ),
            // Five files have another root, without id and source.
            "licence labels",
        ),
        raw("biomed-medquad/medquad-questions-only.tar.gz", "record = 'QAPair'\ntext = 'Question'", 31_029, 0),
        raw("biomed-medquad/*.zip", "format = 'csv'\ntext = 'Answer'", 2_479, 0),
        raw("biomed-craft/craft-84docs-text-concepts.tar.gz", "members = 'articles/txt/*.txt'", 84, 0),
        raw("biomed-hoc/hoc-text-labels.tar.gz", "members = 'text/*.txt'", 1_852, 0),
        with(raw("biomed-scibert-textcls/chemprot/*.txt", "format = 'jsonl'\nlabels = 'label'", 10_065, 0), "labels"),
        with(raw("biomed-scibert-textcls/sci-cite/*.txt", "format = 'jsonl'\nlabels = 'label'", 10_097, 0), "labels"),
        raw("general-nltk-ccby/movie_reviews.zip", "members = '**/*.txt'", 2_000, 0),
        raw("general-nltk-ccby/inaugural.zip", "members = '**/*.txt'", 59, 0),
        raw("general-nltk-ccby/sentence_polarity.zip", "format = 'text'\nmembers = '**/rt*'\nlines = true", 10_662, 0),
        raw("general-nltk-ccby/subjectivity.zip", "format = 'text'\nmembers = '**/*.5000'\nlines = true", 10_000, 0),
        raw("general-nltk-ccby/pros_cons.zip", "members = '**/Integrated*.txt'\nlines = true", 45_875, 0),
        raw("general-nltk-ccby/product_reviews_*.zip", "members = '**/[!R]*.txt'", 14, 0),
        raw(
            "general-openstax-us-history/modules/*/index.cnxml",
            "format = 'xml'\nrecord = 'document'\ntext = 'content'\nid = 'metadata/content-id'",
            176,
            1,
        ),
        with(raw("pii-presidio-synth/*.json", "text = 'full_text'\ngroup = 'template_id'", 3_609, 0), "group"),
        with(
            raw(
                "safety-crows-pairs/crows_pairs_anonymized.csv",
                "text = 'sent_more'\nlabels = 'bias_type'\norigin = 'anon_writer'",
                1_508,
                0,
            ),
            "origin labels",
        ),
    ]
};

#[test]
fn every_raw_set_of_text_is_read_by_configuration_alone() {
    let Some(data) = data() else { return };
    let mut failed = Vec::new();
    for Raw { set, settings, num_documents, num_rejects, has } in &RAW {
        let source: SourceConfig = toml::from_str(&format!("name = 's'\npath = 'raw/{set}'\n{settings}")).unwrap();
        let records: Vec<_> = match read_source(&source, &data).and_then(Iterator::collect) {
            Ok(records) => records,
            Err(error) => {
                println!("{set}: {error}");
                failed.push(set);
                continue;
            }
        };
        let (good, bad): (Vec<_>, Vec<_>) = records.into_iter().partition(Result::is_ok);
        let documents: Vec<Document> = good.into_iter().flatten().collect();
        let share = |name: &str| {
            let has = |document: &&Document| match name {
                "group" => document.group.is_some(),
                "origin" => document.origin.is_some(),
                "licence" => document.licence.is_some(),
                _ => !document.labels.is_empty(),
            };
            documents.iter().filter(has).count()
        };
        let lacking: Vec<&str> = has.split_whitespace().filter(|name| share(name) < documents.len()).collect();
        let num_words: usize = documents.iter().map(|document| document.text.split_whitespace().count()).sum();
        println!("{set}: {} documents, {num_words} words, {} rejects, without {lacking:?}", documents.len(), bad.len());
        bad.iter().take(2).for_each(|bad| println!("  {:?}", bad.as_ref().err()));
        if (documents.len(), bad.len()) != (*num_documents, *num_rejects) || !lacking.is_empty() {
            failed.push(set);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// The domain's own configuration for files as they were published.
#[test]
fn the_raw_corpus_is_curated_by_configuration_alone() {
    let Some(data) = data() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../domains/biomed/raw.toml");
    let table: toml::Table = toml::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
    let config: CorpusConfig = table["corpus"].clone().try_into().unwrap();
    let counts = common::curated(&config, &data, &[], Seed(1)).unwrap().counts;
    let read: Vec<usize> = counts.sources.iter().map(|source| source.num_documents).collect();
    println!("{counts:#?}");
    // What the READMEs of the sets count; an answer of MedQuAD that is empty is a reject.
    assert_eq!(read, [16_407, 84, 1_852]);
    assert!(counts.num_filtered > 1_000 && counts.num_filtered < 2_000);
    assert!(counts.sources.iter().all(|source| source.num_kept * 100 > source.num_documents * 80));
}

fn curate_biomed(data: &Path) -> (Vec<HeldOutSet>, Curated) {
    let source = |name: &str| SourceConfig::new(name, &format!("biomed/corpus/{name}.jsonl.gz"));
    let config =
        CorpusConfig { source: ["medquad", "abstracts", "craft"].map(source).to_vec(), ..CorpusConfig::default() };
    let sets: Vec<_> = TASKS.iter().map(|task| HeldOutSet::of_task(&config.overlap, &read(task, data))).collect();
    let start = std::time::Instant::now();
    let curated = common::curated(&config, data, &sets, Seed(1)).unwrap();
    println!("curated in {:.1} s", start.elapsed().as_secs_f64());
    (sets, curated)
}

#[test]
fn held_out_examples_are_found_and_removed() {
    let Some(data) = data() else { return };
    let (sets, curated) = curate_biomed(&data);
    println!("{:#?}", curated.counts);
    let found: BTreeMap<&str, usize> =
        curated.counts.overlap.iter().map(|count| (count.task.as_str(), count.num_examples_found)).collect();
    // The answers are in the corpus by construction. Of the tagged sentences, counting words apart from this crate finds
    // one test sentence of bc5cdr-ner in the abstracts and none of ncbi-disease-ner.
    assert_eq!(found["question-type"], 4_795);
    assert_eq!((found["bc5cdr-ner"], found["ncbi-disease-ner"]), (1, 0));
    let dropped = curated.dropped.iter().filter(|dropped| matches!(dropped.reason, DropReason::Overlap { .. })).count();
    assert_eq!(dropped, curated.counts.num_overlap);

    // The same question asked in another way, of a sample: with words as text, without hashes.
    let overlap = OverlapConfig::default();
    let examples: Vec<(&str, Vec<String>)> = sets
        .iter()
        .flat_map(|set| set.texts.iter().step_by(1 + set.texts.len() / 40))
        .map(|(id, text)| (id.as_str(), plain_words(text)))
        .filter(|(_, words)| words.len() >= overlap.min_words)
        .collect();
    let wanted: Vec<HashSet<&[String]>> =
        examples.iter().map(|(_, words)| words.windows(words.len().min(overlap.ngram)).collect()).collect();
    for document in curated.train.iter().chain(&curated.held_out).step_by(5) {
        let words = plain_words(&document.text);
        let lengths: HashSet<usize> = examples.iter().map(|(_, words)| words.len().min(overlap.ngram)).collect();
        let ngrams: HashSet<&[String]> = lengths.into_iter().flat_map(|length| words.windows(length)).collect();
        for ((id, _), wanted) in examples.iter().zip(&wanted) {
            let share = wanted.iter().filter(|ngram| ngrams.contains(*ngram)).count() as f64 / wanted.len() as f64;
            assert!(share < overlap.min_share.get(), "{id} in {}: {share}", document.id);
        }
    }
}

fn plain_words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The corpus is detokenised, the sentences are single words: the check has to see through that. Every sentence of a
/// test set, detokenised otherwise than in its file and put between other sentences, has to be found.
#[test]
fn planted_sentences_are_found_however_they_are_spaced() {
    let Some(data) = data() else { return };
    let config = OverlapConfig::default();
    let task = read(&TASKS[5], &data);
    let set = HeldOutSet::of_task(&config, &task);
    let document = |(i, (id, text)): (usize, &(String, String))| Document {
        id: id.clone(),
        source: "s".to_owned(),
        text: format!("Unrelated words {i} before. {} And after.", text.replace(" - ", "-").replace(" , ", ", ")),
        ..Document::default()
    };
    let documents: Vec<Document> = set.texts.iter().enumerate().map(document).collect();
    let removed = |documents: &[Document], set| {
        let mut corpus = CorpusConfig { source: vec![SourceConfig::new("s", "unread")], ..CorpusConfig::default() };
        (corpus.overlap, corpus.dedup) = (config.clone(), DedupConfig { exact: false, normalized: false, near: None });
        curated_documents(&corpus, documents, &[set]).unwrap().counts
    };
    let counts = removed(&documents, set);
    assert_eq!(counts.overlap[0].num_examples_found, counts.overlap[0].num_examples);
    let (kept, too_short) = (counts.num_train + counts.num_held_out, counts.overlap[0].num_examples_too_short);
    assert!(kept <= too_short, "{kept} kept, {too_short} too short");
    // Sentences that do occur in the abstracts, by the same independent count.
    let source = SourceConfig::new("abstracts", "biomed/corpus/abstracts.jsonl.gz");
    let abstracts: Vec<Document> =
        read_source(&source, &data).unwrap().map(|record| record.unwrap().unwrap()).collect();
    let texts = task.train.iter().map(|example| (example.id.clone(), example.input.text())).collect();
    let counts = removed(&abstracts, HeldOutSet { task: task.name, texts });
    assert!(counts.overlap[0].num_examples_found >= 6, "{:?}", counts.overlap);
}

#[test]
fn curation_does_not_depend_on_source_files() {
    let Some(data) = data() else { return };
    let config = |paths: &[&str]| CorpusConfig {
        source: paths.iter().map(|path| SourceConfig::new("s", path)).collect(),
        ..CorpusConfig::default()
    };
    let ids = |curated: Curated| curated.held_out.into_iter().map(|document| document.id).collect::<Vec<_>>();
    let curated = |path: &str| {
        let config = config(&[path]);
        common::curated(&config, &data, &[], Seed(3)).unwrap()
    };
    let (one, glob) = (curated("biomed/corpus/craft.jsonl.gz"), curated("biomed/corpus/cra*"));
    assert_eq!(one.counts, glob.counts);
    assert_eq!(ids(one), ids(glob));
}

#[derive(serde::Deserialize)]
struct Annotated {
    full_text: String,
    spans: Vec<Span>,
}

#[derive(serde::Deserialize)]
struct Span {
    entity_type: String,
    start_position: usize,
    end_position: usize,
}

/// Hits, found and annotated places of a kind; a place is hit when all of it is covered.
fn pii_counts(annotated: &[Annotated], kind: PiiKind, name: &str) -> [usize; 3] {
    let mut counts = [0; 3];
    for Annotated { full_text, spans } in annotated {
        let byte_at = |place: usize| full_text.char_indices().nth(place).map_or(full_text.len(), |(at, _)| at);
        let found: Vec<_> = find_pii(full_text).into_iter().filter(|pii| pii.kind == kind).collect();
        let gold: Vec<_> = spans.iter().filter(|span| span.entity_type == name).collect();
        let covers = |span: &&&Span| {
            let (start, end) = (byte_at(span.start_position), byte_at(span.end_position));
            found.iter().any(|pii| pii.range.start <= start && end <= pii.range.end)
        };
        counts[0] += gold.iter().filter(covers).count();
        counts[1] += found.len();
        counts[2] += gold.len();
    }
    counts
}

/// Patterns were written with `generated_large.json` in view, never `synth_dataset_v2.json`.
#[test]
fn personal_data_is_found() {
    let Some(data) = data() else { return };
    let kinds = [
        (PiiKind::Email, "EMAIL_ADDRESS", 1.0, 1.0),
        (PiiKind::Iban, "IBAN_CODE", 1.0, 1.0),
        (PiiKind::CreditCard, "CREDIT_CARD", 0.9, 0.95),
        (PiiKind::Ssn, "US_SSN", 0.95, 0.95),
        (PiiKind::IpAddress, "IP_ADDRESS", 0.9, 0.9),
        (PiiKind::Phone, "PHONE_NUMBER", 0.55, 0.9),
    ];
    for file in ["generated_large.json", "synth_dataset_v2.json"] {
        let text = fs_err::read_to_string(data.join("raw/pii-presidio-synth").join(file)).unwrap();
        let annotated: Vec<Annotated> = serde_json::from_str(&text).unwrap();
        for (kind, name, min_recall, min_precision) in kinds {
            let [hits, found, gold] = pii_counts(&annotated, kind, name).map(|count| count as f64);
            let (recall, precision) = (hits / gold, hits / found);
            println!("{file} {name:<14} recall {recall:.3} of {gold}, precision {precision:.3} of {found}");
            assert!(recall >= min_recall && precision >= min_precision, "{name} in {file}");
        }
    }
}
