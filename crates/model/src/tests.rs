//! Folders that `transformers` saved: states, logits, losses, gradients and a step as it computed them; and what we save,
//! we load.

use std::path::{Path, PathBuf};

use arable_core::{Probability, Seed};
use arable_tensor::ops::loss::{Scale, VocabularyLoss};
use arable_tensor::{AdamW, AdamWConfig, Device, Gradients, Precision, RowIndex, Tape};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::weights::in_files;
use crate::{Architecture, Batch, Dropout, Family, Head, Model, Pass, Reading, load, load_base, save};

/// The smallest plausible mistake (another GELU in the head) moves a logit by 3e-5.
const TOLERANCE: f32 = 2e-5;

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// The names of all folders of fixtures of a family.
fn fixtures_of(family: Family) -> Vec<String> {
    let entries =
        std::fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        entries.filter(|name| name.split_once('-').is_some_and(|(found, _)| found == family.name())).collect();
    names.sort();
    names
}

/// The folder of a family's language model.
fn language_model(family: Family) -> String {
    let head = if family.style().is_causal { "clm" } else { "mlm" };
    format!("{}-{head}", family.name())
}

pub(crate) struct Reference(Vec<u8>);

impl Reference {
    pub(crate) fn read(name: &str) -> Self {
        Self(std::fs::read(fixture(name).join("reference.safetensors")).unwrap())
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.tensor(name).unwrap().data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect()
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn ints(&self, name: &str) -> Vec<i32> {
        self.words(name).into_iter().map(i32::from_le_bytes).collect()
    }

    /// The names of what is called `kind/name`.
    fn names(&self, kind: &str) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let names = tensors.names().into_iter().filter_map(|name| name.strip_prefix(kind)?.strip_prefix('/'));
        names.map(str::to_owned).collect()
    }

    pub(crate) fn batch(&self) -> Batch {
        let ids: Vec<u32> = self.ints("input_ids").into_iter().map(|id| id as u32).collect();
        let starts = self.ints("cu_seqlens");
        let batch = Batch::pack(starts.windows(2).map(|pair| &ids[pair[0] as usize..pair[1] as usize]));
        let has_types = SafeTensors::deserialize(&self.0).unwrap().tensor("token_type_ids").is_ok();
        let types =
            if has_types { self.ints("token_type_ids").into_iter().map(|id| id as u32).collect() } else { vec![] };
        batch.with_types(types)
    }
}

/// The largest difference, which must not pass `tolerance` times the largest value.
pub(crate) fn close(found: &[f32], want: &[f32], what: &str, tolerance: f32) -> f32 {
    assert_eq!(found.len(), want.len(), "{what}");
    let size = want.iter().fold(1.0f32, |size, value| size.max(value.abs()));
    let mut most = 0.0f32;
    for (found, want) in found.iter().zip(want) {
        assert!((found - want).abs() <= tolerance * size, "{what}: {found} for {want}");
        most = most.max((found - want).abs());
    }
    most
}

/// The part of a weight of ours, or of its gradient, that files call `name`.
fn part<'a>(model: &Model, values: impl Fn(arable_tensor::ParameterId) -> &'a [f32], name: &str) -> Vec<f32> {
    for (id, spec, _) in model.parameters().iter() {
        let mut at = 0;
        for (found, shape) in in_files(model, spec) {
            let len: usize = shape.iter().product();
            if found == name {
                return values(id)[at..at + len].to_vec();
            }
            at += len;
        }
    }
    panic!("no weight holds {name}");
}

pub(crate) fn logits(device: &Device, model: &Model, batch: &Batch, positions: &[usize]) -> [Vec<f32>; 2] {
    let mut tape = Tape::inference(device, model.parameters());
    let hidden = model.encode(&mut tape, batch, Pass::default());
    let read = model.read(&mut tape, batch, &model.head().reading(batch, positions), Pass::default());
    let logits = model.classify(&mut tape, read, None);
    [tape.value(hidden).to_vec(), tape.value(logits).to_vec()]
}

