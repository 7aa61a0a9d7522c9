//! Flows that are there because their files are in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{FilesRead, Result, ResultExt as _, read_text};
use tokio::task::spawn_blocking;

use crate::actions::Request;
use crate::apply::{Change, Expected};
use crate::error::HostError;
use crate::flow_store::{Owner, Wanted};
use crate::host::Host;
use crate::launch::FlowSource;

/// A folder whose files `*.toml` are flows. Each time that it is looked at, the host gets the flows whose files are new or have changed,
/// also those that they name, such as connections, secrets and their lock file, and loses those whose files are gone.
#[derive(Debug)]
pub struct FlowFolder {
    folder: PathBuf,
    host: Arc<Host>,
    files: BTreeMap<PathBuf, KnownFile>,
}

/// A file as it was when it was looked at last.
#[derive(Debug)]
struct KnownFile {
    hash: blake3::Hash,
    /// The files that its flow was made from besides.
    others: FilesRead,
    /// The flow that runs because of it. A file that does not check any more leaves its flow as it is.
    flow: Option<String>,
}

/// A file as it is found.
struct FoundFile {
    /// Its text, or why it can't be read.
    text: Result<String>,
    /// Whether another file has changed that its flow was made from.
    has_other: bool,
}

/// What has come of a file that was new, had changed or is gone.
#[derive(Debug)]
pub enum FolderChange {
    /// Its flow is to run, from this revision on.
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
    /// It is gone, or names another flow; its flow is stopping at a checkpoint.
    Removed {
        /// The file.
        path: PathBuf,
        /// The flow.
        flow: String,
    },
}

/// How long flows have to stop or begin because of a file.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who asks, where a file does.
const AUTHOR: &str = "file";

impl FlowFolder {
    /// A folder. The flows of its files that are as they were in the process before run, as they were wanted then.
    ///
    /// # Errors
    /// If the folder, or what is kept of flows, can't be read.
    pub async fn open(folder: PathBuf, host: Arc<Host>) -> Result<Self> {
        let mut opened = Self { folder, host, files: BTreeMap::new() };
        let found = opened.read().await?;
        for (flow, wanted) in opened.host.kept().await? {
            if let Owner::File { path } = &wanted.owner {
                let (path, is_there) = (path.clone(), found.contains_key(path));
                opened.resume(flow, wanted, path, is_there).await?;
            }
        }
        Ok(opened)
    }

    /// Looks at the folder, and has the host do what follows from it.
    ///
    /// # Errors
    /// If the folder can't be read. Then no flow changes.
    pub async fn scan(&mut self) -> Result<Vec<FolderChange>> {
        let found = self.read().await?;
        let mut changes = self.remove_others(&found.keys().cloned().collect()).await;
        for (path, file) in found {
            changes.extend(self.look_at(path, file).await);
        }
        Ok(changes)
    }

    /// Lets a flow of the process before be as it was wanted. A file that has changed since changes it with the first look.
    async fn resume(&mut self, flow: String, wanted: Wanted, path: PathBuf, is_there: bool) -> Result<()> {
        let (store, name, revision) = (self.host.store().clone(), flow.clone(), wanted.revision);
        if !is_there {
            tracing::info!(
                flow,
                "`{}` has gone while the daemon did not run; the state of its flow stays",
                path.display()
            );
            return spawn_blocking(move || store.forget(&name)).await.doing(|| "forgetting a flow")?;
        }
        let kept = spawn_blocking(move || store.revision(&name, revision)).await.doing(|| "reading a revision")??;
        self.host.want(&flow, wanted).await?;
        let (text, others) = (kept.map(|kept| kept.text).unwrap_or_default(), FilesRead::default());
        let source = FlowSource { path: path.clone(), text: text.as_str().into() };
        // What is wrong with it is said when it begins.
        let _ = self.host.check_noting(source, Vec::new(), others.clone()).await;
        self.files.insert(path, KnownFile { hash: hash_of(&Ok(text)), others, flow: Some(flow) });
        Ok(())
    }

    async fn read(&self) -> Result<BTreeMap<PathBuf, FoundFile>> {
        let folder = self.folder.clone();
        let others = self.files.iter().map(|(path, known)| (path.clone(), known.others.clone())).collect();
        spawn_blocking(move || read_folder(&folder, &others)).await.doing(|| "reading the folder of flows")?
    }

