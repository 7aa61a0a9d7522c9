//! onnxruntime, which runs the models of others. Its library is loaded when the first of them is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use millstream_core::{Error, Result, ResultExt as _};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use crate::threads;

/// Says where the library is, if it is not beside the program.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// Where it lies beside the program, as `pip install --target` puts it there, or by itself.
const BESIDE: [&str; 2] = ["onnxruntime/capi", "."];

const LIBRARY: &str = "libonnxruntime.so";

/// What there is one of in a process.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The library, loaded.
fn environment() -> Result<Environment> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let library = find();
    let loaded = ort::init_from(&library).map_err(|error| missing(&error.to_string()))?;
    let loaded = loaded.with_name("millstream").with_telemetry(false).build();
    let loaded = loaded.doing(|| format!("starting onnxruntime (`{}`)", library.display()))?;
    *environment = Some(loaded.clone());
    Ok(loaded)
}

fn missing(why: &str) -> Error {
    let places = "in the folder `onnxruntime/capi` beside the program, where the variable ORT_DYLIB_PATH says, or where the system has its libraries";
    Error::new(format!(
        "models of others are computed by onnxruntime, which is not there ({why}); `pip install --target DIR onnxruntime`, for the folder DIR of the \
         program, brings it; {LIBRARY} is looked for {places}"
    ))
}

/// Where the library is; its bare name if only the system may know.
fn find() -> PathBuf {
    if let Some(said) = std::env::var_os(VARIABLE) {
        return said.into();
    }
    let program = std::env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent);
    let beside = folder.and_then(|folder| BESIDE.iter().find_map(|place| library_in(&folder.join(place))));
    beside.unwrap_or_else(|| LIBRARY.into())
}

/// The library in a folder: wheels have its version behind its name.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let is_library =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(LIBRARY));
    let mut found: Vec<_> = folder.read_dir().ok()?.flatten().map(|entry| entry.path()).filter(is_library).collect();
    found.sort();
    found.pop()
}

/// A model that is run. Each caller at a time has a session of its own.
pub(crate) struct Sessions {
    bytes: Vec<u8>,
    idle: Mutex<Vec<Session>>,
}

impl Sessions {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, idle: Mutex::default() }
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Has a session ready.
    pub fn open(&self) -> Result<()> {
        let session = self.take()?;
        self.give_back(session);
        Ok(())
    }

    /// A session that nobody uses.
    pub fn take(&self) -> Result<Session> {
        if let Some(session) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(session);
        }
        let environment = environment()?;
        let open = || -> ort::Result<Session> {
            // Threads turn while they wait for work of a batch, which is sooner there than they could be woken, and sleep between batches.
            Session::builder(&environment)?
                .with_optimization_level(GraphOptimizationLevel::Level3)?
                .with_intra_threads(threads::count())?
                .with_config_entry("session.force_spinning_stop", "1")?
                .commit_from_memory(&self.bytes)
        };
        open().doing(|| "opening the model with onnxruntime")
    }

    pub fn give_back(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}
