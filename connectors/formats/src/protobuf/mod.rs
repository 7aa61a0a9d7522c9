//! Protobuf: messages on the wire become rows, and rows messages.
//!
//! [`descriptors`] knows the types, [`plan`] decides which columns the fields of one are, [`read`] reads messages off the [`wire`], and [`write`]
//! writes them. [`messages`] are the settings by which they are read; [`registered`] gets types from what a registry says.

mod descriptors;
mod json;
mod messages;
mod plan;
mod read;
mod registered;
mod wire;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_core::{ColumnType, Columns, Error, PlanContext, Problem, Result, known_names};
use schemars::JsonSchema;
use serde::Deserialize;

use self::descriptors::{Descriptors, FileType};
use self::messages::ReadProtobuf;
use self::plan::MessagePlan;
use self::write::{RowWriter, message};
use crate::kind::{FormatKind, Settings, Side};
use crate::messages::{MessageWriter, MessageWriting};
use crate::records::put_zigzag;
use crate::{ImportedSchema, SchemaKind, WrittenSchema};

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "protobuf",
    about: "Messages of Protocol Buffers.",
    endings: &[],
    example: r#"{ type = "protobuf", descriptors = "shop.binpb", message = "shop.Payment" }"#,
    is_text: false,
    can_grow: false,
    read: None,
    read_messages: Some(Side::of::<ReadProtobuf>()),
    write_files: None,
    write_streams: None,
    write_messages: Some(Side::of::<WriteProtobuf>()),
};

/// The columns are the fields of the message, by their names, of types that go with theirs; other fields are not written. Null is a field that is
/// not there, which is read as 0, false or empty where the field does not say whether it has a value. Enums are their names, or numbers from an
/// integer; timestamps, durations in microseconds, and wrappers as they are read; lists of `{ key = …, value = … }` may be maps, and structs
/// are messages. A row is refused if a value has no place in its field: an integer that is too large, a name that the enum does not have, a null
/// in a list, two values of a `oneof`.
#[derive(Debug, Deserialize, JsonSchema)]
struct WriteProtobuf {
    #[serde(flatten)]
    of: MessageSettings,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct MessageSettings {
    /// A file with the types, beside the flow file: as `protoc --include_imports --descriptor_set_out=shop.binpb shop.proto` or `buf build -o
    /// shop.binpb` writes it.
    descriptors: PathBuf,
    /// The type of the messages, with its package: `"shop.Payment"`.
    message: String,
}

impl Settings for WriteProtobuf {
    type Made = Arc<dyn MessageWriting>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(ProtobufWriting(self.of)))
    }
}

impl MessageSettings {
    /// The types, and the place of that of the messages. Problems are placed in the table of the format.
    fn descriptors(&self, context: &PlanContext) -> Result<(Descriptors, usize), Problem> {
        read_file(&self.descriptors, &self.message, context)
    }
}

/// The types in a file, and the place of one of them.
fn read_file(file: &Path, message: &str, context: &PlanContext) -> Result<(Descriptors, usize), Problem> {
    let path = context.input_path(file);
    let at = |problem: Problem| problem.at(["descriptors"]);
    let bytes = context
        .files
        .read(&path)
        .map_err(|error| at(Problem::new(format!("`{}` can't be read: {error}", path.display()))))?;
    let types = Descriptors::parse(&bytes).map_err(|error| {
        let problem = Problem::new(format!("`{}` is no set of descriptors: {error}", path.display()));
        at(problem.help("`protoc --include_imports --descriptor_set_out=FILE` writes one"))
    })?;
    find_type(types, message, &format!("`{}`", path.display()))
}

/// The types that are in a file or elsewhere, and the place of one of them.
fn find_type(types: Descriptors, message: &str, of: &str) -> Result<(Descriptors, usize), Problem> {
    let place = types.find(message).ok_or_else(|| {
        let problem = Problem::new(format!("there is no message `{message}` in {of}")).at(["message"]);
        problem.help(known_names(message, types.names()))
    })?;
    Ok((types, place))
}

