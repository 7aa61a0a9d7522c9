//! Which files a path or a pattern means.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use millstream_core::Problem;

/// A file that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path as matched, relative to the flow file if it was written so: the partition of its rows.
    pub name: Arc<str>,
    /// Where it is.
    pub path: PathBuf,
}

/// How names are compared with patterns.
pub const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Whether `path` is searched for files, rather than the name of one.
pub fn is_pattern(folder: &Path, path: &str) -> bool {
    path.contains(['*', '?', '[']) && !folder.join(path).exists()
}

/// The files that `pattern`, relative to `folder`, means: one, or all that match. Sorted by name, at least one.
pub fn find(folder: &Path, pattern: &str) -> Result<Vec<SourceFile>, Problem> {
    if !is_pattern(folder, pattern) {
        return single(folder, pattern).map(|file| vec![file]);
    }
    let mut files = Vec::new();
    for path in matches(folder, pattern)? {
        let path = path.map_err(|error| Problem::new(format!("`{pattern}` can't be searched: {error}")))?;
        if !path.is_dir() {
            files.push(regular(folder, &name_in(folder, &path), path)?);
        }
    }
    if files.is_empty() {
        return Err(Problem::new(format!("no file matches `{pattern}`")).help(looked_in(folder)));
    }
    files.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(files)
}

/// Checks a path or pattern whose files may come later. What is there already has to be regular.
pub fn check_later(folder: &Path, pattern: &str) -> Result<(), Problem> {
    if is_pattern(folder, pattern) {
        matches(folder, pattern).map(|_| ())
    } else if folder.join(pattern).exists() {
        single(folder, pattern).map(|_| ())
    } else {
        Ok(())
    }
}

/// The regular files that a path or pattern means at the moment; there may be none.
pub fn find_now(folder: &Path, pattern: &str) -> std::io::Result<Vec<SourceFile>> {
    if !is_pattern(folder, pattern) {
        let file = SourceFile { name: pattern.into(), path: folder.join(pattern) };
        return Ok(if file.path.is_file() { vec![file] } else { Vec::new() });
    }
    let mut files = Vec::new();
    for path in matches(folder, pattern).map_err(|problem| std::io::Error::other(problem.message))? {
        match path {
            Ok(path) if path.is_file() => files.push(SourceFile { name: name_in(folder, &path).into(), path }),
            Ok(_) => {}
            // Folders may go while they are searched.
            Err(error) if error.error().kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(files)
}

fn matches(folder: &Path, pattern: &str) -> Result<glob::Paths, Problem> {
    let absolute = Path::new(&Pattern::escape(&folder.to_string_lossy())).join(pattern);
    glob::glob_with(&absolute.to_string_lossy(), OPTIONS)
        .map_err(|error| Problem::new(format!("`{pattern}` is no pattern: {error}")))
}

fn name_in(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

fn single(folder: &Path, name: &str) -> Result<SourceFile, Problem> {
    let path = folder.join(name);
    if path.is_dir() {
        let help = format!("to read all of its files, write `{}/*.csv`, say", name.trim_end_matches('/'));
        return Err(Problem::new(format!("`{name}` is a folder")).help(help));
    }
    regular(folder, name, path)
}

/// A file whose bytes are there: to look at others, such as pipes, might wait forever, and takes from what is read.
fn regular(folder: &Path, name: &str, path: PathBuf) -> Result<SourceFile, Problem> {
    if !path.exists() {
        return Err(Problem::new(format!("there is no file `{name}`")).help(looked_in(folder)));
    }
    if !path.is_file() {
        let help = format!("read it through `stdin`: `millstream run FLOW < {name}`");
        return Err(Problem::new(format!("`{name}` is no regular file")).help(help));
    }
    Ok(SourceFile { name: name.into(), path })
}

fn looked_in(folder: &Path) -> String {
    if folder == Path::new("") {
        return "paths of inputs are relative to the flow file, in the current folder".to_owned();
    }
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    format!("paths of inputs are relative to the flow file, in `{}`", folder.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::Builder::new().prefix("odd[1]*").tempdir().unwrap();
        for file in ["b.csv", "a.csv", ".hidden.csv", "c.json", "sub/d.csv", "x[1].csv"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn names(pattern: &str) -> Vec<String> {
        let folder = folder();
        find(folder.path(), pattern).unwrap().iter().map(|file| file.name.to_string()).collect()
    }

    #[test]
    fn patterns_match_sorted_by_name() {
        assert_eq!(names("*.csv"), ["a.csv", "b.csv", "x[1].csv"]);
        assert_eq!(names("**/*.csv"), ["a.csv", "b.csv", "sub/d.csv", "x[1].csv"]);
        assert_eq!(names("[ab].csv"), ["a.csv", "b.csv"]);
        assert_eq!(names("x[1].csv"), ["x[1].csv"]);
        assert_eq!(names("sub/../c.json"), ["sub/../c.json"]);
        assert_eq!(names("*"), ["a.csv", "b.csv", "c.json", "x[1].csv"]);
    }

    #[test]
    fn what_is_no_regular_file_is_a_problem() {
        let folder = folder();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket.csv")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let pipe = folder.path().join("pipe.csv");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        std::os::unix::fs::symlink(pipe, folder.path().join("link.csv")).unwrap();
        std::os::unix::fs::symlink("nothing", folder.path().join("lost.csv")).unwrap();
        let problem = |pattern| find(folder.path(), pattern).unwrap_err();
        for name in ["socket.csv", "pipe.csv", "link.csv"] {
            assert_eq!(problem(name).message, format!("`{name}` is no regular file"));
        }
        assert_eq!(problem("/dev/null").message, "`/dev/null` is no regular file");
        assert_eq!(problem("p*.csv").message, "`pipe.csv` is no regular file");
        assert!(problem("p*.csv").help.unwrap().contains("`stdin`"));
        assert_eq!(problem("lo*.csv").message, "there is no file `lost.csv`");
    }

    #[test]
    fn what_is_not_there_is_a_problem() {
        let folder = folder();
        let problem = |pattern| find(folder.path(), pattern).unwrap_err();
        assert_eq!(problem("no.csv").message, "there is no file `no.csv`");
        assert!(problem("no.csv").help.unwrap().contains(&*folder.path().to_string_lossy()));
        let here = find(Path::new(""), "no*.csv").unwrap_err();
        assert_eq!(here.help.unwrap(), "paths of inputs are relative to the flow file, in the current folder");
        assert_eq!(problem("*.tsv").message, "no file matches `*.tsv`");
        assert_eq!(problem("sub").message, "`sub` is a folder");
        assert!(problem("a***b").message.starts_with("`a***b` is no pattern"));
    }
}
