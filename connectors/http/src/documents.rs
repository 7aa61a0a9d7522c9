//! Documents of a service, such as the schemas of a registry: each is asked for, or handed over, once, and what is answered read to its end.

use millstream_core::{Error, PlanContext, Problem, Result};
use reqwest::Url;

use crate::client::Client;
use crate::connection::HttpConnection;

/// Documents of a service.
pub struct Documents {
    client: Client,
    base: Url,
}

impl Documents {
    /// Those of a service. Nothing is asked yet.
    ///
    /// # Errors
    /// If a setting of the connection is wrong.
    pub fn new(connection: &HttpConnection, context: &PlanContext) -> Result<Self, Problem> {
        Ok(Self { client: connection.client(context)?, base: connection.address("")? })
    }

    /// The document at a path behind the address of the service. None if there is none.
    ///
    /// # Errors
    /// If the service refuses, or does not answer: that is a transient one.
    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let url = self.base.join(path).map_err(|error| Error::new(format!("`{path}` is no path: {error}")))?;
        Ok(self.client.find(&url).await?.map(|answer| answer.body))
    }

    /// Hands a document over at a path. It may be handed over twice, where the first answer was lost. Returns the status of the answer,
    /// which may be one of refusal (404, 409, 422), and the answer.
    ///
    /// # Errors
    /// If the service refuses who asks, or does not answer: that is a transient one.
    pub async fn post(&self, path: &str, content_type: &'static str, body: Vec<u8>) -> Result<(u16, Vec<u8>)> {
        let url = self.base.join(path).map_err(|error| Error::new(format!("`{path}` is no path: {error}")))?;
        let answer = self.client.post(&url, content_type, body).await?;
        Ok((answer.status.as_u16(), answer.body))
    }
}
