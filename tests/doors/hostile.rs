//! Clients that mean no good: they keep nobody waiting, and the daemon's memory does not grow with them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use super::clients::exchange;
use super::manager::Manager;
use super::{free_port, post, takes};
use crate::daemons::wait_for_rows;
use crate::millstream::{Running, Workshop};

/// How many of each kind there are.
const CLIENTS: usize = 500;

/// How many bytes of memory all of them may cost.
const COST: u64 = 64 << 20;

fn memory(daemon: &mut Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap()
}

#[test]
fn clients_that_mean_no_good_keep_nobody_waiting() {
    let workshop = Workshop::new();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
        ])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(workshop.path(""))
        .output();
    assert!(made.expect("openssl is there").status.success());
    let (open, shut, encrypted) = (free_port(), free_port(), free_port());
    workshop.write("flows/open.toml", &takes(open, "open", "max_connections = 100"));
    workshop.write("flows/shut.toml", &takes(shut, "shut", "tokens = { shop = \"0123456789abcdef\" }"));
    let tls = "tls = { certificate = \"../certificate.pem\", key = \"../key.pem\" }";
    workshop.write("flows/encrypted.toml", &takes(encrypted, "encrypted", &format!("max_connections = 100\n{tls}")));
    let manager = Manager::new(&workshop);
    let mut daemon = manager.start(&workshop);
    ["open/rows", "shut/rows", "encrypted/rows"].iter().for_each(|_| _ = manager.wait_for("FDSTORE=1"));
    for id in 0..20 {
        assert_eq!(post(open, id).status, 200);
    }
    let before = memory(&mut daemon);
    let mut id = 20;
    let mut answered = |port| {
        assert_eq!(post(port, id).status, 200);
        id += 1;
    };

    let long = format!("POST / HTTP/1.1\r\nX: {}", "x".repeat(30_000));
    let mut slow = Vec::new();
    for client in 0..CLIENTS {
        let mut stream = connect(open);
        // Some have begun with a header, others have not, and some are long.
        let begun = ["", "POST / HTTP/1.1\r\nHost: ", &long][client % 3];
        // Those that are too many were closed already.
        let _ = stream.write_all(begun.as_bytes());
        slow.push(stream);
        if client % 50 == 0 {
            answered(open);
        }
    }
    answered(open);
    drop(slow);

    let mut handshakes = Vec::new();
    for client in 0..CLIENTS {
        let mut stream = connect(encrypted);
        let begun: &[u8] = [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff], &[0; 512]][client % 4];
        let _ = stream.write_all(begun);
        handshakes.push(stream);
    }
    answered(open);
    // Without an answer in plain text.
    let mut last = handshakes.pop().unwrap();
    let mut said = Vec::new();
    let _ = last.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    drop(handshakes);

    let mut statuses = Vec::new();
    for guess in 0..CLIENTS {
        let token = format!("Authorization: Bearer guess-number-{guess}\r\n");
        statuses.push(exchange(connect(shut), "POST", "/", &token, "{\"id\":1}\n").status);
    }
    assert!(statuses.contains(&429) && statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    let right = "Authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(exchange(connect(shut), "POST", "/", right, "{\"id\":0}\n").status, 200);

    let grown = memory(&mut daemon).saturating_sub(before);
    assert!(grown < COST, "{} MiB more", grown >> 20);
    wait_for_rows(&workshop, "open", id);
    wait_for_rows(&workshop, "shut", 1);
    daemon.stop();
}
