//! Objects in S3, Azure Blob Storage and Google Cloud Storage, with the real binary and real services: flows are killed at every step, answers are lost and cut,
//! uploads removed, processes stopped and awakened.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use millstream_testkit::{Fault, Proxy, Services};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::millstream::{Ran, Running, Workshop};
use crate::s3::{until, wait_for};

/// What must never be seen.
const SECRET: &str = "canary-7f3a";

/// A service, and a folder with the binary that uses it.
struct Site {
    workshop: Workshop,
    services: Services,
    /// What stands between them, if anything does.
    proxy: Option<Proxy>,
}

/// What a service has answered.
struct Answer {
    status: u16,
    body: String,
}

impl Site {
    /// None where the tests are to do without.
    fn open() -> Option<Self> {
        Some(Self { services: Services::start(&["s3"])?, workshop: Workshop::new(), proxy: None })
    }

    /// Where the service is.
    fn host(&self) -> &str {
        self.services.get("S3_ENDPOINT").strip_prefix("http://").unwrap()
    }

    /// A connection in a flow file.
    fn connection(&self) -> String {
        let host = self.proxy.as_ref().map_or_else(|| self.host().to_owned(), Proxy::address);
        format!(
            r#"
            [connection.lake]
            type = "objects"
            url = "s3://bucket/lake"
            endpoint = "http://{host}"
            region = "us-east-1"
            key_id = "key"
            key = "${{LAKE_KEY}}"
            allow_http = true
            retry = {{ attempts = 4, first_pause = "10ms", longest_pause = "200ms" }}
            timeouts = {{ request = "5s" }}
            "#
        )
    }

    fn write(&self, name: &str, flow: &str) {
        self.workshop.write(name, &format!("{}{flow}", self.connection()));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.workshop.command(arguments);
        command
            .env("LAKE_KEY", SECRET)
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", self.services.get("S3_ENDPOINT"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("NO_PROXY", "127.0.0.1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let ran = Ran::from(self.command(arguments).output().unwrap());
        assert!(!ran.stdout.contains(SECRET) && !ran.stderr.contains(SECRET), "a secret was printed: {ran:?}");
        ran
    }

    /// Runs a flow that must come to its end.
    fn finish(&self, flow: &str, arguments: &[&str]) -> Value {
        let ran = self.run(&[&["run", "--json", flow], arguments].concat());
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        ran.json()
    }

    /// Runs a flow that kills itself at a point. Whether it came to it.
    fn dies(&self, flow: &str, arguments: &[&str], point: &str) -> bool {
        let mut command = self.command(&[&["run", "--json", flow], arguments].concat());
        let ran = Ran::from(command.env("MILLSTREAM_CRASH", point).output().unwrap());
        assert!(ran.code == -1 || ran.code == 0, "{point}: {}{}", ran.stdout, ran.stderr);
        ran.code == -1
    }

    /// Asks the service directly, which looks at no signature.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.host()).unwrap();
        let head = format!(
            "{method} /bucket/{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.host(),
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, body: text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()) }
    }

    fn put(&self, name: &str, text: &str) {
        assert_eq!(self.ask("PUT", &format!("lake/{name}"), text.as_bytes()).status, 200, "{name}");
    }

    /// What an element of XML of this name has, wherever it stands.
    fn listed(&self, query: &str, element: &str) -> Vec<String> {
        let body = self.ask("GET", query, b"").body;
        let begin = format!("<{element}>");
        let parts = body.split(&begin).skip(1);
        parts.map(|part| part.split('<').next().unwrap().to_owned()).collect()
    }

    /// The names of all objects below `lake/`.
    fn objects(&self) -> Vec<String> {
        let names = self.listed("?list-type=2&prefix=lake/", "Key");
        names.into_iter().map(|name| name.strip_prefix("lake/").unwrap().to_owned()).collect()
    }

    /// Uploads that nobody has completed: their keys and names.
    fn uploads(&self) -> Vec<(String, String)> {
        let (keys, ids) = (self.listed("?uploads", "Key"), self.listed("?uploads", "UploadId"));
        keys.into_iter().zip(ids).collect()
    }

    /// How often each number of the first column of a CSV file is there.
    fn counts(&self, file: &str) -> BTreeMap<u64, u32> {
        let mut counts = BTreeMap::new();
        for line in self.workshop.read(file).lines().skip(1) {
            *counts.entry(line.split(',').next().unwrap().parse().unwrap()).or_default() += 1;
        }
        counts
    }

    /// Checks that the rows of a file are these numbers, each once.
    fn has_each_once(&self, file: &str, rows: u64) {
        let counts = self.counts(file);
        let wrong: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).take(5).collect();
        assert!(wrong.is_empty(), "rows that came more than once: {wrong:?}");
        assert!(counts.keys().copied().eq(0..rows), "{} rows instead of {rows}", counts.len());
    }
}

