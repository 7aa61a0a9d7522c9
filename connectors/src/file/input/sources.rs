//! The files that an input reads, and how each of them is read.

use std::collections::HashMap;

use millstream_core::{PlanContext, Problem, Problems, Result};
use millstream_formats::{Compression, FORMATS, FileKind, Format, ReadFiles, ReadFormat};

use super::{FileInput, at_path};
use crate::file::find::{SourceFile, find, find_now};

/// A file with how it is read.
#[derive(Clone)]
pub(super) struct Source {
    pub file: SourceFile,
    pub format: ReadFormat,
    pub compression: Option<Compression>,
    /// Whether a header was found, which then has to be there when the file is read.
    pub has_header: bool,
}

impl Source {
    /// Whether rows may be appended to the file before all of it is read.
    pub(super) fn may_grow(&self) -> bool {
        self.format.is_utf8() && self.compression.is_none()
    }
}

/// The files that the paths of an input stand for, which all have one format.
pub(super) struct ResolvedFiles {
    pub sources: Vec<Source>,
    /// The format, as the first file has it.
    pub format: ReadFormat,
}

/// The formats of files: as `format` says, or else their names.
pub(super) struct Formats<'a> {
    setting: Option<&'a Format<ReadFiles>>,
    /// Those that were asked for, by the endings of names.
    known: HashMap<String, ReadFormat>,
}

impl<'a> Formats<'a> {
    pub(super) fn new(setting: Option<&'a Format<ReadFiles>>) -> Self {
        Self { setting, known: HashMap::new() }
    }

    /// The format of a file or pattern. A problem without a place is one of the name.
    pub(super) fn of(&mut self, name: &str) -> Result<ReadFormat, Problem> {
        let kind = FileKind::of(name);
        if let Some(known) = self.known.get(&kind.ending) {
            return Ok(known.clone());
        }
        let named = kind.format.and_then(|format| Format::named(format.name));
        let setting = self.setting.or(named.as_ref()).ok_or_else(|| unknown(name))?;
        let format = setting.read(&kind.ending)?;
        self.known.insert(kind.ending, format.clone());
        Ok(format)
    }
}

fn unknown(name: &str) -> Problem {
    let known = FORMATS.iter().filter(|kind| !kind.endings.is_empty()).map(|kind| format!("`\"{}\"`", kind.name));
    let problem = Problem::new(format!("the name of `{name}` does not say its format"));
    problem.help(format!("say it with `format`: {}", known.collect::<Vec<_>>().join(", ")))
}

impl FileInput {
    fn files(&self, context: &PlanContext) -> Result<Vec<SourceFile>, Problems> {
        let folder = context.input_path("");
        // A run that finds nothing new has nothing to do.
        let may_be_none = self.once.is_some() && self.schema.is_some();
        let find = |pattern: &str| {
            if may_be_none {
                find_now(&folder, pattern).map_err(|error| Problem::new(format!("`{pattern}`: {error}")))
            } else {
                find(&folder, pattern)
            }
        };
        let mut files = self.each_path(find)?.concat();
        files.sort_by(|one, two| one.name.cmp(&two.name));
        files.dedup();
        Ok(files)
    }

    /// Finds the files, and how each of them is read.
    pub(super) fn resolve(&self, context: &PlanContext) -> Result<ResolvedFiles, Problems> {
        let files = self.files(context)?;
        let mut formats = Formats::new(self.format.as_ref());
        let format = match files.first() {
            Some(file) => formats.of(&file.name).map_err(at_path)?,
            None => self.each_path(|path| formats.of(path))?.remove(0),
        };
        let mut sources = Vec::with_capacity(files.len());
        for file in files {
            sources.push(self.source(file, &format, &mut formats)?);
        }
        Ok(ResolvedFiles { sources, format })
    }

    fn source(&self, file: SourceFile, first: &ReadFormat, formats: &mut Formats<'_>) -> Result<Source, Problem> {
        let format = formats.of(&file.name).map_err(at_path)?;
        let kind = format.kind();
        if kind.name != first.kind().name {
            let problem = Problem::new(format!("`{}` is {}, unlike the files before it", file.name, kind.name));
            return Err(problem.at(["path"]).help("read each format with an input of its own"));
        }
        let compression = self.compression.or(FileKind::of(&*file.name).compression);
        if compression.is_some() && !kind.is_text {
            let at = if self.compression.is_some() { "compression" } else { "path" };
            let message = format!("`{}` can't be compressed: {} files are compressed inside", file.name, kind.name);
            return Err(Problem::new(message).at([at]));
        }
        Ok(Source { file, format, compression, has_header: false })
    }
}
