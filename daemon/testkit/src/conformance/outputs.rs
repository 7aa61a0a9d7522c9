//! The suite of outputs.

use std::fmt;
use std::panic::Location;
use std::path::Path;

use arrow::array::RecordBatch;
use millstream_core::{
    Delivery, NodeKind, NodeTypes, OutputPlan, OutputSettings, Parsed, PendingCommit, Problems, Role, State, Then,
};
use tokio::runtime::{Builder, Runtime};

use super::folder::Folder;
use super::processors::with_nulls;
use super::refused::{check_place, parse};
use super::staging::check_committer;
use super::writing::{EPOCHS, Stopped, Writing};
use super::{Excuse, Lacks, check_each, is_excused, require, require_samples};
use crate::stream;

/// With what a type of output is tried.
#[derive(Debug)]
pub struct OutputSamples {
    /// What `type` says.
    pub node: &'static str,
    /// Where rows are written.
    pub targets: Vec<Target>,
    /// Settings that are wrong for the rows that are given, and where, such as `format.delimiter`.
    pub wrong: &'static [(&'static str, &'static str)],
    /// What it can't be tried with, and why.
    pub excuses: &'static [Excuse],
}

/// Settings of an output, and how one sees what it has written.
pub struct Target {
    settings: String,
    prepare: Box<dyn Fn(&Path)>,
    rows: Box<LookAt>,
}

/// A look at the rows that are visible.
type LookAt = dyn Fn(&Path) -> Vec<String>;

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an output with {}", self.settings.trim())
    }
}

impl Target {
    /// Settings, the body of the node's table, and a look at the rows that are visible in the folder to which paths are relative. Each
    /// is a text that is the same for the same row, and there are no others. In the settings, `FOLDER` stands for the folder's name,
    /// so that what is written elsewhere can have a place of its own, too.
    pub fn new(settings: impl Into<String>, rows: impl Fn(&Path) -> Vec<String> + 'static) -> Self {
        Self { settings: settings.into(), prepare: Box::new(|_| {}), rows: Box::new(rows) }
    }

    /// The same, if something has to be made in the folder before, or for it.
    pub fn prepared(self, prepare: impl Fn(&Path) + 'static) -> Self {
        Self { prepare: Box::new(prepare), ..self }
    }

    fn settings_in(&self, folder: &Path) -> String {
        self.settings.replace("FOLDER", &folder.file_name().unwrap_or_default().to_string_lossy())
    }
}

/// Puts every output of these types through the suite, with rows that are all different:
///
/// * a plan, what is built of it, a claim and a restored state change nothing, and a second plan says the same;
/// * exactly the rows that were given are visible in the end, in batches of 1, 7 and 8,192 rows; also those with nulls, and none;
/// * nothing is visible before it is committed, also of a run that is aborted, which leaves no file;
/// * commits that are late, repeated and out of order change nothing;
/// * a run that resumes from any barrier, whatever of its stages was committed then, comes to the same rows, also where that of
///   before commits once more; one that has stopped does, too;
/// * settings that are wrong are refused at their place.
///
/// # Panics
/// If an output does not keep to it, or if a type has no samples.
#[track_caller]
pub fn check_outputs(types: &NodeTypes, samples: &[OutputSamples], rows: &RecordBatch) {
    let advice = "`OutputSamples` with `targets` whose closures say which rows are visible in a folder, settings that are `wrong` with \
                  their places, and `excuses` in words for what it can't be tried with";
    require_samples(types, Role::Output, samples.iter().map(|sample| sample.node), advice, Location::caller());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    check_each(samples, |sample| {
        let kind = types.find(Role::Output, sample.node).unwrap();
        let has_wrong = !sample.wrong.is_empty();
        require(sample.node, sample.excuses, Lacks::Mistakes, has_wrong, "has settings that are wrong");
        assert!(!sample.targets.is_empty(), "no sample of `{}` has a target", sample.node);
        check_each(&sample.targets, |target| Case::new(kind, sample, target, rows, &runtime).check());
        for (settings, place) in sample.wrong {
            let plan = |parsed| match parsed {
                Parsed::Output(settings) => settings
                    .plan(&Folder::new().context(8192), &stream("from", rows.schema()))
                    .err()
                    .unwrap_or_default(),
                _ => Problems::new(),
            };
            check_place(kind, settings, place, plan);
        }
    });
}

/// Settings of an output, and the rows with which it is tried.
pub(super) struct Case<'a> {
    pub target: &'a Target,
    kind: &'a NodeKind,
    pub rows: &'a RecordBatch,
    runtime: &'a Runtime,
    excuses: &'a [Excuse],
}

