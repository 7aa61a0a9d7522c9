//! Tables of Delta Lake, with the real binary, in folders and a real S3, read by the Python package `deltalake`: flows are killed at every step, others
//! write at the same time, files are taken away, and a stopped process wakes up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use millstream_testkit::Services;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::millstream::{self, Ran, Running, Workshop, project};
use crate::mysql;
use crate::s3::until;

/// What reads tables in the place of Spark and others. pyarrow gives it rows.
const PACKAGES: [&str; 2] = ["deltalake==1.6.6", "pyarrow==26.0.1"];

/// Prints the rows of a table, and what is known about it: `URL OPTIONS`.
const READ: &str = r#"
import json, sys
from deltalake import DeltaTable

table = DeltaTable(sys.argv[1], storage_options=json.loads(sys.argv[2]))
print(json.dumps({
    "rows": table.to_pyarrow_table().to_pylist(),
    "partition": table.metadata().partition_columns,
    "schema": {field.name: [str(field.type.type), field.nullable] for field in table.schema().fields},
}, default=str))
"#;

/// Adds rows one by one: `URL COUNT`.
const WRITE: &str = r#"
import sys
import pyarrow as pa
from deltalake import write_deltalake

columns = pa.schema([pa.field("id", pa.int64(), False), pa.field("word", pa.string(), True), pa.field("at", pa.timestamp("us", "UTC"), False)])
for row in range(int(sys.argv[2])):
    rows = pa.table({"id": [-1 - row], "word": ["python"], "at": [row]}, columns)
    write_deltalake(sys.argv[1], rows, mode="append", partition_by=["word"])
"#;

/// A Python that has `deltalake`.
fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| millstream::python(&PACKAGES, "deltalake, pyarrow"))
}

/// Numbers, divided by a word.
const FLOW: &str = r#"
    [flow]
    epoch.rows = 2_000
    [checkpoint]
    epochs = 1
    [input.rows]
    type = "generate"
    rows = 80_000
    columns = { id = "row", word = "concat('w', cast(row % 3 as varchar))", at = "timestamp '2026-01-01' + row * interval '1 s'" }
    [output.table]
    type = "delta"
    from = "rows"
    url = "${LAKE_URL}"
    path = "table"
    partition = ["word"]
    create_table = true
    every = "0s"
"#;

/// A place for tables, and a folder with the binary.
struct Lake {
    workshop: Workshop,
    /// In a service, or else in a folder.
    services: Option<Services>,
}

impl Lake {
    /// In a folder of the workshop. None where the tests are to do without what they need.
    fn in_folder() -> Option<Self> {
        let lake = Self { workshop: Workshop::new(), services: None };
        lake.workshop.write("flow.toml", FLOW);
        std::env::var_os("MILLSTREAM_TEST_SERVICES").map(|_| lake)
    }

    fn in_s3() -> Option<Self> {
        let lake = Self { workshop: Workshop::new(), services: Some(Services::start(&["s3"])?) };
        lake.workshop.write("flow.toml", FLOW);
        Some(lake)
    }

    fn url(&self) -> String {
        match &self.services {
            Some(_) => "s3://bucket/lake".to_owned(),
            None => format!("file://{}", self.workshop.path("lake").display()),
        }
    }

