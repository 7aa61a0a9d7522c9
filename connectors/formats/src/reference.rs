//! What the reference page of a format says.

use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::kind::FormatKind;

/// What a format is used for, and its settings for that.
#[derive(Clone, Debug, PartialEq)]
pub struct FormatUse {
    /// In words: "Read from files:".
    pub words: &'static str,
    /// The JSON schema of the settings; its description is what there is to say beside them.
    pub schema: Value,
}

impl FormatKind {
    /// All that it is used for.
    pub fn uses(&self) -> Vec<FormatUse> {
        let read = self.read.as_ref().map(|side| schema(|generator| side.schema(generator)));
        let messages = self.read_messages.as_ref().map(|side| schema(|generator| side.schema(generator)));
        let files = self.write_files.as_ref().map(|side| schema(|generator| side.schema(generator)));
        let streams = self.write_streams.as_ref().map(|side| schema(|generator| side.schema(generator)));
        let written_messages = self.write_messages.as_ref().map(|side| schema(|generator| side.schema(generator)));
        let place = if self.is_text { "Read from files and streams:" } else { "Read from files:" };
        let written = if files == streams {
            vec![("Written to files and streams:", files)]
        } else {
            vec![("Written to files:", files), ("Written to streams:", streams)]
        };
        let uses = [(place, read), ("Read from messages:", messages)].into_iter().chain(written);
        let uses = uses.chain([("Written as messages:", written_messages)]);
        uses.filter_map(|(words, schema)| Some(FormatUse { words, schema: schema? })).collect()
    }
}

fn schema(of: impl FnOnce(&mut SchemaGenerator) -> Schema) -> Value {
    let mut generator = SchemaGenerator::default();
    let mut schema = of(&mut generator);
    schema.insert("$defs".to_owned(), generator.take_definitions(true).into());
    schema.to_value()
}
