//! Which pages of a site are asked for, how, and what is made of them.

use std::time::Duration;

use arrow::array::{AsArray as _, RecordBatch};
use millstream_core::{Collector, Home, Input, InputSettings as _, Progress, Result};
use millstream_testkit::{context, parse};
use tokio::time::Instant;

use super::WebPageInput;
use crate::server_for_tests::{Answer, Asked, Server, json, status};

fn page(html: &str) -> Answer {
    let mut answer = json(html);
    answer.headers_mut().insert("content-type", "text/html".parse().unwrap());
    answer
}

/// The texts that a bounded input reads.
fn read(server: &Server, more: &str) -> Result<Vec<String>> {
    let columns = "columns = { text = 'h1' }\nschema = { text = 'utf8?' }";
    let settings: WebPageInput = parse(&format!(
        "url = '{}'\n{columns}\nbounded = true\nretry = {{ attempts = 2, first_pause = '1ms' }}\n{more}",
        server.url
    ));
    let mut input = (settings.plan(&context()).unwrap().build)().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        input.open(&Home::Nowhere).await?;
        read_all(input.as_mut()).await
    })
}

async fn read_all(input: &mut dyn Input) -> Result<Vec<String>> {
    let (mut out, mut texts) = (Collector::of_input(1), Vec::new());
    while input.next(&mut out).await? == Progress::More {
        let of = |rows: &RecordBatch| -> Vec<String> {
            rows.column(0).as_string::<i32>().iter().map(|text| text.unwrap_or("null").to_owned()).collect()
        };
        texts.extend(out.take(0).flat_map(|batch| of(&batch.rows)));
    }
    Ok(texts)
}

const FAST: &str = "rate = '1000/s'";

fn paths(server: &Server) -> Vec<String> {
    server.asked().into_iter().map(|asked| asked.path).collect()
}

#[test]
fn what_a_site_does_not_want_is_not_read() {
    let site = |asked: &Asked| match asked.path.as_str() {
        "/robots.txt" => json("User-agent: *\nDisallow: /secret\n\nUser-agent: bold\nDisallow: /"),
        "/" => page(
            "<h1>a</h1><a href='/secret/x'>s</a><a href='/b#here'>b</a><a href='/b'>b</a><a href='http://127.0.0.1:1/'>o</a>",
        ),
        "/b" => page("<h1>b</h1><a href=/>a</a><a href=/c>c</a>"),
        _ => page("<h1>c</h1>"),
    };
    let server = Server::start(site);
    assert_eq!(read(&server, &format!("{FAST}\nfollow = {{}}")).unwrap(), ["a", "b"]);
    assert_eq!(paths(&server), ["/robots.txt", "/", "/b"]);
    assert!(server.asked().iter().all(|asked| asked.header("user-agent").starts_with("millstream/")));
    let server = Server::start(site);
    assert_eq!(read(&server, &format!("{FAST}\nfollow = {{ depth = 2 }}")).unwrap(), ["a", "b", "c"]);
    let server = Server::start(site);
    assert_eq!(read(&server, &format!("{FAST}\nfollow = {{ depth = 2, max_pages = 2 }}")).unwrap(), ["a", "b"]);
    let server = Server::start(site);
    assert_eq!(read(&server, &format!("{FAST}\nfollow = {{ within = '/c' }}")).unwrap(), ["a"]);
    for more in ["agent = 'bold'", "path = 'secret/y'"] {
        let server = Server::start(site);
        let error = read(&server, more).unwrap_err().to_string();
        assert!(error.contains("the robots.txt of the site does not let `"), "{error}");
        assert_eq!(paths(&server), ["/robots.txt"], "nothing else was asked for");
    }
}

#[test]
fn a_site_that_does_not_say_what_it_wants_is_not_read() {
    for code in [500, 503, 302] {
        let server =
            Server::start(move |asked| if asked.path == "/robots.txt" { status(code, &[]) } else { page("x") });
        assert!(read(&server, FAST).unwrap_err().to_string().contains(&code.to_string()));
        assert!(paths(&server).iter().all(|path| path == "/robots.txt"));
    }
    let server = Server::start(|asked| if asked.path == "/robots.txt" { status(404, &[]) } else { page("<h1>x</h1>") });
    assert_eq!(read(&server, FAST).unwrap(), ["x"]);
}

#[test]
fn pages_are_read_one_a_second() {
    let server = Server::start(|asked| if asked.path == "/robots.txt" { status(404, &[]) } else { page("<h1>x</h1>") });
    let begin = Instant::now();
    assert_eq!(read(&server, "path = ['a', 'b']").unwrap(), ["x", "x"]);
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn pages_behind_links_that_are_none_are_left_out() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/robots.txt" => status(404, &[]),
        "/" => page(
            "<h1>a</h1><a href=gone>1</a><a href=pdf>2</a><a href=moved>3</a><a href=away>4</a><a href=latin>5</a>",
        ),
        "/moved" => status(301, &[("location", "/new")]),
        "/away" => status(301, &[("location", "http://127.0.0.1:1/")]),
        "/new" => page("<h1>new</h1>"),
        "/pdf" => {
            let mut answer = json("%PDF");
            answer.headers_mut().insert("content-type", "application/pdf".parse().unwrap());
            answer
        }
        "/latin" => {
            let mut answer = hyper::Response::new(http_body_util::Full::new(b"<h1>Zo\xeb</h1>".to_vec().into()));
            answer.headers_mut().insert("content-type", "text/html; charset=ISO-8859-1".parse().unwrap());
            answer
        }
        _ => status(404, &[]),
    });
    assert_eq!(read(&server, &format!("{FAST}\nfollow = {{}}")).unwrap(), ["a", "Zoë", "new"]);
    for (path, said) in [("gone", "404"), ("pdf", "it is no HTML"), ("away", "redirects are not followed")] {
        let error = read(&server, &format!("{FAST}\npath = '{path}'")).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
