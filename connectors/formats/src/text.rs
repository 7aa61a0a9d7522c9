//! Text to values: what CSV cells, and JSON strings and numbers, stand for.
//!
//! Stricter than Arrow's casts where those lose something: digits that a decimal or an integer has no place for, and
//! timestamps that could mean any time zone, refuse the cell.

use std::sync::Arc;

use arrow::array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, NaiveDateTime, TimeZone as _};
use millstream_core::{DAY_MICROS, type_name};

/// The time zone of text timestamps without an offset: `"Europe/Berlin"`, `"+02:00"`.
pub type Timezone = Tz;

/// Reads the name of a time zone; the error says what would be right.
pub fn parse_timezone(name: &str) -> Result<Timezone, String> {
    name.parse().map_err(|_| format!("there is no time zone `{name}`; names are such as `Europe/Berlin` or `+02:00`"))
}

/// How texts stand for dates and timestamps.
#[derive(Clone, Debug, Default)]
pub struct Moments {
    /// Where timestamps are from that have no offset. They are bad without one.
    pub timezone: Option<Timezone>,
    /// How dates are written, in the language of `strftime`; otherwise in ISO 8601.
    pub date: Option<Arc<str>>,
    /// How timestamps are written.
    pub timestamp: Option<Arc<str>>,
}

/// Checks how dates or timestamps are written; the error says what would be right.
pub fn check_moment_format(format: &str) -> Result<(), String> {
    match StrftimeItems::new(format).any(|item| matches!(item, Item::Error)) {
        false => Ok(()),
        true => Err(format!("`{format}` is no format of dates and times; formats are such as `%d.%m.%Y %H:%M:%S`")),
    }
}

/// Whether text can stand for values of a type at all.
pub(crate) fn has_text(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::List(_) | DataType::Struct(_))
}

/// How the text of one column is read.
#[derive(Clone, Debug)]
pub(crate) struct TextColumn {
    data_type: DataType,
    /// Timestamps are integers of this unit.
    unit: Option<TimeUnit>,
    moments: Moments,
}

impl TextColumn {
    pub(crate) fn new(data_type: DataType, unit: Option<TimeUnit>, moments: &Moments) -> Self {
        Self { data_type, unit, moments: moments.clone() }
    }

