//! Folders that `transformers` saved: logits, losses and gradients as it computed them; and what we save, we load.

use std::path::{Path, PathBuf};

use arable_core::Seed;
use arable_tensor::ops::loss::VocabularyLoss;
use arable_tensor::{Device, Gradients, Precision, Tape};
use safetensors::SafeTensors;

use crate::{Batch, Head, Model, Pass, load, save};

/// The smallest plausible mistake (another GELU in the head) moves a logit by 3e-5.
const TOLERANCE: f32 = 2e-5;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

struct Reference(Vec<u8>);

impl Reference {
    fn read(name: &str) -> Self {
        Self(std::fs::read(fixture(name).join("reference.safetensors")).unwrap())
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.tensor(name).unwrap().data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn ints(&self, name: &str) -> Vec<i32> {
        self.words(name).into_iter().map(i32::from_le_bytes).collect()
    }

    fn gradients(&self) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.names().into_iter().filter_map(|name| name.strip_prefix("grad/")).map(str::to_owned).collect()
    }

    fn batch(&self) -> Batch {
        let ids: Vec<u32> = self.ints("input_ids").into_iter().map(|id| id as u32).collect();
        let starts = self.ints("cu_seqlens");
        Batch::pack(starts.windows(2).map(|pair| &ids[pair[0] as usize..pair[1] as usize]))
    }
}

fn close(found: &[f32], want: &[f32], what: &str, tolerance: f32) {
    assert_eq!(found.len(), want.len(), "{what}");
    let size = want.iter().fold(1.0f32, |size, value| size.max(value.abs()));
    for (found, want) in found.iter().zip(want) {
        assert!((found - want).abs() <= tolerance * size, "{what}: {found} for {want}");
    }
}

fn logits(device: &Device, model: &Model, batch: &Batch, positions: &[usize]) -> Vec<f32> {
    let mut tape = Tape::inference(device, model.parameters());
    let hidden = model.encode(&mut tape, batch, Pass::default());
    let logits = model.logits(&mut tape, hidden, &batch.sequences, positions, None);
    tape.value(logits).to_vec()
}

fn check(name: &str) {
    check_in(name, &Device::cpu(2, Precision::F32).unwrap(), TOLERANCE);
    if Precision::fastest() == Precision::Bf16 {
        check_in(name, &Device::cpu(2, Precision::Bf16).unwrap(), 0.03);
    }
}

fn check_in(name: &str, device: &Device, tolerance: f32) {
    let (model, reference) = (load(&fixture(name)).unwrap(), Reference::read(name));
    let batch = reference.batch();
    let all: Vec<usize> = (0..batch.ids.len()).collect();
    close(&logits(device, &model, &batch, &all), &reference.floats("logits"), name, tolerance);

    let labels = reference.ints("labels");
    let labelled: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] >= 0).collect();
    let targets: Vec<u32> = labelled.iter().map(|&i| labels[i] as u32).collect();
    let mut gradients = Gradients::zeros(model.parameters());
    let mut tape = Tape::recording(device, model.parameters(), &mut gradients);
    let hidden = model.encode(&mut tape, &batch, Pass::default());
    let loss = match model.head() {
        Head::MaskedLm => {
            let scale = 1.0 / targets.len() as f32;
            model.masked_loss(&mut tape, hidden, &labelled, &targets, scale, &mut VocabularyLoss::default())
        }
        _ => {
            let logits = model.logits(&mut tape, hidden, &batch.sequences, &labelled, None);
            tape.cross_entropy(logits, &targets)
        }
    };
    close(&tape.value(loss).to_vec(), &reference.floats("loss"), "loss", tolerance);
    tape.backward(loss);
    let names = reference.gradients();
    assert!(names.len() >= 6);
    for name in names {
        let id = model.parameters().find(&name).unwrap();
        let found = gradients.of(model.parameters(), id);
        close(found, &reference.floats(&format!("grad/{name}")), &name, tolerance);
    }
}

#[test]
fn masked_lm_agrees_with_transformers() {
    check("modernbert-mlm");
}

#[test]
fn sequence_classification_agrees_with_transformers() {
    check("modernbert-sequence");
    check("modernbert-sequence-cls");
}

#[test]
fn token_classification_agrees_with_transformers() {
    check("modernbert-token");
}

#[test]
fn what_is_saved_is_loaded() {
    let base = load(&fixture("modernbert-mlm")).unwrap();
    let heads = [
        Head::MaskedLm,
        Head::Sequence { num_labels: 3, pooling: crate::Pooling::Mean },
        Head::Token { num_labels: 5 },
        Head::Marked { num_labels: 4, num_markers: 2 },
    ];
    for head in heads {
        let model = base.with_head(head, Seed(1));
        let dir = tempfile::tempdir().unwrap();
        let labels: Vec<String> = (0..head.num_labels().unwrap_or(0)).map(|idx| format!("label {idx}")).collect();
        save(&model, &labels, dir.path()).unwrap();
        let again = load(dir.path()).unwrap();
        assert_eq!(again.head(), head);
        assert_eq!(again.parameters().digest(), model.parameters().digest());
        let kept = model.parameters().find("model.layers.1.attn.Wqkv.weight").unwrap();
        assert_eq!(model.parameters().value(kept), base.parameters().value(kept));
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
    std::fs::write(&config, text.replace("\"modernbert\"", "\"bert\"")).unwrap();
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
