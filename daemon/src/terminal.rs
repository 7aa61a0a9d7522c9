//! What the process says: on standard output, whose reader may leave (`millstream docs | head` is no reason to panic), and on
//! standard error. All of it shows `${NAME}` in place of the values that flows have from the environment.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::sync::{PoisonError, RwLock};

use millstream_engine::file::Secrets;
use serde_json::Value as Json;

/// The variables and secrets of flow files.
static SECRETS: RwLock<Secrets> = RwLock::new(Secrets::none());

/// Has the secrets of a flow not said from now on.
pub fn keep_secrets(secrets: &Secrets) {
    SECRETS.write().unwrap_or_else(PoisonError::into_inner).extend(secrets);
}

/// A text as it may be said.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    SECRETS.read().unwrap_or_else(PoisonError::into_inner).hide(text)
}

/// Prints a line, as `println!` does, but not to a reader that is gone.
macro_rules! say {
    ($($what:tt)*) => { $crate::terminal::print_line(format_args!($($what)*)) };
}
pub(crate) use say;

/// Prints a line on standard error, as `eprintln!` does.
macro_rules! note {
    ($($what:tt)*) => { $crate::terminal::note_line(format_args!($($what)*)) };
}
pub(crate) use note;

/// Prints a line on standard output. If nobody reads it any more, nothing is lost; if it can't be written, the process
/// ends with an error.
pub fn print_line(line: fmt::Arguments<'_>) {
    write_line(&without_secrets(&line.to_string()));
}

/// Prints a line of JSON on standard output.
pub fn print_json(json: Json) {
    let json = SECRETS.read().unwrap_or_else(PoisonError::into_inner).hide_json(json);
    write_line(&json.to_string());
}

/// Prints a line on standard error. That it can't be written can be told nobody.
pub fn note_line(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{}", without_secrets(&line.to_string()));
}

fn write_line(line: &str) {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            note!("error: writing to standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Standard error, for what is logged: an event at a time.
pub struct Log;

impl Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(without_secrets(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Has panics said as anything else is, but for those that cost no more than a row.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if millstream_core::will_survive() {
            return;
        }
        let backtrace = std::backtrace::Backtrace::capture();
        match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => note!("{panic}\n{backtrace}"),
            _ => note!("{panic}"),
        }
    }));
}
