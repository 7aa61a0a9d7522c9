//! What an output `file` does, driven by hand.

mod beside;
mod commits;
mod moved;
mod partitions;
mod resuming;
mod settings;
mod states;
mod writing;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use millstream_core::{
    Barrier, Collector, CommitContext, Committer, Epoch, Home, PendingCommit, PriorOutput, Result, Run, State, Step,
    Then,
};
use millstream_testkit::{batch, commit_late, context, parse, stages, stream, table};

use super::*;

/// A stage, as a committer is given it.
fn stage_of(staged: &State) -> PendingCommit {
    PendingCommit { staged: staged.clone(), context: CommitContext::default() }
}

struct Folder(tempfile::TempDir);

/// An output that has staged what it was given.
struct Written {
    output: Option<Box<dyn Output>>,
    committer: Box<dyn Committer>,
    staged: State,
}

impl Written {
    async fn commit(&mut self) -> Result<()> {
        self.committer.commit(&stage_of(&self.staged)).await?;
        self.output = None;
        Ok(())
    }

    async fn abort(&mut self) {
        if let Some(output) = &mut self.output {
            output.abort().await;
        }
    }
}

const END: Barrier = Barrier { epoch: Epoch(1), then: Then::End };

/// A run without state.
fn stateless() -> Run {
    Run { incarnation: "0123456789abcdef".into(), generation: 0 }
}

