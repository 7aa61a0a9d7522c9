//! Disks that are full, and folders that are gone, while an output writes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::millstream::{Ran, Running, Workshop};

/// Files of 2000 rows, 20 bytes each, and checkpoints behind every 700. The second one is not asked for before the first is decided.
const FLOW: &str = r#"
    [flow]
    epoch.rows = 700
    [checkpoint]
    epochs = 1
    [input.numbers]
    type = "file"
    path = "numbers.csv"
    schema = { n = "utf8" }
    [output.rows]
    type = "file"
    from = "numbers"
    path = "out"
    format = "ndjson"
    rows = 2000
"#;

fn line(number: usize) -> String {
    format!("{{\"n\":\"{number:011}\"}}\n")
}

#[test]
fn a_disk_that_is_full_where_a_file_ends_costs_no_row() {
    let workshop = Workshop::new();
    workshop.write("f.toml", FLOW);
    let numbers: String = (0..6000).map(|number| format!("{number:011}\n")).collect();
    workshop.write("numbers.csv", &format!("n\n{numbers}"));
    // At 32 KiB a file has its first 1400 rows, of which a checkpoint knows some, and not all of the others.
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" run --json f.toml --state state";
    let mut command = Command::new("sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_millstream")]).current_dir(workshop.path(""));
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let error = &ran.json()["error"];
    assert_eq!(error["node"], "rows");
    assert!(error["message"].as_str().unwrap().contains("File too large"), "{error}");
    assert!(workshop.list("out").iter().any(|name| name.ends_with(".part")), "{:?}", workshop.list("out"));
    let json = workshop.run_json(&["f.toml", "--state", "state"]);
    assert_eq!(json["nodes"]["rows"]["rows_in"], 6000);
    assert!(json["this_run"]["rows"]["rows_in"].as_u64().unwrap() < 6000, "it is resumed");
    let written: String = workshop.list("out").iter().map(|name| workshop.read(&format!("out/{name}"))).collect();
    assert!(written == (0..6000).map(line).collect::<String>());
}

#[test]
fn an_output_whose_folder_is_gone_is_named() {
    let workshop = Workshop::new();
    let flow = r#"
        [checkpoint]
        interval = "300ms"
        [input.numbers]
        type = "generate"
        columns = { n = "row" }
        rate = "1000/s"
        [output.rows]
        type = "file"
        from = "numbers"
        path = "out"
        format = "ndjson"
    "#;
    workshop.write("f.toml", flow);
    let mut command = workshop.command(&["run", "--json", "f.toml", "--state", "state"]);
    let mut running = Running::start(command.stdout(Stdio::piped()));
    let patience = Instant::now() + Duration::from_secs(60);
    while !workshop.list("out").iter().any(|name| name.ends_with(".part")) {
        assert!(!running.has_ended() && Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_dir_all(workshop.path("out")).unwrap();
    let ran = running.wait();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!(ran.json()["error"]["node"], "rows", "{}", ran.stdout);
}
