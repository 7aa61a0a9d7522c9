//! Messages, each of which is a row or is refused for itself.

use arrow::array::{ArrayRef, Int64Array, StringArray};

use super::*;

/// What is read of messages, in parcels of any size: the numbers of those that are rows, the rows, and what is refused.
pub(super) fn read(
    format: Value,
    columns: Columns,
    messages: &[Option<&str>],
) -> (Vec<u64>, String, Vec<(u64, String)>) {
    let format: Format<ReadMessages> = serde_json::from_value(format).unwrap();
    let read = |batch_rows: usize, parcel: usize| {
        let context = millstream_core::PlanContext { batch_rows, ..millstream_testkit::context() };
        let mut reader = format.reader(&columns, &context).unwrap();
        let (mut positions, mut batches, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (number, parcel) in messages.chunks(parcel).map(Vec::from).enumerate().map(|(n, p)| (n * parcel, p)) {
            let mut out = Rows::default();
            let bytes: Vec<_> = parcel.iter().map(|message| message.map(str::as_bytes)).collect();
            reader.decode(&bytes, &mut out).unwrap();
            let first = number as u64;
            for (start, rows) in out.batches {
                assert!(rows.num_rows() <= batch_rows && rows.schema() == *reader.schema());
                positions.extend(first + start..first + start + rows.num_rows() as u64);
                batches.push(rows);
            }
            failed.extend(out.failed.into_iter().map(|bad| (first + bad.position, bad.error)));
        }
        let rows = concat_batches(reader.schema(), &batches).unwrap();
        (positions, text_of(&rows), failed)
    };
    let whole = read(8192, messages.len());
    for (batch_rows, parcel) in [(1, 1), (7, 2), (1, 3), (8192, 3)] {
        assert_eq!(read(batch_rows, parcel), whole, "batches of {batch_rows}, parcels of {parcel}");
    }
    whole
}

pub(super) fn refused(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(position, error)| (*position, (*error).to_owned())).collect()
}

