//! A stand-in for a service manager: it keeps the sockets that it is sent, and starts the daemon with them.

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};

use sendfd::RecvWithFd as _;

use super::PATIENCE;
use crate::millstream::{Running, Workshop};

/// The two sockets come as standard input and output: no other way to hand descriptors to a program is safe without care. They become those that the
/// environment speaks of, and the process stays the same.
const PASS_ON: &str = r#"exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec "$@""#;

/// Keeps the administration's Unix socket as a unit does, and what it is sent.
pub struct Manager {
    path: PathBuf,
    admin: UnixListener,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    kept: Vec<(String, OwnedFd)>,
    /// What has been said and not been waited for.
    said: Vec<String>,
}

impl Manager {
    pub fn new(workshop: &Workshop) -> Self {
        let path = workshop.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let admin = UnixListener::bind(workshop.path("admin.sock")).unwrap();
        let seen = Arc::new(Seen::default());
        let hears = seen.clone();
        std::thread::spawn(move || {
            loop {
                let (text, sockets) = receive(&socket);
                hears.hear(text, sockets);
            }
        });
        Self { path, admin, seen }
    }

    /// Starts the daemon with all that was kept.
    pub fn start(&self, workshop: &Workshop) -> Running {
        let state = self.seen.state.lock().unwrap();
        let copy = |socket: &OwnedFd| Stdio::from(socket.try_clone().unwrap());
        let mut names = vec!["admin"];
        let command = workshop.command(&["daemon"]);
        let mut activated = std::process::Command::new("bash");
        activated.args(["-c", PASS_ON, "bash"]).arg(command.get_program()).arg("daemon").current_dir(workshop.path(""));
        activated.stdin(copy(&self.admin.try_clone().unwrap().into())).stdout(Stdio::null());
        match &state.kept[..] {
            [] => {}
            [(name, socket)] => {
                names.push(name);
                activated.stdout(copy(socket));
            }
            [(first, one), (second, other)] => {
                // The administration's own comes from nowhere then.
                names = vec![first.as_str(), second.as_str()];
                activated.stdin(copy(one)).stdout(copy(other));
            }
            more => panic!("{} sockets are more than are passed on here", more.len()),
        }
        activated
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("NOTIFY_SOCKET", &self.path)
            .env("MILLSTREAM__ADMIN__ADDRESS", "off");
        if !names.contains(&"admin") {
            activated.env("MILLSTREAM__ADMIN__SOCKET", "off");
        }
        activated.env("MILLSTREAM__DATA", workshop.path("")).env("MILLSTREAM__SCAN_EVERY", "50ms");
        let mut running = Running::start(&mut activated);
        let log = running.take_stderr();
        std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        running
    }

    /// Keeps a socket that nobody has sent.
    pub fn keep(&self, name: &str, socket: OwnedFd) {
        self.seen.state.lock().unwrap().kept.push((name.to_owned(), socket));
    }

    /// The names of what it keeps.
    pub fn kept(&self) -> Vec<String> {
        self.seen.state.lock().unwrap().kept.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Waits until it is told something, and returns all that was said at once. What was said before it is forgotten.
    pub fn wait_for(&self, text: &str) -> String {
        let mut state = self.seen.state.lock().unwrap();
        loop {
            if let Some(place) = state.said.iter().position(|said| said.contains(text)) {
                return state.said.drain(..=place).next_back().unwrap();
            }
            let (next, waited) = self.seen.changed.wait_timeout(state, PATIENCE).unwrap();
            assert!(!waited.timed_out(), "`{text}` should have been said behind {:#?}", next.said);
            state = next;
        }
    }
}

impl Seen {
    fn hear(&self, text: String, sockets: Vec<OwnedFd>) {
        let mut state = self.state.lock().unwrap();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or_default().to_owned();
        if text.lines().any(|line| line == "FDSTORE=1") {
            state.kept.extend(sockets.into_iter().map(|socket| (name.clone(), socket)));
        } else if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
            state.kept.retain(|(known, _)| *known != name);
        }
        state.said.push(text);
        self.changed.notify_all();
    }
}

/// What was said at once, and the sockets that came with it.
#[expect(unsafe_code, reason = "descriptors come as numbers, and nobody else has these")]
fn receive(socket: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let (mut bytes, mut numbers) = ([0; 4096], [0; 8]);
    let (length, count) = socket.recv_with_fd(&mut bytes, &mut numbers).unwrap();
    // SAFETY: they were made for this process by receiving them.
    let sockets = numbers[..count].iter().map(|number| unsafe { OwnedFd::from_raw_fd(*number) }).collect();
    (String::from_utf8_lossy(&bytes[..length]).into_owned(), sockets)
}
