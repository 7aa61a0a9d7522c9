//! Commands that ask a daemon: where it is, and what is done with its answers.

mod client;
mod connect;
mod dead_letters;
mod events;
mod flows;
mod models;
mod operations;
mod reload;
pub mod shown;
mod support;
mod tap;
mod top;

use std::path::PathBuf;

use clap::Args;

pub use dead_letters::{DeadLettersCommand, dead_letters};
pub use flows::{FlowsCommand, flows};
pub use models::RemoteModels;
pub use operations::{OperationsCommand, operations};
pub use reload::{ReloadArguments, reload};
pub use support::{SupportArguments, support};
pub use top::{TopArguments, top};

use self::client::Client;
use crate::daemon::ConfigArguments;
use crate::exit::CommandError;

/// Where the daemon is that is asked.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The daemon")]
pub struct RemoteArguments {
    /// The daemon's address, such as `https://millstream.example.com:8181`. By default its Unix socket is looked for: at `--socket`, where the
    /// settings of `--config` say it is, then `/run/millstream/admin.sock` and `./admin.sock`.
    #[arg(long, value_name = "URL", env = "MILLSTREAM_URL", conflicts_with = "socket")]
    url: Option<String>,
    /// A file with the token that lets in at `--url`. Without it, the variable `MILLSTREAM_TOKEN` has the token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file with the certificates of the authorities that vouch for the daemon, in PEM. By default those that the machine trusts.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The daemon's Unix socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The daemon's settings.
    #[command(flatten)]
    config: ConfigArguments,
    /// Print JSON, as the daemon answers.
    #[arg(long)]
    json: bool,
}

impl RemoteArguments {
    /// Somebody who asks the daemon.
    fn client(&self) -> Result<Client, CommandError> {
        Ok(Client::new(self.place()?, self.token()?))
    }

    /// Whether answers are printed as JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether a daemon can be found without its being said where it is.
    pub fn is_found(&self) -> bool {
        self.place().is_ok()
    }

    /// Whether it is said where the daemon is.
    pub fn is_said(&self) -> bool {
        self.url.is_some() || self.socket.is_some() || self.config.config.is_some()
    }
}

/// A text as a part of a path or behind `?`.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => encoded + &char::from(byte).to_string(),
        other => encoded + &format!("%{other:02X}"),
    })
}
