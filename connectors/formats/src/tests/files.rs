//! Files that are written and read again.

use super::*;

#[test]
fn every_format_reads_what_it_writes() {
    let folder = Folder::new();
    let rows = sample();
    for format in ["csv", "ndjson", "json", "parquet", "arrow"] {
        for compressed in ["", ".gz", ".zst", ".bz2"] {
            let name = format!("a.{format}{compressed}");
            let path = folder.file(&name, write(&name, &rows, 3));
            let (_, read, failed) = read_file(&path, None).unwrap();
            assert_eq!((text_of(&read), failed), (text_of(&rows), vec![]), "{name}");
            if !FileKind::of(&name).format.unwrap().is_text {
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
    let check = |rows: &RecordBatch| write_options("a.csv").format.check_columns(&rows.schema());
    assert!(check(&nested).unwrap_err().message.starts_with("column `l` has the type list<"));
    assert_eq!(check(&flat), Ok(()));
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
fn parts_that_were_packed_one_by_one_are_all_read() {
    let folder = Folder::new();
    for compressed in ["gz", "zst", "bz2"] {
        let name = format!("a.ndjson.{compressed}");
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
    for (name, decoder) in [("a.csv", csv("at:timestamp?;day:date?")), ("a.ndjson", ndjson("at:timestamp?;day:date?"))]
    {
        let bytes = write(name, &rows, 2);
        assert!(String::from_utf8_lossy(&bytes).contains("+10000-01-01T00:00:00Z"), "{name}");
        let (_, read, failed) = read(&bytes, &decoder);
        assert_eq!((read, failed), (rows.clone(), vec![]), "{name}");
    }
}

#[test]
fn of_parquet_only_the_columns_that_are_wanted_have_to_be_there() {
    let text: String = (0..500).map(|row| format!("{row} {} name_{row}\n", row * 7919 % 1000)).collect();
    let rows = table(&format!("id:int64 n:int64 name:utf8\n{text}"));
    let bytes = write("a.parquet", &rows, 500);
    let decoder = wanting(decoder_of("parquet", columns("id:int64; n:int64; name:utf8")), &["n"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.parquet");
    let sparse = |stretches: &[std::ops::Range<u64>]| {
        let mut there = vec![0; bytes.len()];
        for stretch in stretches {
            let stretch = stretch.start as usize..stretch.end as usize;
            there[stretch.clone()].copy_from_slice(&bytes[stretch]);
        }
        fs::write(&path, there).unwrap();
        fs::File::open(&path).unwrap()
    };
    let length = bytes.len() as u64;
    let tail = |tail: u64| length - tail..length;
    let Needed::Tail(metadata) = decoder.needed(sparse(&[tail(8)]), 8).unwrap() else { panic!("it knows too much") };
    let Needed::Stretches(mut stretches) = decoder.needed(sparse(&[tail(metadata)]), metadata).unwrap() else {
        panic!("it knows too little")
    };
    let needed: u64 = stretches.iter().map(|stretch| stretch.end - stretch.start).sum();
    assert!(needed < length / 2, "{needed} of {length} bytes");
    stretches.push(tail(metadata));
    let reader = decoder.open_file(sparse(&stretches), &path).unwrap();
    assert_eq!(drain(reader, 8192).unwrap().1, rows.project(&[1]).unwrap());
    let csv = decoder_of("csv", columns("id:int64"));
    assert_eq!(csv.needed(sparse(&[]), 8).unwrap(), Needed::All);
    assert!(decoder.needed(sparse(&[]), 8).is_err(), "zeros are no Parquet");
}