    /// The values of `cells`; a cell that stands for none is refused with its row, and its place is null.
    ///
    /// # Panics
    /// On types that have no text, see [`has_text`].
    pub(crate) fn decode<'a>(
        &self,
        cells: impl Iterator<Item = Option<&'a str>>,
        rows: usize,
        refuse: &mut dyn FnMut(usize, &str),
    ) -> ArrayRef {
        match &self.data_type {
            DataType::Utf8 => texts(cells, rows),
            DataType::Binary => binary(cells, refuse),
            DataType::Boolean => booleans(cells, rows, refuse),
            DataType::Int8 => Arc::new(values::<Int8Type>(cells, rows, refuse, whole::<Int8Type>)),
            DataType::Int16 => Arc::new(values::<Int16Type>(cells, rows, refuse, whole::<Int16Type>)),
            DataType::Int32 => Arc::new(values::<Int32Type>(cells, rows, refuse, whole::<Int32Type>)),
            DataType::Int64 => Arc::new(values::<Int64Type>(cells, rows, refuse, whole::<Int64Type>)),
            DataType::UInt8 => Arc::new(values::<UInt8Type>(cells, rows, refuse, whole::<UInt8Type>)),
            DataType::UInt16 => Arc::new(values::<UInt16Type>(cells, rows, refuse, whole::<UInt16Type>)),
            DataType::UInt32 => Arc::new(values::<UInt32Type>(cells, rows, refuse, whole::<UInt32Type>)),
            DataType::UInt64 => Arc::new(values::<UInt64Type>(cells, rows, refuse, whole::<UInt64Type>)),
            DataType::Float32 => Arc::new(values::<Float32Type>(cells, rows, refuse, Float32Type::parse)),
            DataType::Float64 => Arc::new(values::<Float64Type>(cells, rows, refuse, Float64Type::parse)),
            DataType::Date32 => match &self.moments.date {
                None => Arc::new(values::<Date32Type>(cells, rows, refuse, date)),
                Some(format) => {
                    let parse = |text: &str| Date32Type::parse_formatted(text, format);
                    Arc::new(values::<Date32Type>(cells, rows, refuse, parse))
                }
            },
            DataType::Time64(_) => Arc::new(values::<Time64MicrosecondType>(cells, rows, refuse, time_of_day)),
            DataType::Timestamp(_, _) => self.timestamps(cells, rows, refuse),
            DataType::Decimal128(precision, scale) => {
                let parse = |text: &str| decimal(text, *precision, *scale);
                let array = values::<Decimal128Type>(cells, rows, refuse, parse);
                Arc::new(array.with_data_type(self.data_type.clone()))
            }
            other => unreachable!("{other} has no text"),
        }
    }

    fn timestamps<'a>(
        &self,
        cells: impl Iterator<Item = Option<&'a str>>,
        rows: usize,
        refuse: &mut dyn FnMut(usize, &str),
    ) -> ArrayRef {
        let utc = UTC.parse().expect("UTC is a time zone");
        let Moments { timezone, timestamp: format, .. } = &self.moments;
        let zone = timezone.unwrap_or(utc);
        let array = values::<TimestampMicrosecondType>(cells, rows, refuse, |text| match (self.unit, format) {
            (Some(unit), _) => text.trim().parse().ok().and_then(|number| microseconds(number, unit)),
            (None, Some(format)) => formatted_timestamp(text, format, timezone.as_ref()),
            (None, None) => utc_timestamp(text).or_else(|| match timezone.is_some() || has_offset(text) {
                true => any_timestamp(text, &zone),
                false => None,
            }),
        });
        Arc::new(array.with_data_type(self.data_type.clone()))
    }

    /// What is wrong with a cell that was refused.
    pub(crate) fn complaint(&self, text: &str) -> String {
        let shown = shorten(text);
        match (&self.data_type, self.unit) {
            (DataType::Timestamp(_, _), Some(_)) => format!("`{shown}` is no integer that stands for a timestamp"),
            (DataType::Date32, _) if self.moments.date.is_some() => {
                format!("`{shown}` is no date in the format `{}`", self.moments.date.as_deref().unwrap_or_default())
            }
            (DataType::Timestamp(_, _), None) if self.moments.timestamp.is_some() => {
                let format = self.moments.timestamp.as_deref().unwrap_or_default();
                let zone = if self.moments.timezone.is_none() { ", with an offset (`%z`) or a `timezone`" } else { "" };
                format!("`{shown}` is no timestamp in the format `{format}`{zone}")
            }
            (DataType::Timestamp(_, _), None) if !has_offset(text) => {
                format!(
                    "`{shown}` is no timestamp with an offset, such as `2026-01-31T12:00:00Z`, and the input has no `timezone`"
                )
            }
            (other, _) => format!("`{shown}` is no {}", type_name(other)),
        }
    }
}

const UTC: &str = "+00:00";

fn values<'a, T: ArrowPrimitiveType>(
    cells: impl Iterator<Item = Option<&'a str>>,
    rows: usize,
    refuse: &mut dyn FnMut(usize, &str),
    parse: impl Fn(&str) -> Option<T::Native>,
) -> PrimitiveArray<T> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(rows);
    for (row, cell) in cells.enumerate() {
        let value = cell.and_then(&parse);
        if let (None, Some(text)) = (value, cell) {
            refuse(row, text);
        }
        builder.append_option(value);
    }
    builder.finish()
}

fn texts<'a>(cells: impl Iterator<Item = Option<&'a str>>, rows: usize) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows, rows * 8);
    cells.for_each(|cell| builder.append_option(cell));
    Arc::new(builder.finish())
}

