//! Flows that read a repository, with the real binary, which is killed: each change counts once.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::millstream::{Running, Workshop};
use crate::site::Site;

/// A folder with a repository and the binary.
struct RepositorySite {
    workshop: Workshop,
}

const FLOW: &str = r#"
    [flow]
    epoch = { rows = 20, interval = "30ms" }
    [checkpoint]
    interval = "50ms"
    [input.files]
    type = "git"
    url = "${REPOSITORY}"
    every = "20ms"
    [output.out]
    type = "file"
    from = "files"
    path = "out"
    format = "ndjson"
    rows = 1000
    every = "50ms"
"#;

impl Site for RepositorySite {
    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("REPOSITORY", self.repository().display().to_string())]
    }
}

impl RepositorySite {
    fn new() -> Self {
        let site = Self { workshop: Workshop::new() };
        site.workshop.write("flow.toml", FLOW);
        site.workshop.write("repository/first", "0");
        site.git(&["init", "--quiet"]);
        site.commit();
        site
    }

    fn repository(&self) -> PathBuf {
        self.workshop.path("repository")
    }

    fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.current_dir(self.repository()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main"]);
        let ran = command.args(arguments).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "work"]);
    }

    /// The visible rows as texts.
    fn changes(&self) -> Vec<String> {
        let text = |row: &serde_json::Value| {
            format!("{} {} {}", row["change"].as_str().unwrap(), row["path"].as_str().unwrap(), row["content"])
        };
        self.rows().iter().map(text).collect()
    }

    /// Waits for a change. A run to which nothing comes for minutes hangs, however slow the machine is.
    fn wait_for_change(&self, change: &str) {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let changes = self.changes();
            if changes.iter().any(|found| found == change) {
                return;
            }
            if changes.len() > seen {
                (seen, since) = (changes.len(), Instant::now());
            }
            assert!(since.elapsed() < Duration::from_secs(180), "{change} is not among {changes:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn each_change_of_a_file_counts_once_when_the_flow_is_killed() {
    let site = RepositorySite::new();
    for (round, point) in
        ["git-kept:1", "log-after-sync:1", "after-manifest:2", "before-manifest:2"].into_iter().enumerate()
    {
        site.workshop.write(&format!("repository/{round}"), point);
        site.workshop.write("repository/first", &round.to_string());
        site.commit();
        let mut command = site.command(&["--state", "state"]);
        command.env("MILLSTREAM_CRASH", point).stdout(Stdio::piped());
        let ran = Running::start(&mut command).wait();
        assert_eq!(ran.code, -1, "{point}: {}", ran.stderr);
    }
    let running = site.start();
    site.wait_for_change("added 3 \"before-manifest:2\"");
    std::fs::remove_file(site.workshop.path("repository/0")).unwrap();
    site.commit();
    site.wait_for_change("deleted 0 null");
    // History that is written anew has other commits, and the same files.
    site.workshop.write("repository/last", "x");
    site.git(&["add", "--all"]);
    site.git(&["commit", "--quiet", "--amend", "--message", "other"]);
    site.wait_for_change("added last \"x\"");
    running.stop();
    let changes = site.changes();
    let mut once = changes.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), changes.len(), "{changes:?}");
    for round in 0..4 {
        assert_eq!(
            changes.iter().filter(|change| change.starts_with(&format!("added {round} "))).count(),
            1,
            "{changes:?}"
        );
    }
    assert_eq!(changes.last().unwrap(), "added last \"x\"");
}

#[test]
fn a_branch_that_is_set_back_and_forth_changes_each_time() {
    let site = RepositorySite::new();
    let running = site.start();
    site.wait_for(1);
    site.workshop.write("repository/second", "x");
    site.commit();
    site.wait_for(2);
    for (rows, commit) in [(3, "HEAD~1"), (4, "ORIG_HEAD"), (5, "HEAD~1"), (6, "ORIG_HEAD")] {
        site.git(&["reset", "--quiet", "--hard", commit]);
        site.wait_for(rows);
    }
    running.stop();
    let (added, deleted) = ("added second \"x\"", "deleted second null");
    assert_eq!(site.changes()[1..], [added, deleted, added, deleted, added]);
}

#[test]
fn a_repository_that_is_not_there_and_a_missing_branch_are_said() {
    let site = RepositorySite::new();
    site.edit("every = \"20ms\"", "every = \"20ms\"\n    reference = \"nowhere\"");
    let why = site.failure(&["--state", "state"]);
    assert!(why.contains("there is no `refs/heads/nowhere` in"), "{why}");
    site.edit("\"${REPOSITORY}\"", "\"/nowhere/at/all\"");
    let why = site.failure(&["--state", "state"]);
    assert!(why.contains("asking for the tip of `/nowhere/at/all`"), "{why}");
}
