//! Who may run a flow, on what, and after which changes.

use super::Trial;
use super::graphs::{BRANCHED, LINEAR};
use crate::millstream::{Ran, Running};

fn message(ran: &Ran) -> String {
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    ran.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_second_process_is_refused_and_told_who_the_first_is() {
    let trial = Trial::new(&LINEAR);
    // A reader of rows that never come, so that it stays.
    let live = ["--set", "input.a.follow=true", "--set", "input.a.path=later-*.csv", "--set", SCHEMA];
    let mut running = Running::start(trial.durable(&live).stdout(std::process::Stdio::piped()));
    let id = running.id();
    let owner = || trial.workshop.exists("state/flow/owner") && !trial.workshop.read("state/flow/owner").is_empty();
    while !owner() {
        assert!(!running.has_ended());
        std::thread::yield_now();
    }
    let second = Ran::from(trial.durable(&live).output().unwrap());
    let error = message(&second);
    assert!(error.starts_with(&format!("flow `flow` is being run by process {id} on ")), "{error}");
    running.stop();
    let third = Ran::from(trial.durable(&[]).output().unwrap());
    assert!(!third.stderr.contains("is being run"), "the first one is gone: {}", third.stderr);
}

const SCHEMA: &str = "input.a.schema={ id = \"int64\", at = \"timestamp\", x = \"float64\", y = \"float64\", c = \"utf8\", label = \"boolean\" }";

#[test]
fn a_flow_that_is_done_stays_done() {
    let trial = Trial::new(&LINEAR);
    trial.finish("once");
    let ran = Ran::from(trial.durable(&[]).output().unwrap());
    assert!(ran.stderr.contains("has come to its end before"), "{}", ran.stderr);
    trial.check("again", &ran);
    let error = message(&Ran::from(trial.durable(&["--reset", "a"]).output().unwrap()));
    assert!(error.starts_with("`--reset a`: the flow has come to its end, so that no more rows would come"), "{error}");
}

#[test]
fn nodes_whose_state_does_not_fit_are_refused_by_name() {
    let trial = Trial::new(&BRANCHED);
    assert!(trial.run_until("before-commit:2"));
    let with = |sets: &[&str]| {
        let sets: Vec<_> = sets.iter().flat_map(|set| ["--set", set]).collect();
        Ran::from(trial.durable(&sets).output().unwrap())
    };
    let error = message(&with(&["processor.learner.features=[\"x\"]"]));
    let learner =
        "node `learner` has other settings or columns than when its state was kept: the setting `features` is another";
    assert!(error.contains(learner) && error.contains("with `--reset learner`\n"), "{error}");
    assert!(error.contains("node `scored` has other settings") && error.ends_with("with `--reset scored`"), "{error}");
    let error = message(&with(&["processor.distinct.keys=[\"c\"]"]));
    assert!(error.starts_with("node `distinct` has other settings"), "{error}");
    let ran = Ran::from(trial.durable(&["--reset", "lerner"]).output().unwrap());
    assert_eq!(message(&ran), "`--reset lerner`: there is no node of that name");
    let error = message(&Ran::from(trial.durable(&["--reset", "tested"]).output().unwrap()));
    assert!(error.contains("has decided rows or versions that it has not made visible yet"), "{error}");
    // What shapes no state may change.
    assert_eq!(with(&["checkpoint.keep=5", "output.tested.rows=800"]).code, 0);
}

/// A model and sorted rows, neither of which looks at the column `y`.
const NARROW: &str = r#"
    flow.epoch.rows = 1000
    checkpoint.epochs = 1
    [input.a]
    type = "file"
    path = "a.csv"
    [processor.learner]
    type = "train"
    from = "a"
    model = "m"
    estimator = { type = "logistic_regression" }
    features = ["x"]
    label = "label"
    [output.learned]
    type = "drop"
    from = "learner"
    [input.b]
    type = "file"
    path = "b.csv"
    schema = { id = "int64", at = "timestamp", x = "float64", y = "float64?", c = "utf8", label = "boolean" }
    [processor.ordered]
    type = "sort"
    from = "b"
    by = ["x"]
    [output.ordered_ids]
    type = "file"
    from = "ids"
    path = "ids.csv"
    [processor.ids]
    type = "sql"
    from = "ordered"
    query = "SELECT id FROM ordered"
"#;

#[test]
fn a_new_reader_of_another_column_leaves_the_other_nodes_as_they_are() {
    let trial = Trial::new(&LINEAR);
    trial.workshop.write("narrow.toml", NARROW);
    let control = trial.workshop.run_json(&["narrow.toml"]);
    let run = |sets: &[&str]| {
        let sets: Vec<_> = sets.iter().flat_map(|set| ["--set", set]).collect();
        trial.workshop.command(&[&["run", "--json", "narrow.toml", "--state", "state"][..], &sets].concat())
    };
    assert_eq!(run(&[]).env("MILLSTREAM_CRASH", "after-manifest:5").output().unwrap().status.code(), None);
    // `ordered` has kept rows without `y`, which is null in them.
    let reader = [
        "processor.ids.query=\"SELECT id FROM ordered WHERE y IS NULL OR y IS NOT NULL\"",
        "processor.more={ type = \"sql\", from = \"a\", query = \"SELECT id, y FROM a\" }",
        "output.more_out={ type = \"file\", from = \"more\", path = \"more.csv\" }",
    ];
    let ran = Ran::from(run(&reader).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.json()["models"]["m"]["sha256"], control["models"]["m"]["sha256"]);
    let ids = trial.workshop.read("ids.csv").lines().count() - 1;
    assert_eq!(ids, 12_000, "no row that waited is lost");
    let more = trial.workshop.read("more.csv").lines().count() - 1;
    assert!(more > 0 && more < 12_000 && more.is_multiple_of(1000), "it begins behind the last checkpoint: {more}");
}

#[test]
fn lineage_says_what_a_model_missed_and_what_it_had_twice() {
    for (reset, key) in [("learner", "since"), ("a", "earlier")] {
        let trial = Trial::new(&LINEAR);
        trial.workshop.write("narrow.toml", NARROW);
        let run = |more: &[&str]| {
            let keep = ["run", "narrow.toml", "--state", "state", "--set", "checkpoint.keep=100"];
            trial.workshop.command(&[&keep, more].concat())
        };
        assert_eq!(run(&[]).env("MILLSTREAM_CRASH", "marked-committed:4").output().unwrap().status.code(), None);
        let kept = trial.workshop.run(&["checkpoints", "--state", "state", "--json"]);
        let read = kept.json()["inputs"]["a"]["a.csv"].as_u64().unwrap();
        let ran = Ran::from(run(&["--reset", reset]).output().unwrap());
        assert_eq!(
            (ran.code, ran.stderr.contains("is read from its first row again")),
            (0, reset == "a"),
            "{}",
            ran.stderr
        );
        let card = trial.workshop.run(&["models", "show", "m"]);
        let card: serde_json::Value = serde_json::from_str(&card.stdout).unwrap();
        let lineage = &card["lineage"];
        let expected = match reset {
            "learner" => serde_json::json!({ "a": { "a.csv": read } }),
            _ => serde_json::json!({ "a": [{ "from": {}, "to": { "a.csv": read } }] }),
        };
        assert_eq!((&lineage[key], &lineage["inputs"]["a"]["a.csv"]), (&expected, &12_000.into()));
        assert_eq!(card["rows"], if reset == "a" { 12_000 + read } else { 12_000 - read });
        let replayed = trial.workshop.run(&["replay", "narrow.toml", "m", "--state", "state"]);
        assert!(replayed.stdout.contains("the same bits after "), "{reset}: {}", replayed.stderr);
        let without = trial.workshop.run(&["replay", "narrow.toml", "m"]).stderr;
        assert!(without.contains("began from scratch in the middle; `--state DIR` is where"), "{without}");
    }
}

#[test]
fn a_flow_that_has_ended_takes_no_more_rows() {
    let trial = Trial::new(&LINEAR);
    trial.workshop.write(
        "typed.toml",
        "[input.typed]\ntype = \"stdin\"\nformat = \"ndjson\"\nschema = { n = \"int64\" }\n[output.o]\ntype = \"drop\"\nfrom = \"typed\"",
    );
    let arguments = ["run", "typed.toml", "--state", "state", "--allow-loss"];
    assert_eq!(trial.workshop.feed(&arguments, "{\"n\": 1}\n").code, 0);
    let manifests = trial.workshop.list("state/typed/manifests");
    let ran = trial.workshop.run(&arguments);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("rows that come to input `typed` now would not count"), "{}", ran.stderr);
    assert_eq!(trial.workshop.list("state/typed/manifests"), manifests);
}

#[test]
fn what_can_not_be_read_again_is_refused() {
    let trial = Trial::new(&LINEAR);
    let flow = trial.workshop.write(
        "typed.toml",
        "[input.typed]\ntype = \"stdin\"\nformat = \"ndjson\"\nschema = { n = \"int64\" }\n[output.o]\ntype = \"drop\"\nfrom = \"typed\"",
    );
    let arguments = ["run", "--state", "state", flow.to_str().unwrap()];
    let ran = trial.workshop.run(&arguments);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("input `typed` can't be read again"), "{}", ran.stderr);
    let ran = trial.workshop.run(&[&arguments[..], &["--allow-loss"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn another_build_is_refused_in_words() {
    let trial = Trial::new(&LINEAR);
    assert!(trial.run_until("after-manifest:3"));
    // A manifest as another version would have written it.
    let newest = trial.workshop.list("state/flow/manifests").pop().unwrap();
    let path = trial.workshop.path("state/flow/manifests").join(newest);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("{\"format\":5", "{\"format\":6", 1)).unwrap();
    let error = message(&Ran::from(trial.durable(&[]).output().unwrap()));
    assert!(error.contains("it has format 6, and this build reads formats 3 to 5"), "{error}");
}
