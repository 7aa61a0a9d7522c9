//! Commands that ask a daemon: rows on their way, models, refused rows, what is watched, what goes to those who help; and what README.md says of it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::daemons::{Daemon, NEW, append, follows, ids, refuses, wait_for_rows};
use crate::millstream::{Ran, Workshop, project};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(180);

/// A flow that never has an end.
const TICKS: &str = r#"
    [input.ticks]
    type = "generate"
    rate = "200/s"
    columns = { n = "row" }
    [processor.same]
    type = "sql"
    from = "ticks"
    query = "SELECT n FROM ticks"
    [output.gone]
    type = "drop"
    from = "same"
"#;

fn good(workshop: &Workshop, arguments: &[&str]) -> String {
    let ran = workshop.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// The lines of standard output as JSON.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn rows_are_shown_as_they_pass() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    daemon.put("ticks", TICKS, &[NEW]).is(201);
    let rows = lines(&good(&workshop, &["flows", "tap", "ticks", "same", "--rows", "3"]));
    assert!(rows.len() == 3 && rows.iter().all(|row| row["n"].is_u64()), "{rows:?}");
    let told = lines(&good(&workshop, &["flows", "tap", "ticks", "same", "--rows", "1", "--json"]));
    assert!(told[0]["source"][0] == "ticks" && told[0]["rows"].as_array().unwrap().len() == 1, "{told:?}");
    let wrong = workshop.run(&["flows", "tap", "ticks", "nobody"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("there is no node `nobody`"), "{}", wrong.stderr);
    daemon.stop();
}

#[test]
fn models_of_a_daemon_and_of_a_registry_are_steered_alike() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    let rows: String = (0..400).map(|n| format!("{n},{},{}\n", n % 7, n % 7 > 3)).collect();
    workshop.write("in/m.csv", &format!("n,x,late\n{rows}"));
    let train = r#"
        [input.rows]
        type = "file"
        path = "in/m.csv"
        format = "csv"
        [processor.learn]
        type = "train"
        from = "rows"
        model = "lateness"
        features = ["x"]
        label = "late"
        estimator = { type = "logistic_regression" }
        publish = { rows = 100 }
        [output.kept]
        type = "drop"
        from = "learn"
    "#;
    daemon.put("m", train, &[NEW]).is(201);
    daemon.wait_until("m", |flow| flow["state"] == "finished");
    let registry: &[&str] = &["--registry", "models"];
    let places = [registry, &["--socket", "admin.sock"]];
    let run = |command: &[&str], place: &[&str]| good(&workshop, &[&["models"], command, place].concat());
    for command in [
        &["list"][..],
        &["list", "--json"],
        &["versions", "lateness"],
        &["show", "lateness@latest"],
        &["show", "lateness/2", "--json"],
        &["lineage", "lateness"],
    ] {
        let [here, there] = places.map(|place| run(command, place));
        assert_eq!(here, there, "{command:?}");
        assert!(!here.is_empty());
    }
    let lineage: Value = serde_json::from_str(&run(&["lineage", "lateness/1"], places[1])).unwrap();
    assert!(lineage["inputs"]["rows"].is_object(), "{lineage}");
    assert_eq!(run(&["describe", "lateness", "Tells late trains."], places[0]), "lateness is described\n");
    assert_eq!(run(&["tag", "lateness/1", "owner=rail", "kept=no"], places[1]), "lateness/1 is tagged\n");
    assert_eq!(run(&["tag", "lateness/1", "kept=", "--remove", "owner"], places[0]), "lateness/1 is tagged\n");
    for (command, notes) in [
        (["notes", "lateness", "--json"], json!({"description": "Tells late trains.", "tags": {}})),
        (["notes", "lateness@champion", "--json"], json!({"description": "", "tags": {"kept": ""}})),
    ] {
        places.iter().for_each(|place| assert_eq!(lines(&run(&command, place)), std::slice::from_ref(&notes)));
    }
    assert_eq!(run(&["promote", "lateness", "2"], places[1]), "lateness@champion is now lateness/2\n");
    assert!(run(&["show", "lateness"], places[0]).contains("\"version\": 2"));
    assert_eq!(run(&["alias", "lateness", "old", "1"], places[0]), "lateness@old is now lateness/1\n");
    let named = lines(&run(&["versions", "lateness", "--json"], places[1]));
    assert_eq!(named.last().unwrap()["aliases"], json!(["old"]));
    assert_eq!(run(&["unalias", "lateness", "old"], places[1]), "lateness@old is gone\n");
    for place in places {
        for (command, said) in [
            (&["promote", "lateness", "99"][..], "no version 99"),
            (&["show", "nobody"], "there is no model `nobody`"),
            (&["show", "lateness@odd"], "no alias `odd`"),
            (&["versions", "nobody"], "there is no model `nobody`"),
            (&["tag", "nobody", "a=b"], "there is no model `nobody`"),
            (&["describe", "lateness/99", "x"], "no version 99"),
        ] {
            let wrong = workshop.run(&[&["models"], command, place].concat());
            assert!(wrong.code == 1 && wrong.stderr.contains(said), "{command:?}: {}", wrong.stderr);
        }
    }
    // Without a word, the folder that is here; where there is none, the daemon.
    std::fs::rename(workshop.path("models"), workshop.path("others")).unwrap();
    assert!(workshop.run(&["models", "list"]).stdout.contains("the daemon has no models"));
    daemon.stop();
    assert!(workshop.run(&["models", "list", "--registry", "others"]).stdout.contains("lateness/2"));
}

