//! Rows that are refused count once, wherever a flow is killed.

use serde_json::Value;

use crate::millstream::{Ran, Workshop};

const FLOW: &str = r#"
    [flow]
    epoch.rows = 4
    [checkpoint]
    epochs = 1
    [input.numbers]
    type = "file"
    path = "numbers.csv"
    schema = { n = "int64" }
    [output.good]
    type = "file"
    from = "numbers"
    path = "out/good.ndjson"
    [output.bad]
    type = "file"
    from = "numbers.failed"
    path = "out/bad.ndjson"
"#;

/// Runs of refused rows, longer than an epoch, before, between and behind others.
const ROWS: &str = "bbbbbbggbbbbbbbbbbgbbbbggggbbbggbbbbbbbbb";

fn numbers(workshop: &Workshop, file: &str, key: &str) -> Vec<u64> {
    let rows = workshop.read(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    rows.iter().map(|row| row[key].as_u64().unwrap()).collect()
}

fn places(of: char) -> Vec<u64> {
    ROWS.chars().enumerate().filter(|(_, kind)| *kind == of).map(|(place, _)| place as u64).collect()
}

#[test]
fn refused_rows_around_barriers_count_once_through_crashes() {
    let workshop = Workshop::new();
    let flow = workshop.write("f.toml", FLOW);
    let line = |(place, kind): (usize, char)| if kind == 'b' { format!("bad{place}\n") } else { format!("{place}\n") };
    let lines: String = ROWS.chars().enumerate().map(line).collect();
    workshop.write("numbers.csv", &format!("n\n{lines}"));
    for batch_rows in ["2", "7", "1000"] {
        for crash in 1.. {
            for folder in ["state", "out"] {
                let _ = std::fs::remove_dir_all(workshop.path(folder));
            }
            let set = format!("input.numbers.batch_rows={batch_rows}");
            let arguments = ["run", "--json", flow.to_str().unwrap(), "--state", "state", "--set", &set];
            let point = format!("after-manifest:{crash}");
            let killed: Ran = workshop.command(&arguments).env("MILLSTREAM_CRASH", &point).output().unwrap().into();
            let ran = workshop.run(&arguments);
            assert_eq!(ran.code, 0, "{point}: {}", ran.stderr);
            assert_eq!(numbers(&workshop, "out/good.ndjson", "n"), places('g'), "{point}, {batch_rows}");
            assert_eq!(numbers(&workshop, "out/bad.ndjson", "position"), places('b'), "{point}, {batch_rows}");
            if killed.code == 0 {
                assert!(crash > ROWS.len() / 4, "a checkpoint every 4 rows");
                break;
            }
        }
    }
}
