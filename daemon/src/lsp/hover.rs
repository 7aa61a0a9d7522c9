//! What is known of what the cursor is on.

use std::fmt::Write as _;
use std::ops::Range;

use lsp_types::{Hover, HoverContents, MarkupContent, MarkupKind};
use millstream_engine::outline::{OutlineColumn, OutlineNode};

use super::completion::{Written, columns_of};
use super::positions::range;
use super::scan::{Place, place, role};

/// What is shown of the word at byte `offset`.
pub fn hover(written: &Written<'_>, offset: usize) -> Option<Hover> {
    let text = written.text;
    // As if the cursor stood behind the letter that it is on.
    let behind = text[offset..].chars().next().map_or(offset, |letter| offset + letter.len_utf8());
    let (about, span) = match place(text, behind)? {
        Place::Header { path, typed } => {
            let path = [path, vec![text[typed.clone()].to_owned()]].concat();
            (written.about_table(&path)?, typed)
        }
        Place::Key { table, typed } => {
            let path = [table, vec![text[typed.clone()].to_owned()]].concat();
            (written.about_setting(&path)?, typed)
        }
        Place::Value { path, typed, .. } => (written.about_value(&path, &typed)?, typed),
    };
    let contents = HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value: about });
    Some(Hover { contents, range: Some(range(text, &span)) })
}

impl Written<'_> {
    /// What is known of the table with a header.
    fn about_table(&self, path: &[String]) -> Option<String> {
        let [table, name] = path else { return self.about_setting(path) };
        let mut about = self.about_type(table, self.scan.text(&[table, name, "type"])?)?;
        if let Some(node) = self.outline.and_then(|outline| outline.node(name)) {
            about += &columns(node);
        }
        Some(about)
    }

    fn about_type(&self, table: &str, name: &str) -> Option<String> {
        let docs = match role(table) {
            Some(role) => self.registry.find(role, name)?.docs(),
            None => self.registry.find_connection(name).filter(|_| table == "connection")?.docs(),
        };
        Some(format!("**{table} `{name}`**\n\n{docs}\n"))
    }

    fn about_setting(&self, path: &[String]) -> Option<String> {
        let setting = self.language.setting(path, self.scan)?;
        Some(format!("**`{}`** ({})\n\n{}\n", setting.name, setting.kind, setting.description))
    }

    fn about_value(&self, path: &[String], typed: &Range<usize>) -> Option<String> {
        let value = &self.text[typed.clone()];
        if let [table, _, key] = path
            && key == "type"
        {
            return self.about_type(table, value);
        }
        if self.reads_from(path) {
            let columns = columns_of(self.outline?, value);
            return (!columns.is_empty()).then(|| format!("Rows of `{value}`:\n\n{}", list(columns)));
        }
        let toml = format!("\"{value}\"");
        let choices = self.language.choices(path, self.scan);
        let chosen = choices.into_iter().find(|choice| choice.toml == toml && !choice.description.is_empty());
        chosen.map(|choice| format!("**`{value}`**\n\n{}\n", choice.description)).or_else(|| self.about_setting(path))
    }
}

/// The columns that leave a node.
fn columns(node: &OutlineNode) -> String {
    let mut text = String::new();
    for port in &node.ports {
        let _ = write!(text, "\nRows that leave by `{}`:\n\n{}", port.name, list(&port.columns));
    }
    text
}

fn list(columns: &[OutlineColumn]) -> String {
    let line = |column: &OutlineColumn| {
        let nullable = if column.nullable { ", may be null" } else { "" };
        format!("- `{}`: {}{nullable}\n", column.name, column.kind)
    };
    columns.iter().map(line).collect()
}
