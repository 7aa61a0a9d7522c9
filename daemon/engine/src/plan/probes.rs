//! Whether what the nodes of a flow will need is there: all of them look at once, and nothing is changed.

use std::time::Duration;

use futures::future::join_all;
use millstream_core::{Error, PROBE_PATIENCE, Probe, Problem, Result, Role};

use super::PlanOptions;
use super::columns::context;
use crate::file::{Body, Diagnostics, FlowFile, Node};

/// How long a probe may take. They give up by themselves before that, with a better reason.
const DEADLINE: Duration = PROBE_PATIENCE.saturating_add(Duration::from_secs(5));

/// What a node has found.
#[derive(Debug)]
pub struct Probed {
    /// What the node is.
    pub role: Role,
    /// Its name in the flow.
    pub node: String,
    /// What was found, in words, or what is wrong.
    pub found: Result<String, Diagnostics>,
}

/// Lets all nodes look that need something outside, in file order. Their plans have to be good.
pub async fn probe(file: &FlowFile, options: &PlanOptions<'_>) -> Vec<Probed> {
    let probes = file.nodes.iter().filter_map(|node| Some((node, probe_of(node, file, options)?)));
    let probed = probes.map(|(node, probe)| async {
        let found = within_deadline(probe).await;
        let wrong = |error: Error| file.diagnose(&node.name, Problem::new(error.to_string()).into());
        Probed { role: node.role(), node: node.name.clone(), found: found.map_err(wrong) }
    });
    join_all(probed).await
}

/// Whether a node has another side: it can be looked whether that is there. Of processors, only those that ask it about rows.
pub fn is_remote(node: &Node, file: &FlowFile, options: &PlanOptions<'_>) -> bool {
    let asks = match &node.body {
        Body::Processor { common, .. } => common.requests.is_some(),
        Body::Input { .. } | Body::Output { .. } => true,
    };
    asks && probe_of(node, file, options).is_some()
}

fn probe_of(node: &Node, file: &FlowFile, options: &PlanOptions<'_>) -> Option<Probe> {
    let context = context(file, &node.name, options);
    match &node.body {
        Body::Input { settings, .. } => settings.probe(&context),
        Body::Processor { settings, .. } => settings.probe(&context),
        Body::Output { settings, .. } => settings.probe(&context),
    }
}

async fn within_deadline(probe: Probe) -> Result<String> {
    let late = |_| Error::transient(format!("no answer within {} seconds", DEADLINE.as_secs()));
    tokio::time::timeout(DEADLINE, probe).await.map_err(late)?
}
