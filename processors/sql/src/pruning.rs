//! Conditions by which rows of Parquet are read (`where`), beside the same conditions in an `sql` node that gets all rows.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, Int64Type};
use millstream_core::{Canonical, Language, PlanContext, Problems};
use millstream_formats::{Decoder, Format, ReadFiles, ReaderPosition, RowGroups, Rows};
use millstream_testkit::{context, drive, parse};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use proptest::prelude::*;
use serde_json::json;

use crate::sql::SqlSettings;

/// How a file is written.
#[derive(Clone, Debug)]
struct Written {
    group_rows: usize,
    statistics: EnabledStatistics,
    /// To how many bytes limits of texts are cut.
    truncated: Option<usize>,
    has_dictionaries: bool,
    is_new: bool,
}

impl Written {
    fn in_groups_of(group_rows: usize) -> Self {
        let (statistics, has_dictionaries) = (EnabledStatistics::Chunk, true);
        Self { group_rows, statistics, truncated: None, has_dictionaries, is_new: false }
    }

    fn write(&self, rows: &RecordBatch, path: &Path) {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(self.group_rows))
            .set_statistics_enabled(self.statistics)
            .set_statistics_truncate_length(self.truncated)
            .set_dictionary_enabled(self.has_dictionaries)
            .set_writer_version(if self.is_new { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 });
        let file = std::fs::File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties.build())).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
    }
}

/// A row: small numbers, of which its columns are made; negative ones are nulls.
type Row = [i8; 6];

/// Rows in types that flows bring into others, with a column `n` of their numbers.
fn rows(rows: &[Row]) -> RecordBatch {
    let of =
        |place: usize| rows.iter().map(move |row| i64::from(row[place])).map(|value| (value >= 0).then_some(value));
    let text = |value: i64| format!("{}{}", ["a", "ä", "ab", "B"][value as usize % 4], "x".repeat(value as usize / 4));
    let float = |value: i64| [-0.0, 0.0, f64::NAN, -f64::NAN, -1.5, 2.5, f64::INFINITY][value as usize % 7];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64))),
        ("i", Arc::new(of(0).map(|value| value.map(|value| value as i32 - 10)).collect::<Int32Array>())),
        ("u", Arc::new(of(0).map(|value| value.map(|value| u64::MAX / 20 * value as u64)).collect::<UInt64Array>())),
        ("x", Arc::new(of(1).map(|value| value.map(float)).collect::<Float64Array>())),
        ("y", Arc::new(of(1).map(|value| value.map(|value| value as f64 / 2.0)).collect::<Float64Array>())),
        ("t", Arc::new(of(2).map(|value| value.map(text)).collect::<StringArray>())),
        (
            "k",
            Arc::new(
                of(2)
                    .map(|value| value.map(text))
                    .collect::<StringArray>()
                    .iter()
                    .collect::<DictionaryArray<Int32Type>>(),
            ),
        ),
        ("day", Arc::new(of(3).map(|value| value.map(|value| value as i32 - 5)).collect::<Date32Array>())),
        (
            "at",
            Arc::new(
                of(3)
                    .map(|value| value.map(|value| (value - 5) * 43_200_000_000_000 - 1))
                    .collect::<TimestampNanosecondArray>()
                    .with_timezone("UTC"),
            ),
        ),
        ("b", Arc::new(of(4).map(|value| value.map(|value| value % 2 == 0)).collect::<BooleanArray>())),
        (
            "d",
            Arc::new(
                of(5)
                    .map(|value| value.map(|value| i128::from(value) * 25 - 100))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
        ),
        (
            "e",
            Arc::new(
                of(5)
                    .map(|value| value.map(|value| (i128::from(value) - 4) << 70))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(30, 3)
                    .unwrap(),
            ),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, name != "n")))
        .unwrap()
}

