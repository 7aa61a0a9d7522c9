//! Tests that a flow file carries: scripted inputs, and what has to come out.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use millstream_core::{
    Batch, Collector, Delivery, Input, MAIN, Origin, Output, Problem, Progress, Result, known_names, type_name,
};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::file::{Diagnostics, FlowFile, FlowTest, Reference, Rows};
use crate::plan::{InputPort, NeedsState, Plan, PlanOptions, PlannedBody, PlannedNode, PlannedStage, Shape};
use crate::run::{Effects, RunningFlow, Status};

/// How one test went.
#[derive(Debug)]
pub struct TestOutcome {
    /// What the test is about.
    pub name: String,
    /// What was not as expected; empty if the test passed.
    pub failures: Vec<String>,
}

/// How near floats have to be, relative to the larger one or absolute below 1.
const TOLERANCE: f64 = 1e-9;

/// Runs the tests of a flow, each from its inputs' scripted rows to the expected ones, without any effect outside.
pub async fn run_tests(
    file: &FlowFile,
    options: &PlanOptions<'_>,
    runtime: &Handle,
) -> Result<Vec<TestOutcome>, Diagnostics> {
    let options = PlanOptions { prune: false, scripted: true, ..options.clone() };
    let mut outcomes = Vec::with_capacity(file.tests.len());
    for test in &file.tests {
        let plan = Plan::new(file, &options)?;
        let failures =
            run_test(plan, test, runtime).await.map_err(|problem| file.diagnose_test(test, problem.into()))?;
        outcomes.push(TestOutcome { name: test.name.clone(), failures });
    }
    Ok(outcomes)
}

async fn run_test(mut plan: Plan, test: &FlowTest, runtime: &Handle) -> Result<Vec<String>, Problem> {
    script_inputs(&mut plan, test)?;
    let captured = capture(&mut plan, test)?;
    let running = match RunningFlow::start(plan, Effects::None, runtime) {
        Ok(running) => running,
        Err(error) => return Ok(vec![error.to_string()]),
    };
    if let Status::Failed(error) = running.join().await.status {
        return Ok(vec![error.to_string()]);
    }
    let mut failures = Vec::new();
    for ((reference, expected), (schema, rows)) in test.expect.iter().zip(captured) {
        let rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
        let actual = concat_batches(&schema, rows.iter()).map_err(|error| Problem::new(error.to_string()))?;
        if let Some(failure) =
            compare(&actual, expected).map_err(|problem| Problem { at: reference.at.clone(), ..problem })?
        {
            failures.push(format!("`{reference}`: {failure}"));
        }
    }
    Ok(failures)
}

/// Gives every input its scripted rows; those that the test doesn't name give none.
fn script_inputs(plan: &mut Plan, test: &FlowTest) -> Result<(), Problem> {
    for node in &mut plan.nodes {
        let PlannedBody::Input { build, finite, event_time, .. } = &mut node.body else { continue };
        let derived = event_time.as_ref().and_then(|time| time.derived.as_ref());
        let schema = derived.map_or(&node.ports[0].canonical, |derived| &derived.input).schema().clone();
        let rows = test.input.iter().find(|(name, _)| *name == node.name).map(|(_, rows)| rows.as_slice());
        let rows = batch_of(&schema, rows.unwrap_or_default())
            .map_err(|message| Problem::new(message).at(["input", node.name.as_str()]))?;
        let source: Arc<str> = node.name.as_str().into();
        *finite = true;
        if let Some(time) = event_time {
            time.idle = None;
        }
        *build = Box::new(move || Ok(Box::new(Scripted { source, rows: Some(rows) })));
    }
    Ok(())
}

type Captured = (SchemaRef, Arc<Mutex<Vec<RecordBatch>>>);

/// Adds an output that keeps rows for each expectation, and makes all others drop theirs.
fn capture(plan: &mut Plan, test: &FlowTest) -> Result<Vec<Captured>, Problem> {
    for node in &mut plan.nodes {
        if let PlannedBody::Output { build, .. } = &mut node.body {
            *build = Box::new(|| Ok(Box::new(Keep::default())));
        }
    }
    test.expect.iter().map(|(reference, _)| capture_one(plan, reference)).collect()
}

