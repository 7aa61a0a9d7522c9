//! The output `file`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{
    Batch, Border, ByteSize, Committer, Delivery, Epoch, Error, Exclusive, Home, Kind, Output, OutputPlan,
    OutputSettings, PlanContext, Problem, Problems, Result, ResultExt, Snapshot, State, Stream, Then, Uses,
};
use millstream_formats::{Compression, FileKind, Format, WriteOptions, csv_header, ends_with_line_break};
use millstream_store::crash;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::claim::Claim;
use super::hashed::missing;
use super::publish::{Publication, Publisher, STAGED};
use super::staging::{Staged, Unfinished, Whole, part, remove, resolve, sync_folder};
use super::target::{Target, number_of};
use crate::text;

/// Writes files: CSV, NDJSON, Parquet, and Arrow IPC.
///
/// A `path` that ends in a format's extension is one file; any other is a folder, which gets files named
/// `FLOW-OUTPUT-EPOCH-NUMBER.EXTENSION`, with a new one begun after so many `rows` or `bytes`. Rows go to a hidden
/// part file beside it, `.NAME.part`, which takes its name when the flow has ended well: a reader of `*.csv` only
/// ever sees whole files. Without any rows there is still a file, with the columns where the format has a place for
/// them. A file that takes the place of another keeps its permissions, and a path that is a link stays one. Two runs
/// can't write to the same place at once: the later one fails.
///
/// A second run of a flow writes its files anew: when it has ended well, they take the place of those of the run
/// before; when it fails, those stay as they are. `if_exists` changes that. Without rows a file is empty, and a folder
/// gets none. Dead letters (`on_error = { dead_letter =
/// "FOLDER" }`) are NDJSON files of such an output named `dead_letter`, with no settings of their own: each run that
/// ends well replaces those of the run before, also if no row was refused; a run that fails writes none, and leaves
/// those that are there. To keep them, send the port `failed` to an output of your own with `if_exists = "append"`
/// and a folder as its `path`.
///
/// Timestamps are written in UTC. CSV: null is an empty cell, as is an empty text; lists and structs are refused.
/// NDJSON: null columns are left out, and a float that is not finite becomes null. In both, binary is hexadecimal.
/// Parquet is compressed with zstd. The same rows give the same bytes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileOutput {
    /// The file or folder, relative to the folder that the program runs in. Folders that are not there are made. The
    /// extension says the format: `.csv`, `.tsv` (CSV with tabs), `.ndjson`, `.jsonl`, `.json`, `.parquet`, `.arrow`;
    /// with `.gz`, `.zst` or `.bz2` behind it, CSV and NDJSON are packed.
    path: String,
    /// The format of the files in a folder. It can be left out where the extension of `path` says it.
    format: Option<Format>,
    /// How CSV and NDJSON files in a folder are packed; without it they are not.
    compression: Option<Compression>,
    /// What to do if there is a file already, or in a folder files of this output, from a run before. `replace`: they
    /// are removed when the flow has ended well, and stay if it fails; what others put into a folder always stays.
    /// `append`: a CSV or NDJSON file grows, which can't be done with Parquet and Arrow files; a folder gets more
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
}

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
    const EXAMPLE: &'static str = r#"
path = "out/scored"
format = "parquet"
rows = 1000000
"#;
    const FREE_SETTINGS: &'static [&'static str] = &["if_exists", "rows", "bytes", "every"];
}

impl FileOutput {
    fn target(&self, context: &PlanContext) -> Result<Target, Problem> {
        let kind = FileKind::of(&self.path);
        let path = context.output_path(&self.path);
        let target = match (kind.format, self.format) {
            (Some(named), Some(format)) if named != format => {
                let message = format!("`{}` would be {}, but `format` is {}", self.path, named.name(), format.name());
                return Err(Problem::new(message).at(["format"]).help("leave `format` out, or rename the file"));
            }
            (Some(format), _) => Target { path, format, compression: kind.compression, tabs: kind.tabs, folder: None },
            (None, Some(format)) => {
                let folder = Some(format!("{}-{}-", context.flow, context.node));
                Target { path, format, compression: self.compression, tabs: false, folder }
            }
            (None, None) => {
                let problem = Problem::new(format!("`{}` does not say its format", self.path)).at(["path"]);
                return Err(problem.help("let the path end in `.csv`, say; or set `format`, for a folder of files"));
            }
        };
        if target.compression.is_some() && !target.format.is_text() {
            let at = if target.folder.is_some() { "compression" } else { "path" };
            return Err(Problem::new(format!("{} files are compressed inside", target.format.name())).at([at]));
        }
        Ok(target)
    }

