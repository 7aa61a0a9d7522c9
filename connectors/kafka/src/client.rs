//! How brokers are reached: the settings that inputs and outputs share, and clients made by them.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::{Error, ErrorClass, Kind, PlanContext, Problem, Result, Secret, Step, known_names};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::sasl::Sasl;
use crate::tokens::{Admission, Tokens};

/// How long to wait for the first broker that answers, and for anything that is asked of brokers before the flow begins.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before something is asked again.
pub const PAUSE: Duration = Duration::from_millis(200);

/// The type of connection of nodes that take [`ConnectionSettings`].
pub const CONNECTION: Option<&str> = Some(ConnectionSettings::NAME);

/// How the brokers of a Kafka are reached.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ConnectionSettings {
    /// The brokers that are asked first, of which one that answers is enough: `"kafka1:9092,kafka2:9092"`.
    brokers: String,
    /// Encrypts the connections. `{}` trusts the authorities that the system trusts. It needs a build with the cargo feature `kafka-tls`, and
    /// so do the mechanisms of `sasl` but for `PLAIN`.
    tls: Option<Tls>,
    /// Says who connects.
    sasl: Option<Sasl>,
    /// Other settings of the client, librdkafka, by their names there, such as `{ "client.rack" = "a" }`. They are those of
    /// connections and of how much is fetched or gathered; what a flow promises depends on none of them.
    #[serde(default)]
    client: BTreeMap<String, ClientValue>,
}

/// Encryption.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// A file with the certificates of the authorities that are trusted, in PEM.
    ca: Option<String>,
    /// A file with the certificate by which the brokers know who connects, in PEM.
    certificate: Option<String>,
    /// A file with its key, in PEM.
    key: Option<String>,
    /// The password of the key.
    key_password: Option<Secret>,
}

/// The value of a setting of the client.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum ClientValue {
    Text(String),
    Number(u64),
    Switch(bool),
}

// The settings of librdkafka that a flow may change. Others load libraries, run programs or read files, or belong to what a flow
// promises.

const CONNECTION_SETTINGS: &[&str] = &[
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "metadata.max.age.ms",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "topic.metadata.refresh.interval.ms",
];

const CONSUMER_SETTINGS: &[&str] = &[
    "check.crcs",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "max.partition.fetch.bytes",
    "queued.max.messages.kbytes",
    "queued.min.messages",
];

const PRODUCER_SETTINGS: &[&str] = &[
    "batch.num.messages",
    "compression.level",
    "compression.type",
    "linger.ms",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sticky.partitioning.linger.ms",
];

/// What a client is for, and so which settings it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that an input reads with.
    Consumer,
    /// The one that an output sends with.
    Producer,
    /// One beside it, by which an output asks brokers. It takes the settings of connections only.
    Beside,
}

impl Role {
    /// The settings that it takes besides those of connections.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Consumer => CONSUMER_SETTINGS,
            Self::Producer => PRODUCER_SETTINGS,
            Self::Beside => &[],
        }
    }
}

impl Kind for ConnectionSettings {
    const NAME: &'static str = "kafka";
    const ALSO_CALLED: &'static [&'static str] = &["redpanda"];
    const EXAMPLE: &'static str = r#"
brokers = "kafka1:9092,kafka2:9092"
sasl = { mechanism = "PLAIN", username = "shop", password = "${KAFKA_PASSWORD}" }
"#;

    fn check_connection(&self) -> Result<(), Problem> {
        let is_address = |broker: &str| broker.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if let Some(broker) = self.brokers.split(',').find(|broker| !is_address(broker.trim())) {
            let problem = Problem::new(format!("`{broker}` is no address with a port")).at(["brokers"]);
            return Err(problem.help("write them like `kafka1:9092,kafka2:9092`"));
        }
        // Inputs and outputs may share a connection, and each takes what is for it.
        let known = [CONNECTION_SETTINGS, CONSUMER_SETTINGS, PRODUCER_SETTINGS].concat();
        let Some(name) = self.client.keys().find(|name| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        let problem = Problem::new(format!("`{name}` is no setting of the client that a flow may change"));
        let at = [Step::from("client"), Step::Name(name.clone())];
        Err(problem.help(known_names(name, known.iter().copied())).at(at))
    }
}

