//! What is asked of a service, and what is made of its answers, good and bad ones.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::Response;
use millstream_core::{Collector, Home, Input, InputSettings as _, Progress, Result};
use millstream_testkit::{context, parse};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::time::Instant;

use crate::poll::HttpPollInput;
use crate::server_for_tests::{Server, json, status};

/// The numbers of the records that a bounded input reads.
fn read(server: &Server, more: &str) -> Result<usize> {
    let settings: HttpPollInput = parse(&format!(
        "url = '{}'\nschema = {{ n = 'int64' }}\nbounded = true\nretry = {{ attempts = 3, first_pause = '1ms' }}\n{more}",
        server.url
    ));
    let plan = settings.plan(&context()).unwrap();
    let mut input = (plan.build)().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        input.open(&Home::Nowhere).await?;
        read_all(input.as_mut()).await
    })
}

async fn read_all(input: &mut dyn Input) -> Result<usize> {
    let (mut out, mut rows) = (Collector::of_input(1), 0);
    while input.next(&mut out).await? == Progress::More {
        rows += out.take(0).map(|batch| batch.len()).sum::<usize>();
    }
    Ok(rows)
}

fn refused(server: &Server, more: &str) -> String {
    read(server, more).unwrap_err().to_string()
}

#[test]
fn every_kind_of_page_is_read_to_the_last() {
    let server = Server::start(|asked| {
        let number = |name: &str| asked.parameter(name).map(|value| value.parse::<usize>().unwrap());
        let records = |from: usize, count: usize| {
            let records: Vec<_> = (from..(from + count).min(5)).map(|n| format!("{{ \"n\": {n} }}")).collect();
            format!("[{}]", records.join(", "))
        };
        match asked.path.split('?').next().unwrap_or_default() {
            "/offset" => json(records(number("offset").unwrap(), number("limit").unwrap())),
            "/page" => json(records((number("page").unwrap() - 1) * 2, 2)),
            "/link" => {
                let page = number("page").unwrap_or(0);
                let mut answer = json(records(page * 2, 2));
                let next = format!("</link?page={}>; rel=\"next\"", page + 1);
                if page < 2 {
                    answer.headers_mut().insert("link", next.parse().unwrap());
                }
                answer
            }
            _ => json(records(0, 5)),
        }
    });
    assert_eq!(read(&server, "path = 'offset'\npages = { type = 'offset', size = 2 }").unwrap(), 5);
    assert_eq!(read(&server, "path = 'page'\npages = { type = 'page', size = 2 }").unwrap(), 5);
    assert_eq!(read(&server, "path = 'link'\npages = { type = 'link' }").unwrap(), 5);
    assert_eq!(read(&server, "query = { a = 'b c' }").unwrap(), 5);
    assert_eq!(server.asked().last().unwrap().path, "/?a=b+c");
}

#[test]
fn who_asks_is_said() {
    let server = Server::start(|asked| {
        let is_known = ["Bearer geheim", "Basic YWRhOmdlaGVpbQ=="].contains(&asked.header("authorization"))
            || asked.header("x-key") == "geheim";
        if is_known && asked.header("accept") == "text/x" { json("[]") } else { status(401, &[]) }
    });
    for auth in [
        "{ type = 'bearer', token = 'geheim' }",
        "{ type = 'basic', username = 'ada', password = 'geheim' }",
        "{ type = 'api_key', header = 'X-Key', key = 'geheim' }",
    ] {
        assert_eq!(read(&server, &format!("headers = {{ Accept = 'text/x' }}\nauth = {auth}")).unwrap(), 0, "{auth}");
    }
    let said = refused(&server, "auth = { type = 'bearer', token = 'canary' }");
    assert!(said.contains("401 Unauthorized: for a reason; see `auth`") && !said.contains("canary"), "{said}");
    assert_eq!(server.asked().len(), 4, "what is refused is not asked again");
}

#[test]
fn tokens_are_given_and_renewed() {
    let given = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        if asked.path == "/token" {
            assert_eq!(asked.body, "grant_type=client_credentials&scope=read+all");
            assert_eq!(asked.header("authorization"), "Basic Zmxvd3M6Z2VoZWlt");
            let number = given.fetch_add(1, Ordering::SeqCst);
            // The first one is not good for long, and the second one is refused before its time.
            let lasts = if number == 0 { 0 } else { 3600 };
            return json(format!(r#"{{ "access_token": "token-{number}", "expires_in": {lasts} }}"#));
        }
        let page: usize = asked.parameter("page").unwrap().parse().unwrap();
        match (page, asked.header("authorization")) {
            (1, "Bearer token-0") | (2, "Bearer token-1") | (3, "Bearer token-2") => {
                json(if page < 3 { "[{ \"n\": 1 }]" } else { "[]" })
            }
            (3, "Bearer token-1") => status(401, &[]),
            other => panic!("{other:?}"),
        }
    });
    let auth = |server: &Server| {
        let client = "client_id = 'flows', client_secret = 'geheim', scope = 'read all'";
        format!("auth = {{ type = 'oauth2', token_url = '{}/token', {client} }}", server.url)
    };
    assert_eq!(read(&server, &format!("pages = {{ type = 'page', size = 1 }}\n{}", auth(&server))).unwrap(), 2);
    let paths: Vec<_> = server.asked().into_iter().map(|asked| asked.path).collect();
    let expected = ["/token", "/?page=1", "/token", "/?page=2", "/?page=3", "/token", "/?page=3"];
    assert_eq!(paths, expected);
    // A token that is refused again and again is an error.
    let server = Server::start(|asked| match asked.path.as_str() {
        "/token" => json(r#"{ "access_token": "canary" }"#),
        _ => status(401, &[]),
    });
    let said = refused(&server, &auth(&server));
    assert!(said.contains("401") && !said.contains("canary"), "{said}");
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn what_may_be_over_in_a_while_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => status(503, &[]),
        1 => status(429, &[("retry-after", "1")]),
        _ => json("[{ \"n\": 1 }]"),
    });
    let begin = Instant::now();
    assert_eq!(read(&server, "").unwrap(), 1);
    assert!(begin.elapsed() >= Duration::from_secs(1), "it is left alone for as long as it asks");
    let server = Server::start(|_| status(503, &[]));
    assert!(refused(&server, "").contains("503 Service Unavailable: for a reason"));
    assert_eq!(server.asked().len(), 3);
    for code in [400, 403, 404, 405, 422, 501] {
        let server = Server::start(move |_| status(code, &[]));
        assert!(refused(&server, "").contains(&code.to_string()));
        assert_eq!(server.asked().len(), 1, "{code}");
    }
}