/// What of the stages of a run has been done when it ends.
#[derive(Clone, Copy, Debug)]
enum Done {
    /// Nothing.
    Nothing,
    /// All but the last stage were committed.
    AllButOne,
    /// All were committed, and that was not written down.
    Unwritten,
    /// All were committed.
    All,
}

impl<'a> Case<'a> {
    fn new(
        kind: &'a NodeKind,
        sample: &'a OutputSamples,
        target: &'a Target,
        rows: &'a RecordBatch,
        runtime: &'a Runtime,
    ) -> Self {
        Self { target, kind, rows, runtime, excuses: sample.excuses }
    }

    fn settings(&self, folder: &Folder) -> Box<dyn OutputSettings> {
        let target = self.target;
        match parse(self.kind, &target.settings_in(folder.path())) {
            Ok(Parsed::Output(settings)) => settings,
            Ok(_) => panic!("`{}` is no output", self.kind.name),
            Err(problem) => panic!("{target:?}: {problem:?}"),
        }
    }

    fn check(&self) {
        let plan = self.plan_is_pure();
        let count = |rows: &RecordBatch| if is_excused(self.excuses, Lacks::Rows) { 0 } else { rows.num_rows() };
        let whole = self.written(self.rows, 8192);
        assert_eq!(whole.len(), count(self.rows), "{:?}: visible rows: {whole:?}", self.target);
        for batch_rows in [1, 7] {
            assert_eq!(self.written(self.rows, batch_rows), whole, "{:?} in batches of {batch_rows}", self.target);
        }
        assert_eq!(self.written(&self.rows.slice(0, 0), 7).len(), 0, "{:?}: rows though none came", self.target);
        let nulls = with_nulls(self.rows);
        let folder = Folder::new();
        if self.settings(&folder).plan(&folder.context(8192), &stream("from", nulls.schema())).is_ok() {
            assert_eq!(self.written(&nulls, 7).len(), count(&nulls), "{:?}: rows with nulls", self.target);
        }
        let is_exact = plan.delivery == Delivery::ExactlyOnce && !is_excused(self.excuses, Lacks::Rows);
        let excuse = is_excused(self.excuses, Lacks::Commits) || is_excused(self.excuses, Lacks::Rows);
        let what = "`Lacks::Commits` is for what delivers rows more than once, and needs it";
        assert_eq!(is_exact, !excuse, "{:?}: {what}", self.target);
        if is_exact {
            self.aborted();
            self.commits_can_be_repeated(&whole);
        }
        self.resumes(&whole, is_exact);
    }

    pub(super) fn plan(&self, folder: &Folder, rows: &RecordBatch) -> OutputPlan {
        let plan = self.settings(folder).plan(&folder.context(8192), &stream("from", rows.schema()));
        plan.unwrap_or_else(|problems| panic!("{:?}: {problems:?}", self.target))
    }

    fn folder(&self) -> Folder {
        let folder = Folder::new();
        (self.target.prepare)(folder.path());
        folder
    }

    pub(super) fn visible(&self, folder: &Folder) -> Vec<String> {
        let mut rows = (self.target.rows)(folder.path());
        rows.sort_unstable();
        rows
    }

    fn plan_is_pure(&self) -> OutputPlan {
        let folder = self.folder();
        let plan = || folder.unchanged("planning an output", || self.plan(&folder, self.rows));
        let says = |plan: &OutputPlan| {
            let OutputPlan { uses, delivery, exclusive, answers, writes, place, takes_other_columns, fails, .. } = plan;
            format!("{:?}", (uses, delivery, exclusive, answers, writes, place, takes_other_columns, fails))
        };
        let (one, other) = (plan(), plan());
        assert_eq!(says(&other), says(&one), "{:?}: another plan", self.target);
        one
    }

    /// What is visible behind a run without state, which is committed at its end, and not before.
    fn written(&self, rows: &RecordBatch, batch_rows: usize) -> Vec<String> {
        let folder = self.folder();
        self.runtime.block_on(async {
            let mut writing = Writing::stateless(self, &folder, rows, batch_rows).await;
            writing.write_all_and_stage().await;
            if !is_excused(self.excuses, Lacks::Commits) {
                assert_eq!(self.visible(&folder), [""; 0], "{:?}: visible before the commit", self.target);
            }
            writing.commit_all(true).await;
            self.visible(&folder)
        })
    }

    /// A run without state that fails before or behind its last row leaves nothing.
    fn aborted(&self) {
        for is_staged in [false, true] {
            let folder = self.folder();
            self.runtime.block_on(async {
                let mut writing = Writing::stateless(self, &folder, self.rows, 7).await;
                writing.write(0..10).await;
                if is_staged {
                    writing.write_all_and_stage().await;
                }
                writing.abort().await;
            });
            let left: Vec<_> = folder.contents().into_keys().filter(|path| path.is_file()).collect();
            assert!(left.is_empty(), "{:?}: a run that was aborted leaves {left:?}", self.target);
        }
    }

