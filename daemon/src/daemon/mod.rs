//! `millstream daemon`: keeps the flows of a folder running until it is told to end.

mod administration;
mod config;
mod launcher;
mod reload;
mod service_manager;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millstream_core::Result;
use millstream_host::{FlowFolder, Host, keep_budgets};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::administration::Administration;
pub use self::config::{ConfigArguments, with_drop_ins};
use self::launcher::FlowLauncher;
use self::reload::Reloader;
use self::service_manager::ServiceManager;
use self::settings::DaemonSettings;
use crate::exit::{Exit, Outcome};
use crate::interrupts::Interrupts;
use crate::logging::{self, Logging};
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
const HOST: &str = "host";

/// How many may wait at a time who have asked the daemon to look again at what it goes by.
const RELOADS: usize = 16;

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
    let launcher = Arc::new(FlowLauncher::new(settings)?);
    let host = Host::open(launcher, data, settings.restart.policy(), &settings.data.join(HOST))?;
    let manager = ServiceManager::find();
    let (reloads, asked) = mpsc::channel(RELOADS);
    let administration = Administration::start(settings, host.clone(), logging, reloads).await?;
    let folder = tokio::select! {
        folder = begin(settings, &host) => folder?,
        () = interrupts.next() => return Ok(Exit::Done),
    };
    manager.ready();
    tracing::info!("ready: {} flows of `{}`", host.all().len(), settings.flows_folder().display());
    let reloader = Reloader { folder, arguments, settings, administration: &administration, last: None };
    tokio::select! {
        failed = reloader.run(asked) => match failed? {},
        never = manager.keep_alive() => match never {},
        never = administration.keep() => match never {},
        never = keep_budgets(settings.data.clone(), &host) => match never {},
        () = interrupts.next() => {}
    }
    manager.stopping();
    administration.is_about_to_end();
    stop(&host, settings.stop_within.0, interrupts).await;
    administration.end().await;
    Ok(Exit::Done)
}

/// Lets all flows run that are wanted to.
async fn begin(settings: &DaemonSettings, host: &Arc<Host>) -> Result<FlowFolder> {
    let mut folder = FlowFolder::open(settings.flows_folder(), host.clone()).await?;
    host.resume().await?;
    folder.scan().await?.iter().for_each(reload::say);
    Ok(folder)
}

/// Stops all flows at a checkpoint. Another signal, or that it takes too long, gives those up that have not come to one.
async fn stop(host: &Host, patience: Duration, mut interrupts: Interrupts) {
    tracing::info!("stopping: flows finish what they have read; another signal gives up");
    let late = tokio::select! {
        late = host.shut_down(patience) => late,
        () = interrupts.next() => host.shut_down(Duration::ZERO).await,
    };
    match late {
        0 => tracing::info!("all flows have stopped at a checkpoint"),
        late => tracing::warn!("{late} flows were given up, and resume from their last checkpoints"),
    }
}
