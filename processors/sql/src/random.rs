//! Random numbers that are functions of the row: the same for one seed, call and row, however rows are cut.
//!
//! Every call in an expression is given two more arguments, the number of the row and the key of the call's own stream.
//! To DataFusion it is then a function like any other, which it may compute for some rows of a batch only.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion_common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion_expr::type_coercion::binary::type_union_resolution;
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Value, VisitMut, VisitorMut,
};
use twox_hash::XxHash3_64;

/// The column with the number of the row.
pub const ROW: &str = "row";

/// The random functions.
pub const NAMES: &[&str] = &["random", "random_normal", "random_int", "random_choice"];

/// The random function of that name, in whatever case.
pub fn function(name: &str) -> Option<Arc<ScalarUDF>> {
    let place = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    Some(FUNCTIONS[place].clone())
}

static FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let draws = [Draw::Uniform, Draw::Normal, Draw::Int, Draw::Choice];
    let named = NAMES.iter().zip(draws).map(|(name, draw)| Random {
        name,
        draw,
        signature: Signature::user_defined(Volatility::Immutable),
    });
    named.map(|function| Arc::new(ScalarUDF::new_from_impl(function))).collect()
});

/// Gives each random call of an expression a stream of its own, which follows from the seed, the column's name and the
/// call's place among those of the column.
pub fn give_streams(expression: &mut Expr, seed: u64, column: &str) {
    let _ = expression.visit(&mut Streams { column: XxHash3_64::oneshot_with_seed(seed, column.as_bytes()), calls: 0 });
}

struct Streams {
    column: u64,
    calls: u64,
}

impl VisitorMut for Streams {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(call) = expr
            && function(&call.name.to_string()).is_some()
            && let FunctionArguments::List(arguments) = &mut call.args
        {
            let stream = self.column.wrapping_add(self.calls);
            self.calls += 1;
            let hidden = [Expr::Identifier(Ident::new(ROW)), Expr::value(Value::Number(stream.to_string(), false))];
            let hidden = hidden.map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)));
            arguments.args.splice(0..0, hidden);
        }
        ControlFlow::Continue(())
    }
}

/// How many arguments [`give_streams`] adds.
const HIDDEN: usize = 2;

/// A random function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Random {
    name: &'static str,
    draw: Draw,
    signature: Signature,
}

/// What a random function draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Draw {
    /// A number from 0 to 1, without 1.
    Uniform,
    /// A number of the standard normal distribution.
    Normal,
    /// An integer of a range.
    Int,
    /// One of some values.
    Choice,
}

impl ScalarUDFImpl for Random {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("`return_field_from_args` says it")
    }

    /// Refuses nothing: [`Self::return_field_from_args`] does, whose messages reach people as they are.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let given = types.get(HIDDEN..).unwrap_or_default();
        let wanted = match self.draw {
            Draw::Int if given.iter().all(is_integer) => Some(DataType::Int64),
            Draw::Choice => type_union_resolution(given),
            _ => None,
        };
        let given = given.iter().map(|given| wanted.as_ref().unwrap_or(given).clone());
        Ok([DataType::Int64, DataType::UInt64].into_iter().chain(given).collect())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let given = args.arg_fields.get(HIDDEN..).unwrap_or_default();
        let data_type = match (self.draw, given) {
            (Draw::Uniform | Draw::Normal, []) => DataType::Float64,
            (Draw::Uniform | Draw::Normal, _) => {
                return plan_err!("`{0}` is called without arguments: `{0}()`", self.name);
            }
            (Draw::Int, [low, high]) if is_integer(low.data_type()) && is_integer(high.data_type()) => DataType::Int64,
            (Draw::Int, _) => {
                return plan_err!("`random_int` takes the least and the greatest integer: `random_int(1, 6)`");
            }
            (Draw::Choice, [first, others @ ..])
                if others.iter().all(|other| other.data_type() == first.data_type()) =>
            {
                first.data_type().clone()
            }
            (Draw::Choice, _) => {
                return plan_err!("`random_choice` takes values of one type: `random_choice('a', 'b')`");
            }
        };
        let nullable = given.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, data_type, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [row, ColumnarValue::Scalar(ScalarValue::UInt64(Some(stream))), given @ ..] = args.args.as_slice() else {
            return internal_err!("{} has no stream", self.name);
        };
        let rows = row.to_array(args.number_rows)?;
        let rows = rows.as_primitive::<Int64Type>().values();
        let drawn: ArrayRef = match self.draw {
            Draw::Uniform => {
                Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| uniform(bits(*stream, *row)))))
            }
            Draw::Normal => Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| normal(*stream, *row)))),
            Draw::Int => Arc::new(integers(*stream, rows, given)?),
            Draw::Choice => choices(*stream, rows, given)?,
        };
        Ok(ColumnarValue::Array(drawn))
    }
}

fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer()
}

/// 64 random bits.
fn bits(stream: u64, row: i64) -> u64 {
    XxHash3_64::oneshot_with_seed(stream, &row.to_le_bytes())
}

/// A number from 0 to 1, without 1.
fn uniform(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// By Box and Muller. libm's functions give the same bits on every machine.
fn normal(stream: u64, row: i64) -> f64 {
    let (radius, angle) = (uniform(bits(stream, row)), uniform(bits(!stream, row)));
    libm::sqrt(-2.0 * libm::log(1.0 - radius)) * libm::cos(std::f64::consts::TAU * angle)
}

/// A number below `count`. The share of each differs from that of the others by less than `count` in 2^64.
fn below(bits: u64, count: u128) -> u128 {
    (u128::from(bits) * count) >> 64
}

fn integers(stream: u64, rows: &[i64], range: &[ColumnarValue]) -> Result<Int64Array> {
    let [low, high] = range else { return internal_err!("random_int has no range") };
    let (low, high) = (low.to_array(rows.len())?, high.to_array(rows.len())?);
    let (low, high) = (low.as_primitive::<Int64Type>(), high.as_primitive::<Int64Type>());
    let draw = |((row, low), high): ((&i64, Option<i64>), Option<i64>)| match (low, high) {
        (Some(low), Some(high)) if low > high => exec_err!("`random_int` has nothing to choose from {low} to {high}"),
        (Some(low), Some(high)) => {
            let count = (i128::from(high) - i128::from(low)) as u128 + 1;
            Ok(Some((i128::from(low) + below(bits(stream, *row), count) as i128) as i64))
        }
        _ => Ok(None),
    };
    rows.iter().zip(low).zip(high).map(draw).collect()
}

fn choices(stream: u64, rows: &[i64], values: &[ColumnarValue]) -> Result<ArrayRef> {
    let arrays = values.iter().map(|value| match value {
        ColumnarValue::Array(array) => Ok(array.clone()),
        ColumnarValue::Scalar(scalar) => scalar.to_array(),
    });
    let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
    let places = rows.iter().enumerate().map(|(place, row)| {
        let choice = below(bits(stream, *row), values.len() as u128) as usize;
        (choice, if matches!(values[choice], ColumnarValue::Scalar(_)) { 0 } else { place })
    });
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    Ok(interleave(&arrays, &places.collect::<Vec<_>>())?)
}
