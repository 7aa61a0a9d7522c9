//! Pages: how a service parts what it has, and where the next one is.

use millstream_core::{Error, Problem, Result};
use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::records::Pointer;

/// How the service parts what it has into pages.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Pages {
    /// By the number of records before a page. The last page has fewer records than the others.
    Offset {
        /// The parameter with that number.
        #[serde(default = "offset")]
        parameter: String,
        /// The parameter that says how many records a page has.
        #[serde(default = "limit")]
        size_parameter: String,
        /// How many.
        size: u64,
    },
    /// By the number of the page. The last page has fewer records than the others.
    Page {
        /// The parameter with that number.
        #[serde(default = "page")]
        parameter: String,
        /// The number of the first page, by default 1.
        #[serde(default = "first")]
        first: u64,
        /// The parameter that says how many records a page has.
        size_parameter: Option<String>,
        /// How many.
        size: u64,
    },
    /// By a mark that each answer has for the next page. The last one has none.
    Cursor {
        /// The parameter with the mark.
        #[serde(default = "cursor")]
        parameter: String,
        /// Where the mark is in an answer: `"$.meta.next_cursor"`.
        next: Pointer,
    },
    /// By an address for the next page, in the header `Link` of each answer (`rel="next"`), or in the answer itself.
    Link {
        /// Where the address is in an answer, if it is not in the header.
        next: Option<Pointer>,
    },
}

fn offset() -> String {
    "offset".to_owned()
}

fn limit() -> String {
    "limit".to_owned()
}

fn page() -> String {
    "page".to_owned()
}

fn cursor() -> String {
    "cursor".to_owned()
}

fn first() -> u64 {
    1
}

/// Which page of a poll is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Page {
    /// The one behind so many, which have so many records.
    Number {
        /// How many pages are before it.
        pages: u64,
        /// How many records.
        records: u64,
    },
    /// The one with this mark.
    Cursor(String),
    /// The one at this address.
    Address(String),
}

/// What the service has said.
pub struct Said<'a> {
    pub document: &'a RawValue,
    pub headers: &'a HeaderMap,
    /// Where it was asked.
    pub address: &'a Url,
    /// How many records have come.
    pub records: u64,
}

impl Pages {
    /// Refuses pages that have no records.
    pub fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Offset { size: 0, .. } | Self::Page { size: 0, .. } => {
                Err(Problem::new("a page without records has no end").help("ask for 100, say").at(["size"]))
            }
            _ => Ok(()),
        }
    }

    /// The address of a page; the first one if none is named.
    pub fn address(&self, all: &Url, page: Option<&Page>) -> Result<Url> {
        let mut address = all.clone();
        let (pages, records) = match page {
            Some(Page::Number { pages, records }) => (*pages, *records),
            _ => (0, 0),
        };
        match (self, page) {
            (Self::Offset { parameter, size_parameter, size }, _) => {
                address
                    .query_pairs_mut()
                    .append_pair(parameter, &records.to_string())
                    .append_pair(size_parameter, &size.to_string());
            }
            (Self::Page { parameter, first, size_parameter, size }, _) => {
                address.query_pairs_mut().append_pair(parameter, &(first + pages).to_string());
                if let Some(size_parameter) = size_parameter {
                    address.query_pairs_mut().append_pair(size_parameter, &size.to_string());
                }
            }
            (Self::Cursor { parameter, .. }, Some(Page::Cursor(mark))) => {
                address.query_pairs_mut().append_pair(parameter, mark);
            }
            (Self::Link { .. }, Some(Page::Address(next))) => address = own(all, next)?,
            (Self::Cursor { .. } | Self::Link { .. }, _) => {}
        }
        Ok(address)
    }

    /// The page behind one, if there is any.
    pub fn next(&self, page: Option<&Page>, said: &Said<'_>) -> Result<Option<Page>> {
        let next = match self {
            Self::Offset { size, .. } | Self::Page { size, .. } => {
                let (pages, records) = match page {
                    Some(Page::Number { pages, records }) => (*pages, *records),
                    _ => (0, 0),
                };
                (said.records >= *size).then(|| Page::Number { pages: pages + 1, records: records + said.records })
            }
            Self::Cursor { next, .. } => next.text(said.document).filter(|mark| !mark.is_empty()).map(Page::Cursor),
            Self::Link { next: Some(next) } => {
                next.text(said.document).filter(|next| !next.is_empty()).map(Page::Address)
            }
            Self::Link { next: None } => linked(said.headers).map(Page::Address),
        };
        // An address may be relative, and has to be the service's own.
        let next = match next {
            Some(Page::Address(next)) => Some(Page::Address(own(said.address, &next)?.to_string())),
            next => next,
        };
        if next.is_some() && next.as_ref() == page {
            return Err(Error::new(
                "the page behind a page is the same one: the service would be asked for it for ever",
            ));
        }
        Ok(next)
    }
}

