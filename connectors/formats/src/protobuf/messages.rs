//! Messages to read: the settings, and what reads them, of types in a file or in a registry.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_core::{Columns, PlanContext, Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::descriptors::Descriptors;
use super::plan::MessagePlan;
use super::read::Reader;
use super::{find_type, read_file, registered};
use crate::kind::Settings;
use crate::messages::{MakeReader, MessageFormat, MessageReader};
use crate::read::wanted;
use crate::records::{Budget, Cursor, ReadRecord, Record, Records};
use crate::refusal::{Read, Refusal};
use crate::registered::{Differences, judge};
use crate::{Framed, RegisteredSchema, SchemaChanges, SchemaId};

/// The columns are the fields of the message, unless the input's `schema` says which ones and of what types. A field that may be left out and
/// says so (`optional`, of a `oneof`, a message) is null where it is not there; any other is 0, false or empty then. Repeated fields are
/// lists; maps are lists of `{ key = …, value = … }`; enums are their names as texts, or their numbers where the column is an integer;
/// `Timestamp` is a timestamp, `Duration` an `int64` of microseconds, and wrappers such as `Int64Value` are their values. A message that
/// contains itself, and `Value`, `Struct` and `ListValue`, are JSON; so is any message where the column is `json` or `utf8`. Unknown fields
/// are skipped.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ReadProtobuf {
    /// A file with the types, beside the flow file: as `protoc --include_imports --descriptor_set_out=shop.binpb shop.proto` or `buf build -o
    /// shop.binpb` writes it. Where messages name their schemas in a registry, they are those that `millstream check FLOW --connect --lock`
    /// has found there if nothing is said.
    descriptors: Option<PathBuf>,
    /// The type of the messages, with its package: `"shop.Payment"`.
    message: String,
}

impl Settings for ReadProtobuf {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        let Self { descriptors, message } = self;
        let types = descriptors.map_or(Types::Registered, Types::File);
        Ok(Arc::new(ProtobufMessages { types, message }))
    }
}

/// Messages of Protobuf to read.
#[derive(Debug)]
struct ProtobufMessages {
    types: Types,
    message: String,
}

/// Where the types of messages are.
#[derive(Debug)]
enum Types {
    File(PathBuf),
    /// In a registry.
    Registered,
    /// They are these, a set of descriptors.
    Set(Vec<u8>),
}

impl ProtobufMessages {
    /// The types, and the place of that of the messages. Problems are placed in the table of the node.
    fn descriptors(&self, context: &PlanContext) -> Result<(Descriptors, usize), Problem> {
        let found = match &self.types {
            Types::File(file) => read_file(file, &self.message, context),
            Types::Set(set) => {
                let types = Descriptors::parse(set).map_err(Problem::new);
                types.and_then(|types| find_type(types, &self.message, "the schema"))
            }
            Types::Registered => {
                let problem = Problem::new("`descriptors` is missing: a file with the types of the messages");
                Err(problem.help("`protoc --include_imports --descriptor_set_out=FILE` writes one"))
            }
        };
        found.map_err(|problem| problem.under("format"))
    }
}

impl ProtobufMessages {
    /// How messages are read.
    fn known(&self, columns: &Columns, wanted: &Columns, context: &PlanContext) -> Result<Known, Problem> {
        let (descriptors, message) = self.descriptors(context)?;
        let plan = descriptors.plan(message, columns, wanted).map_err(|problem| problem.at(["schema"]))?;
        let path = descriptors.message_type(message).path.clone();
        Ok(Known { descriptors, plan, path })
    }
}

impl MessageFormat for ProtobufMessages {
    fn columns(&self, context: &PlanContext) -> Result<Option<Columns>, Problem> {
        let (descriptors, message) = self.descriptors(context)?;
        Ok(Some(descriptors.columns(message)))
    }

    fn lacks_schema(&self, _has_columns: bool) -> bool {
        matches!(self.types, Types::Registered)
    }

    fn with_schema(&self, schema: &RegisteredSchema) -> Result<Arc<dyn MessageFormat>, String> {
        let types = Types::Set(registered::descriptors(schema)?);
        Ok(Arc::new(Self { types, message: self.message.clone() }))
    }

    fn readers(self: Arc<Self>, columns: &Columns, context: &PlanContext) -> Result<MakeReader, Problem> {
        let wanted = wanted(columns, context.columns.as_ref());
        let (known, batch_rows) = (Arc::new(self.known(columns, &wanted, context)?), context.batch_rows);
        Ok(Arc::new(move || Box::new(Records::new(ProtobufReader(known.clone()), &wanted, batch_rows))))
    }

