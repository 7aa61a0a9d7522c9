//! The suite of inputs.

use std::fmt;
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

use millstream_core::{
    GivenRow, Home, InputPlan, InputSettings, Intake, NodeKind, NodeTypes, Parsed, PlanContext, PortPlan, Problems,
    Progress, Role,
};
use tokio::runtime::{Builder, Runtime};

use super::folder::Folder;
use super::reading::{Calls, Entry, Kept, Reading};
use super::refused::{check_place, parse};
use super::{Excuse, Lacks, check_each, is_excused, require, require_samples};

/// With what a type of input is tried.
#[derive(Debug)]
pub struct InputSamples {
    /// What `type` says.
    pub node: &'static str,
    /// What is read. Together they have rows with nulls, rows that can't be read, and one of them has no rows.
    pub sources: Vec<Source>,
    /// Settings that are wrong, and where, such as `format.delimiter`. They are planned where the first source is.
    pub wrong: &'static [(&'static str, &'static str)],
    /// What it can't be tried with, and why.
    pub excuses: &'static [Excuse],
}

type Make = Box<dyn Fn(&Path)>;

/// Something to read, and the settings with which it is read.
pub struct Source {
    settings: String,
    make: Make,
    rest: Option<Make>,
    given: Vec<GivenRow>,
    rows: usize,
    refused: usize,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an input with {}", self.settings.trim())
    }
}

impl Source {
    /// A source of so many rows, besides so many that can't be read. `make` makes it in a folder, to which paths in the settings, the
    /// body of the node's table, are relative.
    pub fn new(settings: impl Into<String>, rows: usize, refused: usize, make: impl Fn(&Path) + 'static) -> Self {
        Self { settings: settings.into(), make: Box::new(make), rest: None, given: Vec::new(), rows, refused }
    }

    /// The same, some rows of which come only when the input has been opened and waits for them.
    pub fn with_rest(self, rest: impl Fn(&Path) + 'static) -> Self {
        Self { rest: Some(Box::new(rest)), ..self }
    }

    /// The same, some rows of which, which are JSON, are given by hand when the input has been opened and waits for them.
    pub fn with_given(self, rows: impl IntoIterator<Item = String>) -> Self {
        let given = rows.into_iter().enumerate().map(|(key, row)| GivenRow { key: format!("key {key}"), row });
        Self { given: given.collect(), ..self }
    }

    /// Makes the rest, if that has not been done.
    pub(super) fn complete(&self, folder: &Folder, intake: Option<&Arc<dyn Intake>>) {
        if !folder.is_complete.replace(true) {
            self.rest.iter().for_each(|rest| rest(folder.path()));
            if !self.given.is_empty() {
                self.give(intake.unwrap_or_else(|| panic!("{self:?}: it takes no rows by hand")));
            }
        }
    }

    /// Gives rows by hand, from a thread that may wait for them.
    fn give(&self, intake: &Arc<dyn Intake>) {
        let (intake, rows) = (intake.clone(), self.given.clone());
        let give = move || Builder::new_current_thread().build().unwrap().block_on(intake.take(rows));
        let taken = std::thread::spawn(give).join().unwrap();
        assert!(taken.iter().all(Result::is_ok), "{self:?}: {taken:?}");
    }
}

