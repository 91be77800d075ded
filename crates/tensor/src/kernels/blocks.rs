//! Products of packed operands, of bf16 or fixed point: one job packs its rows of A and walks over 32 x 32 microtiles.

use std::ops::Range;

use half::bf16;
use rayon::ThreadPool;

use super::isa::Isa;
use super::matmul::{Grid, Init, Output, each_job};
use super::matrix::{Elements, Layout, MatMut, MatRef};
use super::pack::{BLOCK_BYTES, BLOCK_LINES, DEPTH, Order, PANEL, TILE_BYTES};
use super::{fixed, pack, scratch, tile_amx, tile_avx512, tile_vnni};
use crate::element::Line;

/// What packed operands hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    /// Blocks of bf16.
    Bf16,
    /// Blocks of integers, with their scales before up to eight of them.
    Fixed,
}

impl Packing {
    fn of(isa: Isa) -> Self {
        if isa == Isa::Avx512Vnni { Self::Fixed } else { Self::Bf16 }
    }

    /// The steps of `k` between two visits to C, evenly cut where scales allow it.
    fn chunk_of(self, k: usize) -> usize {
        k.div_ceil(k.div_ceil(CHUNK)).next_multiple_of(self.unit())
    }

    /// Steps that begin where others end begin at multiples of this.
    fn unit(self) -> usize {
        match self {
            Self::Bf16 => DEPTH,
            Self::Fixed => fixed::SHARED,
        }
    }

    /// The cache lines that `k` steps of a panel take.
    fn panel_lines(self, k: usize) -> usize {
        let scales = match self {
            Self::Bf16 => 0,
            Self::Fixed => k.div_ceil(fixed::SHARED) * fixed::SCALE_LINES,
        };
        k.div_ceil(DEPTH) * BLOCK_LINES + scales
    }

    /// The cache lines that `rows` rows of `k` steps take.
    fn lines(self, rows: usize, k: usize) -> usize {
        rows.div_ceil(PANEL) * self.panel_lines(k)
    }

    /// Packs a rectangle.
    ///
    /// # Safety
    /// As for `pack::pack` and `fixed::pack`.
    unsafe fn pack(self, order: Order, source: MatRef, part: (Range<usize>, Range<usize>), out: (*mut Line, usize)) {
        let ((rows, steps), (out, panel_lines)) = (part, out);
        // SAFETY: the caller vouches for it.
        unsafe {
            match self {
                Self::Bf16 => pack::pack(order, source, rows, steps, out, panel_lines),
                Self::Fixed => fixed::pack(order, source, rows, steps, out, panel_lines),
            }
        }
    }
}

/// The cache lines that a whole packed operand of `rows x k` takes.
pub(super) fn packed_lines(isa: Isa, rows: usize, k: usize) -> usize {
    Packing::of(isa).lines(rows, k)
}

/// Steps of `k` between two visits to C, at most: a panel of A of this depth stays in the first-level cache while B streams by.
const CHUNK: usize = 512;

/// Steps of `k` that are packed at once where A comes transposed, as in the gradient of a weight, with `k` in the
/// thousands: both packed operands stay in the second-level cache, which is worth up to a half more speed. Fewer steps than
/// twice as many are one slice, which spares reading and writing C once more.
const SLICE: usize = 512;

/// Threads, at most, that each pack the whole of B for rows of C of their own: they meet once instead of three times for
/// each slice, but every one of them packs the same.
const MAX_PARTS: usize = 4;

/// Elements that a packing job reads, about.
const PACK_JOB: usize = 1 << 16;

/// Where packed lines go, shared by packing jobs that each write their own blocks.
#[derive(Clone, Copy)]
struct Target(*mut Line);

// SAFETY: jobs write disjoint blocks, which every unsafe use of the pointer has to show.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    fn line(self, idx: usize) -> *mut Line {
        self.0.wrapping_add(idx)
    }
}

/// Packs the whole of `b` (`k x n`).
pub(super) fn pack_right(isa: Isa, b: MatRef, out: &mut [Line], pool: Option<&ThreadPool>) {
    pack_all(Packing::of(isa), Order::Pairs, b.t(), out, pool);
}

