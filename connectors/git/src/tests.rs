//! The suite that every node passes, with a repository of this machine.

use std::path::Path;
use std::process::Command;

use millstream_core::NodeTypes;
use millstream_testkit::{InputSamples, Source, check_inputs};

use crate::register;

const WRONG: &[(&str, &str)] = &[
    ("url = 'ssh://a/b'", "url"),
    ("url = 'https://me:canary@a/b'", "url"),
    ("url = '/a b'", "url"),
    ("url = 'ext::sh -c true'", "url"),
    ("url = '/a'\nreference = '--upload-pack=x'", "reference"),
    ("url = '/a'\nreference = 'a..b'", "reference"),
    ("url = '/a'\npaths = ['a', '[']", "paths.1"),
    ("url = '/a'\ntoken = 'canary'", "token"),
    ("url = '/a'\nmax_file = '0B'", "max_file"),
    ("url = '/a'\nmax_log = '1MiB'", "max_log"),
];

fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_COMMITTER_DATE", "2026-01-31T12:00:00Z");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main"]);
    let ran = command.args(arguments).env("GIT_AUTHOR_DATE", "2026-01-31T12:00:00Z").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

fn commit(folder: &Path, files: &[(&str, Option<&[u8]>)]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
    }
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--message", "work"]);
}

#[test]
fn inputs() {
    let mut types = NodeTypes::default();
    register(&mut types);
    let repository = tempfile::tempdir().unwrap();
    let folder = repository.path();
    git(folder, &["init", "--quiet"]);
    // A hook that would spoil all.
    std::fs::write(folder.join(".git/hooks/post-checkout"), "#!/bin/sh\nexit 1\n").unwrap();
    commit(folder, &[("a.md", Some(b"one")), ("docs/b.md", Some(b"two\n")), ("c.bin", Some(b"\xff"))]);
    std::os::unix::fs::symlink("a.md", folder.join("link.md")).unwrap();
    commit(folder, &[("a.md", Some(b"changed")), ("big.md", Some(&[b'x'; 200])), ("docs/b.md", None)]);
    git(folder, &["tag", "--annotate", "v1", "--message", "first"]);
    let settings = |more: &str| format!("url = '{}'\nmax_file = '100B'\nevery = '10ms'\n{more}", folder.display());
    let sources = vec![
        Source::new(settings("reference = 'refs/tags/v1'"), 1, 2, |_| {}),
        Source::new(settings("paths = ['*.md', '*.bin']\ncontent = 'binary'"), 2, 1, |_| {}),
        Source::new(settings("paths = ['nothing']"), 0, 0, |_| {}),
    ];
    check_inputs(
        &types,
        &[InputSamples {
            node: "git",
            sources,
            wrong: WRONG,
            excuses: &[(millstream_testkit::Lacks::Nulls, "files that are deleted come in flows that run on")],
        }],
    );
}
