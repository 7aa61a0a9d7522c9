//! Generated files are what the settings structs say now.

use crate::millstream::{Workshop, project};

/// The committed file equals what the command prints. `MILLSTREAM_UPDATE=1` writes it.
fn assert_generated(file: &str, arguments: &[&str]) {
    let printed = Workshop::new().run(arguments);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    let path = project().join(file);
    if std::env::var_os("MILLSTREAM_UPDATE").is_some() {
        std::fs::write(&path, &printed.stdout).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let command = arguments.join(" ");
    assert!(committed == printed.stdout, "{file} is out of date: `cargo run -- {command} > {file}` writes it");
}

/// A program with a node that is off by default has it on these pages, too.
#[cfg(not(feature = "delta"))]
#[test]
fn reference_pages_are_up_to_date() {
    assert_generated("connectors/INPUTS.md", &["docs", "--all", "--role", "input"]);
    assert_generated("processors/PROCESSORS.md", &["docs", "--all", "--role", "processor"]);
    assert_generated("connectors/OUTPUTS.md", &["docs", "--all", "--role", "output"]);
    assert_generated("connectors/FORMATS.md", &["docs", "--formats"]);
    assert_generated("connectors/CONNECTIONS.md", &["docs", "--connections"]);
    assert_generated("flows/FLOW.md", &["docs", "--flow"]);
    assert_generated("daemon/admin/API.md", &["docs", "--api"]);
}

#[cfg(feature = "delta")]
#[test]
fn the_page_of_delta_is_up_to_date() {
    assert_generated("connectors/DELTA.md", &["docs", "delta"]);
}

#[cfg(not(feature = "delta"))]
#[test]
fn the_schema_for_editors_is_up_to_date() {
    assert_generated("conf/flow.schema.json", &["docs", "--schema"]);
}

#[test]
fn every_setting_has_a_description() {
    let files = [
        "connectors/INPUTS.md",
        "processors/PROCESSORS.md",
        "connectors/OUTPUTS.md",
        "connectors/FORMATS.md",
        "connectors/CONNECTIONS.md",
        "connectors/DELTA.md",
        "daemon/admin/API.md",
    ];
    for file in files {
        let pages = std::fs::read_to_string(project().join(file)).unwrap();
        let undescribed: Vec<_> = pages
            .lines()
            .filter(|line| line.trim_start().starts_with("- `") && line.trim_end().ends_with("):"))
            .collect();
        assert!(undescribed.is_empty(), "{file}: {undescribed:?}");
    }
}
