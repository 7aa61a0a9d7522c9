//! What a node remembers beyond a crash: written at a checkpoint, read when its flow is resumed.

mod chunks;
mod columns;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use twox_hash::XxHash3_64;

pub use self::chunks::Chunks;
use self::columns::{adapt, difference, places};
use crate::{Epoch, Error, Result, ResultExt};

/// How far a source was read: for each of its partitions, the position of the next row.
pub type Positions = BTreeMap<Arc<str>, u64>;

/// A barrier at which the state of a flow is kept, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The epoch that ends here.
    pub epoch: Epoch,
    /// What follows.
    pub then: Then,
}

/// What follows a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More rows, in this run.
    Continue,
    /// More rows, but not in this run.
    Stop,
    /// Nothing: all rows have come.
    End,
}

/// Named pieces of state on their way out of a node.
///
/// What takes long to turn into bytes is handed over as it is, and turned into bytes elsewhere, while the node goes on.
#[derive(Default)]
pub struct Parts(Vec<(String, Part)>);

/// One piece of state.
pub enum Part {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// Makes its bytes.
    Later(Box<dyn FnOnce() -> Result<Vec<u8>> + Send>),
    /// Its bytes are those of the piece that has its name in the snapshot before.
    Kept,
    /// There is no piece, only something to be done.
    Work(Box<dyn FnOnce() -> Result<()> + Send>),
}

impl Parts {
    /// A value, turned into bytes at once. [`State::get`] reads it.
    pub fn put<T: Serialize + ?Sized>(&mut self, name: impl Into<String>, value: &T) -> Result<()> {
        let name = name.into();
        let bytes = postcard::to_allocvec(value).doing(|| format!("checkpointing `{name}`"))?;
        self.0.push((name, Part::Bytes(bytes)));
        Ok(())
    }

    /// Bytes. [`State::bytes`] reads them.
    pub fn put_bytes(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        self.0.push((name.into(), Part::Bytes(bytes)));
    }

    /// A value that is turned into bytes later. [`State::get`] reads it.
    pub fn put_later<T: Serialize + Send + 'static>(&mut self, name: impl Into<String>, value: T) {
        self.put_bytes_later(name, move || postcard::to_allocvec(&value).doing(|| "checkpointing a value"));
    }

    /// A value that holds once some work is done, such as to make durable what it tells of; that is done later.
    /// [`State::get`] reads it.
    pub fn put_after<T: Serialize + Send + 'static>(
        &mut self,
        name: impl Into<String>,
        value: T,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) {
        self.put_bytes_later(name, move || {
            work().and_then(|()| postcard::to_allocvec(&value).doing(|| "checkpointing a value"))
        });
    }

    /// Bytes that are made later. [`State::bytes`] reads them.
    pub fn put_bytes_later(
        &mut self,
        name: impl Into<String>,
        make: impl FnOnce() -> Result<Vec<u8>> + Send + 'static,
    ) {
        self.0.push((name.into(), Part::Later(Box::new(make))));
    }

    /// Rows, in the format of Arrow IPC, compressed by LZ4. [`State::rows`] reads them.
    pub fn put_rows(&mut self, name: impl Into<String>, schema: SchemaRef, batches: Vec<RecordBatch>) {
        self.put_rows_later(name, schema, || Ok(batches));
    }

    /// Rows that are put together later. [`State::rows`] reads them.
    pub fn put_rows_later(
        &mut self,
        name: impl Into<String>,
        schema: SchemaRef,
        make: impl FnOnce() -> Result<Vec<RecordBatch>> + Send + 'static,
    ) {
        self.put_bytes_later(name, move || {
            let compressed = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
            let mut writer = StreamWriter::try_new_with_options(vec![0; CHECKSUM_BYTES], &schema, compressed)?;
            make()?.iter().try_for_each(|batch| writer.write(batch))?;
            let mut bytes = writer.into_inner()?;
            let (place, stream) = bytes.split_at_mut(CHECKSUM_BYTES);
            place.copy_from_slice(&checksum(stream));
            Ok(bytes)
        });
    }

    /// A piece that is as in the snapshot before, whose name was the same.
    ///
    /// Snapshots are written in the order in which they are taken; where one can't be, the flow fails, and goes on from the last
    /// that was. So a piece that was handed over once need not be again.
    pub fn keep(&mut self, name: impl Into<String>) {
        self.0.push((name.into(), Part::Kept));
    }

    /// Something that has to be done before the checkpoint may count, and leaves no piece, such as to wait until what was sent has arrived; it is
    /// done later.
    pub fn do_later(&mut self, work: impl FnOnce() -> Result<()> + Send + 'static) {
        self.0.push((String::new(), Part::Work(Box::new(work))));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Turns all into bytes, and so into what a resumed node would read, if nothing is kept from a snapshot before.
    pub fn into_state(self) -> Result<State> {
        self.into_state_after(&State::default())
    }

    /// The same behind another snapshot.
    ///
    /// # Errors
    /// If a piece can't be made, or is not in the snapshot before where it should be.
    pub fn into_state_after(self, before: &State) -> Result<State> {
        let kept = |name: &str| before.0.get(name).cloned();
        self.write(kept, |_, bytes| Ok(Kept::Bytes(bytes))).map(State)
    }

    /// Turns one part after the other into bytes, and writes each: what `write` gives, by names. `kept` gives it for a piece that is
    /// as in the snapshot before.
    ///
    /// # Errors
    /// If a piece can't be made or written, or is kept of a snapshot that does not have it.
    pub fn write<T>(
        self,
        kept: impl Fn(&str) -> Option<T>,
        mut write: impl FnMut(&str, Vec<u8>) -> Result<T>,
    ) -> Result<BTreeMap<String, T>> {
        let written = self.0.into_iter().map(|(name, part)| {
            let written = match part {
                Part::Bytes(bytes) => write(&name, bytes)?,
                Part::Later(make) => write(&name, make()?)?,
                // So nothing is lost silently.
                Part::Kept => kept(&name).ok_or_else(|| never_written(&name))?,
                Part::Work(work) => return work().map(|()| None),
            };
            Ok(Some((name, written)))
        });
        written.filter_map(Result::transpose).collect()
    }
}

