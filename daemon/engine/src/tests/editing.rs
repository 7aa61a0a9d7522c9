//! Flows that are edited between two runs: what may change, and what is refused.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::crash::{self, MemoryStore};
use super::kinds::{committed_text, forget};
use super::running::plan;
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{PreparedFlow, RunMode, RunningFlow, Status};

/// A flow of which a part has run: about this many steps.
struct Edited {
    name: &'static str,
    store: Arc<MemoryStore>,
}

const BEFORE: &str = r#"
    input.a = { type = "count", rows = 200, batch_rows = 5 }
    processor.b = { type = "batched", from = "a", rows = 7 }
    processor.plain = { type = "add", from = "a", by = 1 }
    output.c = { type = "file", from = "b", path = "NAME/c" }
    output.d = { type = "file", from = "plain", path = "NAME/d" }
"#;

impl Edited {
    async fn new(name: &'static str, text: &str) -> Self {
        forget(name);
        let flow =
            Self { name, store: Arc::new(MemoryStore { simulation: name.to_owned(), ..MemoryStore::default() }) };
        crash::begin(name);
        let checkpoints = flow.open(text, &[]).unwrap();
        let running = RunningFlow::start(flow.plan(text), RunMode::Keep(checkpoints), &Handle::current()).unwrap();
        let control = running.control();
        crash::then(name, 60, move || control.stop());
        let status = running.join().await.status;
        assert!(matches!(status, Status::Stopped), "{status:?}");
        flow
    }

    fn plan(&self, text: &str) -> crate::plan::Plan {
        let text = text.replace("NAME", self.name);
        plan(&format!("flow.name = \"{}\"\nflow.epoch.rows = 20\ncheckpoint.epochs = 1\n{text}", self.name))
    }

    fn open(&self, text: &str, resets: &[&str]) -> Result<FlowCheckpoints, String> {
        let resets = resets.iter().map(|node| (*node).to_owned()).collect();
        let options = ResumeOptions { resets, ..ResumeOptions::default() };
        let checkpoint_store = CheckpointStore::new(self.store.clone(), self.name, "memory");
        FlowCheckpoints::open(&self.plan(text), checkpoint_store, &options).map_err(|error| error.to_string())
    }

    /// Goes on, for so many steps.
    async fn crash(&self, text: &str, steps: u64) {
        crash::begin(self.name);
        let checkpoints = self.open(text, &[]).unwrap();
        let running = RunningFlow::start(self.plan(text), RunMode::Keep(checkpoints), &Handle::current()).unwrap();
        crash::after(self.name, steps);
        let status = running.join().await.status;
        assert!(matches!(status, Status::Failed(_)), "{status:?}");
        crash::begin(self.name);
    }

    async fn finish(&self, text: &str, resets: &[&str]) {
        let checkpoints = self.open(text, resets).unwrap();
        let running = RunningFlow::start(self.plan(text), RunMode::Keep(checkpoints), &Handle::current()).unwrap();
        let status = running.join().await.status;
        assert!(matches!(status, Status::Done), "{status:?}");
    }

    /// The numbers that an output has committed.
    fn numbers(&self, output: &str) -> Vec<i64> {
        let text = committed_text(&format!("{}/{output}", self.name));
        text.lines().skip(1).map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    }
}

#[tokio::test]
async fn other_settings_of_a_node_with_state_are_refused_by_name() {
    let flow = Edited::new("edited_settings", BEFORE).await;
    let after = BEFORE.replace("rows = 7", "rows = 8");
    let error = flow.open(&after, &[]).unwrap_err();
    assert!(error.starts_with("node `b` has other settings or columns than when its state was kept"), "{error}");
    assert!(
        error.contains(": the setting `rows` is another one; change that back, or lose what it remembers"),
        "{error}"
    );
    assert!(error.ends_with("`--reset b`"), "{error}");
    flow.finish(&after, &["b"]).await;
}

