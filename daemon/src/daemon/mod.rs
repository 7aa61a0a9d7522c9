//! `millstream daemon`: keeps the flows of a folder running until it is told to end.

mod administration;
mod config;
mod launcher;
mod service_manager;
mod settings;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millstream_core::{Result, ResultExt as _};
use millstream_host::{FlowFolder, FolderChange, Host, keep_budgets};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use self::administration::Administration;
pub use self::config::ConfigArguments;
use self::launcher::FlowLauncher;
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

/// `millstream daemon`
pub fn daemon(arguments: &DaemonArguments) -> Outcome {
    let settings = arguments.config.settings_to_run()?;
    if arguments.check {
        say!("the settings are good");
        return Ok(Exit::Done);
    }
    let logging = logging::start(&settings.log);
    let control = control_runtime()?;
    let repeats = logging.repeats.clone();
    control.spawn(async move { repeats.tell().await });
    // Before anything that takes time, so that a signal never ends the process without what it promises.
    let interrupts = Interrupts::listen(&control);
    let data = data_runtime(settings.threads)?;
    let served = control.block_on(serve(&settings, &logging, data.handle().clone(), interrupts));
    // A node may still compute, or sit in a system call that never returns.
    data.shutdown_background();
    control.shutdown_background();
    served
}

/// Keeps flows running until a signal comes, and then until they have stopped.
async fn serve(settings: &DaemonSettings, logging: &Logging, data: Handle, mut interrupts: Interrupts) -> Outcome {
    let launcher = Arc::new(FlowLauncher::new(settings)?);
    let host = Host::open(launcher, data, settings.restart.policy(), &settings.data.join(HOST))?;
    let manager = ServiceManager::find();
    let administration = Administration::start(settings, host.clone(), logging).await?;
    let mut folder = tokio::select! {
        folder = begin(settings, &host) => folder?,
        () = interrupts.next() => return Ok(Exit::Done),
    };
    manager.ready();
    tracing::info!("ready: {} flows of `{}`", host.all().len(), settings.flows_folder().display());
    tokio::select! {
        failed = look_after(&mut folder, settings.scan_every.0) => match failed? {},
        never = manager.keep_alive() => match never {},
        failed = administration.keep() => match failed? {},
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
    folder.scan().await?.iter().for_each(say_change);
    Ok(folder)
}

/// Looks at the folder again and again, and at once when the process is told to (SIGHUP).
async fn look_after(folder: &mut FlowFolder, every: Duration) -> Result<Infallible> {
    let mut hangups = signal(SignalKind::hangup()).doing(|| "listening to SIGHUP")?;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = hangups.recv() => {}
        }
        match folder.scan().await {
            Ok(changes) => {
                changes.iter().for_each(say_change);
                last = None;
            }
            // It is said once, and not each time that the folder is looked at.
            Err(error) => {
                let error = error.to_string();
                if last.as_ref() != Some(&error) {
                    tracing::error!("{error}; the flows go on as they are");
                }
                last = Some(error);
            }
        }
    }
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

fn say_change(change: &FolderChange) {
    match change {
        FolderChange::Applied { path, flow, revision } => {
            tracing::info!(flow, revision, "`{}` is to run", path.display());
        }
        FolderChange::Refused { flow: Some(flow), reason, .. } => {
            tracing::error!(flow, "the flow goes on as it is, since its file has changed and is wrong:\n{reason}");
        }
        FolderChange::Refused { flow: None, reason, .. } => tracing::error!("a flow file is wrong:\n{reason}"),
        FolderChange::Removed { path, flow } => {
            tracing::info!(flow, "`{}` has it no more; it stops at a checkpoint, and its state stays", path.display());
        }
    }
}
