//! The 32 x 32 microtile on AMX tile registers.
//!
//! Two by two tiles of 16 x 16 sums (tmm0 to tmm3) take two tiles of A (tmm4, tmm5) and two of B (tmm6, tmm7) for 32
//! steps of `k` at a time: four loads for four products, and four independent sums hide the product's latency.

use std::arch::asm;

use super::blocks::Operands;
use super::pack::BLOCK_BYTES;

/// What `ldtilecfg` reads: eight tiles of 16 rows by 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_per_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The tile registers of this thread, configured; released when dropped.
pub(super) struct Tiles(());

impl Tiles {
    /// Configures the tile registers.
    ///
    /// # Safety
    /// `Isa::AmxBf16` is available. No other `Tiles` lives on this thread.
    pub(super) unsafe fn configure() -> Self {
        // SAFETY: the caller vouches for the instruction; it reads the 64 bytes of `CONFIG`.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(readonly, nostack, preserves_flags)) };
        Self(())
    }

    /// Adds `num_blocks` blocks of 32 steps to a microtile: `C = start + A B`, where a null `start` means zeros and a
    /// `start_stride` of 0 repeats one row. Strides are in bytes.
    ///
    /// # Safety
    /// The operands hold `num_blocks >= 1` blocks; `c` is valid for writing 32 rows of 32 elements, and `start`, when not
    /// null, for reading as many.
    pub(super) unsafe fn microtile(
        &self,
        num_blocks: usize,
        operands: &Operands,
        start: (*const f32, usize),
        c: (*mut f32, usize),
    ) {
        debug_assert!(num_blocks > 0);
        let ([upper, lower], [b, _]) = (operands.a, operands.b);
        // SAFETY: `self` proves that the registers are configured; the caller vouches for the memory: the code reads
        // 32 rows of `num_blocks * 64` bytes of A, as many of B, and 32 rows of 128 bytes from `start`, and writes as many
        // to `c`.
        unsafe {
            asm!(
                "test {start}, {start}",
                "jz 2f",
                "tileloadd tmm0, [{start} + {start_stride}]",
                "tileloadd tmm1, [{start} + {start_stride} + 64]",
                "mov {below}, {start_stride}",
                "shl {below}, 4",
                "add {below}, {start}",
                "tileloadd tmm2, [{below} + {start_stride}]",
                "tileloadd tmm3, [{below} + {start_stride} + 64]",
                "jmp 3f",
                "2:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "3:",
                "tileloaddt1 tmm6, [{b} + {b_row}]",
                "tileloadd tmm4, [{upper} + {a_row}]",
                "tileloadd tmm5, [{lower} + {a_row}]",
                "tileloaddt1 tmm7, [{b} + {b_row} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {upper}, {a_block}",
                "add {lower}, {a_block}",
                "add {b}, {b_block}",
                "dec {left}",
                "jnz 3b",
                "tilestored [{c} + {c_stride}], tmm0",
                "tilestored [{c} + {c_stride} + 64], tmm1",
                "mov {below}, {c_stride}",
                "shl {below}, 4",
                "add {below}, {c}",
                "tilestored [{below} + {c_stride}], tmm2",
                "tilestored [{below} + {c_stride} + 64], tmm3",
                upper = inout(reg) upper.at => _,
                lower = inout(reg) lower.at => _,
                a_row = in(reg) upper.line,
                a_block = in(reg) upper.block,
                b = inout(reg) b.at => _,
                b_row = in(reg) 64usize,
                b_block = const BLOCK_BYTES,
                left = inout(reg) num_blocks => _,
                start = in(reg) start.0,
                start_stride = in(reg) start.1,
                c = in(reg) c.0,
                c_stride = in(reg) c.1,
                below = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` exists only where the instruction does.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}
