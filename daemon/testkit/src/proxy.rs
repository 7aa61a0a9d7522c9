//! A proxy between a program and a server, which does to their conversation what networks and busy servers do.
//!
//! It passes bytes on, whatever they mean, so that it stands before any server. What a fault is done to is an exchange: what the program sends
//! until the server answers, and that answer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// What is done to an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is lost before the server hears of it.
    Lost,
    /// The server does what it was asked, and its answer gets lost with the connection.
    Unanswered,
    /// The connection is lost behind so many bytes of the answer.
    Cut(usize),
    /// It takes so long until the server hears of it.
    Late(Duration),
    /// In place of the server, somebody answers with this status of HTTP, such as 503.
    Status(u16),
}

/// Decides on the exchange of this number, counted from 0, that begins with these bytes.
type Decide = dyn Fn(u64, &[u8]) -> Option<Fault> + Send + Sync;

/// A proxy. It ends with this value, and so do all connections through it.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<String>,
    decide: Box<Decide>,
    exchanges: AtomicU64,
    faults: AtomicU64,
    /// How many bytes of answers were passed on.
    answered: AtomicU64,
    /// Those that are there.
    connections: Mutex<Vec<Weak<Connection>>>,
}

/// A connection of the program, and the one to the server that belongs to it.
struct Connection {
    program: TcpStream,
    server: TcpStream,
    /// The exchange that is under way.
    exchange: Mutex<Exchange>,
}

#[derive(Default)]
struct Exchange {
    fault: Option<Fault>,
    /// How many bytes of the answer have come. None if the server has not been asked since it answered.
    answered: Option<usize>,
}

impl Proxy {
    /// Stands before the server at `target`, an address such as `127.0.0.1:9000`, and asks what to do to each exchange.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start(target: &str, decide: impl Fn(u64, &[u8]) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (exchanges, faults, answered, connections) = Default::default();
        let shared = Arc::new(Shared {
            target: Mutex::new(target.to_owned()),
            decide: Box::new(decide),
            exchanges,
            faults,
            answered,
            connections,
        });
        let weak = Arc::downgrade(&shared);
        thread::spawn(move || {
            for program in listener.incoming() {
                let (Some(shared), Ok(program)) = (weak.upgrade(), program) else { return };
                shared.take(program);
            }
        });
        Self { address, shared }
    }

    /// Where programs reach it: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many exchanges there have been.
    pub fn exchanges(&self) -> u64 {
        self.shared.exchanges.load(Ordering::Relaxed)
    }

    /// To how many of them something was done.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }

    /// How many bytes of answers have passed.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Stands before another server from now on, and cuts all connections to the one before.
    pub fn lead_to(&self, target: &str) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target.to_owned();
        self.cut();
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.shared.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        // The thread that listens finds out that nobody is there any more.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn cut(&self) {
        let connections = std::mem::take(&mut *self.connections.lock().unwrap_or_else(PoisonError::into_inner));
        connections.iter().filter_map(Weak::upgrade).for_each(|connection| connection.close());
    }

    fn take(self: Arc<Self>, program: TcpStream) {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Ok(server) = TcpStream::connect(target) else {
            let _ = program.shutdown(Shutdown::Both);
            return;
        };
        // What is passed on comes in pieces, which would wait for each other.
        let _ = program.set_nodelay(true).and(server.set_nodelay(true));
        let connection = Arc::new(Connection { program, server, exchange: Mutex::default() });
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        let (answers, passing) = (connection.clone(), self.clone());
        thread::spawn(move || {
            answers.pass_answers(&passing);
            answers.close();
        });
        thread::spawn(move || {
            connection.pass_requests(&self);
            connection.close();
        });
    }

    /// What is done to an exchange that begins.
    fn begin(&self, bytes: &[u8]) -> Option<Fault> {
        let number = self.exchanges.fetch_add(1, Ordering::Relaxed);
        let fault = (self.decide)(number, bytes);
        self.faults.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        fault
    }
}

