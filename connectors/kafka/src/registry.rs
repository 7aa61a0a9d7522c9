//! A registry of schemas that is asked over HTTP, as Confluent's is: for the schemas that messages name, and to take those of messages
//! that are written.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use millstream_core::{Error, PlanContext, Problem, Result, ResultExt as _};
use millstream_formats::{RegisteredSchema, SchemaId, SchemaKind, WrittenSchema};
use millstream_http::{Documents, HttpConnection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::input::Registry;
use crate::part::MessagePart;

/// How many schemas one may name, together with those that these name.
const MAX_REFERENCES: usize = 100;

/// What schemas are handed over as.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Asks for types of Protobuf as descriptors, in place of their text.
const SERIALIZED: &str = "?format=serialized";

/// A registry of schemas that speaks as Confluent's does.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RegistrySettings {
    #[serde(flatten)]
    connection: HttpConnection,
    /// The subject of which `check --connect --lock` takes the newest schema, where nothing else says the columns of values. By default it is `TOPIC-value` of
    /// the one topic.
    subject: Option<String>,
    /// The same for the columns of keys, by default `TOPIC-key`.
    key_subject: Option<String>,
}

impl RegistrySettings {
    /// The subject of a part of messages in these topics.
    ///
    /// # Errors
    /// If nothing says it.
    pub fn subject(&self, part: MessagePart, topics: &[String]) -> Result<String, Problem> {
        let (said, setting) = match part {
            MessagePart::Value => (&self.subject, "subject"),
            MessagePart::Key => (&self.key_subject, "key_subject"),
        };
        match (said, topics) {
            (Some(subject), _) => Ok(subject.clone()),
            (None, [topic]) if !topic.contains(['*', '?']) => Ok(SubjectNaming::Topic.subject(topic, part, "")),
            (None, _) => {
                let problem = Problem::new(format!(
                    "`{setting}` is missing: of several topics, none says which schema has the columns"
                ));
                Err(problem
                    .help(format!("name a subject of the registry, such as `{setting} = \"payments-{}\"`", part.name()))
                    .at(["registry"]))
            }
        }
    }

    /// The registry, which is asked for schemas of messages of a format. Nothing is asked yet.
    pub fn registry(&self, format: &str, context: &PlanContext) -> Result<Arc<HttpRegistry>, Problem> {
        let form = if format.eq_ignore_ascii_case(SchemaKind::Protobuf.name()) { SERIALIZED } else { "" };
        registry(&self.connection, form, context).map_err(|problem| problem.under("registry"))
    }
}

/// A registry of schemas that speaks as Confluent's does, for messages that are written.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WriteRegistrySettings {
    #[serde(flatten)]
    connection: HttpConnection,
    /// Whether the schema is registered if the registry does not have it yet. By default it is; otherwise it has to be there.
    #[serde(default = "yes")]
    register: bool,
    /// Under which subject.
    #[serde(default)]
    pub subject: SubjectNaming,
}

fn yes() -> bool {
    true
}

/// Under which subject of a registry schemas are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectNaming {
    /// That of the topic: `TOPIC-value`, and `TOPIC-key` for keys.
    #[default]
    Topic,
    /// What the record or the type of the messages is called: `shop.Payment`.
    Record,
    /// Both: `TOPIC-shop.Payment`.
    TopicRecord,
}

impl SubjectNaming {
    fn subject(self, topic: &str, part: MessagePart, record: &str) -> String {
        match self {
            Self::Topic => format!("{topic}-{}", part.name()),
            Self::Record => record.to_owned(),
            Self::TopicRecord => format!("{topic}-{record}"),
        }
    }
}

impl WriteRegistrySettings {
    /// The registry. Nothing is asked yet.
    pub fn writer(&self, context: &PlanContext) -> Result<RegistryWriter, Problem> {
        let registry = registry(&self.connection, "", context)?;
        Ok(RegistryWriter { registry, register: self.register, naming: self.subject })
    }
}

fn registry(
    connection: &HttpConnection,
    form: &'static str,
    context: &PlanContext,
) -> Result<Arc<HttpRegistry>, Problem> {
    Ok(Arc::new(HttpRegistry { documents: Documents::new(connection, context)?, form }))
}

/// A registry that is told the schemas of messages.
pub struct RegistryWriter {
    registry: Arc<HttpRegistry>,
    register: bool,
    naming: SubjectNaming,
}

