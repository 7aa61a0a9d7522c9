//! Doors that the service manager has kept, and that no node opens again: whoever knocks there would wait for nobody.

use std::convert::Infallible;
use std::time::Duration;

use millstream_host::{Desired, Host, State};
use millstream_net::doors;
use tokio::time::{Instant, sleep};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

/// How long flows may take to appear, and nodes of a flow that runs to open their doors.
const PATIENCE: Duration = Duration::from_secs(10);

/// Closes doors that were kept as soon as it is clear that nobody opens them, for as long as it is awaited.
pub async fn close_unused_doors(host: &Host) -> Infallible {
    let begin = Instant::now();
    loop {
        for name in doors().unused() {
            if !may_be_opened(&name, host, begin.elapsed() < PATIENCE) {
                tracing::info!("nobody listens any more at the door `{name}`, which was kept from the process before");
                doors().close_unused(&name);
            }
        }
        sleep(EVERY).await;
    }
}

/// Whether a node may still open a door. A flow whose file has changed meanwhile is not there before that was looked at.
fn may_be_opened(name: &str, host: &Host, is_early: bool) -> bool {
    let Some(flow) = name.split_once('/').and_then(|(flow, _)| host.flow(flow)) else { return is_early };
    match flow.status.state {
        State::Starting => true,
        // It has not begun yet.
        State::Stopped => flow.desired == Desired::Running,
        State::Running => flow.status.entered.elapsed() < PATIENCE,
        State::Stopping | State::BackingOff | State::Finished | State::Failed => false,
    }
}