/// Rows that become objects of more than one part, and small ones.
const WRITING: &str = r#"
    [flow]
    epoch.rows = 14_000
    [checkpoint]
    epochs = 1
    [input.rows]
    type = "generate"
    rows = 70_000
    columns = { id = "row", word = "concat('w', cast(row % 3 as varchar))", text = "repeat(concat('text ', cast(row as varchar), ' '), 60)" }
    [output.out]
    type = "objects"
    from = "rows"
    connection = "lake"
    path = "out"
    format = "csv"
    bytes = "9MiB"
    every = "0s"
"#;

/// What was written is read again.
const READING: &str = r#"
    [input.objects]
    type = "objects"
    connection = "lake"
    path = "out/**/*.csv"
    schema = { id = "int64" }
    [output.read]
    type = "file"
    from = "objects"
    path = "read.csv"
"#;

/// The crash points that a run with this output comes by, in an order in which each run comes to its own before the rows end.
const POINTS: &[&str] = &[
    "objects-staged:2",
    "after-manifest",
    "recovery-taken-over",
    "recovery-before-commit",
    "recovery-after-commit",
    "objects-uploaded:2",
    "objects-completed",
    "objects-marked:2",
    "after-commit",
    "objects-removed",
    "before-manifest:2",
    "snapshot-taken:2",
    "marked-committed:2",
];

#[test]
fn rows_are_in_one_object_each_through_kills_at_every_point() {
    let Some(site) = Site::open() else { return };
    // Every other object is small, and has no parts.
    let flow =
        WRITING.replace("70_000", "140_000").replace(", 60)", ", case when row / 14000 % 2 = 0 then 60 else 1 end)");
    site.write("write.toml", &flow);
    site.write("read.toml", READING);
    for point in POINTS {
        assert!(site.dies("write.toml", &["--state", "state"], point), "no run came to {point}");
    }
    site.finish("write.toml", &["--state", "state"]);
    site.finish("read.toml", &[]);
    site.has_each_once("read.csv", 140_000);
    let sizes = site.listed("?list-type=2&prefix=lake/", "Size");
    assert!(sizes.iter().any(|size| size.parse::<u64>().unwrap() > 8 << 20), "no object has parts: {sizes:?}");
    // One that begins as the process dies, of which nobody has heard, can't be given up.
    assert!(site.uploads().len() <= 2, "uploads that nobody needs are left: {:?}", site.uploads());
    let left = site.workshop.list("state/write/nodes/output.out");
    assert!(left.iter().all(|name| !name.ends_with(".part")), "files that nobody needs are left: {left:?}");
}

#[test]
fn rows_go_to_objects_by_the_values_of_columns() {
    let Some(site) = Site::open() else { return };
    let flow =
        WRITING.replace("every = \"0s\"", "every = \"0s\"\n    partition = [\"word\"]").replace("70_000", "30_000");
    site.write("write.toml", &flow);
    site.write(
        "read.toml",
        &READING.replace(
            "{ id = \"int64\" }",
            "{ id = \"int64\" }\n    partition = { word = \"utf8\" }\n    key_column = \"object\"",
        ),
    );
    for point in ["after-manifest", "objects-completed:2", "objects-marked:4"] {
        site.dies("write.toml", &["--state", "state"], point);
    }
    site.finish("write.toml", &["--state", "state"]);
    site.finish("read.toml", &[]);
    site.has_each_once("read.csv", 30_000);
    for line in site.workshop.read("read.csv").lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        let word = format!("w{}", cells[0].parse::<u64>().unwrap() % 3);
        assert!(cells[1] == word && cells[2].starts_with(&format!("out/word={word}/write-out-")), "{line}");
    }
}

