//! Takes requests, and answers them when their rows are durable.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use millstream_core::{Result, ResultExt};
use millstream_net::{Activity, Connections};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::request::{ContentEncoding, Head, MediaType, Refusal, decompress, next_bytes, response};
use crate::push::{Ack, FormatTag, Ingest, Share, Worker};

/// How many connections there are at most; for one more, an idle one is closed.
pub const CONNECTIONS: usize = if cfg!(test) { 20 } else { 512 };

/// How long a client may take to send a header, and be silent between two requests.
const HEADER_TIMEOUT: Duration = if cfg!(test) { Duration::from_secs(3) } else { Duration::from_secs(10) };

/// How long a connection that gives way to another may take to send its last answer.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a body may take to come whatever its rate.
const GRACE: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(5) };

/// How long the rest of a refused body is read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a header may be.
const MAX_HEADER: usize = 64 << 10;

/// What it takes to answer.
pub struct Service {
    path: String,
    limits: Limits,
    ingest: Ingest,
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

/// Listens, and takes requests from now on, until what is returned is dropped.
pub fn start(address: SocketAddr, service: Service) -> Result<Worker> {
    let doing = || format!("listening on `{address}`");
    let listener = TcpListener::bind(address).doing(doing)?;
    listener.set_nonblocking(true).doing(doing)?;
    Worker::start("http_listen", |stopped| {
        let listener = tokio::net::TcpListener::from_std(listener).doing(doing)?;
        Ok(async move {
            tokio::select! {
                () = take_all(listener, Arc::new(service)) => {}
                _ = stopped => {}
            }
        })
    })
}

async fn take_all(listener: tokio::net::TcpListener, service: Arc<Service>) {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                connections.make_room(CONNECTIONS).await;
                connections.serve(from.ip(), |activity| take(stream, service.clone(), activity));
            }
            // Too many open files, for example, or a client that was gone at once.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Serves a connection to its end, or until it has to give way to another.
async fn take(stream: TcpStream, service: Arc<Service>, activity: Arc<Activity>) {
    let answer = service_fn(|request| {
        let (service, busy) = (service.clone(), activity.request());
        async move {
            let answer = response(service.answer(request).await);
            drop(busy);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), answer));
    // What went wrong with a connection is the client's to know.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = activity.told_to_leave() => {}
    }
    connection.as_mut().graceful_shutdown();
    if timeout(LEAVE_TIMEOUT, connection.as_mut()).await.is_err() && activity.is_busy() {
        let _ = connection.await;
    }
}

impl Service {
    pub fn new(path: String, limits: Limits, ingest: Ingest) -> Self {
        Self { path, limits, ingest }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Ack, Refusal> {
        let (parts, mut body) = request.into_parts();
        let result = self.take(&parts, &mut body).await;
        if result.is_err() {
            // A client that is still sending would not read the answer.
            let _ = timeout(DRAIN_TIMEOUT, async { while let Ok(Some(_)) = next_bytes(&mut body).await {} }).await;
        }
        result
    }

    async fn take(&self, parts: &Parts, body: &mut Incoming) -> Result<Ack, Refusal> {
        let head = Head::check(parts, body, &self.path, self.limits.max_body)?;
        let format = self.format(head.format)?;
        let mut memory = self.ingest.memory();
        let mut body = self.body(body, &head, &mut memory).await?;
        if let Some(encoding) = head.encoding {
            (body, memory) = self.decompressed(body, encoding, memory).await?;
        }
        Ok(self.ingest.take(head.key, format, body, memory).await?)
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
