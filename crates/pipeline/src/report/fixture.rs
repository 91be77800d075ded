//! Made-up results of a plausible run, for tests and for looking at the report.

use std::collections::BTreeMap;

use arable_core::Seed;

use arable_corpus::{
    Association, Border, Edge, Measure, Outliers, Pair, Profile, Sampled, SampledValue, Sign, SourcePair,
    SourceProfile, SplitCheck, Spread, Term,
};

use crate::results::{
    Arm, Cell, Convergence, CorpusFacts, HeldOutPoint, OverlapFacts, PiiFacts, PretrainingFacts, PretrainingPoint,
    ReliabilityBin, Results, RuleFacts, RunFacts, SourceFacts, Summary, TaskResults, TokenizerFacts,
};

pub(super) const BUDGETS: [f64; 6] = [0.01, 0.02, 0.05, 0.1, 0.25, 1.0];
const NUM_SEEDS: u64 = 5;

struct Shape {
    name: &'static str,
    kind: &'static str,
    metric: &'static str,
    num_train: usize,
    num_labels: usize,
    /// Score with no and with many labels, and examples to get half way, by arm.
    arms: [(f64, f64, f64); 3],
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "disease-mentions",
        kind: "tagging",
        metric: "entity_f1",
        num_train: 5432,
        num_labels: 3,
        arms: [(0.22, 0.84, 130.0), (0.02, 0.79, 900.0), (0.05, 0.62, 400.0)],
    },
    Shape {
        name: "hallmarks-of-cancer",
        kind: "multilabel",
        metric: "macro_f1",
        num_train: 12_119,
        num_labels: 10,
        arms: [(0.15, 0.78, 500.0), (0.05, 0.70, 1500.0), (0.12, 0.71, 700.0)],
    },
    Shape {
        name: "abstract-sections",
        kind: "classification",
        metric: "accuracy",
        num_train: 15_000,
        num_labels: 5,
        arms: [(0.42, 0.86, 260.0), (0.33, 0.83, 600.0), (0.45, 0.82, 300.0)],
    },
    Shape {
        name: "question-answers",
        kind: "classification",
        metric: "accuracy",
        num_train: 450,
        num_labels: 3,
        arms: [(0.48, 0.61, 60.0), (0.47, 0.575, 90.0), (0.49, 0.625, 55.0)],
    },
];

/// Four tasks, six budgets, five seeds.
pub(super) fn results() -> Results {
    Results {
        run: run_facts(),
        profile: Some(profile()),
        corpus: corpus_facts(),
        tokenizer: TokenizerFacts {
            vocab_size: 8192,
            fertility_domain: 1.437,
            fertility_general: Some(1.842),
            extension: Vec::new(),
            num_added: 0,
            num_train_tokens: 14_812_330,
        },
        pretraining: pretraining_facts(),
        tasks: SHAPES.iter().map(task).collect(),
    }
}

/// A run that measured nothing yet.
pub(super) fn empty() -> Results {
    Results {
        run: RunFacts {
            name: "empty".into(),
            config_digest: "0".repeat(64),
            code_version: "0.1.0".into(),
            resolved_toml: String::new(),
            machine: BTreeMap::new(),
            num_threads: 1,
            precision: "f32".into(),
            stages: Vec::new(),
        },
        profile: None,
        corpus: CorpusFacts::default(),
        tokenizer: TokenizerFacts::default(),
        pretraining: PretrainingFacts::default(),
        tasks: Vec::new(),
    }
}

/// A number in `[-1, 1)` that depends on its name and place alone.
fn noise(name: &str, step: u64, index: u64) -> f64 {
    let hash = arable_core::Digest::of(format!("{name}/{step}/{index}").as_bytes());
    let word = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("four bytes"));
    f64::from(word) / f64::from(u32::MAX) * 2.0 - 1.0
}