/// Packs the whole of `source` (rows by steps of `k`), one job for some panels or, where rows are adjacent in memory,
/// for some blocks of steps, so that every job reads memory in order.
fn pack_all(packing: Packing, order: Order, source: MatRef, out: &mut [Line], pool: Option<&ThreadPool>) {
    let (rows, steps) = (source.rows, source.cols);
    assert!(out.len() >= packing.lines(rows, steps));
    let out = Target(out.as_mut_ptr());
    let panel_lines = packing.panel_lines(steps);
    let (split, other, unit) =
        if source.layout == Layout::Normal { (rows, steps, PANEL) } else { (steps, rows, packing.unit()) };
    let width = (PACK_JOB / other.max(1)).next_multiple_of(unit);
    each_job(pool, split.div_ceil(width), |idx| {
        let part = idx * width..split.min((idx + 1) * width);
        let (rows, steps) = if source.layout == Layout::Normal { (part, 0..steps) } else { (0..rows, part) };
        let first = rows.start / PANEL * panel_lines + packing.panel_lines(steps.start);
        // SAFETY: callers have checked the instruction set; jobs cover disjoint blocks of `out`, whose length is
        // asserted above.
        unsafe { packing.pack(order, source, (rows, steps), (out.line(first), panel_lines)) };
    });
}

/// Half a panel, as a microtile reads it: 16 lines for each block of 32 steps, `line` bytes from one to the next, and `block`
/// bytes from block to block.
#[derive(Clone, Copy)]
pub(super) struct Half {
    pub(super) at: *const u8,
    pub(super) line: usize,
    pub(super) block: usize,
}

/// The two halves of a packed panel.
fn packed_halves(at: *const u8) -> [Half; 2] {
    [at, at.wrapping_add(TILE_BYTES)].map(|at| Half { at, line: 64, block: BLOCK_BYTES })
}

/// How A is packed. Tile registers need rows; vectors find a number of A at any place, and are spared a transposition where
/// rows are adjacent in memory.
fn order_of_left(isa: Isa, a: MatRef) -> Order {
    if isa != Isa::AmxBf16 && a.layout == Layout::Transposed { Order::Pairs } else { Order::Rows }
}

/// What a microtile multiplies.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub(super) a: [Half; 2],
    pub(super) order_of_a: Order,
    pub(super) b: [Half; 2],
    /// The panels of A and B that come next: their lines are asked for meanwhile.
    pub(super) next: [[Half; 2]; 2],
}

/// A packed operand, or some of its panels and steps.
#[derive(Clone, Copy)]
struct Panels<'a> {
    lines: &'a [Line],
    packing: Packing,
    /// Lines from one panel to the next.
    panel_lines: usize,
    /// The row (of A, or column of B) and the step that come first.
    corner: (usize, usize),
}

impl<'a> Panels<'a> {
    fn whole(packing: Packing, lines: &'a [Line], k: usize) -> Self {
        Self { lines, packing, panel_lines: packing.panel_lines(k), corner: (0, 0) }
    }

    /// What the panel that starts at `row` holds from `step` on.
    fn at(&self, row: usize, step: usize) -> *const u8 {
        let line = (row - self.corner.0) / PANEL * self.panel_lines + self.packing.panel_lines(step - self.corner.1);
        self.lines[line..].as_ptr().cast()
    }
}

/// What the jobs of a product share.
struct Product<'a> {
    isa: Isa,
    c: Output,
    init: Init<'a>,
    a: MatRef<'a>,
    /// The whole of A, unless every job packs its own rows.
    left: Option<Panels<'a>>,
    right: Panels<'a>,
    /// The columns of C.
    num_cols: usize,
}

/// Where a job finds its rows of A.
#[derive(Clone, Copy)]
struct Rows<'a> {
    /// Whole panels up to this row are read where they are.
    in_place: usize,
    packed: Panels<'a>,
}

/// Whether kernels can read the rows of `a` where they are: bf16, and whole blocks of steps.
fn readable(packing: Packing, a: MatRef) -> bool {
    let is_bf16 = packing == Packing::Bf16 && matches!(a.data, Elements::Bf16(_));
    is_bf16 && a.layout == Layout::Normal && a.cols.is_multiple_of(DEPTH)
}

