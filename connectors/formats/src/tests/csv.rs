//! CSV, with everything that can be wrong with it.

use super::*;

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
        (0, "x,1", "column `a`: `x` is not an `int64`"),
        (2, "2", "expected 2 fields instead of 1"),
        (4, "4,5,6", "expected 2 fields instead of 3"),
        (5, "\"5\r\n6\",7", "column `a`: `5\r\n6` is not an `int64`"),
        (6, "8,", "column `b` is null"),
        (8, "last,11", "column `a`: `last` is not an `int64`"),
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
    assert_eq!(failed[0].error, "the row is no valid UTF-8; `encoding` in `format` names other encodings");
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
    let null_values = ["", "NA", "-"];
    let format = json!({ "type": "csv", "header": false, "delimiter": "\t", "null_values": null_values });
    let decoder = decoder_of(format, columns("a:utf8?;b:int64?"));
    let (_, rows, failed) = read(b"x\t1\nNA\t-\n,\t2\n", &decoder);
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
    let check = |text: &str, error: &str, (bytes, lines): (usize, usize)| {
        let max_field = json!({ "bytes": format!("{bytes}B"), "lines": lines });
        let decoder = decoder_of(json!({ "type": "csv", "max_field": max_field }), columns("a:int64;b:utf8"));
        let (positions, rows, failed) = read(text.as_bytes(), &decoder);
        assert_eq!((&positions, rows.num_rows()), (&expected, 999));
        assert_eq!((bad(&failed), &*failed[0].error), (vec![(10, "10,\"x", error)], error));
    };
    check(&text, "a quote is not closed", (1 << 20, 1000));
    for limit in [(500, 999), (5000, 100)] {
        let (bytes, lines) = limit;
        let error =
            format!("a quote is not closed within {bytes} bytes and {lines} line breaks, the setting `max_field`");
        check(&text, &error, limit);
    }
    let closed = text.replace("20,x", "20,\"x\"");
    check(&closed, "a quote is closed in the middle of a field, or not at all", (1 << 20, 1000));
}

#[test]
fn csv_that_grows_does_not_wait_for_a_quote_for_ever() {
    let source = Growing::default();
    source.append(b"a,b\n1,\"x\n");
    let format = json!({ "type": "csv", "max_field": { "bytes": "100B", "lines": 3 } });
    let decoder = Decoder { read_mode: ReadMode::Tailing, ..decoder_of(format, columns("a:int64;b:utf8")) };
    let mut reader = decoder.read(source.clone()).unwrap();
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

#[test]
fn csv_lines_that_are_no_records() {
    let text = "made by\n\"x,\n# units\nid;name\n1;a\n#2;b\n3;#c\n";
    let format = json!({ "type": "csv", "skip_lines": 2, "comment": "#", "delimiter": ";" });
    let (positions, rows, failed) = read(text.as_bytes(), &decoder_of(format, columns("id:int64;name:utf8")));
    assert_eq!((text_of(&rows).as_str(), positions, failed), ("id:int64 name:utf8\n1 a\n3 #c\n", vec![0, 1], vec![]));
}

#[test]
fn csv_in_another_encoding() {
    let encoded =
        |encoding: &str| decoder_of(json!({ "type": "csv", "encoding": encoding }), columns("id:int64;näme:utf8"));
    let latin = b"id,n\xe4me\n1,\xfc\n2,x\n";
    let expected = "id:int64 näme:utf8\n1 ü\n2 x\n";
    assert_eq!(text_of(&read(latin, &encoded("latin-1")).1), expected);
    let units = "\u{feff}id,näme\n1,ü\n2,x\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let (_, rows, failed) = read(&units, &encoded("utf-16"));
    assert_eq!((text_of(&rows).as_str(), failed), (expected, vec![]));
    let cut = read(&units[..units.len() - 3], &encoded("utf-16"));
    assert_eq!((cut.1.num_rows(), cut.2[0].encoding), (1, Encoding::Base64));
}

#[test]
fn another_delimiter_is_suggested() {
    let error = csv("amount:int64").read(Cursor::new("id;amount\n")).err().unwrap().to_string();
    assert!(error.ends_with("set `format = { type = \"csv\", delimiter = \";\" }`"), "{error}");
    let (_, _, failed) = read(b"id,amount\n1\t2\n", &csv("id:int64;amount:int64"));
    assert!(failed[0].error.ends_with("set `format = { type = \"csv\", delimiter = \"\\t\" }`"), "{}", failed[0].error);
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

#[test]
fn csv_numbers_may_have_a_comma() {
    let comma = |columns: &str| {
        let format = json!({ "type": "csv", "delimiter": ";", "decimal_separator": "," });
        decoder_of(format, self::columns(columns))
    };
    let text = "a;b;c;d\n1,5;-0,25;7;x,y.z\n1.5;1;1;x\n1.234,5;1;1;x\n;;;\n2e3;3;4;5\n";
    let (_, rows, failed) = read(text.as_bytes(), &comma("a:float64?;b:decimal(12,2)?;c:int64?;d:utf8?"));
    let expected =
        "a:float64? b:decimal(12,2)? c:int64? d:utf8?\n1.5 -0.25 7 x,y.z\nnull null null null\n2000.0 3.00 4 5\n";
    assert_eq!(text_of(&rows), expected);
    let errors: Vec<_> = bad(&failed).iter().map(|(_, _, error)| error.to_string()).collect();
    assert_eq!(errors, ["column `a`: `1.5` is not a `float64`", "column `a`: `1.234,5` is not a `float64`"]);
}

#[test]
fn csv_first_lines_that_are_no_header() {
    let error = |text: &str| {
        let source = Cursor::new(text.as_bytes().to_vec());
        csv("a:int64;b:int64").read(source).err().unwrap().to_string()
    };
    let text = "sep=;\na;b\n1;2\n";
    let why = error(text);
    assert!(why.contains("a note for Excel: `format = { type = \"csv\", skip_lines = 1"), "{why}");
    let text = "# made by hand\na,b\n1,2\n";
    let why = error(text);
    assert!(why.contains("comment = \"#\" }` skips such lines"), "{why}");
    let (_, _, failed) = read(text.as_bytes(), &csv("# made by hand:utf8"));
    assert!(bad(&failed)[0].2.starts_with("expected 1 fields instead of 2; the first line looks like a comment"));
}