fn planned(condition: &str, path: &Path, wanted: Option<&[&str]>, batch_rows: usize) -> Result<Decoder, Problems> {
    let format: Format<ReadFiles> = serde_json::from_value(json!({ "type": "parquet", "where": condition })).unwrap();
    let format = format.read("parquet").unwrap();
    let columns = format.inspect(path, None, 0).unwrap().columns;
    let wanted = wanted.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
    let language = Language { expression: crate::expression::plan, condition: crate::condition::plan };
    let context = PlanContext { expressions: Some(language), columns: wanted, batch_rows, ..context() };
    format.decoder(columns, &context)
}

/// The numbers of the rows that were read, which are their positions, and of those that failed.
fn numbers(rows: &Rows) -> (Vec<i64>, Vec<i64>) {
    assert!(rows.batches.is_empty(), "positions would have no gaps");
    let mut read = Vec::new();
    for sifted in &rows.sifted {
        let numbers = sifted.rows.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(numbers, sifted.positions.iter().map(|position| *position as i64).collect::<Vec<_>>());
        assert!(sifted.positions.iter().all(|position| (sifted.start..sifted.end).contains(position)));
        read.extend(numbers);
    }
    let mut failed: Vec<_> = rows.failed.iter().map(|row| row.position as i64).collect();
    failed.sort_unstable();
    (read, failed)
}

/// All stretches of a file, one behind the other.
fn assert_whole(rows: &Rows, start: u64, end: u64) {
    let mut at = start;
    for sifted in &rows.sifted {
        assert_eq!(sifted.start, at);
        at = sifted.end;
    }
    assert_eq!(at, end);
}

/// What an `sql` node lets pass, and what fails there; none if the condition can't be planned.
fn in_a_node(condition: &str, all: &RecordBatch) -> (Vec<i64>, Vec<i64>) {
    let settings: SqlSettings = parse(&format!("query = '''SELECT n FROM input WHERE {condition}'''"));
    let driven = drive(&settings, &[("from", all.clone())], 8192);
    let batches = driven.ports.get("main").into_iter().flatten();
    let read = batches.flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    let number = |row: &str| serde_json::from_str::<serde_json::Value>(row).unwrap()["n"].as_i64().unwrap();
    (read, driven.failed.iter().map(|row| number(&row.row)).collect())
}

fn written() -> impl Strategy<Value = Written> {
    let statistics = prop_oneof![
        6 => Just(EnabledStatistics::Chunk), 1 => Just(EnabledStatistics::Page), 1 => Just(EnabledStatistics::None)
    ];
    let truncated = prop_oneof![Just(None), (1..4_usize).prop_map(Some)];
    (1..12_usize, statistics, truncated, any::<bool>(), any::<bool>()).prop_map(
        |(group_rows, statistics, truncated, has_dictionaries, is_new)| Written {
            group_rows,
            statistics,
            truncated,
            has_dictionaries,
            is_new,
        },
    )
}

/// Rows whose values are mostly near those of their neighbours, so that row groups have different ones.
fn some_rows() -> impl Strategy<Value = Vec<Row>> {
    let near =
        |row: usize, values: Row| values.map(|value| if value < 0 { value } else { (row / 4) as i8 + value % 3 });
    let row = [-1..12_i8, -1..12, -1..12, -1..12, -1..12, -1..12];
    (proptest::collection::vec(row, 1..60), any::<bool>()).prop_map(move |(rows, is_sorted)| {
        let rows = rows.into_iter().enumerate();
        rows.map(|(row, values)| if is_sorted { near(row, values) } else { values }).collect()
    })
}

