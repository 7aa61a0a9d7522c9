//! The place of a table: whether there is one, and the files below it.

use std::fmt;
use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use futures::StreamExt as _;
use millstream_core::{Error, Result, ResultExt as _};
use millstream_store::{Access, Objects, Scheme, create_durable_folder, object_error};
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

/// The folder of the log.
pub const LOG: &str = "_delta_log";

/// Where a table is, or will be.
#[derive(Clone, Debug)]
pub struct Place {
    objects: Objects,
    /// Where it is, below the address of the objects.
    path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(format!("{}/{}", self.objects.location, self.path).trim_end_matches('/'))
    }
}

impl Place {
    /// A place below the address of objects.
    pub fn new(objects: Objects, path: String) -> Self {
        Self { objects, path }
    }

    /// The store that it is in.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.objects.store
    }

    /// The name in the store of a file of the table.
    ///
    /// # Errors
    /// If there can be none.
    pub fn file(&self, name: &str) -> Result<Path> {
        self.objects.path(&format!("{}/{name}", self.path))
    }

    /// The address of the table, as its log knows it.
    ///
    /// # Errors
    /// If there can be none.
    pub fn root(&self) -> Result<Url> {
        let path = self.objects.path(&self.path)?;
        let mut root = Url::parse(&self.objects.location).doing(|| "the address of a table")?;
        if let Ok(mut segments) = root.path_segments_mut() {
            segments.clear().extend(path.parts()).push("");
        }
        Ok(root)
    }

    /// Whether there is a table.
    ///
    /// # Errors
    /// If that can't be found out.
    pub async fn has_table(&self) -> Result<bool> {
        match self.objects.store.list(Some(&self.file(LOG)?)).next().await {
            None | Some(Err(object_store::Error::NotFound { .. })) => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(error)) => Err(object_error(&error)).doing(|| format!("looking for `{self}`")),
        }
    }

    /// Says that there is none.
    pub fn no_table(&self) -> Error {
        Error::new(format!("there is no table at `{self}`; make it, or say `create_table = true`"))
    }

    /// Looks whether a table is there, or may be made. Nothing is changed.
    ///
    /// # Errors
    /// If not, or that can't be found out.
    pub async fn look(self, creates: bool) -> Result<String> {
        if self.has_table().await? {
            return Ok(format!("a table at `{self}`"));
        }
        if creates { Ok(format!("no table at `{self}` yet")) } else { Err(self.no_table()) }
    }

    /// Makes the folder of a table that is to be in a folder.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn make_folder(&self) -> Result<()> {
        let Some(folder) = self.local(self.objects.path(&self.path)?) else { return Ok(()) };
        create_durable_folder(&folder, Access::Shared).doing(|| format!("making the folder `{}`", folder.display()))
    }

    /// Makes a file of the table outlive a crash of the machine, which stores do by themselves.
    ///
    /// # Errors
    /// If it can't be done.
    pub fn sync(&self, name: &str) -> Result<()> {
        let Some(file) = self.local(self.file(name)?) else { return Ok(()) };
        // With the folders that it is in, as far as that of the table.
        let folders = 1 + name.matches('/').count();
        let synced = file.ancestors().take(1 + folders).try_for_each(|path| File::open(path)?.sync_all());
        synced.doing(|| format!("writing `{}`", file.display()))
    }

    /// Where something is on this machine, if it is.
    fn local(&self, path: Path) -> Option<PathBuf> {
        (self.objects.scheme == Scheme::Folder).then(|| FilePath::new("/").join(path.as_ref()))
    }
}
