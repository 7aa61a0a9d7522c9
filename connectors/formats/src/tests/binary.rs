//! Parquet and Arrow files of others, and damaged ones.

use super::*;

/// Of a number of rows, what is in few rows only has no dictionary, which would be larger than the values.
#[test]
fn numbers_that_hardly_repeat_are_written_as_they_are() {
    const ROWS: i64 = 100_000;
    let mixed = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
    let numbers = |of: &dyn Fn(i64) -> i64| arrow::array::Int64Array::from_iter_values((0..ROWS).map(of));
    let texts = arrow::array::StringArray::from_iter_values((0..ROWS).map(|n| format!("text {}", n % 5000)));
    let columns: [(&str, arrow::array::ArrayRef); 3] = [
        ("many", Arc::new(numbers(&mixed))),
        ("few", Arc::new(numbers(&|n| mixed(n % 100)))),
        ("texts", Arc::new(texts)),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let bytes = write("a.parquet", &rows, 8192);
    let options = ::parquet::arrow::arrow_reader::ArrowReaderOptions::new();
    let metadata =
        ::parquet::arrow::arrow_reader::ArrowReaderMetadata::load(&::bytes::Bytes::from(bytes), options).unwrap();
    let group = metadata.metadata().row_group(0);
    let sizes: Vec<i64> = group.columns().iter().map(|column| column.uncompressed_size()).collect();
    assert!(sizes[0] < ROWS * 9, "8 bytes a value, and a dictionary that was given up early: {sizes:?}");
    assert!(sizes[1] < ROWS && sizes[2] < ROWS * 3, "they have dictionaries: {sizes:?}");
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
    let encoded = arrow::compute::cast(&texts, &keys).unwrap();
    let folder = Folder::new();
    for (name, column) in [("a.parquet", &texts), ("b.parquet", &encoded), ("a.arrow", &encoded)] {
        let rows = RecordBatch::try_from_iter_with_nullable([("text", column.clone(), true)]).unwrap();
        let path = foreign(&folder, name, &rows);
        let decoder = Decoder { format: format_of(name), ..decoder_of("csv", columns("text:utf8?")) };
        let mut reader = decoder.open(&path).unwrap();
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
        let why = "column `span` has the type Duration(s), which flows can't carry: it is left out";
        let left_out = inspect(&folder.0.path().join(name)).unwrap().left_out;
        assert_eq!(left_out.iter().map(ToString::to_string).collect::<Vec<_>>(), [why]);
        let path = foreign(&folder, name, &rows.project(&[0]).unwrap());
        let error = read_file(&path, None).unwrap_err();
        assert!(error.contains("column `span` has the type Duration(s), which flows can't carry"), "{error}");
        let path = foreign(&folder, name, &rows.project(&[1, 1]).unwrap());
        assert!(read_file(&path, None).unwrap_err().contains("two columns with the name `id`"));
    }
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
            let _ = inspect(&path).map(|_| read_file(&path, None));
        }
    }
}
