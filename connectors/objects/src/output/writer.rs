//! Writes rows to files, which are objects in the making, and hands those over that are whole.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_connectors::{Base, Beginning, FinishedFile, Limits, OpenFiles, Partitioning, Unfinished, hidden_owner};
use millstream_core::{
    Barrier, Batch, Collector, Committer, Epoch, Error, Home, KeptNode, Output, PriorOutput, Result, ResultExt as _,
    Run, Snapshot, State, Then,
};
use millstream_store::{Access, crash, create_durable_folder};
use object_store::path::Path as ObjectPath;
use tempfile::TempDir;

use super::Job;
use super::committer::{ObjectsCommitter, Recovered, STAGED, StagedObject, bytes_name, marker, remove};
use super::uploads::{Uploads, beside};

/// The names in the state of the files that are not whole, and of their columns.
const UNFINISHED: &str = "unfinished";
const COLUMNS: &str = "columns";

/// How many letters of a state's name are in those of objects.
const INCARNATION: usize = 8;

/// The output.
pub struct ObjectsWriter {
    job: Arc<Job>,
    files: OpenFiles,
    uploads: Uploads,
    recovered: Recovered,
    /// Where files lie.
    folder: PathBuf,
    /// That folder, where nothing has to outlive the run, or there is no place for it.
    temporary: Option<TempDir>,
    home: Home,
    /// What tells objects of this run from those of others.
    run: Run,
    /// The epoch that rows belong to now.
    epoch: Epoch,
    /// What a run before has begun, and with which columns.
    unfinished: Vec<Unfinished>,
    has_other_columns: bool,
    /// How many of the files that are whole are on their way already.
    begun: usize,
    /// Those that were handed over, to be undone if they are not committed.
    staged: Vec<PathBuf>,
}

/// Names and types of columns.
type Columns = Vec<(String, String)>;

fn columns(schema: &SchemaRef) -> Columns {
    schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect()
}

impl Job {
    /// The name of an object below the connection's address, by that below the output's path.
    pub fn name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) }
    }

    /// The name of the next file in a folder.
    fn file(&self, run: &Run, epoch: Epoch, number: u32) -> String {
        let [flow, node] = &self.names;
        let state = run.incarnation.get(..INCARNATION).unwrap_or(&run.incarnation);
        let ending = self.options.format.kind().name;
        let behind =
            self.options.compression.map_or(String::new(), |compression| format!(".{}", compression.extension()));
        format!("{flow}-{node}-{state}-{:020}-{}-{number:05}.{ending}{behind}", epoch.0, run.generation)
    }
}

impl ObjectsWriter {
    /// An output that has not begun.
    pub fn new(job: Arc<Job>, schema: SchemaRef, limits: Limits, partitioning: Option<Partitioning>) -> Self {
        let uploads = Uploads::new(job.objects.clone());
        Self {
            files: OpenFiles::new(job.options.clone(), schema, limits, partitioning),
            job,
            uploads,
            recovered: Recovered::default(),
            folder: PathBuf::new(),
            temporary: None,
            home: Home::Nowhere,
            run: Run::default(),
            epoch: Epoch::default().next(),
            unfinished: Vec::new(),
            has_other_columns: false,
            begun: 0,
            staged: Vec::new(),
        }
    }

    /// What makes visible, or be there, what this output stages.
    pub fn committer_of_objects(&self) -> ObjectsCommitter {
        let (job, uploads, recovered) = (self.job.clone(), self.uploads.clone(), self.recovered.clone());
        ObjectsCommitter { job, uploads, recovered }
    }

    /// Whether files outlive the run.
    fn keeps_files(&self) -> bool {
        self.temporary.is_none()
    }

