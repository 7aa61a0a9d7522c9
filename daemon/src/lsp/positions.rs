//! Places in a text as editors count them: lines and UTF-16 units from 0.

use std::ops::Range;

use lsp_types::{Position, Range as Marked};
use millstream_engine::file::Place;

/// The byte at a position. Behind the end of a line, its end; behind the last line, that of the text.
pub fn offset(text: &str, position: Position) -> usize {
    let start = match position.line {
        0 => 0,
        line => match text.match_indices('\n').nth(line as usize - 1) {
            Some((newline, _)) => newline + 1,
            None => return text.len(),
        },
    };
    let line = text[start..].split(['\n', '\r']).next().unwrap_or_default();
    let mut units = 0;
    for (index, letter) in line.char_indices() {
        if units >= position.character as usize {
            return start + index;
        }
        units += letter.len_utf16();
    }
    start + line.len()
}

/// The position of a byte.
pub fn position(text: &str, offset: usize) -> Position {
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position::new(before.matches('\n').count() as u32, units(&before[start..]))
}

/// The positions of bytes.
pub fn range(text: &str, span: &Range<usize>) -> Marked {
    Marked::new(position(text, span.start), position(text, span.end))
}

/// What a diagnostic marks.
pub fn marked(place: &Place) -> Marked {
    let mut letters = place.source_line.chars();
    let before: String = letters.by_ref().take(place.column - 1).collect();
    let inside: String = letters.take(place.length).collect();
    let (line, start) = (place.line as u32 - 1, units(&before));
    Marked::new(Position::new(line, start), Position::new(line, start + units(&inside)))
}

fn units(text: &str) -> u32 {
    text.encode_utf16().count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn umlauts_are_one_unit_and_emoji_two() {
        let text = "ä = 1\r\nb = '\u{1F600}ü'\n";
        for (offset_of, line, character) in [(0, 0, 0), (2, 0, 1), (8, 1, 0), (13, 1, 5), (17, 1, 7), (19, 1, 8)] {
            assert_eq!(position(text, offset_of), Position::new(line, character));
            assert_eq!(offset(text, Position::new(line, character)), offset_of);
        }
        assert_eq!(offset(text, Position::new(0, 90)), 6, "before the line break");
        assert_eq!(offset(text, Position::new(1, 6)), 17, "in the middle of a letter");
        assert_eq!(offset(text, Position::new(9, 0)), text.len());
    }

    #[test]
    fn what_is_marked_is_counted_in_units() {
        let place = Place { line: 3, column: 3, length: 2, source_line: "\u{1F600}ä\u{1F600}b".to_owned() };
        assert_eq!(marked(&place), Marked::new(Position::new(2, 3), Position::new(2, 6)));
        let behind = Place { line: 1, column: 2, length: 1, source_line: "a".to_owned() };
        assert_eq!(marked(&behind), Marked::new(Position::new(0, 1), Position::new(0, 1)));
    }
}
