//! The settings that all text formats have for reading.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{MomentFormat, Moments, parse_timezone};
use crate::TextEncoding;

/// How texts stand for values.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct TextSettings {
    #[serde(flatten)]
    moments: MomentSettings,
    /// How letters are written as bytes. Files that are followed are in UTF-8.
    pub encoding: TextEncoding,
}

/// How texts stand for dates and timestamps.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct MomentSettings {
    /// The time zone of timestamps that have no offset, such as `"Europe/Berlin"` or `"+02:00"`. Without it they
    /// fail their row, or are taken for texts if there is no `schema`.
    timezone: Option<String>,
    /// How dates are written, in the language of `strftime`, such as `"%d.%m.%Y"`; `%Y` has four digits, `%y` two. By
    /// default in ISO 8601.
    date_format: Option<String>,
    /// How timestamps are written, such as `"%d.%m.%Y %H:%M:%S"`; they need an offset (`%z`) or a `timezone`. By default in ISO
    /// 8601.
    timestamp_format: Option<String>,
}

impl TextSettings {
    /// How texts stand for dates and timestamps.
    pub(crate) fn moments(&self) -> Result<Moments, Problem> {
        self.moments.moments()
    }
}

impl MomentSettings {
    /// How texts stand for dates and timestamps.
    pub(crate) fn moments(&self) -> Result<Moments, Problem> {
        let parse = |name: &String| parse_timezone(name).map_err(|message| Problem::new(message).at(["timezone"]));
        let format = |key: &'static str, of: fn(&str) -> Result<MomentFormat, String>, format: &Option<String>| {
            format.as_deref().map(of).transpose().map_err(|message| Problem::new(message).at([key]))
        };
        let moments = Moments {
            timezone: self.timezone.as_ref().map(parse).transpose()?,
            date: format("date_format", MomentFormat::of_dates, &self.date_format)?,
            timestamp: format("timestamp_format", MomentFormat::of_timestamps, &self.timestamp_format)?,
        };
        match &moments.timestamp {
            Some(format) if moments.timezone.is_none() && !format.has_offset() => {
                let problem = Problem::new(format!("`{format}` does not say how far from UTC a time is"));
                let help = "say where the times are from, such as `timezone = \"Europe/Berlin\"`, or, if they have an offset, `%z`";
                Err(problem.at(["timestamp_format"]).help(help))
            }
            _ => Ok(moments),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_refused_at_their_settings() {
        let settings = |timezone: Option<&str>, date: &str, timestamp: Option<&str>| MomentSettings {
            timezone: timezone.map(str::to_owned),
            date_format: Some(date.to_owned()),
            timestamp_format: timestamp.map(str::to_owned),
        };
        let problem = settings(None, "DD.MM.YYYY", None).moments().unwrap_err();
        assert!(problem.message.starts_with("`DD.MM.YYYY` does not say a date"), "{}", problem.message);
        assert_eq!(problem.at, [millstream_core::Step::from("date_format")]);
        assert!(settings(Some("Europe/Berlin"), "%d.%m.%Y", Some("%d.%m.%Y %H:%M")).moments().is_ok());
        for with_offset in ["%d.%m.%Y %H:%M %z", "%s", "%Y-%m-%dT%H:%M:%S%:z"] {
            assert!(settings(None, "%d.%m.%Y", Some(with_offset)).moments().is_ok(), "{with_offset}");
        }
        let problem = settings(None, "%d.%m.%Y", Some("%d.%m.%Y %H:%M")).moments().unwrap_err();
        assert_eq!(problem.message, "`%d.%m.%Y %H:%M` does not say how far from UTC a time is");
        assert_eq!(problem.at, [millstream_core::Step::from("timestamp_format")]);
    }
}