fn comparison() -> impl Strategy<Value = String> {
    let op = prop_oneof![Just("="), Just("<>"), Just("<"), Just("<="), Just(">"), Just(">=")];
    let of_op = |column: &'static str, value: &'static [&'static str]| {
        (op.clone(), proptest::sample::select(value)).prop_map(move |(op, value)| format!("{column} {op} {value}"))
    };
    prop_oneof![
        of_op("i", &["-10", "-3", "0", "5", "2.5", "NULL", "9223372036854775807"]),
        of_op("CAST(i AS bigint)", &["-3", "4"]),
        of_op("3", &["i", "CAST(i AS double)"]),
        of_op("u", &["0", "3689348814741910320", "18446744073709551615"]),
        of_op("x", &["0", "-0.0", "1.5", "2.5", "-2", "CAST('nan' AS double)", "CAST('inf' AS double)"]),
        of_op("y", &["0", "1.5", "3", "100", "CAST('nan' AS double)"]),
        of_op("t", &["'a'", "'ä'", "'axx'", "'abxxx'", "''", "'z'", "NULL"]),
        of_op("k", &["'a'", "'ä'", "'axx'"]),
        of_op("day", &["'1970-01-01'", "date '1969-12-30'", "timestamp '1970-01-01T12:00:00Z'"]),
        of_op("at", &["'1969-12-31T23:59:59.999999Z'", "'1970-01-02T00:00:00Z'", "date '1970-01-01'"]),
        of_op("CAST(at AS date)", &["date '1969-12-31'", "date '1970-01-02'"]),
        of_op("b", &["true", "false", "NULL"]),
        of_op("d", &["0", "0.25", "-1", "3.755"]),
        of_op("e", &["0", "1180591620717411303.424", "1e300"]),
        proptest::sample::select(
            &[
                "b",
                "i IS NULL",
                "t IS NOT NULL",
                "x IS NULL",
                "i BETWEEN -4 AND 2",
                "i NOT BETWEEN -4 AND 2",
                "x BETWEEN 0 AND 2",
                "i IN (-9, 0, 3, 7, 8)",
                "i NOT IN (1, NULL)",
                "x IN (0, 1, 2, 3, 4)",
                "t IN ('a', 'b', 'c', 'ab', 'Bx')",
                "k NOT IN ('a', 'ä', 'ab', 'abx')",
                "t LIKE 'a%'",
                "lower(t) = 'b'",
                "i IS DISTINCT FROM NULL",
                "i IS NOT DISTINCT FROM 3",
                "(i > 3) IS NOT TRUE",
                "100 / i > 10",
                "i % 3 = 0",
                "CAST(t AS int) = 3",
                "CASE WHEN i > 0 THEN b ELSE y > 2 END",
            ][..]
        )
        .prop_map(str::to_owned),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    comparison().prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("{one} AND {two}")),
            2 => (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} OR {two})")),
            1 => inner.prop_map(|one| format!("NOT ({one})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_same_rows_are_read_as_pass_a_node(
        values in some_rows(),
        written in written(),
        conditions in proptest::collection::vec(condition(), 4),
        batch_rows in 1..20_usize,
        place in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let raw = rows(&values);
        written.write(&raw, &path);
        let all = Canonical::new(&raw.schema()).unwrap().apply(raw).unwrap();
        let end = all.num_rows() as u64;
        for condition in conditions {
            let wanted: Option<&[&str]> = if batch_rows % 2 == 0 { Some(&["n"]) } else { None };
            let Ok(decoder) = planned(&condition, &path, wanted, batch_rows) else { continue };
            let expected = in_a_node(&condition, &all);
            let mut reader = decoder.open(&path).unwrap();
            let mut read = Rows::default();
            while reader.next(&mut read).unwrap() {}
            prop_assert_eq!(&numbers(&read), &expected, "{}", condition);
            assert_whole(&read, 0, end);

            let mut reader = decoder.open(&path).unwrap();
            let mut read = Rows::default();
            while let Some(part) = reader.split_off().unwrap() {
                read.append(part.decode().unwrap(), 0);
            }
            prop_assert_eq!(&numbers(&read), &expected, "{}", condition);
            assert_whole(&read, 0, end);

            let position = place.index(all.num_rows()) as u64;
            let mut reader = decoder.open(&path).unwrap();
            reader.go_to(ReaderPosition { position, offset: 0 }).unwrap();
            let mut read = Rows::default();
            while reader.next(&mut read).unwrap() {}
            assert_whole(&read, position, end);
            let behind = |rows: &[i64]| rows.iter().copied().filter(|row| *row as u64 >= position).collect::<Vec<_>>();
            prop_assert_eq!(numbers(&read), (behind(&expected.0), behind(&expected.1)), "{}", condition);
            read.drop_before(position + 1);
            prop_assert!(numbers(&read).0.iter().all(|row| *row as u64 > position));
        }
    }
}