#[test]
fn an_upload_that_is_gone_is_sent_once_more() {
    let Some(site) = Site::open() else { return };
    site.write("write.toml", &WRITING.replace("70_000", "32_768").replace("14_000", "32_768"));
    site.write("read.toml", READING);
    assert!(site.dies("write.toml", &["--state", "state"], "objects-uploaded"));
    let uploads = site.uploads();
    assert!(!uploads.is_empty(), "nothing was uploaded before the commit");
    for (key, id) in uploads {
        assert_eq!(site.ask("DELETE", &format!("{key}?uploadId={id}"), b"").status, 204);
    }
    site.finish("write.toml", &["--state", "state"]);
    site.finish("read.toml", &[]);
    site.has_each_once("read.csv", 32_768);
}

#[test]
fn an_object_that_was_taken_away_does_not_come_again() {
    let Some(site) = Site::open() else { return };
    site.write("write.toml", &WRITING.replace("70_000", "32_768").replace("14_000", "32_768"));
    assert!(site.dies("write.toml", &["--state", "state"], "objects-marked:2"));
    let objects = site.objects();
    assert_eq!(objects.len(), 2, "{objects:?}");
    for object in &objects {
        assert_eq!(site.ask("DELETE", &format!("lake/{object}"), b"").status, 204);
    }
    site.finish("write.toml", &["--state", "state"]);
    assert_eq!(site.objects(), [""; 0]);
}

#[test]
fn answers_that_are_lost_late_and_cut_do_no_harm() {
    let Some(mut site) = Site::open() else { return };
    // One in five, in an order that is the same in every run.
    let proxy = Proxy::start(site.host(), |number, _| match number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 {
        random if random % 5 > 0 => None,
        random => Some(match random / 5 % 6 {
            0 => Fault::Lost,
            1 => Fault::Unanswered,
            2 => Fault::Cut(200),
            3 => Fault::Late(Duration::from_millis(200)),
            4 => Fault::Status(500),
            _ => Fault::Status(503),
        }),
    });
    site.proxy = Some(proxy);
    // Objects that are put at once, and many of them, beside those that are uploads.
    let small =
        WRITING.replace("\"out\"", "\"small\"").replace("bytes = \"9MiB\"", "rows = 1000").replace(", 60)", ", 1)");
    for (path, flow) in [("out", WRITING), ("small", &small)] {
        site.write("write.toml", flow);
        site.write(
            "read.toml",
            &READING.replace("out/", &format!("{path}/")).replace("read.csv", &format!("{path}.csv")),
        );
        let state = ["--state", path];
        for point in ["after-manifest", "objects-completed:2"] {
            assert!(site.dies("write.toml", &state, point), "no run came to {point}");
        }
        site.finish("write.toml", &state);
        site.finish("read.toml", &[]);
        site.has_each_once(&format!("{path}.csv"), 70_000);
    }
    let proxy = site.proxy.as_ref().unwrap();
    assert!(proxy.faults() > 20, "{} faults in {} exchanges", proxy.faults(), proxy.exchanges());
}

