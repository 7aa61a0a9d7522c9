//! Journals: the rows of a file that can't be gone on with, such as one in Parquet, kept until it is whole.
//!
//! A run writes one beside the file, as a stream of Arrow IPC. A run after it reads it, writes the file from scratch, which gives
//! the same bytes since they depend on the rows alone, and adds a journal of its own.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use millstream_core::{Result, ResultExt, Run};

use super::disk::create;
use super::hashed::{Digest, Hashed};
use super::hidden;

/// The rows of a file once more.
pub struct Journal {
    writer: StreamWriter<Hashed>,
    path: PathBuf,
    /// Those of the runs before.
    before: Vec<(PathBuf, Digest)>,
}

impl Journal {
    /// Starts a journal for the file at `path`, of which those of runs before have the first rows.
    pub fn start(path: &Path, run: &Run, schema: &SchemaRef, before: Vec<(PathBuf, Digest)>) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let path = hidden::part(&path.with_file_name(format!("{name}.rows-{}", before.len() + 1)), run);
        let file = Hashed::new(create(&path)?, true);
        let writer = StreamWriter::try_new(file, schema).doing(|| format!("creating `{}`", path.display()))?;
        Ok(Self { writer, path, before })
    }

    /// Adds rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).doing(|| format!("writing `{}`", self.path.display()))
    }

    /// All journals of the file with what was added, and the one that is still to be made durable.
    pub fn pause(&mut self) -> Result<(Vec<(PathBuf, Digest)>, File)> {
        let doing = || format!("writing `{}`", self.path.display());
        self.writer.flush().doing(doing)?;
        let own = (self.path.clone(), self.writer.get_ref().digest());
        let file = self.writer.get_ref().file().doing(doing)?;
        Ok((self.before.iter().cloned().chain([own]).collect(), file))
    }

    /// The files of all journals.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.before.iter().map(|(path, _)| path.clone()).chain([self.path.clone()])
    }

    /// The columns of a journal.
    pub fn schema(path: &Path) -> Result<SchemaRef> {
        let doing = || format!("reading `{}`", path.display());
        let source = BufReader::new(File::open(path).doing(doing)?);
        Ok(StreamReader::try_new(source, None).doing(doing)?.schema())
    }

    /// The rows of a journal, as far as `digest` goes.
    pub fn read(
        path: &Path,
        digest: Digest,
        schema: &SchemaRef,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        digest.check(path)?;
        let doing = format!("reading `{}`", path.display());
        let source = std::io::Read::take(File::open(path).doing(|| doing.clone())?, digest.bytes);
        let reader = StreamReader::try_new(BufReader::new(source), None).doing(|| doing.clone())?;
        if reader.schema() != *schema {
            return Err(millstream_core::Error::new(format!("{doing}: its rows have other columns")));
        }
        Ok(reader.map(move |rows| rows.doing(|| doing.clone())))
    }
}
