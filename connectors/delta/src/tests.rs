//! What becomes of tables that others write to, too, and of those that rows don't go into.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use delta_kernel::expressions::Scalar;
use millstream_connectors::Partitioning;
use millstream_core::{
    Barrier, Collector, CommitContext, Committer, Epoch, Home, Output, OutputSettings as _, PendingCommit, Run, Then,
};
use millstream_store::{Objects, ObjectsOptions};
use millstream_testkit::{batch, context, parse, stream, table};
use tempfile::TempDir;

use crate::columns::{of_table, values_of};
use crate::conformance::rows;
use crate::output::DeltaOutput;

/// A folder with a table in it, and with the homes of nodes that write to it.
struct Lake(TempDir);

impl Lake {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn url(&self) -> String {
        format!("file://{}", self.0.path().display())
    }

    fn output(&self, more: &str, rows: &RecordBatch) -> Box<dyn Output> {
        let settings = format!("url = '{}'\npath = 'table'\nevery = '0s'\n{more}", self.url());
        let settings: DeltaOutput = parse(&settings);
        (settings.plan(&context(), &stream("from", rows.schema())).unwrap().build)().unwrap()
    }

    /// The rows that readers see.
    fn rows(&self) -> Vec<String> {
        rows(&Objects::open(&self.url(), &ObjectsOptions::default()).unwrap(), "table")
    }

    /// The commits of the log, by their versions.
    fn log(&self) -> Vec<String> {
        let name = |version| self.path("table/_delta_log").join(format!("{version:020}.json"));
        (0..).map_while(|version| fs::read_to_string(name(version)).ok()).collect()
    }

    /// Makes a table whose log begins like this.
    fn make(&self, lines: &[&str]) {
        fs::create_dir_all(self.path("table/_delta_log")).unwrap();
        fs::write(self.path("table/_delta_log").join(format!("{:020}.json", 0)), lines.join("\n")).unwrap();
    }

    /// What an output for these rows says when it begins.
    async fn refuses(&self, more: &str, rows: &RecordBatch) -> String {
        let opened = self.output(more, rows).open(&Home::Folder(self.path("home")), &run("a", 1)).await;
        opened.err().map_or_else(String::new, |error| error.to_string())
    }

    /// One stage of a flow after the other, each with the same rows.
    async fn stages(&self, state: &str, count: u64, rows: &RecordBatch) -> (Box<dyn Committer>, Vec<PendingCommit>) {
        let home = Home::Folder(self.path(state));
        let mut output = self.output("create_table = true", rows);
        let committer = output.committer().unwrap();
        output.open(&home, &run(state, 1)).await.unwrap();
        let mut stages = Vec::new();
        for number in 1..=count {
            output.write(batch(rows.clone()), &mut Collector::new(0)).await.unwrap();
            output.barrier(Epoch(number));
            let snapshot = output.stage(Barrier { epoch: Epoch(number), then: Then::Continue }).await.unwrap();
            snapshot.state.into_state().unwrap();
            let context = CommitContext {
                flow: "test".into(),
                node: "node".into(),
                incarnation: state.into(),
                generation: 1,
                checkpoint: number,
                epoch: Epoch(number),
                home: home.clone(),
            };
            stages.push(PendingCommit { staged: snapshot.staged.into_state().unwrap(), context });
        }
        (committer, stages)
    }
}

fn run(state: &str, generation: u64) -> Run {
    Run { incarnation: state.into(), generation }
}

/// Rows of a flow.
fn some(name: &str) -> RecordBatch {
    table(&format!("id:int64 name:utf8\n1 {name}\n2 {name}\n"))
}

/// Makes all stages visible.
async fn commit(mut committer: Box<dyn Committer>, stages: Vec<PendingCommit>) {
    for stage in &stages {
        committer.commit(stage).await.unwrap();
        committer.committed(stage).await.unwrap();
    }
}

