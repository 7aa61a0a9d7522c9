//! What is in a message: RFC 5424, or what RFC 3164 has found in use.

use arrow::array::timezone::Tz;
use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, TimeZone as _};

/// A message without a priority is of a user, and normal but significant.
const NO_PRIORITY: (i32, i32) = (1, 5);

/// A message taken apart. What it does not say is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed<'a> {
    pub facility: i32,
    pub severity: i32,
    /// In microseconds since 1970.
    pub at: Option<i64>,
    pub host: Option<&'a str>,
    pub app: Option<&'a str>,
    pub process: Option<&'a str>,
    pub message_id: Option<&'a str>,
    /// Structured data, as JSON.
    pub data: Option<String>,
    pub message: &'a str,
}

/// Takes a message apart. Those of RFC 3164 have no year, and no time zone: it is the year in which the time is nearest to when the message was received.
pub fn parse<'a>(text: &'a str, received_at: i64, zone: Tz) -> Parsed<'a> {
    let (priority, rest) = priority(text);
    let (facility, severity) = priority.unwrap_or(NO_PRIORITY);
    let parsed = match rest.strip_prefix("1 ").filter(|_| priority.is_some()) {
        Some(rest) => structured(rest),
        None => Some(traditional(rest, received_at, zone)),
    };
    // What claims to be of RFC 5424 and is not is a message nevertheless.
    let parsed = parsed.unwrap_or(Parsed { message: rest, ..Parsed::default() });
    Parsed { facility, severity, ..parsed }
}

/// The facility and the severity, and what follows.
fn priority(text: &str) -> (Option<(i32, i32)>, &str) {
    let found = || {
        let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
        let is_number = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        let number: i32 = number.parse().ok().filter(|number| is_number && *number <= 191)?;
        Some(((number / 8, number % 8), rest))
    };
    found().map_or((None, text), |(priority, rest)| (Some(priority), rest))
}

/// RFC 5424, behind the version.
fn structured(text: &str) -> Option<Parsed<'_>> {
    let mut fields = text.splitn(6, ' ');
    let mut next = || fields.next().map(|field| (field != "-").then_some(field));
    let (at, host, app, process, message_id) = (next()?, next()?, next()?, next()?, next()?);
    let at = match at {
        Some(at) => Some(DateTime::parse_from_rfc3339(at).ok()?.timestamp_micros()),
        None => None,
    };
    let rest = fields.next()?;
    let (data, rest) = match rest.strip_prefix('-') {
        Some(rest) => (None, rest),
        None => {
            let (data, rest) = elements(rest)?;
            (Some(data), rest)
        }
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let message = rest.strip_prefix(' ').unwrap_or_default();
    let message = message.strip_prefix('\u{feff}').unwrap_or(message);
    Some(Parsed { at, host, app, process, message_id, data, message, ..Parsed::default() })
}

/// Structured data as JSON, and what follows: `[a x="1"][b]` is `{"a":{"x":"1"},"b":{}}`.
fn elements(mut text: &str) -> Option<(String, &str)> {
    let mut all = serde_json::Map::new();
    while let Some(rest) = text.strip_prefix('[') {
        let end = rest.find([' ', ']'])?;
        let (id, mut rest) = rest.split_at(end);
        let mut element = serde_json::Map::new();
        while let Some(parameter) = rest.strip_prefix(' ') {
            let (name, value) = parameter.split_once("=\"")?;
            let (value, behind) = quoted(value)?;
            element.insert(name.to_owned(), value.into());
            rest = behind;
        }
        text = rest.strip_prefix(']')?;
        all.insert(id.to_owned(), element.into());
    }
    (!all.is_empty()).then(|| (serde_json::Value::from(all).to_string(), text))
}

/// What stands before a quote, and what follows. A backslash takes its meaning from a quote, a bracket and a backslash.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                escaped @ ('"' | '\\' | ']') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

/// RFC 3164, or whatever comes: a time, a host, and a program with its number before a colon.
fn traditional(text: &str, received_at: i64, zone: Tz) -> Parsed<'_> {
    let Some((at, rest)) = time(text, received_at, zone) else {
        return Parsed { message: text, ..Parsed::default() };
    };
    let Some((host, rest)) = rest.split_once(' ') else {
        return Parsed { at: Some(at), message: rest, ..Parsed::default() };
    };
    // Some leave out the host.
    let (host, rest) = if host.ends_with(':') {
        (None, &text[text.len() - host.len() - 1 - rest.len()..])
    } else {
        (Some(host), rest)
    };
    let (app, process, message) = tag(rest);
    Parsed { at: Some(at), host, app, process, message, ..Parsed::default() }
}