#[test]
fn redirects_are_not_followed() {
    let other = Server::start(|_| json("[]"));
    let location = other.url.clone();
    let server = Server::start(move |_| status(302, &[("location", &location)]));
    let said = refused(&server, "auth = { type = 'bearer', token = 'canary' }");
    assert!(said.contains("redirects are not followed"), "{said}");
    assert!(other.asked().is_empty());
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn answers_have_limits_also_behind_their_compression() {
    let server = Server::start(|asked| {
        assert_eq!(asked.header("accept-encoding"), "gzip");
        let (body, is_gzip) = match asked.path.as_str() {
            "/small" => (gzip(b"[{ \"n\": 1 }]"), true),
            "/bomb" => (gzip(&vec![b' '; 64 << 20]), true),
            "/cut" => (gzip(b"[{ \"n\": 1 }]")[..20].to_vec(), true),
            _ => (vec![b' '; 2 << 20], false),
        };
        let mut answer = Response::new(Full::new(body.into()));
        if is_gzip {
            answer.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        }
        answer
    });
    let limit = "max_response = '1MiB'";
    assert_eq!(read(&server, &format!("path = 'small'\n{limit}")).unwrap(), 1);
    for path in ["bomb", "large"] {
        let said = refused(&server, &format!("path = '{path}'\n{limit}"));
        assert!(said.contains("an answer has more than 1MiB (`max_response`)"), "{said}");
    }
    assert!(refused(&server, "path = 'cut'").contains("the answer is no gzip"));
}

#[test]
fn what_is_no_json_is_refused() {
    let server = Server::start(|_| json("<html>"));
    let said = refused(&server, "");
    assert!(said.starts_with(&format!("reading the answer of `{}/`: the answer is no JSON", server.url)), "{said}");
}

#[test]
fn no_more_is_asked_than_allowed() {
    let server =
        Server::start(|asked| json(if asked.parameter("page").unwrap() == "4" { "[]" } else { "[{ \"n\": 1 }]" }));
    let begin = Instant::now();
    assert_eq!(read(&server, "rate = '10/s'\npages = { type = 'page', size = 1 }").unwrap(), 3);
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
}

#[test]
fn what_has_not_changed_is_not_read_again() {
    let server = Server::start(|asked| match asked.header("if-none-match") {
        "\"1\"" => status(304, &[]),
        _ => {
            let mut answer = json("[{ \"n\": 1 }]");
            answer.headers_mut().insert("etag", "\"1\"".parse().unwrap());
            answer
        }
    });
    let settings: HttpPollInput = parse(&format!("url = '{}'\nschema = {{ n = 'int64' }}\nevery = '5ms'", server.url));
    let mut input = (settings.plan(&context()).unwrap().build)().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        input.open(&Home::Nowhere).await.unwrap();
        let mut out = Collector::of_input(1);
        assert_eq!(input.next(&mut out).await.unwrap(), Progress::More);
        let three = async {
            while server.asked().len() < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = input.next(&mut out) => panic!("a row came again"),
            () = three => {}
        }
    });
}

/// Makes a certificate of its own authority, and its key.
fn certificate(folder: &Path, name: &str) {
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let mut command = std::process::Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    command.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:false",
    ]);
    let made = command.arg("-keyout").arg(key).arg("-out").arg(certificate).output().expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn of_folder(folder: &Path, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificates = CertificateDer::pem_file_iter(folder.join(format!("{name}.crt"))).unwrap();
    (
        certificates.map(Result::unwrap).collect(),
        PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap(),
    )
}

#[test]
fn services_and_clients_show_their_certificates() {
    let folder = tempfile::tempdir().unwrap();
    ["server", "client", "other"].iter().for_each(|name| certificate(folder.path(), name));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut clients = RootCertStore::empty();
    clients.add(of_folder(folder.path(), "client").0.remove(0)).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone()).build().unwrap();
    let (certificates, key) = of_folder(folder.path(), "server");
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(verifier).with_single_cert(certificates, key).unwrap();
    let server = Server::start_with(Some(config), |_| json("[{ \"n\": 1 }]"));
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tls = |ca: &str, client: &str| {
        let client = [("certificate", "crt"), ("key", "key")]
            .map(|(setting, ending)| format!(", {setting} = '{}'", at(&format!("{client}.{ending}"))));
        format!("tls = {{ ca = '{}'{} }}", at(&format!("{ca}.crt")), client.concat())
    };
    assert_eq!(read(&server, &tls("server", "client")).unwrap(), 1);
    let said = refused(&server, &tls("other", "client"));
    assert!(said.contains("certificate"), "{said}");
    for who in [tls("server", "other"), format!("tls = {{ ca = '{}' }}", at("server.crt"))] {
        refused(&server, &who);
    }
    assert_eq!(server.asked().len(), 1, "nobody else has come in");
}
