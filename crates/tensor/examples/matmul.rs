//! Prints the speed of matrix products in the shapes of small transformers, and the machine's own peak beside it:
//! `cargo run --release -p arable-tensor --example matmul [-- SUBSTRING_OF_A_NAME [SET]]`.
//!
//! Products take turns with the peak loop, so that what else runs on the machine slows both; best of several runs.

#![allow(unsafe_code, reason = "the peak is a loop over registers")]
#![allow(clippy::print_stdout, reason = "a benchmark is there to print")]

use std::time::Instant;

use arable_tensor::kernels::{Init, Isa, MatMut, MatRef, matmul, matmul_packed, pack_b};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Output features and input features of a linear layer, and how many tokens pass it at once.
const LAYERS: [(usize, usize, usize); 10] = [
    (4096, 256, 256),
    (4096, 768, 256),
    (4096, 256, 768),
    (4096, 1152, 384),
    (4096, 384, 384),
    (4096, 384, 576),
    (4096, 1536, 384),
    (8192, 768, 256),
    (1200, 8192, 256),
    (1200, 16384, 384),
];

/// The shortest time of a run, over runs that last a fifth of a second together.
fn best_s(run: impl FnMut()) -> f64 {
    best_in_turns(run, || ())[0]
}

/// The shortest times of two runs that take turns, over turns that last a fifth of a second together.
fn best_in_turns(mut one: impl FnMut(), mut other: impl FnMut()) -> [f64; 2] {
    one();
    other();
    let (begin, mut best) = (Instant::now(), [f64::INFINITY; 2]);
    while begin.elapsed().as_secs_f64() < 0.2 {
        let starts = [
            Instant::now(),
            {
                one();
                Instant::now()
            },
            {
                other();
                Instant::now()
            },
        ];
        for (best, ends) in best.iter_mut().zip(starts.windows(2)) {
            *best = best.min((ends[1] - ends[0]).as_secs_f64());
        }
    }
    best
}

/// Buffers start on a cache line, as the engine's do.
struct Buffer {
    data: Vec<f32>,
    skip: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let data: Vec<f32> = (0..len + 16).map(|i| (i * 7 % 13) as f32 * 0.1 - 0.6).collect();
        let skip = data.as_ptr().align_offset(64);
        Self { data, skip }
    }

    fn get(&self) -> &[f32] {
        &self.data[self.skip..]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.skip..]
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (wanted, set) = (arguments.next().unwrap_or_default(), arguments.next());
    let pools = [1, 2].map(|num| ThreadPoolBuilder::new().num_threads(num).build().expect("threads start"));
    let is_wanted = |isa: &Isa| set.as_ref().is_none_or(|set| *set == format!("{isa:?}"));
    let sets: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.is_available() && is_wanted(isa)).collect();
    println!("detected {:?}; GFLOP/s on 1 and 2 threads, and the share of the peak of 1 and 2 cores", Isa::detect());
    for (m, n, k) in LAYERS {
        let (x, w, dy) = (Buffer::new(m * k), Buffer::new(n * k), Buffer::new(m * n));
        let (x_data, w_data, dy_data) = (x.get(), w.get(), dy.get());
        let (x, w, dy) = (MatRef::new(x_data, m, k), MatRef::new(w_data, n, k), MatRef::new(dy_data, m, n));
        for (name, rows, cols, init, a, b, packed, alone) in [
            ("forward, packed", m, n, Init::Zero, x, w.t(), true, (x_data, (k, 1), w_data, (1, k))),
            ("forward", m, n, Init::Zero, x, w.t(), false, (x_data, (k, 1), w_data, (1, k))),
            ("dx, packed", m, k, Init::Zero, dy, w, true, (dy_data, (n, 1), w_data, (k, 1))),
            ("dw", n, k, Init::Add, dy.t(), x, false, (dy_data, (1, n), x_data, (k, 1))),
        ] {
            let name = format!("{m} x {n} x {k} {name}");
            if !name.contains(&wanted) {
                continue;
            }
            let mut c = Buffer::new(rows * cols);
            let flop = 2.0 * (m * n * k) as f64;
            print!("{name:36}");
            for &isa in &sets {
                let speeds = pools.each_ref().map(|pool| {
                    let b_packed = (packed && isa.packs()).then(|| pack_b(isa, b, pool));
                    let out = c.get_mut();
                    let time = pool.install(|| {
                        best_s(|| match &b_packed {
                            Some(b) => matmul_packed(MatMut::new(out, rows, cols), init, a, b, pool),
                            None => matmul(isa, MatMut::new(out, rows, cols), init, a, b, pool),
                        })
                    });
                    flop / time / 1e9
                });
                let peaks = pools.each_ref().map(|pool| peak(isa, pool));
                let share = |i: usize| 100.0 * speeds[i] / peaks[i];
                print!(" | {isa:?} {:5.0} {:5.0} ({:3.0}% {:3.0}%)", speeds[0], speeds[1], share(0), share(1));
                if isa == Isa::F32 {
                    let (size, add) = ((rows, cols, a.cols()), matches!(init, Init::Add));
                    let (out, mut gemm_c) = (c.get_mut(), Buffer::new(rows * cols));
                    let [ours, gemm] = pools[0].install(|| {
                        best_in_turns(
                            || matmul(isa, MatMut::new(out, rows, cols), init, a, b, &pools[0]),
                            || gemm_alone(gemm_c.get_mut(), size, add, alone),
                        )
                    });
                    print!(", {:3.0}% of gemm alone", 100.0 * gemm / ours);
                }
            }
            println!();
        }
    }
}

