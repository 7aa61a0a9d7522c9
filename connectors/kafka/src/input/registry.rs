//! A registry of schemas that is asked over HTTP, as Confluent's is.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{Error, PlanContext, Problem, Result, ResultExt as _};
use millstream_formats::{RegisteredSchema, SchemaId};
use millstream_http::{Documents, HttpConnection};
use schemars::JsonSchema;
use serde::Deserialize;

use super::schemas::Registry;

/// How many schemas one may name, together with those that these name.
const MAX_REFERENCES: usize = 100;

/// A registry of schemas that speaks as Confluent's does.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RegistrySettings {
    #[serde(flatten)]
    connection: HttpConnection,
}

impl RegistrySettings {
    /// The registry. Nothing is asked yet.
    pub fn registry(&self, context: &PlanContext) -> Result<Arc<dyn Registry>, Problem> {
        Ok(Arc::new(HttpRegistry { documents: Documents::new(&self.connection, context)? }))
    }
}

/// A registry that is asked over HTTP.
struct HttpRegistry {
    documents: Documents,
}

/// What a registry says about a schema.
#[derive(Deserialize)]
struct Answer {
    schema: String,
    #[serde(default)]
    references: Vec<Reference>,
}

/// Another schema that one names.
#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: u32,
}

impl HttpRegistry {
    /// The schema at a path. None if there is none.
    async fn get(&self, path: &str) -> Result<Option<Answer>> {
        let Some(text) = self.documents.get(path).await? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).doing(|| format!("reading what the registry says of `{path}`"))
    }

    /// The schemas that one names, and those that these name.
    async fn references(&self, of: Vec<Reference>) -> Result<Vec<String>> {
        let (mut open, mut seen, mut found) = (of, BTreeSet::new(), Vec::new());
        while let Some(Reference { subject, version }) = open.pop() {
            if seen.len() == MAX_REFERENCES {
                return Err(Error::new(format!("a schema names more than {MAX_REFERENCES} others")));
            }
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            let path = format!("subjects/{}/versions/{version}", escaped(&subject));
            let answer = self.get(&path).await?.ok_or_else(|| {
                Error::new(format!("the registry does not have version {version} of `{subject}`, which a schema names"))
            })?;
            open.extend(answer.references);
            found.push(answer.schema);
        }
        Ok(found)
    }
}

/// A part of a path.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[async_trait]
impl Registry for HttpRegistry {
    async fn fetch(&self, id: SchemaId) -> Result<Option<RegisteredSchema>> {
        let path = match id {
            SchemaId::Number(number) => format!("schemas/ids/{number}"),
            SchemaId::Guid(_) => format!("schemas/guids/{id}"),
        };
        let Some(Answer { schema, references }) = self.get(&path).await? else { return Ok(None) };
        Ok(Some(RegisteredSchema { schema, references: self.references(references).await? }))
    }
}
