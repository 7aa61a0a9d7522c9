//! The input `http_listen`.

mod access;
mod request;
mod respond;
mod server;
mod signature;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{
    ByteSize, Duration, HttpEndpoint, InputPlan, InputSettings, KeptNode, Kind, PlanContext, Problem, Problems, Report,
    Result, Secret,
};
use millstream_net::{Clients, ServerTls, Tls};
use millstream_store::{Files, LocalFiles};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::push::{self, Desk, Ingest, PushInput, PushNode, PushSettings, Receiver};
use access::Access;
pub use respond::column as request_column;
use respond::{Answers, Closing, RespondSettings};
use server::{Limits, Listening, Service};
use signature::SignatureSettings;

/// Takes rows that are sent to it by HTTP.
///
/// `POST` rows in the body of a request, compressed (`Content-Encoding: gzip` or `zstd`) or not:
///
/// ```sh
/// curl --data-binary @payments.ndjson http://127.0.0.1:8400/
/// ```
///
/// A request says by its `Content-Type` in which format its rows are; the columns are those of `schema` in each. Settings of `format`
/// that other formats have as well hold for these, too.
///
/// | `Content-Type` | the rows are |
/// |---|---|
/// | none, `text/plain`, `application/octet-stream`, `application/x-www-form-urlencoded` (which `curl` says by itself) | as `format` says |
/// | `text/csv` | CSV |
/// | `application/x-ndjson`, `application/jsonl` | NDJSON |
/// | `application/json`, `application/…+json` | a JSON array, or objects |
/// | `application/vnd.apache.arrow.stream`, `application/vnd.apache.arrow.file` | Arrow IPC, with columns of the same types, in batches of 64 MiB at most |
/// | `application/avro` | an Avro container file |
///
/// The answer `200` with `{"rows": 2, "first": 17}` means that the rows are durable: they have been written to a log
/// that outlives any crash, and the flow will count each of them exactly once. The position of the first one is 17.
///
/// Any other answer says in `error` why no row of the request was taken:
///
/// | status | why |
/// |---|---|
/// | `400` | the body or one of its rows can't be read (then `row` is the number of the first such row, counted from 0); or there are two keys or two lengths, or there is not one `Host` |
/// | `401` | it shows none of the `tokens` |
/// | `403` | its `signature` is missing or another one; or a web page has sent it: it has a header `Origin` |
/// | `404` | rows are taken at another `path` |
/// | `405` | it is no `POST` |
/// | `408` | it comes too slowly |
/// | `409` | another request with its key is being taken |
/// | `413` | the body is too large |
/// | `415` | the body is in another format, or compressed in another way |
/// | `422` | its key is that of another request, with a different body |
/// | `429` | its address was wrong five times in a minute about its token or signature |
/// | `431` | its header is longer than about 64 KiB |
/// | `501` | it is sent in another transfer coding than `chunked` |
/// | `503` | the flow is paused; or the log, the disk or the memory for bodies is full, or the disk fails; it may be sent again |
/// | `507` | the disk of the daemon is nearly full, so that it holds the inputs of all flows; it may be sent again |
/// | `500` | only this leaves it open whether the rows count: the disk has failed in such a way that they may be there after a crash |
///
/// When no answer comes, a client can't know whether its rows were taken. So it should give each request a header
/// `Idempotency-Key`, any text of up to 255 characters that is its own, and send the request again with the same one: what
/// was taken is not taken twice, and answered as the first time, for as long as `remember` and `max_keys` say.
///
/// With `respond` the answer waits for the flow, and has what an output of the type [`respond`](OUTPUTS.md#output-respond) gives for each of the rows:
/// `{"rows": 2, "first": 17, "answers": [{"score": 0.93}, null]}`, an element for each row, in their order. So a model is asked by the flow that it learns
/// in, with the same features. Each row gets its position as a column, `request`, by which its answer finds back to it, through
/// any nodes that pass that column on, and by which a label that comes later can name it:
///
/// ```toml
/// [input.requests]
/// type = "http_listen"
/// respond = { timeout = "2s" }
/// format = "json"
/// schema = { card = "utf8", amount = "float64" }
///
/// [output.answers]
/// type = "respond"
/// from = "scored"
/// to = "requests"
/// ```
///
/// Answers wait for no checkpoint. Of a row that the flow drops or refuses it is known at the next barrier (`[flow] epoch.interval`) that it gets none: then the answer is `null`. The rows count
/// however the request ends, and also if the client has gone. Sent again with its `Idempotency-Key`, a request gets its answer once more: it waits until it is there, also behind a crash. What
/// was answered before a crash, and no checkpoint has covered, the flow works out again, where time has a part in it maybe otherwise. Answers themselves are kept in memory only: whoever asks once
/// more for rows that a checkpoint has covered, after the flow was started again, gets 410.
///
/// | status | why there is no answer, though the rows are taken (`rows` and `first` say which) |
/// |---|---|
/// | `410` | it was given before, and is no longer kept: the last 16 MiB of answers of this run are, for those who ask once more |
/// | `503` | the flow has stopped or failed meanwhile; sent again with its key, the request gets its answer |
/// | `504` | the flow took longer than `timeout` |
///
/// Rows are taken while the flow is slow, until `max_log` of them wait. What was taken can't be asked for again: so the flow
/// has to say with `on_error` what becomes of rows that turn out to be of no use behind the door, such as one that an `sql`
/// node fails at; a flow that failed there would do so in every run. Because the log belongs to the flow's state, the input needs `millstream run --state
/// DIR`. If rows that were acknowledged are no longer in the log, because of damage or because somebody has removed it, the
/// flow does not start, and says which ones. With `--reset` it begins with the oldest row that its log still has.
///
/// `429`, `503` and `507` say in `Retry-After` when it may be sent again. While the flow does not run, since it was stopped, has failed or waits to be
/// started again, nobody listens. While `millstream daemon` is started again by systemd, clients wait.
///
/// Programs of other machines are listened to with `tls`, and only if they say who they are, by one of
///
/// * `tokens`: a request shows one, `Authorization: Bearer TOKEN`;
/// * `signature`: its body is signed, as GitHub, Stripe and others do with what they send;
/// * `client_ca` of `tls`: its connection has a certificate that one of these authorities vouches for.
///
/// ```toml
/// [input.pushes]
/// type = "http_listen"
/// address = "0.0.0.0:8400"
/// tls = { certificate = "/etc/flows/server.pem", key = "/etc/flows/server.key" }
/// signature = { secret = "${GITHUB_SECRET}" }
/// format = "json"
/// schema = { ref = "utf8", after = "utf8?" }
/// ```
///
/// Where several are said, all have to be right. An address of this machine itself (`127.0.0.1`, `[::1]`) needs none of them, so that whoever has a user on
/// the machine can send rows. Requests that a web page makes are refused.
///
/// For one connection more than `max_connections`, the one that has been idle for the longest time is closed; an address that is not this machine's own
/// has 64 at most. A header must have come after 10 seconds. Where it says both how long the body is and that it comes in chunks, the chunks
/// count and the connection is closed behind the answer, as RFC 9112 has it, so that no proxy that counts otherwise can be made
/// to send a request within a request.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HttpListenInput {
    /// Where to listen: an address of this machine and a port, by default `"127.0.0.1:8400"`. One that other machines reach, such as `"0.0.0.0:8400"`, takes
    /// `tls`, and `tokens`, `signature` or `client_ca`.
    #[serde(default = "address")]
    address: String,
    /// The path of the URL that rows are sent to.
    #[serde(default = "path")]
    path: String,
    /// Encryption. The files are read again within a minute when they change.
    tls: Option<ServerTls>,
    /// Tokens, of which a request has to show one, by names of your own: `{ shop = "${SHOP_TOKEN}", partner = { credential = "partner" } }`. They have
    /// 16 letters at least.
    #[serde(default)]
    tokens: BTreeMap<String, Secret>,
    /// How bodies are signed, as they come: compressed, if they are.
    signature: Option<SignatureSettings>,
    #[serde(flatten)]
    push: PushSettings,
    /// Answers with what the flow makes of the rows, instead of that they are taken.
    respond: Option<RespondSettings>,
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
    /// How many connections may be open at a time, by default 512.
    #[serde(default = "max_connections")]
    #[schemars(range(min = 1, max = 65536))]
    max_connections: u32,
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

