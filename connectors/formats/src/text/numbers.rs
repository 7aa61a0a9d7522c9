//! Texts that stand for numbers. No digit is lost but where a floating-point number is rounded.

use arrow::array::ArrowPrimitiveType;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{Float32Type, Float64Type};

/// A type of integers.
pub(crate) trait Integer: ArrowPrimitiveType<Native: TryFrom<i64>> + Parser {}

impl<T: ArrowPrimitiveType<Native: TryFrom<i64>> + Parser> Integer for T {}

/// A type of floating-point numbers.
pub(crate) trait Float: ArrowPrimitiveType<Native: Into<f64>> + Parser {
    /// The number of these digits, of which so many are behind the point; `None` if it has to be read from its text to be rounded
    /// correctly.
    fn of_digits(digits: u64, fraction: usize, negative: bool) -> Option<Self::Native>;
}

impl Float for Float64Type {
    fn of_digits(digits: u64, fraction: usize, negative: bool) -> Option<f64> {
        /// The powers of ten that are floating-point numbers.
        const POWERS: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
            1e19, 1e20, 1e21, 1e22,
        ];
        /// Up to here all integers are floating-point numbers.
        const EXACT: u64 = 1 << 53;
        // Both are exact, so that there is one rounding only; after William Clinger, "How to read floating point numbers accurately".
        let number = if digits <= EXACT { digits as f64 / POWERS.get(fraction)? } else { return None };
        Some(if negative { -number } else { number })
    }
}

impl Float for Float32Type {
    fn of_digits(_: u64, _: usize, _: bool) -> Option<f32> {
        None
    }
}

/// A floating-point number. What is larger than any of them is none, unless the text says that it is infinite: `inf`.
pub(crate) fn float<T: Float>(text: &str) -> Option<T::Native> {
    if let Some(number) = plain::<T>(text) {
        return Some(number);
    }
    let has_digits = || text.bytes().any(|byte| byte.is_ascii_digit());
    T::parse(text).filter(|number| !(*number).into().is_infinite() || !has_digits())
}

/// The number of a text as most are: not many digits, with a point between two of them at most.
fn plain<T: Float>(text: &str) -> Option<T::Native> {
    /// So many digits are an integer of 64 bits, whichever they are.
    const MOST: usize = 19;
    let negative = text.starts_with('-');
    let text = &text.as_bytes()[usize::from(negative)..];
    let (mut digits, mut fraction) = (0_u64, 0);
    for (index, byte) in text.iter().enumerate().take(MOST + 1) {
        match byte {
            b'0'..=b'9' => digits = digits.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
            b'.' if fraction == 0 && index > 0 && index + 1 < text.len() => fraction = text.len() - index - 1,
            _ => return None,
        }
    }
    let is_short = (1..=MOST).contains(&text.len());
    is_short.then(|| T::of_digits(digits, fraction, negative)).flatten()
}

/// An integer; `2.0` and `1e3` are some, too.
pub(crate) fn integer<T: Integer>(text: &str) -> Option<T::Native> {
    T::parse(text).or_else(|| T::parse(&exactly(text.trim(), 0)?.to_string()))
}

/// The integer that is 10^`shift` times a number, with all of its digits, if it has no more than 38 of them.
fn exactly(text: &str, shift: i64) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (negative, mantissa) = sign(mantissa);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Zeros count when another digit follows.
    let (mut number, mut zeros) = (0_i128, 0);
    for digit in whole.bytes().chain(fraction.bytes()) {
        match digit {
            b'0' => zeros += u32::from(number != 0),
            b'1'..=b'9' => {
                let power = 10_i128.checked_pow(zeros + 1)?;
                number = number.checked_mul(power)?.checked_add(i128::from(digit - b'0'))?;
                zeros = 0;
            }
            _ => return None,
        }
    }
    let power = power(exponent)?.saturating_add(i64::from(zeros)).saturating_add(shift - fraction.len() as i64);
    if number == 0 {
        return Some(0);
    }
    number = number.checked_mul(10_i128.checked_pow(u32::try_from(power).ok()?)?)?;
    Some(if negative { -number } else { number })
}

/// A whole exponent. Those that are far too large for any number are as large as can be.
fn power(text: &str) -> Option<i64> {
    let (negative, digits) = sign(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let add = |power: i64, digit: u8| power.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    let power = digits.bytes().fold(0, add);
    Some(if negative { -power } else { power })
}

/// Whether a number is negative, and the rest of it.
fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// A decimal number with at most `scale` digits that count behind the point.
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let limit = 10_u128.pow(precision.into());
    exactly(text.trim(), scale.into()).filter(|number| number.unsigned_abs() < limit)
}