/// The address that a service gives, if it is its own.
fn own(base: &Url, next: &str) -> Result<Url> {
    let next = base.join(next).map_err(|_| Error::new("the address of the next page is none"))?;
    if next.origin() == base.origin() {
        return Ok(next);
    }
    let host = next.host_str().unwrap_or_default();
    Err(Error::new(format!("the next page is said to be at `{host}`, which is another service, and so is not asked")))
}

/// The address in a header `Link: <…>; rel="next"`.
fn linked(headers: &HeaderMap) -> Option<String> {
    let texts = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split('<').skip(1)).find_map(|link| {
        let (address, parameters) = link.split_once('>')?;
        let relation = parameters.split(';').map(str::trim).find_map(|parameter| parameter.strip_prefix("rel="))?;
        let relation = relation.trim_end_matches([',', ' ']).trim_matches('"');
        relation.split(' ').any(|word| word == "next").then(|| address.to_owned())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::records::document;
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn next(pages: &Pages, page: Option<&Page>, body: &str, records: u64) -> Result<Option<Page>> {
        let headers = HeaderMap::new();
        let (document, address) = (document(body.as_bytes()).unwrap(), url("http://a/x"));
        pages.next(page, &Said { document, headers: &headers, address: &address, records })
    }

    #[test]
    fn links_have_relations() {
        for (value, expected) in [
            (r#"<https://a/x?page=2>; rel="next", <https://a/x?page=9>; rel="last""#, Some("https://a/x?page=2")),
            (r#"<https://a/x?page=9>; rel="last", </x?page=2>; title="a"; rel="prev next""#, Some("/x?page=2")),
            (r#"<https://a/x?page=1>; rel="prev""#, None),
            ("<https://a/x>", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, value.parse().unwrap());
            assert_eq!(linked(&headers).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn pages_are_counted_until_one_is_not_full() {
        let pages = Pages::Page { parameter: page(), first: 1, size_parameter: None, size: 2 };
        assert_eq!(pages.address(&url("http://a/x?q=1"), None).unwrap().as_str(), "http://a/x?q=1&page=1");
        let second = next(&pages, None, "[]", 2).unwrap().unwrap();
        assert_eq!(pages.address(&url("http://a/x"), Some(&second)).unwrap().as_str(), "http://a/x?page=2");
        assert_eq!(next(&pages, Some(&second), "[]", 1).unwrap(), None);
        let pages = Pages::Offset { parameter: offset(), size_parameter: limit(), size: 2 };
        assert_eq!(pages.address(&url("http://a/x"), Some(&second)).unwrap().as_str(), "http://a/x?offset=2&limit=2");
    }

    #[test]
    fn a_mark_that_does_not_move_is_an_error() {
        let pages = Pages::Cursor { parameter: cursor(), next: serde_json::from_str("\"$.next\"").unwrap() };
        let mark = next(&pages, None, r#"{ "next": "a b" }"#, 0).unwrap();
        assert_eq!(pages.address(&url("http://a/x"), mark.as_ref()).unwrap().as_str(), "http://a/x?cursor=a+b");
        assert!(next(&pages, mark.as_ref(), r#"{ "next": "a b" }"#, 0).is_err());
        for end in [r#"{ "next": null }"#, r#"{ "next": "" }"#, "{}"] {
            assert_eq!(next(&pages, mark.as_ref(), end, 5).unwrap(), None, "{end}");
        }
    }

    #[test]
    fn the_next_page_is_at_the_same_service() {
        let pages = Pages::Link { next: Some(serde_json::from_str("\"$.next\"").unwrap()) };
        let found = next(&pages, None, r#"{ "next": "/x?page=2" }"#, 0).unwrap();
        assert_eq!(found, Some(Page::Address("http://a/x?page=2".to_owned())));
        for other in ["http://127.0.0.1/x", "https://a/x", "http://a:81/x", "//b/x", "file:///etc/passwd"] {
            let error = next(&pages, None, &format!(r#"{{ "next": "{other}" }}"#), 0).unwrap_err();
            assert!(error.to_string().contains("another service"), "{error}");
        }
    }
}
