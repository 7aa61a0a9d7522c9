//! Models that are served: single rows beside MLServer, many rows in binary over REST and gRPC, an alias that moves meanwhile, and a flow that is
//! asked.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use millstream_core::{Error, Result, ResultExt as _};
use serde_json::{Value, json};

use crate::ingest::{connect, read_answer};
use crate::measurement::{Goal, Measurement, quantile};
use crate::{beside_learning, flow, labels, place, python};

/// How long each way is measured.
const TIME: Duration = Duration::from_secs(5);

/// How many clients ask, each one request after the other.
const CLIENTS: u32 = 8;

/// How many columns synth28 has.
const FEATURES: usize = 28;

/// How many rows a request in binary has.
const ROWS: usize = 1024;

/// How many requests a second a flow is asked, and by how many clients.
const ASKED: (u32, u32) = (1000, 16);

/// How often a function is started.
const STARTS: u32 = 20;

/// How often the alias moves.
const MOVES: u32 = 10;

/// A program that serves, until it is dropped.
pub struct Server {
    pub child: Child,
    pub address: String,
}

/// Measures requests and rows a second.
pub fn run() -> Result<Vec<Measurement>> {
    let folder = place::empty_folder("serving")?;
    train(&folder)?;
    let server = Server::millstream(&folder)?;
    let (single, many) = (request(&server.address, &json_of(1)), request(&server.address, &binary()));
    let ours = in_a_second(&server.address, &single)?;
    let in_binary = in_a_second(&server.address, &many)? * ROWS as f64;
    let by_grpc = flow::runtime(2)?.block_on(grpc(&server.address))? * ROWS as f64;
    let failed = while_an_alias_moves(&folder, &server.address, &single)?;
    drop(server);
    let other = {
        let server = Server::mlserver(&folder)?;
        in_a_second(&server.address, &request(&server.address, &json_of(1)))?
    };
    let learning = beside_learning::measure(&folder, ours)?;
    let slowest = asked(&folder)?;
    let cold = cold_start(&folder)?;
    let labels = labels::measure(&folder)?;
    let name = |what: &str| format!("serving: {what}");
    let mut measured = vec![
        Measurement::new(
            name("single rows as JSON, 8 clients; beside MLServer"),
            "requests/s",
            ours,
            Goal::Times(10.0),
        )
        .beside(other),
        Measurement::new(name("1,024 rows in binary, REST"), "rows/s", in_binary, Goal::AtLeast(2e6)),
        Measurement::new(name("1,024 rows in binary, gRPC"), "rows/s", by_grpc, Goal::AtLeast(2e6)),
        Measurement::new(name("requests that fail while the champion changes"), "", failed as f64, Goal::AtMost(0.0)),
        Measurement::new(
            name("a flow that is asked 1,000 times a second, 99 of 100"),
            "ms",
            slowest * 1000.0,
            Goal::AtMost(10.0),
        ),
        Measurement::new(
            name("`millstream function`, from its start to the first answer"),
            "ms",
            cold * 1000.0,
            Goal::AtMost(100.0),
        ),
    ];
    measured.push(learning);
    measured.extend(labels);
    Ok(measured)
}

/// Trains the model `numbers` on synth28, in several versions.
fn train(folder: &Path) -> Result<()> {
    let features: Vec<_> = (0..FEATURES).map(|column| format!("x{column}")).collect();
    let sets = [
        format!("input.rows.path={}", place::data("synth28.parquet").canonicalize()?.display()),
        format!("processor.learned.features={}", json!(features)),
        "processor.learned.publish={ rows = 10000 }".to_owned(),
    ];
    let mut command = place::millstream_run(folder, &place::flow("numbers.toml"), &sets)?;
    let output = command.stdin(Stdio::null()).output().doing(|| "training the model")?;
    if output.status.success() { Ok(()) } else { Err(Error::new(String::from_utf8_lossy(&output.stderr).into_owned())) }
}

impl Server {
    fn millstream(folder: &Path) -> Result<Self> {
        Self::start(folder, &["numbers", "--without-token"])
    }

