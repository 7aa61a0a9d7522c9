//! `round` and `trunc` of floats to any number of digits. DataFusion multiplies by more than a float can hold, and gives NaN.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::compute::{cast, try_binary};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

use crate::changed::{Change, changed};

/// The function as it is computed here.
pub fn any_digits(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match function.name() {
        "round" => changed(&function, Rounding { nearest: true }),
        "trunc" => changed(&function, Rounding { nearest: false }),
        _ => function,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounding {
    /// To the nearest number, half away from zero, or else towards zero.
    nearest: bool,
}

impl Change for Rounding {
    const SIMPLIFIED: bool = true;

    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, digits] = args.args.as_slice() else { return function.invoke_with_args(args) };
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