    fn commits_can_be_repeated(&self, whole: &[String]) {
        let stage = |folder: &Folder| -> Vec<State> {
            (self.target.prepare)(folder.path());
            let mut writing = self.runtime.block_on(Writing::begun(self, folder, 7));
            self.runtime.block_on(writing.go_on(EPOCHS.len(), Then::End));
            writing.stages().into_iter().map(|pending| pending.staged).collect()
        };
        let committer = |folder: &Folder| (self.plan(folder, self.rows).build)().unwrap().committer().unwrap();
        let visible = |path: &Path| {
            let mut rows = (self.target.rows)(path);
            rows.sort_unstable();
            rows
        };
        let name = format!("{:?}", self.target);
        assert_eq!(check_committer(&name, stage, committer, visible), whole, "{name}: visible behind all commits");
    }

    /// Goes on from every barrier.
    fn resumes(&self, whole: &[String], is_exact: bool) {
        for epochs in 1..EPOCHS.len() {
            for done in [Done::Nothing, Done::AllButOne, Done::Unwritten, Done::All] {
                for then in [Then::Continue, Then::Stop] {
                    let what =
                        format!("{:?}: resumed behind epoch {epochs} with {done:?} committed, {then:?}", self.target);
                    self.runtime.block_on(self.resumes_from(epochs, done, then, whole, is_exact, &what));
                }
            }
            if is_exact {
                self.runtime.block_on(self.abandons(epochs));
            }
        }
    }

    async fn resumes_from(&self, epochs: usize, done: Done, then: Then, whole: &[String], is_exact: bool, what: &str) {
        let folder = self.folder();
        let mut writing = Writing::begun(self, &folder, 1).await;
        writing.go_on(epochs, then).await;
        let stages = writing.stages();
        let (state, mut pending) = (writing.state(), stages.clone());
        let commits = match done {
            Done::Nothing => 0,
            Done::AllButOne => stages.len().saturating_sub(1),
            Done::Unwritten | Done::All => stages.len(),
        };
        for stage in &stages[..commits] {
            writing.commit(stage, !matches!(done, Done::Unwritten)).await;
        }
        if !matches!(done, Done::Unwritten) {
            pending.drain(..commits);
        }
        let visible = self.visible(&folder);
        if then == Then::Continue {
            // No checkpoint decides these.
            writing.go_on(epochs + 1, Then::Continue).await;
            assert!(!is_exact || self.visible(&folder) == visible, "{what}: visible before the commit");
        }
        drop(writing);
        let mut writing = Writing::resumed(self, &folder, 7, Stopped { state, epochs, pending }).await;
        let visible = self.visible(&folder);
        assert!(!is_exact || is_part(&visible, whole), "{what}: recovered rows: {visible:?}");
        writing.go_on(EPOCHS.len(), Then::End).await;
        writing.commit_all(false).await;
        let last = self.visible(&folder);
        assert!(if is_exact { last == whole } else { is_part(whole, &last) }, "{what}: rows: {last:?}");
        drop(writing);
        // The run before was thought dead, and nobody has written down yet that all is visible.
        let mut committer = (self.plan(&folder, self.rows).build)().unwrap().committer();
        for stage in &stages {
            if let Some(committer) = &mut committer {
                committer.commit(stage).await.unwrap_or_else(|error| panic!("{what}: a commit of before: {error}"));
            }
        }
        assert_eq!(self.visible(&folder), last, "{what}: the run before commits once more");
    }

    /// What no checkpoint has made visible never is, once nobody goes on with it.
    async fn abandons(&self, epochs: usize) {
        let folder = self.folder();
        let mut writing = Writing::begun(self, &folder, 7).await;
        writing.go_on(epochs, Then::Continue).await;
        let stages: Vec<PendingCommit> = writing.stages();
        for stage in &stages[..stages.len().saturating_sub(1)] {
            writing.commit(stage, true).await;
        }
        let (visible, state) = (self.visible(&folder), writing.state());
        drop(writing);
        let mut committer = (self.plan(&folder, self.rows).build)().unwrap().committer().unwrap();
        let aborted = committer.abort(&state).await;
        aborted.unwrap_or_else(|error| panic!("{:?}: undone behind epoch {epochs}: {error}", self.target));
        assert_eq!(self.visible(&folder), visible, "{:?}: undone behind epoch {epochs}", self.target);
    }
}

/// Whether all these rows are among those, both of them sorted.
fn is_part(some: &[String], all: &[String]) -> bool {
    let mut all = all.iter();
    some.iter().all(|row| all.any(|other| other == row))
}
