//! Functions that nobody calls by name: each gives a value of the type that it is given.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use millstream_core::{canonical_float, canonical_floats};

/// The expression with one NaN and one zero.
pub fn canonical(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), metadata) => {
            Expr::Literal(ScalarValue::Float64(Some(canonical_float(value))), metadata)
        }
        expr if is_canonical(&expr) => expr,
        expr => CANONICAL.call(vec![expr]),
    }
}

fn is_canonical(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(ScalarFunction { func, .. }) if makes_canonical(func))
}

/// Whether a function is the one that leaves one NaN and one zero.
pub fn makes_canonical(function: &ScalarUDF) -> bool {
    *function == **CANONICAL
}

/// The value of the expression, which DataFusion does not know while it plans, only when rows come.
pub fn unfolded(expr: Expr) -> Expr {
    UNFOLDED.call(vec![expr])
}

static CANONICAL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| unnamed(Does::Canonical, Volatility::Immutable));
static UNFOLDED: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| unnamed(Does::Nothing, Volatility::Volatile));

#[derive(Debug, PartialEq, Eq, Hash)]
struct Unnamed {
    does: Does,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Does {
    /// There is one NaN and one zero.
    Canonical,
    /// The value stays as it is.
    Nothing,
}

fn unnamed(does: Does, volatility: Volatility) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Unnamed { does, signature: Signature::any(1, volatility) }))
}

impl ScalarUDFImpl for Unnamed {
    fn name(&self) -> &str {
        match self.does {
            Does::Canonical => "canonical",
            Does::Nothing => "unfolded",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(args.arg_fields[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match (self.does, &args.args[0]) {
            (Does::Nothing, value) => value.clone(),
            (Does::Canonical, ColumnarValue::Array(values)) => ColumnarValue::Array(canonical_floats(values)),
            (Does::Canonical, ColumnarValue::Scalar(value)) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&canonical_floats(&value.to_array()?), 0)?)
            }
        })
    }
}