/// Puts every input of these types through the suite:
///
/// * a plan and what is built of it change nothing, and a second plan says the same;
/// * batches have exactly the columns of the plan, also where the flow uses only some, and null only where it says so;
/// * rows, those that are refused, and the positions of both are the same for batches of 1, 7 and 8,192 rows, and where `next` is
///   dropped at every place at which it waits and called again;
/// * a snapshot at every position at which an epoch may end, within what was pushed last or behind it, is gone on from with
///   the row at that position, also where checkpoints up to it are completed;
/// * a replay gives the same rows again;
/// * what keeps its rows in a folder of the state does not run without;
/// * settings that are wrong are refused at their place.
///
/// # Panics
/// If an input does not keep to it, or if a type has no samples.
#[track_caller]
pub fn check_inputs(types: &NodeTypes, samples: &[InputSamples]) {
    let advice = "`InputSamples` with `sources` that make a few rows in a folder, settings that are `wrong` with their places, and \
                  `excuses` in words for what it can't be tried with";
    require_samples(types, Role::Input, samples.iter().map(|sample| sample.node), advice, Location::caller());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    check_each(samples, |sample| {
        let kind = types.find(Role::Input, sample.node).unwrap();
        let case = |source| Case::new(kind, sample, source, &runtime).check();
        let entries = check_each(&sample.sources, case).concat();
        let has_none = sample.sources.iter().any(|source| source.rows + source.refused == 0);
        assert!(has_none, "every source of `{}` has rows: add one without", sample.node);
        for (lacks, is_there, advice) in [
            (Lacks::Nulls, entries.iter().any(|entry| entry.has_null), "has rows with nulls"),
            (Lacks::Refusals, entries.iter().any(|entry| entry.row.is_err()), "has rows that can't be read"),
            (Lacks::Mistakes, !sample.wrong.is_empty(), "has settings that are wrong"),
        ] {
            require(sample.node, sample.excuses, lacks, is_there, advice);
        }
        check_mistakes(kind, sample);
    });
}

fn check_mistakes(kind: &NodeKind, sample: &InputSamples) {
    let folder = Folder::new();
    sample.sources.iter().take(1).for_each(|source| (source.make)(folder.path()));
    for (settings, place) in sample.wrong {
        let plan = |parsed| match parsed {
            Parsed::Input(settings) => settings.plan(&folder.context(8192)).err().unwrap_or_default(),
            _ => Problems::new(),
        };
        check_place(kind, settings, place, plan);
    }
}

/// A source, and the input that reads it.
struct Case<'a> {
    kind: &'a NodeKind,
    sample: &'a InputSamples,
    source: &'a Source,
    settings: Box<dyn InputSettings>,
    runtime: &'a Runtime,
}

impl<'a> Case<'a> {
    fn new(kind: &'a NodeKind, sample: &'a InputSamples, source: &'a Source, runtime: &'a Runtime) -> Self {
        let settings = match parse(kind, &source.settings) {
            Ok(Parsed::Input(settings)) => settings,
            Ok(_) => panic!("`{}` is no input", kind.name),
            Err(problem) => panic!("{source:?}: {problem:?}"),
        };
        Self { kind, sample, source, settings, runtime }
    }

    fn check(&self) -> Vec<Entry> {
        let plan = self.plan_is_pure();
        let whole = self.read(8192, Calls::Whole);
        self.counts_are_true(&whole, &plan);
        for (batch_rows, calls) in
            [1, 7, 8192].into_iter().flat_map(|rows| [(rows, Calls::Whole), (rows, Calls::Interrupted)])
        {
            let other = self.read(batch_rows, calls);
            self.same(&whole, &other, plan.interleaved, &format!("in batches of {batch_rows}, {calls:?}"));
        }
        self.columns_are_asked_for(&plan);
        self.runs_without_a_state(&whole, &plan);
        if is_excused(self.sample.excuses, Lacks::Resuming) {
            self.does_not_resume(&plan)
        } else {
            self.resumes(&whole, &plan)
        }
        whole
    }

    fn count(&self) -> usize {
        self.source.rows + self.source.refused
    }

    /// A folder with the source in it.
    fn folder(&self) -> Folder {
        let folder = Folder::new();
        (self.source.make)(folder.path());
        folder
    }

    fn plan(&self, folder: &Folder, batch_rows: usize) -> InputPlan {
        let plan = self.settings.plan(&folder.context(batch_rows));
        plan.unwrap_or_else(|problems| panic!("{:?}: {problems:?}", self.source))
    }

