//! The names that rotations give to the files whose place another takes.

/// Whether a file of this name may have been called `live` before a rotation: `app.log.1`, `app.log-20260131` or `app.log.old`
/// for `app.log`; `app-20260131.log` as well, but not `app-2.log`, which may be the log of something else.
pub fn is_rotated(live: &str, name: &str) -> bool {
    if let Some(rest) = name.strip_prefix(live).and_then(behind_separator) {
        return rest.starts_with(|c: char| c.is_ascii_digit()) || rest == "old";
    }
    let Some((stem, extension)) = live.rsplit_once('.') else { return false };
    let date = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension)?.strip_suffix('.'));
    date.and_then(behind_separator).is_some_and(is_like_a_date)
}

fn behind_separator(rest: &str) -> Option<&str> {
    rest.strip_prefix(['.', '-', '_'])
}

/// Whether a text begins with a year.
fn is_like_a_date(text: &str) -> bool {
    text.len() > 4 && text.bytes().take(4).all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_rotations_give() {
        for name in
            ["app.log.1", "app.log-20260131", "app.log_2", "app.log.old", "app-20260131.log", "app.2026-01-31.log"]
        {
            assert!(is_rotated("app.log", name), "{name}");
        }
        for name in [
            "app.log",
            "app.log.bak",
            "app.log1",
            "app-2.log",
            "app.logs",
            "apple.log",
            "other.log.1",
            "app-errors.log",
        ] {
            assert!(!is_rotated("app.log", name), "{name}");
        }
        assert!(is_rotated("log", "log.1") && !is_rotated("log", "log"));
        assert!(!is_rotated("ä.log", "ä"));
    }
}
