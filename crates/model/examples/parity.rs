//! Writes `parity.safetensors` into model folders: tokens and the logits that Arable computes from them, for
//! `scripts/check_export.py` to compare, or `scripts/check_adapter.py` for an adapter. `parity DIR... BASE:ADAPTER...`

#![allow(clippy::unwrap_used, reason = "a tool for developers")]

use std::path::Path;

use arable_core::Seed;
use arable_model::{Batch, Head, Pass, load, load_adapter};
use arable_tensor::{Device, Precision, Tape};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

fn main() {
    std::env::args().skip(1).for_each(|argument| write(&argument));
}

fn write(argument: &str) {
    let (model, folder) = match argument.split_once(':') {
        Some((base, adapter)) => {
            (load_adapter(&load(Path::new(base)).unwrap(), Path::new(adapter)).unwrap(), Path::new(adapter))
        }
        None => (load(Path::new(argument)).unwrap(), Path::new(argument)),
    };
    let device = Device::cpu(1, Precision::F32).unwrap();
    let mut draws = Seed(1).stream("parity").at(0, 0);
    let sequences = [90, 3, 17]
        .map(|len| -> Vec<u32> { (0..len).map(|_| draws.below(model.architecture().vocab_size) as u32).collect() });
    let batch = Batch::pack(sequences.iter().map(Vec::as_slice));
    let mut tape = Tape::inference(&device, model.parameters());
    let positions: Vec<usize> = match model.head() {
        Head::Marked { .. } => panic!("{} classifies from markers, which transformers cannot", folder.display()),
        Head::Sequence { .. } => Vec::new(),
        Head::MaskedLm | Head::CausalLm | Head::Token { .. } => (0..batch.ids().len()).collect(),
    };
    let read = model.read(&mut tape, &batch, &model.head().reading(&batch, &positions), Pass::default());
    let logits = model.classify(&mut tape, read, None);
    let logits = tape.value(logits);
    let starts: Vec<u32> = [0].into_iter().chain(batch.sequences().iter().map(|rows| rows.end as u32)).collect();
    let (shape, values) = (vec![logits.rows(), logits.cols()], logits.to_vec());
    let tensors = [
        ("input_ids", Dtype::I32, vec![batch.ids().len()], bytemuck::cast_slice(batch.ids())),
        ("cu_seqlens", Dtype::I32, vec![starts.len()], bytemuck::cast_slice(&starts)),
        ("logits", Dtype::F32, shape, bytemuck::cast_slice(&values)),
    ];
    let views = tensors.map(|(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape, bytes).unwrap()));
    std::fs::write(folder.join("parity.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}
