//! The list of node types that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::{InputSettings, Language, OutputSettings, Problem, ProcessorSettings, State, Step};

/// What a node is in its flow; also the word in front of its table: `[input.NAME]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Rows enter the flow.
    Input,
    /// Rows are transformed.
    #[default]
    Processor,
    /// Rows leave the flow.
    Output,
}

impl Role {
    /// All roles, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Input, Self::Processor, Self::Output];

    /// The word in flow files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Processor => "processor",
            Self::Output => "output",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A type of node, or of connection. Its settings struct is the one source of parser, checks, help and reference page: the struct's doc
/// comment is the node's page, a field's doc comment that setting's.
///
/// The struct holds only the node's own settings, denies unknown fields, and leaves `type`, `from`, `on_error`,
/// `max_failed`, `batch_rows`, `in_flight`, `timeout`, `connection` and the side input to the engine.
pub trait Kind: DeserializeOwned + JsonSchema + 'static {
    /// What `type = "…"` says.
    const NAME: &'static str;

    /// The body of a node's table without `type`, as TOML. Shown in the reference; a test parses it.
    const EXAMPLE: &'static str;

    /// The settings that may change between a run and one that goes on from its state. All others of a processor or output
    /// with state have to stay. The state of an input is positions, which mean the same whatever its settings.
    const FREE_SETTINGS: &'static [&'static str] = &[];

    /// What other programs call such a node, for those who try one of these words.
    const ALSO_CALLED: &'static [&'static str] = &[];

    /// The type of connection from which such a node takes what its own table does not say of the settings that the connection can
    /// have.
    const CONNECTION: Option<&'static str> = None;

    /// A second edge, named in the flow file by this key, that is read to its end before `from`.
    const SIDE_INPUT: Option<&'static str> = None;

    /// Whether the node keeps rows in a folder of the flow's state, and so does not run without.
    const NEEDS_STATE: bool = false;

    /// Whether the node keeps rows in a folder of the flow's state, if the flow has one, and so does not run with a state elsewhere.
    const KEEPS_LOG: bool = false;

    /// Whether it is a processor that asks others ([`AsyncProcessor`](crate::AsyncProcessor)): then flow files say how many batches
    /// may wait for answers (`in_flight`), and for how long (`timeout`).
    const ASKS: bool = false;

    /// Of a connection: checks what its schema does not say, whichever node uses it.
    ///
    /// # Errors
    /// If a setting is wrong. Nodes that use it say the same when they are planned.
    fn check_connection(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// Checks what a node keeps outside of the checkpoints of its flow, such as files and logs. Changes nothing, since the flow
    /// may be running. Returns what is to be said of it, such as that it could not be looked at.
    ///
    /// # Errors
    /// If something that the checkpoint needs is missing or damaged.
    fn verify(_kept: &KeptNode<'_>) -> crate::Result<Option<String>> {
        Ok(None)
    }
}

/// What a node has kept, by its flow's newest checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct KeptNode<'a> {
    /// Its state.
    pub state: &'a State,
    /// What it has staged that may not be visible, in order.
    pub pending: &'a [State],
    /// The folder that is its own, if the state is in a local one.
    pub home: Option<&'a Path>,
}

/// Makes the output for rejected rows, by the path that `on_error` says.
pub type DeadLetterOutput = fn(&str) -> Result<Box<dyn OutputSettings>, Problem>;

/// Settings of a node of any role.
pub enum Parsed {
    /// An input's.
    Input(Box<dyn InputSettings>),
    /// A processor's.
    Processor(Box<dyn ProcessorSettings>),
    /// An output's.
    Output(Box<dyn OutputSettings>),
}

fn schema_of<T: JsonSchema>() -> Value {
    schema_for!(T).to_value()
}

type Parse = fn(Value) -> Result<Parsed, Problem>;
type Verify = fn(&KeptNode<'_>) -> crate::Result<Option<String>>;

/// A type of node, as the engine and the reference pages see it.
#[derive(Debug)]
pub struct NodeKind {
    /// Input, processor or output.
    pub role: Role,
    /// What `type = "…"` says.
    pub name: &'static str,
    /// The body of a node's table without `type`, as TOML.
    pub example: &'static str,
    /// What other programs call it.
    pub also_called: &'static [&'static str],
    /// The type of connection that it takes settings from.
    pub connection: Option<&'static str>,
    /// The key of the side input.
    pub side_input: Option<&'static str>,
    /// Whether it does not run without a state in a local folder.
    pub needs_state: bool,
    /// Whether it does not run with a state that is elsewhere.
    pub keeps_log: bool,
    /// Whether it asks others.
    pub asks: bool,
    /// The settings on which its state does not depend.
    pub free_settings: &'static [&'static str],
    /// The JSON schema of the settings; descriptions are the doc comments. Made when it is looked at: a flow uses few of many.
    pub schema: LazyLock<Value>,
    parse: Parse,
    verify: Verify,
}

