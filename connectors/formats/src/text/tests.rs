//! Cells of every type, and odd ones.
#![allow(clippy::unwrap_used)]

use millstream_core::ColumnType;
use millstream_testkit::rows_as_text;

use super::moments::*;
use super::*;

/// The values of one-column rows as text, and the cells that were refused.
fn decode(kind: &str, timezone: Option<&str>, cells: &[&str]) -> (String, Vec<String>) {
    let moments = Moments { timezone: timezone.map(|name| name.parse().unwrap()), ..Moments::default() };
    decode_with(TextColumn::new(&ColumnType::parse(kind).unwrap(), &moments), cells)
}

fn decode_with(column: TextColumn, cells: &[&str]) -> (String, Vec<String>) {
    let mut refused = Vec::new();
    let array = column.decode(cells.iter().map(|cell| Some(*cell)), cells.len(), &mut |_, text| {
        refused.push(column.complaint(text));
    });
    let rows = arrow::array::RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
    let text = rows_as_text([&rows]);
    (text.lines().skip(1).collect::<Vec<_>>().join(" "), refused)
}

fn values_of(kind: &str, cells: &[&str]) -> String {
    decode(kind, None, cells).0
}

#[test]
fn numbers() {
    assert_eq!(
        values_of("int8", &["127", "128", "-128", "2.0", "1e1", "1.5", "x", ""]),
        "127 null -128 2 10 null null null"
    );
    assert_eq!(values_of("int64", &["9223372036854775807", "9223372036854775808"]), "9223372036854775807 null");
    assert_eq!(values_of("uint64", &["18446744073709551615", "-1"]), "18446744073709551615 null");
    assert_eq!(values_of("float64", &["1", "-2.5e3", "NaN", "inf", "1,5"]), "1.0 -2500.0 NaN inf null");
    assert_eq!(values_of("boolean", &["true", "FALSE", "1"]), "true false null");
}

#[test]
fn plain_floats_are_read_as_any_others() {
    let read = |text: &str| {
        let parsed: Option<f64> = text.parse().ok();
        let found = float::<arrow::datatypes::Float64Type>(text);
        assert_eq!(found.map(f64::to_bits), parsed.map(f64::to_bits), "{text}");
    };
    let digits =
        ["0", "7", "00", "12", "9007199254740992", "9007199254740993", "999999999999999999", "12345678901234567890"];
    for text in digits {
        for point in 1..text.len() {
            read(&format!("{}.{}", &text[..point], &text[point..]));
            read(&format!("-{}.{}", &text[..point], &text[point..]));
        }
        read(text);
        read(&format!("-{text}"));
    }
    for text in ["", "-", ".", "-.", "1.2.3", "--1", "1-"] {
        assert_eq!(float::<arrow::datatypes::Float64Type>(text), None, "{text}");
    }
}

#[test]
fn integers_keep_every_digit_also_with_a_point_or_an_exponent() {
    let cells =
        ["9007199254740993.0", "-9007199254740993.000", "92233720368547758.07e2", "10e-1", "1e-1", "0e999", "1e999"];
    let expected = "9007199254740993 -9007199254740993 9223372036854775807 1 null 0 null";
    assert_eq!(values_of("int64", &cells), expected);
    assert_eq!(
        values_of("int64", &["9007199254740993.5", "9223372036854775808.0", ".", "e", "1.e0"]),
        "null null null null 1"
    );
    assert_eq!(values_of("uint64", &["18446744073709551615.0", "-0.0", "-1.0"]), "18446744073709551615 0 null");
}

#[test]
fn fractions_of_integers_are_refused_however_small() {
    let cells =
        ["1.9999999999999999999", "2.0000000000000000000000000000000000000000001", "1e-400", "9007199254740992.5"];
    assert_eq!(values_of("int64", &cells), "null null null null");
    let cells = [
        "2.0000000000000000000000000000000000000000000",
        "1000000000000000000000000000000000000000000e-40",
        "0.000000000000000000000000000000000000000012e42",
        "0e99999999999999999999",
        "1e99999999999999999999",
        "0e",
        "1e+",
        "-0.0",
    ];
    assert_eq!(values_of("int64", &cells), "2 100 12 0 null null null 0");
    assert_eq!(values_of("int8", &["127.0", "128.0", "-128.0", "12e1", "13e1"]), "127 null -128 120 null");
}

