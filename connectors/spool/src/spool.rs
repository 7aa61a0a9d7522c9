//! The output's half of the spool: rows are gathered, written to segments, and staged.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use millstream_core::{Home, Parts, Result, ResultExt, Run, batch_bytes};
use millstream_store::{Access, Files, LocalFiles, NewFile, crash, create_durable_folder};

use crate::segment::{Place, Segment, SegmentWriter, staged_name};
use crate::{Spooled, Unnamed};

/// A segment ends when it has so many bytes, compressed.
const SEGMENT_BYTES: u64 = 32 << 20;

/// So many rows, or bytes, are compressed at once. Those of one checkpoint after the other may be few.
pub(crate) const PIECE_ROWS: usize = 8192;
const PIECE_BYTES: usize = 4 << 20;

/// Keeps rows until they are staged.
pub struct Spool {
    schema: SchemaRef,
    shelf: Shelf,
    /// What tells the files of this run from those of others.
    run: Run,
    /// How many segments there have been.
    segments: u64,
    gathered: Vec<RecordBatch>,
    gathered_rows: usize,
    gathered_bytes: usize,
    open: Option<SegmentWriter>,
    /// The segments that are whole, and are still to be made durable.
    sealed: Vec<(Segment, Box<dyn NewFile>)>,
}

/// Where segments are put.
enum Shelf {
    /// In the node's own folder.
    Folder(Arc<dyn Files>, PathBuf),
    /// Into what is staged; until then, into files without a name.
    Staged(Unnamed),
    /// Into files without a name.
    Unnamed(Unnamed),
}

impl Spool {
    /// Opens the spool of a node for rows of these columns, and removes what runs before have left and nobody needs: all that they have
    /// staged is in the target by then, or was never decided. `unnamed` is shared with the committer.
    ///
    /// # Errors
    /// If the node's folder can't be written to.
    pub fn open(schema: SchemaRef, home: &Home, run: &Run, unnamed: &Unnamed) -> Result<Self> {
        if let Some(folder) = home.folder() {
            let made = create_durable_folder(folder, Access::Private);
            made.doing(|| format!("making the folder `{}`", folder.display()))?;
        }
        Self::open_on(Arc::new(LocalFiles), schema, home, run, unnamed)
    }

    pub(crate) fn open_on(
        files: Arc<dyn Files>,
        schema: SchemaRef,
        home: &Home,
        run: &Run,
        unnamed: &Unnamed,
    ) -> Result<Self> {
        let shelf = match home {
            Home::Folder(folder) => {
                clean(&*files, folder, run).doing(|| format!("tidying up `{}`", folder.display()))?;
                Shelf::Folder(files, folder.clone())
            }
            Home::Elsewhere => Shelf::Staged(unnamed.clone()),
            Home::Nowhere | Home::Replay(_) => Shelf::Unnamed(unnamed.clone()),
        };
        Ok(Self {
            schema,
            shelf,
            run: run.clone(),
            segments: 0,
            gathered: Vec::new(),
            gathered_rows: 0,
            gathered_bytes: 0,
            open: None,
            sealed: Vec::new(),
        })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let step = rows.num_rows() * PIECE_BYTES / batch_bytes(rows).max(1);
        let step = step.clamp(1, PIECE_ROWS);
        for start in (0..rows.num_rows()).step_by(step) {
            let piece = rows.slice(start, step.min(rows.num_rows() - start));
            if self.gathered_rows + piece.num_rows() > PIECE_ROWS {
                self.write_gathered()?;
            }
            self.gathered_rows += piece.num_rows();
            self.gathered_bytes += batch_bytes(&piece);
            self.gathered.push(piece);
            if self.gathered_bytes >= PIECE_BYTES {
                self.write_gathered()?;
            }
        }
        Ok(())
    }

