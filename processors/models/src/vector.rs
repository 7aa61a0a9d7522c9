//! Arithmetic over rows of numbers whose length is a multiple of [`LANES`], and what else loops over rows compute with.

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

/// The first of the largest.
#[inline(always)]
pub(crate) fn largest(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, index| if values[index] > values[best] { index } else { best })
}

/// The square of the distance between two rows.
#[inline(always)]
pub(crate) fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
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

/// The exponential function, within 1e-15 of the true value; 0 below -700, and above 700 that of 700. NaN stays NaN.
///
/// Of its own so that it is compiled into the loops that need it, without calls or branches. `x = k ln 2 + r`, and the
/// series of `exp(r)` is cut off behind the thirteenth power, which is less than 1e-17 for any `r` up to `ln 2 / 2`.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    /// Adding and subtracting this rounds to a whole number.
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    /// `ln 2` in two parts, the first of which has zeros to spare, so that its products with whole numbers are exact.
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let vanishes = x < -700.0;
    let x = x.clamp(-700.0, 700.0);
    let shifted = x * std::f64::consts::LOG2_E + ROUNDING;
    let k = shifted - ROUNDING;
    let r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    let (r2, r4) = (r * r, (r * r) * (r * r));
    let ones = 1.0 + r;
    let squares = (1.0 / 2.0 + r * (1.0 / 6.0)) * r2;
    let fourths = (1.0 / 24.0 + r * (1.0 / 120.0)) + (1.0 / 720.0 + r * (1.0 / 5_040.0)) * r2;
    let eighths = (1.0 / 40_320.0 + r * (1.0 / 362_880.0)) + (1.0 / 3_628_800.0 + r * (1.0 / 39_916_800.0)) * r2;
    let twelfths = 1.0 / 479_001_600.0 + r * (1.0 / 6_227_020_800.0);
    let series = ones + (squares + r4 * (fourths + r4 * (eighths + r4 * twelfths)));
    // The last bits of what was shifted are `k`, so that no number has to be converted, for which not all processors have vectors.
    let value = series * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if vanishes { 0.0 } else { value }
}

/// The natural logarithm of a number that is positive, finite and not subnormal, within 1e-15 of the true value.
///
/// Of its own for the same reason as [`exp`]. `x = 2^k m` with `m` about 1, and `ln m` is the series of `2 artanh((m - 1) / (m + 1))`, cut off
/// behind the 19th power.
#[inline(always)]
pub(crate) fn ln(x: f64) -> f64 {
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    /// Whole numbers below 2^52 are the last bits of it and them.
    const WHOLE: u64 = 0x4330_0000_0000_0000;
    let bits = x.to_bits();
    let mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    let is_large = mantissa > std::f64::consts::SQRT_2;
    let m = if is_large { 0.5 * mantissa } else { mantissa };
    let exponent = f64::from_bits(bits >> 52 | WHOLE) - (f64::from_bits(WHOLE) + 1023.0);
    let k = if is_large { exponent + 1.0 } else { exponent };
    let s = (m - 1.0) / (m + 1.0);
    let (s2, s4) = (s * s, (s * s) * (s * s));
    let low = (1.0 / 3.0 + s2 * (1.0 / 5.0)) + s4 * (1.0 / 7.0 + s2 * (1.0 / 9.0));
    let high = (1.0 / 11.0 + s2 * (1.0 / 13.0)) + s4 * ((1.0 / 15.0 + s2 * (1.0 / 17.0)) + s4 * (1.0 / 19.0));
    let series = 2.0 * s * (s2 * (low + (s4 * s4) * high));
    k * LN_2_HIGH + (2.0 * s + (series + k * LN_2_LOW))
}

