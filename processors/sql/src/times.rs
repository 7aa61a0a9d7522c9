//! Timestamps are microseconds, as in the rest of a flow, where DataFusion's functions give nanoseconds, which end in the year
//! 2262, or seconds, which overflow later without a word.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, Signature, TypeSignature};

use crate::changed::{Change, changed, changed_for};

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

const MICROS_PER_SECOND: i64 = 1_000_000;

/// The function as it is computed here.
pub fn in_micros(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let (per_second, truncates) = match function.name() {
        "to_timestamp" => (1, false),
        "to_timestamp_seconds" | "from_unixtime" => (1, true),
        "to_timestamp_millis" => (1000, true),
        "to_timestamp_micros" => (MICROS_PER_SECOND, true),
        "to_timestamp_nanos" => (1000 * MICROS_PER_SECOND, true),
        "date_trunc" => return changed(&function, Truncate),
        "date_bin" => return changed_for(&function, Bin, micros_first(function.signature())),
        "to_char" => return changed_for(&function, AsItIs, micros_first(function.signature())),
        _ => return function,
    };
    changed(&function, ToTimestamp { per_second, truncates })
}

/// Numbers of units since 1970, and texts, as timestamps.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToTimestamp {
    /// How many units a second has.
    per_second: i64,
    /// Whether anything below the unit is dropped.
    truncates: bool,
}

impl Change for ToTimestamp {
    const SIMPLIFIED: bool = false;

    fn returns(&self, function: &ScalarUDF, args: ReturnFieldArgs) -> Result<FieldRef> {
        // With a time zone or formats it is DataFusion's.
        match args.arg_fields {
            [_] => Ok(Arc::new(Field::new(function.name(), MICROS, true))),
            _ if function.name() == "from_unixtime" => function.return_field_from_args(args),
            _ => Ok(Arc::new(Field::new(function.name(), MICROS, true))),
        }
    }

    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else {
            let returns = args.return_field.data_type().clone();
            return function.invoke_with_args(args)?.cast_to(&returns, None);
        };
        let values = value.to_array(args.number_rows)?;
        let times = self.times(&values)?;
        Ok(ColumnarValue::Array(Arc::new(times)))
    }
}

impl ToTimestamp {
    fn times(&self, values: &ArrayRef) -> Result<TimestampMicrosecondArray> {
        let exactly = |number: i128| self.truncated(number);
        match values.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let numbers = cast(values, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>();
                numbers.iter().map(|number| number.map(|number| self.of_float(number)).transpose()).collect()
            }
            number if number.is_numeric() => {
                // A number with six digits behind the point counts microseconds, if its unit is the second.
                let numbers = cast_strictly(values, &DataType::Decimal128(38, 6))?;
                let micros = |number: i128| exactly(number.div_euclid(self.per_second.into()));
                numbers.as_primitive::<Decimal128Type>().iter().map(|number| number.map(micros).transpose()).collect()
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let texts = cast(values, &DataType::Utf8)?;
                let texts: &StringArray = texts.as_string();
                let read = |text: &str| exactly(string_to_datetime(&Utc, text)?.timestamp_micros().into());
                texts.iter().map(|text| text.map(read).transpose()).collect()
            }
            DataType::Null | DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
                let times = cast_strictly(values, &MICROS)?;
                let times = times.as_primitive::<TimestampMicrosecondType>();
                times.iter().map(|time| time.map(|time| exactly(time.into())).transpose()).collect()
            }
            other => exec_err!("{other} can't be made a timestamp"),
        }
    }

    fn of_float(&self, number: f64) -> Result<i64> {
        let micros = (number * MICROS_PER_SECOND as f64 / self.per_second as f64).round();
        // The largest int64 is no float64; what is below it is.
        if micros.abs() < i64::MAX as f64 { self.truncated(micros as i128) } else { Err(too_far(number)) }
    }

    fn truncated(&self, micros: i128) -> Result<i64> {
        let unit = if self.truncates { i128::from(MICROS_PER_SECOND / self.per_second).max(1) } else { 1 };
        let micros = i64::try_from(micros.div_euclid(unit) * unit).map_err(|_| too_far(micros))?;
        // Further away, nobody can say the date.
        DateTime::from_timestamp_micros(micros).map(|_| micros).ok_or_else(|| too_far(micros))
    }
}

