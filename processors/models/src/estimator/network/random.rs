//! Random numbers by their place: of a seed, a stream and a position in it, whichever were drawn before.
//!
//! So dropout is the same wherever a run was stopped, and wherever it is computed. The generator is ChaCha with 8 rounds,
//! which is a function of a counter.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The numbers of one stream, from one position on: each at least 0 and less than 1.
pub(super) struct Uniform(ChaCha8Rng);

impl Uniform {
    pub fn new(seed: u64, stream: u64, position: u128) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        generator.set_word_pos(position);
        Self(generator)
    }

    #[inline]
    pub fn next(&mut self) -> f32 {
        // The 24 bits that a float can hold.
        (self.0.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_only_on_their_place() {
        let numbers = |seed, stream, position, count| -> Vec<f32> {
            let mut uniform = Uniform::new(seed, stream, position);
            (0..count).map(|_| uniform.next()).collect()
        };
        let all = numbers(5, 1, 0, 1000);
        assert_eq!(numbers(5, 1, 37, 100), all[37..137]);
        assert_ne!(numbers(5, 2, 0, 10), all[..10]);
        assert_ne!(numbers(6, 1, 0, 10), all[..10]);
        assert!(all.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = all.iter().sum::<f32>() / 1000.0;
        assert!((mean - 0.5).abs() < 0.03, "{mean}");
    }
}
