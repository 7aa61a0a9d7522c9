//! The flow files that arguments stand for: a file, a folder of flows, or a pattern.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::exit::CommandError;

/// Flow files and changes to them.
#[derive(Clone, Debug, Args)]
pub struct FlowsArguments {
    /// Flow files, folders of them, or patterns such as `'flows/*.toml'`.
    #[arg(required = true, value_name = "FLOW")]
    pub flows: Vec<PathBuf>,
    /// Change a setting: `input.payments.path=other.csv`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

impl FlowsArguments {
    /// The flow files.
    pub fn files(&self) -> Result<Vec<PathBuf>, CommandError> {
        find(&self.flows)
    }
}

/// A flow file and changes to it.
#[derive(Clone, Debug, Args)]
pub struct FlowArguments {
    /// The flow file.
    #[arg(value_name = "FLOW")]
    pub flow: PathBuf,
    /// Change a setting: `input.payments.path=other.csv`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

/// The files, in the order of the arguments, and sorted within each.
///
/// # Errors
/// If a folder has no flows, or a pattern matches none.
pub fn find(arguments: &[PathBuf]) -> Result<Vec<PathBuf>, CommandError> {
    let found = arguments.iter().map(|argument| find_one(argument)).collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = Vec::new();
    for file in found.into_iter().flatten() {
        // Two patterns may match the same file.
        if !files.contains(&file) {
            files.push(file);
        }
    }
    Ok(files)
}

fn find_one(argument: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let shown = argument.display();
    if argument.is_dir() {
        let escaped = glob::Pattern::escape(&argument.to_string_lossy());
        let flows = matches(&format!("{escaped}/*.toml"))?;
        return some(flows, || format!("the folder `{shown}` has no flows: no files called `*.toml`"));
    }
    let text = argument.to_string_lossy();
    if argument.exists() || !text.contains(['*', '?', '[']) {
        return Ok(vec![argument.to_owned()]);
    }
    some(matches(&text)?, || format!("no file matches `{shown}`"))
}

/// The files that match, sorted.
fn matches(pattern: &str) -> Result<Vec<PathBuf>, CommandError> {
    let found =
        glob::glob(pattern).map_err(|error| CommandError::Usage(format!("`{pattern}` is no pattern: {error}")))?;
    Ok(found.filter_map(Result::ok).filter(|path| path.is_file()).collect())
}

fn some(files: Vec<PathBuf>, none: impl FnOnce() -> String) -> Result<Vec<PathBuf>, CommandError> {
    if files.is_empty() { Err(CommandError::Usage(none())) } else { Ok(files) }
}
