//! An output that keeps rows in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{opened, values};
use crate::tests::crash;
use crate::tests::sabotage::Sabotage;

/// What `file` outputs have received, by path.
static MEMORY: LazyLock<Mutex<HashMap<String, Received>>> = LazyLock::new(Mutex::default);

/// The paths of which nothing can be committed for now.
static DOWN: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);

/// What an output has received.
#[derive(Default)]
struct Received {
    /// All rows, also those of runs that came to nothing.
    rows: Vec<RecordBatch>,
    /// Rows that were staged, each by a name that no other output uses.
    staged: BTreeMap<u64, Vec<RecordBatch>>,
    /// Rows that were committed, by the number under which they were staged, and where they had been until then.
    committed: BTreeMap<u64, (u64, Vec<RecordBatch>)>,
    end: &'static str,
}

impl Received {
    /// Notes that a number is committed, without its rows. False if it was before.
    fn mark(&mut self, number: u64, place: u64) -> bool {
        let is_new = !self.committed.contains_key(&number);
        self.committed.entry(number).or_insert((place, Vec::new()));
        is_new
    }
}

fn with_memory<T>(path: &str, action: impl FnOnce(&mut Received) -> T) -> T {
    action(MEMORY.lock().unwrap().entry(path.to_owned()).or_default())
}

/// The numbers that were written to a path, and whether they were `committed` or `aborted`.
pub fn memory(path: &str) -> (Vec<i64>, &'static str) {
    with_memory(path, |received| (received.rows.iter().flat_map(values).collect(), received.end))
}

/// The rows that were committed to a path, as text.
pub fn committed_text(path: &str) -> String {
    with_memory(path, |received| {
        millstream_testkit::rows_as_text(received.committed.values().flat_map(|(_, rows)| rows))
    })
}

/// The rows that were written to a path, as text.
pub fn memory_text(path: &str) -> String {
    with_memory(path, |received| millstream_testkit::rows_as_text(&received.rows))
}

/// Lets commits to a path fail from now on, in a way that may be over in a while; or no longer.
pub fn set_down(path: &str, is_down: bool) {
    let mut down = DOWN.lock().unwrap();
    if is_down {
        down.insert(path.to_owned())
    } else {
        down.remove(path)
    };
}

/// Forgets what was written to other paths.
pub fn retain(is_wanted: impl Fn(&str) -> bool) {
    MEMORY.lock().unwrap().retain(|path, _| is_wanted(path));
}

/// Keeps rows in memory, in the way of a database: what is staged has a number, and is moved to what is committed once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The name under which.
    path: String,
    /// Unused.
    #[allow(dead_code)]
    format: Option<String>,
    /// Unused.
    #[allow(dead_code)]
    every: Option<String>,
    /// Unused.
    #[allow(dead_code)]
    if_exists: Option<String>,
    /// Waits so many milliseconds at every batch.
    #[serde(default)]
    slow: u64,
    /// How many milliseconds a commit takes.
    #[serde(default)]
    commit_slow: u64,
    /// Lets nobody else write there at the same time.
    #[serde(default)]
    claims: bool,
    /// Multiples of this number are refused.
    refuses: Option<i64>,
}

impl Kind for Memory {
    const NAME: &'static str = "file";
    const EXAMPLE: &'static str = "path = \"a\"";
    const FREE_SETTINGS: &'static [&'static str] = &["slow"];
}

impl OutputSettings for Memory {
    fn check(&self, _: &PlanContext) -> Result<(), Problems> {
        if self.path.is_empty() { Err(Problem::new("the path is empty").at(["path"]).into()) } else { Ok(()) }
    }

    fn plan(&self, context: &PlanContext, _: &Stream) -> Result<OutputPlan, Problems> {
        let (flow, path, slow, commit_slow) = (context.flow.clone(), self.path.clone(), self.slow, self.commit_slow);
        let claim = self.claims.then(|| Claim { path: path.clone(), is_held: false });
        let refuses = self.refuses;
        let (open, staged) = (Vec::new(), Vec::new());
        let node = context.node.clone();
        let output = Remembering { flow, node, path, slow, commit_slow, claim, refuses, number: 0, open, staged };
        let build = Box::new(move || Ok(Box::new(output) as Box<dyn Output>));
        Ok(OutputPlan {
            writes: Some(Writes { setting: "path", path: self.path.clone().into() }),
            uses: Uses::only(["n"]),
            delivery: Delivery::ExactlyOnce,
            exclusive: None,
            answers: None,
            place: None,
            takes_other_columns: false,
            fails: refuses.is_some(),
            build,
        })
    }
}

/// The paths that outputs have claimed.
static CLAIMED: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);

struct Claim {
    path: String,
    is_held: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_held {
            CLAIMED.lock().unwrap().remove(&self.path);
        }
    }
}

