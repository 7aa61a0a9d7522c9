//! Numbers and times that become coarser, so that many have the same.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field};
use chrono::{DateTime, Datelike, Days, NaiveDate};
use millstream_core::{DAY_MICROS, Duration, Problem, Result, type_name};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;

/// A number or a stretch of time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Grain {
    Number(f64),
    Stretch(String),
}

/// How values become coarser.
#[derive(Clone, Debug)]
pub(super) enum Generalise {
    /// Multiples of an integer; of decimals in units of their last digit.
    Integers {
        to: i128,
        nearest: bool,
    },
    Floats {
        to: f64,
        nearest: bool,
    },
    /// The beginnings of stretches of so many microseconds.
    Stretches(i64),
    /// The beginnings of so many months of a year.
    Months(u32),
}

impl Generalise {
    /// To the nearest multiple.
    pub(super) fn round(to: f64, field: &Field) -> Result<Self, Problem> {
        Self::numbers(to, true, field)
    }

    /// To what lies below.
    pub(super) fn truncate(to: &Grain, field: &Field) -> Result<Self, Problem> {
        let is_date = *field.data_type() == DataType::Date32;
        match (to, field.data_type()) {
            (Grain::Number(to), _) => Self::numbers(*to, false, field),
            (Grain::Stretch(text), DataType::Timestamp(..) | DataType::Date32) if text == "month" => {
                Ok(Self::Months(1))
            }
            (Grain::Stretch(text), DataType::Timestamp(..) | DataType::Date32) if text == "year" => {
                Ok(Self::Months(12))
            }
            (Grain::Stretch(text), DataType::Timestamp(..) | DataType::Date32 | DataType::Time64(_)) => {
                let duration = Duration::deserialize(IntoDeserializer::<Error>::into_deserializer(text.as_str()));
                let span = duration.map_err(|error| Problem::new(error.to_string()))?.span()?;
                if span == 0 || (is_date && span % DAY_MICROS != 0) {
                    let unit = if is_date { "days" } else { "time" };
                    return Err(Problem::new(format!("`{text}` is no stretch of {unit}"))
                        .help("such as `\"7d\"` or `\"month\"`"));
                }
                Ok(Self::Stretches(span))
            }
            (Grain::Stretch(_), other) => {
                Err(Problem::new(format!("`{}` is {}, not a time", field.name(), type_name(other)))
                    .help("take a number"))
            }
        }
    }

    fn numbers(to: f64, nearest: bool, field: &Field) -> Result<Self, Problem> {
        let positive = to > 0.0 && to.is_finite();
        let integer = |scale: i8| {
            let scaled = to * 10_f64.powi(i32::from(scale));
            let is_integer = positive && (1.0..1e18).contains(&scaled) && (scaled - scaled.round()).abs() < 1e-6;
            is_integer.then_some(Self::Integers { to: scaled.round() as i128, nearest })
        };
        let made = match field.data_type() {
            data_type if data_type.is_integer() => integer(0),
            DataType::Decimal128(_, scale) => integer(*scale),
            DataType::Float32 | DataType::Float64 => positive.then_some(Self::Floats { to, nearest }),
            other => {
                let problem = Problem::new(format!("`{}` is {}, not a number", field.name(), type_name(other)));
                return Err(problem.help("times are truncated to a stretch, such as `\"1h\"` or `\"month\"`"));
            }
        };
        made.ok_or_else(|| {
            let kind = type_name(field.data_type());
            Problem::new(format!("values of the type {kind} are no multiples of {to}")).help("such as 10")
        })
    }

