//! The cut of a product into jobs, and the choice of kernel.

use std::ops::Range;

use half::bf16;
use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::isa::Isa;
use super::matrix::{ElementsMut, MatMut, MatRef};
use super::scratch;
use super::{blocks, dense};
use crate::element::Lines;

/// What the sums of a product start from.
#[derive(Clone, Copy, Debug)]
pub enum Init<'a> {
    /// Zeros: `C = A B`.
    Zero,
    /// What C holds: `C += A B`.
    Add,
    /// The same row everywhere, one element for each column: `C = 1 bias + A B`.
    Bias(&'a [f32]),
    /// The dense rows of another matrix of the shape of C: `C = D + A B`.
    Rows(&'a [f32]),
}

impl Init<'_> {
    /// The same for the rows from `start` on, of `num_cols` columns.
    pub(super) fn some_rows(self, start: usize, num_cols: usize) -> Self {
        match self {
            Self::Rows(rows) => Self::Rows(&rows[start * num_cols..]),
            Self::Zero | Self::Add | Self::Bias(_) => self,
        }
    }
}

/// The right operand of products, in the order in which the kernels read it. It keeps its memory when it is packed again.
#[derive(Clone, Debug)]
pub struct PackedB {
    isa: Isa,
    k: usize,
    n: usize,
    lines: Lines,
}

impl Default for PackedB {
    fn default() -> Self {
        Self { isa: Isa::F32, k: 0, n: 0, lines: Lines::EMPTY }
    }
}

