//! Whether rows can be appended to a file that is there.

use std::path::Path;

use millstream_core::{Error, Result, ResultExt};
use millstream_formats::{CsvOptions, Format, WriteOptions, csv_header, ends_with_line_break};

use super::files::Files;

impl Files {
    /// Whether the old file still needs a header. An error if it has other columns or ends within a line.
    pub(super) fn check_appendable(&self, path: &Path) -> Result<bool> {
        let WriteOptions { format, compression, delimiter, .. } = self.options;
        let doing = || format!("appending to `{}`", path.display());
        if !ends_with_line_break(path, compression).doing(doing)? {
            return Err(Error::new(format!("{}: its last line has no line break", doing())));
        }
        if format != Format::Csv {
            return Ok(false);
        }
        let csv = CsvOptions { delimiter, ..CsvOptions::default() };
        let Some(names) = csv_header(path, compression, &csv).doing(doing)? else { return Ok(true) };
        let columns = self.schema.fields().iter().map(|field| field.name().as_str());
        match columns.clone().eq(&names) {
            true => Ok(false),
            false => Err(Error::new(format!(
                "{}: its columns are `{}`, and would be `{}`; move it away, or choose another `path`",
                doing(),
                names.join("`, `"),
                columns.collect::<Vec<_>>().join("`, `")
            ))),
        }
    }
}
