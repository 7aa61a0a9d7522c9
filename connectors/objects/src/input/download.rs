//! Fetches of an object what is needed to read it, to a temporary file.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path as FilePath;
use std::sync::Arc;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use millstream_core::{ByteSize, Error, ErrorClass, Result, ResultExt as _, join};
use millstream_formats::{BatchReader, ColumnsIn, Decoder, FileKind, Needed, ReaderPosition};
use millstream_store::{Scheme, object_error};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt as _};
use tokio::time::sleep;

use super::Job;
use super::listing::{Found, Version};
use super::shape::ObjectShape;

/// How much of the end of an object is fetched to find out what else is needed.
const TAIL: u64 = 64 << 10;

/// An object that is smaller is fetched as a whole.
const SMALL: u64 = 1 << 20;

/// How much is fetched by one request, how many of them are on their way at once, and what lies between two stretches so that both are fetched together.
const PIECE: u64 = 8 << 20;
const PIECES: usize = 4;
const GAP: u64 = 256 << 10;

/// Why an object can't be read.
#[derive(Debug)]
pub enum Trouble {
    /// It is gone, changed or damaged: trying again won't help.
    Bad(String),
    /// Anything else.
    Error(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// An object that can be read.
pub struct Fetched {
    pub reader: Box<dyn BatchReader>,
    pub shape: ObjectShape,
}

/// Fetches an object, however long the service is away, and opens it at a place.
pub async fn fetch(job: Arc<Job>, found: Found, start: ReaderPosition) -> Result<Fetched, Trouble> {
    let growing = ExponentialBuilder::default().with_max_delay(job.longest_pause).with_jitter().without_max_times();
    let mut pauses = growing.build();
    let mut is_told = false;
    let file = loop {
        match fetch_once(&job, &found).await {
            Err(Trouble::Error(error)) if error.class() == ErrorClass::Transient => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!("`{}`: {error}; trying again", found.name);
                }
                job.disturbance.note(Some(&error));
                sleep(pauses.next().unwrap_or(job.longest_pause)).await;
            }
            fetched => {
                job.disturbance.note(None);
                break fetched?;
            }
        }
    };
    // What is compressed has to be gone through to come to a place.
    let open = move || open(&job, &found, file, start);
    join(&mut tokio::task::spawn_blocking(open)).await
}

fn open(job: &Job, found: &Found, file: File, start: ReaderPosition) -> Result<Fetched, Trouble> {
    let bad = |error: Error| Trouble::Bad(error.to_string());
    let declared = job.decoder.format.declared(file.try_clone().doing(|| "reading a temporary file")?).map_err(bad)?;
    let (columns, shape) = job.shape.of(&found.name, declared.as_ref()).map_err(Trouble::Bad)?;
    let is_text = job.decoder.format.kind().is_text;
    let compression = job.compression.or_else(|| FileKind::of(&found.name).compression).filter(|_| is_text);
    let decoder = Decoder { columns, compression, ..job.decoder.clone() };
    let mut reader = decoder.open_file(file, FilePath::new(&found.name)).map_err(bad)?;
    if start != ReaderPosition::default() {
        reader.go_to(start).map_err(bad)?;
    }
    Ok(Fetched { reader, shape })
}

/// What is fetched of an object.
struct Object<'a> {
    job: &'a Job,
    path: Path,
    version: Version,
}

#[expect(clippy::single_range_in_vec_init, reason = "a list of stretches, of which there is one")]
async fn fetch_once(job: &Job, found: &Found) -> Result<File, Trouble> {
    let size = found.version.size;
    if size > job.max_object {
        let (size, most) = (ByteSize(size as usize), ByteSize(job.max_object as usize));
        return Err(Trouble::Bad(format!("it has {size}, and `max_object` is {most}")));
    }
    let file = tempfile::tempfile().and_then(|file| file.set_len(size).map(|()| file));
    let file = file.doing(|| "making a temporary file")?;
    let path = job.objects.path(&found.name)?;
    let mut object = Object { job, path, version: found.version.clone() };
    // Google's listings don't call the content as its answers do.
    if job.objects.scheme == Scheme::Google {
        object.version = object.look().await?;
    }
    // A web server need not know of stretches.
    if job.objects.scheme == Scheme::Web {
        object.fetch_whole(&file).await?;
        return Ok(file);
    }
    if size < SMALL || job.decoder.format.columns_in() != ColumnsIn::Metadata {
        object.fetch(&file, vec![0..size]).await?;
        return Ok(file);
    }
    let mut tail = TAIL;
    object.fetch(&file, vec![size - tail..size]).await?;
    loop {
        let clone = file.try_clone().doing(|| "reading a temporary file")?;
        match job.decoder.needed(clone, tail).map_err(|error| Trouble::Bad(error.to_string()))? {
            Needed::All => object.fetch(&file, vec![0..size - tail]).await?,
            Needed::Stretches(stretches) => object.fetch(&file, stretches).await?,
            Needed::Tail(longer) => {
                object.fetch(&file, vec![size - longer..size - tail]).await?;
                tail = longer;
                continue;
            }
        }
        return Ok(file);
    }
}

