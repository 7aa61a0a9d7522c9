//! Reads pages one after the other, and writes the rows of each into the log with the links that are followed behind it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::{Error, ErrorClass, Result, ResultExt as _};
use millstream_formats::text_of;
use millstream_store::Log;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::extract::{Extract, Extracted};
use super::robots::Robots;
use crate::client::{Answer, Client, shown};
use crate::poll::asking::{Asking, PAUSE, Shared, wait_for_room};

/// What is read, and how.
pub struct Site {
    pub client: Client,
    /// The pages with which a round begins.
    pub start: Vec<Url>,
    /// By what name robots.txt knows the program.
    pub agent: String,
    pub extract: Extract,
    /// How many links lie between a first page and a page that is read.
    pub depth: u32,
    /// What the paths of pages begin with that are followed.
    pub within: String,
    pub max_pages: usize,
    pub every: Duration,
    pub is_bounded: bool,
    pub max_log: u64,
    /// For people.
    pub counts: Counts,
}

/// How many pages there were.
#[derive(Debug, Default)]
pub struct Counts {
    read: AtomicU64,
    left_out: AtomicU64,
}

/// A page that is to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Next {
    url: String,
    /// How many links lead to it from a first page.
    depth: u32,
}

/// How far a round has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// Which round it is.
    round: u64,
    /// What is still to be read.
    queue: VecDeque<Next>,
    /// What was read or is to be read in this round.
    seen: BTreeSet<[u8; 16]>,
    end: u64,
}

/// A page as it is in the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    round: u64,
    url: String,
    /// The pages that it leads to for the first time.
    links: Vec<Next>,
    records: Vec<String>,
}

/// By what an address is known.
fn known_by(url: &str) -> [u8; 16] {
    let mut known = [0; 16];
    known.copy_from_slice(&blake3::hash(url.as_bytes()).as_bytes()[..16]);
    known
}

impl Place {
    /// Adds a page to the queue, if it is new in this round.
    fn add(&mut self, next: Next) {
        if self.seen.insert(known_by(&next.url)) {
            self.queue.push_back(next);
        }
    }

    /// A page has been read. Those before it had no rows if they are still there, so that nothing is known of their links.
    fn pass(&mut self, url: &str, links: &[Next]) {
        self.queue.retain(|next| next.url != url);
        self.seen.insert(known_by(url));
        links.iter().for_each(|link| self.add(link.clone()));
    }
}

impl Asking for Site {
    type Place = Place;
    type Page = Page;

    fn max_log(&self) -> u64 {
        self.max_log
    }

    fn end(place: &mut Place) -> &mut u64 {
        &mut place.end
    }

    fn records(page: Page) -> Vec<String> {
        page.records
    }

    fn learn(&self, page: &Page, end: u64, place: &mut Place) -> Result<()> {
        if page.round != place.round {
            self.begin(page.round, place);
        }
        place.pass(&page.url, &page.links);
        place.end = end;
        Ok(())
    }

    async fn poll(self: Arc<Self>, log: Arc<Log>, shared: Arc<Shared<Place>>) -> Result<()> {
        loop {
            let begun = Instant::now();
            let robots = self.robots(&shared).await?;
            let mut place = shared.place().clone();
            if place.queue.is_empty() {
                self.begin(place.round + 1, &mut place);
                *shared.place() = place;
            }
            while self.read_next(&log, &shared, &robots).await? {}
            if self.is_bounded {
                return Ok(());
            }
            sleep_until(begun + self.every).await;
        }
    }

    fn report(&self) -> Vec<(&'static str, Value)> {
        let count = |count: &AtomicU64| json!(count.load(Ordering::Relaxed));
        vec![("pages", count(&self.counts.read)), ("left_out", count(&self.counts.left_out))]
    }
}

impl Site {
    /// Begins a round.
    fn begin(&self, round: u64, place: &mut Place) {
        place.round = round;
        place.queue.clear();
        place.seen.clear();
        for url in &self.start {
            place.add(Next { url: url.to_string(), depth: 0 });
        }
    }

    /// What may be read; waits as long as it takes for a site to say so, if the input is live.
    async fn robots(&self, shared: &Shared<Place>) -> Result<Robots> {
        let first = self.start.first().ok_or_else(|| Error::new("there is no page to begin with"))?;
        let ask = || Robots::ask(&self.client, first, &self.agent);
        let robots = shared.until_answered(!self.is_bounded, PAUSE, ask).await?;
        self.start.iter().try_for_each(|url| robots.require(url))?;
        Ok(robots)
    }

