//! Runs the real binary in a folder of its own.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A folder for one test, with the binary to run in it.
pub struct Workshop {
    folder: tempfile::TempDir,
}

/// What a run of the binary printed.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The root of the project.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Python that has these packages, which are imported by these names; it is made in `target` by the first who asks.
#[cfg(any(feature = "delta", feature = "mongodb"))]
pub fn python(packages: &[&str], names: &str) -> PathBuf {
    let folder = project().join("target").join(packages[0].replace("==", "-"));
    let python = folder.join("bin/python");
    let works = |command: &mut Command| command.output().is_ok_and(|ended| ended.status.success());
    if !works(Command::new(&python).args(["-c", &format!("import {names}")])) {
        assert!(works(Command::new("python3").args(["-m", "venv"]).arg(&folder)), "Python 3 with venv is missing");
        let mut install = Command::new(&python);
        let installed = install.args(["-m", "pip", "install", "--quiet"]).args(packages).output().unwrap();
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    }
    python
}

/// Copies a folder and everything in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).into_iter().flatten().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { _ = std::fs::copy(entry.path(), to).unwrap() }
    }
}

impl Workshop {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The names of the files in a folder, hidden ones too, sorted.
    pub fn list(&self, name: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(name)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The command, in this folder, with no input.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.current_dir(&self.folder).args(arguments).stdin(std::process::Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs with text on standard input.
    pub fn feed(&self, arguments: &[&str], input: &str) -> Ran {
        use std::io::Write as _;
        use std::process::Stdio;
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// Runs a flow that must succeed, and returns the JSON line.
    pub fn run_json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = ["run", "--json"].iter().chain(arguments).copied().collect();
        let ran = self.run(&arguments);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.json()
    }
}

/// A run that goes on until it is stopped. A test that fails before takes it along.
pub struct Running(Option<Child>);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(Some(command.stderr(Stdio::piped()).spawn().unwrap()))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it was not stopped")
    }

    pub fn id(&mut self) -> u32 {
        self.child().id()
    }

    /// Whether it has a file open.
    pub fn has_open(&mut self, path: &Path) -> bool {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.id())).into_iter().flatten().flatten();
        files.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|open| open == path))
    }

    /// Whether it has come to its end by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    pub fn take_stdout(&mut self) -> ChildStdout {
        self.child().stdout.take().unwrap()
    }

    /// What it says, line by line.
    pub fn take_stderr(&mut self) -> Lines<BufReader<ChildStderr>> {
        BufReader::new(self.child().stderr.take().unwrap()).lines()
    }

    /// Ends it at once, and returns what it has said, for the message of a test that fails.
    pub fn last_words(&mut self) -> String {
        let _ = self.child().kill();
        let mut said = String::new();
        self.child().stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    /// Waits for it to end by itself.
    pub fn wait(mut self) -> Ran {
        self.0.take().expect("it was not stopped").wait_with_output().unwrap().into()
    }

    /// Waits until it takes the signal to stop as such: one that has hardly begun is ended by it.
    fn await_handler(&mut self) {
        let status = format!("/proc/{}/status", self.id());
        let handles = |status: String| {
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
            caught
                .is_some_and(|caught| u64::from_str_radix(caught, 16).unwrap() >> (Signal::TERM.as_raw() - 1) & 1 == 1)
        };
        let begin = Instant::now();
        while !self.has_ended() && !std::fs::read_to_string(&status).is_ok_and(handles) {
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not take signals");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it as a service manager does. It has to end well.
    pub fn stop(mut self) -> Ran {
        self.await_handler();
        let child = self.0.take().expect("it was not stopped");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ran {
    /// The last line of standard output as JSON.
    pub fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{}", self.stderr))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
