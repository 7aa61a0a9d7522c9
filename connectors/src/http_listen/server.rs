//! Takes requests, and answers them when their rows are durable.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use millstream_core::{Result, ResultExt};
use millstream_net::{Activity, Connections, Tls, doors};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::access::Access;
use super::request::{ContentEncoding, Head, MediaType, Refusal, Taken, decompress, next_bytes, response};
use super::respond::Answers;
use crate::push::{FormatTag, Ingest, Share, Worker};

/// How many connections an address has at most that is not this machine's own.
const OF_ONE: usize = 64;

/// How long a client may take to send a header, and be silent between two requests.
const HEADER_TIMEOUT: Duration = if cfg!(test) { Duration::from_secs(3) } else { Duration::from_secs(10) };

/// How long a connection that gives way to another may take to send its last answer.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(100);

/// How long connections are served that are there when the process is to end: whoever has connected is about to ask.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a request may go on that has begun by then.
const LAST_MOMENT: Duration = Duration::from_secs(4);

/// How often the files of TLS are read again.
const FRESH: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(60) };

/// How long a body may take to come whatever its rate.
const GRACE: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(5) };

/// How long the rest of a refused body is read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A body of which the signature takes longer to compute than one sender should keep others waiting.
const LONG: usize = 256 << 10;

/// How long a header may be.
const MAX_HEADER: usize = 64 << 10;

/// What it takes to answer.
pub struct Service {
    path: String,
    limits: Limits,
    access: Arc<Access>,
    ingest: Ingest,
    /// What senders wait for, if for more than that rows are durable.
    answers: Option<Answers>,
    /// Whether a connection ends behind its next answer.
    is_leaving: AtomicBool,
}

/// Where and how it is listened.
pub struct Listening {
    /// By which name the next process finds the socket.
    pub door: String,
    pub address: SocketAddr,
    pub tls: Option<Arc<Tls>>,
    /// How many connections there are at most; for one more, an idle one is closed.
    pub max_connections: usize,
}

/// What bodies may be like.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long one may be, in bytes.
    pub max_body: usize,
    /// How long one may take to come.
    pub timeout: Duration,
    /// How many bytes of one have to come in a second.
    pub min_rate: usize,
}

impl Limits {
    /// How long a body may take until more than so many bytes have come.
    fn due(&self, bytes: usize) -> Duration {
        let by_rate = Duration::try_from_secs_f64(bytes as f64 / self.min_rate as f64);
        by_rate.map_or(self.timeout, |time| self.timeout.min(GRACE.saturating_add(time)))
    }
}

/// Listens, and takes requests from now on, until what is returned is dropped or the process is to end.
pub fn start(listening: &Listening, service: Service) -> Result<Worker> {
    let Listening { door, address, tls, max_connections } = listening;
    let doing = || format!("listening on `{address}`");
    let door = doors().open::<TcpListener>(door, address).doing(doing)?;
    door.set_nonblocking(true).doing(doing)?;
    let closing = doors().closing();
    let server = Server { service: Arc::new(service), tls: tls.clone(), most: *max_connections };
    Worker::start("http_listen", |stopped| {
        let listener = tokio::net::TcpListener::from_std(door.try_clone().doing(doing)?).doing(doing)?;
        Ok(async move {
            server.serve(&listener, stopped, closing).await;
            drop(door);
        })
    })
}

/// What it takes to serve connections.
#[derive(Clone)]
struct Server {
    service: Arc<Service>,
    tls: Option<Arc<Tls>>,
    most: usize,
}

impl Server {
    /// Takes connections until the node is dropped or the process is to end, and then lets those leave that are there.
    async fn serve(
        self,
        listener: &tokio::net::TcpListener,
        stopped: oneshot::Receiver<()>,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut connections = Connections::default();
        let (by_themselves, told) = tokio::select! {
            never = self.take_all(listener, &mut connections) => match never {},
            never = self.keep_fresh() => match never {},
            _ = stopped => (Duration::ZERO, LEAVE_TIMEOUT),
            () = told(&mut closing) => (FAREWELL, LAST_MOMENT),
        };
        self.service.is_leaving.store(true, Ordering::Relaxed);
        connections.end(by_themselves, told).await;
    }

    async fn take_all(&self, listener: &tokio::net::TcpListener, connections: &mut Connections) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let from = from.ip().to_canonical();
                    if !from.is_loopback() && !connections.make_room_for(from, OF_ONE) {
                        continue;
                    }
                    connections.make_room(self.most).await;
                    connections.serve(from, |activity| self.clone().take(stream, from, activity));
                }
                // Too many open files, for example, or a client that was gone at once.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Serves a connection to its end, or until it has to give way to another. What is wrong with a client's TLS is the client's to know.
    async fn take(self, stream: TcpStream, from: IpAddr, activity: Arc<Activity>) {
        // Answers are small, and nothing is to wait for more of them.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.converse(stream, from, activity).await };
        let encrypted = tokio::select! {
            encrypted = tls.accept(stream) => encrypted,
            () = activity.told_to_leave() => return,
        };
        if let Ok(encrypted) = encrypted {
            self.converse(encrypted.stream, from, activity).await;
        }
    }

    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin, from: IpAddr, activity: Arc<Activity>) {
        let answer = service_fn(|request| {
            let (service, busy) = (self.service.clone(), activity.request());
            async move {
                let mut answer = response(service.answer(from, request).await);
                if service.is_leaving.load(Ordering::Relaxed) {
                    answer.headers_mut().insert(CONNECTION, const { HeaderValue::from_static("close") });
                }
                drop(busy);
                Ok::<_, Infallible>(answer)
            }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER);
        // Who says that nothing more will come, as `nc -N` does, still wants an answer.
        server.half_close(true);
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
        if timeout(LEAVE_TIMEOUT, connection.as_mut()).await.is_err() && activity.is_busy() {
            let _ = connection.await;
        }
    }

    async fn keep_fresh(&self) -> Infallible {
        match &self.tls {
            Some(tls) => tls.keep_fresh(FRESH).await,
            None => std::future::pending().await,
        }
    }
}

