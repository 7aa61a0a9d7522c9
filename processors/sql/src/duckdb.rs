//! What DuckDB computes for some hundred expressions (`tests/data`), beside what `sql` nodes compute. The differences that stay are
//! listed with their reasons, which `flows/SQL.md` explains; one that is gone must leave the list.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::ProcessorSettings;
use millstream_testkit::{context, drive, parse, stream};
use serde_json::Value;

use crate::sql::SqlSettings;

mod differences;

use differences::DIFFERENCES;

/// What a row gives: a value as text, null, or nothing because it fails.
type Given = Result<Option<String>, ()>;

fn column(sql_type: &str, values: Vec<Option<String>>) -> ArrayRef {
    let to = match sql_type {
        "bigint" => DataType::Int64,
        "integer" => DataType::Int32,
        "double" => DataType::Float64,
        "varchar" => DataType::Utf8,
        "boolean" => DataType::Boolean,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "date" => DataType::Date32,
        "bigint[]" => DataType::List(Arc::new(Field::new("item", DataType::Int64, true))),
        "varchar[]" => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
        decimal => {
            let digits = decimal.trim_start_matches("decimal(").trim_end_matches(')').split_once(',').unwrap();
            DataType::Decimal128(digits.0.parse().unwrap(), digits.1.parse().unwrap())
        }
    };
    let texts: ArrayRef = match &to {
        DataType::List(_) => Arc::new(lists(&values)),
        _ => Arc::new(StringArray::from(values)),
    };
    cast(&texts, &to).unwrap()
}

fn lists(values: &[Option<String>]) -> arrow::array::ListArray {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for value in values {
        let items = value.as_ref().map(|value| value.replace('\'', "\"").replace("NULL", "null"));
        let items: Option<Vec<Value>> = items.map(|items| serde_json::from_str(&items).unwrap());
        lists.append_option(items.map(|items| {
            items.into_iter().map(|item| match item {
                Value::Null => None,
                Value::String(text) => Some(text),
                other => Some(other.to_string()),
            })
        }));
    }
    lists.finish()
}

fn rows(header: &Value) -> RecordBatch {
    let rows = header["rows"].as_array().unwrap();
    let numbers = Int64Array::from_iter_values(0..rows.len() as i64);
    let mut columns: Vec<(&str, ArrayRef)> = vec![("n", Arc::new(numbers))];
    for (place, (name, sql_type)) in header["columns"].as_object().unwrap().iter().enumerate() {
        let values = rows.iter().map(|row| row[place].as_str().map(str::to_owned)).collect();
        columns.push((name, column(sql_type.as_str().unwrap(), values)));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

/// What an expression gives for each row; the error is why it is refused.
fn computed(sql: &str, rows: &RecordBatch) -> Result<Vec<Given>, String> {
    let settings: SqlSettings = parse(&format!("query = '''SELECT n, {sql} AS value FROM input'''"));
    let planned = settings.plan(&context(), &[stream("from", rows.schema())]);
    planned.map_err(|problems| problems[0].message.clone())?;
    let driven = drive(&settings, &[("from", rows.clone())], 8192);
    let mut given: Vec<Given> = vec![Err(()); rows.num_rows()];
    let options = FormatOptions::default();
    for batch in driven.ports.get("main").into_iter().flatten() {
        let values = ArrayFormatter::try_new(batch.column(1), &options).unwrap();
        for (row, number) in batch.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
            let is_null = batch.column(1).is_null(row);
            given[*number as usize] = Ok((!is_null).then(|| values.value(row).to_string()));
        }
    }
    Ok(given)
}

fn expected(value: &Value) -> Given {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(()),
    }
}

/// Whether two values are the same: numbers within what functions of the C library differ.
fn same(ours: &Given, theirs: &Given) -> bool {
    match (ours, theirs) {
        (Ok(Some(ours)), Ok(Some(theirs))) => {
            let (ours, theirs): (Vec<_>, Vec<_>) = (items(ours), items(theirs));
            ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(ours, theirs)| same_value(ours, theirs))
        }
        _ => ours == theirs,
    }
}

fn items(text: &str) -> Vec<&str> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(items) => items.split(", ").collect(),
        None => vec![text],
    }
}

fn same_value(ours: &str, theirs: &str) -> bool {
    if ours.trim_end_matches('Z') == theirs.trim_end_matches('Z') {
        return true;
    }
    match (ours.parse::<f64>(), theirs.parse::<f64>()) {
        (Ok(ours), Ok(theirs)) if ours.is_nan() => theirs.is_nan(),
        (Ok(ours), Ok(theirs)) => ours == theirs || (ours - theirs).abs() <= 4e-15 * ours.abs().max(theirs.abs()),
        // Fractions of a second have three, six or nine digits, or six.
        _ => ours.contains(':') && fraction(ours) == fraction(theirs),
    }
}

fn fraction(text: &str) -> &str {
    text.trim_end_matches('Z').trim_end_matches('0')
}

/// How many expressions were compared, and what differs, of lines as `make_duckdb_fixtures.py` writes them.
fn compare(text: &str) -> (usize, Vec<String>) {
    let known: BTreeMap<&str, _> =
        DIFFERENCES.iter().flat_map(|(why, all)| all.iter().map(move |sql| (*sql, *why))).collect();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rows = rows(&lines.next().unwrap());
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in lines {
        let sql = line["sql"].as_str().unwrap();
        compared += 1;
        let told = differing(sql, &rows, line["values"].as_array().unwrap());
        match (told.is_empty(), known.contains_key(sql)) {
            (false, false) => wrong.push(format!("{sql}: {}", told.join("; "))),
            (true, true) => wrong.push(format!("{sql}: no longer differs")),
            _ => {}
        }
    }
    (compared, wrong)
}

/// The rows for which an expression gives something else.
fn differing(sql: &str, rows: &RecordBatch, theirs: &[Value]) -> Vec<String> {
    let given = match computed(sql, rows) {
        Err(why) => return vec![format!("refused: {why}")],
        Ok(given) => given,
    };
    let pairs = given.iter().zip(theirs.iter().map(expected)).enumerate();
    let differ = pairs.filter(|(_, (ours, theirs))| !same(ours, theirs));
    differ.map(|(row, (ours, theirs))| format!("row {row}: {ours:?}, DuckDB {theirs:?}")).collect()
}

#[test]
fn expressions_give_what_duckdb_gives() {
    let (compared, wrong) = compare(include_str!("../tests/data/duckdb.ndjson"));
    assert!(compared > 300);
    assert!(wrong.is_empty(), "{} of {compared} expressions:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
#[ignore = "tests/differential/sql writes the expressions"]
fn random_expressions_give_what_duckdb_gives() {
    let file = std::env::var("MILLSTREAM_DUCKDB").expect("tests/differential/sql sets it");
    let (compared, wrong) = compare(&std::fs::read_to_string(file).unwrap());
    assert!(wrong.is_empty(), "{} of {compared} expressions:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_difference_is_explained() {
    let page = include_str!("../../../flows/SQL.md");
    for (why, _) in DIFFERENCES {
        assert!(page.contains(why), "flows/SQL.md says nothing of: {why}");
    }
}
