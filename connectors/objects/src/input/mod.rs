//! The input `objects`: its settings, and what they come to.
//!
//! * `listing`: which objects there are.
//! * `seen`: which of them were read.
//! * `download`: what of an object has to be here to be read.
//! * `shape`: rows of an object as the flow wants them.
//! * `reader`: the input, which reads one object after the other.

mod download;
mod listing;
mod reader;
mod seen;
mod shape;

use std::sync::Arc;

use millstream_core::{
    ByteSize, Columns, Disturbance, Duration, InputPlan, InputSettings, Kind, PlanContext, Probe, Problem, Problems,
    Result, Step, type_name,
};
use millstream_formats::{Compression, Decoder, FORMATS, FileKind, Format, ReadFiles, ReadFormat};
use millstream_store::{Objects, Scheme};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::{CONNECTION, ObjectsConnection, look};
use listing::Patterns;
use reader::ObjectsReader;
use shape::Shape;

/// Reads objects of S3, Google Cloud Storage or Azure Blob Storage, files of a folder, or files on a web server: Parquet, NDJSON, CSV, Arrow IPC and
/// others.
///
/// ```toml
/// [input.events]
/// type = "objects"
/// url = "s3://lake"
/// region = "eu-central-1"
/// path = "events/**/*.parquet"
/// schema = { id = "int64", amount = "float64?" }
/// partition = { country = "utf8" }
/// interval = "30s"
/// ```
///
/// Objects are read one after the other, in the order of their names, and each once. The input ends behind those that are there; with `interval` it
/// looks for new ones again and again, and with `once` each run reads those that have come since the one before. What was read is part of the flow's state,
/// so that with `--state` each row counts exactly once through any crash; within an object, too, the next run goes on with the row that it was at.
/// `millstream replay` reads the same objects again, as long as they are there.
///
/// An object is fetched to a temporary file before it is read, by the version that was listed; of one in Parquet only the columns that the flow uses, and with
/// `format = { type = "parquet", where = "…" }` only row groups that may have rows which meet that condition.
/// While one is read, the next one is on its way.
///
/// An object must not change once it is there. If one does, or is gone before it was read, or damaged, `on_bad_object` says what follows. Each object is a
/// partition, called by its name below `url`, and a row's position is its number in the object, counted from 0. A row that can't be read leaves by the port `failed`. The
/// columns of Parquet, Avro and Arrow are found by their names in `schema`, and have to have the types that it says.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ObjectsInput {
    #[serde(flatten)]
    connection: ObjectsConnection,
    /// The objects, by their names behind that of `url`: one, or a pattern with `*` (within a part between two `/`), `**` (any number of such parts), `?` and
    /// `[ab]`; or a list of them. What stands before the first of these is what is listed. A web server does not say what it has, so that it takes no
    /// pattern.
    path: Paths,
    /// How they are written: `"csv"`, or `{ type = "csv", delimiter = ";" }` with settings of the format. By default, the ending of `path` says it:
    /// `.csv`, `.tsv` (CSV with tabs), `.ndjson`, `.jsonl`, `.json`, `.parquet`, `.arrow`, `.avro`; with `.gz`, `.zst` or `.bz2` behind it if they are
    /// compressed.
    format: Option<Format<ReadFiles>>,
    /// How they are compressed, if their names don't say it.
    compression: Option<Compression>,
    /// The columns and their types: `{ id = "utf8", amount = "float64?" }`. Others are not read. A row in which a value is of another type, or missing without
    /// a `?` behind the type, leaves by `failed`.
    schema: Columns,
    /// Columns whose values are in the names of objects, as Hive writes them: with `{ country = "utf8", year = "int32" }`, the rows of
    /// `events/country=DE/year=2026/a.parquet` have `DE` and 2026. `__HIVE_DEFAULT_PARTITION__` is a missing value.
    partition: Option<Columns>,
    /// A column for the name of the object that a row is from.
    key_column: Option<String>,
    /// How often to look for new objects: `"30s"`. Without it, the input ends behind those that are there when it begins.
    interval: Option<Duration>,
    /// `new_objects`: the flow is a job that is run again and again with `--state`. Each run reads the objects that no run before has read, and then stops.
    once: Option<Once>,
    /// With `interval` or `once`: how long objects are remembered that were read. One that is older than the newest by more than this is taken for read, so that it should
    /// be longer than it takes to upload one: the age of an object of S3 is counted from when its upload began. Without it, all are
    /// remembered, each with some 100 bytes of every checkpoint.
    lookback: Option<Duration>,
    /// What follows if an object is damaged, gone, or changed since it was listed or read. `stop`: the flow ends with an error. `fail`: it leaves
    /// by the port `failed`, as a row with its name, and nothing more of it is read.
    #[serde(default)]
    on_bad_object: OnBadObject,
    /// How large an object may be, by default `"16GiB"`: the temporary files of two have to have room.
    #[serde(default = "max_object")]
    max_object: ByteSize,
}