fn run_facts() -> RunFacts {
    let machine = [
        ("cores", "2"),
        ("memory", "23.0 GiB"),
        ("operating system", "Linux 6.1 x86-64"),
        ("processor", "AMD EPYC 9R45 (AVX-512, bf16)"),
    ];
    RunFacts {
        name: "biomedical-mini".into(),
        config_digest: arable_core::Digest::of(b"fixture").to_string(),
        code_version: "0.1.0 (3f2a9c1)".into(),
        resolved_toml: "[domain]\nname = \"biomedical\"\n\n[pretrain]\nsize = \"mini\"\nnum_steps = 3000\n\
                        mask_prob = 0.3\n\n[[task]]\nname = \"disease-mentions\"\nkind = \"tagging\"\n"
            .into(),
        machine: machine.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        num_threads: 2,
        precision: "bf16".into(),
        stages: [("corpus", 0.0), ("tokenize", 21.4), ("pretrain", 2520.7), ("adapt", 1833.2), ("evaluate", 48.9)]
            .map(|(name, seconds)| (name.to_owned(), seconds))
            .into(),
    }
}

fn profile() -> Profile {
    let source = |name: &str, num_documents, num_words, divergence_from_rest| SourceProfile {
        name: name.into(),
        num_documents,
        num_words,
        times: [("2021-03".to_owned(), 12), ("2021-04".to_owned(), 40)].into(),
        divergence_from_rest,
    };
    let term = |term: &str, count, log_ratio| Term {
        term: term.into(),
        count,
        per_million: 0.0,
        log_ratio,
        log_likelihood: 0.0,
    };
    let spread = Spread { mean: 190.0, quantiles: [4.0, 38.0, 120.0, 187.0, 240.0, 391.0, 12_004.0] };
    Profile {
        num_documents: 49_414,
        num_words: 11_400_986,
        num_distinct_words: 214_880,
        sources: vec![
            source("pubmed-abstracts", 48_210, 9_870_114, 0.21),
            source("open-textbooks", 1_204, 1_530_872, 0.21),
        ],
        source_pairs: vec![SourcePair {
            sources: ["pubmed-abstracts".into(), "open-textbooks".into()],
            divergence: 0.21,
        }],
        languages: vec![("eng".into(), 49_102), ("fra".into(), 12), (String::new(), 300)],
        attributes: [("num_words".to_owned(), spread)].into(),
        words: vec![term("receptor", 40_122, 11.2), term("tumour", 31_007, 9.0)],
        phrases: vec![term("growth factor", 8_012, 12.4)],
        pairs: vec![Pair { words: ["kinase".into(), "phosphorylation".into()], num_documents: 2_204, npmi: 0.61 }],
        boilerplate: vec![(
            "All rights reserved. No part of this page may be copied without leave of its authors.".into(),
            977,
        )],
        divergence_from_general: Some(0.412),
        outliers: vec![Outliers {
            attribute: "num_words".into(),
            bound: 600.0,
            num_documents: 41,
            examples: vec![("open-textbooks/c7".into(), 12_004.0)],
        }],
        signs: vec![Sign {
            name: "truncated".into(),
            about: "the text ends within a sentence".into(),
            attribute: "ends_open".into(),
            num_documents: 812,
            examples: vec![("open-textbooks/c9".into(), 1.0)],
        }],
        edges: vec![Edge {
            attributes: vec![("digit_ratio".into(), "high".into()), ("terminal_line_ratio".into(), "low".into())],
            num_documents: 37,
            source: "open-textbooks".into(),
            num_in_source: 36,
            examples: vec!["open-textbooks/c11".into()],
        }],
        associations: vec![Association {
            between: ["digit_ratio".into(), "reading_ease".into()],
            measure: Measure::RankCorrelation,
            value: -0.42,
            interval: Some([-0.44, -0.4]),
        }],
        ..Profile::default()
    }
}

