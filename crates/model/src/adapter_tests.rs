//! Adapters: nothing at first, trained without the base, there and back through files, merged; and as PEFT computes them.

use std::path::{Path, PathBuf};

use arable_core::{Probability, Seed};
use arable_tensor::{AdamW, AdamWConfig, Device, Gradients, ParameterSpec, Precision, Tape};

use crate::tests::{Reference, close, fixture, logits};
use crate::{
    AdapterConfig, AdapterError, AdapterFileError, Batch, BitfitConfig, BottleneckConfig, Dropout, Family, Head,
    Ia3Config, LoraConfig, Model, Pass, SparseConfig, load, load_adapter, save_adapter,
};

fn kinds() -> [AdapterConfig; 6] {
    let lora = LoraConfig { rank: 3, dropout: Probability::new(0.1).unwrap(), ..LoraConfig::default() };
    [
        AdapterConfig::Lora(lora.clone()),
        AdapterConfig::Dora(LoraConfig { targets: vec!["query".into()], ..lora }),
        AdapterConfig::Ia3(Ia3Config::default()),
        AdapterConfig::Bottleneck(BottleneckConfig { size: 5, after_attention: true }),
        AdapterConfig::Bitfit(BitfitConfig {}),
        AdapterConfig::Sparse(SparseConfig { density: 0.02, ..SparseConfig::default() }),
    ]
}

/// The kinds that a family can have.
fn kinds_of(family: Family) -> Vec<AdapterConfig> {
    let fits = |kind: AdapterConfig| match kind {
        AdapterConfig::Dora(lora) if !matches!(family, Family::Bert | Family::Roberta) => {
            Some(AdapterConfig::Dora(LoraConfig { targets: Vec::new(), ..lora }))
        }
        AdapterConfig::Bitfit(_) if matches!(family, Family::ModernBert | Family::Llama | Family::Qwen3) => None,
        kind => Some(kind),
    };
    kinds().into_iter().filter_map(fits).collect()
}

fn device() -> Device {
    Device::cpu(2, Precision::F32).unwrap()
}

fn base(family: Family) -> Model {
    let head = if family.style().is_causal { "clm" } else { "mlm" };
    load(&fixture(&format!("{}-{head}", family.name()))).unwrap()
}

fn classifier(family: Family) -> Model {
    let head = Head::Sequence { num_labels: 3, pooling: family.style().pooling };
    base(family).with_head(head, Seed(4))
}

fn batch() -> Batch {
    Batch::pack([[5u32, 6, 7, 8, 9].as_slice(), &[11, 12, 13], &[21, 6, 9, 14]])
}

fn found(model: &Model) -> Vec<f32> {
    let [states, logits] = logits(&device(), model, &batch(), &[]);
    [states, logits].concat()
}

/// Steps of fine-tuning; the losses.
fn train(model: &mut Model, num_steps: u64, num_threads: usize) -> Vec<f32> {
    let device = Device::cpu(num_threads, Precision::F32).unwrap();
    let mut optimizer = AdamW::new(AdamWConfig::default(), model.parameters());
    let mut gradients = Gradients::zeros(model.parameters());
    let step = |step| {
        let p = Probability::new(0.1).unwrap();
        let dropout = Some(Dropout { p, stream: Seed(1).stream("dropout"), step, first_row: 0 });
        let mut tape = Tape::recording(&device, model.parameters(), &mut gradients);
        let batch = batch();
        let states =
            model.read(&mut tape, &batch, &model.head().reading(&batch, &[]), Pass { dropout, ..Pass::default() });
        let logits = model.classify(&mut tape, states, None);
        let loss = tape.cross_entropy(logits, &[0, 1, 2]);
        let value = tape.value(loss).scalar();
        tape.backward(loss);
        optimizer.step(&device, model.parameters_mut(), &mut gradients, 1e-2);
        value
    };
    (0..num_steps).map(step).collect()
}

fn is_of_base(spec: &ParameterSpec) -> bool {
    spec.name.starts_with("model.")
}

