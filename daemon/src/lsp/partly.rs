//! What is known of a flow that has mistakes: it is planned without the tables that have them, so that columns are known while somebody
//! writes what uses them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use millstream_core::Role;
use millstream_engine::file::Diagnostics;
use millstream_engine::outline::Outline;

use super::check::plan;
use super::scan::{Scan, role};
use crate::workplace::Workplace;

/// How many times tables are left out. Behind a node that is left out are others.
const TRIES: usize = 12;

/// What the names of outputs begin with that are made up, so that each node has one behind it.
const MADE_UP: &str = "made_up_for_";

/// The outline of what is right in a text. Outputs are not in it.
pub fn partly(workplace: &Workplace, path: &Path, text: &str) -> Option<Outline> {
    let mut text = without(text, |path| matches!(path.first().map(String::as_str), Some("output" | "test")));
    // Nodes that nobody can read by their main port.
    let mut unread = BTreeSet::new();
    for _ in 0..TRIES {
        let (outputs, names) = made_up(&text, &unread);
        match plan(workplace, path, &(text.clone() + "\n" + &outputs)) {
            Ok(plan) => {
                let mut outline = plan.outline();
                outline.nodes.retain(|node| role(&node.role) != Some(Role::Output));
                return Some(outline);
            }
            Err(diagnostics) => {
                let lines = text.matches('\n').count() + 1;
                let made: Vec<_> = wrong_lines(&diagnostics).filter(|line| *line > lines).collect();
                // Three lines each.
                unread.extend(made.iter().filter_map(|line| names.get((line - lines - 1) / 3).cloned()));
                let before = text.clone();
                text = without_lines(&text, wrong_lines(&diagnostics).filter(|line| *line <= lines).collect());
                if made.is_empty() && text == before {
                    return None;
                }
            }
        }
    }
    None
}

/// An output for each node, and the names of the nodes.
fn made_up(text: &str, unread: &BTreeSet<String>) -> (String, Vec<String>) {
    let scan = Scan::new(text);
    let mut names: Vec<String> = scan.nodes().into_iter().map(|(_, name)| name.to_owned()).collect();
    names.retain(|name| !unread.contains(name));
    let mut outputs = String::new();
    for name in &names {
        let _ = write!(outputs, "[output.{MADE_UP}{name}]\ntype = \"drop\"\nfrom = \"{name}\"\n");
    }
    (outputs, names)
}

fn wrong_lines(diagnostics: &Diagnostics) -> impl Iterator<Item = usize> {
    diagnostics.iter().filter_map(|diagnostic| Some(diagnostic.place.as_ref()?.line))
}

/// A text without the tables that have these lines, which stay as empty lines.
fn without_lines(text: &str, lines: BTreeSet<usize>) -> String {
    let starts: Vec<usize> = headers(text).into_iter().map(|(line, _)| line).collect();
    let table = |line: usize| match starts.partition_point(|start| *start <= line) {
        // Of a table without a header, the line itself.
        0 => (line, line + 1),
        behind => (starts[behind - 1], starts.get(behind).copied().unwrap_or(usize::MAX)),
    };
    // In the order of the text.
    let tables: Vec<_> = lines.into_iter().map(table).collect();
    emptied(text, |line| {
        let behind = tables.partition_point(|(start, _)| *start <= line);
        behind > 0 && line < tables[behind - 1].1
    })
}

/// The lines in which tables begin, in their order, and how these are called.
fn headers(text: &str) -> Vec<(usize, Vec<String>)> {
    let newlines: Vec<usize> = text.match_indices('\n').map(|(newline, _)| newline).collect();
    let line_of = |start: usize| newlines.partition_point(|newline| *newline < start) + 1;
    Scan::new(text).headers.into_iter().map(|header| (line_of(header.start), header.path)).collect()
}

/// A text without tables whose headers are such.
fn without(text: &str, is_left_out: impl Fn(&[String]) -> bool) -> String {
    let left_out = headers(text).into_iter().filter(|(_, path)| is_left_out(path));
    without_lines(text, left_out.map(|(line, _)| line).collect())
}

fn emptied(text: &str, is_empty: impl Fn(usize) -> bool) -> String {
    let lines = text.split('\n').enumerate();
    let lines: Vec<_> = lines.map(|(index, line)| if is_empty(index + 1) { "" } else { line }).collect();
    lines.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_known_although_the_rest_is_not_written_yet() {
        let workplace = Workplace::here().unwrap();
        let rows = "[input.rows]\ntype = 'stdin'\nformat = 'csv'\nschema = { id = 'int64', 'größe' = 'utf8' }\n\n";
        let clean = "[processor.clean]\ntype = 'sql'\nfrom = 'rows'\nquery = 'SELECT id FROM rows'\n\n";
        let sorted = "[processor.sorted]\ntype = 'route'\nfrom = 'clean'\nwhen = { few = 'id < 3' }\n\n";
        for rest in [
            "[processor.more]\ntype = 'sql'\nfrom = 'sorted.few'\nquery = 'SELECT ",
            "[processor.more]\ntype = 'sql'\nfrom = 'sorted.few'\nquery = 'SELECT x'\n[output.a]\nfrom = 'more'\n",
            "[output.out]\ntype = 'fil'\nfrom = 'clean'\n[[test]]\nname = 3\n",
            "",
        ] {
            let outline = partly(&workplace, Path::new("a.toml"), &format!("{rows}{clean}{sorted}{rest}")).unwrap();
            let columns = |node: &str, port: usize| {
                let columns = outline.node(node).unwrap().ports[port].columns.iter();
                columns.map(|column| column.name.clone()).collect::<Vec<_>>()
            };
            assert_eq!(columns("rows", 0), ["id", "größe"], "{rest}");
            assert_eq!((columns("clean", 0), columns("sorted", 0)), (vec!["id".to_owned()], vec!["id".to_owned()]));
            assert!(outline.node("more").is_none());
        }
        assert!(partly(&workplace, Path::new("a.toml"), "= = =\n[").is_none());
    }
}
