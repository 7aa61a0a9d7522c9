//! How a row becomes a message: where it goes, and what is in it.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{PlanContext, Problem, Result, known_names, require_column, type_name};
use millstream_formats::{Format, MessageWriter, Payloads, WriteMessageFormat, WriteMessages};
use schemars::JsonSchema;
use serde::Deserialize;

/// Where rows go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Destination {
    /// All of them there.
    Name(String),
    /// Each where a column says.
    Column(DestinationColumn),
}

/// The column that says for each row where it goes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationColumn {
    /// The column, a `utf8`.
    pub column: String,
}

impl Destination {
    /// The column that says it, if one does.
    ///
    /// # Errors
    /// If there is no such column, or it is no text. The place begins at the setting.
    pub fn column(&self, schema: &Schema) -> Result<Option<&str>, Problem> {
        let Self::Column(DestinationColumn { column }) = self else { return Ok(None) };
        check_column(schema, column, "utf8", |kind| *kind == DataType::Utf8)
            .map_err(|problem| problem.at(["column"]))?;
        Ok(Some(column))
    }
}

/// Checks that there is a column of a type.
///
/// # Errors
/// If there is none.
pub fn check_column<'s>(
    schema: &'s Schema,
    name: &str,
    wanted: &str,
    is: impl Fn(&DataType) -> bool,
) -> Result<&'s Field, Problem> {
    let field = require_column(name, schema)?;
    if is(field.data_type()) {
        return Ok(field);
    }
    let found = type_name(field.data_type());
    Err(Problem::new(format!("column `{name}` is `{found}` and not {wanted}")).help("an `sql` node can cast it"))
}

/// What is in messages.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ValueSettings {
    /// How rows become messages: `"json"`, `"csv"` or `"raw"`, or a table with settings of the format.
    format: Format<WriteMessages>,
    /// The columns that are in the message. By default all but the one that says where it goes.
    value: Option<Vec<String>>,
}

/// What the settings come to.
#[derive(Clone, Debug)]
pub struct Layout {
    to: Destination,
    value: Option<Vec<String>>,
    format: WriteMessageFormat,
}

impl Layout {
    /// For rows of these columns to begin with. `setting` is the one that says where rows go.
    ///
    /// # Errors
    /// If there are no such columns.
    pub fn new(
        to: &Destination,
        setting: &str,
        of: &ValueSettings,
        schema: &Schema,
        context: &PlanContext,
    ) -> Result<Self, Problem> {
        to.column(schema).map_err(|problem| problem.under(setting))?;
        for column in of.value.iter().flatten() {
            require_column(column, schema).map_err(|problem| problem.at(["value"]))?;
        }
        let columns = value_columns(to, of.value.as_deref(), schema);
        if columns.is_empty() {
            let problem = Problem::new("no column is left for the message");
            let names = schema.fields().iter().map(|field| field.name().as_str());
            return Err(problem.help(format!("name some in `value`; {}", known_names("", names))).at(["value"]));
        }
        let value = schema.project(&columns).map_err(|error| Problem::new(error.to_string()))?;
        Ok(Self { to: to.clone(), value: of.value.clone(), format: of.format.write(&value, context)? })
    }

    /// What makes messages of rows of these columns.
    ///
    /// # Errors
    /// If the format has no place for such columns.
    pub fn encoder(&self, schema: &SchemaRef) -> Result<RowEncoder> {
        let value = value_columns(&self.to, self.value.as_deref(), schema);
        let writer = self.format.open(&Arc::new(schema.project(&value)?))?;
        let (layout, schema) = (self.clone(), schema.clone());
        Ok(RowEncoder { layout, schema, value, writer, payloads: Payloads::default() })
    }
}

