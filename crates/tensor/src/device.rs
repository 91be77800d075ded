//! Where buffers live and who computes.

use std::sync::Arc;

use arable_core::Hint;
use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

use crate::element::{Element, by_format};
use crate::kernels::{self, Init, Isa, MatMut, MatRef, PackedB};
use crate::packs::Right;
use crate::tape::SpareValues;
use crate::tensor::{Format, Pool, Tensor};

/// The number format of matrix operands. Accumulation and weights are `f32` in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit operands.
    F32,
    /// Operands rounded to bfloat16.
    Bf16,
    /// Operands rounded to integers of 16 bits, of which 256 in a row share a scale (dynamic fixed point, Das et al. 2018);
    /// activations in bfloat16.
    I16,
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
    /// The processor has no instructions for products of the precision.
    #[error("multiply in {} on a processor without {}", .0.name(), .0.needs())]
    Precision(Precision),
}

impl Hint for DeviceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Threads { .. } => Some("ask for fewer threads".into()),
            Self::Precision(_) => Some("use --precision f32, or auto".into()),
        }
    }
}

/// Where buffers live and who computes, chosen at run time.
#[derive(Clone, Debug)]
pub enum Device {
    /// The processor.
    Cpu(Cpu),
}

/// The processor: a pool of threads and what they compute in.
#[derive(Clone, Debug)]
pub struct Cpu {
    threads: Arc<ThreadPool>,
    buffers: Arc<Pool>,
    /// Buffers of each thread.
    scratch: Arc<Pool>,
    values: Arc<SpareValues>,
    isa: Isa,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::I16];

    /// The precision with the fastest matrix products on this machine.
    pub fn fastest() -> Self {
        Self::of(Isa::detect())
    }

    /// The precision of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }

    /// Whether this machine has products of the precision.
    pub fn is_available(self) -> bool {
        self.isa().is_ok()
    }

    fn of(isa: Isa) -> Self {
        match isa {
            Isa::F32 => Self::F32,
            Isa::Avx512Vnni => Self::I16,
            Isa::Avx512Bf16 | Isa::AmxBf16 => Self::Bf16,
        }
    }

    /// The name in configurations and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::I16 => "i16",
        }
    }

    /// The instructions that it takes, by the names that processors have for them.
    fn needs(self) -> &'static str {
        match self {
            Self::F32 => "floating point",
            Self::Bf16 => "AVX512-BF16 or AMX",
            Self::I16 => "AVX512-VNNI",
        }
    }

    fn isa(self) -> Result<Isa, DeviceError> {
        let mut sets = Isa::ALL.into_iter().rev().filter(|&isa| Self::of(isa) == self);
        sets.find(|isa| isa.is_available()).ok_or(DeviceError::Precision(self))
    }
}