fn too_far(number: impl std::fmt::Display) -> DataFusionError {
    exec_datafusion_err!("{number} is further from 1970 than a timestamp can be")
}

fn cast_strictly(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
    Ok(arrow::compute::cast_with_options(values, to, &options)?)
}

/// `date_trunc` of timestamps in UTC.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Truncate;

impl Change for Truncate {
    const SIMPLIFIED: bool = true;

    fn invoke(&self, function: &ScalarUDF, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // One way for constants and columns.
        let values = args.args[1].to_array(args.number_rows)?;
        let is_utc = |zone: &Option<Arc<str>>| zone.as_deref().is_none_or(|zone| ["UTC", "+00:00"].contains(&zone));
        let unit = match (&args.args[0], values.data_type()) {
            (ColumnarValue::Scalar(name), DataType::Timestamp(TimeUnit::Microsecond, zone)) if is_utc(zone) => {
                name.try_as_str().flatten().and_then(Unit::named)
            }
            _ => None,
        };
        let Some(unit) = unit else {
            args.args[1] = ColumnarValue::Array(values);
            return function.invoke_with_args(args);
        };
        let times = values.as_primitive::<TimestampMicrosecondType>();
        let truncated = times.try_unary::<_, TimestampMicrosecondType, _>(|time| unit.start(time))?;
        Ok(ColumnarValue::Array(Arc::new(truncated.with_data_type(values.data_type().clone()))))
    }
}

/// The signature, in which timestamps need not become nanoseconds.
fn micros_first(signature: &Signature) -> Signature {
    let TypeSignature::OneOf(all) = &signature.type_signature else { return signature.clone() };
    let in_micros = |one: &TypeSignature| match one {
        TypeSignature::Exact(types) => {
            let is_zoned = types.iter().any(|of_it| matches!(of_it, DataType::Timestamp(_, Some(_))));
            let micros = types.iter().map(|of_it| match of_it {
                DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
                other => other.clone(),
            });
            Some((!is_zoned, TypeSignature::Exact(micros.collect())))
        }
        _ => None,
    };
    let mut micros: Vec<(bool, TypeSignature)> = all.iter().filter_map(in_micros).collect();
    // With a zone first: the other way round, a zone would be lost.
    micros.sort_by_key(|(is_local, _)| *is_local);
    let all = micros.into_iter().map(|(_, one)| one).chain(all.clone());
    Signature::one_of(all.collect(), signature.volatility)
}

/// Called for other types, and nothing else.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsItIs;

impl Change for AsItIs {
    const SIMPLIFIED: bool = true;

    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        function.invoke_with_args(args)
    }
}

/// `date_bin` with a stretch of so many microseconds.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bin;

impl Change for Bin {
    const SIMPLIFIED: bool = true;

    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(of_all), Some(origin)) = (args.args.first(), origin(args.args.get(2))) else {
            return binned_by_datafusion(function, args);
        };
        let values = args.args[1].to_array(args.number_rows)?;
        let Some(times) = values.as_primitive_opt::<TimestampMicrosecondType>() else {
            return binned_by_datafusion(function, args);
        };
        let binned: TimestampMicrosecondArray = match (of_all, stretch(of_all)) {
            (_, Some(stretch)) => times.try_unary(|time| start(time, stretch, origin))?,
            (ColumnarValue::Array(of_each), None) => {
                let of_each = of_each.as_primitive::<IntervalMonthDayNanoType>();
                let start = |(time, stretch): (Option<i64>, Option<IntervalMonthDayNano>)| match (time, stretch) {
                    (Some(time), Some(stretch)) => match micros(stretch) {
                        Some(stretch) => start(time, stretch, origin).map(Some),
                        None => exec_err!("date_bin takes a stretch of days, hours or less that is longer than none"),
                    },
                    _ => Ok(None),
                };
                times.iter().zip(of_each).map(start).collect::<Result<_>>()?
            }
            (ColumnarValue::Scalar(_), None) => return binned_by_datafusion(function, args),
        };
        Ok(ColumnarValue::Array(Arc::new(binned.with_data_type(values.data_type().clone()))))
    }
}

