//! The setting `format`, for each of its purposes.

use millstream_core::{Problem, Step};
use schemars::schema_for;
use serde::de::DeserializeOwned;

use super::*;

fn parsed<P: Purpose>(format: impl Into<Value>) -> Result<Format<P>, String>
where
    Format<P>: DeserializeOwned,
{
    serde_json::from_value(format.into()).map_err(|error| error.to_string())
}

fn problem<T>(made: Result<T, Problem>) -> (Vec<Step>, String) {
    made.map(drop).map_err(|problem| (problem.at.clone(), problem.to_string())).unwrap_err()
}

#[test]
fn every_example_is_read_or_written() {
    for kind in FORMATS {
        let table: Value = toml::from_str(&format!("format = {}", kind.example)).unwrap();
        let table = table["format"].clone();
        match kind.uses()[0].words {
            "Read from messages:" => _ = parsed::<ReadMessages>(table).unwrap(),
            words if words.starts_with("Read") => _ = parsed::<ReadFiles>(table).unwrap().read("").unwrap(),
            _ => _ = parsed::<WriteStreams>(table).unwrap().write().unwrap(),
        }
        assert!(kind.about.ends_with('.'), "{}", kind.name);
    }
}

#[test]
fn a_word_is_the_format_with_nothing_more_said() {
    let same = |word: &str| {
        let table = parsed::<ReadStreams>(json!({ "type": word })).unwrap();
        assert_eq!(serde_json::to_value(&table).unwrap(), word);
        table.kind().name
    };
    assert_eq!(same("csv"), parsed::<ReadStreams>("csv").unwrap().kind().name);
    let table = json!({ "type": "csv", "delimiter": ";" });
    assert_eq!(serde_json::to_value(parsed::<WriteFiles>(table.clone()).unwrap()).unwrap(), table);
}

#[test]
fn each_purpose_has_its_formats() {
    let error = parsed::<ReadStreams>("parquet").unwrap_err();
    assert_eq!(
        error,
        "`parquet` is no format that can be used here; there are `csv`, `ndjson`, `json`, `lines`, `regex`, `grok`, `key_value`"
    );
    assert_eq!(
        parsed::<ReadFiles>("cvs").unwrap_err(),
        "`cvs` is no format that can be used here; did you mean `csv`?"
    );
    assert!(parsed::<ReadFiles>("parquet").is_ok() && parsed::<WriteFiles>("arrow").is_ok());
    assert!(parsed::<WriteStreams>("table").is_ok() && parsed::<WriteFiles>("table").is_err());
    assert!(parsed::<ReadFiles>(json!({ "delimiter": ";" })).unwrap_err().contains("a table with `type`"));
    assert!(parsed::<ReadFiles>(3).unwrap_err().contains("the name of a format, or a table"));
    let schema = schema_for!(Format<ReadStreams>).to_value();
    assert_eq!(schema["anyOf"][0]["enum"], json!(["csv", "ndjson", "json", "lines", "regex", "grok", "key_value"]));
    assert_eq!(schema["anyOf"].as_array().unwrap().len(), 8);
    assert_eq!(schema["anyOf"][1]["properties"]["type"]["const"], "csv");
}

#[test]
fn what_is_for_reading_is_refused_by_outputs() {
    let write = |format: Value| problem(parsed::<WriteFiles>(format).unwrap().write(""));
    let place = |key: &str| vec![Step::from("format"), Step::Name(key.to_owned())];
    let (at, message) = write(json!({ "type": "csv", "comment": "#" }));
    assert_eq!((at, message.as_str()), (place("comment"), "`comment` is for reading, and an output writes"));
    let (at, message) = write(json!({ "type": "csv", "delimeter": ";" }));
    assert_eq!(at, place("delimeter"));
    assert_eq!(message, "there is no setting `delimeter`; did you mean `delimiter`?");
    let schema = schema_for!(Format<WriteStreams>).to_value();
    let refused = schema["anyOf"][1]["x-refused"].as_object().unwrap();
    assert_eq!(refused["skip_lines"], "`skip_lines` is for reading, and an output writes");
    assert!(refused.contains_key("encoding") && !refused.contains_key("header"), "{refused:?}");
    let reading = schema_for!(Format<ReadStreams>).to_value();
    assert_eq!(reading["anyOf"][1].get("x-refused"), None);
}

#[test]
fn settings_that_are_wrong_have_their_place() {
    let read = |format: Value| problem(parsed::<ReadFiles>(format).unwrap().read(""));
    for (key, value, message) in [
        ("delimiter", json!("\""), "`\\\"` can't separate fields; use a single ASCII character"),
        ("delimiter", json!(";;"), "expected a single character"),
        ("comment", json!("é"), "comments can't begin with `\\u{e9}`"),
        ("decimal_separator", json!(","), "`,` can't stand in numbers and separate fields"),
        ("timezone", json!("Mars"), "there is no time zone `Mars`"),
        ("date_format", json!("DD.MM.YYYY"), "`DD.MM.YYYY` does not say a date"),
        ("header", json!(3), "invalid type: integer `3`, expected a boolean"),
    ] {
        let mut table = json!({ "type": "csv" });
        table[key] = value;
        let (at, found) = read(table);
        assert_eq!(at, [Step::from("format"), key.into()], "{found}");
        assert!(found.starts_with(message), "{found}");
    }
}

#[test]
fn the_ending_of_a_file_may_say_more() {
    let separated = Format::<ReadFiles>::named("csv").unwrap();
    let tabs = Decoder { format: separated.read("tsv").unwrap(), ..csv("a:int64;b:int64") };
    assert_eq!(text_of(&read(b"a\tb\n1\t2\n", &tabs).1), "a:int64 b:int64\n1 2\n");
    assert_eq!(write("a.tsv", &table("a:int64 b:int64\n1 2"), 1), b"a\tb\n1\t2\n");
    let comma: Format<ReadFiles> = parsed(json!({ "type": "csv", "decimal_separator": "," })).unwrap();
    assert!(comma.read("csv").is_err() && comma.read("tsv").is_ok());
}

#[test]
fn settings_of_both_sides_go_together() {
    let format = json!({ "type": "csv", "delimiter": ";", "header": false });
    let writing: Format<WriteFiles> = parsed(format.clone()).unwrap();
    let options = WriteOptions { format: writing.write("").unwrap(), compression: None, begins: true };
    let rows = table("a:int64 b:utf8\n1 x;y\n2 z");
    let mut writer = options.open(Vec::new(), &rows.schema()).unwrap();
    writer.write(&rows).unwrap();
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes, b"1;\"x;y\"\n2;z\n");
    let (_, again, failed) = read(&bytes, &decoder_of(format, columns("a:int64;b:utf8")));
    assert_eq!((again, failed), (rows, vec![]));
}