    fn framed_reader(
        self: Arc<Self>,
        columns: &Columns,
        changes: SchemaChanges,
        context: &PlanContext,
    ) -> Result<Box<dyn MessageReader>, Problem> {
        if changes == SchemaChanges::Evolve {
            return self.readers(columns, context).map(|make| make());
        }
        let wanted = wanted(columns, context.columns.as_ref());
        let reader = ProtobufReader(Arc::new(self.known(columns, &wanted, context)?));
        let (message, columns) = (self.message.clone(), columns.clone());
        let reader = ComparedReader { reader, message, columns, changes, known: HashMap::new() };
        Ok(Box::new(Records::new(reader, &wanted, context.batch_rows)))
    }
}

/// A type of messages, and how they are read.
struct Known {
    descriptors: Descriptors,
    plan: MessagePlan,
    /// Which of the types of its file the type is.
    path: Vec<u64>,
}

impl Known {
    /// Passes over what stands before a message that names its schema: which type of that file it is.
    fn pass_type(&self, cursor: &mut Cursor) -> Read<()> {
        let count = cursor.zigzag()?;
        let mut path = Vec::new();
        for _ in 0..count {
            path.push(cursor.zigzag()?);
        }
        // The first type of the file mostly is the only one.
        let path = if path.is_empty() { vec![0] } else { path };
        if path.iter().copied().eq(self.path.iter().map(|index| *index as i64)) {
            return Ok(());
        }
        Err(Refusal::malformed(format!(
            "it is the type {path:?} of its file, and `message` is the type {:?}",
            self.path
        )))
    }
}

/// Reads messages of one type.
struct ProtobufReader(Arc<Known>);

impl ReadRecord for ProtobufReader {
    const NO_VALID: &'static str = "no valid Protobuf";

    fn read(&mut self, message: &[u8], record: &mut Record, budget: &mut Budget) -> Read<()> {
        Reader { descriptors: &self.0.descriptors, budget }.message(&self.0.plan, message, record)
    }

    fn read_framed(&mut self, framed: &Framed, record: &mut Record, budget: &mut Budget) -> Read<()> {
        if let Some(behind) = framed.behind {
            self.0.pass_type(&mut Cursor::new(behind))?;
            return self.read(framed.value, record, budget);
        }
        let mut cursor = Cursor::new(framed.value);
        self.0.pass_type(&mut cursor)?;
        self.read(cursor.rest(), record, budget)
    }
}

/// Reads messages whose types in a registry have to have the columns.
struct ComparedReader {
    reader: ProtobufReader,
    /// The type of the messages.
    message: String,
    columns: Columns,
    changes: SchemaChanges,
    /// The schemas that have been compared, or why their messages can't be read.
    known: HashMap<SchemaId, Result<(), String>>,
}

impl ComparedReader {
    fn differences(&self, schema: &RegisteredSchema) -> Result<Differences, String> {
        let types = Descriptors::parse(&registered::descriptors(schema)?)?;
        let found = find_type(types, &self.message, "the schema").map_err(|problem| problem.to_string());
        found.map(|(types, message)| Differences::between(&types.columns(message), &self.columns))
    }
}

impl ReadRecord for ComparedReader {
    const NO_VALID: &'static str = ProtobufReader::NO_VALID;

    fn read(&mut self, message: &[u8], record: &mut Record, budget: &mut Budget) -> Read<()> {
        self.reader.read(message, record, budget)
    }

    fn read_framed(&mut self, framed: &Framed, record: &mut Record, budget: &mut Budget) -> Read<()> {
        match self.known.get(&framed.schema) {
            Some(Ok(())) => self.reader.read_framed(framed, record, budget),
            Some(Err(why)) => Err(Refusal::malformed(format!("schema {}: {why}", framed.schema))),
            None => Err(Refusal::malformed(format!("schema {} is not known", framed.schema))),
        }
    }

    fn needs_schema(&self, schema: SchemaId) -> bool {
        !self.known.contains_key(&schema)
    }

    fn add_schema(&mut self, id: SchemaId, schema: Option<&RegisteredSchema>) -> Result<Option<String>> {
        let Some(schema) = schema else {
            self.known.insert(id, Err("the registry does not have it".to_owned()));
            return Ok(None);
        };
        let found = self.differences(schema);
        let note = judge(self.changes, id, found.as_ref())?;
        self.known.insert(id, found.map(drop));
        Ok(note)
    }
}
