//! Functions of floats that give the same bits on every processor: computed by the crate libm, which is plain code, where
//! DataFusion asks the C library, whose results depend on the instructions that the processor has.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Float64Array};
use arrow::compute::{cast, try_binary, unary};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

use crate::changed::{Change, changed};

type OfOne = fn(f64) -> f64;
type OfTwo = fn(f64, f64) -> Result<f64, ArrowError>;

/// Functions of one number.
const OF_ONE: &[(&str, OfOne)] = &[
    ("acos", libm::acos),
    ("acosh", libm::acosh),
    ("asin", libm::asin),
    ("asinh", libm::asinh),
    ("atan", libm::atan),
    ("atanh", libm::atanh),
    ("cbrt", libm::cbrt),
    ("cos", libm::cos),
    ("cosh", libm::cosh),
    ("cot", |x| 1.0 / libm::tan(x)),
    ("exp", libm::exp),
    ("ln", libm::log),
    ("log10", libm::log10),
    ("log2", libm::log2),
    ("sin", libm::sin),
    ("sinh", libm::sinh),
    ("tan", libm::tan),
    ("tanh", libm::tanh),
];

/// Functions of two numbers. `log` with one argument has base 10.
const OF_TWO: &[(&str, OfTwo)] = &[("atan2", |y, x| Ok(libm::atan2(y, x))), ("log", log), ("power", power)];

/// The function as it is computed here.
pub fn portable(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let of_one = OF_ONE.iter().position(|(name, _)| *name == function.name()).map(Portable::OfOne);
    let of_two = || OF_TWO.iter().position(|(name, _)| *name == function.name()).map(Portable::OfTwo);
    of_one.or_else(of_two).map_or(function.clone(), |portable| changed(&function, portable))
}

fn log(base: f64, x: f64) -> Result<f64, ArrowError> {
    Ok(match base {
        10.0 => libm::log10(x),
        2.0 => libm::log2(x),
        base => libm::log(x) / libm::log(base),
    })
}

fn power(base: f64, exponent: f64) -> Result<f64, ArrowError> {
    if base == 0.0 && exponent < 0.0 {
        return Err(ArrowError::ComputeError("zero raised to a negative power is undefined".to_owned()));
    }
    Ok(libm::pow(base, exponent))
}

/// The place of a function in [`OF_ONE`] or [`OF_TWO`].
#[derive(Debug, PartialEq, Eq, Hash)]
enum Portable {
    OfOne(usize),
    OfTwo(usize),
}

impl Change for Portable {
    const SIMPLIFIED: bool = false;

    fn invoke(&self, _: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = match self {
            Self::OfOne(place) => of_one(OF_ONE[*place].1, &args)?,
            Self::OfTwo(place) => of_two(OF_TWO[*place].1, &args)?,
        };
        Ok(ColumnarValue::Array(cast(&values, args.return_field.data_type())?))
    }
}

fn of_one(function: OfOne, args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let values = args.args[0].to_array(args.number_rows)?;
    Ok(match values.data_type() {
        DataType::Float64 => Arc::new(unary::<_, _, Float64Type>(values.as_primitive::<Float64Type>(), function)),
        DataType::Float32 => Arc::new(unary::<_, _, Float32Type>(values.as_primitive::<Float32Type>(), |value| {
            function(value.into()) as f32
        })),
        _ => Arc::new(unary::<_, _, Float64Type>(floats(&values)?.as_primitive::<Float64Type>(), function)),
    })
}

fn of_two(function: OfTwo, args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let numbers = |place: usize| -> Result<Float64Array> {
        Ok(floats(&args.args[place].to_array(args.number_rows)?)?.as_primitive::<Float64Type>().clone())
    };
    Ok(Arc::new(match args.args.as_slice() {
        [_] => numbers(0)?.try_unary::<_, Float64Type, _>(|x| function(10.0, x))?,
        _ => try_binary::<_, _, _, Float64Type>(&numbers(0)?, &numbers(1)?, function)?,
    }))
}

fn floats(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(cast(values, &DataType::Float64)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use arrow::array::{Array, RecordBatch};
    use millstream_testkit::{drive, parse, table};
    use twox_hash::XxHash3_64;

    use super::*;
    use crate::sql::SqlSettings;

    fn numbers() -> RecordBatch {
        let spread = |row: u64| f64::from_bits(0x3fe0_0000_0000_0000 + row * 0x0000_2345_6789_abcd) - 0.3;
        let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..20_000).map(spread)));
        RecordBatch::try_from_iter([("x", x)]).unwrap()
    }

    /// The hash of all bits that all functions give.
    fn hash() -> u64 {
        let calls = OF_ONE.iter().map(|(name, _)| format!("{name}(x) AS {name}"));
        let calls =
            calls.chain(["atan2(x, 3) AS atan2", "log(3, x) AS log", "power(x, 1.7) AS power"].map(str::to_owned));
        let settings: SqlSettings =
            parse(&format!("query = 'SELECT {} FROM input'", calls.collect::<Vec<_>>().join(", ")));
        let driven = drive(&settings, &[("from", numbers())], 8192);
        assert!(driven.failed.is_empty());
        let columns = driven.ports["main"].iter().flat_map(RecordBatch::columns);
        columns.fold(0, |hash, column| {
            let bytes = column.as_primitive::<Float64Type>().values().inner().slice(column.offset() * 8);
            XxHash3_64::oneshot_with_seed(hash, bytes.as_slice())
        })
    }

    const FILE: &str = "MILLSTREAM_TEST_BITS";

    #[test]
    fn bits_do_not_depend_on_the_processor() {
        if let Ok(file) = std::env::var(FILE) {
            return std::fs::write(file, hash().to_string()).unwrap();
        }
        let file = std::env::temp_dir().join(format!("millstream-bits-{}", std::process::id()));
        let test = "portable::tests::bits_do_not_depend_on_the_processor";
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact"])
            .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-FMA,-AVX2")
            .env(FILE, &file)
            .output();
        assert!(child.unwrap().status.success());
        let without = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(without, hash().to_string());
    }

    #[test]
    fn functions_give_what_they_are_called() {
        let rows = table("x:float64? n:int64 f:float32\n 1 100 0.5\n null 8 2");
        let settings: SqlSettings = parse(
            "query = 'SELECT exp(x) AS e, log(n) AS l10, log(2, n) AS l2, power(n, 2) AS p, ln(f) AS f, atan2(x, 1) AS a FROM input'",
        );
        let expected = "e:float64? l10:float64? l2:float64? p:float64? f:float32? a:float64?\n\
                        2.7182818284590455 2.0 6.643856189774724 10000.0 -0.6931472 0.7853981633974483\n\
                        null 0.9030899869919435 3.0 64.0 0.6931472 null\n";
        assert_eq!(drive(&settings, &[("from", rows)], 1).text("main"), expected);
    }
}
