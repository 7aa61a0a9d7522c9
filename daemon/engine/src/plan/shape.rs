//! What the state of a node depends on: a run that goes on with it must have the same.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::{NodeKind, Role, Uses, type_name};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::InputPort;

/// What the state of a node depends on: settings, and the columns that it looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// A hash of all of it.
    #[serde(rename = "shape")]
    pub hash: String,
    /// By the name of a setting: a hash of its value, which may be a secret.
    #[serde(default, rename = "shape_settings", skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// By input port: the columns and their types.
    #[serde(default, rename = "shape_columns", skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, BTreeMap<String, String>>,
}

impl Shape {
    /// The shape of a node with these settings, at which these columns arrive, and which looks at those that it `uses`.
    ///
    /// Other columns come and go with what other nodes read. Where a node keeps whole rows, these have their columns with
    /// them. The state of an input is positions, which mean the same whatever its settings: these only tell whether a flow that
    /// has come to its end would read something else.
    pub fn new(kind: &NodeKind, table: &Json, inputs: &[InputPort], uses: &[Uses]) -> Self {
        let settings = shaping(kind, table);
        if kind.role == Role::Input {
            return Self { settings: hashes(&settings), ..Self::default() };
        }
        let columns: Vec<Vec<Column<'_>>> = inputs.iter().zip(uses).map(|(port, uses)| used(port, uses)).collect();
        let array = |column: &Column<'_>| json!([column.name, column.kind, column.nullable]);
        let arrays: Vec<Vec<Json>> = columns.iter().map(|columns| columns.iter().map(array).collect()).collect();
        let types = columns.iter().map(|columns| columns.iter().map(Column::described).collect());
        Self {
            hash: short_hash(&json!({ "settings": settings, "columns": arrays })),
            settings: hashes(&settings),
            columns: inputs.iter().map(|port| port.name.clone()).zip(types).collect(),
        }
    }

    /// Whether a state was kept with these settings.
    pub fn has_settings(&self, kind: &NodeKind, table: &Json) -> bool {
        self.settings == hashes(&shaping(kind, table))
    }

    /// In what this shape differs from the one that a state was kept with, in words.
    pub fn differences(&self, kept: &Self) -> String {
        let all = |one: &BTreeMap<String, _>, other: &BTreeMap<String, _>| -> BTreeSet<String> {
            one.keys().chain(other.keys()).cloned().collect()
        };
        let mut words = Vec::new();
        if !kept.settings.is_empty() || !kept.columns.is_empty() {
            for key in all(&kept.settings, &self.settings) {
                words.extend(setting_difference(&key, kept.settings.get(&key), self.settings.get(&key)));
            }
            // With other settings a node looks at other columns, of which nobody knows whether they came before.
            let follows = !words.is_empty();
            let none = BTreeMap::new();
            let ports: BTreeSet<&String> = kept.columns.keys().chain(self.columns.keys()).collect();
            for port in ports {
                let (kept, now) = (kept.columns.get(port).unwrap_or(&none), self.columns.get(port).unwrap_or(&none));
                for name in all(kept, now) {
                    let (kept, now) = (kept.get(&name), now.get(&name));
                    if !follows || kept.is_some() && now.is_some() {
                        words.extend(column_difference(&name, kept, now));
                    }
                }
            }
        }
        if words.is_empty() { "a setting, or the order or type of a column".to_owned() } else { words.join(", ") }
    }
}

/// The settings that a state depends on.
fn shaping<'a>(kind: &NodeKind, table: &'a Json) -> BTreeMap<&'a String, &'a Json> {
    let settings = table.as_object().into_iter().flatten();
    settings.filter(|(key, _)| !kind.free_settings.contains(&key.as_str())).collect()
}

fn hashes(settings: &BTreeMap<&String, &Json>) -> BTreeMap<String, String> {
    settings.iter().map(|(key, value)| ((*key).clone(), short_hash(value))).collect()
}

fn setting_difference(key: &str, kept: Option<&String>, now: Option<&String>) -> Option<String> {
    match (kept, now) {
        (Some(kept), Some(now)) if kept == now => None,
        (Some(_), Some(_)) => Some(format!("the setting `{key}` is another one")),
        (Some(_), None) => Some(format!("the setting `{key}` is gone")),
        (None, _) => Some(format!("the setting `{key}` is new")),
    }
}

fn column_difference(name: &str, kept: Option<&String>, now: Option<&String>) -> Option<String> {
    match (kept, now) {
        (Some(kept), Some(now)) if kept == now => None,
        (Some(kept), Some(now)) => Some(format!("the column `{name}` was `{kept}` and is `{now}`")),
        (Some(_), None) => Some(format!("the column `{name}` is gone")),
        (None, _) => Some(format!("the column `{name}` is new")),
    }
}

/// A column that a node looks at.
struct Column<'a> {
    name: &'a str,
    kind: String,
    nullable: bool,
}

impl Column<'_> {
    /// Its name, and its type as flow files write it.
    fn described(&self) -> (String, String) {
        (self.name.to_owned(), format!("{}{}", self.kind, if self.nullable { "?" } else { "" }))
    }
}

fn used<'a>(port: &'a InputPort, uses: &Uses) -> Vec<Column<'a>> {
    let is_used = |name: &String| uses.columns.as_ref().is_none_or(|columns| columns.contains(name));
    let fields = port.schema.fields().iter().filter(|field| is_used(field.name()));
    let column = |field: &'a std::sync::Arc<arrow::datatypes::Field>| Column {
        name: field.name(),
        kind: type_name(field.data_type()).into_owned(),
        nullable: field.is_nullable(),
    };
    fields.map(column).collect()
}

pub(super) fn short_hash(value: &impl ToString) -> String {
    blake3::hash(value.to_string().as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_come_with_a_setting_are_not_said_to_be_new() {
        let texts = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let shape = |keys: &str, columns: &[(&str, &str)]| Shape {
            hash: String::new(),
            settings: texts(&[("keys", keys)]),
            columns: BTreeMap::from([("from".to_owned(), texts(columns))]),
        };
        let kept = shape("1", &[("id", "int64"), ("t", "utf8")]);
        for (now, expected) in [
            (shape("2", &[("id", "int64"), ("w", "int64")]), "the setting `keys` is another one"),
            (
                shape("2", &[("id", "utf8")]),
                "the setting `keys` is another one, the column `id` was `int64` and is `utf8`",
            ),
            (shape("1", &[("id", "int64"), ("w", "int64")]), "the column `t` is gone, the column `w` is new"),
        ] {
            assert_eq!(now.differences(&kept), expected);
        }
    }
}
