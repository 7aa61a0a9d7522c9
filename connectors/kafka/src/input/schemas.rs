//! Schemas that messages name: fetched from a registry when they are first named, and kept in the flow's state, so that the same
//! messages are read alike whatever has become of the registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_core::{ErrorClass, Result};
use millstream_formats::{MessageReader, RegisteredSchema, SchemaId};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// The first pause before a registry is asked again, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Has the schemas that messages name.
#[async_trait]
pub trait Registry: Send + Sync {
    /// A schema. None if there is no such.
    async fn fetch(&self, id: SchemaId) -> Result<Option<RegisteredSchema>>;
}

/// A schema that was named, or that the registry did not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    id: SchemaId,
    schema: Option<RegisteredSchema>,
}

/// The schemas of a registry.
pub struct Schemas {
    registry: Arc<dyn Registry>,
    known: BTreeMap<SchemaId, Option<RegisteredSchema>>,
}

impl Schemas {
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry, known: BTreeMap::new() }
    }

    /// What is kept in the state.
    pub fn keep(&self) -> Vec<Known> {
        self.known.iter().map(|(id, schema)| Known { id: *id, schema: schema.clone() }).collect()
    }

    /// Takes what was kept.
    pub fn restore(&mut self, kept: Vec<Known>, reader: &mut dyn MessageReader) -> Result<()> {
        kept.into_iter().try_for_each(|Known { id, schema }| self.add(id, schema, reader))
    }

    /// Gives a schema to what reads messages.
    pub fn add(
        &mut self,
        id: SchemaId,
        schema: Option<RegisteredSchema>,
        reader: &mut dyn MessageReader,
    ) -> Result<()> {
        if let Some(note) = reader.add_schema(id, schema.as_ref())? {
            tracing::warn!("{note}");
        }
        self.known.insert(id, schema);
        Ok(())
    }

    /// Asks for a schema, as long as it takes.
    pub fn fetch(&self, id: SchemaId) -> impl Future<Output = Result<Option<RegisteredSchema>>> + Send + use<> {
        let registry = self.registry.clone();
        async move {
            let mut pause = PAUSE;
            loop {
                match registry.fetch(id).await {
                    Err(error) if error.class() == ErrorClass::Transient => {
                        tracing::warn!("schema {id} is waited for: {error}");
                        sleep(pause).await;
                        pause = (2 * pause).min(LONGEST_PAUSE);
                    }
                    answer => return answer,
                }
            }
        }
    }
}