#[test]
fn refused_rows_are_listed() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "l", 0..3);
    let bad: String = (0..5).map(|number| format!("{{\"id\": \"bad {number}\"}}\n")).collect();
    workshop.write("in/l.ndjson", &(workshop.read("in/l.ndjson") + &bad));
    let text = follows("l").replace("on_error = \"fail\"", "on_error = { dead_letter = \"refused/\" }");
    daemon.put("l", &text, &[NEW]).is(201);
    daemon.wait_until("l", |flow| flow["rows"]["failed"] == 5);
    daemon.post("/api/v1/flows/l/stop").is(200);
    assert!(good(&workshop, &["dead-letters", "list", "l"]).contains("bad 4"));
    let rows = lines(&good(&workshop, &["dead-letters", "list", "l", "--limit", "2", "--json"]));
    assert!(rows.len() == 2 && rows[0]["row"]["id"] == "bad 0", "{rows:?}");
    assert_eq!(good(&workshop, &["dead-letters", "list", "l", "--node", "same", "--json"]), "");
    daemon.stop();
}

#[test]
fn refused_rows_are_shown_mended_sent_again_and_dropped() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "m", 0..1);
    append(&workshop, "m", 4..5);
    workshop.write("in/m.ndjson", &(workshop.read("in/m.ndjson") + "{\"id\": \"x\"}\n{\"id\": \"y\"}\n"));
    daemon.put("m", &refuses("m"), &[NEW]).is(201);
    daemon.wait_until("m", |flow| flow["rows"]["failed"] == 3);
    // Files of refused rows are whole when a minute has passed, or the flow stops.
    assert_eq!(good(&workshop, &["flows", "drain", "m"]), "flow `m` has stopped, and all that it has read is out\n");
    let letters = |arguments: &[&str]| {
        let command = [&["dead-letters", "list", "m", "--json"], arguments].concat();
        lines(&good(&workshop, &command))
    };
    let id = |row: Value| {
        let found = letters(&[]).into_iter().find(|letter| letter["row"]["id"] == row).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let (zero, x) = (id(json!(0)), id(json!("x")));
    let shown = good(&workshop, &["dead-letters", "show", "m", &zero]);
    assert!(shown.contains("{\"id\":0}") && shown.contains("same") && !shown.contains("mended"), "{shown}");
    let replay = |arguments: &[&str]| workshop.run(&[&["dead-letters", "replay", "m"], arguments].concat());
    let edit = format!("{zero}={{\"id\": 8}}");
    let early = replay(&["--edit", &edit]);
    assert!(early.code == 1 && early.stderr.contains("does not run"), "{}", early.stderr);
    good(&workshop, &["flows", "start", "m"]);
    let wrong = replay(&["--edit", &format!("{zero}=8")]);
    assert!(wrong.code == 2 && wrong.stderr.contains("ID={\"column\": value}"), "{}", wrong.stderr);
    let refused = replay(&["--id", &x]);
    assert!(refused.code == 1 && refused.stderr.contains("is not taken"), "{}", refused.stderr);
    let sent = replay(&["--edit", &edit]);
    assert_eq!(sent.stdout, "sent again: 1, had been before: 0\n", "{}", sent.stderr);
    let again = lines(&replay(&["--edit", &edit, "--to", "mended", "--json"]).stdout);
    assert_eq!(again, [json!({ "replayed": 0, "already": 1, "more": false })]);
    wait_for_rows(&workshop, "m", 2);
    assert_eq!(ids(&workshop, "m"), [125, 250]);
    assert!(good(&workshop, &["dead-letters", "show", "m", &zero]).contains("mended      true"));
    assert_eq!(letters(&["--waiting"]).len(), 2);

    let drop = |arguments: &[&str]| good(&workshop, &[&["dead-letters", "drop", "m"], arguments].concat());
    assert_eq!(drop(&["--id", &x]), "dropped: 1\n");
    assert_eq!(drop(&["--node", "rows", "--json"]), "{\"dropped\":1}\n");
    assert_eq!(drop(&["--all"]), "dropped: 1\n");
    assert!(letters(&[]).is_empty());
    let nothing = workshop.run(&["dead-letters", "drop", "m"]);
    assert!(nothing.code == 2 && nothing.stderr.contains("--id <ID>"), "{}", nothing.stderr);

    let checkpoints = lines(&good(&workshop, &["flows", "checkpoints", "m", "--json"]));
    assert!(checkpoints.iter().any(|checkpoint| checkpoint["trigger"] == "stop"), "{checkpoints:?}");
    assert!(good(&workshop, &["flows", "checkpoints", "m"]).contains("rows read"));
    let number = checkpoints[0]["number"].to_string();
    let one = good(&workshop, &["flows", "checkpoints", "m", "--number", &number]);
    assert!(one.contains(&format!("checkpoint  {number}")) && one.contains("mended"), "{one}");
    daemon.stop();
}

