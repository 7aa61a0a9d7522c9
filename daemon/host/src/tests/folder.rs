//! Flows that come, change and go with their files.

use std::path::Path;
use std::time::Duration;

use super::{Site, ada, end, open};
use crate::{Desired, FlowFolder, FolderChange, State};

const ENDLESS: &str = "input.n = { type = 'numbers' }\noutput.o = { type = 'remember', from = 'n', place = 'PLACE' }\n";

fn endless(place: &str) -> String {
    ENDLESS.replace("PLACE", place)
}

/// What has changed, in short.
async fn scan(folder: &mut FlowFolder) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let said = |change| match change {
        FolderChange::Applied { path, flow, revision } => format!("{}: {flow} {revision}", name(&path)),
        FolderChange::Removed { path, flow } => format!("{}: {flow} removed", name(&path)),
        FolderChange::Refused { path, flow, reason } => {
            let reason = reason.lines().next().unwrap().rsplit(": ").next().unwrap().to_owned();
            format!("{}: {flow:?} {reason}", name(&path))
        }
    };
    folder.scan().await.unwrap().into_iter().map(said).collect()
}

#[tokio::test]
async fn flows_come_change_and_go_with_their_files() {
    let site = Site::new(None);
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
    let mut folder = FlowFolder::open(files.path().to_owned(), site.host.clone()).await.unwrap();
    write("a.toml", &endless("folder_a"));
    write("b.toml", &endless("folder_b"));
    write(".b.toml.swp", "x");
    write("notes.txt", "x");
    assert_eq!(scan(&mut folder).await, ["a.toml: a 1", "b.toml: b 1"]);
    settled(&site).await;
    assert!(scan(&mut folder).await.is_empty(), "nothing has changed");
    site.wait_for("a", State::Running).await;

    write("a.toml", "input.n = { type = 'number' }");
    let refused = scan(&mut folder).await;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("a.toml: Some(\"a\") "), "{refused:?}");
    assert!(scan(&mut folder).await.is_empty(), "it is said once");
    assert_eq!(site.host.flow("a").unwrap().status.state, State::Running);

    write("a.toml", &format!("{}# better\n", endless("folder_a")));
    std::fs::remove_file(files.path().join("b.toml")).unwrap();
    assert_eq!(scan(&mut folder).await, ["b.toml: b removed", "a.toml: a 2"]);
    settled(&site).await;
    assert!(site.host.flow("b").is_none());

    write("c.toml", &format!("flow.name = 'a'\n{}", endless("folder_c")));
    let twice = scan(&mut folder).await;
    assert!(twice[0].contains("is in `") && twice[0].contains("already"), "{twice:?}");
    write("a.toml", &format!("flow.name = 'renamed'\n{}", endless("folder_a")));
    assert_eq!(scan(&mut folder).await, ["a.toml: a removed", "a.toml: renamed 1"]);
    settled(&site).await;
    assert_eq!(scan(&mut folder).await, ["c.toml: a 3"], "the name is free");
}

#[tokio::test]
async fn flows_go_on_anew_when_files_have_changed_that_they_name() {
    let site = Site::new(None);
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
    write("a.toml", &format!("flow.connections = 'shared.conf'\n{}", endless("folder_names")));
    let mut folder = FlowFolder::open(files.path().to_owned(), site.host.clone()).await.unwrap();
    let refused = scan(&mut folder).await;
    assert!(refused[0].starts_with("a.toml: None "), "{refused:?}");
    assert!(scan(&mut folder).await.is_empty(), "it is said once");
    for (revision, (name, text)) in
        [("shared.conf", ""), ("shared.conf", "# more"), ("a.lock", "version = 1")].iter().enumerate()
    {
        write(name, text);
        assert_eq!(scan(&mut folder).await, [format!("a.toml: a {}", revision + 1)]);
        settled(&site).await;
        assert!(scan(&mut folder).await.is_empty(), "nothing has changed");
    }
    write("a.lock", "version = 0");
    let refused = scan(&mut folder).await;
    assert!(refused[0].starts_with("a.toml: Some(\"a\") "), "{refused:?}");
    assert_eq!(site.host.flow("a").unwrap().status.state, State::Running);
    write("a.lock", "version = 1");
    assert_eq!(scan(&mut folder).await, ["a.toml: a 4"]);
    settled(&site).await;
    site.host.shut_down(Duration::from_secs(60)).await;

    // Also those that were named before the process began.
    let mut folder = FlowFolder::open(files.path().to_owned(), open(&site.folder, None)).await.unwrap();
    assert!(scan(&mut folder).await.is_empty(), "nothing has changed");
    write("shared.conf", "");
    assert_eq!(scan(&mut folder).await, ["a.toml: a 5"]);
}

