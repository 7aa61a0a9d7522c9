//! Checks flows as they are written, on a thread of its own: what is asked meanwhile waits for no check.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};

use lsp_types::{Diagnostic as Marked, DiagnosticSeverity, PublishDiagnosticsParams, Range, Uri};
use millstream_core::{Error, Result};
use millstream_engine::file::{Diagnostic, Diagnostics};
use millstream_engine::outline::Outline;
use millstream_engine::plan::{KeptStates, Plan, PlanOptions};
use url::Url;

use super::partly::partly;
use super::positions::marked;
use super::scan::Scan;
use crate::terminal::without_secrets;
use crate::workplace::Workplace;

/// By which name editors show who says so.
const SOURCE: &str = "millstream";

/// Above this length, only whole flows are planned. No flow that a person writes is that long.
const LONGEST: usize = 256 << 10;

/// A document as it is now.
pub struct Job {
    /// Which one.
    pub uri: Uri,
    /// The number of the text.
    pub version: i32,
    /// The text; none when the document is closed.
    pub text: Option<Arc<str>>,
}

/// The outlines of documents, as they were when they could be planned last.
#[derive(Clone, Default)]
pub struct Outlines(Arc<Mutex<BTreeMap<String, Arc<Outline>>>>);

impl Outlines {
    /// That of a document.
    pub fn of(&self, uri: &Uri) -> Option<Arc<Outline>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uri.as_str()).cloned()
    }

    fn keep(&self, uri: &Uri, outline: Outline) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uri.as_str().to_owned(), Arc::new(outline));
    }

    fn forget(&self, uri: &Uri) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uri.as_str());
    }
}

/// What checks documents. It ends when it is dropped.
pub struct Checker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Checker {
    /// Begins to check documents that are sent, and to tell what is wrong with them.
    pub fn start(
        workplace: Arc<Workplace>,
        outlines: Outlines,
        tell: impl Fn(PublishDiagnosticsParams) + Send + 'static,
    ) -> Self {
        let (jobs, received) = channel();
        let thread = spawn(move || {
            while let Some(newest) = next(&received) {
                newest.into_values().for_each(|job| tell(check(&workplace, &outlines, job)));
            }
        });
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Has a document checked.
    pub fn check(&self, job: Job) -> Result<()> {
        let gone = || Error::new("what checks documents has come to its end");
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.jobs = None;
        // A panic in it has been said.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The documents that have come meanwhile, each as it is now.
fn next(received: &Receiver<Job>) -> Option<BTreeMap<String, Job>> {
    let first = received.recv().ok()?;
    Some(std::iter::once(first).chain(received.try_iter()).map(|job| (job.uri.as_str().to_owned(), job)).collect())
}

/// The file of a document.
pub fn path(uri: &Uri) -> PathBuf {
    let file = Url::parse(uri.as_str()).ok().and_then(|url| url.to_file_path().ok());
    file.unwrap_or_else(|| PathBuf::from("untitled.toml"))
}

fn check(workplace: &Workplace, outlines: &Outlines, Job { uri, version, text }: Job) -> PublishDiagnosticsParams {
    let diagnostics = match text {
        // A defect of ours has been said, and ends nothing.
        Some(text) => catch_unwind(AssertUnwindSafe(|| wrong(workplace, outlines, &uri, &text))).unwrap_or_default(),
        None => {
            outlines.forget(&uri);
            Vec::new()
        }
    };
    PublishDiagnosticsParams { uri, diagnostics, version: Some(version) }
}

/// What is wrong with a text. Nothing is with what is no flow.
fn wrong(workplace: &Workplace, outlines: &Outlines, uri: &Uri, text: &str) -> Vec<Marked> {
    let scan = Scan::new(text);
    if !scan.is_flow() {
        return Vec::new();
    }
    let path = path(uri);
    match plan(workplace, &path, text) {
        Ok(plan) => {
            let outline = plan.outline();
            let warnings = outline.warnings.iter().map(|warning| warned(warning, text, &scan)).collect();
            outlines.keep(uri, outline);
            warnings
        }
        Err(diagnostics) => {
            if let Some(outline) = (text.len() <= LONGEST).then(|| partly(workplace, &path, text)).flatten() {
                outlines.keep(uri, outline);
            }
            diagnostics.iter().map(|diagnostic| shown(diagnostic, &path)).collect()
        }
    }
}

/// Plans a text as if it were in a file. Columns that nobody uses yet are there, so that they can be.
pub fn plan(workplace: &Workplace, path: &Path, text: &str) -> Result<Plan, Diagnostics> {
    let options = PlanOptions { prune: false, ..workplace.plan_options() };
    Plan::read(path, text, workplace.load_options(&[]), options, |_| KeptStates::default())
}

/// A diagnostic as editors take it. What is wrong in another file, such as one of connections, is said at the top.
fn shown(diagnostic: &Diagnostic, path: &Path) -> Marked {
    let Diagnostic { path: file, place, message, help, follows } = diagnostic;
    let is_here = *file == path.display().to_string();
    let range = place.as_ref().filter(|_| is_here).map(marked).unwrap_or_default();
    let elsewhere = match place {
        _ if is_here => String::new(),
        Some(place) => format!("{file}:{}:{}: ", place.line, place.column),
        None => format!("{file}: "),
    };
    let help = help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
    let severity = if *follows { DiagnosticSeverity::INFORMATION } else { DiagnosticSeverity::ERROR };
    said(range, severity, &format!("{elsewhere}{message}{help}"))
}

/// What may not be meant, at the first node that it names.
fn warned(warning: &str, text: &str, scan: &Scan) -> Marked {
    let named = |path: &[String]| path.get(1).is_some_and(|name| warning.contains(&format!("`{name}`")));
    let header = scan.headers.iter().find(|header| header.path.len() == 2 && named(&header.path));
    let range = header.map(|header| {
        let end = text[header.start..].find(']').map_or(text.len(), |length| header.start + length + 1);
        super::positions::range(text, &(header.start..end))
    });
    said(range.unwrap_or_default(), DiagnosticSeverity::WARNING, warning)
}

fn said(range: Range, severity: DiagnosticSeverity, message: &str) -> Marked {
    Marked {
        range,
        severity: Some(severity),
        source: Some(SOURCE.to_owned()),
        message: without_secrets(message).into_owned(),
        ..Marked::default()
    }
}