impl NodeKind {
    fn new<T: Kind>(role: Role, parse: Parse) -> Self {
        Self {
            role,
            name: T::NAME,
            example: T::EXAMPLE,
            also_called: T::ALSO_CALLED,
            connection: T::CONNECTION,
            side_input: T::SIDE_INPUT,
            needs_state: T::NEEDS_STATE,
            keeps_log: T::KEEPS_LOG,
            asks: T::ASKS,
            free_settings: T::FREE_SETTINGS,
            schema: LazyLock::new(schema_of::<T>),
            parse,
            verify: T::verify,
        }
    }

    /// What the node does, from the doc comment of its settings.
    pub fn docs(&self) -> &str {
        self.schema.get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// Checks what a node of this type keeps outside of the checkpoints of its flow. Returns what is to be said of it.
    ///
    /// # Errors
    /// If something that the checkpoint needs is missing or damaged.
    pub fn verify(&self, kept: &KeptNode<'_>) -> crate::Result<Option<String>> {
        (self.verify)(kept)
    }

    /// Builds the settings from a table that was checked against the schema, without the engine's own settings.
    pub fn parse(&self, table: Value) -> Result<Parsed, Problem> {
        (self.parse)(table)
    }
}

/// A type of connection: settings that several nodes may have in common, since they say how one service is reached.
#[derive(Debug)]
pub struct ConnectionKind {
    /// What `type = "…"` says.
    pub name: &'static str,
    /// The body of a connection's table without `type`, as TOML.
    pub example: &'static str,
    /// What other programs call it.
    pub also_called: &'static [&'static str],
    /// The JSON schema of the settings; descriptions are the doc comments. Made when it is looked at.
    pub schema: LazyLock<Value>,
    check: fn(Value) -> Result<(), Problem>,
}

impl ConnectionKind {
    /// What it is, from the doc comment of its settings.
    pub fn docs(&self) -> &str {
        self.schema.get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// The settings that it can have.
    pub fn settings(&self) -> impl Iterator<Item = &str> + Clone {
        self.schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|all| all.keys().map(String::as_str))
    }

    /// Checks a table beyond the schema.
    ///
    /// # Errors
    /// If its settings can't be built, or can't be used.
    pub fn check(&self, table: Value) -> Result<(), Problem> {
        (self.check)(table)
    }
}

/// The lists of the types of nodes and connections that there are, and what plans expressions.
#[derive(Debug, Default)]
pub struct NodeTypes {
    kinds: Vec<NodeKind>,
    connections: Vec<ConnectionKind>,
    languages: Mutex<BTreeMap<BTreeSet<String>, Arc<Value>>>,
    expressions: Option<Language>,
    dead_letters: Option<(&'static str, DeadLetterOutput)>,
    lacking: Vec<(&'static str, &'static str)>,
}

impl NodeTypes {
    /// Adds an input.
    pub fn input<T: Kind + InputSettings>(&mut self) -> &mut Self {
        self.add(NodeKind::new::<T>(Role::Input, |table| Ok(Parsed::Input(Box::new(parse_settings::<T>(table)?)))))
    }

    /// Adds a processor.
    pub fn processor<T: Kind + ProcessorSettings>(&mut self) -> &mut Self {
        self.add(NodeKind::new::<T>(Role::Processor, |table| {
            Ok(Parsed::Processor(Box::new(parse_settings::<T>(table)?)))
        }))
    }

    /// Adds an output.
    pub fn output<T: Kind + OutputSettings>(&mut self) -> &mut Self {
        self.add(NodeKind::new::<T>(Role::Output, |table| Ok(Parsed::Output(Box::new(parse_settings::<T>(table)?)))))
    }

    /// Adds a type of connection.
    pub fn connection<T: Kind>(&mut self) -> &mut Self {
        self.connections.push(ConnectionKind {
            name: T::NAME,
            example: T::EXAMPLE,
            also_called: T::ALSO_CALLED,
            schema: LazyLock::new(schema_of::<T>),
            check: |table| parse_settings::<T>(table)?.check_connection(),
        });
        self.languages = Mutex::default();
        self
    }

    /// Sets what plans the expressions in settings of nodes that don't know their language.
    pub fn expressions(&mut self, language: Language) -> &mut Self {
        self.expressions = Some(language);
        self
    }