/// A run of a flow with state.
fn generation(generation: u64) -> Run {
    Run { incarnation: "fedcba9876543210".into(), generation }
}

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

    /// What commits what a run before has staged into this folder itself.
    fn publisher(&self, settings: &str) -> Box<dyn Committer> {
        (self.plan(settings, &rows(0)).unwrap().build)().unwrap().committer().unwrap()
    }

    /// Commits what a run before has staged, and remembers it.
    async fn settle(&self, settings: &str, staged: &State) {
        let mut publisher = self.publisher(settings);
        publisher.commit(&stage_of(staged)).await.unwrap();
        publisher.committed(&stage_of(staged)).await.unwrap();
    }

    /// The hidden file whose name begins so, and ends as those of files that are not whole.
    fn part(&self, prefix: &str) -> String {
        let is_it = |name: &String| name.starts_with(prefix) && name.ends_with(".part");
        let mut names = self.files().into_iter().map(|(name, _)| name).filter(is_it);
        names.next().unwrap_or_else(|| panic!("`{prefix}` is not there: {:?}", self.names(".")))
    }

    /// A copy of it all, as of `cp -a`.
    fn copy(&self) -> Self {
        let copy = Self::new();
        for (path, bytes) in self.files() {
            let path = copy.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        copy
    }

    /// All files at the top and in folders there, hidden ones included.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.names(".").into_iter().flat_map(|name| {
            if self.0.path().join(&name).is_dir() {
                self.names(&name).into_iter().map(|inner| format!("{name}/{inner}")).collect()
            } else {
                vec![name]
            }
        });
        names.map(|name| (name.clone(), self.bytes(&name))).collect()
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
        self.staged_by(self.plan(settings, rows).unwrap(), rows, cut).await
    }

    async fn staged_by(&self, plan: OutputPlan, rows: &RecordBatch, cut: usize) -> Result<Written> {
        assert_eq!((plan.uses, plan.delivery), (Uses::all(), Delivery::ExactlyOnce));
        let mut output = (plan.build)().unwrap();
        let committer = output.committer().unwrap();
        output.open(&Home::Nowhere, &stateless()).await?;
        for start in (0..rows.num_rows()).step_by(cut) {
            output.write(batch(rows.slice(start, cut.min(rows.num_rows() - start))), &mut Collector::new(0)).await?;
        }
        let staged = output.stage(END).await?.staged.into_state()?;
        Ok(Written { output: Some(output), committer, staged })
    }

    /// Checks that a run does not begin, because of what is there.
    async fn refuses(&self, settings: &str) {
        let error = self.staged(settings, &rows(1), 1).await.err().unwrap().to_string();
        assert!(error.contains("` exists; move it away"), "{error}");
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

/// A run that keeps state: it is given rows between barriers, and ends without a word, as by a crash, or with `last`.
async fn run(
    folder: &Folder,
    settings: &str,
    schema: &RecordBatch,
    state: &mut Option<State>,
    rows: &[RecordBatch],
    last: Then,
) -> Vec<State> {
    run_behind(0, folder, settings, schema, state, rows, last).await
}

/// Runs have rising numbers, as those of flows.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The same, behind an epoch.
async fn run_behind(
    passed: u64,
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
    output.barrier(Epoch(passed));
    output.open(&Home::Elsewhere, &generation(next_generation())).await.unwrap();
    let mut staged = Vec::new();
    for (number, some) in rows.iter().enumerate() {
        output.write(batch(some.clone()), &mut Collector::new(0)).await.unwrap();
        let epoch = Epoch(passed + number as u64 + 1);
        output.barrier(epoch);
        let then = if number + 1 == rows.len() { last } else { Then::Continue };
        let snapshot = output.stage(Barrier { epoch, then }).await.unwrap();
        *state = Some(snapshot.state.into_state().unwrap());
        staged.push(snapshot.staged.into_state().unwrap());
    }
    if last == Then::Continue {
        // These rows come behind the last checkpoint, and are lost with the run.
        output.write(batch(rows[0].clone()), &mut Collector::new(0)).await.unwrap();
    }
    staged
}

/// What files of each kind are kept as: with and without a journal, one and many.
const PLACES: [&str; 4] = [
    "path = \"a.csv\"",
    "path = \"deep/a.ndjson.gz\"",
    "path = \"a.parquet\"",
    "path = \"out\"\nformat = \"csv\"\nrows = 7",
];

async fn commit(folder: &Folder, settings: &str, staged: &[State]) {
    for staged in staged.iter().filter(|staged| !staged.is_empty()) {
        folder.settle(settings, staged).await;
    }
}

/// The end of a flow whose beginning was left behind with this state.
async fn end(folder: &Folder, settings: &str, rows: &RecordBatch, state: Option<&State>) {
    let mut state = state.cloned();
    let staged = run(folder, settings, rows, &mut state, std::slice::from_ref(rows), Then::End).await;
    commit(folder, settings, &staged).await;
}

/// What an output says that begins with these settings, as a run of a state or of none.
fn begin(folder: &Folder, settings: &str, former: PriorOutput, run: &Run) -> Result<Box<dyn Output>> {
    let mut output = (folder.plan(settings, &rows(9)).unwrap().build)().unwrap();
    output.begin(former, run).map(|()| output)
}

/// Rows that were decided, and of which nothing is visible yet.
async fn decided(folder: &Folder, settings: &str, then: Then) -> (Option<State>, State) {
    let mut state = None;
    let staged = run(folder, settings, &rows(9), &mut state, &[rows(9)], then).await.pop().unwrap();
    (state, staged)
}

/// The files of a folder with their texts, without what is hidden.
fn texts(folder: &Folder, name: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![name.to_owned()];
    while let Some(inner) = folders.pop() {
        for name in folder.names(&inner).into_iter().filter(|name| !name.starts_with('.')) {
            let path = format!("{inner}/{name}");
            if folder.0.path().join(&path).is_dir() {
                folders.push(path)
            } else {
                files.push((path.clone(), String::from_utf8_lossy(&folder.bytes(&path)).into_owned()))
            }
        }
    }
    files.sort();
    files
}

/// Hidden files anywhere in a folder.
fn hidden(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let below = entries.iter().filter(|path| path.is_dir()).flat_map(|path| hidden(path)).collect::<Vec<_>>();
    let is_hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    entries.into_iter().filter(is_hidden).chain(below).collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.into_iter().flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
