//! Every format both ways, with everything that can be wrong with a file.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use millstream_core::{ColumnType, Columns, Encoding};
use millstream_testkit::{rows_as_text, table};

use crate::*;

const BATCH_ROWS: [usize; 3] = [1, 7, 8192];

fn columns(text: &str) -> Columns {
    let column = |column: &str| {
        let (name, kind) = column.split_once(':').unwrap();
        (name.trim().to_owned(), ColumnType::parse(kind).unwrap())
    };
    Columns(text.split(';').map(column).collect())
}

fn options(format: Format, columns: Columns) -> ReadOptions {
    ReadOptions {
        format,
        compression: None,
        columns,
        wanted: None,
        batch_rows: 8192,
        moments: Moments::default(),
        csv: CsvOptions::default(),
        pace: Pace::Full,
    }
}

fn wanting(options: ReadOptions, names: &[&str]) -> ReadOptions {
    ReadOptions { wanted: Some(names.iter().map(|name| (*name).to_owned()).collect()), ..options }
}

/// What a reader yields: positions of good rows, the rows as one batch, bad rows.
type All = (Vec<u64>, RecordBatch, Vec<BadRow>);

fn drain(mut reader: Box<dyn BatchReader>, batch_rows: usize) -> Result<All, String> {
    let mut rows = Rows::default();
    let mut seen = 0;
    while reader.next(&mut rows).map_err(|error| error.to_string())? {
        let total = rows.batches.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>() + rows.failed.len();
        assert!(total - seen <= batch_rows, "{} rows in one batch of {batch_rows}", total - seen);
        seen = total;
    }
    let positions = rows.batches.iter().flat_map(|(start, rows)| *start..*start + rows.num_rows() as u64).collect();
    let batches: Vec<_> = rows.batches.iter().map(|(_, rows)| rows).collect();
    let all = concat_batches(reader.schema(), batches).unwrap();
    assert!(rows.failed.is_sorted_by_key(|row| row.position));
    Ok((positions, all, rows.failed))
}

/// Gives a few bytes at a time.
struct Dripping(Cursor<Vec<u8>>);

impl Read for Dripping {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(5);
        self.0.read(&mut buffer[..most])
    }
}

/// Reads bytes in batches of any size, at once and dripping, which must all be the same.
fn read(bytes: &[u8], options: &ReadOptions) -> All {
    let mut results = Vec::new();
    for batch_rows in BATCH_ROWS {
        for pace in [Pace::Full, Pace::Eager] {
            let options = ReadOptions { batch_rows, pace, ..options.clone() };
            let source = Cursor::new(bytes.to_vec());
            results.push(drain(options.read(source.clone()).unwrap(), batch_rows).unwrap());
            results.push(drain(options.read(Dripping(source)).unwrap(), batch_rows).unwrap());
        }
    }
    let first = results.remove(0);
    results.iter().for_each(|other| assert_eq!(*other, first));
    first
}

/// Has the bytes that were appended so far.
#[derive(Clone, Default)]
struct Growing(Arc<Mutex<VecDeque<u8>>>);

impl Growing {
    fn append(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend(bytes);
    }
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().read(buffer)
    }
}

fn text_of(rows: &RecordBatch) -> String {
    rows_as_text([rows])
}

fn bad(rows: &[BadRow]) -> Vec<(u64, &str, &str)> {
    rows.iter().map(|row| (row.position, row.row.as_str(), row.error.as_str())).collect()
}

fn csv(columns: &str) -> ReadOptions {
    options(Format::Csv, self::columns(columns))
}

fn ndjson(columns: &str) -> ReadOptions {
    options(Format::Ndjson, self::columns(columns))
}

// --- CSV ---

#[test]
fn csv_with_quotes_and_every_kind_of_line_break() {
    let expected = "a:int64? b:utf8?\n1 \"x, \"y\"\nz\"\n2 null\n3 c\n";
    for text in [
        "a,b\n1,\"x, \"\"y\"\"\nz\"\n2,\n3,c\n",
        "a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n2,\r\n\r\n3,c",
        "\u{feff}a,b\n\n1,\"x, \"\"y\"\"\nz\"\n2,\"\"\n3,c",
    ] {
        let (positions, rows, failed) = read(text.as_bytes(), &csv("a:int64?;b:utf8?"));
        assert_eq!((text_of(&rows).as_str(), positions, failed), (expected, vec![0, 1, 2], vec![]), "{text}");
    }
}

#[test]
fn csv_bad_rows_at_every_place() {
    let text = "a,b\nx,1\n1,2\n2\n3,4\n4,5,6\n\"5\r\n6\",7\r\n8,\n9,10\nlast,11";
    let (positions, rows, failed) = read(text.as_bytes(), &csv("a:int64;b:int64"));
    assert_eq!(text_of(&rows), "a:int64 b:int64\n1 2\n3 4\n9 10\n");
    assert_eq!(positions, [1, 3, 7]);
    let expected = [
        (0, "x,1", "column `a`: `x` is no int64"),
        (2, "2", "expected 2 cells instead of 1"),
        (4, "4,5,6", "expected 2 cells instead of 3"),
        (5, "\"5\r\n6\",7", "column `a`: `5\r\n6` is no int64"),
        (6, "8,", "column `b` is null"),
        (8, "last,11", "column `a`: `last` is no int64"),
    ];
    assert_eq!(bad(&failed), expected);
}

#[test]
fn csv_bytes_that_are_no_text() {
    // The middle row would be text if its cells were joined.
    let text = b"a,b\n\xff,1\n\xc3,\xa4\nok,\xc3\xa4\n";
    let (positions, rows, failed) = read(text, &csv("a:utf8?;b:utf8?"));
    assert_eq!((text_of(&rows).as_str(), positions), ("a:utf8? b:utf8?\nok ä\n", vec![2]));
    let shown: Vec<_> = failed.iter().map(|row| (row.row.as_str(), row.encoding)).collect();
    assert_eq!(shown, [("/ywx", Encoding::Base64), ("wyyk", Encoding::Base64)]);
    assert_eq!(failed[0].error, "the row is no valid UTF-8; the setting `encoding` names other encodings");
}

#[test]
fn csv_columns_are_found_by_name_and_decoded_only_if_wanted() {
    let text = "c,a,b\nx,1,0.5\ny,two,1.5\nz,3\n";
    let declared = csv("a:int64?;missing:date?;b:float64?");
    let (_, rows, failed) = read(text.as_bytes(), &declared);
    assert_eq!(text_of(&rows), "a:int64? missing:date? b:float64?\n1 null 0.5\n");
    assert_eq!(failed.len(), 2);
    let (_, rows, failed) = read(text.as_bytes(), &wanting(declared.clone(), &["b"]));
    assert_eq!((text_of(&rows).as_str(), failed.len()), ("b:float64?\n0.5\n1.5\n", 1));
    let (positions, rows, failed) = read(text.as_bytes(), &wanting(declared, &[]));
    assert_eq!((rows.num_columns(), rows.num_rows(), positions, failed.len()), (0, 2, vec![0, 1], 1));
}

