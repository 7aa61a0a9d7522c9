//! The input `http_listen`.

mod connections;
mod keys;
mod memory;
mod request;
mod server;

#[cfg(test)]
mod tests;

use std::io::Cursor;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use millstream_core::{
    ByteSize, Collector, Columns, Duration, Error, Home, Input, InputPlan, InputSettings, Kind, Parts, PlanContext,
    Positions, Problem, Problems, Progress, Result, ResultExt, State,
};
use millstream_formats::{BatchReader, Decoder, Format, ReadStreams, Rows};
use millstream_store::{Access, Files, LocalFiles, Log, LogOptions, LogReader, Record};
use schemars::JsonSchema;
use serde::Deserialize;

use keys::{Answered, Keys, Remember, now};
use request::{fingerprint, small, unpack_record};
use server::{Limits, Server, Service};

/// Takes rows that are sent to it by HTTP.
///
/// `POST` rows in the body of a request, compressed with gzip (`Content-Encoding: gzip`) or not:
///
/// ```sh
/// curl --data-binary @payments.ndjson http://127.0.0.1:8400/
/// ```
///
/// The answer `200` with `{"rows": 2, "first": 17}` means that the rows are durable: they have been written to a log
/// that outlives any crash, and the flow will count each of them exactly once. The position of the first one is 17.
///
/// Any other answer says in `error` why no row of the request was taken:
///
/// | status | why |
/// |---|---|
/// | `400` | the body or one of its rows can't be read (then `row` is the number of the first such row, counted from 0); or there are two keys or two lengths |
/// | `403` | a web page has sent it: it has a header `Origin` |
/// | `404` | rows are taken at another `path` |
/// | `405` | it is no `POST` |
/// | `408` | it comes too slowly |
/// | `409` | another request with its key is being taken |
/// | `413` | the body is too large |
/// | `415` | the body is compressed in another way than with gzip |
/// | `422` | its key is that of another request, with a different body |
/// | `503` | the log, the disk or the memory for bodies is full, or the disk fails; it may be sent again |
/// | `500` | only this leaves it open whether the rows count: the disk has failed in such a way that they may be there after a crash |
///
/// When no answer comes, a client can't know whether its rows were taken. So it should give each request a header
/// `Idempotency-Key`, any text of up to 255 characters that is its own, and send the request again with the same one: what
/// was taken is not taken twice, and answered as the first time, for as long as `remember` and `max_keys` say.
///
/// Rows are taken while the flow is slow, until `max_log` of them wait. What was taken can't be asked for again: so the flow
/// has to say with `on_error` what becomes of rows that turn out to be of no use behind the door, such as one that an `sql`
/// node fails at; a flow that failed there would do so in every run. Because the log belongs to the flow's state, the input needs `millstream run --state
/// DIR`. If rows that were acknowledged are no longer in the log, because of damage or because somebody has removed it, the
/// flow does not start, and says which ones. With `--reset` it begins with the oldest row that its log still has.
///
/// There is no encryption and no authentication, so that only programs on this machine can be listened to: for others, put
/// a proxy with TLS in front. Requests that a web page makes are refused.
/// At most 512 connections are open at a time: for one more, the one that has been idle for the longest time is closed. A
/// header must have come after 10 seconds. Where it says both how long the body is and that it comes in chunks, the chunks
/// count and the connection is closed behind the answer, as RFC 9112 has it, so that no proxy that counts otherwise can be made
/// to send a request within a request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpListenInput {
    /// Where to listen: an address of this machine's own, `127.0.0.1` or `[::1]`, and a port.
    #[serde(default = "address")]
    address: String,
    /// The path of the URL that rows are sent to.
    #[serde(default = "path")]
    path: String,
    /// How the rows are written: `"csv"`, or `{ type = "csv", delimiter = ";" }` with settings of the format. A header is expected in
    /// every body.
    format: Format<ReadStreams>,
    /// The columns and their types: `{ id = "utf8", amount = "float64?" }`. A value that is missing, null or of
    /// another type fails its row; with a `?` behind its type it may be missing or null.
    schema: Columns,
    /// How long a body may be, by default `"16MiB"`. That goes for it decompressed, too, and it may not be more than 100 times
    /// as long then.
    #[serde(default = "max_body")]
    max_body: ByteSize,
    /// How long a body may take to come, by default `"30s"`.
    #[serde(default = "timeout")]
    timeout: Duration,
    /// How many bytes of a body have to come in a second, on average since it began, once it has taken 5 seconds. By default
    /// `"1kB"`.
    #[serde(default = "min_rate")]
    min_rate: ByteSize,
    /// How many bytes of rows may wait until a checkpoint covers them, by default `"1GiB"`. At least four times
    /// `max_body`. As long as half of it is free, the rows behind the oldest checkpoint that is kept stay, so that `millstream
    /// replay` can go through them again.
    #[serde(default = "max_log")]
    max_log: ByteSize,
    /// For how long the `Idempotency-Key` of a request is remembered, by default `"1h"`: a client must not send it again later.
    #[serde(default = "remember")]
    remember: Duration,
    /// How much memory these keys may take, by default `"64MiB"`, which is enough for 250,000 keys of 36 characters. If there
    /// are more, the oldest ones are forgotten before `remember` is over. They are part of every checkpoint.
    #[serde(default = "max_keys")]
    max_keys: ByteSize,
}

