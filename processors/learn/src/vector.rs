//! Arithmetic over rows of numbers whose length is a multiple of [`LANES`].

/// How many accumulators a sum has, everywhere and always: another count would give other bits.
pub(crate) const LANES: usize = 8;

/// The length of a row of `numbers` numbers, filled up with zeros.
pub(crate) fn padded(numbers: usize) -> usize {
    numbers.next_multiple_of(LANES)
}

/// The scalar product.
#[inline(always)]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))
}

/// One step of gradient descent: the gradient of weight `i` is `gradient * x[i] + l2 * weights[i]`.
#[inline(always)]
pub(crate) fn descend(weights: &mut [f64], x: &[f64], gradient: f64, l2: f64, rate: f64) {
    let (weights, x) = (weights.as_chunks_mut::<LANES>().0, x.as_chunks::<LANES>().0);
    for (weights, x) in weights.iter_mut().zip(x) {
        // Read as a whole first: the compiler can't know that weights and numbers don't overlap.
        let step: [f64; LANES] = std::array::from_fn(|lane| rate * (gradient * x[lane] + l2 * weights[lane]));
        weights.iter_mut().zip(step).for_each(|(weight, step)| *weight -= step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_adds_nothing_to_a_product() {
        let a = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let b = [4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(padded(3), 8);
        assert_eq!(dot(&a, &b), 32.0);
    }

    #[test]
    fn a_step_follows_the_gradient_and_the_penalty() {
        let mut weights = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        descend(&mut weights, &[2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.5, 0.1, 0.01);
        assert_eq!(weights, [1.0 - 0.01 * 1.1, -0.01 * 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
