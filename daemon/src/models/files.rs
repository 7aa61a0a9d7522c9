//! `millstream models export | import`: models as files of the formats that other programs know.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use millstream_core::{Result, ResultExt as _};
use millstream_models::registry::{ModelCard, Resolved};
use millstream_models::{Import, Missing, Model, sha256};

use super::RegistryArguments;
use crate::terminal::say;

/// What `models export` takes.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// `fraud` (its champion), `fraud@champion`, `fraud@latest` or `fraud/3`.
    model: String,
    /// The format.
    #[arg(long, value_enum, default_value = "onnx")]
    format: Format,
    /// The file.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Where the model is kept.
    #[command(flatten)]
    registry: RegistryArguments,
}

/// What `models import` takes.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The file.
    file: PathBuf,
    /// What the model is to be called. If there is such a model, this is its next version.
    #[arg(long)]
    name: String,
    /// The names of the features, for the columns of its inputs in their order. By default those of the inputs, with numbers behind them where an
    /// input has several columns.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    features: Option<Vec<String>>,
    /// The column that it predicts.
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The classes, in the order of its numbers, if the file does not say them.
    #[arg(long, value_name = "CLASS,…", value_delimiter = ',')]
    classes: Option<Vec<String>>,
    /// The output with the prediction, or with what speaks for each class, if there are several.
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// What it says about classes are scores, and no probabilities.
    #[arg(long)]
    scores: bool,
    /// Numbers may be missing: they are NaN for the model then.
    #[arg(long)]
    allow_missing: bool,
    /// Where models are kept.
    #[command(flatten)]
    registry: RegistryArguments,
}

/// The formats of the programs of others.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// That of ONNX, which onnxruntime reads.
    Onnx,
}

/// `millstream models export`
pub fn export(asked: &ExportArguments) -> Result<()> {
    let Resolved { version, bytes, card } = asked.registry.open()?.resolve(&asked.model)?;
    let name = format!("{}/{version}", card.model);
    let Format::Onnx = asked.format;
    let written = Model::load(&bytes).and_then(|model| model.to_onnx(card.properties()));
    let written = written.doing(|| format!("writing `{name}` as ONNX"))?;
    std::fs::write(&asked.output, written).doing(|| format!("writing `{}`", asked.output.display()))?;
    say!("`{}` predicts as {name} does", asked.output.display());
    Ok(())
}

/// `millstream models import`
pub fn import(asked: ImportArguments) -> Result<()> {
    let ImportArguments { file, name, features, label, classes, output, scores, allow_missing, registry } = asked;
    let missing = if allow_missing { Missing::Mean } else { Missing::Fail };
    let said = Import { features, label, classes, output, scores, missing };
    let bytes = std::fs::read(&file).doing(|| format!("reading `{}`", file.display()))?;
    let model = Model::import(&bytes, &said).doing(|| format!("importing `{}`", file.display()))?;
    let bytes = model.save()?;
    let card = ModelCard::new(&name, model.signature(), 0);
    let version = registry.open()?.publish(&name, &bytes, card, &sha256(&bytes))?;
    say!("`{}` is {name}/{version}", file.display());
    Ok(())
}
