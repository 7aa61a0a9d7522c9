//! Nodes that start from scratch in a flow that has run: what was published stays, unless it is said that it may go.

use crate::millstream::{Ran, Workshop};

const FLOW: &str = r#"
    flow.epoch.rows = 100
    checkpoint.epochs = 1
    [input.numbers]
    type = "generate"
    rows = 1000
    columns = { n = "row" }
    [processor.wide]
    type = "sql"
    from = "numbers"
    query = "SELECT n FROM numbers"
    [output.kept]
    type = "file"
    from = "wide"
    path = "kept"
    format = "csv"
    rows = 100
"#;

/// One column more.
const WIDER: &str = "processor.wide.query=SELECT n, n * 2 AS twice FROM numbers";

/// The same place in other words, which is another setting.
const OTHER: &str = "output.kept.path=./kept";

fn run(workshop: &Workshop, arguments: &[&str]) -> Ran {
    workshop.run(&[&["run", "flow.toml", "--state", "state"], arguments].concat())
}

/// A flow that was killed when a part of its rows was visible, or when it has been stopped.
fn begun(flow: &str) -> Workshop {
    let workshop = Workshop::new();
    workshop.write("flow.toml", flow);
    // The second run is killed when all that the first has decided is visible, and nothing more is decided.
    for point in ["marked-committed:5", "checkpoint-asked:1"] {
        let mut command = workshop.command(&["run", "flow.toml", "--state", "state"]);
        assert_eq!(command.env("MILLSTREAM_CRASH", point).output().unwrap().status.code(), None);
    }
    workshop
}