impl RegistryWriter {
    /// The number of a schema of messages in a topic.
    ///
    /// # Errors
    /// If the registry does not take it, does not have it and is not to take it, or does not answer.
    pub async fn number(&self, topic: &str, part: MessagePart, schema: &WrittenSchema) -> Result<u32> {
        let mut versions: HashMap<&str, u32> = HashMap::new();
        let mut references = Vec::new();
        let named = |names: &[String], versions: &HashMap<&str, u32>| -> Vec<Reference> {
            let reference = |name: &String| {
                let version = versions.get(name.as_str()).copied().unwrap_or(1);
                Reference { name: name.clone(), subject: name.clone(), version }
            };
            names.iter().map(reference).collect()
        };
        for file in &schema.files {
            let own = named(&file.imports, &versions);
            let told = Told { kind: schema.kind, text: &file.text, references: &own };
            let found = self.registry.number(&file.name, &told, self.register).await?;
            // What has registered it does not say which version it is.
            let version = match found.version {
                Some(version) => version,
                None => self.registry.number(&file.name, &told, false).await?.version.unwrap_or(1),
            };
            versions.insert(&file.name, version);
        }
        references.extend(named(&schema.imports, &versions));
        let subject = self.naming.subject(topic, part, &schema.name);
        let told = Told { kind: schema.kind, text: &schema.text, references: &references };
        Ok(self.registry.number(&subject, &told, self.register).await?.id)
    }
}

/// A registry that is asked over HTTP.
pub struct HttpRegistry {
    documents: Documents,
    /// In which form schemas are asked for: behind their paths.
    form: &'static str,
}

/// What a registry says about a schema.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema: String,
    /// Of one of Avro it says nothing.
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

/// Another schema that one names.
#[derive(Deserialize, Serialize)]
struct Reference {
    #[serde(default)]
    name: String,
    subject: String,
    version: u32,
}

/// What a registry is told.
struct Told<'a> {
    kind: SchemaKind,
    text: &'a str,
    references: &'a [Reference],
}

/// Where a schema is.
#[derive(Deserialize)]
struct Found {
    id: u32,
    version: Option<u32>,
}

/// What a registry says against something.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl HttpRegistry {
    /// The schema at a path. None if there is none.
    async fn get(&self, path: &str) -> Result<Option<Answer>> {
        let Some(text) = self.documents.get(path).await? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).doing(|| format!("reading what the registry says of `{path}`"))
    }

    /// The newest schema under a subject, for messages of a format.
    ///
    /// # Errors
    /// If there is none, or it is one of another format.
    pub async fn newest(&self, subject: &str, format: &str) -> Result<RegisteredSchema> {
        let found = self.get(&format!("subjects/{}/versions/latest{}", escaped(subject), self.form)).await?;
        let missing = || Error::new(format!("the registry has no schema under the subject `{subject}`"));
        let Answer { schema, schema_type, references } = found.ok_or_else(missing)?;
        let kind = schema_type.unwrap_or_else(|| SchemaKind::Avro.name().to_owned());
        if !kind.eq_ignore_ascii_case(format) {
            return Err(Error::new(format!("it is one of {kind}, and `format` is `{format}`")));
        }
        Ok(RegisteredSchema { schema, references: self.references(references).await? })
    }

    /// The schemas that one names, and those that these name.
    async fn references(&self, of: Vec<Reference>) -> Result<Vec<String>> {
        let (mut open, mut seen, mut found) = (of, BTreeSet::new(), Vec::new());
        while let Some(Reference { subject, version, .. }) = open.pop() {
            if seen.len() == MAX_REFERENCES {
                return Err(Error::new(format!("a schema names more than {MAX_REFERENCES} others")));
            }
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            let path = format!("subjects/{}/versions/{version}{}", escaped(&subject), self.form);
            let answer = self.get(&path).await?.ok_or_else(|| {
                Error::new(format!("the registry does not have version {version} of `{subject}`, which a schema names"))
            })?;
            open.extend(answer.references);
            found.push(answer.schema);
        }
        Ok(found)
    }

    /// Registers a schema under a subject, or looks it up.
    async fn number(&self, subject: &str, told: &Told<'_>, register: bool) -> Result<Found> {
        let Told { kind, text, references } = told;
        let body = json!({ "schemaType": kind.name(), "schema": text, "references": references });
        let versions = if register { "/versions" } else { "" };
        let path = format!("subjects/{}{versions}?normalize=true", escaped(subject));
        let (status, answer) = self.documents.post(&path, CONTENT_TYPE, body.to_string().into_bytes()).await?;
        if status < 300 {
            return serde_json::from_slice(&answer).doing(|| format!("reading what the registry says of `{subject}`"));
        }
        let said = serde_json::from_slice(&answer).map_or_else(|_| String::new(), |refusal: Refusal| refusal.message);
        let said: String = said.chars().take(300).collect();
        Err(Error::new(match (status, register) {
            (404, false) => format!(
                "the registry does not have the schema under the subject `{subject}`: {said}; `register = true` in `registry` puts it there"
            ),
            (409, _) => format!(
                "the schema does not go with those before it under the subject `{subject}`: {said}; add columns that may be null, take none \
                 away, or change the compatibility of the subject"
            ),
            _ => format!("the registry does not take the schema under the subject `{subject}`: {said} ({status})"),
        }))
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
            SchemaId::Number(number) => format!("schemas/ids/{number}{}", self.form),
            SchemaId::Guid(_) => format!("schemas/guids/{id}{}", self.form),
        };
        let Some(Answer { schema, references, .. }) = self.get(&path).await? else { return Ok(None) };
        Ok(Some(RegisteredSchema { schema, references: self.references(references).await? }))
    }
}