/// A terminal of a test, with a program on it.
struct Screen {
    input: ChildStdin,
    child: Child,
    output: Receiver<Vec<u8>>,
    terminal: vt100::Parser,
}

impl Screen {
    /// Starts the program by `script`, which every Debian has, and which makes a terminal. The crates that do bring other features of `libc`, with
    /// which everything would be compiled anew.
    fn start(workshop: &Workshop, arguments: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_millstream");
        let command = format!("stty rows 20 cols 100; exec {program} {arguments}");
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--flush", "--return", "--command", &command, "/dev/null"])
            .env("TERM", "xterm-256color");
        script.current_dir(workshop.path("")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().unwrap();
        let mut reader = child.stdout.take().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take().unwrap();
        let [rows, columns] = [20, 100].map(|size| NonZero::new(size).unwrap());
        Self { input, child, output, terminal: vt100::Parser::new(rows, columns, 0) }
    }

    /// Waits until something is on the screen.
    fn wait_for(&mut self, text: &str) {
        loop {
            let seen = self.terminal.screen().contents();
            if seen.contains(text) {
                return;
            }
            let Ok(bytes) = self.output.recv_timeout(PATIENCE) else { panic!("`{text}` is not in {seen}") };
            self.terminal.process(&bytes);
        }
    }

    fn press(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn flows_are_watched_on_a_terminal() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    daemon.put("ticks", TICKS, &[NEW]).is(201);
    let mut screen = Screen::start(&workshop, "top");
    screen.wait_for("ticks");
    screen.wait_for("running");
    screen.press("\r");
    screen.wait_for("flow ticks, 3 nodes");
    screen.wait_for("blocked");
    screen.press("\u{1b}");
    screen.wait_for("s sort");
    screen.press("s");
    screen.wait_for("by flow");
    // One that comes while somebody looks.
    daemon.put("more", TICKS, &[NEW]).is(201);
    screen.wait_for("more");
    screen.press("q");
    assert!(screen.child.wait().unwrap().success());
    daemon.stop();
}

#[test]
fn what_is_watched_is_printed_for_programs_too() {
    let workshop = Workshop::new();
    let nobody = workshop.run(&["top", "--json"]);
    assert!(nobody.code == 1 && nobody.stderr.contains("no daemon listens at"), "{}", nobody.stderr);
    let daemon = Daemon::start(&workshop);
    daemon.put("ticks", TICKS, &[NEW]).is(201);
    daemon.wait_until("ticks", |flow| flow["rows"]["read"].as_u64() > Some(0));
    let no_terminal = workshop.run(&["top"]);
    assert!(no_terminal.code == 1 && no_terminal.stderr.contains("`millstream top --json`"), "{}", no_terminal.stderr);
    let mut child = workshop.command(&["top", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let has_rate = |line: &Value| line["flows"][0]["read_per_s"].as_f64() > Some(0.0);
    let told = std::io::BufRead::lines(output).map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let line = told.into_iter().find(has_rate).unwrap();
    assert!(line["flows"][0]["name"] == "ticks" && line["lost"].is_null(), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
    daemon.stop();
}

/// Secrets as they could be anywhere. None is a part of another, and none has a word in it that is said anyhow.
const PLANTED: [&str; 10] = [
    "zq-in-the-flow-41c7",
    "zq in a file 8830",
    "zq-of-the-environment-552e",
    "zq-in-an-address-90af",
    "zq-in-a-flow-that-is-wrong-3d",
    "zq-in-a-message-27be",
    "zq-in-a-description-6b1",
    "zq-in-the-settings-c001",
    "zq-of-a-connection-77aa",
    "zq-over\\nlines-18",
];

/// The files of a bundle.
fn unpacked(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    files
}

#[test]
fn those_who_help_get_all_but_secrets() {
    let [
        in_flow,
        in_file,
        of_environment,
        in_address,
        in_wrong,
        in_message,
        in_description,
        in_settings,
        of_connection,
        over_lines,
    ] = PLANTED;
    let workshop = Workshop::new();
    workshop.write("secret", in_file);
    workshop.write(
        "millstream.toml",
        &format!("# password = \"{in_settings}\"\nstate = \"state\"\nadmin.socket = \"admin.sock\"\n"),
    );
    let flow = follows("s");
    let sends = |name: &str, auth: &str| {
        format!(
            "\n[output.{name}]\ntype = \"http\"\nfrom = \"same\"\nurl = \"http://127.0.0.1:9/\"\nformat = \"ndjson\"\n{auth}\n"
        )
    };
    let over_lines_toml = over_lines.replace("\\n", "\n");
    let text = format!(
        "# see mysql://me:{in_address}@db/x\n[flow]\ndescription = \"Authorization: Bearer {in_description}\"\n{flow}{}{}{}\n\
         [connection.c]\ntype = \"http\"\nurl = \"http://127.0.0.1:9/\"\nauth = {{ type = \"bearer\", token = \"{of_connection}\" }}\n",
        sends("a", &format!("auth = {{ type = \"bearer\", token = \"{in_flow}\" }}")),
        sends("b", "auth = { type = \"bearer\", token = { file = \"secret\" } }"),
        sends(
            "c",
            &format!("auth = {{ type = \"basic\", username = \"me\", password = \"\"\"{over_lines_toml}\"\"\" }}")
        ),
    );
    // What is said of the flow as a whole stands in its table.
    let text = text.replace("flow.epoch.interval = \"20ms\"", "").replace("checkpoint.interval = \"100ms\"", "");
    let daemon = Daemon::start(&workshop);
    daemon.put("s", &text, &[NEW]).is(201);
    // One that fails, and says why with a secret in it.
    let leaks = format!(
        "[input.rows]\ntype = \"file\"\npath = \"in/leak.csv\"\nformat = \"csv\"\nschema = {{ a = \"int64\" }}\non_error = \"fail\"\n\
         [output.out]\ntype = \"drop\"\nfrom = \"rows\"\n# api_key = '{in_wrong}'\n"
    );
    workshop.write("in/leak.csv", &format!("a\ntoken={in_message}\n"));
    daemon.put("leaks", &leaks, &[NEW]).is(201);
    daemon.wait_until("leaks", |flow| !flow["reason"].is_null());
    let mut command = workshop.command(&["support", "--output", "a.tar.gz", "--config", "millstream.toml"]);
    let ran: Ran = command.env("ZQ", of_environment).output().unwrap().into();
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let path = workshop.path("a.tar.gz");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpacked(&path);
    for name in [
        "flows/s/flow.toml",
        "flows/s/graph.json",
        "flows/leaks/errors.json",
        "flows/leaks/logs.json",
        "flows.json",
        "operations.json",
        "metrics.txt",
        "system.json",
        "program.txt",
        "settings/millstream.toml",
        "machine/kernel.txt",
        "missing.txt",
    ] {
        let file = files.get(&format!("millstream-support/{name}"));
        assert!(file.is_some_and(|file| !file.is_empty()), "{name}: {:?}", files.keys());
    }
    let said = format!("{}{}", ran.stdout, ran.stderr).into_bytes();
    for (name, bytes) in files.iter().chain([(&"what was said".to_owned(), &said)]) {
        let text = String::from_utf8(bytes.clone()).unwrap();
        for secret in PLANTED {
            let pieces =
                [secret.to_owned(), secret.replace("\\n", "\n"), secret.split("\\n").next().unwrap().to_owned()];
            for piece in pieces {
                assert!(!text.contains(&piece), "`{piece}` in {name}: {text}");
            }
        }
    }
    let text = String::from_utf8(files["millstream-support/flows/s/flow.toml"].clone()).unwrap();
    assert!(text.contains("SELECT id FROM rows") && text.contains("***"), "{text}");
    let again = workshop.run(&["support", "--output", "a.tar.gz"]);
    assert!(again.code == 1 && again.stderr.contains("a.tar.gz"), "nothing is written over: {}", again.stderr);
    let told = workshop.run(&["support", "--json"]).json();
    assert!(workshop.exists(told["file"].as_str().unwrap()) && told["bytes"].as_u64() > Some(100), "{told}");
    daemon.stop();
}

/// The lines of a shell that README.md shows in a section.
fn shown(section: &str) -> String {
    let readme = std::fs::read_to_string(project().join("README.md")).unwrap();
    let (_, behind) = readme.split_once(&format!("## {section}\n")).unwrap();
    let (_, behind) = behind.split_once("```sh\n").unwrap();
    behind.split_once("```").unwrap().0.to_owned()
}

/// In place of systemd, which containers don't have: begins a service, and waits until it says that it is ready.
const SYSTEMD_RUN: &str = r#"#!/bin/bash
while [[ $1 == --* ]]; do shift; done
"$@" 2> log & echo $! > pid
tail --pid=$! -f log --lines=+1 | grep --quiet --max-count=1 'ready: '
"#;

const SYSTEMCTL: &str = r#"#!/bin/bash
[[ $* == "--user stop millstream" ]] || exit 1
kill "$(cat pid)"
tail --pid="$(cat pid)" -f /dev/null
"#;

#[test]
fn a_service_runs_as_the_readme_says() {
    let workshop = Workshop::new();
    for (name, script) in [("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)] {
        let path = workshop.write(&format!("bin/{name}"), script);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_millstream")).parent().unwrap();
    let path = format!("{}:{}:{}", workshop.path("bin").display(), program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euxo", "pipefail", "-c", &shown("Run it as a service")]).current_dir(workshop.path(""));
    shell.env("PATH", path).env("MILLSTREAM__ADMIN__ADDRESS", "127.0.0.1:0");
    let ran: Ran = shell.output().unwrap().into();
    let log = || workshop.read("service/log");
    assert_eq!(ran.code, 0, "{}{}{}", ran.stdout, ran.stderr, log());
    assert!(ran.stdout.contains("ticks") && ran.stdout.contains("{\"n\":"), "{}", ran.stdout);
    assert!(ran.stdout.contains("flow `ticks` has stopped at checkpoint "), "{}", ran.stdout);
    assert!(ran.stdout.contains("ms_") && workshop.exists("service/support.tar.gz"), "{}", ran.stdout);
    assert!(log().contains("all flows have stopped at a checkpoint"), "{}", log());
    assert!(workshop.exists("service/state/ticks"));
}

#[test]
fn rows_of_a_flow_that_is_gone_have_an_end() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "g", 0..1);
    daemon.put("g", &follows("g"), &[NEW]).is(201);
    wait_for_rows(&workshop, "g", 1);
    let mut command = workshop.command(&["flows", "tap", "g", "same"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    good(&workshop, &["flows", "delete", "g"]);
    let ran: Ran = child.wait_with_output().unwrap().into();
    // It may have asked when the flow was gone already.
    assert!(
        ran.stderr.contains("the flow `g` is gone") || ran.stderr.contains("there is no flow `g`"),
        "{}",
        ran.stderr
    );
    daemon.stop();
}