/// The largest differences in f32.
fn check(name: &str) -> [f32; 5] {
    for narrow in [Precision::Bf16, Precision::I16].into_iter().filter(|precision| precision.is_available()) {
        check_in(name, &Device::cpu(2, narrow).unwrap(), 0.03);
    }
    check_in(name, &Device::cpu(2, Precision::F32).unwrap(), TOLERANCE)
}

/// The largest differences of states, logits, loss, gradients and weights after a step.
fn check_in(name: &str, device: &Device, tolerance: f32) -> [f32; 5] {
    let (mut model, reference) = (load(&fixture(name)).unwrap(), Reference::read(name));
    let batch = reference.batch();
    let all: Vec<usize> = (0..batch.ids().len()).collect();
    let [hidden, found] = logits(device, &model, &batch, &all);
    let last = model.architecture().num_hidden_layers;
    let mut most = [0.0; 5];
    most[0] = close(&hidden, &reference.floats(&format!("hidden/{last}")), &format!("{name} states"), tolerance);
    most[1] = close(&found, &reference.floats("logits"), &format!("{name} logits"), tolerance);

    let labels = reference.ints("labels");
    let labelled: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] >= 0).collect();
    let targets: Vec<u32> = labelled.iter().map(|&i| labels[i] as u32).collect();
    let mut gradients = Gradients::zeros(model.parameters());
    let mut tape = Tape::recording(device, model.parameters(), &mut gradients);
    let states = model.read(&mut tape, &batch, &model.head().reading(&batch, &labelled), Pass::default());
    let loss = match model.head() {
        Head::MaskedLm | Head::CausalLm => {
            let scale = 1.0 / targets.len() as f32;
            model.token_loss(&mut tape, states, &targets, Scale::Same(scale), &mut VocabularyLoss::default())
        }
        _ => {
            let logits = model.classify(&mut tape, states, None);
            tape.cross_entropy(logits, &targets)
        }
    };
    most[2] = close(&tape.value(loss).to_vec(), &reference.floats("loss"), "loss", tolerance);
    tape.backward(loss);
    let flat = gradients.flat(model.parameters()).to_vec();
    let names = reference.names("grad");
    assert!(names.len() >= 3);
    for name in names {
        let found = part(&model, |id| gradient_of(&model, &flat, id), &name);
        most[3] = most[3].max(close(&found, &reference.floats(&format!("grad/{name}")), &name, tolerance));
    }
    most[4] = check_step(device, &mut model, &mut gradients, &reference, tolerance);
    most
}

fn gradient_of<'a>(model: &Model, flat: &'a [f32], id: arable_tensor::ParameterId) -> &'a [f32] {
    let mut at = 0;
    for (found, _, values) in model.parameters().iter() {
        if found == id {
            return &flat[at..at + values.len()];
        }
        at += values.len();
    }
    panic!("a weight of another model");
}

/// One step of AdamW with the settings of the script that made the fixtures.
fn check_step(
    device: &Device,
    model: &mut Model,
    gradients: &mut Gradients,
    reference: &Reference,
    tolerance: f32,
) -> f32 {
    let config = AdamWConfig { eps: 1e-2, weight_decay: 0.1, ..AdamWConfig::default() };
    AdamW::new(config, model.parameters()).step(device, model.parameters_mut(), gradients, 0.1);
    let names = reference.names("step");
    let is_lm = matches!(model.head(), Head::MaskedLm | Head::CausalLm);
    assert_eq!(names.is_empty(), !is_lm, "language models have a step");
    // Steps are as long as the learning rate, however small the gradient is.
    let differences = names.iter().map(|name| {
        let found = part(model, |id| model.parameters().value(id), name);
        close(&found, &reference.floats(&format!("step/{name}")), &format!("step {name}"), tolerance)
    });
    differences.fold(0.0, f32::max)
}

#[test]
fn every_family_agrees_with_transformers() {
    for family in Family::ALL {
        let names = fixtures_of(family);
        assert!(names.contains(&language_model(family)), "{} has a language model among {names:?}", family.name());
        for name in names {
            let [states, logits, loss, gradients, step] = check(&name);
            eprintln!("{name} | {states:.1e} | {logits:.1e} | {loss:.1e} | {gradients:.1e} | {step:.1e}");
        }
    }
}

