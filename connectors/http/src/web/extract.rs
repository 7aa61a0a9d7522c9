//! What a page has: rows by CSS selectors, and links.

use std::collections::BTreeMap;

use millstream_core::{ByteSize, Error, Problem, Result};
use reqwest::Url;
use schemars::JsonSchema;
use scraper::{ElementRef, Html, Selector};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::document::parse;

/// Where the text of a column is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Place {
    /// In the first element that this CSS selector finds within the row's element.
    Selector(String),
    /// In an attribute of an element, or something that is known of the page.
    Part(Part),
}

/// Where the text of a column is, if it is not simply in an element.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The CSS selector of the element within the row's; without it, the row's element itself.
    select: Option<String>,
    /// The attribute: `"href"`. Addresses in `href` and `src` become whole ones. Without it, the text of the element.
    attribute: Option<String>,
    /// In place of both: `"url"` for the address of the page.
    page: Option<OfPage>,
}

/// What is known of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfPage {
    /// Its address.
    Url,
}

/// What is taken of a page.
#[derive(Clone, Debug)]
pub struct Extract {
    /// The elements that are rows; the whole page if none are named.
    pub rows: Option<String>,
    pub columns: BTreeMap<String, Place>,
    /// The elements with links that are followed.
    pub links: Option<String>,
    /// How many bytes the rows of a page may have: elements that are within each other have the same text again and again.
    pub most: usize,
}

/// What there was.
#[derive(Debug, PartialEq, Eq)]
pub struct Extracted {
    /// Rows as objects of JSON.
    pub records: Vec<String>,
    pub links: Vec<Url>,
}

fn selector(text: &str) -> Result<Selector, Problem> {
    Selector::parse(text).map_err(|error| {
        let help = "such as `h2`, `.price`, `#main a[href]` or `div.offer > span`";
        Problem::new(format!("`{text}` is no CSS selector: {error}")).help(help)
    })
}