    /// The name of an object below the output's path, by where its file will be.
    fn name_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy().into_owned()
    }

    /// What runs before have left and nobody needs: all that was decided is visible by then. Each with the object that it would have been, if
    /// its upload was begun.
    fn leftovers(&self) -> Result<Vec<(PathBuf, Option<ObjectPath>)>> {
        let needed: BTreeSet<PathBuf> = self.unfinished.iter().flat_map(|file| file.files(&self.run)).collect();
        let recovered = self.recovered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut left = Vec::new();
        for path in files_in(&self.folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // What stands beside a file goes with it.
            let of = name.strip_suffix(".upload").or_else(|| name.strip_suffix(".visible")).unwrap_or(&name);
            let Some((object, owner)) = hidden_owner(of) else { continue };
            let is_own = owner.incarnation == self.run.incarnation && owner.generation <= self.run.generation;
            let file = path.with_file_name(of);
            let below = file.strip_prefix(&self.folder).unwrap_or(&file);
            if !is_own || needed.contains(&file) || recovered.contains(below) {
                continue;
            }
            let begun = name.ends_with(".upload").then(|| self.object(&path.with_file_name(object))).transpose()?;
            left.push((path, begun));
        }
        Ok(left)
    }

    /// The object that a file will be.
    fn object(&self, path: &Path) -> Result<ObjectPath> {
        self.job.objects.path(&self.job.name(&self.name_of(path)))
    }

    /// Begins to send the files that have become whole.
    async fn send_finished(&mut self) -> Result<()> {
        while let Some(FinishedFile { path, part, digest, .. }) = self.files.finished.get(self.begun).cloned() {
            self.begun += 1;
            let object = self.object(&path)?;
            self.uploads.begin(&object, &part, digest.bytes).await;
        }
        Ok(())
    }

    /// What is staged of the files that are whole.
    fn stage_finished(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let finished = std::mem::take(&mut self.files.finished);
        self.begun = 0;
        if finished.is_empty() {
            return Ok(());
        }
        let is_elsewhere = self.home == Home::Elsewhere;
        let mut objects = Vec::with_capacity(finished.len());
        for (index, FinishedFile { path, part, digest, mut journals, .. }) in finished.into_iter().enumerate() {
            let name = self.name_of(&path);
            self.staged.push(part.clone());
            let mut file = part;
            if is_elsewhere {
                let from = file.clone();
                let read = move || fs::read(&from).doing(|| format!("reading `{}`", from.display()));
                snapshot.staged.put_bytes_later(bytes_name(index), read);
            } else if self.keeps_files() {
                Base(self.folder.clone()).shorten(journals.iter_mut().chain([&mut file]));
            }
            objects.push(StagedObject { name, file, in_stage: is_elsewhere, digest, journals });
        }
        snapshot.staged.put(STAGED, &objects)
    }
}

/// Checks the files of which a checkpoint tells, without a change to them.
///
/// # Errors
/// If one is missing or damaged.
pub fn verify(kept: &KeptNode<'_>) -> Result<()> {
    let Some(home) = kept.home else { return Ok(()) };
    let base = Base(home.to_owned());
    if kept.state.has(UNFINISHED) {
        for mut file in kept.state.get::<Vec<Unfinished>>(UNFINISHED)? {
            base.extend(file.paths_mut());
            file.check(true)?;
        }
    }
    for stage in kept.pending.iter().filter(|stage| stage.has(STAGED)) {
        for object in stage.get::<Vec<StagedObject>>(STAGED)? {
            let file = home.join(&object.file);
            if !marker(&file).exists() {
                object.digest.check(&file)?;
            }
        }
    }
    Ok(())
}

