//! NDJSON and JSON.

use super::*;

#[test]
fn ndjson_values() {
    let text = r#"
{"a": 1, "b": "x", "c": true, "d": 1.5, "e": "2026-01-31T12:00:00+01:00", "f": 12.30, "unknown": [1, {"x": 2}]}

  {"f": "0.05", "e": "2026-01-31T12:00:00Z", "d": 2, "c": null, "b": 7, "a": 2.0}  "#;
    let crlf = text.replace('\n', "\r\n");
    let decoder = ndjson("a:int64;b:utf8;c:boolean?;d:float64;e:timestamp;f:decimal(10,2)");
    for text in [text, &crlf] {
        let (positions, rows, failed) = read(text.as_bytes(), &decoder);
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
        "column `a`: `1.5` is not an `int64`",
        "no valid JSON: expected an object instead of `n`, at byte 1",
        "no valid JSON: the object is not closed",
        "no valid JSON: expected one object on the line",
        "no valid JSON: a control character in a text has to be escaped, at byte 9",
        "no valid JSON: expected an object; `format = \"json\"` reads arrays of objects",
        "no valid JSON: expected an object instead of `6`, at byte 1",
        "column `a` is missing or null",
        "column `a` is missing or null",
        "column `a`: an array is not an `int64`",
        "no valid JSON: an escape stands for no character, at byte 8",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn ndjson_integers_keep_every_digit_and_their_fractions_are_refused() {
    let text = "{\"n\":9007199254740991}\n{\"n\":-2e0}\n{\"n\":9007199254740993}\n{\"n\":\"7\"}\n{\"n\":0.5}\n{\"n\":true}\n\
                {\"n\":9223372036854775807}\n{\"n\":9223372036854775808}\n{\"n\":-0}\n{\"n\":300}\n";
    for batch_rows in [1, 3, 8192] {
        let read = |kind: &str| {
            let decoder = Decoder { batch_rows, ..ndjson(kind) };
            drain(decoder.read(Cursor::new(text)).unwrap(), batch_rows).unwrap()
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
        ("b:binary\n00ff\n\"\"\n", "column `b`: `abc` is not a `binary`")
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
            for read_mode in [ReadMode::Bounded, ReadMode::Streaming] {
                let decoder = Decoder { batch_rows, read_mode, ..ndjson("n:int64") };
                let reader = decoder.read(Cursor::new(text.to_owned())).unwrap();
                let (positions, rows, _) = drain(reader, batch_rows).unwrap();
                let name = format!("{text} in {batch_rows}");
                assert_eq!((&*positions, text_of(&rows)), (expected, format!("n:int64\n{values}")), "{name}");
            }
        }
    }
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
    let decoder = ndjson("l:list<int32?>?;s:{ at = timestamp?, n = list<{ x = int64 }> }?;d:date?");
    let (positions, rows, failed) = read(text.as_bytes(), &decoder);
    assert_eq!(positions, [0, 1]);
    assert!(
        text_of(&rows)
            .contains("\"[1, null]\" \"{at: 2026-01-31T12:00:00Z, n: [{x: 1}]}\" 2026-01-31\nnull null null\n")
    );
    let errors: Vec<_> = failed.iter().map(|row| row.error.as_str()).collect();
    assert!(
        errors[0].starts_with("column `s.at`: `2026-01-31T12:00:00` is not a timestamp with an offset"),
        "{errors:?}"
    );
    assert_eq!(errors[1..], ["column `l[0]`: `1.5` is not an `int32`", "column `s.n[0]` is missing or null"]);
}

#[test]
fn ndjson_deep_nesting_does_not_overflow_the_stack() {
    let deep = format!("{{\"a\": 1, \"b\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
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
    let decoder = wanting(ndjson("a:int64"), &[]);
    let (positions, rows, failed) = read(b"{\"a\": 1}\n{}\nx\n{}", &decoder);
    assert_eq!((rows.num_rows(), rows.num_columns(), positions, failed.len()), (3, 0, vec![0, 1, 3], 1));
}

#[test]
fn ndjson_larger_than_a_chunk() {
    let lines: Vec<_> = (0..60_000).map(|n| format!("{{\"a\": {n}, \"b\": \"{}\"}}", "x".repeat(n % 90))).collect();
    let mut decoder = ndjson("a:int64;b:utf8");
    for batch_rows in [1000, 8192] {
        decoder.batch_rows = batch_rows;
        let mut reader = decoder.read(Cursor::new(lines.join("\n"))).unwrap();
        let mut rows = Rows::default();
        while reader.next(&mut rows).unwrap() {}
        let sizes: Vec<_> = rows.batches.iter().map(|(_, rows)| rows.num_rows()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 60_000);
        assert!(sizes[..sizes.len() - 1].iter().all(|size| *size == batch_rows), "{sizes:?}");
    }
}

#[test]
fn json_documents_one_by_one() {
    let mut decoder = JsonDecoder::new(&columns("a:int64"), &Moments::default(), 2);
    let documents: [&[u8]; 5] = [b"{\"a\": 1}", b"{\"a\":\n2}", b"", b"{\"a\": 3} x", b"{\"a\": 4}"];
    let mut rows = Rows::default();
    decoder.decode(&documents, 10, &mut rows).unwrap();
    let starts: Vec<_> = rows.batches.iter().map(|(start, rows)| (*start, rows.num_rows())).collect();
    assert_eq!(starts, [(10, 2), (14, 1)]);
    assert_eq!(rows.failed.iter().map(|row| row.position).collect::<Vec<_>>(), [12, 13]);
}

#[test]
fn json_in_an_array_or_on_several_lines() {
    let decoder = decoder_of("json", columns("a:int64;b:utf8?"));
    for text in [
        "[{\"a\": 1}, {\"a\": 2,\n \"b\": \"}\"}\n]",
        "{\n  \"a\": 1\n}\n{\n  \"a\": 2, \"b\": \"}\"}",
        "\u{feff}{\"a\": 1}\r\n{\"a\": 2, \"b\": \"}\"}\r\n",
    ] {
        let (positions, rows, failed) = read(text.as_bytes(), &decoder);
        let expected = "a:int64 b:utf8?\n1 null\n2 }\n";
        assert_eq!((text_of(&rows).as_str(), positions, failed), (expected, vec![0, 1], vec![]), "{text}");
    }
    let (positions, _, failed) = read(b"[{\"a\": 1}, {\"a\": x}, 7, {\"a\": 4}", &decoder);
    let errors: Vec<_> = failed.iter().map(|row| (row.position, row.row.as_str())).collect();
    assert_eq!((positions, errors), (vec![0, 3], vec![(1, "{\"a\": x}"), (2, "7"), (4, "")]));
    assert!(failed[2].error.starts_with("the array is not closed"), "{failed:?}");
    for text in ["", " ", "[]", "[ ]\n"] {
        assert_eq!(read(text.as_bytes(), &decoder).1.num_rows(), 0);
    }
}

#[test]
fn any_value_can_be_kept_as_its_text() {
    let lines = [
        r#"{"id": 1, "extra": {"a": [1.50, "\u00e4"],  "b": null}}"#,
        r#"{"extra": [ ], "id": 2}"#,
        r#"{"id": 3, "extra": "x\n"}"#,
        r#"{"id": 4, "extra": null}"#,
        r#"{"id": 5, "extra": 1e400}"#,
        r#"{"id": 6, "extra": {"a": 1, }}"#,
        r#"{"id": 7}"#,
        r#"{"id": "x", "extra": true}"#,
        r#"{"id": 9, "extra": false}"#,
    ];
    let expected = "id:int64 extra:utf8?\n1 \"{\"a\": [1.50, \"\\u00e4\"],  \"b\": null}\"\n2 \"[ ]\"\n3 \"x\\n\"\n4 null\n5 1e400\n\
                    7 null\n9 false\n";
    let (positions, rows, failed) = read(lines.join("\n").as_bytes(), &ndjson("id:int64;extra:json?"));
    assert_eq!(text_of(&rows), expected);
    assert_eq!(positions, [0, 1, 2, 3, 4, 6, 8]);
    assert_eq!(bad(&failed)[0].2, "no valid JSON: expected a key in quotes instead of `}`, at byte 29");
    let (_, rows, failed) = read(lines[2..4].join("\n").as_bytes(), &ndjson("extra:json"));
    assert_eq!(
        (text_of(&rows).as_str(), bad(&failed)[0].2),
        ("extra:utf8\n\"x\\n\"\n", "column `extra` is missing or null")
    );
    let (_, _, failed) = read(lines[0].as_bytes(), &ndjson("extra:utf8"));
    let advice = "a column of type `json` takes the text of any value";
    assert_eq!(bad(&failed)[0].2, format!("column `extra`: an object is not a `utf8`; {advice}"));
}
