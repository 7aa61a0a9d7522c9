//! The input `file`.

mod columns;
mod follow;
mod once;
mod opened;
mod place;
mod rotated;
mod sources;
mod tail;

use millstream_core::{Columns, Error, InputPlan, InputSettings, Kind, PlanContext, Problem, Problems, Reads, Result};
use millstream_formats::{Compression, Format, ReadFiles};
use schemars::JsonSchema;
use serde::Deserialize;

use self::once::Files;
use super::local::check_input;
use super::reads::reads;

/// Reads files: CSV, NDJSON, JSON, Parquet, Avro, and Arrow IPC.
///
/// The files are read one after the other, sorted by path, and have to have the same columns. Parquet, Avro and Arrow files
/// name theirs, of which those are left out whose types flows can't carry, as `check` says; for CSV, NDJSON and JSON they are declared in
/// `schema`, or found by looking at the first rows of the first file: integers become `int64`, other numbers `float64`, `true`
/// and `false` `boolean`, texts in ISO 8601 with a time and an offset `timestamp`, all else `utf8`, also numbers with a sign `+`
/// or a zero in front, and integers that `int64` can't hold, of which `float64` would lose digits; and every column may be null. Columns that no node uses are not decoded.
///
/// A row that can't be read leaves by the port `failed`, as it was read; the rows around it go on. Its position is its
/// number in the file, counted from 0, and its partition the file's path. Of rows of more than 64 MiB the first bytes are shown.
/// A Parquet, Avro, Arrow or compressed file that is corrupt stops the flow. A timestamp between two microseconds becomes the earlier one.
///
/// A flow with state that resumes within a file looks whether it still is the one that was opened: one that was changed, or
/// replaced by another under its name, is an error, a copy with the same content is not; compared
/// are its length and 16 samples of 4 KiB. Rows that are appended to a CSV or
/// NDJSON file that is not compressed count if they come before its end was reached; behind that, nobody looks at a file again.
///
/// With `follow` the input is live: it reads what is there, then waits for lines that are appended and for new files that
/// match `path`, until the flow is stopped. A line is read when its line break is there; with 64 MiB and none, or a quote that
/// is not closed as soon as `max_field` says, it fails. Files are looked at every 100 ms,
/// and searched for every second. A file is known by what it is, not by its name: when it is renamed and a new one takes
/// its place, as in the rotation of logs, it is read to its end, until nothing has come for a second, and only then the new
/// one, which may be renamed in its turn meanwhile. A file that was emptied, or begins otherwise than before, is read again
/// from its beginning. Where a rotation copies or compresses files, `path` should not match the copies, which would be read
/// as new files; compressed ones are left out. A file that comes and is renamed between two looks, or while the flow does not
/// run, is found if it is still beside the one before it, and has a name that rotations give: of `app.log` these are
/// `app.log.1`, `app.log-20260131`, `app.log.old`, `app-20260131.log` and the like. With other names it is found only if
/// `path` matches them, too, as `app*` does.
///
/// Every file is a partition of its own; with `event_time`, set `idle` if one may fall silent while others go on. The
/// partition is called by the path, and `PATH#2`, `PATH#3` and so on for the files that have had the same path later. A
/// checkpoint says of each file there ever was how far it was read.
///
/// A flow with state resumes where it was, also in a file that was renamed meanwhile within its folder; or copied or
/// restored, if more than 256 bytes of it were read, by which it is known.
/// If the file is there no more, the flow does not start, since what had come to it last would be missing; see `if_gone`.
/// `millstream replay` needs the files as well: those that were rotated are found in the same folder, unless they are compressed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileInput {
    /// The file, relative to the flow file; or a pattern with `*` (within a name), `**` (any folders), `?` and `[ab]`;
    /// or a list of them.
    path: Paths,
    /// How the files are written: `"csv"`, or `{ type = "csv", delimiter = ";" }` with settings of the format. By default the extension
    /// says it: `.csv`, `.tsv` (CSV with tabs), `.ndjson`, `.jsonl`, `.json`, `.parquet`, `.arrow`, `.avro`; with `.gz`, `.zst` or `.bz2` behind
    /// it if it is compressed.
    format: Option<Format<ReadFiles>>,
    /// How the files are compressed, if the extension does not say it.
    compression: Option<Compression>,
    /// The columns of CSV, NDJSON and JSON and their types: `{ id = "utf8", amount = "float64?" }`. A value that is
    /// missing, null or of another type fails its row; with a `?` behind its type it may be missing or null. Integers
    /// stand for timestamps with `timestamp(ms)`. Other columns of the file are not read. Without it, columns are found
    /// by looking at the first rows.
    schema: Option<Columns>,
    /// How many rows are looked at to find the columns of CSV, NDJSON and JSON when there is no `schema`; those that can't be
    /// read at all don't count towards types. A value behind them that does not fit fails its row.
    #[serde(default = "infer_rows")]
    #[schemars(range(min = 1))]
    infer_rows: usize,
    /// Whether to wait for more rows and files, instead of ending with the last file. CSV, NDJSON and JSON that are not compressed
    /// can be followed; `schema` is needed, since rows that are yet to come can't be looked at.
    #[serde(default)]
    follow: bool,
    /// What to do if a file that is followed was rotated away while the flow was not running, so that it can't be found any
    /// more by what it is, or what is in it, nor one that was emptied. `fail`: the flow does not start, since what had come
    /// to the file after it was read last would be missing. `go_on`: it is missing.
    #[serde(default)]
    if_gone: IfGone,
    /// `new_files`: the flow is a job that is run again and again with `--state`, and does not run without. Each run reads the files that no run before has
    /// read, and then stops, until the next run; what is open, such as windows, stays so. A file counts as read by its path, so it
    /// has to be whole when it gets its name. With `schema`, there may be no files at all. Each checkpoint names every file that was
    /// ever read, with some 30 bytes and its path: 100,000 files make it some 10 MB, written at each checkpoint, so that a flow of
    /// many small files does well with long intervals between them (`[checkpoint] interval`).
    once: Option<Once>,
}

