//! The tokens that there are, in a file of the data folder, which the command `millstream token` changes while the daemon runs.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake3::Hash;
use chrono::{DateTime, SubsecRound as _, Utc};
use millstream_core::{Error, Result, ResultExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::private::{create_folder, lock, replace};
use super::role::{FlowPatterns, Principal, Role};
use super::token_text::{Shown, TokenText};

/// How many tokens there can be: whoever makes more of them has lost sight of them.
const MOST: usize = 1000;

/// How long a name can be.
const LONGEST_NAME: usize = 64;

/// What others may know of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Its name within the text, by which it is revoked.
    pub id: String,
    /// Who uses it.
    pub name: String,
    /// What it lets do.
    pub role: Role,
    /// The flows that it lets do that with.
    pub flows: FlowPatterns,
    /// When it was made.
    #[schemars(with = "String")]
    pub created: DateTime<Utc>,
    /// When it ends.
    #[schemars(with = "Option<String>")]
    pub expires: Option<DateTime<Utc>>,
    /// When it was last used, as far as that was written down: some minutes may be missing after a crash.
    #[schemars(with = "Option<String>")]
    pub last_used: Option<DateTime<Utc>>,
}

/// What somebody wants of a token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Who will use it. No two tokens have the same name.
    pub name: String,
    /// What it lets do.
    pub role: Role,
    /// The flows that it lets do that with. By default all.
    #[serde(default = "FlowPatterns::all")]
    pub flows: FlowPatterns,
    /// When it ends. By default never.
    #[schemars(with = "Option<String>")]
    pub expires: Option<DateTime<Utc>>,
}

/// Why a token was not made.
#[derive(Debug)]
pub enum NotCreated {
    /// It makes no sense, or there is one of its name.
    Wrong(String),
    /// It could not be written down.
    Failed(Error),
}

/// A token as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    token: Token,
    #[serde(serialize_with = "write_hash", deserialize_with = "read_hash")]
    blake3: Hash,
}

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    tokens: Vec<Kept>,
}

/// The tokens. The file is read again when it has changed, so that what was revoked by another process is over at once.
#[derive(Debug)]
pub struct TokenStore {
    path: PathBuf,
    known: Mutex<Known>,
    /// When tokens were last used, which is written down rarely.
    used: Mutex<HashMap<String, DateTime<Utc>>>,
}

/// What was last read.
#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    tokens: Arc<Vec<Kept>>,
}

/// What a file that was replaced by another one differs in.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([i64; 6]);

impl TokenStore {
    /// The tokens in a folder of the daemon's data, which need not be there.
    pub fn new(data: &Path) -> Self {
        Self { path: data.join("admin/tokens.json"), known: Mutex::default(), used: Mutex::default() }
    }