struct Remembering {
    flow: String,
    node: String,
    path: String,
    slow: u64,
    commit_slow: u64,
    claim: Option<Claim>,
    refuses: Option<i64>,
    /// The number of what is staged next.
    number: u64,
    open: Vec<RecordBatch>,
    /// Where it has staged something.
    staged: Vec<u64>,
}

/// A place that nobody else stages anything at, as a former owner of the flow might otherwise.
fn new_place() -> u64 {
    static PLACES: AtomicU64 = AtomicU64::new(0);
    PLACES.fetch_add(1, Ordering::Relaxed)
}

#[async_trait]
impl Output for Remembering {
    fn claim(&mut self) -> Result<()> {
        let Some(claim) = &mut self.claim else { return Ok(()) };
        claim.is_held = CLAIMED.lock().unwrap().insert(self.path.clone());
        if claim.is_held { Ok(()) } else { Err(Error::new(format!("another run is writing `{}`", self.path))) }
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.number = state.get("number")?;
        Ok(())
    }

    async fn open(&mut self, _: &Home, _: &Run) -> Result<()> {
        opened::note(&self.flow, &self.node);
        Ok(())
    }

    async fn write(&mut self, batch: Batch, out: &mut Collector) -> Result<()> {
        crash::step(&self.flow)?;
        tokio::time::sleep(Duration::from_millis(self.slow)).await;
        let rows = match self.refuses {
            None => batch.rows,
            Some(number) => {
                let refused: Vec<_> = values(&batch.rows).iter().map(|n| n % number == 0).collect();
                out.fail_rows(&batch, &BooleanArray::from(refused), |_| format!("a multiple of {number}"))?
            }
        };
        with_memory(&self.path, |received| received.rows.push(rows.clone()));
        self.open.push(rows);
        Ok(())
    }

    async fn stage(&mut self, _: Barrier) -> Result<Snapshot> {
        crash::step(&self.flow)?;
        let (rows, place) = (std::mem::take(&mut self.open), new_place());
        with_memory(&self.path, |received| {
            if Sabotage::CommitBeforeManifest.is_on(&self.flow) {
                received.committed.entry(self.number).or_insert_with(|| (place, rows.clone()));
            }
            received.staged.insert(place, rows);
        });
        self.staged.push(place);
        crash::step(&self.flow)?;
        let mut snapshot = Snapshot::default();
        snapshot.staged.put("number", &(self.number, place))?;
        self.number += 1;
        snapshot.state.put("number", &self.number)?;
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        let (flow, path, slow) = (self.flow.clone(), self.path.clone(), self.commit_slow);
        Some(Box::new(MemoryCommitter { flow, path, slow }))
    }

    fn report(&self) -> Option<Report> {
        let count = |received: &mut Received| {
            received.committed.values().flat_map(|(_, rows)| rows).map(RecordBatch::num_rows).sum::<usize>()
        };
        let values = vec![("committed", serde_json::json!(with_memory(&self.path, count)))];
        Some(Report::Figures(Figures { title: "rows in memory".into(), values }))
    }

    async fn abort(&mut self) {
        with_memory(&self.path, |received| {
            received.end = "aborted";
            self.staged.iter().for_each(|place| _ = received.staged.remove(place));
        });
    }
}

/// The output for rejected rows.
pub fn dead_letters(path: &str) -> Result<Box<dyn OutputSettings>, Problem> {
    Ok(Box::new(parse_settings::<Memory>(serde_json::json!({ "path": path }))?))
}

struct MemoryCommitter {
    flow: String,
    path: String,
    slow: u64,
}

#[async_trait]
impl Committer for MemoryCommitter {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        let staged = &pending.staged;
        if DOWN.lock().unwrap().contains(&self.path) {
            return Err(Error::transient("the target is down"));
        }
        crash::step(&self.flow)?;
        tokio::task::yield_now().await;
        if self.slow > 0 {
            tokio::time::sleep(Duration::from_millis(self.slow)).await;
        }
        let (number, place): (u64, u64) = staged.get("number")?;
        let marks_first = Sabotage::MarkBeforeCommit.is_on(&self.flow);
        if marks_first && with_memory(&self.path, |received| received.mark(number, place)) {
            crash::step(&self.flow)?;
            with_memory(&self.path, |received| received.committed.remove(&number));
        }
        with_memory(&self.path, |received| {
            received.end = "committed";
            let rows = received.staged.remove(&place);
            // In one transaction with the marker, which here is the number itself.
            match received.committed.get_mut(&number) {
                None => _ = received.committed.insert(number, (place, rows.ok_or_else(gone)?)),
                Some((known, _)) if *known != place => return Err(Error::new("other rows have been committed before")),
                Some(_) => {}
            }
            Ok::<_, Error>(())
        })?;
        crash::step(&self.flow)
    }
}

fn gone() -> Error {
    Error::new("what was staged is gone")
}
