//! Texts out of which fields are taken: lines of files, and messages.

use super::*;

/// What reads pairs of keys and values from lines.
pub(super) fn pairs(columns: &str) -> Decoder {
    decoder_of("key_value", self::columns(columns))
}

fn grok(pattern: &str) -> Value {
    json!({ "type": "grok", "pattern": pattern })
}

#[test]
fn lines_are_rows_of_one_column() {
    let text = b"first \"line\r\n\n  second\tline\n \nthird";
    let (positions, rows, failed) = read(text, &decoder_of("lines", columns("text:utf8")));
    assert_eq!((positions, failed), (vec![0, 1, 2], vec![]));
    assert_eq!(text_of(&rows), "text:utf8\n\"first \"line\"\n\"  second\tline\"\nthird\n");
    let folder = Folder::new();
    let found = inspect(&folder.file("a.log", "x")).unwrap();
    assert_eq!(found.columns, columns("line:utf8"));
    let (_, _, failed) = read(b"a\xff\nb", &decoder_of("lines", columns("text:utf8")));
    assert_eq!((failed.len(), failed[0].encoding), (1, Encoding::Base64));
    let latin = json!({ "type": "lines", "encoding": "latin-1" });
    assert_eq!(text_of(&read(b"\xe4\n", &decoder_of(latin, columns("text:utf8"))).1), "text:utf8\nä\n");
}

#[test]
fn lines_of_logs_are_rows() {
    let text = concat!(
        "Mar 14 10:00:00 gate sshd[812]: Accepted key\n",
        "Mar  4 10:00:01 10.0.0.1 kernel: up\n",
        "2026-03-14T10:00:02+01:00 host app: done\n",
        "what is this\n",
    );
    let decoder = decoder_of(grok("^%{SYSLOGLINE}$"), columns("logsource:utf8;program:utf8;pid:int32?;message:utf8"));
    let (positions, rows, failed) = read(text.as_bytes(), &decoder);
    let expected = "logsource:utf8 program:utf8 pid:int32? message:utf8\n\
                    gate sshd 812 \"Accepted key\"\n10.0.0.1 kernel null up\nhost app null done\n";
    assert_eq!((positions, text_of(&rows).as_str()), (vec![0, 1, 2], expected));
    assert_eq!((failed[0].line, failed[0].error.as_str()), (Some(4), "the text does not match the pattern"));
    let (_, rows, _) = read(text.as_bytes(), &wanting(decoder, &["pid"]));
    assert_eq!(text_of(&rows), "pid:int32?\n812\nnull\nnull\n");
}

#[test]
fn columns_of_a_pattern_are_its_fields() {
    let folder = Folder::new();
    let path = folder.file("a", "x 1");
    let decoder = decoder_of(grok("(?:%{WORD:k}|%{INT:k}) (?<n>[0-9]+)"), columns("n:int64"));
    let found = decoder.format.inspect(&path, None, 10).unwrap();
    assert_eq!(found.columns, columns("k:utf8?;n:utf8?"));
    let error = pairs("n:int64").format.inspect(&path, None, 10).unwrap_err();
    assert!(error.to_string().contains("declare them in `schema`"), "{error}");
}

