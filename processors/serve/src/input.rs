//! The input `served`: what models that are served have predicted, and what became of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use millstream_core::{
    Collector, Columns, Error, Figures, Home, Input, InputPlan, InputSettings, Kind, Parts, PlanContext, Positions,
    Problem, Problems, Progress, Report, Result, ResultExt as _, State, timestamp,
};
use millstream_formats::{Decoder, Format, ReadBodies, Rows, SiftedRows};
use millstream_models::registry::check_model_name;
use millstream_store::{LocalFiles, LogFollower, LogMark, Mark, Record};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::request_log::{self, Head, Names, unpack};

/// Reads what models that are served were asked and have predicted, or what became of it.
///
/// `millstream serve` and a daemon note the rows that they predict in a log, if `[serve.log]` says where, and answer with an id for each. Whoever learns what
/// became of one sends it by that id (`POST /api/v1/models/NAME/learn`), and is answered when it is durable. This input reads that log: with `rows = "labelled"`
/// each row that has got its label, with its features as they were when it was predicted, so that a model learns from it as from any row; with `rows = "predicted"` each row that was
/// predicted, with or without a label.
///
/// A row has the columns of `schema`: features, what was predicted (`prediction`, `probability`, …), and, of labelled rows, the label under the name that it has in
/// training (or `reward`, of models that choose actions). Behind them it has
///
/// * `prediction_id`: the id.
/// * `predicted_at`: when it was predicted.
/// * `model_version`: by which version, such as `fraud/3`.
/// * `labelled_at`, of labelled rows: when the label has come.
///
/// A row that is not of the types of `schema` leaves by the port `failed`. Rows come in the order in which they, or their labels, have become durable, and each exactly once, through
/// crashes of the flow and of whoever serves.
///
/// The log belongs to whoever serves. The input notes in it, under a name of its own, how far checkpoints have covered it; what all readers have taken is removed when it is
/// too old to be labelled, or in the way. A reader that will not come back is forgotten by removing its folder in `readers` of the log.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ServedInput {
    /// The folder of the log, as `[serve.log]` or `millstream serve --log` says it, relative to the folder that the registry is relative to.
    log: PathBuf,
    /// The model whose rows are read.
    model: String,
    /// Which rows: `"labelled"` ones, which is the default, or all that were `"predicted"`.
    #[serde(default)]
    rows: Which,
    /// The columns and their types: `{ amount = "float64", country = "utf8", fraud = "boolean" }`. With a `?` behind its type a value may be missing or null.
    schema: Columns,
    /// By which name the log knows this input, by default that of the flow and that of the node, with a dot between them. Flows of the same name that read one log need different ones.
    reader: Option<String>,
}

/// Which rows are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Which {
    /// Those that have got a label.
    #[default]
    Labelled,
    /// All that were predicted.
    Predicted,
}

/// How long it waits for more, each time.
const PAUSE: Duration = Duration::from_millis(20);

/// How many bytes of rows are read at once, unless one record has more.
const MOST_BYTES: usize = 16 << 20;

/// The one partition.
const PARTITION: &str = "";

/// The piece of state with the name of the log.
const LOG: &str = "log";

impl Kind for ServedInput {
    const NAME: &'static str = "served";
    const ALSO_CALLED: &'static [&'static str] = &[
        "serve",
        "predictions",
        "labels",
        "feedback",
        "payload_log",
        "inference_log",
        "inference_table",
        "data_capture",
    ];
    const EXAMPLE: &'static str = r#"
log = "requests"
model = "fraud"
schema = { amount = "float64", country = "utf8", fraud = "boolean" }
"#;
}

impl InputSettings for ServedInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let format =
            Format::<ReadBodies>::named("ndjson").ok_or_else(|| Problem::new("this build reads no rows of JSON"))?;
        let decoder = format.decoder(&self.schema, context)?;
        let schema = self.with_own_columns(&decoder.schema())?;
        check_model_name(&self.model).map_err(|error| Problem::new(error.to_string()).at(["model"]))?;
        let reader = self.reader.clone().unwrap_or_else(|| format!("{}.{}", context.flow, context.node));
        if reader.is_empty() || reader.starts_with('.') || reader.contains('/') {
            let problem = Problem::new(format!("`{reader}` can't be the name of a folder")).at(["reader"]);
            return Err(problem.help("letters, digits, `_`, `-` and `.`").into());
        }
        let source = Source {
            source: context.node.as_str().into(),
            folder: context.output_path(&self.log),
            model: self.model.clone(),
            which: self.rows,
            decoder,
            schema: schema.clone(),
            reader,
            position: None,
            log: None,
            open: None,
            mark: None,
            is_durable: false,
            is_replay: false,
        };
        Ok(InputPlan { finite: false, acknowledges: true, ..InputPlan::new(schema, move || Ok(source)) })
    }
}