impl Object<'_> {
    /// What the object is by now, if it still is what was listed.
    async fn look(&self) -> Result<Version, Trouble> {
        let found = self.job.objects.store.head(&self.path).await.map_err(|error| self.trouble(error))?;
        let now = Version::of(&found);
        if now.size == self.version.size && now.second() == self.version.second() { Ok(now) } else { Err(changed()) }
    }

    /// Fetches stretches to their places in a file.
    async fn fetch(&self, file: &File, stretches: Vec<Range<u64>>) -> Result<(), Trouble> {
        let pieces = pieces(stretches).into_iter().map(|piece| async move {
            let options = GetOptions { range: Some(GetRange::Bounded(piece.clone())), ..self.options() };
            let found = self.job.objects.store.get_opts(&self.path, options).await;
            let found = found.map_err(|error| self.trouble(error))?;
            if !self.version.is(&Version::of(&found.meta)) {
                return Err(changed());
            }
            let bytes = found.bytes().await.map_err(|error| self.trouble(error))?;
            if bytes.len() as u64 != piece.end - piece.start {
                return Err(Error::transient("an answer was cut off").into());
            }
            file.write_all_at(&bytes, piece.start).doing(|| "writing a temporary file")?;
            Ok(())
        });
        stream::iter(pieces.collect::<Vec<_>>()).buffer_unordered(PIECES).try_collect().await
    }

    /// Fetches all of it by one request.
    async fn fetch_whole(&self, file: &File) -> Result<(), Trouble> {
        let found = self.job.objects.store.get_opts(&self.path, self.options()).await;
        let found = found.map_err(|error| self.trouble(error))?;
        if !self.version.is(&Version::of(&found.meta)) {
            return Err(changed());
        }
        let (mut at, mut bytes) = (0, found.into_stream());
        while let Some(piece) = bytes.try_next().await.map_err(|error| self.trouble(error))? {
            if at + piece.len() as u64 > self.version.size {
                return Err(changed());
            }
            file.write_all_at(&piece, at).doing(|| "writing a temporary file")?;
            at += piece.len() as u64;
        }
        if at < self.version.size {
            return Err(Error::transient("an answer was cut off").into());
        }
        Ok(())
    }

    fn options(&self) -> GetOptions {
        GetOptions { if_match: self.version.tag(), ..GetOptions::default() }
    }

    fn trouble(&self, error: object_store::Error) -> Trouble {
        match error {
            object_store::Error::Precondition { .. } => changed(),
            object_store::Error::NotFound { .. } => Trouble::Bad("it is gone".to_owned()),
            error => {
                let error = object_error(&error);
                Trouble::Error(Error::caused_by(
                    format!("reading `{}` at `{}`", self.path, self.job.objects.location),
                    error,
                ))
            }
        }
    }
}

fn changed() -> Trouble {
    Trouble::Bad("it has changed since it was listed".to_owned())
}

/// Stretches as they are asked for: those that are close together at once, and none that is too long.
fn pieces(mut stretches: Vec<Range<u64>>) -> Vec<Range<u64>> {
    stretches.sort_by_key(|stretch| stretch.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for stretch in stretches.into_iter().filter(|stretch| !stretch.is_empty()) {
        match joined.last_mut() {
            Some(last) if stretch.start <= last.end + GAP => last.end = last.end.max(stretch.end),
            _ => joined.push(stretch),
        }
    }
    let cut = |whole: Range<u64>| {
        (whole.start..whole.end).step_by(PIECE as usize).map(move |start| start..whole.end.min(start + PIECE))
    };
    joined.into_iter().flat_map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "a list of stretches, of which there is one")]
    fn stretches_that_are_close_are_asked_for_together() {
        assert_eq!(
            pieces(vec![200_000..200_010, 0..10, 5_000_000..5_000_001, 3..3]),
            [0..200_010, 5_000_000..5_000_001]
        );
        let end = 2 * PIECE + 1;
        assert_eq!(pieces(vec![0..PIECE + 1, PIECE..end]), [0..PIECE, PIECE..2 * PIECE, 2 * PIECE..end]);
        assert!(pieces(vec![0..0]).is_empty());
    }
}