fn never_written(name: &str) -> Error {
    Error::new(format!("`{name}` of the state was handed over for a checkpoint that was not written"))
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// What a node hands over at a checkpoint.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What it needs to go on from here.
    pub state: Parts,
    /// What it has done since the checkpoint before and nobody has seen yet. Once the checkpoint is decided, the node's
    /// [`Committer`](crate::Committer) makes it visible; the node itself forgets it.
    pub staged: Parts,
    /// Of each version of a model in `staged`, in their order, the epoch at whose barrier it was made. When the versions are
    /// committed, [`PendingCommit::lineages`](crate::PendingCommit::lineages) says which rows they have learned of.
    pub versions: Vec<Epoch>,
    /// What others have told it since the checkpoint before, where a replay will need that. The engine puts it here.
    pub answers: Parts,
}

impl Snapshot {
    /// Of a node that stages nothing.
    pub fn of(state: Parts) -> Self {
        Self { state, ..Self::default() }
    }
}

/// Named pieces of state. They are in memory, or are read whenever somebody asks for them.
#[derive(Clone, Default)]
pub struct State(BTreeMap<String, Kept>);

/// A piece of state that is kept.
#[derive(Clone)]
enum Kept {
    Bytes(Vec<u8>),
    Elsewhere {
        read: Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>,
        /// Where it was asked for as bytes that stay.
        stays: OnceLock<Vec<u8>>,
    },
}

