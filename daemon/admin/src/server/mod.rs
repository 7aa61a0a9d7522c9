//! Where requests come in: over TCP, with TLS or without, and over a Unix socket. Each connection says how it came.

mod timely;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use millstream_core::{Result, ResultExt as _};
use millstream_net::{Activity, Connections, Door, Tls, doors};
use millstream_serve::rest::STREAM;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use self::timely::TimelyBody;
use crate::security::{Arrival, listen};

/// How long a client may take to send a header, and be silent between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a header may be.
const MAX_HEADER: usize = 64 << 10;

/// How long connections are served that are there when the server is to end: whoever has connected is about to ask.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long requests may go on that have begun by then.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// How long no connection is taken when one could not be.
const PAUSE: Duration = Duration::from_millis(10);

/// How often the files of TLS are read again.
const FRESH: Duration = Duration::from_secs(3600);

/// What listens.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// By which name a service manager has the listeners.
    pub door: &'static str,
    /// What it is for, for messages.
    pub what: &'static str,
    /// How many connections there are at most; for one more, an idle one is closed.
    pub connections: usize,
    /// How many of them may be of one address.
    pub of_one: usize,
}

/// The administration.
pub const ADMINISTRATION: Listening =
    Listening { door: "admin", what: "the administration", connections: 512, of_one: 64 };

/// Listeners, which do not take connections yet.
#[derive(Debug)]
pub struct Server {
    listening: Listening,
    tcp: Option<Tcp>,
    tls: Option<Arc<Tls>>,
    unix: Option<Unix>,
}

/// Where connections come over TCP.
#[derive(Debug)]
struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
    /// What keeps the place for the next process.
    _door: Door<std::net::TcpListener>,
}

/// Where connections come over the Unix socket.
#[derive(Debug)]
struct Unix {
    listener: UnixListener,
    path: PathBuf,
    /// Whether this process has made it.
    is_own: bool,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// If an address or the place of the socket is taken, or can't be listened at.
    pub async fn bind(
        listening: Listening,
        address: Option<SocketAddr>,
        tls: Option<Tls>,
        socket: Option<PathBuf>,
    ) -> Result<Self> {
        let Listening { door: name, what, .. } = listening;
        let mut server = Self { listening, tcp: None, tls: tls.map(Arc::new), unix: None };
        if let Some(address) = address {
            let doing = || format!("listening on `{address}` for {what}");
            let door = doors().open::<std::net::TcpListener>(name, &address).doing(doing)?;
            door.set_nonblocking(true).doing(doing)?;
            let listener = TcpListener::from_std(door.try_clone().doing(doing)?).doing(doing)?;
            let address = listener.local_addr().doing(doing)?;
            server.tcp = Some(Tcp { listener, address, _door: door });
        }
        if let Some(path) = socket {
            let doing = || format!("listening at `{}` for {what}", path.display());
            let made = doors().unix(name, &path);
            let is_own = made.is_none();
            let listener = made.map_or_else(|| listen(&path), from_manager).doing(doing)?;
            server.unix = Some(Unix { listener, path, is_own });
        }
        Ok(server)
    }

    /// The address of the TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|tcp| tcp.address)
    }

    /// TLS, if there is any.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Has requests answered until `stop` says so, and then those that have begun.
    pub async fn serve(self, router: Router, stop: watch::Receiver<bool>) {
        let Self { listening, tcp, tls, unix } = self;
        let fresh = tls.clone();
        let over_tcp = take_tcp(listening, tcp, tls, router.clone(), stop.clone());
        let over_unix = take_unix(listening, unix, router, stop);
        tokio::select! {
            _ = async { tokio::join!(over_tcp, over_unix) } => {}
            never = keep_fresh(fresh) => match never {},
        }
    }
}

async fn keep_fresh(tls: Option<Arc<Tls>>) -> Infallible {
    match tls {
        Some(tls) => tls.keep_fresh(FRESH).await,
        None => std::future::pending().await,
    }
}

