//! Matrix products on the CPU: operands of bf16 or of 16-bit integers with shared scales where the chip has them, f32
//! elsewhere; sums in f32.
//!
//! ```text
//! matmul ──> pack B once (panels of 32 columns) ──> jobs = fixed output tiles ──> pack A, 32 x 32 microtiles
//! ```
//!
//! What is absent: no choice depends on a clock, and none that depends on the number of threads changes a bit. `k` is never
//! split between jobs, and every output element sums its products in one fixed order, so a product has the same bits on
//! any number of threads. Bits do differ between instruction sets; the set in use belongs to a
//! run's record.
//!
//! Operands are rounded (nearest, ties to even) while they are packed. The bf16 instructions treat subnormal numbers as
//! zero.
//!
//! Beside products: what the compiler does not make good vector code of, softmax and rotary positions.

#![allow(unsafe_code, reason = "SIMD, tile registers, and disjoint writes to one matrix from several threads")]
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only the packed kernels use it"))]

#[cfg(target_arch = "x86_64")]
mod blocks;
#[cfg(not(target_arch = "x86_64"))]
#[path = "blocks_none.rs"]
mod blocks;
pub mod convert;
mod dense;
#[cfg(target_arch = "x86_64")]
mod fixed;
mod isa;
mod matmul;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod pack;
mod rotate;
mod scratch;
mod softmax;
#[cfg(target_arch = "x86_64")]
mod tile_amx;
#[cfg(target_arch = "x86_64")]
mod tile_avx512;
#[cfg(target_arch = "x86_64")]
mod tile_vnni;

pub use isa::Isa;
pub use matmul::{Init, PackedB, matmul, matmul_here, matmul_packed, pack_b, pack_b_into, spin};
pub use matrix::{Layout, MatMut, MatRef};
pub(crate) use rotate::rotate_heads;
pub(crate) use softmax::{softmax, softmax_backward};
