//! What is told of a flow that runs, and that the page and the board name nothing else.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Baselines, FilesRead, Metrics, ModelReport};
use millstream_engine::checkpoint::{FlowCheckpoints, ResumeOptions};
use millstream_engine::file::{Diagnostics, LoadOptions};
use millstream_engine::outline::Outline;
use millstream_engine::plan::{KeptStates, Plan, PlanOptions};
use millstream_engine::run::{FlowError, PreparedFlow, RunMode};
use millstream_host::{
    Change, Expected, FlowLimits, FlowSource, Launch, LaunchError, Launched, Launcher, Owner, Planned, Request,
    RestartPolicy, State,
};
use millstream_testkit::small_nodes;
use tokio::runtime::Handle;

use super::*;

/// Launches flows of the smallest nodes, with their states in a folder.
struct SmallFlows(PathBuf);

impl SmallFlows {
    fn read(&self, source: &FlowSource, files: &FilesRead) -> Result<Plan, Diagnostics> {
        let registry = small_nodes();
        let files = files.clone();
        let load = LoadOptions { environment: &|_| None, files, ..LoadOptions::new(registry) };
        let options = PlanOptions::new(registry, self.0.clone());
        Plan::read(&source.path, &source.text, load, options, |_| KeptStates::default())
    }
}

impl Launcher for SmallFlows {
    fn check(&self, source: &FlowSource, _: &[String], files: &FilesRead) -> Result<Outline, Diagnostics> {
        Ok(self.read(source, files)?.outline())
    }

    fn launch(&self, launch: &Launch) -> Result<Launched, LaunchError> {
        let plan = self.read(&launch.source, &FilesRead::default())?;
        let (options, outline) = (ResumeOptions::default(), plan.outline());
        let checkpoints = FlowCheckpoints::open_folder(&plan, &self.0.join("state"), &options);
        let checkpoints = checkpoints.map_err(|error| FlowError { node: None, error })?;
        let flow = PreparedFlow::new(plan, RunMode::Keep(checkpoints))?.take_over()?.ready()?;
        Ok(Launched { flow, outline, limits: FlowLimits::default(), folders: Vec::new() })
    }

    fn plan(&self, launch: &Launch) -> Result<Planned, LaunchError> {
        let plan = self.read(&launch.source, &FilesRead::default())?;
        let outline = plan.outline();
        let (options, limits) = (ResumeOptions::default(), FlowLimits::default());
        Ok(Planned { plan, outline, options, limits, folders: Vec::new() })
    }
}

/// The metrics of a host with a flow that has read three rows, and those when it is gone.
async fn told() -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
        input.rows = { type = "numbers", rows = 3 }
        output.gone = { type = "remember", from = "rows", place = "metrics" }
    "#;
    let launcher = Arc::new(SmallFlows(folder.path().into()));
    let host = Host::open(launcher, Handle::current(), RestartPolicy::default(), folder.path()).unwrap();
    let source = FlowSource { path: folder.path().join("three.toml"), text: text.into() };
    let change = Change {
        source,
        owner: Owner::Api,
        expected: Expected::Any,
        message: None,
        start: true,
        again: false,
        resets: Vec::new(),
    };
    let request = || Request { by: "ada".to_owned(), patience: Duration::from_secs(60) };
    let mut applied = host.apply("three", change, request()).await.unwrap().operation;
    applied.wait_for(|operation| !operation.is_running()).await.unwrap();
    let mut status = host.watch("three").unwrap();
    let ended = status.wait_for(|status| status.state.is_at_rest()).await.unwrap().clone();
    assert_eq!(ended.state, State::Finished, "{:?}", ended.reason);
    let here = super::text(&host);
    let mut removed = host.remove("three", &Owner::Api, request()).await.unwrap();
    removed.wait_for(|operation| !operation.is_running()).await.unwrap();
    [here, super::text(&host)]
}

