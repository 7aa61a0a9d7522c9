//! What is no JSON is rejected, and nothing else.

use serde_json::Value;

use super::*;

/// A few random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

#[test]
fn what_other_parsers_let_pass_is_refused() {
    let values = [
        "05",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "1e+",
        "- 1",
        "0x10",
        "1_0",
        "NaN",
        "Infinity",
        "-inf",
        "nul",
        "True",
        "'x'",
        "x",
        "\"a\tb\"",
        "\"a\u{0}b\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\\ud800\"",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "{\"a\":1,}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "\u{b}1",
        "\u{a0}1",
    ];
    let unknown = values.map(|value| format!("{{\"id\":1,\"unknown\":{value}}}"));
    let is_scalar = |value: &&str| !value.starts_with(['[', '{']);
    let declared = values.into_iter().filter(is_scalar).map(|value| format!("{{\"id\":1,\"text\":{value}}}"));
    let declared: Vec<_> = declared.collect();
    let around =
        ["{\"id\":2,,}", "{\"id\":2,}", "{\"id\":1 \"text\":\"\"}", "{\"id\":1}}", "[{\"id\":1}]", "{\"id\":1},"];
    let bad: Vec<&str> = unknown.iter().chain(&declared).map(String::as_str).chain(around).collect();
    let lines: String = bad.iter().map(|line| format!("{{\"id\":0}}\n{line}\n")).collect();
    let (positions, _, failed) = read(lines.as_bytes(), &ndjson("id:int64;text:utf8?"));
    assert_eq!(positions, (0..bad.len() as u64).map(|line| line * 2).collect::<Vec<_>>());
    assert!(failed.iter().map(|row| row.row.as_str()).eq(bad), "{failed:?}");
    assert!(failed.iter().all(|row| row.error.starts_with("no valid JSON: ")), "{failed:?}");
}

#[test]
fn json_in_an_array_is_as_strict() {
    let rows = [
        "{\"id\":2,,}",
        "{\"id\":1}",
        "{\"id\":\"a\tb\"}",
        "{\"id\":1,\"id\":2}",
        "{\"id\":05}",
        "{\"id\":1,\"x\":[1,]}",
        "[7]",
    ];
    let text = format!("[{}]", rows.join(","));
    let (positions, _, failed) = read(text.as_bytes(), &decoder_of("json", columns("id:utf8")));
    let failed: Vec<_> = failed.iter().map(|row| row.row.as_str()).collect();
    assert_eq!((positions, failed), (vec![1], [&rows[..1], &rows[2..6], &["7"]].concat()));
}

#[test]
fn columns_come_once() {
    let lines = "{\"a\":1,\"a\":1}\n{\"a\":1,\"b\":2,\"\\u0061\":1}\n{\"a\":null,\"a\":1}\n{\"a\":1,\"x\":1,\"x\":2}\n\
                 {\"s\":{\"t\":1,\"t\":1}}\n{\"l\":[{\"u\":1},{\"u\":1,\"u\":1}]}\n";
    let kinds = "a:int64?;s:{ t = int64? }?;l:list<{ u = int64? }>?";
    let (positions, _, failed) = read(lines.as_bytes(), &ndjson(kinds));
    let errors: Vec<_> = failed.iter().map(|row| row.error.as_str()).collect();
    let twice = |column: &str| format!("column `{column}` is there twice");
    let expected = ["a", "a", "a", "s.t", "l[1].u"].map(twice);
    assert_eq!((positions, errors), (vec![3], expected.iter().map(String::as_str).collect()));
}