#[test]
fn csv_without_header_with_own_delimiter_and_nulls() {
    let null_values = vec![String::new(), "NA".into(), "-".into()];
    let csv = CsvOptions { header: false, delimiter: b'\t', null_values, ..CsvOptions::default() };
    let options = ReadOptions { csv, ..options(Format::Csv, columns("a:utf8?;b:int64?")) };
    let (_, rows, failed) = read(b"x\t1\nNA\t-\n,\t2\n", &options);
    assert_eq!((text_of(&rows).as_str(), failed), ("a:utf8? b:int64?\nx 1\nnull null\n, 2\n", vec![]));
}

#[test]
fn csv_without_rows() {
    for text in ["", "a,b", "a,b\r\n", "\n\na,b\n\n"] {
        let (_, rows, failed) = read(text.as_bytes(), &csv("a:int64;b:utf8?"));
        assert_eq!((rows.num_rows(), rows.num_columns(), failed), (0, 2, vec![]), "{text:?}");
    }
}

#[test]
fn csv_a_quote_that_is_not_closed_costs_one_row() {
    let row = |n: usize| if n == 10 { "10,\"x\n".to_owned() } else { format!("{n},x\n") };
    let text: String = std::iter::once("a,b\n".to_owned()).chain((0..1000).map(row)).collect();
    let expected: Vec<u64> = (0..1000).filter(|n| *n != 10).collect();
    let check = |text: &str, error: &str, max_cell: CellLimit| {
        let format = CsvOptions { max_cell, ..CsvOptions::default() };
        let options = ReadOptions { csv: format, ..csv("a:int64;b:utf8") };
        let (positions, rows, failed) = read(text.as_bytes(), &options);
        assert_eq!((&positions, rows.num_rows()), (&expected, 999));
        assert_eq!((bad(&failed), &*failed[0].error), (vec![(10, "10,\"x", error)], error));
    };
    check(&text, "a quote is not closed", CellLimit { bytes: 1 << 20, lines: 1000 });
    for limit in [CellLimit { bytes: 500, lines: 999 }, CellLimit { bytes: 5000, lines: 100 }] {
        let CellLimit { bytes, lines } = limit;
        let error =
            format!("a quote is not closed within {bytes} bytes and {lines} line breaks, the setting `max_cell`");
        check(&text, &error, limit);
    }
    let closed = text.replace("20,x", "20,\"x\"");
    check(&closed, "a quote is closed in the middle of a cell, or not at all", CellLimit::default());
}

#[test]
fn csv_that_grows_does_not_wait_for_a_quote_for_ever() {
    let source = Growing::default();
    source.append(b"a,b\n1,\"x\n");
    let format = CsvOptions { max_cell: CellLimit { bytes: 100, lines: 3 }, ..CsvOptions::default() };
    let options = ReadOptions { csv: format, pace: Pace::Growing, ..csv("a:int64;b:utf8") };
    let mut reader = options.read(source.clone()).unwrap();
    let mut rows = Rows::default();
    for _ in 0..3 {
        assert!(!reader.next(&mut rows).unwrap(), "the quote may yet be closed");
        source.append(b"2,y\n");
    }
    assert!(reader.next(&mut rows).unwrap());
    assert_eq!((rows.batches[0].0, rows.batches[0].1.num_rows(), rows.failed[0].row.as_str()), (1, 3, "1,\"x"));
}

#[test]
fn csv_blank_lines_are_nulls_where_there_is_one_column() {
    let text = "a\n1\n\n2\r\n\r\n\"\"\n3";
    let (_, rows, failed) = read(text.as_bytes(), &csv("a:int64?"));
    assert_eq!((text_of(&rows).as_str(), failed), ("a:int64?\n1\nnull\n2\nnull\nnull\n3\n", vec![]));
    let (positions, _, failed) = read(text.as_bytes(), &csv("a:int64"));
    assert_eq!((positions, failed.len(), failed[0].error.as_str()), (vec![0, 2, 5], 3, "column `a` is null"));
}

/// Reads rows of which one is too long, and returns its error and how much of it is shown.
fn read_long(options: ReadOptions, bytes: Vec<u8>) -> (String, usize) {
    let mut reader = options.read(Cursor::new(bytes)).unwrap();
    let mut rows = Rows::default();
    let mut last = reader.mark();
    while reader.next(&mut rows).unwrap() {
        assert!(reader.mark().offset > last.offset);
        last = reader.mark();
    }
    let positions: Vec<_> = rows.batches.iter().map(|(start, rows)| (*start, rows.num_rows())).collect();
    assert_eq!((positions, rows.failed.len(), rows.failed[0].position), (vec![(0, 2), (3, 1)], 1, 2));
    (rows.failed[0].error.clone(), rows.failed[0].row.len())
}

#[test]
fn a_row_without_an_end_costs_itself_only() {
    let long = "ä".repeat(MAX_ROW_BYTES / 2);
    let expected = format!("of the {} bytes of its first line, 1023 are shown", MAX_ROW_BYTES + 2);
    let text = format!("a,b\n1,x\n2,x\n3{long}\n4,x\n");
    let (error, shown) = read_long(csv("a:int64;b:utf8"), text.into_bytes());
    assert!(error.ends_with(&expected) && shown == 1023, "{error}");
    let text = format!("{{\"a\":1}}\n{{\"a\":2}}\n3{long}\n{{\"a\":4}}\n");
    for pace in [Pace::Full, Pace::Growing] {
        let (error, shown) = read_long(ReadOptions { pace, ..ndjson("a:int64") }, text.clone().into_bytes());
        assert!(error.ends_with(&expected) && shown == 1023, "{error}");
    }
}

#[test]
fn csv_lines_that_are_no_records() {
    let text = "made by\n\"x,\n# units\nid;name\n1;a\n#2;b\n3;#c\n";
    let format = CsvOptions { skip_lines: 2, comment: Some(b'#'), delimiter: b';', ..CsvOptions::default() };
    let (positions, rows, failed) = read(text.as_bytes(), &ReadOptions { csv: format, ..csv("id:int64;name:utf8") });
    assert_eq!((text_of(&rows).as_str(), positions, failed), ("id:int64 name:utf8\n1 a\n3 #c\n", vec![0, 1], vec![]));
}

