//! Looks again at what a daemon goes by: the folder of flows, the certificate, and whether its settings are still those that it runs with.

use std::convert::Infallible;

use millstream_admin::{FileChange, FileOutcome, ReloadAnswers, Reloaded};
use millstream_core::{Result, ResultExt as _};
use millstream_host::{FlowFolder, FolderChange};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::DaemonArguments;
use super::administration::Administration;
use super::settings::DaemonSettings;
use crate::serve::Service;

/// Looks again at what a daemon goes by.
pub struct Reloader<'a> {
    /// The folder of flows.
    pub folder: FlowFolder,
    /// Where the settings are.
    pub arguments: &'a DaemonArguments,
    /// The settings that the daemon runs with.
    pub settings: &'a DaemonSettings,
    /// What has the certificate.
    pub administration: &'a Administration,
    /// Models that are served, which have a certificate of their own.
    pub serving: Option<&'a Service>,
    /// Why the folder could not be read last.
    pub last: Option<String>,
}

impl Reloader<'_> {
    /// Looks at the folder again and again; and at everything when the process is told to (SIGHUP) or somebody asks for it.
    pub async fn run(mut self, mut asked: ReloadAnswers) -> Result<Infallible> {
        let mut hangups = signal(SignalKind::hangup()).doing(|| "listening to SIGHUP")?;
        let mut ticks = interval(self.settings.scan_every.0);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What is wrong has been logged.
                _ = ticks.tick() => drop(self.scan().await),
                _ = hangups.recv() => self.reload().await.settings.iter().for_each(|said| tracing::warn!("{said}")),
                Some(answer) = asked.recv() => {
                    // Whoever has asked may be gone.
                    let _ = answer.send(self.reload().await);
                }
            }
        }
    }

    async fn reload(&mut self) -> Reloaded {
        let certificate = self.administration.refresh() & self.serving.is_none_or(Service::refresh);
        let (flows, problem) = match self.scan().await {
            Ok(changes) => (changes, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        Reloaded { flows, problem, certificate, settings: self.settings() }
    }

    /// Looks at the folder, and has its flows run as their files say. Why it can't be read is logged once, and not each time.
    async fn scan(&mut self) -> Result<Vec<FileChange>, String> {
        match self.folder.scan().await {
            Ok(changes) => {
                changes.iter().for_each(say);
                self.last = None;
                Ok(changes.into_iter().map(file_change).collect())
            }
            Err(error) => {
                let error = error.to_string();
                if self.last.as_ref() != Some(&error) {
                    tracing::error!("{error}; the flows go on as they are");
                }
                self.last = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Why the settings that the daemon runs with are not those that are written down.
    fn settings(&self) -> Option<String> {
        match self.arguments.config.settings_to_run() {
            Ok(settings) if settings == *self.settings => None,
            Ok(_) => Some("the settings have changed, which takes a restart of the daemon".to_owned()),
            Err(error) => Some(format!("the settings are wrong, and the daemon goes on with those before:\n{error}")),
        }
    }
}

/// Logs what has come of a file.
pub fn say(change: &FolderChange) {
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

/// The same, for those who ask.
fn file_change(change: FolderChange) -> FileChange {
    let (file, outcome, flow, reason) = match change {
        FolderChange::Applied { path, flow, .. } => (path, FileOutcome::Applied, Some(flow), None),
        FolderChange::Refused { path, flow, reason } => (path, FileOutcome::Refused, flow, Some(reason)),
        FolderChange::Removed { path, flow } => (path, FileOutcome::Removed, Some(flow), None),
    };
    FileChange { file, outcome, flow, reason }
}
