//! What a line of the audit log says.

use blake3::Hash;
use chrono::{DateTime, Utc};
use millstream_core::{Error, Result, ResultExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::security::role::Role;

/// How long a line can be; what was there before and after is not said but hashed where it would be longer.
pub const LONGEST_LINE: usize = 16 << 10;

/// How many letters of a text are kept that comes from whoever asks.
const LONGEST_TEXT: usize = 1024;

/// What somebody has done, or would have liked to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Who: the name of a token, that of a certificate, `uid 1000`, or `anonymous`.
    pub who: String,
    /// In which role. None if that is not known.
    pub role: Option<Role>,
    /// From where: an address, or a process of this machine.
    pub from: String,
    /// The method of the request.
    pub method: String,
    /// Its path, without what is behind `?`.
    pub path: String,
    /// What it concerns, such as `flow:fraud`.
    pub target: Option<String>,
    /// What was there before: a revision, a hash.
    pub before: Option<Json>,
    /// What was there afterwards.
    pub after: Option<Json>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It is about to be done. Another entry says how it ended; if there is none, the daemon has ended before.
    Begun,
    /// It was done.
    Done,
    /// It could not be done.
    Failed(String),
    /// It was not allowed.
    Refused(String),
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its number: one more than that of the line before.
    pub seq: u64,
    /// When it was written.
    #[schemars(with = "String")]
    pub at: DateTime<Utc>,
    /// What was done.
    #[serde(flatten)]
    pub event: Event,
    /// What became of it.
    pub result: Ending,
    /// The number of the entry that said that it had begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// How many refused attempts before this one have no entry, since too many came.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unwritten: u64,
    /// The BLAKE3 of the line before, without its line break; of the first one, zeros.
    pub prev: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What the chain consists of, whatever else a line says.
#[derive(Debug, Deserialize)]
pub struct Link {
    pub seq: u64,
    pub at: DateTime<Utc>,
    pub prev: String,
}

impl Event {
    /// The same, with what others may have made long cut.
    fn bounded(mut self) -> Self {
        let optional = self.target.iter_mut();
        let texts = [&mut self.who, &mut self.from, &mut self.method, &mut self.path].into_iter().chain(optional);
        texts.for_each(cut);
        self
    }
}

impl Entry {
    /// The line, without its break.
    pub fn line(mut self) -> Result<Vec<u8>> {
        let writing = || "writing an entry of the audit log";
        self.event = self.event.bounded();
        if let Ending::Failed(why) | Ending::Refused(why) = &mut self.result {
            cut(why);
        }
        let line = serde_json::to_vec(&self).doing(writing)?;
        if line.len() <= LONGEST_LINE {
            return Ok(line);
        }
        let states = [&mut self.event.before, &mut self.event.after].into_iter().flatten();
        for state in states.filter(|state| state.to_string().len() > LONGEST_TEXT) {
            *state = json!({ "blake3": blake3::hash(state.to_string().as_bytes()).to_hex().as_str() });
        }
        let line = serde_json::to_vec(&self).doing(writing)?;
        if line.len() <= LONGEST_LINE { Ok(line) } else { Err(Error::new("an entry of the audit log is too long")) }
    }
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
        text.push('…');
    }
}

/// What the line behind one says of it.
pub fn link_to(line: &[u8]) -> Hash {
    blake3::hash(line)
}