/// Leaving out what other states need changes no state that is read, whatever is dropped, recorded or computed again.
#[test]
fn states_that_are_read_are_those_of_the_whole_batch() {
    let sequences = [700, 1, 90, 300].map(|len| (0..len).map(|at| 5 + at % 40).collect::<Vec<u32>>());
    let mut rows: Vec<usize> = (0..1091).filter(|row| row % 7 == 3).collect();
    rows.extend([20, 20, 1090, 0]);
    for (family, num_hidden_layers) in
        Family::ALL.map(|family| (family, 2)).into_iter().chain([(Family::ModernBert, 0)])
    {
        let fixture = load(&fixture(&language_model(family))).unwrap();
        let architecture =
            Architecture { num_hidden_layers, max_position_embeddings: 800, ..fixture.architecture().clone() };
        let model = Model::new(architecture, fixture.head(), Seed(2));
        let batch = Batch::pack(sequences.iter().map(Vec::as_slice));
        let precisions = [Precision::F32, Precision::Bf16, Precision::I16];
        for precision in precisions.into_iter().filter(|precision| precision.is_available()) {
            let device = Device::cpu(2, precision).unwrap();
            for (p, recomputed_layers) in [(0.0, 0), (0.3, 0), (0.3, 9)] {
                let p = Probability::new(p).unwrap();
                let dropout = Some(Dropout { p, stream: Seed(1).stream("dropout"), step: 4, first_row: 17 });
                let pass = Pass { dropout, recomputed_layers };
                let states = |kept: Option<Reading>, is_recording: bool| {
                    let mut gradients = Gradients::zeros(model.parameters());
                    let mut tape = match is_recording {
                        true => Tape::recording(&device, model.parameters(), &mut gradients),
                        false => Tape::inference(&device, model.parameters()),
                    };
                    let states = match kept {
                        Some(reading) => model.read(&mut tape, &batch, &reading, pass),
                        None => {
                            let all = model.encode(&mut tape, &batch, pass);
                            tape.gather_rows(all, &RowIndex::new(rows.clone(), batch.blocks()), 1)
                        }
                    };
                    let found = tape.value(states).to_vec();
                    if is_recording {
                        let seed = device.tensor(rows.len(), found.len() / rows.len(), &found);
                        tape.backward_with(states, seed, &[]);
                    }
                    (found, gradients.flat(model.parameters()).to_vec())
                };
                let what = format!("{} {precision:?} {pass:?}", family.name());
                for is_recording in [false, true] {
                    let (whole, whole_gradient) = states(None, is_recording);
                    let (read, gradient) = states(Some(Reading::rows(rows.clone(), 1, &batch)), is_recording);
                    assert!(whole == read, "{what}");
                    let tolerance = if precision == Precision::F32 { 1e-5 } else { 0.02 };
                    close(&gradient, &whole_gradient, &what, tolerance);
                }
            }
        }
    }
}