fn booleans<'a>(
    cells: impl Iterator<Item = Option<&'a str>>,
    rows: usize,
    refuse: &mut dyn FnMut(usize, &str),
) -> ArrayRef {
    let mut builder = BooleanBuilder::with_capacity(rows);
    for (row, cell) in cells.enumerate() {
        let value = cell.and_then(boolean);
        if let (None, Some(text)) = (value, cell) {
            refuse(row, text);
        }
        builder.append_option(value);
    }
    Arc::new(builder.finish())
}

/// Bytes are written in hexadecimal, as Arrow writes them.
fn binary<'a>(cells: impl Iterator<Item = Option<&'a str>>, refuse: &mut dyn FnMut(usize, &str)) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for (row, cell) in cells.enumerate() {
        match cell {
            None => builder.append_null(),
            Some(text) if hexadecimal(text, &mut bytes) => builder.append_value(&bytes),
            Some(text) => {
                refuse(row, text);
                builder.append_null();
            }
        }
    }
    Arc::new(builder.finish())
}

fn hexadecimal(text: &str, bytes: &mut Vec<u8>) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    bytes.clear();
    let pairs = text.as_bytes().chunks(2);
    bytes.extend(pairs.map_while(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)));
    bytes.len() * 2 == text.len()
}

/// `true` or `false`, in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// An integer; `2.0` and `1e3` are some, too.
fn whole<T: ArrowPrimitiveType + Parser>(text: &str) -> Option<T::Native> {
    T::parse(text).or_else(|| {
        /// Below this a fraction may have more digits than a float64 has, as it may where JSON is decoded to float64 at once.
        const EXACT: f64 = (1_i64 << 53) as f64;
        let float = || Float64Type::parse(text).filter(|float| float.fract() == 0.0 && float.abs() < EXACT);
        let integer = exactly_whole(text.trim()).or_else(|| float().map(|float| float as i128))?;
        T::parse(&integer.to_string())
    })
}

/// The integer that a number with a point or an exponent is, with all of its digits.
fn exactly_whole(text: &str) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let mantissa = mantissa.strip_prefix('+').unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let add = |number: i128, digit: u8| {
        let digit = char::from(digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    };
    let digits = whole.bytes().chain(fraction.bytes()).try_fold(0, add)?;
    let power = exponent.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?;
    let ten = 10_i128.checked_pow(u32::try_from(power.unsigned_abs()).ok()?);
    let integer = match (ten, power >= 0) {
        _ if digits == 0 => 0,
        (Some(ten), true) => digits.checked_mul(ten)?,
        (Some(ten), false) if digits % ten == 0 => digits / ten,
        _ => return None,
    };
    Some(if negative { -integer } else { integer })
}

/// The days since 1970 of a date, which may have a midnight behind it. Any other time would be lost; with an offset, midnight
/// is another one in UTC.
fn date(text: &str) -> Option<i32> {
    let is_extended = text.starts_with(['+', '-']);
    if text.len() <= 10 || is_extended {
        return Date32Type::parse(text);
    }
    let (date, time) = text.split_at_checked(10)?;
    let midnight = time.strip_prefix(['T', ' '])?.strip_prefix("00:00:00")?;
    let is_midnight = midnight.is_empty() || midnight.strip_prefix('.')?.bytes().all(|digit| digit == b'0');
    if is_midnight { Date32Type::parse(date) } else { None }
}

/// The microseconds since midnight of a time. There is no leap second, which would be the midnight of the next day.
fn time_of_day(text: &str) -> Option<i64> {
    let mut parts = text.split(':').skip(1);
    let (Some(_), seconds) = (parts.next(), parts.next()) else { return None };
    match seconds {
        Some(seconds) if seconds.starts_with("60") => None,
        _ => Time64MicrosecondType::parse(text),
    }
}

