//! The models of a daemon.

use hyper::Method;
use millstream_core::{Error, ResultExt as _};
use millstream_models::registry::{CHAMPION, NotesChange, Selector};
use serde_json::{Value as Json, json};

use super::client::{Ask, Client};
use super::{RemoteArguments, encoded};
use crate::exit::CommandError;
use crate::workplace::control_runtime;

/// The models of a daemon.
pub struct RemoteModels {
    client: Client,
}

impl RemoteModels {
    /// Those of the daemon that was meant.
    pub fn new(remote: &RemoteArguments) -> Result<Self, CommandError> {
        Ok(Self { client: remote.client()? })
    }

    /// The models: their names, and what learns.
    pub fn models(&self) -> Result<Vec<Json>, CommandError> {
        self.all("/models".to_owned())
    }

    /// The versions of a model, the newest first.
    pub fn versions(&self, model: &str) -> Result<Vec<Json>, CommandError> {
        self.all(format!("/models/{}/versions", encoded(model)))
    }

    /// The card of a version.
    pub fn card(&self, model: &str, version: u64) -> Result<Json, CommandError> {
        self.ask(Ask::get(format!("/models/{}/versions/{version}", encoded(model))))
    }

    /// The number of the version that is meant.
    pub fn find(&self, model: &str, selector: &Selector) -> Result<u64, CommandError> {
        let models = self.models()?;
        let missing = || Error::new(format!("there is no model `{model}`"));
        let found = models.iter().find(|known| known["name"] == model).ok_or_else(missing)?;
        let (version, what) = match selector {
            Selector::Version(version) => (Some(*version), String::new()),
            Selector::Latest => (found["latest"].as_u64(), "version".to_owned()),
            Selector::Any => (found["aliases"][CHAMPION].as_u64(), CHAMPION.to_owned()),
            Selector::Alias(alias) => (found["aliases"][alias].as_u64(), format!("alias `{alias}`")),
        };
        Ok(version.ok_or_else(|| {
            Error::new(format!(
                "model `{model}` has no {what}; `millstream models versions {model}` lists what there is"
            ))
        })?)
    }

    /// Points a name at a version.
    pub fn set_alias(&self, model: &str, alias: &str, version: u64) -> Result<(), CommandError> {
        let path = format!("/models/{}/aliases/{}", encoded(model), encoded(alias));
        self.ask(Ask::new(Method::PUT, path).json(&json!({ "version": version }))).map(drop)
    }

    /// Takes a name away.
    pub fn delete_alias(&self, model: &str, alias: &str) -> Result<(), CommandError> {
        let path = format!("/models/{}/aliases/{}", encoded(model), encoded(alias));
        let ask = Ask::new(Method::DELETE, path).json(&json!({}));
        control_runtime()?.block_on(self.client.ask(ask)).map(drop)
    }

    /// Says something of a model, or of a version of it.
    pub fn change_notes(&self, model: &str, version: Option<u64>, change: &NotesChange) -> Result<(), CommandError> {
        let version = version.map(|version| format!("/versions/{version}")).unwrap_or_default();
        let path = format!("/models/{}{version}", encoded(model));
        let change = serde_json::to_value(change).doing(|| "writing the notes as JSON")?;
        self.ask(Ask::new(Method::PATCH, path).json(&change)).map(drop)
    }

    fn ask(&self, ask: Ask) -> Result<Json, CommandError> {
        control_runtime()?.block_on(async { Ok(self.client.ask(ask).await?.json()?) })
    }

    /// A list, page by page.
    fn all(&self, path: String) -> Result<Vec<Json>, CommandError> {
        let (mut items, mut asked) = (Vec::new(), path.clone());
        loop {
            let mut page = self.ask(Ask::get(&asked))?;
            if let Json::Array(more) = page["items"].take() {
                items.extend(more);
            }
            match page["next"].as_str() {
                Some(next) => asked = format!("{path}?cursor={}", encoded(next)),
                None => return Ok(items),
            }
        }
    }
}
