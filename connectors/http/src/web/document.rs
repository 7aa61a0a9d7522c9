//! Pages as trees. One that is built to take time or memory is given up while it is read: each element is compared with those that it lies
//! in, and a few bytes can make many.

use html5ever::driver::{ParseOpts, parse_document};
use html5ever::tendril::{StrTendril, TendrilSink as _};
use millstream_core::{Error, Result};
use scraper::{Html, HtmlTreeSink};

/// How many elements may lie within each other. Browsers show no deeper ones either.
const MOST_DEEP: usize = 512;

/// How many bytes are read between two looks at the tree.
const PIECE: usize = 1024;

/// How many bytes a page has for each of its nodes at least, but for so many nodes that any may have.
const BYTES_PER_NODE: usize = 2;
const FREE_NODES: usize = 10_000;

/// Reads a page.
///
/// # Errors
/// If it is deeper, or has more nodes, than pages that people read.
pub fn parse(html: &str) -> Result<Html> {
    let mut parser = parse_document(HtmlTreeSink::new(Html::new_document()), ParseOpts::default());
    let (mut nodes, mut rest) = (0, html);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.floor_char_boundary(PIECE));
        parser.process(StrTendril::from(piece));
        let page = parser.tokenizer.sink.sink.0.borrow();
        nodes = check(&page, nodes, html.len() - behind.len())?;
        rest = behind;
    }
    Ok(parser.finish())
}

/// Looks at the nodes behind those that are known. Returns how many there are.
fn check(page: &Html, known: usize, read: usize) -> Result<usize> {
    let nodes = page.tree.nodes();
    let count = nodes.len();
    if count > read / BYTES_PER_NODE + FREE_NODES {
        return Err(Error::new(format!("it makes {count} nodes of {read} bytes, as no page does that people read")));
    }
    if nodes.rev().take(count - known).any(|node| node.ancestors().take(MOST_DEEP + 2).count() > MOST_DEEP + 1) {
        return Err(Error::new(format!("its elements lie more than {MOST_DEEP} deep within each other")));
    }
    Ok(count)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Why a page is given up.
    fn refusal(html: &str) -> String {
        parse(html).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn pages_are_read_as_a_whole() {
        let html = "<p>ä<b>b</b><table><td>c</table>".repeat(1000);
        assert_eq!(parse(&html).unwrap(), Html::parse_document(&html));
        assert_eq!(parse("").unwrap(), Html::parse_document(""));
        assert!(parse(&"<i>".repeat(500)).is_ok());
    }

    /// Each would take minutes, or all memory.
    #[test]
    fn hostile_pages_are_given_up() {
        const LARGE: usize = 16 << 20;
        let deep = format!("its elements lie more than {MOST_DEEP} deep within each other");
        for piece in ["<div>", "<p><div>", "<table><tr><td>", "<svg><g>"] {
            assert_eq!(refusal(&piece.repeat(LARGE / piece.len())), deep, "{piece}");
        }
        // Elements that say how text looks are opened anew in each paragraph.
        let opened: String = (0..400).map(|number| format!("<b id={number}>")).collect();
        let why = refusal(&format!("<p>{opened}{}", "</p><p>x".repeat(LARGE / 8)));
        assert!(why.starts_with("it makes ") && why.ends_with("as no page does that people read"), "{why}");
    }
}