#[test]
fn a_process_that_was_thought_dead_makes_nothing_visible_twice() {
    let Some(site) = Site::open() else { return };
    let live = WRITING.replace("rows = 70_000", "rows = 70_000\n    rate = \"10000/s\"");
    site.write("write.toml", &live);
    site.write("read.toml", READING);
    let state = ["--state", "s3://bucket/state"];
    let mut first =
        Running::start(site.command(&[&["run", "--json", "write.toml"], &state[..]].concat()).stdout(Stdio::piped()));
    until("objects", || !site.objects().is_empty());
    let id = Pid::from_raw(first.id() as i32).unwrap();
    kill_process(id, Signal::STOP).unwrap();
    let second =
        Running::start(site.command(&[&["run", "--json", "write.toml"], &state[..]].concat()).stdout(Stdio::piped()));
    let before = site.objects().len();
    until("objects of the second", || site.objects().len() > before);
    kill_process(id, Signal::CONT).unwrap();
    let ended = first.wait();
    assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
    let ended = second.wait();
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    site.finish("read.toml", &[]);
    site.has_each_once("read.csv", 70_000);
}

/// Objects that are there, and new ones.
const FOLLOWING: &str = r#"
    [flow]
    epoch = { rows = 1000, interval = "20ms" }
    [checkpoint]
    interval = "20ms"
    [input.objects]
    type = "objects"
    connection = "lake"
    path = "in/*.csv"
    schema = { id = "int64" }
    interval = "50ms"
    [output.read]
    type = "file"
    from = "objects"
    path = "read"
    format = "csv"
    every = "1s"
"#;

fn rows(range: std::ops::Range<u64>) -> String {
    range.fold("id\n".to_owned(), |text, row| text + &format!("{row}\n"))
}

