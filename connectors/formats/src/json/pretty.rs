//! JSON for people to read: an item a line, indented.

/// Appends JSON that has no spaces between its tokens, with line breaks there.
pub(super) fn indent(json: &[u8], out: &mut Vec<u8>) {
    let (mut depth, mut in_string, mut is_escaped) = (0, false, false);
    let mut before = b' ';
    for byte in json.iter().copied() {
        let is_between = !in_string;
        let opens = matches!(before, b'{' | b'[') && is_between;
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
        let closes = matches!(byte, b'}' | b']') && is_between;
        depth += usize::from(opens && !closes);
        depth -= usize::from(closes && !opens);
        if opens != closes || (before == b',' && is_between) {
            out.push(b'\n');
            out.extend(std::iter::repeat_n(b' ', 2 * depth));
        }
        out.push(byte);
        if byte == b':' && is_between {
            out.push(b' ');
        }
        // What is in a text, and its last quote, opens nothing.
        before = if is_between && byte != b'"' { byte } else { b' ' };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_as_they_are() {
        let json = r#"{"a":1,"b,{\"":"[x]: {\\","c":[],"d":[{},{"e":-1.5}]}"#;
        let expected = r#"{
  "a": 1,
  "b,{\"": "[x]: {\\",
  "c": [],
  "d": [
    {},
    {
      "e": -1.5
    }
  ]
}"#;
        let mut out = Vec::new();
        indent(json.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string_pretty(&value).unwrap(), expected);
    }
}
