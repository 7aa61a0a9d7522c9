//! Tests that a flow file carries: scripted inputs, and what has to come out.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use millstream_core::{
    Batch, Collector, Delivery, FAILED, Input, MAIN, Origin, Output, PortRole, Problem, Progress, Result, known_names,
    type_name, with_article,
};
use tokio::runtime::Handle;

use crate::file::{Diagnostics, FlowFile, FlowTest, Reference, Rows};
use crate::plan::{
    InputPort, NeedsState, OutputPort, Plan, PlanOptions, PlannedBody, PlannedNode, PlannedStage, PlannedTime, Shape,
};
use crate::run::{RunMode, RunningFlow, Status};

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
    let running = match RunningFlow::start(plan, RunMode::None, runtime) {
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
        if let Some(failure) = compare(&actual, expected)
            .map_err(|problem| Problem { at: [reference.at.clone(), problem.at].concat(), ..problem })?
        {
            failures.push(format!("`{reference}`: {failure}"));
        }
    }
    Ok(failures)
}

/// Gives every input its scripted rows; those that the test doesn't name give none.
fn script_inputs(plan: &mut Plan, test: &FlowTest) -> Result<(), Problem> {
    for node in &mut plan.nodes {
        if let PlannedBody::Processor { buffering: Some(buffering), .. } = &mut node.body {
            // Its inputs end.
            buffering.is_live = false;
        }
        let PlannedBody::Input { build, finite, event_time, .. } = &mut node.body else { continue };
        let given = test.input.iter().filter(|(reference, _)| reference.node == node.name);
        let rows = given.map(|(reference, rows)| scripted(reference, rows, &node.ports, event_time.as_ref()));
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        let source: Arc<str> = node.name.as_str().into();
        *finite = true;
        if let Some(time) = event_time {
            time.idle = None;
        }
        rows.sort_by_key(|(port, _)| *port);
        *build = Box::new(move || Ok(Box::new(Scripted { source, rows })));
    }
    Ok(())
}

/// The rows that a test gives for a port of an input, and which port that is.
fn scripted(
    reference: &Reference,
    rows: &[Row],
    ports: &[OutputPort],
    event_time: Option<&PlannedTime>,
) -> Result<(usize, RecordBatch), Problem> {
    let name = reference.port.as_deref().unwrap_or(MAIN);
    // Rows that could not be read are no rows of the input.
    let names = || ports.iter().map(|port| port.name.as_str()).filter(|name| *name != FAILED);
    let port = names().position(|known| known == name).ok_or_else(|| {
        let problem = Problem::new(format!("`{}` has no port `{name}`", reference.node));
        problem.help(known_names(name, names())).at(reference.at.clone())
    })?;
    let derived = event_time.and_then(|time| time.columns[port].derived.as_ref());
    let schema = derived.map_or(&ports[port].canonical, |derived| &derived.input).schema();
    let rows = batch_of(schema, rows);
    rows.map(|rows| (port, rows))
        .map_err(|problem| Problem { at: [reference.at.clone(), problem.at].concat(), ..problem })
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
    let Some(index) = plan.nodes.iter().position(|node| node.name == reference.node) else {
        let names = plan.nodes.iter().map(|node| node.name.as_str());
        return Err(unknown(format!("there is no node `{}`", reference.node), known_names(&reference.node, names)));
    };
    let node = &mut plan.nodes[index];
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
        inputs: vec![InputPort { name: "from".into(), role: PortRole::Rows, schema: schema.clone() }],
        ports: Vec::new(),
        stages: vec![PlannedStage {
            edges: vec![edge],
            read_order: crate::align::ReadOrder::Arrival,
            gates: Vec::new(),
        }],
        always: Vec::new(),
        shape: Shape::default(),
        identity: None,
        renamed_from: None,
        is_remote: false,
        hidden: true,
        needs_state: NeedsState::No,
        keeps_log: false,
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
    plan.connect(index, &name, (plan.nodes.len() - 1, 0));
    Ok((schema, rows))
}

/// Rows of a test in the columns of a port. Columns that a row doesn't name are null.
fn batch_of(schema: &SchemaRef, rows: &[Row]) -> Result<RecordBatch, Problem> {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    for (number, row) in rows.iter().enumerate() {
        if let Some(unknown) = row.keys().find(|key| schema.field_with_name(key).is_err()) {
            let problem = Problem::new(format!("there is no column `{unknown}`")).help(known_names(unknown, names()));
            return Err(problem.under(number));
        }
        if let Some(problem) = schema.fields().iter().find_map(|field| fraction(field, row)) {
            return Err(problem.under(number));
        }
    }
    decode(schema, rows).map_err(|error| {
        let of_one = rows.iter().enumerate().find_map(|(number, row)| Some((number, wrong_value(schema, row)?)));
        of_one.map_or_else(|| Problem::new(error.to_string()), |(number, problem)| problem.under(number))
    })
}