/// `C = A B` with what `init` says added. Where A comes transposed, with few threads, each takes rows of C of its own.
pub(super) fn product(isa: Isa, c: MatMut, init: Init, a: MatRef, b: MatRef, pool: Option<&ThreadPool>) {
    let num_parts = pool.map_or(1, ThreadPool::current_num_threads);
    match pool {
        Some(pool) if a.layout == Layout::Transposed && (2..=MAX_PARTS).contains(&num_parts) => {
            let height = c.rows.div_ceil(num_parts).next_multiple_of(PANEL);
            let num_cols = c.cols;
            pool.install(|| {
                c.for_parts(height, &|start, c| {
                    let rows = start..start + c.rows;
                    slices(isa, c, init.some_rows(start, num_cols), a.some_rows(rows), b, None);
                });
            });
        }
        _ => slices(isa, c, init, a, b, pool),
    }
}

/// As [`product`]. Slices add up in order, so that their size does not change a bit.
fn slices(isa: Isa, mut c: MatMut, init: Init, a: MatRef, b: MatRef, pool: Option<&ThreadPool>) {
    let k = a.cols;
    let slice = if a.layout == Layout::Transposed && k > 2 * SLICE { SLICE } else { k };
    for step in (0..k).step_by(slice) {
        let steps = step..k.min(step + slice);
        let init = if step == 0 { init } else { Init::Add };
        let (a, b) = (a.t().some_rows(steps.clone()).t(), b.some_rows(steps));
        scratch::RIGHT.with(packed_lines(isa, b.cols, b.rows), |right| {
            pack_right(isa, b, right, pool);
            product_packed(isa, c.reborrow(), init, a, right, pool);
        });
    }
}

/// `C = A B` with what `init` says added, for a packed B.
pub(super) fn product_packed(
    isa: Isa,
    mut c: MatMut,
    init: Init,
    a: MatRef,
    right: &[Line],
    pool: Option<&ThreadPool>,
) {
    let packing = Packing::of(isa);
    assert!(right.len() >= packing.lines(c.cols, a.cols));
    let grid = Grid::of((c.rows, c.cols), (128, 1024), pool);
    let num_cols = c.cols;
    let (c, right) = (Output::new(&mut c), Panels::whole(packing, right, a.cols));
    let run = |left: Option<Panels>| {
        let product = Product { isa, c, init, a, left, right, num_cols };
        each_job(pool, grid.len(), |idx| product.job(grid.tile(idx)));
    };
    // Reading a few columns of a wide A leaves most of every memory page behind, so such an A is packed row by row.
    if readable(packing, a) || grid.col_tiles() == 1 && a.layout == Layout::Normal {
        return run(None);
    }
    scratch::LEFT.with(packing.lines(a.rows, a.cols), |left| {
        pack_all(packing, order_of_left(isa, a), a, left, pool);
        run(Some(Panels::whole(packing, left, a.cols)));
    });
}

/// As `kernels::spin`.
pub(super) fn spin(isa: Isa, num_rounds: u64) -> u64 {
    let depth = Packing::of(isa).chunk_of(CHUNK);
    let ones = vec![Line([f32::from_bits(0x3f80_3f80); 16]); packed_lines(isa, PANEL, depth)];
    let panel = packed_halves(ones.as_ptr().cast());
    let (operands, mut c) =
        (Operands { a: panel, order_of_a: Order::Rows, b: panel, next: [panel; 2] }, Strip([[0.0; STRIP]; PANEL]));
    // SAFETY: the caller has checked the instruction set, and no other kernel lives on this thread.
    let kernel = unsafe { Kernel::start(isa) };
    for _ in 0..num_rounds {
        // SAFETY: `ones` holds a panel of `depth` steps, `c` a whole microtile.
        unsafe {
            let c = (c.0.as_mut_ptr().cast(), STRIP_STRIDE);
            kernel.whole(depth / DEPTH, &operands, Start::ZERO, c);
        }
        std::hint::black_box(&mut c);
    }
    num_rounds * 2 * (PANEL * PANEL * depth) as u64
}

