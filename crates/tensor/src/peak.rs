//! What the machine can do at best, so that every other rate is a share of something measured in the same minute.

use std::time::Instant;

use crate::device::Device;
use crate::kernels;

/// Tries, of which the best counts: a peak is what can be reached.
const TRIES: usize = 7;

/// Elements that each thread copies, far more than its caches hold.
const COPIED: usize = 16 << 20;

impl Device {
    /// FLOP/s of matrix products at the device's precision, all threads together, on operands that never leave the
    /// first-level cache.
    pub fn peak_flops(&self) -> f64 {
        self.best(|| kernels::spin(self.isa(), 50_000))
    }

    /// Bytes per second read and written by copying memory, all threads together.
    pub fn peak_bytes(&self) -> f64 {
        let bytes = (2 * COPIED * size_of::<f32>()) as u64;
        let buffers = || (vec![1.0f32; COPIED], vec![0.0f32; COPIED]);
        let buffers = self.threads().broadcast(|_| std::sync::Mutex::new(buffers()));
        self.best(|| {
            let idx = rayon::current_thread_index().unwrap_or(0);
            let (from, to) = &mut *buffers[idx].lock().expect("no holder panics");
            to.copy_from_slice(std::hint::black_box(from));
            bytes
        })
    }

    /// The highest sum over threads of what `work` says it did, per second.
    fn best(&self, work: impl Fn() -> u64 + Sync) -> f64 {
        let tries = (0..TRIES).map(|_| {
            let start = Instant::now();
            let done: u64 = self.threads().broadcast(|_| work()).into_iter().sum();
            done as f64 / start.elapsed().as_secs_f64()
        });
        tries.fold(0.0, f64::max)
    }
}