    /// Reads the next page of the round. Returns whether there is another one.
    async fn read_next(&self, log: &Log, shared: &Shared<Place>, robots: &Robots) -> Result<bool> {
        wait_for_room(log, self.max_log).await;
        let Some(next) = shared.place().queue.front().cloned() else { return Ok(false) };
        let url: Url = next.url.parse().map_err(|_| Error::new("a page that is to be read has no address"))?;
        let page = self.read(&next, &url, shared, robots).await?;
        let mut place = shared.place().clone();
        place.pass(&next.url, &page.links);
        if !page.records.is_empty() {
            let rows = page.records.len() as u32;
            let payload = postcard::to_allocvec(&page).doing(|| "writing a page into the log")?;
            place.end = log.append(payload, rows).await? + u64::from(rows);
        }
        let has_more = !place.queue.is_empty();
        *shared.place() = place;
        Ok(has_more)
    }

    /// Reads a page. One that a link leads to has nothing if it can't be read.
    async fn read(&self, next: &Next, url: &Url, shared: &Shared<Place>, robots: &Robots) -> Result<Page> {
        let headers = HeaderMap::new();
        let ask = || self.client.get_if(url, &headers, |status| !is_busy(status));
        let answer = shared.until_answered(!self.is_bounded, PAUSE, ask).await?;
        let round = shared.place().round;
        let none = || Page { round, url: next.url.clone(), links: Vec::new(), records: Vec::new() };
        if let Some(target) = redirect(&answer, url) {
            let links = self.follow(vec![target], next.depth, shared, robots);
            if next.depth == 0 && links.is_empty() {
                return Err(answer.refusal(&format!("reading `{}`", shown(url))));
            }
            return Ok(Page { links, ..none() });
        }
        let why = match (answer.status.is_success(), is_html(&answer.headers)) {
            (true, true) => {
                self.counts.read.fetch_add(1, Ordering::Relaxed);
                let Extracted { records, links } = self.take(&answer, url)?;
                let links = if next.depth < self.depth { links } else { Vec::new() };
                let links = self.follow(links, next.depth + 1, shared, robots);
                return Ok(Page { links, records, ..none() });
            }
            (true, false) => Error::new(format!("reading `{}`: it is no HTML", shown(url))),
            (false, _) => answer.refusal(&format!("reading `{}`", shown(url))).of_class(ErrorClass::Permanent),
        };
        if next.depth == 0 {
            return Err(why);
        }
        tracing::debug!("{why}; it is left out");
        self.counts.left_out.fetch_add(1, Ordering::Relaxed);
        Ok(none())
    }

    fn take(&self, answer: &Answer, url: &Url) -> Result<Extracted> {
        let doing = || format!("reading `{}`", shown(url));
        let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let charset = kind.to_ascii_lowercase();
        let charset =
            charset.split_once("charset=").map_or("utf-8", |(_, charset)| charset.trim_matches(['"', ' ', ';']));
        let text = text_of(charset, &answer.body);
        let text =
            text.ok_or_else(|| Error::new(format!("its text is in `{charset}`, which is not known"))).doing(doing)?;
        self.extract.take(&text, url).doing(doing)
    }

    /// The links that are followed: to pages of the same site that may be read, and that are new in this round.
    fn follow(&self, links: Vec<Url>, depth: u32, shared: &Shared<Place>, robots: &Robots) -> Vec<Next> {
        let place = shared.place();
        let mut room = self.max_pages.saturating_sub(place.seen.len());
        let mut followed: Vec<Next> = Vec::new();
        for mut url in links {
            url.set_fragment(None);
            let is_own = self.start.first().is_some_and(|first| first.origin() == url.origin());
            let next = Next { url: url.to_string(), depth };
            let is_new =
                !place.seen.contains(&known_by(&next.url)) && !followed.iter().any(|other| other.url == next.url);
            if is_own && is_new && room > 0 && url.path().starts_with(&self.within) && robots.allow(&url) {
                room -= 1;
                followed.push(next);
            }
        }
        followed
    }

    /// Reads the first page, and changes nothing.
    pub async fn look(&self) -> Result<String> {
        let robots = Robots::ask(&self.client, &self.start[0], &self.agent).await?;
        let url = &self.start[0];
        robots.require(url)?;
        let answer = self.client.look(url).await?;
        let Extracted { records, links } = self.take(&answer, url)?;
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        Ok(format!("{} and {} on `{}`", count(records.len(), "row"), count(links.len(), "link"), shown(url)))
    }
}

/// Whether a page may be there in a while.
fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504)
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?").to_ascii_lowercase());
    kind.is_none_or(|kind| kind.starts_with("text/html") || kind.starts_with("application/xhtml"))
}

/// Where a page has gone.
fn redirect(answer: &Answer, url: &Url) -> Option<Url> {
    let is_moved = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let target = answer.headers.get(LOCATION).filter(|_| is_moved)?.to_str().ok()?;
    url.join(target).ok()
}
