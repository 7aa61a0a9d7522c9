//! A service to test with: what it answers is a function of what it is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// What a service is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// The path with the query.
    pub path: String,
    pub headers: hyper::HeaderMap,
    /// What is no text stands for itself in `bytes`.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let url: reqwest::Url = format!("http://a{}", self.path).parse().unwrap();
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

pub type Answer = Response<Full<Bytes>>;

/// A service that runs until it is dropped.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    runtime: Option<Runtime>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer)
    }

    /// One with encryption, if it is said how.
    pub fn start_with(tls: Option<ServerConfig>, answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, seen) = (Arc::new(answer), asked.clone());
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, seen) = (answer.clone(), seen.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, seen) = (answer.clone(), seen.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
                        let body = String::from_utf8_lossy(&bytes).into_owned();
                        let (method, path) = (head.method.to_string(), head.uri.to_string());
                        let asked = Asked { method, path, headers: head.headers, body, bytes };
                        seen.lock().unwrap().push(asked.clone());
                        Ok::<_, Infallible>(answer(&asked))
                    }
                });
                let (tls, http) = (tls.clone(), hyper::server::conn::http1::Builder::new());
                tokio::spawn(async move {
                    // Who is not trusted, or does not trust, is gone.
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { url, asked, runtime: Some(runtime) }
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// An answer of JSON.
pub fn json(text: impl Into<String>) -> Answer {
    Response::new(Full::new(Bytes::from(text.into())))
}

/// An answer with another status.
pub fn status(status: u16, headers: &[(&str, &str)]) -> Answer {
    let answer =
        headers.iter().fold(Response::builder().status(status), |answer, (name, value)| answer.header(*name, *value));
    answer.body(Full::new(Bytes::from("for a reason"))).unwrap()
}

/// What came to a path: keys and bodies.
type Shelf = Vec<(String, String)>;

/// What a receiver has, path by path, that takes requests with the same key once.
#[derive(Clone, Default)]
pub struct Shelves(Arc<Mutex<BTreeMap<String, Shelf>>>);

impl Shelves {
    /// Takes what is sent. The same key has to have the same body.
    pub fn take(&self, asked: &Asked) -> Answer {
        let key = asked.header("idempotency-key").to_owned();
        let mut shelves = self.0.lock().unwrap();
        let shelf = shelves.entry(asked.path.clone()).or_default();
        match shelf.iter().find(|(known, _)| *known == key) {
            Some((_, body)) => assert_eq!(*body, asked.body, "{key}"),
            None => shelf.push((key, asked.body.clone())),
        }
        status(200, &[])
    }

    /// The bodies at a path, in the order in which they have come.
    pub fn on(&self, path: &str) -> Vec<String> {
        let shelves = self.0.lock().unwrap();
        shelves.get(path).into_iter().flatten().map(|(_, body)| body.clone()).collect()
    }
}
