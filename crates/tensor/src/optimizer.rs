//! AdamW (Loshchilov, Hutter 2019) over the flat parameters, with clipping by the global norm.

use rayon::prelude::*;

use crate::device::Device;
use crate::math::sum;
use crate::ops::ELEMENTS_PER_JOB;
use crate::parameters::{Gradients, Parameters};
use crate::simd::vectorized;

/// The constants of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, per unit of learning rate.
    pub weight_decay: f64,
    /// The global gradient norm above which gradients are scaled down.
    pub max_grad_norm: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.98, eps: 1e-6, weight_decay: 0.01, max_grad_norm: 1.0 }
    }
}

/// First and second moments of the gradients, laid out as the weights that are not frozen.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
    /// Steps taken.
    pub num_steps: u64,
}

/// The optimizer and its state.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    moments: Moments,
    segments: Vec<Segment>,
    /// Room for the sums of squares of blocks of gradients.
    squares: Vec<f64>,
}

/// Weights that lie side by side and are updated alike.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// The element after its last.
    end: usize,
    /// Whether weight decay applies.
    decay: bool,
    /// Factor of the learning rate; 0: frozen.
    rate: f32,
}

impl AdamW {
    /// An optimizer that has taken no step.
    pub fn new(config: AdamWConfig, parameters: &Parameters) -> Self {
        let n = parameters.num_free();
        Self::resumed(config, parameters, Moments { first: vec![0.0; n], second: vec![0.0; n], num_steps: 0 })
    }

    /// An optimizer with the state of an earlier one.
    ///
    /// # Panics
    /// When the state is not that of such parameters.
    pub fn resumed(config: AdamWConfig, parameters: &Parameters, moments: Moments) -> Self {
        let n = parameters.num_free();
        assert!(moments.first.len() == n && moments.second.len() == n, "moments have the layout of the parameters");
        let segments = parameters.segments().map(|(range, decay)| Segment { end: range.end, decay, rate: 1.0 });
        let segments = segments.collect();
        Self { config, moments, segments, squares: vec![0.0; n.div_ceil(ELEMENTS_PER_JOB)] }
    }

    /// The same with a factor of the learning rate for each parameter that is not frozen, in order. What has the factor 0 is frozen: its weights
    /// and moments stay as they are, and its gradient does not count in the global norm.
    ///
    /// # Panics
    /// When there is not one factor for each parameter.
    pub fn with_rates(mut self, rates: &[f32]) -> Self {
        assert_eq!(rates.len(), self.segments.len(), "one rate for each parameter");
        self.segments.iter_mut().zip(rates).for_each(|(segment, &rate)| segment.rate = rate);
        self
    }

    /// The state.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Takes one step and clears the gradients: one pass for the norm, one for everything else. Returns the global
    /// gradient norm before clipping.
    pub fn step(
        &mut self,
        device: &Device,
        parameters: &mut Parameters,
        gradients: &mut Gradients,
        learning_rate: f64,
    ) -> f64 {
        let gradients = gradients.flat(parameters);
        self.clear_frozen(gradients);
        let norm = global_norm(device, gradients, &mut self.squares);
        // Memory that was never written to is written first: to read it before would cost a second page fault and both cores'
        // attention, for each page.
        let is_first = self.moments.num_steps == 0;
        self.moments.num_steps += 1;
        let update = Update::new(&self.config, self.moments.num_steps, learning_rate, norm);
        let segments = &self.segments;
        device.install(|| {
            let weights = parameters.flat_mut().par_chunks_mut(ELEMENTS_PER_JOB);
            let gradients = gradients.par_chunks_mut(ELEMENTS_PER_JOB);
            let first = self.moments.first.par_chunks_mut(ELEMENTS_PER_JOB);
            let second = self.moments.second.par_chunks_mut(ELEMENTS_PER_JOB);
            weights.zip(gradients).zip(first.zip(second)).enumerate().for_each(|(job, ((w, g), (m, v)))| {
                let start = job * ELEMENTS_PER_JOB;
                if is_first {
                    m.fill(0.0);
                    v.fill(0.0);
                }
                for (range, segment) in pieces(segments, start, w.len()).filter(|(_, segment)| segment.rate > 0.0) {
                    let (w, g) = (&mut w[range.clone()], &mut g[range.clone()]);
                    let (m, v) = (&mut m[range.clone()], &mut v[range]);
                    apply(&update.of(segment), w, g, m, v);
                }
            });
        });
        norm
    }

    fn clear_frozen(&self, gradients: &mut [f32]) {
        let mut start = 0;
        for segment in &self.segments {
            if segment.rate == 0.0 {
                gradients[start..segment.end].fill(0.0);
            }
            start = segment.end;
        }
    }
}

/// The parts of `start..start + len` that are updated alike, counted from `start`.
fn pieces(
    segments: &[Segment],
    start: usize,
    len: usize,
) -> impl Iterator<Item = (std::ops::Range<usize>, Segment)> + '_ {
    let mut at = start;
    let first = segments.partition_point(|segment| segment.end <= start);
    segments[first..].iter().map_while(move |&segment| {
        let range = at - start..segment.end.min(start + len) - start;
        at = segment.end.min(start + len);
        (!range.is_empty()).then_some((range, segment))
    })
}

fn global_norm(device: &Device, gradients: &[f32], squares: &mut [f64]) -> f64 {
    let blocks = gradients.par_chunks(ELEMENTS_PER_JOB).zip(&mut *squares);
    device.install(|| blocks.for_each(|(block, square)| *square = f64::from(square_sum(block))));
    squares.iter().sum::<f64>().sqrt()
}

/// The numbers of one step.
#[derive(Clone, Copy)]
struct Update {
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// What of a weight decays, for a rate of 1.
    decay: f64,
    /// What is left of a weight.
    kept: f32,
    clip: f32,
    rate: f32,
    second_scale: f32,
}

impl Update {
    /// The numbers for the weights of a segment.
    fn of(&self, segment: Segment) -> Self {
        let decay = if segment.decay { f64::from(segment.rate) * self.decay } else { 0.0 };
        Self { kept: (1.0 - decay) as f32, rate: self.rate * segment.rate, ..*self }
    }

    fn new(config: &AdamWConfig, num_steps: u64, learning_rate: f64, norm: f64) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(num_steps as f64);
        Self {
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            eps: config.eps as f32,
            decay: learning_rate * config.weight_decay,
            kept: 1.0,
            clip: (config.max_grad_norm / (norm + 1e-6)).min(1.0) as f32,
            rate: (learning_rate / correction(config.beta1)) as f32,
            second_scale: (1.0 / correction(config.beta2).sqrt()) as f32,
        }
    }
}

vectorized! {
    fn square_sum(block: &[f32]) -> f32 {
        sum(block, |g| g * g)
    }

    fn apply(
        update: &Update,
        weights: &mut [f32],
        gradients: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let moments = first.iter_mut().zip(second);
        for ((w, g), (m, v)) in weights.iter_mut().zip(gradients).zip(moments) {
            let gradient = *g * update.clip;
            *g = 0.0;
            *m = update.beta1 * *m + (1.0 - update.beta1) * gradient;
            *v = update.beta2 * *v + (1.0 - update.beta2) * gradient * gradient;
            *w = *w * update.kept - update.rate * *m / (v.sqrt() * update.second_scale + update.eps);
        }
    }
}