/// The program and its number, as far as they are there: `sshd[42]: `.
fn tag(text: &str) -> (Option<&str>, Option<&str>, &str) {
    let end = text.find(|letter: char| !(letter.is_alphanumeric() || "-_./".contains(letter))).unwrap_or(text.len());
    let (app, rest) = text.split_at(end);
    let (process, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((process, rest)) => (Some(process), rest),
        None => (None, rest),
    };
    match rest.strip_prefix(':').filter(|_| !app.is_empty()) {
        Some(message) => (Some(app), process, message.strip_prefix(' ').unwrap_or(message)),
        None => (None, None, text),
    }
}

/// The time at the beginning, and what follows it and a blank: `Jan 31 12:00:00`, or one of RFC 3339.
fn time(text: &str, received_at: i64, zone: Tz) -> Option<(i64, &str)> {
    let (first, rest) = text.split_once(' ')?;
    if let Ok(at) = DateTime::parse_from_rfc3339(first) {
        return Some((at.timestamp_micros(), rest));
    }
    let (time, rest) = (text.get(..15)?, text.get(15..)?.strip_prefix(' ')?);
    let received = DateTime::from_timestamp_micros(received_at)?.with_timezone(&zone);
    let candidates = (received.year() - 1..=received.year() + 1).filter_map(|year| {
        let local = NaiveDateTime::parse_from_str(&format!("{year} {time}"), "%Y %b %e %H:%M:%S").ok()?;
        zone.from_local_datetime(&local).earliest()
    });
    let distance = |at: &DateTime<Tz>| at.signed_duration_since(received).abs();
    let at = candidates.min_by_key(distance).filter(|at| distance(at) < TimeDelta::days(366))?;
    Some((at.timestamp_micros(), rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Parsed<'_> {
        let received = DateTime::parse_from_rfc3339("2026-01-01T00:00:10Z").unwrap();
        parse(text, received.timestamp_micros(), "Europe/Berlin".parse().unwrap())
    }

    fn micros(time: &str) -> Option<i64> {
        Some(DateTime::parse_from_rfc3339(time).unwrap().timestamp_micros())
    }

    #[test]
    fn messages_of_rfc_5424_are_taken_apart() {
        let text = r#"<165>1 2003-10-11T22:14:15.003Z host.example.com evntslog 42 ID47 [ex@1 iut="3" say="a \"b\" \] \n"][p] hello  you"#;
        let found = parsed(text);
        assert_eq!((found.facility, found.severity), (20, 5));
        assert_eq!(found.at, micros("2003-10-11T22:14:15.003Z"));
        assert_eq!((found.host, found.app), (Some("host.example.com"), Some("evntslog")));
        assert_eq!((found.process, found.message_id), (Some("42"), Some("ID47")));
        assert_eq!(found.data.as_deref(), Some(r#"{"ex@1":{"iut":"3","say":"a \"b\" ] \\n"},"p":{}}"#));
        assert_eq!(found.message, "hello  you");
        let bare = parsed("<0>1 - - - - - -");
        assert_eq!(bare, Parsed { facility: 0, severity: 0, ..Parsed::default() });
        assert_eq!(parsed("<34>1 - - - - - - \u{feff}ü").message, "ü");
    }

    #[test]
    fn messages_of_rfc_3164_get_the_year_that_is_nearest() {
        let found = parsed("<34>Dec 31 23:59:59 mymachine su[230]: 'su root' failed");
        assert_eq!((found.facility, found.severity, found.at), (4, 2, micros("2025-12-31T22:59:59Z")));
        assert_eq!((found.host, found.app, found.process), (Some("mymachine"), Some("su"), Some("230")));
        assert_eq!(found.message, "'su root' failed");
        assert_eq!(parsed("<34>Jan  1 01:00:20 m x: y").at, micros("2026-01-01T00:00:20Z"));
        let found = parsed("<13>2026-01-31T12:00:00+01:00 host kernel: oops");
        assert_eq!((found.at, found.app, found.message), (micros("2026-01-31T11:00:00Z"), Some("kernel"), "oops"));
        let found = parsed("<13>Jan  1 01:00:20 cron[7]: no host");
        assert_eq!((found.host, found.app, found.process, found.message), (None, Some("cron"), Some("7"), "no host"));
    }

    #[test]
    fn whatever_comes_is_a_message() {
        for text in [
            "",
            "hello",
            "<999>x",
            "<34",
            "<>",
            "<34>1 x",
            "<34>1 not-a-time h a p m - x",
            "<34>1 - - - - - [x",
            "12345",
        ] {
            let found = parsed(text);
            assert!(found.at.is_none() && text.ends_with(found.message), "{text}: {found:?}");
        }
        assert_eq!(parsed("<34>1 - - - - - [a b=\"c] x").message, "1 - - - - - [a b=\"c] x");
        assert_eq!((parsed("hello").facility, parsed("hello").severity), (1, 5));
    }
}