fn min_rate() -> ByteSize {
    ByteSize(1000)
}

fn max_connections() -> u32 {
    512
}

/// What is offered to those who connect with TLS.
const PROTOCOLS: [&str; 1] = ["http/1.1"];

/// How long a body may be at most.
const LARGEST_BODY: usize = 256 << 20;

impl Kind for HttpListenInput {
    const NAME: &'static str = "http_listen";
    const ALSO_CALLED: &'static [&'static str] = &["http", "webhook", "server"];
    const EXAMPLE: &'static str = r#"
address = "127.0.0.1:8400"
path = "/payments"
format = "ndjson"
schema = { id = "utf8", amount = "float64?" }
"#;
    const NEEDS_STATE: bool = true;

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        push::verify(kept)
    }
}

impl HttpListenInput {
    fn check_address(&self) -> Result<SocketAddr, Problem> {
        let problem = |message: String| Problem::new(message).at(["address"]);
        let address = self.address.parse::<SocketAddr>().map_err(|_| {
            let message = format!("`{}` is no address with a port", self.address);
            problem(message).help("write it like `127.0.0.1:8400` or `[::1]:8400`")
        })?;
        let Some(why) = self.why_closed().filter(|_| !address.ip().is_loopback()) else { return Ok(address) };
        let message = format!("`{}` can be reached from other machines, {why}", self.address);
        let tls = "`tls = { certificate = \"server.pem\", key = \"server.key\" }`";
        let help = format!(
            "listen on `127.0.0.1` behind a proxy with TLS; or say {tls}, and by what senders are known: \
             `tokens = {{ shop = \"${{SHOP_TOKEN}}\" }}`, `signature`, or `client_ca` of `tls`"
        );
        Err(problem(message).help(help))
    }

