//! How far an output has come: a mark in a bucket of keys and values, which only the one who has read it last may replace.

use async_nats::jetstream::Context;
use async_nats::jetstream::context::KeyValueErrorKind;
use async_nats::jetstream::kv::{Config, Store, UpdateErrorKind};
use millstream_core::{Error, Result, ResultExt as _};
use millstream_spool::Mark;
use serde::{Deserialize, Serialize};

use crate::client::Servers;

/// A mark, and where in the stream to look for what was sent behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    #[serde(flatten)]
    pub mark: Mark,
    /// All messages that were sent behind the mark lie behind this one of the stream.
    pub sequence: u64,
}

/// The mark of an output.
pub struct Progress {
    servers: Servers,
    /// None if nobody is to go on from it.
    store: Option<Store>,
    key: String,
    /// The last one that was read or written, and its number in the bucket; 0 if there is none.
    place: Option<Place>,
    revision: u64,
}

/// Why a mark was not written.
pub enum NotWritten {
    /// Another has written one since this one was read.
    Overtaken,
    /// Something else.
    Failed(Error),
}

impl Progress {
    /// Opens the bucket, which is made if it is missing, and reads the mark.
    pub async fn open(servers: &Servers, context: &Context, bucket: &str, key: &str) -> Result<Self> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            servers.failed(&format!("opening the bucket `{bucket}`, which says how far outputs have come"), error)
        };
        let store = match context.get_key_value(bucket).await {
            Ok(store) => store,
            Err(error) if error.kind() == KeyValueErrorKind::GetBucket => {
                let config = Config { bucket: bucket.to_owned(), history: 1, ..Config::default() };
                context.create_key_value(config).await.map_err(|error| failed(&error))?
            }
            Err(error) => return Err(failed(&error)),
        };
        let (servers, store) = (servers.clone(), Some(store));
        let mut progress = Self { servers, store, key: encode(key), place: None, revision: 0 };
        progress.read().await?;
        Ok(progress)
    }

    /// The mark of a run that nobody goes on with, which is in memory only.
    pub fn unkept(servers: &Servers, place: Option<Place>) -> Self {
        Self { servers: servers.clone(), store: None, key: String::new(), place, revision: 0 }
    }

    /// The last mark that was read or written.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Reads the mark.
    pub async fn read(&mut self) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let entry = store.entry(&self.key).await;
        let entry = entry.map_err(|error| self.servers.failed("asking how far the output has come", &error))?;
        let Some(entry) = entry else {
            (self.place, self.revision) = (None, 0);
            return Ok(());
        };
        let place = serde_json::from_slice(&entry.value);
        self.place = Some(place.doing(|| "reading how far the output has come, which another build may have written")?);
        self.revision = entry.revision;
        Ok(())
    }

    /// Writes a mark in the place of the one that was read last.
    pub async fn write(&mut self, place: Place) -> Result<(), NotWritten> {
        let doing = "noting how far the output has come";
        let Some(store) = &self.store else {
            self.place = Some(place);
            return Ok(());
        };
        let value = serde_json::to_vec(&place).map_err(|error| NotWritten::Failed(Error::new(error.to_string())))?;
        match store.update(&self.key, value.into(), self.revision).await {
            Ok(revision) => {
                (self.place, self.revision) = (Some(place), revision);
                Ok(())
            }
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Err(NotWritten::Overtaken),
            Err(error) => Err(NotWritten::Failed(self.servers.failed(doing, &error))),
        }
    }
}

/// A key with these words. Letters that keys don't have are written as their numbers.
fn encode(key: &str) -> String {
    let mut encoded = String::new();
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("={other:02x}")),
        }
    }
    encoded
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_written_flat_and_its_key_has_letters_only() {
        let mark = Mark { incarnation: "a".into(), generation: 1, checkpoint: 2, rows: 3, last: true };
        let text = serde_json::to_string(&Place { mark, sequence: 9 }).unwrap();
        assert_eq!(text, r#"{"incarnation":"a","generation":1,"checkpoint":2,"rows":3,"last":true,"sequence":9}"#);
        assert_eq!(encode("Shop/out_1"), "Shop/out_1");
        assert_eq!(encode("a.b ä"), "a=2eb=20=c3=a4");
    }
}