    /// How the service is reached.
    fn variables(&self) -> BTreeMap<&'static str, String> {
        let Some(services) = &self.services else { return BTreeMap::new() };
        BTreeMap::from([
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "canary-7f3a".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", services.get("S3_ENDPOINT").to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ])
    }

    fn command(&self, flow: &str, arguments: &[&str]) -> Command {
        let mut command = self.workshop.command(&[&["run", "--json", flow], arguments].concat());
        command.envs(self.variables()).env("LAKE_URL", self.url()).env("NO_PROXY", "127.0.0.1");
        command
    }

    /// A run that has to come to its end.
    fn finish(&self, flow: &str, arguments: &[&str]) {
        let ran = Ran::from(self.command(flow, arguments).output().unwrap());
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }

    /// A run that kills itself at a point. Whether it came to it.
    fn dies(&self, point: &str) -> bool {
        let mut command = self.command("flow.toml", &["--state", "state"]);
        let ran = Ran::from(command.env("MILLSTREAM_CRASH", point).output().unwrap());
        assert!(ran.code == -1 || ran.code == 0, "{point}: {}{}", ran.stdout, ran.stderr);
        ran.code == -1
    }

    fn start(&self, flow: &str, state: &str) -> Running {
        Running::start(self.command(flow, &["--state", state]).stdout(Stdio::piped()))
    }

    /// What others read in a table.
    fn read(&self, table: &str) -> Value {
        let options = serde_json::to_string(&self.variables()).unwrap();
        let mut command = Command::new(python());
        command.args(["-c", READ, &format!("{}/{table}", self.url()), &options]).env("NO_PROXY", "127.0.0.1");
        let read = command.output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        serde_json::from_slice(&read.stdout).unwrap()
    }

    /// How often each number is in the table.
    fn counts(&self) -> BTreeMap<i64, u32> {
        let mut counts = BTreeMap::new();
        for row in self.read("table")["rows"].as_array().unwrap() {
            *counts.entry(row["id"].as_i64().unwrap()).or_default() += 1;
        }
        counts
    }

    /// Checks that the rows are the numbers from 0, each so often.
    fn has_each(&self, rows: i64, times: u32) {
        let counts = self.counts();
        let wrong: Vec<_> = counts.iter().filter(|(_, count)| **count != times).take(5).collect();
        assert!(wrong.is_empty(), "rows that are there another number of times than {times}: {wrong:?}");
        assert!(counts.keys().copied().eq(0..rows), "{} rows instead of {rows}", counts.len());
    }
}

/// The crash points that a run comes by, in an order in which each run comes to its own before the rows end.
const POINTS: &[&str] = &[
    "objects-staged:2",
    "after-manifest",
    "recovery-taken-over",
    "recovery-before-commit",
    "delta-uploaded",
    "delta-committed",
    "recovery-after-commit",
    "objects-uploaded:2",
    "delta-uploaded:2",
    "delta-committed:3",
    "after-commit",
    "objects-removed",
    "before-manifest:2",
    "snapshot-taken:2",
    "marked-committed:2",
];

#[test]
fn rows_are_in_the_table_once_through_kills_at_every_point() {
    let Some(lake) = Lake::in_s3() else { return };
    for point in POINTS {
        assert!(lake.dies(point), "no run came to {point}");
    }
    lake.finish("flow.toml", &["--state", "state"]);
    lake.has_each(80_000, 1);
    let read = lake.read("table");
    assert_eq!(read["partition"], serde_json::json!(["word"]));
    assert_eq!(read["schema"]["id"][0], "long");
    assert_eq!(read["schema"]["at"][0], "timestamp");
    for row in read["rows"].as_array().unwrap().iter().take(1000) {
        let id = row["id"].as_u64().unwrap();
        assert_eq!(row["word"], format!("w{}", id % 3));
    }
    // Who has come to the end adds nothing.
    lake.finish("flow.toml", &["--state", "state"]);
    lake.has_each(80_000, 1);
}

#[test]
fn runs_without_state_each_add_their_rows() {
    let Some(lake) = Lake::in_folder() else { return };
    for _ in 0..2 {
        lake.finish("flow.toml", &["--set", "input.rows.rows=5000"]);
    }
    lake.has_each(5000, 2);
}

#[test]
fn files_that_are_gone_before_the_log_names_them_are_uploaded_again() {
    let Some(lake) = Lake::in_folder() else { return };
    assert!(lake.dies("delta-uploaded:2"));
    // As `VACUUM` does it with files that are old.
    let mut gone = 0;
    for word in ["w0", "w1", "w2"] {
        let folder = lake.workshop.path(&format!("lake/table/word={word}"));
        let log = lake.workshop.list("lake/table/_delta_log");
        let log: String = log.iter().map(|name| lake.workshop.read(&format!("lake/table/_delta_log/{name}"))).collect();
        for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if !log.contains(file.file_name().unwrap().to_str().unwrap()) {
                std::fs::remove_file(file).unwrap();
                gone += 1;
            }
        }
    }
    assert_eq!(gone, 3);
    lake.finish("flow.toml", &["--state", "state"]);
    lake.has_each(80_000, 1);
}

