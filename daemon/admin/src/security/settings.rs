//! The settings of the administration, and of what is served beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use axum::http::HeaderName;
use axum::http::uri::Authority;
use millstream_core::{ByteSize, Duration, Error, Problem, Problems, Rate, Share, Step, known_names};
use millstream_models::registry::ModelReference;
use millstream_net::{Clients, Tls, TlsFiles};
use millstream_serve::{BatchLimits, LogLimits, Trial, Trials};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::role::Role;
use super::tokens::TokenStore;

/// What is offered to those who connect with TLS.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// The administration: the API and the console.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Where they are: an address of this machine and a port, or `"off"`. Others than this machine's own take TLS, and a token.
    pub address: OrOff<SocketAddr>,
    /// The Unix socket where they are as well, relative to `data`, or `"off"`. Root, the daemon's user and the members of the socket's group
    /// may do everything there without a token.
    pub socket: OrOff<PathBuf>,
    /// By which names people reach the daemon from other machines. Requests for other names are refused, but for those of this machine for itself
    /// and the address that they have come to.
    pub hosts: Vec<String>,
    /// How many requests may come from an address, on average; twice as many as in a second may come at once.
    pub rate: Rate,
    /// Encryption.
    pub tls: AdminTls,
}

/// Encryption, as a server. The files are relative to `data`, and read again every hour and when the daemon is told to reload.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AdminTls {
    /// A file with the certificate by which clients know the daemon, in PEM, with those that vouch for it behind it.
    pub certificate: Option<PathBuf>,
    /// A file with its key, in PEM, without a password.
    pub key: Option<PathBuf>,
    /// A file with the certificates of the authorities that vouch for clients, in PEM. Clients may then show a certificate in place of a token.
    pub client_ca: Option<PathBuf>,
    /// The roles of clients, by the names in their certificates: host names, e-mail addresses, URIs, or the common name where there are none of
    /// these. Of several, the one that may do most. A certificate whose names are not here is as good as none.
    pub roles: BTreeMap<String, Role>,
}

/// A setting, or the text `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrOff<T>(pub Option<T>);

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            address: OrOff(Some(([127, 0, 0, 1], 8181).into())),
            socket: OrOff(Some("admin.sock".into())),
            hosts: Vec::new(),
            rate: Rate(50.0),
            tls: AdminTls::default(),
        }
    }
}

impl AdminSettings {
    /// Where the Unix socket is.
    pub fn socket(&self, data: &Path) -> Option<PathBuf> {
        self.socket.0.as_ref().map(|path| data.join(path))
    }

    /// What is wrong with them, so that the daemon must not start. Files are read; places begin at these settings.
    pub fn problems(&self, data: &Path) -> Problems {
        Listening { address: self.address.0, hosts: &self.hosts, tls: &self.tls, table: "admin" }.problems(data)
    }
}

/// What is served by a daemon, or by `millstream serve`: models of the registry, over the protocols of inference.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ServeSettings {
    /// Where it is: an address of this machine and a port, or `"off"`. Others than this machine's own take TLS, and a token.
    pub address: OrOff<SocketAddr>,
    /// The models: `fraud` (its champion), `fraud@challenger`, `fraud@latest` or `fraud/3`. A daemon waits for those that there are not yet.
    pub models: Vec<String>,
    /// How often it is looked what aliases point at.
    pub follow: Duration,
    /// By which names clients reach it from other machines. Requests for other names are refused, but for those of this machine for itself and
    /// the address that they have come to.
    pub hosts: Vec<String>,
    /// How many requests may come from an address, on average; twice as many as in a second may come at once.
    pub rate: Rate,
    /// How many connections there may be, also of one address.
    #[schemars(range(min = 1, max = 65536))]
    pub connections: u32,
    /// Whether everybody who reaches it may have rows predicted, without a token. Who loads and unloads models always needs one; who looks at which there are does not.
    pub without_token: bool,
    /// How large the body of a request may be, also without its compression.
    pub body: ByteSize,
    /// How large the bodies of all requests may be together. Others are refused meanwhile.
    pub bodies: ByteSize,
    /// Versions on trial, by the names of their models: `{ fraud = { version = "challenger", share = "10%", by = "x-user", shadow = true } }`.
    pub trials: BTreeMap<String, TrialSettings>,
    /// What bounds the batches that requests are computed in which come at the same time.
    pub batch: BatchSettings,
    /// The log of requests, which flows read by the input `served`.
    pub log: RequestLogSettings,
    /// Encryption.
    pub tls: AdminTls,
}

