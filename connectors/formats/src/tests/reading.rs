//! Reading on and on: rows without an end, sources that grow, positions, lines.

use super::*;

/// Reads rows of which one is too long, and returns its error and how much of it is shown.
fn read_long(decoder: Decoder, bytes: Vec<u8>) -> (String, usize) {
    let mut reader = decoder.read(Cursor::new(bytes)).unwrap();
    let mut rows = Rows::default();
    let mut last = reader.position();
    while reader.next(&mut rows).unwrap() {
        assert!(reader.position().offset > last.offset);
        last = reader.position();
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
    for read_mode in [ReadMode::Bounded, ReadMode::Tailing] {
        let (error, shown) = read_long(Decoder { read_mode, ..ndjson("a:int64") }, text.clone().into_bytes());
        assert!(error.ends_with(&expected) && shown == 1023, "{error}");
    }
    let text = format!("a=1\na=2\n3{long}\na=4\n");
    for read_mode in [ReadMode::Bounded, ReadMode::Tailing] {
        let (error, shown) = read_long(Decoder { read_mode, ..fields::pairs("a:int64") }, text.clone().into_bytes());
        assert!(error.ends_with(&expected) && shown == 1023, "{error}");
    }
}

#[test]
fn refused_rows_say_their_line() {
    let texts = [
        (csv("a:int64;b:utf8"), "a,b\n\n1,\"x\ny\"\nz,2\n3\n4,\"5\n6,7\nx,x", vec![5, 6, 7, 9]),
        (ndjson("a:int64"), "\n{\"a\": 1}\n{\"a\": x}\n\n{}\n{\"a\": 2}\n7", vec![3, 5, 7]),
        (fields::pairs("a:int64"), "\na=1\na=x\n\nno\na=2\na=7 a=7", vec![3, 5, 7]),
        (decoder_of("json", columns("a:int64")), "[\n{\"a\":\n1},\n{\"a\":\nx}, 7,\n{}]", vec![4, 5, 6]),
    ];
    let folder = Folder::new();
    for (decoder, text, expected) in texts {
        let lines = |rows: &[BadRow]| rows.iter().filter_map(|row| row.line).collect::<Vec<_>>();
        let (_, _, failed) = read(text.as_bytes(), &decoder);
        assert_eq!(lines(&failed), expected, "{text}");
        // Also where reading goes on in the middle.
        let path = folder.file("a", text);
        let one = Decoder { batch_rows: 1, ..decoder };
        let (mut reader, mut starts) = (one.open(&path).unwrap(), Vec::new());
        let mut rows = Rows::default();
        while reader.next(&mut rows).unwrap() {
            starts.push(reader.position());
        }
        for start in starts {
            let (mut later, mut rest) = (one.open(&path).unwrap(), Rows::default());
            later.go_to(start).unwrap();
            while later.next(&mut rest).unwrap() {}
            let expected: Vec<_> = failed.iter().filter(|row| row.position >= start.position).cloned().collect();
            assert_eq!(lines(&rest.failed), lines(&expected), "{text} from {start:?}");
            let mut later = one.open(&path).unwrap();
            later.go_to(start).unwrap();
            assert_eq!(lines(&drain_parts(later).unwrap().2), lines(&expected), "{text} in parts from {start:?}");
        }
    }
}

#[test]
fn lines_are_counted_that_were_passed_over() {
    let text = format!("{}x\n", "{\"a\":1}\n".repeat(200_000));
    let folder = Folder::new();
    let path = folder.file("a.ndjson", text);
    for drain in [|reader| drain(reader, 8192), drain_parts] {
        let mut reader = ndjson("a:int64").open(&path).unwrap();
        reader.go_to(ReaderPosition { position: 150_000, offset: 1_200_000 }).unwrap();
        let failed = drain(reader).unwrap().2;
        assert_eq!((failed[0].position, failed[0].line), (200_000, Some(200_001)));
    }
}

#[test]
fn rows_of_a_growing_source_count_when_they_are_whole() {
    let texts = [
        (csv("a:int64?; b:utf8?"), "a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n2\n\n3,c\nx,d\n4,\"e\"\n", "5,f"),
        (ndjson("a:int64; b:utf8?"), "{\"a\": 1}\n\n{\"a\"}\n{\"a\": 2, \"b\": \"é\"}\n \n", "{\"a\": 3}"),
        (fields::pairs("a:int64; b:utf8?"), "a=1\n\nno\r\na=2 b=é\n \n", "a=3"),
    ];
    for (decoder, lines, rest) in texts {
        let whole = read(format!("{lines}{rest}").as_bytes(), &decoder);
        for step in [1, 2, 5, 1000] {
            let source = Growing::default();
            let decoder = Decoder { read_mode: ReadMode::Tailing, ..decoder.clone() };
            let header = if decoder.format.kind().name == "csv" { lines.find('\n').unwrap() + 1 } else { 0 };
            source.append(&lines.as_bytes()[..header]);
            let mut reader = decoder.read(source.clone()).unwrap();
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
            let columns = inspect(&path).unwrap().columns;
            let decoder = Decoder { batch_rows, format: format_of(name), ..decoder_of("csv", columns) };
            let (_, rows, failed) = drain(decoder.open(&path).unwrap(), batch_rows).unwrap();
            assert_eq!((rows.num_rows(), failed), (4, vec![]), "{name}");
        }
    }
    let text = "{\"a\":1}\n".repeat(100_000);
    let decoder = Decoder { batch_rows: usize::MAX, ..ndjson("a:int64") };
    let (positions, _, _) = drain(decoder.read(Cursor::new(text)).unwrap(), 1 << 16).unwrap();
    assert_eq!(positions.len(), 100_000);
}

/// Reads on from every position that a reader gives, which must come to what it would have read itself.
#[test]
fn reading_goes_on_from_any_position() {
    let lines: String = (0..300).map(|n| format!("\n {n} x{} 0.5", n % 7)).collect();
    let rows = table(&format!("a:int64? b:utf8? c:float64?{lines}"));
    let columns = columns("a:int64?; b:utf8?; c:float64?");
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.csv", "a.csv.gz", "a.ndjson", "a.json", "a.ndjson.zst", "a.parquet", "a.arrow"] {
        let path = folder.path().join(name);
        let mut writer = write_options(name).open(fs::File::create(&path).unwrap(), &rows.schema()).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        let (format, compression) = (format_of(name), FileKind::of(name).compression);
        let decoder = Decoder { format, compression, batch_rows: 13, ..decoder_of("csv", columns.clone()) };
        let all = rows_as_text([&rows]);
        let mut reader = decoder.open(&path).unwrap();
        let mut read = Rows::default();
        loop {
            let start = reader.position();
            for position in start.position..(start.position + 3).min(300) {
                let mut later = Decoder { batch_rows: 50, ..decoder.clone() }.open(&path).unwrap();
                later.go_to(start).unwrap();
                let mut rest = Rows::default();
                while later.next(&mut rest).unwrap() {}
                let mut later = Decoder { batch_rows: 50, ..decoder.clone() }.open(&path).unwrap();
                later.go_to(start).unwrap();
                let positions = drain_parts(later).unwrap().0;
                assert!(positions.into_iter().eq(start.position..300), "{name} in parts from {start:?}");
                rest.drop_before(position);
                let text = rows_as_text(rest.batches.iter().map(|(_, rows)| rows));
                let expected = all.lines().skip(1 + position as usize);
                assert!(text.lines().skip(1).eq(expected), "{name} from {position}, by {start:?}");
                assert_eq!(rest.batches[0].0, position);
            }
            if !reader.next(&mut read).unwrap() {
                break;
            }
        }
        assert_eq!(reader.position().position, 300);
        let mut short = decoder.open(&path).unwrap();
        let error = short.go_to(ReaderPosition { position: 1000, offset: 1 << 30 }).unwrap_err().to_string();
        assert!(error.contains("it has become shorter"), "{error}");
    }
}

#[test]
fn parts_are_left_to_be_decoded() {
    let rows = table(&format!("a:int64 b:utf8{}", "\n 1 x\"y".repeat(1000)));
    let folder = Folder::new();
    for (name, is_left) in
        [("a.csv", true), ("a.ndjson", true), ("a.ndjson.gz", true), ("a.parquet", true), ("a.json", false)]
    {
        let path = folder.file(name, write(name, &rows, 1000));
        let (format, compression) = (format_of(name), FileKind::of(name).compression);
        let columns = columns("a:int64?; b:utf8?");
        let mut reader = Decoder { format, compression, ..decoder_of("csv", columns) }.open(&path).unwrap();
        let part = reader.split_off().unwrap().unwrap();
        assert_eq!((!part.is_decoded(), part.after.position), (is_left, 1000), "{name}");
        assert!(reader.split_off().unwrap().is_none());
    }
}
