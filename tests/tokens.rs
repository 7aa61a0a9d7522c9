//! `millstream token` and `millstream audit`, whom a daemon must not listen to, and its certificate.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::millstream::{Running, Workshop};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let workshop = Workshop::new();
    workshop.write("conf/m.toml", &format!("data = '{}'", workshop.path("").display()));
    let token = |arguments: &[&str]| workshop.run(&[&["token"], arguments, &["--config", "conf/m.toml"]].concat());
    let none = token(&["list"]);
    assert!(none.stdout.contains("there are no tokens"), "{}", none.stdout);
    let made = token(&["create", "--name", "ci", "--role", "operator", "--flows", "fraud_*", "--expires", "90d"]);
    let text = made.stdout.trim();
    assert!(made.code == 0 && text.starts_with("ms_") && text.len() == 60, "{} {}", made.stdout, made.stderr);
    assert!(made.stderr.contains("shown only this once") && !made.stderr.contains(text), "{}", made.stderr);
    let json = token(&["create", "--name", "ops", "--role", "admin", "--json"]).json();
    assert!(json["token"].as_str().unwrap().len() == 60 && json["expires"].is_null(), "{json}");
    let listed = token(&["list", "--json"]);
    let tokens = lines(&listed.stdout);
    assert_eq!(
        (&tokens[0]["name"], &tokens[0]["flows"][0], &tokens[1]["role"]),
        (&"ci".into(), &"fraud_*".into(), &"admin".into())
    );
    assert!(!listed.stdout.contains(&text[11..]) && !workshop.read("admin/tokens.json").contains(&text[11..]));
    assert!(token(&["list"]).stdout.contains("never"));
    assert_eq!(token(&["revoke", "ci", "--json"]).json()["revoked"], tokens[0]["id"]);
    assert_eq!(token(&["revoke", tokens[1]["id"].as_str().unwrap()]).code, 0);
    assert!(token(&["list"]).stdout.contains("there are no tokens"));
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let workshop = Workshop::new();
    for (arguments, code, expected) in [
        (
            &["create", "--name", "a", "--role", "root"][..],
            2,
            "`root` is no role; there are `viewer`, `operator` and `admin`",
        ),
        (&["create", "--name", "a", "--role", "viewer", "--flows", "a["], 2, "`a[` is no pattern"),
        (&["create", "--name", "a", "--role", "viewer", "--expires", "soon"], 2, "soon"),
        (&["create", "--name", "a", "--role", "viewer", "--expires", "0s"], 1, "expired already"),
        (&["create", "--name", "", "--role", "viewer"], 1, "has 1 to 64 letters"),
        (&["revoke", "a"], 1, "there is no token `a`"),
    ] {
        let ran = workshop.run(&[&["token"], arguments].concat());
        assert!(ran.code == code && ran.stderr.contains(expected), "{arguments:?}: {} {}", ran.code, ran.stderr);
    }
    workshop.write("m.toml", "data = 'nowhere'");
    let ran = workshop.run(&["token", "create", "--name", "a", "--role", "viewer", "--config", "m.toml"]);
    assert!(ran.code == 1 && ran.stderr.contains("the folder `nowhere` of `data` is not there"), "{}", ran.stderr);
}

#[test]
fn a_daemon_does_not_listen_to_others_without_tls_and_a_token() {
    let workshop = Workshop::new();
    workshop.write(
        "m.toml",
        "[admin]\naddress = '0.0.0.0:0'\nhosts = ['a/b']\ntls = { certificate = 'none', key = 'none' }",
    );
    let check = || workshop.run(&["daemon", "--check", "--config", "m.toml"]);
    let ran = check();
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for expected in [
        "m.toml:2:11: `0.0.0.0:0` can be reached by others, and there is no token",
        "m.toml:3:10: `a/b` is no name",
        "m.toml:4:23: ",
    ] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    workshop.write("m.toml", "[admin]\naddress = '0.0.0.0:0'");
    assert_eq!(workshop.run(&["token", "create", "--name", "a", "--role", "admin", "--config", "m.toml"]).code, 0);
    let ran = check();
    assert!(ran.code == 2 && ran.stderr.contains("could read tokens on their way"), "{}", ran.stderr);
    workshop.write("m.toml", "[admin]\naddress = '127.0.0.1:0'");
    assert_eq!(check().code, 0);
}