impl ConnectionSettings {
    /// The brokers, as they are written.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Configures a client. `own` are the settings that the node has chosen, which those of the flow go before.
    pub fn configure(&self, role: Role, own: &[(&str, &str)], context: &PlanContext) -> Result<ClientOptions, Problem> {
        self.check_connection()?;
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("bootstrap.servers", &self.brokers).set("client.id", format!("{}.{}", context.flow, context.node));
        for (name, value) in own {
            config.set(*name, *value);
        }
        for (name, value) in &self.client {
            if CONNECTION_SETTINGS.iter().chain(role.settings()).any(|known| known == name) {
                config.set(name, value.text());
            }
        }
        let tokens = self.secure(&mut config, context)?;
        // librdkafka checks names and values, and does nothing else.
        match config.create_native_config() {
            Ok(_) => Ok(ClientOptions { config, tokens }),
            Err(KafkaError::ClientConfig(_, why, name, _)) if self.client.contains_key(&name) => {
                Err(Problem::new(why).at([Step::from("client"), Step::Name(name)]))
            }
            // Its value may be a secret.
            Err(KafkaError::ClientConfig(_, why, name, _)) => {
                Err(Problem::new(format!("`{name}` of the client: {why}")))
            }
            Err(error) => Err(Problem::new(error.to_string())),
        }
    }

    /// Encrypts connections, and says who connects. Returns where tokens for that come from, if brokers want some.
    fn secure(&self, config: &mut ClientConfig, context: &PlanContext) -> Result<Option<Arc<Tokens>>, Problem> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            tls.configure(config, context)?;
        }
        match &self.sasl {
            Some(sasl) => sasl.configure(config, context).map_err(|problem| problem.under("sasl")),
            None => Ok(None),
        }
    }
}

impl Tls {
    fn configure(&self, config: &mut ClientConfig, context: &PlanContext) -> Result<(), Problem> {
        require_tls("`tls`").map_err(|problem| problem.at(["tls"]))?;
        if self.certificate.is_some() != self.key.is_some() {
            let problem = Problem::new("a certificate and its key belong together").at(["tls"]);
            return Err(problem.help("set both `certificate` and `key`, or neither"));
        }
        // Or those that the system trusts, wherever it keeps them.
        config.set("ssl.ca.location", "probe");
        for (setting, name, file) in [
            ("ca", "ssl.ca.location", &self.ca),
            ("certificate", "ssl.certificate.location", &self.certificate),
            ("key", "ssl.key.location", &self.key),
        ] {
            let Some(file) = file else { continue };
            let path = context.input_path(file);
            if !context.scripted && context.files.read(&path).is_err() {
                return Err(Problem::new(format!("there is no file `{}`", path.display())).at(["tls", setting]));
            }
            config.set(name, path.display().to_string());
        }
        if let Some(password) = &self.key_password {
            config.set("ssl.key.password", password.reveal());
        }
        Ok(())
    }
}

/// Whether this build has TLS.
pub fn require_tls(what: &str) -> Result<(), Problem> {
    if cfg!(feature = "tls") {
        return Ok(());
    }
    let problem = Problem::new(format!("this build of Millstream has no OpenSSL, which {what} needs"));
    Err(problem.help("build it with `cargo build --features kafka-tls`"))
}

impl ClientValue {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Switch(switch) => switch.to_string(),
        }
    }
}

/// How a client is configured, and where the tokens come from that brokers want.
#[derive(Clone)]
pub struct ClientOptions {
    config: ClientConfig,
    tokens: Option<Arc<Tokens>>,
}

impl ClientOptions {
    /// Gives a client its first token, if brokers want one, for which it waits.
    ///
    /// # Errors
    /// If there is none.
    pub fn admit<C: ClientContext>(&self, client: &Client<C>) -> Result<Option<Admission>> {
        self.tokens.as_ref().map(|tokens| Admission::begin(tokens, client)).transpose()
    }
}

impl From<ClientConfig> for ClientOptions {
    fn from(config: ClientConfig) -> Self {
        Self { config, tokens: None }
    }
}

impl Deref for ClientOptions {
    type Target = ClientConfig;

    fn deref(&self) -> &ClientConfig {
        &self.config
    }
}

