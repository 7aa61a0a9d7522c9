//! Flow files: from TOML text to checked settings, and every problem at its line and column.
//!
//! The way of a file: `parse` makes a tree of values that know their places; `set` and `interpolate` change values of
//! that tree for `--set` and `${NAME}`; `connections` gives nodes the settings of the connection that they name, and `vault` gets
//! secrets from where they are; `walk` checks it against the JSON schema of the whole file, which `schema` puts
//! together from the settings structs of all nodes; then serde builds the settings. Whatever goes wrong on the way
//! becomes a [`Diagnostic`] at its place.

mod connections;
mod diagnostic;
mod document;
mod flow_file;
mod interpolate;
mod layers;
mod lock;
mod misplaced;
mod names;
mod node;
mod parse;
mod reference;
mod schema;
mod secrets;
mod set;
mod settings;
mod source;
mod tests_table;
mod text;
mod units;
mod value;
mod variant;
mod vault;
mod walk;
mod words;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod connections_test;
#[cfg(test)]
mod kinds_for_tests;
#[cfg(test)]
mod messages_test;

pub use diagnostic::{Diagnostic, Diagnostics, Place};
pub(crate) use flow_file::read_text;
pub use flow_file::{FlowFile, LoadOptions};
pub use interpolate::Environment;
pub use layers::{Layers, Setting, drop_ins};
pub(crate) use lock::setting as locked_setting;
pub use lock::{Lock, LockedSchema};
pub use names::{NAME_HELP, is_name};
pub use node::{Body, EventTimeSettings, InputCommon, Node, OutputCommon, ProcessorCommon, RequestSettings};
pub use reference::Reference;
pub use schema::{connection_schema, editor_schema, flow_schema, node_schema};
pub use secrets::Secrets;
pub use settings::{
    CheckpointSettings, EdgeSettings, EpochSettings, FlowSettings, Interval, LimitSettings, OnError, ReplayLogRetention,
};
pub use tests_table::{FlowTest, Rows};
pub use words::toml_text;