/// How many of the ten row groups of a file are skipped, whose rows are in the order of their values but for a null in the first group and in the last.
fn skipped(condition: &str) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let mut values: Vec<Row> = (0..100).map(|row| [row as i8 / 5; 6]).collect();
    (values[1], values[99]) = ([-1; 6], [-1; 6]);
    Written::in_groups_of(10).write(&rows(&values), &path);
    let reader = planned(condition, &path, None, 8192).unwrap().open(&path).unwrap();
    let RowGroups { read, skipped } = reader.row_groups().unwrap();
    assert_eq!(read + skipped, 10);
    skipped
}

#[test]
fn row_groups_that_can_have_no_such_row_are_skipped() {
    let expected = [
        ("i = 0", 9),
        ("i < -8", 9),
        ("5 <= i", 7),
        ("i <> 0", 0),
        ("i BETWEEN -2 AND 1", 8),
        ("i IN (-10, 9)", 8),
        ("i NOT IN (3, 7)", 0),
        ("i IS NULL", 8),
        ("i IS NOT NULL", 0),
        ("NOT (i > -9)", 9),
        ("NOT (i < 8 OR i IS NULL)", 9),
        ("i > 0 AND i < 0", 10),
        ("i < -8 OR i > 7", 8),
        ("CAST(i AS bigint) > 7", 9),
        ("i > 7.5", 9),
        ("i = NULL", 10),
        ("u = 0", 9),
        ("u > 17000000000000000000", 9),
        ("n >= 95", 9),
        // A float may be NaN, which is larger than all others.
        ("y > 9", 0),
        ("y < 1", 9),
        ("y = 2", 9),
        ("y = 100", 10),
        ("y BETWEEN 2 AND 3", 6),
        ("day < '1969-12-29'", 9),
        ("day = '1970-01-01'", 9),
        ("at >= '1970-01-07T00:00:00Z'", 9),
        ("CAST(at AS date) = date '1969-12-31'", 9),
        ("d <= -0.8", 9),
        ("e = 0", 9),
        ("t >= 'ä'", 5),
        ("k >= 'ä'", 5),
        ("t IN ('ö', 'öö')", 10),
        // What may fail has to be computed, unless a part before it is never true.
        ("i < -8 AND 100 / i > 10", 9),
        ("100 / i > 10 AND i < -8", 0),
        ("lower(t) = 'b' AND i < -8", 9),
        ("CAST(t AS int) = 3", 0),
    ];
    let found = expected.map(|(condition, _)| (condition, skipped(condition)));
    assert_eq!(found, expected);
}

#[test]
fn what_can_not_be_planned_has_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    Written::in_groups_of(10).write(&rows(&[[1; 6]]), &path);
    for (condition, message, column) in [
        ("i > 3 AND shop = 7", "there is no column `shop`", Some(11)),
        ("i + 1", "", None),
        ("random() > 0.5", "random is not replayable: it differs from run to run", Some(1)),
        ("1 = 1", "it is the same for every row: it looks at no column", None),
    ] {
        let problems = planned(condition, &path, None, 8192).unwrap_err();
        let at = format!("{:?}", problems[0].at);
        assert!(problems[0].message.contains(message), "{condition}: {}", problems[0].message);
        assert_eq!(at, r#"[Key("format"), Key("where")]"#, "{condition}");
        assert_eq!(problems[0].within.map(|place| place.column), column, "{condition}");
    }
}
