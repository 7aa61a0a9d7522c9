//! What a client of MLflow's registry asks for: by the query of `GET`, and else by a JSON body, also of `DELETE`.

use std::sync::Arc;

use axum::extract::{FromRequest, Query, Request};
use axum::http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::super::{Serving, body};
use super::Failure;
use crate::refusal::Refusal;

/// What a request says.
#[derive(Debug, Default)]
pub struct Asked(Vec<(String, Value)>);

/// A list of pairs, since some come several times.
type Pairs = Vec<(String, String)>;

impl FromRequest<Arc<Serving>> for Asked {
    type Rejection = Failure;

    async fn from_request(request: Request, serving: &Arc<Serving>) -> Result<Self, Failure> {
        if request.method() == Method::GET {
            let Query(pairs) = Query::<Pairs>::try_from_uri(request.uri())
                .map_err(|error| Refusal::wrong(format!("what is behind `?` can't be read: {error}")))?;
            return Ok(Self(pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect()));
        }
        let (parts, said) = request.into_parts();
        let (bytes, _share) = body::read(&parts.headers, said, serving).await?;
        let said: serde_json::Map<String, Value> = body::json(&bytes)?;
        Ok(Self(said.into_iter().collect()))
    }
}

impl Asked {
    /// What is said under a name, if anything is.
    pub fn find(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, value)| known == name && !value.is_null()).map(|(_, value)| value)
    }

    /// All that is said, without what is null.
    pub fn all(&self) -> serde_json::Map<String, Value> {
        self.0.iter().filter(|(_, value)| !value.is_null()).cloned().collect()
    }

    /// A text, if it is said.
    ///
    /// # Errors
    /// If it is no text.
    pub fn text_if_any(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let text = |value: &Value| value.as_str().map(str::len);
        match self.find(name) {
            Some(value) if text(value).is_none() => Err(Refusal::wrong(format!("`{name}` is not a text"))),
            found => Ok(found.and_then(Value::as_str)),
        }
    }

    /// A text that has to be said.
    ///
    /// # Errors
    /// If it is not, or is no text.
    pub fn text(&self, name: &str) -> Result<&str, Refusal> {
        self.text_if_any(name)?.ok_or_else(|| Refusal::wrong(format!("`{name}` is missing")))
    }

    /// A number that has to be said; clients write them as texts as well.
    ///
    /// # Errors
    /// If it is not, or is no number.
    pub fn number(&self, name: &str) -> Result<u64, Refusal> {
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let value = self.find(name).ok_or_else(|| Refusal::wrong(format!("`{name}` is missing")))?;
        number(value).ok_or_else(|| Refusal::wrong(format!("`{name}` is not a number such as 3")))
    }

    /// All that is said under a name: a list, or the same name several times.
    ///
    /// # Errors
    /// If one is no text.
    pub fn texts(&self, name: &str) -> Result<Vec<&str>, Refusal> {
        let said = self.0.iter().filter(|(known, value)| known == name && !value.is_null()).map(|(_, value)| value);
        let flat = said.flat_map(|value| value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice));
        flat.map(|value| value.as_str().ok_or_else(|| Refusal::wrong(format!("`{name}` is not a text")))).collect()
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// How many at most.
    pub most: usize,
    /// Behind how many that were told before.
    pub behind: usize,
}

impl Page {
    /// How many are told at most, whatever is asked for.
    const MOST: usize = 200;

    /// What is asked for.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn of(asked: &Asked) -> Result<Self, Refusal> {
        let most = asked.find("max_results").map(|_| asked.number("max_results")).transpose()?;
        let behind = match asked.text_if_any("page_token")? {
            None | Some("") => 0,
            Some(token) => token.parse().map_err(|_| Refusal::wrong("`page_token` is none that was given"))?,
        };
        let most = most.map_or(Self::MOST, |most| usize::try_from(most).unwrap_or(usize::MAX).clamp(1, Self::MOST));
        Ok(Self { most, behind })
    }

    /// The part of a list, and what to ask for to get the next one.
    pub fn part<'a, T>(&self, all: &'a [T]) -> (&'a [T], Option<String>) {
        let begin = self.behind.min(all.len());
        let end = begin.saturating_add(self.most).min(all.len());
        (&all[begin..end], (end < all.len()).then(|| end.to_string()))
    }
}
