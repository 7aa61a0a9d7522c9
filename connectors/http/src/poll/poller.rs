//! Asks for pages, and writes each into the log with what is to be asked for behind it.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Result, ResultExt as _};
use millstream_store::Log;
use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::asking::{Asking, PAUSE, Shared, wait_for_room};
use super::pages::{Page, Pages, Said};
use super::records::{Pointer, document, records};
use super::since::{Read, Since};
use crate::client::{Answer, Client, shown};

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
    end: u64,
}

/// A page as it is in the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    /// The page behind it. None if the poll is over.
    next: Option<Page>,
    /// Its records, as the service has written them.
    records: Vec<String>,
}

impl Asking for Source {
    type Place = Place;
    type Page = Written;

    fn max_log(&self) -> u64 {
        self.max_log
    }

    fn end(place: &mut Place) -> &mut u64 {
        &mut place.end
    }

    fn records(page: Written) -> Vec<String> {
        page.records
    }

    fn learn(&self, page: &Written, end: u64, place: &mut Place) -> Result<()> {
        if let Some(since) = &self.since {
            for record in &page.records {
                let record = serde_json::from_str(record).doing(|| "reading a record of the log")?;
                since.take(record, &mut place.read);
            }
        }
        place.end = end;
        self.go_on(page.next.clone(), place)
    }

    async fn poll(self: Arc<Self>, log: Arc<Log>, shared: Arc<Shared<Place>>) -> Result<()> {
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
}

impl Source {
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

    /// Reads the next page. Returns whether there is another one in this poll.
    async fn read_page(&self, log: &Log, shared: &Shared<Place>, validators: &mut HeaderMap) -> Result<bool> {
        wait_for_room(log, self.max_log).await;
        let mut place = shared.place().clone();
        let address = self.next_address(&place)?;
        let ask = || self.client.get(&address, validators);
        let answer = shared.until_answered(!self.is_bounded, PAUSE, ask).await?;
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
