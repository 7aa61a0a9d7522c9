//! Who may do what, what is written down, and those who mean harm.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemons::{Daemon, JSON, NEW, TOML, append, follows, wait_for_rows};
use crate::millstream::Workshop;

#[test]
fn who_asks_may_do_what_the_table_of_routes_says() {
    let workshop = Workshop::new();
    let token = |name: &str, role: &str, more: &[&str]| {
        let ran = workshop.run(&[&["token", "create", "--name", name, "--role", role], more].concat());
        format!("Bearer {}", ran.stdout.trim())
    };
    let (viewer, operator, admin) = (token("v", "viewer", &[]), token("o", "operator", &[]), token("a", "admin", &[]));
    let daemon = Daemon::start(&workshop);
    let document = daemon.ask_openly("GET", "/api/v1/openapi.json", &[], "").is(200).body;
    assert_eq!(document["openapi"], "3.1.0");
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        // Of nothing that is there, so that nothing happens.
        let target: String = path
            .split('/')
            .map(|part| match part {
                "{checkpoint}" | "{operation}" | "{revision}" => "4711",
                part if part.starts_with('{') => "nobody",
                part => part,
            })
            .collect::<Vec<_>>()
            .join("/");
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_uppercase();
            let ask = |token: Option<&str>| {
                let authorization = token.map(|token| ("authorization", token));
                let headers: Vec<_> = [JSON].into_iter().chain(authorization).collect();
                daemon.status(&method, &target, &headers)
            };
            let role = operation["x-role"].as_str();
            let rank = |role: &str| ["viewer", "operator", "admin"].iter().position(|known| *known == role).unwrap();
            let anonymous = ask(None);
            match role {
                None => assert_ne!(anonymous, 401, "{method} {target}"),
                Some(role) => {
                    assert_eq!(anonymous, 401, "{method} {target}");
                    for (has, token) in [("viewer", &viewer), ("operator", &operator), ("admin", &admin)] {
                        let status = ask(Some(token));
                        let is_refused = matches!(status, 401 | 403);
                        assert_eq!(is_refused, rank(has) < rank(role), "{has}: {status} {method} {target}");
                    }
                }
            }
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked}");
    // A check reads files and variables as the daemon can, and says what is wrong in them.
    let reads = "flow.connections = '/proc/self/environ'\n";
    daemon.ask_openly("POST", "/api/v1/check", &[("authorization", &viewer), TOML], reads).refused(403, "forbidden");
    let header = ("authorization", operator.as_str());
    daemon.ask_openly("GET", "/api/v1/flows", &[header, ("host", "evil.example")], "").refused(421, "wrong-host");
    let cross = [header, JSON, ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")];
    // A token is no cookie: whoever has it is no page that was lured.
    daemon.ask_openly("POST", "/api/v1/flows/nobody/start", &cross, "{}").refused(404, "not-found");
    daemon
        .ask_openly("GET", "/api/v1/flows", &[("authorization", "Bearer ms_x")], "")
        .refused(401, "wrong-credentials");
    daemon.stop();
}

#[test]
fn a_session_begins_with_a_token_and_ends_with_it() {
    let workshop = Workshop::new();
    let made = workshop.run(&["token", "create", "--name", "ops", "--role", "operator"]);
    let token = made.stdout.trim();
    let daemon = Daemon::start(&workshop);
    daemon.ask_openly("GET", "/api/v1/session", &[], "").refused(401, "not-signed-in");
    let wrong = json!({ "token": "ms_nobody" }).to_string();
    daemon.ask_openly("POST", "/api/v1/session", &[JSON], &wrong).refused(401, "wrong-credentials");
    let right = json!({ "token": token }).to_string();
    let signed_in = daemon.ask_openly("POST", "/api/v1/session", &[JSON], &right).is(200);
    assert_eq!((&signed_in.body["who"], &signed_in.body["role"]), (&json!("ops"), &json!("operator")));
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let cookie = ("cookie", cookie.as_str());
    daemon.ask_openly("GET", "/api/v1/flows", &[cookie], "").is(200);
    let site = ("sec-fetch-site", "same-origin");
    let foreign = ("sec-fetch-site", "cross-site");
    let stop = "/api/v1/flows/nobody/stop";
    daemon.ask_openly("POST", stop, &[cookie, JSON, foreign], "{}").refused(403, "cross-site");
    daemon.ask_openly("POST", stop, &[cookie, JSON], "{}").refused(403, "cross-site");
    daemon.ask_openly("POST", stop, &[cookie, JSON, site], "{}").refused(404, "not-found");
    let id = daemon.get("/api/v1/tokens")["items"][0]["id"].as_str().unwrap().to_owned();
    daemon.ask("DELETE", &format!("/api/v1/tokens/{id}"), &[JSON], "").is(204);
    daemon.ask_openly("GET", "/api/v1/flows", &[cookie], "").refused(401, "not-signed-in");
    daemon.stop();
}

#[test]
fn what_is_done_is_written_down_before_the_answer() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "d", 0..1);
    daemon.put("d", &follows("d"), &[NEW]).is(201);
    daemon.ask("POST", "/api/v1/flows/nobody/stop", &[JSON], "{}").refused(404, "not-found");
    daemon.ask_openly("POST", "/api/v1/flows/d/stop", &[JSON], "{}").refused(401, "not-signed-in");
    let entries = daemon.get("/api/v1/audit?limit=10")["items"].clone();
    let said: Vec<_> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            format!("{} {} {}", entry["method"].as_str().unwrap(), entry["path"].as_str().unwrap(), entry["result"])
        })
        .collect();
    let expected = [
        "POST /api/v1/flows/d/stop {\"refused\":\"not-signed-in\"}",
        "POST /api/v1/flows/nobody/stop {\"failed\":\"not-found\"}",
        "POST /api/v1/flows/nobody/stop \"begun\"",
        "PUT /api/v1/flows/d \"done\"",
        "PUT /api/v1/flows/d \"begun\"",
    ];
    assert_eq!(said, expected);
    daemon.stop();
    let verified = workshop.run(&["audit", "verify", "admin/audit"]);
    assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
}

#[test]
fn slow_requests_and_readers_that_never_read_hold_nobody_up() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "g", 0..10);
    daemon.put("g", &follows("g"), &[NEW]).is(201);
    let address = &daemon.address;
    let header = "GET /livez HTTP/1.1\r\nhost: ".to_owned();
    let body = format!(
        "POST /api/v1/session HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\n\r\n{{"
    );
    let mut silent = Vec::new();
    for begun in std::iter::repeat_n(&header, 100).chain(std::iter::repeat_n(&body, 100)) {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let _ = stream.write_all(begun.as_bytes());
        silent.push(stream);
    }
    let mut deaf = UnixStream::connect(&daemon.socket).unwrap();
    deaf.write_all(b"GET /api/v1/events?topics=flows,flow:g.stats HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let begin = Instant::now();
    for _ in 0..20 {
        daemon.get("/api/v1/flows/g");
        daemon.ask_openly("GET", "/livez", &[], "").is(200);
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    append(&workshop, "g", 10..20);
    wait_for_rows(&workshop, "g", 20);
    drop((silent, deaf));
    daemon.stop();
}
