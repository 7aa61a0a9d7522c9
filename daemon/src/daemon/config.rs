//! Where the settings of the daemon come from.

use std::path::PathBuf;

use clap::Args;
use millstream_core::{Problems, ResultExt as _};
use millstream_engine::file::{Diagnostics, Layers, drop_ins};

use super::settings::DaemonSettings;
use crate::exit::CommandError;

/// What the names of variables begin with that are settings.
const PREFIX: &str = "MILLSTREAM__";

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

    fn read(&self, check: impl FnOnce(&DaemonSettings) -> Problems) -> Result<DaemonSettings, CommandError> {
        let files = self.config.as_ref().map_or_else(|| Ok(Vec::new()), |file| with_drop_ins(file.clone()))?;
        // Variables that are no texts are none of ours.
        let texts =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let variables: Vec<_> = texts.collect();
        let layers = Layers { files: &files, variables: &variables, prefix: PREFIX };
        let settings: Result<DaemonSettings, Diagnostics> = layers.read_with(check);
        Ok(settings?)
    }
}

/// A file of settings, and those that lie over it.
pub fn with_drop_ins(file: PathBuf) -> Result<Vec<PathBuf>, CommandError> {
    let folder = file.with_extension("d");
    let over = drop_ins(&folder).doing(|| format!("reading the folder `{}`", folder.display()))?;
    Ok(std::iter::once(file).chain(over).collect())
}
