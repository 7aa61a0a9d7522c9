//! The samples of inputs.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use millstream_testkit::{InputSamples, Lacks, Source};

use super::{rows, write};

/// 9 lines, of which 2 can't be read, and one has a value that is missing.
const LINES: &str = "{\"n\": 0, \"text\": \"a\"}\n{\"n\": 1}\nno row\n{\"n\": 3, \"text\": \"d\"}\n{\"n\": 4, \"text\": \"e\"}\n\
                     {\"n\": \"x\", \"text\": \"f\"}\n{\"n\": 6, \"text\": \"g\"}\n{\"n\": 7, \"text\": \"h\"}\n{\"n\": 8, \"text\": null}\n";

/// The columns of these lines.
const SCHEMA: &str = "schema = { n = \"int64\", text = \"utf8?\" }";

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

pub fn file() -> InputSamples {
    let lines = |path: &str, more: &str| format!("path = '{path}'\n{SCHEMA}\n{more}");
    InputSamples {
        node: "file",
        sources: vec![
            Source::new(
                "path = 'data/*.csv'\nschema = { n = 'int64', text = 'utf8?', amount = 'float64' }",
                35,
                3,
                |folder| {
                    write(&folder.join("data/a.csv"), &rows(12));
                    append(&folder.join("data/a.csv"), "x,,1,\n12,\"two\nlines\",1,\n13,,y,\n");
                    write(&folder.join("data/b.csv"), &rows(0));
                    write(&folder.join("data/c.csv"), &rows(22));
                    append(&folder.join("data/c.csv"), "14,,,\n");
                },
            ),
            Source::new("path = 'a.csv.gz'", 20, 0, |folder| write(&folder.join("a.csv.gz"), &rows(20))),
            Source::new(lines("*.ndjson", ""), 14, 4, |folder| {
                fs::write(folder.join("a.ndjson"), LINES).unwrap();
                fs::write(folder.join("b.ndjson"), LINES.trim_end()).unwrap();
            }),
            Source::new(lines("a.json", ""), 3, 1, |folder| {
                fs::write(
                    folder.join("a.json"),
                    "[{\"n\": 0},\n {\"n\": \"x\"}, {\"n\": 2, \"text\": \"c\"},\n{\"n\": 3}]",
                )
                .unwrap();
            }),
            Source::new("path = 'data/*.parquet'", 34, 0, |folder| {
                write(&folder.join("data/a.parquet"), &rows(20));
                write(&folder.join("data/b.parquet"), &rows(0));
                write(&folder.join("data/c.parquet"), &rows(14));
            }),
            Source::new("path = 'a.arrow'", 20, 0, |folder| write(&folder.join("a.arrow"), &rows(20))),
            Source::new(lines("*.ndjson", "once = 'new_files'"), 14, 4, |folder| {
                fs::write(folder.join("a.ndjson"), LINES).unwrap();
                fs::write(folder.join("b.ndjson"), LINES).unwrap();
            }),
            Source::new(lines("*.ndjson", "follow = true"), 14, 4, |folder| {
                fs::write(folder.join("a.ndjson"), &LINES[..50]).unwrap();
                fs::write(folder.join("b.ndjson"), &LINES[..90]).unwrap();
            })
            .with_rest(|folder| {
                append(&folder.join("a.ndjson"), &LINES[50..]);
                append(&folder.join("b.ndjson"), &LINES[90..]);
            }),
            Source::new("path = 'a.csv'\nfollow = true\nschema = { n = 'int64' }", 3, 1, |folder| {
                fs::write(folder.join("a.csv"), "n\n0\n1\nx\n").unwrap();
            })
            .with_rest(|folder| append(&folder.join("a.csv"), "3\n")),
            Source::new(lines("a.ndjson", ""), 0, 0, |folder| fs::write(folder.join("a.ndjson"), "").unwrap()),
            Source::new("path = 'a.parquet'", 0, 0, |folder| write(&folder.join("a.parquet"), &rows(0))),
            Source::new(lines("*.ndjson", "follow = true"), 0, 0, |_| {}),
            Source::new(lines("*.ndjson", "once = 'new_files'"), 0, 0, |_| {}),
        ],
        wrong: &[
            ("path = 'data/no.csv'", "path"),
            ("path = ['data/a.csv', 'data/no.csv']", "path.1"),
            ("path = 'data/a.csv'\nformat = { type = 'csv', timezone = 'Mars' }", "format.timezone"),
            ("path = 'data/a.csv'\nschema = { n = 'list<int64>' }", "schema"),
            ("path = 'data/a.csv'\nschema = { n = 'int65' }", "schema.n"),
            ("path = 'data/*.csv'\nfollow = true", "follow"),
            ("path = 'data/*.csv'\nfollow = true\nonce = 'new_files'", "once"),
        ],
        excuses: &[],
    }
}

