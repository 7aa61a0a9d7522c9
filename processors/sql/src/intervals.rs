//! A whole number of intervals, as in `row * interval '1 second'`: Arrow can compute it, but DataFusion's planner, which
//! asks for the multiplication that wraps around, finds no type for it.

use std::sync::{Arc, LazyLock};

use arrow::compute::kernels::numeric::mul;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{
    ColumnarValue, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_sql::sqlparser::ast::BinaryOperator;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

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
        Ok(ColumnarValue::Array(Arc::new(mul(&arrays[0], &arrays[1])?)))
    }
}

#[cfg(test)]
mod tests {
    use millstream_testkit::{drive, parse, table};

    use crate::sql::SqlSettings;

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
