//! The processor `parse`: a text in a column to columns of its own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{
    Batch, Collector, Columns, Kind, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Result, Step, Stream, Uses, require_column, type_name,
};
use millstream_formats::{Format, MessageReader, MessageReaders, ReadMessages, Rows};
use schemars::JsonSchema;
use serde::Deserialize;

/// Reads the text or the bytes in a column as a row of their own, and puts its columns behind the others. A row whose text can't be read
/// leaves by `failed` with all that it has. Where there is no text, the new columns are null if all of them may be; otherwise the
/// row fails.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParseSettings {
    /// The column that is read, of the type `utf8` or `binary`.
    column: String,
    /// How it is written.
    format: Format<ReadMessages>,
    /// The columns that it has: `{ at = "timestamp", status = "int32", bytes = "int64?" }`.
    schema: Columns,
    /// What the names of the new columns begin with, such as `"log_"`; by default nothing.
    #[serde(default)]
    prefix: String,
    /// Whether the column that is read stays.
    #[serde(default)]
    keep: bool,
}

impl Kind for ParseSettings {
    const NAME: &'static str = "parse";
    const ALSO_CALLED: &'static [&'static str] = &["grok", "extract", "json_parse", "parse_json", "kv", "decode"];
    const EXAMPLE: &'static str = r#"column = "line"
format = { type = "grok", pattern = "^%{COMBINEDAPACHELOG}$", timestamp_format = "%d/%b/%Y:%H:%M:%S %z" }
schema = { clientip = "utf8", timestamp = "timestamp", verb = "utf8?", request = "utf8?", response = "int32", bytes = "int64?" }"#;
}

impl ProcessorSettings for ParseSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let mut problems = Problems::new();
        if let Err(problem) = require_column(&self.column, schema).and_then(has_text) {
            problems.push(problem.at(["column"]));
        }
        let readers = self.readers(context).map_err(|problem| problems.push(problem));
        let kept = schema.fields().iter().filter(|field| self.keep || *field.name() != self.column);
        let mut fields: Vec<_> = kept.cloned().collect();
        for (name, column) in &self.schema.0 {
            let field = column.field(&(self.prefix.clone() + name));
            if fields.iter().any(|known| known.name() == field.name()) {
                let problem = Problem::new(format!("there is a column `{}` already", field.name()));
                let step = Step::Name(name.clone());
                problems.push(problem.help("`prefix` gives the new columns other names").under(step).under("schema"));
            }
            fields.push(field.into());
        }
        match (schema.index_of(&self.column), readers, problems.is_empty()) {
            (Ok(column), Ok(readers), true) => {
                let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
                let is_nullable = self.schema.0.iter().all(|(_, column)| column.nullable);
                let ports = vec![PortPlan::main(schema.clone())];
                let parse = Parse { reader: readers.open(), readers, column, keep: self.keep, is_nullable, schema };
                let uses = vec![Uses::passing_on([self.column.clone()])];
                Ok(ProcessorPlan { ports, uses, fails: true, build: Box::new(|| Ok(Box::new(parse))) })
            }
            _ => Err(problems),
        }
    }
}

impl ParseSettings {
    fn readers(&self, context: &PlanContext) -> Result<MessageReaders, Problem> {
        if self.schema.0.is_empty() {
            return Err(Problem::new("there are no columns").help("such as `{ status = \"int32\" }`").at(["schema"]));
        }
        self.format.readers(&self.schema, &PlanContext { columns: None, ..context.clone() })
    }
}

fn has_text(field: &Field) -> Result<(), Problem> {
    match field.data_type() {
        DataType::Utf8 | DataType::Binary => Ok(()),
        other => {
            let problem = Problem::new(format!("`{}` is {}, not a text", field.name(), type_name(other)));
            Err(problem.help("take a column of the type `utf8` or `binary`"))
        }
    }
}

struct Parse {
    readers: MessageReaders,
    reader: Box<dyn MessageReader>,
    /// The column that is read.
    column: usize,
    keep: bool,
    /// Whether a row without a text has null in all columns, or fails.
    is_nullable: bool,
    schema: SchemaRef,
}

