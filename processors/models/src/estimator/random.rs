//! Random numbers by their place: of a seed, a stream and how many were drawn from it before. The generator is ChaCha with 8 rounds, which is a
//! function of a counter.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::encode::Row;
use crate::vector::{cos, exp, ln};

/// Bits that all depend on all of these (Steele, Lea & Flood's SplitMix64).
#[inline(always)]
pub(crate) fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

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

    /// Of a row that may come several times before anything is learned: where there are so many rows before it, others have other numbers. `part` tells those
    /// apart that one row needs.
    pub fn of_row(seed: u64, part: u64, row: Row<'_>, before: u64) -> Self {
        let numbers = row.numbers.iter().map(|number| number.to_bits());
        let bits = numbers.chain(row.slots.iter().map(|slot| u64::from(*slot)));
        Self::new(seed, bits.fold(mixed(part), |hash, bits| mixed(hash ^ bits)), before)
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

    /// Of the normal distribution with the mean 0 and the variance 1: two of the numbers, by the method of Box and Muller.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        let size = (-2.0 * ln(1.0 - self.uniform())).sqrt();
        size * cos(std::f64::consts::TAU * self.uniform())
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

/// How often of so many times something happens that is so probable each time, drawn by one number.
pub(super) fn binomial(trials: u32, probability: f64, uniform: f64) -> u32 {
    if probability <= 0.0 || probability >= 1.0 {
        return if probability >= 1.0 { trials } else { 0 };
    }
    let (count, odds) = (f64::from(trials), probability / (1.0 - probability));
    let likeliest = ((count + 1.0) * probability).min(count) as u32;
    // Each by the likeliest: down from it, and up to where they add nothing.
    let down = |number: u32, weight: f64| weight * f64::from(number) / ((count - f64::from(number) + 1.0) * odds);
    let up = |number: u32, weight: f64| weight * (count - f64::from(number)) / f64::from(number + 1) * odds;
    let mut below = Vec::new();
    let mut weight = 1.0;
    for number in (1..=likeliest).rev() {
        weight = down(number, weight);
        if weight < 1e-18 {
            break;
        }
        below.push(weight);
    }
    let mut weights: Vec<_> = below.into_iter().rev().collect();
    let first = likeliest - weights.len() as u32;
    weight = 1.0;
    for number in likeliest..=trials {
        weights.push(weight);
        weight = up(number, weight);
        if weight < 1e-18 {
            break;
        }
    }
    let mut left = uniform * weights.iter().sum::<f64>();
    let is_behind = |weight: &&f64| {
        left -= **weight;
        left >= 0.0
    };
    let passed = weights.iter().take_while(is_behind).count();
    first + passed.min(weights.len() - 1) as u32
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
    fn normal_numbers_have_their_moments() {
        let mut random = Random::new(3, 4, 0);
        let drawn: Vec<_> = (0..40_000).map(|_| random.normal()).collect();
        let moment = |power: i32| drawn.iter().map(|number| number.powi(power)).sum::<f64>() / 40_000.0;
        let found = [1, 2, 3, 4].map(moment);
        let off = found.iter().zip([0.0, 1.0, 0.0, 3.0]).map(|(found, wanted)| (found - wanted).abs());
        assert!(off.zip([0.02, 0.03, 0.08, 0.2]).all(|(off, most)| off < most), "{found:?}");
    }

    #[test]
    fn binomial_numbers_have_their_mean_and_variance() {
        let mut random = Random::new(5, 6, 0);
        for (trials, probability) in [(1, 0.3), (20, 0.9), (1000, 0.5), (1000, 0.001), (8192, 0.99)] {
            let drawn: Vec<_> = (0..5000).map(|_| f64::from(binomial(trials, probability, random.uniform()))).collect();
            let mean = f64::from(trials) * probability;
            let deviation = (mean * (1.0 - probability)).sqrt();
            let found = drawn.iter().sum::<f64>() / 5000.0;
            let spread = drawn.iter().map(|number| (number - found) * (number - found)).sum::<f64>() / 5000.0;
            assert!((found - mean).abs() < 0.06 * deviation, "{found} instead of {mean}");
            assert!((spread.sqrt() / deviation - 1.0).abs() < 0.06, "{spread} instead of {deviation} squared");
        }
        assert_eq!([binomial(9, 0.0, 0.5), binomial(9, 1.0, 0.5), binomial(9, 0.5, 0.0)], [0, 9, 0]);
        assert_eq!(binomial(9, 0.5, 1.0 - f64::EPSILON / 2.0), 9);
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