impl PackedB {
    /// The instruction set whose kernels read it.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

/// Packs `b` (`k x n`).
pub fn pack_b(isa: Isa, b: MatRef, pool: &ThreadPool) -> PackedB {
    let mut packed = PackedB::default();
    pack_b_into(&mut packed, isa, b, pool);
    packed
}

/// Packs `b` (`k x n`) in the place of what `packed` held.
///
/// # Panics
/// When the machine lacks `isa`, or its kernels read matrices where they are, as those of f32 do.
pub fn pack_b_into(packed: &mut PackedB, isa: Isa, b: MatRef, pool: &ThreadPool) {
    assert!(isa.is_available() && isa.packs(), "{isa:?} on a machine without it, or without packing");
    (packed.isa, packed.k, packed.n) = (isa, b.rows, b.cols);
    scratch::grow(&mut packed.lines, blocks::packed_lines(isa, b.cols, b.rows));
    blocks::pack_right(isa, b, &mut packed.lines, Some(pool));
}

/// `C = A B` with what `init` says added. The same bits on any number of threads.
///
/// Waking a sleeping pool costs more than a small product: run a whole training step inside `pool.install`.
///
/// # Panics
/// When the shapes do not fit or the machine lacks `isa`.
pub fn matmul(isa: Isa, c: MatMut, init: Init, a: MatRef, b: MatRef, pool: &ThreadPool) {
    assert!(isa.is_available(), "{isa:?} on a machine without it");
    check_shapes(&c, init, a, (b.rows, b.cols));
    if is_trivial(&c, a.cols) {
        return start_only(c, init);
    }
    let num_products = a.rows * a.cols * b.cols;
    inside(pool, num_products, || match isa {
        Isa::F32 => dense_product(c, init, a, b, Some(pool)),
        _ => blocks::product(isa, c, init, a, b, Some(pool)),
    });
}

/// `C = A B` with what `init` says added, for a packed `b`: the same bits as [`matmul`] with the same set.
///
/// # Panics
/// When the shapes do not fit.
pub fn matmul_packed(c: MatMut, init: Init, a: MatRef, b: &PackedB, pool: &ThreadPool) {
    check_shapes(&c, init, a, (b.k, b.n));
    if is_trivial(&c, a.cols) {
        return start_only(c, init);
    }
    let num_products = a.rows * a.cols * b.n;
    inside(pool, num_products, || blocks::product_packed(b.isa, c, init, a, &b.lines, Some(pool)));
}

/// As [`matmul`], on the calling thread: for products too small to share, inside jobs that already run side by side.
///
/// # Panics
/// When the shapes do not fit or the machine lacks `isa`.
pub fn matmul_here(isa: Isa, c: MatMut, init: Init, a: MatRef, b: MatRef) {
    assert!(isa.is_available(), "{isa:?} on a machine without it");
    check_shapes(&c, init, a, (b.rows, b.cols));
    if is_trivial(&c, a.cols) {
        return start_only(c, init);
    }
    match isa {
        Isa::F32 => dense_product(c, init, a, b, None),
        _ => blocks::product(isa, c, init, a, b, None),
    }
}

/// Multiplies the same small operands `num_rounds` times on the calling thread and returns the floating-point operations
/// that took: the most that the kernel can do.
///
/// # Panics
/// When the machine lacks `isa`.
pub fn spin(isa: Isa, num_rounds: u64) -> u64 {
    assert!(isa.is_available(), "{isa:?} on a machine without it");
    match isa {
        Isa::F32 => dense::spin(num_rounds / 100),
        _ => blocks::spin(isa, num_rounds),
    }
}

/// Enters the pool once for all phases of a product, unless the product is shorter than the way there.
fn inside(pool: &ThreadPool, num_products: usize, product: impl FnOnce() + Send) {
    const WORTH_ENTERING: usize = 1 << 18;
    if num_products < WORTH_ENTERING { product() } else { pool.install(product) }
}

fn check_shapes(c: &MatMut, init: Init, a: MatRef, (k, n): (usize, usize)) {
    assert_eq!((c.rows, c.cols, a.cols), (a.rows, n, k), "a product of {} x {} and {k} x {n}", a.rows, a.cols);
    match init {
        Init::Bias(bias) => assert_eq!(bias.len(), n, "one bias for each column"),
        Init::Rows(rows) => assert_eq!(rows.len(), c.rows * n, "rows of the shape of C"),
        Init::Zero | Init::Add => {}
    }
    let narrow = matches!(c.data, ElementsMut::Bf16(_));
    assert!(!narrow || !matches!(init, Init::Add), "bf16 sums are rounded once, when they are complete");
}

/// Whether there is nothing to multiply.
fn is_trivial(c: &MatMut, k: usize) -> bool {
    c.rows == 0 || c.cols == 0 || k == 0
}

fn start_only(mut c: MatMut, init: Init) {
    if c.cols == 0 {
        return;
    }
    for i in 0..c.rows {
        let from = match init {
            Init::Zero => &[],
            Init::Add => return,
            Init::Bias(bias) => bias,
            Init::Rows(rows) => &rows[i * c.cols..][..c.cols],
        };
        let from = |col: usize| from.get(col).copied().unwrap_or(0.0);
        for col in 0..c.cols {
            match &mut c.data {
                ElementsMut::F32(data) => data[i * c.stride + col] = from(col),
                ElementsMut::Bf16(data) => data[i * c.stride + col] = bf16::from_f32(from(col)),
            }
        }
    }
}

/// C, as the jobs of one product share it: each writes its own tile.
#[derive(Clone, Copy)]
pub(super) struct Output {
    data: *mut u8,
    /// Bytes between rows.
    pub(super) stride: usize,
    /// Whether the elements are bf16.
    pub(super) narrow: bool,
}

// SAFETY: jobs touch disjoint tiles, which every unsafe use of the pointer has to show.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    pub(super) fn new(c: &mut MatMut) -> Self {
        let (data, size) = match &mut c.data {
            ElementsMut::F32(data) => (data.as_mut_ptr().cast(), size_of::<f32>()),
            ElementsMut::Bf16(data) => (data.as_mut_ptr().cast(), size_of::<bf16>()),
        };
        Self { data, stride: c.stride * size, narrow: size == size_of::<bf16>() }
    }

    /// Asks for the lines of 32 columns from `(row, col)` on, to be written: they come while other products are computed.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn prefetch(self, (row, col): (usize, usize), num_rows: usize) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        let size = if self.narrow { size_of::<bf16>() } else { size_of::<f32>() };
        for row in row..row + num_rows {
            let line: *const i8 = self.data.wrapping_add(row * self.stride + col * size).cast();
            // SAFETY: a prefetch reads nothing that the program sees.
            unsafe {
                _mm_prefetch::<_MM_HINT_ET0>(line);
                if !self.narrow {
                    _mm_prefetch::<_MM_HINT_ET0>(line.wrapping_add(64));
                }
            }
        }
    }

    /// Where element `(row, col)` lies, of type `T`.
    pub(super) fn at<T>(self, row: usize, col: usize) -> *mut T {
        self.data.wrapping_add(row * self.stride + col * size_of::<T>()).cast()
    }
}

