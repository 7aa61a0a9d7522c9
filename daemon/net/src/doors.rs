//! Doors: where this process listens. A service manager keeps them open while the process is started again, so that whoever comes meanwhile
//! waits, and is not turned away.
//!
//! A door has a name, by which the next process finds it: `FLOW/NODE` of a node, another one of the daemon itself. There is one set of doors in a
//! process, as there is one service manager.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use socket2::{SockRef, Type};
use tokio::sync::watch;

/// The doors of this process.
pub fn doors() -> &'static Doors {
    static DOORS: LazyLock<Doors> = LazyLock::new(Doors::default);
    &DOORS
}

/// Who keeps doors open while the process is started again.
pub trait Manager: Send + Sync {
    /// Keeps a socket under a name.
    ///
    /// # Errors
    /// If it can't be told to.
    fn keep(&self, name: &str, socket: BorrowedFd<'_>) -> io::Result<()>;

    /// Keeps the sockets of a name no longer.
    ///
    /// # Errors
    /// If it can't be told to.
    fn give_back(&self, name: &str) -> io::Result<()>;
}

/// The doors that are open, and those that were kept and are not used yet.
#[derive(Default)]
pub struct Doors {
    state: Mutex<State>,
    /// Whether nobody else is to come in.
    closing: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    manager: Option<Arc<dyn Manager>>,
    kept: Vec<(String, OwnedFd)>,
    open: BTreeMap<u64, Open>,
    /// How many there have been.
    count: u64,
}

/// A door that is open, and has to be kept.
struct Open {
    name: String,
    socket: OwnedFd,
}

/// A socket that listens, until it is dropped.
pub struct Door<S> {
    socket: S,
    number: u64,
    doors: &'static Doors,
}

/// A kind of socket that listens.
pub trait Socket: AsFd + From<OwnedFd> + Sized {
    /// Where it listens.
    type Address: PartialEq;

    /// Makes one.
    ///
    /// # Errors
    /// If the address can't be listened at.
    fn bind(address: &Self::Address) -> io::Result<Self>;

    /// Where it listens, if it is one that does.
    fn address(socket: BorrowedFd<'_>) -> Option<Self::Address>;
}

impl Doors {
    /// Takes over what a service manager has kept, and has it keep what is opened from now on.
    pub fn take_over(&self, manager: Arc<dyn Manager>, kept: Vec<(String, OwnedFd)>) {
        let mut state = self.state();
        (state.manager, state.kept) = (Some(manager), kept);
    }

    /// Listens at an address: by the socket of that name and address if it was kept, or else by a new one.
    ///
    /// # Errors
    /// If the address can't be listened at.
    pub fn open<S: Socket>(&'static self, name: &str, address: &S::Address) -> io::Result<Door<S>> {
        let kept = self.find(name, |socket| S::address(socket).as_ref() == Some(address));
        let is_kept = kept.is_some();
        let socket = kept.map_or_else(|| S::bind(address), |kept| Ok(kept.into()))?;
        let number = self.state().opened(name, socket.as_fd(), is_kept)?;
        Ok(Door { socket, number, doors: self })
    }

    /// The Unix socket at a path, if the service manager has made it.
    pub fn unix(&self, name: &str, path: &Path) -> Option<UnixListener> {
        let is_one = |socket: BorrowedFd<'_>| {
            let copy = socket.try_clone_to_owned().map(UnixListener::from);
            let address = copy.and_then(|listener| listener.local_addr());
            address.is_ok_and(|address| address.as_pathname() == Some(path)) && is_listening(socket)
        };
        self.find(name, is_one).map(UnixListener::from)
    }

    /// The names of those that were kept and that nobody has asked for yet.
    pub fn unused(&self) -> Vec<String> {
        self.state().kept.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Closes those of a name that were kept and that nobody has asked for.
    pub fn close_unused(&self, name: &str) {
        let mut state = self.state();
        state.kept.retain(|(known, _)| known != name);
        state.keep_only_open(name);
    }

    /// Nobody else is to come in: what listens lets those leave who are inside, and ends. Whoever comes now waits for the next process, if the
    /// service manager keeps the doors.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Tells when nobody else is to come in. Whoever is inside has left when it is dropped.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Waits until all have left.
    pub async fn left(&self) {
        self.closing.closed().await;
    }

    /// What was kept under a name, if it is what is wanted.
    fn find(&self, name: &str, is_wanted: impl Fn(BorrowedFd<'_>) -> bool) -> Option<OwnedFd> {
        let mut state = self.state();
        let place = state.kept.iter().position(|(known, socket)| known == name && is_wanted(socket.as_fd()))?;
        Some(state.kept.swap_remove(place).1)
    }

    fn release(&self, number: u64) {
        let mut state = self.state();
        let Some(Open { name, .. }) = state.open.remove(&number) else { return };
        // The next process goes on with those that were open when this one was told to end.
        if !*self.closing.borrow() {
            state.keep_only_open(&name);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn opened(&mut self, name: &str, socket: BorrowedFd<'_>, is_kept: bool) -> io::Result<u64> {
        self.count += 1;
        if let Some(manager) = &self.manager {
            self.open.insert(self.count, Open { name: name.to_owned(), socket: socket.try_clone_to_owned()? });
            if !is_kept {
                say(name, manager.keep(name, socket));
            }
        }
        Ok(self.count)
    }

    /// Has the manager keep those of a name that are open, and no others.
    fn keep_only_open(&self, name: &str) {
        let Some(manager) = &self.manager else { return };
        let open = self.open.values().filter(|open| open.name == name);
        let told = manager.give_back(name);
        say(name, open.fold(told, |told, open| told.and(manager.keep(name, open.socket.as_fd()))));
    }
}

/// A door that is not kept is one all the same.
fn say(name: &str, told: io::Result<()>) {
    if let Err(error) = told {
        tracing::warn!("the service manager can't be told to keep the door `{name}`, or not to: {error}");
    }
}

impl<S> Deref for Door<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.socket
    }
}

impl<S> Drop for Door<S> {
    fn drop(&mut self) {
        self.doors.release(self.number);
    }
}

impl<S: fmt::Debug> fmt::Debug for Door<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl Socket for TcpListener {
    type Address = SocketAddr;

    fn bind(address: &SocketAddr) -> io::Result<Self> {
        Self::bind(address)
    }

    fn address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
        let copy = Self::from(socket.try_clone_to_owned().ok()?);
        copy.local_addr().ok().filter(|_| is_listening(socket))
    }
}

impl Socket for UdpSocket {
    type Address = SocketAddr;