impl Extract {
    /// Checks the selectors.
    pub fn check(&self) -> Result<(), Problem> {
        if let Some(rows) = &self.rows {
            selector(rows).map_err(|problem| problem.at(["rows"]))?;
        }
        if let Some(links) = &self.links {
            selector(links).map_err(|problem| problem.at(["follow", "links"]))?;
        }
        for (name, place) in &self.columns {
            let at = |problem: Problem| problem.at(["columns", name.as_str()]);
            match place {
                Place::Selector(text) => _ = selector(text).map_err(at)?,
                Place::Part(Part { select: None, attribute: None, page: None }) => {
                    let help = "`{ select = \"a\", attribute = \"href\" }`, or `{ page = \"url\" }`";
                    return Err(at(Problem::new("it is not said where the text is").help(help)));
                }
                Place::Part(Part { select, attribute, page }) => {
                    if page.is_some() && (select.is_some() || attribute.is_some()) {
                        return Err(at(Problem::new("what is known of the page is in no element")));
                    }
                    if let Some(select) = select {
                        selector(select).map_err(at)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes what there is in a page.
    ///
    /// # Errors
    /// If the page is none that can be read, or has too many rows.
    pub fn take(&self, html: &str, url: &Url) -> Result<Extracted> {
        let wrong = |problem: Problem| Error::new(problem.to_string());
        let page = parse(html)?;
        let base = base(&page, url);
        let places = self.columns.iter().map(|(name, place)| Ok((name, Found::new(place)?)));
        let places = places.collect::<Result<Vec<_>, Problem>>().map_err(wrong)?;
        let record = |element: ElementRef<'_>| {
            let texts = places.iter().filter_map(|(name, place)| {
                let text = place.text(element, &base, url)?;
                Some(((*name).clone(), Value::String(text)))
            });
            Value::Object(texts.collect::<Map<_, _>>()).to_string()
        };
        let mut records = Vec::new();
        match &self.rows {
            None => records.push(record(page.root_element())),
            Some(rows) => {
                let mut bytes = 0;
                for element in page.select(&selector(rows).map_err(wrong)?) {
                    let record = record(element);
                    bytes += record.len();
                    if bytes > self.most {
                        let most = ByteSize(self.most);
                        return Err(Error::new(format!(
                            "its rows have more than {most} (`max_response`); `rows` should be narrower"
                        )));
                    }
                    records.push(record);
                }
            }
        }
        let links = match &self.links {
            None => Vec::new(),
            Some(links) => {
                let links = selector(links).map_err(wrong)?;
                page.select(&links).filter_map(|element| base.join(element.attr("href")?.trim()).ok()).collect()
            }
        };
        Ok(Extracted { records, links })
    }
}

/// What addresses of a page are relative to.
fn base(page: &Html, url: &Url) -> Url {
    let said = Selector::parse("base[href]").ok();
    let said = said.and_then(|base| url.join(page.select(&base).next()?.attr("href")?).ok());
    said.unwrap_or_else(|| url.clone())
}

/// A place whose selector has been read.
struct Found<'a> {
    select: Option<Selector>,
    attribute: Option<&'a str>,
    is_url: bool,
}

impl<'a> Found<'a> {
    fn new(place: &'a Place) -> Result<Self, Problem> {
        Ok(match place {
            Place::Selector(text) => Self { select: Some(selector(text)?), attribute: None, is_url: false },
            Place::Part(Part { select, attribute, page }) => Self {
                select: select.as_deref().map(selector).transpose()?,
                attribute: attribute.as_deref(),
                is_url: page.is_some(),
            },
        })
    }

    /// The text for a row. None if there is no such element, or no such attribute.
    fn text(&self, row: ElementRef<'_>, base: &Url, url: &Url) -> Option<String> {
        if self.is_url {
            return Some(url.to_string());
        }
        let element = match &self.select {
            Some(select) => row.select(select).next()?,
            None => row,
        };
        match self.attribute {
            Some(name @ ("href" | "src")) => {
                let text = element.attr(name)?.trim();
                Some(base.join(text).map_or_else(|_| text.to_owned(), |whole| whole.to_string()))
            }
            Some(name) => element.attr(name).map(str::to_owned),
            None => Some(joined(element)),
        }
    }
}

/// The text of an element, with one space wherever there is white space.
fn joined(element: ElementRef<'_>) -> String {
    let mut joined = String::new();
    let mut is_behind_space = true;
    for letter in element.text().flat_map(str::chars) {
        if !letter.is_whitespace() {
            joined.push(letter);
        } else if !is_behind_space {
            joined.push(' ');
        }
        is_behind_space = letter.is_whitespace();
    }
    joined.truncate(joined.trim_end().len());
    joined
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::Hostile;

    use super::*;

    const PAGE: &str = r#"<html><head><title> Offers
        of today</title></head><body>
        <div class="offer"><h2>A &amp; <b>B</b></h2><span class=price>1.50</span><a href="/a?x=1">more</a></div>
        <div class="offer" data-id="7"><h2>C</h2><a href="b">more</a>
        <a class="next" href="?page=2">next</a><a class="next" href="https://other.example.com/">else</a><a class=next>none</a>"#;

    fn extract(rows: Option<&str>, columns: &str) -> Extract {
        let columns = toml::from_str(columns).unwrap();
        Extract { rows: rows.map(str::to_owned), columns, links: Some(".next".to_owned()), most: 1 << 20 }
    }

    #[test]
    fn rows_and_links_are_found_by_selectors() {
        let columns = "name = 'h2'\nprice = '.price'\nlink = { select = 'a', attribute = 'href' }\nid = { attribute = 'data-id' }\n\
                       at = { page = 'url' }";
        let extract = extract(Some("div.offer"), columns);
        extract.check().unwrap();
        let url: Url = "http://a/offers/?page=1".parse().unwrap();
        let Extracted { records, links } = extract.take(PAGE, &url).unwrap();
        let expected = [
            r#"{"at":"http://a/offers/?page=1","link":"http://a/a?x=1","name":"A & B","price":"1.50"}"#,
            r#"{"at":"http://a/offers/?page=1","id":"7","link":"http://a/offers/b","name":"C"}"#,
        ];
        assert_eq!(records, expected);
        let links: Vec<_> = links.iter().map(Url::as_str).collect();
        assert_eq!(links, ["http://a/offers/?page=2", "https://other.example.com/"]);
    }

    #[test]
    fn without_rows_the_page_is_one() {
        let url: Url = "http://a/".parse().unwrap();
        let extracted = extract(None, "title = 'title'").take(PAGE, &url).unwrap();
        assert_eq!(extracted.records, [r#"{"title":"Offers of today"}"#]);
        let nested = format!("{}{}", "<p><div>".repeat(400), "x".repeat(10_000));
        let error = extract(Some("div"), "text = { select = 'div' }").take(&nested, &url).unwrap_err().to_string();
        assert!(error.contains("its rows have more than 1MiB"), "{error}");
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for columns in ["a = '::'", "a = { select = '<' }", "a = {}", "a = { page = 'url', select = 'b' }"] {
            assert!(extract(None, columns).check().is_err(), "{columns}");
        }
        assert!(extract(Some("["), "").check().is_err());
    }
    #[test]
    fn hostile_pages_do_no_harm() {
        let columns = "name = 'h2'\nprice = 'div > .price'\nlink = { select = 'a', attribute = 'href' }";
        let extract = extract(Some("div"), columns);
        let url: Url = "http://a/offers/?page=1".parse().unwrap();
        let table =
            "<table><div>x<tr><td><p><b><i><p></b><svg><a href=//:><base href='http://[::1'></table><select><option>";
        Hostile::new([PAGE, table]).attack(|bytes| _ = extract.take(&String::from_utf8_lossy(bytes), &url));
    }
}