/// The columns that are in the message, by their numbers.
fn value_columns(to: &Destination, value: Option<&[String]>, schema: &Schema) -> Vec<usize> {
    if let Some(names) = value {
        return names.iter().filter_map(|name| schema.index_of(name).ok()).collect();
    }
    let is_beside = |name: &String| matches!(to, Destination::Column(of) if of.column == *name);
    let fields = schema.fields().iter().enumerate();
    fields.filter(|(_, field)| !is_beside(field.name())).map(|(index, _)| index).collect()
}

/// Makes messages of rows of certain columns.
pub struct RowEncoder {
    layout: Layout,
    schema: SchemaRef,
    value: Vec<usize>,
    writer: Box<dyn MessageWriter>,
    payloads: Payloads,
}

impl RowEncoder {
    /// The rows as messages. Their columns may be others than those of the rows before.
    ///
    /// # Errors
    /// If the format has no place for such columns.
    pub fn encode(&mut self, rows: &RecordBatch) -> Result<Messages<'_>> {
        if rows.schema_ref() != &self.schema {
            *self = self.layout.encoder(rows.schema_ref())?;
        }
        self.payloads.clear();
        self.writer.encode(&rows.project(&self.value)?, &mut self.payloads)?;
        let (fixed, column) = match &self.layout.to {
            Destination::Name(name) => (Some(name.as_str()), None),
            Destination::Column(of) => {
                (None, rows.column_by_name(&of.column).map(|column| column.as_string::<i32>().clone()))
            }
        };
        Ok(Messages { values: self.payloads.iter().collect(), refused: self.payloads.refused(), fixed, column })
    }
}

/// Rows as messages.
pub struct Messages<'a> {
    values: Vec<Option<&'a [u8]>>,
    /// The rows that can't be written, in their order, and why.
    refused: &'a [(usize, String)],
    fixed: Option<&'a str>,
    column: Option<StringArray>,
}

impl Messages<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Where one of them goes, if that is known.
    pub fn to(&self, row: usize) -> Option<&str> {
        let column = self.column.as_ref().filter(|column| column.is_valid(row));
        self.fixed.or_else(|| column.map(|column| column.value(row)))
    }

    /// Why one of them can't be written, if it can't.
    pub fn refusal(&self, row: usize) -> Option<&str> {
        let found = self.refused.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(&self.refused[found].1)
    }

    /// What is in one of them; nothing where it has no value.
    pub fn value(&self, row: usize) -> &[u8] {
        self.values[row].unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::table;
    use serde_json::json;

    use super::*;

    fn messages(to: serde_json::Value, of: serde_json::Value, rows: &RecordBatch) -> Result<Vec<String>, Problem> {
        let (to, of): (Destination, ValueSettings) =
            (serde_json::from_value(to).unwrap(), serde_json::from_value(of).unwrap());
        let layout = Layout::new(&to, "topic", &of, rows.schema_ref(), &millstream_testkit::context())?;
        let mut encoder = layout.encoder(rows.schema_ref()).unwrap();
        let messages = encoder.encode(rows).unwrap();
        let text = |row| format!("{:?} {}", messages.to(row), String::from_utf8_lossy(messages.value(row)));
        Ok((0..messages.len()).map(text).collect())
    }

    #[test]
    fn columns_become_what_they_are_for() {
        let rows = table("place:utf8? n:int64 text:utf8?\n a 1 x\n null 2 null");
        let column = json!({ "column": "place" });
        assert_eq!(
            messages(column.clone(), json!({ "format": "json" }), &rows).unwrap(),
            [r#"Some("a") {"n":1,"text":"x"}"#, r#"None {"n":2}"#]
        );
        let raw = json!({ "format": "raw", "value": ["text"] });
        assert_eq!(messages(json!("t"), raw.clone(), &rows).unwrap(), [r#"Some("t") x"#, r#"Some("t") "#]);
        assert!(messages(json!({ "column": "n" }), raw, &rows).unwrap_err().message.contains("`int64` and not utf8"));
        assert!(messages(column, json!({ "format": "json", "value": ["m"] }), &rows).is_err());
    }
}
