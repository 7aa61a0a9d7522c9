//! How far a service has been read: by the times or numbers of its records.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use millstream_core::{Duration, Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::records::Pointer;

/// How many records are remembered at most, so that they are not taken twice.
const REMEMBERED: usize = 1_000_000;

/// How the service is asked for what is new.
///
/// Each poll asks for what is as new as the newest record so far, or newer. A record that comes again as it was, byte by byte, is not taken
/// twice; one that has changed is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// Where in a record it is said how new it is: `"$.updated_at"`. A record without it is taken all the same.
    field: Pointer,
    /// The parameter by which the service is asked for what is new.
    parameter: String,
    /// What it is: `"time"` for texts as of RFC 3339, such as `"2026-01-31T12:00:00Z"`, which is the default, or `"number"` for whole
    /// numbers.
    #[serde(default)]
    kind: Measure,
    /// What is asked for first: a time, or a number. Without it, all that there is.
    start: Option<String>,
    /// How much older records are asked for as well, since a service may show some late: `"5m"`. Only for times. At most a million such
    /// records are remembered.
    #[serde(default)]
    lookback: Duration,
}

/// By what it is told how new a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// A time.
    #[default]
    Time,
    /// A whole number.
    Number,
}

/// How new something is: microseconds since 1970, or a number.
pub type Newness = i64;

/// How far a service has been read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Read {
    /// How new the records are that the poll asks for.
    from: Option<Newness>,
    /// How new the newest record is.
    newest: Option<Newness>,
    /// The records that may come again, and how new they are.
    known: BTreeMap<[u8; 16], Newness>,
}

impl Since {
    /// Checks that it can be asked for.
    pub fn check(&self) -> Result<(), Problem> {
        self.start().map_err(|problem| problem.at(["start"]))?;
        if self.kind == Measure::Number && !self.lookback.0.is_zero() {
            return Err(Problem::new("only times have a lookback").help("leave it out").at(["lookback"]));
        }
        TimeDelta::from_std(self.lookback.0).map(|_| ()).map_err(|_| Problem::new("it is too long").at(["lookback"]))
    }

    fn start(&self) -> Result<Option<Newness>, Problem> {
        let Some(start) = &self.start else { return Ok(None) };
        let (what, example) = match self.kind {
            Measure::Time => ("time", "2026-01-31T12:00:00Z"),
            Measure::Number => ("whole number", "0"),
        };
        let wrong = || Problem::new(format!("`{start}` is no {what}")).help(format!("such as `\"{example}\"`"));
        self.kind.parse(start).map(Some).ok_or_else(wrong)
    }

    /// The parameter and what it says in this poll. None for all that there is.
    pub fn parameter(&self, read: &Read) -> Option<(&str, String)> {
        let from = match read.from {
            Some(from) => from - self.lookback.micros(),
            // It has been checked.
            None => self.start().ok().flatten()?,
        };
        Some((&self.parameter, self.kind.write(from)))
    }

    /// Whether a record is to be taken, which is remembered then.
    pub fn take(&self, record: &RawValue, read: &mut Read) -> bool {
        let Some(newness) = self.field.text(record).and_then(|text| self.kind.parse(&text)) else { return true };
        let hash = blake3::hash(record.get().as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        if read.known.insert(key, newness).is_some() {
            return false;
        }
        read.newest = read.newest.max(Some(newness));
        true
    }

    /// A page has been read: forgets the records that won't be asked for again.
    pub fn forget(&self, read: &mut Read) -> Result<()> {
        let oldest = read.newest.map(|newest| newest - self.lookback.micros());
        read.known.retain(|_, newness| oldest.is_none_or(|oldest| *newness >= oldest));
        if read.known.len() > REMEMBERED {
            return Err(Error::new(format!(
                "more than {REMEMBERED} records are as new as the newest one, less `lookback`: a shorter one would do"
            )));
        }
        Ok(())
    }

    /// A poll has read all pages: the next one asks for what is newer.
    pub fn finish(&self, read: &mut Read) {
        read.from = read.newest.or(read.from);
    }
}

impl Measure {
    fn parse(self, text: &str) -> Option<Newness> {
        match self {
            Self::Time => DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros()),
            Self::Number => text.parse().ok(),
        }
    }

    fn write(self, newness: Newness) -> String {
        let time = |micros| DateTime::<Utc>::from_timestamp_micros(micros);
        match self {
            Self::Time => {
                time(newness).map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
            }
            Self::Number => newness.to_string(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn since(more: &str) -> Since {
        toml::from_str(&format!("field = '$.at'\nparameter = 'since'\n{more}")).unwrap()
    }

    fn taken(since: &Since, read: &mut Read, record: &str) -> bool {
        since.take(serde_json::from_str(record).unwrap(), read)
    }

    #[test]
    fn what_comes_again_is_not_taken_twice() {
        let since = since("start = '2026-01-01T00:00:00+01:00'\nlookback = '5m'");
        let mut read = Read::default();
        assert_eq!(since.parameter(&read), Some(("since", "2025-12-31T23:00:00Z".to_owned())));
        let record =
            |minute: u32, id: u32| format!(r#"{{ "id": {id}, "at": "2026-01-31T12:{minute:02}:00.000001Z" }}"#);
        for minute in [10, 30, 20] {
            assert!(taken(&since, &mut read, &record(minute, 1)));
        }
        assert!(!taken(&since, &mut read, &record(30, 1)), "within a poll");
        since.finish(&mut read);
        assert_eq!(since.parameter(&read), Some(("since", "2026-01-31T12:25:00.000001Z".to_owned())));
        assert!(!taken(&since, &mut read, &record(30, 1)));
        assert!(taken(&since, &mut read, &record(30, 2)), "it has changed");
        assert!(taken(&since, &mut read, &record(26, 3)), "it came late");
        assert!(taken(&since, &mut read, r#"{ "id": 4 }"#) && taken(&since, &mut read, r#"{ "id": 4 }"#));
        since.forget(&mut read).unwrap();
        assert_eq!(read.known.len(), 3, "{read:?}");
    }

    #[test]
    fn numbers_go_up() {
        let since = since("kind = 'number'");
        let mut read = Read::default();
        assert_eq!(since.parameter(&read), None);
        assert!(taken(&since, &mut read, r#"{ "at": 7 }"#) && taken(&since, &mut read, r#"{ "at": "9" }"#));
        since.finish(&mut read);
        assert_eq!(since.parameter(&read), Some(("since", "9".to_owned())));
    }

    #[test]
    fn starts_are_times_or_numbers() {
        assert!(since("start = '2026'").check().is_err() && since("kind = 'number'\nstart = 'x'").check().is_err());
        assert!(since("kind = 'number'\nlookback = '1s'").check().is_err());
        assert!(since("start = '2026-01-01T00:00:00Z'").check().is_ok());
    }
}