#[test]
fn a_table_takes_rows_of_all_who_write_at_the_same_time() {
    let Some(lake) = Lake::in_folder() else { return };
    let flow = FLOW.replace("80_000", "20_000");
    for name in ["a", "b"] {
        lake.workshop.write(&format!("{name}.toml"), &flow);
    }
    // Both would make it.
    let running = ["a", "b"].map(|name| lake.start(&format!("{name}.toml"), name));
    until("a table", || lake.workshop.exists(&format!("lake/table/_delta_log/{:020}.json", 0)));
    let mut other = Command::new(python());
    other.args(["-c", WRITE, &format!("{}/table", lake.url()), "20"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let other = other.spawn().unwrap();
    for running in running {
        let ran = running.wait();
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }
    let other = other.wait_with_output().unwrap();
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    let counts = lake.counts();
    assert_eq!(counts.range(..0).count(), 20, "rows of the other writer");
    assert!(counts.range(0..).map(|(row, count)| (*row, *count)).eq((0..20_000).map(|row| (row, 2))));
}

#[test]
fn rows_of_a_process_that_was_thought_dead_are_added_once() {
    let Some(lake) = Lake::in_s3() else { return };
    lake.workshop.write("flow.toml", &FLOW.replace("rows = 80_000", "rows = 40_000\n    rate = \"5000/s\""));
    let state = "s3://bucket/state";
    let commits = || {
        let options = lake.variables();
        let url = options["AWS_ENDPOINT_URL"].clone();
        listed(&url, "lake/table/_delta_log/")
    };
    let mut first = lake.start("flow.toml", state);
    until("commits", || commits() > 2);
    let id = Pid::from_raw(first.id() as i32).unwrap();
    kill_process(id, Signal::STOP).unwrap();
    let second = lake.start("flow.toml", state);
    let before = commits();
    until("commits of the second", || commits() > before + 1);
    kill_process(id, Signal::CONT).unwrap();
    let ended = first.wait();
    assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
    let ended = second.wait();
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    lake.has_each(40_000, 1);
}

/// How many objects there are below a name in the bucket.
fn listed(endpoint: &str, prefix: &str) -> usize {
    use std::io::{Read as _, Write as _};
    let host = endpoint.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let request =
        format!("GET /bucket/?list-type=2&prefix={prefix} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.matches("<Key>").count()
}

#[test]
fn a_table_of_other_columns_stops_a_flow_before_it_begins() {
    let Some(lake) = Lake::in_folder() else { return };
    lake.finish("flow.toml", &["--set", "input.rows.rows=10"]);
    lake.workshop.write("flow.toml", &FLOW.replace("id = \"row\"", "id = \"cast(row as varchar)\""));
    let ran = Ran::from(lake.command("flow.toml", &[]).output().unwrap());
    let words = "its column `id` is long, and that of the flow is string";
    assert!(ran.code == 1 && ran.json()["error"]["message"].as_str().unwrap().contains(words), "{}", ran.stdout);
    let mut check = lake.workshop.command(&["check", "--connect", "flow.toml"]);
    let ran = Ran::from(check.env("LAKE_URL", lake.url()).output().unwrap());
    assert!(ran.code == 0 && ran.stdout.contains("a table at `"), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn orders_of_mysql_are_read_by_others() {
    let (Some(mysql), Some(lake)) = (mysql::shared("mysql"), Lake::in_folder()) else { return };
    mysql.say(
        "CREATE TABLE lake_orders (id BIGINT PRIMARY KEY, customer BIGINT, amount DECIMAL(10,2) NOT NULL, status VARCHAR(20),
             updated_at DATETIME NOT NULL);
         INSERT INTO lake_orders VALUES (1, 7, 12.50, 'paid', '2026-01-31 23:59:59'), (2, NULL, 3.00, NULL, '2026-02-01 00:00:00'),
             (3, 8, 0.00, 'void', '2026-02-01 00:00:01')",
    );
    let flow = std::fs::read_to_string(project().join("flows/mysql_to_delta.toml")).unwrap();
    lake.workshop.write("mysql_to_delta.toml", &flow);
    let command = || {
        let mut command =
            lake.command("mysql_to_delta.toml", &["--state", "state", "--set", "input.orders.table=lake_orders"]);
        command.env("MYSQL_ADDRESS", mysql.address()).env("MYSQL_USER", "alice").env("MYSQL_PASSWORD", "canary-41d7");
        command
    };
    let run = || {
        let ran = Ran::from(command().output().unwrap());
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    };
    // It dies before it knows that its rows are there.
    let died = command().env("MILLSTREAM_CRASH", "delta-committed").output().unwrap();
    assert_eq!(died.status.code(), None, "{}", String::from_utf8_lossy(&died.stderr));
    run();
    mysql.say("INSERT INTO lake_orders VALUES (4, 7, 0.05, 'paid', '2026-02-01 12:00:00')");
    run();
    let read = lake.read("orders");
    assert_eq!(read["partition"], serde_json::json!(["day"]));
    assert_eq!(read["schema"]["amount"], serde_json::json!(["decimal(10,2)", false]));
    let cell = |row: &Value, name: &str| row[name].as_str().map_or_else(|| row[name].to_string(), str::to_owned);
    let text = |row: &Value| ["id", "customer", "amount", "status", "day"].map(|name| cell(row, name)).join(" ");
    let mut rows: Vec<_> = read["rows"].as_array().unwrap().iter().map(text).collect();
    rows.sort();
    let wanted = ["1 7 12.50 paid 2026-01-31", "2 null 3.00 unknown 2026-02-01", "4 7 0.05 paid 2026-02-01"];
    assert_eq!(rows, wanted);
}
