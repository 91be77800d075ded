//! The model card beside an exported model, and its scores as data.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use arable_model::Family;

use crate::plan;
use crate::results::{Arm, Cell, TaskResults};
use crate::run::{CODE_VERSION, Run};

/// Writes `README.md` (a model card) and `eval_results.yaml` into an export folder.
pub(crate) fn write(
    run: &Run<'_>,
    results: &TaskResults,
    is_marked: bool,
    is_adapter: bool,
    folder: &Path,
) -> Result<()> {
    let write = |name: &str, text: String| arable_ledger::write_atomic(&folder.join(name), text.as_bytes());
    let Some(exported) = exported(results) else { return Ok(()) };
    write("eval_results.yaml", scores(results, exported))?;
    Ok(write("README.md", card(run, results, exported, is_marked, is_adapter))?)
}

/// The measurement of the model that is exported: pretrained, all labels, first seed.
fn exported(results: &TaskResults) -> Option<&Cell> {
    let pretrained = results.cells.iter().filter(|cell| cell.arm == Arm::Pretrained && cell.seed == 0);
    pretrained.max_by(|a, b| a.budget.total_cmp(&b.budget))
}

fn scores(results: &TaskResults, exported: &Cell) -> String {
    let mut out =
        format!("- dataset: {:?}\n  split: test\n  num_examples: {}\n  metrics:\n", results.name, results.num_test);
    for (metric, value) in &exported.metrics {
        writeln!(out, "    {metric}: {value:.6}").expect("a string takes all");
    }
    out
}

fn card(run: &Run<'_>, results: &TaskResults, exported: &Cell, is_marked: bool, is_adapter: bool) -> String {
    let config = run.domain.config();
    let (pipeline, class) = if results.kind == "tagging" {
        ("token-classification", "AutoModelForTokenClassification")
    } else {
        ("text-classification", "AutoModelForSequenceClassification")
    };
    let sources: Vec<&str> = config.corpus.source.iter().map(|source| source.name.as_str()).collect();
    let is_modern = run.domain.base.as_ref().is_none_or(|base| base.family() == Family::ModernBert);
    let usage = if is_marked {
        "The head classifies from the states of the marker tokens, which `transformers` has no class for: load the encoder\n\
         with `AutoModel` and apply `head.dense`, GELU, `head.norm` and `classifier` to the markers' states side by side."
            .to_owned()
    } else if is_adapter {
        format!(
            "An adapter: it needs its base, the last checkpoint of the pretraining (or `merged` of its last stage).\n\n\
             ```python\nfrom peft import PeftModel\nfrom transformers import AutoTokenizer, {class}\n\n\
                 tokenizer = AutoTokenizer.from_pretrained(\".\")\n\
                 base = {class}.from_pretrained(BASE, num_labels={num_labels}{pooling})\n\
                 model = PeftModel.from_pretrained(base, \".\")\n```",
            num_labels = results.num_labels,
            // The base says how its own family pools, and this one does it in two ways.
            pooling = if is_modern && pipeline == "text-classification" { ", classifier_pooling=\"mean\"" } else { "" },
        )
    } else {
        format!(
            "```python\nfrom transformers import AutoTokenizer, {class}\n\n\
                 tokenizer = AutoTokenizer.from_pretrained(\".\")\nmodel = {class}.from_pretrained(\".\")\n```"
        )
    };
    format!(
        "---\nlibrary_name: transformers\npipeline_tag: {pipeline}\ntags: [arable, {family}]\n---\n\n\
         # {domain}: {task}\n\n\
         A model of the domain `{domain}` for the task `{task}` ({kind}, {num_labels} labels): {origin}\n\
         on {tokens:.1} M tokens (sources: {sources}), then fine-tuned on {examples} labelled examples.\n\n\
         ## Use\n\n{usage}\n\n\
         Divide the logits by the `temperature` in `calibration.json` before the softmax; with several labels to an example,\n\
         `threshold` is the probability from which a label counts.\n\n\
         ## Measured\n\n{num_test} test examples, {metric}; mean and 95 % bootstrap interval over seeds and examples.\n\n{table}\n\
         This model is the first repetition of the last row, pretrained: {score:.3}. All its scores are in `eval_results.yaml`.\n\n\
         ## Limits\n\nMeasured on this test set alone. Text of another kind, time or language was not tried, and neither was bias\n\
         towards groups of people. It does not replace the judgement of an expert.\n\n\
         ## Repeat\n\nArable {CODE_VERSION}, configuration {digest}, seed {seed}.\n",
        family = run.domain.base.as_ref().map_or("modernbert", |base| base.family().name()),
        origin = origin(run),
        domain = config.name,
        task = results.name,
        kind = results.kind,
        num_labels = results.num_labels,
        tokens = plan::stages(config).iter().map(|stage| stage.pretrain.num_tokens.0 as f64 / 1e6).sum::<f64>(),
        sources = sources.join(", "),
        examples = exported.num_examples,
        num_test = results.num_test,
        metric = results.metric,
        table = table(results),
        score = exported.metrics[&results.metric],
        digest = run.domain.digest(),
        seed = config.seed.0,
    )
}

/// How the model came to know the domain.
fn origin(run: &Run<'_>) -> String {
    let objective = if run.domain.config().pretrain.clm.is_some() { "causal" } else { "masked" };
    match &run.domain.base {
        None => format!("pretrained from scratch by {objective} language modelling"),
        Some(base) => {
            let (family, digest) = (base.family().name(), base.digest.short());
            format!("a base of the family {family} (digest {digest}), trained on by {objective} language modelling")
        }
    }
}

fn table(results: &TaskResults) -> String {
    let mut out = format!("| labels | {} |\n|---|---|---|---|\n", Arm::ALL.map(Arm::label).join(" | "));
    for of_budget in results.summaries.chunks(Arm::ALL.len()) {
        write!(out, "| {:.0} % |", 100.0 * of_budget[0].budget).expect("a string takes all");
        for summary in of_budget {
            write!(out, " {:.3} ({:.3} to {:.3}) |", summary.mean, summary.low, summary.high)
                .expect("a string takes all");
        }
        out.push('\n');
    }
    out
}