/// States are equal whose pieces are all in memory, and are equal.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let count = self.parts().count();
        [self.0.len(), other.0.len()] == [count; 2] && self.parts().eq(other.parts())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl State {
    /// Of these pieces.
    pub fn new(parts: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self(parts.into_iter().map(|(name, bytes)| (name, Kept::Bytes(bytes))).collect())
    }

    /// Adds a piece that lies elsewhere, and is read when somebody asks for it: once more whenever for its rows or as a value,
    /// so that it does not stay in memory.
    pub fn put_elsewhere(
        &mut self,
        name: impl Into<String>,
        read: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
    ) {
        self.0.insert(name.into(), Kept::Elsewhere { read: Arc::new(read), stays: OnceLock::new() });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pieces that are in memory, by name.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().filter_map(|(name, kept)| match kept {
            Kept::Bytes(bytes) => Some((name.as_str(), bytes.as_slice())),
            Kept::Elsewhere { .. } => None,
        })
    }

    /// Whether there is a piece of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A value that [`Parts::put`] or [`Parts::put_later`] has kept.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        postcard::from_bytes(&self.read(name)?).doing(|| format!("reading `{name}` of the state"))
    }

    /// Bytes. They stay in memory as long as the state.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        match self.kept(name)? {
            Kept::Bytes(bytes) => Ok(bytes),
            Kept::Elsewhere { read, stays } => match stays.get() {
                Some(bytes) => Ok(bytes),
                None => {
                    let bytes = read()?;
                    Ok(stays.get_or_init(|| bytes))
                }
            },
        }
    }

    /// Bytes that need not stay.
    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        match self.kept(name)? {
            Kept::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Kept::Elsewhere { read, stays } => {
                stays.get().map_or_else(|| read().map(Cow::Owned), |bytes| Ok(bytes.into()))
            }
        }
    }

    fn kept(&self, name: &str) -> Result<&Kept> {
        let kept = self.0.get(name);
        kept.ok_or_else(|| Error::new(format!("`{name}` is missing in the state; another build may have written it")))
    }

    /// Rows that [`Parts::put_rows`] has kept. They must have these columns.
    pub fn rows(&self, name: &str, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        self.kept_rows(name, schema, None).map(|(rows, _)| rows)
    }

    /// Rows that [`Parts::put_rows`] has kept as they had arrived, in the columns that arrive now: one that is new is null in
    /// them, one that nobody asks for any more is left out. The last `own` columns are the node's, and have to be the same.
    ///
    /// # Errors
    /// If there are rows, and a new column can't be null, or another one has changed.
    pub fn arrived_rows(&self, name: &str, schema: &SchemaRef, own: usize) -> Result<Vec<RecordBatch>> {
        self.kept_rows(name, schema, Some(own)).map(|(rows, _)| rows)
    }

    /// Rows, with `own` as they had arrived; and whether they were kept with just these columns.
    fn kept_rows(&self, name: &str, schema: &SchemaRef, own: Option<usize>) -> Result<(Vec<RecordBatch>, bool)> {
        let doing = || format!("reading `{name}` of the state");
        let bytes = self.read(name)?;
        let stream = intact(&bytes).ok_or_else(|| Error::new(format!("{}: it is damaged", doing())))?;
        let reader = StreamReader::try_new(stream, None).doing(doing)?;
        let kept = reader.schema();
        let rows = match (own, difference(&kept, schema)) {
            (Some(own), _) => {
                let places = places(&kept, schema, own);
                let adapt =
                    |rows: Result<RecordBatch, ArrowError>| adapt(&rows.doing(doing)?, &places, schema).doing(doing);
                reader.map(adapt).collect()
            }
            (None, Some(difference)) => Err(Error::new(format!(
                "{}: its rows were kept with other columns than those that arrive now: {difference}; bring the columns back, or \
                 lose these rows with `--reset`",
                doing()
            ))),
            (None, None) => reader.collect::<Result<_, _>>().doing(doing),
        };
        Ok((rows?, kept == *schema))
    }
}

/// How many bytes of checksum stand before rows: Arrow's reader trusts what it reads, and panics where it is damaged.
const CHECKSUM_BYTES: usize = 8;

fn checksum(stream: &[u8]) -> [u8; CHECKSUM_BYTES] {
    XxHash3_64::oneshot(stream).to_le_bytes()
}