    /// `millstream serve`, on a port of its own.
    pub fn start(folder: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = millstream(folder)?;
        command.args(["serve", "--address", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().doing(|| "starting the program")?;
        let log = child.stderr.take().ok_or_else(|| Error::new("it has no standard error"))?;
        let mut lines = BufReader::new(log).lines().map_while(std::result::Result::ok);
        let line = lines.find(|line| line.contains("serving `")).ok_or_else(|| Error::new("the program has ended"))?;
        let address = line.rsplit('`').nth(1).unwrap_or_default().to_owned();
        // What else it says is of no interest, and must not keep it waiting.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address })
    }

    /// MLServer with scikit-learn's logistic regression over as many numbers, by the same name.
    fn mlserver(folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let port = address.rsplit(':').next().unwrap_or_default();
        let child = python::mlserver(&place::data("synth28.parquet"), &folder.join("mlserver"), port).spawn();
        let server = Self { child: child.doing(|| "starting MLServer")?, address };
        let (begin, request) = (Instant::now(), request(&server.address, &json_of(1)));
        while let Err(error) = TcpStream::connect(&server.address).map_err(Error::from).and_then(|stream| {
            let mut stream = BufReader::new(stream);
            stream.get_mut().write_all(&request)?;
            read_answer(&mut stream)
        }) {
            if begin.elapsed() > Duration::from_secs(120) {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended, unless something has failed on the way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, in a folder.
pub fn millstream(folder: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("millstream"));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

/// Free now, and so most likely a moment later.
pub fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// What a request says besides the first line and the host: more lines of its header, and its body.
struct Said {
    lines: String,
    body: Vec<u8>,
}

fn values(rows: usize) -> Vec<f64> {
    (0..rows * FEATURES).map(|at| (at * 7 % 13) as f64 / 6.0 - 1.0).collect()
}

/// Rows as JSON.
fn json_of(rows: usize) -> Said {
    let matrix = json!({ "name": "predict", "shape": [rows, FEATURES], "datatype": "FP64", "data": values(rows) });
    Said {
        lines: "Content-Type: application/json\r\n".to_owned(),
        body: json!({ "inputs": [matrix] }).to_string().into_bytes(),
    }
}

fn raw() -> Vec<u8> {
    values(ROWS).iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Many rows in binary, in and out.
fn binary() -> Said {
    let raw = raw();
    let matrix = json!({ "name": "predict", "shape": [ROWS, FEATURES], "datatype": "FP64",
                         "parameters": { "binary_data_size": raw.len() } });
    let head: Value = json!({ "inputs": [matrix], "parameters": { "binary_data_output": true } });
    let head = head.to_string();
    let lines = format!("Inference-Header-Content-Length: {}\r\n", head.len());
    Said { lines, body: [head.as_bytes(), &raw].concat() }
}

/// A request for the prediction of a row.
pub fn single(address: &str, model: &str) -> Vec<u8> {
    request_of(address, model, &json_of(1))
}

fn request(address: &str, said: &Said) -> Vec<u8> {
    request_of(address, "numbers", said)
}

fn request_of(address: &str, model: &str, Said { lines, body }: &Said) -> Vec<u8> {
    let head = format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n{lines}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// How many requests a second are answered.
fn in_a_second(address: &str, request: &[u8]) -> Result<f64> {
    let start = Instant::now();
    let requests: u64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| ask(address, request, start))).collect();
        let ended =
            clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err(Error::new("a client died"))));
        ended.sum::<Result<u64>>()
    })?;
    Ok(requests as f64 / start.elapsed().as_secs_f64())
}

/// Asks one request after the other over one connection, and counts them.
fn ask(address: &str, request: &[u8], start: Instant) -> Result<u64> {
    let mut stream = BufReader::new(connect(address)?);
    stream.get_ref().set_nodelay(true)?;
    let mut requests = 0;
    while start.elapsed() < TIME {
        stream.get_mut().write_all(request)?;
        read_answer(&mut stream)?;
        requests += 1;
    }
    Ok(requests)
}

/// How many requests fail while another version becomes the champion, again and again.
fn while_an_alias_moves(folder: &Path, address: &str, request: &[u8]) -> Result<u64> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let failures = || {
            let mut failures = 0;
            while !is_over.load(Ordering::Relaxed) {
                failures += u64::from(ask_until(address, request, &is_over).is_err());
            }
            failures
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(failures)).collect();
        let moved = (0..MOVES).try_for_each(|turn| promote(folder, turn % 2 + 1));
        is_over.store(true, Ordering::Relaxed);
        let failed = clients.into_iter().map(|client| client.join().map_err(|_| Error::new("a client died")));
        let failed = failed.sum::<Result<u64>>();
        moved.and(failed)
    })
}

fn ask_until(address: &str, request: &[u8], is_over: &AtomicBool) -> Result<()> {
    let mut stream = BufReader::new(connect(address)?);
    while !is_over.load(Ordering::Relaxed) {
        stream.get_mut().write_all(request)?;
        read_answer(&mut stream)?;
    }
    Ok(())
}

/// How long a model takes as a function from its start to the first answer, on average, in seconds.
fn cold_start(folder: &Path) -> Result<f64> {
    let took: Result<Duration> = (0..STARTS).map(|_| start_and_ask(folder)).sum();
    Ok(took?.as_secs_f64() / f64::from(STARTS))
}

fn start_and_ask(folder: &Path) -> Result<Duration> {
    let (address, start) = (free_address()?, Instant::now());
    let mut command = millstream(folder)?;
    let child = command.args(["function", "numbers", "--address", &address]).stderr(Stdio::null()).spawn();
    let server = Server { child: child.doing(|| "starting the program")?, address };
    let request = request(&server.address, &json_of(1));
    let mut stream = BufReader::new(connect(&server.address)?);
    stream.get_mut().write_all(&request)?;
    read_answer(&mut stream)?;
    Ok(start.elapsed())
}

