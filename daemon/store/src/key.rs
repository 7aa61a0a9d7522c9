//! What a key may look like: nothing that leaves the store's folder or hides in it.

use millstream_core::{Error, Result};

/// Refuses keys that are no plain relative path.
pub(crate) fn check(key: &str) -> Result<()> {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
    if key.split('/').all(plain) {
        return Ok(());
    }
    Err(Error::new(format!("`{key}` is no key: it must be names with `/` between them that don't begin with a dot")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside_the_folder() {
        for good in ["a", "a/b.json", "fraud/versions/00000003/card.json", "größe"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a/.b", "a\\b", "a\0"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
