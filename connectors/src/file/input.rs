//! The input `file`.

mod follow;
mod place;
mod tail;

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{
    Collector, Columns, Error, Input, InputPlan, InputSettings, Kind, Parts, PlanContext, Positions, Problem, Problems,
    Progress, Result, ResultExt, State, type_name,
};
use millstream_formats::{
    BatchReader, Compression, CsvOptions, FileKind, Format, Found, InspectOptions, Mark, Pace, ReadOptions, Rows,
    Timezone, check_header, inspect,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::place::Place;
use super::find::{SourceFile, find};
use crate::text;

/// Reads files: CSV, NDJSON, Parquet, and Arrow IPC.
///
/// The files are read one after the other, sorted by path, and have to have the same columns. Parquet and Arrow files
/// name theirs; for CSV and NDJSON they are declared in `schema`, or found by looking at the first rows of the first
/// file: integers become `int64`, other numbers `float64`, `true` and `false` `boolean`, texts in ISO 8601 with a time
/// and an offset `timestamp`, all else `utf8`, and every column may be null. Columns that no node uses are not decoded.
///
/// A row of a text format that can't be read leaves by the port `failed`, as it was read; the rows around it go on.
/// Its position is its number in the file, counted from 0, and its partition the file's path. A Parquet, Arrow or
/// packed file that is corrupt stops the flow.
///
/// In NDJSON, keys that are no column are ignored, blank lines are skipped, and binary values are hexadecimal.
///
/// With `follow` the input is live: it reads what is there, then waits for lines that are appended and for new files that
/// match `path`, until the flow is stopped. A line is read when its line break is there. Files are looked at every 100 ms,
/// and searched for every second. A file is known by what it is, not by its name: when it is renamed and a new one takes
/// its place, as in the rotation of logs, it is read to its end, until nothing has come for a second, and only then the new
/// one, which may be renamed in its turn meanwhile. A file that was emptied, or begins otherwise than before, is read anew from its beginning. Where a rotation makes
/// copies or packs files, `path` should not match the copies, which would be read as new files; packed ones are left out.
/// Every file is a partition of its own; with `event_time`, set `idle` if one may fall silent while others go on. After a
/// crash rows can be read again only as long as their files are there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileInput {
    /// The file, relative to the flow file; or a pattern with `*` (within a name), `**` (any folders), `?` and `[ab]`;
    /// or a list of them.
    path: Paths,
    /// How the files are written. By default the extension says it: `.csv`, `.tsv` (CSV with tabs), `.ndjson`,
    /// `.jsonl`, `.json`, `.parquet`, `.arrow`; with `.gz`, `.zst` or `.bz2` behind it if it is packed.
    format: Option<Format>,
    /// How the files are packed, if the extension does not say it.
    compression: Option<Compression>,
    /// The columns of CSV and NDJSON and their types: `{ id = "utf8", amount = "float64?" }`. A value that is
    /// missing, null or of another type fails its row; with a `?` behind its type it may be missing or null. Integers
    /// stand for timestamps with `timestamp(ms)`. Other columns of the file are not read. Without it, columns are found
    /// by looking at the first rows.
    schema: Option<Columns>,
    /// The time zone of timestamps that have no offset, such as `"Europe/Berlin"` or `"+02:00"`. Without it they
    /// fail their row, or are taken for texts if there is no `schema`.
    timezone: Option<String>,
    /// CSV: whether the first line holds the names of the columns, which are then matched by name. Otherwise they are
    /// in the order of `schema`, or called `column_1`, `column_2` and so on.
    #[serde(default = "text::header")]
    header: bool,
    /// CSV: the character that separates cells, by default a comma, or a tab for `.tsv`.
    delimiter: Option<char>,
    /// CSV: the cells that stand for null, by default empty ones.
    #[serde(default = "text::null_values")]
    null_values: Vec<String>,
    /// How many rows are looked at to find the columns of CSV and NDJSON when there is no `schema`; those that can't be
    /// read at all don't count towards types. A value behind them that does not fit fails its row.
    #[serde(default = "text::infer_rows")]
    #[schemars(range(min = 1))]
    infer_rows: usize,
    /// Whether to wait for more rows and files, instead of ending with the last file. CSV and NDJSON that are not packed
    /// can be followed; `schema` is needed, since rows that are yet to come can't be looked at.
    #[serde(default)]
    follow: bool,
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
    timezone: Option<Timezone>,
    csv: CsvOptions,
}