/// All files in a folder and below it.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let doing = || format!("reading the folder `{}`", folder.display());
        for entry in fs::read_dir(&folder).doing(doing)? {
            let path = entry.doing(doing)?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

#[async_trait]
impl Output for ObjectsWriter {
    fn begin(&mut self, _: PriorOutput, _: &Run) -> Result<()> {
        // Objects are never replaced, and those of a run before have other names.
        Ok(())
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.unfinished = state.get(UNFINISHED)?;
        self.has_other_columns = state.get::<Columns>(COLUMNS)? != columns(&self.files.schema);
        Ok(())
    }

    async fn open(&mut self, home: &Home, run: &Run) -> Result<()> {
        self.home = home.clone();
        self.run = run.clone();
        if let Some(folder) = home.folder() {
            self.folder = folder.to_owned();
            self.files.run = run.clone();
            create_durable_folder(folder, Access::Private)
                .doing(|| format!("making the folder `{}`", folder.display()))?;
            let base = Base(self.folder.clone());
            self.unfinished.iter_mut().for_each(|file| base.extend(file.paths_mut()));
            for (path, begun) in self.leftovers()? {
                if let Some(object) = begun {
                    self.uploads.give_up(&object, &path.with_extension("")).await;
                }
                remove(&path)?;
            }
            for unfinished in std::mem::take(&mut self.unfinished) {
                let below = unfinished.path.parent().and_then(|folder| folder.strip_prefix(&self.folder).ok());
                let below = below.map(Path::to_owned).unwrap_or_default();
                self.files.go_on(below, unfinished, self.has_other_columns)?;
            }
        } else {
            if !self.unfinished.is_empty() {
                return Err(Error::new(
                    "rows that are to become objects lie in the local folder of the state, and the state is elsewhere now; run the flow with \
                     the state that it had",
                ));
            }
            let folder = tempfile::tempdir().doing(|| "making a temporary folder")?;
            self.folder = folder.path().to_owned();
            self.temporary = Some(folder);
            // No run goes on with its files.
            self.files.run = Run { generation: 0, ..run.clone() };
        }
        Ok(())
    }

    async fn write(&mut self, batch: Batch, _: &mut Collector) -> Result<()> {
        let Self { files, job, folder, run, epoch, .. } = self;
        let options = job.options.clone();
        let mut begin = |below: &Path, number: u32| {
            let folder = folder.join(below);
            create_durable_folder(&folder, Access::Private).doing(|| format!("making `{}`", folder.display()))?;
            let path = folder.join(job.file(run, *epoch, number));
            Ok(Beginning { path, options: options.clone(), append_to: None })
        };
        files.write(batch.rows, &mut begin)?;
        self.send_finished().await
    }

    fn barrier(&mut self, epoch: Epoch) {
        self.epoch = epoch.next();
        self.files.end_epoch();
    }

    async fn stage(&mut self, barrier: Barrier) -> Result<Snapshot> {
        // Where nothing is kept of files, all of them are whole at each checkpoint.
        let end = Barrier { then: Then::End, ..barrier };
        let (mut unfinished, open) = self.files.pause(if self.keeps_files() { barrier } else { end }, false)?;
        crash::point("objects-staged");
        self.send_finished().await?;
        let whole = self.files.finished.iter().map(|whole| whole.path.as_path());
        let folders: BTreeSet<PathBuf> =
            self.files.paths().chain(whole).filter_map(Path::parent).map(Path::to_owned).collect();
        let mut snapshot = Snapshot::default();
        self.stage_finished(&mut snapshot)?;
        snapshot.state.put(COLUMNS, &columns(&self.files.schema))?;
        let base = Base(self.folder.clone());
        unfinished.iter_mut().for_each(|file| base.shorten(file.paths_mut()));
        // A disk takes its time to make durable what came since the last checkpoint, in which rows must not wait.
        let (is_kept, place) = (self.keeps_files(), self.folder.clone());
        snapshot.state.put_after(UNFINISHED, unfinished, move || {
            if !is_kept {
                return Ok(());
            }
            let synced = open.iter().try_for_each(File::sync_all);
            let synced = synced.and_then(|()| folders.iter().try_for_each(|folder| File::open(folder)?.sync_all()));
            synced.doing(|| format!("writing to `{}`", place.display()))
        });
        Ok(snapshot)
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(self.committer_of_objects()))
    }

    async fn abort(&mut self) {
        if self.run.generation > 0 {
            return;
        }
        self.uploads.abort().await;
        let files = self.files.abandon().into_iter().chain(std::mem::take(&mut self.staged));
        files.for_each(|file| {
            let _ = remove(&beside(&file));
            let _ = remove(&file);
        });
        self.temporary = None;
    }
}
