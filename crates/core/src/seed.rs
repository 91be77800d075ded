//! Named, counter-based randomness.
//!
//! Every draw is `seed.stream("name").at(step, index)`: it depends on these alone, never on thread count, on other
//! stages or on what was drawn before. The generator is SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
//! number generators", 2014) on a key derived with BLAKE3.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The one number a run's randomness grows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Seed(pub u64);

/// A named source of independent draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(u64);

/// A finite run of draws at one place of a stream.
#[derive(Clone, Debug)]
pub struct Draws(u64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Seed {
    /// The stream called `name`.
    pub fn stream(self, name: &str) -> Stream {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0.to_le_bytes()).update(name.as_bytes());
        let hash = hasher.finalize();
        Stream(u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes")))
    }

    /// A seed of its own for a part of the work, such as one of several repetitions.
    pub fn child(self, name: &str) -> Self {
        Self(self.stream(name).0)
    }
}

impl Stream {
    /// The draws at (`step`, `index`).
    pub fn at(self, step: u64, index: u64) -> Draws {
        Draws(mix(mix(self.0 ^ step.wrapping_mul(GOLDEN)) ^ mix(index.wrapping_add(GOLDEN))))
    }
}

impl Draws {
    /// The next 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Passes over the next `num` draws of [`Self::bits`].
    #[inline]
    pub fn skip(&mut self, num: u64) {
        self.0 = self.0.wrapping_add(GOLDEN.wrapping_mul(num));
    }

    /// Uniform in `[0, 1)`, with 53 random bits.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform over `0..n`, by widening multiplication (bias below `n / 2^64`).
    ///
    /// # Panics
    /// When `n` is 0.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "an empty range has no element");
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Standard normal, by the Box-Muller transform, of two draws of [`Self::bits`].
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_its_name_and_place_alone() {
        let seed = Seed(7);
        assert_eq!(seed.stream("a").at(3, 4).bits(), seed.stream("a").at(3, 4).bits());
        assert_ne!(seed.stream("a").at(3, 4).bits(), seed.stream("b").at(3, 4).bits());
        assert_ne!(seed.stream("a").at(3, 4).bits(), seed.stream("a").at(4, 3).bits());
        assert_ne!(seed.stream("a").at(3, 4).bits(), Seed(8).stream("a").at(3, 4).bits());
    }

    #[test]
    fn passing_over_is_drawing_without_looking() {
        let (mut a, mut b) = (Seed(7).stream("a").at(3, 4), Seed(7).stream("a").at(3, 4));
        let _: f64 = (0..10).map(|_| a.normal()).sum();
        b.skip(20);
        assert_eq!(a.bits(), b.bits());
    }

    #[test]
    fn moments_are_right() {
        let mut draws = Seed(1).stream("moments").at(0, 0);
        let n = 100_000;
        let (mut uniform, mut normal, mut square) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            uniform += draws.uniform();
            let z = draws.normal();
            normal += z;
            square += z * z;
        }
        let n = f64::from(n);
        assert!((uniform / n - 0.5).abs() < 0.005);
        assert!((normal / n).abs() < 0.015);
        assert!((square / n - 1.0).abs() < 0.02);
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut items: Vec<usize> = (0..100).collect();
        Seed(2).stream("shuffle").at(0, 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
