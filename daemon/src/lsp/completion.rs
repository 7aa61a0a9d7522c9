//! What could be written where the cursor is.

use std::ops::Range;

use lsp_types::{
    CompletionItem, CompletionItemKind as Kind, CompletionTextEdit, Documentation, MarkupContent, MarkupKind, TextEdit,
};
use millstream_core::{MAIN, NodeTypes, Role};
use millstream_engine::outline::{Outline, OutlineColumn};

use super::language::{Language, Setting};
use super::positions::range;
use super::scan::{Place, Scan, place, role};
use crate::reference::summary;

/// A flow that is being written, and what is known of it.
pub struct Written<'a> {
    /// The text.
    pub text: &'a str,
    /// What is in it.
    pub scan: &'a Scan,
    /// Its nodes and their columns, as far as they are known.
    pub outline: Option<&'a Outline>,
    /// The types of nodes.
    pub registry: &'a NodeTypes,
    /// What may stand where.
    pub language: &'a Language,
}

/// What could stand somewhere.
struct Offer {
    text: String,
    kind: Kind,
    detail: String,
    about: String,
}

impl Offer {
    fn new(text: impl Into<String>, kind: Kind, detail: impl Into<String>, about: impl Into<String>) -> Self {
        Self { text: text.into(), kind, detail: detail.into(), about: about.into() }
    }
}

/// What could be written before byte `offset`.
pub fn completion(written: &Written<'_>, offset: usize) -> Vec<CompletionItem> {
    let (offers, typed) = match place(written.text, offset) {
        Some(Place::Header { path, typed }) => (written.headers(&path), typed),
        Some(Place::Key { table, typed }) => (written.keys(&table), typed),
        Some(Place::Value { path, typed, quoted }) => {
            let values = written.values(&path, quoted);
            if values.is_empty() && quoted {
                (written.columns(&path), word(written.text, &typed, offset))
            } else {
                (values, typed)
            }
        }
        None => (Vec::new(), offset..offset),
    };
    // Editors take what spans lines for a mistake.
    let typed = if written.text[typed.clone()].contains('\n') { offset..offset } else { typed };
    let marked = range(written.text, &typed);
    let item = |(index, offer): (usize, Offer)| CompletionItem {
        label: offer.text.trim_end_matches([' ', '=', '.']).to_owned(),
        kind: Some(offer.kind),
        detail: Some(offer.detail).filter(|detail| !detail.is_empty()),
        documentation: Some(offer.about).filter(|about| !about.is_empty()).map(markdown),
        filter_text: Some(offer.text.clone()),
        // In the order of the reference, not of the alphabet.
        sort_text: Some(format!("{index:04}")),
        text_edit: Some(CompletionTextEdit::Edit(TextEdit { range: marked, new_text: offer.text })),
        ..CompletionItem::default()
    };
    offers.into_iter().enumerate().map(item).collect()
}

fn markdown(value: String) -> Documentation {
    Documentation::MarkupContent(MarkupContent { kind: MarkupKind::Markdown, value })
}