#[test]
fn floats_are_never_infinite_by_their_size() {
    let cells = ["1e999", "-1e999", "1.7976931348623157e308", "1.8e308", "1e-999", "-0.0"];
    assert_eq!(values_of("float64", &cells), "null null 1.7976931348623157e308 null 0.0 -0.0");
    let cells = ["3.4028235e38", "3.5e38", "1e39", "-1e39", "1e-60"];
    assert_eq!(values_of("float32", &cells), "3.4028235e38 null null null 0.0");
    let words = ["inf", "-inf", "Infinity", "+INF", "nan", "NaN"];
    for kind in ["float32", "float64"] {
        assert_eq!(values_of(kind, &words), "inf -inf inf inf NaN NaN");
    }
}

#[test]
fn there_is_no_leap_second() {
    let cells =
        ["2016-12-31T23:59:60Z", "2026-01-01T12:30:60Z", "2026-01-01T12:30:60.5+01:00", "2026-01-01T12:30:59.9Z"];
    assert_eq!(values_of("timestamp", &cells), "null null null 2026-01-01T12:30:59.900Z");
    let format = MomentFormat::of_timestamps("%Y-%m-%d %H:%M:%S %z").unwrap();
    let format = Moments { timestamp: Some(format), ..Moments::default() };
    let column = TextColumn::new(&ColumnType::parse("timestamp").unwrap(), &format);
    assert_eq!(decode_with(column, &["2016-12-31 23:59:60 +0000"]).0, "null");
}

#[test]
fn decimals_keep_every_digit_or_are_refused() {
    let cells = ["1.2", "-0.05", "+7", "1.230", "1.239", ".5", "5.", ".", "1e3", "123.45", "12é"];
    let expected = "1.20 -0.05 7.00 1.23 null 0.50 5.00 null null null null";
    assert_eq!(values_of("decimal(4,2)", &cells), expected);
    let cells = ["1e3", "2E-2", "2E-3", "-1.5e+1", "20e-3", "0e-999", "1e9", "1e", "e1", "99999999"];
    let expected = "1000.00 0.02 null -15.00 0.02 0.00 null null null 99999999.00";
    assert_eq!(values_of("decimal(10,2)", &cells), expected);
    let long = "9".repeat(400);
    assert_eq!(values_of("decimal(38,0)", &[&long, &"9".repeat(38)]), format!("null {}", "9".repeat(38)));
}

#[test]
fn dates_times_and_bytes() {
    assert_eq!(values_of("date", &["2026-01-31", "2026-02-31"]), "2026-01-31 null");
    assert_eq!(values_of("time", &["12:30:00.5", "25:00", "9:05 pm"]), "12:30:00.500 null 21:05:00");
    assert_eq!(values_of("time", &["23:59:60", "86400000000", "5", "-1", "12"]), "null null null null null");
    let midnights = ["2026-01-31T00:00:00", "2026-01-31 00:00:00.000"];
    assert_eq!(values_of("date", &midnights), "2026-01-31 2026-01-31");
    let others = ["2026-01-31T00:00:00Z", "2026-01-31T23:30:00-05:00", "2026-01-31 12:00:00", "2026-01-31T"];
    assert_eq!(values_of("date", &others), "null null null null");
    assert_eq!(values_of("binary", &["00fF", "0", "zz", "é"]), "00ff null null null");
}

#[test]
fn timestamps_need_an_offset_or_a_time_zone() {
    let cells = ["2026-07-01T12:00:00Z", "2026-07-01 12:00:00+02:00", "2026-07-01T12:00:00", "2026-07-01"];
    let (values, refused) = decode("timestamp", None, &cells);
    assert_eq!(values, "2026-07-01T12:00:00Z 2026-07-01T10:00:00Z null null");
    assert!(refused[0].contains("not a timestamp with an offset"), "{refused:?}");
    let (values, _) = decode("timestamp", Some("Europe/Berlin"), &cells);
    assert_eq!(values, "2026-07-01T12:00:00Z 2026-07-01T10:00:00Z 2026-07-01T10:00:00Z 2026-06-30T22:00:00Z");
}

