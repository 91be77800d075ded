//! Every operation against PyTorch's values and against finite differences, and at several thread counts.

use std::collections::BTreeMap;

use arable_core::{Probability, Seed};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::ops::attention::{AttentionShape, Rotary};
use crate::ops::dropout::DropoutMask;
use crate::ops::loss::{Scale, VocabularyLoss};
use crate::{
    Activation, AdamW, AdamWConfig, Device, Format, Gradients, Norm, NormKind, ParameterId, ParameterSpec, Parameters,
    Precision, RowIndex, Sequences, Tape, Tensor, Var,
};

/// Named matrices: `(rows, cols, values)`; integers as floats.
type Inputs = BTreeMap<String, (usize, usize, Vec<f32>)>;

/// One operation on named inputs: `x` (or `qkv`, `logits`) and `onto` are on the tape, the rest are parameters.
struct Case {
    name: String,
    inputs: Inputs,
    meta: Value,
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn cases() -> Vec<Case> {
    let bytes = fixture("ops.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let meta: Value = serde_json::from_slice(&fixture("ops.json")).unwrap();
    let mut cases: BTreeMap<String, Inputs> = BTreeMap::new();
    for (key, tensor) in tensors.tensors() {
        let (case, name) = key.rsplit_once('/').unwrap();
        let words = tensor.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
        let values: Vec<f32> = match tensor.dtype() {
            safetensors::Dtype::I32 => words.map(|b| i32::from_le_bytes(b) as f32).collect(),
            _ => words.map(f32::from_le_bytes).collect(),
        };
        let shape = tensor.shape();
        let cols = shape[shape.len() - 1];
        let rows = values.len() / cols;
        cases.entry(case.to_owned()).or_default().insert(name.to_owned(), (rows, cols, values));
    }
    cases.into_iter().map(|(name, inputs)| Case { meta: meta["cases"][&name].clone(), name, inputs }).collect()
}

fn integers(inputs: &Inputs, name: &str) -> Vec<usize> {
    inputs[name].2.iter().map(|&value| value as usize).collect()
}

fn sequences(inputs: &Inputs) -> Sequences {
    Sequences::of_lengths(integers(inputs, "cu_seqlens").windows(2).map(|pair| pair[1] - pair[0]))
}

const ON_TAPE: [&str; 4] = ["x", "qkv", "logits", "onto"];
const PARAMETERS: [&str; 4] = ["weight", "weight_1", "weight_2", "bias"];

/// As [`run_in`], in f32.
fn run(case: &Case, inputs: &Inputs, num_threads: usize) -> BTreeMap<String, Vec<f32>> {
    run_in(case, inputs, num_threads, Precision::F32)
}

/// Operations whose inputs are as narrow as the device's activations.
const NARROW: [&str; 7] = ["linear", "linear_onto", "activation", "geglu", "gated", "attention", "causal_attention"];

/// What a case computes, and its gradients given `d_out`, by name.
fn run_in(case: &Case, inputs: &Inputs, num_threads: usize, precision: Precision) -> BTreeMap<String, Vec<f32>> {
    let device = Device::cpu(num_threads, precision).unwrap();
    let is_narrow = NARROW.contains(&case.name.split('/').next().unwrap());
    let format = if is_narrow { device.activations() } else { Format::F32 };
    let mut parameters = Parameters::default();
    let mut ids = BTreeMap::new();
    for name in PARAMETERS.into_iter().filter(|&name| inputs.contains_key(name)) {
        let (rows, cols, values) = &inputs[name];
        let is_norm = case.name.split('/').next().unwrap().ends_with("_norm");
        let spec = if name == "bias" || is_norm {
            ParameterSpec::vector(name, *cols)
        } else {
            ParameterSpec::matrix(name, *rows, *cols)
        };
        ids.insert(name, parameters.add(spec, values));
    }
    let mut gradients = Gradients::zeros(&parameters);
    let mut tape = Tape::recording(&device, &parameters, &mut gradients);
    let names: Vec<&str> = ON_TAPE.into_iter().filter(|&name| inputs.contains_key(name)).collect();
    let on_tape: Vec<Var> = names
        .iter()
        .map(|&name| {
            let (rows, cols, values) = &inputs[name];
            let format = if name == "onto" { Format::F32 } else { format };
            tape.input(device.tensor_in(format, *rows, *cols, values))
        })
        .collect();
    let y = build(case, inputs, &mut tape, &on_tape, &ids);
    let mut found = BTreeMap::from([("out".to_owned(), tape.value(y).to_vec())]);
    let (rows, cols) = (tape.value(y).rows(), tape.value(y).cols());
    let seed = device.tensor_in(tape.value(y).format(), rows, cols, &inputs["d_out"].2);
    let grads: Vec<Tensor> = tape.backward_with(y, seed, &on_tape);
    found.extend(names.iter().zip(grads).map(|(name, grad)| (format!("d_{name}"), grad.to_vec())));
    for (name, id) in ids {
        found.insert(format!("d_{name}"), gradients.of(&parameters, id).to_vec());
    }
    found
}

fn build(case: &Case, inputs: &Inputs, tape: &mut Tape<'_>, on_tape: &[Var], ids: &BTreeMap<&str, ParameterId>) -> Var {
    let x = on_tape.first().copied().unwrap_or_else(|| tape.input(tape.device().tensor(1, 1, &[0.0])));
    let ints = |name: &str| integers(inputs, name).into_iter().map(|id| id as u32).collect::<Vec<_>>();
    let (narrow, bias) = (tape.device().activations(), ids.get("bias").copied());
    let norm = |kind, weight: &str| Norm { kind, weight: ids[weight], bias, eps: 1e-5 };
    let count = |key: &str| case.meta[key].as_u64().unwrap() as usize;
    match case.name.split('/').next().unwrap() {
        "embedding" => {
            let lookup = |name, weight| (ints(name).into(), ids[weight]);
            match inputs.contains_key("ids_1") {
                false => tape.embedding([lookup("ids", "weight")]),
                true => tape.embedding(
                    [("ids", "weight"), ("ids_1", "weight_1"), ("ids_2", "weight_2")]
                        .map(|(name, weight)| lookup(name, weight)),
                ),
            }
        }
        "linear" if bias.is_some() => tape.linear(x, ids["weight"], bias, Format::F32),
        "linear" => tape.linear(x, ids["weight"], None, narrow),
        "linear_onto" => tape.linear_onto(x, ids["weight"], bias, on_tape[1]),
        "layer_norm" => tape.norm(x, norm(NormKind::Layer, "weight"), narrow),
        "rms_norm" => tape.norm(x, norm(NormKind::Rms, "weight"), narrow),
        "head_norm" => {
            let run = |weight, key| (norm(NormKind::Rms, weight), count(key));
            tape.norm_heads(x, [run("weight", "num_heads"), run("weight_1", "num_kv_heads")], narrow)
        }
        "gelu" => tape.activation(x, Activation::Gelu),
        "activation" => tape.activation(x, activation(&case.meta)),
        "geglu" => tape.gated(x, Activation::Gelu),
        "gated" => tape.gated(x, activation(&case.meta)),
        "attention" | "causal_attention" => tape.attention(x, &sequences(inputs), &attention_shape(case)),
        "next_token_loss" => {
            let all = sequences(inputs);
            let before: Vec<usize> = all.iter().flat_map(|rows| rows.start..rows.end - 1).collect();
            let targets: Vec<u32> = before.iter().map(|row| ints("ids")[row + 1]).collect();
            let scale = 1.0 / targets.len() as f32;
            let x = tape.gather_rows(x, &RowIndex::new(before, &all), 1);
            tape.linear_cross_entropy(
                x,
                (ids["weight"], bias),
                &targets,
                Scale::Same(scale),
                &mut VocabularyLoss::default(),
            )
        }
        "softmax_cross_entropy" => tape.cross_entropy(x, &ints("targets")),
        "bce_with_logits" => tape.binary_cross_entropy(x, &inputs["targets"].2),
        "segment_mean" => tape.segment_mean(x, &sequences(inputs)),
        "gather_rows" => {
            let all = Sequences::of_lengths([tape.value(x).rows()]);
            tape.gather_rows(x, &RowIndex::new(integers(inputs, "rows"), &all), 1)
        }
        other => panic!("a golden without an operation: {other}"),
    }
}

fn activation(meta: &Value) -> Activation {
    match meta["activation"].as_str().unwrap() {
        "gelu_tanh" => Activation::GeluTanh,
        "silu" => Activation::Silu,
        "tanh" => Activation::Tanh,
        other => panic!("a golden without an activation: {other}"),
    }
}

fn attention_shape(case: &Case) -> AttentionShape {
    let count = |key: &str| case.meta[key].as_u64().map(|count| count as usize);
    let (num_heads, head_dim) = (count("num_heads").unwrap(), count("head_dim").unwrap());
    AttentionShape {
        num_heads,
        num_kv_heads: count("num_kv_heads").unwrap_or(num_heads),
        head_dim,
        half_window: count("half_width"),
        is_causal: case.name.starts_with("causal_attention"),
        rotary: case.meta["rope_theta"].as_f64().map(|theta| Rotary::new(head_dim, 160, theta)),
    }
}

#[test]
fn operations_agree_with_pytorch() {
    let mut num_checked = 0;
    for case in cases().iter().filter(|case| !case.name.starts_with("adamw")) {
        for (name, found) in run(case, &case.inputs, 2) {
            let Some((_, _, want)) = case.inputs.get(&name) else { continue };
            let size = want.iter().fold(1.0f32, |size, value| size.max(value.abs()));
            for (found, want) in found.iter().zip(want) {
                assert!((found - want).abs() <= 1e-5 * size, "{} {name}: {found} for {want}", case.name);
            }
            num_checked += 1;
        }
    }
    assert_eq!(num_checked, 137, "every output and gradient was compared");
}

/// Activations in bf16 carry 8 bits, and so do what they lead to.
#[test]
fn narrow_operations_agree_to_rounding() {
    for precision in [Precision::Bf16, Precision::I16] {
        match precision.is_available() {
            true => narrow_operations_agree(precision),
            false => eprintln!("SKIPPED: this machine has no products of {}", precision.name()),
        }
    }
}

fn narrow_operations_agree(precision: Precision) {
    for case in cases().iter().filter(|case| !case.name.starts_with("adamw")) {
        let want = run(case, &case.inputs, 1);
        for (name, found) in run_in(case, &case.inputs, 2, precision) {
            let size = want[&name].iter().fold(0.0f32, |size, value| size.max(value.abs()));
            for (found, want) in found.iter().zip(&want[&name]) {
                assert!(
                    (found - want).abs() <= 0.02 * size,
                    "{} {name} in {}: {found} for {want} ({size})",
                    case.name,
                    precision.name()
                );
            }
        }
    }
}

/// The directional derivative of `<out, d_out>` along a random direction, against finite differences.
#[test]
fn gradients_agree_with_finite_differences() {
    for case in cases().iter().filter(|case| !case.name.starts_with("adamw")) {
        let grads = run(case, &case.inputs, 1);
        for (name, grad) in grads.iter().filter(|(name, _)| name.starts_with("d_")) {
            let mut draws = Seed(3).stream(&case.name).at(0, 0);
            let direction: Vec<f32> = grad.iter().map(|_| draws.normal() as f32).collect();
            let objective = |step: f32| {
                let mut moved = case.inputs.clone();
                let values = &mut moved.get_mut(&name[2..]).unwrap().2;
                values.iter_mut().zip(&direction).for_each(|(value, d)| *value += step * d);
                let out = &run(case, &moved, 1)["out"];
                out.iter().zip(&case.inputs["d_out"].2).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
            };
            // `tiny` has inputs of 1e-3, so that an ordinary step leaves the neighbourhood.
            let size = case.inputs[&name[2..]].2.iter().fold(0.0f32, |size, value| size.max(value.abs()));
            let step = 2e-3 * size.min(1.0);
            let want = (objective(step) - objective(-step)) / (2.0 * f64::from(step));
            let got: f64 = grad.iter().zip(&direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let scale: f64 = grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!((want - got).abs() <= 2e-2 * scale.max(0.02), "{} {name}: {got} for {want} ({scale})", case.name);
        }
    }
}

#[test]
fn threads_change_no_bit() {
    for case in cases().iter().filter(|case| !case.name.starts_with("adamw")) {
        let one = run(case, &case.inputs, 1);
        for num_threads in [2, 3, 7] {
            assert_eq!(run(case, &case.inputs, num_threads), one, "{} with {num_threads} threads", case.name);
        }
    }
}

#[test]
fn adamw_agrees_with_pytorch() {
    for case in cases().iter().filter(|case| case.name.starts_with("adamw")) {
        let device = Device::cpu(2, Precision::F32).unwrap();
        let mut parameters = Parameters::default();
        let decays = case.meta["weight_decay"].as_array().unwrap();
        let mut ids = Vec::new();
        for (i, decay) in decays.iter().enumerate() {
            let initial = &case.inputs[&format!("initial_{i}")].2;
            let decay = decay.as_f64().unwrap() > 0.0;
            let spec = ParameterSpec { name: format!("{i}"), shape: vec![initial.len()], decay };
            ids.push(parameters.add(spec, initial));
        }
        let config = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config, &parameters);
        for step in 0..5 {
            let mut gradients = Gradients::zeros(&parameters);
            for (i, &id) in ids.iter().enumerate() {
                let (_, cols, grads) = &case.inputs[&format!("grads_{i}")];
                gradients.of_mut(&parameters, id).unwrap().copy_from_slice(&grads[step * cols..][..*cols]);
            }
            let norm = optimizer.step(&device, &mut parameters, &mut gradients, 0.01);
            assert!((norm - f64::from(case.inputs["norms"].2[step])).abs() < 1e-5 * norm);
            assert!(gradients.flat(&parameters).iter().all(|&g| g == 0.0));
            for (i, &id) in ids.iter().enumerate() {
                let (_, cols, want) = &case.inputs[&format!("params_{i}")];
                for (got, want) in parameters.value(id).iter().zip(&want[step * cols..]) {
                    assert!((got - want).abs() < 1e-5, "{} step {step}: {got} for {want}", case.name);
                }
            }
        }
    }
}

/// The chunked vocabulary loss equals a linear layer with a cross-entropy, in value and gradient.
#[test]
fn chunked_loss_equals_the_plain_one() {
    let (rows, hidden, vocab) = (1100, 12, 50);
    let mut draws = Seed(5).stream("chunked").at(0, 0);
    let mut random = |n: usize| (0..n).map(|_| draws.normal() as f32).collect::<Vec<_>>();
    let device = Device::cpu(2, Precision::F32).unwrap();
    let mut parameters = Parameters::default();
    let weight = parameters.add(ParameterSpec::matrix("w", vocab, hidden), &random(vocab * hidden));
    let bias = parameters.add(ParameterSpec::vector("b", vocab), &random(vocab));
    let x = random(rows * hidden);
    let targets: Vec<u32> = (0..rows).map(|i| (i * 7 % vocab) as u32).collect();
    let compute = |chunked: bool| {
        let mut gradients = Gradients::zeros(&parameters);
        let mut tape = Tape::recording(&device, &parameters, &mut gradients);
        let x = tape.input(device.tensor(rows, hidden, &x));
        let loss = if chunked {
            let mut found = VocabularyLoss::default();
            let loss = tape.linear_cross_entropy(
                x,
                (weight, Some(bias)),
                &targets,
                Scale::Same(1.0 / rows as f32),
                &mut found,
            );
            assert!((found.sum / rows as f64 - f64::from(tape.value(loss).scalar())).abs() < 1e-5);
            loss
        } else {
            let logits = tape.linear(x, weight, Some(bias), Format::F32);
            tape.cross_entropy(logits, &targets)
        };
        let value = tape.value(loss).to_vec();
        let d_x = tape.backward_with(loss, device.ones(1, 1), &[x]);
        [value, d_x[0].to_vec(), gradients.flat(&parameters).to_vec()].concat()
    };
    for (a, b) in compute(true).iter().zip(compute(false)) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

/// Dropout keeps the mean, uses one mask forward and backward, and adds up over two uses of a value.
#[test]
fn dropout_and_sums_pass_gradients() {
    let device = Device::cpu(2, Precision::F32).unwrap();
    let parameters = Parameters::default();
    let mut gradients = Gradients::zeros(&parameters);
    let mut tape = Tape::recording(&device, &parameters, &mut gradients);
    let n = 40_000;
    let x = tape.input(device.tensor(1, n, &vec![1.0; n]));
    let p = Probability::new(0.25).unwrap();
    let mask = DropoutMask { p, stream: Seed(1).stream("dropout"), step: 3, first_row: 0, rows: None };
    let dropped = tape.dropout(x, mask);
    let y = tape.add(dropped, x);
    let values = tape.value(dropped).to_vec();
    assert!((values.iter().sum::<f32>() / n as f32 - 1.0).abs() < 0.02);
    let seed = device.tensor(1, n, &vec![1.0; n]);
    let d_x = tape.backward_with(y, seed, &[x]);
    for (d_x, value) in d_x[0].to_vec().iter().zip(values) {
        assert_eq!(*d_x, value + 1.0);
    }
}