#[test]
fn csv_in_another_encoding() {
    let options = |encoding| {
        let format = CsvOptions { encoding, ..CsvOptions::default() };
        ReadOptions { csv: format, ..csv("id:int64;näme:utf8") }
    };
    let latin = b"id,n\xe4me\n1,\xfc\n2,x\n";
    let expected = "id:int64 näme:utf8\n1 ü\n2 x\n";
    assert_eq!(text_of(&read(latin, &options(TextEncoding::Latin1)).1), expected);
    let units = "\u{feff}id,näme\n1,ü\n2,x\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let (_, rows, failed) = read(&units, &options(TextEncoding::Utf16));
    assert_eq!((text_of(&rows).as_str(), failed), (expected, vec![]));
    let cut = read(&units[..units.len() - 3], &options(TextEncoding::Utf16));
    assert_eq!((cut.1.num_rows(), cut.2[0].encoding), (1, Encoding::Base64));
}

#[test]
fn another_delimiter_is_suggested() {
    let error = csv("amount:int64").read(Cursor::new("id;amount\n")).err().unwrap().to_string();
    assert!(error.ends_with("set `delimiter = \";\"`"), "{error}");
    let (_, _, failed) = read(b"id,amount\n1\t2\n", &csv("id:int64;amount:int64"));
    assert!(failed[0].error.ends_with("set `delimiter = \"\\t\"`"), "{}", failed[0].error);
}

#[test]
fn refused_rows_say_their_line() {
    let texts = [
        (csv("a:int64;b:utf8"), "a,b\n\n1,\"x\ny\"\nz,2\n3\n4,\"5\n6,7\nx,x", vec![5, 6, 7, 9]),
        (ndjson("a:int64"), "\n{\"a\": 1}\n{\"a\": x}\n\n{}\n{\"a\": 2}\n7", vec![3, 5, 7]),
        (options(Format::Json, columns("a:int64")), "[\n{\"a\":\n1},\n{\"a\":\nx}, 7,\n{}]", vec![4, 5, 6]),
    ];
    let folder = Folder::new();
    for (options, text, expected) in texts {
        let lines = |rows: &[BadRow]| rows.iter().filter_map(|row| row.line).collect::<Vec<_>>();
        let (_, _, failed) = read(text.as_bytes(), &options);
        assert_eq!(lines(&failed), expected, "{text}");
        // Also where reading goes on in the middle.
        let path = folder.file("a", text);
        let one = ReadOptions { batch_rows: 1, ..options };
        let (mut reader, mut marks) = (one.open(&path).unwrap(), Vec::new());
        let mut rows = Rows::default();
        while reader.next(&mut rows).unwrap() {
            marks.push(reader.mark());
        }
        for mark in marks {
            let (mut later, mut rest) = (one.open(&path).unwrap(), Rows::default());
            later.go_to(mark).unwrap();
            while later.next(&mut rest).unwrap() {}
            let expected: Vec<_> = failed.iter().filter(|row| row.position >= mark.position).cloned().collect();
            assert_eq!(lines(&rest.failed), lines(&expected), "{text} from {mark:?}");
        }
    }
}

#[test]
fn lines_are_counted_that_were_passed_over() {
    let text = format!("{}x\n", "{\"a\":1}\n".repeat(200_000));
    let mut reader = ndjson("a:int64").read_seekable(Cursor::new(text)).unwrap();
    reader.go_to(Mark { position: 150_000, offset: 1_200_000 }).unwrap();
    let mut rows = Rows::default();
    while reader.next(&mut rows).unwrap() {}
    assert_eq!((rows.failed[0].position, rows.failed[0].line), (200_000, Some(200_001)));
}

#[test]
fn csv_header_that_does_not_fit() {
    let error = |text: &str| {
        let text = text.to_owned();
        csv("amount:int64").read(Cursor::new(text)).err().unwrap().to_string()
    };
    assert_eq!(error("id,amuont\n"), "there is no column `amount` in the header; did you mean `amuont`?");
    assert_eq!(error("a,a\n"), "the header has the name `a` twice");
}

// --- NDJSON ---

#[test]
fn ndjson_values() {
    let text = r#"
{"a": 1, "b": "x", "c": true, "d": 1.5, "e": "2026-01-31T12:00:00+01:00", "f": 12.30, "unknown": [1, {"x": 2}]}

  {"f": "0.05", "e": "2026-01-31T12:00:00Z", "d": 2, "c": null, "b": 7, "a": 2.0}  "#;
    let crlf = text.replace('\n', "\r\n");
    let options = ndjson("a:int64;b:utf8;c:boolean?;d:float64;e:timestamp;f:decimal(10,2)");
    for text in [text, &crlf] {
        let (positions, rows, failed) = read(text.as_bytes(), &options);
        let expected = "a:int64 b:utf8 c:boolean? d:float64 e:timestamp f:decimal(10,2)\n\
                        1 x true 1.5 2026-01-31T11:00:00Z 12.30\n2 7 null 2.0 2026-01-31T12:00:00Z 0.05\n";
        assert_eq!((text_of(&rows).as_str(), positions, failed), (expected, vec![0, 1], vec![]));
    }
}

