//! The output `file`.

mod appended;
mod begin;
mod files;
pub(super) mod kept;
mod open_files;
mod partition;
mod stage;

use std::path::PathBuf;

use millstream_core::{
    ByteSize, Delivery, Exclusive, KeptNode, Kind, Output, OutputPlan, OutputSettings, PlanContext, Problem, Problems,
    Result, Stream, Uses, Writes, parse_settings,
};
use millstream_formats::{Compression, FileKind, Format, WriteFiles, WriteFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::files::Files;
pub use self::kept::KeptFiles;
pub use self::open_files::{Begin, Beginning, Limits, OpenFiles};
use self::partition::escape;
pub use self::partition::{Partitioning, value_in_name};
use super::local::check_output;
use super::target::Target;

/// Writes files: CSV, NDJSON, JSON, Parquet, Avro, and Arrow IPC.
///
/// A `path` that ends in a format's extension is one file; any other is a folder, which gets files named
/// `FLOW-OUTPUT-EPOCH-NUMBER.EXTENSION`, with a new one begun after so many `rows` or `bytes`. Rows go to a hidden
/// file beside it, `.NAME.RUN.part`, which nobody else can read, and which takes its name when the flow has ended well: a
/// reader of `*.csv` only ever sees whole files, which it may take away at once. Without any rows there is still a file, with the columns where the format has a place for
/// them. A file that takes the place of another keeps its permissions, and a path that is a link stays one. Two runs
/// can't write to the same place at once: the later one fails.
///
/// A second run of a flow writes its files from scratch: when it has ended well, they take the place of those of the run
/// before; when it fails, those stay as they are. With state, a run that is resumed goes on with its own files; only one that begins
/// from scratch replaces those of a run before, as soon as the first of its own become visible, which in a live flow is long
/// before its end. `if_exists` changes that. Files of a run with another state that has not come to its end are not
/// replaced, which its ledger tells: the flow does not start, also one without state, unless `--remove-published` says so.
/// An output that begins behind rows of its
/// flow, because it is new or was reset, leaves what may have been published: a folder gets more files, and a single
/// file has to be moved away, unless `--remove-published` says otherwise. Without rows a file is empty, and a folder
/// gets none. Dead letters (`on_error = { dead_letter =
/// "FOLDER" }`) are NDJSON files of such an output with `if_exists = "append"`, named `dead_letter_NODE`: each run adds
/// its own to those that are there, a run that fails adds none, and nothing removes any.
///
/// A flow with state keeps hidden files in the folder, until it has come to its end: what is not whole yet, and a ledger of
/// what it has published, `.NAME.RUN.ledger`. Without them it can't be resumed where it had rows that are not visible, and says
/// so. When its columns change between two runs, a folder gets new files, and NDJSON goes on as it is; another single file can't.
/// A run removes only hidden files that its own flow has left, or a run without state that was killed; those of a flow
/// whose state was removed, or of an output that its flow has dropped, stay until somebody removes them.
///
/// The same rows give the same bytes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileOutput {
    /// The file or folder, relative to the folder that the program runs in; no input of the flow may read what is written there.
    /// Folders that are not there are made. The
    /// extension says the format: `.csv`, `.tsv` (CSV with tabs), `.ndjson`, `.jsonl`, `.json`, `.parquet`, `.arrow`, `.avro`;
    /// with `.gz`, `.zst` or `.bz2` behind it, CSV, NDJSON and JSON are compressed.
    path: String,
    /// The format: `"csv"`, or `{ type = "csv", delimiter = ";" }` with settings of it. It can be left out where the extension of
    /// `path` says it, and the files in a folder need it.
    format: Option<Format<WriteFiles>>,
    /// How CSV, NDJSON and JSON files in a folder are compressed; without it they are not.
    compression: Option<Compression>,
    /// What to do if there is a file already, or in a folder files of this output, from a run before. `replace`: they
    /// are removed when the flow has ended well, and stay if it fails; what others put into a folder always stays.
    /// `append`: a CSV or NDJSON file grows, which can't be done with others; a folder gets more
    /// files. `fail`: the flow does not start.
    #[serde(default)]
    if_exists: IfExists,
    /// Folders: a file has at most so many rows. Without this and `bytes`, a run writes one file.
    #[schemars(range(min = 1))]
    rows: Option<usize>,
    /// Folders: a new file is begun when one has come to so many bytes. This is looked at every 8192 rows.
    bytes: Option<ByteSize>,
    /// Folders: a new file is begun when one has been open for so long, such as `"1m"`. This is looked at when a checkpoint
    /// is taken, and so needs a flow that is run with `--state`.
    every: Option<millstream_core::Duration>,
    /// Folders: rows go to folders below it, as Hive, DuckDB and Spark read them: with `["country", "hour"]` to
    /// `country=DE/hour=2026-01-31T13/`. Each is a column, which the files then don't have; or, if no column is called so, `year`,
    /// `month`, `day` or `hour` of the event time in UTC. A missing value, or an empty text, is `__HIVE_DEFAULT_PARTITION__`. The
    /// number in a file's name begins with 1 in each folder and epoch.
    #[schemars(length(min = 1))]
    partition: Option<Vec<String>>,
    /// With `partition`: how many files are open at once, by default 100. Where a row needs one more, the file is ended that has
    /// been without rows for longest; so rows that come in any order make many small files if this is less than there are folders.
    #[schemars(range(min = 1))]
    open_partitions: Option<usize>,
}