/// A grid of output tiles; the last ones of a row or a column may be smaller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    rows: usize,
    cols: usize,
    tile_rows: usize,
    tile_cols: usize,
}

/// Tiles for each thread, at least: with one, a thread that comes late keeps all others waiting.
const TILES_PER_THREAD: usize = 2;

impl Grid {
    /// Tiles of at most `tile_rows x tile_cols`, halved (never below 64 by 64) until there are enough of them for the pool.
    /// Fewer tiles are packed less often.
    pub(super) fn of(
        (rows, cols): (usize, usize),
        (tile_rows, tile_cols): (usize, usize),
        pool: Option<&ThreadPool>,
    ) -> Self {
        let num_threads = pool.map_or(1, ThreadPool::current_num_threads);
        let min_tiles = if num_threads == 1 { 1 } else { TILES_PER_THREAD * num_threads };
        let even = |size: usize, tile: usize| size.div_ceil(size.div_ceil(tile)).next_multiple_of(32);
        let mut grid = Self { rows, cols, tile_rows: even(rows, tile_rows), tile_cols: even(cols, tile_cols) };
        while grid.len() < min_tiles && grid.tile_rows.max(grid.tile_cols) > 64 {
            if grid.tile_rows > 64 {
                grid.tile_rows = even(rows, grid.tile_rows / 2);
            } else {
                grid.tile_cols = even(cols, grid.tile_cols / 2);
            }
        }
        if let Some(pool) = pool {
            grid.tile_rows = grid.even_rows(pool.current_num_threads());
        }
        grid
    }

    /// The height of tiles, near to what it is, with which threads end at the same time.
    fn even_rows(self, num_threads: usize) -> usize {
        let last_end = |&tile_rows: &usize| {
            let grid = Self { tile_rows, ..self };
            grid.len().div_ceil(num_threads) * tile_rows
        };
        let heights = (self.tile_rows / 2..=self.tile_rows * 5 / 4).rev().filter(|height| height.is_multiple_of(32));
        heights.min_by_key(last_end).unwrap_or(self.tile_rows)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.div_ceil(self.tile_rows) * self.col_tiles()
    }

    pub(super) fn col_tiles(&self) -> usize {
        self.cols.div_ceil(self.tile_cols)
    }

    /// The rows and columns of a tile, column by column: the part of B that tiles of a column share stays in a cache.
    pub(super) fn tile(&self, idx: usize) -> (Range<usize>, Range<usize>) {
        let row_tiles = self.rows.div_ceil(self.tile_rows);
        let (row, col) = (idx % row_tiles * self.tile_rows, idx / row_tiles * self.tile_cols);
        (row..self.rows.min(row + self.tile_rows), col..self.cols.min(col + self.tile_cols))
    }
}

