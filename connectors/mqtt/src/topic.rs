//! Topics: which there can be, and which patterns of them.

/// The most bytes that a topic has.
const LONGEST: usize = 65535;

/// Why there can be no topic of that name to send to.
pub fn wrong_name(topic: &str) -> Option<&'static str> {
    match topic {
        "" => Some("a topic has one letter at least"),
        _ if topic.contains(['+', '#']) => Some("`+` and `#` stand for several topics, and rows go to one"),
        _ => unwritable(topic),
    }
}

/// Why topics can't be chosen by that.
pub fn wrong_filter(filter: &str) -> Option<&'static str> {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        if level.contains('+') && level != "+" {
            return Some("a `+` stands for a whole level: `rooms/+/temperature`");
        }
        if level.contains('#') && (level != "#" || !is_last) {
            return Some("a `#` stands for all levels that follow, and so at the end: `rooms/#`");
        }
    }
    if filter.is_empty() { Some("a topic has one letter at least") } else { unwritable(filter) }
}

fn unwritable(topic: &str) -> Option<&'static str> {
    if topic.contains('\0') {
        return Some("a topic has no letter of the number 0");
    }
    (topic.len() > LONGEST).then_some("a topic has at most 65,535 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_topic_and_filters_of_several() {
        for right in ["a", "/", "rooms/1", "ä b"] {
            assert_eq!((wrong_name(right), wrong_filter(right)), (None, None), "{right}");
        }
        for filter in ["#", "+", "a/+/b", "a/#", "+/#"] {
            assert!(wrong_name(filter).is_some() && wrong_filter(filter).is_none(), "{filter}");
        }
        for wrong in ["", "a#", "#/a", "a/b+", "a\0", &"x".repeat(70_000)] {
            assert!(wrong_name(wrong).is_some() && wrong_filter(wrong).is_some(), "{wrong}");
        }
    }
}
