//! Who is listened to: certificates, tokens, signatures, and clients that mean no good.

use std::path::Path;
use std::process::Command;

use hmac::{Hmac, KeyInit, Mac};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sha2::Sha256;

use super::*;

const TOKEN: &str = "one-of-the-tokens-that-hold";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Makes a certificate that is its own authority, and its key.
fn certificate(folder: &Path, name: &str) {
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:false"]);
    let made = command.arg("-keyout").arg(key).arg("-out").arg(certificate).output().expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn certificates(folder: &Path, name: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(folder.join(format!("{name}.crt"))).unwrap().map(Result::unwrap).collect()
}

/// Sends rows over TLS, as one who trusts a certificate, and shows another one.
fn encrypted(site: &Site, folder: &Path, trusted: &str, shown: Option<&str>) -> std::io::Result<u16> {
    let mut roots = RootCertStore::empty();
    roots.add(certificates(folder, trusted).remove(0)).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
            config.with_client_auth_cert(certificates(folder, name), key).unwrap()
        }
    };
    let connection = ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", site.port))?);
    let body = "{\"a\":1}\n";
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).unwrap().parse().unwrap())
}

fn tls(folder: &Path, more: &str) -> String {
    let folder = folder.display();
    format!("tls = {{ certificate = \"{folder}/server.crt\", key = \"{folder}/server.key\"{more} }}")
}

#[tokio::test]
async fn connections_are_encrypted_with_the_certificate_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ["server", "client", "other", "next"].iter().for_each(|name| certificate(folder, name));
    std::fs::copy(folder.join("server.crt"), folder.join("first.crt")).unwrap();
    let authority = format!(", client_ca = \"{}/client.crt\"", folder.display());
    let site = Site::new(&format!("{NDJSON}\n{}", tls(folder, &authority)));
    let mut input = site.open().await;
    assert_eq!(encrypted(&site, folder, "first", Some("client")).unwrap(), 200);
    assert!(encrypted(&site, folder, "first", Some("other")).is_err(), "nobody vouches for it");
    assert!(encrypted(&site, folder, "first", None).is_err());
    assert!(encrypted(&site, folder, "next", Some("client")).is_err(), "it is not whom the client trusts");
    // What is no TLS is not answered, and disturbs nobody.
    let mut plain = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    plain.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    for ending in ["crt", "key"] {
        std::fs::copy(folder.join(format!("next.{ending}")), folder.join(format!("server.{ending}"))).unwrap();
    }
    while encrypted(&site, folder, "next", Some("client")).is_err() {
        tokio::time::sleep(StdDuration::from_millis(20)).await;
    }
    assert!(encrypted(&site, folder, "first", Some("client")).is_err());
    assert_eq!(drain(&mut input).await, [(0, 1), (1, 1)]);
}

#[test]
fn other_machines_are_listened_to_only_with_encryption_and_by_who_they_are() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "server");
    let plan = |text: &str| {
        let settings: HttpListenInput = parse(&format!("{NDJSON}\naddress = \"0.0.0.0:8400\"\n{text}"));
        settings.plan(&context()).map(drop).map_err(|mut problems| problems.remove(0).to_string())
    };
    let tokens = format!("tokens = {{ shop = \"{TOKEN}\" }}");
    let encryption = tls(folder.path(), "");
    let without = plan(&tokens).unwrap_err();
    assert!(without.contains("can be reached from other machines, without encryption; listen on"), "{without}");
    let anybody = plan(&encryption).unwrap_err();
    assert!(anybody.contains("and anybody there could send rows"), "{anybody}");
    assert_eq!(plan(&format!("{encryption}\n{tokens}")), Ok(()));
    assert_eq!(plan(&format!("{encryption}\nsignature = {{ secret = \"{SECRET}\" }}")), Ok(()));
    let authority = format!(", client_ca = \"{}/server.crt\"", folder.path().display());
    assert_eq!(plan(&tls(folder.path(), &authority)), Ok(()));
}

#[tokio::test]
async fn whoever_shows_a_token_is_let_in_however_often_others_fail() {
    let site = Site::new(&format!("{NDJSON}\ntokens = {{ old = \"another-token-that-holds\", new = \"{TOKEN}\" }}"));
    let mut input = site.open().await;
    let show = |value: &str| site.send(&format!("Authorization: {value}\r\n"), &body(&[1]));
    let (status, answer) = site.send("", &body(&[1]));
    assert!(status == 401 && answer.contains("www-authenticate: Bearer"), "{answer}");
    for wrong in [&TOKEN[1..], "Bearer", "Basic b25lOnR3bw=="] {
        assert_eq!(show(wrong).0, 401, "{wrong}");
    }
    assert_eq!(show(&format!("Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}")).0, 401, "which of them?");
    // Five are looked at, and one more in 12 seconds.
    let wrong = || show(&format!("Bearer {TOKEN}x"));
    let (_, answer) = (0..100).map(|_| wrong()).find(|(status, _)| *status == 429).expect("they are too many");
    assert!(answer.contains("retry-after: "), "{answer}");
    assert_eq!(show(&format!("Bearer {TOKEN}")).0, 200);
    assert_eq!(show("bearer another-token-that-holds").0, 200);
    assert_eq!(drain(&mut input).await.len(), 2);
}

#[tokio::test]
async fn bodies_are_signed_as_they_come() {
    let site = Site::new(&format!("{NDJSON}\nsignature = {{ secret = \"{SECRET}\" }}"));
    let mut input = site.open().await;
    let sign = |body: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(body);
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("X-Hub-Signature-256: sha256={hex}\r\n")
    };
    let rows = body(&[1]);
    let (status, answer) = site.send("", &rows);
    assert!(status == 403 && answer.contains("has to be signed, in the header `X-Hub-Signature-256`"), "{answer}");
    assert_eq!(site.send(&sign(&body(&[2])), &rows).0, 403);
    assert_eq!(site.send(&sign(&rows), &rows).0, 200);
    let compressed = gzip(&rows);
    let lines = |body: &[u8]| format!("Content-Encoding: gzip\r\n{}", sign(body));
    assert_eq!(site.send(&lines(&rows), &compressed).0, 403);
    assert_eq!(site.send(&lines(&compressed), &compressed).0, 200);
    // One whose signature takes a while.
    let long = [vec![b' '; 1 << 20], rows].concat();
    assert_eq!(site.send(&sign(&long), &long).0, 200);
    assert_eq!(drain(&mut input).await.len(), 3);
}

#[tokio::test]
async fn nothing_is_taken_while_the_input_is_held() {
    let site = Site::new(NDJSON);
    let mut input = site.open().await;
    for (held, expected) in [(Held::Scarcity("the disk is full".into()), 507), (Held::Paused("by Ada".into()), 503)] {
        input.hold(Some(&held));
        let (status, answer) = site.send("", &body(&[1]));
        assert_eq!(status, expected, "{answer}");
        assert!(answer.contains("retry-after: 30") && answer.contains(&**held.reason()), "{answer}");
    }
    input.hold(None);
    site.post("", &[1]);
    assert_eq!(drain(&mut input).await, [(0, 1)]);
}

#[tokio::test]
async fn headers_without_an_end_are_refused() {
    let site = Site::new(NDJSON);
    let _input = site.open().await;
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nHost: localhost\r\nX: ").unwrap();
    let mut sent = 0;
    while sent < 64 << 20 && stream.write_all(&[b'x'; 8192]).is_ok() {
        sent += 8192;
    }
    // What it buffers on the way counts as well.
    assert!(sent < 16 << 20, "{sent} bytes of a header were read");
}
