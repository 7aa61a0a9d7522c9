//! Dates, times and timestamps as text in ISO 8601, for every value that there is: years behind 9999 and before 0 have a sign.

/// The microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;

const DAY_SECONDS: i64 = 86_400;

/// Appends a date, by its days since 1970: `2026-01-31`.
pub fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
    }
    write_digits(year.unsigned_abs(), 4, out);
    out.push(b'-');
    write_digits(month, 2, out);
    out.push(b'-');
    write_digits(day, 2, out);
}

/// Appends a time of day, by its nanoseconds since midnight: `12:30:00.500`. What is no time of day has a sign or more hours
/// than a day, so that nobody takes it for one.
pub fn write_time(nanos: i64, out: &mut Vec<u8>) {
    if nanos < 0 {
        out.push(b'-');
    }
    let nanos = nanos.unsigned_abs();
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    write_digits(seconds / 3600, 2, out);
    out.push(b':');
    write_digits(seconds / 60 % 60, 2, out);
    out.push(b':');
    write_digits(seconds % 60, 2, out);
    match fraction {
        0 => return,
        _ => out.push(b'.'),
    }
    match (fraction % 1_000_000, fraction % 1000) {
        (0, _) => write_digits(fraction / 1_000_000, 3, out),
        (_, 0) => write_digits(fraction / 1000, 6, out),
        _ => write_digits(fraction, 9, out),
    }
}

/// Appends a timestamp in UTC, by its seconds since 1970 and the nanoseconds behind them: `2026-01-31T12:00:00Z`.
pub fn write_timestamp(seconds: i64, nanos: i64, out: &mut Vec<u8>) {
    write_date(seconds.div_euclid(DAY_SECONDS), out);
    out.push(b'T');
    write_time(seconds.rem_euclid(DAY_SECONDS) * 1_000_000_000 + nanos, out);
    out.push(b'Z');
}

/// Appends a number with at least so many digits.
fn write_digits(mut number: u64, least: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    while number > 0 {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[first.min(digits.len() - least)..]);
}

/// Year, month and day of a day since 1970; after Howard Hinnant, "chrono-compatible low-level date algorithms". Years
/// begin in March, so that the day that only leap years have is the last one.
fn civil(days: i64) -> (i64, u64, u64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    let days = days + EPOCH;
    let (era, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, is_next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + is_next, month as u64, day as u64)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Date32Array, Time64MicrosecondArray, TimestampMicrosecondArray};
    use arrow::util::display::array_value_to_string;
    use std::sync::Arc;

    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    fn by_arrow(array: ArrayRef) -> String {
        array_value_to_string(&array, 0).expect("a value in Arrow's range")
    }

    #[test]
    fn values_are_written_as_arrow_writes_them() {
        for step in -2000..2000_i64 {
            let days = step * 47_313;
            let date = text(|out| write_date(days, out));
            assert_eq!(date, by_arrow(Arc::new(Date32Array::from(vec![days as i32]))));
            let micros = (step * 4_000_000_000_123_457) / [1, 1000, 1_000_000][step.rem_euclid(3) as usize];
            let written =
                text(|out| write_timestamp(micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000) * 1000, out));
            let timestamp = TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC");
            assert_eq!(written, by_arrow(Arc::new(timestamp)));
            let micros = micros.rem_euclid(DAY_MICROS);
            let time = text(|out| write_time(micros * 1000, out));
            assert_eq!(time, by_arrow(Arc::new(Time64MicrosecondArray::from(vec![micros]))));
        }
    }

    #[test]
    fn every_value_has_a_text() {
        assert_eq!(text(|out| write_timestamp(i64::MAX, 999_999_999, out)), "+292277026596-12-04T15:30:07.999999999Z");
        assert_eq!(text(|out| write_timestamp(i64::MIN, 0, out)), "-292277022657-01-27T08:29:52Z");
        assert_eq!(text(|out| write_date(i64::from(i32::MIN), out)), "-5877641-06-23");
        assert_eq!(text(|out| write_time(86_400_000_000_000, out)), "24:00:00");
        assert_eq!(text(|out| write_time(i64::MIN, out)), "-2562047:47:16.854775808");
    }
}
