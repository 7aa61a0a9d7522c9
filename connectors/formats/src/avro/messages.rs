//! Messages that are records of Avro.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{Columns, Error, PlanContext, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

use super::plan::{Planner, RecordPlan};
use super::read;
use super::schema::AvroSchema;
use super::write::{ROW, RowWriter, check_names, check_record, schema_of};
use crate::kind::Settings;
use crate::messages::{
    MakeReader, MessageFormat, MessageReader, MessageWriter, MessageWriting, Payloads, SchemaChanges,
};
use crate::read::wanted;
use crate::records::{Budget, Cursor, ReadRecord, Record, Records};
use crate::refusal::{Read, Refusal};
use crate::registered::{Differences, judge};
use crate::{Framed, RegisteredSchema, SchemaId, SchemaKind, WrittenSchema};

/// A message is a record in the binary encoding, of the schema that `schema_file` or `schema` says, or of one in a registry that it names. The
/// columns are the fields of the schema, unless the input's `schema` says which ones and of what types: numbers may become larger types,
/// anything a `utf8`, and a record, array or map the text of its JSON. Values become columns as in files. Where messages name their
/// schemas, the one here says the columns, the defaults of fields that they lack, and the other names (`aliases`) of fields; if neither it nor the
/// input's `schema` is said, it is the one that `millstream check FLOW --connect --lock` has found in the registry.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct ReadAvroMessages {
    /// A file with the schema, such as `"payment.avsc"`, beside the flow file.
    schema_file: Option<PathBuf>,
    /// The schema itself, as a text that is JSON.
    schema: Option<String>,
    /// What stands before the record: nothing, or with `"single_object"` the two bytes `C3 01` and the fingerprint of the schema.
    framing: Framing,
}

/// A message is a record in the binary encoding, of the schema that files of the same columns have: its fields that may be null
/// are unions of `null` and their types.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct WriteAvroMessages {
    /// What the record is called, with its namespace: `"shop.Payment"`. By default it is `row`.
    name: Option<String>,
    /// What stands before the record: nothing, or with `"single_object"` the two bytes `C3 01` and the fingerprint of the schema.
    framing: Framing,
}

/// What stands before the record in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Framing {
    /// Nothing.
    #[default]
    None,
    /// The fingerprint of the schema, as in Avro's single-object encoding.
    SingleObject,
}

/// What single objects begin with.
const SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];

impl Settings for ReadAvroMessages {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        let schema = match (self.schema_file, self.schema) {
            (Some(file), None) => Some(SchemaSource::File(file)),
            (None, Some(text)) => Some(SchemaSource::Text(parse(&text).map_err(|problem| problem.at(["schema"]))?)),
            (None, None) => None,
            (Some(_), Some(_)) => {
                let problem = Problem::new("there are both `schema_file` and `schema`").at(["schema"]);
                return Err(problem.help("leave one of them out"));
            }
        };
        Ok(Arc::new(AvroMessages { schema, framing: self.framing }))
    }
}

impl Settings for WriteAvroMessages {
    type Made = Arc<dyn MessageWriting>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        let name = self.name.unwrap_or_else(|| ROW.to_owned());
        check_record(&name).map_err(|problem| problem.at(["name"]))?;
        Ok(Arc::new(WrittenMessages { name, framing: self.framing }))
    }
}

impl Framing {
    /// What messages of a schema begin with.
    fn prefix(self, schema: &AvroSchema) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::SingleObject => [&SINGLE_OBJECT[..], &schema.fingerprint().to_le_bytes()].concat(),
        }
    }
}

/// Records of Avro to write as messages.
#[derive(Debug)]
struct WrittenMessages {
    name: String,
    framing: Framing,
}

impl MessageWriting for WrittenMessages {
    fn check_columns(&self, schema: &Schema) -> Result<(), Problem> {
        check_names(schema.fields())
    }

    fn open(&self, schema: &SchemaRef) -> Result<Box<dyn MessageWriter>, Error> {
        let schema = AvroSchema::parse(&schema_of(&self.name, schema).to_string()).map_err(Error::new)?;
        Ok(Box::new(RecordWriter { prefix: self.framing.prefix(&schema) }))
    }

