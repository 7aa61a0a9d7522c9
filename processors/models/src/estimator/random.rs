//! Random numbers by their place: of a seed, a stream and how many were drawn from it before. The generator is ChaCha with 8 rounds, which is a
//! function of a counter.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::vector::exp;

/// The numbers of one stream, from one of them on.
#[derive(Clone, Debug)]
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// From the number on that has so many before it.
    pub fn new(seed: u64, stream: u64, before: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        // Of a number are two words of the generator.
        generator.set_word_pos(2 * u128::from(before));
        Self(generator)
    }

    /// At least 0, and less than 1.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        // The 53 bits that a float can hold.
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A whole number that is less than `end`, which is not 0.
    #[inline]
    pub fn below(&mut self, end: usize) -> usize {
        ((self.uniform() * end as f64) as usize).min(end - 1)
    }
}

/// How often something happens that happens so often on average, and each time on its own.
#[derive(Clone, Debug)]
pub(super) struct Poisson {
    /// By number, how probable it is that it happens at most so often.
    at_most: Vec<f64>,
}

impl Poisson {
    /// A mean of at most 100.
    pub fn new(mean: f64) -> Self {
        let mut at_most = Vec::new();
        let (mut probability, mut sum) = (exp(-mean), 0.0);
        // Above its mean it soon becomes so improbable that the sum does not change.
        while at_most.len() < mean as usize || sum + probability > sum {
            sum += probability;
            at_most.push(sum);
            probability *= mean / at_most.len() as f64;
        }
        Self { at_most }
    }

    /// Draws a number.
    #[inline]
    pub fn draw(&self, random: &mut Random) -> u32 {
        let uniform = random.uniform();
        self.at_most.iter().take_while(|at_most| **at_most <= uniform).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_only_on_their_place() {
        let numbers = |seed, stream, before, count| -> Vec<f64> {
            let mut random = Random::new(seed, stream, before);
            (0..count).map(|_| random.uniform()).collect()
        };
        let all = numbers(5, 1, 0, 1000);
        assert_eq!(numbers(5, 1, 37, 100), all[37..137]);
        assert_ne!(numbers(5, 2, 0, 10), all[..10]);
        assert_ne!(numbers(6, 1, 0, 10), all[..10]);
        assert!(all.iter().all(|number| (0.0..1.0).contains(number)));
    }

    #[test]
    fn poisson_s_numbers_have_its_mean_and_variance() {
        for mean in [0.5, 1.0, 6.0, 90.0] {
            let (poisson, mut random) = (Poisson::new(mean), Random::new(1, 2, 0));
            let drawn: Vec<_> = (0..20_000).map(|_| f64::from(poisson.draw(&mut random))).collect();
            let found = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|number| (number - found) * (number - found)).sum::<f64>() / 20_000.0;
            assert!((found / mean - 1.0).abs() < 0.03, "{found} instead of {mean}");
            assert!((variance / mean - 1.0).abs() < 0.06, "{variance} instead of {mean}");
        }
    }
}
