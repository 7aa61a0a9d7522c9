//! The suite that every node passes, with a service.

use std::path::Path;
use std::rc::Rc;

use millstream_core::NodeTypes;
use millstream_testkit::{InputSamples, OutputSamples, Source, Target, check_inputs, check_outputs, table};

use crate::register;
use crate::server_for_tests::{Asked, Server, Shelves, json};

/// 9 records, of which 2 can't be read, and one has a value that is missing.
const RECORDS: [&str; 9] = [
    r#"{ "n": 0, "at": "2026-01-01T00:00:00Z", "text": "a" }"#,
    r#"{ "n": 1, "at": "2026-01-01T00:00:01Z" }"#,
    r#"{ "n": "x", "at": "2026-01-01T00:00:02Z" }"#,
    r#"{ "n": 3, "at": "2026-01-01T00:00:03Z", "text": "d" }"#,
    r#"{ "n": 4, "at": "2026-01-01T00:00:04Z", "text": null }"#,
    r#"{ "n": 5, "at": "2026-01-01T00:00:05Z", "text": 5.50 }"#,
    r#"[]"#,
    r#"{ "n": 7, "at": "2026-01-01T00:00:07Z", "text": "h" }"#,
    r#"{ "n": 8, "at": "2026-01-01T00:00:08Z", "text": "i" }"#,
];

