//! Columns that are known elsewhere: what a node asks for, and what the lock file beside its flow has of it, so that planning asks nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use crate::{Columns, Problem, Result, Step};

/// Asks a source for its schema, and changes nothing.
pub type AskSchema = Pin<Box<dyn Future<Output = Result<SourceSchema>> + Send>>;

/// A source elsewhere, such as a table, that knows the columns which a setting of a node does not say.
pub struct SchemaSource {
    /// The setting, as its way from the node's table: `schema`, or `tables.orders.schema`.
    pub setting: String,
    /// The source in words that are the same wherever the flow runs, so without the address of a server: "the table `orders`".
    pub name: String,
    /// Asks it.
    pub ask: AskSchema,
}

impl fmt::Debug for SchemaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaSource").field("setting", &self.setting).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSchema {
    /// The columns.
    pub columns: Columns,
    /// What else it takes to read rows: a schema of messages, and behind it those that it names. Empty where columns are enough.
    pub definition: Vec<String>,
}

impl From<Columns> for SourceSchema {
    fn from(columns: Columns) -> Self {
        Self { columns, definition: Vec::new() }
    }
}

/// What the lock file beside a flow has for one of its nodes.
///
/// ```
/// use millstream_core::{Columns, Locked};
///
/// let columns = |locked: &Locked, declared: Option<&Columns>| locked.columns(declared, "schema", "the table `orders`");
/// let mut locked = Locked { file: "f.lock".into(), command: "millstream check f.toml --connect --lock".into(), ..Locked::default() };
/// let problem = columns(&locked, None).unwrap_err();
/// assert_eq!(problem.message, "neither `schema` nor `f.lock` says the columns of the table `orders`");
/// assert_eq!(problem.help.unwrap(), "`millstream check f.toml --connect --lock` asks for them, and writes them there");
///
/// let found = Columns(vec![("id".into(), "int64".parse()?)]);
/// locked.schemas.insert("schema".into(), ("the table `orders`".into(), found.clone().into()));
/// assert_eq!(columns(&locked, None).unwrap(), found);
/// // What a flow says itself goes before.
/// assert_eq!(columns(&locked, Some(&Columns(Vec::new()))).unwrap(), Columns(Vec::new()));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Locked {
    /// The file, as it is to be called.
    pub file: String,
    /// The command that writes it.
    pub command: String,
    /// The schemas by their settings, each with the name of the source that has said it.
    pub schemas: BTreeMap<String, (String, SourceSchema)>,
}

impl Locked {
    /// The columns that a setting declares, or else those that the file has for it.
    ///
    /// # Errors
    /// If neither says them. The problem has the command that asks for them.
    pub fn columns(&self, declared: Option<&Columns>, setting: &str, source: &str) -> Result<Columns, Problem> {
        match declared {
            Some(columns) => Ok(columns.clone()),
            None => self.schema(setting, source).map(|schema| schema.columns.clone()),
        }
    }

    /// What the file has for a setting that declares nothing.
    ///
    /// # Errors
    /// If it has nothing, or what another source has said. The problem has the command that asks for it.
    pub fn schema(&self, setting: &str, source: &str) -> Result<&SourceSchema, Problem> {
        let mut way: Vec<&str> = setting.split('.').collect();
        let last = way.pop().unwrap_or_default();
        let message = match self.schemas.get(setting) {
            Some((of, schema)) if of == source => return Ok(schema),
            Some((of, _)) => format!("`{}` has the columns of {of}, and not those of {source}", self.file),
            None => format!("neither `{last}` nor `{}` says the columns of {source}", self.file),
        };
        let help = format!("`{}` asks for them, and writes them there", self.command);
        Err(Problem::new(message).help(help).at(way.into_iter().map(Step::from)))
    }
}