    /// Settings that have no meaning for the target.
    fn check(&self, target: &Target) -> Problems {
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
            let other = self.compression.filter(|packed| Some(*packed) != target.compression);
            problems.extend(other.map(|packed| {
                let extension = packed.extension();
                let problem = Problem::new("the extension says how one file is packed").at(["compression"]);
                problem.help(format!("leave `compression` out, and let `path` end in `.{extension}`"))
            }));
            if self.if_exists == IfExists::Append && !target.format.is_text() {
                let message = format!("{} files can't be appended to", target.format.name());
                let help = "write a folder, which then gets another file: take the extension off `path`, set `format`";
                problems.push(Problem::new(message).at(["if_exists"]).help(help));
            }
        }
        problems.extend(target.is_in_the_way().map(|message| Problem::new(message).at(["path"])));
        problems
    }
}

impl OutputSettings for FileOutput {
    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let target = self.target(context)?;
        let mut problems = self.check(&target);
        if target.format == Format::Csv
            && let Err(problem) = text::flat(&input.schema)
        {
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
        let (rows, bytes) = (self.rows.unwrap_or(usize::MAX), self.bytes.map_or(u64::MAX, |size| size.0 as u64));
        let files = Files {
            options: target.options(),
            target,
            schema: input.schema.clone(),
            if_exists: self.if_exists,
            rows,
            bytes,
            every: self.every.map(|every| every.0),
            progress: Progress::default(),
            claim: None,
            open: None,
            since: Instant::now(),
            finished: Vec::new(),
            epoch: Epoch::default().next(),
            durable: false,
            is_own: Arc::default(),
        };
        let build = Box::new(move || Ok(Box::new(files) as Box<dyn Output>));
        Ok(OutputPlan { uses: Uses::all(), delivery: Delivery::ExactlyOnce, exclusive, build })
    }
}

struct Files {
    target: Target,
    options: WriteOptions,
    schema: SchemaRef,
    if_exists: IfExists,
    /// A file has at most so many rows.
    rows: usize,
    /// A file is ended when it has so many bytes.
    bytes: u64,
    /// A file is ended at the first checkpoint after this time.
    every: Option<Duration>,
    /// What outlives the run.
    progress: Progress,
    /// Keeps other runs away, from the start to the end.
    claim: Option<Claim>,
    open: Option<Staged>,
    /// When `open` was begun.
    since: Instant,
    /// The files that are whole, and not handed over yet.
    finished: Vec<Whole>,
    /// The epoch that rows belong to now.
    epoch: Epoch,
    /// Whether a run after a crash goes on with what this one has begun.
    durable: bool,
    /// Whether this process has begun to write.
    is_own: Arc<AtomicBool>,
}

/// What an output needs to go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// The number of the next file.
    number: u32,
    /// The files of runs before, which go when the first of this flow are published.
    former: Vec<PathBuf>,
    /// The file that is not whole.
    unfinished: Option<Unfinished>,
}

/// The name of that in the state.
const PROGRESS: &str = "progress";

impl Files {
    /// Begins the next file.
    fn start(&mut self) -> Result<()> {
        let path = self.target.file(self.epoch, self.progress.number);
        self.progress.number += 1;
        let append = self.if_exists == IfExists::Append && self.target.folder.is_none() && path.exists();
        let mut options = self.options;
        if append {
            options.header = self.check_appendable(&path)?;
        }
        let old = append.then(|| path.clone());
        self.open = Some(Staged::start(path, options, &self.schema, old.as_deref(), self.durable)?);
        self.since = Instant::now();
        Ok(())
    }

    /// Whether the old file still needs a header. An error if it has other columns or ends within a line.
    fn check_appendable(&self, path: &Path) -> Result<bool> {
        let WriteOptions { format, compression, delimiter, .. } = self.options;
        let doing = || format!("appending to `{}`", path.display());
        if !ends_with_line_break(path, compression).doing(doing)? {
            return Err(Error::new(format!("{}: its last line has no line break", doing())));
        }
        if format != Format::Csv {
            return Ok(false);
        }
        let Some(names) = csv_header(path, compression, delimiter).doing(doing)? else { return Ok(true) };
        let columns = self.schema.fields().iter().map(|field| field.name());
        match columns.eq(&names) {
            true => Ok(false),
            false => Err(Error::new(format!("{}: its columns are `{}`", doing(), names.join("`, `")))),
        }
    }

    /// Ends the file that is open.
    fn finish(&mut self) -> Result<()> {
        if let Some(staged) = self.open.take() {
            let path = staged.path.clone();
            match staged.finish() {
                Ok(whole) => self.finished.push(whole),
                Err(error) => return remove(&part(&path)).and(Err(error)),
            }
        }
        Ok(())
    }

