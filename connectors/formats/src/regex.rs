//! Messages in which a regular expression finds the columns.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use millstream_core::{ColumnType, Columns, Problem, Result, known_names};
use regex::{CaptureLocations, Regex};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::refuse_nested;
use crate::fields::{Field, FieldForm, FieldReader, FieldSettings, FindFields, LineSettings};
use crate::kind::{FormatKind, Settings, Side};
use crate::message_lines::{LineFormat, Lines, Messages};
use crate::messages::{MessageFormat, MessageReader};
use crate::read::Reading;

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "regex",
    about: "Texts in which a regular expression finds the columns.",
    endings: &[],
    example: r#"{ type = "regex", pattern = '^(?<level>[A-Z]+) (?<seconds>[0-9.]+)s (?<text>.*)$' }"#,
    is_text: true,
    can_grow: false,
    read: Some(Side::of::<ReadRegexLines>()),
    read_messages: Some(Side::of::<ReadRegex>()),
    write_files: None,
    write_streams: None,
    write_messages: None,
};

/// The first match of the expression counts, wherever in the text it is. A column is the group of its name, and null if the group took
/// no part in the match; a text without a match fails.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadRegex {
    /// The expression, with a named group for each column: `^(?<level>[A-Z]+) (?<text>.*)$`. It has neither look-around nor
    /// back-references, so that the time it takes only grows with the length of the text.
    pattern: String,
    #[serde(flatten)]
    fields: FieldSettings,
}

/// Each line is such a text; blank ones are skipped. Without `schema`, every group is a column of the type `utf8?`.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadRegexLines {
    /// The expression, with a named group for each column, as in messages.
    pattern: String,
    #[serde(flatten)]
    lines: LineSettings,
}

impl Settings for ReadRegex {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(Messages(of_regex(&self.pattern, self.fields)?)))
    }
}

impl Settings for ReadRegexLines {
    type Made = Reading;

    fn make(self, _: &str) -> Result<Reading, Problem> {
        let format = Arc::new(of_regex(&self.pattern, self.lines.fields)?);
        Ok(Reading::Stream(Arc::new(Lines { format, encoding: self.lines.encoding })))
    }
}

fn of_regex(pattern: &str, fields: FieldSettings) -> Result<PatternTexts, Problem> {
    let pattern = Pattern::new(pattern, &[]).map_err(|why| Problem::new(why).at(["pattern"]))?;
    Ok(PatternTexts { pattern, form: fields.form()? })
}

/// What the groups are called to which an expression of ours gives a name: this, and their number.
pub(crate) const NUMBERED: &str = "_field_";

/// An expression whose groups are fields.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// The fields and the numbers of their groups. Several groups may be one field, as the branches of an alternative.
    groups: Vec<(String, usize)>,
}

impl Pattern {
    /// Compiles an expression. The group called [`NUMBERED`] and a number is the field of that number.
    pub(crate) fn new(pattern: &str, fields: &[String]) -> Result<Self, String> {
        let regex = Regex::new(pattern).map_err(|error| complaint(&error))?;
        let numbered = |name: &str| fields.get(name.strip_prefix(NUMBERED)?.parse::<usize>().ok()?).cloned();
        let named = regex.capture_names().enumerate().filter_map(|(group, name)| Some((name?, group)));
        let groups: Vec<_> =
            named.map(|(name, group)| (numbered(name).unwrap_or_else(|| name.to_owned()), group)).collect();
        if groups.is_empty() {
            return Err("the pattern has no named group, which would be a column".to_owned());
        }
        Ok(Self { regex, groups })
    }

    fn groups_of(&self, column: &str) -> Vec<usize> {
        self.groups.iter().filter(|(name, _)| name == column).map(|(_, group)| *group).collect()
    }
}

/// What is wrong with an expression, on one line.
fn complaint(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    format!("the pattern can't be used: {}", last.strip_prefix("error: ").unwrap_or(last))
}

/// Texts whose columns a pattern finds.
#[derive(Debug)]
pub(crate) struct PatternTexts {
    pub pattern: Pattern,
    pub form: FieldForm,
}

impl LineFormat for PatternTexts {
    fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        refuse_nested(&columns.schema(), "a text")?;
        let names = self.pattern.groups.iter().map(|(name, _)| name.as_str());
        match columns.0.iter().find(|(name, _)| names.clone().all(|known| known != name)) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Problem::new(format!("the pattern has no field `{name}`")).help(known_names(name, names)))
            }
        }
    }

    fn columns(&self) -> Option<Columns> {
        let mut columns: Vec<(String, ColumnType)> = Vec::new();
        for (name, _) in &self.pattern.groups {
            if columns.iter().all(|(known, _)| known != name) {
                columns.push((name.clone(), ColumnType::new(DataType::Utf8, true)));
            }
        }
        Some(Columns(columns))
    }

    fn open(&self, columns: &Columns, batch_rows: usize) -> Box<dyn MessageReader> {
        let groups = columns.0.iter().map(|(name, _)| self.pattern.groups_of(name)).collect();
        // A clone has caches of its own, so that threads don't wait for each other.
        let regex = self.pattern.regex.clone();
        let matcher = Matcher { locations: regex.capture_locations(), regex, groups };
        Box::new(FieldReader::new(columns, self.form.clone(), batch_rows, matcher))
    }
}

/// Finds fields by an expression.
struct Matcher {
    regex: Regex,
    locations: CaptureLocations,
    /// The groups of each column.
    groups: Vec<Vec<usize>>,
}

impl FindFields for Matcher {
    fn find<'m>(&mut self, message: &'m str, fields: &mut [Field<'m>]) -> Result<(), String> {
        if self.regex.captures_read(&mut self.locations, message).is_none() {
            return Err("the text does not match the pattern".to_owned());
        }
        for (field, groups) in fields.iter_mut().zip(&self.groups) {
            let place = groups.iter().find_map(|group| self.locations.get(*group));
            *field = place.and_then(|(start, end)| message.get(start..end)).map(Cow::Borrowed);
        }
        Ok(())
    }
}