/// The output for rejected rows: files in a folder, which each run adds to.
pub fn dead_letters(path: &str) -> Result<Box<dyn OutputSettings>, Problem> {
    let table = json!({ "path": path, "format": "ndjson", "every": "10s", "if_exists": "append" });
    Ok(Box::new(parse_settings::<FileOutput>(table)?))
}

/// How many files are open at once, if nothing else is said.
const OPEN_PARTITIONS: usize = 100;

/// What to do with what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum IfExists {
    /// It is replaced when the flow has ended well. In a folder, only files of this output are.
    #[default]
    Replace,
    /// It is added to: a CSV or NDJSON file grows, a folder gets more files.
    Append,
    /// The flow does not start.
    Fail,
}

impl Kind for FileOutput {
    const NAME: &'static str = "file";
    const ALSO_CALLED: &'static [&'static str] =
        &["csv", "tsv", "ndjson", "jsonl", "json", "parquet", "arrow", "files", "folder", "s3", "write_csv", "sink"];
    const EXAMPLE: &'static str = r#"
path = "out/scored"
format = "parquet"
rows = 1000000
"#;
    const FREE_SETTINGS: &'static [&'static str] = &["if_exists", "rows", "bytes", "every", "open_partitions"];

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        KeptFiles::read(kept.state, kept.pending)?.map_or(Ok(None), |files| files.verify())
    }
}

impl FileOutput {
    fn target(&self, context: &PlanContext) -> Result<Target, Problem> {
        check_output(&self.path).map_err(|problem| problem.at(["path"]))?;
        let kind = FileKind::of(&self.path);
        let target = Target {
            path: context.output_path(&self.path),
            work_folder: context.work_folder.clone(),
            format: self.write_format(&kind)?,
            compression: if kind.format.is_some() { kind.compression } else { self.compression },
            folder: kind.format.is_none().then(|| format!("{}-{}-", context.flow, context.node)),
            levels: self.partition.iter().flatten().map(|name| escape(name)).collect(),
        };
        let format = target.format.kind();
        if target.compression.is_some() && !format.is_text {
            let at = if target.folder.is_some() { "compression" } else { "path" };
            return Err(Problem::new(format!("{} files are compressed inside", format.name)).at([at]));
        }
        Ok(target)
    }