#[test]
fn ndjson_bad_rows_at_every_place() {
    let lines = [
        "{\"a\": 1.5}",
        "{\"a\": 1}",
        "no json",
        "{\"a\": 2}",
        "{\"a\": 3",
        "{\"a\": 4}{\"a\": 5}",
        "{\"a\": \"x\ty\"}",
        "[1]",
        "6",
        "{}",
        "{\"a\": null}",
        "{\"a\": [7]}",
        "{\"a\": 8}",
        "{\"b\": \"\\ud800\"}",
    ];
    let (positions, rows, failed) = read(lines.join("\n").as_bytes(), &ndjson("a:int64"));
    assert_eq!(text_of(&rows), "a:int64\n1\n2\n8\n");
    assert_eq!(positions, [1, 3, 12]);
    let failed = bad(&failed);
    assert!(failed.iter().all(|(position, row, _)| lines[*position as usize] == *row), "{failed:?}");
    let errors: Vec<_> = failed.iter().map(|(_, _, error)| *error).collect();
    let expected = [
        "column `a`: `1.5` is no int64",
        "no valid JSON: encountered unexpected 'o' whilst parsing literal",
        "no valid JSON: the object is not closed",
        "no valid JSON: expected one object on the line",
        "column `a`: `x\ty` is no int64",
        "no valid JSON: expected { got [1]",
        "no valid JSON: the object is not closed",
        "column `a` is missing or null",
        "column `a` is missing or null",
        "column `a`: expected string got [7]",
        "no valid JSON: encountered unexpected '\"' whilst parsing surrogate pair escape",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn ndjson_integers_keep_every_digit_and_their_fractions_are_refused() {
    let text = "{\"n\":9007199254740991}\n{\"n\":-2e0}\n{\"n\":9007199254740993}\n{\"n\":\"7\"}\n{\"n\":0.5}\n{\"n\":true}\n\
                {\"n\":9223372036854775807}\n{\"n\":9223372036854775808}\n{\"n\":-0}\n{\"n\":300}\n";
    for batch_rows in [1, 3, 8192] {
        let read = |kind: &str| {
            let options = ReadOptions { batch_rows, ..ndjson(kind) };
            drain(options.read(Cursor::new(text)).unwrap(), batch_rows).unwrap()
        };
        let (positions, rows, _) = read("n:int64");
        let expected = "n:int64\n9007199254740991\n-2\n9007199254740993\n7\n9223372036854775807\n0\n300\n";
        assert_eq!((positions, text_of(&rows).as_str()), (vec![0, 1, 2, 3, 6, 8, 9], expected));
        assert_eq!(text_of(&read("n:uint8").1), "n:uint8\n7\n0\n");
    }
}

#[test]
fn ndjson_binary_has_two_digits_a_byte() {
    let (_, rows, failed) = read(b"{\"b\":\"00fF\"}\n{\"b\":\"abc\"}\n{\"b\":\"\"}\n", &ndjson("b:binary"));
    assert_eq!(
        (text_of(&rows).as_str(), &*failed[0].error),
        ("b:binary\n00ff\n\"\"\n", "column `b`: `abc` is no binary")
    );
}

#[test]
fn ndjson_objects_that_span_lines_or_share_one_are_refused_whatever_the_batch() {
    let text = "{\"a\": 1}\n{\"a\":\n2}\n{\"a\": 3}{\"a\": 4}\n{\"a\": \"5\n\"}\n{\"a\": 6}\n";
    let (positions, rows, failed) = read(text.as_bytes(), &ndjson("a:utf8"));
    assert_eq!(text_of(&rows), "a:utf8\n1\n6\n");
    assert_eq!((positions, failed.len()), (vec![0, 6], 5));
    for text in ["{\"a\":\n2}\n{\"a\": 3}{\"a\": 4}\n", "{\"b\": {}\n, \"a\": 1}{\"a\": 2}\n"] {
        assert!(read(text.as_bytes(), &ndjson("a:utf8?")).0.is_empty(), "{text}");
    }
}

#[test]
fn ndjson_lines_are_objects_whatever_stands_around_them() {
    let cases: [(&str, &[u64], &str); 4] = [
        ("{\"n\":1,\"x\":{}\n}\n{\"n\":2}\n{bad\n{\"n\":4}\n", &[2, 4], "2\n4\n"),
        ("{\"n\":0}\n{\"n\":1,\"s\":\"a}\nb\"}\n{\"n\":2}\n", &[0, 3], "0\n2\n"),
        // As many lines with braces around them as there are objects.
        ("{\"n\":1,\"s\":\"a}\n{b\"}\n{\"n\":2}{\"n\":3}\n{\"n\":4}\n", &[3], "4\n"),
        ("{\"n\":1}\n \n{\"n\":2,\"x\":[\n]}\n\t{\"n\":3} \r\n{\"n\":4}", &[0, 3, 4], "1\n3\n4\n"),
    ];
    for (text, expected, values) in cases {
        for batch_rows in [1, 2, 3, 8192] {
            for pace in [Pace::Full, Pace::Eager] {
                let options = ReadOptions { batch_rows, pace, ..ndjson("n:int64") };
                let reader = options.read(Cursor::new(text.to_owned())).unwrap();
                let (positions, rows, _) = drain(reader, batch_rows).unwrap();
                let name = format!("{text} in {batch_rows}");
                assert_eq!((&*positions, text_of(&rows)), (expected, format!("n:int64\n{values}")), "{name}");
            }
        }
    }
}

#[test]
fn rows_of_a_growing_source_count_when_they_are_whole() {
    let texts = [
        (csv("a:int64?; b:utf8?"), "a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n2\n\n3,c\nx,d\n4,\"e\"\n", "5,f"),
        (ndjson("a:int64; b:utf8?"), "{\"a\": 1}\n\n{\"a\"}\n{\"a\": 2, \"b\": \"é\"}\n \n", "{\"a\": 3}"),
    ];
    for (options, lines, rest) in texts {
        let whole = read(format!("{lines}{rest}").as_bytes(), &options);
        for step in [1, 2, 5, 1000] {
            let source = Growing::default();
            let options = ReadOptions { pace: Pace::Growing, ..options.clone() };
            let header = if options.format == Format::Csv { lines.find('\n').unwrap() + 1 } else { 0 };
            source.append(&lines.as_bytes()[..header]);
            let mut reader = options.read(source.clone()).unwrap();
            let mut rows = Rows::default();
            let count = |rows: &Rows| rows.batches.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>();
            for bytes in lines.as_bytes()[header..].chunks(step) {
                source.append(bytes);
                while reader.next(&mut rows).unwrap() {}
                assert!(!reader.next(&mut rows).unwrap(), "nothing more for now");
            }
            source.append(rest.as_bytes());
            assert!(!reader.next(&mut rows).unwrap(), "the last row is not whole");
            let before = count(&rows);
            reader.end();
            while reader.next(&mut rows).unwrap() {}
            assert_eq!(count(&rows), before + 1);
            let all = concat_batches(reader.schema(), rows.batches.iter().map(|(_, rows)| rows)).unwrap();
            assert_eq!((all, rows.failed), (whole.1.clone(), whole.2.clone()), "{step} bytes at a time");
        }
    }
}

#[test]
fn huge_batches_are_read_in_smaller_ones() {
    let folder = Folder::new();
    for batch_rows in [1_000_000_000, usize::MAX / 2, usize::MAX] {
        for name in ["a.csv", "a.ndjson", "a.parquet", "a.arrow"] {
            let path = folder.file(name, write(name, &sample(), 9));
            let columns = inspect(&path, &inspect_options(&path)).unwrap().columns;
            let options = ReadOptions { batch_rows, ..options(FileKind::of(name).format.unwrap(), columns) };
            let (_, rows, failed) = drain(options.open(&path).unwrap(), batch_rows).unwrap();
            assert_eq!((rows.num_rows(), failed), (4, vec![]), "{name}");
        }
    }
    let text = "{\"a\":1}\n".repeat(100_000);
    let options = ReadOptions { batch_rows: usize::MAX, ..ndjson("a:int64") };
    let (positions, _, _) = drain(options.read(Cursor::new(text)).unwrap(), 1 << 16).unwrap();
    assert_eq!(positions.len(), 100_000);
}

#[test]
fn ndjson_bytes_that_are_no_text() {
    let (positions, rows, failed) = read(b"{\"a\": \"\xff\"}\n{\"a\": \"\xc3\xa4\"}\n\xff\n", &ndjson("a:utf8"));
    assert_eq!((text_of(&rows).as_str(), positions), ("a:utf8\nä\n", vec![1]));
    assert!(failed.iter().all(|row| row.encoding == Encoding::Base64));
}

#[test]
fn ndjson_nested_columns() {
    let text = r#"{"l": [1, null], "s": {"at": "2026-01-31T12:00:00Z", "n": [{"x": 1}]}, "d": "2026-01-31"}
{"l": null, "s": null, "d": null}
{"l": [], "s": {"at": "2026-01-31T12:00:00", "n": []}}
{"l": [1.5], "s": {"n": []}}
{"l": [], "s": {"n": [null]}}
"#;
    let options = ndjson("l:list<int32?>?;s:{ at = timestamp?, n = list<{ x = int64 }> }?;d:date?");
    let (positions, rows, failed) = read(text.as_bytes(), &options);
    assert_eq!(positions, [0, 1]);
    assert!(
        text_of(&rows)
            .contains("\"[1, null]\" \"{at: 2026-01-31T12:00:00Z, n: [{x: 1}]}\" 2026-01-31\nnull null null\n")
    );
    let errors: Vec<_> = failed.iter().map(|row| row.error.as_str()).collect();
    assert!(errors[0].starts_with("column `at`: `2026-01-31T12:00:00` is no timestamp with an offset"), "{errors:?}");
    assert_eq!(errors[1], "column `item`: `1.5` is no int32");
    assert!(errors[2].starts_with("column `s`"), "{errors:?}");
}

#[test]
fn ndjson_deep_nesting_does_not_overflow_the_stack() {
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let wide = format!("{{\"a\": 2, \"b\": [{}]}}", vec!["{}"; 1000].join(","));
    let text = format!("{{\"a\": 1}}\n{deep}\n{wide}\n");
    let (positions, _, failed) = read(text.as_bytes(), &ndjson("a:int64"));
    assert_eq!((positions, failed.len()), (vec![0, 2], 1));
    assert!(failed[0].error.contains("nested deeper"), "{}", failed[0].error);
}

#[test]
fn ndjson_without_rows_or_columns() {
    for text in ["", "\n", "\r\n  \n"] {
        let (_, rows, failed) = read(text.as_bytes(), &ndjson("a:int64"));
        assert_eq!((rows.num_rows(), failed), (0, vec![]));
    }
    let options = wanting(ndjson("a:int64"), &[]);
    let (positions, rows, failed) = read(b"{\"a\": 1}\n{}\nx\n{}", &options);
    assert_eq!((rows.num_rows(), rows.num_columns(), positions, failed.len()), (3, 0, vec![0, 1, 3], 1));
}

#[test]
fn ndjson_larger_than_a_chunk() {
    let lines: Vec<_> = (0..60_000).map(|n| format!("{{\"a\": {n}, \"b\": \"{}\"}}", "x".repeat(n % 90))).collect();
    let mut options = ndjson("a:int64;b:utf8");
    for batch_rows in [1000, 8192] {
        options.batch_rows = batch_rows;
        let mut reader = options.read(Cursor::new(lines.join("\n"))).unwrap();
        let mut rows = Rows::default();
        while reader.next(&mut rows).unwrap() {}
        let sizes: Vec<_> = rows.batches.iter().map(|(_, rows)| rows.num_rows()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 60_000);
        assert!(sizes[..sizes.len() - 1].iter().all(|size| *size == batch_rows), "{sizes:?}");
    }
}

#[test]
fn json_documents_one_by_one() {
    let decoder = JsonDecoder::new(&columns("a:int64"), &Moments::default(), 2).unwrap();
    let documents: [&[u8]; 5] = [b"{\"a\": 1}", b"{\"a\":\n2}", b"", b"{\"a\": 3} x", b"{\"a\": 4}"];
    let mut rows = Rows::default();
    decoder.decode(&documents, 10, &mut rows).unwrap();
    let starts: Vec<_> = rows.batches.iter().map(|(start, rows)| (*start, rows.num_rows())).collect();
    assert_eq!(starts, [(10, 2), (14, 1)]);
    assert_eq!(rows.failed.iter().map(|row| row.position).collect::<Vec<_>>(), [12, 13]);
}

// --- JSON ---

#[test]
fn json_in_an_array_or_on_several_lines() {
    let options = options(Format::Json, columns("a:int64;b:utf8?"));
    for text in [
        "[{\"a\": 1}, {\"a\": 2,\n \"b\": \"}\"}\n]",
        "{\n  \"a\": 1\n}\n{\n  \"a\": 2, \"b\": \"}\"}",
        "\u{feff}{\"a\": 1}\r\n{\"a\": 2, \"b\": \"}\"}\r\n",
    ] {
        let (positions, rows, failed) = read(text.as_bytes(), &options);
        let expected = "a:int64 b:utf8?\n1 null\n2 }\n";
        assert_eq!((text_of(&rows).as_str(), positions, failed), (expected, vec![0, 1], vec![]), "{text}");
    }
    let (positions, _, failed) = read(b"[{\"a\": 1}, {\"a\": x}, 7, {\"a\": 4}", &options);
    let errors: Vec<_> = failed.iter().map(|row| (row.position, row.row.as_str())).collect();
    assert_eq!((positions, errors), (vec![0, 3], vec![(1, "{\"a\": x}"), (2, "7"), (4, "")]));
    assert!(failed[2].error.starts_with("the array is not closed"), "{failed:?}");
    for text in ["", " ", "[]", "[ ]\n"] {
        assert_eq!(read(text.as_bytes(), &options).1.num_rows(), 0);
    }
}

// --- Files ---

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn inspect_options(path: &Path) -> InspectOptions {
    let kind = FileKind::of(path);
    InspectOptions {
        format: kind.format.unwrap(),
        compression: kind.compression,
        rows: 10_000,
        csv: CsvOptions::default(),
        moments: Moments::default(),
    }
}

/// Reads a file as its name and its bytes say.
fn read_file(path: &Path, wanted: Option<&[&str]>) -> Result<All, String> {
    let kind = FileKind::of(path);
    let found = inspect(path, &inspect_options(path)).map_err(|error| error.to_string())?;
    let mut results = Vec::new();
    for batch_rows in BATCH_ROWS {
        let options = ReadOptions {
            compression: kind.compression,
            wanted: wanted.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>()),
            batch_rows,
            ..options(kind.format.unwrap(), found.columns.clone())
        };
        let reader = options.open(path).map_err(|error| error.to_string())?;
        results.push(drain(reader, batch_rows)?);
    }
    assert!(results.iter().all(|result| *result == results[0]));
    Ok(results.remove(0))
}

fn write(name: &str, rows: &RecordBatch, cut: usize) -> Vec<u8> {
    let kind = FileKind::of(name);
    let options =
        WriteOptions { format: kind.format.unwrap(), compression: kind.compression, delimiter: b',', header: true };
    let mut writer = options.open(Vec::new(), &rows.schema()).unwrap();
    for start in (0..rows.num_rows()).step_by(cut) {
        writer.write(&rows.slice(start, cut.min(rows.num_rows() - start))).unwrap();
    }
    writer.finish().unwrap()
}

fn sample() -> RecordBatch {
    table(
        "id:int64? amount:float64? name:utf8? at:timestamp? ok:boolean?
         1 2.5 Ada 2026-01-31T12:00:00Z true
         2 null say\"hi\" 2026-01-31T12:00:00.000001Z false
         3 -1e-7 ä null null
         null 4.0 x,y 1969-12-31T23:59:59Z true",
    )
}

#[test]
fn every_format_reads_what_it_writes() {
    let folder = Folder::new();
    let rows = sample();
    for format in ["csv", "ndjson", "json", "parquet", "arrow"] {
        for packed in ["", ".gz", ".zst", ".bz2"] {
            let name = format!("a.{format}{packed}");
            let path = folder.file(&name, write(&name, &rows, 3));
            let (_, read, failed) = read_file(&path, None).unwrap();
            assert_eq!((text_of(&read), failed), (text_of(&rows), vec![]), "{name}");
            if !Format::is_text(FileKind::of(&name).format.unwrap()) {
                break;
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_batches() {
    let ids: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from_iter_values(0..20_000));
    let words: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from_iter_values(
        (0..20_000).map(|n| format!("{}", n * 7919 % 997)),
    ));
    let rows = RecordBatch::try_from_iter([("id", ids), ("word", words)]).unwrap();
    for name in ["a.csv", "a.csv.gz", "a.ndjson", "a.json", "a.ndjson.zst", "a.ndjson.bz2", "a.parquet", "a.arrow"] {
        let whole = write(name, &rows, 20_000);
        assert_eq!(write(name, &rows, 7), whole, "{name}");
        assert_eq!(write(name, &rows, 8192), whole, "{name}");
    }
}

#[test]
fn other_types_survive_where_the_format_can_hold_them() {
    let text = r#"{"d": "12.30", "b": "00ff", "day": "2026-01-31", "t": "12:30:00.5", "u": 18446744073709551615, "l": [{"x": 1}], "f": 1.5}
{"d": "-0.01", "l": []}
"#;
    let kinds = "d:decimal(10,2)?;b:binary?;day:date?;t:time?;u:uint64?;l:list<{ x = int8? }?>?;f:float32?";
    let (_, rows, failed) = read(text.as_bytes(), &ndjson(kinds));
    assert_eq!((rows.num_rows(), failed), (2, vec![]));
    let folder = Folder::new();
    for name in ["a.parquet", "a.arrow"] {
        let (_, read, _) = read_file(&folder.file(name, write(name, &rows, 1)), None).unwrap();
        assert_eq!(read, rows, "{name}");
    }
    let (_, again, _) = read(&write("a.ndjson", &rows, 1), &ndjson(kinds));
    assert_eq!(again, rows);
    let flat = rows.project(&[0, 1, 2, 3, 4, 6]).unwrap();
    let (_, again, failed) = read(&write("a.csv", &flat, 1), &csv(&kinds.replace("l:list<{ x = int8? }?>?;", "")));
    assert_eq!((&again, failed), (&flat, vec![]));
    let nested = rows.project(&[5]).unwrap();
    assert_eq!(nested_column(&nested.schema()).map(|field| field.name().as_str()), Some("l"));
    assert_eq!(nested_column(&flat.schema()), None);
}

#[test]
fn columns_that_are_not_wanted_are_not_read() {
    let folder = Folder::new();
    for name in ["a.csv", "a.ndjson.gz", "a.parquet", "a.arrow"] {
        let path = folder.file(name, write(name, &sample(), 3));
        let (_, rows, _) = read_file(&path, Some(&["name", "id", "other"])).unwrap();
        assert_eq!(text_of(&rows).lines().nth(1), Some("1 Ada"), "{name}");
        assert_eq!(rows.schema().field(0).name(), "id", "the order of the file");
        let (positions, rows, _) = read_file(&path, Some(&[])).unwrap();
        assert_eq!((rows.num_rows(), rows.num_columns(), positions), (4, 0, vec![0, 1, 2, 3]), "{name}");
    }
}

#[test]
fn files_without_rows_keep_their_columns() {
    let folder = Folder::new();
    let none = sample().slice(0, 0);
    for name in ["a.parquet", "a.arrow"] {
        let path = folder.file(name, write(name, &none, 1));
        assert_eq!(inspect(&path, &inspect_options(&path)).unwrap().rows, Some(0));
        assert_eq!(read_file(&path, None).unwrap().1, none, "{name}");
    }
    assert_eq!(write("a.csv", &none, 1), b"id,amount,name,at,ok\n");
    assert_eq!(write("a.ndjson", &none, 1), b"");
    assert_eq!(write("a.json", &none, 1), b"[\n]\n");
    let found = inspect(&folder.file("a.csv", "id,b\n"), &inspect_options(Path::new("a.csv"))).unwrap();
    assert_eq!(found.columns, columns("id:utf8?;b:utf8?"));
    for name in ["b.csv", "b.ndjson"] {
        let path = folder.file(name, "");
        assert_eq!(inspect(&path, &inspect_options(&path)).unwrap().columns, Columns(vec![]));
    }
}

#[test]
fn binary_files_say_how_many_rows_they_have() {
    let folder = Folder::new();
    for name in ["a.parquet", "a.arrow"] {
        let path = folder.file(name, write(name, &sample(), 2));
        assert_eq!(inspect(&path, &inspect_options(&path)).unwrap().rows, Some(4), "{name}");
    }
}

#[test]
fn samples_are_as_long_as_asked_for() {
    let folder = Folder::new();
    for (name, text) in [("a.csv", "a\n1\n2.5\n"), ("a.ndjson", "{\"a\": 1}\n\n{\"a\": 2.5}")] {
        let path = folder.file(name, text);
        let kind = |rows| inspect(&path, &InspectOptions { rows, ..inspect_options(&path) }).unwrap().columns;
        assert_eq!(kind(1), columns("a:int64?"));
        assert_eq!(kind(2), columns("a:float64?"));
    }
}

#[test]
fn rows_that_will_be_refused_say_nothing_about_types() {
    let folder = Folder::new();
    let texts: [(&str, &[u8]); 4] = [
        ("short.csv", b"a,b\n1,2\ntorn\n3,4.5\n"),
        ("long.csv", b"a,b\ntorn,torn,torn\n1,2\n3,4.5\n"),
        ("bytes.csv", b"a,b\n1,2\n\xff,\xff\n3,4.5\n"),
        ("torn.ndjson", b"{\"a\": 1, \"b\": 2}\n{\"a\": \"torn\nno json\n[1]\n\"x\"\n{\"a\": 3, \"b\": 4.5}\n"),
    ];
    for (name, text) in texts {
        let (_, rows, failed) = read_file(&folder.file(name, text), None).unwrap();
        assert_eq!(text_of(&rows), "a:int64? b:float64?\n1 2.0\n3 4.5\n", "{name}");
        assert_eq!(failed.len(), if name.ends_with("csv") { 1 } else { 4 }, "{name}");
    }
    let path = folder.file("all.csv", "a,b\ntorn\n");
    assert_eq!(inspect(&path, &inspect_options(&path)).unwrap().columns, columns("a:utf8?;b:utf8?"));
}

#[test]
fn headerless_columns_are_numbered() {
    let folder = Folder::new();
    let path = folder.file("a.csv", "1,x\n2,y\n");
    let csv = CsvOptions { header: false, ..CsvOptions::default() };
    let found = inspect(&path, &InspectOptions { csv, ..inspect_options(&path) }).unwrap();
    assert_eq!(found.columns, columns("column_1:int64?;column_2:utf8?"));
}

#[test]
fn parts_that_were_packed_one_by_one_are_all_read() {
    let folder = Folder::new();
    for packed in ["gz", "zst", "bz2"] {
        let name = format!("a.ndjson.{packed}");
        let mut bytes = write(&name, &sample(), 9);
        bytes.extend(write(&name, &sample(), 9));
        assert_eq!(read_file(&folder.file(&name, bytes), None).unwrap().1.num_rows(), 8, "{name}");
    }
}

#[test]
fn corrupt_files_are_errors_that_name_them() {
    let folder = Folder::new();
    for name in ["a.parquet", "a.arrow", "a.csv.gz", "a.ndjson.zst", "a.csv.bz2"] {
        let bytes = write(name, &sample(), 9);
        let cut = folder.file(name, &bytes[..bytes.len() - 9]);
        let error = read_file(&cut, None).unwrap_err();
        assert!(error.starts_with("reading `") && error.contains(name), "{error}");
    }
    let missing = read_file(Path::new("none/a.csv"), None).unwrap_err();
    assert!(missing.starts_with("reading `none/a.csv`: "), "{missing}");
}

#[test]
fn dates_and_times_that_nobody_else_has_are_written_and_read() {
    let micros = vec![Some(i64::MAX), Some(i64::MIN), Some(253_402_300_800_000_000), None];
    let days = vec![Some(i32::MAX), Some(i32::MIN), Some(2_932_897), Some(0)];
    let columns: [(&str, arrow::array::ArrayRef); 2] = [
        ("at", Arc::new(arrow::array::TimestampMicrosecondArray::from(micros).with_timezone("UTC"))),
        ("day", Arc::new(arrow::array::Date32Array::from(days))),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    for (name, options) in [("a.csv", csv("at:timestamp?;day:date?")), ("a.ndjson", ndjson("at:timestamp?;day:date?"))]
    {
        let bytes = write(name, &rows, 2);
        assert!(String::from_utf8_lossy(&bytes).contains("+10000-01-01T00:00:00Z"), "{name}");
        let (_, read, failed) = read(&bytes, &options);
        assert_eq!((read, failed), (rows.clone(), vec![]), "{name}");
    }
}

/// A Parquet or Arrow file that another program might have written.
fn foreign(folder: &Folder, name: &str, rows: &RecordBatch) -> PathBuf {
    let mut bytes = Vec::new();
    match name.ends_with("parquet") {
        true => {
            let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
            writer.write(rows).unwrap();
            writer.close().unwrap();
        }
        false => {
            let options = arrow::ipc::writer::IpcWriteOptions::default();
            let options = options.try_with_compression(Some(arrow::ipc::CompressionType::ZSTD)).unwrap();
            let schema = rows.schema();
            let mut writer =
                arrow::ipc::writer::FileWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
            writer.write(rows).unwrap();
            writer.finish().unwrap();
        }
    }
    folder.file(name, bytes)
}

#[test]
fn binary_values_that_are_out_of_range_fail_their_row() {
    let millis = arrow::array::TimestampMillisecondArray::from(vec![Some(1), Some(i64::MAX), None, Some(i64::MIN)]);
    let ids = arrow::array::Int32Array::from(vec![0, 1, 2, 3]);
    let columns: [(&str, arrow::array::ArrayRef); 2] = [("at", Arc::new(millis)), ("id", Arc::new(ids))];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let folder = Folder::new();
    for name in ["a.parquet", "a.arrow"] {
        let (positions, read, failed) = read_file(&foreign(&folder, name, &rows), None).unwrap();
        let expected = "at:timestamp? id:int32?\n1970-01-01T00:00:00.001Z 0\nnull 2\n";
        assert_eq!((positions, text_of(&read).as_str()), (vec![0, 2], expected), "{name}");
        assert_eq!(failed.iter().map(|row| row.position).collect::<Vec<_>>(), [1, 3]);
        assert!(failed[0].error.starts_with("column `at`: the timestamp 9223372036854775807 is out of range"));
        assert_eq!(failed[0].row, "{\"at\":\"+292278994-08-17T07:12:55.807Z\",\"id\":1}");
    }
}

#[test]
fn long_texts_come_in_batches_that_have_room() {
    let texts =
        arrow::array::StringArray::from_iter_values((0..300).map(|n| format!("{}{}", n % 3, "x".repeat(1 << 20))));
    let texts: arrow::array::ArrayRef = Arc::new(texts);
    let keys = arrow::datatypes::DataType::Dictionary(
        Box::new(arrow::datatypes::DataType::Int32),
        Box::new(arrow::datatypes::DataType::Utf8),
    );
    let packed = arrow::compute::cast(&texts, &keys).unwrap();
    let folder = Folder::new();
    for (name, column) in [("a.parquet", &texts), ("b.parquet", &packed), ("a.arrow", &packed)] {
        let rows = RecordBatch::try_from_iter_with_nullable([("text", column.clone(), true)]).unwrap();
        let path = foreign(&folder, name, &rows);
        let kind = FileKind::of(name);
        let options = options(kind.format.unwrap(), columns("text:utf8?"));
        let mut reader = options.open(&path).unwrap();
        let (mut count, mut rows) = (0, Rows::default());
        while reader.next(&mut rows).unwrap() {
            let sizes: Vec<_> = rows.batches.drain(..).map(|(_, rows)| rows.num_rows()).collect();
            assert!(sizes.iter().all(|size| (1..=64).contains(size)), "{name}: {sizes:?}");
            count += sizes.iter().sum::<usize>();
        }
        assert_eq!(count, 300, "{name}");
    }
}

#[test]
fn columns_that_flows_can_not_carry_are_left_out() {
    let columns: [(&str, arrow::array::ArrayRef); 2] = [
        ("span", Arc::new(arrow::array::DurationSecondArray::from(vec![1]))),
        ("id", Arc::new(arrow::array::Int32Array::from(vec![7]))),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let folder = Folder::new();
    for name in ["a.parquet", "a.arrow"] {
        let (_, read, _) = read_file(&foreign(&folder, name, &rows), None).unwrap();
        assert_eq!(text_of(&read), "id:int32?\n7\n", "{name}");
        let path = foreign(&folder, name, &rows.project(&[0]).unwrap());
        let error = read_file(&path, None).unwrap_err();
        assert!(error.contains("column `span` has the type Duration(s), which flows can't carry"), "{error}");
        let path = foreign(&folder, name, &rows.project(&[1, 1]).unwrap());
        assert!(read_file(&path, None).unwrap_err().contains("two columns with the name `id`"));
    }
}

#[test]
fn keys_that_are_data_are_no_columns() {
    let folder = Folder::new();
    let rows = |count: usize| (0..count).map(|n| format!("{{\"id{n}\": {{\"x\": 1}}}}\n")).collect::<String>();
    let options = inspect_options(Path::new("a.ndjson"));
    let found = inspect(&folder.file("a.ndjson", rows(10_000)), &InspectOptions { rows: 20_000, ..options.clone() });
    assert_eq!(found.unwrap().columns.0.len(), 10_000);
    let found = inspect(&folder.file("a.ndjson", rows(10_001)), &InspectOptions { rows: 20_000, ..options });
    assert!(found.unwrap_err().to_string().contains("10001 different keys"));
}

fn base64(text: &str) -> Vec<u8> {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// Eight texts, `000` to `007`, with a checksum of their page; written by pyarrow 26.
const WITH_CHECKSUM: &str = "UEFSMRUAFXwVfBWamOXxAhwVEBUAFQYVBhwAAAACAAAAEAEDAAAAMDAwAwAAADAwMQMAAAAwMDIDAAAAMDAzAwAAADAwNAMAAAAwMDUDAAAAMD\
     A2AwAAADAwNxUEGSw1ABgGc2NoZW1hFQIAFQwlAhgEdGV4dCUATBwAAAAWEBkcGRwmABwVDBklBgAZGAR0ZXh0FQAWEBauARauASYISRwVABUA\
     FQIAPBYwGQYZJgAQAAAAFq4BFhAmCBauAQAoIHBhcnF1ZXQtY3BwLWFycm93IHZlcnNpb24gMjYuMC4xGRwcAAAAjAAAAFBBUjE=";

/// The old type of timestamps, as Spark and Hive write it; written by pyarrow 26.
const WITH_INT96: &str = "UEFSMRUEFUgVSEwVBhUAEgAAAAAAAAAAAAAs/lEAAAAAAAAAAABSRBoAAEoDUEonAAByjSUAFQAVFBUULBUGFRAVBhUGHAAAAAIAAAAGAQIDJA\
     AVBBksNQAYBnNjaGVtYRUCABUGJQIYAmF0ABYGGRwZHCYAHBUGGTUABhAZGAJhdBUAFgYWngEWngEmbCYIKSwVBBUAFQIAFQAVEBUCADwpBhkm\
     AAYAAAAWngEWBiYIFp4BACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZHBwAAACKAAAAUEFSMQ==";

#[test]
fn parquet_pages_that_were_changed_are_noticed() {
    let folder = Folder::new();
    let mut bytes = base64(WITH_CHECKSUM);
    assert_eq!(read_file(&folder.file("a.parquet", &bytes), None).unwrap().1.num_rows(), 8);
    let place = memchr::memmem::find(&bytes, b"005").unwrap();
    bytes[place] = b'9';
    let error = read_file(&folder.file("a.parquet", bytes), None).unwrap_err();
    assert!(error.contains("checksum"), "{error}");
}

#[test]
fn parquet_timestamps_of_the_old_type_have_their_whole_range() {
    let folder = Folder::new();
    let (_, rows, failed) = read_file(&folder.file("a.parquet", base64(WITH_INT96)), None).unwrap();
    let expected = "at:timestamp?\n9999-12-31T00:00:00Z\n0001-01-01T00:00:00Z\n2026-01-01T12:00:00.123456Z\n";
    assert_eq!((text_of(&rows).as_str(), failed), (expected, vec![]));
}

#[test]
fn a_flipped_byte_never_panics() {
    let folder = Folder::new();
    for name in ["a.parquet", "a.arrow", "zstd.arrow"] {
        let bytes = match name {
            "zstd.arrow" => fs::read(foreign(&folder, name, &sample())).unwrap(),
            name => write(name, &sample(), 9),
        };
        for place in (0..bytes.len()).step_by(13) {
            let mut bytes = bytes.clone();
            bytes[place] ^= 0x55;
            let path = folder.file(name, bytes);
            // Either is fine; many bytes are padding or statistics.
            let _ = inspect(&path, &inspect_options(&path)).map(|_| read_file(&path, None));
        }
    }
}

/// Reads on from every mark that a reader gives, which must come to what it would have read itself.
#[test]
fn reading_goes_on_from_any_mark() {
    let lines: String = (0..300).map(|n| format!("\n {n} x{} 0.5", n % 7)).collect();
    let rows = table(&format!("a:int64? b:utf8? c:float64?{lines}"));
    let columns = columns("a:int64?; b:utf8?; c:float64?");
    let folder = tempfile::tempdir().unwrap();
    for (name, format, compression) in [
        ("a.csv", Format::Csv, None),
        ("a.csv.gz", Format::Csv, Some(Compression::Gzip)),
        ("a.ndjson", Format::Ndjson, None),
        ("a.json", Format::Json, None),
        ("a.ndjson.zst", Format::Ndjson, Some(Compression::Zstd)),
        ("a.parquet", Format::Parquet, None),
        ("a.arrow", Format::Arrow, None),
    ] {
        let path = folder.path().join(name);
        let write = WriteOptions { format, compression, delimiter: b',', header: true };
        let mut writer = write.open(fs::File::create(&path).unwrap(), &rows.schema()).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        let options = ReadOptions { compression, batch_rows: 13, ..options(format, columns.clone()) };
        let all = rows_as_text([&rows]);
        let mut reader = options.open(&path).unwrap();
        let mut read = Rows::default();
        loop {
            let mark = reader.mark();
            for position in mark.position..(mark.position + 3).min(300) {
                let mut later = ReadOptions { batch_rows: 50, ..options.clone() }.open(&path).unwrap();
                later.go_to(mark).unwrap();
                let mut rest = Rows::default();
                while later.next(&mut rest).unwrap() {}
                rest.drop_before(position);
                let text = rows_as_text(rest.batches.iter().map(|(_, rows)| rows));
                let expected = all.lines().skip(1 + position as usize);
                assert!(text.lines().skip(1).eq(expected), "{name} from {position}, by {mark:?}");
                assert_eq!(rest.batches[0].0, position);
            }
            if !reader.next(&mut read).unwrap() {
                break;
            }
        }
        assert_eq!(reader.mark().position, 300);
        let mut short = options.open(&path).unwrap();
        let error = short.go_to(Mark { position: 1000, offset: 1 << 30 }).unwrap_err().to_string();
        assert!(error.contains("it has become shorter"), "{error}");
    }
}
