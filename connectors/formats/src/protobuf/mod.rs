//! Protobuf: messages on the wire become rows.
//!
//! [`descriptors`] knows the types, [`plan`] decides how the messages of one are read into columns, and [`read`] reads them off the [`wire`].

mod descriptors;
mod json;
mod plan;
mod read;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use millstream_core::{Columns, PlanContext, Problem, known_names};
use schemars::JsonSchema;
use serde::Deserialize;

use self::descriptors::Descriptors;
use self::plan::MessagePlan;
use self::read::Reader;
use crate::Framed;
use crate::kind::{FormatKind, Settings, Side};
use crate::messages::{MakeReader, MessageFormat};
use crate::read::wanted;
use crate::records::{Budget, Cursor, ReadRecord, Record, Records};
use crate::refusal::{Read, Refusal};

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
    write_messages: None,
};

/// The columns are the fields of the message, unless the input's `schema` says which ones and of what types. A field that may be left out and
/// says so (`optional`, of a `oneof`, a message) is null where it is not there; any other is 0, false or empty then. Repeated fields are
/// lists; maps are lists of `{ key = …, value = … }`; enums are their names as texts, or their numbers where the column is an integer;
/// `Timestamp` is a timestamp, `Duration` an `int64` of microseconds, and wrappers such as `Int64Value` are their values. A message that
/// contains itself, and `Value`, `Struct` and `ListValue`, are JSON; so is any message where the column is `json` or `utf8`. Unknown fields
/// are skipped.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReadProtobuf {
    /// A file with the types, beside the flow file: as `protoc --include_imports --descriptor_set_out=shop.binpb shop.proto` or `buf build -o
    /// shop.binpb` writes it.
    descriptors: PathBuf,
    /// The type of the messages, with its package: `"shop.Payment"`.
    message: String,
}

impl Settings for ReadProtobuf {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        Ok(Arc::new(ProtobufMessages { file: self.descriptors, message: self.message }))
    }
}

/// Messages of Protobuf to read.
#[derive(Debug)]
struct ProtobufMessages {
    file: PathBuf,
    message: String,
}

impl ProtobufMessages {
    fn descriptors(&self, context: &PlanContext) -> Result<(Descriptors, usize), Problem> {
        let path = context.input_path(&self.file);
        let at = |key: &str, problem: Problem| problem.at(["format", key]);
        let bytes = std::fs::read(&path)
            .map_err(|error| at("descriptors", Problem::new(format!("`{}` can't be read: {error}", path.display()))))?;
        let descriptors = Descriptors::parse(&bytes).map_err(|error| {
            let problem = Problem::new(format!("`{}` is no set of descriptors: {error}", path.display()));
            at("descriptors", problem.help("`protoc --include_imports --descriptor_set_out=FILE` writes one"))
        })?;
        let message = descriptors.find(&self.message).ok_or_else(|| {
            let problem = Problem::new(format!("there is no message `{}` in `{}`", self.message, path.display()));
            at("message", problem.help(known_names(&self.message, descriptors.names())))
        })?;
        Ok((descriptors, message))
    }
}

impl MessageFormat for ProtobufMessages {
    fn columns(&self, context: &PlanContext) -> Result<Option<Columns>, Problem> {
        let (descriptors, message) = self.descriptors(context)?;
        Ok(Some(descriptors.columns(message)))
    }

    fn readers(self: Arc<Self>, columns: &Columns, context: &PlanContext) -> Result<MakeReader, Problem> {
        let (descriptors, message) = self.descriptors(context)?;
        let wanted = wanted(columns, context.columns.as_ref());
        let plan = descriptors.plan(message, columns, &wanted).map_err(|problem| problem.at(["schema"]))?;
        let path = descriptors.message_type(message).path.clone();
        let (known, batch_rows) = (Arc::new(Known { descriptors, plan, path }), context.batch_rows);
        Ok(Arc::new(move || Box::new(Records::new(ProtobufReader(known.clone()), &wanted, batch_rows))))
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