fn capture_one(plan: &mut Plan, reference: &Reference) -> Result<Captured, Problem> {
    let unknown = |what: String, help: String| Problem::new(what).help(help).at(reference.at.clone());
    let keep = Keep::default();
    let rows = keep.0.clone();
    let Some(place) = plan.nodes.iter().position(|node| node.name == reference.node) else {
        let names = plan.nodes.iter().map(|node| node.name.as_str());
        return Err(unknown(format!("there is no node `{}`", reference.node), known_names(&reference.node, names)));
    };
    let node = &mut plan.nodes[place];
    if let PlannedBody::Output { build, .. } = &mut node.body {
        *build = Box::new(move || Ok(Box::new(keep)));
        return Ok((node.inputs[0].schema.clone(), rows));
    }
    let name = reference.port.as_deref().unwrap_or(MAIN);
    let Some(port) = node.ports.iter().find(|port| port.name == name) else {
        let names = node.ports.iter().map(|port| port.name.as_str());
        return Err(unknown(format!("`{}` has no port `{name}`", node.name), known_names(name, names)));
    };
    let schema = port.canonical.schema().clone();
    let edge = plan.edges.len();
    plan.nodes.push(PlannedNode {
        name: format!("expect {reference}"),
        kind: "test",
        inputs: vec![InputPort { name: "from".into(), schema: schema.clone() }],
        ports: Vec::new(),
        stages: vec![PlannedStage { edges: vec![edge], turns: crate::align::Turns::Arrival, gates: Vec::new() }],
        always: Vec::new(),
        shape: Shape::default(),
        renamed_from: None,
        hidden: true,
        needs_state: NeedsState::No,
        on_error: crate::file::OnError::Fail,
        max_failed: None,
        body: PlannedBody::Output {
            delivery: Delivery::AtLeastOnce,
            writes: None,
            place: None,
            takes_other_columns: true,
            build: Box::new(move || Ok(Box::new(keep))),
        },
    });
    let name = name.to_owned();
    plan.connect(place, &name, (plan.nodes.len() - 1, 0));
    Ok((schema, rows))
}

/// Rows of a test in the columns of a port. Columns that a row doesn't name are null.
fn batch_of(schema: &SchemaRef, rows: &[serde_json::Map<String, Value>]) -> Result<RecordBatch, String> {
    let row = |(number, row)| row_of(schema, row).map_err(|error| format!("row {number}: {error}"));
    let batches = rows.iter().enumerate().map(row).collect::<Result<Vec<_>, _>>()?;
    concat_batches(schema, &batches).map_err(|error| error.to_string())
}

fn row_of(schema: &SchemaRef, row: &serde_json::Map<String, Value>) -> Result<RecordBatch, String> {
    for (name, value) in row {
        let Ok(field) = schema.field_with_name(name) else {
            let names = schema.fields().iter().map(|field| field.name().as_str());
            return Err(format!("there is no column `{name}`; {}", known_names(name, names)));
        };
        // The decoder would cut the fraction off.
        if field.data_type().is_integer() && value.as_f64().is_some_and(|number| number.fract() != 0.0) {
            return Err(format!("column `{name}`: {value} is not an `{}`", type_name(field.data_type())));
        }
    }
    let decoded = ReaderBuilder::new(schema.clone()).with_batch_size(1).build_decoder().and_then(|mut decoder| {
        decoder.serialize(std::slice::from_ref(row))?;
        decoder.flush()
    });
    let rows = decoded.map_err(|error| {
        let text = error.to_string();
        let text = text.trim_start_matches("Json error: ");
        text.strip_prefix("whilst decoding field ")
            .map_or(text.to_owned(), |text| format!("column {}", text.replacen('\'', "`", 2)))
    })?;
    Ok(rows.unwrap_or_else(|| RecordBatch::new_empty(schema.clone())))
}

/// The first difference, in words. Columns that no expected row names are not compared.
fn compare(actual: &RecordBatch, expected: &Rows) -> Result<Option<String>, Problem> {
    if actual.num_rows() != expected.len() {
        return Ok(Some(format!("expected {} rows, got {}{}", expected.len(), actual.num_rows(), listing(actual))));
    }
    let is_named = |field: &&Arc<Field>| expected.iter().any(|row| row.contains_key(field.name()));
    let schema = actual.schema();
    let named = schema.fields().iter().filter(is_named).map(|field| field.as_ref().clone().with_nullable(true));
    let mut fields: Vec<Field> = named.collect();
    // A misspelt column must not pass as "not compared".
    let unknown = expected.iter().flat_map(|row| row.keys()).find(|key| schema.field_with_name(key).is_err());
    if let Some(unknown) = unknown {
        return Err(millstream_core::unknown_column(unknown, &schema));
    }
    if fields.is_empty() {
        return Ok(None);
    }
    fields.dedup_by(|a, b| a.name() == b.name());
    let expected = batch_of(&Arc::new(Schema::new(fields)), expected).map_err(Problem::new)?;
    for row in 0..actual.num_rows() {
        for (field, expected) in expected.schema().fields().iter().zip(expected.columns()) {
            let Some(actual) = actual.column_by_name(field.name()) else { continue };
            if !is_same(actual, expected, row) {
                let (actual, expected) = (shown(actual, row), shown(expected, row));
                return Ok(Some(format!("row {row}: `{}` is {actual}, expected {expected}", field.name())));
            }
        }
    }
    Ok(None)
}