fn corpus_facts() -> CorpusFacts {
    let source = |name: &str, num_documents, num_words, num_rejected, num_kept| SourceFacts {
        name: name.into(),
        num_documents,
        num_words,
        num_rejected,
        num_kept,
        decoded: if name == "open-textbooks" { [("windows-1252".into(), 31)].into() } else { [].into() },
    };
    let rule = |name: &str, num_failed, num_failed_alone| RuleFacts { name: name.into(), num_failed, num_failed_alone };
    let overlap = |shape: &Shape, num_examples_found, num_documents_removed| OverlapFacts {
        task: shape.name.into(),
        num_examples: shape.num_train / 5,
        num_examples_found,
        num_documents_removed,
    };
    CorpusFacts {
        num_too_short: 17,
        num_filtered: 312,
        rules: vec![
            rule("gopher_quality: num_words BETWEEN 50 AND 100000", 288, 271),
            rule("gopher_quality: alpha_word_ratio >= 0.8", 36, 19),
            rule("language = 'eng'", 0, 0),
        ],
        num_overlap: 41,
        sources: vec![
            source("pubmed-abstracts", 48_210, 9_870_114, 12, 46_002),
            source("open-textbooks", 1_204, 1_530_872, 3, 1_190),
        ],
        num_exact_duplicates: 1_544,
        num_normalized_duplicates: 431,
        num_near_duplicates: 0,
        overlap: vec![
            overlap(&SHAPES[0], 17, 19),
            overlap(&SHAPES[1], 204, 188),
            overlap(&SHAPES[2], 0, 0),
            overlap(&SHAPES[3], 41, 40),
        ],
        pii: vec![
            PiiFacts { kind: "email".into(), num_found: 1_204, num_documents: 1_133, is_masked: true },
            PiiFacts { kind: "phone".into(), num_found: 87, num_documents: 61, is_masked: false },
        ],
        num_sampled_out: 2_310,
        sample: Some(sampled()),
        split: Some(split()),
        num_train: 46_250,
        num_held_out: 942,
        num_train_words: 10_933_005,
        rejects: [("invalid UTF-8", 9), ("no text field", 6)].map(|(name, number)| (name.to_owned(), number)).into(),
    }
}

fn sampled() -> Sampled {
    let value = |value: &str, num_documents, num_asked, num_taken| SampledValue {
        value: value.into(),
        num_documents,
        num_asked,
        num_taken,
    };
    let values =
        vec![value("2023", 30_112, 25_000, 25_000), value("2024", 22_192, 25_000, 22_192), value("none", 0, 0, 0)];
    Sampled { by: "left(time, 4)".into(), num_asked: 50_000, values }
}

fn split() -> SplitCheck {
    SplitCheck {
        num_clusters: 46_871,
        num_groups: 210,
        num_untimed: 7,
        borders: vec![Border { part: "held_out".into(), from: "2024-05".into(), num_moved: 12 }],
        ..SplitCheck::default()
    }
}

fn pretraining_facts() -> PretrainingFacts {
    let point = |at: u64| {
        let step = at * 15;
        let warm = (step as f64 / 300.0).min(1.0);
        let cosine = 0.5 + 0.5 * (std::f64::consts::PI * (step as f64 / 3000.0)).cos();
        PretrainingPoint {
            step,
            num_tokens: step * 8192,
            loss: 2.6 + 6.4 * (-(step as f64) / 600.0).exp() + 0.12 * noise("loss", step, 0),
            grad_norm: 0.7 + 3.0 * (-(step as f64) / 200.0).exp() + 0.2 * noise("grad", step, 0).abs(),
            learning_rate: 1e-3 * warm * cosine,
        }
    };
    let held_out = |at: u64| {
        let step = at * 300;
        let loss = 2.72 + 6.3 * (-(step as f64) / 620.0).exp();
        HeldOutPoint { step, num_tokens: step * 8192, loss, accuracy: 0.52 - 0.07 * (loss - 2.72) }
    };
    PretrainingFacts {
        model: "mini".into(),
        num_parameters: 8_214_528,
        num_tokens: 24_576_000,
        flops: 1.21e15,
        probes: Vec::new(),
        wall_s: 2510.0,
        waited_s: 0.4,
        curve: (1..=200).map(point).collect(),
        held_out: (1..=10).map(held_out).collect(),
        stages: Vec::new(),
    }
}

