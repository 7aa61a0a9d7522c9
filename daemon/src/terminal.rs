//! Standard output, whose reader may leave: `millstream docs | head` is no reason to panic.

use std::fmt;
use std::io::{self, Write as _};

/// Prints a line, as `println!` does, but not to a reader that is gone.
macro_rules! say {
    ($($what:tt)*) => { $crate::terminal::print_line(format_args!($($what)*)) };
}
pub(crate) use say;

/// Prints a line on standard output. If nobody reads it any more, nothing is lost; if it can't be written, the process
/// ends with an error.
pub fn print_line(line: fmt::Arguments<'_>) {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: writing to standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}
