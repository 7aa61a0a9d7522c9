//! A state that an earlier build has written is read by this one, or refused in words.
//!
//! `tests/golden/state-N` has a state of every format so far, killed in the middle. When the format changes
//! (`FORMAT` in `daemon/engine/src/checkpoint/manifest.rs`), `MILLSTREAM_GOLDEN=1 cargo test golden` writes that of the new one;
//! what was there before stays.

use serde_json::Value;

use super::graphs::BRANCHED;
use crate::millstream::{Ran, Workshop, copy, project};

/// Nodes with state of each kind; its output is nowhere, since the parts of files are not in the state.
const FLOW: &str = r#"
    [flow]
    name = "golden"
    epoch.rows = 700
    [checkpoint]
    epochs = 1
    keep = 1
    [input.a]
    type = "file"
    path = "a.csv"
    event_time = { column = "at", lateness = "20s" }
    [processor.distinct]
    type = "dedup"
    from = "a"
    keys = ["id"]
    [processor.learner]
    type = "train"
    from = "distinct"
    model = "m"
    estimator = { type = "network", layers = [{ dense = 4, activation = "relu" }, { dropout = 0.1 }], loss = "log_loss", optimizer = { type = "adam" }, batch_rows = 32, seed = 3 }
    features = ["x", "y", "c"]
    label = "label"
    [processor.windows]
    type = "window"
    from = "learner"
    size = "30s"
    keys = ["c"]
    select = { n = "count(*)", mean = "avg(x)", last = "last_value(y)", half = "quantile(y, 0.5)", kinds = "count(DISTINCT c)" }
    [processor.ordered]
    type = "sort"
    from = "windows"
    by = ["mean"]
    [output.nowhere]
    type = "drop"
    from = "ordered"
"#;

fn workshop() -> Workshop {
    let workshop = Workshop::new();
    BRANCHED.write_data(&workshop);
    workshop.write("flow.toml", FLOW);
    workshop
}

/// What is said of the model. In states before format 5 it was not counted how far probabilities are off, so that `ece` is of fewer rows.
fn figures(ran: &Value, is_new: bool) -> Value {
    let mut model = ran["models"]["m"].clone();
    for figures in ["/metrics", "/baselines/majority"] {
        let figures = model.pointer_mut(figures).unwrap().as_object_mut().unwrap();
        assert!(figures.contains_key("ece"));
        figures.retain(|name, _| is_new || name != "ece");
    }
    model
}

#[test]
fn states_of_earlier_builds_are_gone_on_with() {
    let control = workshop().run_json(&["flow.toml"]);
    let golden = project().join("tests/golden");
    if std::env::var_os("MILLSTREAM_GOLDEN").is_some() {
        let workshop = workshop();
        let mut command = workshop.command(&["run", "flow.toml", "--state", "state"]);
        assert_eq!(command.env("MILLSTREAM_CRASH", "after-manifest:5").output().unwrap().status.code(), None);
        std::fs::remove_file(workshop.path("state/golden/owner")).unwrap();
        copy(&workshop.path("state"), &golden.join("state-5"));
    }
    let states: Vec<_> = std::fs::read_dir(&golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut resumed = 0;
    for state in states {
        let workshop = workshop();
        copy(&state, &workshop.path("state"));
        let ran = Ran::from(workshop.command(&["run", "--json", "flow.toml", "--state", "state"]).output().unwrap());
        match ran.code {
            0 => {
                let is_new = state.ends_with("state-5");
                assert_eq!(figures(&ran.json(), is_new), figures(&control, is_new), "{}", state.display());
                resumed += 1;
            }
            _ => assert!(ran.stderr.contains("and this build reads format"), "{}: {}", state.display(), ran.stderr),
        }
    }
    assert!(resumed > 0, "there is no state of this format");
}