    /// The coarser values; null where one has no place in the type.
    pub(super) fn apply(&self, column: &ArrayRef) -> Result<ArrayRef> {
        Ok(match (self, column.data_type()) {
            (Self::Floats { to, nearest }, DataType::Float32) => {
                let coarse = |value: f32| round(f64::from(value), *to, *nearest) as f32;
                Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(coarse))
            }
            (Self::Floats { to, nearest }, _) => {
                let coarse = |value: f64| round(value, *to, *nearest);
                Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(coarse))
            }
            (Self::Integers { to, nearest }, data_type) => integers(column, data_type, *to, *nearest),
            (Self::Stretches(span), DataType::Date32) => {
                let days = i32::try_from(span / DAY_MICROS).unwrap_or(i32::MAX);
                each::<Date32Type>(column, |day| day.checked_sub(day.rem_euclid(days)))
            }
            (Self::Stretches(span), DataType::Time64(_)) => {
                each::<Time64MicrosecondType>(column, |time| time.checked_sub(time.rem_euclid(*span)))
            }
            (Self::Stretches(span), _) => {
                each::<TimestampMicrosecondType>(column, |time| time.checked_sub(time.rem_euclid(*span)))
            }
            (Self::Months(months), DataType::Date32) => {
                each::<Date32Type>(column, |day| days(first_of(date(day.into())?, *months)?).try_into().ok())
            }
            (Self::Months(months), _) => each::<TimestampMicrosecondType>(column, |time| {
                let first = first_of(DateTime::from_timestamp_micros(time)?.date_naive(), *months)?;
                days(first).checked_mul(DAY_MICROS)
            }),
        })
    }
}

fn round(value: f64, to: f64, nearest: bool) -> f64 {
    let multiple = value / to;
    (if nearest { multiple.round() } else { multiple.floor() }) * to
}

fn integers(column: &ArrayRef, data_type: &DataType, to: i128, nearest: bool) -> ArrayRef {
    fn of<T>(column: &ArrayRef, to: i128, nearest: bool) -> ArrayRef
    where
        T: ArrowPrimitiveType<Native: Into<i128> + TryFrom<i128>>,
    {
        let half = if nearest { to / 2 } else { 0 };
        each::<T>(column, |value| {
            let value: i128 = value.into() + half;
            T::Native::try_from(value - value.rem_euclid(to)).ok()
        })
    }
    match data_type {
        DataType::Int8 => of::<Int8Type>(column, to, nearest),
        DataType::Int16 => of::<Int16Type>(column, to, nearest),
        DataType::Int32 => of::<Int32Type>(column, to, nearest),
        DataType::Int64 => of::<Int64Type>(column, to, nearest),
        DataType::UInt8 => of::<UInt8Type>(column, to, nearest),
        DataType::UInt16 => of::<UInt16Type>(column, to, nearest),
        DataType::UInt32 => of::<UInt32Type>(column, to, nearest),
        DataType::UInt64 => of::<UInt64Type>(column, to, nearest),
        // A decimal may be so large that it is none any more.
        DataType::Decimal128(precision, _) => {
            let largest = 10_i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
            let half = if nearest { to / 2 } else { 0 };
            each::<Decimal128Type>(column, |value| {
                let value = value.checked_add(half)?;
                value.checked_sub(value.rem_euclid(to)).filter(|value| value.abs() < largest)
            })
        }
        _ => column.clone(),
    }
}

fn each<T: ArrowPrimitiveType>(column: &ArrayRef, coarse: impl Fn(T::Native) -> Option<T::Native>) -> ArrayRef {
    let values = column.as_primitive::<T>();
    Arc::new(values.unary_opt::<_, T>(coarse).with_data_type(column.data_type().clone()))
}

fn epoch() -> NaiveDate {
    NaiveDate::default()
}

/// The date so many days behind 1970.
fn date(days: i64) -> Option<NaiveDate> {
    let distance = Days::new(days.unsigned_abs());
    if days < 0 { epoch().checked_sub_days(distance) } else { epoch().checked_add_days(distance) }
}

/// How many days a date is behind 1970.
fn days(date: NaiveDate) -> i64 {
    date.signed_duration_since(epoch()).num_days()
}

/// The first day of the months in which a date lies.
fn first_of(date: NaiveDate, months: u32) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(date.year(), date.month0() / months * months + 1, 1)
}