    /// Stages what was written since this was called last, and makes it durable when the checkpoint is written. Stages nothing if
    /// nothing was written.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn stage(&mut self, staged: &mut Parts) -> Result<()> {
        self.write_gathered()?;
        self.seal()?;
        crash::point("spool-sealed");
        let (segments, files): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sealed).into_iter().unzip();
        if segments.is_empty() {
            return Ok(());
        }
        if let Shelf::Staged(unnamed) = &self.shelf {
            segments.iter().for_each(|segment| put(segment, unnamed, staged));
        }
        let folder = match &self.shelf {
            Shelf::Folder(on, folder) => Some((on.clone(), folder.clone())),
            Shelf::Staged(_) | Shelf::Unnamed(_) => None,
        };
        // A disk takes its time to make rows durable, in which more of them must not wait.
        staged.put_after(Spooled::NAME, segments, move || {
            folder.map_or(Ok(()), |(on, folder)| {
                make_durable(files, &*on, &folder).doing(|| format!("writing to `{}`", folder.display()))
            })
        });
        Ok(())
    }

    fn write_gathered(&mut self) -> Result<()> {
        let rows = match self.gathered.as_slice() {
            [] => return Ok(()),
            [rows] => rows.clone(),
            several => concat_batches(&self.schema, several)?,
        };
        self.gathered.clear();
        (self.gathered_rows, self.gathered_bytes) = (0, 0);
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin_segment()?,
        };
        let written = open.write(&rows);
        let is_full = open.bytes() >= SEGMENT_BYTES;
        self.open = Some(open);
        written.doing(|| "writing rows to the spool")?;
        if is_full { self.seal() } else { Ok(()) }
    }

    fn begin_segment(&mut self) -> Result<SegmentWriter> {
        self.segments += 1;
        let number = self.segments;
        let (place, file): (_, Box<dyn NewFile>) = match &self.shelf {
            Shelf::Folder(files, folder) => {
                let name = name(&self.run, number);
                let path = folder.join(&name);
                let created = files.create_new(&path, Access::Private);
                (Place::File(name), created.doing(|| format!("creating `{}`", path.display()))?)
            }
            Shelf::Staged(unnamed) => (Place::Staged(number), Box::new(unnamed.create(number)?)),
            Shelf::Unnamed(unnamed) => (Place::Unnamed(number), Box::new(unnamed.create(number)?)),
        };
        SegmentWriter::new(place, file, &self.schema)
    }

    fn seal(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.sealed.push(open.seal().doing(|| "writing rows to the spool")?);
        Ok(())
    }
}

/// Puts a segment into what is staged, from a file without a name.
fn put(segment: &Segment, unnamed: &Unnamed, staged: &mut Parts) {
    let Place::Staged(number) = segment.place else { return };
    let (unnamed, bytes) = (unnamed.clone(), segment.bytes);
    staged.put_bytes_later(staged_name(number), move || {
        let read = unnamed.read(number, bytes);
        unnamed.remove(number);
        read
    });
}

fn make_durable(mut sealed: Vec<Box<dyn NewFile>>, files: &dyn Files, folder: &Path) -> std::io::Result<()> {
    sealed.iter_mut().try_for_each(|file| file.sync())?;
    files.sync_folder(folder)?;
    crash::point("spool-durable");
    Ok(())
}

/// The name of a segment.
fn name(run: &Run, number: u64) -> String {
    format!("spool-{}-{}-{number}.arrow", run.incarnation, run.generation)
}

/// The run that has written a segment of that name.
fn owner(name: &str) -> Option<Run> {
    let mut parts = name.strip_prefix("spool-")?.strip_suffix(".arrow")?.split('-');
    let (incarnation, generation, number) = (parts.next()?, parts.next()?, parts.next()?);
    number.parse::<u64>().ok().filter(|_| parts.next().is_none())?;
    Some(Run { incarnation: incarnation.to_owned(), generation: generation.parse().ok()? })
}

/// Removes what runs of the same flow have left, up to this one. Those behind it may have taken the flow over.
fn clean(files: &dyn Files, folder: &Path, run: &Run) -> std::io::Result<()> {
    for entry in files.list(folder)? {
        let is_left = owner(&entry.name)
            .is_some_and(|owner| owner.incarnation == run.incarnation && owner.generation <= run.generation);
        if is_left {
            _ = remove(files, &folder.join(&entry.name))?;
        }
    }
    Ok(())
}

/// Removes a file. Whether there was one; harmless if not.
pub(crate) fn remove(files: &dyn Files, path: &Path) -> std::io::Result<bool> {
    match files.remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// The name of the segment that its run has written before.
pub(crate) fn name_before(name: &str) -> Option<String> {
    let (of, number) = name.strip_suffix(".arrow")?.rsplit_once('-')?;
    let before = number.parse::<u64>().ok()?.checked_sub(1)?;
    Some(format!("{of}-{before}.arrow"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_they_are() {
        let run = Run { incarnation: "0123456789abcdef".into(), generation: 7 };
        assert_eq!(name_before(&name(&run, 3)), Some(name(&run, 2)));
        assert_eq!(name_before(&name(&run, 0)), None);
        assert_eq!(owner(&name(&run, 3)), Some(run));
        for other in ["spool-0123-7.arrow", "spool-0123-7-x.arrow", "spool-0123-7-1-2.arrow", "0123-7-1.arrow", "log"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
