//! The input `file`.

mod follow;
mod once;
mod opened;
mod place;
mod rotated;
mod tail;

use std::sync::Arc;

use millstream_core::{
    Columns, Error, Input, InputPlan, InputSettings, Kind, PlanContext, Problem, Problems, Reads, Result, type_name,
};
use millstream_formats::{
    Compression, CsvOptions, FileKind, Format, Found, InspectOptions, Moments, Pace, ReadOptions, TextEncoding,
    check_header, inspect,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::once::Files;
use super::find::{SourceFile, find, find_now};
use super::local::check_input;
use super::reads::reads;
use crate::text;

/// Reads files: CSV, NDJSON, JSON, Parquet, and Arrow IPC.
///
/// The files are read one after the other, sorted by path, and have to have the same columns. Parquet and Arrow files
/// name theirs, of which those are left out whose types flows can't carry; for CSV, NDJSON and JSON they are declared in
/// `schema`, or found by looking at the first rows of the first file: integers become `int64`, other numbers `float64`, `true`
/// and `false` `boolean`, texts in ISO 8601 with a time and an offset `timestamp`, all else `utf8`, also numbers with a sign `+`
/// or a zero in front; and every column may be null. Columns that no node uses are not decoded.
///
/// A row that can't be read leaves by the port `failed`, as it was read; the rows around it go on. Its position is its
/// number in the file, counted from 0, and its partition the file's path. Of rows of more than 64 MiB the first bytes are shown.
/// A Parquet, Arrow or compressed file that is corrupt stops the flow. A timestamp between two microseconds becomes the earlier one.
///
/// NDJSON has one object on each line, and blank lines are skipped. JSON is an array of objects, or objects one behind the
/// other, on as many lines as they take. Keys that are no column are ignored, and binary values are hexadecimal. In CSV with one
/// column, a blank line is a row: an empty field.
///
/// A flow with state that resumes within a file looks whether it still is the one that was opened: one that was changed, or
/// replaced by another under its name, is an error, a copy with the same content is not; compared
/// are its length and 16 samples of 4 KiB. Rows that are appended to a CSV or
/// NDJSON file that is not compressed count if they come before its end was reached; behind that, nobody looks at a file again.
///
/// With `follow` the input is live: it reads what is there, then waits for lines that are appended and for new files that
/// match `path`, until the flow is stopped. A line is read when its line break is there; with 64 MiB and none, or a quote that
/// is not closed as soon as `max_cell` says, it fails. Files are looked at every 100 ms,
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
    /// How the files are written. By default the extension says it: `.csv`, `.tsv` (CSV with tabs), `.ndjson`,
    /// `.jsonl`, `.json`, `.parquet`, `.arrow`; with `.gz`, `.zst` or `.bz2` behind it if it is compressed.
    format: Option<Format>,
    /// How the files are compressed, if the extension does not say it.
    compression: Option<Compression>,
    /// The columns of CSV, NDJSON and JSON and their types: `{ id = "utf8", amount = "float64?" }`. A value that is
    /// missing, null or of another type fails its row; with a `?` behind its type it may be missing or null. Integers
    /// stand for timestamps with `timestamp(ms)`. In JSON, a text may stand for a number (`"101"`, `" 7 "`, `"1e3"`), and a number or
    /// boolean for a text; `json` keeps a value of any kind as its text. Other columns of the file are not read. Without it, columns are found
    /// by looking at the first rows.
    schema: Option<Columns>,
    /// The time zone of timestamps that have no offset, such as `"Europe/Berlin"` or `"+02:00"`. Without it they
    /// fail their row, or are taken for texts if there is no `schema`.
    timezone: Option<String>,
    /// How dates are written, in the language of `strftime`, such as `"%d.%m.%Y"`; `%Y` has four digits, `%y` two. By
    /// default in ISO 8601.
    date_format: Option<String>,
    /// How timestamps are written, such as `"%d.%m.%Y %H:%M:%S"`; they need an offset (`%z`) or a `timezone`. By default in ISO
    /// 8601.
    timestamp_format: Option<String>,
    /// How letters are written as bytes. With another encoding than UTF-8, files can't be followed.
    #[serde(default)]
    encoding: TextEncoding,
    /// CSV: how many lines at the beginning are skipped, before the header.
    #[serde(default)]
    skip_lines: usize,
    /// CSV: the character that begins lines which are skipped, such as `"#"`.
    comment: Option<char>,
    /// CSV: whether the first line holds the names of the columns, which are then matched by name. Otherwise they are
    /// in the order of `schema`, or called `column_1`, `column_2` and so on.
    #[serde(default = "text::header")]
    header: bool,
    /// CSV: the character that separates fields, by default a comma, or a tab for `.tsv`.
    delimiter: Option<char>,
    /// CSV: what stands in floats and decimals before the digits behind the point, by default `.`; with `","`, `1,5` is a number
    /// and `1.5` is none. It can't be the delimiter as well.
    decimal_separator: Option<char>,
    /// CSV: the fields that stand for null, by default empty ones.
    #[serde(default = "text::null_values")]
    null_values: Vec<String>,
    /// CSV: how much a field in quotes may hold, by default `{ bytes = "1MiB", lines = 1000 }`. With more, its quote counts as one
    /// that was not closed: the row fails up to the end of the line in which the quote was opened, and reading goes on behind it.
    #[serde(default)]
    max_cell: text::MaxCell,
    /// How many rows are looked at to find the columns of CSV, NDJSON and JSON when there is no `schema`; those that can't be
    /// read at all don't count towards types. A value behind them that does not fit fails its row.
    #[serde(default = "text::infer_rows")]
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

/// A file with how it is read.
#[derive(Clone)]
struct Source {
    file: SourceFile,
    compression: Option<Compression>,
    delimiter: u8,
    /// Whether a header was found, which then has to be there when the file is read.
    has_header: bool,
}

/// What the settings come to, but for the columns.
struct Settled {
    sources: Vec<Source>,
    format: Format,
    moments: Moments,
    csv: CsvOptions,
}

impl FileInput {
    /// What `of` says to every path; problems get the path's place.
    fn each_path<T>(&self, of: impl Fn(&str) -> Result<T, Problem>) -> Result<Vec<T>, Problems> {
        let of = |path: &str| check_input(path).and_then(|()| of(path));
        let paths = match &self.path {
            Paths::One(path) => return of(path).map(|one| vec![one]).map_err(|problem| problem.at(["path"]).into()),
            Paths::Several(paths) => paths.iter().enumerate(),
        };
        let (mut each, mut problems) = (Vec::new(), Problems::new());
        for (index, path) in paths {
            match of(path) {
                Ok(one) => each.push(one),
                Err(problem) => problems.push(problem.under(index).under("path")),
            }
        }
        match each.is_empty() && problems.is_empty() {
            true => Err(Problem::new("there are no paths").at(["path"]).into()),
            false if problems.is_empty() => Ok(each),
            false => Err(problems),
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

    fn files(&self, context: &PlanContext) -> Result<Vec<SourceFile>, Problems> {
        let folder = context.input_path("");
        // A run that finds nothing new has nothing to do.
        let may_be_none = self.once.is_some() && self.schema.is_some();
        let find = |pattern: &str| match may_be_none {
            true => find_now(&folder, pattern).map_err(|error| Problem::new(format!("`{pattern}`: {error}"))),
            false => find(&folder, pattern),
        };
        let mut files = self.each_path(find)?.concat();
        files.sort_by(|one, two| one.name.cmp(&two.name));
        files.dedup();
        Ok(files)
    }

    fn settle(&self, context: &PlanContext) -> Result<Settled, Problems> {
        let files = self.files(context)?;
        let moments = self.moments()?;
        let format = match files.first() {
            Some(file) => self.format_of(&file.name)?,
            None => self.each_path(|path| self.format_of(path))?[0],
        };
        let mut sources = Vec::with_capacity(files.len());
        for file in files {
            let other = self.format_of(&file.name)?;
            if other != format {
                let message = format!("`{}` is {}, unlike the files before it", file.name, other.name());
                return Err(Problem::new(message)
                    .at(["path"])
                    .help("read each format with an input of its own")
                    .into());
            }
            let kind = FileKind::of(&*file.name);
            let compression = self.compression.or(kind.compression);
            let delimiter = text::delimiter(self.delimiter, if kind.tabs { b'\t' } else { b',' })?;
            if format == Format::Csv {
                text::decimal_separator(self.decimal_separator, delimiter)?;
            }
            sources.push(Source { file, compression, delimiter, has_header: false });
        }
        if let (false, Some(Source { file, compression: Some(_), .. })) = (format.is_text(), sources.first()) {
            let at = if self.compression.is_some() { "compression" } else { "path" };
            let message = format!("`{}` can't be compressed: {} files are compressed inside", file.name, format.name());
            return Err(Problem::new(message).at([at]).into());
        }
        Ok(Settled { sources, format, moments, csv: self.csv_options()? })
    }

    fn moments(&self) -> Result<Moments, Problem> {
        text::moments(self.timezone.as_deref(), self.date_format.as_deref(), self.timestamp_format.as_deref())
    }

    /// How CSV is written, but for the delimiter.
    fn csv_options(&self) -> Result<CsvOptions, Problem> {
        Ok(CsvOptions {
            encoding: self.encoding,
            skip_lines: self.skip_lines,
            comment: text::comment(self.comment)?,
            // Where fields end is known of each file only.
            decimal_separator: text::decimal_separator(self.decimal_separator, b'\0')?,
            ..text::csv_options(self.header, &self.null_values, self.max_cell)
        })
    }

    fn format_of(&self, name: &str) -> Result<Format, Problem> {
        self.format.or(FileKind::of(name).format).ok_or_else(|| {
            Problem::new(format!("the name of `{name}` does not say its format"))
                .at(["path"])
                .help("say it with `format`: `csv`, `ndjson`, `json`, `parquet` or `arrow`")
        })
    }

    /// The columns that were declared, if the files can have them.
    fn declared(&self, columns: &Columns, settled: &mut Settled) -> Result<Found, Problem> {
        let at = |problem: Problem| problem.at(["schema"]);
        let format = settled.format;
        if !format.is_text() {
            let message = format!("{} files name their columns themselves", format.name());
            return Err(at(Problem::new(message).help("leave `schema` out")));
        }
        if format == Format::Csv {
            text::flat(&columns.schema()).map_err(at)?;
            for source in settled.sources.iter_mut().filter(|_| self.header) {
                let csv = CsvOptions { delimiter: source.delimiter, ..settled.csv.clone() };
                source.has_header = check_header(&source.file.path, source.compression, &csv, columns)
                    .map_err(|error| at(Problem::new(format!("`{}`: {error}", source.file.name))))?;
            }
        }
        Ok(Found { columns: columns.clone(), rows: None })
    }

    /// The columns that the files have, which must be the same.
    fn found(&self, settled: &mut Settled) -> Result<Found, Problem> {
        let mut first: Option<(Found, Arc<str>)> = None;
        for index in 0..settled.sources.len() {
            // JSON has no header, so other files than the first need not be looked at.
            if matches!(settled.format, Format::Ndjson | Format::Json) && first.is_some() {
                break;
            }
            let rows = if first.is_some() { 0 } else { self.infer_rows };
            let found = self.inspect(&settled.sources[index], rows, settled)?;
            let source = &mut settled.sources[index];
            source.has_header = settled.csv.header && !found.columns.0.is_empty();
            match &mut first {
                _ if found.columns.0.is_empty() => {}
                None => first = Some((found, source.file.name.clone())),
                Some((known, of)) => join(known, found, settled.format).map_err(|message| {
                    let files = format!("`{}` has other columns than `{of}`", source.file.name);
                    Problem::new(format!("{files}: {message}")).at(["path"])
                })?,
            }
        }
        first.map(|(found, _)| found).ok_or_else(|| {
            let name = &settled.sources[0].file.name;
            let problem = Problem::new(format!("`{name}` has no rows to find the columns by")).at(["path"]);
            problem.help("declare them with `schema`")
        })
    }

    fn inspect(&self, source: &Source, rows: usize, settled: &Settled) -> Result<Found, Problem> {
        let options = InspectOptions {
            format: settled.format,
            compression: source.compression,
            rows,
            csv: CsvOptions { delimiter: source.delimiter, ..settled.csv.clone() },
            moments: settled.moments.clone(),
        };
        inspect(&source.file.path, &options).map_err(|error| Problem::new(error.to_string()).at(["path"]))
    }
}

/// Lets `known` also stand for another file, or says how that differs.
fn join(known: &mut Found, other: Found, format: Format) -> Result<(), String> {
    let names = |found: &Found| found.columns.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if format == Format::Csv {
        // Columns are matched by name, and only the first file's types count.
        let (mut one, mut two) = (names(known), names(&other));
        one.sort();
        two.sort();
        return differing(&one, &two).map_or(Ok(()), Err);
    }
    if let Some(message) = differing(&names(known), &names(&other)) {
        return Err(message);
    }
    for ((name, one), (_, two)) in known.columns.0.iter_mut().zip(other.columns.0) {
        if one.data_type != two.data_type {
            let types = [&one.data_type, &two.data_type].map(type_name);
            return Err(format!("`{name}` is {} instead of {}", types[1], types[0]));
        }
        one.nullable |= two.nullable;
    }
    known.rows = known.rows.zip(other.rows).map(|(one, two)| one + two);
    Ok(())
}

/// The first thing in which lists of names differ.
fn differing(expected: &[String], names: &[String]) -> Option<String> {
    if let Some(missing) = expected.iter().find(|name| !names.contains(name)) {
        return Some(format!("`{missing}` is missing"));
    }
    if let Some(extra) = names.iter().find(|name| !expected.contains(name)) {
        return Some(format!("`{extra}` is new"));
    }
    (expected != names).then(|| "they are in another order".to_owned())
}

/// An input whose rows a test gives, so that its files need not be there.
fn scripted(columns: &Columns) -> InputPlan {
    let build = Box::new(|| -> Result<Box<dyn Input>> { Err(Error::new("a test gives the rows of this input")) });
    InputPlan {
        reads: None,
        continues: false,
        schema: columns.schema(),
        finite: true,
        replayable: true,
        acknowledges: false,
        interleaved: false,
        rows: None,
        build,
    }
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
        let mut settled = self.settle(context)?;
        let found = match &self.schema {
            Some(columns) => self.declared(columns, &mut settled)?,
            None => self.found(&mut settled)?,
        };
        let options = ReadOptions {
            format: settled.format,
            compression: None,
            columns: found.columns,
            wanted: context.columns.clone(),
            batch_rows: context.batch_rows,
            moments: settled.moments,
            csv: settled.csv,
            pace: Pace::Full,
        };
        let schema = options.schema();
        let (source, left) = (context.node.as_str().into(), settled.sources.into());
        let finite = self.once.is_none();
        let files = Files::new(source, options, finite, left);
        let build = Box::new(move || Ok(Box::new(files) as Box<dyn Input>));
        let rows = found.rows.filter(|_| finite);
        let reads = Some(self.reads(context));
        Ok(InputPlan {
            reads,
            continues: !finite,
            schema,
            finite,
            replayable: true,
            acknowledges: false,
            interleaved: false,
            rows,
            build,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