pub fn stdin() -> InputSamples {
    let settings = format!("format = 'ndjson'\n{SCHEMA}");
    InputSamples {
        node: "stdin",
        sources: vec![
            Source::new(settings.clone(), 7, 2, |folder| replace_stdin(folder, LINES)),
            Source::new("format = 'csv'\nschema = { n = 'int64?' }", 2, 1, |folder| {
                replace_stdin(folder, "n\n1\nx\n\"\"\n");
            }),
            Source::new(settings, 0, 0, |folder| replace_stdin(folder, "")),
        ],
        wrong: &[
            ("format = 'csv'\nschema = { n = 'list<int64>' }", "schema"),
            ("format = { type = 'csv', delimiter = 'é' }\nschema = { n = 'int64' }", "format.delimiter"),
        ],
        excuses: &[(Lacks::Resuming, "the standard input can't be read twice")],
    }
}

/// Lets the standard input of this process be a text. No other test reads it.
fn replace_stdin(folder: &Path, text: &str) {
    let path = folder.join("stdin");
    fs::write(&path, text).unwrap();
    rustix::stdio::dup2_stdin(File::open(path).unwrap()).unwrap();
}

pub fn http_listen() -> InputSamples {
    let port = millstream_testkit::free_port();
    let settings = |format: &str| format!("address = '127.0.0.1:{port}'\nformat = '{format}'\n{SCHEMA}");
    InputSamples {
        node: "http_listen",
        sources: vec![
            Source::new(settings("ndjson"), 10, 0, |_| {}).with_rest(move |_| {
                let lines = |numbers: std::ops::Range<i32>| -> String {
                    numbers
                        .map(|n| format!("{{\"n\": {n}{}}}\n", if n % 2 == 0 { ", \"text\": \"x\"" } else { "" }))
                        .collect()
                };
                post(port, &lines(0..4));
                post(port, &lines(4..5));
                post(port, &lines(5..10));
            }),
            Source::new(settings("csv"), 0, 0, |_| {}),
            Source::new(format!("{}\nrespond = {{ column = 'position' }}", settings("csv")), 0, 0, |_| {}),
        ],
        wrong: &[
            ("respond = { column = 'n' }\nformat = 'csv'\nschema = { n = 'int64' }", "respond.column"),
            ("address = '0.0.0.0:80'\nformat = 'csv'\nschema = { n = 'int64' }", "address"),
            ("path = 'x'\nformat = 'csv'\nschema = { n = 'int64' }", "path"),
            ("format = 'csv'\nschema = { n = 'list<int64>' }", "schema"),
            ("max_log = '1kB'\nformat = 'csv'\nschema = { n = 'int64' }", "max_log"),
        ],
        excuses: &[(Lacks::Refusals, "rows that can't be read are refused at the door, and their request with them")],
    }
}

pub fn dead_letters() -> InputSamples {
    let lines = LINES.lines().filter(|line| line.starts_with('{') && !line.contains("\"x\"")).map(str::to_owned);
    InputSamples {
        node: "dead_letters",
        sources: vec![Source::new(SCHEMA, 7, 0, |_| {}).with_given(lines), Source::new(SCHEMA, 0, 0, |_| {})],
        wrong: &[("max_log = '1kB'\nschema = { n = 'int64' }", "max_log")],
        excuses: &[(Lacks::Refusals, "rows that can't be read are refused at the door")],
    }
}

fn post(port: u16, body: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let header = format!("Host: localhost\r\nConnection: close\r\nContent-Length: {}", body.len());
    write!(stream, "POST / HTTP/1.1\r\n{header}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
