//! The curated corpus: read, deduplicated, decontaminated, a part held out.

use anyhow::Result;
use arable_core::{Digest, Document};
use arable_corpus::{
    CorpusCounts, HeldOutSet, PiiConfig, SourceConfig, content_digest, curate, read_corpus, read_documents,
    write_documents, write_quarantine,
};
use arable_ledger::Artifact;
use serde_json::json;

use crate::advice::Advise;
use crate::notice::Notice;
use crate::results::{CorpusFacts, OverlapFacts, PiiFacts, RuleFacts, SourceFacts};
use crate::run::Run;
use crate::stages::{attributes, file, joined, tasks, write_json};

const TRAIN: &str = "train.jsonl.zst";
const HELD_OUT: &str = "held_out.jsonl.zst";

/// The digest of the files that `sources` name.
pub(crate) fn sources_digest(run: &Run<'_>, sources: &[SourceConfig]) -> Result<Digest> {
    let digests = sources.iter().map(|source| content_digest(&source.path, &run.domain.root).advise());
    Ok(joined(digests.collect::<Result<Vec<_>>>()?))
}

pub(crate) fn inputs(run: &Run<'_>, tasks: &[Artifact], attributes: &Artifact) -> Result<Vec<Digest>> {
    let files = sources_digest(run, &run.domain.config().corpus.source)?;
    Ok([files, attributes.digest()].into_iter().chain(tasks.iter().map(Artifact::digest)).collect())
}

/// Curates the corpus against the held-out examples of every task.
pub(crate) fn run(run: &mut Run<'_>, tasks: &[Artifact], attributes: &Artifact) -> Result<Artifact> {
    let config = run.domain.config().corpus.clone();
    let inputs = inputs(run, tasks, attributes)?;
    run.stage("corpus", &config, &inputs, |run, draft| {
        let sets = tasks.iter().map(|artifact| Ok(HeldOutSet::of_task(&config.overlap, &tasks::load(artifact)?)));
        let sets = sets.collect::<Result<Vec<_>>>()?;
        let read = read_corpus(&config, &run.domain.root).advise()?;
        let known = if config.keep.is_some() { attributes::load(attributes, &read.documents)? } else { Vec::new() };
        let curated = curate(&config, read, &known, &sets, run.domain.config().seed).advise()?;
        let path = |name: &str| draft.path().join(name);
        write_documents(&path(TRAIN), &curated.train).advise()?;
        write_documents(&path(HELD_OUT), &curated.held_out).advise()?;
        write_quarantine(&path("quarantine.jsonl.zst"), &curated.rejects, &curated.dropped, &curated.refused)
            .advise()?;
        let facts = facts(curated.counts, &config.pii);
        if let Some(text) = pii_warning(&facts.pii) {
            run.reporter.notice(&Notice::Warning(text));
        }
        write_json(&path("facts.json"), &facts)?;
        let removed = facts.num_exact_duplicates + facts.num_normalized_duplicates + facts.num_near_duplicates;
        let num_decoded: usize = facts.sources.iter().flat_map(|source| source.decoded.values()).sum();
        let decoded = if num_decoded > 0 { format!("; {num_decoded} files decoded") } else { String::new() };
        let text = format!(
            "{} documents, {:.2} M words; {} by `keep`, {removed} duplicates, {} with held-out examples removed{decoded}",
            facts.num_train,
            facts.num_train_words as f64 / 1e6,
            facts.num_filtered,
            facts.num_overlap,
        );
        Ok(json!({ "text": text }))
    })
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
                decoded: source.decoded.into_iter().map(|(name, number)| (name.to_owned(), number)).collect(),
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
        num_train: counts.num_train,
        num_held_out: counts.num_held_out,
        num_train_words: counts.num_train_words,
        rejects: counts.rejects,
    }
}

pub(crate) fn train(corpus: &Artifact) -> Result<Vec<Document>> {
    read_documents(&file(corpus, TRAIN)?).advise()
}

pub(crate) fn held_out(corpus: &Artifact) -> Result<Vec<Document>> {
    read_documents(&file(corpus, HELD_OUT)?).advise()
}
