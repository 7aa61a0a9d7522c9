//! How a broker is reached: the settings that input and output share, and what of it goes wrong.

use std::time::Duration;

use millstream_core::{Error, Kind, PlanContext, Problem, Result, Secret, host_and_port};
use millstream_http::Tls;
use rumqttc::{ConnectReturnCode, ConnectionError, MqttOptions, Transport};
use schemars::JsonSchema;
use serde::Deserialize;

/// The ports of MQTT, without and with TLS.
const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;

/// A connection over which nothing comes for so long is looked after.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How many bytes a message has besides topic and payload at most.
const FRAME: usize = 64;

/// The type of connection of nodes that take [`ConnectionSettings`].
pub const CONNECTION: Option<&str> = Some(ConnectionSettings::NAME);

/// How a broker of MQTT is reached.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ConnectionSettings {
    /// The broker: `"broker.example.com"`, or with a port that is not 1883, or 8883 with TLS, `"broker.example.com:1884"`.
    address: String,
    /// Who connects.
    user: Option<String>,
    /// The password, from the environment: `"${MQTT_PASSWORD}"`.
    password: Option<Secret>,
    /// Encrypts the connection. `{}` trusts the authorities that the system trusts.
    tls: Option<Tls>,
}

impl Kind for ConnectionSettings {
    const NAME: &'static str = "mqtt";
    const ALSO_CALLED: &'static [&'static str] = &["mosquitto", "emqx", "hivemq"];
    const EXAMPLE: &'static str = r#"
address = "broker.example.com"
user = "flows"
password = "${MQTT_PASSWORD}"
tls = {}
"#;

    fn check_connection(&self) -> Result<(), Problem> {
        self.host_and_port()?;
        if self.password.is_some() && self.user.is_none() {
            return Err(Problem::new("a password is that of a `user`, which is missing").at(["password"]));
        }
        Ok(())
    }
}

impl ConnectionSettings {
    fn host_and_port(&self) -> Result<(&str, u16), Problem> {
        let port = if self.tls.is_some() { PORT_TLS } else { PORT };
        host_and_port(&self.address, port).map_err(|problem| problem.at(["address"]))
    }

    /// The broker, as it is to be reached by a client of this name, for messages of so many bytes.
    pub fn broker(&self, client_id: &str, max_message: usize, context: &PlanContext) -> Result<Broker, Problem> {
        self.check_connection()?;
        let (host, port) = self.host_and_port()?;
        let mut options = MqttOptions::new(client_id, host, port);
        let largest = max_message + FRAME + usize::from(u16::MAX);
        options.set_keep_alive(KEEP_ALIVE).set_max_packet_size(largest, largest);
        if let Some(user) = &self.user {
            options.set_credentials(user, self.password.as_ref().map_or("", Secret::reveal));
        }
        if let Some(tls) = &self.tls {
            let tls = tls.config(context).map_err(|problem| problem.under("tls"))?;
            options.set_transport(Transport::tls_with_config(tls.into()));
        }
        Ok(Broker { address: self.address.clone(), options })
    }
}

/// The name by which a broker knows a client, as the flow says it or by the names of flow and node.
pub fn client_id(written: Option<&str>, context: &PlanContext) -> Result<String, Problem> {
    match written {
        Some("") => Err(Problem::new("a client has a name").at(["client_id"])),
        Some(id) => Ok(id.to_owned()),
        None => Ok(format!("{}.{}", context.flow, context.node)),
    }
}

/// A broker, and how it is reached.
#[derive(Clone)]
pub struct Broker {
    pub address: String,
    pub options: MqttOptions,
}

impl Broker {
    /// What has gone wrong with a connection. Most may be over in a while.
    pub fn failed(&self, error: &ConnectionError) -> Error {
        let message = |why: &dyn std::fmt::Display| format!("connecting to `{}`: {why}", self.address);
        match error {
            ConnectionError::ConnectionRefused(code) => match code {
                ConnectReturnCode::BadUserNamePassword => {
                    Error::new(message(&"the broker does not know this name and password"))
                }
                ConnectReturnCode::NotAuthorized => {
                    Error::new(message(&"the broker does not take this client: are `user` and `password` right?"))
                }
                ConnectReturnCode::BadClientId => Error::new(message(&"the broker does not take the `client_id`")),
                ConnectReturnCode::RefusedProtocolVersion => {
                    Error::new(message(&"the broker does not speak MQTT 3.1.1"))
                }
                ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => {
                    Error::transient(message(&"the broker is busy"))
                }
            },
            ConnectionError::Tls(error) => Error::new(message(error)),
            error => Error::transient(message(error)),
        }
    }
}