/// Runs jobs `0..num_jobs` on the pool; without one, and if there is but one job, on the calling thread.
pub(super) fn each_job(pool: Option<&ThreadPool>, num_jobs: usize, job: impl Fn(usize) + Send + Sync) {
    match pool {
        Some(pool) if num_jobs > 1 => pool.install(|| (0..num_jobs).into_par_iter().with_max_len(1).for_each(job)),
        _ => (0..num_jobs).for_each(job),
    }
}

/// The product in f32, a grid of tiles. The crate that computes them packs what it needs of both operands for each, so that
/// larger ones cost less.
fn dense_product(mut c: MatMut, init: Init, a: MatRef, b: MatRef, pool: Option<&ThreadPool>) {
    debug_assert!(matches!(c.data, ElementsMut::F32(_)), "devices without bf16 products have no matrices of bf16");
    let output = Output::new(&mut c);
    let grid = Grid::of((a.rows, b.cols), (2048, 1024), pool);
    each_job(pool, grid.len(), |idx| {
        let (rows, cols) = grid.tile(idx);
        let (a, b) = (a.some_rows(rows.clone()), b.t().some_rows(cols.clone()).t());
        // SAFETY: tiles of the grid are disjoint parts of C.
        unsafe {
            for row in rows.clone() {
                match init {
                    Init::Bias(bias) => copy_row(&bias[cols.clone()], output.at(row, cols.start)),
                    Init::Rows(from) => copy_row(&from[row * grid.cols..][cols.clone()], output.at(row, cols.start)),
                    Init::Zero | Init::Add => break,
                }
            }
            let (c, stride) = (output.at(rows.start, cols.start), output.stride / size_of::<f32>());
            dense::product(c, stride, !matches!(init, Init::Zero), a, b);
        }
    });
}

