//! A table: what its log says, and what is added to it.
//!
//! A commit of the log is a file that is called by the version which it makes, and of all who write that file one is first. So who has read
//! version 7 and makes version 8 knows of everything that is in the table, and whoever comes later has to read version 8 first. That is
//! what exactly once rests on: with its rows, a commit has a mark, which names the stage that they are of, and it is only tried where the versions before
//! don't have that mark.

use std::num::NonZero;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::StructArray;
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::schema::SchemaRef;
use delta_kernel::table_features::{ColumnMappingMode, TableFeature};
use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::data_layout::DataLayout;
use delta_kernel::transaction::{
    BoundWriteContext, CommitResult, CommittedTransaction, Transaction, UpdateTableOperation, WriteState,
};
use delta_kernel::{Engine, FileMeta, KernelError, KernelResult, Snapshot, SnapshotRef};
use delta_kernel_default_engine::build_add_file_metadata;
use delta_kernel_default_engine::parquet::DataFileMetadata;
use millstream_core::{CommitContext, Error, Result, ResultExt as _, join};
use millstream_objects::{Bytes, StagedObject};
use millstream_store::object_error;
use object_store::{ObjectMeta, ObjectStoreExt as _};

use crate::engine::{engine, in_words};
use crate::place::{LOG, Place};
use crate::{columns, statistics};

/// Who writes, as the log says it.
const ENGINE: &str = concat!("millstream/", env!("CARGO_PKG_VERSION"));

/// After how many commits what the log says is summed up, if the table does not say it.
const CHECKPOINT_EVERY: u64 = 10;

/// For how long at least a table has to remember marks: a flow may be down for a while.
const SHORTEST_MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A table that is written to.
pub struct Table {
    place: Place,
    /// The columns that are written, and those of them by which files are divided.
    columns: SchemaRef,
    partition: Vec<String>,
    /// Whether it is made if it is not there.
    creates: bool,
    engine: OnceLock<Arc<dyn Engine>>,
}

/// What tells rows of a stage from all others: in the log, a transaction of an application.
#[derive(Clone, Debug)]
pub struct Mark {
    application: String,
    version: i64,
}

/// A data file that is there, and no part of the table yet.
pub struct DataFile {
    name: String,
    meta: ObjectMeta,
    bytes: Bytes,
}

impl Mark {
    /// The mark of a stage. Those of one state of a flow's node have growing versions.
    pub fn of(stage: &CommitContext) -> Self {
        let CommitContext { flow, node, incarnation, checkpoint, .. } = stage;
        let version = i64::try_from(*checkpoint).unwrap_or(i64::MAX);
        Self { application: format!("{flow}.{node}.{incarnation}"), version }
    }

    /// Whether it is in a table, or one of a later stage is.
    fn is_in(&self, snapshot: &Snapshot, engine: &dyn Engine) -> Result<bool> {
        let newest = snapshot.get_app_id_version(&self.application, engine).map_err(in_words)?;
        Ok(newest.is_some_and(|newest| newest >= self.version))
    }
}

impl Table {
    /// A table of which nothing has been asked yet.
    pub fn new(place: Place, columns: SchemaRef, partition: Vec<String>, creates: bool) -> Self {
        Self { place, columns, partition, creates, engine: OnceLock::new() }
    }

    /// The table as it is now, to which rows can be written. It is made first if it is not there and may be.
    ///
    /// # Errors
    /// If it has other columns, or asks for what can't be done.
    pub async fn open(self: &Arc<Self>) -> Result<SnapshotRef> {
        if !self.place.has_table().await? {
            if !self.creates {
                return Err(self.place.no_table());
            }
            self.work(Self::create).await?;
        }
        self.work(|table, engine| {
            let snapshot = table.snapshot(engine)?;
            table.begin(&snapshot, None, engine)?;
            Ok(snapshot)
        })
        .await
    }

