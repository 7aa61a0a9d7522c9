//! What has to be known of the text of JSON before Arrow decodes it.

/// How deep objects and arrays may be nested. Arrow prints a value of the wrong type by recursion, which would
/// overflow the stack.
pub(crate) const MAX_DEPTH: usize = 512;

/// Why a document must not be decoded, although Arrow would.
pub(crate) fn objection(document: &[u8]) -> Option<String> {
    if is_too_deep(document) {
        return Some(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    let number = may_have_odd_number(document).then(|| odd_number(document)).flatten();
    number.map(|number| format!("`{}` is no number", String::from_utf8_lossy(number)))
}

fn is_too_deep(document: &[u8]) -> bool {
    document.len() > MAX_DEPTH && depth(document) > MAX_DEPTH
}

/// How deep the brackets of a document are nested.
fn depth(document: &[u8]) -> usize {
    if memchr::memchr2_iter(b'{', b'[', document).count() <= MAX_DEPTH {
        return 0;
    }
    let (mut deepest, mut depth) = (0, 0_usize);
    for byte in outside_strings(document).map(|place| document[place]) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The places of the bytes that are not inside of strings.
fn outside_strings(document: &[u8]) -> impl Iterator<Item = usize> {
    let (mut in_string, mut escaped) = (false, false);
    (0..document.len()).filter(move |place| {
        let was_in_string = in_string;
        match document[*place] {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
        !was_in_string
    })
}

/// Whether a document looks as if it had a number with zeros in front, or without a digit behind its point: Arrow takes them. It
/// is asked of every line, so it has neither branches nor a memory of strings, and several bytes are compared at once.
fn may_have_odd_number(document: &[u8]) -> bool {
    let is_blank = |byte: u8| (byte == b' ') | (byte == b'\t');
    let begins = |byte: u8| (byte == b':') | is_blank(byte);
    let opens = |byte: u8| (byte == b',') | (byte == b'[');
    let ends = |byte: u8| (byte == b',') | (byte == b'}') | (byte == b']') | (byte | 0x20 == b'e') | is_blank(byte);
    document.array_windows().fold(false, |found, &[before, sign, zero, digit]| {
        // Dates and times have `:05` and `-05` behind digits.
        let is_first = (begins(sign) & !before.is_ascii_digit())
            | opens(sign)
            | ((sign == b'-') & (begins(before) | opens(before)));
        let has_zero = (zero == b'0') & digit.is_ascii_digit() & is_first;
        let has_point = (zero == b'.') & sign.is_ascii_digit() & ends(digit);
        found | has_zero | has_point
    })
}

/// The first number of a document that JSON does not have.
fn odd_number(document: &[u8]) -> Option<&[u8]> {
    let mut passed = 0;
    for place in outside_strings(document) {
        let is_number = document[place].is_ascii_digit() || document[place] == b'-';
        if place < passed || !is_number {
            continue;
        }
        let rest = &document[place..];
        let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        if is_odd(&rest[..length]) {
            return Some(&rest[..length]);
        }
        passed = place + length;
    }
    None
}

fn is_odd(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    let has_zeros = matches!(digits, [b'0', second, ..] if second.is_ascii_digit());
    let point = digits.iter().position(|byte| *byte == b'.');
    has_zeros || point.is_some_and(|point| !digits.get(point + 1).is_some_and(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_have() {
        for text in [
            "{\"a\":05}",
            "{\"a\": -05}",
            "{\"a\":[1,00]}",
            "{\"a\":1.}",
            "{\"a\":[1.e5 ]}",
            "{\"a\":-0.}",
            "{\"a\" :\t01}",
        ] {
            assert!(objection(text.as_bytes()).is_some_and(|why| why.ends_with("is no number")), "{text}");
        }
        for text in [
            "{\"a\":0,\"b\":-0.5,\"c\":[0,10,0.0,1e05],\"d\":100.05}",
            "{\"at\":\"2026-01-05T12:05:00 05:00\",\"b\":\"a: 05, 1. [07\",\"c\":\"\\\" :05\"}",
        ] {
            assert_eq!(objection(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn brackets_in_strings_are_not_deep() {
        let brackets = "[".repeat(1000);
        assert_eq!(objection(format!("{{\"a\":\"{brackets}\"}}").as_bytes()), None);
        assert!(objection(brackets.as_bytes()).is_some());
    }
}