/// Whole texts that patterns match, and others that they don't.
#[test]
fn patterns_match_what_their_names_say() {
    let texts = [
        ("INT", "-17", "1.5"),
        ("NUMBER", "-1.5", "1.5.2"),
        ("BASE16NUM", "0xFf", "0xg"),
        ("WORD", "wörd_1", "two words"),
        ("QUOTEDSTRING", r#""say \"so\"""#, r#""open"#),
        ("UUID", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("MAC", "00:1b:44:11:3a:b7", "00:1b:44"),
        ("IP", "192.0.2.255", "192.0.2.256"),
        ("IP", "2001:db8::8a2e:370:7334", "2001:db8::8a2e::1"),
        ("IP", "::ffff:192.0.2.1", "1:2:3:4:5:6:7"),
        ("IP", "::", ":"),
        ("IP", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9"),
        ("HOSTPORT", "db.example.org:5432", "db.example.org"),
        ("EMAILADDRESS", "ada.l@example.org", "ada.example.org"),
        ("PATH", "/var/log/x.log", "var log"),
        ("PATH", r"C:\Temp\x", "C:"),
        ("URI", "https://ada:pw@example.org:8443/a/b?c=d&e", "example.org/a"),
        ("TIMESTAMP_ISO8601", "2026-03-14T10:00:00.123+01:00", "2026-13-14T10:00:00"),
        ("TIMESTAMP_ISO8601", "2026-03-14 10:00:00", "2026-03-14"),
        ("HTTPDATE", "14/Mar/2026:10:00:00 +0100", "14/Mrz/2026:10:00:00 +0100"),
        ("SYSLOGTIMESTAMP", "Mar  4 10:00:00", "4 Mar 10:00"),
        ("DATESTAMP_RFC2822", "Sat, 14 Mar 2026 10:00:00 +0100", "Sat 14 Mar 2026"),
        ("DATE_EU", "31.12.2026", "32.12.2026"),
        ("DATE_US", "12/31/26", "31/12/26"),
        ("LOGLEVEL", "WARNING", "LOUD"),
    ];
    for (name, good, bad) in texts {
        let decoder = decoder_of(grok(&format!("^%{{{name}:x}}$")), columns("x:utf8"));
        let (positions, rows, failed) = read(format!("{good}\n{bad}\n").as_bytes(), &decoder);
        assert_eq!((positions, failed.len()), (vec![0], 1), "{name}: {good}, and not {bad}");
        assert!(text_of(&rows).contains(good.split(' ').next().unwrap()), "{name}");
    }
}

#[test]
fn texts_stand_for_null_and_for_times() {
    let format = json!({ "type": "key_value", "null_values": ["-", ""], "timestamp_format": "%d.%m.%Y %H:%M", "timezone": "Europe/Vienna" });
    let messages = [Some("n=- at='14.03.2026 10:00'"), Some("n=1"), Some("n="), Some("n=1 at=x"), None];
    let (positions, rows, failed) = messages::read(format, columns("n:int64?;at:timestamp?"), &messages);
    assert_eq!(positions, [0, 1, 2]);
    assert_eq!(rows, "n:int64? at:timestamp?\nnull 2026-03-14T09:00:00Z\n1 null\nnull null\n");
    assert!(failed[0].1.starts_with("column `at`: `x` is not a timestamp in the format"), "{failed:?}");
    assert_eq!(failed[1..], messages::refused(&[(4, "the message has no value")]));
}

#[test]
fn documents_of_xml_are_messages() {
    let format = json!({ "type": "xml", "paths": { "currency": "price/@currency" } });
    let messages = [
        Some(r#"<order id="7"><price currency="EUR">1.50</price><note/></order>"#),
        Some("<order><id>8</id><price>2</price><note> a &amp; b </note></order>"),
        Some("<order><id>x</id></order>"),
        Some("<order>"),
    ];
    let columns = columns("id:int64;price:decimal(6,2)?;currency:utf8?;note:utf8?");
    let (positions, rows, failed) = messages::read(format, columns, &messages);
    assert_eq!(positions, [0, 1]);
    let expected = "id:int64 price:decimal(6,2)? currency:utf8? note:utf8?\n7 1.50 EUR null\n8 2.00 null \"a & b\"\n";
    assert_eq!(rows, expected);
    let expected = [(2, "column `id`: `x` is not an `int64`"), (3, "the text is no XML: an element does not end")];
    assert_eq!(failed, messages::refused(&expected));
}

#[test]
fn settings_that_are_wrong_are_said() {
    let problem = |format: Value, schema: &str| {
        let format: Format<ReadMessages> = serde_json::from_value(format).unwrap();
        format.readers(&columns(schema), &millstream_testkit::context()).unwrap_err().to_string()
    };
    assert_eq!(problem(grok("%{WORD:a}"), "b:utf8"), "the pattern has no field `b`; there is only `a`");
    assert!(problem(grok("no field"), "b:utf8").starts_with("the pattern has no named group"));
    assert!(problem(json!({ "type": "regex", "pattern": "(?=a)(?<b>a)" }), "b:utf8").contains("look-around"));
    assert!(
        problem(json!({ "type": "key_value", "delimiter": "=" }), "b:utf8")
            .starts_with("`=` can't stand between pairs")
    );
    assert!(problem(json!({ "type": "xml", "paths": { "b": "a//b" } }), "b:utf8").starts_with("`a//b` is no path"));
    assert!(problem(json!({ "type": "xml", "paths": { "c": "a" } }), "b:utf8").starts_with("there is a path of `c`"));
    assert!(problem(json!("key_value"), "b:list<utf8>").contains("which a text can't hold"));
}