#[test]
fn an_audit_log_is_verified() {
    let workshop = Workshop::new();
    let line = |seq: u64, prev: &str| {
        format!("{{\"seq\":{seq},\"at\":\"2026-01-01T00:00:00Z\",\"who\":\"ops\",\"prev\":\"{prev}\"}}")
    };
    let first = line(1, &"0".repeat(64));
    workshop.write("audit/0000000000000001.ndjson", &format!("{first}\n"));
    let verified = workshop.run(&["audit", "verify", "audit", "--json"]).json();
    assert_eq!((&verified["entries"], &verified["last"]), (&1.into(), &1.into()));
    let head = verified["head"].as_str().unwrap();
    workshop.write("audit/0000000000000001.ndjson", &format!("{first}\n{}\n", line(2, head)));
    let said = workshop.run(&["audit", "verify", "audit", "--head", head]);
    assert!(
        said.code == 0 && said.stdout.starts_with("the chain of entries 1 to 2 is whole, until 2026-01-01"),
        "{}",
        said.stdout
    );
    workshop.write("audit/0000000000000001.ndjson", &format!("{}\n{}\n", first.replace("ops", "ada"), line(2, head)));
    let said = workshop.run(&["audit", "verify", "audit"]);
    assert!(
        said.code == 1 && said.stderr.contains("0000000000000001.ndjson:2: entry 2 does not follow entry 1"),
        "{}",
        said.stderr
    );
}

/// Makes a certificate of its own authority, and its key.
fn make_certificate(workshop: &Workshop, name: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    command.args(["-subj", "/CN=localhost", "-addext", "basicConstraints=critical,CA:false"]);
    let (key, certificate) = (workshop.path(&format!("{name}.key")), workshop.path(&format!("{name}.crt")));
    let made = command.arg("-keyout").arg(key).arg("-out").arg(certificate).output().expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    workshop.read(&format!("{name}.crt"))
}

/// The certificate that is shown at an address.
fn shown(address: &str) -> String {
    let mut command = Command::new("openssl");
    let output = command.args(["s_client", "-connect", address]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let begin = text.find("-----BEGIN").unwrap_or_else(|| panic!("no certificate: {text}"));
    let end = text.find("-----END CERTIFICATE-----").unwrap();
    text[begin..end].to_owned() + "-----END CERTIFICATE-----\n"
}

#[test]
fn a_certificate_is_replaced_when_the_daemon_is_told_to_read_it_again() {
    let workshop = Workshop::new();
    workshop.write("flows/none.md", "");
    let old = make_certificate(&workshop, "server");
    let settings = "[admin]\naddress = '127.0.0.1:0'\ntls = { certificate = 'server.crt', key = 'server.key' }";
    workshop.write("m.toml", settings);
    let mut running = Running::start(&mut workshop.command(&["daemon", "--config", "m.toml"]));
    let mut log = running.take_stderr();
    let mut wait_for = |text: &str| {
        let line = log.find_map(|line| line.ok().filter(|line| line.contains(text)));
        line.unwrap_or_else(|| panic!("`{text}` should have been logged"))
    };
    let listening = wait_for("the administration listens on");
    let address = listening.split('`').nth(1).unwrap().to_owned();
    wait_for("ready: ");
    assert_eq!(shown(&address), old);
    let new = make_certificate(&workshop, "server");
    assert_eq!(shown(&address), old, "nobody has told it to");
    kill_process(Pid::from_raw(running.id() as i32).unwrap(), Signal::HUP).unwrap();
    wait_for("server.crt` was read again");
    assert_eq!(shown(&address), new);
    running.stop();
}