#[tokio::test]
async fn a_flow_is_told_of_until_it_is_removed() {
    let [here, gone] = told().await;
    for line in [
        r#"millstream_flow_state{flow="three",state="finished"} 1.0"#,
        r#"millstream_flow_restarts_total{flow="three"} 0.0"#,
        r#"millstream_node_rows_total{flow="three",node="rows",direction="out",port="main"} 3.0"#,
        r#"millstream_node_rows_total{flow="three",node="gone",direction="in",port=""} 3.0"#,
        r#"millstream_node_bytes_total{flow="three",node="gone",direction="in"} 24.0"#,
        r#"millstream_edge_queue_rows{flow="three",edge="rows.main>gone"} 0.0"#,
        r#"millstream_checkpoint_number{flow="three"} 2.0"#,
        "# TYPE millstream_node_seconds_total counter",
        "# TYPE process_open_fds gauge",
    ] {
        assert!(here.lines().any(|known| known == line), "{line} is not in\n{here}");
    }
    assert!(here.contains("millstream_checkpoint_bytes{"), "{here}");
    assert!(!gone.contains("three") && gone.contains("process_resident_memory_bytes "), "{gone}");
}

#[test]
fn a_model_is_told_of_with_what_it_is_compared_with() {
    let metrics = |value| Metrics(vec![("auc", value), ("undefined", f64::NAN)]);
    let baselines = Baselines { persistence: metrics(0.5), majority: Metrics::default() };
    let model = ModelReport {
        model: "late".into(),
        version: Some(7),
        rows: 9,
        sha256: None,
        metrics: metrics(0.75),
        recent: metrics(0.625),
        held_out: None,
        baselines,
        confusion: None,
    };
    let mut samples = Samples::default();
    nodes::of_model("flow", &model, &mut samples);
    let text = samples.into_text();
    for (of, value) in [("learning", 0.75), ("recent", 0.625), ("persistence", 0.5)] {
        let labels = format!(r#"flow="flow",model="late",version="7",of="{of}",metric="auc""#);
        let line = format!("millstream_model_metric{{{labels}}} {value}");
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(text.contains(r#"millstream_model_rows{flow="flow",model="late"} 9.0"#), "{text}");
    assert!(!text.contains("undefined"), "what is no number is left out:\n{text}");
}

#[test]
fn labels_may_have_anything_in_them() {
    let mut samples = Samples::default();
    samples.add(&table::BUILD, ["a \"quoted\"\nline\\"], 1.0);
    let text = samples.into_text();
    assert!(text.ends_with("millstream_build_info{version=\"a \\\"quoted\\\"\\nline\\\\\"} 1.0\n"), "{text}");
}

#[test]
fn names_are_as_is_usual() {
    for Metric { name, kind, help, .. } in METRICS {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        let is_counter = matches!(kind, MetricType::Counter);
        assert_eq!(name.ends_with("_total"), is_counter, "{name}");
        assert!(help.ends_with('.'), "{name}");
        assert_eq!(METRICS.iter().filter(|other| other.name == *name).count(), 1, "{name}");
    }
}

/// A file of the folder `conf`.
fn conf(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf").join(file)
}

#[test]
fn the_page_is_made_of_the_table() {
    let path = conf("METRICS.md");
    if std::env::var_os("MILLSTREAM_UPDATE").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page());
}

#[test]
fn the_board_asks_for_metrics_that_there_are() {
    let board: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(conf("grafana/millstream.json")).unwrap()).unwrap();
    let of_panels = board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let of_variables = board["templating"]["list"].as_array().unwrap();
    let queries = of_panels.map(|target| &target["expr"]).chain(of_variables.iter().map(|variable| &variable["query"]));
    let mut names = 0;
    for query in queries {
        let query = query.as_str().unwrap();
        let words = query.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_'));
        for word in words.filter(|word| word.starts_with("millstream_") || word.starts_with("process_")) {
            assert!(METRICS.iter().any(|metric| metric.name == word), "`{word}` of `{query}` is no metric");
            names += 1;
        }
    }
    assert!(names > 15, "{names}");
}