/// Pages of at most so many records, with the mark of the next one; only those that are new.
fn pages(asked: &Asked, size: usize) -> String {
    let since = asked.parameter("since").unwrap_or_default();
    let is_new = |record: &&&str| record.split("\"at\": \"").nth(1).map_or(since.is_empty(), |at| at[..20] >= *since);
    let records: Vec<_> = RECORDS.iter().filter(is_new).collect();
    let start: usize = asked.parameter("cursor").map_or(0, |mark| mark.parse().unwrap());
    let end = records.len().min(start + size);
    let next = if end < records.len() { format!("\"{end}\"") } else { "null".to_owned() };
    let page: Vec<_> = records[start.min(end)..end].iter().map(|record| (**record).to_owned()).collect();
    format!(r#"{{ "data": [{}], "next": {next} }}"#, page.join(", "))
}

#[test]
fn inputs() {
    let server = Rc::new(Server::start(|asked| match asked.path.split('?').next().unwrap_or_default() {
        "/few" => json(pages(asked, 2)),
        "/all" => json(pages(asked, 100)),
        "/robots.txt" => json("User-agent: *\nAllow: /\n"),
        "/offers" => html(asked),
        _ => json(r#"{ "data": [] }"#),
    }));
    let mut types = NodeTypes::default();
    register(&mut types);
    let source = |path: &str, rows: usize, refused: usize, more: &str| {
        let settings = format!(
            "url = '{}'\npath = '{path}'\nrecords = '$.data'\nschema = {{ n = 'int64', text = 'utf8?' }}\nevery = '1h'\n\
             since = {{ field = '$.at', parameter = 'since' }}\n{more}",
            server.url
        );
        let server = server.clone();
        Source::new(settings, rows, refused, move |_| _ = &server)
    };
    let cursor = "pages = { type = 'cursor', next = '$.next' }\n";
    let sources = vec![
        source("few", 7, 2, cursor),
        source("few", 7, 2, &format!("{cursor}bounded = true")),
        source("all", 7, 2, ""),
        source("none", 0, 0, ""),
        source("none", 0, 0, "bounded = true"),
    ];
    let site = |path: &str, more: &str| {
        let settings = format!(
            "url = '{}'\npath = '{path}'\nrows = 'p'\ncolumns = {{ n = '.n', text = '.text' }}\n\
             schema = {{ n = 'int64', text = 'utf8?' }}\nrate = '10000/s'\n{more}",
            server.url
        );
        let server = server.clone();
        move |rows, refused| Source::new(settings, rows, refused, move |_| _ = &server)
    };
    let sites = vec![
        site("offers", "follow = { links = 'a.next', depth = 9 }")(7, 2),
        site("offers", "follow = { links = 'a.next', depth = 9 }\nbounded = true")(7, 2),
        site("offers", "")(3, 1),
        site("offers?from=9", "")(0, 0),
        site("offers?from=9", "bounded = true")(0, 0),
    ];
    let samples = [
        InputSamples { node: "http_poll", sources, wrong: WRONG, excuses: &[] },
        InputSamples { node: "web_page", sources: sites, wrong: WRONG_SITES, excuses: &[] },
    ];
    check_inputs(&types, &samples);
}

/// Pages of at most 4 rows, each with a link to the next one. There are 9, of which 2 can't be read.
fn html(asked: &Asked) -> crate::server_for_tests::Answer {
    let start: usize = asked.parameter("from").map_or(0, |from| from.parse().unwrap());
    let end = 9.min(start + 4);
    let row = |n: usize| {
        let number = if n % 5 == 2 { "x".to_owned() } else { n.to_string() };
        let text = if n.is_multiple_of(3) { String::new() } else { format!("<b class=text>{n} &amp;\n more</b>") };
        format!("<p><i class=n> {number} </i>{text}</p>")
    };
    let rows: String = (start..end).map(row).collect();
    let next = if end < 9 { format!("<a class=next href='?from={end}'>more</a>") } else { String::new() };
    let mut answer = json(format!("<html><body>{rows}{next}<a href='/elsewhere'>else</a>"));
    answer.headers_mut().insert("content-type", "text/html; charset=utf-8".parse().unwrap());
    answer
}

const WRONG_SITES: &[(&str, &str)] = &[
    ("url = 'nowhere'\ncolumns = { n = 'p' }\nschema = { n = 'int64' }", "url"),
    ("url = 'https://a/'\npath = []\ncolumns = { n = 'p' }\nschema = { n = 'int64' }", "path"),
    ("url = 'https://a/'\npath = 'https://b/'\ncolumns = { n = 'p' }\nschema = { n = 'int64' }", "path"),
    ("url = 'https://a/'\nrows = '::'\ncolumns = { n = 'p' }\nschema = { n = 'int64' }", "rows"),
    ("url = 'https://a/'\ncolumns = { n = '<' }\nschema = { n = 'int64' }", "columns.n"),
    ("url = 'https://a/'\ncolumns = { n = 'p', m = 'p' }\nschema = { n = 'int64' }", "columns.m"),
    ("url = 'https://a/'\ncolumns = { n = 'p' }\nschema = { n = 'int64', m = 'utf8' }", "schema.m"),
    ("url = 'https://a/'\ncolumns = { n = 'p' }\nschema = { n = 'int64' }\nfollow = { links = '::' }", "follow.links"),
    ("url = 'https://a/'\ncolumns = { n = 'p' }\nschema = { n = 'int64' }\nagent = 'a b'", "agent"),
    ("url = 'https://a/'\ncolumns = { n = 'p' }\nschema = { n = 'int64' }\nevery = '0s'", "every"),
    ("url = 'https://a/'\ncolumns = { n = 'p' }\nschema = { n = 'int64' }\nmax_log = '1MiB'", "max_log"),
];

const WRONG: &[(&str, &str)] = &[
    ("url = 'nowhere'\nschema = { n = 'int64' }", "url"),
    ("url = 'ftp://a/'\nschema = { n = 'int64' }", "url"),
    ("url = 'https://ada:secret@a/'\nschema = { n = 'int64' }", "url"),
    ("url = 'https://a/'\npath = 'http://b/x'\nschema = { n = 'int64' }", "path"),
    ("url = 'https://a/'\nschema = { n = 'int64' }\nheaders = { 'a b' = 'c' }", "headers.a b"),
    ("url = 'https://a/'\nschema = { n = 'int64' }\nevery = '0s'", "every"),
    ("url = 'https://a/'\nschema = { n = 'int64' }\nmax_log = '1MiB'", "max_log"),
    ("url = 'https://a/'\nschema = { n = 'int64' }\ntimeouts = { request = '0s' }", "timeouts.request"),
    ("url = 'https://a/'\nschema = { n = 'int64' }\ntls = { ca = 'none.pem' }", "tls.ca"),
    ("url = 'https://a/'\nschema = { n = 'int64' }\npages = { type = 'page', size = 0 }", "pages.size"),
    (
        "url = 'https://a/'\nschema = { n = 'int64' }\nsince = { field = '$.at', parameter = 's', start = 'x' }",
        "since.start",
    ),
    (
        "url = 'https://a/'\nschema = { n = 'int64' }\nauth = { type = 'api_key', header = 'a b', key = 'c' }",
        "auth.header",
    ),
];

#[test]
fn outputs() {
    let shelves = Shelves::default();
    let taking = shelves.clone();
    let server = Rc::new(Server::start(move |asked| taking.take(asked)));
    let mut types = NodeTypes::default();
    register(&mut types);
    let target = |more: &str| {
        let settings = format!("url = '{}'\npath = 'FOLDER'\ndelivery = 'exactly_once'\n{more}", server.url);
        let (server, shelves) = (server.clone(), shelves.clone());
        Target::new(settings, move |folder: &Path| {
            let _ = &server;
            let bodies = shelves.on(&format!("/{}", folder.file_name().unwrap().to_str().unwrap()));
            bodies.iter().flat_map(|body| body.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
        })
    };
    let targets = vec![
        target("format = 'ndjson'\nrequest_rows = 3"),
        target("format = { type = 'csv', header = false }\nrequest_bytes = '30B'"),
        target("message = 'json'"),
    ];
    let texts = ["plain", "\"two words\"", "null", "ü,;"];
    let lines: Vec<_> = (0..23).map(|n: usize| format!("{n} {} {}.5", texts[n % 4], n * 3)).collect();
    let rows = table(&format!("n:int64 text:utf8? amount:float64\n{}", lines.join("\n")));
    check_outputs(&types, &[OutputSamples { node: "http", targets, wrong: WRONG_OUTPUTS, excuses: &[] }], &rows);
}

const WRONG_OUTPUTS: &[(&str, &str)] = &[
    ("url = 'nowhere'\nformat = 'json'", "url"),
    ("url = 'https://a/'\npath = 'https://b/x'\nformat = 'json'", "path"),
    ("url = 'https://a/'\npath = { column = 'nobody' }\nformat = 'json'", "path.column"),
    ("url = 'https://a/'\npath = { column = 'n' }\nformat = 'json'", "path.column"),
    ("url = 'https://a/'\npath = { column = 'text', hosts = ['b'] }\nformat = 'json'", "path.hosts.0"),
    ("url = 'https://a/'", "format"),
    ("url = 'https://a/'\nformat = 'json'\nmessage = 'json'", "message"),
    ("url = 'https://a/'\nmessage = 'raw'", "message"),
    ("url = 'https://a/'\nformat = { type = 'csv', delimiter = 'é' }", "format.delimiter"),
    ("url = 'https://a/'\nformat = 'table'", "format"),
    ("url = 'https://a/'\nformat = 'csv'\ncompression = 'bzip2'", "compression"),
    ("url = 'https://a/'\nformat = 'arrow'\ncompression = 'gzip'", "compression"),
    ("url = 'https://a/'\nformat = 'json'\nauth = { type = 'api_key', header = 'a b', key = 'c' }", "auth.header"),
];
