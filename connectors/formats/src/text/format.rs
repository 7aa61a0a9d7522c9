//! Dates and timestamps that are written in a format of their own.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use arrow::array::timezone::Tz;
use chrono::format::{Item, Numeric, Parsed, StrftimeItems, parse_and_remainder};
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeZone};

use super::moments::micros_of;

/// How dates or timestamps are written, in the language of `strftime`.
///
/// As in Python, `%Y` is a year of four digits: one of two would be a year of long ago, and stand in the wrong century.
#[derive(Clone, Debug)]
pub struct MomentFormat {
    text: Arc<str>,
    /// What a text consists of; each piece but the first begins with a year.
    pieces: Arc<[Vec<Item<'static>>]>,
}

impl MomentFormat {
    /// A format of dates; the error says what would be right.
    pub fn of_dates(format: &str) -> Result<Self, String> {
        Self::new(format, "a date", "%d.%m.%Y", |parsed| parsed.to_naive_date().is_ok())
    }

    /// A format of timestamps; the error says what would be right.
    pub fn of_timestamps(format: &str) -> Result<Self, String> {
        let is_timestamp =
            |parsed: &Parsed| parsed.to_datetime().is_ok() || parsed.to_naive_datetime_with_offset(0).is_ok();
        Self::new(format, "a day and a time of day", "%d.%m.%Y %H:%M:%S", is_timestamp)
    }

    fn new(format: &str, what: &str, example: &str, is_enough: fn(&Parsed) -> bool) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{format}` {why}; formats are such as `{example}`");
        let items = StrftimeItems::new(format).parse_to_owned();
        let items = items.map_err(|_| wrong("is no format of dates and times"))?;
        let this = Self { text: format.into(), pieces: pieces(items).into() };
        let is_read = this.example().and_then(|text| this.parse(&text)).is_some_and(|parsed| is_enough(&parsed));
        if is_read { Ok(this) } else { Err(wrong(&format!("does not say {what}"))) }
    }

    /// Some moment in this format.
    fn example(&self) -> Option<String> {
        let moment = DateTime::from_timestamp(1_066_997_415, 123_456_000)?.fixed_offset();
        let mut text = String::new();
        write!(text, "{}", moment.format_with_items(self.pieces.iter().flatten())).ok().map(|()| text)
    }

    fn parse(&self, text: &str) -> Option<Parsed> {
        let (mut parsed, mut rest) = (Parsed::new(), text);
        for (index, piece) in self.pieces.iter().enumerate() {
            if index > 0 && !begins_with_four_digits(rest) {
                return None;
            }
            rest = parse_and_remainder(&mut parsed, rest, piece.iter()).ok()?;
        }
        rest.is_empty().then_some(parsed)
    }

    /// The days since 1970 of a date.
    pub(super) fn date(&self, text: &str) -> Option<i32> {
        let date = self.parse(text)?.to_naive_date().ok()?;
        i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
    }

    /// Whether a text in this format says how far from UTC it is.
    pub(super) fn has_offset(&self) -> bool {
        self.example().and_then(|text| self.parse(&text)).is_some_and(|parsed| parsed.to_datetime().is_ok())
    }

    /// The time on the clock that a text without an offset says.
    pub(super) fn local(&self, text: &str) -> Option<NaiveDateTime> {
        self.parse(text)?.to_naive_datetime_with_offset(0).ok()
    }

    /// Microseconds since 1970 of a timestamp; `zone` holds where that has no offset.
    pub(super) fn timestamp(&self, text: &str, zone: Option<&Tz>) -> Option<i64> {
        let parsed = self.parse(text)?;
        match parsed.to_datetime() {
            Ok(time) => micros_of(&time),
            Err(_) => {
                let local = parsed.to_naive_datetime_with_offset(0).ok()?;
                micros_of(&zone?.from_local_datetime(&local).single()?)
            }
        }
    }
}

impl fmt::Display for MomentFormat {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// Cuts a format before each year.
fn pieces(items: Vec<Item<'static>>) -> Vec<Vec<Item<'static>>> {
    let mut pieces = vec![Vec::new()];
    for item in items {
        if matches!(item, Item::Numeric(Numeric::Year | Numeric::IsoYear, _)) {
            pieces.push(Vec::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(item);
        }
    }
    pieces
}

fn begins_with_four_digits(text: &str) -> bool {
    let digits = text.trim_start().as_bytes().get(..4);
    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}
