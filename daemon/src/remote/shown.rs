//! What the daemon answers, as tables and lines for people.

use serde_json::Value as Json;

use crate::summary::new_table;
use crate::terminal::{print_json, say};

/// A column of a table: its title, and where its values are.
pub type Column = (&'static str, &'static str);

/// A list as a table, or each of its items as a line of JSON.
pub fn list(answer: &Json, columns: &[Column], as_json: bool) {
    let items = answer["items"].as_array().into_iter().flatten();
    if as_json {
        items.cloned().for_each(print_json);
        return;
    }
    let mut table = new_table(columns.iter().map(|(title, _)| *title));
    for item in items {
        table.add_row(columns.iter().map(|(_, pointer)| text(item.pointer(pointer))));
    }
    say!("{table}");
}

/// One thing as lines, or as a line of JSON.
pub fn one(answer: Json, fields: &[Column], as_json: bool) {
    if as_json {
        print_json(answer);
        return;
    }
    let width = fields.iter().map(|(title, _)| title.len()).max().unwrap_or_default();
    for (title, pointer) in fields {
        let value = text(answer.pointer(pointer));
        if !value.is_empty() {
            say!("{title:<width$}  {value}");
        }
    }
}

/// A value in words.
fn text(value: Option<&Json>) -> String {
    match value {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