fn from_manager(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Takes connections over TCP.
async fn take_tcp(
    listening: Listening,
    tcp: Option<Tcp>,
    tls: Option<Arc<Tls>>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let Some(tcp) = tcp else { return };
    let mut connections = Connections::default();
    while let Some((stream, peer)) = next(|| tcp.listener.accept(), &mut stop).await {
        let from = peer.ip().to_canonical();
        if !connections.make_room_for(from, listening.of_one) {
            continue;
        }
        connections.make_room(listening.connections).await;
        let local = stream.local_addr().unwrap_or(tcp.address);
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        connections.serve(from, |activity| async move {
            let arrival = Arrival::from_network(peer, local);
            serve_tcp(stream, arrival, tls, Serving { router, activity, stop }).await;
        });
    }
    connections.end(FAREWELL, LAST_MOMENT).await;
}

async fn serve_tcp(stream: TcpStream, arrival: Arrival, tls: Option<Arc<Tls>>, serving: Serving) {
    // Small answers are not held back. What is wrong with the connection shows when it is read.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return serving.serve(stream, arrival).await };
    // What is wrong with a client's TLS is the client's to know.
    if let Ok(encrypted) = tls.accept(stream).await {
        serving.serve(encrypted.stream, arrival.with_tls(encrypted.client)).await;
    }
}

/// Takes connections over the Unix socket.
async fn take_unix(listening: Listening, unix: Option<Unix>, router: Router, mut stop: watch::Receiver<bool>) {
    let Some(Unix { listener, path, is_own }) = unix else { return };
    let mut connections = Connections::default();
    while let Some((stream, _)) = next(|| listener.accept(), &mut stop).await {
        connections.make_room(listening.connections).await;
        let (router, path, stop) = (router.clone(), path.clone(), stop.clone());
        connections.serve(IpAddr::V4(Ipv4Addr::LOCALHOST), |activity| async move {
            serve_unix(stream, &path, Serving { router, activity, stop }).await;
        });
    }
    // Whoever looks for the daemon finds at once that it has ended; or waits for the next one, where the service manager has the socket.
    if is_own {
        let _ = std::fs::remove_file(path);
    }
    connections.end(FAREWELL, LAST_MOMENT).await;
}

async fn serve_unix(stream: UnixStream, path: &Path, serving: Serving) {
    match Arrival::from_process(&stream, path) {
        Ok(arrival) => serving.serve(stream, arrival).await,
        Err(error) => tracing::warn!("a connection of the Unix socket was refused: {error}"),
    }
}

/// The next connection; none when the server is to end.
async fn next<T, F>(mut accept: impl FnMut() -> F, stop: &mut watch::Receiver<bool>) -> Option<T>
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        tokio::select! {
            accepted = accept() => match accepted {
                Ok(connection) => return Some(connection),
                // Too many open files, for example, or a client that was gone at once.
                Err(_) => sleep(PAUSE).await,
            },
            () = told(stop) => return None,
        }
    }
}

/// Waits until the server is to end, or whoever could say so is gone.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What it takes to serve a connection.
struct Serving {
    router: Router,
    activity: Arc<Activity>,
    stop: watch::Receiver<bool>,
}

impl Serving {
    /// Serves a connection to its end, or until it is told to leave. When the server is to end, that is so behind its next answer.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, arrival: Arrival) {
        let Self { router, activity, stop } = self;
        let (arrival, of_requests) = (Arc::new(arrival), activity.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (router, arrival, stop) = (router.clone(), arrival.clone(), stop.clone());
            let busy = Arc::new(of_requests.request_begins());
            async move {
                let has_closing = request.version() < Version::HTTP_2;
                let is_stream = request.uri().path() == STREAM;
                let timely = if is_stream { TimelyBody::of_stream } else { TimelyBody::new };
                let mut request = request.map(|body| Body::new(timely(body, busy.clone())));
                request.extensions_mut().insert(arrival);
                let Ok(mut answer) = router.oneshot(request).await;
                if has_closing && *stop.borrow() {
                    answer.headers_mut().insert(CONNECTION, const { HeaderValue::from_static("close") });
                }
                drop(busy);
                Ok::<_, Infallible>(answer)
            }
        });
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER);
        server.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEADER as u32);
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), answer));
        // What went wrong with a connection is the client's to know.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = activity.told_to_leave() => {}
        }
        // Of those who are slow to say what they want there may be many, and each holds up others who come.
        if !activity.has_asked() {
            return;
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_MOMENT, connection).await;
    }
}