#[tokio::test]
async fn all_nodes_that_do_not_fit_are_named_at_once_and_before_anything_runs() {
    let text = format!("{BEFORE}\n    processor.e = {{ type = \"batched\", from = \"a\", rows = 3 }}");
    let text = format!("{text}\n    output.f = {{ type = \"file\", from = \"e\", path = \"NAME/f\" }}");
    let flow = Edited::new("edited_many", &text).await;
    let after =
        text.replace("rows = 7", "rows = 8").replace("rows = 3", "rows = 4").replace("\"NAME/d\"", "\"NAME/g\"");
    let keys = flow.store.keys.lock().unwrap().clone();
    let checkpoint_store = CheckpointStore::new(flow.store.clone(), flow.name, "memory");
    let problems = FlowCheckpoints::check(&flow.plan(&after), &checkpoint_store, &ResumeOptions::default()).unwrap();
    let named: Vec<_> = problems.iter().filter_map(|problem| problem.split('`').nth(1)).collect();
    assert_eq!(named, ["b", "d", "e"], "{problems:?}");
    assert!(problems[1].contains("the setting `path` is another one"), "{problems:?}");
    let refused = flow.open(&after, &[]).unwrap_err();
    assert!(problems.iter().all(|problem| refused.contains(problem)), "{refused}");
    assert!(*flow.store.keys.lock().unwrap() == keys, "nothing was written");
}

#[tokio::test]
async fn a_renamed_node_keeps_its_state() {
    let flow = Edited::new("edited_name", BEFORE).await;
    let read = flow.numbers("d").len();
    let after = BEFORE
        .replace("from = \"a\"", "from = \"z\"")
        .replace("from = \"b\"", "from = \"y\"")
        .replace("input.a = {", "input.z = { renamed_from = \"a\",")
        .replace("processor.b = {", "processor.y = { renamed_from = \"b\",");
    let error = flow.open(&after.replace("renamed_from = \"b\",", ""), &[]).unwrap_err();
    assert!(error.contains("say `renamed_from = \"b\"` at the node that it has become"), "{error}");
    flow.crash(&after, 20).await;
    flow.finish(&after, &[]).await;
    assert!(read > 0 && read < 200);
    assert_eq!(flow.numbers("d"), (1..=200).collect::<Vec<_>>());
    let undisturbed = Edited::new("edited_same_name", BEFORE).await;
    undisturbed.finish(BEFORE, &[]).await;
    assert_eq!(flow.numbers("c"), undisturbed.numbers("c"));
}

#[tokio::test]
async fn a_folder_is_renamed_with_its_node_when_the_flow_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = folder.path().join("renamed").join("nodes");
    std::fs::create_dir_all(nodes.join("a")).unwrap();
    let text = r#"
        flow.name = "renamed"
        input.z = { renamed_from = "a", type = "count", rows = 5 }
        output.c = { type = "file", from = "z", path = "renamed/c" }
    "#;
    let checkpoints = FlowCheckpoints::open_folder(&plan(text), folder.path(), &ResumeOptions::default()).unwrap();
    let prepared = PreparedFlow::new(plan(text), RunMode::Keep(checkpoints)).unwrap();
    assert!(nodes.join("a").exists(), "whoever does not take the flow over changes nothing");
    let ready = prepared.take_over().unwrap().ready().unwrap();
    assert!(nodes.join("z").exists() && !nodes.join("a").exists());
    let status = ready.start(&Handle::current()).join().await.status;
    assert!(matches!(status, Status::Done), "{status:?}");
}

#[tokio::test]
async fn another_type_of_node_is_refused_by_name() {
    let flow = Edited::new("edited_kind", BEFORE).await;
    let error = flow.open(&BEFORE.replace("\"batched\", from = \"a\", rows", "\"dice\", from = \"a\", seed"), &[]);
    assert!(error.unwrap_err().starts_with("node `b` has other settings"));
}

#[tokio::test]
async fn settings_of_a_node_without_state_may_change_and_so_may_free_ones() {
    let flow = Edited::new("edited_free", BEFORE).await;
    let after = BEFORE.replace("by = 1 ", "by = 1000 ").replace("NAME/d\"", "NAME/d\", slow = 0");
    assert_ne!(BEFORE, after);
    flow.finish(&after, &[]).await;
    let numbers = flow.numbers("d");
    assert_eq!(numbers.len(), 200);
    assert!(numbers[0] == 1 && numbers[199] == 1199, "from some row on it adds 1000");
}

