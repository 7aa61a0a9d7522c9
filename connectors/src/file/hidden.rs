//! Hidden names beside the place of a file: of what is not whole yet, of the lock, and of the ledger. They say whose they are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use millstream_core::Run;

use super::target::number_of;

/// The hidden name under which a run writes what will be at a path.
pub fn part(path: &Path, run: &Run) -> PathBuf {
    hidden(path, &format!("{}-{}.part", run.incarnation, run.generation))
}

/// The hidden name of the lock on a place, the same for all runs.
pub fn lock(path: &Path) -> PathBuf {
    hidden(path, "lock")
}

/// The hidden name of the ledger of a flow for a place.
pub fn ledger(path: &Path, run: &Run) -> PathBuf {
    hidden(path, &format!("{}.ledger", run.incarnation))
}

fn hidden(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or(OsStr::new("file"));
    path.with_file_name(format!(".{}.{what}", name.to_string_lossy()))
}

/// The incarnation whose ledger for a place a hidden file in its folder is.
pub fn incarnation_of<'a>(hidden: &'a Path, place: &Path) -> Option<&'a str> {
    let place = place.file_name().unwrap_or(OsStr::new("file")).to_string_lossy();
    let rest = hidden.file_name()?.to_str()?.strip_prefix('.')?.strip_prefix(&*place)?;
    let incarnation = rest.strip_prefix('.')?.strip_suffix(".ledger")?;
    incarnation.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(incarnation)
}

/// Whether a hidden file is one of those of a place.
pub fn is_beside(hidden: &Path, place: &Path) -> bool {
    let name = place.file_name().unwrap_or(OsStr::new("file")).to_string_lossy();
    let rest = hidden.file_name().and_then(|hidden| hidden.to_str()?.strip_prefix(&format!(".{name}.")));
    hidden.parent() == place.parent() && rest.is_some_and(|rest| rest.matches('.').count() == 1)
}

/// Whether a hidden file is a part of what a ledger is about.
pub fn is_of_ledger(hidden: &Path, ledger: &Path) -> bool {
    let text = |path: &Path| path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
    let (hidden, ledger) = (text(hidden), text(ledger));
    let of_ledger = ledger.strip_prefix('.').and_then(|name| name.strip_suffix(".ledger")?.rsplit_once('.'));
    let (Some((name, run)), Some((place, incarnation))) = (owner(&hidden), of_ledger) else { return false };
    let is_file = name.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(".rows-"));
    run.incarnation == incarnation && (is_file || number_of(&format!("{place}-"), name).is_some())
}

/// The name that a hidden file will have, and the run that writes it.
pub fn owner(hidden: &str) -> Option<(&str, Run)> {
    let (name, tag) = hidden.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.')?;
    let (incarnation, generation) = tag.split_once('-')?;
    let is_incarnation = !incarnation.is_empty() && incarnation.bytes().all(|byte| byte.is_ascii_hexdigit());
    let run = Run { incarnation: incarnation.to_owned(), generation: generation.parse().ok()? };
    is_incarnation.then_some((name, run))
}

/// Whether what `owner` has left is needed no more, as far as `run` can know, which has locked the place: that of runs without
/// state, which have ended, and that of earlier runs of the same flow.
pub fn is_left_behind(owner: &Run, run: &Run) -> bool {
    owner.generation == 0 || owner.incarnation == run.incarnation && owner.generation <= run.generation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(incarnation: &str, generation: u64) -> Run {
        Run { incarnation: incarnation.to_owned(), generation }
    }

    #[test]
    fn names_say_whose_they_are() {
        let own = run("0123456789abcdef", 7);
        let hidden = part(Path::new("out/a.csv"), &own);
        assert_eq!(hidden, Path::new("out/.a.csv.0123456789abcdef-7.part"));
        assert_eq!(owner(".a.csv.0123456789abcdef-7.part"), Some(("a.csv", own.clone())));
        assert_eq!(lock(Path::new("a.csv")), Path::new(".a.csv.lock"));
        assert_eq!(ledger(Path::new("a.csv"), &own), Path::new(".a.csv.0123456789abcdef.ledger"));
        let of_place = |hidden| incarnation_of(Path::new(hidden), Path::new("a.csv"));
        assert_eq!(of_place("./.a.csv.0123456789abcdef.ledger"), Some("0123456789abcdef"));
        for other in
            ["a.csv.0123.ledger", ".a.csv.b.0123.ledger", ".b.csv.0123.ledger", ".a.csv.lock", ".a.csv.0123-7.part"]
        {
            assert_eq!(of_place(other), None, "{other}");
        }
        for other in [".a.csv.part", "a.csv.0123-7.part", ".a.csv.0123-x.part", ".a.csv.xyz-7.part", ".a.csv.-7.part"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_ledger_is_about_is_known() {
        let is_of = |hidden: &str, ledger: &str| is_of_ledger(Path::new(hidden), Path::new(ledger));
        assert!(is_of(".a.csv.aa-7.part", ".a.csv.aa.ledger") && is_of(".a.csv.rows-2.aa-7.part", ".a.csv.aa.ledger"));
        assert!(is_of("x=1/.f-o-00000000000000000001-00001.csv.aa-7.part", ".f-o.aa.ledger"));
        for other in [".a.csv.bb-7.part", ".b.csv.aa-7.part", ".a.csv2.aa-7.part", ".a.csv.aa.ledger", "a.csv"] {
            assert!(!is_of(other, ".a.csv.aa.ledger"), "{other}");
        }
        assert!(is_beside(Path::new("out/.f-o.aa.ledger"), Path::new("out/f-o")));
        assert!(!is_beside(Path::new("out/.f-o.aa.ledger"), Path::new("f-o")));
    }

    #[test]
    fn only_what_nobody_can_need_is_left_behind() {
        let own = run("aa", 7);
        assert!(is_left_behind(&run("bb", 0), &own), "a run without state has ended");
        assert!(is_left_behind(&run("aa", 7), &own) && is_left_behind(&run("aa", 5), &own));
        assert!(!is_left_behind(&run("aa", 8), &own), "the flow was taken over");
        assert!(!is_left_behind(&run("bb", 3), &own) && !is_left_behind(&run("bb", 3), &run("cc", 0)));
    }
}