#[test]
fn the_usual_timestamps_are_read_as_arrow_reads_all() {
    let utc: Timezone = "+00:00".parse().unwrap();
    let years = [0, 1, 1582, 1600, 1900, 1969, 1970, 2000, 2024, 2026, 2100, 9999];
    let days = (1..=12).flat_map(|month| [0, 1, 2, 15, 28, 29, 30, 31, 32].map(|day| (month, day)));
    for ((month, day), year) in days.flat_map(|day| years.map(|year| (day, year))) {
        for time in ["T00:00:00Z", " 23:59:59Z", "T12:30:01.5Z", "T01:02:03.000450Z"] {
            let text = format!("{year:04}-{month:02}-{day:02}{time}");
            let read = utc_timestamp(&text);
            assert_eq!(read, timestamp(&text, &utc), "{text}");
        }
    }
    for other in ["2026-01-01T24:00:00Z", "2026-1-01T00:00:00Z", "2026-01-01T00:00:00", "é"] {
        assert_eq!(utc_timestamp(other), None, "{other}");
    }
}

#[test]
fn years_with_a_sign_are_read_as_they_are_written() {
    let utc: Timezone = "+00:00".parse().unwrap();
    for seconds in [253_402_300_800, -62_167_219_201, -62_198_755_200, i64::MAX / 1_000_000, i64::MIN / 1_000_000 + 1] {
        let mut text = Vec::new();
        millstream_core::write_timestamp(seconds, 123_000, &mut text);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(any_timestamp(&text, &utc), Some(seconds * 1_000_000 + 123), "{text}");
        assert!(has_offset(&text) && !has_offset(text.trim_end_matches('Z')), "{text}");
    }
    let (values, _) =
        decode("timestamp", None, &["+10000-01-01T01:00:00+01:00", "+10000-01-01T00:00:00", "+1-01-01T00:00:00Z"]);
    assert_eq!(values, "+10000-01-01T00:00:00Z null null");
    assert_eq!(any_timestamp("+9223372036854775807-01-01T00:00:00Z", &utc), None);
    assert_eq!(values_of("date", &["+10000-01-01", "-0001-12-31", "10000-01-01"]), "+10000-01-01 -0001-12-31 null");
}

#[test]
fn dates_and_timestamps_may_have_a_format() {
    let column = |kind: &str, format: &str, zone: Option<&str>| {
        let timezone = zone.map(|name| name.parse().unwrap());
        let (date, timestamp) = (MomentFormat::of_dates(format).ok(), MomentFormat::of_timestamps(format).ok());
        TextColumn::new(&ColumnType::parse(kind).unwrap(), &Moments { timezone, date, timestamp })
    };
    let (values, refused) = decode_with(column("date", "%d.%m.%Y", None), &["31.01.2026", "2026-01-31", "31.02.2026"]);
    assert_eq!(
        (values.as_str(), refused[0].as_str()),
        ("2026-01-31 null null", "`2026-01-31` is not a date in the format `%d.%m.%Y`")
    );
    let berlin = column("timestamp", "%d/%b/%Y %H:%M", Some("Europe/Berlin"));
    assert_eq!(decode_with(berlin, &["01/Jul/2026 12:00"]).0, "2026-07-01T10:00:00Z");
    let offset = || column("timestamp", "%d/%b/%Y:%H:%M:%S %z", None);
    assert_eq!(decode_with(offset(), &["01/Jul/2026:12:00:00 +0200", "01/Jul/2026"]).0, "2026-07-01T10:00:00Z null");
}

#[test]
fn a_year_has_four_digits() {
    let read = |format: &str, cells: &[&str]| {
        let moments = Moments { date: Some(MomentFormat::of_dates(format).unwrap()), ..Moments::default() };
        decode_with(TextColumn::new(&ColumnType::parse("date").unwrap(), &moments), cells).0
    };
    let cells = ["31.12.2025", "31.12.25", "31.12.0025", "31.12.+2025", "31.12.20255", "31.12.202"];
    assert_eq!(read("%d.%m.%Y", &cells), "2025-12-31 null 0025-12-31 null null null");
    assert_eq!(read("%d%m%Y", &["31122025", "311225"]), "2025-12-31 null");
    assert_eq!(read("%F", &["2025-12-31", "25-12-31"]), "2025-12-31 null");
    assert_eq!(read("%d.%m.%y", &["31.12.25", "31.12.2025"]), "2025-12-31 null");
}

