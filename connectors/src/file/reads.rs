//! Whether an input reads the file that is or will be at a path, by another name perhaps.

use std::path::{Component, Path, PathBuf};

use glob::Pattern;
use millstream_core::Reads;

use super::disk::resolve;
use super::find::{OPTIONS, find_now, is_pattern};

/// What the paths and patterns of an input, relative to `folder`, mean.
pub fn reads(folder: &Path, paths: &[String]) -> Reads {
    let patterns: Vec<PathPattern> = paths.iter().filter_map(|path| PathPattern::new(folder, path)).collect();
    Box::new(move |path| {
        let names = names(path);
        patterns.iter().any(|pattern| names.iter().any(|name| pattern.is(name)))
    })
}

/// What a path or a pattern means.
enum PathPattern {
    File([PathBuf; 2]),
    /// What matches, and where the links lead that do so now.
    Files(Pattern, Vec<PathBuf>),
}

impl PathPattern {
    /// None of a pattern that is none, which is said elsewhere.
    fn new(folder: &Path, path: &str) -> Option<Self> {
        if !is_pattern(folder, path) {
            return Some(Self::File(names(&folder.join(path))));
        }
        let is_fixed = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
        let parts: Vec<_> = Path::new(path).components().collect();
        let fixed: PathBuf = parts.iter().take_while(|part| is_fixed(part)).collect();
        let free: PathBuf = parts.iter().skip_while(|part| is_fixed(part)).collect();
        let fixed = Pattern::escape(&without_links(&folder.join(fixed)).to_string_lossy());
        let pattern = Pattern::new(&Path::new(&fixed).join(free).to_string_lossy()).ok()?;
        Some(Self::Files(pattern, links(folder, path)))
    }

    fn is(&self, name: &Path) -> bool {
        match self {
            Self::File(names) => names.iter().any(|own| own == name),
            Self::Files(pattern, links) => {
                pattern.matches_path_with(name, OPTIONS) || links.iter().any(|own| own == name)
            }
        }
    }
}

/// Where the links lead that match a pattern now. A folder that can't be searched is said elsewhere.
fn links(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let files = find_now(folder, pattern).unwrap_or_default().into_iter().map(|file| file.path);
    files.filter(|path| path.is_symlink()).map(|path| without_links(&path)).collect()
}

/// The names of a file: in its folder, and where that leads if it is a link.
fn names(path: &Path) -> [PathBuf; 2] {
    let folder = path.parent().map(without_links).unwrap_or_default();
    let name = path.file_name().map_or_else(|| folder.clone(), |name| folder.join(name));
    [name, without_links(&resolve(path).unwrap_or_else(|_| path.to_owned()))]
}

/// A path from the root, without links as far as it is there.
fn without_links(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|there| Some((there, there.canonicalize().ok()?)));
    let rest = there.as_ref().and_then(|(there, _)| path.strip_prefix(there).ok()).unwrap_or(&path);
    let mut without = there.as_ref().map(|(_, resolved)| resolved.clone()).unwrap_or_default();
    for part in rest.components() {
        match part {
            Component::ParentDir => _ = without.pop(),
            Component::CurDir => {}
            other => without.push(other),
        }
    }
    without
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_known_by_any_of_its_names() {
        let folder = tempfile::Builder::new().prefix("odd[1]*").tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("data/deep")).unwrap();
        fs::write(at("data/a.csv"), "").unwrap();
        symlink(at("data"), at("linked")).unwrap();
        symlink(at("data/a.csv"), at("b.csv")).unwrap();
        symlink(at("data/new.csv"), at("c.csv")).unwrap();
        let means = |path: &str, other: &str| reads(folder.path(), &[path.to_owned()])(&at(other));
        for (path, other) in [
            ("data/a.csv", "data/a.csv"),
            ("./data/../data/a.csv", "linked/a.csv"),
            ("b.csv", "data/a.csv"),
            ("data/a.csv", "b.csv"),
            ("data/*.csv", "data/new.csv"),
            ("data/*.csv", "c.csv"),
            ("linked/*.csv", "data/deep/../new.csv"),
            ("data/**/*.csv", "data/deep/deeper/new.csv"),
            ("nowhere/x.csv", "nowhere/../nowhere/x.csv"),
            ("*.csv", "b.csv"),
            // By the link `b.csv`.
            ("*.csv", "data/a.csv"),
        ] {
            assert!(means(path, other), "{path} {other}");
        }
        for (path, other) in [
            ("data/a.csv", "data/b.csv"),
            ("data/*.csv", "data/a.ndjson"),
            ("data/*.csv", "data/deep/a.csv"),
            ("data/*.csv", "data/.a.csv"),
            ("*.csv", "data/other.csv"),
        ] {
            assert!(!means(path, other), "{path} {other}");
        }
    }
}
