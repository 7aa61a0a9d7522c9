//! Where the benchmarks find flows, data and programs, and where they may write.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millstream_core::{Error, Result, ResultExt};
use serde_json::Value;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file of the data that `make_data.py` has made.
pub fn data(name: &str) -> PathBuf {
    root().join("target/benches/data").join(name)
}

/// A flow of the benchmarks.
pub fn flow(name: &str) -> PathBuf {
    root().join("benches/flows").join(name)
}

/// A new empty folder to work in.
pub fn empty_folder(name: &str) -> Result<PathBuf> {
    let folder = root().join("target/benches/work").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// `millstream run FLOW --set SET…`, in a folder: the binary that was built together with this one.
pub fn millstream_run(folder: &Path, flow: &Path, sets: &[String]) -> Result<Command> {
    let program = std::env::current_exe()?.with_file_name("millstream");
    let mut command = Command::new(program);
    command.current_dir(folder).arg("run").arg(flow.canonicalize()?);
    command.args(sets.iter().flat_map(|set| ["--set", set]));
    Ok(command)
}

/// Runs a program whose last line is JSON.
pub fn json_of(command: &mut Command) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output().doing(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("{command:?} ended with {}: {errors}{text}", output.status)));
    }
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).doing(|| format!("reading what {command:?} printed"))
}

/// A number inside a JSON value.
pub fn number(value: &Value, pointer: &str) -> Result<f64> {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.ok_or_else(|| Error::new(format!("there is no number at {pointer} in {value}")))
}