    fn bind(address: &SocketAddr) -> io::Result<Self> {
        Self::bind(address)
    }

    fn address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
        let copy = Self::from(socket.try_clone_to_owned().ok()?);
        copy.local_addr().ok().filter(|_| SockRef::from(&socket).r#type().is_ok_and(|kind| kind == Type::DGRAM))
    }
}

/// Whether a socket takes connections.
fn is_listening(socket: BorrowedFd<'_>) -> bool {
    SockRef::from(&socket).is_listener().unwrap_or(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// Keeps what it is told to.
    #[derive(Default)]
    struct Keeper(Mutex<Vec<(String, OwnedFd)>>);

    impl Manager for Keeper {
        fn keep(&self, name: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
            self.0.lock().unwrap().push((name.to_owned(), socket.try_clone_to_owned()?));
            Ok(())
        }

        fn give_back(&self, name: &str) -> io::Result<()> {
            self.0.lock().unwrap().retain(|(known, _)| known != name);
            Ok(())
        }
    }

    impl Keeper {
        fn names(&self) -> Vec<String> {
            self.0.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
        }

        /// The doors of the next process.
        fn next(self: &Arc<Self>) -> &'static Doors {
            let copy = |(name, socket): &(String, OwnedFd)| (name.clone(), socket.try_clone().unwrap());
            let kept = self.0.lock().unwrap().iter().map(copy).collect();
            let doors: &Doors = Box::leak(Box::default());
            doors.take_over(self.clone(), kept);
            doors
        }
    }

    fn anywhere() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn whoever_comes_between_two_processes_waits() {
        let keeper = Arc::new(Keeper::default());
        let first = keeper.next();
        let door = first.open::<TcpListener>("flow/a", &anywhere()).unwrap();
        let address = door.local_addr().unwrap();
        first.close();
        drop(door);
        assert_eq!(keeper.names(), ["flow/a"]);
        let _client = TcpStream::connect(address).unwrap();
        let second = keeper.next();
        assert_eq!(second.unused(), ["flow/a"]);
        let door = second.open::<TcpListener>("flow/a", &address).unwrap();
        door.accept().unwrap();
        assert!(second.unused().is_empty() && keeper.names() == ["flow/a"]);
        drop(door);
        assert!(keeper.names().is_empty(), "a node that ends for itself listens no more");
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_door_that_has_moved_or_is_of_nobody_is_closed() {
        let keeper = Arc::new(Keeper::default());
        let first = keeper.next();
        let old = first.open::<TcpListener>("flow/a", &anywhere()).unwrap();
        let datagrams = first.open::<UdpSocket>("flow/b", &anywhere()).unwrap();
        let (address, udp) = (old.local_addr().unwrap(), datagrams.local_addr().unwrap());
        first.close();
        drop((old, datagrams));
        let second = keeper.next();
        let moved = second.open::<TcpListener>("flow/a", &anywhere()).unwrap();
        assert_eq!(keeper.names().len(), 3);
        second.close_unused("flow/a");
        assert!(TcpStream::connect(address).is_err());
        TcpStream::connect(moved.local_addr().unwrap()).unwrap();
        let mut names = keeper.names();
        names.sort();
        assert_eq!(names, ["flow/a", "flow/b"], "the one that is open stays");
        assert!(second.open::<TcpListener>("flow/b", &udp).is_ok(), "a port of TCP is none of UDP");
        assert_eq!(second.open::<UdpSocket>("flow/b", &udp).unwrap().local_addr().unwrap(), udp);
    }

    #[test]
    fn a_unix_socket_is_known_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let keeper = Arc::new(Keeper::default());
        keeper.keep("admin", UnixListener::bind(&path).unwrap().as_fd()).unwrap();
        let doors = keeper.next();
        assert!(doors.unix("admin", folder.path()).is_none() && doors.unix("other", &path).is_none());
        assert!(doors.unix("admin", &path).is_some() && doors.unused().is_empty());
    }

    #[tokio::test]
    async fn it_is_waited_for_those_who_are_inside() {
        let doors = Arc::new(Keeper::default()).next();
        doors.left().await;
        let mut inside = doors.closing();
        let server = tokio::spawn(async move { inside.wait_for(|closing| *closing).await.map(|_| ()) });
        doors.close();
        doors.left().await;
        server.await.unwrap().unwrap();
    }
}
