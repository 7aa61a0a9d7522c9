//! Text to values: what CSV cells, and JSON strings and numbers, stand for.
//!
//! Stricter than Arrow's casts where those lose something: digits that a decimal or an integer has no place for, and
//! timestamps that could mean any time zone, refuse the cell.

mod cells;
mod format;
mod moments;
mod numbers;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use arrow::array::{ArrayRef, ArrowPrimitiveType};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use millstream_core::{ColumnType, type_name, with_article};

use cells::Cells;
use format::MomentFormat;
pub(crate) use moments::is_timestamp;
pub(crate) use moments::{Moments, parse_timezone};
use moments::{begins_with_year, date, has_offset, microseconds, time_of_day};
use numbers::decimal;
pub(crate) use numbers::{Float, Integer, float, integer};
pub(crate) use settings::{MomentSettings, TextSettings};
pub use values::TextValues;

/// Whether text can stand for values of a type at all.
pub(crate) fn has_text(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::List(_) | DataType::Struct(_))
}

/// Makes something for the type of a column, such as a buffer for its values.
pub(crate) trait ByType {
    /// What it makes.
    type Made;

    fn texts(self) -> Self::Made;
    /// Texts that are JSON.
    fn json(self) -> Self::Made;
    /// Bytes, written in hexadecimal.
    fn binary(self) -> Self::Made;
    fn booleans(self) -> Self::Made;
    fn integers<T: Integer>(self) -> Self::Made;
    fn floats<T: Float>(self) -> Self::Made;
    /// Values of a type that has its own way to be read from text.
    fn others<T: ArrowPrimitiveType>(
        self,
        parse: impl Fn(&str) -> Option<T::Native> + Send + Sync + 'static,
    ) -> Self::Made;
}

/// How the text of one column is read.
#[derive(Clone, Debug)]
pub(crate) struct TextColumn {
    data_type: DataType,
    /// Timestamps are integers of this unit.
    unit: Option<TimeUnit>,
    is_json: bool,
    moments: Moments,
}

impl TextColumn {
    pub(crate) fn new(column: &ColumnType, moments: &Moments) -> Self {
        let ColumnType { data_type, unit, is_json, .. } = column.clone();
        Self { data_type, unit, is_json, moments: moments.clone() }
    }

    /// Whether the values are numbers that may have digits behind a point.
    pub(crate) fn has_point(&self) -> bool {
        matches!(self.data_type, DataType::Float32 | DataType::Float64 | DataType::Decimal128(..))
    }

    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
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
        self.by_type(Cells { cells, rows, refuse, data_type: &self.data_type })
    }

    /// What `maker` makes for the column's type.
    ///
    /// # Panics
    /// On types that have no text, see [`has_text`].
    pub(crate) fn by_type<M: ByType>(&self, maker: M) -> M::Made {
        match self.data_type {
            DataType::Utf8 if self.is_json => maker.json(),
            DataType::Utf8 => maker.texts(),
            DataType::Binary => maker.binary(),
            DataType::Boolean => maker.booleans(),
            DataType::Int8 => maker.integers::<Int8Type>(),
            DataType::Int16 => maker.integers::<Int16Type>(),
            DataType::Int32 => maker.integers::<Int32Type>(),
            DataType::Int64 => maker.integers::<Int64Type>(),
            DataType::UInt8 => maker.integers::<UInt8Type>(),
            DataType::UInt16 => maker.integers::<UInt16Type>(),
            DataType::UInt32 => maker.integers::<UInt32Type>(),
            DataType::UInt64 => maker.integers::<UInt64Type>(),
            DataType::Float32 => maker.floats::<Float32Type>(),
            DataType::Float64 => maker.floats::<Float64Type>(),
            DataType::Date32 => match self.moments.date.clone() {
                None => maker.others::<Date32Type>(date),
                Some(format) => maker.others::<Date32Type>(move |text| format.date(text)),
            },
            DataType::Time64(_) => maker.others::<Time64MicrosecondType>(time_of_day),
            DataType::Timestamp(_, _) => self.timestamps(maker),
            DataType::Decimal128(precision, scale) => {
                maker.others::<Decimal128Type>(move |text| decimal(text, precision, scale))
            }
            ref other => unreachable!("{other} has no text"),
        }
    }

    fn timestamps<M: ByType>(&self, maker: M) -> M::Made {
        let Moments { timezone, timestamp: format, .. } = self.moments.clone();
        match (self.unit, format) {
            (Some(unit), _) => maker.others::<TimestampMicrosecondType>(move |text| microseconds(text, unit)),
            (None, Some(format)) => {
                maker.others::<TimestampMicrosecondType>(move |text| format.timestamp(text, timezone.as_ref()))
            }
            (None, None) => maker.others::<TimestampMicrosecondType>(self.moments.reader()),
        }
    }

    fn no_timestamp(&self, text: &str, shown: &str) -> String {
        if let Some(why) = self.moments.wrong_local(text) {
            return format!("`{shown}` {why}");
        }
        let is_local = self.moments.timezone.is_none();
        match &self.moments.timestamp {
            Some(format) => {
                let zone = if is_local { ", with an offset (`%z`) or a `timezone`" } else { "" };
                format!("`{shown}` is not a timestamp in the format `{format}`{zone}")
            }
            None if is_local && !has_offset(text) && begins_with_year(text) => format!(
                "`{shown}` is not a timestamp with an offset, such as `2026-01-31T12:00:00Z`, and `format` has no `timezone`"
            ),
            None => {
                let advice = "`timestamp_format` in `format` says how others are written";
                format!("`{shown}` is not a timestamp such as `2026-01-31T12:00:00Z`; {advice}")
            }
        }
    }

    /// What is wrong with a cell that was refused.
    pub(crate) fn complaint(&self, text: &str) -> String {
        let shown = shorten(text);
        match (&self.data_type, self.unit) {
            (DataType::Timestamp(_, _), Some(_)) => format!("`{shown}` is not an integer that stands for a timestamp"),
            (DataType::Date32, _) => match &self.moments.date {
                Some(format) => format!("`{shown}` is not a date in the format `{format}`"),
                None => {
                    let advice = "`date_format` in `format` says how others are written";
                    format!("`{shown}` is not a date such as `2026-01-31`; {advice}")
                }
            },
            (DataType::Timestamp(_, _), None) => self.no_timestamp(text, &shown),
            (DataType::Utf8, _) => format!("`{shown}` is not valid JSON"),
            (other, _) => format!("`{shown}` is not {}", with_article(&type_name(other))),
        }
    }
}

/// A number in which this character stands for the point, as others write it. The point becomes that character, so that it is none.
pub(crate) fn exchanged(text: &str, separator: u8) -> String {
    let separator = char::from(separator);
    let exchange = |character| match character {
        '.' => separator,
        other if other == separator => '.',
        other => other,
    };
    text.chars().map(exchange).collect()
}

/// The value of `true` and `false`, in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Appends the bytes that a text stands for, two hexadecimal digits each, as Arrow writes them; returns false, and has appended
/// some, if it stands for none.
pub(crate) fn hexadecimal(text: &str, bytes: &mut Vec<u8>) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let before = bytes.len();
    let pairs = text.as_bytes().chunks(2);
    bytes.extend(pairs.map_while(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)));
    (bytes.len() - before) * 2 == text.len()
}

/// The beginning of a text that may be very long.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