#[tokio::test]
async fn a_node_with_state_that_is_gone_is_refused_by_name() {
    let flow = Edited::new("edited_gone", BEFORE).await;
    let without = |node: &str| {
        let lines = BEFORE.lines().filter(|line| !line.trim().starts_with(node));
        lines.collect::<Vec<_>>().join("\n")
    };
    let after = without("processor.b").replace("from = \"b\"", "from = \"a\"");
    let error = flow.open(&after, &[]).unwrap_err();
    assert!(
        error.starts_with("node `b` has state in the last checkpoint, and is no longer part of the flow"),
        "{error}"
    );
    assert!(error.ends_with("or lose what it remembers of the rows so far with `--reset b`"), "{error}");
    assert!(flow.open(&after, &["b"]).is_ok());
    // One without state may go.
    let after = without("processor.plain").replace("from = \"plain\"", "from = \"a\"");
    assert!(flow.open(&after, &["b"]).is_ok());
}

#[tokio::test]
async fn only_nodes_that_there_are_can_be_reset() {
    let flow = Edited::new("edited_unknown", BEFORE).await;
    assert_eq!(flow.open(BEFORE, &["x"]).unwrap_err(), "`--reset x`: there is no node of that name");
}

#[tokio::test]
async fn a_new_node_begins_where_the_others_are() {
    let flow = Edited::new("edited_new", BEFORE).await;
    let after = format!("{BEFORE}\n    output.e = {{ type = \"file\", from = \"plain\", path = \"NAME/e\" }}");
    let before = flow.numbers("d").len();
    flow.finish(&after, &[]).await;
    assert!(before > 0 && before < 200);
    assert_eq!(flow.numbers("d"), (1..=200).collect::<Vec<_>>());
    assert_eq!(flow.numbers("e"), (before as i64 + 1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_new_edge_into_a_fan_in_has_had_nothing_yet() {
    let flow = Edited::new("edited_edge", BEFORE).await;
    let before = flow.numbers("d").len();
    let new = "input.more = { type = \"count\", start = 5000, rows = 30, batch_rows = 5 }";
    let after = format!("{new}\n{}", BEFORE.replace("\"add\", from = \"a\"", "\"add\", from = [\"more\", \"a\"]"));
    // What `a` had read by the barrier of a checkpoint must have arrived, although `more` comes first now.
    flow.crash(&after, 50).await;
    flow.finish(&after, &[]).await;
    let expected = (1..=before as i64).chain(5001..=5030).chain(before as i64 + 1..=200);
    assert_eq!(flow.numbers("d"), expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn an_input_that_had_ended_can_be_read_again() {
    let text = r#"
        input.short = { type = "count", rows = 15, batch_rows = 5 }
        input.long = { type = "count", start = 5000, rows = 300, batch_rows = 5 }
        processor.both = { type = "merge", from = ["short", "long"], rows = 5 }
        output.c = { type = "file", from = "both", path = "NAME/c" }
    "#;
    let flow = Edited::new("edited_again", text).await;
    flow.finish(text, &["short"]).await;
    let numbers = flow.numbers("c");
    assert_eq!(numbers.len(), 15 + 300 + 15);
}

#[tokio::test]
async fn the_dead_letters_of_a_renamed_node_are_those_of_the_new_name() {
    let refusing = "input.a = { on_error = { dead_letter = \"NAME/dead\" }, refuse = 9,";
    let text = BEFORE.replace("input.a = {", refusing);
    let flow = Edited::new("edited_dead_letters", &text).await;
    let after =
        text.replace("from = \"a\"", "from = \"z\"").replace("input.a = {", "input.z = { renamed_from = \"a\",");
    let checkpoint_store = CheckpointStore::new(flow.store.clone(), flow.name, "memory");
    assert!(checkpoint_store.latest().unwrap().unwrap().0.nodes.contains_key("dead_letter_a"));
    flow.finish(&after, &[]).await;
    let nodes = checkpoint_store.latest().unwrap().unwrap().0.nodes;
    assert!(nodes.contains_key("dead_letter_z") && !nodes.contains_key("dead_letter_a"));
}

#[tokio::test]
async fn what_is_gone_is_dropped_in_words_that_fit() {
    let flow = Edited::new("edited_dropped", BEFORE).await;
    let without = |node: &str| {
        let lines = BEFORE.lines().filter(|line| !line.trim().starts_with(node));
        lines.collect::<Vec<_>>().join("\n")
    };
    let error = flow.open(&without("output.d"), &[]).unwrap_err();
    assert!(error.ends_with("or drop it from the state (what it has published stays) with `--reset d`"), "{error}");
    let renamed = BEFORE.replace("from = \"a\"", "from = \"z\"").replace("input.a", "input.z");
    let error = flow.open(&renamed, &[]).unwrap_err();
    assert!(error.contains("and rows that were read count twice, with `--reset a`"), "{error}");
    let losses = |text: &str, reset: &str| {
        let checkpoint_store = CheckpointStore::new(flow.store.clone(), flow.name, "memory");
        let options = ResumeOptions { resets: vec![reset.to_owned()], ..ResumeOptions::default() };
        FlowCheckpoints::losses(&flow.plan(text), &checkpoint_store, &options).unwrap()
    };
    assert!(losses(BEFORE, "a")[0].starts_with("input `a` is read from its first row again; what has learned"));
    assert!(losses(&renamed, "a")[0].ends_with("so that rows that were read count twice"));
    assert_eq!(losses(BEFORE, "b"), ["node `b` loses what it remembers of the rows so far"]);
    assert_eq!(losses(BEFORE, "d"), ["output `d` begins behind the rows so far; what it has published stays"]);
    assert!(losses(BEFORE, "nothing").is_empty());
}

#[tokio::test]
async fn a_former_name_that_the_state_does_not_know_is_named() {
    let flow = Edited::new("edited_misnamed", BEFORE).await;
    let renamed = BEFORE.replace("from = \"b\"", "from = \"y\"");
    let after =
        |before: &str| renamed.replace("processor.b = {", &format!("processor.y = {{ renamed_from = \"{before}\","));
    let error = flow.open(&after("plan"), &[]).unwrap_err();
    let told =
        "node `y` says `renamed_from = \"plan\"`, and there is no state of a node of that name; there is only `b`";
    assert!(error.contains(told), "{error}");
    assert!(flow.open(&after("b"), &[]).is_ok());
    flow.finish(&after("b"), &[]).await;
    // It may stay when it has been done.
    assert!(flow.open(&after("b"), &[]).is_ok());
}

#[tokio::test]
async fn dead_letters_that_are_no_longer_written_are_called_that() {
    let text = BEFORE.replace("input.a = {", "input.a = { on_error = { dead_letter = \"NAME/dead\" }, refuse = 9,");
    let flow = Edited::new("edited_no_dead_letters", &text).await;
    let after = text.replace("on_error = { dead_letter = \"NAME/dead\" }", "on_error = \"drop\"");
    let error = flow.open(&after, &[]).unwrap_err();
    assert!(error.starts_with("the dead letters of node `a` have state in the last checkpoint"), "{error}");
    assert!(error.ends_with("(what it has published stays) with `--reset dead_letter_a`"), "{error}");
    assert!(flow.open(&after, &["dead_letter_a"]).is_ok());
}

/// Such as a generator with a rate: it does not say so, but it ends.
#[tokio::test]
async fn a_live_input_that_has_ended_is_no_other_one_than_before() {
    let text = BEFORE.replace("type = \"count\", rows = 200", "type = \"known\", rows = 200, every = 1, live = true");
    let flow = Edited::new("edited_live_ended", &text).await;
    flow.finish(&text, &[]).await;
    assert!(flow.open(&text, &[]).is_ok());
}

#[tokio::test]
async fn a_flow_that_has_ended_does_not_take_other_inputs_in_silence() {
    let flow = Edited::new("edited_ended", BEFORE).await;
    flow.finish(BEFORE, &[]).await;
    assert!(flow.open(BEFORE, &[]).is_ok());
    let refused = |text: &str, change: &str| {
        let error = flow.open(text, &[]).unwrap_err();
        assert!(
            error.starts_with("the flow has come to its end before, and reads nothing more, while input"),
            "{error}"
        );
        assert!(error.contains(change) && error.contains("take another state folder, and other places"), "{error}");
    };
    refused(&BEFORE.replace("rows = 200", "rows = 300"), "`a` has other settings: the setting `rows` is another one; ");
    refused(&BEFORE.replace("rows = 200", "rows = 200, endless = true"), "`a` does not end any more; ");
    let more = "input.more = { type = \"count\", rows = 3 }\noutput.more_out = { type = \"drop\", from = \"more\" }";
    let more = more.replace("type = \"drop\", from = \"more\"", "type = \"file\", from = \"more\", path = \"NAME/m\"");
    refused(&format!("{more}\n{BEFORE}"), "`more` is new; ");
}