/// What bounds the batches that requests are computed in which come at the same time. Nobody waits for company.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// How many rows of several requests are computed together at most.
    #[schemars(range(min = 1))]
    pub rows: usize,
    /// How long computing them may take, by the batches before.
    pub latency: Duration,
    /// How many rows may wait. Requests behind these are refused.
    pub waiting: usize,
}

/// The log of requests: rows with their features, what was predicted, and the labels that are sent for them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct RequestLogSettings {
    /// The folder where it is, relative to `data`, or `"off"`: then predictions have no ids, and no labels are taken. One server at a time can have it.
    pub path: OrOff<PathBuf>,
    /// How many bytes it may take. As long as flows have not read what it holds, predictions beyond are answered without ids, and labels refused.
    pub max_log: ByteSize,
    /// How long a label may come after its prediction. Where the log is more than half full, the oldest rows go earlier.
    pub labels_within: Duration,
}

impl Default for RequestLogSettings {
    fn default() -> Self {
        let month = std::time::Duration::from_secs(30 * 86400);
        Self { path: OrOff(None), max_log: ByteSize(1 << 30), labels_within: Duration(month) }
    }
}

impl RequestLogSettings {
    /// What bounds it.
    pub fn limits(&self) -> LogLimits {
        LogLimits { bytes: self.max_log.0 as u64, labels_within: self.labels_within.0 }
    }
}

/// A version on trial.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TrialSettings {
    /// Which version: an alias, a number, or `latest`.
    pub version: String,
    /// How many of the requests that ask for no version it answers, such as `"10%"`; none, unless it is said.
    #[serde(default = "none")]
    pub share: Share,
    /// The header that says who asks, such as `x-user`: whoever asks again is answered by the same version, also when the share grows.
    pub by: Option<String>,
    /// Whether it also predicts what others answer. Nobody sees that, but it is counted how often it says the same.
    #[serde(default)]
    pub shadow: bool,
}

fn none() -> Share {
    Share(0.0)
}

impl TrialSettings {
    fn trial(&self) -> Result<Trial, Problem> {
        let by = self.by.as_deref().map(|by| {
            let wrong = |_| Problem::new(format!("`{by}` is no name of a header")).at(["by"]);
            by.to_ascii_lowercase().parse::<HeaderName>().map_err(wrong)
        });
        if self.version.is_empty() {
            return Err(Problem::new("the version has no name")
                .at(["version"])
                .help("an alias, a number, or `latest`"));
        }
        if self.share.0 == 0.0 && !self.shadow {
            let problem = Problem::new(format!("version `{}` neither answers nor predicts anything", self.version));
            return Err(problem.help("give it a `share` of the requests, or say `shadow = true`"));
        }
        Ok(Trial::new(self.version.clone(), self.share.0, by.transpose()?).with_shadow(self.shadow))
    }
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            address: OrOff(None),
            models: Vec::new(),
            follow: Duration(std::time::Duration::from_secs(1)),
            hosts: Vec::new(),
            rate: Rate(100_000.0),
            connections: 1024,
            without_token: false,
            body: ByteSize(64 << 20),
            bodies: ByteSize(1 << 30),
            trials: BTreeMap::new(),
            batch: BatchSettings::default(),
            log: RequestLogSettings::default(),
            tls: AdminTls::default(),
        }
    }
}

impl Default for BatchSettings {
    fn default() -> Self {
        let BatchLimits { rows, latency, waiting, .. } = BatchLimits::default();
        Self { rows, latency: Duration(latency), waiting }
    }
}

impl BatchSettings {
    /// The same, for who computes.
    pub fn limits(&self) -> BatchLimits {
        BatchLimits { rows: self.rows, latency: self.latency.0, waiting: self.waiting, ..BatchLimits::default() }
    }
}

