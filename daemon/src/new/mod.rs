//! `millstream new`: writes a flow to begin with, from a template or from a look at a data file.

mod from_data;
mod sample;

use std::fs::{File, create_dir_all};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use millstream_core::ResultExt;

use crate::exit::{CommandError, Exit, Outcome};
use crate::terminal::say;
use crate::workplace::Workplace;

/// What `new` takes.
#[derive(Clone, Debug, Args)]
pub struct NewArguments {
    /// The flow file to write. One that is there already stays as it is.
    #[arg(value_name = "FLOW")]
    flow: PathBuf,
    /// What the flow does.
    #[arg(long, value_enum, default_value_t = Template::Transform, conflicts_with = "data")]
    template: Template,
    /// Write a flow that reads this file, with its columns, their types, and a test of its first row.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// With `--data`: learn to predict this column from the others.
    #[arg(long, value_name = "COLUMN", requires = "data")]
    label: Option<String>,
}

/// A flow that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Template {
    /// Rows are chosen and computed with SQL, and written to a file.
    Transform,
    /// A model learns from every row, which it has predicted before, and predicts others.
    Learn,
    /// Rows come in by HTTP and are predicted by a model that learns from labels as they come.
    Serve,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::Transform => include_str!("transform.toml"),
            Self::Learn => include_str!("learn.toml"),
            Self::Serve => include_str!("serve.toml"),
        }
    }
}

/// What stands for the flow's file in a template, and for its name.
const FILE: &str = "FLOW.toml";
const NAME: &str = "FLOW_NAME";

/// `millstream new`
pub fn new(arguments: &NewArguments) -> Outcome {
    let workplace = Workplace::here()?;
    let template = match &arguments.data {
        Some(data) => from_data::flow(&workplace, &arguments.flow, data, arguments.label.as_deref())?,
        None => arguments.template.text().to_owned(),
    };
    let name = flow_name(&arguments.flow);
    let shown = arguments.flow.display().to_string();
    write(&arguments.flow, &template.replace(FILE, &shown).replace(NAME, &name))?;
    say!(
        "wrote {shown}; `millstream check {shown}`, `millstream test {shown}` and `millstream explain {shown}` look at it"
    );
    Ok(Exit::Done)
}

/// A name for the flow of a file: small letters, digits and `_`.
fn flow_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_lowercase()) { name } else { format!("flow_{name}") }
}

/// Writes a file that is not there yet.
fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    let doing = || format!("writing `{}`", path.display());
    path.parent().map_or(Ok(()), create_dir_all).doing(doing)?;
    let created = File::create_new(path);
    if created.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
        return Err(CommandError::Usage(format!("`{}` is there already; give the flow another name", path.display())));
    }
    Ok(created.and_then(|mut file| file.write_all(text.as_bytes())).doing(doing)?)
}
