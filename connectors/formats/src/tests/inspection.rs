//! The columns that are found in files.

use super::*;

#[test]
fn files_without_rows_keep_their_columns() {
    let folder = Folder::new();
    let none = sample().slice(0, 0);
    for name in ["a.parquet", "a.arrow"] {
        let path = folder.file(name, write(name, &none, 1));
        assert_eq!(inspect(&path).unwrap().rows, Some(0));
        assert_eq!(read_file(&path, None).unwrap().1, none, "{name}");
    }
    assert_eq!(write("a.csv", &none, 1), b"id,amount,name,at,ok\n");
    assert_eq!(write("a.ndjson", &none, 1), b"");
    assert_eq!(write("a.json", &none, 1), b"[\n]\n");
    let found = inspect(&folder.file("a.csv", "id,b\n")).unwrap();
    assert_eq!(found.columns, columns("id:utf8?;b:utf8?"));
    for name in ["b.csv", "b.ndjson"] {
        let path = folder.file(name, "");
        assert_eq!(inspect(&path).unwrap().columns, Columns(vec![]));
    }
}

#[test]
fn a_header_of_one_column_that_looks_like_several_is_refused() {
    let folder = Folder::new();
    for (delimiter, shown) in [(";", ";"), ("\t", "\\t"), ("|", "|")] {
        let path = folder.file("a.csv", format!("id{delimiter}name\n1{delimiter}Ada\n"));
        let error = inspect(&path).unwrap_err().to_string();
        let expected = format!(
            "the header has one column, `id{shown}name`; its fields seem to be separated by another character: set \
             `format = {{ type = \"csv\", delimiter = \"{shown}\" }}`"
        );
        assert!(error.ends_with(&expected), "{error}");
    }
    let path = folder.file("b.csv", "a;b\n1\n");
    let format = decoder_of(json!({ "type": "csv", "delimiter": "," }), columns("x:utf8")).format;
    assert_eq!(format.inspect(&path, None, 10).unwrap().columns.0[0].0, "a;b");
}

#[test]
fn binary_files_say_how_many_rows_they_have() {
    let folder = Folder::new();
    for name in ["a.parquet", "a.arrow"] {
        let path = folder.file(name, write(name, &sample(), 2));
        assert_eq!(inspect(&path).unwrap().rows, Some(4), "{name}");
    }
}

#[test]
fn samples_are_as_long_as_asked_for() {
    let folder = Folder::new();
    for (name, text) in [("a.csv", "a\n1\n2.5\n"), ("a.ndjson", "{\"a\": 1}\n\n{\"a\": 2.5}")] {
        let path = folder.file(name, text);
        let kind = |rows| format_of(&path).inspect(&path, None, rows).unwrap().columns;
        assert_eq!(kind(1), columns("a:int64?"));
        assert_eq!(kind(2), columns("a:float64?"));
    }
}

#[test]
fn rows_that_will_be_rejected_say_nothing_about_types() {
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
    assert_eq!(inspect(&path).unwrap().columns, columns("a:utf8?;b:utf8?"));
}

#[test]
fn headerless_columns_are_numbered() {
    let folder = Folder::new();
    let path = folder.file("a.csv", "1,x\n2,y\n");
    let format = decoder_of(json!({ "type": "csv", "header": false }), columns("a:utf8")).format;
    let found = format.inspect(&path, None, 10_000).unwrap();
    assert_eq!(found.columns, columns("column_1:int64?;column_2:utf8?"));
}

#[test]
fn keys_that_are_data_are_no_columns() {
    let folder = Folder::new();
    let rows = |count: usize| (0..count).map(|n| format!("{{\"id{n}\": {{\"x\": 1}}}}\n")).collect::<String>();
    let format = format_of("a.ndjson");
    let found = format.inspect(&folder.file("a.ndjson", rows(10_000)), None, 20_000);
    assert_eq!(found.unwrap().columns.0.len(), 10_000);
    let found = format.inspect(&folder.file("a.ndjson", rows(10_001)), None, 20_000);
    assert!(found.unwrap_err().to_string().contains("10001 different keys"));
}

#[test]
fn a_first_line_that_is_no_header_is_told() {
    let folder = Folder::new();
    let look = |text: &str| {
        let path = folder.file("a.csv", text);
        inspect(&path).map(|found| found.columns).map_err(|error| error.to_string())
    };
    assert!(look("sep=;\na;b\n1;2\n").unwrap_err().contains("skip_lines = 1, delimiter = \"…\" }` skips it"));
    assert!(look("# made by hand\na,b\n").unwrap_err().contains("comment = \"#\" }` skips such lines"));
    assert_eq!(look("#id,b\n1,2\n1,2,3\n").unwrap(), columns("#id:int64?;b:int64?"));
}

#[test]
fn numbers_with_a_comma_are_found() {
    let folder = Folder::new();
    let path = folder.file("a.csv", "a;b;c;d\n1,5;1.5;2;true\n2;x;3;false\n");
    let format = json!({ "type": "csv", "delimiter": ";", "decimal_separator": "," });
    let found = decoder_of(format, columns("a:utf8")).format.inspect(&path, None, 10_000).unwrap();
    assert_eq!(found.columns, columns("a:float64?;b:utf8?;c:int64?;d:boolean?"));
}
