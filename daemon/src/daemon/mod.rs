//! `millstream daemon`: keeps the flows of a folder running until it is told to end.

mod administration;
mod config;
mod launcher;
mod reload;
mod service_manager;
mod settings;
mod unused_doors;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millstream_core::Result;
use millstream_host::{Ballast, FlowFolder, Host, keep_budgets};
use millstream_net::doors;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::administration::Administration;
pub use self::config::{ConfigArguments, with_drop_ins};
use self::launcher::FlowLauncher;
use self::reload::Reloader;
use self::service_manager::ServiceManager;
pub use self::settings::DaemonSettings;
use self::unused_doors::close_unused_doors;
use crate::exit::{Exit, Outcome};
use crate::interrupts::Interrupts;
use crate::logging::{self, Logging};
use crate::serve::Service;
use crate::terminal::say;
use crate::workplace::{control_runtime, data_runtime};

/// What `daemon` takes.
#[derive(Clone, Debug, Args)]
pub struct DaemonArguments {
    /// The settings.
    #[command(flatten)]
    pub config: ConfigArguments,
    /// Only check the settings.
    #[arg(long)]
    pub check: bool,
}

/// The folder in that of the data where it is kept what is wanted of flows.
pub const HOST: &str = "host";

/// The file there that takes room on the disk.
const BALLAST: &str = "ballast";

/// How many may wait at a time who have asked the daemon to look again at what it goes by.
const RELOADS: usize = 16;

/// How long requests to flows may take to be answered when the daemon is to end.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// `millstream daemon`
pub fn daemon(arguments: &DaemonArguments) -> Outcome {
    let settings = arguments.config.settings_to_run()?;
    if arguments.check {
        say!("the settings are good");
        return Ok(Exit::Done);
    }
    let logging = logging::start(&settings.log, true);
    let control = control_runtime()?;
    let repeats = logging.repeats.clone();
    control.spawn(async move { repeats.tell().await });
    // Before anything that takes time, so that a signal never ends the process without what it promises.
    let interrupts = Interrupts::listen(&control);
    let data = data_runtime(settings.threads)?;
    let served = control.block_on(serve(arguments, &settings, &logging, data.handle().clone(), interrupts));
    // A node may still compute, or sit in a system call that never returns.
    data.shutdown_background();
    control.shutdown_background();
    served
}

/// Keeps flows running until a signal comes, and then until they have stopped.
async fn serve(
    arguments: &DaemonArguments,
    settings: &DaemonSettings,
    logging: &Logging,
    data: Handle,
    mut interrupts: Interrupts,
) -> Outcome {
    let manager = ServiceManager::find();
    let launcher = Arc::new(FlowLauncher::new(settings)?);
    let host = Host::open(launcher, data, settings.restart.policy(), &settings.data.join(HOST))?;
    let (reloads, asked) = mpsc::channel(RELOADS);
    let shown = arguments.config.shown()?;
    let administration = Administration::start(settings, shown, host.clone(), logging, reloads).await?;
    let serving = administration.serve(settings).await?;
    let folder = tokio::select! {
        folder = begin(settings, &host) => folder?,
        never = manager.take_time(|| "starting: reading flows".to_owned()) => match never {},
        () = interrupts.next() => return Ok(Exit::Done),
    };
    let ready = format!("{} flows of `{}`", host.all().len(), settings.flows_folder().display());
    manager.ready(&ready);
    tracing::info!("ready: {ready}");
    let ballast = Ballast::new(settings.data.join(HOST).join(BALLAST), settings.ballast.0 as u64);
    let reloader = Reloader {
        folder,
        arguments,
        settings,
        administration: &administration,
        serving: serving.as_ref(),
        last: None,
    };
    tokio::select! {
        failed = reloader.run(asked) => match failed? {},
        never = manager.keep_alive() => match never {},
        never = administration.keep() => match never {},
        never = keep(serving.as_ref()) => match never {},
        never = close_unused_doors(&host) => match never {},
        never = keep_budgets(settings.data.clone(), ballast, &host) => match never {},
        () = interrupts.next() => {}
    }
    administration.is_about_to_end();
    manager.stopping();
    let end = async {
        stop(&host, settings.stop_within.0, interrupts).await;
        if let Some(serving) = serving {
            serving.end().await;
        }
        administration.end().await;
    };
    tokio::select! {
        () = end => Ok(Exit::Done),
        never = manager.take_time(|| on_the_way(&host)) => match never {},
    }
}

/// Follows the registry of models that are served, for as long as it is awaited.
async fn keep(serving: Option<&Service>) -> Infallible {
    match serving {
        Some(serving) => serving.keep().await,
        None => std::future::pending().await,
    }
}

/// Lets all flows run that are wanted to.
async fn begin(settings: &DaemonSettings, host: &Arc<Host>) -> Result<FlowFolder> {
    let mut folder = FlowFolder::open(settings.flows_folder(), host.clone()).await?;
    host.resume().await?;
    folder.scan().await?.iter().for_each(reload::say);
    Ok(folder)
}

/// How many flows have not stopped yet.
fn on_the_way(host: &Host) -> String {
    let flows = host.all();
    let left = flows.iter().filter(|flow| !flow.status.state.is_at_rest()).count();
    format!("stopping: {left} of {} flows are on the way to a last checkpoint", flows.len())
}

/// Lets nobody else in, answers those who are, and then stops all flows at a checkpoint. Another signal, or that it takes too long, gives those up that have not come to one.
async fn stop(host: &Host, patience: Duration, mut interrupts: Interrupts) {
    tracing::info!("stopping: flows finish what they have read; another signal gives up");
    let gently = async {
        doors().close();
        if timeout(LAST_REQUESTS, doors().left()).await.is_err() {
            tracing::warn!("requests to flows are cut off that were not answered within {LAST_REQUESTS:?}");
        }
        host.shut_down(patience).await
    };
    let late = tokio::select! {
        late = gently => late,
        () = interrupts.next() => host.shut_down(Duration::ZERO).await,
    };
    match late {
        0 => tracing::info!("all flows have stopped at a checkpoint"),
        late => tracing::warn!("{late} flows were given up, and resume from their last checkpoints"),
    }
}