    /// How files are written, as `format` says, or the ending of one.
    fn write_format(&self, kind: &FileKind) -> Result<WriteFormat, Problem> {
        match (&self.format, kind.format) {
            (Some(format), Some(named)) if named.name != format.kind().name => {
                let message =
                    format!("`{}` would be {}, but `format` is {}", self.path, named.name, format.kind().name);
                Err(Problem::new(message).at(["format"]).help("leave `format` out, or rename the file"))
            }
            (Some(format), _) => format.write(&kind.ending),
            (None, named) => match named.and_then(|named| Format::<WriteFiles>::named(named.name)) {
                Some(format) => format.write(&kind.ending),
                None => {
                    let problem = Problem::new(format!("`{}` does not say its format", self.path)).at(["path"]);
                    Err(problem.help("let the path end in `.csv`, say; or set `format`, for a folder of files"))
                }
            },
        }
    }

    /// Settings that have no meaning for the target.
    fn problems(&self, target: &Target) -> Problems {
        let mut problems = Problems::new();
        if target.folder.is_none() {
            let only = |key: &str| {
                let problem =
                    Problem::new(format!("`{key}` needs a folder, and `{}` is one file", self.path)).at([key]);
                problem.help("take the extension off `path`, and set `format`")
            };
            problems.extend(self.rows.map(|_| only("rows")));
            problems.extend(self.bytes.map(|_| only("bytes")));
            problems.extend(self.every.map(|_| only("every")));
            problems.extend(self.partition.as_ref().map(|_| only("partition")));
            let other = self.compression.filter(|given| Some(*given) != target.compression);
            problems.extend(other.map(|given| {
                let extension = given.extension();
                let problem = Problem::new("the extension says how one file is compressed").at(["compression"]);
                problem.help(format!("leave `compression` out, and let `path` end in `.{extension}`"))
            }));
            let format = target.format.kind();
            if self.if_exists == IfExists::Append && !format.can_grow {
                let message = format!("{} files can't be appended to", format.name);
                let help = "write a folder, which then gets another file: take the extension off `path`, set `format`";
                problems.push(Problem::new(message).at(["if_exists"]).help(help));
            }
        }
        if let (None, Some(_)) = (&self.partition, self.open_partitions) {
            let problem = Problem::new("`open_partitions` needs `partition`").at(["open_partitions"]);
            problems.push(problem.help("say by which columns the folder is divided, or leave it out"));
        }
        problems.extend(target.is_in_the_way().map(|message| Problem::new(message).at(["path"])));
        problems
    }
}

impl OutputSettings for FileOutput {
    fn check(&self, context: &PlanContext) -> Result<(), Problems> {
        let problems = self.problems(&self.target(context)?);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let target = self.target(context)?;
        let mut problems = self.problems(&target);
        let partitioning = self.partition.as_ref().map(|names| Partitioning::plan(names, input)).transpose()?;
        let schema =
            partitioning.as_ref().map_or_else(|| input.schema.clone(), |division| division.schema(&input.schema));
        if let Err(problem) = target.format.check_columns(&schema) {
            let at = if self.format.is_some() { "format" } else { "path" };
            problems.push(problem.at([at]).help("use another format, or take the column apart before"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // The files of a folder have the node's name in theirs.
        let path: PathBuf = target.path.components().collect();
        let exclusive =
            target.folder.is_none().then(|| Exclusive { setting: "path", what: path.display().to_string() });
        let limits = Limits {
            rows: self.rows.unwrap_or(usize::MAX),
            bytes: self.bytes.map_or(u64::MAX, |size| size.0 as u64),
            time: self.every.map(|every| every.0),
            open: self.open_partitions.unwrap_or(OPEN_PARTITIONS),
        };
        let writes = Writes { setting: "path", path: target.example() };
        let place = Some(self.path.clone());
        let takes_other_columns =
            target.folder.is_some() || (target.format.takes_other_columns() && target.options().can_be_gone_on_with());
        let files = Files::new(target, schema, self.if_exists, limits, partitioning);
        let build = Box::new(move || Ok(Box::new(files) as Box<dyn Output>));
        Ok(OutputPlan {
            writes: Some(writes),
            uses: Uses::all(),
            delivery: Delivery::ExactlyOnce,
            exclusive,
            answers: None,
            place,
            takes_other_columns,
            fails: false,
            build,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests;