    /// Whether files may take the place of others: those that replace, and a whole file that begins with the old one.
    fn replaces(&self) -> bool {
        match self.if_exists {
            IfExists::Replace => true,
            IfExists::Append => self.target.folder.is_none(),
            IfExists::Fail => false,
        }
    }

    /// Begins a flow's files, beside or instead of those that are there.
    fn begin(&mut self) -> Result<()> {
        let existing = self.target.existing();
        match (self.if_exists, existing.last()) {
            (_, None) | (IfExists::Fail, _) => {}
            (IfExists::Replace, _) => self.progress.former = existing,
            (IfExists::Append, Some(last)) => {
                let name = last.file_name().unwrap_or_default().to_string_lossy();
                let last = self.target.folder.as_ref().and_then(|prefix| number_of(prefix, &name));
                self.progress.number = last.unwrap_or(0) + 1;
            }
        }
        // Without rows there is an empty file, but nothing in a folder: no news from a dead letter is good news.
        if self.target.folder.is_none() { self.start() } else { Ok(()) }
    }

    /// Removes what a run left behind that was killed, except for what this one goes on with.
    fn clean(&self) -> Result<()> {
        let needed: Vec<PathBuf> = self.progress.unfinished.iter().flat_map(Unfinished::files).collect();
        self.target.leftovers().filter(|path| !needed.contains(path)).try_for_each(|path| remove(&path))
    }

    /// What becomes of the file that is open at a border, and what of it is still to be made durable.
    fn pause(&mut self, border: Border) -> Result<Option<(Unfinished, fs::File)>> {
        let is_last = border.then != Then::Continue;
        let is_due = self.target.folder.is_some() && self.every.is_some_and(|every| self.since.elapsed() >= every);
        // One file for all runs is whole for now when the flow stops, and goes on to grow when it does.
        let goes_on = border.then == Then::Stop && self.target.folder.is_none();
        let mut paused = match &mut self.open {
            Some(open) if goes_on || !(is_last || is_due) => Some(open.pause()?),
            _ => None,
        };
        if is_last || is_due {
            self.finish()?;
        }
        if let (Some((unfinished, _)), true) = (&mut paused, goes_on) {
            unfinished.is_published = true;
            // The journals are needed to go on.
            self.finished.iter_mut().for_each(|whole| whole.journals.clear());
        }
        Ok(paused)
    }
}

#[async_trait]
impl Output for Files {
    fn restore(&mut self, state: &State) -> Result<()> {
        self.progress = state.get(PROGRESS)?;
        Ok(())
    }

    async fn open(&mut self, home: &Home) -> Result<()> {
        self.durable = home.is_durable();
        self.is_own.store(true, Ordering::Relaxed);
        if self.if_exists == IfExists::Fail
            && self.progress.number == 0
            && let Some(file) = self.target.existing().first()
        {
            let advice = "remove it, or set `if_exists` to `replace` or `append`";
            return Err(Error::new(format!("`{}` exists; {advice}", file.display())));
        }
        if self.target.folder.is_none() {
            self.target.path = resolve(&self.target.path)?;
        }
        // Before the lock, which would create it.
        if let Some(path) = self.progress.unfinished.as_ref().and_then(Unfinished::missing) {
            return Err(missing(&path));
        }
        let folder = self.target.folder();
        fs::create_dir_all(folder).doing(|| format!("making the folder `{}`", folder.display()))?;
        // The part file of a single file is the lock as well, and is needed by the run that goes on with it.
        let keep = self.durable && self.target.folder.is_none();
        self.claim = Some(Claim::take(self.target.lock(), &self.target.path, keep)?);
        self.clean()?;
        match self.progress.unfinished.take() {
            Some(unfinished) => self.open = Some(Staged::go_on(unfinished, self.options, &self.schema)?),
            None if self.progress.number == 0 => {
                self.progress.number = 1;
                self.begin()?;
            }
            None => {}
        }
        Ok(())
    }

    async fn write(&mut self, batch: Batch) -> Result<()> {
        let mut rows = batch.rows;
        while rows.num_rows() > 0 {
            if self.open.is_none() {
                self.start()?;
            }
            let Some(open) = &mut self.open else { continue };
            let written = open.write(&rows, self.rows - open.rows)?;
            if open.rows >= self.rows || (self.bytes < u64::MAX && open.bytes()? >= self.bytes) {
                self.finish()?;
            }
            rows = rows.slice(written, rows.num_rows() - written);
        }
        Ok(())
    }

    fn border(&mut self, epoch: Epoch) {
        self.epoch = epoch.next();
    }

