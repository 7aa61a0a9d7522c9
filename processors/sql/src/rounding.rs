//! `round` and `trunc` of floats to any number of digits, where DataFusion multiplies by more than a float can hold, and gives NaN;
//! `round` of decimals, whose type DataFusion changes while it plans, so that what stands beside it loses digits; and `ceil` and `floor`
//! of decimals, which may have one digit more than what they are of.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::compute::{cast, try_binary};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type};
use arrow::error::ArrowError;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF};

use crate::changed::{Change, changed};

/// The function as it is computed here.
pub fn any_digits(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match function.name() {
        "round" => changed(&function, Rounding { nearest: true }),
        "trunc" => changed(&function, Rounding { nearest: false }),
        "ceil" => changed(&function, Whole { up: true }),
        "floor" => changed(&function, Whole { up: false }),
        _ => function,
    }
}

/// No decimal has as many digits.
const MOST: i128 = 10_i128.pow(38);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounding {
    /// To the nearest number, half away from zero, or else towards zero.
    nearest: bool,
}

impl Change for Rounding {
    const SIMPLIFIED: bool = false;

    fn returns(&self, function: &ScalarUDF, args: ReturnFieldArgs) -> Result<FieldRef> {
        let value = args.arg_fields.first().map(|field| field.data_type().clone());
        match (value, args.arg_fields.len()) {
            (Some(DataType::Decimal128(precision, scale)), 2) if self.nearest => {
                Ok(one_digit_more(function, precision, scale))
            }
            _ => function.return_field_from_args(args),
        }
    }

    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, digits] = args.args.as_slice() else { return function.invoke_with_args(args) };
        if let (DataType::Decimal128(_, scale), true) = (value.data_type(), self.nearest) {
            return round_decimals(value, digits, scale, &args);
        }
        if value.data_type() != DataType::Float64 || is_usual(digits) {
            return function.invoke_with_args(args);
        }
        let values = value.to_array(args.number_rows)?;
        let digits = cast(&digits.to_array(args.number_rows)?, &DataType::Int64)?;
        let rounded = try_binary::<_, _, _, Float64Type>(
            values.as_primitive::<Float64Type>(),
            digits.as_primitive::<Int64Type>(),
            |value, digits| Ok::<_, ArrowError>(self.round(value, digits)),
        );
        Ok(ColumnarValue::Array(Arc::new(rounded?)))
    }
}

fn one_digit_more(function: &ScalarUDF, precision: u8, scale: i8) -> FieldRef {
    let decimal = DataType::Decimal128(DECIMAL128_MAX_PRECISION.min(precision + 1), scale);
    Arc::new(Field::new(function.name(), decimal, true))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Whole {
    /// To the next integer that is not less, or else to that which is not greater.
    up: bool,
}

impl Change for Whole {
    const SIMPLIFIED: bool = true;

    fn returns(&self, function: &ScalarUDF, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [value] = args.arg_fields else { return function.return_field_from_args(args) };
        let DataType::Decimal128(precision, scale) = value.data_type() else {
            return function.return_field_from_args(args);
        };
        let whole = one_digit_more(function, *precision, *scale);
        Ok(Arc::new(whole.as_ref().clone().with_nullable(value.is_nullable())))
    }

    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else { return function.invoke_with_args(args) };
        let DataType::Decimal128(_, scale) = value.data_type() else { return function.invoke_with_args(args) };
        let values = value.to_array(args.number_rows)?;
        let whole = |value| self.whole(value, scale);
        let whole = values.as_primitive::<Decimal128Type>().try_unary::<_, Decimal128Type, _>(whole)?;
        Ok(ColumnarValue::Array(Arc::new(whole.with_data_type(args.return_field.data_type().clone()))))
    }
}

impl Whole {
    /// A decimal without digits behind the point, which it has so many of.
    fn whole(&self, value: i128, scale: i8) -> Result<i128, ArrowError> {
        let unit = 10_i128.pow(u32::try_from(scale).unwrap_or(0));
        let below = value.div_euclid(unit) * unit;
        let whole = if self.up && below < value { below + unit } else { below };
        if whole.abs() < MOST {
            Ok(whole)
        } else {
            Err(ArrowError::ArithmeticOverflow("a rounded decimal has too many digits".to_owned()))
        }
    }
}

