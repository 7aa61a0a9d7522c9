//! The setting `format` of inputs and outputs: `"csv"`, or `{ type = "csv", delimiter = ";" }`.
//!
//! It is one type for each purpose that formats have, which takes the formats and settings that go with it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::datatypes::Schema as Columned;
use millstream_core::{Columns, Error, PlanContext, Problem, Result, known_names};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::kind::{FormatKind, Side};
use crate::messages::{MakeReader, MessageFormat, MessageReader, SchemaChanges, WriteMessageFormat};
use crate::read::{Decoder, ReadFormat};
use crate::write::WriteFormat;
use crate::{FORMATS, RegisteredSchema};

/// The key by which a table names its format.
const TYPE: &str = "type";

/// The setting itself, as nodes call it.
pub(crate) const FORMAT: &str = "format";

/// The key in the schema of a table for settings that it does not take, though the format has them: each with why.
const REFUSED: &str = "x-refused";

/// The key in the schema of the setting that names the page of its reference.
const PAGE: &str = "x-page";

/// What a format is for.
pub trait Purpose: 'static {
    /// The name of the setting's JSON schema.
    #[doc(hidden)]
    const NAME: &'static str;

    /// Why settings of the format are refused that are for something else.
    #[doc(hidden)]
    const REFUSAL: &'static str;

    /// The JSON schema of the settings that a format has for it, if it can be used so.
    #[doc(hidden)]
    fn schema(kind: &FormatKind, generator: &mut SchemaGenerator) -> Option<Schema>;
}

const READING: &str = "is for writing, and an input reads";
const WRITING: &str = "is for reading, and an output writes";

/// Rows are read from files.
pub enum ReadFiles {}

/// Rows are read from streams of bytes, such as the bodies of requests, which can be read once, from the first byte to the last.
pub enum ReadStreams {}

/// Rows are read from bytes that have come as a whole, such as the body of a request.
pub enum ReadBodies {}

/// Binary formats that are read from memory as well as from files.
const BINARY_BODIES: &[&str] = &["arrow", "avro"];

/// Rows are read from messages, each of which is one.
pub enum ReadMessages {}

/// Rows are written to files.
pub enum WriteFiles {}

/// Rows are written to streams, whose readers want each as it comes.
pub enum WriteStreams {}

/// Rows are written as messages, each of which is one.
pub enum WriteMessages {}

impl Purpose for ReadFiles {
    const NAME: &'static str = "ReadFiles";
    const REFUSAL: &'static str = READING;

    fn schema(kind: &FormatKind, generator: &mut SchemaGenerator) -> Option<Schema> {
        kind.read.as_ref().map(|side| side.schema(generator))
    }
}

impl Purpose for ReadStreams {
    const NAME: &'static str = "ReadStreams";
    const REFUSAL: &'static str = READING;

    fn schema(kind: &FormatKind, generator: &mut SchemaGenerator) -> Option<Schema> {
        kind.read.as_ref().filter(|_| kind.is_text).map(|side| side.schema(generator))
    }
}

impl Purpose for ReadBodies {
    const NAME: &'static str = "ReadBodies";
    const REFUSAL: &'static str = READING;

    fn schema(kind: &FormatKind, generator: &mut SchemaGenerator) -> Option<Schema> {
        let is_read = kind.is_text || BINARY_BODIES.contains(&kind.name);
        kind.read.as_ref().filter(|_| is_read).map(|side| side.schema(generator))
    }
}

impl Purpose for ReadMessages {
    const NAME: &'static str = "ReadMessages";
    const REFUSAL: &'static str = "is not for messages, each of which is one row";

    fn schema(kind: &FormatKind, generator: &mut SchemaGenerator) -> Option<Schema> {
        kind.read_messages.as_ref().map(|side| side.schema(generator))
    }
}

impl Purpose for WriteFiles {
    const NAME: &'static str = "WriteFiles";
    const REFUSAL: &'static str = WRITING;

    fn schema(kind: &FormatKind, generator: &mut SchemaGenerator) -> Option<Schema> {
        kind.write_files.as_ref().map(|side| side.schema(generator))
    }
}

impl Purpose for WriteStreams {
    const NAME: &'static str = "WriteStreams";
    const REFUSAL: &'static str = WRITING;