impl DerefMut for ClientOptions {
    fn deref_mut(&mut self) -> &mut ClientConfig {
        &mut self.config
    }
}

/// What a client has said about its connections.
#[derive(Default)]
pub struct Watch {
    trouble: Mutex<Option<Trouble>>,
}

/// Why nothing comes.
#[derive(Clone, Debug)]
pub struct Trouble {
    code: RDKafkaErrorCode,
    /// What librdkafka says.
    pub reason: String,
}

impl Watch {
    /// Forgets what was wrong, since something has come.
    pub fn is_well(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is wrong now.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, _: &str, message: &str) {
        tracing::debug!(?level, "kafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down is no cause.
        if code == RDKafkaErrorCode::AllBrokersDown && trouble.is_some() {
            return;
        }
        if trouble.is_none() {
            tracing::warn!("kafka: {reason}");
        }
        *trouble = Some(Trouble { code, reason: reason.to_owned() });
    }
}

impl ConsumerContext for Watch {}

/// A consumer of librdkafka. It is closed by a thread of its own, since that may hang.
pub struct Consumer {
    client: Option<BaseConsumer<Watch>>,
    admission: Option<Admission>,
}

impl Consumer {
    /// Makes a consumer, which connects by itself, and asks brokers something, again and again until they answer.
    ///
    /// # Errors
    /// If they don't in time, or what they answer is no matter of time.
    pub fn connect<T>(
        config: &ClientOptions,
        brokers: &str,
        asked: impl Fn(&Arc<Self>) -> Result<T>,
    ) -> Result<(Arc<Self>, T)> {
        Self::connect_within(PATIENCE, config, brokers, asked)
    }

    /// The same, with another patience.
    #[expect(
        clippy::disallowed_methods,
        reason = "librdkafka is asked on threads that may block, and measures real time"
    )]
    pub fn connect_within<T>(
        patience: Duration,
        config: &ClientOptions,
        brokers: &str,
        asked: impl Fn(&Arc<Self>) -> Result<T>,
    ) -> Result<(Arc<Self>, T)> {
        let consumer = BaseConsumer::from_config_and_context(config, Watch::default())
            .map_err(|error| Error::new(format!("the client of Kafka can't be made: {error}")))?;
        let mut consumer = Self { client: Some(consumer), admission: None };
        consumer.admission = config.admit(consumer.client())?;
        let consumer = Arc::new(consumer);
        let deadline = Instant::now() + patience;
        loop {
            let error = match asked(&consumer) {
                Ok(answer) => return Ok((consumer, answer)),
                Err(error) => error,
            };
            consumer.serve();
            if error.class() != ErrorClass::Transient {
                return Err(error);
            }
            let trouble = consumer.context().trouble();
            let is_refused = trouble.as_ref().is_some_and(|trouble| trouble.code == RDKafkaErrorCode::Authentication);
            if is_refused || Instant::now() > deadline {
                let reason = trouble.map_or_else(|| error.to_string(), |trouble| trouble.reason);
                let message = format!("no broker of `{brokers}` answers: {reason}");
                return Err(if is_refused { Error::new(message) } else { Error::transient(message) });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Handles what librdkafka has to say besides messages, and sees that brokers know who connects. Never waits.
    pub fn serve(&self) {
        if let Some(admission) = &self.admission {
            admission.renew(self.client());
        }
        // It handles one thing at a time.
        for _ in 0..32 {
            let _ = self.poll(Duration::ZERO);
        }
    }
}

impl Deref for Consumer {
    type Target = BaseConsumer<Watch>;

    fn deref(&self) -> &Self::Target {
        match &self.client {
            Some(consumer) => consumer,
            None => unreachable!("it is taken only when it is dropped"),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let consumer = self.client.take();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(consumer);
            let _ = done.send(());
        });
        // A program that ends meanwhile would pull memory away from librdkafka's threads.
        let _ = is_done.recv_timeout(Duration::from_secs(1));
    }
}

/// What was asked of brokers, and went wrong.
pub fn failed(doing: impl Into<String>, error: KafkaError) -> Error {
    let is_transient = matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
        )
    );
    let message = format!("{}: {error}", doing.into());
    if is_transient { Error::transient(message) } else { Error::new(message) }
}