fn max_object() -> ByteSize {
    ByteSize(16 << 30)
}

/// One path or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Paths {
    One(String),
    Several(#[schemars(length(min = 1))] Vec<String>),
}

/// What a run reads, where it is one of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Once {
    /// The objects that no run before has read.
    NewObjects,
}

/// What follows if an object can't be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnBadObject {
    /// The flow ends.
    #[default]
    Stop,
    /// The object leaves by the port `failed`.
    Fail,
}

impl Kind for ObjectsInput {
    const NAME: &'static str = "objects";
    const ALSO_CALLED: &'static [&'static str] = &[
        "s3",
        "gcs",
        "gs",
        "azure_blob",
        "minio",
        "object_store",
        "lake",
        "list_s3",
        "fetch_s3_object",
        "aws_s3",
        "http_file",
        "https",
    ];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
url = "s3://lake"
region = "eu-central-1"
path = "events/**/*.parquet"
schema = { id = "int64", amount = "float64?" }
interval = "30s"
"#;
}

/// What an input does, as its settings say.
struct Job {
    objects: Objects,
    patterns: Patterns,
    /// What reads an object, but for its compression and the columns that it has.
    decoder: Decoder,
    compression: Option<Compression>,
    shape: Shape,
    interval: Option<std::time::Duration>,
    /// Whether each run ends with the objects that are there.
    once: bool,
    lookback: Option<i64>,
    on_bad_object: OnBadObject,
    max_object: u64,
    /// The longest pause between tries.
    longest_pause: std::time::Duration,
    /// What is tried again at the moment.
    disturbance: Disturbance,
}

impl ObjectsInput {
    fn paths(&self) -> Vec<(Vec<Step>, &str)> {
        match &self.path {
            Paths::One(path) => vec![(vec![Step::from("path")], path)],
            Paths::Several(paths) => {
                let at = |index: usize| vec![Step::from("path"), Step::from(index)];
                paths.iter().enumerate().map(|(index, path)| (at(index), path.as_str())).collect()
            }
        }
    }

    fn patterns(&self, objects: &Objects) -> Result<Patterns, Problem> {
        let mut patterns = Patterns::default();
        for (at, path) in self.paths() {
            patterns.add(path, objects).map_err(|problem| problem.at(at))?;
        }
        if patterns.is_empty() {
            return Err(Problem::new("there are no paths").at(["path"]));
        }
        Ok(patterns)
    }

    /// The format that all objects have.
    fn read_format(&self) -> Result<ReadFormat, Problem> {
        let mut found: Option<ReadFormat> = None;
        for (at, path) in self.paths() {
            let kind = FileKind::of(path);
            let named = kind.format.and_then(|format| Format::named(format.name));
            let setting = self.format.as_ref().or(named.as_ref()).ok_or_else(|| unknown(path).at(at.clone()))?;
            let format = setting.read(&kind.ending)?;
            if let Some(other) = found.as_ref().filter(|other| other.kind().name != format.kind().name) {
                let message =
                    format!("`{path}` is {}, and the one before is {}", format.kind().name, other.kind().name);
                return Err(Problem::new(message).at(at).help("read each format with an input of its own"));
            }
            if self.compression.is_some() && !format.kind().is_text {
                let problem = Problem::new(format!("{} files are compressed inside", format.kind().name));
                return Err(problem.at(["compression"]));
            }
            found.get_or_insert(format);
        }
        found.ok_or_else(|| Problem::new("there are no paths").at(["path"]))
    }

