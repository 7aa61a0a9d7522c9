//! Sources elsewhere that know columns which nodes do not say: all of them are asked at once, and what they say is compared with the lock file.

use std::time::Duration;

use futures::future::join_all;
use millstream_core::{ColumnType, Columns, Error, PROBE_PATIENCE, Problem, Result, Role, SchemaSource};

use super::PlanOptions;
use super::columns::context;
use super::probes::Probed;
use crate::file::{Body, Diagnostics, FlowFile, Lock, LockedSchema, locked_setting};

/// How long a source may take.
const DEADLINE: Duration = PROBE_PATIENCE.saturating_add(Duration::from_secs(5));

/// What a source has said.
#[derive(Debug)]
pub struct Asked {
    /// What the node is.
    pub role: Role,
    /// Its name in the flow.
    pub node: String,
    /// What was said, as the lock file would have it, or why there is no answer.
    pub found: Result<LockedSchema, Diagnostics>,
}

/// Asks for all columns that nodes leave out, in file order. The nodes need not have a plan, which they may lack without them.
pub async fn ask_sources(file: &FlowFile, options: &PlanOptions<'_>) -> Vec<Asked> {
    let asked = file.nodes.iter().flat_map(|node| {
        let context = context(file, &node.name, options);
        let sources = match &node.body {
            Body::Input { settings, .. } => settings.schema_sources(&context),
            Body::Processor { settings, .. } => settings.schema_sources(&context),
            Body::Output { .. } => Vec::new(),
        };
        sources.into_iter().map(move |source| ask(file, node.role(), &node.name, source))
    });
    join_all(asked.collect::<Vec<_>>()).await
}

async fn ask(file: &FlowFile, role: Role, node: &str, source: SchemaSource) -> Asked {
    let SchemaSource { setting, name, ask } = source;
    let late = |_| Error::transient(format!("no answer within {} seconds", DEADLINE.as_secs()));
    let answer = tokio::time::timeout(DEADLINE, ask).await.map_err(late).flatten();
    let locked = |schema| LockedSchema { setting: locked_setting(role, node, &setting), source: name.clone(), schema };
    let wrong = |error: Error| {
        let problem = Problem::new(format!("the columns of {name} are not known: {error}"));
        file.diagnose(node, problem.into())
    };
    Asked { role, node: node.to_owned(), found: answer.map(locked).map_err(wrong) }
}

impl Asked {
    /// What there is to say when the columns were written into the lock file; `before` is what it had.
    pub fn written(self, before: &Lock) -> Probed {
        let Self { role, node, found } = self;
        let said = |now: LockedSchema| {
            let (path, known) = (&before.path, before.schema(&now.setting));
            let count = now.schema.columns.0.len();
            match known.map(|known| changes(&known.schema.columns, &now.schema.columns)) {
                Some(changes) if changes.is_empty() => format!("{count} columns of {}, as in `{path}`", now.source),
                Some(changes) => format!("{count} columns of {} in `{path}`: {}", now.source, words(&changes)),
                None => format!("{count} columns of {} in `{path}`", now.source),
            }
        };
        Probed { role, node, found: found.map(said) }
    }

    /// What there is to say of an answer beside the lock file, which has to have every column as it is. New ones do no harm.
    pub fn compared(self, file: &FlowFile) -> Probed {
        let Self { role, node, found } = self;
        let found =
            found.and_then(|now| compare(&file.lock, &now).map_err(|problem| file.diagnose(&node, problem.into())));
        Probed { role, node, found }
    }
}

fn compare(lock: &Lock, now: &LockedSchema) -> Result<String, Problem> {
    let (path, source) = (&lock.path, &now.source);
    let known = lock.schema(&now.setting).map(|locked| &locked.schema);
    let changes = known.map_or_else(Vec::new, |known| changes(&known.columns, &now.schema.columns));
    let help = format!("`{}` takes them as they are", lock.command());
    if changes.is_empty() {
        let is_same = known.is_none_or(|known| *known == now.schema);
        let but = if is_same { String::new() } else { format!(", which it defines otherwise; {help}") };
        return Ok(format!("{source} has the columns of `{path}`{but}"));
    }
    let message = format!("{source} has other columns than `{path}`: {}", words(&changes));
    if changes.iter().all(|change| matches!(change, Change::New(..))) {
        return Ok(format!("{message}; {help}"));
    }
    Err(Problem::new(message).help(help))
}

/// What has become of a column.
#[derive(Debug, PartialEq, Eq)]
enum Change<'a> {
    New(&'a str, &'a ColumnType),
    Gone(&'a str),
    Other(&'a str, &'a ColumnType, &'a ColumnType),
}

fn changes<'a>(before: &'a Columns, now: &'a Columns) -> Vec<Change<'a>> {
    let find = |columns: &'a Columns, wanted: &str| columns.0.iter().find(|(name, _)| name == wanted).map(|(_, of)| of);
    let known = before.0.iter().filter_map(|(name, was)| match find(now, name) {
        None => Some(Change::Gone(name)),
        Some(is) => (is != was).then_some(Change::Other(name, was, is)),
    });
    let new = now.0.iter().filter(|(name, _)| find(before, name).is_none()).map(|(name, of)| Change::New(name, of));
    known.chain(new).collect()
}

fn words(changes: &[Change<'_>]) -> String {
    let word = |change: &Change<'_>| match change {
        Change::New(name, of) => format!("`{name}`, a `{of}`, is new"),
        Change::Gone(name) => format!("`{name}` is gone"),
        Change::Other(name, was, is) => format!("`{name}` was `{was}` and is `{is}`"),
    };
    changes.iter().map(word).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn locked(columns: &[(&str, &str)]) -> LockedSchema {
        let column = |(name, of): &(&str, &str)| ((*name).to_owned(), ColumnType::parse(of).expect(of));
        let schema = Columns(columns.iter().map(column).collect()).into();
        LockedSchema { setting: "input.shop.schema".into(), source: "the table `orders`".into(), schema }
    }

    #[test]
    fn columns_may_come_and_must_not_go_or_change() {
        let known = [("id", "int64"), ("amount", "decimal(10,2)?"), ("note", "utf8?")];
        let lock = Lock::beside(Path::new("f.toml")).with(vec![locked(&known)]);
        let said = |columns: &[(&str, &str)]| compare(&lock, &locked(columns)).map_err(|problem| problem.to_string());
        let takes = "`millstream check f.toml --connect --lock` takes them as they are";
        assert_eq!(said(&known), Ok("the table `orders` has the columns of `f.lock`".to_owned()));
        let more = [("more", "json"), known[2], known[0], known[1]];
        let expected = format!("the table `orders` has other columns than `f.lock`: `more`, a `json`, is new; {takes}");
        assert_eq!(said(&more), Ok(expected));
        let other = [("id", "int64"), ("amount", "decimal(12,2)"), ("text", "utf8")];
        let expected = "`amount` was `decimal(10,2)?` and is `decimal(12,2)`; `note` is gone; `text`, a `utf8`, is new";
        assert_eq!(
            said(&other),
            Err(format!("the table `orders` has other columns than `f.lock`: {expected}; {takes}"))
        );
    }

    #[test]
    fn what_is_defined_otherwise_is_said() {
        let mut now = locked(&[("id", "int64")]);
        let lock = Lock::beside(Path::new("f.toml")).with(vec![now.clone()]);
        now.schema.definition.push("{}".to_owned());
        let said = compare(&lock, &now).map_err(|problem| problem.to_string());
        assert!(said.is_ok_and(|said| said.contains("which it defines otherwise")));
    }
}
