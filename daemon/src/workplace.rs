//! Where and with what flows run: folders, the environment, threads.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Once;

use millstream_core::{Error, NodeTypes, Result, ResultExt};
use millstream_engine::file::{Diagnostics, FlowFile, LoadOptions};
use millstream_engine::plan::{KeptStates, Plan, PlanOptions};
use rustix::process::{getpid, getpriority_process, setpriority_process};
use rustix::thread::gettid;
use tokio::runtime::{Builder, Runtime};

use crate::state::StateArguments;
use crate::terminal::keep_secrets;

/// What loading and planning flows needs.
pub struct Workplace {
    /// The types of nodes.
    pub registry: NodeTypes,
    /// The folder that outputs and the registry of models are relative to.
    pub folder: PathBuf,
}

/// How much data threads give way to those of the command line and the admin API, which must never wait for them. Beside other
/// processes they give way by no more than this, so that flows go on where others work too.
const NICENESS: i32 = 5;

impl Workplace {
    /// The current folder.
    pub fn here() -> Result<Self> {
        let folder = std::env::current_dir().doing(|| "looking for the current folder")?;
        Ok(Self { registry: crate::nodes::registry(), folder })
    }

    /// Reads, checks and plans a flow.
    pub fn plan(&self, flow: &Path, sets: &[String]) -> Result<Plan, Diagnostics> {
        Plan::load(flow, self.load_options(sets), self.plan_options(), |_| KeptStates::default())
    }

    /// The same, for a flow that is going to be resumed from its state, if it has one.
    pub fn plan_resumed(&self, flow: &Path, sets: &[String], state: &StateArguments) -> Result<Plan, Diagnostics> {
        Plan::load(flow, self.load_options(sets), self.plan_options(), |flow| state.kept(flow))
    }

    /// Reads and checks a flow file.
    pub fn load(&self, flow: &Path, sets: &[String]) -> Result<FlowFile, Diagnostics> {
        FlowFile::load(flow, self.load_options(sets))
    }

    /// What flow files are read with.
    pub fn load_options<'a>(&'a self, sets: &'a [String]) -> LoadOptions<'a> {
        LoadOptions { sets, keep: &keep_secrets, ..LoadOptions::new(&self.registry) }
    }

    /// What flows are planned with.
    pub fn plan_options(&self) -> PlanOptions<'_> {
        PlanOptions::new(&self.registry, self.folder.clone())
    }
}

/// The threads that nodes run on.
pub fn data_runtime(threads: Option<u16>) -> Result<Runtime> {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = threads.map_or_else(cores, usize::from);
    let built = Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("data")
        .on_thread_start(give_way)
        .enable_all()
        .build();
    built.doing(|| "starting the data threads")
}

/// The thread that waits for signals and draws: apart from the data threads, so it never waits behind data.
pub fn control_runtime() -> Result<Runtime> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Error::caused_by("starting the control thread", error))
}

/// Lowers the priority of this thread beside that of the process's first one. On Linux each thread has its own.
fn give_way() {
    static REFUSED: Once = Once::new();
    let (first, this) = (getpid(), gettid());
    let lowered = getpriority_process(Some(first)).and_then(|own| setpriority_process(Some(this), own + NICENESS));
    if let Err(error) = lowered {
        // Flows run nevertheless. What a service may not do is what its unit says.
        REFUSED.call_once(|| {
            tracing::warn!("data threads don't give way to others, since the system refuses `setpriority`: {error}");
        });
    }
}
