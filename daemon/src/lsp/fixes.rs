//! What a diagnostic advises, as a change of the text.

use lsp_types::{Diagnostic, Uri};
use serde_json::{Value as Json, json};

use super::positions::offset;

/// What stands before a name that was probably meant.
const ADVICE: &str = "did you mean `";

/// The changes that diagnostics advise.
pub fn fixes(text: &str, uri: &Uri, diagnostics: &[Diagnostic]) -> Json {
    diagnostics.iter().filter_map(|diagnostic| fix(text, uri, diagnostic)).collect()
}

fn fix(text: &str, uri: &Uri, diagnostic: &Diagnostic) -> Option<Json> {
    let (_, behind) = diagnostic.message.split_once(ADVICE)?;
    let (meant, _) = behind.split_once('`')?;
    let range = diagnostic.range;
    let written = text.get(offset(text, range.start)..offset(text, range.end))?;
    // Quotes are marked with what is in them.
    let quote =
        written.chars().next().filter(|first| matches!(first, '"' | '\'')).map(String::from).unwrap_or_default();
    let edit = json!({ "range": range, "newText": format!("{quote}{meant}{quote}") });
    Some(json!({
        "title": format!("Write `{meant}`"),
        "kind": "quickfix",
        "isPreferred": true,
        "diagnostics": [diagnostic],
        "edit": { "changes": { uri.as_str(): [edit] } },
    }))
}
