//! `millstream serve`: models of a registry over HTTP, without flows.

mod service;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use millstream_admin::security::{Audit, OrOff, ServeSettings, TokenStore};
use millstream_core::{Error, Result, ResultExt as _};
use millstream_models::registry::ModelRegistry;
use millstream_serve::Repository;
use tokio::runtime::Builder;

pub use self::service::{Keys, Service};
use crate::daemon::{ConfigArguments, DaemonSettings};
use crate::exit::{CommandError, Exit, Outcome};
use crate::interrupts::Interrupts;
use crate::logging;

/// What `serve` takes.
#[derive(Clone, Debug, Args)]
pub struct ServeArguments {
    /// The models: `fraud` (its champion), `fraud@challenger`, `fraud@latest` or `fraud/3`. Without any, those of the settings.
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Where it listens. Port 0 is any that is free. By default 127.0.0.1:8000, unless the settings have another one.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<SocketAddr>,
    /// The folder of the registry, or `s3://BUCKET/PREFIX`. By default that of the settings, which is `models`.
    #[arg(long, value_name = "PATH")]
    registry: Option<String>,
    /// Note each prediction in a log in this folder, so that flows read it and labels can be sent for it; `off` for none. By default that of the settings, which
    /// is none.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// Let everybody who reaches the address have rows predicted, without a token.
    #[arg(long)]
    without_token: bool,
    /// The settings: `[serve]` has those of serving.
    #[command(flatten)]
    config: ConfigArguments,
}

/// Where it listens unless somebody says otherwise.
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 8000);

/// The folder in that of the data where it is kept what was done to a server that is no daemon.
const FOLDER: &str = "serve";

/// How many such servers may run at a time with the same data.
const SERVERS: usize = 64;

/// `millstream serve`
pub fn serve(arguments: &ServeArguments) -> Outcome {
    let settings = arguments.settings()?;
    let logging = logging::start(&settings.log, true);
    let runtime = Builder::new_multi_thread().thread_name("serve").enable_all().build();
    let runtime = runtime.doing(|| "starting the threads that serve")?;
    let repeats = logging.repeats.clone();
    runtime.spawn(async move { repeats.tell().await });
    // Before anything that takes time, so that a signal never ends the process without an answer to those who have asked.
    let mut interrupts = Interrupts::listen(&runtime);
    let repository = open(&settings)?;
    let served = runtime.block_on(async {
        let keys = Keys { tokens: Arc::new(TokenStore::new(&settings.data)), audit: audit(&settings.data)? };
        let service = Service::start(&settings, repository, keys).await?;
        tokio::select! {
            never = service.keep() => match never {},
            () = interrupts.next() => {}
        }
        service.end().await;
        Ok(Exit::Done)
    });
    runtime.shutdown_background();
    served
}

impl ServeArguments {
    /// The settings, with what the command line says over them.
    fn settings(&self) -> Result<DaemonSettings, CommandError> {
        let mut settings = self.config.settings()?;
        let serve = &mut settings.serve;
        serve.address = OrOff(self.address.or(serve.address.0).or(Some(ADDRESS.into())));
        serve.without_token |= self.without_token;
        if let Some(log) = &self.log {
            serve.log.path = OrOff(Some(log.clone()).filter(|log| log.as_os_str() != "off"));
        }
        if !self.models.is_empty() {
            serve.models.clone_from(&self.models);
        }
        if let Some(registry) = &self.registry {
            settings.models.clone_from(registry);
        }
        check(&settings.serve, &settings.data)?;
        Ok(settings)
    }
}

fn check(serve: &ServeSettings, data: &Path) -> Result<(), CommandError> {
    if serve.models.is_empty() {
        return Err(CommandError::Usage("say which models are to be served: `millstream serve MODEL…`".to_owned()));
    }
    let problems = serve.problems(data);
    if problems.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Err(CommandError::Usage(all.join("\n")))
}

/// The models, each read whole.
fn open(settings: &DaemonSettings) -> Result<Arc<Repository>> {
    let registry = registry(settings)?;
    let references = settings.serve.references().map_err(|problem| Error::new(problem.to_string()))?;
    Repository::open(registry, &references, settings.serve.batch.limits())
}

/// The log of what is done to a server that is no daemon: of several that run at a time with the same data, each has one of its own.
fn audit(data: &Path) -> Result<Arc<Audit>> {
    let open = |number| {
        let name = if number == 1 { FOLDER.to_owned() } else { format!("{FOLDER}-{number}") };
        let folder = data.join(name);
        std::fs::create_dir_all(&folder).doing(|| format!("making the folder `{}`", folder.display()))?;
        Audit::open(&folder)
    };
    let first = open(1);
    match first {
        Ok(audit) => Ok(audit),
        Err(error) => (2..=SERVERS).find_map(|number| open(number).ok()).ok_or(error),
    }
}

/// The registry of the settings.
pub fn registry(settings: &DaemonSettings) -> Result<ModelRegistry> {
    Ok(ModelRegistry::open(millstream_store::open(&settings.models, &settings.data)?, settings.models.clone()))
}