/// Waits until nothing is under way.
async fn settled(site: &Site) {
    for operation in site.host.operations().list() {
        end(site.host.operations().find(operation.id).unwrap()).await;
    }
}

#[tokio::test]
async fn flows_of_files_that_have_not_changed_resume_as_they_were_wanted() {
    let site = Site::new(None);
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        std::fs::write(files.path().join(format!("{name}.toml")), endless(&format!("resume_{name}"))).unwrap()
    };
    ["same", "stopped", "changed", "gone"].iter().for_each(|name| write(name));
    let mut folder = FlowFolder::open(files.path().to_owned(), site.host.clone()).await.unwrap();
    assert_eq!(scan(&mut folder).await.len(), 4);
    settled(&site).await;
    end(site.host.stop("stopped", false, ada()).await.unwrap()).await;
    site.host.shut_down(Duration::from_secs(60)).await;

    std::fs::write(files.path().join("changed.toml"), format!("{}# more\n", endless("resume_changed"))).unwrap();
    std::fs::remove_file(files.path().join("gone.toml")).unwrap();
    let host = open(&site.folder, None);
    let mut folder = FlowFolder::open(files.path().to_owned(), host.clone()).await.unwrap();
    let known: Vec<_> = host.all().into_iter().map(|flow| (flow.status.flow, flow.desired)).collect();
    let running = |name: &str| (name.to_owned(), Desired::Running);
    assert_eq!(known, [running("changed"), running("same"), ("stopped".to_owned(), Desired::Stopped)]);
    assert_eq!(scan(&mut folder).await, ["changed.toml: changed 2"]);
}

#[tokio::test]
async fn what_is_no_file_or_too_long_holds_up_no_flow() {
    let site = Site::new(None);
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("a.toml"), endless("folder_odd")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(files.path().join("pipe.toml")).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("/dev/zero", files.path().join("zero.toml")).unwrap();
    std::fs::File::create(files.path().join("long.toml")).unwrap().set_len(3 << 30).unwrap();
    let mut folder = FlowFolder::open(files.path().to_owned(), site.host.clone()).await.unwrap();
    let mut said = scan(&mut folder).await;
    said.sort();
    let expected = [
        "a.toml: a 1",
        "long.toml: None it is longer than 16 MiB",
        "pipe.toml: None it is no file",
        "zero.toml: None it is no file",
    ];
    assert_eq!(said, expected);
    site.wait_for("a", State::Running).await;
}

#[tokio::test]
async fn a_folder_that_can_not_be_read_changes_no_flow() {
    let site = Site::new(None);
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("a.toml"), endless("folder_gone")).unwrap();
    let mut folder = FlowFolder::open(files.path().to_owned(), site.host.clone()).await.unwrap();
    assert_eq!(scan(&mut folder).await, ["a.toml: a 1"]);
    std::fs::remove_dir_all(files.path()).unwrap();
    let error = folder.scan().await.unwrap_err().to_string();
    assert!(error.contains("reading the folder of flows"), "{error}");
    site.wait_for("a", State::Running).await;
}
