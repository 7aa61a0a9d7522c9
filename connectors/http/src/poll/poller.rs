//! Asks for pages, and writes each into the log with what is to be asked for behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::{Error, ErrorClass, Result, ResultExt as _};
use millstream_store::Log;
use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::pages::{Page, Pages, Said};
use super::records::{Pointer, document, records};
use super::since::{Read, Since};
use crate::client::{Answer, Client, shown};

/// How long to wait for a service that is away, and for room in the log, before looking again.
const PAUSE: Duration = Duration::from_secs(5);
const ROOM_PAUSE: Duration = Duration::from_millis(100);

/// What is asked for, and how.
pub struct Source {
    pub client: Client,
    pub address: Url,
    pub records: Pointer,
    pub pages: Option<Pages>,
    pub since: Option<Since>,
    pub every: Duration,
    pub is_bounded: bool,
    /// How many bytes of pages the log may have.
    pub max_log: u64,
}

/// How far polling has come. What the log has up to `end` is part of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// The page that is next in a poll that is not over. None for the first page of the next one.
    page: Option<Page>,
    read: Read,
    /// The number behind the last record of the log.
    pub end: u64,
}

/// A page as it is in the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    /// The page behind it. None if the poll is over.
    next: Option<Page>,
    /// Its records, as the service has written them.
    pub records: Vec<String>,
}

/// What the input and the poller both see.
#[derive(Default)]
pub struct Shared {
    place: Mutex<Place>,
    /// Why nothing comes.
    trouble: Mutex<Option<String>>,
}

impl Shared {
    pub fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing comes now.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl Written {
    /// Reads a record of the log.
    pub fn read(payload: &[u8]) -> Result<Self> {
        postcard::from_bytes(payload).map_err(|_| Error::new("a record of the log is none of this input"))
    }
}

impl Source {
    /// Learns from a page that is in the log up to `end`.
    pub fn learn(&self, page: &Written, end: u64, place: &mut Place) -> Result<()> {
        if let Some(since) = &self.since {
            for record in &page.records {
                let record = serde_json::from_str(record).doing(|| "reading a record of the log")?;
                since.take(record, &mut place.read);
            }
        }
        place.end = end;
        self.go_on(page.next.clone(), place)
    }

    /// A page has been read.
    fn go_on(&self, next: Option<Page>, place: &mut Place) -> Result<()> {
        if let Some(since) = &self.since {
            since.forget(&mut place.read)?;
            if next.is_none() {
                since.finish(&mut place.read);
            }
        }
        place.page = next;
        Ok(())
    }

    /// Polls again and again, or once.
    pub async fn poll(self: Arc<Self>, log: Arc<Log>, shared: Arc<Shared>) -> Result<()> {
        let mut validators = HeaderMap::new();
        loop {
            let begun = Instant::now();
            while self.read_page(&log, &shared, &mut validators).await? {}
            if self.is_bounded {
                return Ok(());
            }
            sleep_until(begun + self.every).await;
        }
    }

    /// Reads the next page. Returns whether there is another one in this poll.
    async fn read_page(&self, log: &Log, shared: &Shared, validators: &mut HeaderMap) -> Result<bool> {
        // A log that is half full has room for whatever comes.
        while log.bytes() > self.max_log / 2 {
            sleep(ROOM_PAUSE).await;
        }
        let mut place = shared.place().clone();
        let address = self.next_address(&place)?;
        let answer = self.get(&address, validators, shared).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(false);
        }
        let doing = || format!("reading the answer of `{}`", shown(&address));
        let page = self.page(&answer, &address, &mut place).doing(doing)?;
        let has_next = page.next.is_some();
        let rows = page.records.len() as u32;
        self.go_on(page.next.clone(), &mut place)?;
        if rows > 0 {
            let payload = postcard::to_allocvec(&page).doing(|| "writing a page into the log")?;
            place.end = log.append(payload, rows).await? + u64::from(rows);
        }
        *shared.place() = place;
        *validators = self.validators(&answer);
        Ok(has_next)
    }

    fn next_address(&self, place: &Place) -> Result<Url> {
        let mut all = self.address.clone();
        if let Some((parameter, value)) = self.since.as_ref().and_then(|since| since.parameter(&place.read)) {
            all.query_pairs_mut().append_pair(parameter, &value);
        }
        self.pages.as_ref().map_or_else(|| Ok(all.clone()), |pages| pages.address(&all, place.page.as_ref()))
    }

    /// Waits as long as it takes, if the input is live.
    async fn get(&self, address: &Url, validators: &HeaderMap, shared: &Shared) -> Result<Answer> {
        loop {
            match self.client.get(address, validators).await {
                Ok(answer) => {
                    shared.set_trouble(None);
                    return Ok(answer);
                }
                Err(error) if error.class() == ErrorClass::Transient && !self.is_bounded => {
                    if shared.trouble().is_none() {
                        tracing::warn!("{error}; it is asked again until it answers");
                    }
                    shared.set_trouble(Some(error.to_string()));
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What an answer has that has not come before.
    fn page(&self, answer: &Answer, address: &Url, place: &mut Place) -> Result<Written> {
        if answer.body.is_empty() {
            return Ok(Written { next: None, records: Vec::new() });
        }
        let document = document(&answer.body)?;
        let mut records = records(document, &self.records)?;
        let said = Said { document, headers: &answer.headers, address, records: records.len() as u64 };
        let next = self.pages.as_ref().map(|pages| pages.next(place.page.as_ref(), &said)).transpose()?.flatten();
        if let Some(since) = &self.since {
            records.retain(|record| since.take(record, &mut place.read));
        }
        Ok(Written { next, records: records.into_iter().map(|record| record.get().to_owned()).collect() })
    }

    /// The headers by which the service tells whether anything has changed since this answer. What is asked for has to be the same.
    fn validators(&self, answer: &Answer) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.pages.is_some() || self.since.is_some() {
            return headers;
        }
        for (said, asked) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
            headers.extend(answer.headers.get(said).map(|value| (asked, value.clone())));
        }
        headers
    }

    /// Asks for the first page, and changes nothing.
    pub async fn look(&self) -> Result<String> {
        let address = self.next_address(&Place::default())?;
        let answer = self.client.look(&address).await?;
        let doing = || format!("reading the answer of `{}`", shown(&address));
        let page = self.page(&answer, &address, &mut Place::default()).doing(doing)?;
        let count = page.records.len();
        let records = if count == 1 { "record" } else { "records" };
        Ok(format!("{count} {records} on the first page of `{}`", shown(&address)))
    }
}
