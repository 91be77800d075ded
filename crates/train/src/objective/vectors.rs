//! Vectors of sequences or tokens, and the way of their gradients back through the model.
//!
//! A loss over all vectors of a batch needs them at once, while a large batch is trained on in parts. So vectors are computed
//! without keeping anything, the loss says their gradients, and each part is computed again and run backwards from those
//! (GradCache, Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup").

use arable_model::{Batch, Model, Pass, Reading};
use arable_tensor::{Device, Gradients, Tape, Tensor, Var};

use crate::extras::Extra;
use crate::objective::Worker;

/// Reads the vectors of a batch, `[n, width]`, asks `loss` for the gradient by them, and adds what follows from it to the
/// gradients of the model. Dropout draws under the name of the objective.
pub(crate) fn through<T>(
    worker: &mut Worker<'_>,
    name: &str,
    (batch, reading): (&Batch, &Reading),
    loss: impl FnOnce(&mut Worker<'_>, Tensor) -> (T, Tensor),
) -> T {
    let parts: Vec<(Batch, Reading, usize)> = batch
        .parts(worker.memory.tokens_at_a_time)
        .into_iter()
        .map(|rows| {
            let part = batch.some(rows.clone());
            let reading = reading.some(&rows, &part);
            (part, reading, rows.start)
        })
        .collect();
    let mut vectors: Vec<f32> = Vec::new();
    let mut cols = 0;
    for (batch, reading, first_row) in &parts {
        let pass = Pass { dropout: Some(worker.dropout(name, *first_row)), ..Pass::default() };
        let mut tape = Tape::inference(worker.device, worker.model.parameters());
        let read = worker.model.read(&mut tape, batch, reading, pass);
        cols = tape.value(read).cols();
        vectors.extend(tape.value(read).to_vec());
    }
    let vectors = worker.device.tensor(vectors.len() / cols, cols, &vectors);
    let (found, gradient) = loss(worker, vectors);
    let gradient = gradient.to_vec();
    let mut rest = &gradient[..];
    for (batch, reading, first_row) in &parts {
        let dropout = Some(worker.dropout(name, *first_row));
        let pass = Pass { dropout, recomputed_layers: worker.memory.recomputed_layers };
        let mut tape =
            Tape::recording(worker.device, worker.model.parameters(), worker.gradients).keeping_packs(parts.len() > 1);
        let read = worker.model.read(&mut tape, batch, reading, pass);
        let rows = tape.value(read).rows();
        let (own, after) = rest.split_at(rows * cols);
        rest = after;
        tape.backward_with(read, worker.device.tensor(rows, cols, own), &[]);
    }
    found
}

/// A loss over vectors on a tape of its own, over the weights of the model: its value, and the gradient by the vectors, times
/// `weight`.
pub(crate) fn on_model(
    worker: &mut Worker<'_>,
    vectors: Tensor,
    weight: f32,
    loss: impl FnOnce(&Model, &mut Tape<'_>, Var) -> Var,
) -> (f64, Tensor) {
    let Worker { model, device, gradients, .. } = worker;
    weighed(model, device, gradients, vectors, weight, loss)
}

/// A loss over vectors on a tape of its own, over the weights of an extra model: its value, and the gradient by the vectors.
/// The gradients by those weights are added to the extra's, times `weight`.
pub(crate) fn on_extra(
    worker: &mut Worker<'_>,
    extra: &str,
    vectors: Tensor,
    weight: f32,
    loss: impl FnOnce(&Model, &mut Tape<'_>, Var) -> Var,
) -> (f64, Tensor) {
    let Extra { model, gradients, .. } = worker.extras.get_mut(extra);
    weighed(model, worker.device, gradients, vectors, weight, loss)
}

fn weighed(
    model: &Model,
    device: &Device,
    gradients: &mut Gradients,
    vectors: Tensor,
    weight: f32,
    loss: impl FnOnce(&Model, &mut Tape<'_>, Var) -> Var,
) -> (f64, Tensor) {
    let mut tape = Tape::recording(device, model.parameters(), gradients);
    let x = tape.input(vectors);
    let loss = loss(model, &mut tape, x);
    let value = f64::from(tape.value(loss).scalar());
    let gradient = tape.backward_with(loss, device.tensor(1, 1, &[weight]), &[x]).remove(0);
    (value, gradient)
}
