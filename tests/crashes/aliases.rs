//! Flows that predict by a model of which the alias is moved to another while they have state.

use crate::millstream::{Ran, Workshop};

const TRAINING: &str = r#"
    [input.numbers]
    type = "generate"
    rows = 400
    columns = { x = "row % 10", y = "row % 10 > 4", z = "CAST(row % 10 AS double)" }
    [processor.learning]
    type = "train"
    from = "numbers"
    model = "m"
    features = ["x"]
    label = "y"
    estimator = { type = "logistic_regression", learning_rate = 0.1 }
"#;

const PREDICTING: &str = r#"
    flow.epoch.rows = 100
    checkpoint.epochs = 1
    [input.numbers]
    type = "generate"
    rows = 1000
    columns = { x = "row" }
    [processor.score]
    type = "predict"
    from = "numbers"
    model = "m@champion"
    [output.kept]
    type = "file"
    from = "score"
    path = "kept"
    format = "csv"
    rows = 100
"#;

/// A flow that was killed when it had predicted a part of its rows, and whose model was another one then.
fn moved() -> Workshop {
    let workshop = Workshop::new();
    workshop.write("training.toml", TRAINING);
    workshop.write("flow.toml", PREDICTING);
    assert_eq!(workshop.run(&["run", "training.toml"]).code, 0);
    let mut killed = workshop.command(&["run", "flow.toml", "--state", "state"]);
    assert_eq!(killed.env("MILLSTREAM_CRASH", "marked-committed:5").output().unwrap().status.code(), None);
    let estimator = "processor.learning.estimator={ type = \"linear_regression\", learning_rate = 0.01 }";
    let ran = workshop.run(&["run", "training.toml", "--set", "processor.learning.label=z", "--set", estimator]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(workshop.run(&["models", "alias", "m", "champion", "2"]).code, 0);
    workshop
}

fn resume(workshop: &Workshop, arguments: &[&str]) -> Ran {
    workshop.run(&[&["run", "flow.toml", "--state", "state"], arguments].concat())
}

/// The header of each file that was published, and the number of its rows.
fn published(workshop: &Workshop) -> Vec<(String, usize)> {
    let files = workshop.list("kept").into_iter().filter(|name| !name.starts_with('.'));
    let texts = files.map(|name| workshop.read(&format!("kept/{name}")));
    texts.map(|text| (text.lines().next().unwrap().to_owned(), text.lines().count() - 1)).collect()
}

#[test]
fn a_flow_goes_on_with_the_version_that_it_had() {
    let workshop = moved();
    let checked = workshop.run(&["check", "flow.toml", "--state", "state"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let ran = resume(&workshop, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let published = published(&workshop);
    assert!(published.iter().all(|(header, _)| header == "x,prediction,probability"), "{published:?}");
    assert_eq!(published.iter().map(|(_, rows)| rows).sum::<usize>(), 1000);
}

#[test]
fn a_node_that_is_reset_takes_the_version_that_there_is_now() {
    let workshop = moved();
    let ran = resume(&workshop, &["--reset", "score"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let published = published(&workshop);
    let headers: Vec<_> = published.iter().map(|(header, _)| header.as_str()).collect();
    assert!(
        headers.first() == Some(&"x,prediction,probability") && headers.last() == Some(&"x,prediction"),
        "{headers:?}"
    );
    assert_eq!(published.iter().map(|(_, rows)| rows).sum::<usize>(), 1000);
}

#[test]
fn a_node_that_is_renamed_keeps_its_version_unless_it_is_reset() {
    let workshop = moved();
    let renamed = PREDICTING
        .replace("[processor.score]", "[processor.risk]\n    renamed_from = \"score\"")
        .replace("\n    from = \"score\"", "\n    from = \"risk\"");
    workshop.write("flow.toml", &renamed);
    let ran = resume(&workshop, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(published(&workshop).iter().all(|(header, _)| header == "x,prediction,probability"));
    let workshop = moved();
    workshop.write("flow.toml", &renamed);
    let ran = resume(&workshop, &["--reset", "risk"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(published(&workshop).iter().any(|(header, _)| header == "x,prediction"));
}

#[test]
fn another_model_is_another_setting() {
    let workshop = moved();
    let refused = resume(&workshop, &["--set", "processor.score.model=m/2"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("node `score` has other settings"), "{}", refused.stderr);
    assert!(refused.stderr.contains("the setting `model` is another one"), "{}", refused.stderr);
}