fn is_same(actual: &ArrayRef, expected: &ArrayRef, row: usize) -> bool {
    match (float(actual, row), float(expected, row)) {
        (Some(a), Some(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
        }
        _ => actual.slice(row, 1).to_data() == expected.slice(row, 1).to_data(),
    }
}

fn float(array: &ArrayRef, row: usize) -> Option<f64> {
    if array.is_null(row) {
        return None;
    }
    let wide = array.as_any().downcast_ref::<Float64Array>().map(|array| array.value(row));
    wide.or_else(|| array.as_any().downcast_ref::<Float32Array>().map(|array| f64::from(array.value(row))))
}

fn shown(array: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::default().with_null("null");
    ArrayFormatter::try_new(array, &options).map(|format| format.value(row).to_string()).unwrap_or_default()
}

/// The first rows that came, for the reader of a failure.
fn listing(rows: &RecordBatch) -> String {
    let mut text = String::new();
    for row in 0..rows.num_rows().min(5) {
        if let Ok(line) = millstream_core::json_row(rows, row) {
            let _ = write!(text, "\n      {line}");
        }
    }
    text
}

/// An input that gives the rows of a test.
struct Scripted {
    source: Arc<str>,
    rows: Option<RecordBatch>,
}

#[async_trait]
impl Input for Scripted {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        if let Some(rows) = self.rows.take() {
            let origin = Origin::new(self.source.clone(), "", 0, rows.num_rows() as u64);
            out.push(0, Batch::new(rows, origin));
        }
        Ok(Progress::End)
    }
}

/// An output that keeps rows in memory.
#[derive(Default)]
struct Keep(Arc<Mutex<Vec<RecordBatch>>>);

#[async_trait]
impl Output for Keep {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(batch.rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(json: &str) -> Rows {
        serde_json::from_str(json).expect("JSON")
    }

    fn difference(expected: &str) -> Option<String> {
        let actual = millstream_testkit::table("id:int64 amount:float64? name\n1 0.30000000000000004 Ada\n2 null Bob");
        compare(&actual, &rows(expected)).expect("known columns")
    }

    #[test]
    fn floats_may_differ_in_the_last_digits() {
        assert_eq!(difference(r#"[{"id": 1, "amount": 0.3}, {"id": 2}]"#), None);
    }

    #[test]
    fn rows_that_are_not_of_their_types_are_named() {
        let schema = millstream_testkit::table("n:int64? d:timestamp?").schema();
        let error = |json: &str| batch_of(&schema, &rows(json)).expect_err("it is wrong");
        assert_eq!(error(r#"[{"n": 1}, {"n": 36.5}]"#), "row 1: column `n`: 36.5 is not an `int64`");
        assert!(
            error(r#"[{"d": "31.12.2025"}]"#).starts_with("row 0: column `d`: "),
            "{}",
            error(r#"[{"d": "31.12.2025"}]"#)
        );
        assert_eq!(error(r#"[{"m": 1}]"#), "row 0: there is no column `m`; there are `n`, `d`");
        assert_eq!(batch_of(&schema, &rows(r#"[{"n": 2.0}, {}]"#)).expect("it fits").num_rows(), 2);
    }

    #[test]
    fn differences_are_said_in_words() {
        let wrong = difference(r#"[{"id": 1}, {"id": 3}]"#);
        assert_eq!(wrong.as_deref(), Some("row 1: `id` is 2, expected 3"));
        let null = difference(r#"[{"amount": 0.3}, {"amount": 1.0}]"#);
        assert_eq!(null.as_deref(), Some("row 1: `amount` is null, expected 1.0"));
        assert!(difference("[{}]").is_some_and(|text| text.starts_with("expected 1 rows, got 2")));
    }

    #[test]
    fn a_misspelt_column_is_not_taken_for_one_that_is_not_compared() {
        let actual = millstream_testkit::table("id:int64\n1");
        assert!(compare(&actual, &rows(r#"[{"idd": 1}]"#)).is_err());
    }
}