/// Writes `from` at `to`.
///
/// # Safety
/// `to` is valid for writing as many elements and lies outside `from`.
unsafe fn copy_row(from: &[f32], to: *mut f32) {
    // SAFETY: the caller vouches for `to`.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Layout;
    use super::*;

    /// Odd sizes, sizes around panels, blocks, chunks and job tiles, and vectors.
    const SHAPES: [(usize, usize, usize); 14] = [
        (1, 1, 1),
        (3, 1, 2),
        (1, 17, 33),
        (31, 33, 31),
        (32, 32, 32),
        (33, 16, 65),
        (64, 96, 64),
        (100, 70, 513),
        (129, 257, 40),
        (17, 1100, 35),
        (300, 3, 129),
        (256, 128, 1030),
        (65, 2, 1200),
        (1000, 9, 7),
    ];

    fn available() -> Vec<Isa> {
        let (have, lack): (Vec<_>, Vec<_>) = Isa::ALL.into_iter().partition(|isa| isa.is_available());
        lack.iter().for_each(|isa| eprintln!("SKIPPED: this machine has no {isa:?}"));
        have
    }

    fn pool(num_threads: usize) -> ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap()
    }

    /// Numbers in [-1, 1) from a linear congruential generator.
    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Numbers of a row as a kernel sees them.
    fn seen(isa: Isa, row: &[f32]) -> Vec<f64> {
        let rounded = |x: &f32| f64::from(if isa == Isa::F32 { *x } else { bf16::from_f32(*x).to_f32() });
        if isa != Isa::Avx512Vnni {
            return row.iter().map(rounded).collect();
        }
        let fixed = |shared: &[f32]| {
            let largest = shared.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let factor = if largest == 0.0 { 0.0 } else { 2896.0 / largest };
            let number = |x: &f32| f64::from((x * factor).round_ties_even()) * f64::from(largest) / 2896.0;
            shared.iter().map(number).collect::<Vec<_>>()
        };
        row.chunks(256).flat_map(fixed).collect()
    }

    /// For every element, `A B` in f64 and the sum of its terms' sizes.
    fn exact(isa: Isa, a: MatRef, b: MatRef) -> Vec<(f64, f64)> {
        let rows = |m: MatRef| {
            let (row, col) = m.steps();
            let element = move |at: usize| m.data.f32()[at / m.cols * row + at % m.cols * col];
            let elements: Vec<f32> = (0..m.rows * m.cols).map(element).collect();
            elements.chunks(m.cols).flat_map(|row| seen(isa, row)).collect::<Vec<_>>()
        };
        let (left, right) = (rows(a), rows(b.t()));
        let dot = |(x, y): (&[f64], &[f64])| {
            x.iter().zip(y).fold((0.0, 0.0), |(sum, size), (x, y)| (sum + x * y, size + (x * y).abs()))
        };
        let pairs = left.chunks(a.cols).flat_map(|x| right.chunks(a.cols).map(move |y| (x, y)));
        pairs.map(dot).collect()
    }

    const GAP: usize = 5;

    fn operand(data: &[f32], rows: usize, cols: usize, layout: Layout) -> MatRef<'_> {
        match layout {
            Layout::Normal => MatRef::strided(data, rows, cols, cols + GAP),
            Layout::Transposed => MatRef::strided(data, cols, rows, rows + GAP).t(),
        }
    }

    fn check(isa: Isa, (m, n, k): (usize, usize, usize), layouts: [Layout; 2], init: Init, pool: &ThreadPool) {
        let (a, b) = (numbers((m + GAP) * (k + GAP), 1), numbers((k + GAP) * (n + GAP), 2));
        let (a, b) = (operand(&a, m, k, layouts[0]), operand(&b, k, n, layouts[1]));
        let before = numbers(m * (n + GAP), 3);
        let mut c = before.clone();
        matmul(isa, MatMut::strided(&mut c, m, n, n + GAP), init, a, b, pool);
        if isa.packs() {
            let mut packed_c = before.clone();
            matmul_packed(MatMut::strided(&mut packed_c, m, n, n + GAP), init, a, &pack_b(isa, b, pool), pool);
            assert_eq!(c, packed_c, "packing first changes nothing");
        }
        let mut c_here = before.clone();
        matmul_here(isa, MatMut::strided(&mut c_here, m, n, n + GAP), init, a, b);
        assert_eq!(c, c_here, "the calling thread alone changes nothing");
        let exact = exact(isa, a, b);
        for (at, (&c, &before)) in c.iter().zip(&before).enumerate() {
            let (i, j) = (at / (n + GAP), at % (n + GAP));
            if j >= n {
                assert_eq!(c, before, "({i}, {j}) lies outside");
                continue;
            }
            let start = match init {
                Init::Zero => 0.0,
                Init::Add => before,
                Init::Bias(bias) => bias[j],
                Init::Rows(rows) => rows[i * n + j],
            };
            let (sum, size) = exact[i * n + j];
            let error = (f64::from(c) - f64::from(start) - sum).abs();
            let limit = 1e-5 * (size + f64::from(start.abs()));
            assert!(error <= limit, "{isa:?} {m} x {n} x {k} {layouts:?} {init:?} at ({i}, {j}): {error:e}");
        }
    }

    #[test]
    fn agrees_with_f64() {
        use Layout::{Normal, Transposed};
        let pool = pool(2);
        for isa in available() {
            for shape in SHAPES {
                let (bias, rows) = (numbers(shape.1, 4), numbers(shape.0 * shape.1, 5));
                for layouts in [[Normal, Normal], [Normal, Transposed], [Transposed, Normal], [Transposed, Transposed]]
                {
                    for init in [Init::Zero, Init::Add, Init::Bias(&bias), Init::Rows(&rows)] {
                        check(isa, shape, layouts, init, &pool);
                    }
                }
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        for isa in available() {
            for (m, n, k) in [(700, 100, 90), (256, 256, 1500), (90, 2100, 64), (2300, 2200, 100)] {
                let (a, b) = (numbers(m * k, 5), numbers(k * n, 6));
                let product = |num_threads| {
                    let mut c = vec![f32::NAN; m * n];
                    let (a, b) = (MatRef::new(&a, k, m).t(), MatRef::new(&b, k, n));
                    matmul(isa, MatMut::new(&mut c, m, n), Init::Zero, a, b, &pool(num_threads));
                    c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let one = product(1);
                for num_threads in [2, 3, 7] {
                    assert!(product(num_threads) == one, "{isa:?} {m} x {n} x {k} on {num_threads} threads");
                }
            }
        }
    }

    #[test]
    fn nothing_to_sum_leaves_the_start() {
        let pool = pool(1);
        for isa in available() {
            let mut c = vec![1.0; 6];
            let (a, b) = (MatRef::new(&[], 2, 0), MatRef::new(&[], 0, 3));
            matmul(isa, MatMut::new(&mut c, 2, 3), Init::Add, a, b, &pool);
            assert_eq!(c, [1.0; 6]);
            matmul(isa, MatMut::new(&mut c, 2, 3), Init::Bias(&[1.0, 2.0, 3.0]), a, b, &pool);
            assert_eq!(c, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
            matmul(isa, MatMut::new(&mut c, 2, 3), Init::Zero, a, b, &pool);
            assert_eq!(c, [0.0; 6]);
        }
    }

    #[test]
    fn a_packed_operand_is_reused_for_another_shape() {
        let pool = pool(1);
        for isa in available().into_iter().filter(|isa| isa.packs()) {
            let mut packed = pack_b(isa, MatRef::new(&numbers(90 * 70, 7), 90, 70), &pool);
            pack_b_into(&mut packed, isa, MatRef::new(&[2.0, 3.0], 2, 1), &pool);
            let mut c = [0.0];
            matmul_packed(MatMut::new(&mut c, 1, 1), Init::Zero, MatRef::new(&[5.0, 7.0], 1, 2), &packed, &pool);
            assert!((c[0] - 31.0).abs() < 0.01, "{isa:?}: {c:?}");
        }
    }

    /// A row that holds a number that is not finite spoils its row of C alone; rows next to nothing count as nothing.
    #[test]
    fn what_is_not_finite_shows() {
        let pool = pool(1);
        for isa in available() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut a = numbers(40 * 300, 8);
                let b = numbers(300 * 35, 9);
                a[3 * 300 + 260] = bad;
                a[5 * 300..][..300].fill(1e-35);
                let mut c = vec![0.0; 40 * 35];
                matmul(
                    isa,
                    MatMut::new(&mut c, 40, 35),
                    Init::Zero,
                    MatRef::new(&a, 40, 300),
                    MatRef::new(&b, 300, 35),
                    &pool,
                );
                for (i, row) in c.chunks(35).enumerate() {
                    assert!(row.iter().all(|x| x.is_finite() == (i != 3)), "{isa:?} {bad} row {i}: {row:?}");
                    assert!(i != 5 || row.iter().all(|x| x.abs() < 1e-32), "{isa:?}: {row:?}");
                }
            }
        }
    }

    #[test]
    fn small_outputs_still_make_jobs() {
        let pool = pool(4);
        for (rows, cols) in [(256, 256), (768, 256), (256, 768), (384, 384), (4096, 256)] {
            assert!(Grid::of((rows, cols), (128, 1024), Some(&pool)).len() >= 8, "{rows} x {cols}");
        }
    }

    /// No thread has more than a tenth more rows than an even share, where tiles are too few to even it out.
    #[test]
    fn few_tiles_are_shared_evenly() {
        for num_threads in [1, 2, 3] {
            for rows in [614, 320, 640, 1228] {
                let grid = Grid::of((rows, 384), (128, 1024), Some(&pool(num_threads)));
                let most = grid.len().div_ceil(num_threads) * grid.tile_rows * grid.tile_cols;
                assert!(10 * most * num_threads <= 11 * rows * 384, "{rows} rows, {num_threads} threads: {grid:?}");
            }
        }
    }

    /// However many other rows there are.
    #[test]
    fn a_row_of_c_depends_on_its_row_of_a_alone() {
        let pool = pool(2);
        for isa in available() {
            for (n, k) in [(300, 128), (384, 300), (64, 1152), (1200, 40)] {
                let (a, b) = (numbers(700 * k, 1), numbers(n * k, 2));
                for b in [MatRef::new(&b, k, n), MatRef::new(&b, n, k).t()] {
                    let rows_of_c = |first: usize, m: usize| {
                        let mut c = vec![0.0; m * n];
                        let a = MatRef::new(&a, 700, k).some_rows(first..first + m);
                        matmul(isa, MatMut::new(&mut c, m, n), Init::Zero, a, b, &pool);
                        c
                    };
                    let want = rows_of_c(0, 700);
                    for m in (1..70).chain([127, 300, 513]) {
                        let first = 700 - m;
                        let found = rows_of_c(first, m);
                        let bits = |c: &[f32]| c.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                        assert!(bits(&found) == bits(&want[first * n..]), "{isa:?} {m} x {n} x {k}, {:?}", b.layout);
                    }
                }
            }
        }
    }

    /// Operands of bf16 give the bits that their values give as f32; a narrow result is the rounded wide one.
    #[test]
    fn narrow_matrices_hold_rounded_numbers() {
        let pool = pool(2);
        for isa in available().into_iter().filter(|isa| isa.packs()) {
            for (m, n, k) in SHAPES.into_iter().chain([(96, 70, 64), (200, 1100, 224), (64, 32, 256)]) {
                for (a_layout, b_layout) in [Layout::Normal, Layout::Transposed].map(|a| (a, Layout::Normal)) {
                    let narrow = |len, seed| numbers(len, seed).into_iter().map(bf16::from_f32).collect::<Vec<_>>();
                    let (a_data, b_data) = (narrow((m + GAP) * (k + GAP), 1), narrow((n + GAP) * (k + GAP), 2));
                    let wide = |data: &[bf16]| data.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
                    let (a_wide, b_wide) = (wide(&a_data), wide(&b_data));
                    let (a, b) = (operand(&a_wide, m, k, a_layout), operand(&b_wide, k, n, b_layout));
                    let (a_narrow, b_narrow) = (of_narrow(&a_data, a), of_narrow(&b_data, b));
                    let from = numbers(m * n, 3);
                    let (mut want, mut found) = (vec![0.0; m * n], vec![0.0; m * n]);
                    matmul(isa, MatMut::new(&mut want, m, n), Init::Rows(&from), a, b, &pool);
                    matmul(isa, MatMut::new(&mut found, m, n), Init::Rows(&from), a_narrow, b_narrow, &pool);
                    assert_eq!(found, want, "{isa:?} {m} x {n} x {k}, {a_layout:?}");
                    if k > 256 {
                        continue;
                    }
                    let mut rounded = vec![bf16::ZERO; m * (n + GAP)];
                    let c = MatMut::narrow(&mut rounded, m, n, n + GAP);
                    matmul(isa, c, Init::Rows(&from), a_narrow, b_narrow, &pool);
                    for (rounded, want) in rounded.chunks(n + GAP).zip(want.chunks(n)) {
                        let want: Vec<bf16> = want.iter().map(|&x| bf16::from_f32(x)).collect();
                        assert_eq!(rounded[..n], want, "{isa:?} {m} x {n} x {k}, {a_layout:?}");
                        assert!(rounded[n..].iter().all(|&gap| gap == bf16::ZERO));
                    }
                }
            }
        }
    }

    fn of_narrow<'a>(data: &'a [bf16], like: MatRef) -> MatRef<'a> {
        let (rows, cols) = if like.layout == Layout::Normal { (like.rows, like.cols) } else { (like.cols, like.rows) };
        let matrix = MatRef::narrow(data, rows, cols, like.stride);
        if like.layout == Layout::Normal { matrix } else { matrix.t() }
    }
}