fn task(shape: &Shape) -> TaskResults {
    let mut cells = Vec::new();
    let mut summaries = Vec::new();
    for (arm_idx, arm) in Arm::ALL.into_iter().enumerate() {
        for (budget_idx, budget) in BUDGETS.into_iter().enumerate() {
            let own: Vec<Cell> = (0..NUM_SEEDS).map(|seed| cell(shape, arm_idx, budget_idx, seed)).collect();
            let scores = own.iter().map(|cell| cell.metrics[shape.metric]);
            let mean = scores.sum::<f64>() / NUM_SEEDS as f64;
            let half = 0.008 + 0.05 / (1.0 + (budget * shape.num_train as f64 / 40.0).sqrt());
            summaries.push(Summary {
                arm,
                budget,
                num_examples: own[0].num_examples,
                mean,
                low: mean - half,
                high: mean + 0.9 * half,
                num_seeds: NUM_SEEDS as usize,
            });
            cells.extend(own);
        }
    }
    TaskResults {
        name: shape.name.into(),
        kind: shape.kind.into(),
        metric: shape.metric.into(),
        num_train: shape.num_train,
        num_dev: shape.num_train / 5,
        num_test: shape.num_train / 5,
        num_labels: shape.num_labels,
        split: SplitCheck {
            num_clusters: shape.num_train,
            num_crossings: usize::from(shape.num_labels == 5),
            ..SplitCheck::default()
        },
        cells,
        summaries,
        convergence: Some(Convergence {
            ratio: shape.arms[1].2 / shape.arms[0].2 * 0.6,
            low: shape.arms[1].2 / shape.arms[0].2 * 0.5,
            high: shape.arms[1].2 / shape.arms[0].2 * 0.8,
            scratch_steps: 900,
            pretrained_steps: Some((900.0 / (shape.arms[1].2 / shape.arms[0].2 * 0.6)) as u64),
            num_reached: 5,
            num_seeds: 5,
        }),
    }
}

fn cell(shape: &Shape, arm_idx: usize, budget_idx: usize, seed: u64) -> Cell {
    let arm = Arm::ALL[arm_idx];
    let budget = BUDGETS[budget_idx];
    let (none, many, half) = shape.arms[arm_idx];
    let num_examples = (budget * shape.num_train as f64).ceil() as usize;
    let place = Seed(seed).child(shape.name).0;
    let full = none + (many - none) * num_examples as f64 / (num_examples as f64 + half);
    let score = full + 0.012 * noise("score", place, (arm_idx * 10 + budget_idx) as u64);
    let over = 0.16 * (1.0 - budget.sqrt()) + [0.05, 0.07, 0.03][arm_idx];
    let (nll, brier) = (1.6 * (1.0 - score) + over, 1.1 * (1.0 - score) + over / 2.0);
    let metrics = [
        (shape.metric, score),
        ("nll", nll),
        ("brier", brier),
        ("ece", over),
        ("nll_scaled", nll - over * 0.8),
        ("brier_scaled", brier - over * 0.3),
        ("ece_scaled", 0.012 + over * 0.1),
    ];
    Cell {
        arm,
        budget,
        num_examples,
        seed,
        learning_rate: [5e-5, 2e-4, 1.0][arm_idx],
        num_steps: if arm == Arm::Tfidf { 0 } else { 1200 },
        wall_s: [22.0, 23.0, 0.8][arm_idx] * budget.sqrt(),
        metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
        curve: if arm == Arm::Tfidf { Vec::new() } else { curve(arm_idx, none, full, place) },
        reliability: bins(over, shape.num_train / 5),
        reliability_scaled: bins(0.02 * noise("bins", place, arm_idx as u64), shape.num_train / 5),
    }
}

fn curve(arm_idx: usize, none: f64, full: f64, place: u64) -> Vec<(u64, f64)> {
    let pace = [120.0, 330.0][arm_idx];
    let score = |step: u64| {
        let rise = 1.0 - (-(step as f64) / pace).exp();
        none + (full - none) * rise + 0.015 * noise("curve", place, step + arm_idx as u64)
    };
    (1..=24).map(|at| (at * 50, score(at * 50))).collect()
}

fn bins(over: f64, total: usize) -> Vec<ReliabilityBin> {
    let bin = |at: usize| {
        let confidence = (at as f64 + 0.55) / 15.0;
        let share = (confidence * 3.0).exp() / 90.0;
        let accuracy = (confidence - over * confidence * 1.3 + 0.02 * noise("bin", at as u64, 0)).clamp(0.0, 1.0);
        ReliabilityBin { count: if at < 3 { 0 } else { (share * total as f64) as usize }, confidence, accuracy }
    };
    (0..15).map(bin).collect()
}