/// Lets a version be the champion, and waits until those who serve have looked.
fn promote(folder: &Path, version: u32) -> Result<()> {
    let status = millstream(folder)?.args(["models", "promote", "numbers", &version.to_string()]).status()?;
    std::thread::sleep(Duration::from_millis(1200));
    if status.success() { Ok(()) } else { Err(Error::new(format!("promoting a version ended with {status}"))) }
}

/// How many requests of many rows a second are answered over gRPC.
async fn grpc(address: &str) -> Result<f64> {
    let (start, message) = (Instant::now(), Bytes::from(message()));
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::spawn(ask_by_grpc(address.to_owned(), message.clone(), start))).collect();
    let mut requests = 0;
    for client in clients {
        requests += client.await.doing(|| "asking")??;
    }
    Ok(requests as f64 / start.elapsed().as_secs_f64())
}

async fn ask_by_grpc(address: String, message: Bytes, start: Instant) -> Result<u64> {
    let stream = tokio::net::TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.doing(|| "connecting over HTTP/2")?;
    tokio::spawn(connection);
    let mut requests = 0;
    while start.elapsed() < TIME {
        let request = Request::post(format!("http://{address}/inference.GRPCInferenceService/ModelInfer"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(message.clone()))
            .doing(|| "making a request")?;
        let answer = sender.send_request(request).await.doing(|| "asking over gRPC")?;
        let head = answer.headers().get("grpc-status").cloned();
        let body = answer.into_body().collect().await.doing(|| "reading an answer of gRPC")?;
        let status = head.or_else(|| body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned()));
        if status.is_none_or(|status| status != "0") {
            return Err(Error::new("a request over gRPC was refused"));
        }
        requests += 1;
    }
    Ok(requests)
}

/// A `ModelInferRequest` of many rows, with the five bytes that stand before a message.
fn message() -> Vec<u8> {
    let shape = [varint(ROWS as u64), varint(FEATURES as u64)].concat();
    let input = [field(1, b"predict"), field(2, b"FP64"), field(3, &shape)].concat();
    let message = [field(1, b"numbers"), field(5, &input), field(7, &raw())].concat();
    [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat()
}

/// A field of bytes, as protobuf writes it.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// In how many seconds 99 of 100 requests are answered by a flow, from when they were due.
fn asked(folder: &Path) -> Result<f64> {
    let address = free_address()?;
    let sets = [format!("input.rows.address={address}"), format!("flow.registry={}", folder.join("models").display())];
    let mut command = place::millstream_run(folder, &place::flow("asked.toml"), &sets)?;
    command.args(["--state", "state"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server { child: command.spawn().doing(|| "starting the program")?, address };
    drop(connect(&server.address)?);
    let (rate, clients) = ASKED;
    on_time(&server.address, clients, Duration::from_secs(1) / rate, |turn| {
        let columns = values(1).into_iter().enumerate().map(|(column, value)| (format!("x{column}"), json!(value)));
        let row: serde_json::Map<_, _> = columns.chain([("card".to_owned(), json!(turn % 100))]).collect();
        let body = Value::Object(row).to_string();
        let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", server.address, body.len());
        (head + &body).into_bytes()
    })
}

/// In how many seconds 99 of 100 requests are answered, from when they were due: one behind each `pause`, by turns of so many clients.
pub fn on_time(address: &str, clients: u32, pause: Duration, request: impl Fn(u32) -> Vec<u8> + Sync) -> Result<f64> {
    let start = Instant::now();
    let times = std::thread::scope(|scope| {
        let ask = |first| ask_on_time(address, (first..).step_by(clients as usize), pause, &request, start);
        let clients: Vec<_> = (0..clients).map(|client| scope.spawn(move || ask(client))).collect();
        let ended =
            clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err(Error::new("a client died"))));
        ended.collect::<Result<Vec<Vec<f64>>>>()
    })?;
    Ok(quantile(times.into_iter().flatten(), 0.99))
}

/// Asks at its turns, and says how long answers took from when they were due.
fn ask_on_time(
    address: &str,
    turns: impl Iterator<Item = u32>,
    pause: Duration,
    request: impl Fn(u32) -> Vec<u8>,
    start: Instant,
) -> Result<Vec<f64>> {
    let mut stream = BufReader::new(connect(address)?);
    stream.get_ref().set_nodelay(true)?;
    let mut times = Vec::new();
    for (turn, due) in turns.map(|turn| (turn, pause * turn)).take_while(|(_, due)| *due <= TIME) {
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        stream.get_mut().write_all(&request(turn))?;
        read_answer(&mut stream)?;
        times.push((start.elapsed() - due).as_secs_f64());
    }
    Ok(times)
}
