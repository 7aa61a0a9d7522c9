//! The samples of outputs.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use millstream_core::{Collector, InputSettings, PlanContext, Progress};
use millstream_formats::FileKind;
use millstream_testkit::{Lacks, OutputSamples, Target, context, parse, rows_as_text};

use crate::file::FileInput;

pub fn file() -> OutputSamples {
    OutputSamples {
        node: "file",
        targets: vec![
            Target::new("path = 'a.csv'", rows),
            Target::new("path = 'deep/er/a.ndjson.gz'", rows),
            Target::new("path = 'a.json'", rows),
            Target::new("path = 'a.parquet'", rows),
            Target::new("path = 'a.arrow'", rows),
            Target::new("path = 'out'\nformat = 'csv'\nrows = 4", rows),
            Target::new("path = 'out'\nformat = 'parquet'\nrows = 3\nif_exists = 'append'", rows),
            Target::new("path = 'out'\nformat = 'ndjson'\nevery = '0s'\nif_exists = 'fail'", rows),
            Target::new(
                "path = 'out'\nformat = 'ndjson'\ncompression = 'zstd'\npartition = ['text']\nopen_partitions = 2",
                rows,
            ),
            Target::new("path = 'a.ndjson'\nif_exists = 'append'", rows),
        ],
        wrong: &[
            ("path = 'out'", "path"),
            ("path = 'a.csv'\nformat = 'parquet'", "format"),
            ("path = 'a.csv'\nformat = { type = 'csv', delimiter = 'é' }", "format.delimiter"),
            ("path = 'a.csv'\nrows = 5", "rows"),
            ("path = 'out'\nformat = 'csv'\npartition = ['no']", "partition.0"),
            ("path = 'a.parquet'\nif_exists = 'append'", "if_exists"),
        ],
        excuses: &[],
    }
}

/// The rows of all files that are not hidden, as the input `file` reads them.
fn rows(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    find(folder, &mut files);
    files.iter().flat_map(|file| read(file)).collect()
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
            files.push(path);
        }
    }
}

fn read(file: &Path) -> Vec<String> {
    let name = file.file_name().unwrap().to_string_lossy();
    let has_columns = FileKind::of(file).format.unwrap().is_text;
    // Any column may be null, and one that folders say is.
    let schema = "schema = { n = 'int64?', text = 'utf8?', amount = 'float64?', at = 'timestamp?' }";
    let settings = format!("path = '{name}'\n{}", if has_columns { schema } else { "" });
    let settings: FileInput = parse(&settings);
    let context = PlanContext { flow_folder: file.parent().unwrap().to_owned(), ..context() };
    let mut input = (settings.plan(&context).unwrap().build)().unwrap();
    let mut out = Collector::new(1);
    let mut waiting = Context::from_waker(Waker::noop());
    // Files never wait.
    while pin!(input.next(&mut out)).poll(&mut waiting).map(Result::unwrap) == Poll::Ready(Progress::More) {}
    assert_eq!(out.take_failed(), [], "{}", file.display());
    let batches: Vec<_> = out.take(0).map(|batch| batch.rows).collect();
    (batches.iter().flat_map(|rows| (0..rows.num_rows()).map(|row| rows.slice(row, 1))))
        .map(|row| rows_as_text([&row]).lines().skip(1).collect())
        .collect()
}

pub fn stdout() -> OutputSamples {
    OutputSamples {
        node: "stdout",
        targets: vec![
            Target::new("stream = 'stderr'", |folder| lines(folder, 0)).prepared(replace_stderr),
            Target::new("stream = 'stderr'\nformat = 'csv'", |folder| lines(folder, 1)).prepared(replace_stderr),
        ],
        wrong: &[("format = { type = 'csv', delimiter = 'é' }", "format.delimiter")],
        excuses: &[(Lacks::Commits, "what was written to a terminal or pipe can't be taken back")],
    }
}

/// The lines behind those of the header of each run.
fn lines(folder: &Path, header: usize) -> Vec<String> {
    let text = fs::read_to_string(folder.join("stderr")).unwrap();
    text.lines().filter(|line| header == 0 || !line.starts_with("n,")).map(str::to_owned).collect()
}

/// The standard error of this process as it was, which it is again in the end.
pub struct Stderr(OwnedFd);

impl Stderr {
    pub fn kept() -> Self {
        Self(rustix::io::dup(rustix::stdio::stderr()).unwrap())
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        rustix::stdio::dup2_stderr(&self.0).unwrap();
    }
}

fn replace_stderr(folder: &Path) {
    rustix::stdio::dup2_stderr(File::create(folder.join("stderr")).unwrap()).unwrap();
}

pub fn drop() -> OutputSamples {
    OutputSamples {
        node: "drop",
        targets: vec![Target::new("", |_| Vec::new())],
        wrong: &[],
        excuses: &[(Lacks::Rows, "it forgets them"), (Lacks::Mistakes, "it has no settings")],
    }
}

pub fn respond() -> OutputSamples {
    OutputSamples {
        node: "respond",
        targets: vec![Target::new("to = 'requests'\ncolumn = 'n'", |_| Vec::new())],
        wrong: &[("to = 'requests'", "column"), ("to = 'requests'\ncolumn = 'text'", "column")],
        excuses: &[
            (Lacks::Rows, "nobody waits for answers"),
            (Lacks::Commits, "what was answered can't be taken back"),
        ],
    }
}