/// What a token brings into the first attention is computed once for all rows that it stands in, and changes nothing.
#[test]
fn tokens_that_stand_often_are_as_each_by_itself() {
    // No token stands twice in one sequence.
    let sequences: Vec<Vec<u32>> = (0..30).map(|idx| (0..40).map(|at| 5 + (at + 7 * idx) % 40).collect()).collect();
    let batch = |some: &[Vec<u32>]| Batch::pack(some.iter().map(Vec::as_slice));
    let whole = batch(&sequences);
    let distinct = whole.distinct().unwrap();
    assert_eq!(*distinct.ids, (5..45).collect::<Vec<u32>>());
    assert!(distinct.rows[..3] == [0, 1, 2] && distinct.rows[40] == 7 && distinct.blocks.num_rows() == 40);
    assert!(batch(&sequences[..1]).distinct().is_none(), "nothing to save");
    for family in Family::ALL {
        let fixture = load(&fixture(&language_model(family))).unwrap();
        let architecture = Architecture { max_position_embeddings: 64, ..fixture.architecture().clone() };
        let model = Model::new(architecture, fixture.head(), Seed(2));
        let precisions = [Precision::F32, Precision::Bf16, Precision::I16];
        for precision in precisions.into_iter().filter(|precision| precision.is_available()) {
            let device = Device::cpu(2, precision).unwrap();
            for (recomputed_layers, is_recording) in [(0, false), (0, true), (1, true)] {
                let pass = Pass { dropout: None, recomputed_layers };
                let [mut at_once, mut one_by_one] = [0, 1].map(|_| Gradients::zeros(model.parameters()));
                let states = |some: &[Vec<u32>], gradients: &mut Gradients| {
                    let mut tape = match is_recording {
                        true => Tape::recording(&device, model.parameters(), gradients),
                        false => Tape::inference(&device, model.parameters()),
                    };
                    let states = model.encode(&mut tape, &batch(some), pass);
                    let found = tape.value(states).to_vec();
                    if is_recording {
                        let seed = device.tensor(40 * some.len(), found.len() / (40 * some.len()), &found);
                        tape.backward_with(states, seed, &[]);
                    }
                    found
                };
                let whole = states(&sequences, &mut at_once);
                let each: Vec<f32> = sequences.chunks(1).flat_map(|one| states(one, &mut one_by_one)).collect();
                let what = format!("{} {precision:?} {pass:?}", family.name());
                assert!(whole == each, "{what}");
                let tolerance = if precision == Precision::F32 { 1e-5 } else { 0.02 };
                let [found, want] = [at_once.flat(model.parameters()), one_by_one.flat(model.parameters())];
                close(found, want, &what, tolerance);
            }
        }
    }
}

#[test]
fn what_is_saved_is_loaded() {
    for family in Family::ALL {
        let base = load(&fixture(&language_model(family))).unwrap();
        let heads = [
            base.head(),
            Head::Sequence { num_labels: 3, pooling: family.style().pooling },
            Head::Token { num_labels: 5 },
            Head::Marked { num_labels: 4, num_markers: 2 },
        ];
        for head in heads {
            let model = base.with_head(head, Seed(1));
            let dir = tempfile::tempdir().unwrap();
            let labels: Vec<String> = (0..head.num_labels().unwrap_or(0)).map(|idx| format!("label {idx}")).collect();
            save(&model, &labels, dir.path()).unwrap();
            let again = load(dir.path()).unwrap();
            assert_eq!((again.head(), again.architecture()), (head, model.architecture()));
            assert_eq!(again.parameters().digest(), model.parameters().digest());
            let kept = model.parameters().find("model.layers.1.attn.Wqkv.weight").unwrap();
            assert_eq!(model.parameters().value(kept), base.parameters().value(kept));
        }
    }
}

/// Names and shapes of what is saved are those that `transformers` saved, one for one.
#[test]
fn files_are_as_transformers_writes_them() {
    for name in Family::ALL.into_iter().flat_map(fixtures_of) {
        let dir = tempfile::tempdir().unwrap();
        save(&load(&fixture(&name)).unwrap(), &[], dir.path()).unwrap();
        let read = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
        let (theirs, ours) = (read(&fixture(&name)), read(dir.path()));
        let of = |bytes: &[u8]| {
            let tensors = SafeTensors::deserialize(bytes).unwrap();
            let mut all: Vec<_> = tensors.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect();
            all.sort();
            all
        };
        assert!(of(&theirs) == of(&ours), "{name}");
    }
}

