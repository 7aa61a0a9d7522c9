//! Models while they are served: a listener, and what follows the registry.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use millstream_admin::security::{Audit, Gate, TokenStore};
use millstream_admin::server::{Listening, Server};
use millstream_admin::serving::{SERVING, router};
use millstream_core::{Error, Result, ResultExt as _};
use millstream_net::Tls;
use millstream_serve::rest::{Room, Serving};
use millstream_serve::{Repository, RequestLog};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::daemon::DaemonSettings;

/// Models while they are served.
pub struct Service {
    repository: Arc<Repository>,
    follow: Duration,
    tls: Option<Arc<Tls>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    /// What keeps the log of requests small.
    tidying: Option<JoinHandle<()>>,
}

/// What lets people and programs in, and where it is written down what they have done.
pub struct Keys {
    /// The tokens.
    pub tokens: Arc<TokenStore>,
    /// The log.
    pub audit: Arc<Audit>,
}

impl Service {
    /// Listens, and answers from now on.
    pub async fn start(settings: &DaemonSettings, repository: Arc<Repository>, keys: Keys) -> Result<Self> {
        let serve = &settings.serve;
        // Before anybody is told that it serves.
        let log = request_log(settings).await?;
        let tls = serve.tls.load(&settings.data).map_err(|problem| Error::new(problem.to_string()))?;
        let connections = serve.connections as usize;
        let listening = Listening { connections, of_one: connections, ..SERVING };
        let server = Server::bind(listening, serve.address.0, tls, None).await?;
        if let Some(address) = server.address() {
            tracing::info!("serving `{}` on `{address}`", serve.models.join("`, `"));
        }
        let (tls, gate) = (server.tls(), Gate::of_serving(serve, keys.tokens, keys.audit));
        let trials = serve.trials().map_err(|problem| Error::new(problem.to_string()))?;
        let (max_body, room) = (serve.body.0, Room::new(serve.bodies.0));
        let tidying = log.clone().map(|log| tokio::spawn(log.keep_tidy()));
        let state = Serving { repository: repository.clone(), max_body, room, trials, log };
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(server.serve(router(Arc::new(state), Arc::new(gate)), stopped));
        Ok(Self { repository, follow: serve.follow.0, tls, stop, serving, tidying })
    }

    /// Follows the registry for as long as it is awaited.
    pub async fn keep(&self) -> Infallible {
        self.repository.clone().keep_fresh(self.follow).await
    }

    /// Reads the files of TLS again. False if they do not hold what they should, so that connections are taken with them as they were.
    pub fn refresh(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.refresh())
    }

    /// Answers what was asked, and then nothing more.
    pub async fn end(self) {
        self.stop.send_replace(true);
        // Whatever has gone wrong, it has ended.
        let _ = self.serving.await;
        if let Some(tidying) = self.tidying {
            tidying.abort();
        }
    }
}

/// The log of requests, if there is to be one.
async fn request_log(settings: &DaemonSettings) -> Result<Option<Arc<RequestLog>>> {
    let log = &settings.serve.log;
    let Some(path) = &log.path.0 else { return Ok(None) };
    let (folder, limits) = (settings.data.join(path), log.limits());
    let opened = spawn_blocking(move || RequestLog::open(&folder, limits)).await;
    opened.doing(|| "opening the log of requests")?.map(Some)
}
