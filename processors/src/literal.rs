//! Values in settings, for columns of any type.

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use millstream_core::{ColumnType, Problem, type_name, with_article};
use millstream_formats::TextValues;
use schemars::JsonSchema;
use serde::Deserialize;

/// A value as a flow file has it. Dates, times and timestamps are texts in ISO 8601.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Literal {
    /// `true` or `false`.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// Any number.
    Float(f64),
    /// A text, or what is written as one.
    Text(String),
}

impl Literal {
    /// The value as a text.
    pub fn text(&self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// The values as a column of a field's type.
pub fn values<'a>(literals: impl IntoIterator<Item = &'a Literal>, field: &Field) -> Result<ArrayRef, Problem> {
    let texts: Vec<String> = literals.into_iter().map(Literal::text).collect();
    let kind = type_name(field.data_type());
    let reader = TextValues::new(&ColumnType::new(field.data_type().clone(), false))
        .ok_or_else(|| Problem::new(format!("`{}` is {kind}, which has no single values", field.name())))?;
    let mut refused = None;
    let values = reader.decode(texts.iter().map(|text| Some(text.as_str())), texts.len(), &mut |_, text| {
        let problem = || Problem::new(format!("`{text}` is not {}, as `{}` is", with_article(&kind), field.name()));
        refused.get_or_insert_with(problem);
    });
    refused.map_or(Ok(values), Err)
}