#[test]
fn values_of_other_types_are_named() {
    let lines = "{\"l\":[[1],[2,null]]}\n{\"l\":[1]}\n{\"l\":{}}\n{\"s\":[]}\n{\"s\":\"x\"}\n{\"s\":{}}\n{\"s\":{\"t\":{}}}\n{\"b\":\"true\"}\n{\"f\":true}\n";
    let kinds = "l:list<list<int8>>?;s:{ t = float64 }?;b:boolean?;f:float64?";
    let (_, _, failed) = read(lines.as_bytes(), &ndjson(kinds));
    let errors: Vec<_> = failed.iter().map(|row| row.error.as_str()).collect();
    let expected = [
        "column `l[1][1]` is missing or null",
        "column `l[0]`: `1` is not a `list<int8>`",
        "column `l`: an object is not a `list<list<int8>>`",
        "column `s`: an array is not a `{ t = float64 }`",
        "column `s`: `x` is not a `{ t = float64 }`",
        "column `s.t` is missing or null",
        "column `s.t`: an object is not a `float64`",
        "column `b`: `true` is not a `boolean`",
        "column `f`: `true` is not a `float64`",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn numbers_are_exact_or_refused() {
    let values = [
        "1e999",
        "-1e400",
        "1e39",
        "-0.0",
        "-0",
        "1e-400",
        "0.1",
        "123456789012345678901234567890",
        "9007199254740993",
    ];
    let lines: String = values.iter().map(|value| format!("{{\"n\":{value}}}\n{{\"n\":\"{value}\"}}\n")).collect();
    let values_in = |kind: &str| {
        let (_, rows, _) = read(lines.as_bytes(), &ndjson(&format!("n:{kind}")));
        text_of(&rows).lines().skip(1).step_by(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(values_in("float64"), "1e39 -0.0 -0.0 0.0 0.1 1.2345678901234568e29 9007199254740992.0");
    assert_eq!(values_in("float32"), "-0.0 -0.0 0.0 0.1 1.2345679e29 9.007199e15");
    assert_eq!(values_in("int64"), "0 0 9007199254740993");
    assert_eq!(values_in("decimal(38,1)"), "0.0 0.0 0.1 123456789012345678901234567890.0 9007199254740993.0");
    assert_eq!(values_in("utf8"), values.join(" "));
    let (_, rows, failed) =
        read(b"{\"n\":1.9999999999999999999}\n{\"n\":3.0}\n{\"n\":4e0}\n{\"n\":5.5}", &ndjson("n:int64"));
    assert_eq!((text_of(&rows).as_str(), failed.len()), ("n:int64\n3\n4\n", 2));
}

#[test]
fn floats_are_those_of_their_digits() {
    use arrow::array::AsArray;
    let mut random = Random(1);
    let numbers: Vec<String> = (0..20_000)
        .map(|_| {
            let digits = |random: &mut Random, most: usize| {
                (0..1 + random.below(most)).map(|_| char::from(b'0' + random.below(10) as u8)).collect::<String>()
            };
            let whole = digits(&mut random, 18);
            let whole = whole.trim_start_matches('0');
            let whole = if whole.is_empty() { "0" } else { whole };
            let sign = random.pick(&["", "-"]);
            let fraction = random.pick(&["", ".5", "."]).to_owned();
            let fraction = if fraction == "." { format!(".{}", digits(&mut random, 24)) } else { fraction };
            let exponent = random.pick(&["", "", "e5", "E-20", "e+280"]);
            format!("{sign}{whole}{fraction}{exponent}")
        })
        .collect();
    let lines: String = numbers.iter().map(|number| format!("{{\"d\":{number},\"f\":{number}}}\n")).collect();
    for kind in ["d:float64", "f:float32"] {
        let (positions, rows, _) = drain(ndjson(kind).read(Cursor::new(lines.clone())).unwrap(), 8192).unwrap();
        let texts = positions.iter().map(|position| &numbers[*position as usize]);
        match kind {
            "d:float64" => {
                let read = rows.column(0).as_primitive::<arrow::datatypes::Float64Type>().values();
                assert_eq!(read.len(), numbers.len());
                assert!(
                    read.iter().zip(texts).all(|(read, text)| read.to_bits() == text.parse::<f64>().unwrap().to_bits())
                );
            }
            _ => {
                let read = rows.column(0).as_primitive::<arrow::datatypes::Float32Type>().values();
                assert!(
                    read.iter().zip(texts).all(|(read, text)| read.to_bits() == text.parse::<f32>().unwrap().to_bits())
                );
            }
        }
    }
}

/// A random document, often with a few bytes changed.
fn document(random: &mut Random) -> Vec<u8> {
    let mut keys = vec!["a", "b", "c", "d", "unknown", "\\u0061b", "ä"];
    let mut fields = Vec::new();
    for _ in 0..random.below(7) {
        let key = keys.remove(random.below(keys.len()));
        let space = random.pick(&["", "", " ", "\t"]);
        fields.push(format!("{space}\"{key}\"{space}:{}", value(random, 3)));
    }
    let mut document = format!("{{{}}}", fields.join(",")).into_bytes();
    for _ in 0..random.below(3) {
        let place = random.below(document.len());
        let byte = random.pick(b"\"\\{}[],:.-+e05 \tnuax\x00\x1f\x7f\x80\xc3\xff");
        match random.below(3) {
            0 => document[place] = byte,
            1 => document.insert(place, byte),
            _ => drop(document.remove(place)),
        }
    }
    document
}

fn value(random: &mut Random, depth: usize) -> String {
    match random.below(if depth == 0 { 6 } else { 8 }) {
        0 => random.pick(&["null", "true", "false"]).to_owned(),
        1 => random.pick(&["0", "-1", "12.50", "1e2", "-0.0", "18446744073709551615"]).to_owned(),
        2..=5 => {
            let pieces =
                ["", "x", "ä", "\\n", "\\\"", "\\\\", "\\ud83d\\ude00", "\\u00e9", "longer than eight bytes", "{", "]"];
            let text: String = (0..random.below(4)).map(|_| random.pick(&pieces)).collect();
            format!("\"{text}\"")
        }
        6 => format!("[{}]", (0..random.below(3)).map(|_| value(random, depth - 1)).collect::<Vec<_>>().join(",")),
        _ => format!("{{\"x\":{},\"y\":{}}}", value(random, depth - 1), value(random, depth - 1)),
    }
}

/// What a column of texts, numbers or truth values would have for a value.
fn expected(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        Value::Bool(value) => Some(Some(value.to_string())),
        _ => None,
    }
}

#[test]
fn documents_are_read_as_serde_json_reads_them() {
    use arrow::array::AsArray;
    let columns = columns("c:utf8?;a:utf8?;ab:utf8?;ä:utf8?");
    let mut decoder = JsonDecoder::new(&columns, &Moments::default(), 64);
    let mut structure = JsonDecoder::new(&Columns(vec![]), &Moments::default(), 64);
    let mut random = Random(7);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let documents: Vec<_> = (0..1 + random.below(4)).map(|_| document(&mut random)).collect();
        let texts: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
        let (mut rows, mut shapes) = (Rows::default(), Rows::default());
        decoder.decode(&texts, 0, &mut rows).unwrap();
        structure.decode(&texts, 0, &mut shapes).unwrap();
        for (position, text) in texts.iter().enumerate() {
            let name = String::from_utf8_lossy(text);
            let known = match serde_json::from_slice::<Value>(text) {
                // It takes no part of a document that has a number which no float has.
                Err(error) if error.to_string().contains("out of range") => continue,
                known => known.ok().filter(Value::is_object),
            };
            let row = |rows: &Rows| {
                let of = |(start, batch): &(u64, RecordBatch)| {
                    Some((position as u64).checked_sub(*start)? as usize)
                        .filter(|row| *row < batch.num_rows())
                        .map(|row| batch.slice(row, 1))
                };
                rows.batches.iter().find_map(of)
            };
            assert_eq!(row(&shapes).is_some(), known.is_some(), "{name}");
            let Some(row) = row(&rows) else {
                bad += 1;
                continue;
            };
            let known = known.unwrap();
            for (index, (column, _)) in columns.0.iter().enumerate() {
                let expected = expected(known.get(column).unwrap_or(&Value::Null));
                let array = row.column(index).as_string::<i32>();
                let read = array.iter().next().unwrap();
                assert!(expected.is_none_or(|text| text.as_deref() == read), "{name}");
            }
            good += 1;
        }
    }
    assert!(good > 10_000 && bad > 5_000, "{good} {bad}");
}

#[test]
fn blank_lines_are_no_end() {
    let text = format!("{{\"a\":1}}\n{}{{\"a\":2}}\n", format!("{}\n", " ".repeat(1023)).repeat(70 << 10));
    let (positions, _, failed) = drain(ndjson("a:int64").read(Cursor::new(text)).unwrap(), 8192).unwrap();
    assert_eq!((positions, failed), (vec![0, 1], vec![]));
}