impl Product<'_> {
    /// One tile of C, chunk by chunk of `k`.
    fn job(&self, (rows, cols): (Range<usize>, Range<usize>)) {
        // SAFETY: callers have checked the instruction set, and a job starts no other on its thread.
        let kernel = unsafe { Kernel::start(self.isa) };
        let mut strip = Strip([[0.0; STRIP]; PANEL]);
        let (k, packing) = (self.a.cols, Packing::of(self.isa));
        // Sums in bf16 are rounded once: they cannot wait in C for the next chunk.
        let depth = if self.c.narrow { k.next_multiple_of(DEPTH) } else { packing.chunk_of(k) };
        let in_place = if readable(packing, self.a) { rows.start + rows.len() / PANEL * PANEL } else { rows.start };
        let to_pack = if self.left.is_some() { rows.end..rows.end } else { in_place..rows.end };
        scratch::ROWS.with(packing.lines(to_pack.len(), depth), |local| {
            for step in (0..k).step_by(depth) {
                let steps = step..k.min(step + depth);
                let packed = self.left.unwrap_or_else(|| self.pack_rows(to_pack.clone(), steps.clone(), local));
                let (worker, left, tile) =
                    ((&kernel, &mut strip), Rows { in_place, packed }, (rows.clone(), cols.clone()));
                if self.c.narrow { self.strips(worker, left, tile) } else { self.chunk(worker, left, tile, steps) }
            }
        });
    }

    /// The panel of A that begins at `row`, from `step` on.
    fn panel(&self, left: Rows, row: usize, step: usize) -> [Half; 2] {
        let Elements::Bf16(data) = self.a.data else { return packed_halves(left.packed.at(row, step)) };
        if row >= left.in_place {
            return packed_halves(left.packed.at(row, step));
        }
        let line = self.a.stride * size_of::<bf16>();
        let at = data[row * self.a.stride + step..].as_ptr().cast::<u8>();
        [at, at.wrapping_add(16 * line)].map(|at| Half { at, line, block: DEPTH * size_of::<bf16>() })
    }

    /// What the microtile at `(row, col)` of a tile multiplies from `step` on. The next panel of A is asked for along the first
    /// columns.
    fn operands(
        &self,
        left: Rows,
        (rows, cols): (&Range<usize>, &Range<usize>),
        (row, col): (usize, usize),
        step: usize,
    ) -> Operands {
        let (a, next_row) = (self.panel(left, row, step), row + PANEL);
        let next_a = if col == cols.start && next_row < rows.end { self.panel(left, next_row, step) } else { a };
        let next_col = if col + PANEL < cols.end { col + PANEL } else { cols.start };
        let [b, next_b] = [col, next_col].map(|col| packed_halves(self.right.at(col, step)));
        Operands { a, order_of_a: order_of_left(self.isa, self.a), b, next: [next_a, next_b] }
    }

    /// Packs a rectangle of A.
    fn pack_rows<'b>(&self, rows: Range<usize>, steps: Range<usize>, local: &'b mut [Line]) -> Panels<'b> {
        let packing = Packing::of(self.isa);
        assert!(local.len() >= packing.lines(rows.len(), steps.len()));
        let (corner, panel_lines) = ((rows.start, steps.start), packing.panel_lines(steps.len()));
        // SAFETY: callers have checked the instruction set; `local` has room for every block.
        unsafe {
            packing.pack(order_of_left(self.isa, self.a), self.a, (rows, steps), (local.as_mut_ptr(), panel_lines))
        };
        Panels { lines: local, packing, panel_lines, corner }
    }

    /// Adds some steps of `k` to one tile of C, along its rows: a panel of A stays in the first-level cache for all
    /// panels of B, and C is written in the order of memory.
    fn chunk(
        &self,
        (kernel, edge): (&Kernel, &mut Strip),
        left: Rows,
        (rows, cols): (Range<usize>, Range<usize>),
        steps: Range<usize>,
    ) {
        for row in rows.clone().step_by(PANEL) {
            for col in cols.clone().step_by(PANEL) {
                let size = (PANEL.min(rows.end - row), PANEL.min(cols.end - col));
                let operands = self.operands(left, (&rows, &cols), (row, col), steps.start);
                let start = self.start(row, col, steps.start);
                if col + PANEL < cols.end {
                    self.c.prefetch((row, col + PANEL), size.0);
                }
                // SAFETY: `at` has checked the first block of each panel, and a panel's blocks are adjacent. The
                // microtile is part of this job's tile of C, which no other job touches.
                unsafe {
                    let c = (self.c.at(row, col), self.c.stride);
                    kernel.add(edge, steps.len().div_ceil(DEPTH), &operands, start, (c, size));
                }
            }
        }
    }

    /// One tile of a C in bf16, strip by strip: sums wait in the first-level cache, where the panel of A is found again
    /// for each panel of B, until they are complete.
    fn strips(&self, (kernel, strip): (&Kernel, &mut Strip), left: Rows, (rows, cols): (Range<usize>, Range<usize>)) {
        let k = self.a.cols;
        let depth = Packing::of(self.isa).chunk_of(k);
        let strips = rows.clone().step_by(PANEL).flat_map(|row| cols.clone().step_by(STRIP).map(move |col| (row, col)));
        for (row, first) in strips {
            for step in (0..k).step_by(depth) {
                let num_blocks = depth.min(k - step).div_ceil(DEPTH);
                for col in (first..cols.end.min(first + STRIP)).step_by(PANEL) {
                    let operands = self.operands(left, (&rows, &cols), (row, col), step);
                    let at = strip.0.as_mut_ptr().cast::<f32>().wrapping_add(col - first);
                    let sums = Start { row: at, stride: STRIP_STRIDE };
                    let start = if step == 0 { self.start(row, col, 0) } else { sums };
                    let size = (PANEL.min(rows.end - row), PANEL.min(cols.end - col));
                    let to = (step + depth >= k).then(|| (self.c.at(row, col), self.c.stride));
                    if to.is_some() {
                        self.c.prefetch((row, col), size.0);
                    }
                    // SAFETY: as in `chunk`; the strip has room for whole microtiles.
                    unsafe { kernel.fill_narrow(num_blocks, &operands, start, (at, STRIP_STRIDE), (to, size)) };
                }
            }
        }
    }

    /// What a microtile's sums start from at this step.
    fn start(&self, row: usize, col: usize, step: usize) -> Start {
        match self.init {
            Init::Zero if step == 0 => Start::ZERO,
            Init::Bias(bias) if step == 0 => Start { row: &raw const bias[col], stride: 0 },
            Init::Rows(rows) if step == 0 => {
                let width = self.num_cols;
                Start { row: &raw const rows[row * width + col], stride: width * size_of::<f32>() }
            }
            _ => Start { row: self.c.at(row, col), stride: self.c.stride },
        }
    }
}