#[test]
fn an_adapter_begins_as_nothing_and_learns_beside_a_base_that_stays() {
    for family in Family::ALL {
        let plain = classifier(family);
        for kind in kinds_of(family) {
            let what = format!("{} {}", family.name(), kind.name());
            let mut model = plain.with_adapter(&kind, Seed(2)).unwrap();
            assert_eq!(found(&model), found(&plain), "{what}");
            let (num_all, num_own) = (model.parameters().num_elements(), model.parameters().num_free());
            assert!(num_own < num_all / 2, "{what}: {num_own} of {num_all}");
            let before = model.parameters().digest_of(is_of_base);
            let mut same = model.clone();
            let losses = train(&mut model, 12, 1);
            assert!(losses[11] < 0.8 * losses[0], "{what}: {losses:?}");
            assert_eq!(model.parameters().digest_of(is_of_base), before, "{what}");
            assert_eq!(before, plain.parameters().digest_of(is_of_base));
            train(&mut same, 12, 3);
            assert_eq!(same.parameters().digest(), model.parameters().digest(), "{what}");
            check_files(&plain, &model, &what);
            match model.merged() {
                Ok(merged) => {
                    assert!(
                        merged.adapters().is_empty()
                            && merged.parameters().num_free() == plain.parameters().num_elements()
                    );
                    close(&found(&merged), &found(&model), &format!("{what} merged"), 1e-5);
                    assert_ne!(merged.parameters().digest_of(is_of_base), before, "{what}");
                }
                Err(error) => assert!(kind.name() == "bottleneck", "{error}"),
            }
        }
    }
}