    fn schema(kind: &FormatKind, generator: &mut SchemaGenerator) -> Option<Schema> {
        kind.write_streams.as_ref().map(|side| side.schema(generator))
    }
}

impl Purpose for WriteMessages {
    const NAME: &'static str = "WriteMessages";
    const REFUSAL: &'static str = "is not for messages that are written, each of which is one row";

    fn schema(kind: &FormatKind, generator: &mut SchemaGenerator) -> Option<Schema> {
        kind.write_messages.as_ref().map(|side| side.schema(generator))
    }
}

/// A format and its settings for a purpose: the type of the setting `format`.
/// A connector has it among its settings, and reads what comes with the decoder that it makes:
///
/// ```
/// use millstream_core::{Columns, parse_settings};
/// use millstream_formats::{Format, ReadFiles, ReadStreams};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Settings {
///     format: Format<ReadFiles>,
///     schema: Columns,
/// }
///
/// let table = serde_json::json!({
///     "format": { "type": "csv", "delimiter": ";" },
///     "schema": { "name": "utf8", "age": "int64" },
/// });
/// let Settings { format, schema } = parse_settings(table).map_err(|problem| problem.to_string())?;
/// let read = format.read("").map_err(|problem| problem.to_string())?;
/// assert_eq!((read.kind().name, schema.0.len()), ("csv", 2));
///
/// // `ndjson` can be a stream; `parquet` can't.
/// assert!(Format::<ReadStreams>::named("ndjson").is_some());
/// assert!(Format::<ReadStreams>::named("parquet").is_none());
/// # Ok::<(), String>(())
/// ```
pub struct Format<P> {
    kind: &'static FormatKind,
    table: Map<String, Value>,
    purpose: PhantomData<fn() -> P>,
}

impl<P: Purpose> Format<P> {
    /// The format of this name, as it is if nothing more is said. None if there is none for the purpose.
    pub fn named(name: &str) -> Option<Self> {
        let kind = kinds::<P>().find(|kind| kind.name == name)?;
        Some(Self { kind, table: Map::new(), purpose: PhantomData })
    }

    /// The format.
    pub fn kind(&self) -> &'static FormatKind {
        self.kind
    }

    /// The format of this name, with those of the settings of this one that it has, too. None if there is none for the purpose.
    pub fn like(&self, name: &str) -> Option<Self> {
        let mut like = Self::named(name)?;
        let schema = P::schema(like.kind, &mut SchemaGenerator::default())?;
        let known = keys(&schema);
        like.table = self.table.clone().into_iter().filter(|(key, _)| known.contains(key)).collect();
        Some(like)
    }

    fn make<T>(&self, side: Option<&Side<T>>, ending: &str) -> Result<T, Problem> {
        let made = || {
            let side = side.ok_or_else(|| Problem::new(format!("there is no {} for this", self.kind.name)))?;
            side.check_keys(&self.table, &refused::<P>(self.kind))?;
            side.make(self.table.clone(), ending)
        };
        made().map_err(|problem: Problem| self.shown(problem).under(FORMAT))
    }

    /// What is wrong with a table as a whole, which may be only a word so far, with an example of one that is right.
    fn shown(&self, problem: Problem) -> Problem {
        if problem.at.is_empty() && problem.help.is_none() {
            return problem.help(format!("such as `{}`", self.kind.example));
        }
        problem
    }

    fn decoder_of(&self, columns: &Columns, context: &PlanContext) -> Result<Decoder, Problem> {
        let format = ReadFormat::new(self.kind, self.make(self.kind.read.as_ref(), "")?);
        format.check_columns(columns).map_err(|problem| problem.at(["schema"]))?;
        Ok(format.of_all_rows(columns.clone(), context))
    }
}

impl Format<ReadFiles> {
    /// How files of this ending are read. Problems are placed in the setting `format`.
    pub fn read(&self, ending: &str) -> Result<ReadFormat, Problem> {
        self.make(self.kind.read.as_ref(), ending).map(|reading| ReadFormat::new(self.kind, reading))
    }
}

impl Format<ReadStreams> {
    /// What reads rows of these columns out of streams. Problems are placed in the settings `format` and `schema`.
    pub fn decoder(&self, columns: &Columns, context: &PlanContext) -> Result<Decoder, Problem> {
        self.decoder_of(columns, context)
    }
}

