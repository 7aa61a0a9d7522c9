//! Settings with a unit: `"64MiB"`, `"5s"`, `"1%"`, `"1000/s"`.

use std::borrow::Cow;
use std::fmt;

use crate::Problem;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// A number of bytes, written with a unit: `"64MiB"`, `"10kB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

/// A length of time, written with a unit: `"5s"`, `"100ms"`, `"10m"`, `"1h"`, `"1d"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// In microseconds, as event times are counted; the longest there is if there are more.
    pub fn micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }

    /// In microseconds, if it is so short that event times and spans can be added up: up to 1000 years.
    pub fn span(self) -> Result<i64, Problem> {
        const MOST: i64 = 1000 * 366 * 86_400_000_000;
        match self.micros() {
            span @ 0..=MOST => Ok(span),
            _ => Err(Problem::new("a span of time can be 1000 years at most")),
        }
    }
}

/// A fraction of a whole, written in percent: `"1%"`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// How often something comes, in times a second, written with a unit of time: `"1000/s"`, `"5/m"`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

const BYTE_UNITS: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1024.0 * 1024.0),
    ("GiB", 1024.0 * 1024.0 * 1024.0),
];

const TIME_UNITS: &[(&str, f64)] = &[("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];

const RATE_UNITS: &[(&str, f64)] = &[("/s", 1.0), ("/m", 1.0 / 60.0), ("/h", 1.0 / 3600.0), ("/d", 1.0 / 86400.0)];

impl ByteSize {
    fn parse(text: &str) -> Result<Self, String> {
        quantity(text, BYTE_UNITS, "64MiB").map(|bytes| Self(bytes as usize))
    }
}

impl Duration {
    fn parse(text: &str) -> Result<Self, String> {
        let seconds = quantity(text, TIME_UNITS, "5s")?;
        std::time::Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| format!("`{text}` is too long"))
    }
}

impl Share {
    fn parse(text: &str) -> Result<Self, String> {
        let percent = quantity(text, &[("%", 1.0)], "1%")?;
        if (0.0..=100.0).contains(&percent) {
            Ok(Self(percent / 100.0))
        } else {
            Err(format!("`{text}` is not between 0% and 100%"))
        }
    }
}

impl Rate {
    fn parse(text: &str) -> Result<Self, String> {
        let rate = quantity(text, RATE_UNITS, "1000/s")?;
        if rate > 0.0 { Ok(Self(rate)) } else { Err(format!("`{text}` is not a rate: it has to be more than 0")) }
    }
}

/// A number and its unit, as a number of the smallest unit.
fn quantity(text: &str, units: &[(&str, f64)], example: &str) -> Result<f64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    match (number.parse::<f64>(), factor) {
        (Ok(number), Some(factor)) => Ok(number * factor),
        _ => {
            let names: Vec<_> = units.iter().map(|(name, _)| format!("`{name}`")).collect();
            Err(format!("`{text}` is not a number with a unit ({}), such as `{example}`", names.join(", ")))
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
            .into_iter()
            .find(|(_, bits)| self.0 > 0 && self.0.is_multiple_of(1 << bits));
        match exact {
            Some((unit, bits)) => write!(f, "{}{unit}", self.0 >> bits),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

macro_rules! written_as_text {
    ($type:ident, $description:literal, $example:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "examples": [$example] })
            }
        }
    };
}

written_as_text!(ByteSize, "A number of bytes with a unit: B, kB, MB, GB, KiB, MiB, GiB.", "64MiB");
written_as_text!(Duration, "A length of time with a unit: ms, s, m, h, d.", "5s");
written_as_text!(Share, "A fraction in percent.", "1%");
written_as_text!(Rate, "A number with a unit of time: /s, /m, /h, /d.", "1000/s");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units() {
        assert_eq!(ByteSize::parse("64MiB"), Ok(ByteSize(64 << 20)));
        assert_eq!(ByteSize::parse("1.5 kB"), Ok(ByteSize(1500)));
        assert_eq!(ByteSize(64 << 20).to_string(), "64MiB");
        assert_eq!(Duration::parse("100ms"), Ok(Duration(std::time::Duration::from_millis(100))));
        assert_eq!(Share::parse("1%"), Ok(Share(0.01)));
        assert_eq!(Rate::parse("1000/s"), Ok(Rate(1000.0)));
        assert_eq!(Rate::parse("30 /m"), Ok(Rate(0.5)));
    }

    #[test]
    fn errors_give_an_example() {
        assert_eq!(
            Duration::parse("5 sec"),
            Err("`5 sec` is not a number with a unit (`ms`, `s`, `m`, `h`, `d`), such as `5s`".to_owned())
        );
        assert_eq!(Share::parse("120%"), Err("`120%` is not between 0% and 100%".to_owned()));
        assert_eq!(Rate::parse("0/s"), Err("`0/s` is not a rate: it has to be more than 0".to_owned()));
    }
}
