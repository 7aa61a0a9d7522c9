//! Where the settings of the daemon come from.

use std::path::PathBuf;

use clap::Args;
use millstream_core::{Problems, ResultExt as _};
use millstream_engine::file::{Diagnostics, Layers, Setting, drop_ins};

use super::settings::DaemonSettings;
use crate::exit::CommandError;

/// What the names of variables begin with that are settings.
const PREFIX: &str = "MILLSTREAM__";

/// All settings, each with its default: a test holds the file to that.
const DEFAULTS: &str = include_str!("../../../conf/millstream.toml");

/// Where the settings of a daemon are.
#[derive(Clone, Debug, Args)]
pub struct ConfigArguments {
    /// The file of settings. Those in `FILE` without its ending and with `.d`, such as `millstream.d/*.toml`, lie over it in the order of
    /// their names, and variables such as `MILLSTREAM__RESTART__FIRST_PAUSE` over all. Without it, each setting has its default.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigArguments {
    /// The settings, from wherever they come.
    pub fn settings(&self) -> Result<DaemonSettings, CommandError> {
        self.read(|_| Problems::new())
    }

    /// The settings of a daemon that is about to run, which may not with all that can be written.
    pub fn settings_to_run(&self) -> Result<DaemonSettings, CommandError> {
        self.read(DaemonSettings::problems)
    }

    /// The settings that have a value, and where it comes from.
    pub fn shown(&self) -> Result<Vec<Setting>, CommandError> {
        self.with_layers(|layers| layers.shown(DEFAULTS))
    }

    fn read(&self, check: impl FnOnce(&DaemonSettings) -> Problems) -> Result<DaemonSettings, CommandError> {
        self.with_layers(|layers| layers.read_with(check))
    }

    fn with_layers<T>(&self, read: impl FnOnce(Layers<'_>) -> Result<T, Diagnostics>) -> Result<T, CommandError> {
        let files = self.config.as_ref().map_or_else(|| Ok(Vec::new()), |file| with_drop_ins(file.clone()))?;
        // Variables that are no texts are none of ours.
        let texts =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let variables: Vec<_> = texts.collect();
        Ok(read(Layers { files: &files, variables: &variables, prefix: PREFIX })?)
    }
}

/// A file of settings, and those that lie over it.
pub fn with_drop_ins(file: PathBuf) -> Result<Vec<PathBuf>, CommandError> {
    let folder = file.with_extension("d");
    let over = drop_ins(&folder).doing(|| format!("reading the folder `{}`", folder.display()))?;
    Ok(std::iter::once(file).chain(over).collect())
}
