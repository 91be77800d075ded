//! Buffers, coarse operations with explicit forward and backward, a tape over them, and optimizers.
//!
//! The only room with `unsafe`, SIMD and device code. Operations work on matrices whose rows are tokens of packed
//! sequences; there is no padding. Work is split by shape, never by thread count, and every reduction has a
//! fixed order, so results are bitwise equal for any number of threads.

mod device;
mod element;
pub mod initial;
pub mod kernels;
mod math;
pub mod ops;
mod optimizer;
mod packs;
mod parameters;
mod peak;
mod simd;
mod tape;
mod tensor;

pub use device::{Cpu, Device, DeviceError, Precision};
pub use ops::Sequences;
pub use ops::activation::Activation;
pub use ops::adapter::{LowRank, Rescale, Sparse};
pub use ops::attention::{AttentionShape, Rotary};
pub use ops::dropout::DropoutMask;
pub use ops::norm::{Norm, NormKind};
pub use ops::rows::RowIndex;
pub use optimizer::{AdamW, AdamWConfig, Moments};
pub use parameters::{Gradients, ParameterId, ParameterSpec, Parameters};
pub use tape::{Backprop, Op, Tape, Var};
pub use tensor::{Format, Tensor};
