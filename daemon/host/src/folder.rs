//! Flows that are there because their files are in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use millstream_core::{Error, Result, ResultExt as _};

use crate::host::Host;
use crate::launch::FlowSource;

/// A folder whose files `*.toml` are flows. Each time that it is looked at, the host gets the flows whose files are new or have changed,
/// and loses those whose files are gone.
#[derive(Debug)]
pub struct FlowFolder {
    folder: PathBuf,
    files: BTreeMap<PathBuf, KnownFile>,
}

/// A file as it was when it was looked at last.
#[derive(Debug)]
struct KnownFile {
    hash: blake3::Hash,
    /// The flow that runs because of it. A file that does not check any more leaves its flow as it is.
    flow: Option<String>,
}

/// What has come of a file that was new, had changed or is gone.
#[derive(Debug)]
pub enum FolderChange {
    /// Its flow runs, from this revision on.
    Applied {
        /// The file.
        path: PathBuf,
        /// The flow.
        flow: String,
        /// Its revision.
        revision: u64,
    },
    /// It can't be run. The flow that ran because of it, if there was one, goes on as it is.
    Refused {
        /// The file.
        path: PathBuf,
        /// That flow.
        flow: Option<String>,
        /// All that is wrong.
        reason: String,
    },
    /// It is gone, or names another flow; its flow has stopped at a checkpoint.
    Removed {
        /// The file.
        path: PathBuf,
        /// The flow.
        flow: String,
    },
}

impl FlowFolder {
    /// A folder that has not been looked at.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, files: BTreeMap::new() }
    }

    /// Looks at the folder, and has the host do what follows from it.
    ///
    /// # Errors
    /// If the folder can't be read. Then no flow changes.
    pub async fn scan(&mut self, host: &Host) -> Result<Vec<FolderChange>> {
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || read_folder(&folder)).await;
        let found = read.doing(|| "reading the folder of flows")??;
        let mut changes = self.remove_others(&found.keys().cloned().collect(), host).await;
        for (path, text) in found {
            changes.extend(self.look_at(path, text, host).await);
        }
        Ok(changes)
    }

    /// Stops the flows whose files are gone.
    async fn remove_others(&mut self, found: &BTreeSet<PathBuf>, host: &Host) -> Vec<FolderChange> {
        let gone: Vec<_> = self.files.extract_if(.., |path, _| !found.contains(path)).collect();
        let mut changes = Vec::new();
        for (path, known) in gone {
            if let Some(flow) = known.flow {
                host.remove(&flow).await;
                changes.push(FolderChange::Removed { path, flow });
                self.forget_refused();
            }
        }
        changes
    }

    /// Has files looked at again that run no flow: a name may be free now.
    fn forget_refused(&mut self) {
        self.files.retain(|_, known| known.flow.is_some());
    }

    /// Has the flow of a file run, if its text is another one than before.
    async fn look_at(&mut self, path: PathBuf, text: Result<String>, host: &Host) -> Vec<FolderChange> {
        let content = text.as_ref().map_or_else(|error| error.to_string(), Clone::clone);
        let hash = blake3::hash(content.as_bytes());
        let known = self.files.get(&path);
        if known.is_some_and(|known| known.hash == hash) {
            return Vec::new();
        }
        let former = known.and_then(|known| known.flow.clone());
        let checked = match text {
            Ok(text) => self.check(FlowSource { path: path.clone(), text: text.into() }, host).await,
            Err(error) => Err(error.to_string()),
        };
        let (flow, source) = match checked {
            Ok(checked) => checked,
            Err(reason) => {
                self.files.insert(path.clone(), KnownFile { hash, flow: former.clone() });
                return vec![FolderChange::Refused { path, flow: former, reason }];
            }
        };
        let mut changes = Vec::new();
        if let Some(former) = former.filter(|former| *former != flow) {
            host.remove(&former).await;
            self.forget_refused();
            changes.push(FolderChange::Removed { path: path.clone(), flow: former });
        }
        let revision = host.put(&flow, source);
        self.files.insert(path.clone(), KnownFile { hash, flow: Some(flow.clone()) });
        changes.push(FolderChange::Applied { path, flow, revision });
        changes
    }

    /// The name of the flow in a file that can be run, or all that is wrong.
    async fn check(&self, source: FlowSource, host: &Host) -> Result<(String, FlowSource), String> {
        let launcher = host.launcher();
        let checked = tokio::task::spawn_blocking(move || (launcher.check(&source), source)).await;
        let (flow, source) = checked.map_err(|panic| Error::caused_by("checking the flow", panic).to_string())?;
        let flow = flow.map_err(|diagnostics| diagnostics.to_string())?;
        let of_flow =
            |(path, known): &(&PathBuf, &KnownFile)| known.flow.as_ref() == Some(&flow) && **path != source.path;
        match self.files.iter().find(of_flow) {
            Some((other, _)) => Err(format!(
                "{}: the flow `{flow}` is in `{}` already; give one of them another `name` in `[flow]`",
                source.path.display(),
                other.display()
            )),
            None => Ok((flow, source)),
        }
    }
}

/// The flow files of a folder, and what is in them or why it can't be read.
fn read_folder(folder: &Path) -> Result<BTreeMap<PathBuf, Result<String>>> {
    let reading = || format!("reading the folder of flows `{}`", folder.display());
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).doing(reading)? {
        let path = entry.doing(reading)?.path();
        if !is_flow(&path) {
            continue;
        }
        match std::fs::read_to_string(&path) {
            // It has gone since.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            text => {
                _ = found.insert(path.clone(), text.doing(|| format!("{}: the file can't be read", path.display())))
            }
        }
    }
    Ok(found)
}

/// Whether a file is called as a flow: not so those that editors hide while they write.
fn is_flow(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    !is_hidden && path.extension().is_some_and(|extension| extension == "toml") && !path.is_dir()
}
