use std::fmt::Write as _;

use millstream_core::ProcessorSettings as _;
use millstream_testkit::{context, drive, parse, stream, table};

use super::*;

/// A rate of errors that goes from a tenth to a half, and numbers that go from 5 to 9, at row 1000 of 2000.
fn rows() -> arrow::array::RecordBatch {
    let mut text = "yes:boolean? guess:boolean? x:float64? n:float64? word:utf8".to_owned();
    for row in 0..2000_usize {
        let is_wrong = if row < 1000 { row % 10 == 3 } else { row % 2 == 0 };
        let x = if row % 100 == 7 {
            "null".to_owned()
        } else {
            format!("{}", row * 7 % 5 + if row < 1000 { 3 } else { 7 })
        };
        let guess = row % 3 == 0;
        write!(text, "\n {} {guess} {x} {}.5 a", guess != is_wrong, row % 4).unwrap();
    }
    table(&text)
}

fn alarms(settings: &str, batch_rows: usize) -> Vec<String> {
    let driven = drive(&parse::<DriftSettings>(settings), &[("from", rows())], batch_rows);
    assert_eq!(driven.ports["main"].iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 2000);
    driven.text("alarm").lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn errors_and_columns_are_watched_each_on_its_own() {
    let settings =
        "columns = ['x', 'n']\nerror = { label = 'yes', prediction = 'guess' }\ndetector = { type = 'adwin' }";
    let told = alarms(settings, 8192);
    let watched: Vec<_> = told.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(watched, ["x", "error"], "{told:?}");
    for (line, before) in told.iter().zip([5.0, 0.1]) {
        let cells: Vec<_> = line.split(' ').collect();
        let row: u64 = cells[0].parse().unwrap();
        assert!((1001..1120).contains(&row) && cells[2] == "drift", "{line}");
        let mean = |cell: usize| cells[cell].parse::<f64>().unwrap();
        // It is told so soon that some of the rows from before count as those behind it.
        assert!((mean(3) - before).abs() < 0.1 * before && mean(4) > 1.05 * before, "{line}");
    }
    for batch_rows in [1, 7, 999] {
        assert_eq!(alarms(settings, batch_rows), told);
    }
}

#[test]
fn a_warning_is_told_once() {
    let told = alarms("error = { label = 'yes', prediction = 'guess' }\ndetector = { type = 'ddm' }", 500);
    let levels: Vec<_> = told.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(levels.iter().position(|level| *level == "warning"), Some(0), "{told:?}");
    assert_eq!(levels.iter().position(|level| *level == "drift"), Some(1), "{told:?}");
}

#[test]
fn errors_of_numbers_are_distances() {
    let told = alarms("error = { label = 'x', prediction = 'n' }\ndetector = { type = 'page_hinkley' }", 500);
    assert!(told.iter().any(|line| line.contains("error drift")), "{told:?}");
}

#[test]
fn alarms_have_the_event_time() {
    let mut text = "at:timestamp x:float64".to_owned();
    for row in 0..600 {
        let (minute, second) = (row / 60, row % 60);
        write!(text, "\n 1970-01-01T00:{minute:02}:{second:02}Z {}.0", if row < 300 { row % 2 } else { 8 }).unwrap();
    }
    let rows = table(&text);
    let settings: DriftSettings = parse("columns = ['x']\ndetector = { type = 'adwin' }");
    let timed = Stream { event_time: Some("at".into()), ..stream("from", rows.schema()) };
    let plan = settings.plan(&context(), &[timed]).unwrap();
    let names: Vec<_> = plan.ports[1].schema.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["at", "row", "watched", "level", "before", "after"]);
}

#[test]
fn what_can_t_be_watched_is_refused_with_the_way_out() {
    let problem = |settings: &str| {
        let problems = parse::<DriftSettings>(settings).plan(&context(), &[stream("from", rows().schema())]);
        problems.err().map(|problems| problems[0].to_string()).unwrap_or_default()
    };
    for (settings, says) in [
        ("detector = { type = 'adwin' }", "nothing is watched"),
        (
            "columns = ['word']\ndetector = { type = 'adwin' }",
            "column `word` is utf8, and should be a number or boolean",
        ),
        ("columns = ['x']\ndetector = { type = 'ddm' }", "column `x` is float64, and this detector watches rates"),
        ("columns = ['y']\ndetector = { type = 'adwin' }", "there is no column `y`"),
        ("error = { label = 'word', prediction = 'x' }\ndetector = { type = 'adwin' }", "label `word` is utf8"),
        ("columns = ['x']\ndetector = { type = 'adwin', delta = 2 }", "`delta` is 2"),
    ] {
        assert!(problem(settings).contains(says), "{settings}: {}", problem(settings));
    }
}
