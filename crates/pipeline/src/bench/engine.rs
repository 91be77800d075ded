//! Products, operations, whole steps.

use std::sync::Arc;

use arable_core::Seed;
use arable_model::{Batch, Head, Model, Pass, Pooling};
use arable_tensor::kernels::Init;
use arable_tensor::ops::loss::{Scale, VocabularyLoss};
use arable_tensor::{
    Activation, AdamW, AdamWConfig, AttentionShape, Format, Gradients, Norm, NormKind, ParameterId, ParameterSpec,
    Parameters, Rotary, Sequences, Tape, Var,
};

use super::Bench;

/// Ends the name of a product whose weight is as narrow as its activations.
const ALL_NARROW: &str = ", bf16";

/// Numbers of deviation 1, the same every time.
fn numbers(len: usize) -> Vec<f32> {
    let mut draws = Seed(1).stream("numbers").at(0, 0);
    (0..len).map(|_| draws.normal() as f32).collect()
}

impl Bench<'_> {
    /// The products of one layer and of the masked head: forward, backward by the input and by the weight. As training has
    /// them, with weights and their gradients in f32; then, where activations are narrow, with all in their format, which
    /// is what products of other libraries are given.
    pub(super) fn kernels(&mut self) {
        let (tokens, hidden, inner) = (self.shape.tokens, self.shape.hidden, self.architecture.intermediate_size);
        let masked = (tokens * self.shape.mask / 100).max(1);
        let cases = [
            ("qkv", tokens, 3 * hidden, hidden),
            ("attention out", tokens, hidden, hidden),
            ("mlp in", tokens, 2 * inner, hidden),
            ("mlp out", tokens, hidden, inner),
            ("decoder", masked, self.shape.vocab, hidden),
        ];
        let inside = self.device.activations();
        for (name, m, n, k) in cases {
            self.products(name, (m, n, k), Format::F32, "");
            if inside != Format::F32 {
                self.products(name, (m, n, k), inside, ALL_NARROW);
            }
        }
    }

    /// `x [m, k]` times a weight `[n, k]`, and both ways back, weight and its gradient in `format`.
    fn products(&mut self, name: &str, (m, n, k): (usize, usize, usize), format: Format, suffix: &str) {
        let (device, inside) = (self.device, self.device.activations());
        let matrix = |format, rows, cols| device.tensor_in(format, rows, cols, &numbers(rows * cols));
        let (x, w, mut y) = (matrix(inside, m, k), matrix(format, n, k), matrix(inside, m, n));
        let flops = 2.0 * m as f64 * n as f64 * k as f64;
        self.time("kernels", format!("{name} {m} x {n} x {k}{suffix}"), flops, "FLOP", || {
            device.matmul_into(y.mat_mut(), Init::Zero, x.mat(), w.mat().t());
        });
        let mut dx = matrix(inside, m, k);
        self.time("kernels", format!("{name}, by the input{suffix}"), flops, "FLOP", || {
            device.matmul_into(dx.mat_mut(), Init::Zero, y.mat(), w.mat());
        });
        let mut dw = matrix(format, n, k);
        let init = if format == Format::F32 { Init::Add } else { Init::Zero };
        self.time("kernels", format!("{name}, by the weight{suffix}"), flops, "FLOP", || {
            device.matmul_into(dw.mat_mut(), init, y.mat().t(), x.mat());
        });
    }

    /// Each operation forward and backward, against the bytes that it has to read and write or the FLOP that it needs.
    pub(super) fn operations(&mut self) {
        let (n, h, inner) = (self.shape.tokens, self.shape.hidden, self.architecture.intermediate_size);
        let (vocab, length) = (self.shape.vocab, self.shape.length);
        let bytes = |elements: usize| 4.0 * elements as f64;
        let mut parameters = Parameters::default();
        let scale = parameters.add(ParameterSpec::vector("scale", h), &vec![1.0; h]);
        let table = parameters.add(ParameterSpec::matrix("table", vocab, h), &numbers(vocab * h));
        let bias = parameters.add(ParameterSpec::vector("bias", vocab), &vec![0.0; vocab]);
        let (inside, wide) = (self.device.activations(), Format::F32);
        let width = if inside == wide { 4 } else { 2 };
        // Forward reads x and writes y; backward reads x, dy and what dx was, and writes dx.
        let passes = (4 * 4 + 2 * width) * n * h;
        self.operation("norm", passes as f64, "B", &parameters, (wide, n, h), |tape, x| {
            tape.norm(x, Norm { kind: NormKind::Layer, weight: scale, bias: None, eps: 1e-5 }, inside)
        });
        let passes = (2 + 1 + 2 + 1 + 2) * width * n * inner;
        self.operation("gated GELU", passes as f64, "B", &parameters, (inside, n, 2 * inner), |tape, x| {
            tape.gated(x, Activation::Gelu)
        });
        let ids: Arc<[u32]> = (0..n).map(|i| (i * 7919 % vocab) as u32).collect();
        self.operation("embedding", bytes(5 * n * h), "B", &parameters, (wide, 1, 1), |tape, _| {
            tape.embedding([(Arc::clone(&ids), table)])
        });
        let lengths = (0..n).step_by(length).map(|start| length.min(n - start));
        let sequences = Sequences::of_lengths(lengths);
        let heads = self.architecture.num_attention_heads;
        let shape = AttentionShape {
            num_heads: heads,
            num_kv_heads: heads,
            head_dim: h / heads,
            half_window: None,
            is_causal: false,
            rotary: Some(Rotary::new(h / heads, length, 10_000.0)),
        };
        let scores: usize = sequences.iter().map(|rows| rows.len() * rows.len()).sum();
        self.operation("attention", 14.0 * (scores * h) as f64, "FLOP", &parameters, (inside, n, 3 * h), |tape, x| {
            tape.attention(x, &sequences, &shape)
        });
        let masked = (n * self.shape.mask / 100).max(1);
        let targets: Vec<u32> = (0..masked).map(|i| (i * 31 % vocab) as u32).collect();
        let flops = 6.0 * (masked * h * vocab) as f64;
        self.operation("vocabulary loss", flops, "FLOP", &parameters, (wide, masked, h), |tape, x| {
            tape.linear_cross_entropy(
                x,
                (table, Some(bias)),
                &targets,
                Scale::Same(1e-3),
                &mut VocabularyLoss::default(),
            )
        });
        self.optimizer(parameters, table);
    }

    fn operation(
        &mut self,
        name: &str,
        amount: f64,
        unit: &'static str,
        parameters: &Parameters,
        (format, rows, cols): (Format, usize, usize),
        op: impl Fn(&mut Tape<'_>, Var) -> Var + Sync,
    ) {
        let (device, input) = (self.device, numbers(rows * cols));
        let mut gradients = Gradients::zeros(parameters);
        // Making the input and the gradient of the output is part of the time: in a model, other operations do it.
        self.time("operations", name, amount, unit, || {
            device.install(|| {
                let mut tape = Tape::recording(device, parameters, &mut gradients);
                let x = tape.input(device.tensor_in(format, rows, cols, &input));
                let y = op(&mut tape, x);
                let seed = device.ones_like(tape.value(y));
                tape.backward_with(y, seed, &[]);
            });
        });
    }

    fn optimizer(&mut self, mut parameters: Parameters, table: ParameterId) {
        let device = self.device;
        let mut gradients = Gradients::zeros(&parameters);
        let mut optimizer = AdamW::new(AdamWConfig::default(), &parameters);
        let num_elements = parameters.value(table).len();
        // Reads weight, gradient (twice, once for the norm) and both moments; writes all four.
        self.time("operations", "AdamW with clipping", 36.0 * num_elements as f64, "B", || {
            optimizer.step(device, &mut parameters, &mut gradients, 1e-3);
        });
    }

    /// A whole training step: forward, backward, AdamW.
    pub(super) fn step(&mut self) {
        let mut step = self.stepper().0;
        let tokens = self.shape.tokens as f64;
        let flops = self.architecture.flops_per_token(self.shape.mask as f64 / 100.0, self.shape.length);
        self.time("step", "training step", tokens * flops, "FLOP", &mut step);
        self.time("step", "training step", tokens, "token", step);
    }

    /// What takes one training step whenever it is called, and the number of the model's parameters.
    pub(super) fn stepper(&self) -> (impl FnMut() + use<>, usize) {
        let device = self.device.clone();
        let (mut model, batch, positions, targets) = self.batch();
        let mut optimizer = AdamW::new(AdamWConfig::default(), model.parameters());
        let mut gradients = Gradients::zeros(model.parameters());
        let (num_parameters, asked) = (model.parameters().num_elements(), model.head().reading(&batch, &positions));
        let step = move || {
            device.install(|| {
                let mut tape = Tape::recording(&device, model.parameters(), &mut gradients);
                let states = model.read(&mut tape, &batch, &asked, Pass::default());
                let (scale, mut found) = (1.0 / targets.len() as f32, VocabularyLoss::default());
                let loss = model.token_loss(&mut tape, states, &targets, Scale::Same(scale), &mut found);
                tape.backward(loss);
                optimizer.step(&device, model.parameters_mut(), &mut gradients, 1e-4);
            });
        };
        (step, num_parameters)
    }

    /// A whole step of fine-tuning a sequence classifier.
    pub(super) fn finetune(&mut self) {
        let device = self.device;
        let head = Head::Sequence { num_labels: 3, pooling: Pooling::Mean };
        let (mut model, (_, batch, ..)) = (Model::new(self.architecture.clone(), head, Seed(1)), self.batch());
        let mut optimizer = AdamW::new(AdamWConfig::default(), model.parameters());
        let mut gradients = Gradients::zeros(model.parameters());
        let targets: Vec<u32> = (0..batch.sequences().len() as u32).map(|i| i % 3).collect();
        let tokens = batch.ids().len() as f64;
        self.time("finetune", "sequence classifier, whole step", tokens, "token", || {
            device.install(|| {
                let mut tape = Tape::recording(device, model.parameters(), &mut gradients);
                let states = model.read(&mut tape, &batch, &head.reading(&batch, &[]), Pass::default());
                let logits = model.classify(&mut tape, states, None);
                let loss = tape.cross_entropy(logits, &targets);
                tape.backward(loss);
                optimizer.step(device, model.parameters_mut(), &mut gradients, 1e-4);
            });
        });
    }

    /// The encoder, all of its states, forward alone.
    pub(super) fn inference(&mut self) {
        let device = self.device;
        let (model, batch, ..) = self.batch();
        let tokens = batch.ids().len() as f64;
        self.time("inference", "encoder", tokens, "token", || {
            device.install(|| {
                let mut tape = Tape::inference(device, model.parameters());
                model.encode(&mut tape, &batch, Pass::default());
            });
        });
    }

    fn batch(&self) -> (Model, Batch, Vec<usize>, Vec<u32>) {
        let model = Model::new(self.architecture.clone(), Head::MaskedLm, Seed(1));
        let mut draws = Seed(1).stream("ids").at(0, 0);
        let ids: Vec<u32> = (0..self.shape.tokens).map(|_| draws.below(self.shape.vocab) as u32).collect();
        let batch = Batch::pack(ids.chunks(self.shape.length));
        let mut positions: Vec<usize> = (0..ids.len()).filter(|_| draws.below(100) < self.shape.mask).collect();
        if positions.is_empty() {
            positions.push(0);
        }
        let targets = positions.iter().map(|&position| ids[position]).collect();
        (model, batch, positions, targets)
    }
}