/// A decimal number with at most `scale` digits that count behind the point.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let scale = scale as usize;
    let kept = fraction.get(..scale.min(fraction.len()))?;
    if fraction[kept.len()..].bytes().any(|digit| digit != b'0') {
        return None;
    }
    let zeros = std::iter::repeat_n(b'0', scale - kept.len());
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(kept.bytes()).chain(zeros) {
        let digit = char::from(digit).to_digit(10)?;
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    let limit = 10_i128.pow(precision.into());
    (value < limit).then_some(if negative { -value } else { value })
}

fn microseconds(number: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => number.checked_mul(1_000_000),
        TimeUnit::Millisecond => number.checked_mul(1_000),
        TimeUnit::Microsecond => Some(number),
        TimeUnit::Nanosecond => Some(number.div_euclid(1_000)),
    }
}

/// Microseconds since 1970 of a text such as `2026-01-31T12:00:00Z`, with or without a fraction: the way in which nearly
/// all timestamps are written, read several times as fast as any other. `None` says nothing about other texts.
fn utc_timestamp(text: &str) -> Option<i64> {
    let (&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b' ', h1, h2, b':', n1, n2, b':', s1, s2], rest) =
        text.as_bytes().split_first_chunk::<19>()?
    else {
        return None;
    };
    let number = |digits: &[u8]| {
        let digit = |number: i64, byte: &u8| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'));
        digits.iter().try_fold(0, digit)
    };
    let fraction = match rest {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] if (1..=6).contains(&digits.len()) => {
            number(digits)? * 10_i64.pow(6 - digits.len() as u32)
        }
        _ => return None,
    };
    let (year, month, day) = (number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?);
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[n1, n2])?, number(&[s1, s2])?);
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    // Of the days that not every month has, those that this one lacks would be days of the next.
    let is_day = (1..=28).contains(&day)
        || (29..=31).contains(&day) && (month == 12 || days < days_since_1970(year, month + 1, 1));
    let seconds = (days * 24 + hour) * 3600 + minute * 60 + second;
    is_day.then_some(seconds * 1_000_000 + fraction)
}

/// The days from 1970-01-01 to a day of the Gregorian calendar. Counted in years that begin in March, so that the day
/// that only leap years have is the last one; after Howard Hinnant, "chrono-compatible low-level date algorithms".
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    /// From -0400-03-01 to 1970-01-01: so early that no number below is negative, which would be slower to divide.
    const EPOCH: i64 = 719_468 + 146_097;
    let (year, month) = if month > 2 { (year + 400, month - 3) } else { (year + 399, month + 9) };
    let (years, months) = (year as u64, month as u64);
    let leap_days = years / 4 - years / 100 + years / 400;
    (years * 365 + leap_days + (153 * months + 2) / 5) as i64 + day - 1 - EPOCH
}

/// Microseconds since 1970 of a text in ISO 8601; `zone` holds where it has no offset.
fn timestamp(text: &str, zone: &Tz) -> Option<i64> {
    string_to_datetime(zone, text).ok().map(|time| time.timestamp_micros())
}

/// Microseconds since 1970 of a text in some format; `zone` holds where that has no offset.
fn formatted_timestamp(text: &str, format: &str, zone: Option<&Tz>) -> Option<i64> {
    let local = || zone?.from_local_datetime(&NaiveDateTime::parse_from_str(text, format).ok()?).single();
    let time = DateTime::parse_from_str(text, format).map(|time| time.timestamp_micros());
    time.ok().or_else(|| local().map(|time| time.timestamp_micros()))
}