impl Format<ReadBodies> {
    /// What reads rows of these columns out of bodies. Problems are placed in the settings `format` and `schema`.
    pub fn decoder(&self, columns: &Columns, context: &PlanContext) -> Result<Decoder, Problem> {
        self.decoder_of(columns, context)
    }
}

impl Format<ReadMessages> {
    /// What reads messages that are rows of these columns. Problems are placed in the settings `format` and `schema`.
    pub fn reader(&self, columns: &Columns, context: &PlanContext) -> Result<Box<dyn MessageReader>, Problem> {
        self.readers(columns, context).map(|readers| readers.open())
    }

    /// The same, for those who need several readers.
    pub fn readers(&self, columns: &Columns, context: &PlanContext) -> Result<MessageReaders, Problem> {
        let format = self.make(self.kind.read_messages.as_ref(), "")?;
        format.check_columns(columns).map_err(|problem| problem.at(["schema"]))?;
        let make = format.readers(columns, context)?;
        Ok(MessageReaders { make })
    }

    /// What reads messages that name their schemas in a registry, which have other fields than these columns as far as `changes` says. `schema` is
    /// one that the registry has, in place of one that the settings would name.
    pub fn framed_reader(
        &self,
        schema: Option<&RegisteredSchema>,
        columns: &Columns,
        changes: SchemaChanges,
        context: &PlanContext,
    ) -> Result<Box<dyn MessageReader>, Problem> {
        let format = self.make(self.kind.read_messages.as_ref(), "")?;
        let format = match schema {
            Some(schema) => format.with_schema(schema).map_err(|why| Problem::new(why).at([FORMAT]))?,
            None => format,
        };
        format.check_columns(columns).map_err(|problem| problem.at(["schema"]))?;
        format.framed_reader(columns, changes, context)
    }

    /// Whether a registry has to say what messages are, since the settings don't: their columns, unless the flow `has_columns` that it declares,
    /// or how they are read.
    pub fn lacks_schema(&self, has_columns: bool) -> bool {
        let format: Result<Arc<dyn MessageFormat>, _> = self.make(self.kind.read_messages.as_ref(), "");
        format.is_ok_and(|format| format.lacks_schema(has_columns))
    }

    /// The columns of messages of a schema that a registry has.
    ///
    /// # Errors
    /// If it is no schema of the format, or not one of such messages.
    pub fn columns_of(&self, schema: &RegisteredSchema, context: &PlanContext) -> Result<Columns> {
        let wrong = |problem: Problem| Error::new(problem.to_string());
        let format = self.make(self.kind.read_messages.as_ref(), "").map_err(wrong)?;
        let columns = format.with_schema(schema).map_err(Error::new)?.columns(context).map_err(wrong)?;
        columns.ok_or_else(|| Error::new("the schema says no columns"))
    }

    /// The columns of the messages, where the settings of the format say them: a schema of Avro, or one column for bytes.
    pub fn columns(&self, context: &PlanContext) -> Result<Option<Columns>, Problem> {
        self.make(self.kind.read_messages.as_ref(), "")?.columns(context)
    }
}

/// Makes readers of messages that are rows of certain columns.
#[derive(Clone)]
pub struct MessageReaders {
    make: MakeReader,
}

impl MessageReaders {
    /// One more reader.
    pub fn open(&self) -> Box<dyn MessageReader> {
        (self.make)()
    }
}

impl fmt::Debug for MessageReaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReaders").finish_non_exhaustive()
    }
}

impl Format<WriteFiles> {
    /// How files of this ending are written. Problems are placed in the setting `format`.
    pub fn write(&self, ending: &str) -> Result<WriteFormat, Problem> {
        self.make(self.kind.write_files.as_ref(), ending).map(|writing| WriteFormat::new(self.kind, writing))
    }
}

impl Format<WriteStreams> {
    /// How streams are written. Problems are placed in the setting `format`.
    pub fn write(&self) -> Result<WriteFormat, Problem> {
        self.make(self.kind.write_streams.as_ref(), "").map(|writing| WriteFormat::new(self.kind, writing))
    }
}

