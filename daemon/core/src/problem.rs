//! What is wrong with a flow file: found by planning, before anything runs.

use std::fmt;

use arrow::datatypes::{Field, Schema};

/// All that is wrong with one node.
pub type Problems = Vec<Problem>;

/// One thing that is wrong with a node's settings. The engine turns the place into a line and column of the flow file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The way from the node's table to the value that is wrong; empty for the node itself.
    pub at: Vec<Step>,
    /// The place inside that value, where it is a text such as SQL.
    pub within: Option<TextPlace>,
    /// What is wrong: lowercase, no period.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// Whether it only follows from another one, and is said behind all others.
    pub follows: bool,
    /// Whether a column is not there, the one that the message names first.
    pub lacks_column: bool,
}

/// A column of a source that is left out, since flows can't carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow calls it.
    pub data_type: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column `{}` has the type {}, which flows can't carry: it is left out", self.name, self.data_type)
    }
}

/// One step from a table or array to a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value of a key.
    Key(String),
    /// The key itself, for what is wrong with a name.
    Name(String),
    /// An element.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// A stretch of a text value. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextPlace {
    /// The line within the text.
    pub line: usize,
    /// The column within the line.
    pub column: usize,
    /// How many characters are wrong; 1 marks a point.
    pub length: usize,
}

impl Problem {
    /// Something wrong with the node as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { at: Vec::new(), within: None, message: message.into(), help: None, follows: false, lacks_column: false }
    }

    /// A node that can't be checked, because another one is wrong, of which that is said.
    pub fn unchecked(cause: &str) -> Self {
        Self { follows: true, ..Self::new(format!("not checked, because `{cause}` is wrong")) }
    }

    /// Puts `step` in front of the place: built from the inside out, or set once with [`Problem::at`].
    pub fn under(mut self, step: impl Into<Step>) -> Self {
        self.at.insert(0, step.into());
        self
    }

    /// The place of the wrong value.
    pub fn at<S: Into<Step>>(mut self, path: impl IntoIterator<Item = S>) -> Self {
        self.at = path.into_iter().map(Into::into).collect();
        self
    }

    /// The place inside a text value.
    pub fn within(mut self, place: TextPlace) -> Self {
        self.within = Some(place);
        self
    }

    /// A column that is not there.
    pub fn no_column(name: &str) -> Self {
        Self { lacks_column: true, ..Self::new(format!("there is no column `{name}`")) }
    }

    /// Says why the column is not there that is lacking, if it is one of those that an input leaves out.
    pub fn explained(self, left_out: &[LeftOut]) -> Self {
        let lacking = self.message.split('`').nth(1).filter(|_| self.lacks_column).unwrap_or_default();
        // SQL may put the name of the stream before it.
        let is_it = |column: &&LeftOut| {
            lacking.strip_suffix(&*column.name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let Some(LeftOut { data_type, .. }) = left_out.iter().find(is_it) else { return self };
        let message =
            format!("{}: it is left out where it is read, since flows can't carry its type, {data_type}", self.message);
        Self { message, ..self }.help("give it another type where it is written, such as `int64`")
    }

    /// What would be right.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    /// What is wrong and what would be right, without the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        vec![problem]
    }
}

/// The known name that a misspelt one most likely stands for, if any is near enough.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |other: &str| strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    known
        .into_iter()
        .map(|other| (near(other), other))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

/// The help for an unknown name: the nearest known one, or what there is to choose from.
pub fn known_names<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<_> = known.into_iter().map(|name| format!("`{name}`")).collect();
    match all.len() {
        0 => "there is none".to_owned(),
        1 => format!("there is only {}", all[0]),
        2..=20 => format!("there are {}", all.join(", ")),
        n => format!("there are {n}, among them {}", all[..20].join(", ")),
    }
}

/// "there is no column `amuont`", with the nearest one or all that there are.
pub fn unknown_column(name: &str, schema: &Schema) -> Problem {
    let columns = schema.fields().iter().map(|field| field.name().as_str());
    Problem::no_column(name).help(known_names(name, columns))
}

/// The column of that name, or the problem that there is none.
pub fn require_column<'a>(name: &str, schema: &'a Schema) -> Result<&'a Field, Problem> {
    schema.field_with_name(name).map_err(|_| unknown_column(name, schema))
}

/// What is wrong with the name that a flow file gives an output port, if anything.
pub fn port_name_problem(name: &str) -> Option<Problem> {
    let continues = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if [crate::MAIN, crate::FAILED].contains(&name) {
        return Some(Problem::new(format!("no port can be called `{name}` here")).help("choose another name"));
    }
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(continues) {
        return None;
    }
    let problem = Problem::new(format!("`{name}` is not a name for a port"));
    Some(problem.help("use small letters, digits and `_`, a letter first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_gets_the_nearest_one() {
        assert_eq!(nearest("amuont", ["id", "amount", "country"]), Some("amount"));
        assert_eq!(nearest("zzz", ["id", "amount"]), None);
    }

    #[test]
    fn a_far_name_gets_all_that_there_are() {
        assert_eq!(known_names("zzz", ["id", "amount"]), "there are `id`, `amount`");
    }

    #[test]
    fn names_of_ports() {
        assert_eq!(port_name_problem("train_2"), None);
        for name in ["main", "failed", "Train", "2nd", "", "ü"] {
            assert!(port_name_problem(name).is_some(), "{name}");
        }
    }
}
