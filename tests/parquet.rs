//! Files of Parquet of which a flow reads the rows that meet a condition, with the real binary.

use serde_json::json;

use crate::millstream::Workshop;

/// A file of four row groups, of 131,072 rows each but for the last.
const WRITING: &str = r#"
    [input.rows]
    type = "generate"
    rows = 400_000
    columns = { id = "row", word = "concat('w', cast(row % 7 as varchar))" }
    [output.out]
    type = "file"
    from = "rows"
    path = "rows.parquet"
"#;

/// Its rows at both ends, so that the second row group has none.
const READING: &str = r#"
    [flow]
    epoch.rows = 1000
    [checkpoint]
    epochs = 1
    [input.rows]
    type = "file"
    path = "rows.parquet"
    format = { type = "parquet", where = "(id < 3000 OR id >= 392000) AND word <> 'w3'" }
    [processor.numbers]
    type = "sql"
    from = "rows"
    query = "SELECT id FROM input"
    [output.read]
    type = "file"
    from = "numbers"
    path = "read"
    format = "csv"
    every = "1h"
"#;

/// The numbers in a folder of CSV files.
fn numbers(workshop: &Workshop, folder: &str) -> Vec<u64> {
    let names = workshop.list(folder).into_iter().filter(|name| name.ends_with(".csv") && !name.starts_with('.'));
    let texts: Vec<_> = names.map(|name| workshop.read(&format!("{folder}/{name}"))).collect();
    let mut numbers: Vec<u64> =
        texts.iter().flat_map(|text| text.lines().skip(1)).map(|row| row.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn rows_that_meet_a_condition_are_read_once_through_kills() {
    let workshop = Workshop::new();
    workshop.write("write.toml", WRITING);
    workshop.write("read.toml", READING);
    workshop.run_json(&["write.toml"]);
    let expected: Vec<u64> = (0..3000).chain(392_000..400_000).filter(|id| id % 7 != 3).collect();

    let ran = workshop.run_json(&["read.toml", "--set", "output.read.path=undisturbed"]);
    assert_eq!(ran["reports"]["rows"], json!({ "row_groups_read": 3, "row_groups_skipped": 1 }), "{ran}");
    assert_eq!(numbers(&workshop, "undisturbed"), expected);

    let mut kills = 0;
    for number in [2, 3, 2] {
        let mut command = workshop.command(&["run", "read.toml", "--state", "state"]);
        let ran = command.env("MILLSTREAM_CRASH", format!("after-manifest:{number}")).output().unwrap();
        kills += usize::from(ran.status.code().is_none());
    }
    assert_eq!(kills, 3);
    workshop.run_json(&["read.toml", "--state", "state"]);
    assert_eq!(numbers(&workshop, "read"), expected);
}

#[test]
fn a_file_of_which_nothing_is_wanted_has_no_rows() {
    let workshop = Workshop::new();
    workshop.write("write.toml", &WRITING.replace("400_000", "1000"));
    workshop.write("read.toml", &READING.replace("(id < 3000 OR id >= 392000) AND word <> 'w3'", "id < 0"));
    workshop.run_json(&["write.toml"]);
    for _ in 0..2 {
        let ran = workshop.run_json(&["read.toml", "--state", "state", "--set", "input.rows.once=new_files"]);
        assert_eq!(ran["reports"]["rows"]["row_groups_read"].as_u64().unwrap_or(0), 0, "{ran}");
    }
    assert_eq!(numbers(&workshop, "read"), [0; 0]);
}
