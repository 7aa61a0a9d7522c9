//! What may stand where in a flow file: the JSON schema that `check` goes by, along the keys of a file that is being written.

use millstream_core::NodeTypes;
use millstream_engine::file::{flow_schema, toml_text};
use serde_json::Value as Json;

use super::scan::Scan;
use crate::reference::{description, kind_text, resolve, variants};

/// The language of flow files.
pub struct Language {
    root: Json,
}

/// A setting that a table may have.
pub struct Setting<'l> {
    /// Its key.
    pub name: &'l str,
    /// What it may be, in a few words.
    pub kind: String,
    /// What it is for.
    pub description: String,
    /// Whether it has to be said.
    pub is_required: bool,
    /// Whether it is a table.
    pub is_table: bool,
}

/// A value that a setting may have.
pub struct Choice {
    /// As it is written.
    pub toml: String,
    /// What it means.
    pub description: String,
}

impl Language {
    pub fn new(registry: &NodeTypes) -> Self {
        Self { root: flow_schema(registry) }
    }

    /// The settings of the table that keys lead to.
    pub fn settings(&self, table: &[String], scan: &Scan) -> Vec<Setting<'_>> {
        let tables = self.tables(table, scan);
        let Some((first, others)) = tables.split_first() else { return Vec::new() };
        // Of what the table is not known yet, it may have what all of them may have.
        let is_common = |name: &str| others.iter().all(|other| other["properties"].get(name).is_some());
        let properties = first["properties"].as_object().into_iter().flatten();
        let common = properties.filter(|(name, _)| is_common(name));
        common.map(|(name, property)| self.described(name, property, first)).collect()
    }

    /// The setting that keys lead to.
    pub fn setting(&self, path: &[String], scan: &Scan) -> Option<Setting<'_>> {
        let (name, table) = path.split_last()?;
        let tables = self.tables(table, scan);
        let found =
            tables.iter().find_map(|table| Some((table, table["properties"].as_object()?.get_key_value(name)?)));
        found.map(|(table, (name, property))| self.described(name, property, table))
    }

    /// The values that a setting may have, where these are a few.
    pub fn choices(&self, path: &[String], scan: &Scan) -> Vec<Choice> {
        let mut choices: Vec<Choice> = Vec::new();
        for schema in self.at(path, scan) {
            self.add_choices(schema, &mut choices);
        }
        choices
    }

    /// Whether a setting speaks of columns, by name or in SQL.
    pub fn has_columns(&self, path: &[String], scan: &Scan) -> bool {
        let about = |end: usize| self.setting(&path[..end], scan).map(|setting| setting.description.to_lowercase());
        let words = ["column", "select", "sql", "expression", "condition", "event time"];
        // What is said of a table holds for what is in it.
        (3..=path.len()).filter_map(about).any(|about| words.iter().any(|word| about.contains(word)))
    }

    fn described<'l>(&'l self, name: &'l str, property: &'l Json, table: &Json) -> Setting<'l> {
        let is_required = table["required"].as_array().is_some_and(|required| required.iter().any(|key| *key == *name));
        let mut alternatives = Vec::new();
        self.flatten(property, &mut alternatives);
        Setting {
            name,
            kind: kind_text(property, &self.root, is_required),
            description: description(property, &self.root),
            is_required,
            is_table: alternatives.iter().all(|one| is_table(one)),
        }
    }

    /// What may be at the end of keys.
    fn at(&self, path: &[String], scan: &Scan) -> Vec<&Json> {
        let mut found = vec![&self.root];
        for (index, key) in path.iter().enumerate() {
            let kind = scan.text(&kind_path(&path[..index]));
            let tables = found.into_iter().flat_map(|schema| self.tables_of(schema, kind));
            found = tables.filter_map(|table| entry(table, key)).collect();
        }
        found
    }

    /// The tables that may be at the end of keys.
    fn tables(&self, path: &[String], scan: &Scan) -> Vec<&Json> {
        let kind = scan.text(&kind_path(path));
        self.at(path, scan).into_iter().flat_map(|schema| self.tables_of(schema, kind)).collect()
    }

    /// The tables that a value may be, also in a list; only those of one type, if that is known.
    fn tables_of<'l>(&'l self, schema: &'l Json, kind: Option<&str>) -> Vec<&'l Json> {
        let mut tables = Vec::new();
        self.flatten(schema, &mut tables);
        tables.retain(|table| is_table(table));
        let of_kind = |table: &&Json| kind.is_some_and(|kind| table["properties"]["type"]["const"] == kind);
        if tables.iter().any(of_kind) {
            tables.retain(of_kind);
        }
        tables
    }

    /// All that a value may be, also in a list.
    fn flatten<'l>(&'l self, schema: &'l Json, found: &mut Vec<&'l Json>) {
        let schema = resolve(schema, &self.root);
        let mut alternatives = variants(schema).peekable();
        if alternatives.peek().is_none() {
            match schema.get("items").filter(|items| items.is_object()) {
                Some(items) => self.flatten(items, found),
                None => found.push(schema),
            }
        }
        alternatives.for_each(|variant| self.flatten(variant, found));
    }

    fn add_choices(&self, schema: &Json, choices: &mut Vec<Choice>) {
        let mut alternatives = Vec::new();
        self.flatten(schema, &mut alternatives);
        for alternative in alternatives {
            let listed = alternative["enum"].as_array().into_iter().flatten();
            let booleans = [Json::Bool(true), Json::Bool(false)];
            let booleans = booleans.iter().filter(|_| alternative["type"] == "boolean");
            for value in
                alternative.get("const").into_iter().chain(listed).chain(booleans).filter(|value| !value.is_null())
            {
                let toml = toml_text(value);
                if choices.iter().all(|known| known.toml != toml) {
                    choices.push(Choice { toml, description: description(alternative, &self.root) });
                }
            }
        }
    }
}

/// Where it stands of what type a table is.
fn kind_path(table: &[String]) -> Vec<&str> {
    table.iter().map(String::as_str).chain(["type"]).collect()
}

fn is_table(schema: &Json) -> bool {
    schema.get("properties").is_some() || schema.get("additionalProperties").is_some_and(Json::is_object)
}

/// What a table has under a key.
fn entry<'l>(table: &'l Json, key: &str) -> Option<&'l Json> {
    table["properties"].get(key).or_else(|| table.get("additionalProperties").filter(|others| others.is_object()))
}