    async fn stage(&mut self, border: Border) -> Result<Snapshot> {
        let paused = match self.durable {
            true => self.pause(border)?,
            false => self.finish().map(|()| None)?,
        };
        let (unfinished, file) = paused.unzip();
        self.progress.unfinished = unfinished;
        crash::point("output-staged");
        let mut snapshot = Snapshot::default();
        let files = std::mem::take(&mut self.finished);
        let is_last = border.then != Then::Continue;
        if !files.is_empty() || is_last {
            let (replaces, makes_way) = (self.replaces(), self.if_exists == IfExists::Append);
            let former = std::mem::take(&mut self.progress.former);
            // To be undone if it is not committed.
            self.finished = if self.durable { Vec::new() } else { files.clone() };
            let lock = (border.then == Then::End && self.target.folder.is_some()).then(|| self.target.lock());
            snapshot.staged.put(STAGED, &Publication { files, replaces, makes_way, former, lock })?;
        }
        // A disk takes its time to make durable what came since the last checkpoint, in which rows must not wait.
        let folder = self.target.folder().to_owned();
        snapshot.state.put_after(PROGRESS, self.progress.clone(), move || {
            file.map_or(Ok(()), |file| file.sync_all()).doing(|| format!("writing to `{}`", folder.display()))?;
            sync_folder(&folder)
        });
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(Publisher { is_own: self.is_own.clone() }))
    }

    async fn abort(&mut self) {
        if self.durable {
            return;
        }
        // The next run removes or overwrites what can't be removed now.
        if let Some(staged) = self.open.take() {
            let _ = remove(&part(&staged.path));
        }
        for whole in &self.finished {
            let _ = remove(&whole.part);
        }
        self.claim = None;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use arrow::array::RecordBatch;
    use millstream_core::Step;
    use millstream_testkit::{batch, context, parse, stream, table};

    use super::*;

    struct Folder(tempfile::TempDir);

    /// An output that has staged what it was given.
    struct Written {
        output: Option<Box<dyn Output>>,
        committer: Box<dyn Committer>,
        staged: State,
    }

    impl Written {
        async fn commit(&mut self) -> Result<()> {
            self.committer.commit(&self.staged).await?;
            self.output = None;
            Ok(())
        }

        async fn abort(&mut self) {
            if let Some(output) = &mut self.output {
                output.abort().await;
            }
        }
    }

    const END: Border = Border { epoch: Epoch(1), then: Then::End };

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn context(&self) -> PlanContext {
            PlanContext { work_folder: self.0.path().to_owned(), ..context() }
        }

        fn put(&self, name: &str, text: &str) {
            fs::write(self.0.path().join(name), text).unwrap();
        }

        fn text(&self, name: &str) -> String {
            String::from_utf8(self.bytes(name)).unwrap()
        }

        fn bytes(&self, name: &str) -> Vec<u8> {
            fs::read(self.0.path().join(name)).unwrap()
        }

        /// The names in a folder, hidden ones included.
        fn names(&self, folder: &str) -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(self.0.path().join(folder))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        fn plan(&self, settings: &str, rows: &RecordBatch) -> Result<OutputPlan, Problems> {
            parse::<FileOutput>(settings).plan(&self.context(), &stream("from", rows.schema()))
        }

        fn place(&self, settings: &str) -> Vec<Step> {
            let mut problems = self.plan(settings, &table("a:int64")).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            problems.remove(0).at
        }

        /// An output that has been given the rows, and not been told what to do with them.
        async fn staged(&self, settings: &str, rows: &RecordBatch, cut: usize) -> Result<Written> {
            let plan = self.plan(settings, rows).unwrap();
            assert_eq!((plan.uses, plan.delivery), (Uses::all(), Delivery::ExactlyOnce));
            let mut output = (plan.build)().unwrap();
            let committer = output.committer().unwrap();
            output.open(&Home::Nowhere).await?;
            for start in (0..rows.num_rows()).step_by(cut) {
                output.write(batch(rows.slice(start, cut.min(rows.num_rows() - start)))).await?;
            }
            let staged = output.stage(END).await?.staged.into_state()?;
            Ok(Written { output: Some(output), committer, staged })
        }

        /// Checks that a run does not begin, because of what is there.
        async fn refuses(&self, settings: &str) {
            let error = self.staged(settings, &rows(1), 1).await.err().unwrap().to_string();
            assert!(error.contains("` exists; remove it"), "{error}");
        }

        async fn write(&self, settings: &str, rows: &RecordBatch) {
            let mut output = self.staged(settings, rows, 2).await.unwrap();
            output.commit().await.unwrap();
            output.commit().await.unwrap();
        }
    }

    fn rows(count: usize) -> RecordBatch {
        let lines: Vec<_> = (0..count).map(|n| format!("{n} x{n}")).collect();
        table(&format!("a:int64 b:utf8?\n{}", lines.join("\n")))
    }

    fn at(key: &str) -> Vec<Step> {
        vec![key.into()]
    }

    #[tokio::test]
    async fn a_file_is_not_there_before_the_commit() {
        let folder = Folder::new();
        let mut output = folder.staged("path = \"deep/er/a.csv\"", &rows(3), 2).await.unwrap();
        assert_eq!(folder.names("deep/er"), [".a.csv.part"]);
        output.commit().await.unwrap();
        assert_eq!(folder.names("deep/er"), ["a.csv"]);
        assert_eq!(folder.text("deep/er/a.csv"), "a,b\n0,x0\n1,x1\n2,x2\n");
        let mut output = folder.staged("path = \"deep/er/a.csv\"", &rows(1), 2).await.unwrap();
        output.abort().await;
        assert_eq!(folder.names("deep/er"), ["a.csv"]);
        assert!(folder.text("deep/er/a.csv").ends_with("2,x2\n"));
    }

    #[tokio::test]
    async fn every_format_writes_a_whole_file_without_rows() {
        let folder = Folder::new();
        for (name, start) in [("a.csv", "a,b\n"), ("a.tsv", "a\tb\n"), ("a.parquet", "PAR1"), ("a.arrow", "ARROW1")] {
            folder.write(&format!("path = \"{name}\""), &rows(0)).await;
            assert!(folder.bytes(name).starts_with(start.as_bytes()), "{name}");
        }
        folder.write("path = \"a.ndjson\"", &rows(0)).await;
        assert_eq!(folder.text("a.ndjson"), "");
        folder.write("path = \"out\"\nformat = \"csv\"", &rows(0)).await;
        assert!(folder.names("out").is_empty(), "a folder gets none");
    }

    #[tokio::test]
    async fn appending() {
        let folder = Folder::new();
        for name in ["a.csv", "a.ndjson"] {
            let settings = format!("path = \"{name}\"\nif_exists = \"append\"");
            folder.write(&settings, &rows(1)).await;
            folder.write(&settings, &rows(2)).await;
        }
        assert_eq!(folder.text("a.csv"), "a,b\n0,x0\n0,x0\n1,x1\n");
        assert_eq!(folder.text("a.ndjson").lines().count(), 3);
        folder.put("empty.csv", "");
        folder.write("path = \"empty.csv\"\nif_exists = \"append\"", &rows(1)).await;
        assert_eq!(folder.text("empty.csv"), "a,b\n0,x0\n");
        folder.put("other.csv", "a,c\n");
        let settings = "path = \"other.csv\"\nif_exists = \"append\"";
        let error = folder.staged(settings, &rows(1), 1).await.err().unwrap().to_string();
        assert!(error.ends_with("its columns are `a`, `c`"), "{error}");
        folder.put("open.ndjson", "{}");
        let settings = "path = \"open.ndjson\"\nif_exists = \"append\"";
        let error = folder.staged(settings, &rows(1), 1).await.err().unwrap().to_string();
        assert!(error.ends_with("its last line has no line break"), "{error}");
    }

    #[tokio::test]
    async fn packed_files_can_be_appended_to() {
        let folder = Folder::new();
        let settings = "path = \"a.csv.gz\"\nif_exists = \"append\"";
        folder.write(settings, &rows(1)).await;
        folder.write(settings, &rows(1)).await;
        let file = fs::File::open(folder.0.path().join("a.csv.gz")).unwrap();
        let packed = Some(Compression::Gzip);
        let text = std::io::read_to_string(millstream_formats::decompress(file, packed).unwrap()).unwrap();
        assert_eq!(text, "a,b\n0,x0\n0,x0\n");
    }

    #[tokio::test]
    async fn folders_are_rolled_by_rows_whatever_the_batches() {
        let folder = Folder::new();
        let settings = "path = \"out\"\nformat = \"ndjson\"\ncompression = \"zstd\"\nrows = 3";
        for cut in [1, 2, 100] {
            folder.staged(settings, &rows(6), cut).await.unwrap().commit().await.unwrap();
            let names = [1, 2].map(|number| format!("test-node-00000000000000000001-0000{number}.ndjson.zst"));
            assert_eq!(folder.names("out"), names, "no empty third file");
        }
    }

    #[tokio::test]
    async fn folders_are_rolled_by_bytes_whatever_the_batches() {
        let folder = Folder::new();
        let many = rows(40_000);
        let mut lines = Vec::new();
        for cut in [777, 40_000] {
            let settings = "path = \"out\"\nformat = \"csv\"\nbytes = \"100kB\"";
            folder.staged(settings, &many, cut).await.unwrap().commit().await.unwrap();
            let names = folder.names("out");
            lines
                .push(names.iter().map(|name| folder.text(&format!("out/{name}")).lines().count()).collect::<Vec<_>>());
        }
        assert_eq!(lines[0], [16_385, 8193, 8193, 7233]);
        assert_eq!(lines[0], lines[1]);
    }

    #[tokio::test]
    async fn replacing_in_a_folder_leaves_what_others_wrote() {
        let folder = Folder::new();
        let settings = "path = \"out\"\nformat = \"csv\"\nrows = 1";
        folder.write(settings, &rows(3)).await;
        folder.put("out/notes.csv", "kept");
        folder.put("out/test-node2-00000000000000000001-00001.csv", "kept");
        folder.put("out/.test-node-00000000000000000001-00009.csv.part", "left behind");
        folder.write(settings, &rows(1)).await;
        let names =
            ["notes.csv", "test-node-00000000000000000001-00001.csv", "test-node2-00000000000000000001-00001.csv"];
        assert_eq!(folder.names("out"), names);
        folder.write(&format!("{settings}\nif_exists = \"append\""), &rows(1)).await;
        assert_eq!(folder.names("out")[2], "test-node-00000000000000000001-00002.csv");
        folder.refuses(&format!("{settings}\nif_exists = \"fail\"")).await;
    }

    #[tokio::test]
    async fn two_runs_never_write_to_one_place() {
        let folder = Folder::new();
        fs::create_dir(folder.0.path().join("out")).unwrap();
        symlink("a.csv", folder.0.path().join("link.csv")).unwrap();
        let folder_settings = "path = \"out\"\nformat = \"csv\"\nrows = 1";
        for if_exists in ["replace", "append"] {
            for (one, two) in [("a.csv", "a.csv"), ("a.csv", "link.csv"), ("out", "out")] {
                let settings = |path: &str| match path {
                    "out" => format!("{folder_settings}\nif_exists = \"{if_exists}\""),
                    path => format!("path = \"{path}\"\nif_exists = \"{if_exists}\""),
                };
                let mut first = folder.staged(&settings(one), &rows(3), 2).await.unwrap();
                let mut second = (folder.plan(&settings(two), &rows(1)).unwrap().build)().unwrap();
                let error = second.open(&Home::Nowhere).await.unwrap_err().to_string();
                assert!(error.starts_with("another run is writing `") && error.contains(one), "{error}");
                second.abort().await;
                first.commit().await.unwrap();
                folder.staged(&settings(two), &rows(1), 1).await.unwrap().abort().await;
            }
        }
        assert_eq!(folder.text("a.csv").lines().count(), 10, "a header and three times three rows");
        assert_eq!(folder.names("out").len(), 6);
        assert_eq!(folder.names("."), ["a.csv", "link.csv", "out"]);
    }

    #[tokio::test]
    async fn a_commit_is_done_once() {
        let folder = Folder::new();
        let mut output = folder.staged("path = \"a.csv\"", &rows(1), 1).await.unwrap();
        fs::remove_file(folder.0.path().join(".a.csv.part")).unwrap();
        folder.put("a.csv", "another one's");
        assert!(output.commit().await.is_err(), "the rows are lost, though there is a file");
        drop(output);
        folder.write("path = \"a.csv\"", &rows(1)).await;
        let mut output = folder.staged("path = \"a.csv\"", &rows(1), 1).await.unwrap();
        output.commit().await.unwrap();
        folder.put("a.csv", "another's");
        folder.put(".a.csv.part", "another one's");
        let error = output.commit().await.unwrap_err().to_string();
        assert!(error.contains("is damaged: it is not what the last checkpoint left there"), "{error}");
        output.abort().await;
        assert_eq!((&*folder.text("a.csv"), &*folder.text(".a.csv.part")), ("another's", "another one's"));
    }

    #[tokio::test]
    async fn what_a_killed_run_left_behind_is_no_obstacle() {
        let folder = Folder::new();
        folder.put(".a.csv.part", &"left behind\n".repeat(100));
        folder.write("path = \"a.csv\"", &rows(1)).await;
        fs::create_dir(folder.0.path().join("out")).unwrap();
        folder.put("out/.test-node-part", "");
        folder.write("path = \"out\"\nformat = \"csv\"", &rows(1)).await;
        assert_eq!(folder.text("a.csv"), "a,b\n0,x0\n");
        assert_eq!(folder.names("out"), ["test-node-00000000000000000001-00001.csv"]);
    }

    #[tokio::test]
    async fn files_that_come_into_the_way_are_not_replaced_by_what_adds() {
        let folder = Folder::new();
        let settings = "path = \"out\"\nformat = \"csv\"\nrows = 1\nif_exists = \"append\"";
        let mut output = folder.staged(settings, &rows(2), 1).await.unwrap();
        folder.put("out/test-node-00000000000000000001-00001.csv", "another's");
        output.commit().await.unwrap();
        output.commit().await.unwrap();
        assert_eq!(folder.text("out/test-node-00000000000000000001-00001.csv"), "another's");
        assert_eq!(folder.text("out/test-node-00000000000000000001-00002.csv"), "a,b\n0,x0\n");
        assert_eq!(folder.text("out/test-node-00000000000000000001-00003.csv"), "a,b\n1,x1\n");
        assert_eq!(folder.names("out").len(), 3);
        let mut output = folder.staged("path = \"b.csv\"\nif_exists = \"fail\"", &rows(1), 1).await.unwrap();
        folder.put("b.csv", "another's");
        let error = output.commit().await.unwrap_err().to_string();
        assert!(error.ends_with("b.csv` exists"), "{error}");
        output.abort().await;
        assert_eq!(
            (folder.text("b.csv").as_str(), folder.names(".")),
            ("another's", vec!["b.csv".into(), "out".into()])
        );
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_keeps_its_mode() {
        let folder = Folder::new();
        let path = |name: &str| folder.0.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o7777;
        for (if_exists, before) in [("replace", 0o640), ("append", 0o600), ("replace", 0o400), ("append", 0o666)] {
            folder.put("a.csv", "");
            fs::set_permissions(path("a.csv"), fs::Permissions::from_mode(before)).unwrap();
            let settings = format!("path = \"a.csv\"\nif_exists = \"{if_exists}\"");
            let mut output = folder.staged(&settings, &rows(1), 1).await.unwrap();
            assert_eq!(mode(".a.csv.part"), before | 0o200);
            output.commit().await.unwrap();
            assert_eq!(mode("a.csv"), before);
            fs::remove_file(path("a.csv")).unwrap();
        }
    }

    #[tokio::test]
    async fn links_stay_links() {
        let folder = Folder::new();
        let path = |name: &str| folder.0.path().join(name);
        fs::create_dir(path("deep")).unwrap();
        symlink("deep/b.csv", path("a.csv")).unwrap();
        symlink("../c.csv", path("deep/b.csv")).unwrap();
        // A link to nothing is there, too.
        folder.refuses("path = \"a.csv\"\nif_exists = \"fail\"").await;
        for (if_exists, lines) in [("replace", 2), ("append", 3), ("replace", 2)] {
            folder.write(&format!("path = \"a.csv\"\nif_exists = \"{if_exists}\""), &rows(1)).await;
            assert_eq!(folder.text("c.csv").lines().count(), lines);
        }
        assert!(path("a.csv").is_symlink() && path("deep/b.csv").is_symlink());
        assert_eq!(folder.names("deep"), ["b.csv"]);
        symlink("loop.csv", path("loop.csv")).unwrap();
        let error = folder.staged("path = \"loop.csv\"", &rows(1), 1).await.err().unwrap().to_string();
        assert!(error.ends_with("loop.csv` is a link that leads to itself"), "{error}");
    }

    #[tokio::test]
    async fn only_a_flow_that_begins_is_refused_what_is_there() {
        let settings = "path = \"a.csv\"\nif_exists = \"fail\"";
        let folder = Folder::new();
        let mut state = None;
        let staged = run(&folder, settings, &rows(4), &mut state, &[rows(2)], Then::Stop).await.pop().unwrap();
        Publisher { is_own: Arc::default() }.commit(&staged).await.unwrap();
        folder.refuses(settings).await;
        run(&folder, settings, &rows(4), &mut state, &[rows(2)], Then::Continue).await;
    }

    #[test]
    fn the_schema_says_the_default() {
        let schema = schemars::schema_for!(FileOutput);
        assert_eq!(schema.pointer("/properties/if_exists/default"), Some(&"replace".into()));
    }

    #[test]
    fn settings_that_are_wrong() {
        let folder = Folder::new();
        folder.put("a.csv", "");
        fs::create_dir(folder.0.path().join("b.csv")).unwrap();
        assert_eq!(folder.place("path = \"out\""), at("path"));
        assert_eq!(folder.place("path = \"x.csv\"\nformat = \"parquet\""), at("format"));
        assert_eq!(folder.place("path = \"x.parquet.gz\""), at("path"));
        assert_eq!(folder.place("path = \"out\"\nformat = \"arrow\"\ncompression = \"gzip\""), at("compression"));
        assert_eq!(folder.place("path = \"x.csv\"\ncompression = \"gzip\""), at("compression"));
        assert_eq!(folder.place("path = \"x.csv\"\nrows = 5"), at("rows"));
        assert_eq!(folder.place("path = \"x.csv\"\nbytes = \"1MB\""), at("bytes"));
        assert_eq!(folder.place("path = \"x.parquet\"\nif_exists = \"append\""), at("if_exists"));
        assert_eq!(folder.place("path = \"b.csv\""), at("path"));
        let nested = table("l:list<utf8>?");
        assert_eq!(folder.plan("path = \"x.csv\"", &nested).unwrap_err()[0].at, at("path"));
        assert_eq!(folder.names("."), ["a.csv", "b.csv"], "planning writes nothing");
    }

    /// A run that keeps state: it is given rows between borders, and ends without a word, as by a crash, or with `last`.
    async fn run(
        folder: &Folder,
        settings: &str,
        schema: &RecordBatch,
        state: &mut Option<State>,
        rows: &[RecordBatch],
        last: Then,
    ) -> Vec<State> {
        let plan = folder.plan(settings, schema).unwrap();
        let mut output = (plan.build)().unwrap();
        if let Some(state) = state {
            output.restore(state).unwrap();
        }
        output.open(&Home::Elsewhere).await.unwrap();
        let mut staged = Vec::new();
        for (number, some) in rows.iter().enumerate() {
            output.write(batch(some.clone())).await.unwrap();
            output.border(Epoch(number as u64 + 1));
            let then = if number + 1 == rows.len() { last } else { Then::Continue };
            let snapshot = output.stage(Border { epoch: Epoch(number as u64 + 1), then }).await.unwrap();
            *state = Some(snapshot.state.into_state().unwrap());
            staged.push(snapshot.staged.into_state().unwrap());
        }
        if last == Then::Continue {
            // These rows come behind the last checkpoint, and are lost with the run.
            output.write(batch(rows[0].clone())).await.unwrap();
        }
        staged
    }

    #[tokio::test]
    async fn a_file_is_gone_on_with_after_a_crash_and_after_a_stop() {
        let all = rows(30);
        let pieces: Vec<_> = (0..6).map(|piece| all.slice(piece * 5, 5)).collect();
        for name in ["a.csv", "a.ndjson", "a.csv.gz", "a.parquet", "a.arrow"] {
            let settings = format!("path = \"{name}\"");
            let whole = Folder::new();
            whole.write(&settings, &all).await;
            let folder = Folder::new();
            let mut state = None;
            for (pieces, last) in
                [(&pieces[..2], Then::Continue), (&pieces[2..4], Then::Stop), (&pieces[4..5], Then::Continue)]
            {
                for staged in run(&folder, &settings, &all, &mut state, pieces, last).await {
                    if !staged.is_empty() {
                        Publisher { is_own: Arc::default() }.commit(&staged).await.unwrap();
                    }
                }
                assert_eq!(
                    folder.names(".").contains(&name.to_owned()),
                    last == Then::Stop || pieces.len() == 1,
                    "{name}"
                );
            }
            let staged = run(&folder, &settings, &all, &mut state, &pieces[5..], Then::End).await.pop().unwrap();
            for _ in 0..2 {
                Publisher { is_own: Arc::default() }.commit(&staged).await.unwrap();
            }
            assert!(folder.bytes(name) == whole.bytes(name), "{name}");
            assert_eq!(folder.names("."), [name], "nothing is left behind");
        }
    }

    #[tokio::test]
    async fn what_is_not_as_the_checkpoint_says_is_noticed() {
        for (name, hidden) in [("a.csv", ".a.csv.part"), ("a.parquet", ".a.parquet.rows-1.part")] {
            let settings = format!("path = \"{name}\"");
            for damage in ["flip", "cut", "remove"] {
                let folder = Folder::new();
                let mut state = None;
                run(&folder, &settings, &rows(9), &mut state, &[rows(9)], Then::Continue).await;
                let path = folder.0.path().join(hidden);
                let mut bytes = fs::read(&path).unwrap();
                match damage {
                    "flip" => bytes[3] ^= 4,
                    _ => bytes.truncate(7),
                }
                fs::write(&path, bytes).unwrap();
                if damage == "remove" {
                    fs::remove_file(&path).unwrap();
                }
                let mut output = (folder.plan(&settings, &rows(9)).unwrap().build)().unwrap();
                output.restore(state.as_ref().unwrap()).unwrap();
                let error = output.open(&Home::Elsewhere).await.unwrap_err().to_string();
                let is_told = error.contains(if damage == "remove" { "is missing; put it back" } else { "is damaged" });
                assert!(is_told && error.contains(hidden), "{name}, {damage}: {error}");
            }
        }
    }
}
