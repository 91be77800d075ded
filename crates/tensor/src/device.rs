//! Where buffers live and who computes.

use std::sync::Arc;

use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

use crate::tensor::{Pool, Tensor};

/// The number format of matrix operands. Accumulation and weights are `f32` in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit operands.
    F32,
    /// Operands rounded to bfloat16.
    Bf16,
}

/// A device that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The operating system gave no threads.
    #[error("start {num_threads} threads")]
    Threads {
        /// Threads asked for.
        num_threads: usize,
        /// What the thread pool said.
        source: rayon::ThreadPoolBuildError,
    },
}

/// Where buffers live and who computes, chosen at run time.
#[derive(Clone, Debug)]
pub enum Device {
    /// The processor.
    Cpu(Cpu),
}

/// The processor: a pool of threads and a pool of buffers.
#[derive(Clone, Debug)]
pub struct Cpu {
    threads: Arc<ThreadPool>,
    buffers: Arc<Pool>,
    precision: Precision,
}

impl Device {
    /// The processor with `num_threads` threads.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn cpu(num_threads: usize, precision: Precision) -> Result<Self, DeviceError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(num_threads)
            .build()
            .map_err(|source| DeviceError::Threads { num_threads, source })?;
        Ok(Self::Cpu(Cpu { threads: Arc::new(threads), buffers: Arc::default(), precision }))
    }

    /// The precision of matrix work.
    pub fn precision(&self) -> Precision {
        let Self::Cpu(cpu) = self;
        cpu.precision
    }

    /// How many threads compute.
    pub fn num_threads(&self) -> usize {
        self.threads().current_num_threads()
    }

    /// A matrix with the given elements in row-major order.
    ///
    /// # Panics
    /// When `data` does not have `rows * cols` elements.
    pub fn tensor(&self, rows: usize, cols: usize, data: &[f32]) -> Tensor {
        let mut tensor = self.stale(rows, cols);
        tensor.host_mut().copy_from_slice(data);
        tensor
    }

    pub(crate) fn threads(&self) -> &ThreadPool {
        let Self::Cpu(cpu) = self;
        &cpu.threads
    }

    pub(crate) fn stale(&self, rows: usize, cols: usize) -> Tensor {
        let Self::Cpu(cpu) = self;
        Tensor::stale(&cpu.buffers, rows, cols)
    }

    pub(crate) fn zeros(&self, rows: usize, cols: usize) -> Tensor {
        let mut tensor = self.stale(rows, cols);
        tensor.host_mut().fill(0.0);
        tensor
    }

    pub(crate) fn copy(&self, other: &Tensor) -> Tensor {
        self.tensor(other.rows(), other.cols(), other.host())
    }
}
