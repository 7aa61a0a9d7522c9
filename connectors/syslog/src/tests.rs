//! The suite that every node passes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use millstream_core::NodeTypes;
use millstream_testkit::{InputSamples, Source, check_inputs, free_port};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::register;

const WRONG: &[(&str, &str)] = &[
    ("address = 'nowhere'", "address"),
    ("transport = 'tls'", "transport"),
    ("transport = 'udp'\ntls = { certificate = 'a', key = 'b' }", "tls"),
    ("transport = 'tls'\ntls = { certificate = 'nowhere', key = 'b' }", "tls.certificate"),
    ("max_message = '0B'", "max_message"),
    ("max_log = '1MiB'", "max_log"),
    ("timezone = 'Atlantis'", "timezone"),
];

/// Makes a certificate of its own authority, and its key.
fn certificate(folder: &Path, name: &str) {
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let mut command = std::process::Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:false"]);
    let made = command.arg("-keyout").arg(key).arg("-out").arg(certificate).output().expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Sends a text over TLS as one who has a certificate, and waits for the other side to take all of it.
fn send_encrypted(folder: &Path, who: &str, port: u16, text: &str) -> std::io::Result<()> {
    let file = |name: String| folder.join(name);
    let certificates = |name: &str| {
        CertificateDer::pem_file_iter(file(format!("{name}.crt"))).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    let mut roots = RootCertStore::empty();
    roots.add(certificates("server").remove(0)).unwrap();
    let key = PrivateKeyDer::from_pem_file(file(format!("{who}.key"))).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(who), key)
        .unwrap();
    let connection = ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port))?);
    stream.write_all(text.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(Shutdown::Write)?;
    // A server that does not know the client says so.
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
        read => read.map(drop),
    }
}

#[test]
fn inputs() {
    let mut types = NodeTypes::default();
    register(&mut types);
    let (tcp, udp) = (free_port(), free_port());
    let settings = |transport: &str, port: u16| {
        format!("transport = '{transport}'\naddress = '127.0.0.1:{port}'\nmax_message = '100B'")
    };
    let lines = "<34>1 2003-10-11T22:14:15.003Z host app 1 ID [a b=\"c\"] one\n<13>two\n\
                 25 <165>1 - - - - - - th\nree<1>plain\n";
    let long = format!("<3>{}\n", "x".repeat(200));
    let connections = Source::new(settings("tcp", tcp), 5, 2, |_| {}).with_rest(move |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", tcp)).unwrap();
        // All at once: what is on its way when an input ends is lost.
        stream.write_all(&[lines.as_bytes(), long.as_bytes(), b"<3>\xff\n<4>last\n"].concat()).unwrap();
    });
    let datagrams = Source::new(settings("udp", udp), 2, 0, |_| {}).with_rest(move |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for text in ["<34>one\n", "two\nlines"] {
            socket.send_to(text.as_bytes(), ("127.0.0.1", udp)).unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    ["server", "client", "other"].iter().for_each(|name| certificate(folder.path(), name));
    let tls = free_port();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let keys = format!(
        "tls = {{ certificate = '{}', key = '{}', client_ca = '{}' }}",
        at("server.crt"),
        at("server.key"),
        at("client.crt")
    );
    let folder_of_keys = folder.path().to_owned();
    let encrypted = Source::new(format!("{}\n{keys}", settings("tls", tls)), 2, 0, |_| {}).with_rest(move |_| {
        // The one is not known, and the other is.
        assert!(send_encrypted(&folder_of_keys, "other", tls, "<1>nobody\n").is_err());
        send_encrypted(&folder_of_keys, "client", tls, "<1>one\n<2>two\n").unwrap();
    });
    let none = Source::new(settings("tcp", tcp), 0, 0, |_| {});
    let sources = vec![connections, datagrams, encrypted, none];
    check_inputs(&types, &[InputSamples { node: "syslog", sources, wrong: WRONG, excuses: &[] }]);
}