/// The same, also with a year that has a sign, as those behind 9999 and before 0 have.
fn any_timestamp(text: &str, zone: &Tz) -> Option<i64> {
    /// After so many years the calendar repeats itself.
    const CYCLE: i64 = 400;
    const CYCLE_MICROS: i64 = 146_097 * DAY_MICROS;
    if !text.starts_with(['+', '-']) {
        return timestamp(text, zone);
    }
    let digits = text[1..].find('-')?;
    let (year, rest) = text.split_at(digits + 1);
    let year: i64 = year.parse().ok().filter(|_| digits >= 4)?;
    let text = format!("{}{rest}", 2000 + year.rem_euclid(CYCLE));
    let cycles = (year - 2000).div_euclid(CYCLE);
    let micros = i128::from(timestamp(&text, zone)?) + i128::from(cycles) * i128::from(CYCLE_MICROS);
    i64::try_from(micros).ok()
}

/// Whether a timestamp says how far from UTC it is: `Z`, `+02:00`, `Europe/Berlin` behind the time.
fn has_offset(text: &str) -> bool {
    let has_sign = text.starts_with(['+', '-']);
    let date_length = if has_sign { text[1..].find('-').map_or(text.len(), |digits| digits + 7) } else { 10 };
    let behind_date = text.as_bytes().get(date_length + 1..).unwrap_or_default();
    behind_date.iter().any(|byte| matches!(byte, b'+' | b'-') || byte.is_ascii_alphabetic())
}

/// Whether a text is a timestamp, with a time of day, that is beyond doubt.
pub(crate) fn is_timestamp(text: &str, moments: &Moments) -> bool {
    let Moments { timezone, timestamp: format, .. } = moments;
    if let Some(format) = format {
        return formatted_timestamp(text, format, timezone.as_ref()).is_some();
    }
    let has_time = text.len() > 10;
    let utc = UTC.parse().expect("UTC is a time zone");
    let zone = timezone.unwrap_or(utc);
    has_time && (timezone.is_some() || has_offset(text)) && timestamp(text, &zone).is_some()
}

