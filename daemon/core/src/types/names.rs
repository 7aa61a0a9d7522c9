//! Words for types that are none, and those that are meant.

use super::{JSON, SIMPLE};
use crate::nearest;

/// What other programs call the types.
const CALLED_OTHERWISE: &[(&str, &str)] = &[
    ("string", "utf8"),
    ("str", "utf8"),
    ("text", "utf8"),
    ("varchar", "utf8"),
    ("char", "utf8"),
    ("jsonb", "json"),
    ("object", "json"),
    ("bool", "boolean"),
    ("byte", "int8"),
    ("tinyint", "int8"),
    ("short", "int16"),
    ("smallint", "int16"),
    ("int", "int64"),
    ("integer", "int64"),
    ("long", "int64"),
    ("bigint", "int64"),
    ("float", "float64"),
    ("double", "float64"),
    ("real", "float32"),
    ("number", "float64"),
    ("numeric", "decimal(12,2)"),
    ("bytes", "binary"),
    ("blob", "binary"),
    ("bytea", "binary"),
    ("date32", "date"),
    ("datetime", "timestamp"),
    ("timestamptz", "timestamp"),
    ("array", "list<T>"),
    ("struct", "{ name = T }"),
];

/// What is wrong with a word that stands for no type, and what would be right.
pub(super) fn unknown_type(word: &str) -> String {
    let names = SIMPLE.iter().map(|(name, _)| *name).chain(["timestamp", "decimal", "list", JSON]);
    let small = word.to_lowercase();
    if let Some((_, right)) = CALLED_OTHERWISE.iter().find(|(other, _)| *other == small) {
        return format!("there is no type `{word}`; it is called `{right}` here");
    }
    if let Some(near) = nearest(word, names.clone()) {
        return format!("there is no type `{word}`; did you mean `{near}`?");
    }
    let names: Vec<_> = names.collect();
    format!("there is no type `{word}`; there are {}", names.join(", "))
}