/// The cosine, within 1e-15 of the true value up to a thousand, and the less exact the larger it is. NaN stays NaN.
///
/// Of its own for the same reason as [`exp`]. What is left of the nearest multiple of `2 π` is `r`, and `cos r` is the series of `sin(π / 2 - |r|)`,
/// cut off behind the 19th power.
#[inline(always)]
pub(crate) fn cos(x: f64) -> f64 {
    use std::f64::consts::{FRAC_1_PI, FRAC_PI_2, PI};
    /// Adding and subtracting this rounds to a whole number.
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    /// `2 π` in two parts, the first of which has zeros to spare, so that its products with whole numbers are exact.
    const TURN_HIGH: f64 = 6.283_185_306_936_502_5;
    const TURN_LOW: f64 = 2.430_840_202_602_477e-10;
    let k = (x * (0.5 * FRAC_1_PI) + ROUNDING) - ROUNDING;
    let r = ((x - k * TURN_HIGH) - k * TURN_LOW).clamp(-PI, PI);
    let t = FRAC_PI_2 - r.abs();
    let (t2, t4) = (t * t, (t * t) * (t * t));
    let low = (-1.0 / 6.0 + t2 * (1.0 / 120.0)) + t4 * (-1.0 / 5_040.0 + t2 * (1.0 / 362_880.0));
    let high = -1.0 / 39_916_800.0 + t2 * (1.0 / 6_227_020_800.0);
    let higher = -1.0 / 1_307_674_368_000.0 + t2 * (1.0 / 355_687_428_096_000.0);
    let highest = -1.0 / 121_645_100_408_832_000.0;
    t + t * (t2 * (low + (t4 * t4) * (high + t4 * (higher + t4 * highest))))
}

/// The sine, as exactly as [`cos`].
#[inline(always)]
pub(crate) fn sin(x: f64) -> f64 {
    cos(x - std::f64::consts::FRAC_PI_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_and_cosine_are_those_of_the_library() {
        for step in -100_000..=100_000 {
            let x = f64::from(step) * 0.009_973;
            assert!((cos(x) - libm::cos(x)).abs() <= 1e-15, "cos({x}) = {}, not {}", cos(x), libm::cos(x));
            let off = (sin(x) - libm::sin(x)).abs();
            assert!(off <= 1e-15 * x.abs().max(1.0), "sin({x}) = {}, not {}", sin(x), libm::sin(x));
        }
        assert!((cos(0.0) - 1.0).abs() <= 1e-15 && cos(f64::NAN).is_nan());
        assert!(cos(1e150).abs() <= 1.0 + 1e-15 && cos(-1e300).abs() <= 1.0 + 1e-15);
    }

    #[test]
    fn the_logarithm_is_that_of_the_library() {
        let spread = (-1000..=1000).map(|step| exp(f64::from(step) * 0.697_31));
        let about_one = (1..=4000).map(|step| f64::from(step) * 0.000_5);
        for x in spread.chain(about_one) {
            let (ours, theirs) = (ln(x), libm::log(x));
            assert!((ours - theirs).abs() <= 1e-15 * theirs.abs().max(0.1), "ln({x}) = {ours}, not {theirs}");
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn the_exponential_function_is_that_of_the_library() {
        for step in -70_000..=70_000 {
            let x = f64::from(step) * 0.009_973;
            let (ours, theirs) = (exp(x), libm::exp(x));
            assert!((ours - theirs).abs() <= 1e-15 * theirs, "exp({x}) = {ours}, not {theirs}");
        }
        assert_eq!((exp(0.0), exp(-1e9), exp(1e9)), (1.0, 0.0, exp(700.0)));
        assert!(exp(f64::NAN).is_nan());
    }

    #[test]
    fn padding_adds_nothing_to_a_product() {
        let a = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let b = [4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(padded(3), 8);
        assert_eq!(dot(&a, &b), 32.0);
    }

    #[test]
    fn distances_are_those_of_euclid() {
        let (mut a, mut b) = ([0.0; 2 * LANES], [0.0; 2 * LANES]);
        (a[0], b[0], a[9], b[9]) = (1.0, 4.0, -2.0, 2.0);
        assert_eq!(squared_distance(&a, &b), 25.0);
    }

    #[test]
    fn a_step_follows_the_gradient_and_the_penalty() {
        let mut weights = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        descend(&mut weights, &[2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.5, 0.1, 0.01);
        assert_eq!(weights, [1.0 - 0.01 * 1.1, -0.01 * 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