impl ServedInput {
    /// The columns of rows with those that are not theirs.
    fn with_own_columns(&self, schema: &SchemaRef) -> Result<SchemaRef, Problem> {
        let time = |name: &str| Field::new(name, timestamp(), false);
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let mut own = vec![text("prediction_id"), time("predicted_at"), text("model_version")];
        if self.rows == Which::Labelled {
            own.push(time("labelled_at"));
        }
        if let Some(twice) = own.iter().find(|field| schema.field_with_name(field.name()).is_ok()) {
            let problem = Problem::new(format!("each row has a column `{}` besides those of `schema`", twice.name()));
            return Err(problem.at(["schema", twice.name()]));
        }
        let fields = schema.fields().iter().cloned().chain(own.into_iter().map(Arc::new));
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }
}

/// The input while it reads.
struct Source {
    source: Arc<str>,
    folder: PathBuf,
    model: String,
    which: Which,
    decoder: Decoder,
    schema: SchemaRef,
    reader: String,
    /// The first number to read; the oldest that there is, if it begins.
    position: Option<u64>,
    /// The name of the log that was read, if it was.
    log: Option<String>,
    open: Option<Open>,
    mark: Option<LogMark>,
    is_durable: bool,
    is_replay: bool,
}

/// The log, once it is there.
struct Open {
    follower: LogFollower,
    names: Names,
}

/// Rows of the log that are wanted, as lines.
#[derive(Default)]
struct Wanted {
    lines: Vec<u8>,
    rows: Vec<Row>,
}

/// What is known of a row besides its line.
struct Row {
    position: u64,
    number: u64,
    version: u64,
    predicted_at: i64,
    labelled_at: i64,
}

impl Source {
    /// Opens the log, if it is there.
    fn connect(&mut self) -> Result<Option<&mut Open>> {
        if self.open.is_none() {
            let Some(names) = Names::read(&self.folder)? else { return Ok(None) };
            if self.log.as_ref().is_some_and(|log| log != names.log()) {
                return Err(Error::new(format!(
                    "the log `{}` is not the one that was read before: it was removed, and another one has begun; put it back from a \
                     copy, or begin with the other one by `--reset` of the node",
                    self.folder.display()
                )));
            }
            // Who can't go on leaves no mark, which would hold the log up.
            LogFollower::open(Arc::new(LocalFiles), &self.folder, self.position)?;
            // Before it is looked what there is, so that it stays.
            if self.is_durable && self.mark.is_none() {
                self.mark = Some(LogMark::take(Arc::new(LocalFiles), &self.folder, &self.reader)?);
            }
            let follower = LogFollower::open(Arc::new(LocalFiles), &self.folder, self.position)?;
            self.position = Some(follower.number());
            self.log = Some(names.log().to_owned());
            self.open = Some(Open { follower, names });
        }
        Ok(self.open.as_mut())
    }

    /// The next rows. None if nothing more is durable yet.
    fn read(&mut self) -> Result<Option<Rows>> {
        let (most, which, model) = (self.decoder.batch_rows, self.which, self.model.clone());
        let Some(open) = self.connect()? else { return Ok(None) };
        let start = open.follower.number();
        let mut wanted = Wanted::default();
        while wanted.rows.len() < most && wanted.lines.len() < MOST_BYTES {
            let Some(record) = open.follower.try_next()? else { break };
            wanted.add(&record, start, which, &model)?;
        }
        let end = open.follower.number();
        if end == start {
            return Ok(None);
        }
        self.position = Some(end);
        self.rows(wanted, start, end).map(Some)
    }