#[test]
fn a_format_says_enough() {
    let error = |format: &str| MomentFormat::of_dates(format).unwrap_err();
    assert_eq!(error("DD.MM.YYYY"), "`DD.MM.YYYY` does not say a date; formats are such as `%d.%m.%Y`");
    assert_eq!(error("%!"), "`%!` is no format of dates and times; formats are such as `%d.%m.%Y`");
    assert!(error("%m.%Y").contains("does not say a date"));
    for format in ["%d.%m.%Y", "%j %Y", "%x", "%G-W%V-%u", "%Y-%m-%d %H:%M"] {
        assert!(MomentFormat::of_dates(format).is_ok(), "{format}");
    }
    let error = |format: &str| MomentFormat::of_timestamps(format).unwrap_err();
    assert!(error("%d.%m.%Y").contains("does not say a day and a time of day"));
    assert!(error("%Y %H:%M").contains("does not say a day and a time of day"));
    for format in ["%s", "%d/%b/%Y:%H:%M:%S %z", "%d.%m.%y %I:%M %p", "%Y-%m-%dT%H:%M:%S%.f", "%+", "%a %b %e %T %Y"] {
        assert!(MomentFormat::of_timestamps(format).is_ok(), "{format}");
    }
}

#[test]
fn complaints_name_the_setting_that_helps() {
    let complaint = |kind: &str, cell: &str| decode(kind, None, &[cell]).1.remove(0);
    let expected =
        "`28.12.2025` is not a date such as `2026-01-31`; `date_format` in `format` says how others are written";
    assert_eq!(complaint("date", "28.12.2025"), expected);
    assert!(
        complaint("timestamp", "28.12.2025 10:00")
            .ends_with("`timestamp_format` in `format` says how others are written")
    );
    assert!(complaint("timestamp", "2025-12-28 10:00").ends_with("and `format` has no `timezone`"));
}

#[test]
fn a_local_time_that_is_none_or_two_is_said_to_be_that() {
    let berlin = "Europe/Berlin".parse().ok();
    let of_format = |format: Option<&str>| Moments {
        timezone: berlin,
        timestamp: format.map(|format| MomentFormat::of_timestamps(format).unwrap()),
        ..Moments::default()
    };
    for (format, none, twice) in [
        (None, "2026-03-29T02:30:00", "2026-10-25T02:30:00"),
        (Some("%d.%m.%Y %H:%M"), "29.03.2026 02:30", "25.10.2026 02:30"),
    ] {
        let column = || TextColumn::new(&ColumnType::parse("timestamp").unwrap(), &of_format(format));
        let (values, refused) = decode_with(column(), &[none, twice]);
        assert_eq!(values, "null null");
        let zone = "in the `timezone` of `format`, whose clocks were put";
        assert_eq!(refused[0], format!("`{none}` does not exist {zone} forward over it"));
        assert_eq!(refused[1], format!("`{twice}` exists twice {zone} back; only an offset tells which it is"));
    }
}

#[test]
fn json_in_a_cell_has_to_be_valid() {
    let (values, refused) = decode("json", None, &["{\"a\":[1.50,null]}", " 7", "\"x\"", "x", "{\"a\":1} 2", ""]);
    assert_eq!(values, "{\"a\":[1.50,null]} \" 7\" \"x\" null null null");
    assert_eq!(refused, ["`x` is not valid JSON", "`{\"a\":1} 2` is not valid JSON", "`` is not valid JSON"]);
}

#[test]
fn integer_timestamps_say_their_unit() {
    assert_eq!(values_of("timestamp(ms)", &["1500", "-1"]), "1970-01-01T00:00:01.500Z 1969-12-31T23:59:59.999Z");
    assert_eq!(values_of("timestamp(ns)", &["-1"]), "1969-12-31T23:59:59.999999Z");
    assert_eq!(values_of("timestamp(s)", &["9223372036854775807", "x"]), "null null");
}

#[test]
fn odd_text_never_panics() {
    let alphabet: Vec<char> = "0123456789-+:.TZ eéM/\u{1F600}".chars().collect();
    let mut state = 1_u64;
    let kinds = ["timestamp", "time", "date", "decimal(10,2)", "int64", "float64", "binary", "timestamp(ms)", "json"];
    for _ in 0..20_000 {
        let mut text = String::from(["", "2026-01-31T12:00:00", "12:00:00", "1.5"][(state >> 40) as usize % 4]);
        for _ in 0..(state >> 20) % 12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for kind in kinds {
            TextColumn::new(&ColumnType::parse(kind).unwrap(), &Moments::default()).decode(
                [Some(text.as_str())].into_iter(),
                1,
                &mut |_, _| {},
            );
        }
    }
}