fn address() -> String {
    "127.0.0.1:8400".to_owned()
}

fn path() -> String {
    "/".to_owned()
}

fn max_body() -> ByteSize {
    ByteSize(16 << 20)
}

fn timeout() -> Duration {
    Duration(std::time::Duration::from_secs(30))
}

fn max_log() -> ByteSize {
    ByteSize(1 << 30)
}

fn min_rate() -> ByteSize {
    ByteSize(1000)
}

fn remember() -> Duration {
    Duration(std::time::Duration::from_secs(3600))
}

fn max_keys() -> ByteSize {
    ByteSize(64 << 20)
}

/// How large a file of the log becomes at most; only whole ones can be removed.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How long a body may be at most.
const LARGEST_BODY: usize = 256 << 20;

/// The piece of state that holds the keys of the requests before a position.
const KEYS: &str = "answered";

/// The file beside the log that says that a checkpoint has covered rows of it, so that its beginning may be gone.
const COVERED: &str = "covered";

/// The one partition.
const PARTITION: &str = "";

impl Kind for HttpListenInput {
    const NAME: &'static str = "http_listen";
    const ALSO_CALLED: &'static [&'static str] = &["http", "webhook", "server", "kafka"];
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:8400"
path = "/payments"
format = "ndjson"
schema = { id = "utf8", amount = "float64?" }
"#;
    const NEEDS_STATE: bool = true;
}

impl HttpListenInput {
    fn check_address(&self) -> Result<SocketAddr, Problem> {
        let problem = |message: String| Problem::new(message).at(["address"]);
        let address = self.address.parse::<SocketAddr>().map_err(|_| {
            let message = format!("`{}` is no address with a port", self.address);
            problem(message).help("write it like `127.0.0.1:8400` or `[::1]:8400`")
        })?;
        match address.ip().is_loopback() {
            true => Ok(address),
            false => {
                let message = format!("`{}` can be reached from other machines, without encryption", self.address);
                Err(problem(message).help("listen on `127.0.0.1`, and put a proxy with TLS in front"))
            }
        }
    }

    fn check_limits(&self) -> Result<(), Problem> {
        if !self.path.starts_with('/') {
            let problem = Problem::new(format!("`{}` does not begin with `/`", self.path));
            return Err(problem.at(["path"]));
        }
        if !(1..=LARGEST_BODY).contains(&self.max_body.0) {
            return Err(Problem::new("a body can be 1 byte to 256 MiB long").at(["max_body"]));
        }
        if self.min_rate.0 == 0 {
            return Err(Problem::new("a body has to come with 1 byte a second at least").at(["min_rate"]));
        }
        if self.max_log.0 / 4 < self.max_body.0 {
            let problem = Problem::new("the log must have room for four bodies of the largest size at least");
            return Err(problem.at(["max_log"]).help("lower `max_body`, or raise `max_log`"));
        }
        Ok(())
    }
}

impl HttpListenInput {
    /// The input, with its log in a folder of `files`.
    fn input(&self, context: &PlanContext, files: Arc<dyn Files>) -> Result<HttpListen, Problem> {
        self.check_limits()?;
        Ok(HttpListen {
            source: context.node.as_str().into(),
            address: self.check_address()?,
            path: self.path.clone(),
            decoder: self.format.decoder(&self.schema, context)?,
            limits: Limits { max_body: self.max_body.0, timeout: self.timeout.0, min_rate: self.min_rate.0 },
            max_log: self.max_log.0 as u64,
            files,
            position: 0,
            is_resumed: false,
            keys: Arc::new(Mutex::new(Keys::new(Remember { time: self.remember.0, bytes: self.max_keys.0 }))),
            decoding: None,
            running: None,
        })
    }
}