    /// Why others than this machine can't be listened to.
    fn why_closed(&self) -> Option<&'static str> {
        let Some(tls) = &self.tls else { return Some("without encryption") };
        let knows = !self.tokens.is_empty() || self.signature.is_some() || tls.asks_clients();
        (!knows).then_some("and anybody there could send rows")
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
        Ok(())
    }
}

impl HttpListenInput {
    /// The input, with its log in a folder of `files`.
    fn input(&self, context: &PlanContext, files: Arc<dyn Files>) -> Result<PushInput, Problem> {
        self.check_limits()?;
        let address = self.check_address()?;
        let listening = Listening {
            door: format!("{}/{}", context.flow, context.node),
            address,
            tls: self.tls(context)?.map(Arc::new),
            max_connections: self.max_connections as usize,
        };
        let limits = Limits { max_body: self.max_body.0, timeout: self.timeout.0, min_rate: self.min_rate.0 };
        let access = Arc::new(Access::new(&self.tokens, self.signature.as_ref())?);
        let desk = self.respond.as_ref().map(|_| Desk::of(&context.flow, &context.node));
        let answers = self.respond.as_ref().zip(desk.clone()).map(|(respond, desk)| respond.answers(desk));
        let http = Http { listening, path: self.path.clone(), limits, access, answers };
        let node = PushNode { kind: Self::NAME, largest: self.max_body.0, receiver: Box::new(http) };
        let input = self.push.input(node, context, files)?;
        match self.respond.as_ref().zip(desk) {
            Some((respond, desk)) => input.answered(&respond.column, desk, respond.answers),
            None => Ok(input),
        }
    }

    fn tls(&self, context: &PlanContext) -> Result<Option<Tls>, Problem> {
        let load = |tls: &ServerTls| Tls::load(tls.files(context), Clients::NeedCertificates, &PROTOCOLS);
        self.tls.as_ref().map(load).transpose().map_err(|problem| problem.under("tls"))
    }
}

impl InputSettings for HttpListenInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let endpoint =
            HttpEndpoint { address: self.check_address()?, path: self.path.clone(), is_encrypted: self.tls.is_some() };
        let plan = self.input(context, Arc::new(LocalFiles))?.plan();
        Ok(InputPlan { endpoint: Some(endpoint), ..plan })
    }
}

/// Receives rows over HTTP.
struct Http {
    listening: Listening,
    path: String,
    limits: Limits,
    access: Arc<Access>,
    answers: Option<Answers>,
}

#[async_trait]
impl Receiver for Http {
    async fn start(&mut self, ingest: Ingest) -> Result<Box<dyn Send>> {
        let service = Service::new(self.path.clone(), self.limits, self.access.clone(), ingest, self.answers.clone());
        let server = server::start(&self.listening, service)?;
        Ok(Box::new((self.answers.clone().map(Closing), server)))
    }

    fn report(&self) -> Option<Report> {
        self.answers.as_ref().map(Answers::report)
    }
}