impl FileInput {
    /// What `of` says to every path; problems get the path's place.
    fn each_path<T>(&self, of: impl Fn(&str) -> Result<T, Problem>) -> Result<Vec<T>, Problems> {
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

    fn files(&self, context: &PlanContext) -> Result<Vec<SourceFile>, Problems> {
        let folder = context.input_path("");
        let mut files = self.each_path(|pattern| find(&folder, pattern))?.concat();
        files.sort_by(|one, two| one.name.cmp(&two.name));
        files.dedup();
        Ok(files)
    }

    fn settle(&self, context: &PlanContext) -> Result<Settled, Problems> {
        let files = self.files(context)?;
        let timezone = text::timezone(self.timezone.as_deref())?;
        let format = self.format_of(&files[0].name)?;
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
            sources.push(Source { file, compression, delimiter, has_header: false });
        }
        if let (false, Some(Source { file, compression: Some(_), .. })) = (format.is_text(), sources.first()) {
            let at = if self.compression.is_some() { "compression" } else { "path" };
            let message = format!("`{}` can't be packed: {} files are compressed inside", file.name, format.name());
            return Err(Problem::new(message).at([at]).into());
        }
        Ok(Settled { sources, format, timezone, csv: text::csv_options(self.header, &self.null_values) })
    }

    fn format_of(&self, name: &str) -> Result<Format, Problem> {
        self.format.or(FileKind::of(name).format).ok_or_else(|| {
            Problem::new(format!("the name of `{name}` does not say its format"))
                .at(["path"])
                .help("say it with `format`: `csv`, `ndjson`, `parquet` or `arrow`")
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
                source.has_header = check_header(&source.file.path, source.compression, source.delimiter, columns)
                    .map_err(|error| at(Problem::new(format!("`{}`: {error}", source.file.name))))?;
            }
        }
        Ok(Found { columns: columns.clone(), rows: None })
    }