    /// What plans expressions. None if no crate of this program knows their language.
    pub fn planner(&self) -> Option<Language> {
        self.expressions
    }

    /// Sets the type of output that rejected rows are written to.
    pub fn dead_letters<T: Kind + OutputSettings>(&mut self, make: DeadLetterOutput) -> &mut Self {
        self.dead_letters = Some((T::NAME, make));
        self
    }

    /// The type of output that rejected rows are written to, and its settings for a path.
    ///
    /// # Errors
    /// If there is none, or if it can't write there.
    pub fn dead_letter_output(&self, path: &str) -> Result<(&'static str, Box<dyn OutputSettings>), Problem> {
        let (name, make) = self
            .dead_letters
            .ok_or_else(|| Problem::new("a dead letter needs an output for it, which this build does not have"))?;
        Ok((name, make(path)?))
    }

    /// Says that a type of node is in no crate of this program, and the feature of the build that brings it.
    pub fn lacks(&mut self, name: &'static str, feature: &'static str) -> &mut Self {
        self.lacking.push((name, feature));
        self.languages = Mutex::default();
        self
    }

    /// The types of nodes that are in no crate of this program, and the features that bring them.
    pub fn lacking(&self) -> &[(&'static str, &'static str)] {
        &self.lacking
    }

    fn add(&mut self, kind: NodeKind) -> &mut Self {
        self.kinds.push(kind);
        self.languages = Mutex::default();
        self
    }

    /// The JSON schema of files in which some types of nodes and connections are used. It is made once, since that takes longer than
    /// to read a file.
    pub fn language(&self, used: BTreeSet<String>, make: impl FnOnce(&Self, &BTreeSet<String>) -> Value) -> Arc<Value> {
        let mut languages = self.languages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = languages.get(&used) {
            return made.clone();
        }
        let made = Arc::new(make(self, &used));
        languages.insert(used, made.clone());
        made
    }

    /// All types of nodes, in the order in which they were added.
    pub fn kinds(&self) -> &[NodeKind] {
        &self.kinds
    }

    /// All types of connections, in the order in which they were added.
    pub fn connections(&self) -> &[ConnectionKind] {
        &self.connections
    }

    /// The type of connection of that name.
    pub fn find_connection(&self, name: &str) -> Option<&ConnectionKind> {
        self.connections.iter().find(|kind| kind.name == name)
    }

    /// The type of connection that nodes of a type take settings from.
    pub fn connection_of(&self, kind: &NodeKind) -> Option<&ConnectionKind> {
        self.find_connection(kind.connection?)
    }

    /// The type of that name and role.
    pub fn find(&self, role: Role, name: &str) -> Option<&NodeKind> {
        self.kinds.iter().find(|kind| kind.role == role && kind.name == name)
    }
}

/// Builds a settings struct from a table. What the struct refuses comes with its place in the table.
pub fn parse_settings<T: DeserializeOwned>(table: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(table).map_err(|error| {
        let steps = error.path().iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(Step::from(key.as_str())),
            Segment::Seq { index } => Some(Step::from(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        Problem::new(in_words(error.inner().to_string())).at(steps)
    })
}

/// What serde says, in the words of flow files.
fn in_words(message: String) -> String {
    if let Some(key) = message.strip_prefix("missing field ") {
        return format!("{key} is missing");
    }
    let text =
        message.strip_prefix("invalid value: string ").and_then(|rest| rest.strip_suffix(", expected a character"));
    text.map_or_else(|| message.clone(), |text| format!("expected a single character, found {text}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Settings {
        #[allow(dead_code)]
        columns: Vec<crate::Columns>,
        #[allow(dead_code)]
        delimiter: Option<char>,
    }

    #[test]
    fn what_a_struct_refuses_has_its_place() {
        let table = json!({ "columns": [{ "id": "utf8" }, { "id": "utf9" }] });
        let problem = parse_settings::<Settings>(table).expect_err("there is no such type");
        assert_eq!(problem.at, [Step::from("columns"), Step::from(1), Step::from("id")]);
        assert_eq!(problem.message, "there is no type `utf9`; did you mean `utf8`?");
        let problem = parse_settings::<Settings>(json!({})).expect_err("there are no columns");
        assert_eq!(problem.to_string(), "`columns` is missing");
        let table = json!({"columns": [], "delimiter": ";;"});
        let problem = parse_settings::<Settings>(table).expect_err("these are two characters");
        assert_eq!(problem.message, "expected a single character, found \";;\"");
    }
}
