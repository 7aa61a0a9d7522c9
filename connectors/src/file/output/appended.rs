//! Whether rows can be appended to a file that is there.

use std::path::Path;

use arrow::datatypes::Schema;
use millstream_core::{Error, Result, ResultExt};
use millstream_formats::{Header, WriteOptions, ends_with_line_break};

/// Whether the file is empty, so that a new one begins. An error if it has other columns or ends within a line.
pub(super) fn check_appendable(path: &Path, options: &WriteOptions, schema: &Schema) -> Result<bool> {
    let compression = options.compression;
    let doing = || format!("appending to `{}`", path.display());
    if !ends_with_line_break(path, compression).doing(doing)? {
        return Err(Error::new(format!("{}: its last line has no line break", doing())));
    }
    let names = match options.format.header(path, compression).doing(doing)? {
        Header::None => return Ok(false),
        Header::Missing => return Ok(true),
        Header::Names(names) => names,
    };
    let columns = schema.fields().iter().map(|field| field.name().as_str());
    if columns.clone().eq(&names) {
        Ok(false)
    } else {
        Err(Error::new(format!(
            "{}: its columns are `{}`, and would be `{}`; move it away, or choose another `path`",
            doing(),
            names.join("`, `"),
            columns.collect::<Vec<_>>().join("`, `")
        )))
    }
}
