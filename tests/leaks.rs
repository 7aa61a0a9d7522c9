//! That a model does not know what became known later.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::millstream::{Running, Workshop, project};

/// In one shop of eight, another one every two days, all payments are frauds. When that is known, it is of no use any more.
const MOVING_GANG: &str = "input.chargebacks.columns.fraud=\
     shop = CASE row / 2880 * 5 % 8 WHEN 0 THEN 'books' WHEN 1 THEN 'fuel' WHEN 2 THEN 'games' WHEN 3 THEN 'gifts' \
     WHEN 4 THEN 'hotel' WHEN 5 THEN 'phones' WHEN 6 THEN 'shoes' ELSE 'travel' END";

fn flow() -> String {
    project().join("flows/delayed_labels.toml").to_str().unwrap().to_owned()
}

fn auc(ran: &Value) -> f64 {
    ran["evaluations"]["judged"]["metrics"]["auc"].as_f64().unwrap_or_else(|| panic!("{ran}"))
}

#[test]
fn payments_are_scored_by_what_was_known() {
    let workshop = Workshop::new();
    let run = |sets: &[&str]| {
        let mut arguments = vec![flow(), "--set".to_owned(), "input.payments.rows=20000".to_owned()];
        let sets =
            sets.iter().chain(&["input.chargebacks.rows=20000", "processor.learned.estimator.learning_rate=0.1"]);
        arguments.extend(sets.flat_map(|set| ["--set".to_owned(), (*set).to_owned()]));
        let ran = workshop.run_json(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ran["nodes"]["judged"]["rows_in"], 20_000, "{ran}");
        ran
    };
    let ran = run(&[]);
    assert!(auc(&ran) > 0.7, "what frauds have in common is learned: {ran}");
    // With barriers by the rows of each input it was 0.89.
    let ran = run(&[MOVING_GANG]);
    assert!(auc(&ran) < 0.55, "what only the future knows is not: {ran}");
}

#[test]
fn borders_by_event_time_do_not_depend_on_batches() {
    let workshop = Workshop::new();
    let scores = |sets: &[&str]| {
        let mut arguments = vec![flow(), "--set".to_owned(), "output.scores.path=scores.csv".to_owned()];
        let sets = sets.iter().chain(&["input.payments.rows=9000", "input.chargebacks.rows=6000"]);
        arguments.extend(sets.flat_map(|set| ["--set".to_owned(), (*set).to_owned()]));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        workshop.run_json(&arguments);
        workshop.read("scores.csv")
    };
    let first = scores(&[]);
    assert_eq!(first, scores(&["input.payments.batch_rows=37", "input.chargebacks.batch_rows=1000"]));
    assert_eq!(first, scores(&["input.payments.batch_rows=700", "input.chargebacks.batch_rows=11"]));
}

#[test]
fn check_warns_of_inputs_without_time_order() {
    let workshop = Workshop::new();
    workshop.write("new.csv", "a,y\n1.5,true\n");
    workshop.write("old.csv", "a,y\n1.5,true\n");
    let flow = |publish: &str, time: &str| {
        workshop.write(
            "flow.toml",
            &format!(
                "[input.old]\ntype = \"file\"\npath = \"old.csv\"\n{time}\n\
                 [input.new]\ntype = \"file\"\npath = \"new.csv\"\n{time}\n\
                 [processor.learned]\ntype = \"train\"\nfrom = \"old\"\nmodel = \"m\"\nfeatures = [\"a\"]\nlabel = \"y\"\n\
                 estimator = {{ type = \"logistic_regression\" }}\n{publish}\n\
                 [processor.scored]\ntype = \"predict\"\nfrom = \"new\"\nmodel = \"m\"\n\
                 [output.out]\ntype = \"drop\"\nfrom = [\"scored\"]\n"
            ),
        )
    };
    let check = |path: std::path::PathBuf| workshop.run(&["check", path.to_str().unwrap()]);
    let warned = check(flow("publish = { rows = 10 }", ""));
    assert_eq!(warned.code, 0, "{}", warned.stderr);
    let text = format!("{}{}", warned.stdout, warned.stderr);
    assert!(
        text.contains("these inputs aren't in time order") && text.contains("`event_time` at `old`, `new`"),
        "{text}"
    );
    let silent = check(flow("", ""));
    assert!(!format!("{}{}", silent.stdout, silent.stderr).contains("time order"), "all of `old` is learned first");
}

#[test]
fn live_payments_are_scored_by_what_was_known_and_the_model_can_be_trained_again() {
    let workshop = Workshop::new();
    let text = std::fs::read_to_string(flow()).unwrap();
    let live = text.replacen("rows = 57600\n", "rate = \"6000/s\"\n", 1);
    assert_ne!(live, text);
    workshop.write("flow.toml", &format!("checkpoint.interval = \"200ms\"\n{live}"));
    let run = ["run", "flow.toml", "--state", "state", "--set", "output.scores.path=scores.csv"];
    let running = Running::start(workshop.command(&run).stdout(std::process::Stdio::null()));
    let deadline = Instant::now() + Duration::from_secs(120);
    while workshop.list("models/fraud/versions").len() < 3 {
        assert!(Instant::now() < deadline, "three versions should have come");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.stop();
    let last = format!("fraud/{}", workshop.list("models/fraud/versions").len());
    let ran = workshop.run(&["replay", "flow.toml", &last, "--state", "state"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}