/// Messages of Protobuf to write, whose types are still in their file.
#[derive(Debug)]
struct ProtobufWriting(MessageSettings);

impl MessageWriting for ProtobufWriting {
    fn load(&self, context: &PlanContext) -> Result<Option<Arc<dyn MessageWriting>>, Problem> {
        let (descriptors, message) = self.0.descriptors(context)?;
        Ok(Some(Arc::new(WrittenMessages { descriptors, message })))
    }

    fn open(&self, _: &SchemaRef) -> Result<Box<dyn MessageWriter>> {
        Err(Error::new("the types of the messages have not been read"))
    }
}

/// Messages of one type to write.
#[derive(Debug)]
struct WrittenMessages {
    descriptors: Descriptors,
    message: usize,
}

impl WrittenMessages {
    fn plan(&self, schema: &Schema) -> Result<MessagePlan, Problem> {
        let column = |field: &Arc<arrow::datatypes::Field>| {
            (field.name().clone(), ColumnType::new(field.data_type().clone(), field.is_nullable()))
        };
        let columns = Columns(schema.fields().iter().map(column).collect());
        self.descriptors.plan(self.message, &columns, &columns)
    }

    /// Which type of its file it is, as messages say it: the first one by a single 0.
    fn path(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.descriptors.message_type(self.message).path.as_slice() {
            [0] => bytes.push(0),
            path => {
                put_zigzag(path.len() as i64, &mut bytes);
                path.iter().for_each(|index| put_zigzag(*index as i64, &mut bytes));
            }
        }
        bytes
    }

    /// Adds the files that one imports, each behind those that it imports itself. Those that every registry has are none of them.
    fn add_imports(&self, of: &FileType, open: &mut Vec<String>, all: &mut Vec<ImportedSchema>) -> Result<(), Problem> {
        open.push(of.name.clone());
        for name in imports(of) {
            if open.contains(&name) {
                return Err(Problem::new(format!("`{name}` imports itself")).at(["descriptors"]));
            }
            if all.iter().any(|file| file.name == name) {
                continue;
            }
            let missing = || {
                let problem = Problem::new(format!("there is no `{name}` in the set, which `{}` imports", of.name));
                problem.help("`protoc --include_imports` puts it there").at(["descriptors"])
            };
            let file = self.descriptors.find_file(&name).ok_or_else(missing)?;
            self.add_imports(file, open, all)?;
            all.push(ImportedSchema { imports: imports(file), text: STANDARD.encode(&file.bytes), name });
        }
        open.pop();
        Ok(())
    }
}

/// The files that one imports, but for those that every registry has.
fn imports(of: &FileType) -> Vec<String> {
    of.imports.iter().filter(|name| !name.starts_with("google/protobuf/")).cloned().collect()
}

impl MessageWriting for WrittenMessages {
    fn check_columns(&self, schema: &Schema) -> Result<(), Problem> {
        let plan = self.plan(schema)?;
        let none = RecordBatch::new_empty(Arc::new(schema.clone()));
        message(&plan, none.columns(), "").map(drop)
    }

    fn open(&self, schema: &SchemaRef) -> Result<Box<dyn MessageWriter>> {
        let plan = self.plan(schema).map_err(|problem| Error::new(problem.message))?;
        Ok(Box::new(RowWriter(plan)))
    }

    fn registered(&self, _: &Schema) -> Result<Option<WrittenSchema>, Problem> {
        let file = self.descriptors.file_of(self.message);
        let mut files = Vec::new();
        self.add_imports(file, &mut Vec::new(), &mut files)?;
        let name = &self.descriptors.message_type(self.message).name;
        let schema = WrittenSchema::new(SchemaKind::Protobuf, name, STANDARD.encode(&file.bytes));
        Ok(Some(WrittenSchema { files, imports: imports(file), behind: self.path(), ..schema }))
    }

    fn may_refuse(&self) -> bool {
        true
    }
}