/// The beginning of a text that may be very long.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_core::ColumnType;
    use millstream_testkit::rows_as_text;

    use super::*;

    /// The values of one-column rows as text, and the cells that were refused.
    fn decode(kind: &str, timezone: Option<&str>, cells: &[&str]) -> (String, Vec<String>) {
        let ColumnType { data_type, unit, .. } = ColumnType::parse(kind).unwrap();
        let moments = Moments { timezone: timezone.map(|name| name.parse().unwrap()), ..Moments::default() };
        decode_with(TextColumn::new(data_type, unit, &moments), cells)
    }

    fn decode_with(column: TextColumn, cells: &[&str]) -> (String, Vec<String>) {
        let mut refused = Vec::new();
        let array = column.decode(cells.iter().map(|cell| Some(*cell)), cells.len(), &mut |_, text| {
            refused.push(column.complaint(text));
        });
        let rows = arrow::array::RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
        let text = rows_as_text([&rows]);
        (text.lines().skip(1).collect::<Vec<_>>().join(" "), refused)
    }

    fn values_of(kind: &str, cells: &[&str]) -> String {
        decode(kind, None, cells).0
    }

    #[test]
    fn numbers() {
        assert_eq!(
            values_of("int8", &["127", "128", "-128", "2.0", "1e1", "1.5", "x", ""]),
            "127 null -128 2 10 null null null"
        );
        assert_eq!(values_of("int64", &["9223372036854775807", "9223372036854775808"]), "9223372036854775807 null");
        assert_eq!(values_of("uint64", &["18446744073709551615", "-1"]), "18446744073709551615 null");
        assert_eq!(values_of("float64", &["1", "-2.5e3", "NaN", "inf", "1,5"]), "1.0 -2500.0 NaN inf null");
        assert_eq!(values_of("boolean", &["true", "FALSE", "1"]), "true false null");
    }

    #[test]
    fn integers_keep_every_digit_also_with_a_point_or_an_exponent() {
        let cells = [
            "9007199254740993.0",
            "-9007199254740993.000",
            "92233720368547758.07e2",
            "10e-1",
            "1e-1",
            "0e999",
            "1e999",
        ];
        let expected = "9007199254740993 -9007199254740993 9223372036854775807 1 null 0 null";
        assert_eq!(values_of("int64", &cells), expected);
        assert_eq!(
            values_of("int64", &["9007199254740993.5", "9223372036854775808.0", ".", "e", "1.e0"]),
            "null null null null 1"
        );
        assert_eq!(values_of("uint64", &["18446744073709551615.0", "-0.0", "-1.0"]), "18446744073709551615 0 null");
    }

    #[test]
    fn decimals_keep_every_digit_or_are_refused() {
        let cells = ["1.2", "-0.05", "+7", "1.230", "1.239", ".5", "5.", ".", "1e3", "123.45", "12é"];
        let expected = "1.20 -0.05 7.00 1.23 null 0.50 5.00 null null null null";
        assert_eq!(values_of("decimal(4,2)", &cells), expected);
        let long = "9".repeat(400);
        assert_eq!(values_of("decimal(38,0)", &[&long, &"9".repeat(38)]), format!("null {}", "9".repeat(38)));
    }

    #[test]
    fn dates_times_and_bytes() {
        assert_eq!(values_of("date", &["2026-01-31", "2026-02-31"]), "2026-01-31 null");
        assert_eq!(values_of("time", &["12:30:00.5", "25:00", "9:05 pm"]), "12:30:00.500 null 21:05:00");
        assert_eq!(values_of("time", &["23:59:60", "86400000000", "5", "-1", "12"]), "null null null null null");
        let midnights = ["2026-01-31T00:00:00", "2026-01-31 00:00:00.000"];
        assert_eq!(values_of("date", &midnights), "2026-01-31 2026-01-31");
        let others = ["2026-01-31T00:00:00Z", "2026-01-31T23:30:00-05:00", "2026-01-31 12:00:00", "2026-01-31T"];
        assert_eq!(values_of("date", &others), "null null null null");
        assert_eq!(values_of("binary", &["00fF", "0", "zz", "é"]), "00ff null null null");
    }

    #[test]
    fn timestamps_need_an_offset_or_a_time_zone() {
        let cells = ["2026-07-01T12:00:00Z", "2026-07-01 12:00:00+02:00", "2026-07-01T12:00:00", "2026-07-01"];
        let (values, refused) = decode("timestamp", None, &cells);
        assert_eq!(values, "2026-07-01T12:00:00Z 2026-07-01T10:00:00Z null null");
        assert!(refused[0].contains("no timestamp with an offset"), "{refused:?}");
        let (values, _) = decode("timestamp", Some("Europe/Berlin"), &cells);
        assert_eq!(values, "2026-07-01T12:00:00Z 2026-07-01T10:00:00Z 2026-07-01T10:00:00Z 2026-06-30T22:00:00Z");
    }

    #[test]
    fn the_usual_timestamps_are_read_as_arrow_reads_all() {
        let utc: Tz = UTC.parse().unwrap();
        let years = [0, 1, 1582, 1600, 1900, 1969, 1970, 2000, 2024, 2026, 2100, 9999];
        let days = (1..=12).flat_map(|month| [0, 1, 2, 15, 28, 29, 30, 31, 32].map(|day| (month, day)));
        for ((month, day), year) in days.flat_map(|day| years.map(|year| (day, year))) {
            for time in ["T00:00:00Z", " 23:59:59Z", "T12:30:01.5Z", "T01:02:03.000450Z"] {
                let text = format!("{year:04}-{month:02}-{day:02}{time}");
                let read = utc_timestamp(&text);
                assert_eq!(read, timestamp(&text, &utc), "{text}");
            }
        }
        for other in ["2026-01-01T24:00:00Z", "2026-1-01T00:00:00Z", "2026-01-01T00:00:00", "é"] {
            assert_eq!(utc_timestamp(other), None, "{other}");
        }
    }

    #[test]
    fn years_with_a_sign_are_read_as_they_are_written() {
        let utc: Tz = UTC.parse().unwrap();
        for seconds in
            [253_402_300_800, -62_167_219_201, -62_198_755_200, i64::MAX / 1_000_000, i64::MIN / 1_000_000 + 1]
        {
            let mut text = Vec::new();
            millstream_core::write_timestamp(seconds, 123_000, &mut text);
            let text = String::from_utf8(text).unwrap();
            assert_eq!(any_timestamp(&text, &utc), Some(seconds * 1_000_000 + 123), "{text}");
            assert!(has_offset(&text) && !has_offset(text.trim_end_matches('Z')), "{text}");
        }
        let (values, _) =
            decode("timestamp", None, &["+10000-01-01T01:00:00+01:00", "+10000-01-01T00:00:00", "+1-01-01T00:00:00Z"]);
        assert_eq!(values, "+10000-01-01T00:00:00Z null null");
        assert_eq!(any_timestamp("+9223372036854775807-01-01T00:00:00Z", &utc), None);
        assert_eq!(values_of("date", &["+10000-01-01", "-0001-12-31", "10000-01-01"]), "+10000-01-01 -0001-12-31 null");
    }

    #[test]
    fn dates_and_timestamps_may_have_a_format() {
        let column = |kind: &str, format: &str, zone: Option<&str>| {
            let ColumnType { data_type, unit, .. } = ColumnType::parse(kind).unwrap();
            let format = Some(Arc::from(format));
            let timezone = zone.map(|name| name.parse().unwrap());
            TextColumn::new(data_type, unit, &Moments { timezone, date: format.clone(), timestamp: format })
        };
        let (values, refused) =
            decode_with(column("date", "%d.%m.%Y", None), &["31.01.2026", "2026-01-31", "31.02.2026"]);
        assert_eq!(
            (values.as_str(), refused[0].as_str()),
            ("2026-01-31 null null", "`2026-01-31` is no date in the format `%d.%m.%Y`")
        );
        let berlin = column("timestamp", "%d/%b/%Y %H:%M", Some("Europe/Berlin"));
        assert_eq!(decode_with(berlin, &["01/Jul/2026 12:00"]).0, "2026-07-01T10:00:00Z");
        let offset = || column("timestamp", "%d/%b/%Y:%H:%M:%S %z", None);
        assert_eq!(
            decode_with(offset(), &["01/Jul/2026:12:00:00 +0200", "01/Jul/2026"]).0,
            "2026-07-01T10:00:00Z null"
        );
        assert_eq!(decode_with(column("timestamp", "%Y %H:%M", None), &["2026 12:00"]).0, "null");
        assert!(check_moment_format("%d.%m.%Y").is_ok() && check_moment_format("%!").is_err());
    }

    #[test]
    fn integer_timestamps_say_their_unit() {
        assert_eq!(values_of("timestamp(ms)", &["1500", "-1"]), "1970-01-01T00:00:01.500Z 1969-12-31T23:59:59.999Z");
        assert_eq!(values_of("timestamp(ns)", &["-1"]), "1969-12-31T23:59:59.999999Z");
        assert_eq!(values_of("timestamp(s)", &["9223372036854775807", "x"]), "null null");
    }

    #[test]
    fn odd_text_never_panics() {
        let alphabet: Vec<char> = "0123456789-+:.TZ eéM/\u{1F600}".chars().collect();
        let mut state = 1_u64;
        let kinds = ["timestamp", "time", "date", "decimal(10,2)", "int64", "float64", "binary", "timestamp(ms)"];
        for _ in 0..20_000 {
            let mut text = String::from(["", "2026-01-31T12:00:00", "12:00:00", "1.5"][(state >> 40) as usize % 4]);
            for _ in 0..(state >> 20) % 12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            for kind in kinds {
                let ColumnType { data_type, unit, .. } = ColumnType::parse(kind).unwrap();
                TextColumn::new(data_type, unit, &Moments::default()).decode(
                    [Some(text.as_str())].into_iter(),
                    1,
                    &mut |_, _| {},
                );
            }
        }
    }
}