/// The part of a text up to the cursor that could be a name.
fn word(text: &str, typed: &Range<usize>, offset: usize) -> Range<usize> {
    let before = &text[typed.start..offset];
    let start = before.rfind(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let start = start.map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    typed.start + start..offset
}

impl Written<'_> {
    fn headers(&self, path: &[String]) -> Vec<Offer> {
        let tables = |setting: &Setting<'_>| path.is_empty() || setting.is_table;
        let offer = |setting: Setting<'_>| {
            let of_nodes = path.is_empty() && (role(setting.name).is_some() || setting.name == "connection");
            let text = if of_nodes { format!("{}.", setting.name) } else { setting.name.to_owned() };
            Offer::new(text, Kind::MODULE, setting.kind, setting.description)
        };
        self.language.settings(path, self.scan).into_iter().filter(tables).map(offer).collect()
    }

    /// The settings that a table does not have yet; those first that it has to have.
    fn keys(&self, table: &[String]) -> Vec<Offer> {
        let there = self.scan.keys(table);
        let mut settings = self.language.settings(table, self.scan);
        settings.retain(|setting| !there.contains(&setting.name));
        settings.sort_by_key(|setting| !setting.is_required);
        let offer = |setting: Setting<'_>| {
            Offer::new(format!("{} = ", setting.name), Kind::FIELD, setting.kind, setting.description)
        };
        settings.into_iter().map(offer).collect()
    }

    fn values(&self, path: &[String], quoted: bool) -> Vec<Offer> {
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        let written = |text: &str| if quoted { text.to_owned() } else { format!("\"{text}\"") };
        if let [table, _, "type"] = keys[..] {
            return self.types(table, written);
        }
        if let [_, node, _] = keys[..]
            && self.reads_from(path)
        {
            let ports = self.ports(node).into_iter();
            return ports.map(|(port, columns)| Offer::new(written(&port), Kind::REFERENCE, columns, "")).collect();
        }
        if let [table, _, "connection"] = keys[..]
            && role(table).is_some()
        {
            return self.connections().map(|name| Offer::new(written(name), Kind::REFERENCE, "", "")).collect();
        }
        let choices = self.language.choices(path, self.scan);
        let offer = |choice: super::language::Choice| {
            let is_text = choice.toml.starts_with('"');
            let bare = choice.toml.trim_matches('"').to_owned();
            let text = if is_text && quoted { bare } else { choice.toml };
            (is_text || !quoted).then(|| Offer::new(text, Kind::ENUM_MEMBER, "", choice.description))
        };
        choices.into_iter().filter_map(offer).collect()
    }

    /// The types of the nodes or connections of a table.
    fn types(&self, table: &str, written: impl Fn(&str) -> String) -> Vec<Offer> {
        if table == "connection" {
            let kinds = self.registry.connections().iter();
            return kinds.map(|kind| Offer::new(written(kind.name), Kind::CLASS, "connection", kind.docs())).collect();
        }
        let Some(role) = role(table) else { return Vec::new() };
        let kinds = self.registry.kinds().iter().filter(|kind| kind.role == role);
        kinds.map(|kind| Offer::new(written(kind.name), Kind::CLASS, summary(kind), kind.docs())).collect()
    }

    /// Whether a setting names nodes that a node reads from.
    pub fn reads_from(&self, path: &[String]) -> bool {
        let [table, node, key] = path else { return false };
        let kind = || self.registry.find(role(table)?, self.scan.text(&[table, node, "type"])?);
        role(table).is_some_and(|role| role != Role::Input)
            && (key == "from" || kind().is_some_and(|kind| kind.side_input == Some(key)))
    }

    /// The ports that a node can read from, with their columns.
    fn ports(&self, reader: &str) -> Vec<(String, String)> {
        let mut ports = Vec::new();
        let nodes = self.scan.nodes().into_iter().filter(|(role, name)| *role != Role::Output && *name != reader);
        for (_, name) in nodes {
            match self.outline.and_then(|outline| outline.node(name)) {
                Some(node) => ports.extend(node.ports.iter().map(|port| {
                    let address = if port.name == MAIN { name.to_owned() } else { format!("{name}.{}", port.name) };
                    (address, names(&port.columns))
                })),
                // It is not known yet which ports it has.
                None => ports.push((name.to_owned(), String::new())),
            }
        }
        ports
    }

    fn connections(&self) -> impl Iterator<Item = &str> {
        let paths = self.scan.headers.iter().map(|header| &header.path);
        let names = paths.filter(|path| path[0] == "connection").filter_map(|path| path.get(1));
        names.map(String::as_str)
    }

    /// The columns that a setting may speak of: those that come to its node, or, of an input, those that it gives.
    fn columns(&self, path: &[String]) -> Vec<Offer> {
        if !self.language.has_columns(path, self.scan) {
            return Vec::new();
        }
        let mut offers: Vec<Offer> = Vec::new();
        for column in self.columns_at(&path[0], &path[1]) {
            if offers.iter().all(|known| known.text != column.name) {
                let nullable = if column.nullable { "?" } else { "" };
                offers.push(Offer::new(&column.name, Kind::VARIABLE, format!("{}{nullable}", column.kind), ""));
            }
        }
        offers
    }

    fn columns_at(&self, table: &str, node: &str) -> Vec<&OutlineColumn> {
        let Some(outline) = self.outline else { return Vec::new() };
        let settings = self.scan.keys(&[table.to_owned(), node.to_owned()]);
        let readers = settings.into_iter().filter(|key| {
            let path = [table, node, key].map(str::to_owned);
            self.reads_from(&path)
        });
        let read: Vec<&String> = readers.flat_map(|key| self.scan.texts(&[table, node, key])).collect();
        if role(table) == Some(Role::Input) {
            return outline
                .node(node)
                .into_iter()
                .flat_map(|node| &node.ports)
                .flat_map(|port| &port.columns)
                .collect();
        }
        read.into_iter().flat_map(|address| columns_of(outline, address)).collect()
    }
}

/// The columns that leave by a port, `NODE` or `NODE.PORT`.
pub fn columns_of<'o>(outline: &'o Outline, address: &str) -> &'o [OutlineColumn] {
    let (node, port) = address.split_once('.').unwrap_or((address, MAIN));
    let ports = outline.node(node).map(|node| node.ports.as_slice()).unwrap_or_default();
    ports.iter().find(|known| known.name == port).map_or(&[], |port| &port.columns)
}

/// The names of columns, as a list.
pub fn names(columns: &[OutlineColumn]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}