/// The start of the stretch that a time is in.
fn start(time: i64, stretch: i64, origin: i64) -> Result<i64> {
    let into = (i128::from(time) - i128::from(origin)).rem_euclid(stretch.into());
    i64::try_from(i128::from(time) - into).map_err(|_| too_far(time))
}

/// For other stretches, such as months, DataFusion wants the origin in nanoseconds.
fn binned_by_datafusion(function: &ScalarUDF, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
    if let Some(origin) = args.args.get_mut(2)
        && let DataType::Timestamp(_, zone) = origin.data_type()
    {
        *origin = origin.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, zone), None)?;
    }
    function.invoke_with_args(args)
}

/// The microseconds of a constant interval, if that is what it has.
fn stretch(interval: &ColumnarValue) -> Option<i64> {
    match interval {
        ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(interval))) => micros(*interval),
        _ => None,
    }
}

/// The microseconds of an interval without months that is longer than none.
fn micros(interval: IntervalMonthDayNano) -> Option<i64> {
    if interval.months != 0 || interval.nanoseconds % 1000 != 0 {
        return None;
    }
    let micros = i64::from(interval.days).checked_mul(DAY)?.checked_add(interval.nanoseconds / 1000)?;
    (micros > 0).then_some(micros)
}

/// From when stretches are counted: a constant, or 1970.
fn origin(given: Option<&ColumnarValue>) -> Option<i64> {
    match given {
        None => Some(0),
        Some(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(micros, _))) => *micros,
        Some(_) => None,
    }
}

/// A stretch of time, counted from 1970 or by the calendar.
enum Unit {
    Micros(i64),
    /// From Monday on.
    Week,
    Months(u32),
}

impl Unit {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "microsecond" => Self::Micros(1),
            "millisecond" => Self::Micros(1000),
            "second" => Self::Micros(1_000_000),
            "minute" => Self::Micros(60_000_000),
            "hour" => Self::Micros(3_600_000_000),
            "day" => Self::Micros(DAY),
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            _ => return None,
        })
    }

    fn start(&self, time: i64) -> Result<i64> {
        let at_unit = |micros: i64| time.checked_sub(time.rem_euclid(micros));
        // 1970-01-01 was a Thursday.
        let week = || at_unit(DAY)?.checked_sub((time.div_euclid(DAY) + 3).rem_euclid(7) * DAY);
        let start = match self {
            Self::Micros(micros) => at_unit(*micros),
            Self::Week => week(),
            Self::Months(months) => month(time, *months),
        };
        start.ok_or_else(|| too_far(time))
    }
}

const DAY: i64 = 86_400_000_000;