/// What a run reads, where it is one of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Once {
    /// The files that no run before has read.
    NewFiles,
}

/// What to do about a file that was being followed and is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum IfGone {
    /// The flow does not start.
    #[default]
    Fail,
    /// The flow goes on without the rest of it.
    GoOn,
}

/// One path or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Paths {
    One(String),
    Several(#[schemars(length(min = 1))] Vec<String>),
}

impl Kind for FileInput {
    const NAME: &'static str = "file";
    const ALSO_CALLED: &'static [&'static str] =
        &["csv", "tsv", "ndjson", "jsonl", "json", "parquet", "arrow", "files", "folder", "s3", "read_csv", "tail"];
    const EXAMPLE: &'static str = r#"
path = "data/payments-*.csv.gz"
schema = { id = "utf8", at = "timestamp", amount = "float64?" }
"#;
}

/// For `#[serde(default)]`.
fn infer_rows() -> usize {
    10_000
}

impl FileInput {
    /// What `of` says to every path. Problems without a place get the path's.
    fn each_path<T>(&self, mut of: impl FnMut(&str) -> Result<T, Problem>) -> Result<Vec<T>, Problems> {
        let mut of = |path: &str| check_input(path).and_then(|()| of(path));
        let paths = match &self.path {
            Paths::One(path) => return of(path).map(|one| vec![one]).map_err(|problem| at_path(problem).into()),
            Paths::Several(paths) => paths.iter().enumerate(),
        };
        let (mut each, mut problems) = (Vec::new(), Problems::new());
        for (index, path) in paths {
            match of(path) {
                Ok(one) => each.push(one),
                Err(problem) if problem.at.is_empty() => problems.push(problem.under(index).under("path")),
                Err(problem) => problems.push(problem),
            }
        }
        if each.is_empty() && problems.is_empty() {
            Err(Problem::new("there are no paths").at(["path"]).into())
        } else if problems.is_empty() {
            Ok(each)
        } else {
            Err(problems)
        }
    }

    /// Whether it reads a file.
    fn reads(&self, context: &PlanContext) -> Reads {
        let paths = match &self.path {
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Several(paths) => paths,
        };
        reads(&context.input_path(""), paths)
    }
}

/// A problem that is one of the path, if it has no other place.
fn at_path(problem: Problem) -> Problem {
    if problem.at.is_empty() { problem.at(["path"]) } else { problem }
}

/// An input whose rows a test gives, so that its files need not be there.
fn scripted(columns: &Columns) -> InputPlan {
    InputPlan::new(columns.schema(), || -> Result<Files> { Err(Error::new("a test gives the rows of this input")) })
}

impl InputSettings for FileInput {
    fn pauses(&self) -> bool {
        self.once.is_some()
    }

    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        if let (Some(columns), true) = (&self.schema, context.scripted) {
            return Ok(scripted(columns));
        }
        match (self.follow, self.once) {
            (true, Some(_)) => {
                let problem = Problem::new("files are either followed or read once").at(["once"]);
                return Err(problem.help("leave out `once` or `follow`").into());
            }
            (true, None) => return follow::plan(self, context),
            (false, _) => {}
        }
        let mut resolved = self.resolve(context)?;
        let found = match &self.schema {
            Some(columns) => resolved.declared(columns)?,
            None => resolved.found(self.infer_rows)?,
        };
        let decoder = resolved.format.decoder(found.columns, context).map_err(|problems| {
            problems.into_iter().map(|problem| problem.explained(&found.left_out)).collect::<Problems>()
        })?;
        let schema = decoder.schema();
        let (source, left) = (context.node.as_str().into(), resolved.sources.into());
        let finite = self.once.is_none();
        let rows = found.rows.filter(|_| finite && !decoder.is_filtered());
        let files = Files::new(source, decoder, finite, left);
        let reads = Some(self.reads(context));
        let left_out = found.left_out;
        Ok(InputPlan { reads, continues: !finite, finite, rows, left_out, ..InputPlan::new(schema, move || Ok(files)) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
