//! Takes messages: as datagrams, or from connections with TLS or without.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use millstream_connectors::push::{Health, Ingest, Receiver, Waiting, Worker, keep, waiting};
use millstream_core::{Report, Result, ResultExt as _};
use millstream_net::{Tls, doors};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Duration, sleep};

use crate::contents::{Kept, pack};
use crate::framing::{Frame, Frames, Framing, trimmed};

/// How many connections there are at most.
const CONNECTIONS: usize = 512;

/// How often the files of TLS are read again.
const FRESH: Duration = Duration::from_secs(60);

/// How many bytes are read at once.
const READ: usize = 64 << 10;

/// Where messages come from.
#[derive(Clone)]
pub enum Way {
    Udp,
    Tcp,
    Tls(Arc<Tls>),
}

/// Takes messages at an address.
pub struct Listening {
    /// By which name the next process finds the socket.
    pub door: String,
    pub address: SocketAddr,
    pub way: Way,
    pub framing: Framing,
    pub longest: usize,
    pub health: Arc<Health>,
}

/// A message that has come.
struct Taken {
    frame: Frame,
    peer: Arc<str>,
    received_at: i64,
}

impl Waiting for Taken {
    fn bytes(&self) -> usize {
        self.frame.bytes.len()
    }

    fn pack(several: &[Self]) -> Result<Vec<u8>> {
        pack(&several.iter().map(Self::kept).collect::<Vec<_>>())
    }
}

impl Taken {
    fn kept(&self) -> Kept<'_> {
        Kept { bytes: &self.frame.bytes, is_cut: self.frame.is_cut, peer: &self.peer, received_at: self.received_at }
    }
}

#[async_trait]
impl Receiver for Listening {
    async fn start(&mut self, ingest: Ingest) -> Result<Box<dyn Send>> {
        let (send, taken) = waiting(self.longest);
        let (address, health) = (self.address, self.health.clone());
        let doing = || format!("listening on `{address}`");
        let worker = match &self.way {
            Way::Udp => {
                let door = doors().open::<std::net::UdpSocket>(&self.door, &address).doing(doing)?;
                door.set_nonblocking(true).doing(doing)?;
                let longest = self.longest;
                Worker::start("syslog", |stopped| {
                    let socket = UdpSocket::from_std(door.try_clone().doing(doing)?).doing(doing)?;
                    Ok(async move {
                        tokio::select! {
                            () = take_datagrams(socket, send, longest) => {}
                            () = keep(taken, &ingest, &health, stopped, drop) => {}
                        }
                        drop(door);
                    })
                })?
            }
            Way::Tcp | Way::Tls(_) => {
                let door = doors().open::<std::net::TcpListener>(&self.door, &address).doing(doing)?;
                door.set_nonblocking(true).doing(doing)?;
                let tls = match &self.way {
                    Way::Tls(tls) => Some(tls.clone()),
                    Way::Udp | Way::Tcp => None,
                };
                let connections = Connections { framing: self.framing, longest: self.longest, tls, messages: send };
                Worker::start("syslog", |stopped| {
                    let listener = TcpListener::from_std(door.try_clone().doing(doing)?).doing(doing)?;
                    Ok(async move {
                        tokio::select! {
                            never = keep_fresh(connections.tls.clone()) => match never {},
                            () = connections.take_all(listener) => {}
                            () = keep(taken, &ingest, &health, stopped, drop) => {}
                        }
                        drop(door);
                    })
                })?
            }
        };
        Ok(Box::new(worker))
    }

    fn report(&self) -> Option<Report> {
        self.health.report("messages of syslog")
    }
}

async fn keep_fresh(tls: Option<Arc<Tls>>) -> Infallible {
    match tls {
        Some(tls) => tls.keep_fresh(FRESH).await,
        None => std::future::pending().await,
    }
}

/// Each datagram is a message.
async fn take_datagrams(socket: UdpSocket, messages: mpsc::Sender<Taken>, longest: usize) {
    let mut buffer = vec![0; READ];
    let mut last: Option<(SocketAddr, Arc<str>)> = None;
    loop {
        // A sender that is gone may be reported here, which is no matter of others.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let peer = match &last {
            Some((address, peer)) if *address == from => peer.clone(),
            _ => last.insert((from, from.ip().to_string().into())).1.clone(),
        };
        let bytes = trimmed(&buffer[..length]);
        let frame = Frame { bytes: bytes[..bytes.len().min(longest)].to_vec(), is_cut: bytes.len() > longest };
        if frame.bytes.is_empty() {
            continue;
        }
        if messages.send(Taken { frame, peer, received_at: now() }).await.is_err() {
            return;
        }
    }
}

/// Takes connections.
#[derive(Clone)]
struct Connections {
    framing: Framing,
    longest: usize,
    tls: Option<Arc<Tls>>,
    messages: mpsc::Sender<Taken>,
}

impl Connections {
    async fn take_all(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, from)) => {
                    let this = self.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        let peer: Arc<str> = from.ip().to_string().into();
                        let read = match &this.tls {
                            None => this.read(stream, peer).await,
                            Some(tls) => match tls.accept(stream).await {
                                Ok(encrypted) => this.read(encrypted.stream, peer).await,
                                Err(error) => Err(error),
                            },
                        };
                        if let Err(error) = read {
                            tracing::debug!("a connection from {from} has ended: {error}");
                        }
                    });
                }
                // Too many open files, for example, or a client that was gone at once.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn read(&self, mut stream: impl AsyncRead + Unpin, peer: Arc<str>) -> io::Result<()> {
        let mut frames = Frames::new(self.framing, self.longest);
        let mut buffer = vec![0; READ];
        loop {
            let length = stream.read(&mut buffer).await?;
            frames.push(&buffer[..length]);
            let received_at = now();
            loop {
                let frame = frames.next_frame().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
                let Some(frame) = frame else { break };
                self.take(frame, &peer, received_at).await;
            }
            if length == 0 {
                if let Some(frame) = frames.finish() {
                    self.take(frame, &peer, received_at).await;
                }
                return Ok(());
            }
        }
    }

    async fn take(&self, frame: Frame, peer: &Arc<str>, received_at: i64) {
        // At the end nobody takes it.
        let _ = self.messages.send(Taken { frame, peer: peer.clone(), received_at }).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "it is kept with the message, so that a replay has the same")]
fn now() -> i64 {
    if cfg!(test) {
        // So that two runs have the same.
        return 1_767_225_610_000_000;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
