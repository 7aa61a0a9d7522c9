//! The language server, as editors talk to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::millstream::{Workshop, copy, project};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(180);

const FLOW: &str = r#"[input.rows]
type = "file"
path = "rows.csv"

[processor.grown]
type = "sql"
from = "rows"
query = "SELECT name, age + 1 AS age FROM rows WHERE age >= 18"

[processor.sorted]
type = "route"
from = "grown"
when = { old = "age > 99" }

[output.out]
type = "stdout"
from = "sorted.old"

[output.rest]
type = "drop"
from = "sorted.unmatched"
"#;

/// An editor in a folder, which has started the server.
struct Editor {
    workshop: Workshop,
    server: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    asked: u64,
}

impl Editor {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(prepare: impl FnOnce(&Workshop)) -> Self {
        let workshop = Workshop::new();
        workshop.write("rows.csv", "name,age\nAda,36\nTim,9\n");
        prepare(&workshop);
        let mut command = workshop.command(&["lsp"]);
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, messages) = channel();
        let output = BufReader::new(server.stdout.take().unwrap());
        std::thread::spawn(move || read_all(output, |message| sender.send(message).is_ok()));
        let input = server.stdin.take().unwrap();
        let mut editor = Self { workshop, server, input, messages, asked: 0 };
        let folder = json!([{ "uri": editor.uri(""), "name": "here" }]);
        let told =
            editor.ask("initialize", json!({ "capabilities": {}, "processId": null, "workspaceFolders": folder }));
        assert_eq!(told["capabilities"]["hoverProvider"], true, "{told}");
        editor.tell("initialized", json!({}));
        editor
    }

    fn uri(&self, name: &str) -> String {
        let path = self.workshop.path(name).canonicalize().unwrap_or_else(|_| self.workshop.path(name));
        format!("file://{}", path.display())
    }

    fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = json!("2.0");
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.input.flush().unwrap();
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(json!({ "method": method, "params": params }));
    }

    /// The next message that is such a one.
    fn wait(&self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.messages.recv_timeout(PATIENCE).expect("the server goes on");
            if is(&message) {
                return message;
            }
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.send(json!({ "id": id, "method": method, "params": params }));
        let answer = self.wait(|message| message["id"] == id);
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }

    /// Opens a document, and returns what is wrong with it.
    fn open(&mut self, name: &str, text: &str) -> Vec<Value> {
        let document = json!({ "uri": self.uri(name), "languageId": "toml", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
        self.diagnostics(name, 1)
    }

    fn change(&mut self, name: &str, version: i32, text: &str) -> Vec<Value> {
        let document = json!({ "uri": self.uri(name), "version": version });
        self.tell("textDocument/didChange", json!({ "textDocument": document, "contentChanges": [{ "text": text }] }));
        self.diagnostics(name, version)
    }

    fn diagnostics(&self, name: &str, version: i32) -> Vec<Value> {
        let uri = self.uri(name);
        let told = self.wait(|message| {
            let params = &message["params"];
            message["method"] == "textDocument/publishDiagnostics"
                && params["uri"] == uri
                && params["version"] == version
        });
        told["params"]["diagnostics"].as_array().unwrap().clone()
    }

    /// What could be written at `|`.
    fn complete(&mut self, text: &str) -> Vec<Value> {
        let (text, position) = cursor(text);
        self.change("flow.toml", 2, &text);
        let document = json!({ "uri": self.uri("flow.toml") });
        let told = self.ask("textDocument/completion", json!({ "textDocument": document, "position": position }));
        told.as_array().unwrap().clone()
    }

    fn labels(&mut self, text: &str) -> Vec<String> {
        let items = self.complete(text);
        items.iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
    }

    /// What is shown of what is behind `|`.
    fn hover(&mut self, text: &str) -> String {
        let (text, position) = cursor(text);
        self.change("flow.toml", 2, &text);
        let document = json!({ "uri": self.uri("flow.toml") });
        let told = self.ask("textDocument/hover", json!({ "textDocument": document, "position": position }));
        told["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    fn end(mut self) {
        self.ask("shutdown", Value::Null);
        self.tell("exit", Value::Null);
        assert!(self.server.wait().unwrap().success());
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn read_all(mut output: BufReader<ChildStdout>, mut take: impl FnMut(Value) -> bool) {
    loop {
        let (mut length, mut line) = (0, String::new());
        while output.read_line(&mut line).is_ok_and(|read| read > 0) && line != "\r\n" {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        if length == 0 || output.read_exact(&mut body).is_err() || !take(serde_json::from_slice(&body).unwrap()) {
            return;
        }
    }
}

/// The text without `|`, and where that stood.
fn cursor(text: &str) -> (String, Value) {
    let (before, after) = text.split_once('|').unwrap();
    let line = before.matches('\n').count();
    let character = before.rsplit('\n').next().unwrap().encode_utf16().count();
    (format!("{before}{after}"), json!({ "line": line, "character": character }))
}

/// What `check` says of a flow: line, column from 1 in characters, and message.
fn checked(workshop: &Workshop, name: &str) -> Vec<(u64, u64, String)> {
    let problems = workshop.run(&["check", "--json", name]).json()["problems"].as_array().unwrap().clone();
    let number = |problem: &Value, key: &str| problem[key].as_u64().unwrap_or(1);
    let said = |problem: &Value| {
        let help = problem["help"].as_str().map(|help| format!("\n{help}")).unwrap_or_default();
        let elsewhere = problem["line"].is_null();
        let message = problem["message"].as_str().unwrap();
        (
            number(problem, "line"),
            number(problem, "column"),
            if elsewhere { String::new() } else { format!("{message}{help}") },
        )
    };
    problems.iter().map(said).collect()
}

#[test]
fn what_is_wrong_is_marked_while_somebody_types() {
    let mut editor = Editor::start();
    assert_eq!(editor.open("flow.toml", FLOW), Vec::<Value>::new());
    let wrong = editor.change("flow.toml", 2, &FLOW.replace("SELECT name, age", "SELECT näme, /* \u{1F600} */ agee"));
    let messages: Vec<_> = wrong.iter().map(|one| one["message"].as_str().unwrap()).collect();
    assert!(messages.iter().any(|message| message.contains("there is no column `näme`")), "{messages:?}");
    let first = &wrong[0];
    // Umlauts are one unit.
    let marked = json!({ "start": { "line": 7, "character": 16 }, "end": { "line": 7, "character": 20 } });
    assert_eq!((&first["range"], &first["severity"], &first["source"]), (&marked, &json!(1), &json!("millstream")));
    assert!(wrong.iter().any(|one| one["severity"] == 3), "what follows from it is only said: {wrong:?}");
    // Emoji are two.
    let wrong = editor.change("flow.toml", 3, &FLOW.replace("SELECT name, age", "SELECT name, /* \u{1F600} */ agee"));
    assert_eq!(wrong[0]["range"]["start"], json!({ "line": 7, "character": 31 }), "{wrong:?}");
    assert!(wrong[0]["message"].as_str().unwrap().contains("did you mean `age`?"), "{wrong:?}");
    assert_eq!(editor.change("flow.toml", 4, FLOW), Vec::<Value>::new());
    let document = json!({ "uri": editor.uri("flow.toml") });
    editor.change("flow.toml", 5, "[input.rows]\n");
    editor.tell("textDocument/didClose", json!({ "textDocument": document }));
    assert_eq!(editor.diagnostics("flow.toml", 0), Vec::<Value>::new());
    editor.end();
}

#[test]
fn editors_say_of_flows_what_check_says() {
    let mut editor = Editor::start_with(|workshop| {
        copy(&project().join("flows"), &workshop.path("flows"));
        copy(&project().join("tests/broken"), &workshop.path("broken"));
    });
    let mut count = 0;
    for folder in ["flows", "broken"] {
        let names = editor.workshop.list(folder);
        for name in names.iter().filter(|name| name.ends_with(".toml")) {
            let path = format!("{folder}/{name}");
            // As an editor names it.
            let file = editor.uri(&path);
            let expected = checked(&editor.workshop, file.strip_prefix("file://").unwrap());
            let text = editor.workshop.read(&path);
            let found = editor.open(&path, &text);
            let problems: Vec<_> = found.iter().filter(|one| one["severity"] != 2).collect();
            let is_flow = text.contains("[input.") || text.contains("[processor.") || text.contains("[output.");
            if !is_flow && problems.is_empty() {
                continue;
            }
            assert_eq!(problems.len(), expected.len(), "{path}: {problems:#?}\n{expected:#?}");
            for (problem, (line, column, message)) in problems.iter().zip(&expected) {
                if message.is_empty() {
                    continue;
                }
                let said = problem["message"].as_str().unwrap();
                assert!(said.ends_with(message.as_str()), "{path}: {said} is not {message}");
                if said == message {
                    let start = &problem["range"]["start"];
                    let line_text = text.lines().nth(*line as usize - 1).unwrap_or_default();
                    let before: String = line_text.chars().take(*column as usize - 1).collect();
                    let units = before.encode_utf16().count() as u64;
                    assert_eq!(
                        (start["line"].as_u64(), start["character"].as_u64()),
                        (Some(line - 1), Some(units)),
                        "{path}"
                    );
                }
            }
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
    editor.end();
}

#[test]
fn what_could_be_written_is_offered() {
    let mut editor = Editor::start();
    editor.open("flow.toml", FLOW);
    assert!(editor.labels(&format!("{FLOW}[|")).contains(&"processor".to_owned()));
    let types = editor.labels(&format!("{FLOW}[processor.more]\ntype = \"|\"\n"));
    assert!(types.contains(&"sql".to_owned()) && !types.contains(&"stdout".to_owned()), "{types:?}");
    let unquoted = editor.complete(&format!("{FLOW}[output.more]\ntype = |\n"));
    let edit = unquoted.iter().find(|item| item["label"] == "\"stdout\"").unwrap();
    assert_eq!(edit["textEdit"]["newText"], "\"stdout\"");
    let settings = editor.labels(&format!("{FLOW}[processor.more]\ntype = \"sql\"\n|\n"));
    assert_eq!(settings[..2], ["from", "query"], "what has to be said is first: {settings:?}");
    assert!(!settings.contains(&"type".to_owned()) && settings.contains(&"on_error".to_owned()), "{settings:?}");
    let values = editor.labels(&format!("{FLOW}[processor.more]\ntype = \"sql\"\non_error = \"|\"\n"));
    assert!(values.contains(&"drop".to_owned()), "{values:?}");
    let ports = editor.labels(&format!("{FLOW}[processor.more]\ntype = \"sql\"\nfrom = \"|\"\n"));
    assert_eq!(ports, ["rows", "grown", "sorted.old", "sorted.unmatched"]);
    let columns =
        editor.complete(&format!("{FLOW}[processor.more]\ntype = \"sql\"\nfrom = \"grown\"\nquery = \"SELECT na|\"\n"));
    let labels: Vec<_> = columns.iter().map(|item| &item["label"]).collect();
    assert_eq!(labels, ["name", "age"], "{columns:?}");
    assert_eq!(columns[0]["textEdit"]["range"]["start"]["character"], 16, "what is typed is replaced: {columns:?}");
    let open =
        editor.labels(&format!("{FLOW}[processor.more]\ntype = \"sql\"\nfrom = \"rows\"\nquery = \"\"\"\nSELECT |"));
    assert_eq!(open, ["name", "age"], "also in a text that is not closed yet");
    let keys = editor.labels(&format!("{FLOW}[processor.more]\ntype = \"dedup\"\nfrom = \"grown\"\nkeys = [\"|\"]\n"));
    assert_eq!(keys, ["name", "age"]);
    let learns = "[processor.learn]\ntype = \"train\"\nfrom = \"grown\"\nmodel = \"m\"\n";
    let unused = FLOW.replace("SELECT name, age + 1 AS age", "SELECT age").replace("WHERE age >= 18", "ORDER");
    let unused =
        editor.labels(&format!("{unused}[processor.more]\ntype = \"sql\"\nfrom = \"rows\"\nquery = \"SELECT |\"\n"));
    assert_eq!(unused, ["name", "age"], "also those that nobody uses yet");
    let estimators = editor.labels(&format!("{FLOW}{learns}estimator = {{ type = \"|\" }}\n"));
    assert!(estimators.contains(&"logistic_regression".to_owned()), "{estimators:?}");
    let of_estimator = editor.labels(&format!("{FLOW}{learns}estimator = {{ type = \"logistic_regression\", | }}\n"));
    assert!(of_estimator.contains(&"learning_rate".to_owned()), "{of_estimator:?}");
    let path = editor.labels(&format!("{FLOW}[output.more]\ntype = \"file\"\nfrom = \"grown\"\npath = \"|\"\n"));
    assert_eq!(path, Vec::<String>::new(), "a path is no column");
    assert_eq!(editor.labels(&format!("{FLOW}# from = \"|\"\n")), Vec::<String>::new());
    editor.end();
}

#[test]
fn a_mistake_is_mended_as_it_is_advised() {
    let mut editor = Editor::start();
    for (right, wrong) in
        [("from = \"grown\"", "from = \"grwon\""), ("age + 1 AS", "agee + 1 AS"), ("query = ", "qurey = ")]
    {
        let text = FLOW.replacen(right, wrong, 1);
        let diagnostics = editor.open("flow.toml", &text);
        let document = json!({ "uri": editor.uri("flow.toml") });
        let asked = json!({ "textDocument": document, "range": diagnostics[0]["range"], "context": { "diagnostics": diagnostics } });
        let fixes = editor.ask("textDocument/codeAction", asked);
        let edits = &fixes[0]["edit"]["changes"][editor.uri("flow.toml")];
        let (range, meant) = (&edits[0]["range"], edits[0]["newText"].as_str().unwrap());
        let line = text.lines().nth(range["start"]["line"].as_u64().unwrap() as usize).unwrap();
        let at = |end: &str| range[end]["character"].as_u64().unwrap() as usize;
        let mended = format!("{}{meant}{}", &line[..at("start")], &line[at("end")..]);
        assert!(FLOW.lines().any(|line| line == mended), "{mended}: {fixes:#}");
    }
    editor.end();
}

#[test]
fn what_settings_are_for_is_shown() {
    let mut editor = Editor::start();
    editor.open("flow.toml", FLOW);
    let at = |text: &str| FLOW.replacen(text, &format!("|{text}"), 1);
    let kind = editor.hover(&at("sql\""));
    assert!(kind.contains("**processor `sql`**") && kind.contains("A query over one stream"), "{kind}");
    let node = editor.hover(&at("grown]"));
    assert!(node.contains("A query over one stream") && node.contains("- `age`: int64"), "{node}");
    let setting = editor.hover(&at("query = "));
    assert!(setting.contains("**`query`** (text; required)") && setting.contains("SELECT"), "{setting}");
    let port = editor.hover(&at("sorted.old\""));
    assert!(port.contains("- `name`: utf8"), "{port}");
    assert_eq!(editor.hover(&format!("# |comment\n{FLOW}")), "");
    editor.end();
}

#[test]
fn a_document_that_is_no_flow_or_no_toml_is_no_trouble() {
    let mut editor = Editor::start();
    assert_eq!(editor.open("Cargo.toml", "[package]\nname = 3\n"), Vec::<Value>::new());
    let never = "[input.a\n= = ]\n\"\"\"[[[{{{\n'''\u{1F600}";
    assert!(!editor.open("never.toml", never).is_empty());
    for line in 0..6 {
        for character in 0..12 {
            let at = json!({ "textDocument": { "uri": editor.uri("never.toml") }, "position": { "line": line, "character": character } });
            editor.ask("textDocument/completion", at.clone());
            editor.ask("textDocument/hover", at);
        }
    }
    // One of another world, and one that was never opened.
    let at = json!({ "textDocument": { "uri": "untitled:Untitled-1" }, "position": { "line": 9, "character": 9 } });
    assert!(editor.ask("textDocument/hover", at).is_null());
    editor.asked += 1;
    let id = editor.asked;
    editor.send(json!({ "id": id, "method": "textDocument/rename", "params": {} }));
    assert_eq!(editor.wait(|message| message["id"] == id)["error"]["code"], -32601);
    // Every beginning of a flow, as it is typed.
    editor.open("flow.toml", "");
    for (version, (end, _)) in FLOW.char_indices().step_by(7).enumerate() {
        let document = json!({ "uri": editor.uri("flow.toml"), "version": version + 2 });
        let change = json!({ "textDocument": document, "contentChanges": [{ "text": &FLOW[..end] }] });
        editor.tell("textDocument/didChange", change);
    }
    assert_eq!(editor.change("flow.toml", 1000, FLOW), Vec::<Value>::new());
    editor.end();
}

#[test]
fn a_large_document_holds_nobody_up() {
    let mut editor = Editor::start();
    let nodes: String = (0..300)
        .map(|n| format!("[processor.n{n}]\ntype = \"sql\"\nfrom = \"rows\"\nquery = \"SELECT agee FROM rows\"\n\n"))
        .collect();
    let text = format!("{FLOW}{nodes}");
    let document = json!({ "uri": editor.uri("flow.toml"), "languageId": "toml", "version": 1, "text": &text });
    editor.tell("textDocument/didOpen", json!({ "textDocument": document }));
    let at = json!({ "textDocument": { "uri": editor.uri("flow.toml") }, "position": { "line": 3, "character": 0 } });
    // It is answered, whether the check is done or not.
    assert!(!editor.ask("textDocument/completion", at).as_array().unwrap().is_empty());
    let wrong = editor.change("flow.toml", 2, &text);
    assert_eq!(wrong.len(), 300);
    let comment = format!("{FLOW}# {}\n", "ä\u{1F600}".repeat(500_000));
    assert_eq!(editor.change("flow.toml", 3, &comment), Vec::<Value>::new());
    editor.end();
}

#[test]
fn secrets_are_not_told_to_editors() {
    let mut editor = Editor::start_with(|workshop| _ = workshop.write("key", "plain-as-day\n"));
    let told = editor.open(
        "flow.toml",
        &format!("{FLOW}\n[output.http]\ntype = \"http\"\nfrom = \"grown\"\nurl = \"plain-as-day\"\nauth = {{ type = \"bearer\", token = {{ file = \"key\" }} }}\n"),
    );
    assert!(!told.is_empty() && !json!(told).to_string().contains("plain-as-day"), "{told:?}");
    editor.end();
}

#[test]
fn an_editor_that_leaves_ends_the_server() {
    let mut editor = Editor::start();
    drop(std::mem::replace(&mut editor.input, gone()));
    assert!(editor.server.wait().is_ok());
}

/// Something to write to that nobody reads.
fn gone() -> ChildStdin {
    let mut child = std::process::Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take().unwrap();
    child.wait().unwrap();
    input
}

#[test]
fn the_page_about_editors_starts_what_there_is() {
    let page = std::fs::read_to_string(project().join("conf/EDITORS.md")).unwrap();
    for editor in ["VS Code", "Helix", "Neovim", "Emacs"] {
        assert!(page.contains(&format!("## {editor}")), "{editor}");
    }
    assert!(page.matches("millstream").count() > 4 && page.contains("\"lsp\""));
}
