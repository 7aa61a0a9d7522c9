//! `millstream audit`: whether the log of what was done to a daemon is whole.

use std::path::PathBuf;

use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use millstream_admin::security::{Verified, verify};
use millstream_core::ResultExt as _;

use crate::exit::{Exit, Outcome};
use crate::terminal::{note, print_json, say};

/// What `audit` does.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no line of an audit log was changed, added or removed: each says the hash of the one before.
    ///
    /// Whoever can write to the log can make all of it anew. Keep the hash of the last line elsewhere, and say it with `--head` later: then that
    /// would be found as well, and that the end was cut off.
    #[command(verbatim_doc_comment)]
    Verify(VerifyArguments),
}

/// What `audit verify` takes.
#[derive(Clone, Debug, Args)]
pub struct VerifyArguments {
    /// The folder of the log, such as `DATA/admin/audit`, or one of its files.
    path: PathBuf,
    /// A hash that was kept: one of the lines has to have it.
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `millstream audit`
pub fn audit(command: AuditCommand) -> Outcome {
    let AuditCommand::Verify(VerifyArguments { path, head, json }) = command;
    let verified = verify(&path, head.as_deref())?;
    if json {
        print_json(serde_json::to_value(&verified).doing(|| "writing what was found as JSON")?);
    } else {
        explain(&verified);
    }
    Ok(Exit::Done)
}

fn explain(verified: &Verified) {
    let (Some(first), Some(last)) = (verified.first, verified.last) else {
        say!("the log is empty");
        return;
    };
    let until = verified.until.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default();
    say!(
        "the chain of entries {first} to {last} is whole, until {until}; the last line has the hash {}",
        verified.head
    );
    if first > 1 {
        note!("entries before {first} are in no file any more");
    }
    if verified.torn {
        note!("a line is behind it that a crash has cut off, and that was never acknowledged");
    }
}