    fn registered(&self, schema: &Schema) -> Result<Option<WrittenSchema>, Problem> {
        if self.framing != Framing::None {
            return Err(own_framing().at(["framing"]));
        }
        let text = schema_of(&self.name, schema).to_string();
        Ok(Some(WrittenSchema::new(SchemaKind::Avro, &self.name, text)))
    }
}

/// Writes rows as records.
struct RecordWriter {
    /// What every message begins with.
    prefix: Vec<u8>,
}

impl MessageWriter for RecordWriter {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Payloads) -> Result<(), Error> {
        let writer = RowWriter::new(rows)?;
        for row in 0..rows.num_rows() {
            out.push_with(|bytes| {
                bytes.extend_from_slice(&self.prefix);
                writer.put(row, bytes);
            });
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Arc<AvroSchema>, Problem> {
    AvroSchema::parse(text).map(Arc::new).map_err(|error| Problem::new(format!("it is no schema of Avro: {error}")))
}

/// Where the schema is.
#[derive(Debug)]
enum SchemaSource {
    File(PathBuf),
    Text(Arc<AvroSchema>),
}

impl SchemaSource {
    fn schema(&self, context: &PlanContext) -> Result<Arc<AvroSchema>, Problem> {
        let file = match self {
            Self::Text(schema) => return Ok(schema.clone()),
            Self::File(file) => file,
        };
        let path = context.input_path(file);
        let read = context
            .files
            .read_text(&path)
            .map_err(|error| Problem::new(format!("`{}` can't be read: {error}", path.display())));
        read.and_then(|text| parse(&text)).map_err(|problem| problem.at(["format", "schema_file"]))
    }
}

/// Records of Avro to read from messages.
#[derive(Debug)]
struct AvroMessages {
    schema: Option<SchemaSource>,
    framing: Framing,
}

impl AvroMessages {
    /// The schema that the settings name.
    fn own(&self, context: &PlanContext) -> Result<Option<Arc<AvroSchema>>, Problem> {
        self.schema.as_ref().map(|schema| schema.schema(context)).transpose()
    }
}

impl MessageFormat for AvroMessages {
    fn columns(&self, context: &PlanContext) -> Result<Option<Columns>, Problem> {
        Ok(Some(self.own(context)?.ok_or_else(missing)?.columns()))
    }

    fn lacks_schema(&self, has_columns: bool) -> bool {
        self.schema.is_none() && !has_columns
    }

    fn with_schema(&self, schema: &RegisteredSchema) -> Result<Arc<dyn MessageFormat>, String> {
        let schema = AvroSchema::parse_with(&schema.references, &schema.schema);
        let schema = schema.map_err(|error| format!("it is no schema of Avro: {error}"))?;
        Ok(Arc::new(Self { schema: Some(SchemaSource::Text(Arc::new(schema))), framing: self.framing }))
    }

    fn readers(self: Arc<Self>, columns: &Columns, context: &PlanContext) -> Result<MakeReader, Problem> {
        let schema = self.own(context)?.ok_or_else(missing)?;
        let wanted = wanted(columns, context.columns.as_ref());
        let plan = Planner::new(&schema, None).plan(columns, &wanted);
        let plan = plan.map_err(|error| Problem::new(error).at(["schema"]))?;
        let prefix = self.framing.prefix(&schema);
        let (known, batch_rows) = (Arc::new(Known { schema, plan }), context.batch_rows);
        Ok(Arc::new(move || {
            let reader = AvroReader { known: known.clone(), prefix: prefix.clone() };
            Box::new(Records::new(reader, &wanted, batch_rows))
        }))
    }

    fn framed_reader(
        self: Arc<Self>,
        columns: &Columns,
        changes: SchemaChanges,
        context: &PlanContext,
    ) -> Result<Box<dyn MessageReader>, Problem> {
        if self.framing != Framing::None {
            return Err(own_framing().at(["format", "framing"]));
        }
        let wanted = wanted(columns, context.columns.as_ref());
        let reader = RegisteredReader {
            own: self.own(context)?,
            columns: columns.clone(),
            wanted: wanted.clone(),
            changes,
            known: HashMap::new(),
        };
        Ok(Box::new(Records::new(reader, &wanted, context.batch_rows)))
    }
}

/// The problem of a framing where messages have that of a registry.
fn own_framing() -> Problem {
    Problem::new("a registry has its own framing").help("leave `framing` out")
}

/// The problem that nothing says which columns there are.
fn missing() -> Problem {
    let problem = Problem::new("the schema of the messages is missing").at(["format"]);
    problem.help("say `schema_file = \"payment.avsc\"` in `format`, or the schema itself as `schema`")
}

/// A schema, and how its records are read.
struct Known {
    schema: Arc<AvroSchema>,
    plan: RecordPlan,
}

impl Known {
    /// Reads a record, behind which there is nothing.
    fn read(&self, bytes: &[u8], record: &mut Record, budget: &mut Budget) -> Read<()> {
        let mut cursor = Cursor::new(bytes);
        read::record(&self.plan, &self.schema, &mut cursor, record, budget)?;
        match cursor.rest().len() {
            0 => Ok(()),
            more => Err(Refusal::malformed(format!("there are {more} bytes behind what the schema says"))),
        }
    }
}

const NO_VALID: &str = "no valid Avro";

/// Reads records of one schema.
struct AvroReader {
    known: Arc<Known>,
    /// What every message begins with.
    prefix: Vec<u8>,
}

impl ReadRecord for AvroReader {
    const NO_VALID: &'static str = NO_VALID;

    fn read(&mut self, message: &[u8], record: &mut Record, budget: &mut Budget) -> Read<()> {
        if self.prefix.is_empty() {
            return self.known.read(message, record, budget);
        }
        match message.strip_prefix(&*self.prefix) {
            Some(bytes) => self.known.read(bytes, record, budget),
            None => Err(other_schema(message)),
        }
    }
}

#[cold]
fn other_schema(message: &[u8]) -> Box<Refusal> {
    let is_single = message.starts_with(&SINGLE_OBJECT);
    Refusal::malformed(if is_single { "it is of another schema" } else { "it is no single object" })
}

/// Reads records of schemas that a registry has.
struct RegisteredReader {
    /// The schema that the settings name, which has defaults and other names of columns.
    own: Option<Arc<AvroSchema>>,
    columns: Columns,
    wanted: Columns,
    changes: SchemaChanges,
    /// The schemas that have been added, or why their records can't be read.
    known: HashMap<SchemaId, Result<Known, String>>,
}

impl RegisteredReader {
    /// How records of a schema are read, and how its fields differ from the columns.
    fn plan(&self, schema: &RegisteredSchema) -> Result<(Known, Differences), String> {
        let schema = AvroSchema::parse_with(&schema.references, &schema.schema)
            .map_err(|error| format!("it is no schema of Avro: {error}"))?;
        let mut planner = Planner::new(&schema, self.own.as_deref());
        let plan = planner.plan(&self.columns, &self.wanted)?;
        let differences = std::mem::take(&mut planner.differences);
        Ok((Known { schema: Arc::new(schema), plan }, differences))
    }
}

impl ReadRecord for RegisteredReader {
    const NO_VALID: &'static str = NO_VALID;

    fn read(&mut self, _: &[u8], _: &mut Record, _: &mut Budget) -> Read<()> {
        Err(Refusal::malformed("it names no schema"))
    }

    fn read_framed(&mut self, framed: &Framed, record: &mut Record, budget: &mut Budget) -> Read<()> {
        match self.known.get(&framed.schema) {
            Some(Ok(known)) => known.read(framed.value, record, budget),
            Some(Err(why)) => Err(Refusal::malformed(format!("schema {}: {why}", framed.schema))),
            None => Err(Refusal::malformed(format!("schema {} is not known", framed.schema))),
        }
    }

    fn needs_schema(&self, schema: SchemaId) -> bool {
        !self.known.contains_key(&schema)
    }

    fn add_schema(&mut self, id: SchemaId, schema: Option<&RegisteredSchema>) -> Result<Option<String>, Error> {
        let Some(schema) = schema else {
            self.known.insert(id, Err("the registry does not have it".to_owned()));
            return Ok(None);
        };
        let planned = self.plan(schema);
        let note = judge(self.changes, id, planned.as_ref().map(|(_, differences)| differences))?;
        self.known.insert(id, planned.map(|(known, _)| known));
        Ok(note)
    }
}