/// Encoders of sentences come without a head and without the prefix of the names.
#[test]
fn a_base_without_a_head_gets_a_fresh_one() {
    let dir = tempfile::tempdir().unwrap();
    let whole = load(&fixture("bert-mlm")).unwrap();
    let bytes = std::fs::read(fixture("bert-mlm").join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let bare = tensors.iter().filter_map(|(name, view)| Some((name.strip_prefix("bert.")?.to_owned(), view)));
    std::fs::write(dir.path().join("model.safetensors"), safetensors::serialize(bare, None).unwrap()).unwrap();
    let text = std::fs::read_to_string(fixture("bert-mlm").join("config.json")).unwrap();
    std::fs::write(dir.path().join("config.json"), text.replace("BertForMaskedLM", "BertModel")).unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("cls.predictions"), "a head is not made up");
    let base = load_base(dir.path(), Seed(3)).unwrap();
    assert!(!base.has_head && load_base(&fixture("bert-mlm"), Seed(3)).unwrap().has_head);
    for (id, spec, values) in base.model.parameters().iter() {
        assert_eq!(values == whole.parameters().value(id), spec.name.starts_with("model."), "{}", spec.name);
    }
}

/// Weights spread over several files are those of one file.
#[test]
fn weights_may_be_spread_over_files() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(fixture("llama-clm").join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (mut map, mut files) = (serde_json::Map::new(), [vec![], vec![]]);
    for (idx, (name, view)) in tensors.iter().enumerate() {
        map.insert(name.to_owned(), Value::from(format!("part-{}.safetensors", idx % 2)));
        files[idx % 2].push((name, view));
    }
    for (idx, file) in files.into_iter().enumerate() {
        let path = dir.path().join(format!("part-{idx}.safetensors"));
        std::fs::write(path, safetensors::serialize(file, None).unwrap()).unwrap();
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    std::fs::copy(fixture("llama-clm").join("config.json"), dir.path().join("config.json")).unwrap();
    let digest = |dir: &Path| load(dir).unwrap().parameters().digest();
    assert_eq!(digest(dir.path()), digest(&fixture("llama-clm")));
}

/// A new token begins as the mean of what stood for it; nothing else moves.
#[test]
fn new_tokens_begin_as_their_pieces() {
    for family in Family::ALL {
        let model = load(&fixture(&language_model(family))).unwrap();
        let (before, cols) = (model.architecture().vocab_size, model.architecture().hidden_size);
        let more = model.with_tokens(before, &[vec![5], vec![5, 7]]);
        assert_eq!(more.architecture().vocab_size, before + 2);
        let table = more.parameters().find("model.embeddings.tok_embeddings.weight").unwrap();
        let row = |idx: usize| &more.parameters().value(table)[idx * cols..][..cols];
        assert_eq!(row(before), row(5));
        assert!((row(before + 1)[3] - 0.5 * (row(5)[3] + row(7)[3])).abs() < 1e-6);
        let device = Device::cpu(1, Precision::F32).unwrap();
        let batch = Batch::pack([[5u32, 6, 7].as_slice()]);
        let [[old, _], [new, _]] = [&model, &more].map(|model| logits(&device, model, &batch, &[0]));
        assert_eq!(old, new, "states of what was known stay");
        let dir = tempfile::tempdir().unwrap();
        save(&more, &[], dir.path()).unwrap();
        assert_eq!(load(dir.path()).unwrap().parameters().digest(), more.parameters().digest());
    }
}

#[test]
fn damage_is_named() {
    let base = load(&fixture("modernbert-mlm")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    save(&base, &[], dir.path()).unwrap();
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    std::fs::write(&path, bytes).unwrap();
    let config = dir.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"hidden_size\": 32", "\"hidden_size\": 64")).unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("expected"), "another shape");
    std::fs::write(&config, text.replace("\"modernbert\"", "\"gpt2\"")).unwrap();
    assert!(load(dir.path()).is_err(), "another architecture");
}

#[test]
fn a_prior_is_what_an_untrained_model_predicts_on_average() {
    let mut model = load(&fixture("modernbert-mlm")).unwrap();
    let counts: Vec<u64> = (0..model.architecture().vocab_size as u64).map(|id| id * id).collect();
    model.set_prior(&counts);
    let bias = model.parameters().find("decoder.bias").unwrap();
    let bias = model.parameters().value(bias);
    let sum: f64 = bias.iter().map(|&bias| f64::from(bias).exp()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    let odds = f64::from(bias[3] - bias[1]).exp();
    assert!((odds - 9.0).abs() < 1e-4 && bias[0] == -40.0, "{odds}");
}
