//! Tables as text: a line of `name:type` columns, then a line a row.

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::{ColumnType, Columns, type_name};

/// Columns such as `id:int64 amount:float64? country`; without a type it is `utf8?`.
pub fn schema(header: &str) -> SchemaRef {
    let column = |text: &str| {
        let (name, kind) = text.split_once(':').unwrap_or((text, "utf8?"));
        (name.to_owned(), ColumnType::parse(kind).unwrap())
    };
    Columns(header.split_whitespace().map(column).collect()).schema()
}

/// A table: the first line as for [`schema`], then one line a row. Cells are separated by spaces, `null` is null, and
/// a cell with spaces in it stands in double quotes.
///
/// ```
/// let rows = millstream_testkit::table("id:int64 name\n 1 Ada\n 2 null\n 3 \"Grace Hopper\"");
/// assert_eq!(rows.num_rows(), 3);
/// ```
pub fn table(text: &str) -> RecordBatch {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let schema = schema(lines.next().expect("a table starts with its columns"));
    let rows: Vec<Vec<Option<String>>> = lines.map(cells).collect();
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let cell = |row: &Vec<Option<String>>| row.get(index).expect("a cell for every column").clone();
        let texts: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(cell)));
        match field.data_type() {
            DataType::Utf8 => texts,
            other => arrow::compute::cast_with_options(
                &texts,
                other,
                &arrow::compute::CastOptions { safe: false, ..Default::default() },
            )
            .unwrap(),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

fn cells(line: &str) -> Vec<Option<String>> {
    let mut cells = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (cell, quoted, next) = match rest.strip_prefix('"') {
            Some(open) => open.split_once('"').map(|(cell, next)| (cell, true, next)).expect("a closing quote"),
            None => match rest.split_once(char::is_whitespace) {
                Some((cell, next)) => (cell, false, next),
                None => (rest, false, ""),
            },
        };
        cells.push((quoted || cell != "null").then(|| cell.to_owned()));
        rest = next.trim_start();
    }
    cells
}

/// Batches in the form that [`table`] reads, with canonical spacing: equal texts are equal rows.
pub fn rows_as_text<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> String {
    let mut text = Vec::new();
    for (number, rows) in batches.into_iter().enumerate() {
        if number == 0 {
            let columns: Vec<_> = rows
                .schema()
                .fields()
                .iter()
                .map(|field| {
                    let question = if field.is_nullable() { "?" } else { "" };
                    format!("{}:{}{question}", field.name(), type_name(field.data_type()))
                })
                .collect();
            writeln!(text, "{}", columns.join(" ")).unwrap();
        }
        let options = FormatOptions::default().with_null("null");
        let columns: Vec<_> =
            rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..rows.num_rows() {
            let cells: Vec<_> = columns.iter().map(|column| quoted(&column.value(row).to_string())).collect();
            writeln!(text, "{}", cells.join(" ")).unwrap();
        }
    }
    String::from_utf8(text).unwrap()
}

fn quoted(cell: &str) -> String {
    if cell.is_empty() || cell.contains(char::is_whitespace) { format!("\"{cell}\"") } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_back_as_it_was_written() {
        let text = "id:int64 name:utf8? amount:float64?\n1 Ada 2.5\n2 null null\n3 \"Grace Hopper\" 1.0\n";
        assert_eq!(rows_as_text([&table(text)]), text);
    }
}