/// All rows of a folder of CSV files.
fn rows_in(site: &Site, folder: &str) -> Vec<u64> {
    let names = site.workshop.list(folder);
    let files = names.iter().filter(|name| name.ends_with(".csv") && !name.starts_with('.'));
    let texts = files.map(|name| site.workshop.read(&format!("{folder}/{name}")));
    let mut rows: Vec<u64> =
        texts.flat_map(|text| text.lines().skip(1).map(|row| row.parse().unwrap()).collect::<Vec<_>>()).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn each_object_is_read_once_through_kills_and_new_ones_are_found() {
    let Some(site) = Site::open() else { return };
    site.write("follow.toml", FOLLOWING);
    let arguments = ["run", "--json", "follow.toml", "--state", "state"];
    for round in 0..6 {
        site.put(&format!("in/{round}-a.csv"), &rows(round * 4000..round * 4000 + 3990));
        let point = format!("after-manifest:{}", 2 + round % 3);
        let mut running =
            Running::start(site.command(&arguments).env("MILLSTREAM_CRASH", point).stdout(Stdio::piped()));
        site.put(&format!("in/{round}-b.csv"), &rows(round * 4000 + 3990..(round + 1) * 4000));
        until("its death", || running.has_ended());
    }
    let running = Running::start(site.command(&arguments).stdout(Stdio::piped()));
    wait_for("rows", 24_000, || rows_in(&site, "read").len());
    running.stop();
    assert_eq!(rows_in(&site, "read"), (0..24_000).collect::<Vec<_>>());
}

#[test]
fn an_object_that_changes_stops_the_flow_or_leaves_it() {
    let Some(site) = Site::open() else { return };
    site.write(
        "once.toml",
        &FOLLOWING.replace("interval = \"50ms\"", "once = \"new_objects\"").replace("every = \"1s\"", "rows = 1000"),
    );
    site.put("in/a.csv", &rows(0..5));
    let state = ["--state", "state"];
    site.finish("once.toml", &state);
    assert_eq!(rows_in(&site, "read"), [0, 1, 2, 3, 4]);
    site.put("in/b.csv", &rows(5..7));
    site.finish("once.toml", &state);
    assert_eq!(rows_in(&site, "read"), [0, 1, 2, 3, 4, 5, 6], "only what is new");
    site.put("in/a.csv", &rows(0..6));
    let ran = site.run(&[&["run", "once.toml"], &state[..]].concat());
    let words = "`in/a.csv` at `s3://bucket/lake` can't be read: it has changed since it was read";
    assert!(ran.code == 1 && ran.stderr.contains(words), "{}{}", ran.stdout, ran.stderr);
    let fail = ["--set", "input.objects.on_bad_object=fail", "--set", "input.objects.on_error.dead_letter=refused"];
    site.finish("once.toml", &[&state[..], &fail].concat());
    let refused = site.workshop.list("refused");
    let refused = refused.iter().find(|name| name.ends_with(".ndjson")).unwrap();
    assert!(site.workshop.read(&format!("refused/{refused}")).contains("it has changed since it was read"));
    assert_eq!(rows_in(&site, "read").len(), 7);
}

#[test]
fn parquet_is_read_by_its_columns() {
    let Some(site) = Site::open() else { return };
    let flow = WRITING.replace("format = \"csv\"", "format = \"parquet\"");
    let wide = "word = \"random_normal()\", other = \"random_normal()\", text = \"random_normal()\"";
    let (before, rest) = flow.split_once("word = ").unwrap();
    let (_, behind) = rest.split_once(" }").unwrap();
    let flow = format!("{before}{wide} }}{behind}");
    site.write("write.toml", &flow);
    site.finish("write.toml", &["--set", "output.out.bytes=64MiB"]);
    let sizes = site.listed("?list-type=2&prefix=lake/", "Size");
    let size: u64 = sizes.iter().map(|size| size.parse::<u64>().unwrap()).sum();
    assert!(size > 1 << 20, "{sizes:?}");
    // All that comes through the proxy is counted.
    let proxy = Proxy::start(site.host(), |_, _| None);
    let site = Site { proxy: Some(proxy), ..site };
    site.write("read.toml", &READING.replace(".csv\"\n    schema", ".parquet\"\n    schema"));
    site.finish("read.toml", &[]);
    site.has_each_once("read.csv", 70_000);
    let passed = site.proxy.as_ref().unwrap().answered();
    assert!(passed < size / 2, "{passed} bytes of {size} were fetched for one column of four");
}

#[test]
fn parquet_is_read_by_its_row_groups() {
    let Some(site) = Site::open() else { return };
    // Four row groups, of which the last is small.
    let flow = WRITING.replace("format = \"csv\"", "format = \"parquet\"").replace("70_000", "400_000");
    let (before, rest) = flow.split_once("word = ").unwrap();
    let (_, behind) = rest.split_once(" }").unwrap();
    site.write("write.toml", &format!("{before}x = \"random_normal()\" }}{behind}"));
    site.finish("write.toml", &["--set", "output.out.bytes=64MiB"]);
    let sizes = site.listed("?list-type=2&prefix=lake/", "Size");
    let size: u64 = sizes.iter().map(|size| size.parse::<u64>().unwrap()).sum();
    assert!(sizes.len() == 1 && size > 2 << 20, "{sizes:?}");
    let proxy = Proxy::start(site.host(), |_, _| None);
    let site = Site { proxy: Some(proxy), ..site };
    let format = "format = { type = \"parquet\", where = \"id >= 395000 AND x IS NOT NULL\" }";
    let reading = READING.replace(
        ".csv\"\n    schema = { id = \"int64\" }",
        &format!(".parquet\"\n    {format}\n    schema = {{ id = \"int64\", x = \"float64\" }}"),
    );
    let reading = reading.replace("from = \"objects\"", "from = \"ids\"");
    let ids = "[processor.ids]\n    type = \"sql\"\n    from = \"objects\"\n    query = \"SELECT id FROM input\"\n";
    site.write("read.toml", &(reading + ids));
    let ran = site.finish("read.toml", &[]);
    let counts = site.counts("read.csv");
    assert!(counts.keys().copied().eq(395_000..400_000), "{} rows", counts.len());
    let figures = serde_json::json!({ "row_groups_read": 1, "row_groups_skipped": 3 });
    assert_eq!(ran["reports"]["objects"], figures, "{ran}");
    let passed = site.proxy.as_ref().unwrap().answered();
    assert!(passed < size / 4, "{passed} bytes of {size} were fetched for one row group of four");
}

#[test]
fn a_store_is_looked_at_before_a_flow_runs() {
    let Some(site) = Site::open() else { return };
    site.write("follow.toml", FOLLOWING);
    site.put("in/a.csv", &rows(0..5));
    let ran = site.run(&["check", "--connect", "follow.toml"]);
    assert!(
        ran.code == 0 && ran.stdout.contains("1 of 1 objects at `s3://bucket/lake`"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    site.workshop
        .write("other.toml", &format!("{}{FOLLOWING}", site.connection().replace("s3://bucket/lake", "s3://other")));
    let ran = site.run(&["check", "--connect", "other.toml"]);
    assert!(ran.code == 1 && ran.stderr.contains("NoSuchBucket"), "{}{}", ran.stdout, ran.stderr);
    site.workshop.write("plain.toml", &format!("{}{FOLLOWING}", site.connection().replace("allow_http = true", "")));
    // The environment would allow it.
    let ran = Ran::from(site.command(&["check", "plain.toml"]).env_remove("AWS_ALLOW_HTTP").output().unwrap());
    assert!(ran.code == 2 && ran.stderr.contains("needs `allow_http = true`"), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn files_of_a_web_server_are_read() {
    let Some(site) = Site::open() else { return };
    site.put("in/a.csv", &rows(0..500));
    // The service is a web server as well.
    let flow = FOLLOWING
        .replace("in/*.csv", "bucket/lake/in/a.csv")
        .replace("    interval = \"50ms\"\n", "")
        .replace("every = \"1s\"", "rows = 1000");
    let connection =
        format!("[connection.lake]\ntype = \"objects\"\nurl = \"http://{}\"\nallow_http = true\n", site.host());
    site.workshop.write("web.toml", &format!("{connection}{flow}"));
    site.finish("web.toml", &["--state", "state"]);
    assert_eq!(rows_in(&site, "read"), (0..500).collect::<Vec<_>>());
}

/// A service that has so many orders, in pages of which the second is empty.
fn service(orders: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/api/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap_or_default();
            let is_first = String::from_utf8_lossy(&request[..count]).contains("page=1&");
            let order = |id: usize| {
                format!(
                    "{{ \"id\": {}, \"amount\": 1.5, \"created_at\": \"2026-01-{:02}T12:00:00Z\" }}",
                    id + 1,
                    1 + id % 3
                )
            };
            let orders: Vec<_> = (0..if is_first { orders } else { 0 }).map(order).collect();
            let body = format!("{{ \"data\": [{}] }}", orders.join(", "));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    address
}

#[test]
fn records_of_a_service_become_objects_by_day() {
    let Some(site) = Site::open() else { return };
    let flow = crate::millstream::project().join("flows/api_to_objects.toml");
    let arguments = ["run", "--json", flow.to_str().unwrap(), "--state", "state", "--set", "input.orders.bounded=true"];
    let mut command = site.command(&arguments);
    let ran = Ran::from(command.env("API_URL", service(60)).env("LAKE_URL", "s3://bucket/lake").output().unwrap());
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let reading = READING.replace("out/**/*.csv", "orders/**/*.parquet");
    site.write(
        "read.toml",
        &reading.replace("{ id = \"int64\" }", "{ id = \"int64\" }\n    partition = { day = \"date\" }"),
    );
    site.finish("read.toml", &[]);
    let mut rows: Vec<_> = site.workshop.read("read.csv").lines().skip(1).map(str::to_owned).collect();
    rows.sort_by_key(|row| row.split(',').next().unwrap().parse::<usize>().unwrap());
    let expected: Vec<_> = (0..60).map(|id| format!("{},2026-01-{:02}", id + 1, 1 + id % 3)).collect();
    assert_eq!(rows, expected);
}

/// A flow that writes and one that reads, with all that it keeps in one kind of store.
fn another_cloud(workshop: &Workshop, connection: &str, url: &str, environment: &[(&str, &str)], points: &[&str]) {
    let small = WRITING.replace("70_000", "3000").replace("14_000", "500");
    workshop.write("write.toml", &format!("{connection}{small}"));
    workshop.write("read.toml", &format!("{connection}{READING}"));
    let command = |arguments: &[&str]| {
        let mut command = workshop.command(arguments);
        command.envs(environment.iter().copied()).env("NO_PROXY", "127.0.0.1");
        command
    };
    let state = format!("{url}/state");
    let durable = ["run", "--json", "write.toml", "--state", &state];
    for point in points {
        let ran = Ran::from(command(&durable).env("MILLSTREAM_CRASH", point).output().unwrap());
        assert!(ran.code == -1 || ran.code == 0, "{point}: {}{}", ran.stdout, ran.stderr);
    }
    for arguments in [&durable[..], &["run", "--json", "read.toml"]] {
        let ran = Ran::from(command(arguments).output().unwrap());
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }
    let rows: Vec<u64> = workshop
        .read("read.csv")
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(rows, (0..3000).collect::<Vec<_>>());
}

#[test]
#[ignore = "its server is large; part of the nightly run"]
fn azure_keeps_objects_and_state() {
    let Some(services) = Services::start(&["azure"]) else { return };
    let workshop = Workshop::new();
    let (endpoint, account, key) =
        (services.get("AZURE_ENDPOINT"), services.get("AZURE_ACCOUNT"), services.get("AZURE_KEY"));
    let connection = format!(
        "[connection.lake]\ntype = \"objects\"\nurl = \"az://bucket/lake\"\nendpoint = \"{endpoint}\"\nkey_id = \"{account}\"\nkey = \"{key}\"\nallow_http = true\n"
    );
    let environment = [
        ("AZURE_STORAGE_ENDPOINT", endpoint),
        ("AZURE_STORAGE_ACCOUNT_NAME", account),
        ("AZURE_STORAGE_ACCOUNT_KEY", key),
        ("AZURE_ALLOW_HTTP", "true"),
    ];
    another_cloud(
        &workshop,
        &connection,
        "az://bucket",
        &environment,
        &["after-manifest:2", "objects-completed", "objects-marked:2"],
    );
    // Objects with parts, whose upload is completed twice.
    workshop.write(
        "write.toml",
        &format!("{connection}{}", WRITING.replace("\"out\"\n    format", "\"large\"\n    format")),
    );
    workshop.write("read.toml", &format!("{connection}{}", READING.replace("out/", "large/")));
    for point in ["objects-completed", "objects-uploaded:2", ""] {
        let mut command = workshop.command(&["run", "--json", "write.toml", "--state", "large-state"]);
        let ran = Ran::from(command.env("MILLSTREAM_CRASH", point).env("NO_PROXY", "127.0.0.1").output().unwrap());
        assert!(ran.code == -1 || ran.code == 0 && point.is_empty(), "{point}: {}{}", ran.stdout, ran.stderr);
    }
    let ran =
        Ran::from(workshop.command(&["run", "--json", "read.toml"]).env("NO_PROXY", "127.0.0.1").output().unwrap());
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(workshop.read("read.csv").lines().count(), 70_001);
}

/// What is spoken with Google's store is its XML API, which is the protocol of S3 but for conditions. So a server of S3 can stand for it, as long as nobody
/// disturbs the flow.
#[test]
fn google_keeps_objects_and_state() {
    let Some(services) = Services::start(&["s3"]) else { return };
    let workshop = Workshop::new();
    let endpoint = services.get("S3_ENDPOINT");
    // The client writes nothing without an account; the server takes any.
    let account = "{\"client_email\":\"a\",\"private_key\":\"k\",\"private_key_id\":\"k\",\"disable_oauth\":true}";
    let connection = format!(
        "[connection.lake]\ntype = \"objects\"\nurl = \"gs://bucket/lake\"\nendpoint = \"{endpoint}\"\nkey = '{account}'\nallow_http = true\n"
    );
    let environment =
        [("GOOGLE_BASE_URL", endpoint), ("GOOGLE_SERVICE_ACCOUNT_KEY", account), ("GOOGLE_ALLOW_HTTP", "true")];
    another_cloud(&workshop, &connection, "gs://bucket", &environment, &[]);
}
