//! Where a function listens, and how it leaves.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use millstream_admin::function::{FUNCTION, Function, METRICS, metrics_router, router};
use millstream_admin::server::Server;
use millstream_core::Result;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::FunctionArguments;
use crate::interrupts::Interrupts;

/// Where it listens unless somebody says otherwise.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 8080);

/// What listens for a function.
pub struct Front {
    function: Arc<Function>,
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
}

impl Front {
    /// Listens, and has requests answered from now on.
    pub async fn start(arguments: &FunctionArguments, inner: Router) -> Result<Self> {
        let limit = Some(arguments.max_inflight).filter(|limit| *limit > 0);
        let (function, stop) = (Function::new(limit), watch::Sender::new(false));
        let mut servers = JoinSet::new();
        if let Some(port) = arguments.metrics_port {
            let address = (arguments.address().ip(), port).into();
            let server = Server::bind(METRICS, Some(address), None, None).await?;
            if let Some(address) = server.address() {
                tracing::info!("metrics of the function `{}` are at `{address}`", arguments.target);
            }
            servers.spawn(server.serve(metrics_router(function.clone()), stop.subscribe()));
        }
        let server = Server::bind(FUNCTION, Some(arguments.address()), None, None).await?;
        if let Some(address) = server.address() {
            tracing::info!("the function `{}` listens on `{address}`", arguments.target);
        }
        servers.spawn(server.serve(router(function.clone(), inner), stop.subscribe()));
        Ok(Self { function, stop, servers })
    }

    /// Says that it is about to end, and answers what still comes until the platform has noticed, and then what has begun. Another signal ends it at
    /// once.
    pub async fn leave(mut self, arguments: &FunctionArguments, interrupts: &mut Interrupts) {
        self.function.is_about_to_end();
        let leaving = async {
            sleep(arguments.healthcheck_interval).await;
            // Whoever takes longer is not waited for.
            let _ = timeout(arguments.write_timeout, self.function.idle()).await;
            self.stop.send_replace(true);
            while self.servers.join_next().await.is_some() {}
        };
        tokio::select! {
            () = leaving => {}
            () = interrupts.next() => {}
        }
    }
}

impl FunctionArguments {
    fn address(&self) -> SocketAddr {
        let of_port = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        self.address.or(self.port.map(of_port)).unwrap_or(ADDRESS.into())
    }
}
