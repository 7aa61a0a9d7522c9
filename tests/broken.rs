//! Flows that are wrong: every message at its place, kept by snapshots.
//!
//! `INSTA_UPDATE=always cargo test broken` writes them again; read the difference before you commit it.

use std::path::PathBuf;

use crate::millstream::{Workshop, copy, project};

#[test]
fn every_broken_flow_gets_its_message() {
    let folder = project().join("tests/broken");
    let mut flows: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    flows.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    flows.sort();
    assert!(flows.len() >= 40, "{} broken flows", flows.len());
    // In a folder of its own, so that no flow meets what somebody's runs have left in the project's.
    let workshop = Workshop::new();
    copy(&folder, &workshop.path("tests/broken"));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder.join("messages"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for flow in flows {
            let name = flow.file_stem().unwrap().to_str().unwrap();
            let path = format!("tests/broken/{name}.toml");
            let ran = workshop.run(&["check", &path]);
            assert_eq!(ran.code, 2, "{name}: {}{}", ran.stdout, ran.stderr);
            assert!(ran.stderr.contains(&path), "{name}: {}", ran.stderr);
            // Some messages name folders, which differ from machine to machine.
            let message = ran.stderr.replace(workshop.path("").to_str().unwrap(), "PROJECT/");
            insta::assert_snapshot!(name, message);
        }
    });
}
