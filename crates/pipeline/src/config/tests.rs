use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use arable_core::{Digest, Hint, Probability};
use serde::Deserialize;

use super::*;

#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    name: String,
    seed: u64,
    corpus: Corpus,
    model: Model,
    pretrain: Pretrain,
    labels: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Corpus {
    source: Vec<Source>,
    limit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Source {
    name: String,
    path: PathBuf,
    #[serde(default)]
    weight: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Model {
    size: Size,
    hidden_size: Option<NonZeroUsize>,
}

impl Default for Model {
    fn default() -> Self {
        Self { size: Size::Small, hidden_size: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Size {
    Mini,
    Small,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Pretrain {
    steps: u32,
    learning_rate: f32,
    objective: Objective,
}

impl Default for Pretrain {
    fn default() -> Self {
        Self { steps: 500, learning_rate: 1e-3, objective: Objective::Mlm(Mlm::default()) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Objective {
    Mlm(Mlm),
    Clm { window: usize },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Mlm {
    mask_prob: Probability,
}

impl Default for Mlm {
    fn default() -> Self {
        Self { mask_prob: Probability::new(0.3).unwrap() }
    }
}

const WRITTEN: &str = r#"name = "turbines"

[[corpus.source]]
name = "logs"
path = "data/logs.jsonl"

[[corpus.source]]
name = "manuals"
path = "data/manuals"
weight = 0.1

[pretrain]
learning_rate = 2e-4
objective = { mlm = { mask_prob = 0.15 } }
"#;

fn read_with(text: &str, sets: &[&str]) -> Result<Loaded<Sample>, ConfigError> {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    parse(Path::new("arable.toml"), text.to_owned(), &sets)
}

/// What a person reads: the error, and its hint below.
fn complaint(text: &str, sets: &[&str]) -> String {
    let error = read_with(text, sets).expect_err("the configuration is wrong");
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}\n{hint}"))
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(complaint(text, &[]), expected);
}

#[track_caller]
fn check_set(set: &str, expected: &str) {
    assert_eq!(complaint(WRITTEN, &[set]), expected);
}

#[test]
fn unknown_keys_are_answered_with_the_nearest() {
    check(
        "name = \"a\"\n[pretrian]\nsteps = 3\n",
        "read arable.toml:2:2: unknown key `pretrian`\n\
         did you mean `pretrain`? Known here: `name`, `seed`, `corpus`, `model`, `pretrain`, `labels`",
    );
    check(
        "[[corpus.source]]\nname = \"a\"\npath = \"b\"\n[[corpus.source]]\nname = \"ä\"\npth = \"c\"",
        "read arable.toml:6:1: unknown key `pth` in `corpus.source.\"ä\"`\n\
         did you mean `path`? Known here: `name`, `path`, `weight`",
    );
    check(
        "model.objective = { mlm = {} }",
        "read arable.toml:1:7: unknown key `objective` in `model`\n\
         did you mean `pretrain.objective`? Known here: `size`, `hidden_size`",
    );
    check(
        "pretrain.objective = { clm = { window = 3, mask = 1 } }",
        "read arable.toml:1:44: unknown key `mask` in `pretrain.objective.clm`\nknown here: `window`",
    );
}

#[test]
fn values_that_do_not_fit_are_named_with_their_path() {
    check(
        "[pretrain]\nsteps = \"500\"",
        "read arable.toml:2:9: `pretrain.steps` takes a whole number from 0 to 4294967295, not the text \"500\"\n\
         write 500 without quotes",
    );
    check(
        "pretrain = { steps = -1 }",
        "read arable.toml:1:22: `pretrain.steps` takes a whole number from 0 to 4294967295, not -1",
    );
    check("model.hidden_size = 0", "read arable.toml:1:21: `model.hidden_size` takes a whole number from 1, not 0");
    check("name = 7", "read arable.toml:1:8: `name` takes a text, not 7");
    check("corpus = []", "read arable.toml:1:10: `corpus` takes a table, not an array");
    check("corpus.source = { name = \"a\" }", "read arable.toml:1:17: `corpus.source` takes an array, not a table");
    check(
        "pretrain.objective = { mlm = { mask_prob = 1.5 } }",
        "read arable.toml:1:44: `pretrain.objective.mlm.mask_prob`: 1.5 is outside [0, 1]\n\
         `arable config schema` says what each setting may hold",
    );
    check(
        "\n[[corpus.source]]\nname = \"logs\"",
        "read arable.toml:2:1: the key `path` of `corpus.source.logs` is missing\n\
         add a line `path = ...`",
    );
}

#[test]
fn choices_are_answered_with_the_nearest() {
    check(
        "model.size = \"minni\"",
        "read arable.toml:1:14: unknown value `minni` for `model.size`\ndid you mean `mini`? Choose one of `mini`, `small`",
    );
    check(
        "pretrain.objective.mlmm.mask_prob = 1",
        "read arable.toml:1:20: unknown value `mlmm` for `pretrain.objective`\n\
         did you mean `mlm`? Choose one of `mlm`, `clm`",
    );
    check(
        "pretrain.objective = { mlm = {}, clm = {} }",
        "read arable.toml:1:22: `pretrain.objective` takes exactly one of `mlm`, `clm`, not a table of `mlm`, `clm`",
    );
    check(
        "pretrain.objective = \"clm\"",
        "read arable.toml:1:22: the key `window` of `pretrain.objective.clm` is missing\nadd a line `window = ...`",
    );
    check("model.size = { mini = 3 }", "read arable.toml:1:23: `model.size.mini` takes no settings, not 3");
}

#[test]
fn broken_toml_is_named_with_its_line() {
    check("name = \"a\"\n[corpus\n", "read arable.toml:2:8: unclosed table, expected `]`");
    check(
        "name = turbines # a word\n",
        "read arable.toml:1:8: `turbines` is not in quotes\nwrite texts in quotes: \"turbines\"",
    );
    check(
        "corpus.source = [{ name = \"a\", path = ./data/a.jsonl }]",
        "read arable.toml:1:39: `./data/a.jsonl` is not in quotes\nwrite texts in quotes: \"./data/a.jsonl\"",
    );
    check("seed = 1\nseed = 2\n", "read arable.toml:2:1: duplicate key");
    check(&format!("seed = 1{}", "0".repeat(40)), "read arable.toml:1:8: the number is too large");
}

#[test]
fn sets_reach_everything() {
    let sets = [
        "seed=7",
        "name=42",
        "corpus.source.logs.path=else/where.jsonl",
        "corpus.source.1.weight=0.25",
        "corpus.limit = 10",
        "model.size=mini",
        "pretrain.objective={ clm = { window = 5 } }",
        "pretrain.steps=1",
        "pretrain.steps=2",
        "labels.\"a.b\"=[\"x\"]",
    ];
    let value = read_with(WRITTEN, &sets).unwrap().value;
    assert_eq!((value.seed, value.name.as_str()), (7, "42"));
    assert_eq!(value.corpus.source[0].path, Path::new("else/where.jsonl"));
    assert_eq!((value.corpus.source[1].weight, value.corpus.limit), (0.25, Some(10)));
    assert_eq!((value.model.size, value.pretrain.steps), (Size::Mini, 2));
    assert_eq!(value.pretrain.objective, Objective::Clm { window: 5 });
    assert_eq!(value.labels["a.b"], ["x"]);

    let short = read_with("pretrain.objective = \"mlm\"", &["pretrain.objective.mlm.mask_prob=0.5"]).unwrap().value;
    assert_eq!(short.pretrain.objective, Objective::Mlm(Mlm { mask_prob: Probability::new(0.5).unwrap() }));
}

#[test]
fn sets_that_cannot_take_effect_are_errors() {
    check_set(
        "corpus.sorce.logs.path=x",
        "apply `--set corpus.sorce.logs.path=x`: unknown key `sorce` in `corpus`\n\
         did you mean `source`? Known here: `source`, `limit`",
    );
    check_set(
        "corpus.source.log.path=x",
        "apply `--set corpus.source.log.path=x`: `corpus.source` has no element `log`\n\
         did you mean `logs`? Choose one of `logs`, `manuals`",
    );
    check_set(
        "pretrain.steps=many",
        "apply `--set pretrain.steps=many`: `pretrain.steps` takes a whole number from 0 to 4294967295, \
         not the text \"many\"",
    );
    check_set("name.first=x", "apply `--set name.first=x`: `name` takes a table, not the text \"turbines\"");
    check_set(
        "pretrain.steps",
        "apply `--set pretrain.steps`: there is no `=` after the key\n\
         write `--set key.path=value`, for example `--set a.b=3`",
    );
    check_set(
        "pretrain..steps=3",
        "apply `--set pretrain..steps=3`: its key is not a path of keys\n\
         write `--set key.path=value`, for example `--set a.b=3`",
    );
    assert_eq!(
        complaint("", &["corpus.source.0.path=x"]),
        "apply `--set corpus.source.0.path=x`: `corpus.source` has no element `0`\n\
         write the element in the file first, or set the whole array with `--set key=[...]`"
    );
}

#[test]
fn files_that_are_not_there() {
    let folder = std::env::temp_dir();
    let missing = load::<Sample>(&folder.join("no such folder/arable.toml"), &[]).unwrap_err();
    assert!(matches!(&missing, ConfigError::Missing { .. }) && missing.hint().unwrap().contains("arable init"));
    let hint = load::<Sample>(&folder, &[]).unwrap_err().hint().unwrap();
    assert!(hint.contains(&folder.join("arable.toml").display().to_string()), "{hint}");
}

#[test]
fn every_value_has_an_origin() {
    let loaded = read_with(WRITTEN, &["pretrain.steps=20", "labels={ urgency = [\"low\", \"high\"] }"]).unwrap();
    let mut resolved = loaded.value.clone();
    resolved.model.hidden_size = NonZeroUsize::new(256);
    let derived = ["model.hidden_size", "name"];
    let derived = derived.map(|key| Derived { key: key.to_owned(), from: "model.size = \"small\"".to_owned() });
    let expected = r#"
name = "turbines"                            # line 1
seed = 0                                     # default
corpus.source.logs.name = "logs"             # line 4
corpus.source.logs.path = "data/logs.jsonl"  # line 5
corpus.source.logs.weight = 0.0              # default
corpus.source.manuals.name = "manuals"       # line 8
corpus.source.manuals.path = "data/manuals"  # line 9
corpus.source.manuals.weight = 0.1           # line 10
corpus.limit = unset                         # default
model.size = "small"                         # default
model.hidden_size = 256                      # from model.size = "small"
pretrain.steps = 20                          # --set
pretrain.learning_rate = 0.0002              # line 13
pretrain.objective.mlm.mask_prob = 0.15      # line 14
labels.urgency = ["low", "high"]             # --set
"#;
    assert_eq!(format!("\n{}", render(&loaded.written.settings(&resolved, &derived))), expected);
}

#[test]
fn rules_point_at_what_was_written() {
    let written = read_with(WRITTEN, &["seed=3"]).unwrap().written;
    let rule = |key| written.rule(key, "no", None).to_string();
    assert_eq!(rule("corpus.source.manuals.weight"), "read arable.toml:10:10: no");
    assert_eq!(rule("seed"), "apply `--set seed=3`: no");
    assert_eq!(rule("model.size"), "read arable.toml: no");
    assert!(written.has("corpus.source.1") && !written.has("corpus.limit"));
}

#[test]
fn resolved_text_reads_back_as_the_same_run() {
    let value =
        read_with(WRITTEN, &["seed=18446744073709551615", "pretrain.objective.mlm.mask_prob=0.1"]).unwrap().value;
    let text = to_toml(&value);
    let again = read_with(&text, &[]).unwrap().value;
    assert_eq!(again, value);
    assert_eq!(to_toml(&again), text);
    assert_eq!(Digest::of_json(&again), Digest::of_json(&value));
    assert_ne!(Digest::of_json(&again), Digest::of_json(&Sample::default()));
}

#[test]
fn schema_knows_every_key() {
    let schema = schema::<Sample>();
    assert_eq!(schema["properties"]["seed"]["type"], "integer");
    assert_eq!(schema::places_of(&schema, "mask_prob"), ["pretrain.objective.mlm.mask_prob"]);
    assert_eq!(schema::places_of(&schema, "weight"), ["corpus.source.<name>.weight"]);
}