fn round_decimals(
    value: &ColumnarValue,
    digits: &ColumnarValue,
    scale: i8,
    args: &ScalarFunctionArgs,
) -> Result<ColumnarValue> {
    let values = value.to_array(args.number_rows)?;
    let digits = cast(&digits.to_array(args.number_rows)?, &DataType::Int64)?;
    let rounded = try_binary::<_, _, _, Decimal128Type>(
        values.as_primitive::<Decimal128Type>(),
        digits.as_primitive::<Int64Type>(),
        |value, digits| round_decimal(value, i64::from(scale).saturating_sub(digits)),
    )?;
    Ok(ColumnarValue::Array(Arc::new(rounded.with_data_type(args.return_field.data_type().clone()))))
}

/// A decimal whose last digits are zero: so many of them.
fn round_decimal(value: i128, zeros: i64) -> Result<i128, ArrowError> {
    match u32::try_from(zeros) {
        Err(_) | Ok(0) => Ok(if zeros > 0 { 0 } else { value }),
        Ok(zeros) => {
            let Some(unit) = 10_i128.checked_pow(zeros) else { return Ok(0) };
            let away = if (value % unit).abs() >= unit / 2 { value.signum() } else { 0 };
            let rounded = (value / unit + away).checked_mul(unit).filter(|rounded| rounded.abs() < MOST);
            rounded.ok_or_else(|| ArrowError::ArithmeticOverflow("a rounded decimal has too many digits".to_owned()))
        }
    }
}

/// So few digits for all rows that no product is too large, if the numbers are not.
fn is_usual(digits: &ColumnarValue) -> bool {
    match digits {
        ColumnarValue::Scalar(ScalarValue::Int32(Some(digits))) => *digits == 0,
        ColumnarValue::Scalar(ScalarValue::Int64(Some(digits))) => *digits == 0,
        _ => false,
    }
}

impl Rounding {
    fn round(&self, value: f64, digits: i64) -> f64 {
        let factor = 10_f64.powi(digits.clamp(-400, 400) as i32);
        let scaled = value * factor;
        if factor == 0.0 {
            return if value.is_nan() { value } else { 0.0 };
        }
        // A float that large has no digits there.
        if !scaled.is_finite() {
            return value;
        }
        (if self.nearest { scaled.round() } else { scaled.trunc() }) / factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_rounded_half_away_from_zero() {
        let rounded = |value, zeros| round_decimal(value, zeros).ok();
        assert_eq!(rounded(1250, 2), Some(1300));
        assert_eq!(rounded(-1250, 2), Some(-1300));
        assert_eq!(rounded(1249, 2), Some(1200));
        assert_eq!(rounded(1249, 0), Some(1249));
        assert_eq!(rounded(1249, -5), Some(1249));
        assert_eq!(rounded(1249, 50), Some(0));
        assert_eq!(rounded(MOST - 1, 38), None);
    }

    #[test]
    fn whole_decimals_may_have_a_digit_more() {
        let (ceil, floor) = (Whole { up: true }, Whole { up: false });
        for (value, above, below) in
            [(95, 100, 90), (-95, -90, -100), (90, 90, 90), (0, 0, 0), (5, 10, 0), (-5, 0, -10)]
        {
            assert_eq!((ceil.whole(value, 1).ok(), floor.whole(value, 1).ok()), (Some(above), Some(below)), "{value}");
        }
        assert_eq!(ceil.whole(MOST - 1, 0).ok(), Some(MOST - 1));
        assert!(ceil.whole(MOST - 1, 1).is_err() && floor.whole(1 - MOST, 1).is_err());
    }

    #[test]
    fn any_number_of_digits_gives_a_number() {
        let (round, trunc) = (Rounding { nearest: true }, Rounding { nearest: false });
        assert_eq!(round.round(1.5, 400), 1.5);
        assert_eq!(round.round(1.25, 1), 1.3);
        assert_eq!(round.round(-1.25, 1), -1.3);
        assert_eq!(round.round(155.0, -1), 160.0);
        assert_eq!(round.round(155.0, -400), 0.0);
        assert_eq!(round.round(1e300, 20), 1e300);
        assert_eq!(trunc.round(1.29, 1), 1.2);
        assert_eq!(trunc.round(-1.29, 1), -1.2);
        assert_eq!(round.round(f64::INFINITY, 2), f64::INFINITY);
        assert!(round.round(f64::NAN, -400).is_nan());
    }
}