/// Waits until the process is to end.
async fn told(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

impl Service {
    pub fn new(path: String, limits: Limits, access: Arc<Access>, ingest: Ingest, answers: Option<Answers>) -> Self {
        Self { path, limits, access, ingest, answers, is_leaving: AtomicBool::new(false) }
    }

    async fn answer(&self, from: IpAddr, request: Request<Incoming>) -> Result<Taken, Refusal> {
        let (parts, mut body) = request.into_parts();
        let result = self.take(from, &parts, &mut body).await;
        if result.is_err() {
            // A client that is still sending would not read the answer.
            let _ = timeout(DRAIN_TIMEOUT, async { while let Ok(Some(_)) = next_bytes(&mut body).await {} }).await;
        }
        result
    }

    async fn take(&self, from: IpAddr, parts: &Parts, body: &mut Incoming) -> Result<Taken, Refusal> {
        self.access.check_head(from, &parts.headers)?;
        let head = Head::check(parts, body, &self.path, self.limits.max_body)?;
        self.ingest.check()?;
        let format = self.format(head.format)?;
        let mut memory = self.ingest.memory();
        let mut body = self.body(body, &head, &mut memory).await?;
        body = self.signed(from, parts, body).await?;
        if let Some(encoding) = head.encoding {
            (body, memory) = self.decompressed(body, encoding, memory).await?;
        }
        let has_key = head.key.is_some();
        let ack = self.ingest.take(head.key, format, body, memory).await?;
        let answers = match &self.answers {
            Some(answers) => Some(answers.to(ack, has_key).await?),
            None => None,
        };
        Ok(Taken { ack, answers })
    }

    /// The format of a body, which is the input's own where the request says nothing else.
    fn format(&self, said: Option<MediaType>) -> Result<FormatTag, Refusal> {
        let Some(MediaType { format, is_utf8 }) = said else { return Ok(FormatTag::OWN) };
        let tag = self.ingest.format(format)?;
        if tag != FormatTag::OWN && !is_utf8 {
            return Err(Refusal::unsupported("the text of a body has to be in UTF-8"));
        }
        Ok(tag)
    }

    /// A body, if it is signed as it should be.
    async fn signed(&self, from: IpAddr, parts: &Parts, body: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        if body.len() < LONG {
            return self.access.check_body(from, &parts.headers, &body).map(|()| body);
        }
        let (access, headers) = (self.access.clone(), parts.headers.clone());
        let work = move || access.check_body(from, &headers, &body).map(|()| body);
        let failed = |_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the signature can't be checked"));
        spawn_blocking(work).await.unwrap_or_else(failed)
    }

    async fn decompressed(
        &self,
        body: Vec<u8>,
        encoding: ContentEncoding,
        mut memory: Share,
    ) -> Result<(Vec<u8>, Share), Refusal> {
        let max_body = self.limits.max_body;
        let work = move || Ok((decompress(&body, encoding, max_body, &mut memory)?, memory));
        let failed = |_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the body can't be decompressed"));
        spawn_blocking(work).await.unwrap_or_else(failed)
    }

    /// The body, as it comes, if it does not come too slowly.
    async fn body(&self, body: &mut Incoming, head: &Head, memory: &mut Share) -> Result<Vec<u8>, Refusal> {
        let begin = Instant::now();
        let mut bytes = Vec::new();
        while let Some(data) = self.in_time(begin, bytes.len(), next_bytes(body)).await? {
            if bytes.len() + data.len() > head.length {
                return Err(Refusal::too_large(head.length));
            }
            memory.grow(bytes.len() + data.len())?;
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    /// The next bytes of a body of which so many have come since `begin`.
    async fn in_time(
        &self,
        begin: Instant,
        bytes: usize,
        next: impl Future<Output = Result<Option<Bytes>, Refusal>>,
    ) -> Result<Option<Bytes>, Refusal> {
        let left = self.limits.due(bytes).saturating_sub(begin.elapsed());
        timeout(left, next).await.unwrap_or_else(|_| {
            let Limits { timeout, min_rate, .. } = self.limits;
            let message = format!(
                "the body came too slowly: it has to come within {timeout:?}, and with {min_rate} bytes a second once it has \
                 taken {GRACE:?}"
            );
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, message))
        })
    }
}