impl Parse {
    /// The rows with new columns behind theirs, where each row has some.
    fn join(&self, rows: &RecordBatch, parsed: &RecordBatch) -> Result<RecordBatch> {
        let kept = rows.columns().iter().enumerate().filter(|(place, _)| self.keep || *place != self.column);
        let columns: Vec<ArrayRef> = kept.map(|(_, column)| column).chain(parsed.columns()).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// The same where some rows failed, or have no text. `texts` says which rows have one.
    fn join_some(&self, batch: &Batch, read: Rows, texts: &[u32], out: &mut Collector) -> Result<RecordBatch> {
        let place = |position: u64| texts[position as usize] as usize;
        let mut places: Vec<Option<u32>> = vec![None; batch.len()];
        let mut next = 0;
        for (start, rows) in &read.batches {
            for position in *start..start + rows.num_rows() as u64 {
                places[place(position)] = Some(next);
                next += 1;
            }
        }
        let mut failed: Vec<(usize, String)> =
            read.failed.into_iter().map(|row| (place(row.position), row.error)).collect();
        let column = batch.rows.column(self.column);
        if !self.is_nullable {
            let null = format!("column `{}` is null", batch.rows.schema_ref().field(self.column).name());
            failed.extend((0..batch.len()).filter(|row| column.is_null(*row)).map(|row| (row, null.clone())));
            failed.sort_by_key(|(row, _)| *row);
        }
        let mut is_kept = vec![true; batch.len()];
        for (row, why) in failed {
            is_kept[row] = false;
            out.fail_row(batch, row, why)?;
        }
        let taken: UInt32Array =
            places.iter().zip(&is_kept).filter(|(_, kept)| **kept).map(|(place, _)| *place).collect();
        let parsed = concat_batches(self.reader.schema(), read.batches.iter().map(|(_, rows)| rows))?;
        let rows = filter_record_batch(&batch.rows, &BooleanArray::from(is_kept))?;
        self.join(&rows, &take_record_batch(&parsed, &taken)?)
    }
}

impl Processor for Parse {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let (messages, texts) = messages(batch.rows.column(self.column));
        let mut read = Rows::default();
        self.reader.decode(&messages, &mut read)?;
        let rows = match read.batches.as_slice() {
            [(0, parsed)] if parsed.num_rows() == batch.len() => self.join(&batch.rows, parsed)?,
            _ => self.join_some(&batch, read, &texts, out)?,
        };
        out.push(0, batch.with_rows(rows));
        Ok(())
    }

    fn lane(&self) -> Option<Box<dyn Processor>> {
        let (readers, schema) = (self.readers.clone(), self.schema.clone());
        Some(Box::new(Self { reader: readers.open(), readers, schema, ..*self }))
    }
}