    /// The columns that the files have, which must be the same.
    fn found(&self, settled: &mut Settled) -> Result<Found, Problem> {
        let mut first: Option<(Found, Arc<str>)> = None;
        for index in 0..settled.sources.len() {
            // NDJSON has no header, so other files than the first need not be looked at.
            if settled.format == Format::Ndjson && first.is_some() {
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
            timezone: settled.timezone,
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

impl InputSettings for FileInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        if self.follow {
            return follow::plan(self, context);
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
            timezone: settled.timezone,
            csv: settled.csv,
            pace: Pace::Full,
        };
        let schema = options.schema();
        let (source, left) = (context.node.as_str().into(), settled.sources.into());
        let files = Files { source, options, left, open: None, last: None, resume: None, opened: Vec::new() };
        let build = Box::new(move || Ok(Box::new(files) as Box<dyn Input>));
        Ok(InputPlan { schema, finite: true, replayable: true, interleaved: false, rows: found.rows, build })
    }
}

struct Files {
    source: Arc<str>,
    options: ReadOptions,
    /// The files that are not open yet.
    left: VecDeque<Source>,
    open: Option<OpenFile>,
    /// The file that was read last, where it has ended.
    last: Option<OpenFile>,
    /// The place at which the first of `left` is gone on with.
    resume: Option<Place>,
    /// The names of the files that were opened, in their order.
    opened: Vec<String>,
}

/// A file that is being read.
struct OpenFile {
    source: Source,
    reader: Box<dyn BatchReader>,
    /// The place before the rows that were pushed last.
    before: Mark,
    /// Rows before this position were read by a run before.
    first: u64,
}

/// The state of the input: the file that is being read, and the place there.
const PLACE: &str = "place";

impl Files {
    fn open_file(&mut self, source: Source) -> Result<OpenFile> {
        let mut options = self.options.clone();
        options.compression = source.compression;
        options.csv.delimiter = source.delimiter;
        options.csv.header_required = source.has_header;
        let mut reader = options.open(&source.file.path)?;
        let mut first = 0;
        if let Some(place) = self.resume.take() {
            let doing = || format!("going on with `{}`", source.file.name);
            place.check(&File::open(&source.file.path).doing(doing)?).doing(doing)?;
            reader.go_to(place.mark).doing(doing)?;
            first = place.position;
        }
        self.opened.push(source.file.name.to_string());
        Ok(OpenFile { before: reader.mark(), source, reader, first })
    }

    /// How far a file has been read.
    fn place(&self, file: &OpenFile, position: u64) -> Result<Place> {
        let now = file.reader.mark();
        let mark = if now.position <= position { now } else { file.before };
        let is_text = self.options.format.is_text() && file.source.compression.is_none();
        Place::new(&File::open(&file.source.file.path)?, is_text.then_some(now.offset), mark, position)
    }
}

#[async_trait]
impl Input for Files {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        loop {
            if let Some(open) = &mut self.open {
                let before = open.reader.mark();
                let mut rows = Rows::default();
                if open.reader.next(&mut rows)? {
                    open.before = before;
                    rows.drop_before(open.first);
                    rows.send(&self.source, &open.source.file.name, out);
                    return Ok(Progress::More);
                }
                self.last = self.open.take();
            }
            let Some(source) = self.left.pop_front() else { return Ok(Progress::End) };
            self.open = Some(self.open_file(source)?);
        }
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let mut parts = Parts::default();
        // Rows of the last call are all of one file: the one that is open, or that ended with it.
        let at = |file: &&OpenFile| positions.contains_key(&file.source.file.name);
        if let Some(file) = self.open.as_ref().filter(at).or(self.last.as_ref().filter(at)) {
            let name = &file.source.file.name;
            let place = self.place(file, positions[name]).doing(|| format!("reading `{name}`"))?;
            let before = self.opened.iter().position(|opened| **opened == **name).unwrap_or_default();
            parts.put(PLACE, &(&self.opened[..=before], place))?;
        }
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        if !state.has(PLACE) {
            return match positions.is_empty() {
                true => Ok(()),
                false => Err(Error::new("its state does not say in which file it was")),
            };
        }
        let (mut before, place): (Vec<String>, Place) = state.get(PLACE)?;
        let name = before.pop().unwrap_or_default();
        let Some(index) = self.left.iter().position(|source| *source.file.name == *name) else {
            return Err(Error::new(format!("`{name}`, which was being read, is no longer there")));
        };
        // Files are read in their order, so those before it have ended. They may be gone by now.
        let is_new = |source: &&Source| !before.iter().any(|name| **name == *source.file.name);
        if let Some(new) = self.left.iter().take(index).find(is_new) {
            return Err(Error::new(format!(
                "`{}` is new, and its place is before `{name}`, which was being read",
                new.file.name
            )));
        }
        self.left.drain(..index);
        (self.opened, self.resume) = (before, Some(place));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use arrow::array::RecordBatch;
    use millstream_core::{FailedRow, Home, Step};
    use millstream_formats::WriteOptions;
    use millstream_testkit::{context, parse, rows_as_text, table};

    use super::*;

    struct Flow {
        folder: tempfile::TempDir,
        context: PlanContext,
    }

    impl Flow {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let context = PlanContext { flow_folder: folder.path().to_owned(), ..context() };
            Self { folder, context }
        }

        fn put(&self, name: &str, rows: &RecordBatch) {
            let FileKind { format, compression, .. } = FileKind::of(name);
            let file = fs::File::create(self.folder.path().join(name)).unwrap();
            let options = WriteOptions { format: format.unwrap(), compression, delimiter: b',', header: true };
            let mut writer = options.open(file, &rows.schema()).unwrap();
            writer.write(rows).unwrap();
            writer.finish().unwrap();
        }

        fn plan(&self, settings: &str) -> Result<InputPlan, Problems> {
            parse::<FileInput>(settings).plan(&self.context)
        }

        fn problem(&self, settings: &str) -> (Vec<Step>, String) {
            let mut problems = self.plan(settings).unwrap_err();
            assert_eq!(problems.len(), 1);
            let problem = problems.remove(0);
            (problem.at, problem.message)
        }

        /// The rows of every partition as text, and the failed rows.
        fn read(&self, settings: &str) -> (Vec<(String, String)>, Vec<FailedRow>) {
            let plan = self.plan(settings).unwrap();
            let mut input = (plan.build)().unwrap();
            let mut out = Collector::new(1);
            now(input.open(&Home::Nowhere)).unwrap();
            while now(input.next(&mut out)).unwrap() == Progress::More {}
            let mut partitions: Vec<(String, Vec<RecordBatch>)> = Vec::new();
            for batch in out.take(0) {
                assert_eq!(batch.rows.schema(), plan.schema);
                assert_eq!(
                    (&*batch.origin.source, batch.origin.end - batch.origin.start),
                    ("node", batch.len() as u64)
                );
                match partitions.last_mut() {
                    Some((name, rows)) if **name == *batch.origin.partition => rows.push(batch.rows),
                    _ => partitions.push((batch.origin.partition.to_string(), vec![batch.rows])),
                }
            }
            let text = partitions.into_iter().map(|(name, rows)| (name, rows_as_text(&rows))).collect();
            (text, out.take_failed())
        }
    }

    /// Files never wait.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("files never wait"),
        }
    }

    fn at(path: &str) -> Vec<Step> {
        vec![path.into()]
    }

    #[test]
    fn files_are_read_in_the_order_of_their_paths() {
        let mut flow =
            Flow::new(&[("data/b.csv", "n,a\n3,x\n"), ("data/a.csv", "a,n\nz,1\ny,2\n"), ("c.csv", "a,n\n,4\n")]);
        for batch_rows in [1, 7, 8192] {
            flow.context.batch_rows = batch_rows;
            let (rows, failed) = flow.read("path = [\"data/*.csv\", \"c.csv\", \"data/a.csv\"]");
            let header = "a:utf8? n:int64?\n";
            let expected = [("c.csv", "null 4\n"), ("data/a.csv", "z 1\ny 2\n"), ("data/b.csv", "x 3\n")];
            assert_eq!(rows, expected.map(|(name, text)| (name.to_owned(), format!("{header}{text}"))));
            assert!(failed.is_empty());
        }
    }

    #[test]
    fn bad_rows_fail_with_their_position_in_their_file() {
        let flow = Flow::new(&[("a.ndjson", "{\"n\": 1}\nx\n"), ("b.ndjson", "{\"n\": \"y\"}\n{\"n\": 2}")]);
        let (rows, failed) = flow.read("path = \"*.ndjson\"\nschema = { n = \"int64\" }");
        assert_eq!(rows.len(), 2);
        let places: Vec<_> =
            failed.iter().map(|row| (&*row.source, &*row.partition, row.position, &*row.row)).collect();
        assert_eq!(places, [("node", "a.ndjson", Some(1), "x"), ("node", "b.ndjson", Some(0), "{\"n\": \"y\"}")]);
    }

    #[test]
    fn binary_files_know_their_rows_and_columns() {
        let mut flow = Flow::new(&[]);
        flow.put("a.parquet", &table("id:int64 name:utf8\n1 x\n2 y"));
        flow.put("b.parquet", &table("id:int64 name:utf8?\n3 null"));
        flow.put("c.arrow", &table("id:int64 name:utf8\n1 x"));
        let plan = flow.plan("path = \"*.parquet\"").unwrap();
        assert_eq!((plan.rows, plan.finite, plan.replayable), (Some(3), true, true));
        let (rows, _) = flow.read("path = \"*.parquet\"");
        assert_eq!(rows[1].1, "id:int64 name:utf8?\n3 null\n");
        assert_eq!(flow.plan("path = \"c.arrow\"").unwrap().rows, Some(1));
        flow.context.columns = Some(BTreeSet::from(["name".to_owned()]));
        assert_eq!(flow.read("path = \"*.parquet\"").0[1].1, "name:utf8?\nnull\n");
        flow.context.columns = Some(BTreeSet::new());
        assert_eq!(flow.read("path = \"*.arrow\"").0, [("c.arrow".to_owned(), "\n\n".to_owned())]);
    }

    #[test]
    fn names_and_settings_say_how_a_file_is_written() {
        let flow =
            Flow::new(&[("a.tsv", "a\tb\n1\t2\n"), ("data.txt", "1;NA\n"), ("c.csv", "at\n2026-01-31T12:00:00\n")]);
        assert_eq!(flow.read("path = \"a.tsv\"").0[0].1, "a:int64? b:int64?\n1 2\n");
        let settings =
            "path = \"data.txt\"\nformat = \"csv\"\nheader = false\ndelimiter = \";\"\nnull_values = [\"NA\"]";
        assert_eq!(flow.read(settings).0[0].1, "column_1:int64? column_2:utf8?\n1 null\n");
        let settings = "path = \"c.csv\"\ntimezone = \"Europe/Berlin\"";
        assert_eq!(flow.read(settings).0[0].1, "at:timestamp?\n2026-01-31T11:00:00Z\n");
        flow.put("a.csv.gz", &table("a:int64\n1"));
        fs::rename(flow.folder.path().join("a.csv.gz"), flow.folder.path().join("packed.csv")).unwrap();
        assert_eq!(flow.read("path = \"packed.csv\"\ncompression = \"gzip\"").0[0].1, "a:int64?\n1\n");
    }

    #[test]
    fn values_behind_the_sample_that_do_not_fit_fail() {
        let flow = Flow::new(&[("a.csv", "a\n1\n2.5\n3\n")]);
        assert_eq!(flow.read("path = \"a.csv\"").0[0].1, "a:float64?\n1.0\n2.5\n3.0\n");
        let (_, failed) = flow.read("path = \"a.csv\"\ninfer_rows = 1");
        assert_eq!((failed.len(), failed[0].error.as_str()), (1, "column `a`: `2.5` is no int64"));
    }

    #[test]
    fn paths_that_are_wrong() {
        let flow = Flow::new(&[("a.csv", "a\n1\n"), ("b.ndjson", "{}\n"), ("c", ""), ("d.parquet", "x")]);
        assert_eq!(flow.problem("path = \"x*.csv\""), (at("path"), "no file matches `x*.csv`".into()));
        let place = vec!["path".into(), 1.into()];
        assert_eq!(flow.problem("path = [\"a.csv\", \"no.csv\"]"), (place, "there is no file `no.csv`".into()));
        let message = "the name of `c` does not say its format";
        assert_eq!(flow.problem("path = \"c\""), (at("path"), message.into()));
        let message = "`b.ndjson` is ndjson, unlike the files before it";
        assert_eq!(flow.problem("path = [\"a.csv\", \"b.ndjson\"]"), (at("path"), message.into()));
        let message = "`b.ndjson` has no rows to find the columns by";
        assert_eq!(flow.problem("path = \"b.ndjson\""), (at("path"), message.into()));
        let (place, message) = flow.problem("path = \"d.parquet\"");
        assert!(place == at("path") && message.contains("no valid Parquet file"), "{message}");
        assert_eq!(flow.problem("path = []"), (at("path"), "there are no paths".into()));
    }

    #[test]
    fn files_with_other_columns_are_named() {
        let flow = Flow::new(&[("a.csv", "a,b\n1,2\n"), ("b.csv", "b,c\n"), ("e.csv", "")]);
        let message = "`b.csv` has other columns than `a.csv`: `a` is missing";
        assert_eq!(flow.problem("path = \"*.csv\""), (at("path"), message.into()));
        assert_eq!(flow.read("path = [\"a.csv\", \"e.csv\"]").0.len(), 1);
        flow.put("a.parquet", &table("a:int64\n1"));
        flow.put("b.parquet", &table("a:utf8\n1"));
        let message = "`b.parquet` has other columns than `a.parquet`: `a` is utf8 instead of int64";
        assert_eq!(flow.problem("path = \"*.parquet\""), (at("path"), message.into()));
    }

    #[test]
    fn settings_that_are_wrong() {
        let flow = Flow::new(&[("a.csv", "a\n1\n")]);
        flow.put("a.parquet", &table("a:int64\n1"));
        let place = |settings: &str| flow.problem(settings).0;
        assert_eq!(place("path = \"a.parquet\"\nschema = { a = \"int64\" }"), at("schema"));
        assert_eq!(place("path = \"a.parquet\"\ncompression = \"gzip\""), at("compression"));
        assert_eq!(place("path = \"a.csv\"\nschema = { a = \"list<int64>\" }"), at("schema"));
        assert_eq!(place("path = \"a.csv\"\ntimezone = \"Mars\""), at("timezone"));
        assert_eq!(place("path = \"a.csv\"\ndelimiter = \"\\\"\""), at("delimiter"));
        let message = "`a.csv`: there is no column `b` in the header; there is only `a`";
        assert_eq!(flow.problem("path = \"a.csv\"\nschema = { b = \"int64\" }"), (at("schema"), message.into()));
        assert!(flow.plan("path = \"a.csv\"\nschema = { b = \"int64?\" }").is_ok());
    }

    #[test]
    fn a_file_that_is_emptied_is_an_error_that_names_it() {
        let flow = Flow::new(&[("a.csv", ""), ("b.csv", "a\n1\n")]);
        for settings in ["path = \"*.csv\"", "path = \"*.csv\"\nschema = { a = \"int64\" }"] {
            fs::write(flow.folder.path().join("b.csv"), "a\n1\n").unwrap();
            assert_eq!(flow.read(settings).0.len(), 1, "a file that was empty may stay so");
            let mut input = (flow.plan(settings).unwrap().build)().unwrap();
            fs::write(flow.folder.path().join("b.csv"), "").unwrap();
            let error = now(input.next(&mut Collector::new(1))).unwrap_err().to_string();
            assert!(error.contains("b.csv`: the header is gone"), "{error}");
        }
        let headerless = "path = \"b.csv\"\nheader = false\nschema = { a = \"int64\" }";
        assert_eq!(flow.read(headerless).0, []);
    }

    #[test]
    fn a_file_that_goes_away_is_an_error_that_names_it() {
        let flow = Flow::new(&[("a.csv", "a\n1\n")]);
        let mut input = (flow.plan("path = \"a.csv\"").unwrap().build)().unwrap();
        fs::remove_file(flow.folder.path().join("a.csv")).unwrap();
        let error = now(input.next(&mut Collector::new(1))).unwrap_err().to_string();
        assert!(error.starts_with("reading `") && error.contains("a.csv"), "{error}");
    }

    #[test]
    fn a_file_that_is_another_one_than_before_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        let text: String = (0..20).map(|n| format!("{{\"n\": {n}}}\n")).collect();
        let context = PlanContext { flow_folder: folder.path().to_owned(), ..context() };
        let build = || {
            let settings = "path = \"a.ndjson\"\nschema = { n = \"int64\" }";
            (parse::<FileInput>(settings).plan(&context).unwrap().build)().unwrap()
        };
        fs::write(&path, &text).unwrap();
        let mut input = build();
        let mut out = Collector::new(1);
        now(input.next(&mut out)).unwrap();
        // All rows have been read, and seven of them sent.
        let positions = Positions::from([("a.ndjson".into(), 7)]);
        let state = input.snapshot(&positions).unwrap().into_state().unwrap();
        let go_on = |text: &str| {
            fs::write(&path, text).unwrap();
            let mut input = build();
            input.restore(&positions, &state).unwrap();
            let mut out = Collector::new(1);
            now(input.next(&mut out)).map(|_| out.take(0).map(|batch| batch.len()).sum::<usize>())
        };
        assert_eq!(go_on(&text).unwrap(), 13);
        let error = go_on(&text[..60]).unwrap_err().to_string();
        assert!(error.contains("it has become shorter"), "{error}");
        let error = go_on(&text.replace("19", "91")).unwrap_err().to_string();
        assert!(error.contains("it is another file"), "{error}");
    }
}