/// The numbers in the files of the folder, sorted.
fn numbers(workshop: &Workshop) -> Vec<u64> {
    let files = workshop.list("kept").into_iter().filter(|name| !name.starts_with('.'));
    let texts: Vec<_> = files.map(|name| workshop.read(&format!("kept/{name}"))).collect();
    let rows = texts.iter().flat_map(|text| text.lines().skip(1));
    let mut numbers: Vec<u64> = rows.map(|row| row.split(',').next().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[track_caller]
fn assert_each_is_there_once(workshop: &Workshop) {
    let all = numbers(workshop);
    assert!(all.len() == 1000 && all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{}", all.len());
}

#[test]
fn a_folder_goes_on_when_a_column_has_come() {
    let workshop = begun(FLOW);
    let before = workshop.list("kept").len();
    let ran = run(&workshop, &["--set", WIDER]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let all = numbers(&workshop);
    assert!(before > 0 && all.len() == 1000 && all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{}", all.len());
    let files = workshop.list("kept");
    let (first, last) = (&files[0], &files[files.len() - 1]);
    assert!(workshop.read(&format!("kept/{first}")).starts_with("n\n"), "{files:?}");
    assert!(workshop.read(&format!("kept/{last}")).starts_with("n,twice\n"), "{files:?}");
}

#[test]
fn an_output_that_is_reset_keeps_what_it_has_published() {
    let workshop = begun(FLOW);
    let published = numbers(&workshop);
    assert!(!published.is_empty() && published.len() < 1000);
    let refused = run(&workshop, &["--set", OTHER]);
    assert_eq!(refused.code, 1);
    for part in ["node `kept`", "the setting `path` is another one", "published ones stay", "with `--reset kept`"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let reset = run(&workshop, &["--set", OTHER, "--reset", "kept"]);
    assert_eq!(reset.code, 0, "{}", reset.stderr);
    let all = numbers(&workshop);
    assert_eq!(all.len(), 1000);
    assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "each row is there once");
}

#[test]
fn what_an_output_has_published_goes_if_that_is_said() {
    let workshop = begun(FLOW);
    let published = numbers(&workshop).len();
    let reset = run(&workshop, &["--set", OTHER, "--reset", "kept", "--remove-published"]);
    assert_eq!(reset.code, 0, "{}", reset.stderr);
    assert_eq!(numbers(&workshop).len(), 1000 - published);
}

#[test]
fn a_single_file_is_not_replaced_by_an_output_that_begins_in_the_middle() {
    let flow = FLOW.replace("path = \"kept\"", "path = \"kept.csv\"").replace("format = \"csv\"\n    rows = 100", "");
    let workshop = begun(&flow);
    workshop.write("kept.csv", "n\n1\n");
    let reset = ["--set", WIDER, "--reset", "kept"];
    let refused = run(&workshop, &reset);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("may have rows that the flow has published"), "{}", refused.stderr);
    assert_eq!(workshop.read("kept.csv"), "n\n1\n");
    let again = run(&workshop, &["--set", WIDER]);
    assert!(again.code == 1 && workshop.read("kept.csv") == "n\n1\n", "also when it is not said again");
    let told = run(&workshop, &[&reset[..], &["--remove-published"]].concat());
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(workshop.read("kept.csv").starts_with("n,twice\n"));
}

#[test]
fn check_says_before_anything_runs_what_would_be_refused() {
    let workshop = begun(FLOW);
    let check = |more: &[&str]| workshop.run(&[&["check", "flow.toml", "--state", "state"], more].concat());
    assert_eq!(check(&[]).code, 0);
    let manifests = workshop.list("state/flow/manifests");
    let wrong = check(&["--set", OTHER, "--reset", "kpet"]);
    assert_eq!(wrong.code, 2);
    let lines: Vec<_> = wrong.stderr.lines().collect();
    assert_eq!(lines[0], "flow.toml: `--reset kpet`: there is no node of that name");
    assert!(lines[1].starts_with("flow.toml: node `kept` has other settings or columns"), "{lines:?}");
    assert_eq!(lines[2], "2 problems");
    assert_eq!(check(&["--set", OTHER, "--reset", "kept"]).code, 0);
    assert_eq!(workshop.list("state/flow/manifests"), manifests);
}

#[test]
fn renamed_nodes_keep_what_they_had() {
    let workshop = begun(FLOW);
    let renamed = FLOW
        .replace("[input.numbers]", "[input.rows]\n    renamed_from = \"numbers\"")
        .replace(
            "from = \"numbers\"\n    query = \"SELECT n FROM numbers\"",
            "from = \"rows\"\n    query = \"SELECT n FROM rows\"",
        )
        .replace("[output.kept]", "[output.out]\n    renamed_from = \"kept\"");
    workshop.write("flow.toml", &renamed);
    let ran = run(&workshop, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let all = numbers(&workshop);
    assert!(all.len() == 1000 && all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{}", all.len());
}

#[test]
fn what_a_state_goes_on_with_is_not_replaced_by_runs_without_it() {
    let workshop = begun(FLOW);
    // What the run that was killed has left of its lock may go.
    let files = || workshop.list("kept").into_iter().filter(|name| !name.ends_with(".lock")).collect::<Vec<_>>();
    let before = files();
    assert!(before.iter().any(|name| name.ends_with(".csv")), "{before:?}");
    for state in [&[][..], &["--state", "other"]] {
        let refused = workshop.run(&[&["run", "flow.toml"], state].concat());
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        for part in
            ["node `kept`: `", "is of a run with another state", "`--remove-published` begins here nevertheless"]
        {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
        assert_eq!(files(), before);
    }
    let checked = workshop.run(&["check", "flow.toml", "--state", "other"]);
    assert!(checked.code == 2 && checked.stderr.contains("is of a run with another state"), "{}", checked.stderr);
    let resumed = run(&workshop, &[]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_each_is_there_once(&workshop);
}

#[test]
fn a_state_that_is_gone_gives_way_if_that_is_said() {
    for state in [&[][..], &["--state", "state"]] {
        let workshop = begun(FLOW);
        std::fs::remove_dir_all(workshop.path("state")).unwrap();
        let ran = workshop.run(&[&["run", "flow.toml", "--remove-published"], state].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_each_is_there_once(&workshop);
        let ledgers = workshop.list("kept").into_iter().filter(|name| name.ends_with(".ledger"));
        assert_eq!(ledgers.count(), 0);
        assert_eq!(workshop.run(&["run", "flow.toml"]).code, 0, "it need not be said again");
    }
}
