//! The administration of a daemon, as its settings say it: where it listens, and what it knows besides flows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use millstream_admin::security::Gate;
use millstream_admin::server::{ADMINISTRATION, Server};
use millstream_admin::{Admin, NodeType, Reloads, Surroundings, api};
use millstream_core::{Error, Result, ResultExt as _};
use millstream_engine::file::Setting;
use millstream_host::Host;
use millstream_net::Tls;
use millstream_serve::Repository;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::settings::DaemonSettings;
use crate::logging::Logging;
use crate::reference;
use crate::serve::{Keys, Service, registry};

/// How often it is written down when tokens were last used.
const FLUSH: Duration = Duration::from_secs(300);

/// The administration while it answers.
pub struct Administration {
    admin: Arc<Admin>,
    tls: Option<Arc<Tls>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Administration {
    /// Listens, and answers from now on.
    pub async fn start(
        settings: &DaemonSettings,
        shown: Vec<Setting>,
        host: Arc<Host>,
        logging: &Logging,
        reloads: Reloads,
    ) -> Result<Self> {
        let (data, listening) = (&settings.data, &settings.admin);
        let tls = listening.tls.load(data).map_err(|problem| Error::new(problem.to_string()))?;
        let server = Server::bind(ADMINISTRATION, listening.address.0, tls, listening.socket(data)).await?;
        if let Some(address) = server.address() {
            tracing::info!("the administration listens on `{address}`");
        }
        let tls = server.tls();
        let gate = Gate::open(listening, data)?;
        let surroundings = Surroundings {
            data: data.clone(),
            models: settings.models.clone(),
            state: settings.state.clone(),
            settings: shown,
            levels: logging.levels.clone(),
            logs: logging.logs.clone(),
            reloads,
            node_types,
        };
        let admin = Arc::new(Admin::new(host, gate, surroundings));
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(server.serve(api::router(admin.clone()), stopped));
        Ok(Self { admin, tls, stop, serving })
    }

    /// Serves models with the same tokens, if the settings say where: from now on, and each as soon as there is one.
    pub async fn serve(&self, settings: &DaemonSettings) -> Result<Option<Service>> {
        let serve = &settings.serve;
        if serve.address.0.is_none() {
            return Ok(None);
        }
        let references = serve.references().map_err(|problem| Error::new(problem.to_string()))?;
        let repository = Repository::awaiting(registry(settings)?, &references, serve.batch.limits())?;
        let first = repository.clone();
        spawn_blocking(move || first.refresh_all()).await.doing(|| "reading models that are to be served")?;
        let keys = Keys { tokens: self.admin.gate.tokens.clone(), audit: self.admin.gate.audit.clone() };
        Service::start(settings, repository, keys).await.map(Some)
    }

    /// Whoever asks whether the daemon is ready is told that it is not any more.
    pub fn is_about_to_end(&self) {
        self.admin.is_about_to_end();
    }

    /// Reads the files of TLS again. False if they do not hold what they should, so that connections are taken with them as they were.
    pub fn refresh(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.refresh())
    }

    /// Writes down now and then when tokens were last used, for as long as it is awaited.
    pub async fn keep(&self) -> Infallible {
        loop {
            sleep(FLUSH).await;
            flush(&self.admin).await;
        }
    }

    /// Answers what was asked, and then nothing more.
    pub async fn end(self) {
        self.stop.send_replace(true);
        // Whatever has gone wrong, it has ended.
        let _ = self.serving.await;
        flush(&self.admin).await;
    }
}

/// Writes down when tokens were last used. That it can't be costs nobody anything.
async fn flush(admin: &Arc<Admin>) {
    let gate = admin.gate.clone();
    if let Ok(Err(error)) = spawn_blocking(move || gate.tokens.flush()).await {
        tracing::warn!("it can't be written down when tokens were last used: {error}");
    }
}

/// What flows can be made of.
fn node_types() -> Vec<NodeType> {
    let registry = crate::nodes::registry();
    let mut types: Vec<NodeType> = Vec::new();
    for kind in registry.kinds() {
        let (docs, schema) = reference::describe(kind, &registry);
        match types.iter_mut().find(|known| known.name == kind.name) {
            Some(known) => {
                known.roles.push(kind.role.name().to_owned());
                known.docs.push(docs);
                known.schemas.push(schema);
            }
            None => types.push(NodeType {
                name: kind.name.to_owned(),
                roles: vec![kind.role.name().to_owned()],
                summary: reference::summary(kind),
                docs: vec![docs],
                schemas: vec![schema],
            }),
        }
    }
    types
}