type Row = serde_json::Map<String, serde_json::Value>;

/// What is wrong with a number that is no integer, where it should be one: it would lose its fraction.
fn fraction(field: &Field, row: &Row) -> Option<Problem> {
    let (name, kind) = (field.name(), with_article(&type_name(field.data_type())));
    let value = row.get(name).filter(|_| field.data_type().is_integer())?;
    let is_cut = value.as_f64()?.fract() != 0.0;
    is_cut.then(|| Problem::new(format!("column `{name}`: `{value}` is not {kind}")).under(name.as_str()))
}

fn decode(schema: &SchemaRef, rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(rows.len().max(1)).build_decoder()?;
    decoder.serialize(rows)?;
    Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(schema.clone())))
}

/// What is wrong with a row, by its first value that its column can't hold.
fn wrong_value(schema: &SchemaRef, row: &Row) -> Option<Problem> {
    schema.fields().iter().find_map(|field| {
        let only = Arc::new(Schema::new(vec![field.clone()]));
        let value = row.get(field.name()).cloned().unwrap_or_default();
        let of_column = Row::from_iter([(field.name().clone(), value.clone())]);
        decode(&only, &[of_column]).err()?;
        let (name, kind) = (field.name(), with_article(&type_name(field.data_type())));
        Some(match value {
            serde_json::Value::Null => Problem::new(format!("column `{name}` is missing or null")),
            value => {
                let problem = Problem::new(format!("column `{name}`: `{value}` is not {kind}")).under(name.as_str());
                Problem { help: how_written(field.data_type()), ..problem }
            }
        })
    })
}

/// How a test writes values that TOML has no word for.
fn how_written(data_type: &DataType) -> Option<String> {
    let example = match data_type {
        DataType::Date32 => "2026-01-31",
        DataType::Timestamp(..) => "2026-01-31T12:00:00Z",
        DataType::Time64(_) => "12:00:00",
        _ => return None,
    };
    Some(format!("in a test it is written as `\"{example}\"`, whatever the input's format"))
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
    let expected = batch_of(&Arc::new(Schema::new(fields)), expected)?;
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
    /// By output port.
    rows: Vec<(usize, RecordBatch)>,
}

#[async_trait]
impl Input for Scripted {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        let mut start = 0;
        for (port, rows) in self.rows.drain(..) {
            let end = start + rows.num_rows() as u64;
            out.push(port, Batch::new(rows, Origin::new(self.source.clone(), "", start, end)));
            start = end;
        }
        Ok(Progress::End)
    }
}

/// An output that keeps rows in memory.
#[derive(Default)]
struct Keep(Arc<Mutex<Vec<RecordBatch>>>);

#[async_trait]
impl Output for Keep {
    async fn write(&mut self, batch: Batch, _: &mut Collector) -> Result<()> {
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
    fn a_number_does_not_lose_its_fraction() {
        let schema = millstream_testkit::table("n:int64?").schema();
        let problem = batch_of(&schema, &rows(r#"[{"n": 1}, {"n": 36.5}]"#)).expect_err("it is no integer");
        assert_eq!(
            (problem.message.as_str(), problem.at),
            ("column `n`: `36.5` is not an `int64`", vec![1.into(), "n".into()])
        );
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
    fn a_value_that_has_no_place_is_named_with_its_row() {
        let schema = millstream_testkit::table("id:int64 day:date?").schema();
        let wrong = |json: &str| batch_of(&schema, &rows(json)).expect_err(json);
        let problem = wrong(r#"[{"id": 1}, {"id": 2, "day": "31.12.2025"}]"#);
        assert_eq!(problem.message, "column `day`: `\"31.12.2025\"` is not a `date`");
        assert_eq!(problem.at, [millstream_core::Step::from(1), millstream_core::Step::from("day")]);
        assert!(problem.help.is_some_and(|help| help.contains("`\"2026-01-31\"`")));
        assert_eq!(wrong(r#"[{"day": "2025-12-31"}]"#).message, "column `id` is missing or null");
        assert_eq!(wrong(r#"[{"id": 1, "dya": null}]"#).message, "there is no column `dya`");
    }

    #[test]
    fn a_misspelt_column_is_not_taken_for_one_that_is_not_compared() {
        let actual = millstream_testkit::table("id:int64\n1");
        assert!(compare(&actual, &rows(r#"[{"idd": 1}]"#)).is_err());
    }
}