    /// Whether the rows of a stage are in a table.
    ///
    /// # Errors
    /// If that can't be read.
    pub async fn has(self: &Arc<Self>, snapshot: SnapshotRef, mark: Mark) -> Result<bool> {
        self.work(move |_, engine| mark.is_in(&snapshot, engine)).await
    }

    /// A data file that was uploaded.
    ///
    /// # Errors
    /// If it is not there, or can't be looked at.
    pub async fn data_file(&self, object: StagedObject, bytes: Bytes) -> Result<DataFile> {
        let doing = || format!("looking at `{}` of `{}`", object.name, self.place);
        let (path, store) = (self.place.file(&object.name)?, self.place.store());
        let meta = store.head(&path).await.map_err(|error| object_error(&error)).doing(doing)?;
        let is_gone = matches!(&bytes, Bytes::File(file) if !file.exists());
        let bytes = if is_gone {
            let got = async { store.get(&path).await?.bytes().await };
            let got = got.await.map_err(|error| object_error(&error)).doing(doing)?;
            Bytes::Memory(Arc::new(got.to_vec()))
        } else {
            bytes
        };
        Ok(DataFile { name: object.name, meta, bytes })
    }

    /// Makes files a part of the table, unless the stage that they are of is in it.
    ///
    /// # Errors
    /// If the log can't be written. Whether they are a part of the table then is unknown.
    pub async fn append(self: &Arc<Self>, mark: Mark, files: Vec<DataFile>) -> Result<()> {
        self.work(move |table, engine| table.commit(&mark, &files, engine)).await
    }