    /// Stops the flows whose files are gone.
    async fn remove_others(&mut self, found: &BTreeSet<PathBuf>) -> Vec<FolderChange> {
        let gone: Vec<_> = self.files.extract_if(.., |path, _| !found.contains(path)).collect();
        let mut changes = Vec::new();
        for (path, known) in gone {
            let Some(flow) = &known.flow else { continue };
            if self.remove(&path, flow).await.is_err() {
                self.files.insert(path, known);
                continue;
            }
            changes.push(FolderChange::Removed { path, flow: flow.clone() });
            self.forget_refused();
        }
        changes
    }

    /// Has a flow stopped that no file is of any more. If somebody is at it, that is tried again with the next look.
    async fn remove(&self, path: &Path, flow: &str) -> Result<(), HostError> {
        match self.host.remove(flow, &Owner::File { path: path.to_owned() }, request()).await {
            Ok(_) | Err(HostError::NoFlow(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has files looked at again that run no flow: a name may be free now.
    fn forget_refused(&mut self) {
        self.files.retain(|_, known| known.flow.is_some());
    }

    /// Has the flow of a file run, if its text is another one than before, or what is in a file that it names.
    async fn look_at(&mut self, path: PathBuf, FoundFile { text, has_other }: FoundFile) -> Vec<FolderChange> {
        let hash = hash_of(&text);
        let known = self.files.get(&path);
        if known.is_some_and(|known| known.hash == hash) && !has_other {
            return Vec::new();
        }
        let former = known.and_then(|known| known.flow.clone());
        let (mut changes, others) = (Vec::new(), FilesRead::default());
        let applied = match text {
            Ok(text) => {
                let source = FlowSource { path: path.clone(), text: text.into() };
                self.apply(source, former.clone(), &others, has_other, &mut changes).await
            }
            Err(error) => Err(error.into()),
        };
        let flow = match applied {
            Ok((flow, revision)) => {
                changes.push(FolderChange::Applied { path: path.clone(), flow: flow.clone(), revision });
                Some(flow)
            }
            // Somebody is at it: the file is looked at again.
            Err(HostError::Busy { .. }) => return changes,
            Err(error) => {
                let reason = error.to_string();
                // A file that names another flow now has lost the one before.
                let former = former.filter(|_| changes.is_empty());
                former.iter().for_each(|flow| self.host.refuse(flow, None, reason.clone()));
                changes.push(FolderChange::Refused { path: path.clone(), flow: former.clone(), reason });
                former
            }
        };
        self.files.insert(path, KnownFile { hash, others, flow });
        changes
    }

    /// Has the flow of a file run. Its name, and the number of its text.
    async fn apply(
        &mut self,
        source: FlowSource,
        former: Option<String>,
        others: &FilesRead,
        again: bool,
        changes: &mut Vec<FolderChange>,
    ) -> Result<(String, u64), HostError> {
        let path = source.path.clone();
        let flow = self.host.check_noting(source.clone(), Vec::new(), others.clone()).await?.flow;
        if let Some(former) = former.filter(|former| *former != flow) {
            self.remove(&path, &former).await?;
            self.forget_refused();
            changes.push(FolderChange::Removed { path: path.clone(), flow: former });
        }
        let owner = Owner::File { path };
        let change =
            Change { source, owner, expected: Expected::Any, message: None, start: true, again, resets: Vec::new() };
        let applied = self.host.apply(&flow, change, request()).await?;
        Ok((flow, applied.revision))
    }
}

fn request() -> Request {
    Request { by: AUTHOR.to_owned(), patience: PATIENCE }
}

fn hash_of(text: &Result<String>) -> blake3::Hash {
    let content = text.as_ref().map_or_else(|error| error.to_string(), Clone::clone);
    blake3::hash(content.as_bytes())
}

/// The flow files of a folder, and what is in them or why it can't be read. `others` has the files that their flows were made from.
fn read_folder(folder: &Path, others: &BTreeMap<PathBuf, FilesRead>) -> Result<BTreeMap<PathBuf, FoundFile>> {
    let reading = || format!("reading the folder of flows `{}`", folder.display());
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).doing(reading)? {
        let path = entry.doing(reading)?.path();
        if !is_flow(&path) {
            continue;
        }
        match read_text(&path) {
            // It has gone since.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            text => {
                let text = text.doing(|| format!("{}: the file can't be read", path.display()));
                let has_other = others.get(&path).is_some_and(FilesRead::have_changed);
                found.insert(path, FoundFile { text, has_other });
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
