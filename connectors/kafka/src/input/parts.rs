//! The columns of messages. Those that only a registry knows are asked for once, and planned by what the lock file beside the flow has of them.

use millstream_core::{AskSchema, Columns, PlanContext, Problem, SchemaSource, SourceSchema};
use millstream_formats::{Format, ReadMessages, RegisteredSchema};

use super::KafkaInputSettings;
use crate::part::MessagePart;
use crate::registry::RegistrySettings;

/// A part of messages of which a registry has to say the schema.
struct Open<'a> {
    format: &'a Format<ReadMessages>,
    registry: &'a RegistrySettings,
    subject: String,
}

impl Open<'_> {
    /// The source, in words.
    fn name(&self) -> String {
        format!("the subject `{}` of the registry", self.subject)
    }
}

impl KafkaInputSettings {
    /// How a part of messages is read, and the columns that are declared for it.
    fn part(&self, part: MessagePart) -> (Option<&Format<ReadMessages>>, Option<&Columns>) {
        match part {
            MessagePart::Value => (Some(&self.format), self.schema.as_ref()),
            MessagePart::Key => (self.key_format.as_ref(), self.key_schema.as_ref()),
        }
    }

    /// The part, if a registry has to say its schema.
    fn open(&self, part: MessagePart) -> Result<Option<Open<'_>>, Problem> {
        let (format, columns) = self.part(part);
        let (Some(format), Some(registry)) = (format, &self.registry) else { return Ok(None) };
        if !format.lacks_schema(columns.is_some()) {
            return Ok(None);
        }
        let subject = registry.subject(part, &self.topics)?;
        Ok(Some(Open { format, registry, subject }))
    }

    /// The columns of the values.
    pub fn columns(&self, context: &PlanContext) -> Result<Columns, Problem> {
        if let Some(columns) = &self.schema {
            return Ok(columns.clone());
        }
        if let Some(locked) = self.locked(MessagePart::Value, context)? {
            return Ok(locked.columns.clone());
        }
        self.format.columns(context)?.ok_or_else(|| {
            let problem = Problem::new("`schema` is missing: the columns of the messages and their types");
            problem.help("such as `schema = { id = \"utf8\", amount = \"float64?\" }`").at(["format"])
        })
    }

    /// The columns of the keys, if they are messages of a format.
    pub fn key_columns(&self, context: &PlanContext) -> Result<Option<Columns>, Problem> {
        let Some(format) = &self.key_format else {
            if self.key_schema.is_none() {
                return Ok(None);
            }
            let problem = Problem::new("nothing says how keys are read").at(["key_schema"]);
            return Err(problem.help("such as `key_format = \"json\"`; keys that are texts are a column of `metadata`"));
        };
        if let Some(columns) = &self.key_schema {
            return Ok(Some(columns.clone()));
        }
        if let Some(locked) = self.locked(MessagePart::Key, context)? {
            return Ok(Some(locked.columns.clone()));
        }
        let columns = format.columns(context).map_err(|problem| MessagePart::Key.place(problem))?;
        columns.map(Some).ok_or_else(|| {
            let problem = Problem::new("`key_schema` is missing: the columns of the keys and their types");
            problem.help("such as `key_schema = { card = \"utf8\" }`").at(["key_format"])
        })
    }

    /// What the lock file has of a part, if a registry has to say its schema.
    pub fn locked<'c>(&self, part: MessagePart, context: &'c PlanContext) -> Result<Option<&'c SourceSchema>, Problem> {
        let open = self.open(part)?;
        open.map(|open| context.locked.schema(part.schema_setting(), &open.name())).transpose()
    }

    /// What the registry says of each part of which only it knows the schema.
    pub fn sources(&self, context: &PlanContext) -> Vec<SchemaSource> {
        let parts = [MessagePart::Value, MessagePart::Key].into_iter();
        let source = |part: MessagePart| {
            // What is wrong with the settings, is said of the plan.
            let open = self.open(part).ok()??;
            let ask = ask(&open, context).ok()?;
            Some(SchemaSource { setting: part.schema_setting().to_owned(), name: open.name(), ask })
        };
        parts.filter_map(source).collect()
    }
}

/// Asks for the newest schema of a subject.
fn ask(open: &Open<'_>, context: &PlanContext) -> Result<AskSchema, Problem> {
    let (format, subject) = (open.format.clone(), open.subject.clone());
    let (registry, context) = (open.registry.registry(format.kind().name, context)?, context.clone());
    Ok(Box::pin(async move {
        let schema = registry.newest(&subject, format.kind().name).await?;
        let columns = format.columns_of(&schema, &context)?;
        let RegisteredSchema { schema, references } = schema;
        Ok(SourceSchema { columns, definition: [schema].into_iter().chain(references).collect() })
    }))
}

/// A schema of a registry, as the lock file has it.
pub fn registered(locked: &SourceSchema) -> Option<RegisteredSchema> {
    let (schema, references) = locked.definition.split_first()?;
    Some(RegisteredSchema { schema: schema.clone(), references: references.to_vec() })
}
