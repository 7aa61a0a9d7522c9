//! `millstream models export | import`: models as files of the formats that other programs know.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use millstream_core::{Result, ResultExt as _};
use millstream_models::registry::{ModelCard, Resolved};
use millstream_models::{EstimatorSettings, Import, Layout, Missing, Model, sha256};

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
    /// What learns, if the file has weights only: a TOML file with what the setting `estimator` of a node `train` says, such as
    /// `type = "network"` and its layers.
    #[arg(long, value_name = "FILE")]
    estimator: Option<PathBuf>,
    /// Where models are kept.
    #[command(flatten)]
    registry: RegistryArguments,
}

/// The formats of the programs of others.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// That of ONNX, which onnxruntime reads.
    Onnx,
    /// The weights as HDF5, which h5py and Keras read: by number in files that end in `.weights.h5`, else by name.
    Hdf5,
}

impl Format {
    /// What people call it.
    fn name(self) -> &'static str {
        match self {
            Self::Onnx => "ONNX",
            Self::Hdf5 => "HDF5",
        }
    }
}

/// `millstream models export`
pub fn export(asked: &ExportArguments) -> Result<()> {
    let Resolved { version, bytes, card } = asked.registry.open()?.resolve(&asked.model)?;
    let name = format!("{}/{version}", card.model);
    let model = Model::load(&bytes).doing(|| format!("reading `{name}`"))?;
    let (written, is) = match asked.format {
        Format::Onnx => (model.to_onnx(card.properties()), format!("predicts as {name} does")),
        Format::Hdf5 => {
            let layout = Layout::of_file(&asked.output.to_string_lossy());
            (model.to_hdf5(layout, &card.properties()), format!("has the weights of {name}"))
        }
    };
    let written = written.doing(|| format!("writing `{name}` as {}", asked.format.name()))?;
    std::fs::write(&asked.output, written).doing(|| format!("writing `{}`", asked.output.display()))?;
    say!("`{}` {is}", asked.output.display());
    Ok(())
}

/// `millstream models import`
pub fn import(asked: ImportArguments) -> Result<()> {
    let ImportArguments { file, name, features, label, classes, output, scores, allow_missing, estimator, registry } =
        asked;
    let missing = if allow_missing { Missing::Mean } else { Missing::Fail };
    let estimator = estimator.map(|file| read_estimator(&file)).transpose()?;
    let said = Import { features, label, classes, output, scores, missing, estimator };
    let doing = || format!("reading `{}`", file.display());
    std::fs::metadata(&file).doing(doing).and_then(|metadata| Import::check_size(metadata.len()).doing(doing))?;
    let bytes = std::fs::read(&file).doing(doing)?;
    let model = Model::import(&bytes, &said).doing(|| format!("importing `{}`", file.display()))?;
    let bytes = model.save()?;
    let card = ModelCard::new(&name, model.signature(), 0);
    let version = registry.open()?.publish(&name, &bytes, card, &sha256(&bytes))?;
    say!("`{}` is {name}/{version}", file.display());
    Ok(())
}

/// What a file says of an estimator.
fn read_estimator(file: &Path) -> Result<EstimatorSettings> {
    let doing = || format!("reading `{}`", file.display());
    let text = std::fs::read_to_string(file).doing(doing)?;
    toml::from_str(&text).doing(doing)
}