impl Device {
    /// The processor with `num_threads` threads.
    ///
    /// # Errors
    /// When the threads cannot be started or the processor lacks the precision.
    pub fn cpu(num_threads: usize, precision: Precision) -> Result<Self, DeviceError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(num_threads)
            .build()
            .map_err(|source| DeviceError::Threads { num_threads, source })?;
        let (isa, scratch) = (precision.isa()?, Arc::new(Pool::of_threads(threads.current_num_threads())));
        Ok(Self::Cpu(Cpu { threads: Arc::new(threads), buffers: Arc::default(), scratch, values: Arc::default(), isa }))
    }

    /// The precision of matrix work.
    pub fn precision(&self) -> Precision {
        let Self::Cpu(cpu) = self;
        Precision::of(cpu.isa)
    }

    /// How many threads compute.
    pub fn num_threads(&self) -> usize {
        self.threads().current_num_threads()
    }

    /// Runs `work` among the device's threads. Operations called there need not wake them one by one, so a whole step
    /// belongs inside.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads().install(work)
    }

    /// A matrix with the given elements in row-major order.
    ///
    /// # Panics
    /// When `data` does not have `rows * cols` elements.
    pub fn tensor(&self, rows: usize, cols: usize, data: &[f32]) -> Tensor {
        self.tensor_in(Format::F32, rows, cols, data)
    }

    /// As [`Self::tensor`], rounded to `format`.
    ///
    /// # Panics
    /// When `data` does not have `rows * cols` elements.
    pub fn tensor_in(&self, format: Format, rows: usize, cols: usize, data: &[f32]) -> Tensor {
        assert_eq!(data.len(), rows * cols, "{rows} x {cols} elements");
        let mut tensor = self.stale_in(format, rows, cols);
        by_format!(format, T => T::all_mut(&mut tensor).iter_mut().zip(data).for_each(|(to, &from)| *to = T::of(from)));
        tensor
    }

    /// The format of activations that products read or write.
    pub fn activations(&self) -> Format {
        if self.precision() == Precision::F32 { Format::F32 } else { Format::Bf16 }
    }

    /// `c = a b` with what `init` says added, `c` dense row-major `[a.rows, b.cols]`, on all threads.
    pub fn matmul(&self, c: &mut [f32], init: Init<'_>, a: MatRef<'_>, b: MatRef<'_>) {
        self.matmul_into(MatMut::new(c, a.rows(), b.cols()), init, a, b);
    }

    /// As [`Self::matmul`], into a matrix of any format.
    pub fn matmul_into(&self, c: MatMut<'_>, init: Init<'_>, a: MatRef<'_>, b: MatRef<'_>) {
        let Self::Cpu(cpu) = self;
        kernels::matmul(cpu.isa, c, init, a, b, &cpu.threads);
    }

    /// Packs `b` in the place of what `place` held.
    pub(crate) fn pack(&self, place: &mut PackedB, b: MatRef<'_>) {
        kernels::pack_b_into(place, self.isa(), b, self.threads());
    }

    /// As [`Self::matmul`], with a weight.
    pub(crate) fn matmul_right(&self, c: MatMut<'_>, init: Init<'_>, a: MatRef<'_>, b: &Right<'_>) {
        match b {
            Right::Plain(b) => self.matmul_into(c, init, a, *b),
            Right::Packed(b) => kernels::matmul_packed(c, init, a, b, self.threads()),
        }
    }

    /// As [`Self::matmul`] into any rows of memory, on the calling thread.
    pub(crate) fn matmul_here(&self, c: MatMut<'_>, init: Init<'_>, a: MatRef<'_>, b: MatRef<'_>) {
        let Self::Cpu(cpu) = self;
        kernels::matmul_here(cpu.isa, c, init, a, b);
    }

    pub(crate) fn isa(&self) -> Isa {
        let Self::Cpu(cpu) = self;
        cpu.isa
    }

    pub(crate) fn threads(&self) -> &ThreadPool {
        let Self::Cpu(cpu) = self;
        &cpu.threads
    }

    pub(crate) fn stale(&self, rows: usize, cols: usize) -> Tensor {
        self.stale_in(Format::F32, rows, cols)
    }

    pub(crate) fn stale_in(&self, format: Format, rows: usize, cols: usize) -> Tensor {
        let Self::Cpu(cpu) = self;
        Tensor::stale(&cpu.buffers, rows, cols, format)
    }

    /// A matrix of unspecified content for the calling thread, which drops it.
    pub(crate) fn scratch(&self, format: Format, rows: usize, cols: usize) -> Tensor {
        let Self::Cpu(cpu) = self;
        Tensor::stale(&cpu.scratch, rows, cols, format)
    }

    pub(crate) fn spare_values(&self) -> &Arc<SpareValues> {
        let Self::Cpu(cpu) = self;
        &cpu.values
    }

    /// A matrix of ones.
    pub fn ones(&self, rows: usize, cols: usize) -> Tensor {
        let mut tensor = self.stale(rows, cols);
        tensor.host_mut().fill(1.0);
        tensor
    }

    /// A matrix of ones of the shape and format of `other`.
    pub fn ones_like(&self, other: &Tensor) -> Tensor {
        let mut tensor = self.stale_in(other.format(), other.rows(), other.cols());
        by_format!(other.format(), T => T::all_mut(&mut tensor).fill(T::of(1.0)));
        tensor
    }

    pub(crate) fn zeros(&self, rows: usize, cols: usize) -> Tensor {
        let mut tensor = self.stale(rows, cols);
        tensor.host_mut().fill(0.0);
        tensor
    }

    pub(crate) fn copy(&self, other: &Tensor) -> Tensor {
        let mut tensor = self.stale_in(other.format(), other.rows(), other.cols());
        by_format!(other.format(), T => T::all_mut(&mut tensor).copy_from_slice(T::all(other)));
        tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_is_had_or_refused_with_a_hint() {
        assert!(Precision::F32.is_available() && Precision::fastest().is_available());
        for precision in Precision::ALL {
            assert_eq!(Precision::of_name(precision.name()), Some(precision));
            match Device::cpu(1, precision) {
                Ok(device) => assert_eq!(device.precision(), precision),
                Err(error) => {
                    assert!(!precision.is_available() && error.to_string().contains(precision.name()), "{error}");
                    assert!(error.hint().is_some_and(|hint| hint.contains("auto")));
                }
            }
        }
    }
}
