//! Servers that tests talk to, as `tests/services` starts them.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// The environment variable that says that there are servers to test with. `tests/run` sets it.
const VARIABLE: &str = "MILLSTREAM_TEST_SERVICES";

/// Servers of a test process's own. They end with it, however that ends, and with this value.
#[derive(Debug)]
pub struct Services {
    variables: HashMap<String, String>,
    script: Mutex<Script>,
}

/// The script that holds the servers, until its standard input ends.
#[derive(Debug)]
struct Script {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Services {
    /// Starts servers for a test. None where tests are to do without, which is said.
    #[expect(clippy::print_stderr, reason = "the test harness shows it")]
    pub fn start(names: &[&str]) -> Option<Self> {
        if std::env::var_os(VARIABLE).is_none() {
            let names = names.join(" and ");
            eprintln!(
                "skipped: it needs {names}; `tests/run` brings them, or set {VARIABLE}=1 where `tests/services` can"
            );
            return None;
        }
        Some(Self::run(names))
    }

    /// Starts servers, and waits until they answer.
    pub fn run(names: &[&str]) -> Self {
        Self::run_in(&std::env::temp_dir(), names)
    }

    /// Starts servers that keep what they have in this folder until they end, and waits until they answer.
    pub fn run_in(folder: &Path, names: &[&str]) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/services");
        let mut command = Command::new(path);
        command.env("TMPDIR", folder);
        let mut child = command.arg("run").args(names).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut script = Script { child, commands, answers };
        let lines = script.answer();
        let variables = lines.iter().map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        Self { variables: variables.collect(), script: script.into() }
    }

    /// What the script has said about the servers: `KAFKA_BROKERS`, say.
    ///
    /// # Panics
    /// If it has not said that.
    pub fn get(&self, variable: &str) -> &str {
        self.variables.get(variable).unwrap_or_else(|| panic!("`tests/services` says no {variable}"))
    }

    /// Ends a server in the midst of its work.
    pub fn kill(&self, name: &str) {
        self.script.lock().unwrap().call(&format!("kill {name}"));
    }

    /// Starts a server again that was killed, with what it has kept.
    pub fn start_again(&self, name: &str) {
        self.script.lock().unwrap().call(&format!("start {name}"));
    }
}

impl Script {
    fn call(&mut self, command: &str) {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        self.answer();
    }

    /// The lines up to an empty one.
    fn answer(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let length = self.answers.read_line(&mut line).unwrap();
            assert!(length > 0, "`tests/services` has ended; it says why above");
            match line.trim_end() {
                "" => return lines,
                line => lines.push(line.to_owned()),
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}
