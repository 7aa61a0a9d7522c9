//! What tests of flows do that talk to servers: they run `flow.toml` of a workshop with an environment, let it fail, kill it, and look at
//! the rows that it has written.

use std::process::{Command, Stdio};

use millstream_testkit::await_progress;
use serde_json::Value;

use crate::millstream::{Ran, Running, Workshop};

/// A folder with the flow `flow.toml`, and the environment that it runs in.
pub trait Site {
    fn workshop(&self) -> &Workshop;

    /// The variables of the environment.
    fn variables(&self) -> Vec<(&'static str, String)>;

    /// Changes the flow file.
    fn edit(&self, from: &str, to: &str) {
        let flow = self.workshop().read("flow.toml");
        assert!(flow.contains(from), "{from}");
        self.workshop().write("flow.toml", &flow.replace(from, to));
    }

    /// The command that runs the flow.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.workshop().command(&[&["run", "--json", "flow.toml"], arguments].concat());
        command.envs(self.variables());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// A run that has to come to its end.
    fn finish(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        ran
    }

    /// A run that has to fail, and why.
    fn failure(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        ran.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    /// Waits for a run that has to fail, and why.
    fn failure_of(&self, running: Running) -> String {
        let ran = running.wait();
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        ran.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    /// A run with state that is killed at a step, if it comes there.
    fn crash(&self, point: &str) -> bool {
        let killed = self.command(&["--state", "state"]).env("MILLSTREAM_CRASH", point).output().unwrap();
        let is_killed = killed.status.code().is_none();
        assert!(is_killed || killed.status.success(), "{point}: {}", Ran::from(killed).stderr);
        is_killed
    }

    /// Starts a run with state, which goes on until it is stopped.
    fn start(&self) -> Running {
        Running::start(self.command(&["--state", "state"]).stdout(Stdio::piped()))
    }

    /// The rows that are visible in the folder `out`, in the order in which they were written.
    fn rows(&self) -> Vec<Value> {
        let names = self.workshop().list("out").into_iter().filter(|name| !name.starts_with('.'));
        let rows = |name: String| {
            let text = self.workshop().read(&format!("out/{name}"));
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        };
        names.flat_map(rows).collect()
    }

    /// Their column `id`, sorted.
    fn ids(&self) -> Vec<usize> {
        let mut ids: Vec<_> = self.rows().iter().map(|row| row["id"].as_u64().unwrap() as usize).collect();
        ids.sort_unstable();
        ids
    }

    /// What was written of rows that were refused.
    fn refused(&self) -> String {
        let names = self.workshop().list("refused").into_iter();
        names.map(|name| self.workshop().read(&format!("refused/{name}"))).collect()
    }

    /// Waits until so many rows are visible.
    fn wait_for(&self, rows: usize) {
        await_progress(|| {
            let seen = self.rows().len();
            if seen < rows { Err(format!("{seen} of {rows} rows are visible")) } else { Ok(()) }
        });
    }
}