    /// Does what may block a thread.
    async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &dyn Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let table = self.clone();
        let engine = self.engine.get_or_init(|| engine(self.place.store().clone())).clone();
        let worked = join(&mut tokio::task::spawn_blocking(move || work(&table, &*engine))).await;
        worked.doing(|| format!("the table at `{}`", self.place))
    }

    fn snapshot(&self, engine: &dyn Engine) -> Result<SnapshotRef> {
        Snapshot::builder_for(self.place.root()?).build(engine).map_err(in_words)
    }

    fn create(&self, engine: &dyn Engine) -> Result<()> {
        self.place.make_folder()?;
        let mut table = create_table(self.place.root()?, self.columns.clone(), ENGINE, false);
        if !self.partition.is_empty() {
            table = table.with_data_layout(DataLayout::partitioned(&self.partition));
        }
        match table.build(engine, Box::new(FileSystemCommitter::new())).and_then(|table| table.commit(engine)) {
            // If somebody else was first, the table is there all the same.
            Ok(CommitResult::Committed(_) | CommitResult::Conflicted(_))
            | Err(KernelError::TableAlreadyExistsAtPath(_)) => Ok(()),
            Ok(CommitResult::Retryable(failed)) => Err(in_words(failed.error)),
            Err(error) => Err(in_words(error)),
        }
    }

    /// Begins with a commit behind a version.
    fn begin(&self, snapshot: &SnapshotRef, mark: Option<&Mark>, engine: &dyn Engine) -> Result<Transaction> {
        let mut update = snapshot.clone().update_table(UpdateTableOperation::StreamingUpdate, ENGINE, true);
        if let Some(mark) = mark {
            update = update.with_transaction_id(&mark.application, mark.version);
        }
        let update = update.with_blind_append().build(engine, Box::new(FileSystemCommitter::new()));
        let mut transaction = update.map_err(in_words)?;
        self.check(snapshot, &transaction)?;
        // All columns are written, so that the table need not say what others would be.
        transaction.ack_column_defaults();
        Ok(transaction)
    }

    /// Checks that rows can be written as they are.
    fn check(&self, snapshot: &Snapshot, transaction: &Transaction) -> Result<()> {
        let (settings, there) = (snapshot.table_configuration(), transaction.logical_partition_columns());
        if there.len() != self.partition.len() || !self.partition.iter().all(|name| there.contains(name)) {
            return Err(Error::new(format!("it is divided by {there:?}, and `partition` says {:?}", self.partition)));
        }
        if let Some(difference) = columns::difference(&self.columns, &snapshot.schema()) {
            return Err(Error::new(format!("{difference}; change the table, or the columns of the flow")));
        }
        if settings.column_mapping_mode() != ColumnMappingMode::None
            || settings.is_feature_enabled(&TableFeature::MaterializePartitionColumns)
        {
            let message =
                "its files have other columns than the table (`delta.columnMapping.mode`), and can't be written";
            return Err(Error::new(message));
        }
        let memory = snapshot.table_properties().set_transaction_retention_duration;
        if memory.is_some_and(|memory| memory < SHORTEST_MEMORY) {
            let message =
                "it soon forgets which rows it has (`delta.setTransactionRetentionDuration`); 7 days are the least";
            return Err(Error::new(message));
        }
        Ok(())
    }

    fn commit(&self, mark: &Mark, files: &[DataFile], engine: &dyn Engine) -> Result<()> {
        files.iter().try_for_each(|file| self.place.sync(&file.name))?;
        let mut statistics: Option<Vec<StructArray>> = None;
        loop {
            let snapshot = self.snapshot(engine)?;
            if mark.is_in(&snapshot, engine)? {
                return Ok(());
            }
            let mut transaction = self.begin(&snapshot, Some(mark), engine)?;
            let state = transaction.write_state().map_err(in_words)?;
            if statistics.is_none() {
                statistics = Some(self.statistics(files, &state)?);
            }
            for (file, statistics) in files.iter().zip(statistics.iter().flatten()) {
                self.add(file, statistics, &state, &mut transaction).map_err(in_words)?;
            }
            match transaction.commit(engine).map_err(in_words)? {
                CommitResult::Committed(committed) => {
                    self.place.sync(&format!("{LOG}/{:020}.json", committed.commit_version()))?;
                    checkpoint(&committed, engine);
                    return Ok(());
                }
                // Somebody else has made the next version, perhaps the same stage.
                CommitResult::Conflicted(_) => {}
                CommitResult::Retryable(failed) => return Err(in_words(failed.error)),
            }
        }
    }

    fn statistics(&self, files: &[DataFile], state: &Arc<WriteState>) -> Result<Vec<StructArray>> {
        let of = |file: &DataFile| {
            let context = self.context(file, state).map_err(in_words)?;
            statistics::of(&file.bytes, context.stats_columns(), context.physical_data_schema())
        };
        files.iter().map(of).collect()
    }

    /// What the log says of all files with the same values of the columns by which they are divided.
    fn context(&self, file: &DataFile, state: &Arc<WriteState>) -> KernelResult<BoundWriteContext> {
        let context = state.write_context_builder();
        if self.partition.is_empty() {
            return context.build();
        }
        context.with_partition_values(columns::values_of(&self.columns, &self.partition, &file.name)?).build()
    }

    fn add(
        &self,
        file: &DataFile,
        statistics: &StructArray,
        state: &Arc<WriteState>,
        transaction: &mut Transaction,
    ) -> KernelResult<()> {
        let context = self.context(file, state)?;
        let mut location = context.table_root_dir().clone();
        if let Ok(mut segments) = location.path_segments_mut() {
            segments.pop_if_empty().extend(file.name.split('/'));
        }
        let meta = FileMeta::new(location, file.meta.last_modified.timestamp_millis(), file.meta.size);
        transaction.add_files(build_add_file_metadata(DataFileMetadata::new(meta, statistics.clone()), &context)?);
        Ok(())
    }
}

/// Sums up what the log says, if it has become long. Nobody needs that but for being quick.
fn checkpoint(committed: &CommittedTransaction, engine: &dyn Engine) {
    let Some(snapshot) = committed.post_commit_snapshot() else { return };
    let every = snapshot.table_properties().checkpoint_interval.map_or(CHECKPOINT_EVERY, NonZero::get);
    if committed.post_commit_stats().commits_since_checkpoint < every {
        return;
    }
    if let Err(error) = snapshot.checkpoint(engine, None) {
        tracing::warn!("the log of `{}` was not summed up: {}", snapshot.table_root(), in_words(error));
    }
}