    /// Reads lines: the rows of a stretch of the log.
    fn rows(&self, Wanted { lines, rows }: Wanted, start: u64, end: u64) -> Result<Rows> {
        let mut reader = self.decoder.read_body(lines)?;
        let (mut read, mut sifted) = (Rows::default(), Vec::new());
        while reader.next(&mut read)? {}
        let mut from = start;
        for (first, batch) in read.batches {
            let of = &rows[first as usize..][..batch.num_rows()];
            let positions: Vec<_> = of.iter().map(|row| row.position).collect();
            let to = positions.last().map_or(from, |last| last + 1);
            sifted.push(SiftedRows { start: from, end: to, rows: self.with_own(&batch, of)?, positions });
            from = to;
        }
        match sifted.last_mut() {
            Some(last) => last.end = end,
            None => {
                let rows = RecordBatch::new_empty(self.schema.clone());
                sifted.push(SiftedRows { start, end, rows, positions: Vec::new() });
            }
        }
        let mut failed = read.failed;
        failed.iter_mut().for_each(|row| (row.position, row.line) = (rows[row.position as usize].position, None));
        Ok(Rows { sifted, failed, ..Rows::default() })
    }

    /// Rows with the columns that are not theirs.
    fn with_own(&self, batch: &RecordBatch, rows: &[Row]) -> Result<RecordBatch> {
        let names = &self.open.as_ref().ok_or_else(|| Error::new("the input is not open"))?.names;
        let texts = |text: &dyn Fn(&Row) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(text)))
        };
        let times = |time: &dyn Fn(&Row) -> i64| -> ArrayRef {
            let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(time));
            Arc::new(times.with_data_type(timestamp()))
        };
        let mut columns = batch.columns().to_vec();
        columns.push(texts(&|row| names.id(row.number)));
        columns.push(times(&|row| row.predicted_at));
        columns.push(texts(&|row| format!("{}/{}", self.model, row.version)));
        if self.which == Which::Labelled {
            columns.push(times(&|row| row.labelled_at));
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

impl Wanted {
    /// Adds the rows of a record from a position on, if they are wanted.
    fn add(&mut self, record: &Record, from: u64, which: Which, model: &str) -> Result<()> {
        let (head, lines) = unpack(&record.payload).doing(|| format!("reading record {}", record.number))?;
        let Head { at, kind, .. } = head;
        let positions = record.number..record.end();
        let rows: Vec<Row> = match (kind, which) {
            _ if head.model != *model => return Ok(()),
            (request_log::Kind::Predicted { version }, Which::Predicted) => positions
                .map(|number| Row { position: number, number, version, predicted_at: at, labelled_at: at })
                .collect(),
            (request_log::Kind::Labelled { of }, Which::Labelled) => positions
                .zip(of)
                .map(|(position, of)| {
                    let request_log::Labelled { number, version, predicted_at, .. } = of;
                    Row { position, number, version, predicted_at, labelled_at: at }
                })
                .collect(),
            _ => return Ok(()),
        };
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        for (row, line) in rows.into_iter().zip(lines).filter(|(row, _)| row.position >= from) {
            self.lines.extend_from_slice(line);
            self.rows.push(row);
        }
        Ok(())
    }
}

#[async_trait]
impl Input for Source {
    async fn open(&mut self, home: &Home) -> Result<()> {
        self.is_durable = home.is_durable();
        self.is_replay = matches!(home, Home::Replay(_));
        self.connect().map(drop)
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        loop {
            if let Some(rows) = self.read()? {
                rows.send(&self.source, &PARTITION.into(), out);
                return Ok(Progress::More);
            }
            if self.is_replay {
                return Ok(Progress::End);
            }
            sleep(PAUSE).await;
        }
    }

    fn snapshot(&mut self, _positions: &Positions) -> Result<Parts> {
        let mut parts = Parts::default();
        parts.put(LOG, &self.log)?;
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        self.position = positions.get(PARTITION).copied();
        self.log = state.get(LOG)?;
        Ok(())
    }

    async fn checkpoint_completed(&mut self, newest: &Positions, oldest: &Positions) -> Result<()> {
        let Some(mark) = &mut self.mark else { return Ok(()) };
        match (oldest.get(PARTITION), newest.get(PARTITION)) {
            (Some(needed), Some(wanted)) => mark.set(Mark { needed: *needed, wanted: *wanted }),
            _ => Ok(()),
        }
    }

    fn report(&self) -> Option<Report> {
        let trouble = || format!("nobody has begun the log `{}` yet", self.folder.display());
        let values = self.open.is_none().then(|| ("trouble", json!(trouble()))).into_iter().collect();
        Some(Report::Figures(Figures { title: "log of requests".to_owned(), values }))
    }
}
