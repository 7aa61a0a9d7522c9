//! Functions whose result a number or text in a row can make as long as it likes: a row that asks for too much fails, and rows
//! that together do are computed one after the other. A negative length or number of times is none.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use millstream_core::MAX_BATCH_BYTES;

use crate::changed::{Change, changed};

/// The longest result that a row may ask for.
const MOST_BYTES: i128 = 1 << 20;

/// Where the result can only be estimated from above.
const MOST_ESTIMATED: i128 = 64 << 20;

/// The most pairs of characters that are compared for a row.
const MOST_PAIRS: i128 = 1 << 30;

/// How much a function wants for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Limit {
    /// `lpad(text, length, …)`.
    Pad,
    /// `repeat(text, times)`, `array_repeat(item, times)`.
    Repeat,
    /// `array_resize(list, length, item)`.
    Resize,
    /// `range(start, stop, step)`, with or without what stands at the sides.
    Range,
    /// `replace(text, from, to)`.
    Replace,
    /// `regexp_replace(text, pattern, to, …)`.
    ReplacePattern,
    /// `array_to_string(list, between, …)`.
    Join,
    /// `levenshtein(text, text)`.
    Compare,
}

const LIMITS: &[(&str, Limit)] = &[
    ("lpad", Limit::Pad),
    ("rpad", Limit::Pad),
    ("repeat", Limit::Repeat),
    ("array_repeat", Limit::Repeat),
    ("array_resize", Limit::Resize),
    ("range", Limit::Range),
    ("generate_series", Limit::Range),
    ("replace", Limit::Replace),
    ("regexp_replace", Limit::ReplacePattern),
    ("array_to_string", Limit::Join),
    ("levenshtein", Limit::Compare),
];

/// The function with its limit, if it needs one.
pub fn limited(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let limit = LIMITS.iter().find(|(name, _)| *name == function.name());
    limit.map_or(function.clone(), |(_, limit)| changed(&function, *limit))
}

impl Change for Limit {
    const SIMPLIFIED: bool = true;

    fn invoke(&self, function: &ScalarUDF, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let (Self::Pad | Self::Resize, Some(length)) = (self, args.args.get_mut(1)) {
            *length = at_least_zero(length)?;
        }
        let given = args.args.iter().map(Argument::new).collect::<Result<Vec<_>>>()?;
        if self.is_modest(&given) {
            return function.invoke_with_args(args);
        }
        let deciding = if *self == Self::Pad { &given[1..2.min(given.len())] } else { &given[..] };
        let rows = if deciding.iter().all(|argument| argument.is_scalar) { 1 } else { args.number_rows };
        let mut total = 0_i128;
        for row in 0..rows {
            let (wanted, most) = self.wants(&given, row);
            total = total.saturating_add(wanted);
            if wanted > most {
                return exec_err!(
                    "`{}` would take {wanted} bytes for this row, and {most} are allowed",
                    function.name()
                );
            }
        }
        // One result for all rows is made once.
        let times = if rows == 1 && !given.iter().all(|argument| argument.is_scalar) { args.number_rows } else { 1 };
        let total = total.saturating_mul(times as i128);
        if args.number_rows > 1 && total > self.most_together() {
            // Whoever called it tries half as many rows.
            return exec_err!("`{}` would take {total} bytes for {} rows", function.name(), args.number_rows);
        }
        function.invoke_with_args(args)
    }
}

impl Limit {
    /// How much the rows of a batch may want together.
    fn most_together(self) -> i128 {
        match self {
            Self::Compare => i128::MAX,
            // Mostly much less comes of it.
            Self::Replace | Self::ReplacePattern | Self::Join => 8 * MAX_BATCH_BYTES as i128,
            Self::Pad | Self::Repeat | Self::Resize | Self::Range => MAX_BATCH_BYTES as i128,
        }
    }

    /// Whether all rows together want no more than one of them may have, so that nobody has to look at each.
    fn is_modest(self, given: &[Argument]) -> bool {
        let total = |place: usize| given.get(place).map_or(0, Argument::total);
        match self {
            Self::Repeat if given.get(1).is_some_and(|times| times.is_scalar) => {
                total(0).saturating_mul(given[1].number(0)) <= MOST_BYTES
            }
            Self::Replace | Self::ReplacePattern => total(0).saturating_mul(total(2) + 1) <= MOST_ESTIMATED,
            Self::Compare => total(0).saturating_mul(total(1)) <= MOST_PAIRS,
            _ => false,
        }
    }

    /// How much a row wants, and how much it may have.
    fn wants(self, given: &[Argument], row: usize) -> (i128, i128) {
        let number = |place: usize| given.get(place).map_or(0, |argument| argument.number(row)).max(0);
        let size = |place: usize| given.get(place).map_or(1, |argument| argument.size(row));
        let length = |place: usize| given.get(place).map_or(0, |argument| argument.size(row));
        match self {
            Self::Pad => (number(1), MOST_BYTES),
            Self::Repeat => (number(1) * size(0).max(1), MOST_BYTES),
            Self::Resize => (number(1) * size(2).max(8), MOST_BYTES),
            Self::Range => (range(given, row) * 8, MOST_BYTES),
            Self::Replace | Self::ReplacePattern => {
                let places = length(0) / if self == Self::Replace { length(1).max(1) } else { 1 } + 1;
                (length(0) + places * length(2), MOST_ESTIMATED)
            }
            Self::Join => (length(0) + length(0) * length(1), MOST_ESTIMATED),
            Self::Compare => (length(0) * length(1), MOST_PAIRS),
        }
    }
}

