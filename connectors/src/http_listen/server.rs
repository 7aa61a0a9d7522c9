//! Takes requests, and answers them when their rows are durable.
//!
//! It has a thread of its own: a flow that is busy does not keep clients waiting, and when the input is dropped, the
//! connections, the address and the log are free at once.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use millstream_core::{Result, ResultExt};
use millstream_formats::ReadOptions;
use millstream_store::Log;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::keys::{Answered, Keys, Known};
use super::request::{Head, Recorded, Refusal, read_body, record, response};

/// How many connections there are at most; more wait until one is closed.
const CONNECTIONS: usize = 512;

/// How long a client may take to send a header, and be silent between two requests.
const HEADER_TIMEOUT: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(10) };

/// How long the rest of a refused body is read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a header may be.
const MAX_HEADER: usize = 64 << 10;

/// How much memory bodies may take together, unless one alone may take more.
const MEMORY: usize = 256 << 20;

/// A body that takes longer to read than a request should keep others waiting.
const LONG: usize = 256 << 10;

/// What it takes to answer.
pub struct Service {
    pub path: String,
    pub options: ReadOptions,
    pub max_body: usize,
    pub timeout: Duration,
    pub keys: Arc<Mutex<Keys>>,
    pub log: Arc<Log>,
    /// What is left of the memory for bodies, in KiB.
    memory: Semaphore,
}

/// Takes requests until it is dropped.
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and takes requests from now on.
    pub fn start(address: SocketAddr, service: Service) -> Result<Self> {
        let doing = || format!("listening on `{address}`");
        let listener = TcpListener::bind(address).doing(doing)?;
        listener.set_nonblocking(true).doing(doing)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build().doing(doing)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).doing(doing)?
        };
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = take_all(listener, Arc::new(service)) => {}
                    _ = stopped => {}
                }
            });
            // Without waiting for bodies that are being read: they hold nothing.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("http_listen".to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported, and there is nobody to tell.
            let _ = thread.join();
        }
    }
}

async fn take_all(listener: tokio::net::TcpListener, service: Arc<Service>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(take(stream, service.clone()))),
            // Too many open files, for example, or a client that was gone at once.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Serves a connection to its end.
async fn take(stream: TcpStream, service: Arc<Service>) {
    let answer = service_fn(|request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(response(service.answer(request).await)) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER);
    // What went wrong with a connection is the client's to know.
    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
}

impl Service {
    pub fn new(
        path: String,
        options: ReadOptions,
        max_body: usize,
        timeout: Duration,
        keys: Arc<Mutex<Keys>>,
        log: Arc<Log>,
    ) -> Self {
        let memory = Semaphore::new(MEMORY.max(2 * max_body) >> 10);
        Self { path, options, max_body, timeout, keys, log, memory }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answered, Refusal> {
        let (parts, mut body) = request.into_parts();
        let result = self.take(&parts, &mut body).await;
        if result.is_err() {
            // A client that is still sending would not read the answer.
            let _ = timeout(DRAIN_TIMEOUT, read_body(&mut body, MEMORY, drop)).await;
        }
        result
    }

    async fn take(&self, parts: &Parts, body: &mut Incoming) -> Result<Answered, Refusal> {
        let head = Head::check(parts, body, &self.path, self.max_body)?;
        let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to come");
        let (body, _memory) = timeout(self.timeout, self.body(body, &head)).await.map_err(late)??;
        let key = head.key.clone();
        let recorded = self.record(head, body).await?;
        self.write(key, recorded).await
    }

    /// The body, when there is memory for it.
    async fn body(&self, body: &mut Incoming, head: &Head) -> Result<(Vec<u8>, SemaphorePermit<'_>), Refusal> {
        let memory = head.memory(self.max_body).div_ceil(1024) as u32;
        let memory = self.memory.acquire_many(memory).await;
        let memory = memory.map_err(|_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the input is closed"))?;
        let mut bytes = Vec::new();
        read_body(body, head.length, |data| bytes.extend_from_slice(&data)).await?;
        Ok((bytes, memory))
    }

    async fn record(&self, head: Head, body: Vec<u8>) -> Result<Recorded, Refusal> {
        let max_body = self.max_body;
        if body.len() < LONG && !head.gzip {
            return record(&head, body, &self.options, max_body);
        }
        let options = self.options.clone();
        let recorded = spawn_blocking(move || record(&head, body, &options, max_body)).await;
        recorded.unwrap_or_else(|_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the rows can't be read")))
    }

    /// Answers as before if the key is known, and else when the rows are durable.
    async fn write(&self, key: Option<Arc<str>>, recorded: Recorded) -> Result<Answered, Refusal> {
        let Recorded { payload, rows, body } = recorded;
        if rows == 0 {
            return Ok(Answered { first: 0, rows, body });
        }
        match key.as_ref().map(|key| keys(&self.keys).come(key)) {
            None | Some(Known::New) => {}
            Some(Known::Answered(answered)) if answered.body == body => return Ok(answered),
            Some(Known::Answered(_)) => {
                let message = "a request with this `Idempotency-Key` had another body; each needs a key of its own";
                return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message));
            }
            Some(Known::Writing) => {
                let message = "a request with this `Idempotency-Key` is being written; ask again";
                return Err(Refusal::new(StatusCode::CONFLICT, message));
            }
        }
        let (sender, written) = oneshot::channel();
        let known = self.keys.clone();
        // It counts for the key whether or not the client still waits.
        self.log.append_then(payload, rows, move |number| {
            let answered = number.map(|first| Answered { first, rows, body });
            match (&key, &answered) {
                (Some(key), Ok(answered)) => keys(&known).answered(key, *answered),
                (Some(key), Err(_)) => keys(&known).forget(key),
                (None, _) => {}
            }
            let _ = sender.send(answered);
        });
        let unavailable = |message: String| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message);
        let written = written.await.map_err(|_| unavailable("the log is closed".to_owned()))?;
        written.map_err(|error| unavailable(error.to_string()))
    }
}

/// The keys, for a moment.
pub fn keys(keys: &Mutex<Keys>) -> MutexGuard<'_, Keys> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
