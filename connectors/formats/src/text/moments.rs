//! Texts that stand for dates, times and timestamps.
//!
//! Stricter than Arrow's casts: a timestamp that could mean any time zone, and a date with a time of day, are refused.

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{Date32Type, Time64MicrosecondType, TimeUnit};
use chrono::{DateTime, LocalResult, TimeZone, Timelike, Utc};
use millstream_core::DAY_MICROS;

use super::format::MomentFormat;

const UTC: &str = "+00:00";

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
    /// How dates are written; otherwise in ISO 8601.
    pub date: Option<MomentFormat>,
    /// How timestamps are written.
    pub timestamp: Option<MomentFormat>,
}

impl Moments {
    /// What is wrong with a time on the clocks of the time zone, if there was none such when they were put forward, or there were two
    /// when they were put back.
    pub(super) fn wrong_local(&self, text: &str) -> Option<&'static str> {
        let local = match &self.timestamp {
            Some(format) => format.local(text)?,
            None if has_offset(text) => return None,
            None => string_to_datetime(&Utc, text).ok()?.naive_utc(),
        };
        match self.timezone?.from_local_datetime(&local) {
            LocalResult::Single(_) => None,
            LocalResult::None => {
                Some("does not exist in the `timezone` of `format`, whose clocks were put forward over it")
            }
            LocalResult::Ambiguous(..) => Some(
                "exists twice in the `timezone` of `format`, whose clocks were put back; only an offset tells which it is",
            ),
        }
    }

    /// Where timestamps are from, if that matters.
    fn zone(&self) -> Tz {
        self.timezone.unwrap_or_else(|| UTC.parse().expect("UTC is a time zone"))
    }

    /// Reads timestamps in ISO 8601, which need an offset where there is no time zone.
    pub(super) fn reader(&self) -> impl Fn(&str) -> Option<i64> + Send + Sync + 'static {
        let (zone, is_local) = (self.zone(), self.timezone.is_some());
        let any = move |text: &str| if is_local || has_offset(text) { any_timestamp(text, &zone) } else { None };
        move |text| utc_timestamp(text).or_else(|| any(text))
    }
}

/// The days since 1970 of a date, which may have a midnight behind it. Any other time would be lost; with an offset, midnight
/// is another one in UTC.
pub(super) fn date(text: &str) -> Option<i32> {
    let is_extended = text.starts_with(['+', '-']);
    if text.len() <= 10 || is_extended {
        // Arrow's parser takes a sign for a part of each number.
        let is_plain = !text.bytes().skip(1).any(|byte| byte == b'+');
        return Date32Type::parse(text).filter(|_| is_plain);
    }
    let (date, time) = text.split_at_checked(10)?;
    let midnight = time.strip_prefix(['T', ' '])?.strip_prefix("00:00:00")?;
    let is_midnight = midnight.is_empty() || midnight.strip_prefix('.')?.bytes().all(|digit| digit == b'0');
    if is_midnight { Date32Type::parse(date) } else { None }
}

/// The microseconds since midnight of a time. There is no leap second, which would be the midnight of the next day.
pub(super) fn time_of_day(text: &str) -> Option<i64> {
    let mut parts = text.split(':').skip(1);
    let (Some(_), seconds) = (parts.next(), parts.next()) else { return None };
    match seconds {
        Some(seconds) if seconds.starts_with("60") => None,
        _ => Time64MicrosecondType::parse(text),
    }
}

/// Microseconds since 1970 of an integer that counts another unit.
pub(super) fn microseconds(text: &str, unit: TimeUnit) -> Option<i64> {
    let number: i64 = text.trim().parse().ok()?;
    match unit {
        TimeUnit::Second => number.checked_mul(1_000_000),
        TimeUnit::Millisecond => number.checked_mul(1_000),
        TimeUnit::Microsecond => Some(number),
        TimeUnit::Nanosecond => Some(number.div_euclid(1_000)),
    }
}

/// Microseconds since 1970 of a text such as `2026-01-31T12:00:00Z`, with or without a fraction: the way in which nearly
/// all timestamps are written, read several times as fast as any other. `None` says nothing about other texts.
pub(super) fn utc_timestamp(text: &str) -> Option<i64> {
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
pub(super) fn timestamp(text: &str, zone: &Tz) -> Option<i64> {
    string_to_datetime(zone, text).ok().and_then(|time| micros_of(&time))
}

/// Microseconds since 1970 of a time. A leap second has none of its own.
pub(super) fn micros_of<Z: TimeZone>(time: &DateTime<Z>) -> Option<i64> {
    /// From here on, chrono counts the nanoseconds of a leap second.
    const LEAP: u32 = 1_000_000_000;
    (time.nanosecond() < LEAP).then(|| time.timestamp_micros())
}

/// Microseconds since 1970 of a text in ISO 8601 whose year may have a sign, as years behind 9999 and before 0 have.
pub(super) fn any_timestamp(text: &str, zone: &Tz) -> Option<i64> {
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
pub(super) fn has_offset(text: &str) -> bool {
    let has_sign = text.starts_with(['+', '-']);
    let date_length = if has_sign { text[1..].find('-').map_or(text.len(), |digits| digits + 7) } else { 10 };
    let behind_date = text.as_bytes().get(date_length + 1..).unwrap_or_default();
    behind_date.iter().any(|byte| matches!(byte, b'+' | b'-') || byte.is_ascii_alphabetic())
}

/// Whether a text begins as dates in ISO 8601 do.
pub(super) fn begins_with_year(text: &str) -> bool {
    let year = text.strip_prefix(['+', '-']).unwrap_or(text).split('-').next().unwrap_or_default();
    year.len() >= 4 && year.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether a text is a timestamp, with a time of day, that is beyond doubt.
pub(crate) fn is_timestamp(text: &str, moments: &Moments) -> bool {
    let Moments { timezone, timestamp: format, .. } = moments;
    if let Some(format) = format {
        return format.timestamp(text, timezone.as_ref()).is_some();
    }
    let has_time = text.len() > 10;
    has_time && (timezone.is_some() || has_offset(text)) && timestamp(text, &moments.zone()).is_some()
}