impl ServeSettings {
    /// The models that are to be served.
    ///
    /// # Errors
    /// If one can't be read, at its place.
    pub fn references(&self) -> Result<Vec<ModelReference>, Problem> {
        let reference = |(at, text): (usize, &String)| {
            let wrong =
                |error: Error| Problem::new(error.to_string()).at([Step::Key("models".to_owned()), Step::Index(at)]);
            ModelReference::parse(text).map_err(wrong)
        };
        self.models.iter().enumerate().map(reference).collect()
    }

    /// The versions on trial.
    ///
    /// # Errors
    /// If one is wrong, or is of a model that is not served, at its place.
    pub fn trials(&self) -> Result<Trials, Problem> {
        let served: Vec<String> = self.references()?.into_iter().map(|reference| reference.model).collect();
        let trial = |(model, settings): (&String, &TrialSettings)| {
            if !served.contains(model) {
                let known = known_names(model, served.iter().map(String::as_str));
                return Err(Problem::new(format!("model `{model}` is not among `models`")).help(known));
            }
            Ok((model.clone(), settings.trial()?))
        };
        let at = |model: &String, problem: Problem| problem.under(model.as_str()).under("trials");
        self.trials.iter().map(|one| trial(one).map_err(|problem| at(one.0, problem))).collect()
    }

    /// What is wrong with them, so that nothing must be served. Files are read; places begin at these settings.
    pub fn problems(&self, data: &Path) -> Problems {
        let models = self.trials().err();
        let own_address = self.address.0.filter(|address| !self.without_token || address.ip().is_loopback());
        let listening = Listening { address: own_address, hosts: &self.hosts, tls: &self.tls, table: "serve" };
        listening.problems(data).into_iter().chain(models).collect()
    }
}

/// Where something listens, and to whom.
struct Listening<'a> {
    address: Option<SocketAddr>,
    hosts: &'a [String],
    tls: &'a AdminTls,
    /// What its table of the settings is called.
    table: &'static str,
}

impl Listening<'_> {
    fn problems(&self, data: &Path) -> Problems {
        let mut problems: Problems = self.hosts.iter().enumerate().filter_map(wrong_host).collect();
        let tls = self.tls.load(data);
        let has_tls = !matches!(tls, Ok(None));
        problems.extend(tls.err().map(|problem| problem.under("tls")));
        if let Some(address) = self.address.filter(|address| !address.ip().is_loopback()) {
            problems.extend(self.open_problems(address, has_tls, data));
        }
        problems
    }

    /// What is wrong with listening to others than this machine.
    fn open_problems(&self, address: SocketAddr, has_tls: bool, data: &Path) -> Problems {
        let at_address = |message: String, help: &str| Problem::new(message).at(["address"]).help(help);
        let mut problems = Problems::new();
        if !has_tls {
            let help = format!("set `certificate` and `key` of `[{}.tls]`, or listen on `127.0.0.1`", self.table);
            problems.push(at_address(
                format!("`{address}` can be reached by others, who could read tokens on their way"),
                &help,
            ));
        }
        match TokenStore::new(data).list() {
            Ok(tokens) if tokens.is_empty() && self.tls.roles.is_empty() => {
                let help = "make one: `millstream token create --name NAME --role admin --config FILE`";
                problems.push(at_address(format!("`{address}` can be reached by others, and there is no token"), help));
            }
            Ok(_) => {}
            Err(error) => problems.push(Problem::new(error.to_string()).at(["address"])),
        }
        problems
    }
}

impl AdminTls {
    /// TLS as these settings say it, with relative paths in the folder of the data. `None` without a certificate.
    ///
    /// # Errors
    /// If a file is missing or does not hold what it should, at the place of its setting.
    pub fn load(&self, data: &Path) -> Result<Option<Tls>, Problem> {
        if !self.roles.is_empty() && self.client_ca.is_none() {
            let problem = Problem::new("nobody vouches for certificates of clients").at(["roles"]);
            return Err(problem.help("set `client_ca`, a file with the certificates of those who do"));
        }
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let client_ca = self.client_ca.as_ref().map(|path| data.join(path));
                let files = TlsFiles { certificate: data.join(certificate), key: data.join(key), client_ca };
                Tls::load(files, Clients::MayHaveCertificates, &PROTOCOLS).map(Some)
            }
            (None, None) if self.client_ca.is_none() => Ok(None),
            (None, None) => {
                let problem = Problem::new("clients show certificates only where the daemon does").at(["client_ca"]);
                Err(problem.help("set `certificate` and `key` as well"))
            }
            (Some(_), None) => Err(Problem::new("its key is missing: set `key`").at(["certificate"])),
            (None, Some(_)) => Err(Problem::new("its certificate is missing: set `certificate`").at(["key"])),
        }
    }
}

