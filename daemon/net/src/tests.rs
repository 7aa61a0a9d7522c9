//! TLS over real connections, with certificates that openssl has made.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

/// Makes a certificate and its key: of its own authority, or that of another one.
fn make(folder: &Path, name: &str, subject: &str, by: Option<&str>, extensions: &[&str]) {
    let file = |name: &str, ending: &str| folder.join(format!("{name}.{ending}"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    command.args(["-subj", subject]).arg("-keyout").arg(file(name, "key")).arg("-out").arg(file(name, "crt"));
    if let Some(by) = by {
        command.arg("-CA").arg(file(by, "crt")).arg("-CAkey").arg(file(by, "key"));
    }
    extensions.iter().for_each(|extension| _ = command.args(["-addext", extension]));
    let made = command.output().expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

const LEAF: &str = "basicConstraints=critical,CA:false";

fn make_server(folder: &Path, name: &str) {
    make(folder, name, "/CN=server", None, &[LEAF, "subjectAltName=IP:127.0.0.1"]);
}

fn read(folder: &Path, name: &str) -> Vec<CertificateDer<'static>> {
    certificates("certificate", &folder.join(format!("{name}.crt"))).unwrap()
}

fn files(folder: &Path, client_ca: Option<&str>) -> TlsFiles {
    let client_ca = client_ca.map(|name| folder.join(format!("{name}.crt")));
    TlsFiles { certificate: folder.join("server.crt"), key: folder.join("server.key"), client_ca }
}

/// Puts a certificate and its key into the place of the server's.
fn use_server(folder: &Path, name: &str) {
    for ending in ["crt", "key"] {
        std::fs::copy(folder.join(format!("{name}.{ending}")), folder.join(format!("server.{ending}"))).unwrap();
    }
}

/// A client that trusts one certificate, and shows another one.
async fn connect(folder: &Path, port: u16, trusted: &str, shown: Option<&str>) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(read(folder, trusted).remove(0)).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(name) => {
            let key = private_key("key", &folder.join(format!("{name}.key"))).unwrap();
            config.with_client_auth_cert(read(folder, name), key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    TlsConnector::from(Arc::new(config)).connect("127.0.0.1".try_into().unwrap(), stream).await
}

/// Connects both sides, and has the server send a letter, since clients learn only then whether they were let in.
async fn meet(tls: &Tls, folder: &Path, trusted: &str, shown: Option<&str>) -> io::Result<Option<CertificateNames>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let server = async {
        let mut encrypted = tls.accept(listener.accept().await?.0).await?;
        assert_eq!(encrypted.stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        encrypted.stream.write_all(b"a").await?;
        encrypted.stream.flush().await?;
        // Until the client is gone, so that it reads what was sent.
        let _ = encrypted.stream.read(&mut [0]).await;
        Ok(encrypted.client)
    };
    let client = async {
        let mut stream = connect(folder, port, trusted, shown).await?;
        stream.read_exact(&mut [0]).await?;
        io::Result::Ok(())
    };
    let (names, met) = tokio::join!(server, client);
    met.and(names)
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_server(folder, "old");
    make_server(folder, "new");
    use_server(folder, "old");
    let tls = Tls::load(files(folder, None), Clients::MayHaveCertificates, &["h2"]).unwrap();
    let meets = async |trusted| meet(&tls, folder, trusted, None).await.is_ok();
    assert!(meets("old").await && !meets("new").await);
    assert!(!tls.reload().unwrap());
    std::fs::copy(folder.join("new.crt"), folder.join("server.crt")).unwrap();
    let problem = tls.reload().unwrap_err();
    assert!(problem.message.contains("the certificate and its key: "), "{problem}");
    assert!(meets("old").await && !meets("new").await, "the two don't belong together");
    use_server(folder, "new");
    assert!(tls.reload().unwrap() && !tls.reload().unwrap());
    assert!(!meets("old").await && meets("new").await);
    std::fs::remove_file(folder.join("server.key")).unwrap();
    assert!(tls.reload().unwrap_err().message.contains("server.key` can't be used"));
    assert!(meets("new").await);
}

#[tokio::test(start_paused = true)]
async fn files_are_read_again_from_time_to_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_server(folder, "server");
    let tls = Arc::new(Tls::load(files(folder, None), Clients::MayHaveCertificates, &[]).unwrap());
    let fresh = tls.clone();
    let fresh = tokio::spawn(async move { fresh.keep_fresh(Duration::from_secs(3600)).await });
    std::fs::write(folder.join("server.crt"), "").unwrap();
    tokio::time::sleep(Duration::from_secs(3601)).await;
    make_server(folder, "server");
    // The next look is after a minute, since the last one has failed.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!tls.reload().unwrap(), "it was read already");
    fresh.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_begin_has_to_go() {
    let folder = tempfile::tempdir().unwrap();
    make_server(folder.path(), "server");
    let tls = Tls::load(files(folder.path(), None), Clients::MayHaveCertificates, &[]).unwrap();
    let (_client, server) = tokio::io::duplex(64);
    assert_eq!(tls.accept(server).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn clients_are_known_by_their_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_server(folder, "server");
    for authority in ["ours", "theirs"] {
        make(folder, authority, &format!("/CN={authority}"), None, &[]);
    }
    make(folder, "ci", "/CN=admin", Some("ours"), &[LEAF, "subjectAltName=DNS:ci.example,URI:spiffe://a/ci"]);
    make(folder, "evil", "/CN=admin", Some("theirs"), &[LEAF, "subjectAltName=DNS:ci.example"]);
    let files = files(folder, Some("ours"));
    let may = Tls::load(files.clone(), Clients::MayHaveCertificates, &["h2"]).unwrap();
    let names = meet(&may, folder, "server", Some("ci")).await.unwrap().unwrap();
    assert!(names.contain("CI.example") && names.contain("spiffe://a/ci") && !names.contain("admin"), "{names:?}");
    assert_eq!(names.first(), Some("ci.example"));
    assert_eq!(meet(&may, folder, "server", None).await.unwrap(), None);
    assert!(meet(&may, folder, "server", Some("evil")).await.is_err());
    let need = Tls::load(files, Clients::NeedCertificates, &["h2"]).unwrap();
    assert!(meet(&need, folder, "server", Some("ci")).await.is_ok());
    assert!(meet(&need, folder, "server", None).await.is_err());
}

#[test]
fn the_names_of_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let names = |subject: &str, extensions: &[&str]| {
        make(folder.path(), "it", subject, None, extensions);
        names_of(&read(folder.path(), "it")[0])
    };
    let of = |texts: &[&str]| texts.iter().copied().collect::<CertificateNames>();
    assert_eq!(names("/O=a/CN=ops", &[]), of(&["ops"]));
    assert!(names("/CN=Zoë", &[]).first().is_some());
    assert_eq!(names("/CN=ops/CN=admin", &[]), of(&[]), "which of them?");
    assert_eq!(names("/O=a", &[]), of(&[]));
    assert_eq!(
        names("/CN=ops", &["subjectAltName=DNS:a.example,email:a@b.example"]),
        of(&["a.example", "a@b.example"])
    );
    assert_eq!(names("/CN=ops", &["subjectAltName=IP:127.0.0.1"]), of(&[]), "the common name does not count there");
    assert_eq!(names_of(&CertificateDer::from(vec![48, 3, 1, 2])), of(&[]));
    assert_eq!(of(&["a\0b", "", "c\n", "d"]), of(&["d"]));
}

#[test]
fn what_is_wrong_with_files_is_said_at_their_settings() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_server(folder, "server");
    std::fs::write(folder.join("empty.crt"), "").unwrap();
    let place = |files: TlsFiles| {
        let problem = files.config(Clients::NeedCertificates, &[]).unwrap_err();
        format!("{:?} {}", problem.at, problem.message)
    };
    let good = files(folder, None);
    let empty = folder.join("empty.crt");
    let certificate = place(TlsFiles { certificate: empty.clone(), ..good.clone() });
    assert!(certificate.starts_with("[Key(\"certificate\")]") && certificate.ends_with("it has no certificate in PEM"));
    let key = place(TlsFiles { key: empty.clone(), ..good.clone() });
    assert!(key.starts_with("[Key(\"key\")]"), "{key}");
    let authority = place(TlsFiles { client_ca: Some(empty), ..good });
    assert!(authority.starts_with("[Key(\"client_ca\")]"), "{authority}");
}

proptest! {
    #[test]
    fn any_bytes_may_be_a_certificate(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = names_of(&CertificateDer::from(bytes));
    }
}

#[test]
fn a_certificate_with_any_byte_changed_is_read_or_not() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), "it", "/CN=ops", None, &["subjectAltName=DNS:a.example,email:a@b.example"]);
    let whole = read(folder.path(), "it").remove(0).to_vec();
    for place in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            let _ = names_of(&CertificateDer::from(bytes));
        }
        let _ = names_of(&CertificateDer::from(whole[..place].to_vec()));
    }
}