/// Where a microtile's sums start from: rows `stride` bytes apart; a null row means zeros.
#[derive(Clone, Copy)]
struct Start {
    row: *const f32,
    stride: usize,
}

impl Start {
    const ZERO: Self = Self { row: std::ptr::null(), stride: 0 };
}

/// A microkernel, ready on this thread.
enum Kernel {
    Vnni,
    Avx512,
    Amx(tile_amx::Tiles),
}

/// Sums that are not in C: some microtiles of one row side by side.
#[repr(align(64))]
struct Strip([[f32; STRIP]; PANEL]);

/// Columns in a strip.
const STRIP: usize = 2 * PANEL;
const STRIP_STRIDE: usize = STRIP * size_of::<f32>();

impl Kernel {
    /// # Safety
    /// `isa` is available, and no other `Kernel` lives on this thread.
    unsafe fn start(isa: Isa) -> Self {
        match isa {
            // SAFETY: the caller vouches for it.
            Isa::AmxBf16 => Self::Amx(unsafe { tile_amx::Tiles::configure() }),
            Isa::Avx512Vnni => Self::Vnni,
            Isa::Avx512Bf16 | Isa::F32 => Self::Avx512,
        }
    }

    /// `start + A B` into `size` rows and columns of C.
    ///
    /// # Safety
    /// The operands hold `num_blocks >= 1` blocks each. `start` and C are valid for the rows and columns of
    /// `size`, and no other thread touches that part of C.
    unsafe fn add(
        &self,
        edge: &mut Strip,
        num_blocks: usize,
        operands: &Operands,
        start: Start,
        (c, size): ((*mut f32, usize), (usize, usize)),
    ) {
        if size == (PANEL, PANEL) {
            // SAFETY: the caller vouches for whole microtiles.
            return unsafe { self.whole(num_blocks, operands, start, c) };
        }
        let edge = (edge.0.as_mut_ptr().cast::<f32>(), STRIP_STRIDE);
        // SAFETY: `edge` holds a whole microtile; only the part that `size` names goes to C.
        unsafe {
            self.fill(num_blocks, operands, start, edge, size);
            copy_rows((edge.0, edge.1), c, size);
        }
    }