/// The texts that there are, and their rows.
fn messages(column: &ArrayRef) -> (Vec<Option<&[u8]>>, Vec<u32>) {
    fn there<'a>(texts: impl Iterator<Item = Option<&'a [u8]>>) -> (Vec<Option<&'a [u8]>>, Vec<u32>) {
        texts.zip(0..).filter(|(text, _)| text.is_some()).unzip()
    }
    match column.as_string_opt::<i32>() {
        Some(texts) => there(texts.iter().map(|text| text.map(str::as_bytes))),
        None => there(column.as_binary::<i32>().iter()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{context, drive, parse, stream, table};

    use super::*;

    /// The rows that leave, and why others failed.
    fn parsed(settings: &str, rows: &str) -> (String, Vec<String>) {
        let settings: ParseSettings = parse(settings);
        let rows = table(rows);
        let whole = drive(&settings, &[("from", rows.clone())], 8192);
        for batch_rows in [1, 2] {
            assert_eq!(drive(&settings, &[("from", rows.clone())], batch_rows).text("main"), whole.text("main"));
        }
        (whole.text("main"), whole.failed.into_iter().map(|row| row.error).collect())
    }

    #[test]
    fn rows_that_cannot_be_read_fail_with_all_that_they_have() {
        let settings: ParseSettings = parse(
            "column = 'line'\nformat = { type = 'regex', pattern = '^(?<k>\\w+)-(?<n>\\d+)$' }\nschema = { k = 'utf8', n = 'int8' }",
        );
        let rows = table("id:int64 line:utf8?\n 1 a-1\n 2 no\n 3 b-2\n 4 c-999\n 5 null\n 6 d-3");
        for batch_rows in [1, 4, 100] {
            let driven = drive(&settings, &[("from", rows.clone())], batch_rows);
            assert_eq!(driven.text("main"), "id:int64 k:utf8 n:int8\n1 a 1\n3 b 2\n6 d 3\n");
            let failed: Vec<_> = driven.failed.iter().map(|row| (row.error.as_str(), row.row.as_str())).collect();
            let expected = [
                ("the text does not match the pattern", r#"{"id":2,"line":"no"}"#),
                ("column `n`: `999` is not an `int8`", r#"{"id":4,"line":"c-999"}"#),
                ("column `line` is null", r#"{"id":5}"#),
            ];
            assert_eq!(failed, expected);
        }
    }

    #[test]
    fn json_and_csv_are_read_as_messages_are() {
        let json = "column = 'j'\nformat = 'json'\nschema = { a = 'int64?', b = 'list<utf8>?' }";
        let rows = "j:utf8? id:int64\n {\"a\":1,\"b\":[\"x\"]} 1\n {} 2\n null 3\n [ 4";
        let (rows, failed) = parsed(json, rows);
        assert_eq!(rows, "id:int64 a:int64? b:list<utf8>?\n1 1 [x]\n2 null null\n3 null null\n");
        assert_eq!(failed.len(), 1);
        let csv = "column = 'c'\nformat = { type = 'csv', delimiter = ';' }\nschema = { a = 'int64', b = 'utf8?' }";
        let (rows, failed) = parsed(csv, "c:utf8\n 1;x\n 2;\n 3");
        assert_eq!(rows, "a:int64 b:utf8?\n1 x\n2 null\n");
        assert_eq!(failed, ["expected 2 fields instead of 1"]);
    }

    #[test]
    fn the_text_may_stay_and_names_have_a_prefix() {
        let settings = "column = 'kv'\nformat = 'key_value'\nschema = { kv = 'utf8?' }\nprefix = 'new_'\nkeep = true";
        assert_eq!(
            parsed(settings, "kv:utf8\n kv=1\n \"kv=2 a=3\"").0,
            "kv:utf8 new_kv:utf8?\nkv=1 1\n\"kv=2 a=3\" 2\n"
        );
        let dropped = "column = 'kv'\nformat = 'key_value'\nschema = { kv = 'utf8?' }";
        assert_eq!(parsed(dropped, "kv:utf8\n kv=1").0, "kv:utf8?\n1\n");
    }

    #[test]
    fn lines_of_logs_are_read_by_grok() {
        let settings: ParseSettings = parse(ParseSettings::EXAMPLE);
        let lines = concat!(
            r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)""#,
            "\n",
            r#"2001:db8::1 - - [10/Oct/2000:13:55:37 -0700] "\x16\x03" 400 - "-" "-""#,
            "\n",
            "no line of a log",
        );
        let column: ArrayRef = Arc::new(arrow::array::StringArray::from_iter(lines.lines().map(Some)));
        let driven = drive(&settings, &[("from", RecordBatch::try_from_iter([("line", column)]).unwrap())], 100);
        let expected = "clientip:utf8 timestamp:timestamp verb:utf8? request:utf8? response:int32 bytes:int64?\n\
                        127.0.0.1 2000-10-10T20:55:36Z GET /apache_pb.gif 200 2326\n\
                        2001:db8::1 2000-10-10T20:55:37Z null null 400 null\n";
        assert_eq!(driven.text("main"), expected);
        assert_eq!(driven.failed[0].error, "the text does not match the pattern");
    }

    #[test]
    fn what_cannot_be_is_found_while_it_is_planned() {
        let streams = [stream("from", table("line:utf8 n:int64\n").schema())];
        let problem = |settings: &str| {
            let problems = parse::<ParseSettings>(settings).plan(&context(), &streams).unwrap_err();
            (problems[0].message.clone(), problems[0].at.clone())
        };
        let json =
            |column: &str, schema: &str| format!("column = '{column}'\nformat = 'json'\nschema = {{ {schema} }}");
        assert_eq!(problem(&json("lime", "a = 'utf8'")).0, "there is no column `lime`");
        assert_eq!(problem(&json("n", "a = 'utf8'")).0, "`n` is int64, not a text");
        assert_eq!(problem(&json("line", "n = 'utf8'")).1, ["schema".into(), Step::Name("n".into())]);
        assert_eq!(problem(&json("line", "")).1, ["schema".into()]);
        let regex = "column = 'line'\nformat = { type = 'regex', pattern = '(?<a>.' }\nschema = { a = 'utf8' }";
        assert_eq!(problem(regex).0, "the pattern can't be used: unclosed group");
        let regex = "column = 'line'\nformat = { type = 'regex', pattern = '(?<a>.)' }\nschema = { b = 'utf8' }";
        assert_eq!(problem(regex).0, "the pattern has no field `b`");
    }
}