    fn job(&self, context: &PlanContext) -> Result<Job, Problems> {
        let objects = self.connection.open(context)?;
        let patterns = self.patterns(&objects)?;
        let format = self.read_format()?;
        format.check_columns(&self.schema).map_err(|problem| problem.at(["schema"]))?;
        if self.interval.is_some() && self.once.is_some() {
            let problem =
                Problem::new("objects are either looked for again and again, or once in each run").at(["once"]);
            return Err(problem.help("leave out `once` or `interval`").into());
        }
        if self.interval.is_some_and(|interval| interval.0.is_zero()) {
            let problem = Problem::new("no service likes to be asked without a pause").at(["interval"]);
            return Err(problem.help("say how long to wait, such as `\"30s\"`").into());
        }
        if self.lookback.is_some() && self.interval.is_none() && self.once.is_none() {
            let problem = Problem::new("objects that are read once need not be remembered").at(["lookback"]);
            return Err(problem.help("leave it out, or set `interval` or `once`").into());
        }
        let lookback = self.lookback.map(|lookback| lookback.span()).transpose();
        let decoder = format.decoder(self.schema.clone(), context)?;
        let shape = self.shape(&decoder, context)?;
        Ok(Job {
            objects,
            patterns,
            decoder,
            compression: self.compression,
            shape,
            interval: self.interval.map(|interval| interval.0),
            once: self.once.is_some(),
            lookback: lookback.map_err(|problem| problem.at(["lookback"]))?,
            on_bad_object: self.on_bad_object,
            max_object: self.max_object.0 as u64,
            longest_pause: self.connection.longest_pause(),
            disturbance: Disturbance::default(),
        })
    }

    fn shape(&self, decoder: &Decoder, context: &PlanContext) -> Result<Shape, Problem> {
        let empty = Columns(Vec::new());
        let partition = self.partition.as_ref().unwrap_or(&empty);
        let is_known = |name: &String| self.schema.0.iter().any(|(known, _)| known == name);
        for (name, column) in &partition.0 {
            let at = |problem: Problem| problem.at(["partition", name.as_str()]);
            if is_known(name) {
                return Err(at(Problem::new(format!("`{name}` is in `schema` as well"))));
            }
            if !Shape::can_parse(&column.data_type) {
                return Err(at(Problem::new(format!("no name has a value of {}", type_name(&column.data_type)))));
            }
        }
        if let Some(name) = self
            .key_column
            .as_ref()
            .filter(|name| is_known(name) || partition.0.iter().any(|(other, _)| other == *name))
        {
            return Err(Problem::new(format!("there is a column `{name}` already")).at(["key_column"]));
        }
        let (key_column, wanted) = (self.key_column.as_deref(), context.columns.as_ref());
        Ok(Shape::new(&self.schema, partition, key_column, wanted, |column| decoder.filters_by(column)))
    }
}

fn unknown(path: &str) -> Problem {
    let known = FORMATS.iter().filter(|kind| !kind.endings.is_empty()).map(|kind| format!("`\"{}\"`", kind.name));
    let problem = Problem::new(format!("the name of `{path}` does not say its format"));
    problem.help(format!("say it with `format`: {}", known.collect::<Vec<_>>().join(", ")))
}

impl InputSettings for ObjectsInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let job = Arc::new(self.job(context)?);
        let (schema, node) = (job.shape.schema().clone(), context.node.as_str().into());
        let (finite, continues) = (self.interval.is_none() && self.once.is_none(), self.once.is_some());
        let plan = InputPlan::new(schema, move || Ok(ObjectsReader::new(job, node)));
        Ok(InputPlan { finite, continues, ..plan })
    }

    fn pauses(&self) -> bool {
        self.once.is_some()
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let job = self.job(context).ok()?;
        Some(Box::pin(async move {
            if job.objects.scheme == Scheme::Web || job.patterns.folders().is_empty() {
                let found = job.patterns.find(&job.objects, true).await?;
                return Ok(format!("{} of the objects at `{}`", found.len(), job.objects.location));
            }
            let (objects, folders) = (job.objects, job.patterns.folders());
            look(objects, folders, |name| job.patterns.is_wanted(name)).await
        }))
    }
}
