//! The curated corpus: read, deduplicated, decontaminated, a part held out.

use anyhow::Result;
use arable_core::Digest;
use arable_corpus::{CorpusCounts, Documents, HeldOutSet, Material, Outputs, PiiConfig, Sampled, SampledValue, curate};
use arable_ledger::Artifact;
use serde_json::json;

use crate::advice::Advise;
use crate::notice::Notice;
use crate::results::{CorpusFacts, OverlapFacts, PiiFacts, RuleFacts, SourceFacts};
use crate::run::Run;
use crate::stages::documents::{self, Read};
use crate::stages::{attributes, tasks, write_json};

pub(crate) const KIND: &str = "corpus";
pub(crate) const TRAIN: &str = "train.jsonl.zst";
pub(crate) const HELD_OUT: &str = "held_out.jsonl.zst";
pub(crate) const QUARANTINE: &str = "quarantine.jsonl.zst";
pub(crate) const FACTS: &str = "facts.json";

pub(crate) fn inputs(tasks: &[Artifact], read: &Read, attributes: &Artifact) -> Vec<Digest> {
    [&read.own, attributes].into_iter().chain(tasks).map(Artifact::digest).collect()
}

/// Curates the corpus against the held-out examples of every task.
pub(crate) fn run(run: &mut Run<'_>, tasks: &[Artifact], read: &Read, attributes: &Artifact) -> Result<Artifact> {
    let config = run.domain.config().corpus.clone();
    run.stage(KIND, &config, &inputs(tasks, read, attributes), |run, draft| {
        let sets = tasks.iter().map(|artifact| Ok(HeldOutSet::of_task(&config.overlap, &tasks::load(artifact)?)));
        let sets = sets.collect::<Result<Vec<_>>>()?;
        let documents = documents::load(&read.own)?;
        let known = config.reads_attributes().then(|| attributes::load(attributes, &documents)).transpose()?;
        let (rejects, counts) = documents::rejects(&read.own)?;
        let material = Material { documents: &documents, rejects: &rejects, counts, attributes: known.as_ref() };
        let [train, held_out, quarantine] = [TRAIN, HELD_OUT, QUARANTINE].map(|name| draft.path().join(name));
        let outputs = Outputs { train: &train, held_out: &held_out, quarantine: &quarantine };
        let seed = run.domain.config().seed;
        let counts = run.device.install(|| curate(&config, material, &sets, seed, &outputs)).advise()?;
        let facts = facts(counts, &config.pii);
        if let Some(text) = pii_warning(&facts.pii) {
            run.reporter.notice(&Notice::Warning(text));
        }
        if let Some(text) = facts.sample.as_ref().and_then(shortfall_warning) {
            run.reporter.notice(&Notice::Warning(text));
        }
        write_json(&draft.path().join(FACTS), &facts)?;
        let removed = facts.num_exact_duplicates + facts.num_normalized_duplicates + facts.num_near_duplicates;
        let sampled = match facts.num_sampled_out {
            0 => String::new(),
            num => format!(", {num} beyond the sample"),
        };
        let text = format!(
            "{} documents, {:.2} M words; {} by `keep`, {removed} duplicates, {} with held-out examples removed{sampled}",
            facts.num_train,
            facts.num_train_words as f64 / 1e6,
            facts.num_filtered,
            facts.num_overlap,
        );
        Ok(json!({ "text": text }))
    })
}

/// What is said when there are fewer documents than a sample asks for.
fn shortfall_warning(sample: &Sampled) -> Option<String> {
    const MOST: usize = 5;
    let mut short: Vec<&SampledValue> = sample.values.iter().filter(|own| own.num_short() > 0).collect();
    short.sort_by_key(|own| std::cmp::Reverse(own.num_short()));
    let value = |own: &&SampledValue| format!("`{}` {} of {}", own.value, own.num_taken, own.num_asked);
    let values: Vec<String> = short.iter().take(MOST).map(value).collect();
    let more = if short.len() > MOST { ", and others" } else { "" };
    let taken = format!("{} of {} documents taken", sample.num_taken(), sample.num_asked);
    let is_short = !short.is_empty() || sample.num_taken() < sample.num_asked;
    is_short.then(|| format!("the sample falls short, nothing is taken twice: {taken}; {}{more}", values.join(", ")))
}

/// What is said when personal data stays in the text.
fn pii_warning(pii: &[PiiFacts]) -> Option<String> {
    let left: Vec<&PiiFacts> = pii.iter().filter(|facts| !facts.is_masked).collect();
    let kinds: Vec<String> = left.iter().map(|facts| format!("{} {}", facts.num_found, facts.kind)).collect();
    let names: Vec<String> = left.iter().map(|facts| format!("\"{}\"", facts.kind)).collect();
    let advice = format!("`[corpus.pii] mask = [{}]` replaces it", names.join(", "));
    (!left.is_empty()).then(|| format!("personal data stays in the text ({}); {advice}", kinds.join(", ")))
}

fn facts(counts: CorpusCounts, pii: &PiiConfig) -> CorpusFacts {
    CorpusFacts {
        sources: counts
            .sources
            .into_iter()
            .map(|source| SourceFacts {
                name: source.name,
                num_documents: source.num_documents,
                num_words: source.num_words,
                num_rejected: source.num_rejected,
                num_kept: source.num_kept,
                decoded: source.decoded,
            })
            .collect(),
        num_too_short: counts.num_too_short,
        num_filtered: counts.num_filtered,
        rules: counts
            .rules
            .into_iter()
            .map(|rule| RuleFacts {
                name: rule.name,
                num_failed: rule.num_failed,
                num_failed_alone: rule.num_failed_alone,
            })
            .collect(),
        num_exact_duplicates: counts.num_exact_duplicates,
        num_normalized_duplicates: counts.num_normalized_duplicates,
        num_near_duplicates: counts.num_near_duplicates,
        num_overlap: counts.num_overlap,
        overlap: counts
            .overlap
            .into_iter()
            .map(|overlap| OverlapFacts {
                task: overlap.task,
                num_examples: overlap.num_examples,
                num_examples_found: overlap.num_examples_found,
                num_documents_removed: overlap.num_documents_removed,
            })
            .collect(),
        pii: counts
            .pii
            .into_iter()
            .map(|(kind, counts)| PiiFacts {
                kind: kind.name().to_owned(),
                num_found: counts.num_found,
                num_documents: counts.num_documents,
                is_masked: pii.mask.contains(&kind),
            })
            .collect(),
        num_sampled_out: counts.num_sampled_out,
        sample: counts.sample,
        split: Some(counts.split),
        num_train: counts.num_train,
        num_held_out: counts.num_held_out,
        num_train_words: counts.num_train_words,
        rejects: counts.rejects,
    }
}

/// Documents to train on.
pub(crate) fn train(corpus: &Artifact) -> Result<Documents> {
    documents::open(corpus, TRAIN)
}

/// Documents kept aside for the held-out loss.
pub(crate) fn held_out(corpus: &Artifact) -> Result<Documents> {
    documents::open(corpus, HELD_OUT)
}