impl Format<WriteMessages> {
    /// How rows are written, of these columns to begin with. Problems are placed in the setting `format`.
    pub fn write(&self, schema: &Columned, context: &PlanContext) -> Result<WriteMessageFormat, Problem> {
        let format = self.make(self.kind.write_messages.as_ref(), "")?;
        let loaded = format.load(context).map_err(|problem| problem.under(FORMAT))?;
        let format = loaded.unwrap_or(format);
        format.check_columns(schema).map_err(|problem| problem.under(FORMAT))?;
        Ok(WriteMessageFormat::new(format))
    }
}

/// The formats that there are for a purpose.
fn kinds<P: Purpose>() -> impl Iterator<Item = &'static FormatKind> + Clone {
    FORMATS.iter().filter(|kind| P::schema(kind, &mut SchemaGenerator::default()).is_some())
}

/// The settings that the format has for other purposes only, each with why it is none for this.
fn refused<P: Purpose>(kind: &FormatKind) -> Map<String, Value> {
    let own = P::schema(kind, &mut SchemaGenerator::default()).map(|schema| keys(&schema)).unwrap_or_default();
    let others = kind.keys().into_iter().filter(|key| !own.contains(key));
    let why = |key: &String| if kind.has_file_key(key) { P::REFUSAL } else { "is for messages" };
    others.map(|key| (key.clone(), format!("`{key}` {}", why(&key)).into())).collect()
}

/// The names of the settings that a schema has.
pub(crate) fn keys(schema: &Schema) -> Vec<String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

/// The schema of a table: `type`, and the settings of the format.
fn table<P: Purpose>(kind: &FormatKind, generator: &mut SchemaGenerator) -> Option<Schema> {
    let mut schema = P::schema(kind, generator)?;
    let mut properties =
        Map::from_iter([(TYPE.to_owned(), json!({ "const": kind.name, "description": "The format." }))]);
    properties.extend(schema.remove("properties").and_then(|own| own.as_object().cloned()).unwrap_or_default());
    let required = schema.remove("required").and_then(|own| own.as_array().cloned()).unwrap_or_default();
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("required".to_owned(), [json!(TYPE)].into_iter().chain(required).collect());
    schema.insert("additionalProperties".to_owned(), false.into());
    let refused = refused::<P>(kind);
    if !refused.is_empty() {
        schema.insert(REFUSED.to_owned(), refused.into());
    }
    Some(schema)
}

impl<P: Purpose> JsonSchema for Format<P> {
    fn schema_name() -> Cow<'static, str> {
        P::NAME.into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tables: Vec<_> = FORMATS.iter().filter_map(|kind| table::<P>(kind, generator)).collect();
        let words: Vec<_> = kinds::<P>().map(|kind| kind.name).collect();
        let word = json_schema!({ "type": "string", "enum": words });
        let variants: Vec<_> = [word].into_iter().chain(tables).collect();
        json_schema!({ PAGE: "FORMATS.md", "anyOf": variants })
    }
}

impl<'de, P: Purpose> Deserialize<'de> for Format<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, table) = match Value::deserialize(deserializer)? {
            Value::String(name) => (name, Map::new()),
            Value::Object(mut table) => match table.shift_remove(TYPE) {
                Some(Value::String(name)) => (name, table),
                _ => return Err(D::Error::custom(format!("expected a table with `{TYPE}`, the name of a format"))),
            },
            _ => return Err(D::Error::custom("expected the name of a format, or a table")),
        };
        let format = Self::named(&name).ok_or_else(|| {
            let known = known_names(&name, kinds::<P>().map(|kind| kind.name));
            D::Error::custom(format!("`{name}` is no format that can be used here; {known}"))
        })?;
        Ok(Self { table, ..format })
    }
}

impl<P> Serialize for Format<P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.table.is_empty() {
            return self.kind.name.serialize(serializer);
        }
        let name = (TYPE.to_owned(), self.kind.name.into());
        [name].into_iter().chain(self.table.clone()).collect::<Map<_, _>>().serialize(serializer)
    }
}

impl<P> Clone for Format<P> {
    fn clone(&self) -> Self {
        Self { kind: self.kind, table: self.table.clone(), purpose: PhantomData }
    }
}

impl<P> fmt::Debug for Format<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Format").field("kind", &self.kind.name).field("table", &self.table).finish()
    }
}