impl Connection {
    fn close(&self) {
        let _ = self.program.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    #[expect(clippy::disallowed_methods, reason = "it is a thread of its own, which has to be late")]
    fn pass_requests(&self, shared: &Shared) {
        let mut buffer = [0; 1 << 16];
        while let Some(count) = read(&self.program, &mut buffer) {
            let bytes = &buffer[..count];
            let begun = {
                let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
                let is_new = exchange.answered != Some(0);
                if is_new {
                    *exchange = Exchange { fault: shared.begin(bytes), answered: Some(0) };
                }
                exchange.fault.clone().filter(|_| is_new)
            };
            match begun {
                Some(Fault::Lost) => return,
                Some(Fault::Late(time)) => thread::sleep(time),
                Some(Fault::Status(status)) => return self.answer(status, bytes),
                Some(Fault::Unanswered | Fault::Cut(_)) | None => {}
            }
            if (&self.server).write_all(bytes).is_err() {
                return;
            }
        }
    }

    fn pass_answers(&self, shared: &Shared) {
        let mut buffer = [0; 1 << 16];
        while let Some(count) = read(&self.server, &mut buffer) {
            let most = {
                let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
                let before = exchange.answered.unwrap_or_default();
                exchange.answered = Some(before + count);
                match exchange.fault {
                    Some(Fault::Unanswered) => 0,
                    Some(Fault::Cut(bytes)) => bytes.saturating_sub(before),
                    _ => usize::MAX,
                }
            };
            let passed = &buffer[..count.min(most)];
            shared.answered.fetch_add(passed.len() as u64, Ordering::Relaxed);
            if (&self.program).write_all(passed).is_err() || most <= count {
                return;
            }
        }
    }

    /// Takes all of a request, of which this is the beginning, and answers it.
    fn answer(&self, status: u16, begun: &[u8]) {
        let mut request = begun.to_vec();
        let mut buffer = [0; 1 << 16];
        while request_length(&request).is_none_or(|length| request.len() < length) {
            let Some(count) = read(&self.program, &mut buffer) else { return };
            request.extend_from_slice(&buffer[..count]);
        }
        let answer = format!("HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = (&self.program).write_all(answer.as_bytes());
    }
}

/// How many bytes a request of HTTP has, as far as it says so.
fn request_length(request: &[u8]) -> Option<usize> {
    let end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some(end + length.unwrap_or(0))
}

/// What has come. None at the end, however that comes.
fn read(mut from: &TcpStream, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match from.read(buffer) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says back what it hears, a line at a time, and notes it.
    fn echo() -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, heard) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Vec::new())));
        let notes = heard.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut buffer = [0; 100];
                while let Some(count) = read(&client, &mut buffer) {
                    notes.lock().unwrap().push(String::from_utf8_lossy(&buffer[..count]).into_owned());
                    let _ = (&client).write_all(&buffer[..count]);
                }
            }
        });
        (address, heard)
    }

    fn say(proxy: &Proxy, words: &str) -> String {
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        stream.write_all(words.as_bytes()).unwrap();
        let mut answer = vec![0; 1000];
        let count = read(&stream, &mut answer).unwrap_or_default();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }

    #[test]
    fn each_fault_does_what_it_says() {
        let (address, heard) = echo();
        let faults =
            [Fault::Lost, Fault::Unanswered, Fault::Cut(2), Fault::Late(Duration::from_millis(1)), Fault::Status(503)];
        let proxy = Proxy::start(&address, move |number, _| faults.get(number as usize).cloned());
        assert_eq!(say(&proxy, "lost"), "");
        assert_eq!(say(&proxy, "unanswered"), "");
        assert_eq!(say(&proxy, "cut"), "cu");
        assert_eq!(say(&proxy, "late"), "late");
        assert!(say(&proxy, "GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab").starts_with("HTTP/1.1 503"));
        assert_eq!(say(&proxy, "well"), "well");
        assert_eq!(*heard.lock().unwrap(), ["unanswered", "cut", "late", "well"]);
        assert_eq!((proxy.exchanges(), proxy.faults()), (6, 5));
    }

    #[test]
    fn a_connection_has_one_exchange_after_the_other_until_it_is_cut() {
        let (address, _) = echo();
        let proxy = Proxy::start(&address, |_, _| None);
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let mut buffer = [0; 10];
        for word in ["one", "two"] {
            stream.write_all(word.as_bytes()).unwrap();
            assert_eq!(read(&stream, &mut buffer), Some(3));
        }
        assert_eq!(proxy.exchanges(), 2);
        proxy.cut();
        assert_eq!(read(&stream, &mut buffer), None);
    }
}