    /// All tokens, in the order in which they were made.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn list(&self) -> Result<Vec<Token>> {
        let used = self.used();
        let with_use = |kept: &Kept| Token { last_used: last_used(&kept.token, &used), ..kept.token.clone() };
        Ok(self.read()?.iter().map(with_use).collect())
    }

    /// Makes a token. Its text can't be had again.
    ///
    /// # Errors
    /// If it makes no sense, or can't be written.
    pub fn create(&self, new: NewToken, now: DateTime<Utc>) -> Result<(Token, TokenText), NotCreated> {
        new.check(now).map_err(NotCreated::Wrong)?;
        let text = TokenText::make().doing(|| "making a token")?;
        let NewToken { name, role, flows, expires } = new;
        let id = text.shown().id().to_owned();
        let token = Token { id, name, role, flows, created: now.trunc_subsecs(0), expires, last_used: None };
        let kept = Kept { token: token.clone(), blake3: text.shown().hash() };
        let mut wrong = None;
        self.change(|tokens| {
            wrong = no_room(tokens, &kept.token.name);
            if wrong.is_none() {
                tokens.push(kept);
            }
            Ok(wrong.is_none())
        })?;
        wrong.map_or(Ok((token, text)), |why| Err(NotCreated::Wrong(why)))
    }

    /// Ends a token. `None` if there is no token of that id.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn revoke(&self, id: &str) -> Result<Option<Token>> {
        let mut revoked = None;
        self.change(|tokens| {
            let place = tokens.iter().position(|kept| kept.token.id == id);
            revoked = place.map(|place| tokens.remove(place).token);
            Ok(revoked.is_some())
        })?;
        self.used().remove(id);
        Ok(revoked)
    }

    /// Who shows this text. `None` if it is no token, or one that is over.
    ///
    /// # Errors
    /// If the file can't be read: then nobody is let in.
    pub fn check(&self, text: &str, now: DateTime<Utc>) -> Result<Option<Principal>> {
        let Some(shown) = Shown::read(text) else { return Ok(None) };
        let tokens = self.read()?;
        // Two hashes are compared in a time that does not depend on where they differ.
        let found = tokens.iter().find(|kept| kept.token.id == shown.id() && kept.blake3 == shown.hash());
        Ok(found.and_then(|kept| self.admit(&kept.token, now)))
    }

    /// Whom the token of an id stands for now, for those who have shown it before. `None` if it is over.
    ///
    /// # Errors
    /// If the file can't be read: then nobody is let in.
    pub fn principal(&self, id: &str, now: DateTime<Utc>) -> Result<Option<Principal>> {
        let tokens = self.read()?;
        let found = tokens.iter().find(|kept| kept.token.id == id);
        Ok(found.and_then(|kept| self.admit(&kept.token, now)))
    }

    /// Writes down when tokens were last used.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn flush(&self) -> Result<()> {
        let used = std::mem::take(&mut *self.used());
        if used.is_empty() {
            return Ok(());
        }
        self.change(|tokens| {
            for kept in tokens {
                kept.token.last_used = last_used(&kept.token, &used);
            }
            Ok(true)
        })
    }

    fn admit(&self, token: &Token, now: DateTime<Utc>) -> Option<Principal> {
        if token.expires.is_some_and(|expires| expires <= now) {
            return None;
        }
        let now = now.trunc_subsecs(0);
        let mut used = self.used();
        match used.get_mut(&token.id) {
            Some(last) => *last = now,
            None => _ = used.insert(token.id.clone(), now),
        }
        let (name, id) = (token.name.as_str().into(), token.id.as_str().into());
        Some(Principal { name, role: token.role, flows: token.flows.clone(), token: Some(id) })
    }

    /// Changes what is in the file, as the only one to do so; `false` leaves it as it is.
    fn change(&self, change: impl FnOnce(&mut Vec<Kept>) -> Result<bool>) -> Result<()> {
        let writing = || format!("writing `{}`", self.path.display());
        let folder = self.path.parent().unwrap_or(Path::new("."));
        create_folder(folder).doing(writing)?;
        let _lock = lock(&self.path.with_extension("lock")).doing(writing)?;
        let mut tokens = self.read()?.to_vec();
        if !change(&mut tokens)? {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(&Content { tokens }).doing(writing)?;
        text.push(b'\n');
        replace(&self.path, &text).doing(writing)
    }

    fn read(&self) -> Result<Arc<Vec<Kept>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = || format!("reading the tokens in `{}`", self.path.display());
        let stamp = stamp(&self.path).doing(reading)?;
        if stamp != known.stamp {
            let content = match stamp {
                Some(_) => serde_json::from_slice(&fs::read(&self.path).doing(reading)?).doing(reading)?,
                None => Content::default(),
            };
            *known = Known { stamp, tokens: Arc::new(content.tokens) };
        }
        Ok(known.tokens.clone())
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, DateTime<Utc>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` if there is no file.
fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let of = |found: Metadata| {
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        let [mtime, mtime_nanos, ctime, ctime_nanos] = times;
        Stamp([found.ino() as i64, found.len() as i64, mtime, mtime_nanos, ctime, ctime_nanos])
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => Ok(Some(of(found?))),
    }
}

fn last_used(token: &Token, used: &HashMap<String, DateTime<Utc>>) -> Option<DateTime<Utc>> {
    token.last_used.max(used.get(&token.id).copied())
}

impl NewToken {
    /// What is wrong with it, whatever other tokens there are.
    fn check(&self, now: DateTime<Utc>) -> Result<(), String> {
        let name = &self.name;
        if name.trim().is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(format!("the name of a token has 1 to {LONGEST_NAME} letters, all of which can be seen"));
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err("the token would have expired already".to_owned());
        }
        Ok(())
    }
}

/// Why there can't be one more token, of a name.
fn no_room(tokens: &[Kept], name: &str) -> Option<String> {
    if tokens.iter().any(|known| known.token.name == name) {
        return Some(format!("there is a token `{name}` already; revoke it, or take another name"));
    }
    (tokens.len() >= MOST).then(|| format!("there are {MOST} tokens already; revoke those that nobody uses"))
}

impl fmt::Display for NotCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(why) => f.write_str(why),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl From<Error> for NotCreated {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<NotCreated> for Error {
    fn from(not: NotCreated) -> Self {
        match not {
            NotCreated::Wrong(why) => Self::new(why),
            NotCreated::Failed(error) => error,
        }
    }
}

fn write_hash<S: Serializer>(hash: &Hash, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(hash.to_hex().as_str())
}

fn read_hash<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
    let text = String::deserialize(from)?;
    Hash::from_hex(&text).map_err(|_| de::Error::custom("a hash has 64 hexadecimal digits"))
}