const THREADS: &str = "commits block threads";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_write_at_the_same_time_have_their_rows_in_the_table() {
    let lake = Lake::new();
    let mut running = Vec::new();
    for name in ["a", "b", "c"] {
        let (committer, stages) = lake.stages(name, 5, &some(name)).await;
        running.push(tokio::spawn(commit(committer, stages)));
    }
    for running in running {
        running.await.expect(THREADS);
    }
    let rows = lake.rows();
    assert_eq!(rows.len(), 3 * 5 * 2);
    for name in ["a", "b", "c"] {
        assert_eq!(rows.iter().filter(|row| row.ends_with(name)).count(), 10, "{rows:?}");
    }
    // The one that makes the table, and one for each stage.
    assert_eq!(lake.log().len(), 16);
    assert!(lake.path("table/_delta_log/_last_checkpoint").exists(), "the log is not summed up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_several_commit_at_once_is_added_once() {
    let lake = Lake::new();
    for round in 0..10 {
        let state = format!("state-{round}");
        let (one, stages) = lake.stages(&state, 1, &some("x")).await;
        let other = lake.output("create_table = true", &some("x")).committer().unwrap();
        let commit = |mut committer: Box<dyn Committer>| {
            let stages = stages.clone();
            tokio::spawn(async move { committer.commit(&stages[0]).await })
        };
        let (one, other) = (commit(one), commit(other));
        one.await.expect(THREADS).unwrap();
        other.await.expect(THREADS).unwrap();
        assert_eq!(lake.rows().len(), 2 * (round + 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_what_is_in_a_file_and_whose_it_is() {
    let lake = Lake::new();
    let (committer, stages) = lake.stages("a", 2, &some("x")).await;
    commit(committer, stages).await;
    let log = lake.log();
    let line = |of: &str| log[2].lines().find(|line| line.contains(of)).unwrap().to_owned();
    let added: serde_json::Value = serde_json::from_str(&line("\"add\"")).unwrap();
    let statistics: serde_json::Value = serde_json::from_str(added["add"]["stats"].as_str().unwrap()).unwrap();
    assert_eq!(statistics["numRecords"], 2, "{statistics}");
    assert_eq!(
        (&statistics["minValues"]["id"], &statistics["maxValues"]["id"]),
        (&1.into(), &2.into()),
        "{statistics}"
    );
    let transaction: serde_json::Value = serde_json::from_str(&line("\"txn\"")).unwrap();
    assert_eq!(transaction["txn"]["appId"], "test.node.a");
    assert_eq!(transaction["txn"]["version"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_other_columns_is_refused_by_their_names() {
    let lake = Lake::new();
    let words = lake.refuses("", &some("x")).await;
    assert!(words.contains("there is no table at `file://") && words.contains("`create_table = true`"), "{words}");
    assert_eq!(lake.refuses("create_table = true", &some("x")).await, "");
    for (columns, words) in [
        ("id:int64 name:utf8 more:int64\n1 x 1", "it has no column `more`"),
        ("id:int64\n1", "the flow does not have its column `name`"),
        ("id:int64 name:int64\n1 1", "its column `name` is string, and that of the flow is long"),
        ("id:int64? name:utf8\n1 x", "its column `id` is never null, and that of the flow may be"),
    ] {
        let said = lake.refuses("create_table = true", &table(columns)).await;
        assert!(said.contains(words), "{said}");
    }
    let said = lake.refuses("partition = ['name']", &some("x")).await;
    assert!(said.contains(r#"it is divided by [], and `partition` says ["name"]"#), "{said}");
    // In any order.
    assert_eq!(lake.refuses("", &table("name:utf8 id:int64\nx 1")).await, "");
}

const PROTOCOL: &str = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#;

/// What a log says of a table with a column `id`.
fn metadata(settings: &str, field: &str) -> String {
    let fields = format!(
        r#"{{"type":"struct","fields":[{{"name":"id","type":"long","nullable":true,"metadata":{{{field}}}}}]}}"#
    );
    let fields = serde_json::Value::from(fields);
    format!(
        r#"{{"metaData":{{"id":"t","format":{{"provider":"parquet","options":{{}}}},"schemaString":{fields},"partitionColumns":[],"configuration":{{{settings}}},"createdTime":0}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_asks_for_more_is_refused() {
    let rows = table("id:int64\n1");
    let mapped = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["columnMapping"],"writerFeatures":["columnMapping"]}}"#;
    let unknown =
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["new"],"writerFeatures":["new"]}}"#;
    let id = r#""delta.columnMapping.id":1,"delta.columnMapping.physicalName":"col-1""#;
    for (protocol, settings, field, words) in [
        (PROTOCOL, "", "", ""),
        (PROTOCOL, r#""delta.setTransactionRetentionDuration":"interval 1 hours""#, "", "it soon forgets"),
        (PROTOCOL, r#""delta.setTransactionRetentionDuration":"interval 30 days""#, "", ""),
        (mapped, r#""delta.columnMapping.mode":"name""#, id, "its files have other columns"),
        (unknown, "", "", "new"),
    ] {
        let lake = Lake::new();
        lake.make(&[protocol, &metadata(settings, field)]);
        let said = lake.refuses("", &rows).await;
        assert!(if words.is_empty() { said.is_empty() } else { said.contains(words) }, "{words}: {said}");
    }
}

#[test]
fn columns_that_no_table_has_are_refused_before_a_flow_runs() {
    let said = |columns: &str| of_table(&table(columns).schema(), &[]).err().map(|problem| problem.message);
    assert_eq!(said("id:int64 at:timestamp? on:date ratio:float32 cents:decimal(10,2)"), None);
    let unsigned = "`id` is uint32, which tables of Delta Lake don't have";
    assert_eq!(said("id:uint32").as_deref(), Some(unsigned));
    assert_eq!(said("at:time").as_deref(), Some("`at` is time, which tables of Delta Lake don't have"));
    assert_eq!(said("a;b:int64").as_deref(), Some("a table of Delta Lake can't have a column `a;b`"));
    assert!(said("id:int64 ID:int64").is_some());
}

/// A value that could be written to a file, and not to the log, would never become visible.
#[test]
fn whatever_divides_rows_comes_back_from_the_names_of_folders() {
    let text = "at:timestamp? day:date? flag:boolean? cents:decimal(10,2)? n:int8? word:utf8? id:int64\n\
         0001-01-01T00:00:00Z 0001-01-01 true -99999999.99 -128 a/b=c%25 1\n\
         9999-12-31T23:59:59.999999Z 9999-12-31 false 0.01 127 ü{}*?:\\ 2\n\
         1969-12-31T23:59:59.5Z 1970-01-01 true 0.00 0 __HIVE 3\n\
         2026-01-31T00:00:00Z 2026-01-31 true 0.00 0 . 4\n\
         null null null null null null 5\n";
    let rows = table(text);
    let names = ["at", "day", "flag", "cents", "n", "word"].map(str::to_owned);
    let columns = of_table(&rows.schema(), &names).unwrap();
    let mut partitioning = Partitioning::plan(&names, &stream("from", rows.schema())).unwrap();
    let (_, folders) = partitioning.split(&rows).unwrap();
    let of = |folder: &Path| values_of(&columns, &names, &format!("{}/file.parquet", folder.display())).unwrap();
    let values: Vec<_> = folders.iter().map(|folder| of(folder)).collect();
    let words: Vec<_> = values.iter().map(|values| values["word"].clone()).collect();
    let text = |text: &str| Scalar::String(text.into());
    assert_eq!(words[..4], [text("a/b=c%25"), text("ü{}*?:\\"), text("__HIVE"), text(".")]);
    assert!(values[4].values().all(Scalar::is_null), "{:?}", values[4]);
    let days: BTreeSet<_> = values[..4].iter().map(|values| format!("{:?}", values["day"])).collect();
    assert_eq!(days.len(), 4);
    assert_eq!(values[2]["at"], Scalar::Timestamp(-500_000));
    // As Arrow writes what is far away.
    for (name, value) in
        [("at", "+12026-01-01T00:00:00.000001Z"), ("at", "-0001-12-31T00:00:00Z"), ("day", "+12026-01-01")]
    {
        let values = values_of(&columns, &[name.to_owned()], &format!("{name}={value}/file"));
        assert!(values.is_ok(), "{value}: {values:?}");
    }
}
