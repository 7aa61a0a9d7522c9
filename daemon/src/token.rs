//! `millstream token`: the tokens that let people and programs into the administration of a daemon.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::{Args, Subcommand};
use millstream_admin::security::{FlowPatterns, NewToken, Role, Token, TokenStore};
use millstream_core::{Error, Result, ResultExt as _};
use serde_json::{Value as Json, json};

use crate::daemon::ConfigArguments;
use crate::exit::{CommandError, Exit, Outcome};
use crate::summary::new_table;
use crate::terminal::{note, print_json, say};

/// What `token` does.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it. It can't be shown again: the daemon keeps nothing that it could be found out from.
    Create(CreateArguments),
    /// List tokens, which does not show them.
    List(ListArguments),
    /// End a token, and the sessions that were opened with it, at once.
    Revoke(RevokeArguments),
}

/// What `token create` takes.
#[derive(Clone, Debug, Args)]
pub struct CreateArguments {
    /// Who will use it, as the audit log names them.
    #[arg(long)]
    name: String,
    /// What it lets do: `viewer` looks, `operator` also changes, starts and stops flows, `admin` everything.
    #[arg(long)]
    role: Role,
    /// Only these flows: a pattern of names such as `fraud_*`. It may be said several times. The daemon itself can then be looked at, and not changed.
    #[arg(long, value_name = "PATTERN")]
    flows: Vec<String>,
    /// After how long it ends, such as `90d`. By default never.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The daemon's settings.
    #[command(flatten)]
    config: ConfigArguments,
}

/// What `token list` takes.
#[derive(Clone, Debug, Args)]
pub struct ListArguments {
    /// Print JSON, an object a line.
    #[arg(long)]
    json: bool,
    /// The daemon's settings.
    #[command(flatten)]
    config: ConfigArguments,
}

/// What `token revoke` takes.
#[derive(Clone, Debug, Args)]
pub struct RevokeArguments {
    /// The id or the name of the token.
    token: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The daemon's settings.
    #[command(flatten)]
    config: ConfigArguments,
}

pub fn duration(text: &str) -> Result<Duration, String> {
    let duration: millstream_core::Duration =
        serde_json::from_value(Json::String(text.to_owned())).map_err(|error| error.to_string())?;
    Ok(duration.0)
}

/// `millstream token`
pub fn token(command: TokenCommand) -> Outcome {
    match command {
        TokenCommand::Create(arguments) => create(arguments),
        TokenCommand::List(arguments) => list(&arguments),
        TokenCommand::Revoke(arguments) => revoke(&arguments),
    }
}

fn create(arguments: CreateArguments) -> Outcome {
    let settings = arguments.config.settings()?;
    if !settings.data.is_dir() {
        let data = settings.data.display();
        let message =
            format!("the folder `{data}` of `data` is not there; make it, for the user that the daemon runs as");
        return Err(Error::new(message).into());
    }
    let now = Utc::now();
    let flows = if arguments.flows.is_empty() { vec!["*".to_owned()] } else { arguments.flows };
    let flows = FlowPatterns::try_from(flows).map_err(CommandError::Usage)?;
    let expires = arguments.expires.map(|length| end(now, length)).transpose()?;
    let new = NewToken { name: arguments.name, role: arguments.role, flows, expires };
    let (token, text) = TokenStore::new(&settings.data).create(new, now).map_err(Error::from)?;
    if arguments.json {
        let mut json = serde_json::to_value(&token).doing(|| "writing the token as JSON")?;
        json["token"] = text.reveal().into();
        print_json(json);
    } else {
        say!("{}", text.reveal());
        note!("the token `{}` ({}) is shown only this once; `{}` is its id", token.name, token.role, token.id);
    }
    Ok(Exit::Done)
}

fn end(now: DateTime<Utc>, length: Duration) -> Result<DateTime<Utc>> {
    let end = TimeDelta::from_std(length).ok().and_then(|length| now.checked_add_signed(length));
    end.ok_or_else(|| Error::new("the token would last for longer than calendars do; leave `--expires` out"))
}

fn list(arguments: &ListArguments) -> Outcome {
    let settings = arguments.config.settings()?;
    let tokens = TokenStore::new(&settings.data).list()?;
    if arguments.json {
        for token in tokens {
            print_json(serde_json::to_value(token).doing(|| "writing a token as JSON")?);
        }
        return Ok(Exit::Done);
    }
    if tokens.is_empty() {
        say!("there are no tokens; `millstream token create` makes one");
        return Ok(Exit::Done);
    }
    let mut table = new_table(["id", "name", "role", "flows", "created", "expires", "last used"]);
    for token in tokens {
        table.add_row(columns(token));
    }
    say!("{table}");
    Ok(Exit::Done)
}

fn columns(token: Token) -> [String; 7] {
    let time = |time: Option<DateTime<Utc>>| time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
    let flows = Vec::from(token.flows).join(", ");
    let expires = match token.expires {
        Some(end) if end <= Utc::now() => "expired".to_owned(),
        end => time(end).unwrap_or_else(|| "never".to_owned()),
    };
    let (created, last_used) = (time(Some(token.created)), time(token.last_used));
    let last_used = last_used.unwrap_or_else(|| "never".to_owned());
    [token.id, token.name, token.role.to_string(), flows, created.unwrap_or_default(), expires, last_used]
}

fn revoke(arguments: &RevokeArguments) -> Outcome {
    let settings = arguments.config.settings()?;
    let store = TokenStore::new(&settings.data);
    let said = &arguments.token;
    let found = store.list()?.into_iter().find(|token| token.id == *said || token.name == *said);
    let revoked = found.map(|token| store.revoke(&token.id)).transpose()?.flatten();
    let Some(token) = revoked else {
        return Err(
            Error::new(format!("there is no token `{said}`; `millstream token list` says which there are")).into()
        );
    };
    if arguments.json {
        print_json(json!({ "revoked": token.id, "name": token.name }));
    } else {
        say!("the token `{}` of `{}` is over", token.id, token.name);
    }
    Ok(Exit::Done)
}
