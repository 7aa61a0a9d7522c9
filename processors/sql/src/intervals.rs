//! A whole number of intervals, as in `row * interval '1 second'`: Arrow can compute it, but DataFusion's planner, which
//! asks for the multiplication that wraps around, finds no type for it.

use std::sync::{Arc, LazyLock};

use arrow::array::IntervalMonthDayNanoArray;
use arrow::array::cast::AsArray;
use arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion_common::{DFSchema, Result, exec_err};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{
    ColumnarValue, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_sql::sqlparser::ast::BinaryOperator;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// An interval that is written with so many hours, minutes or seconds that their nanoseconds don't fit into one: with days
/// instead, which in a flow have 24 hours. None for all others.
pub fn in_days(written: &str) -> Option<String> {
    const MOST_SECONDS: i128 = i64::MAX as i128 / 1_000_000_000;
    const DAY: i128 = 86_400;
    let words: Vec<&str> = written.split_whitespace().collect();
    let (mut others, mut days, mut seconds) = (Vec::new(), 0_i128, 0_i128);
    for pair in words.chunks(2) {
        let [number, unit] = pair else { return None };
        let number = || number.parse::<i64>().ok().map(i128::from);
        match unit.to_lowercase().trim_end_matches('s') {
            "day" => days += number()?,
            "hour" => seconds += number()? * 3600,
            "minute" => seconds += number()? * 60,
            "second" => seconds += number()?,
            _ => others.push(pair.join(" ")),
        }
    }
    if seconds.abs() <= MOST_SECONDS {
        return None;
    }
    others.push(format!("{} days {} seconds", days + seconds / DAY, seconds % DAY));
    Some(others.join(" "))
}

/// Turns products of integers and intervals into calls of a function.
#[derive(Debug)]
pub struct IntervalPlanner;

impl ExprPlanner for IntervalPlanner {
    fn plan_binary_op(&self, product: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if product.op != BinaryOperator::Multiply {
            return Ok(PlannerResult::Original(product));
        }
        let (left, right) = (product.left.get_type(schema)?, product.right.get_type(schema)?);
        Ok(match (left, right) {
            (INTERVAL, number) if number.is_integer() => {
                PlannerResult::Planned(TIMES.call(vec![product.left, product.right]))
            }
            (number, INTERVAL) if number.is_integer() => {
                PlannerResult::Planned(TIMES.call(vec![product.right, product.left]))
            }
            _ => PlannerResult::Original(product),
        })
    }
}

static TIMES: LazyLock<ScalarUDF> = LazyLock::new(|| {
    let signature = Signature::exact(vec![INTERVAL, DataType::Int64], Volatility::Immutable);
    ScalarUDF::new_from_impl(Times { signature })
});

/// An interval, so many times.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Times {
    signature: Signature,
}

impl ScalarUDFImpl for Times {
    fn name(&self) -> &str {
        "times"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), INTERVAL, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (intervals, numbers) =
            (arrays[0].as_primitive::<IntervalMonthDayNanoType>(), arrays[1].as_primitive::<Int64Type>());
        let products: Result<IntervalMonthDayNanoArray> = intervals
            .iter()
            .zip(numbers)
            .map(|pair| match pair {
                (Some(interval), Some(number)) => times(interval, number).map(Some),
                _ => Ok(None),
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(products?)))
    }
}

/// An interval, so many times. Nanoseconds that are too many for an interval become days, which in a flow have 24 hours.
fn times(interval: IntervalMonthDayNano, number: i64) -> Result<IntervalMonthDayNano> {
    const DAY: i128 = 86_400_000_000_000;
    let product = |part: i64| i128::from(part) * i128::from(number);
    let nanos = product(interval.nanoseconds);
    let (more_days, nanos) = if i64::try_from(nanos).is_ok() { (0, nanos) } else { (nanos / DAY, nanos % DAY) };
    let months = i32::try_from(product(interval.months.into()));
    let days = i32::try_from(product(interval.days.into()) + more_days);
    match (months, days, i64::try_from(nanos)) {
        (Ok(months), Ok(days), Ok(nanos)) => Ok(IntervalMonthDayNano::new(months, days, nanos)),
        _ => exec_err!("{number} times an interval is longer than an interval can be"),
    }
}

#[cfg(test)]
mod tests {
    use millstream_testkit::{drive, parse, table};

    use crate::sql::SqlSettings;

    #[test]
    fn intervals_may_be_longer_than_their_nanoseconds() {
        let query = "SELECT at + n * interval '1 second' AS a, at - interval '1 second' * n AS b,
            timestamp '2026-01-01' + interval '2700000 hours' AS c, at - interval '1 day 2700001 hours' AS d FROM input";
        let settings: SqlSettings = parse(&format!("query = \"\"\"{query}\"\"\""));
        let rows = table(
            "n:int64? at:timestamp
             10000000000 2026-01-31T00:00:00Z
             null 2026-01-31T00:00:00Z
             9223372036854775807 2026-01-31T00:00:00Z",
        );
        let driven = drive(&settings, &[("from", rows)], 8192);
        // As by Python's `datetime` and `timedelta`.
        let expected = "2342-12-21T17:46:40Z 1709-03-13T06:13:20Z 2334-01-07T00:00:00Z 1718-01-24T23:00:00Z\n\
                        null null 2334-01-07T00:00:00Z 1718-01-24T23:00:00Z\n";
        assert!(driven.text("main").ends_with(expected), "{}", driven.text("main"));
        assert_eq!(driven.failed.len(), 1);
    }

    #[test]
    fn integers_times_intervals() {
        let settings: SqlSettings = parse(
            "query = \"SELECT at + n * interval '90 minutes' AS a, at + interval '1 month' * (n - 1) AS b FROM input\"",
        );
        let rows = table("n:int32? at:timestamp\n 2 2026-01-31T00:00:00Z\n null 2026-01-31T00:00:00Z");
        let expected = "a:timestamp? b:timestamp?\n2026-01-31T03:00:00Z 2026-02-28T00:00:00Z\nnull null\n";
        assert_eq!(drive(&settings, &[("from", rows)], 1).text("main"), expected);
    }
}
