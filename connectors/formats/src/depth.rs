//! How deep JSON is nested, which has to be known before Arrow decodes it.

/// How deep objects and arrays may be nested. Arrow prints a value of the wrong type by recursion, which would
/// overflow the stack.
pub(crate) const MAX_DEPTH: usize = 512;

/// Whether objects and arrays are nested too deep for Arrow.
pub(crate) fn is_too_deep(document: &[u8]) -> bool {
    document.len() > MAX_DEPTH && depth(document) > MAX_DEPTH
}

/// How deep the brackets of a document are nested.
fn depth(document: &[u8]) -> usize {
    if memchr::memchr2_iter(b'{', b'[', document).count() <= MAX_DEPTH {
        return 0;
    }
    let (mut deepest, mut depth) = (0, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_are_not_deep() {
        let brackets = "[".repeat(1000);
        assert!(!is_too_deep(format!("{{\"a\":\"{brackets}\"}}").as_bytes()));
        assert!(is_too_deep(brackets.as_bytes()));
    }
}
