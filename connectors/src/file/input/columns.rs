//! The columns of the files that an input reads: declared, or found in them.

use std::sync::Arc;

use millstream_core::{Columns, Problem, Result, type_name};
use millstream_formats::{ColumnsIn, Found};

use super::sources::{ResolvedFiles, Source};

impl ResolvedFiles {
    /// The columns that were declared, if the files can have them.
    pub(super) fn declared(&mut self, columns: &Columns) -> Result<Found, Problem> {
        let at = |problem: Problem| problem.at(["schema"]);
        if self.format.columns_in() == ColumnsIn::Metadata {
            let message = format!("{} files name their columns themselves", self.format.kind().name);
            return Err(at(Problem::new(message).help("leave `schema` out")));
        }
        self.format.check_columns(columns).map_err(at)?;
        for Source { file, format, compression, has_header } in &mut self.sources {
            *has_header = format
                .check_header(&file.path, *compression, columns)
                .map_err(|error| at(Problem::new(format!("`{}`: {error}", file.name))))?;
        }
        Ok(Found::of(columns.clone()))
    }

    /// The columns that the files have, which must be the same. So many rows of the first are looked at, if need be.
    pub(super) fn found(&mut self, infer_rows: usize) -> Result<Found, Problem> {
        let columns_in = self.format.columns_in();
        let mut first: Option<(Found, Arc<str>)> = None;
        for Source { file, format, compression, has_header } in &mut self.sources {
            if columns_in == ColumnsIn::Rows && first.is_some() {
                break;
            }
            let rows = if first.is_some() { 0 } else { infer_rows };
            let found = format.inspect(&file.path, *compression, rows);
            let found = found.map_err(|error| Problem::new(error.to_string()).at(["path"]))?;
            *has_header = columns_in == ColumnsIn::Header && !found.columns.0.is_empty();
            match &mut first {
                _ if found.columns.0.is_empty() => {}
                None => first = Some((found, file.name.clone())),
                Some((known, of)) => join(known, found, columns_in).map_err(|message| {
                    let files = format!("`{}` has other columns than `{of}`", file.name);
                    Problem::new(format!("{files}: {message}")).at(["path"])
                })?,
            }
        }
        first.map(|(found, _)| found).ok_or_else(|| {
            let name = &self.sources[0].file.name;
            let problem = Problem::new(format!("`{name}` has no rows to find the columns by")).at(["path"]);
            problem.help("declare them with `schema`")
        })
    }
}

/// Lets `known` also stand for another file, or says how that differs.
fn join(known: &mut Found, other: Found, columns_in: ColumnsIn) -> Result<(), String> {
    let names = |found: &Found| found.columns.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if columns_in == ColumnsIn::Header {
        // Columns are matched by name, and only the first file's types count.
        let (mut one, mut two) = (names(known), names(&other));
        one.sort();
        two.sort();
        return differing(&one, &two).map_or(Ok(()), Err);
    }
    if let Some(message) = differing(&names(known), &names(&other)) {
        return Err(message);
    }
    for ((name, one), (_, two)) in known.columns.0.iter_mut().zip(other.columns.0) {
        if one.data_type != two.data_type {
            let types = [&one.data_type, &two.data_type].map(type_name);
            return Err(format!("`{name}` is {} instead of {}", types[1], types[0]));
        }
        one.nullable |= two.nullable;
    }
    known.rows = known.rows.zip(other.rows).map(|(one, two)| one + two);
    Ok(())
}

/// The first thing in which lists of names differ.
fn differing(expected: &[String], names: &[String]) -> Option<String> {
    if let Some(missing) = expected.iter().find(|name| !names.contains(name)) {
        return Some(format!("`{missing}` is missing"));
    }
    if let Some(extra) = names.iter().find(|name| !expected.contains(name)) {
        return Some(format!("`{extra}` is new"));
    }
    (expected != names).then(|| "they are in another order".to_owned())
}