    /// As [`Self::add`], into a C that has room for all 32 rows and columns; `start` may have only those of `size`.
    ///
    /// # Safety
    /// As for [`Self::add`].
    unsafe fn fill(
        &self,
        num_blocks: usize,
        operands: &Operands,
        mut start: Start,
        c: (*mut f32, usize),
        size: (usize, usize),
    ) {
        // SAFETY: the caller vouches for `start` and C.
        unsafe {
            if size != (PANEL, PANEL) && !start.row.is_null() && !std::ptr::eq(start.row, c.0) {
                copy_rows((start.row, start.stride), c, size);
                start = Start { row: c.0, stride: c.1 };
            }
            self.whole(num_blocks, operands, start, c);
        }
    }

    /// As [`Self::fill`], into `sums`, and from there, rounded to bf16, to where the sums are wanted when they are complete.
    ///
    /// # Safety
    /// As for [`Self::fill`]; `to` is valid for writing what `size` names.
    unsafe fn fill_narrow(
        &self,
        num_blocks: usize,
        operands: &Operands,
        start: Start,
        sums: (*mut f32, usize),
        (to, size): (Option<(*mut bf16, usize)>, (usize, usize)),
    ) {
        // SAFETY: the caller vouches for the memory, and `self` exists only where its instructions do.
        unsafe {
            if let (Self::Avx512, Some(to), (PANEL, PANEL)) = (self, to, size) {
                return tile_avx512::microtile(num_blocks, operands, (start.row, start.stride), to);
            }
            self.fill(num_blocks, operands, start, sums, size);
            let Some(to) = to else { return };
            let sums = (sums.0.cast_const(), sums.1);
            match self {
                Self::Vnni => fixed::store_narrow(sums, to, size),
                Self::Avx512 | Self::Amx(_) => pack::store_narrow(sums, to, size),
            }
        }
    }

    /// As [`Self::add`], for all 32 rows and columns.
    ///
    /// # Safety
    /// As for [`Self::add`].
    unsafe fn whole(&self, num_blocks: usize, operands: &Operands, start: Start, c: (*mut f32, usize)) {
        let start = (start.row, start.stride);
        // SAFETY: the caller vouches for the memory, and `self` exists only where its instructions do.
        unsafe {
            match self {
                Self::Vnni => tile_vnni::microtile(num_blocks, operands, start, c),
                Self::Avx512 => tile_avx512::microtile(num_blocks, operands, start, c),
                Self::Amx(tiles) => tiles.microtile(num_blocks, operands, start, c),
            }
        }
    }
}

/// Copies `size` rows and columns; strides are in bytes.
///
/// # Safety
/// `from` is valid for reading and `to` for writing them, and they do not overlap.
unsafe fn copy_rows(from: (*const f32, usize), to: (*mut f32, usize), size: (usize, usize)) {
    for i in 0..size.0 {
        let (from, to) = (from.0.wrapping_byte_add(i * from.1), to.0.wrapping_byte_add(i * to.1));
        // SAFETY: the caller vouches for the row.
        unsafe { std::ptr::copy_nonoverlapping(from, to, size.1) };
    }
}