impl InputSettings for HttpListenInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let input = self.input(context, Arc::new(LocalFiles))?;
        let schema = input.decoder.schema();
        let build = Box::new(move || Ok(Box::new(input) as Box<dyn Input>));
        Ok(InputPlan {
            reads: None,
            continues: false,
            schema,
            finite: false,
            replayable: true,
            acknowledges: true,
            interleaved: false,
            rows: None,
            build,
        })
    }
}

struct HttpListen {
    source: Arc<str>,
    address: SocketAddr,
    path: String,
    decoder: Decoder,
    limits: Limits,
    max_log: u64,
    /// Where the log is.
    files: Arc<dyn Files>,
    /// The first row to read.
    position: u64,
    /// Whether a run before has taken rows.
    is_resumed: bool,
    keys: Arc<Mutex<Keys>>,
    decoding: Option<Decoding>,
    running: Option<Running>,
}

/// What there is between `open` and the end.
struct Running {
    reader: LogReader,
    /// Unless rows of a run before are gone through again.
    live: Option<Live>,
}

/// What takes new rows. The server goes first, and with it the other users of the log.
struct Live {
    _server: Server,
    log: Arc<Log>,
    home: PathBuf,
    /// Whether it is written down that a checkpoint has covered rows.
    is_covered: bool,
}

/// A record whose rows are being read.
struct Decoding {
    first: u64,
    /// How many are left.
    rows: usize,
    reader: Box<dyn BatchReader>,
}

#[async_trait]
impl Input for HttpListen {
    async fn open(&mut self, home: &Home) -> Result<()> {
        if let Home::Replay(folder) = home {
            let folder = folder.as_deref().ok_or_else(|| needs_a_folder(home))?;
            let reader = LogReader::of_folder(self.files.clone(), &folder.join("log"), self.position)?;
            self.running = Some(Running { reader, live: None });
            return Ok(());
        }
        let home = home.folder().ok_or_else(|| needs_a_folder(home))?;
        let folder = home.join("log");
        if self.is_resumed && !self.files.exists(&folder).doing(|| format!("looking for `{}`", folder.display()))? {
            return Err(is_missing(&folder, self.position));
        }
        let segment_bytes = SEGMENT_BYTES.min(self.max_log / 4);
        let options = LogOptions { segment_bytes, max_bytes: self.max_log };
        let log = Arc::new(Log::open(self.files.clone(), &folder, options)?);
        let covered = home.join(COVERED);
        let is_covered = self.files.exists(&covered).doing(|| format!("looking for `{}`", covered.display()))?;
        if !self.is_resumed && is_covered {
            // It begins from scratch, with what is left.
            self.position = log.oldest();
        }
        self.remember_all(log.read(self.position)?)?;
        let reader = log.read(self.position)?;
        let (path, read, keys) = (self.path.clone(), self.decoder.clone(), self.keys.clone());
        let service = Service::new(path, read, self.limits, keys, log.clone());
        let server = Server::start(self.address, service)?;
        let live = Live { _server: server, log, home: home.to_owned(), is_covered };
        self.running = Some(Running { reader, live: Some(live) });
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        let mut rows = Rows::default();
        // Waits only while it has no rows, so that none is lost if it is dropped there.
        while rows.len() < self.decoder.batch_rows {
            if self.decode(&mut rows)? {
                continue;
            }
            let running = self.running.as_mut().ok_or_else(|| Error::new("the input is not open"))?;
            let record = match rows.is_empty() && running.live.is_some() {
                true => running.reader.next().await?,
                false => match running.reader.try_next()? {
                    Some(record) => record,
                    None => break,
                },
            };
            self.begin(&record)?;
        }
        let progress = if rows.is_empty() { Progress::End } else { Progress::More };
        rows.join_neighbours()?;
        rows.send(&self.source, &PARTITION.into(), out);
        Ok(progress)
    }

    fn snapshot(&mut self, positions: &Positions) -> Result<Parts> {
        let position = positions.get(PARTITION).copied().unwrap_or(self.position);
        let mut parts = Parts::default();
        parts.put_later(KEYS, server::keys(&self.keys).before(position));
        Ok(parts)
    }

