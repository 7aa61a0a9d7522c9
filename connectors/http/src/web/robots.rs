//! What a site lets programs read: its `robots.txt`, by RFC 9309.

use std::panic::{AssertUnwindSafe, catch_unwind};

use millstream_core::{Error, Result};
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use robotstxt::DefaultMatcher;

use crate::client::{Client, shown};

/// How much of a `robots.txt` counts.
const LARGEST: usize = 500 << 10;

/// What a site lets a program read.
#[derive(Debug)]
pub struct Robots {
    /// What it says; nothing if there is nothing.
    text: String,
    agent: String,
}

impl Robots {
    /// Asks a site.
    ///
    /// # Errors
    /// If it does not say: then nothing may be read. A transient one if it may say so later.
    pub async fn ask(client: &Client, site: &Url, agent: &str) -> Result<Self> {
        let address =
            site.join("/robots.txt").map_err(|error| Error::new(format!("a site has no robots.txt: {error}")))?;
        let is_answer = |status: StatusCode| status.is_success() || is_none(status);
        let answer = client.get_if(&address, &HeaderMap::new(), is_answer).await?;
        let text = if answer.status.is_success() { text(&answer.body) } else { String::new() };
        Ok(Self { text, agent: agent.to_owned() })
    }

    /// Whether an address may be read.
    pub fn allow(&self, url: &Url) -> bool {
        let allowed = || DefaultMatcher::default().one_agent_allowed_by_robots(&self.text, &self.agent, url.as_str());
        // What can't be understood allows nothing.
        catch_unwind(AssertUnwindSafe(allowed)).unwrap_or(false)
    }

    /// Fails where an address may not be read that was asked for.
    pub fn require(&self, url: &Url) -> Result<()> {
        if self.allow(url) {
            return Ok(());
        }
        Err(Error::new(format!("the robots.txt of the site does not let `{}` read `{}`", self.agent, shown(url))))
    }
}

/// Whether a site has no such file, so that everything may be read.
fn is_none(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429)
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(LARGEST)]).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rule_counts() {
        let text = "User-agent: *\nDisallow: /\n\nUser-agent: millstream\nDisallow: /private\nAllow: /private/open\n";
        let may = |agent: &str, path: &str| {
            let robots = Robots { text: text.to_owned(), agent: agent.to_owned() };
            robots.allow(&format!("http://a{path}").parse().unwrap())
        };
        assert!(may("millstream", "/") && may("millstream", "/private/open/x?y=1"));
        assert!(!may("millstream", "/private/x") && !may("other", "/"));
        let none = Robots { text: String::new(), agent: "millstream".to_owned() };
        assert!(none.allow(&"http://a/x".parse().unwrap()));
    }
}