/// What stands behind the checksum, if it is that of it.
fn intact(bytes: &[u8]) -> Option<&[u8]> {
    let (stored, stream) = bytes.split_at_checked(CHECKSUM_BYTES)?;
    (checksum(stream) == stored).then_some(stream)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn work_is_done_and_leaves_nothing() {
        let (done, is_done) = std::sync::mpsc::channel();
        let mut parts = Parts::default();
        parts.do_later(move || done.send(()).doing(|| "telling"));
        assert!(is_done.try_recv().is_err());
        assert!(parts.into_state().expect("it works").is_empty());
        assert!(is_done.try_recv().is_ok());
        let mut parts = Parts::default();
        parts.do_later(|| Err(Error::new("it does not work")));
        assert_eq!(parts.into_state().expect_err("it does not").to_string(), "it does not work");
    }

    #[test]
    fn what_was_kept_is_read() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let rows = RecordBatch::try_from_iter_with_nullable([("n", column, true)]).expect("one column");
        let seen = BTreeMap::from([("a".to_owned(), -0.0), ("b".to_owned(), f64::NAN)]);
        let mut parts = Parts::default();
        parts.put("count", &7_u64).expect("a number");
        parts.put_later("seen", seen);
        parts.put_rows("rows", rows.schema(), vec![rows.slice(0, 1), rows.slice(1, 2)]);
        let state = parts.into_state().expect("all can be written");
        assert_eq!(state.get::<u64>("count").expect("there"), 7);
        let seen: BTreeMap<String, f64> = state.get("seen").expect("there");
        assert!(seen["a"].is_sign_negative() && seen["b"].is_nan());
        let read = state.rows("rows", &rows.schema()).expect("there");
        assert_eq!(read, [rows.slice(0, 1), rows.slice(1, 2)]);
        let error = state.get::<u64>("other").expect_err("not there").to_string();
        assert_eq!(error, "`other` is missing in the state; another build may have written it");
        assert!(state.get::<String>("rows").is_err());
        assert!(state.rows("count", &rows.schema()).is_err());
        let bytes = state.bytes("rows").expect("there");
        for place in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[place] ^= 1;
            let damaged = State::new([("rows".to_owned(), damaged), ("cut".to_owned(), bytes[..place].to_vec())]);
            for name in ["rows", "cut"] {
                let error = damaged.rows(name, &rows.schema()).expect_err("damaged").to_string();
                assert_eq!(error, format!("reading `{name}` of the state: it is damaged"));
            }
        }
    }

    #[test]
    fn rows_with_other_columns_are_refused() {
        let schema = |names: &[&str]| -> SchemaRef {
            let field = |name: &&str| Field::new(*name, DataType::Int64, true);
            Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
        };
        let mut parts = Parts::default();
        parts.put_rows("rows", schema(&["a", "b"]), Vec::new());
        let state = parts.into_state().expect("all can be written");
        let cases = [
            (&["a"][..], "`b` is missing"),
            (&["a", "b", "c"], "`c` is new"),
            (&["b", "a"], "their types or their order have changed"),
        ];
        for (now, expected) in cases {
            let error = state.rows("rows", &schema(now)).expect_err("other columns").to_string();
            let expected = format!(
                "reading `rows` of the state: its rows were kept with other columns than those that arrive now: {expected}; \
                 bring the columns back, or lose these rows with `--reset`"
            );
            assert_eq!(error, expected);
        }
        assert!(state.rows("rows", &schema(&["a", "b"])).is_ok());
    }

    #[test]
    fn rows_that_wait_take_on_the_columns_that_arrive_now() {
        let kept = |rows: &[i64]| {
            let [n, own]: [ArrayRef; 2] =
                [Arc::new(Int64Array::from(rows.to_vec())), Arc::new(Int64Array::from(rows.to_vec()))];
            let other: ArrayRef = Arc::new(Int64Array::from(vec![0; rows.len()]));
            let rows = RecordBatch::try_from_iter([("n", n), ("gone", other), ("n", own)]).expect("three columns");
            let mut parts = Parts::default();
            parts.put_rows("rows", rows.schema(), vec![rows]);
            parts.into_state().expect("all can be written")
        };
        let schema = |columns: &[(&str, DataType, bool)]| -> SchemaRef {
            let fields = columns.iter().map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable));
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        };
        let int = DataType::Int64;
        let now = schema(&[("new", DataType::Utf8, true), ("n", int.clone(), false), ("n", int.clone(), false)]);
        let rows = kept(&[4, 5]).arrived_rows("rows", &now, 1).expect("a new column may be null");
        assert_eq!((rows[0].num_rows(), rows[0].column(0).null_count()), (2, 2));
        assert_eq!(rows[0].column(1), rows[0].column(2));
        let now = schema(&[("n", int.clone(), false), ("new", int.clone(), false), ("n", int.clone(), false)]);
        let error = kept(&[4, 5]).arrived_rows("rows", &now, 1).expect_err("it can't be null").to_string();
        assert!(
            error.starts_with("reading `rows` of the state: `new` is new, and not known of 2 rows that wait"),
            "{error}"
        );
        assert!(kept(&[]).arrived_rows("rows", &now, 1).is_ok(), "no rows wait");
        let now = schema(&[("n", DataType::Utf8, false), ("n", int, false)]);
        let error = kept(&[4, 5]).arrived_rows("rows", &now, 1).expect_err("another type").to_string();
        assert!(error.contains("`n` was `int64` in the 2 rows that wait, and is `utf8`"), "{error}");
    }
}