    fn restore(&mut self, positions: &Positions, state: &State) -> Result<()> {
        self.is_resumed = true;
        self.position = positions.get(PARTITION).copied().unwrap_or(0);
        server::keys(&self.keys).restore(state.get(KEYS)?);
        Ok(())
    }

    async fn checkpoint_completed(&mut self, newest: &Positions, oldest: &Positions) -> Result<()> {
        let Some(live) = self.running.as_mut().and_then(|running| running.live.as_mut()) else { return Ok(()) };
        live.note_covered(&*self.files)?;
        let log = &live.log;
        // As long as there is room, rows can be gone through again from every checkpoint that is kept.
        let covered = if log.bytes() > self.max_log / 2 { newest } else { oldest };
        covered.get(PARTITION).map_or(Ok(()), |position| log.trim(*position))
    }
}

impl Live {
    /// Writes down that a checkpoint has covered rows, before any of them is trimmed away.
    fn note_covered(&mut self, files: &dyn Files) -> Result<()> {
        if self.is_covered {
            return Ok(());
        }
        let path = self.home.join(COVERED);
        files
            .create_new(&path, Access::Private)
            .and_then(|_| files.sync_folder(&self.home))
            .doing(|| format!("creating `{}`", path.display()))?;
        self.is_covered = true;
        Ok(())
    }
}

impl HttpListen {
    /// Learns the keys of the records that are not covered by the snapshot.
    fn remember_all(&self, mut reader: LogReader) -> Result<()> {
        while let Some(record) = reader.try_next()? {
            self.remember(&record)?;
        }
        Ok(())
    }

    /// Remembers the key of a record, and returns its rows as they came. A snapshot that covers a record must know its key,
    /// so that it is not left to the thread that answers.
    fn remember<'a>(&self, record: &'a Record) -> Result<&'a [u8]> {
        let number = record.number;
        let parts = unpack_record(&record.payload);
        let (key, body) =
            parts.ok_or_else(|| Error::new(format!("record {number} of the log is none of this input")))?;
        if let Some(key) = key {
            let answered = Answered { first: number, rows: record.rows, body: fingerprint(&record.payload) };
            server::keys(&self.keys).answered(&key, answered, now());
        }
        Ok(body)
    }

    /// Begins to read the rows of a record.
    fn begin(&mut self, record: &Record) -> Result<()> {
        let source = Cursor::new(self.remember(record)?.to_vec());
        let decoder = small(&self.decoder, record.rows as usize);
        let reader = decoder.read(source).doing(|| format!("reading the request at {}", record.number))?;
        self.decoding = Some(Decoding { first: record.number, rows: record.rows as usize, reader });
        Ok(())
    }

    /// Adds rows of the record that is being read. Returns false if there are no more.
    fn decode(&mut self, rows: &mut Rows) -> Result<bool> {
        let Some(decoding) = &mut self.decoding else { return Ok(false) };
        let mut read = Rows::default();
        if !decoding.reader.next(&mut read).doing(|| format!("reading the request at {}", decoding.first))? {
            let left = std::mem::take(&mut self.decoding).map_or(0, |decoding| decoding.rows);
            return if left == 0 { Ok(false) } else { Err(miscounted()) };
        }
        decoding.rows = decoding.rows.checked_sub(read.len()).ok_or_else(miscounted)?;
        // The flow may go on in the middle of a request.
        read.drop_before(self.position.saturating_sub(decoding.first));
        rows.append(read, decoding.first);
        Ok(true)
    }
}

/// Why it can't run here.
fn needs_a_folder(home: &Home) -> Error {
    let why = "`http_listen` acknowledges rows only when they are durable";
    Error::new(match *home == Home::Nowhere {
        true => format!("{why}, and so needs `millstream run --state DIR`"),
        false => format!("{why}, and so needs a state on this machine: `--state DIR` with a folder, not a URL"),
    })
}

/// Why it can't be resumed, when the flow has all rows before `position`. Only the log says how many came behind them.
fn is_missing(log: &Path, position: u64) -> Error {
    let taken = match position {
        0 => "no row is in the flow yet".to_owned(),
        position => format!("rows 0 to {} are in the flow, and are not lost", position - 1),
    };
    Error::new(format!(
        "the log `{}` is missing, and with it rows that were acknowledged from {position} on, if there were any ({taken}): put it \
         back from a copy; `--reset` of the node resumes without these rows, which are lost then",
        log.display()
    ))
}

fn miscounted() -> Error {
    Error::new("a request has other rows than when it was taken: `format` was changed meanwhile")
}
