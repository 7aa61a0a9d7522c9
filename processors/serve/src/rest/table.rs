//! Rows as JSON, and predictions as such: what the protocols have in common that know rows and no tensors.

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use millstream_core::known_names;
use serde_json::{Map, Value};

use crate::cells::Cells;
use crate::exact::exact;
use crate::refusal::Refusal;
use crate::served::{Output, Served};
use crate::tensor::Tensor;

/// Rows that are objects by the names of the features, or lists in their order. `place` is where they are in the body.
pub fn of_rows(served: &Served, place: &str, rows: &[Value]) -> Result<RecordBatch, Refusal> {
    let mut cells = empty(served);
    for (at, row) in rows.iter().enumerate() {
        match row {
            Value::Object(object) => add_object(served, object, &mut cells, || format!("{place}[{at}]"))?,
            Value::Array(list) => add_list(served, list, &mut cells, || format!("{place}[{at}]"))?,
            // Of a model of one feature a row may be its value.
            value if cells.len() == 1 => add(&mut cells[0], value, || format!("{place}[{at}]"))?,
            _ => {
                let message = format!(
                    "`{place}[{at}]` is neither an object by the names of the features nor a list of their values"
                );
                return Err(Refusal::wrong(message));
            }
        }
    }
    batch(served, cells, rows.len())
}

/// Rows of which each is a list of values, whose names are said once.
pub fn of_split(served: &Served, place: &str, columns: &[String], rows: &[Vec<Value>]) -> Result<RecordBatch, Refusal> {
    let places = served.features().iter().map(|feature| {
        let known = || known_names(&feature.name, columns.iter().map(String::as_str));
        let at = columns.iter().position(|column| *column == feature.name);
        at.ok_or_else(|| Refusal::wrong(format!("`{place}.columns` lacks the feature `{}`; {}", feature.name, known())))
    });
    let places: Vec<usize> = places.collect::<Result<_, _>>()?;
    let mut cells = empty(served);
    for (at, row) in rows.iter().enumerate() {
        if row.len() != columns.len() {
            let (found, due) = (row.len(), columns.len());
            return Err(Refusal::wrong(format!(
                "`{place}.data[{at}]` has {found} values, and there are {due} columns"
            )));
        }
        for (cells, column) in cells.iter_mut().zip(&places) {
            add(cells, &row[*column], || format!("{place}.data[{at}][{column}]"))?;
        }
    }
    batch(served, cells, rows.len())
}

/// Columns by their names, each a list of the values of all rows.
pub fn of_columns(served: &Served, place: &str, columns: &Map<String, Value>) -> Result<RecordBatch, Refusal> {
    let mut rows = None;
    let mut cells = empty(served);
    for (feature, cells) in served.features().iter().zip(&mut cells) {
        let name = &feature.name;
        let column = columns.get(name).ok_or_else(|| {
            let known = known_names(name, columns.keys().map(String::as_str));
            Refusal::wrong(format!("`{place}` lacks the feature `{name}`; {known}"))
        })?;
        let one = std::slice::from_ref(column);
        let values = column.as_array().map_or(one, Vec::as_slice);
        for (at, value) in values.iter().enumerate() {
            add(cells, value, || format!("{place}.{name}[{at}]"))?;
        }
        let due = *rows.get_or_insert(values.len());
        if values.len() != due {
            let found = values.len();
            return Err(Refusal::wrong(format!(
                "`{place}.{name}` has {found} values, and the columns before have {due}"
            )));
        }
    }
    batch(served, cells, rows.unwrap_or(0))
}

fn empty(served: &Served) -> Vec<Cells> {
    vec![Cells::default(); served.features().len()]
}

fn add_object(
    served: &Served,
    row: &Map<String, Value>,
    cells: &mut [Cells],
    place: impl Fn() -> String,
) -> Result<(), Refusal> {
    for (feature, cells) in served.features().iter().zip(cells) {
        let name = &feature.name;
        let value = row.get(name).ok_or_else(|| {
            let known = known_names(name, row.keys().map(String::as_str));
            Refusal::wrong(format!("`{}` lacks the feature `{name}`; {known}", place()))
        })?;
        add(cells, value, || format!("{}.{name}", place()))?;
    }
    Ok(())
}

fn add_list(served: &Served, row: &[Value], cells: &mut [Cells], place: impl Fn() -> String) -> Result<(), Refusal> {
    if row.len() != cells.len() {
        let (found, due, model) = (row.len(), cells.len(), &served.model);
        return Err(Refusal::wrong(format!(
            "`{}` has {found} values, and model `{model}` has {due} features",
            place()
        )));
    }
    let cells = cells.iter_mut().zip(row).enumerate();
    cells.into_iter().try_for_each(|(at, (cells, value))| add(cells, value, || format!("{}[{at}]", place())))
}

fn add(cells: &mut Cells, value: &Value, place: impl FnOnce() -> String) -> Result<(), Refusal> {
    cells.push(value).map_err(|why| Refusal::wrong(format!("`{}`: {why}", place())))
}

fn batch(served: &Served, cells: Vec<Cells>, rows: usize) -> Result<RecordBatch, Refusal> {
    let columns: Vec<_> = cells.into_iter().map(Cells::into_column).collect();
    served.rows_of_columns(&columns, rows)
}

/// Predictions, an object a row. What is no number in JSON is null.
pub fn records(served: &Served, tensors: &[Tensor]) -> Vec<Value> {
    let rows = tensors.first().map_or(0, Tensor::rows);
    let columns: Vec<_> =
        served.outputs.iter().zip(tensors).map(|(output, tensor)| (output, plain(&tensor.values))).collect();
    let value = |output: &Output, values: &ArrayRef, row: usize| match output.labels.len() {
        0 => cell(values, row),
        width => {
            let of_class = |(at, label): (usize, &String)| (label.clone(), cell(values, row * width + at));
            Value::Object(output.labels.iter().enumerate().map(of_class).collect())
        }
    };
    let record =
        |row| columns.iter().map(|(output, values)| (output.name.clone(), value(output, values, row))).collect();
    (0..rows).map(record).map(Value::Object).collect()
}

/// Predictions, a value a row where the model has only one output, else an object.
pub fn values(served: &Served, tensors: &[Tensor]) -> Vec<Value> {
    let records = records(served, tensors);
    match &served.outputs[..] {
        [only] if only.labels.is_empty() => records.into_iter().map(|mut record| record[&only.name].take()).collect(),
        _ => records,
    }
}

/// The values as one of the types that `cell` knows.
fn plain(values: &ArrayRef) -> ArrayRef {
    let target = match values.data_type() {
        DataType::Boolean | DataType::Utf8 => return values.clone(),
        other if other.is_integer() => DataType::Int64,
        _ => DataType::Float64,
    };
    exact(values, &target).unwrap_or_else(|_| values.clone())
}

fn cell(values: &ArrayRef, at: usize) -> Value {
    if values.is_null(at) {
        return Value::Null;
    }
    match values.data_type() {
        DataType::Boolean => values.as_boolean().value(at).into(),
        DataType::Utf8 => values.as_string::<i32>().value(at).into(),
        DataType::Int64 => values.as_primitive::<Int64Type>().value(at).into(),
        DataType::Float64 => values.as_primitive::<Float64Type>().value(at).into(),
        _ => Value::Null,
    }
}