    fn plan_is_pure(&self) -> InputPlan {
        let folder = self.folder();
        let plan = || folder.unchanged("planning an input", || self.plan(&folder, 8192));
        let says = |plan: &InputPlan| {
            let InputPlan {
                ports, finite, replayable, acknowledges, is_answered, interleaved, continues, rows, ..
            } = plan;
            let ports = ports.iter().map(|port| (port.name.clone(), port.schema.clone()));
            (
                ports.collect::<Vec<_>>(),
                [*finite, *replayable, *acknowledges, *is_answered, *interleaved, *continues],
                *rows,
            )
        };
        let (one, other) = (plan(), plan());
        assert_eq!(says(&other), says(&one), "{:?}: another plan", self.source);
        folder.unchanged("building an input", || (other.build)().unwrap());
        one
    }

    fn reading<'r>(&'r self, folder: &'r Folder, batch_rows: usize, kept: Option<&Kept>) -> Reading<'r> {
        Reading::new(self.source, folder, self.plan(folder, batch_rows), batch_rows, kept)
    }

    /// All that comes of a source that is new.
    fn read(&self, batch_rows: usize, calls: Calls) -> Vec<Entry> {
        let folder = self.folder();
        self.runtime.block_on(async {
            let mut reading = self.reading(&folder, batch_rows, None).open(&folder.durable()).await;
            reading.read_all(self.count(), calls, None).await;
            reading.entries
        })
    }

    fn counts_are_true(&self, whole: &[Entry], plan: &InputPlan) {
        let refused: Vec<_> = whole.iter().filter(|entry| entry.row.is_err()).collect();
        assert_eq!(refused.len(), self.source.refused, "{:?}: refused rows: {refused:?}", self.source);
        if let Some(rows) = plan.rows {
            assert_eq!(rows as usize, whole.len(), "{:?}: rows of the plan", self.source);
        }
    }

    fn same(&self, whole: &[Entry], other: &[Entry], interleaved: bool, what: &str) {
        let sorted = |entries: &[Entry]| {
            let mut entries = entries.to_vec();
            // In which order rows of several partitions come is not said.
            if interleaved {
                entries.sort_by(|one, two| one.partition.cmp(&two.partition));
            }
            entries
        };
        let (whole, other) = (sorted(whole), sorted(other));
        for (index, (expected, found)) in whole.iter().zip(&other).enumerate() {
            assert_eq!(found, expected, "{:?} {what}: row {index}", self.source);
        }
        assert_eq!(other.len(), whole.len(), "{:?} {what}: rows", self.source);
    }

    /// Columns that nobody uses may be there or not, but what comes has those of the plan.
    fn columns_are_asked_for(&self, plan: &InputPlan) {
        let [PortPlan { schema, .. }] = plan.ports.as_slice() else { return };
        let first = schema.fields().first().map(|field| field.name().clone());
        for columns in [first.clone(), None] {
            let folder = self.folder();
            let wanted = Some(columns.iter().cloned().collect());
            let context = PlanContext { columns: wanted, ..folder.context(7) };
            let plan = self.settings.plan(&context).unwrap();
            let has = |name: &String| plan.ports[0].schema.field_with_name(name).is_ok();
            assert!(columns.iter().all(has), "{:?}: {columns:?} is missing", self.source);
            self.runtime.block_on(async {
                let mut reading = Reading::new(self.source, &folder, plan, 7, None).open(&folder.durable()).await;
                // A row of which only other columns can't be read may be refused or not.
                reading.read_all(self.count(), Calls::Whole, None).await;
            });
        }
    }

    /// What keeps rows in the folder of the state does not run without; others do.
    fn runs_without_a_state(&self, whole: &[Entry], plan: &InputPlan) {
        let folder = self.folder();
        self.runtime.block_on(async {
            let mut reading = self.reading(&folder, 7, None);
            if self.kind.needs_state {
                let opened = reading.input().open(&Home::Nowhere).await;
                assert!(opened.is_err(), "{:?}: it needs a state, and runs without", self.source);
                return;
            }
            let mut reading = reading.open(&Home::Nowhere).await;
            reading.read_all(self.count(), Calls::Whole, None).await;
            self.same(whole, &reading.entries, plan.interleaved, "without a state");
        });
    }

