//! The flow of the access log, on the log that lies beside it.

use std::collections::BTreeMap;

use crate::millstream::{Workshop, project};

/// How often each status stands behind the request of a line.
fn statuses(log: &str) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for line in log.lines().filter(|line| line.ends_with('"')) {
        let behind = line.split("\" ").nth(1).unwrap();
        *counts.entry(behind.split(' ').next().unwrap()).or_default() += 1;
    }
    counts
}

#[test]
fn requests_are_counted_and_addresses_are_masked() {
    let workshop = Workshop::new();
    let flow = project().join("flows/access_log.toml");
    workshop.run_json(&[flow.to_str().unwrap()]);
    let log = std::fs::read_to_string(project().join("flows/data/access_log/access.log")).unwrap();
    let hours = workshop.read("out/hours.csv");
    let mut lines = hours.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let columns = lines.next().unwrap();
    let place = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line[place("status")]).or_default() += line[place("requests")].parse::<u64>().unwrap();
    }
    assert_eq!(counts, statuses(&log));
    let rejected: String = workshop
        .list("out/access_log_rejected")
        .iter()
        .filter(|name| !name.starts_with('.'))
        .map(|name| workshop.read(&format!("out/access_log_rejected/{name}")))
        .collect();
    assert_eq!(rejected.lines().count(), 2, "{rejected}");
    assert!(rejected.lines().all(|line| line.contains("the text does not match the pattern")), "{rejected}");
}

#[test]
fn what_comes_out_does_not_depend_on_cuts() {
    let flow = project().join("flows/access_log.toml");
    let outcomes = [("8192", "2"), ("100", "1"), ("7", "2")].map(|(batch_rows, threads)| {
        let workshop = Workshop::new();
        let set = format!("input.requests.batch_rows={batch_rows}");
        workshop.run_json(&[flow.to_str().unwrap(), "--set", &set, "--threads", threads]);
        workshop.read("out/hours.csv")
    });
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
}
