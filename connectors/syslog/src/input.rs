//! The input `syslog`: its settings, and what they come to.

use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use millstream_connectors::push::{self, Health, LogSettings, MOST_BYTES, PushInput, PushNode};
use millstream_core::{ByteSize, InputPlan, InputSettings, KeptNode, Kind, PlanContext, Problem, Problems, Result};
use millstream_net::{Clients, ServerTls, Tls};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contents::KeptMessages;
use crate::framing::Framing;
use crate::receiver::{Listening, Way};

/// Takes messages of syslog from programs and devices, over UDP, TCP or TLS.
///
/// ```toml
/// [input.devices]
/// type = "syslog"
/// transport = "tls"
/// address = "0.0.0.0:6514"
/// tls = { certificate = "/etc/flows/log.pem", key = "/etc/flows/log.key", client_ca = "/etc/flows/devices.pem" }
/// on_error = { dead_letter = "out/unreadable" }
/// ```
///
/// Each message is a row, whether it is written as RFC 5424 has it, as RFC 3164 has found it in use, or otherwise. The columns are
///
/// | column | type | |
/// |---|---|---|
/// | `facility`, `severity` | `int32` | the priority: 0 to 23, and 0 (emergency) to 7 (debug); 1 and 5 where it says none |
/// | `at` | `timestamp?` | the time that it says |
/// | `host`, `app`, `process`, `message_id` | `utf8?` | what it says of its sender and itself |
/// | `data` | `utf8?` | structured data, as JSON: `{"exampleSDID@32473":{"iut":"3"}}`, of which `json_get` takes parts |
/// | `message` | `utf8` | the text; all behind the priority where nothing else could be told |
/// | `peer` | `utf8` | the address that it came from |
/// | `received_at` | `timestamp` | when it came |
///
/// What has come is kept in a log that belongs to the flow's state, and the flow counts each message of the log exactly once, through any crash.
/// Syslog has no acknowledgements: over UDP, messages may be lost on the way, and while the flow does not run. Over TCP and TLS, senders that wait
/// for a connection keep theirs; what was sent and not yet in the log when a machine broke down is lost, which are milliseconds as long as the flow
/// keeps up with its senders, and senders are held up where it does not.
///
/// Messages are taken while the flow is slow, until `max_log` of them wait. One that is no UTF-8, or longer than `max_message`, leaves by the port
/// `failed`; senders don't hear of it, so that the flow has to say with `on_error` what becomes of such rows. At most 512 connections are open at
/// a time; others wait. While the flow is paused or the disk of the daemon is nearly full, no more is kept than what fits into memory: then connections
/// are not read, and datagrams are lost. While `millstream daemon` is started again by systemd, both wait.
///
/// Whoever reaches the address can send messages, but for `client_ca`: let only those reach it who should. The input needs `millstream run --state
/// DIR`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SyslogInput {
    /// How messages come.
    #[serde(default)]
    transport: Transport,
    /// Where to listen: an address of this machine and a port, such as `"127.0.0.1:5514"`, or `"0.0.0.0:5514"` for all of them. The usual ports are 514
    /// for UDP and TCP, for which a program needs rights, and 6514 for TLS.
    #[serde(default = "address")]
    address: String,
    /// With `transport = "tls"`: who we are, and whom we listen to. The files are read again within a minute when they change.
    tls: Option<ServerTls>,
    /// How messages follow each other on a connection.
    #[serde(default)]
    framing: Framing,
    /// How long a message may be, by default `"64KiB"`.
    #[serde(default = "max_message")]
    max_message: ByteSize,
    /// In which time zone messages of RFC 3164 say the time, such as `"Europe/Berlin"`.
    #[serde(default = "timezone")]
    timezone: String,
    #[serde(flatten)]
    log: LogSettings,
}

/// How messages come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// As datagrams, some of which may get lost.
    Udp,
    /// Over connections.
    #[default]
    Tcp,
    /// Over connections that are encrypted.
    Tls,
}

fn address() -> String {
    "127.0.0.1:5514".to_owned()
}

fn max_message() -> ByteSize {
    ByteSize(64 << 10)
}

fn timezone() -> String {
    "UTC".to_owned()
}

/// How long a message may be at most.
const LONGEST: usize = 16 << 20;

impl Kind for SyslogInput {
    const NAME: &'static str = "syslog";
    const ALSO_CALLED: &'static [&'static str] = &["listen_syslog", "rsyslog", "syslog_source"];
    const EXAMPLE: &'static str = r#"
transport = "tcp"
address = "127.0.0.1:5514"
"#;
    const NEEDS_STATE: bool = true;

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        push::verify(kept)
    }
}

impl SyslogInput {
    fn way(&self, context: &PlanContext) -> Result<Way, Problem> {
        match (self.transport, &self.tls) {
            (Transport::Tls, Some(tls)) => {
                let tls = Tls::load(tls.files(context), Clients::NeedCertificates, &[]);
                Ok(Way::Tls(Arc::new(tls.map_err(|problem| problem.under("tls"))?)))
            }
            (Transport::Tls, None) => {
                let problem = Problem::new("a certificate and its key are missing in `tls`").at(["transport"]);
                Err(problem.help("`tls = { certificate = \"log.pem\", key = \"log.key\" }`"))
            }
            (_, Some(_)) => Err(Problem::new("only `transport = \"tls\"` is encrypted").at(["tls"])),
            (Transport::Udp, None) => Ok(Way::Udp),
            (Transport::Tcp, None) => Ok(Way::Tcp),
        }
    }

    fn listening(&self, context: &PlanContext) -> Result<Listening, Problem> {
        let address: SocketAddr = self.address.parse().map_err(|_| {
            let problem = Problem::new(format!("`{}` is no address with a port", self.address)).at(["address"]);
            problem.help("write it like `127.0.0.1:5514` or `[::1]:5514`")
        })?;
        let longest = self.max_message.0;
        if !(1..=LONGEST).contains(&longest) {
            return Err(Problem::new("a message can be 1 byte to 16 MiB long").at(["max_message"]));
        }
        let (way, framing) = (self.way(context)?, self.framing);
        let door = format!("{}/{}", context.flow, context.node);
        Ok(Listening { door, address, way, framing, longest, health: Arc::new(Health::default()) })
    }

    fn input(&self, context: &PlanContext) -> Result<PushInput, Problem> {
        let listening = self.listening(context)?;
        let zone: Tz = self.timezone.parse().map_err(|_| {
            let problem = Problem::new(format!("`{}` is no time zone", self.timezone)).at(["timezone"]);
            problem.help("such as `UTC`, `Europe/Berlin` or `+01:00`")
        })?;
        let wanted = context.columns.as_ref();
        let contents = KeptMessages::new(wanted, context.batch_rows, zone, listening.longest);
        let largest = MOST_BYTES + listening.longest;
        let node = PushNode { kind: Self::NAME, largest, receiver: Box::new(listening) };
        self.log.input(node, Arc::new(contents), context)
    }
}

impl InputSettings for SyslogInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        Ok(self.input(context)?.plan())
    }
}