fn wrong_host((number, host): (usize, &String)) -> Option<Problem> {
    let is_name = |authority: Authority| authority.host() == host && !host.contains(['@', '*']);
    if host.parse().is_ok_and(is_name) {
        return None;
    }
    let problem = Problem::new(format!("`{host}` is no name of a host")).at([Step::from("hosts"), number.into()]);
    Some(problem.help("without a port and a path: `millstream.example.com`"))
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text == "off" {
            return Ok(Self(None));
        }
        let wrong = |error| de::Error::custom(format!("`{text}`: {error}; or say `off`"));
        text.parse().map(|value| Self(Some(value))).map_err(wrong)
    }
}

impl<T> JsonSchema for OrOff<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OrOff".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::Utc;

    use super::super::role::FlowPatterns;
    use super::super::tokens::NewToken;
    use super::*;

    fn settings(text: &str) -> Result<AdminSettings, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    fn wrong(text: &str, data: &Path) -> Vec<String> {
        settings(text).unwrap().problems(data).iter().map(|problem| format!("{:?} {problem}", problem.at)).collect()
    }

    #[test]
    fn an_address_or_a_socket_can_be_off() {
        let data = Path::new("/data");
        let off = settings("address = 'off'\nsocket = 'off'").unwrap();
        assert_eq!((off.address, off.socket(data)), (OrOff(None), None));
        let on = settings("socket = '/run/a.sock'").unwrap();
        assert_eq!(on.socket(data).unwrap(), Path::new("/run/a.sock"));
        assert_eq!(AdminSettings::default().socket(data).unwrap(), Path::new("/data/admin.sock"));
        assert!(settings("address = '8181'").unwrap_err().contains("or say `off`"));
        assert!(settings("adress = 'off'").unwrap_err().contains("unknown field"));
    }

    #[test]
    fn others_are_listened_to_with_tls_and_tokens_only() {
        let data = tempfile::tempdir().unwrap();
        assert!(wrong("", data.path()).is_empty() && wrong("address = '[::1]:0'", data.path()).is_empty());
        let open = wrong("address = '0.0.0.0:8181'", data.path());
        assert_eq!(open.len(), 2, "{open:?}");
        assert!(open[0].contains("could read tokens on their way; set `certificate` and `key`"), "{open:?}");
        assert!(open[1].contains("there is no token; make one"), "{open:?}");
        let new = NewToken { name: "ops".into(), role: Role::Admin, flows: FlowPatterns::all(), expires: None };
        TokenStore::new(data.path()).create(new, Utc::now()).unwrap();
        assert_eq!(wrong("address = '0.0.0.0:8181'", data.path()).len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_at_its_place() {
        let data = tempfile::tempdir().unwrap();
        for (text, expected) in [
            (
                "hosts = ['a.example', 'https://b.example']",
                "[Key(\"hosts\"), Index(1)] `https://b.example` is no name of a host",
            ),
            ("hosts = ['a.example:80']", "`a.example:80` is no name of a host"),
            ("tls.certificate = 'a'", "[Key(\"tls\"), Key(\"certificate\")] its key is missing"),
            ("tls.key = 'a'", "[Key(\"tls\"), Key(\"key\")] its certificate is missing"),
            ("tls.client_ca = 'a'", "[Key(\"tls\"), Key(\"client_ca\")] clients show certificates only"),
            ("tls.roles = { ci = 'viewer' }", "[Key(\"tls\"), Key(\"roles\")] nobody vouches"),
            (
                "tls = { certificate = '/none', key = '/none' }",
                "[Key(\"tls\"), Key(\"certificate\")] `/none` can't be used",
            ),
        ] {
            let found = wrong(text, data.path());
            assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
        }
    }
}