#[test]
fn a_message_is_an_object() {
    let messages = [
        Some(r#"{ "a": 1, "b": "x" }"#),
        Some(" {\"a\": 2}\n"),
        None,
        Some("[1]"),
        Some(""),
        Some(r#"{"a": 3}{"a": 4}"#),
        Some(r#"{"a": 5, "b": null}"#),
    ];
    let (positions, rows, failed) = read(json!("json"), columns("a:int64;b:utf8?"), &messages);
    assert_eq!((positions, rows.as_str()), (vec![0, 1, 6], "a:int64 b:utf8?\n1 x\n2 null\n5 null\n"));
    let numbers: Vec<_> = failed.iter().map(|(position, _)| *position).collect();
    assert_eq!(numbers, [2, 3, 4, 5]);
    assert_eq!(failed[0].1, "the message has no value: column `a` is missing or null");
    assert_eq!(failed[1].1, "no valid JSON: expected an object instead of an array");
    let (positions, rows, failed) = read(json!("json"), columns("b:utf8?"), &[None, Some("{}")]);
    assert_eq!((positions, rows.as_str(), failed), (vec![0, 1], "b:utf8?\nnull\nnull\n", vec![]));
}

#[test]
fn a_message_is_a_record() {
    let messages = [
        Some("\u{feff}1;x"),
        Some("2;\"a\nb\"\r\n"),
        Some("3;\"open"),
        Some("\u{feff}4;y"),
        Some("5;y\n6;z"),
        Some("7"),
        Some(""),
        None,
        Some("x;y"),
        Some("8;"),
    ];
    let format = json!({ "type": "csv", "delimiter": ";" });
    let (positions, rows, failed) = read(format, columns("a:int64;b:utf8?"), &messages);
    assert_eq!(positions, [0, 1, 3, 9]);
    assert_eq!(rows, "a:int64 b:utf8?\n1 x\n2 \"a\nb\"\n4 y\n8 null\n");
    let numbers: Vec<_> = failed.iter().map(|(position, _)| *position).collect();
    assert_eq!(numbers, [2, 4, 5, 6, 7, 8]);
    assert_eq!(failed[1].1, "the message has more than one record");
    assert_eq!(failed[3..5], refused(&[(6, "the message has no record"), (7, "the message has no value")]));
    let (positions, rows, _) = read(json!("csv"), columns("a:utf8?"), &[Some(""), Some("x")]);
    assert_eq!((positions, rows.as_str()), (vec![0, 1], "a:utf8?\nnull\nx\n"));
}

#[test]
fn a_message_is_its_bytes() {
    let messages = [Some("a"), None, Some(""), Some("{}")];
    let (positions, rows, failed) = read(json!("raw"), columns("v:utf8"), &messages);
    assert_eq!((positions, rows.as_str()), (vec![0, 2, 3], "v:utf8\na\n\"\"\n{}\n"));
    assert_eq!(failed, refused(&[(1, "the message has no value")]));
    assert_eq!(read(json!("raw"), columns("v:binary?"), &messages).0, [0, 1, 2, 3]);
    let format: Format<ReadMessages> = serde_json::from_value(json!("raw")).unwrap();
    let context = millstream_testkit::context();
    let message = |columns: Columns| format.reader(&columns, &context).map(drop).unwrap_err().message;
    assert_eq!(message(columns("v:int64")), "raw messages can't be `int64`");
    assert_eq!(message(columns("v:json")), "raw messages can't be `json`");
    assert_eq!(message(columns("v:utf8;w:utf8")), "raw messages can't be 2 columns");
    let mut reader = format.reader(&columns("v:utf8"), &context).unwrap();
    let mut out = Rows::default();
    reader.decode(&[Some(b"a\xff"), Some(b"b")], &mut out).unwrap();
    assert_eq!((out.failed[0].row.as_str(), out.batches.len()), ("Yf8=", 1));
}

/// What is written of rows, in batches of any size.
fn written(format: Value, rows: &RecordBatch) -> Vec<Option<String>> {
    let format: Format<WriteMessages> = serde_json::from_value(format).unwrap();
    let format = format.write(&rows.schema(), &millstream_testkit::context()).unwrap();
    let written = |batch_rows: usize| {
        let (mut writer, mut out) = (format.open(&rows.schema()).unwrap(), Payloads::default());
        for start in (0..rows.num_rows()).step_by(batch_rows) {
            writer.encode(&rows.slice(start, batch_rows.min(rows.num_rows() - start)), &mut out).unwrap();
        }
        let text = |message: &[u8]| String::from_utf8(message.to_vec()).unwrap();
        assert_eq!(out.iter().len(), out.len());
        out.iter().map(|message| message.map(text)).collect::<Vec<_>>()
    };
    let whole = written(8192);
    assert_eq!(whole.len(), rows.num_rows());
    assert_eq!(written(1), whole);
    whole
}

fn texts(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

#[test]
fn a_row_becomes_an_object_or_a_record() {
    let texts_of_rows = StringArray::from(vec![Some("x \" y\nz"), None, Some("")]);
    let columns: [(_, ArrayRef); 2] =
        [("a", Arc::new(Int64Array::from(vec![1, 2, 3]))), ("b", Arc::new(texts_of_rows))];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    assert_eq!(
        written(json!("json"), &rows),
        texts(&[r#"{"a":1,"b":"x \" y\nz"}"#, r#"{"a":2}"#, r#"{"a":3,"b":""}"#])
    );
    let format = json!({ "type": "csv", "delimiter": ";" });
    assert_eq!(written(format, &rows), texts(&["1;\"x \"\" y\nz\"", "2;", "3;"]));
}

#[test]
fn bytes_become_a_message() {
    let table = millstream_testkit::table;
    assert_eq!(
        written(json!("raw"), &table("a:utf8?\nx\nnull\n\"\"\n")),
        [texts(&["x"]), vec![None], texts(&[""])].concat()
    );
    let format: Format<WriteMessages> = serde_json::from_value(json!("raw")).unwrap();
    let message =
        |rows: &str| format.write(&table(rows).schema(), &millstream_testkit::context()).map(drop).unwrap_err().message;
    assert_eq!(message("a:int64\n1"), "raw messages are bytes or texts, and column `a` is `int64`");
    assert_eq!(message("a:utf8 b:utf8\nx y"), "raw messages are bytes or texts, and there are 2 columns");
}