    fn does_not_resume(&self, plan: &InputPlan) {
        let what = self.source;
        assert!(!plan.replayable, "{what:?}: it is replayable, though it is excused from resuming");
        let folder = self.folder();
        let mut input = (self.plan(&folder, 7).build)().unwrap();
        let restored = input.restore(&Default::default(), &Default::default());
        assert!(restored.is_err(), "{what:?}: it goes on, though it is excused from that");
    }

    fn resumes(&self, whole: &[Entry], plan: &InputPlan) {
        assert!(
            plan.replayable,
            "{:?}: it is not replayable; if it can't be, say why with `Lacks::Resuming`",
            self.source
        );
        for batch_rows in [1, 7, 8192] {
            self.goes_on_from_everywhere(whole, plan, batch_rows);
            self.restarts(whole, plan, batch_rows);
        }
    }

    /// Goes on from every snapshot that a run may take, and then goes through all rows again.
    fn goes_on_from_everywhere(&self, whole: &[Entry], plan: &InputPlan, batch_rows: usize) {
        let folder = self.folder();
        self.runtime.block_on(async {
            let (mut kept, mut reading) =
                (Vec::new(), self.reading(&folder, batch_rows, None).open(&folder.durable()).await);
            reading.read_all(self.count(), Calls::Interrupted, Some(&mut kept)).await;
            let (read, added) = (reading.entries.clone(), std::mem::take(&mut reading.added));
            drop(reading);
            for (number, kept) in kept.iter().enumerate() {
                let batch_rows = [7, 8192, 1][number % 3];
                let mut reading = self.reading(&folder, batch_rows, Some(kept)).open(&folder.durable()).await;
                reading.read_all(read.len() - kept.before, Calls::Whole, None).await;
                let what = format!("resumed at {:?}, in batches of {batch_rows}", kept.positions);
                self.same(&read[kept.before..], &reading.entries, plan.interleaved, &what);
            }
            let mut reading = self.reading(&folder, batch_rows, None).open(&Home::Replay(Some(folder.home()))).await;
            for (partition, locator) in &added {
                let located = reading.input().locate(partition, locator);
                located.unwrap_or_else(|error| panic!("{:?}: `{partition}` is not found again: {error}", self.source));
            }
            reading.read_all(self.count(), Calls::Whole, None).await;
            self.same(whole, &reading.entries, plan.interleaved, "gone through again");
        });
    }

    /// Resumes in the middle of the rows of each call, and has checkpoints up to there completed.
    fn restarts(&self, whole: &[Entry], plan: &InputPlan, batch_rows: usize) {
        let folder = self.folder();
        let (mut read, mut last): (Vec<Entry>, Option<Kept>) = (Vec::new(), None);
        self.runtime.block_on(async {
            while read.len() < self.count() {
                let mut reading = self.reading(&folder, batch_rows, last.as_ref()).open(&folder.durable()).await;
                let mut kept = Vec::new();
                while reading.entries.is_empty() {
                    let progress = reading.next(Calls::Whole, &mut Some(&mut kept)).await;
                    let goes_on = progress == Progress::More || !reading.entries.is_empty();
                    assert!(goes_on, "{:?}: it ends behind {} rows when it was restarted", self.source, read.len());
                }
                let middle = reading.entries.len().div_ceil(2);
                let middle = kept.into_iter().rfind(|kept| kept.before == middle).unwrap();
                let completed = reading.input().checkpoint_completed(&middle.positions, &middle.positions).await;
                completed.unwrap_or_else(|error| panic!("{:?}: a completed checkpoint: {error}", self.source));
                read.extend_from_slice(&reading.entries[..middle.before]);
                last = Some(middle);
            }
        });
        self.same(whole, &read, plan.interleaved, &format!("restarted again and again, in batches of {batch_rows}"));
    }
}
