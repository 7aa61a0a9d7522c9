//! Clients that send rows, and ask the administration, for as long as they are let.

use std::fmt;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn write(stream: &mut impl Write, method: &str, path: &str, lines: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    // At once, as clients do.
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{lines}\r\n{body}");
    stream.write_all(request.as_bytes())
}

/// The next answer on a connection. None if the other side has closed it before it has begun with one.
fn read(stream: &mut impl std::io::BufRead) -> std::io::Result<Option<Answer>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_line(&mut head) {
            Ok(0) if head.is_empty() => return Ok(None),
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Err(_) if head.is_empty() => return Ok(None),
            read => _ = read?,
        }
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: String::new() };
    let mut body = vec![0; answer.header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    answer.body = String::from_utf8(body).unwrap();
    Ok(Some(answer))
}

/// A request on a connection of its own, and its answer.
fn try_exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    lines: &str,
    body: &str,
) -> std::io::Result<Answer> {
    write(&mut stream, method, path, &format!("Connection: close\r\n{lines}"), body)?;
    read(&mut BufReader::new(stream))?.ok_or(std::io::ErrorKind::ConnectionReset.into())
}

/// The same, which has to be answered.
pub fn exchange(stream: impl Read + Write, method: &str, path: &str, lines: &str, body: &str) -> Answer {
    try_exchange(stream, method, path, lines, body).unwrap()
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// How many rows there are; each has a number of its own.
    rows: AtomicUsize,
    /// How many requests were answered of each client.
    answered: [AtomicUsize; 4],
    /// How many connections the other side has closed while they were idle.
    closed: AtomicUsize,
    refused: Mutex<Vec<String>>,
}

/// What has come of it.
#[derive(Debug)]
pub struct Done {
    pub rows: usize,
    asked: usize,
    closed: usize,
    /// Requests that were not answered as they should be, and why.
    pub refused: Vec<String>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, asked, closed, refused } = self;
        let refused = refused.len();
        write!(
            f,
            "{rows} rows sent and {asked} questions asked, {refused} refused; {closed} connections were closed while idle"
        )
    }
}

impl Load {
    /// Two clients that connect for each row, one that keeps its connection, and one that asks the administration.
    pub fn start(port: u16, socket: PathBuf) -> Self {
        let shared = Arc::new(Shared::default());
        let connect = move || TcpStream::connect(("127.0.0.1", port));
        let mut clients = Vec::new();
        for number in 0..2 {
            let shared = shared.clone();
            clients.push(std::thread::spawn(move || {
                shared.repeat(number, || {
                    let row = shared.rows.fetch_add(1, Ordering::Relaxed);
                    try_exchange(patient(connect()?)?, "POST", "/", "", &format!("{{\"id\":{row}}}\n"))
                });
            }));
        }
        let keeps = shared.clone();
        clients.push(std::thread::spawn(move || {
            let mut kept = None;
            keeps.repeat(2, || keeps.post_on(&mut kept, connect));
        }));
        let asks = shared.clone();
        clients.push(std::thread::spawn(move || {
            asks.repeat(3, || {
                let stream = UnixStream::connect(&socket)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                try_exchange(stream, "GET", "/api/v1/flows", "", "")
            });
        }));
        Self { shared, clients }
    }

    /// Waits until every client has been answered again.
    pub fn wait_for_more(&self) {
        let answered = || self.shared.answered.each_ref().map(|count| count.load(Ordering::Relaxed));
        let (before, begin) = (answered(), Instant::now());
        while answered().iter().zip(before).any(|(now, before)| *now < before + 3) {
            let refused = self.shared.refused.lock().unwrap();
            assert!(
                begin.elapsed() < PATIENCE && refused.is_empty(),
                "{:?} behind {before:?}: {refused:#?}",
                answered()
            );
            drop(refused);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn stop(self) -> Done {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        let refused = self.shared.refused.lock().unwrap().clone();
        Done {
            rows: self.shared.rows.load(Ordering::Relaxed),
            asked: self.shared.answered[3].load(Ordering::Relaxed),
            closed: self.shared.closed.load(Ordering::Relaxed),
            refused,
        }
    }
}

fn patient(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Shared {
    /// Sends requests until it is to stop.
    fn repeat(&self, client: usize, mut request: impl FnMut() -> std::io::Result<Answer>) {
        while !self.stop.load(Ordering::Relaxed) {
            match request() {
                Ok(answer) if answer.status == 200 => _ = self.answered[client].fetch_add(1, Ordering::Relaxed),
                other => self.refused.lock().unwrap().push(format!("client {client}: {other:?}")),
            }
        }
    }

    /// Sends a row on a connection that is kept. One that the other side has closed while it was idle is replaced, and the request, which has a key,
    /// sent again: as RFC 9112 has it, since nobody can know that a request is on its way.
    fn post_on(
        &self,
        kept: &mut Option<BufReader<TcpStream>>,
        connect: impl Fn() -> std::io::Result<TcpStream>,
    ) -> std::io::Result<Answer> {
        let row = self.rows.fetch_add(1, Ordering::Relaxed);
        let (key, body) = (format!("Idempotency-Key: {row}\r\n"), format!("{{\"id\":{row}}}\n"));
        let is_used = kept.is_some();
        let send = |stream: &mut BufReader<TcpStream>| {
            let sent = write(stream.get_mut(), "POST", "/", &key, &body);
            let answer = read(stream);
            if sent.is_err() && !matches!(answer, Ok(Some(_))) { Ok(None) } else { answer }
        };
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => BufReader::new(patient(connect()?)?),
        };
        let mut answer = send(&mut stream)?;
        if answer.is_none() && is_used {
            self.closed.fetch_add(1, Ordering::Relaxed);
            stream = BufReader::new(patient(connect()?)?);
            answer = send(&mut stream)?;
        }
        let answer = answer.ok_or(std::io::ErrorKind::ConnectionReset)?;
        if answer.header("connection") != Some("close") {
            *kept = Some(stream);
        }
        Ok(answer)
    }
}
