//! Subjects: which there can be, and which of them are meant by a pattern.

/// Why there can be no such subject to send to.
pub fn wrong_subject(subject: &str) -> Option<&'static str> {
    wrong_filter(subject).or_else(|| {
        let is_pattern = subject.split('.').any(|token| matches!(token, "*" | ">"));
        is_pattern.then_some("`*` and `>` stand for several subjects, and rows go to one")
    })
}

/// Why subjects can't be chosen by that.
pub fn wrong_filter(filter: &str) -> Option<&'static str> {
    if filter.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return Some("it has no blanks in it");
    }
    let mut tokens = filter.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() {
            return Some("none of its parts, between the dots, is empty");
        }
        if token == ">" && tokens.peek().is_some() {
            return Some("a `>` stands for all parts that follow, and so at the end: `orders.>`");
        }
    }
    None
}

/// Whether a pattern means a subject.
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_subjects() {
        for (pattern, subject) in [("a.b", "a.b"), ("a.*", "a.b"), ("a.>", "a.b.c"), (">", "a"), ("*.b.*", "a.b.c")] {
            assert!(matches(pattern, subject), "{pattern} {subject}");
        }
        for (pattern, subject) in [("a.b", "a"), ("a", "a.b"), ("a.*", "a"), ("a.*", "a.b.c"), ("a.>", "a")] {
            assert!(!matches(pattern, subject), "{pattern} {subject}");
        }
        assert_eq!((wrong_subject("orders.new"), wrong_filter("orders.*.>")), (None, None));
        for wrong in ["", "a..b", ".a", "a b", "a.>.b", "a\n"] {
            assert!(wrong_subject(wrong).is_some() && wrong_filter(wrong).is_some(), "{wrong}");
        }
        assert!(wrong_subject("a.*").is_some());
    }
}