/// How many items a range has.
fn range(given: &[Argument], row: usize) -> i128 {
    let (start, stop) = match given {
        [stop] => (0, stop.number(row)),
        [start, stop, ..] => (start.number(row), stop.number(row)),
        [] => (0, 0),
    };
    let step = given.get(2).map_or(1, |step| step.number(row)).abs().max(1);
    (stop - start).abs() / step + 1
}

/// An argument: one value for all rows, or one for each.
struct Argument {
    values: ArrayRef,
    is_scalar: bool,
}

impl Argument {
    fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(values) => Self { values: as_numbers(values)?, is_scalar: false },
            ColumnarValue::Scalar(value) => Self { values: as_numbers(&value.to_array()?)?, is_scalar: true },
        })
    }

    fn row(&self, row: usize) -> usize {
        if self.is_scalar { 0 } else { row }
    }

    fn number(&self, row: usize) -> i128 {
        let row = self.row(row);
        match self.values.data_type() {
            DataType::Int64 if self.values.is_valid(row) => self.values.as_primitive::<Int64Type>().value(row).into(),
            DataType::Interval(IntervalUnit::MonthDayNano) if self.values.is_valid(row) => {
                let step = self.values.as_primitive::<IntervalMonthDayNanoType>().value(row);
                let days = i128::from(step.months) * 28 + i128::from(step.days);
                days * 86_400_000_000_000 + i128::from(step.nanoseconds)
            }
            _ => 0,
        }
    }

    fn size(&self, row: usize) -> i128 {
        size(&self.values, self.row(row))
    }

    /// The bytes of all texts; more than anything, of other values.
    fn total(&self) -> i128 {
        match self.values.data_type() {
            DataType::Utf8 => self.values.as_string::<i32>().value_offsets().last().map_or(0, |end| (*end).into()),
            _ => i128::from(i64::MAX),
        }
    }
}

/// A length, or none instead of a negative one, of which DataFusion makes the largest number that there is.
fn at_least_zero(length: &ColumnarValue) -> Result<ColumnarValue> {
    Ok(match length {
        ColumnarValue::Scalar(ScalarValue::Int64(Some(length))) => {
            ColumnarValue::Scalar(ScalarValue::Int64(Some((*length).max(0))))
        }
        ColumnarValue::Array(lengths) if lengths.data_type() == &DataType::Int64 => {
            let lengths = lengths.as_primitive::<Int64Type>();
            if lengths.values().iter().all(|length| *length >= 0) {
                return Ok(length.clone());
            }
            ColumnarValue::Array(Arc::new(lengths.unary::<_, Int64Type>(|length| length.max(0))))
        }
        other => other.clone(),
    })
}