/// A left operand and a right one, each with the steps from row to row and from column to column.
type Operands<'a> = (&'a [f32], (usize, usize), &'a [f32], (usize, usize));

/// The whole product in one call of the `gemm` crate on this thread.
fn gemm_alone(c: &mut [f32], (m, n, k): (usize, usize, usize), add: bool, (a, a_step, b, b_step): Operands) {
    assert!(c.len() >= m * n && a.len() >= m * k && b.len() >= k * n);
    let step = |step: usize| isize::try_from(step).expect("a step inside a slice fits");
    let none = gemm::Parallelism::None;
    let (to, a, b) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
    let ((a_row, a_col), (b_row, b_col)) = (a_step, b_step);
    // SAFETY: the slices hold what the sizes name.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to,
            1,
            step(n),
            add,
            a,
            step(a_col),
            step(a_row),
            b,
            step(b_col),
            step(b_row),
            1.0,
            1.0,
            false,
            false,
            false,
            none,
        );
    }
}

/// What all threads reach together on registers alone, in GFLOP/s.
fn peak(isa: Isa, pool: &ThreadPool) -> f64 {
    const ROUNDS: usize = 20_000;
    let flop: usize = match isa {
        Isa::F32 => 12 * 32,
        Isa::Avx512Vnni | Isa::Avx512Bf16 => 12 * 64,
        Isa::AmxBf16 => 4 * 16384,
    };
    let time = best_s(|| {
        pool.broadcast(|_| registers(isa, ROUNDS));
    });
    (flop * ROUNDS * pool.current_num_threads()) as f64 / time / 1e9
}

#[cfg(not(target_arch = "x86_64"))]
fn registers(_isa: Isa, _rounds: usize) {}

/// Multiplies registers that nothing else reads or writes.
#[cfg(target_arch = "x86_64")]
fn registers(isa: Isa, rounds: usize) {
    use std::arch::asm;
    macro_rules! twelve {
        ($op:literal) => {
            // SAFETY: changes only the registers named; `main` asks only for sets that are available, except that f32
            // is measured with 512-bit vectors on every machine with bf16.
            unsafe {
                asm!(
                    "2:",
                    concat!($op, " zmm0, zmm30, zmm31"), concat!($op, " zmm1, zmm30, zmm31"),
                    concat!($op, " zmm2, zmm30, zmm31"), concat!($op, " zmm3, zmm30, zmm31"),
                    concat!($op, " zmm4, zmm30, zmm31"), concat!($op, " zmm5, zmm30, zmm31"),
                    concat!($op, " zmm6, zmm30, zmm31"), concat!($op, " zmm7, zmm30, zmm31"),
                    concat!($op, " zmm8, zmm30, zmm31"), concat!($op, " zmm9, zmm30, zmm31"),
                    concat!($op, " zmm10, zmm30, zmm31"), concat!($op, " zmm11, zmm30, zmm31"),
                    "dec {left}",
                    "jnz 2b",
                    left = inout(reg) rounds => _,
                    out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
                    out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                    options(nomem, nostack),
                )
            }
        };
    }
    match isa {
        Isa::F32 if is_x86_feature_detected!("avx512f") => twelve!("vfmadd231ps"),
        Isa::F32 => {}
        Isa::Avx512Vnni => twelve!("vpdpwssd"),
        Isa::Avx512Bf16 => twelve!("vdpbf16ps"),
        Isa::AmxBf16 => tiles(rounds),
    }
}

#[cfg(target_arch = "x86_64")]
fn tiles(rounds: usize) {
    use std::arch::asm;
    #[repr(align(64))]
    struct Config([u8; 64]);
    let mut config = Config([0; 64]);
    config.0[0] = 1;
    for tile in 0..8 {
        (config.0[16 + 2 * tile], config.0[48 + tile]) = (64, 16);
    }
    // SAFETY: `main` asks for tiles only where they are available; this thread holds no others meanwhile.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {left}",
            "jnz 2b",
            "tilerelease",
            config = in(reg) &raw const config,
            left = inout(reg) rounds => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