/// The first day of the month, or of the so many months that it is one of.
fn month(time: i64, months: u32) -> Option<i64> {
    let date = DateTime::from_timestamp_micros(time)?.date_naive();
    let first = NaiveDate::from_ymd_opt(date.year(), date.month0() / months * months + 1, 1)?;
    Some(first.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use millstream_testkit::{drive, parse, table};

    use crate::sql::SqlSettings;

    fn run(query: &str, rows: &str) -> (String, usize) {
        let settings: SqlSettings = parse(&format!("query = '''{query}'''"));
        let driven = drive(&settings, &[("from", table(rows))], 8192);
        assert_eq!(drive(&settings, &[("from", table(rows))], 1).text("main"), driven.text("main"));
        (driven.text("main"), driven.failed.len())
    }

    #[test]
    fn numbers_that_are_too_large_fail() {
        let rows = "n:int64\n 1\n 9223372036854775807\n -9223372036854775808\n -1";
        for (call, failed) in [
            ("to_timestamp(n)", 2),
            ("to_timestamp_seconds(n)", 2),
            ("from_unixtime(n)", 2),
            ("from_unixtime(n, 'Europe/Berlin')", 2),
            ("to_timestamp_millis(n)", 2),
            ("to_timestamp_nanos(n)", 0),
            ("to_timestamp(CAST(n AS double))", 2),
            ("arrow_cast(n, 'Timestamp(Second, None)')", 2),
            ("arrow_cast(n, 'Timestamp(Millisecond, None)')", 2),
        ] {
            let (text, count) = run(&format!("SELECT {call} AS at FROM input WHERE n IS NOT NULL"), rows);
            assert_eq!(count, failed, "{call}: {text}");
            assert!(!text.contains("null"), "{call}: {text}");
        }
    }

    #[test]
    fn times_reach_as_far_as_timestamps_do() {
        let rows = "at:timestamp t:utf8\n 1500-02-03T04:05:06.789Z 3000-01-01\n 2999-12-31T23:59:59.999999Z 1400-01-01T00:00:00Z";
        let (text, failed) = run(
            "SELECT date_trunc('hour', at) AS h, date_trunc('week', at) AS w, date_trunc('quarter', at) AS q,
                    to_timestamp(t) AS t, CAST(t AS timestamp) AS c, at > timestamp '2500-01-01' AS later,
                    coalesce(at, to_timestamp(0)) AS o FROM input",
            rows,
        );
        assert_eq!(failed, 0);
        let expected = "1500-02-03T04:00:00Z 1500-01-29T00:00:00Z 1500-01-01T00:00:00Z 3000-01-01T00:00:00Z 3000-01-01T00:00:00Z false 1500-02-03T04:05:06.789Z\n\
                        2999-12-31T23:00:00Z 2999-12-30T00:00:00Z 2999-10-01T00:00:00Z 1400-01-01T00:00:00Z 1400-01-01T00:00:00Z true 2999-12-31T23:59:59.999999Z\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn texts_beside_timestamps_reach_as_far_as_these() {
        let rows = "ts:timestamp t:utf8? d:date\n 1500-02-03T04:05:06.789Z 1500-02-03T04:05:06.789Z 2500-01-01\n\
                    2999-12-31T23:59:59.999999Z null 2500-01-01";
        for (expression, expected) in [
            ("ts < '9999-12-31'", ["true", "true"]),
            ("'2300-01-01' > ts", ["true", "false"]),
            ("ts >= '2300-01-01T00:00:00Z'", ["false", "true"]),
            ("ts = t", ["true", "null"]),
            ("ts IS NOT DISTINCT FROM t", ["true", "false"]),
            ("ts BETWEEN '1400-01-01' AND '1600-01-01'", ["true", "false"]),
            ("ts IN ('1500-02-03T04:05:06.789Z', '2026-01-01')", ["true", "false"]),
            ("ts NOT IN (t, '2026-01-01')", ["false", "null"]),
            ("CASE WHEN ts < '2300-01-01' THEN 'a' ELSE 'b' END", ["a", "b"]),
            ("CASE ts WHEN '1500-02-03T04:05:06.789Z' THEN 'a' ELSE 'b' END", ["a", "b"]),
            (
                "CASE WHEN ts > '2300-01-01' THEN ts ELSE '2026-01-01' END",
                ["2026-01-01T00:00:00Z", "2999-12-31T23:59:59.999999Z"],
            ),
            ("CASE WHEN ts < '2300-01-01' THEN ts ELSE d END", ["1500-02-03T04:05:06.789Z", "2500-01-01T00:00:00Z"]),
            ("greatest(ts, '2026-01-01')", ["2026-01-01T00:00:00Z", "2999-12-31T23:59:59.999999Z"]),
            ("least(ts, '2026-01-01')", ["1500-02-03T04:05:06.789Z", "2026-01-01T00:00:00Z"]),
            ("nullif(ts, '1500-02-03T04:05:06.789Z')", ["null", "2999-12-31T23:59:59.999999Z"]),
            ("ts AT TIME ZONE 'Etc/GMT-1'", ["1500-02-03T04:05:06.789Z", "2999-12-31T23:59:59.999999Z"]),
            ("to_local_time(ts AT TIME ZONE 'Etc/GMT-1')", ["1500-02-03T05:05:06.789Z", "3000-01-01T00:59:59.999999Z"]),
            ("date_trunc('hour', ts) = '1500-02-03T04:00:00Z'", ["true", "false"]),
        ] {
            let (text, failed) = run(&format!("SELECT {expression} AS x FROM input"), rows);
            assert_eq!(failed, 0, "{expression}");
            assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expected, "{expression}");
        }
    }

    #[test]
    fn a_text_that_is_no_time_costs_its_row() {
        let rows = "ts:timestamp t:utf8\n 2026-01-01T00:00:00Z x\n 2026-01-01T00:00:00Z 2026-01-01";
        assert_eq!(run("SELECT ts = t AS x FROM input", rows), ("x:boolean\ntrue\n".to_owned(), 1));
    }

    #[test]
    fn stretches_are_counted_from_their_origin() {
        let rows = "at:timestamp\n 1600-01-01T00:20:00Z\n 2600-06-01T10:59:59.999999Z";
        let (text, failed) = run(
            "SELECT date_bin(interval '15 minutes', at) AS a,
                    date_bin(interval '1 hour', at, timestamp '2000-01-01 00:30:00') AS b FROM input",
            rows,
        );
        assert_eq!(failed, 0);
        let rows_of_today = "at:timestamp\n 2026-05-06T07:08:09Z";
        let months = "SELECT date_bin(interval '3 months', at, timestamp '2000-01-01') AS a FROM input";
        assert_eq!(run(months, rows_of_today), ("a:timestamp?\n2026-04-01T00:00:00Z\n".to_owned(), 0));
        let expected = "1600-01-01T00:15:00Z 1599-12-31T23:30:00Z\n2600-06-01T10:45:00Z 2600-06-01T10:30:00Z\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn each_row_can_have_a_stretch_of_its_own() {
        let rows = "at:timestamp n:int64?\n 2026-05-06T07:08:09Z 1\n 2026-05-06T07:08:09Z 6\n 2026-05-06T07:08:09Z null\n\
                    2026-05-06T07:08:09Z 0";
        let (text, failed) = run("SELECT date_bin(interval '1 hour' * n, at) AS a FROM input", rows);
        assert_eq!(text, "a:timestamp?\n2026-05-06T07:00:00Z\n2026-05-06T06:00:00Z\nnull\n");
        assert_eq!(failed, 1);
    }

    #[test]
    fn constants_and_columns_are_truncated_alike() {
        let rows = "at:timestamp\n 1969-12-31T23:59:58.123456Z";
        for unit in
            ["microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"]
        {
            let constant = format!("date_trunc('{unit}', timestamp '1969-12-31T23:59:58.123456')");
            let query = format!("SELECT date_trunc('{unit}', at) = {constant} AS same FROM input");
            assert_eq!(run(&query, rows).0, "same:boolean\ntrue\n", "{unit}");
        }
    }

    #[test]
    fn parts_of_a_microsecond_are_rounded_down() {
        let rows = "t:utf8 n:int64\n 1969-12-31T23:59:59.9999999Z -1";
        let (text, _) = run("SELECT to_timestamp(t) AS a, to_timestamp_nanos(n) AS b FROM input", rows);
        assert!(text.ends_with("1969-12-31T23:59:59.999999Z 1969-12-31T23:59:59.999999Z\n"), "{text}");
    }
}
