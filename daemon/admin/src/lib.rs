//! The administration of a daemon over REST. It knows the host and its flows, and neither nodes nor SQL.
//!
//! * [`api`]: one table of routes, which gives the router, who may do what, what is written down, and the OpenAPI document.
//! * [`console`]: the files of the console.
//! * [`logs`]: what was logged lately, and how much is. [`metrics`]: what Prometheus asks for.
//! * [`problem`]: what an answer says that is no good one.
//! * [`security`]: who may do what.
//! * [`server`]: where requests come in. [`serving`]: models that are served, behind the same gate. [`function`]: what platforms for functions ask of one.

pub mod api;
pub mod console;
mod dead_letters;
pub mod function;
pub mod logs;
pub mod metrics;
pub mod problem;
mod reload;
pub mod security;
pub mod server;
pub mod serving;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use millstream_core::Result;
use millstream_engine::checkpoint::CheckpointStore;
use millstream_engine::file::{NAME_HELP, Setting, is_name};
use millstream_host::{Host, Timestamp};
use millstream_models::registry::ModelRegistry;
use tokio::sync::Mutex;

pub use api::NodeType;
pub use reload::{FileChange, FileOutcome, ReloadAnswers, Reloaded, Reloads};

use logs::{FlowLogs, Levels};
use problem::Problem;
use security::Gate;

/// What requests are answered with.
pub struct Admin {
    /// The flows.
    pub host: Arc<Host>,
    /// Who may do what.
    pub gate: Arc<Gate>,
    /// Since when the daemon runs.
    pub started: Timestamp,
    surroundings: Surroundings,
    node_types: OnceLock<Vec<NodeType>>,
    stopping: AtomicBool,
    /// Held while refused rows are sent again or dropped.
    replays: Mutex<()>,
}

/// What there is in a daemon besides its flows.
pub struct Surroundings {
    /// The folder of its data.
    pub data: PathBuf,
    /// Where its registry of models is.
    pub models: String,
    /// Where the states of flows are.
    pub state: String,
    /// Its settings, and where each comes from.
    pub settings: Vec<Setting>,
    /// How much is logged.
    pub levels: Arc<Levels>,
    /// What was logged lately.
    pub logs: Arc<FlowLogs>,
    /// Has the daemon look again at what it goes by.
    pub reloads: Reloads,
    /// Tells what flows can be made of, when somebody asks.
    pub node_types: fn() -> Vec<NodeType>,
}

impl Admin {
    /// The administration of a host.
    pub fn new(host: Arc<Host>, gate: Gate, surroundings: Surroundings) -> Self {
        Self {
            host,
            gate: Arc::new(gate),
            started: Timestamp::now(),
            surroundings,
            node_types: OnceLock::new(),
            stopping: AtomicBool::new(false),
            replays: Mutex::default(),
        }
    }

    /// The daemon is about to end: it is not ready any more.
    pub fn is_about_to_end(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn node_types(&self) -> &[NodeType] {
        self.node_types.get_or_init(self.surroundings.node_types)
    }

    /// The registry of models.
    fn registry(&self) -> Result<ModelRegistry, Problem> {
        let store = millstream_store::open(&self.surroundings.models, &self.surroundings.data)?;
        Ok(ModelRegistry::open(store, self.surroundings.models.clone()))
    }

    /// The checkpoints of a flow that are kept. It waits for a store.
    fn checkpoints(&self, flow: &str) -> Result<CheckpointStore> {
        let Surroundings { state, data, .. } = &self.surroundings;
        Ok(CheckpointStore::new(millstream_store::open(state, data)?.into(), flow, state.as_str()))
    }

    /// A path of a flow, which is relative to the folder of the data.
    fn in_data(&self, path: &str) -> PathBuf {
        self.surroundings.data.join(path)
    }

    /// The file that a flow of the API would be: paths of its inputs are relative to the folder of the data.
    fn flow_path(&self, flow: &str) -> Result<PathBuf, Problem> {
        if !is_name(flow) {
            return Err(Problem::bad_request(format!("a flow can't be called `{flow}`: {NAME_HELP}")));
        }
        Ok(self.surroundings.data.join(format!("{flow}.toml")))
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("host", &self.host).finish_non_exhaustive()
    }
}
