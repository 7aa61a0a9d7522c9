//! What is asked of `git`: the tip of a branch, what has changed since another commit, and what is in files.
//!
//! The command gets no shell, no terminal, no configuration of the machine or the user, no helpers and no hooks, speaks one protocol with one
//! server, and follows no redirects. Files are never checked out: a repository is a store of objects, of which those are read that are asked for.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_core::{Error, Result, ResultExt as _};

/// The tree of no files, which every repository has.
const NO_FILES: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Where the tip is kept.
const TIP: &str = "refs/millstream/tip";

/// How it is kept from doing anything else.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    // What was fetched outlives any crash, as the note does that speaks of it.
    "core.fsync=all",
    "core.fsmonitor=false",
    "credential.helper=",
    "protocol.allow=never",
    "http.followRedirects=false",
    // One that sends less than that for so many seconds is given up.
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "maintenance.auto=false",
];

/// A repository, and how it is reached.
#[derive(Clone, Debug)]
pub struct Remote {
    pub url: String,
    /// The protocol that may be spoken.
    pub protocol: &'static str,
    /// A branch or a tag, by its full name.
    pub reference: String,
    pub user: String,
    pub token: Option<String>,
}

/// A copy of what is needed of one.
#[derive(Clone, Debug)]
pub struct Repository {
    pub remote: Remote,
    pub folder: PathBuf,
}

/// What a file has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: Vec<u8>,
    pub kind: ChangeKind,
    /// The object with what is in it, if it is there.
    pub object: Option<String>,
}

/// How a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Changed,
    Deleted,
}

impl Remote {
    /// The command, in a folder.
    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new("git");
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
        command.env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_NO_LAZY_FETCH", "1").env("LC_ALL", "C");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(["-c", &format!("protocol.{}.allow=always", self.protocol)]);
        if let Some(token) = &self.token {
            // Others on this machine see arguments.
            let login = STANDARD.encode(format!("{}:{token}", self.user));
            command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "http.extraHeader");
            command.env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {login}"));
        }
        command.stdin(Stdio::null()).current_dir(folder);
        command
    }

    fn failed(&self, doing: &str, output: &Output) -> Error {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
        Error::transient(format!("{doing} of `{}`: {}", self.url, said.join("; ")))
    }

    /// The commit that the branch or tag is at. None if there is no such.
    pub fn tip(&self, folder: &Path) -> Result<Option<String>> {
        let peeled = format!("{}^{{}}", self.reference);
        let mut command = self.command(folder);
        command.args(["ls-remote", "--", &self.url, &self.reference, &peeled]);
        let output = command.output().doing(|| "running `git`")?;
        if !output.status.success() {
            return Err(self.failed("asking for the tip", &output));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = |name: &str| {
            let line = text.lines().find_map(|line| line.split_once('\t').filter(|(_, of)| *of == name));
            line.map(|(commit, _)| commit.to_owned())
        };
        // A tag with a message is an object of its own.
        Ok(found(&peeled).or_else(|| found(&self.reference)))
    }
}