/// What is saved is loaded, onto the base that it was trained on and no other.
fn check_files(plain: &Model, model: &Model, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    save_adapter(model, 0, &["a".into(), "b".into(), "c".into()], dir.path()).unwrap();
    let frozen = plain.frozen();
    let again = load_adapter(&frozen, dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(again.parameters().digest(), model.parameters().digest(), "{what}");
    assert_eq!(found(&again), found(model), "{what}");
    let other = base(plain.architecture().family);
    let mut moved = other.clone();
    let id = moved.parameters().find("model.layers.0.mlp.Wo.weight").unwrap();
    moved.parameters_mut().value_mut(id)[0] += 1.0;
    assert!(matches!(load_adapter(&moved, dir.path()), Err(AdapterFileError::OtherBase { .. })), "{what}");
    // A base with another head gets that of the task.
    assert_eq!(found(&load_adapter(&other, dir.path()).unwrap()), found(model), "{what}");
}

/// Weights that nobody trains get no gradient, and the others the same one as if all were trained.
#[test]
fn frozen_weights_change_no_gradient_of_the_others() {
    let model = classifier(Family::ModernBert);
    let rates: Vec<f32> =
        model.parameters().iter().map(|(_, spec, _)| f32::from(!spec.name.starts_with("model.layers.0."))).collect();
    let embedded: Vec<f32> = rates.iter().enumerate().map(|(idx, rate)| if idx < 2 { 0.0 } else { *rate }).collect();
    let gradient = |rates: Option<&[f32]>| {
        let (device, parameters) = (device(), model.parameters());
        let mut gradients = Gradients::zeros(parameters);
        if let Some(rates) = rates {
            gradients = gradients.with_rates(parameters, rates);
        }
        let mut tape = Tape::recording(&device, parameters, &mut gradients);
        let batch = batch();
        let states = model.read(&mut tape, &batch, &model.head().reading(&batch, &[]), Pass::default());
        let logits = model.classify(&mut tape, states, None);
        let loss = tape.cross_entropy(logits, &[0, 1, 2]);
        tape.backward(loss);
        parameters.iter().map(|(id, ..)| gradients.of(parameters, id).to_vec()).collect::<Vec<_>>()
    };
    let whole = gradient(None);
    for rates in [rates, embedded] {
        let some = gradient(Some(&rates));
        for ((rate, whole), some) in rates.iter().zip(&whole).zip(some) {
            assert!(if *rate > 0.0 { *whole == some } else { some.iter().all(|g| *g == 0.0) });
        }
    }
}

/// Two adapters on one base, one after the other; the base is shared and read once.
#[test]
fn adapters_are_stacked_and_exchanged() {
    let plain = classifier(Family::Bert).frozen();
    let [lora, dora, ia3, ..] = kinds();
    let mut first = plain.with_adapter(&lora, Seed(2)).unwrap();
    train(&mut first, 3, 1);
    let mut both = first.with_adapter(&ia3, Seed(3)).unwrap();
    assert_eq!(found(&both), found(&first));
    let before = both.parameters().digest_of(|spec| spec.name.starts_with("adapters.0."));
    train(&mut both, 3, 1);
    assert_eq!(both.parameters().digest_of(|spec| spec.name.starts_with("adapters.0.")), before);
    assert_ne!(found(&both), found(&first));
    close(&found(&both.merged().unwrap()), &found(&both), "merged", 1e-5);
    let dora = AdapterConfig::Dora(match dora {
        AdapterConfig::Dora(dora) => dora,
        _ => unreachable!("kinds are in order"),
    });
    assert!(matches!(first.with_adapter(&dora, Seed(1)), Err(AdapterError::Stacked { .. })));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    dirs.iter().enumerate().for_each(|(idx, dir)| save_adapter(&both, idx, &[], dir.path()).unwrap());
    let start = std::time::Instant::now();
    let one = load_adapter(&plain, dirs[0].path()).unwrap();
    eprintln!("an adapter was loaded on a base in memory in {:?}", start.elapsed());
    let again = load_adapter(&one, dirs[1].path()).unwrap();
    assert_eq!(found(&again), found(&both));
}

#[test]
fn what_cannot_be_is_named() {
    let model = classifier(Family::ModernBert);
    let lora = |targets: &[&str], rank| {
        let targets = targets.iter().map(ToString::to_string).collect();
        AdapterConfig::Lora(LoraConfig { rank, targets, ..LoraConfig::default() })
    };
    let fails = |config: &AdapterConfig| model.with_adapter(config, Seed(1)).unwrap_err().to_string();
    assert!(fails(&lora(&["q_proj"], 4)).contains("q_proj"));
    assert!(fails(&lora(&[], 0)).contains("rank of 0"));
    assert!(fails(&AdapterConfig::Bitfit(BitfitConfig {})).contains("it has none"));
    // PEFT's files for another family.
    let error = load_adapter(&model, &fixture("adapters/bert-mlm-lora")).unwrap_err();
    assert!(matches!(error, AdapterFileError::Stranger { .. }), "{error}");
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in [("\"LORA\"", "\"VERA\""), ("\"bias\": \"none\"", "\"bias\": \"all\"")] {
        let folder = fixture("adapters/modernbert-mlm-lora");
        let text = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
        std::fs::write(dir.path().join("adapter_config.json"), text.replace(from, to)).unwrap();
        let error = load_adapter(&base(Family::ModernBert), dir.path()).unwrap_err();
        assert!(matches!(error, AdapterFileError::Setting { .. }), "{error}");
    }
}

/// Folders that PEFT saved: the logits as it computed them.
#[test]
fn adapters_of_peft_agree() {
    let folders = std::fs::read_dir(fixture("adapters")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    assert!(folders.len() >= 12);
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let base_name = name.rsplit_once('-').unwrap().0;
        let model =
            load_adapter(&load(&fixture(base_name)).unwrap(), &folder).unwrap_or_else(|e| panic!("{name}: {e}"));
        let reference = Reference::read(base_name);
        let batch = reference.batch();
        let all: Vec<usize> = (0..batch.ids().len()).collect();
        let plain = load(&fixture(base_name)).unwrap();
        let want = Reference::read(&format!("adapters/{name}")).floats("logits");
        let of = |model: &Model| logits(&device(), model, &batch, &all)[1].clone();
        let most = close(&of(&model), &want, name, 2e-5);
        let moved = of(&plain).iter().zip(&want).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(moved > 1e-2, "{name} changes something: {moved}");
        close(&of(&model.merged().unwrap()), &want, &format!("{name} merged"), 2e-5);
        eprintln!("{name} | {most:.1e}");
        check_written_again(&plain, &model, &folder);
    }
}

/// What was read is written as PEFT had written it.
fn check_written_again(plain: &Model, model: &Model, folder: &Path) {
    let dir = tempfile::tempdir().unwrap();
    save_adapter(model, 0, &[], dir.path()).unwrap();
    let again = load_adapter(plain, dir.path()).unwrap();
    assert_eq!(again.parameters().digest(), model.parameters().digest());
    let read = |dir: &Path| {
        let bytes = std::fs::read(dir.join("adapter_model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let adapted = tensors.iter().filter(|(name, _)| name.contains("lora_") || name.contains("ia3_l"));
        let mut all: Vec<_> =
            adapted.map(|(name, view)| (name.to_owned(), view.shape().to_vec(), view.data().to_vec())).collect();
        all.sort();
        all
    };
    assert!(read(dir.path()) == read(folder), "{}", folder.display());
}
