//! Columns in another type, without losing anything on the way.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, nullif};
use arrow::datatypes::{DataType, Field};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::{ColumnType, Problem, Result, canonical_floats, type_name, with_article};
use millstream_formats::TextValues;

use crate::refused::Refused;

/// How a column gets another type.
#[derive(Clone, Debug)]
pub struct Conversion {
    name: String,
    to: DataType,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    /// Texts, by the rules of formats.
    Read(Arc<TextValues>),
    /// By Arrow's kernel, over other types between.
    Cast(Vec<DataType>),
    /// The same, where what comes back has to be what went in.
    Exact(Vec<DataType>),
}

impl Conversion {
    /// From a column to another type; none if it has that.
    pub fn new(from: &Field, to: &ColumnType) -> Result<Option<Self>, Problem> {
        let how = match (from.data_type(), &to.data_type) {
            (one, other) if one == other && !to.is_json => return Ok(None),
            (DataType::Utf8, _) => TextValues::new(to).map(|values| How::Read(values.into())),
            (integer, DataType::Timestamp(..)) if integer.is_integer() => {
                let Some(unit) = to.unit else {
                    let problem =
                        Problem::new(format!("`{}` is {}, which may count anything", from.name(), type_name(integer)));
                    return Err(problem.help("say what a timestamp counts: `timestamp(s)`, `timestamp(ms)`, `timestamp(us)` or `timestamp(ns)`"));
                };
                Some(How::Cast(vec![
                    DataType::Int64,
                    DataType::Timestamp(unit, Some("UTC".into())),
                    to.data_type.clone(),
                ]))
            }
            (DataType::Timestamp(..) | DataType::Date32 | DataType::Time64(_), other) if other.is_numeric() => None,
            (_, DataType::Timestamp(..) | DataType::Date32 | DataType::Time64(_)) if from.data_type().is_numeric() => {
                None
            }
            (one, other) if can_cast_types(one, other) => {
                let is_exact = other.is_integer() || matches!(other, DataType::Decimal128(..) | DataType::Date32);
                let path = vec![other.clone()];
                Some(if is_exact && !one.is_nested() { How::Exact(path) } else { How::Cast(path) })
            }
            _ => None,
        };
        match how {
            Some(how) => Ok(Some(Self { name: from.name().clone(), to: to.data_type.clone(), how })),
            None => {
                let (from, to) = (type_name(from.data_type()), type_name(&to.data_type));
                Err(Problem::new(format!("{from} can't become {to}")).help("an `sql` node can compute it"))
            }
        }
    }

    /// The values in the other type. Those that have no place there are null, and their rows refused.
    pub fn apply(&self, column: &ArrayRef, refused: &mut Refused) -> Result<ArrayRef> {
        let converted = match &self.how {
            How::Read(values) => values.decode(column.as_string::<i32>().iter(), column.len(), &mut |_, _| ()),
            How::Cast(path) => cast(column, path)?,
            How::Exact(path) => exact(column, cast(column, path)?)?,
        };
        refused.add_new_nulls(column, &converted, |row| {
            let text = shown(column, row);
            format!("column `{}`: `{text}` is not {}", self.name, with_article(&type_name(&self.to)))
        });
        Ok(converted)
    }
}

fn cast(column: &ArrayRef, path: &[DataType]) -> Result<ArrayRef> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    Ok(path.iter().try_fold(column.clone(), |column, to| cast_with_options(&column, to, &options))?)
}

/// The converted values without those that would not become again what they were.
fn exact(column: &ArrayRef, converted: ArrayRef) -> Result<ArrayRef> {
    let back = cast(&converted, &[column.data_type().clone()])?;
    let lost: BooleanArray = distinct(&canonical_floats(&back), &canonical_floats(column))?;
    if lost.true_count() == 0 { Ok(converted) } else { Ok(nullif(&converted, &lost)?) }
}

/// A value as people read it, or its beginning.
pub fn shown(column: &ArrayRef, row: usize) -> String {
    const MOST: usize = 80;
    let formatter = ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default());
    let text = formatter.map(|formatter| formatter.value(row).to_string()).unwrap_or_default();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