/// Integers as `int64`; dates and times as nanoseconds, so that they can be set against intervals.
fn as_numbers(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(match values.data_type() {
        integer if integer.is_integer() => cast(values, &DataType::Int64)?,
        DataType::Date32 | DataType::Timestamp(_, _) => {
            let nanos = cast(values, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
            cast(&nanos, &DataType::Int64)?
        }
        _ => values.clone(),
    })
}

/// About how many bytes a value has.
fn size(values: &ArrayRef, row: usize) -> i128 {
    if values.is_null(row) {
        return 1;
    }
    match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().value(row).len() as i128,
        DataType::LargeUtf8 => values.as_string::<i64>().value(row).len() as i128,
        DataType::Utf8View => values.as_string_view().value(row).len() as i128,
        DataType::List(_) => {
            let items = values.as_list::<i32>().value(row);
            (0..items.len()).map(|item| size(&items, item)).sum::<i128>() + 8
        }
        DataType::Struct(_) => values.as_struct().columns().iter().map(|field| size(field, row)).sum(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use millstream_testkit::{drive, parse, table};

    use crate::halve::OUT_OF_REACH;
    use crate::sql::SqlSettings;

    #[test]
    fn a_row_that_asks_for_too_much_fails() {
        let rows = table(
            "id:int64 n:int64 t:utf8 at:timestamp\n 1 3 ab 2026-01-01T00:00:00Z\n 2 100000000000 ab 2026-01-01T00:00:00Z\n 3 5 b 2026-01-01T00:00:00Z",
        );
        for call in [
            "lpad(t, n)",
            "rpad(t, n, 'xy')",
            "repeat(t, n)",
            "repeat(repeat(t, CAST(n / 1000000 AS int)), 1000000 * CAST(n / 100000000000 AS int))",
            "array_repeat(t, n)",
            "array_repeat([n, n], n)",
            "array_resize([1], n)",
            "array_resize([1], n, 7)",
            "generate_series(1, n)",
            "range(n)",
            "range(n, 0, -1)",
            "list_repeat(1, n)",
        ] {
            let settings: SqlSettings = parse(&format!(
                "query = '''SELECT id, cardinality([1]) AS one FROM (SELECT id, {call} AS r FROM input) WHERE r IS NOT NULL'''"
            ));
            for batch_rows in [1, 3] {
                let driven = drive(&settings, &[("from", rows.clone())], batch_rows);
                assert_eq!(driven.failed.len(), 1, "{call}: {:?}", driven.failed);
                assert!(driven.failed[0].row.contains("100000000000"), "{call}");
                assert!(driven.failed[0].error.contains("for this row"), "{call}: {}", driven.failed[0].error);
            }
        }
    }

    #[test]
    fn negative_lengths_are_none() {
        let rows = table("n:int64 t:utf8\n -1 ab\n -9223372036854775808 ab\n 1 ab\n 0 ab");
        for (call, expected) in [
            ("lpad(t, n)", ["\"\"", "\"\"", "a", "\"\""]),
            ("lpad('x', n)", ["\"\"", "\"\"", "x", "\"\""]),
            ("rpad(t, n, 'xy')", ["\"\"", "\"\"", "a", "\"\""]),
            ("lpad(t, CAST(n AS int64), 'é')", ["\"\"", "\"\"", "a", "\"\""]),
            ("lpad(t, -3)", ["\"\""; 4]),
            ("repeat(t, n)", ["\"\"", "\"\"", "ab", "\"\""]),
            ("cardinality(array_resize([1, 2], n))", ["0", "0", "1", "0"]),
            ("cardinality(array_repeat(t, n))", ["0", "0", "1", "0"]),
        ] {
            let settings: SqlSettings = parse(&format!("query = '''SELECT {call} AS r FROM input'''"));
            for batch_rows in [1, 4] {
                let driven = drive(&settings, &[("from", rows.clone())], batch_rows);
                let text = driven.text("main");
                assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expected, "{call}: {:?}", driven.failed);
            }
        }
    }

    #[test]
    fn no_count_makes_a_function_panic() {
        let numbers = "-9223372036854775808 -2147483649 -2147483648 -2 -1 0 1 2 2147483648 9223372036854775807";
        let lines: String = numbers.split(' ').map(|n| format!("\n {n} äbc 1.5")).collect();
        let rows = table(&format!("n:int64 t:utf8 x:float64{lines}"));
        for call in [
            "array_element([1, 2], n)",
            "array_length([1, 2], n)",
            "array_remove_n([1, 1, 2], 1, n)",
            "array_repeat(1, n)",
            "array_replace_n([1, 1, 2], 1, 3, n)",
            "array_resize([1], n)",
            "array_slice([1, 2, 3], n, 2)",
            "array_slice([1, 2, 3], 1, n)",
            "array_slice([1, 2, 3], 1, 3, n)",
            "chr(n)",
            "factorial(n)",
            "gcd(n, 6)",
            "generate_series(n, 3)",
            "generate_series(1, 3, n)",
            "lcm(n, 6)",
            "left(t, n)",
            "lpad('x', n)",
            "lpad(t, n, 'é')",
            "n % -1",
            "n / -1",
            "n << n",
            "n >> n",
            "overlay(t PLACING 'x' FROM n)",
            "overlay(t PLACING 'x' FROM 1 FOR n)",
            "power(n, n)",
            "range(n)",
            "range(1, n)",
            "regexp_count(t, 'b', n)",
            "regexp_instr(t, 'b', n)",
            "regexp_instr(t, 'b', 1, n)",
            "repeat('x', n)",
            "right(t, n)",
            "round(x, CAST(n AS int))",
            "rpad('x', n)",
            "rpad(t, n, 'é')",
            "split_part(t, 'b', n)",
            "substr(t, n)",
            "substr(t, 1, n)",
            "substr(t, n, n)",
            "substr_index(t, 'b', n)",
            "to_hex(n)",
            "trunc(x, n)",
            "abs(n)",
            "- n",
        ] {
            for text in ["t", "'äbc'"] {
                let call = call.replace("(t", &format!("({text}"));
                let settings: SqlSettings = parse(&format!("query = '''SELECT {call} AS r FROM input'''"));
                let driven = drive(&settings, &[("from", rows.clone())], 8192);
                let panics = driven.failed.iter().filter(|row| row.error.contains(OUT_OF_REACH));
                assert_eq!(panics.map(|row| row.row.clone()).collect::<Vec<_>>(), [""; 0], "{call}");
            }
        }
    }

    #[test]
    fn long_texts_that_replace_short_ones_are_limited_too() {
        let long = "x".repeat(50_000);
        let rows = table(&format!("t:utf8\n {long}\n a"));
        for call in
            ["replace(t, 'x', t)", "regexp_replace(t, 'x', t, 'g')", "array_to_string(string_to_array(t, NULL), t)"]
        {
            let settings: SqlSettings = parse(&format!("query = '''SELECT {call} AS r FROM input'''"));
            let driven = drive(&settings, &[("from", rows.clone())], 2);
            assert_eq!(driven.failed.len(), 1, "{call}");
        }
    }
}
