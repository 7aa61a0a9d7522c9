//! `--set PATH=VALUE`: changes a value of the tree from the command line.

use std::ops::Range;

use millstream_core::{Role, known_names};

use super::connections::CONNECTION;
use super::diagnostic::Diagnostic;
use super::parse::{parse, parse_value};
use super::source::Source;
use super::text::Text;
use super::value::{Entry, Value, ValueKind};

/// Puts the value of one `--set` into the tree. A node or connection must be there for its settings to be changed; a whole table, as in
/// `output.seen={ type = "stdout", from = "rows" }`, makes a new one.
pub fn set(root: &mut Value, set: &str, source: &mut Source) -> Result<(), Box<Diagnostic>> {
    let start = source.add_set(set);
    let whole = start..start + set.len();
    let fault = |(message, help)| Box::new(source.diagnostic(&whole, message, help));
    let (path, written) = split(set).map_err(fault)?;
    let value = value(written, start + set.len() - written.len());
    if !(path.len() == 2 && matches!(value.kind, ValueKind::Table(_))) {
        check_name(root, &path).map_err(fault)?;
    }
    *place(root, &path, &whole).map_err(fault)? = value;
    Ok(())
}

/// What is wrong, and what would be right.
pub type Fault = (String, Option<String>);

/// Puts a value that is written at `span` at the end of a path.
pub fn put(root: &mut Value, path: &[String], written: &str, span: Range<usize>) -> Result<(), Fault> {
    *place(root, path, &span)? = value(written, span.start);
    Ok(())
}

/// The value of a text that begins at byte `start` of the source. What is no TOML value is a text: the shell has taken the quotes
/// away.
fn value(written: &str, start: usize) -> Value {
    let text = || Value { span: start..start + written.len(), kind: ValueKind::String(Text::from(written)) };
    parse_value(written, start).unwrap_or_else(|_| text())
}

/// The place at the end of a path.
fn place<'v>(root: &'v mut Value, path: &[String], span: &Range<usize>) -> Result<&'v mut Value, Fault> {
    path.iter().try_fold(root, |place, key| step(place, key, span))
}

/// The keys of the path, which may be quoted, and the value.
fn split(set: &str) -> Result<(Vec<String>, &str), Fault> {
    let help = || Some("such as `processor.NAME.KEY=VALUE`".to_owned());
    let (path, value) = set.split_once('=').ok_or_else(|| ("expected `PATH=VALUE`".to_owned(), help()))?;
    let keys = keys(path).ok_or_else(|| (format!("`{}` is not a path of keys", path.trim()), help()))?;
    Ok((keys, value))
}

fn keys(path: &str) -> Option<Vec<String>> {
    let one_line = !path.contains(['\n', '\r']);
    let root = one_line.then(|| parse(&format!("{path} = 0")).ok())??;
    let mut keys = Vec::new();
    let mut value = &root;
    while let [entry] = value.entries() {
        keys.push(entry.key.clone());
        value = &entry.value;
    }
    Some(keys).filter(|keys| !keys.is_empty())
}

fn check_name(root: &Value, path: &[String]) -> Result<(), Fault> {
    let named =
        |first: &&String| first.as_str() == CONNECTION || Role::ALL.iter().any(|role| role.name() == first.as_str());
    let Some(role) = path.first().filter(named) else { return Ok(()) };
    let nodes = root.get(role).map_or(&[][..], Value::entries);
    match path.get(1) {
        Some(name) if !nodes.iter().any(|node| node.key == *name) => {
            let known = nodes.iter().map(|node| node.key.as_str());
            Err((format!("there is no {role} `{name}`"), Some(known_names(name, known))))
        }
        _ => Ok(()),
    }
}

/// The place of a key or index; a key that is not there yet gets one.
fn step<'v>(place: &'v mut Value, key: &str, span: &Range<usize>) -> Result<&'v mut Value, Fault> {
    let noun = place.noun();
    match &mut place.kind {
        ValueKind::Table(entries) => {
            let index = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
                let value = Value { span: span.clone(), kind: ValueKind::Table(Vec::new()) };
                entries.push(Entry { key: key.to_owned(), key_span: span.clone(), value });
                entries.len() - 1
            });
            Ok(&mut entries[index].value)
        }
        ValueKind::Array(items) => {
            let count = items.len();
            let item = key.parse().ok().and_then(|index: usize| items.get_mut(index));
            item.ok_or_else(|| (format!("there is no element `{key}` in a list of {count}"), None))
        }
        _ => Err((format!("there is no `{key}` in {noun}"), None)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str =
        "[flow]\nname = \"f\"\n[input.a]\nlist = [1, { x = 2 }]\n[processor.score]\nfeatures = [\"a\"]\n";

    fn after(sets: &[&str]) -> Result<serde_json::Value, String> {
        let mut root = parse(FILE).unwrap();
        let mut source = Source::new("f.toml".into(), FILE.into());
        for one in sets {
            set(&mut root, one, &mut source).map_err(|diagnostic| diagnostic.to_string())?;
        }
        Ok(root.to_json())
    }

    #[test]
    fn values_are_toml_or_else_texts() {
        let changed = after(&[
            "processor.score.features=[\"b\", \"c\"]",
            "processor.score.rate=0.5",
            "processor.score.path=data/x.csv",
            "processor.score.empty=",
            "processor.score.equation=a=b",
            "processor.score.\"quoted.key\"=true",
            "flow.epoch.rows=1024",
            "input.a.list.1.x=3",
        ]);
        let expected = json!({
            "flow": {"name": "f", "epoch": {"rows": 1024}},
            "input": {"a": {"list": [1, {"x": 3}]}},
            "processor": {"score": {
                "features": ["b", "c"], "rate": 0.5, "path": "data/x.csv", "empty": "", "equation": "a=b",
                "quoted.key": true,
            }},
        });
        assert_eq!(changed.unwrap(), expected);
    }

    #[test]
    fn paths_that_lead_nowhere_are_refused() {
        for (set, expected) in [
            ("x", "--set x: expected `PATH=VALUE`; such as `processor.NAME.KEY=VALUE`"),
            ("=1", "--set =1: `` is not a path of keys; such as `processor.NAME.KEY=VALUE`"),
            ("a..b=1", "--set a..b=1: `a..b` is not a path of keys; such as `processor.NAME.KEY=VALUE`"),
            ("processor.scroe.x=1", "--set processor.scroe.x=1: there is no processor `scroe`; did you mean `score`?"),
            ("connection.x.y=1", "--set connection.x.y=1: there is no connection `x`; there is none"),
            ("output.x.y=1", "--set output.x.y=1: there is no output `x`; there is none"),
            ("flow.name.x=1", "--set flow.name.x=1: there is no `x` in a string"),
            ("input.a.list.7=1", "--set input.a.list.7=1: there is no element `7` in a list of 2"),
        ] {
            assert_eq!(after(&[set]).unwrap_err(), expected);
        }
    }
}
