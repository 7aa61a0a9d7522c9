//! Flows that come, change and go with their files.

use std::path::Path;

use super::Site;
use crate::{FlowFolder, FolderChange, State};

const ENDLESS: &str = "input.n = { type = 'numbers' }\noutput.o = { type = 'remember', from = 'n', place = 'PLACE' }\n";

fn endless(place: &str) -> String {
    ENDLESS.replace("PLACE", place)
}

/// What has changed, in short.
async fn scan(folder: &mut FlowFolder, site: &Site) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let said = |change| match change {
        FolderChange::Applied { path, flow, revision } => format!("{}: {flow} {revision}", name(&path)),
        FolderChange::Removed { path, flow } => format!("{}: {flow} removed", name(&path)),
        FolderChange::Refused { path, flow, reason } => {
            let reason = reason.lines().next().unwrap().rsplit(": ").next().unwrap().to_owned();
            format!("{}: {flow:?} {reason}", name(&path))
        }
    };
    folder.scan(&site.host).await.unwrap().into_iter().map(said).collect()
}

#[tokio::test]
async fn flows_come_change_and_go_with_their_files() {
    let site = Site::new(None);
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
    let mut folder = FlowFolder::new(files.path().to_owned());
    write("a.toml", &endless("folder_a"));
    write("b.toml", &endless("folder_b"));
    write(".b.toml.swp", "x");
    write("notes.txt", "x");
    assert_eq!(scan(&mut folder, &site).await, ["a.toml: a 1", "b.toml: b 1"]);
    assert!(scan(&mut folder, &site).await.is_empty(), "nothing has changed");
    site.wait_for("a", State::Running).await;

    write("a.toml", "input.n = { type = 'number' }");
    let refused = scan(&mut folder, &site).await;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("a.toml: Some(\"a\") "), "{refused:?}");
    assert!(scan(&mut folder, &site).await.is_empty(), "it is said once");
    assert_eq!(site.host.status("a").unwrap().state, State::Running);

    write("a.toml", &format!("{}# better\n", endless("folder_a")));
    std::fs::remove_file(files.path().join("b.toml")).unwrap();
    assert_eq!(scan(&mut folder, &site).await, ["b.toml: b removed", "a.toml: a 2"]);
    assert!(site.host.status("b").is_none());

    write("c.toml", &format!("flow.name = 'a'\n{}", endless("folder_c")));
    let twice = scan(&mut folder, &site).await;
    assert!(twice[0].contains("is in `") && twice[0].contains("already"), "{twice:?}");
    write("a.toml", &format!("flow.name = 'renamed'\n{}", endless("folder_a")));
    assert_eq!(scan(&mut folder, &site).await, ["a.toml: a removed", "a.toml: renamed 1", "c.toml: a 1"]);
}

#[tokio::test]
async fn a_folder_that_can_not_be_read_changes_no_flow() {
    let site = Site::new(None);
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("a.toml"), endless("folder_gone")).unwrap();
    let mut folder = FlowFolder::new(files.path().to_owned());
    assert_eq!(scan(&mut folder, &site).await, ["a.toml: a 1"]);
    std::fs::remove_dir_all(files.path()).unwrap();
    let error = folder.scan(&site.host).await.unwrap_err().to_string();
    assert!(error.contains("reading the folder of flows"), "{error}");
    site.wait_for("a", State::Running).await;
}