impl Repository {
    fn git(&self, arguments: &[&str], doing: &str) -> Result<Vec<u8>> {
        let output = self.remote.command(&self.folder).args(arguments).output().doing(|| "running `git`")?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.remote.failed(doing, &output)) }
    }

    /// Gets what the tip has, which stays here, and returns its commit.
    pub fn fetch(&self) -> Result<String> {
        if !self.folder.join("HEAD").is_file() {
            std::fs::create_dir_all(&self.folder).doing(|| format!("creating `{}`", self.folder.display()))?;
            self.git(&["init", "--quiet", "--bare", "."], "making a copy")?;
        }
        let what = format!("+{}:{TIP}", self.remote.reference);
        let fetch =
            ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--", &self.remote.url, &what];
        self.git(&fetch, "fetching")?;
        let said = self.git(&["log", "-1", "--format=%H", TIP], "reading the tip")?;
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// When a commit was made, in microseconds since 1970.
    pub fn committed_at(&self, commit: &str) -> Result<i64> {
        let said = self.git(&["log", "-1", "--format=%ct", "--end-of-options", commit], "reading a commit")?;
        let time = String::from_utf8_lossy(&said).trim().to_owned();
        let seconds: i64 = time.parse().map_err(|_| Error::new(format!("`{time}` is no time of a commit")))?;
        Ok(seconds.saturating_mul(1_000_000))
    }

    /// What has changed between two commits, or since the beginning. What is no file, such as a link, is left out.
    pub fn changes(&self, before: Option<&str>, now: &str) -> Result<Vec<Change>> {
        let compare = ["diff-tree", "-r", "-z", "--no-renames", "--end-of-options", before.unwrap_or(NO_FILES), now];
        let said = self.git(&compare, "comparing commits")?;
        let mut fields = said.split(|byte| *byte == 0);
        let mut changes = Vec::new();
        while let (Some(what), Some(path)) = (fields.next(), fields.next()) {
            let what = String::from_utf8_lossy(what).into_owned();
            changes.extend(change(&what, path));
        }
        Ok(changes)
    }

    /// What reads objects.
    pub fn objects(&self) -> Result<Objects> {
        let mut command = self.remote.command(&self.folder);
        command
            .args(["cat-file", "--batch-command"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().doing(|| "running `git`")?;
        let gone = || Error::new("`git` takes no questions");
        let (asked, answers) = (child.stdin.take().ok_or_else(gone)?, child.stdout.take().ok_or_else(gone)?);
        Ok(Objects { child, asked, answers: BufReader::new(answers) })
    }
}

/// A line of `git diff-tree`, such as `:100644 100644 a5c1… 7b21… M`, and the path behind it.
fn change(what: &str, path: &[u8]) -> Option<Change> {
    let [before, now, _, object, status] = what.strip_prefix(':')?.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let is_file = |mode: &str| matches!(mode, "100644" | "100755");
    let kind = match (status, is_file(before), is_file(now)) {
        ("D", true, _) | (_, true, false) => ChangeKind::Deleted,
        (_, false, true) => ChangeKind::Added,
        (_, true, true) => ChangeKind::Changed,
        _ => return None,
    };
    let object = (kind != ChangeKind::Deleted).then(|| object.to_owned());
    Some(Change { path: path.to_vec(), kind, object })
}

/// Reads objects of a repository, one after the other.
pub struct Objects {
    child: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Objects {
    /// How many bytes an object has. None if it is not there.
    pub fn size(&mut self, object: &str) -> Result<Option<usize>> {
        self.ask("info", object)
    }

    /// What is in an object. None if it is not there.
    pub fn read(&mut self, object: &str) -> Result<Option<Vec<u8>>> {
        let Some(size) = self.ask("contents", object)? else { return Ok(None) };
        let mut bytes = vec![0; size + 1];
        self.answers.read_exact(&mut bytes).doing(|| "reading what `git` answers")?;
        bytes.pop();
        Ok(Some(bytes))
    }

    fn ask(&mut self, what: &str, object: &str) -> Result<Option<usize>> {
        writeln!(self.asked, "{what} {object}").and_then(|()| self.asked.flush()).doing(|| "asking `git`")?;
        let mut line = String::new();
        self.answers.read_line(&mut line).doing(|| "reading what `git` answers")?;
        let fields: Vec<_> = line.split_whitespace().collect();
        match fields.as_slice() {
            [_, "blob", size] => Ok(size.parse().ok()),
            [_, "missing"] => Ok(None),
            _ => Err(Error::new(format!("`git` answers `{}` when asked for `{object}`", line.trim()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_change() {
        let kind = |what: &str| change(what, b"a").map(|change| (change.kind, change.object));
        let object = || Some("7b2".to_owned());
        assert_eq!(kind(":000000 100644 000 7b2 A"), Some((ChangeKind::Added, object())));
        assert_eq!(kind(":100644 100755 a5c 7b2 M"), Some((ChangeKind::Changed, object())));
        assert_eq!(kind(":100644 000000 a5c 000 D"), Some((ChangeKind::Deleted, None)));
        assert_eq!(kind(":100644 120000 a5c 7b2 T"), Some((ChangeKind::Deleted, None)));
        assert_eq!(kind(":120000 100644 a5c 7b2 T"), Some((ChangeKind::Added, object())));
        for other in [":000000 160000 000 7b2 A", ":120000 000000 7b2 000 D", "", ":1 2"] {
            assert_eq!(kind(other), None, "{other}");
        }
    }
}
