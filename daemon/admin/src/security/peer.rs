//! Who is at the other end of a connection: an address, or a process of this machine that the kernel vouches for.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use millstream_net::CertificateNames;
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// Who may open the socket: its owner, and the members of its group.
const MODE: u32 = 0o660;

/// How a request came, which is the same for all of a connection.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// From where.
    pub peer: Peer,
    /// At which address of this machine. None of a Unix socket.
    pub local: Option<SocketAddr>,
    /// Whether it came with TLS.
    pub encrypted: bool,
    /// The names in the certificate that the client has shown, if one of the authorities vouches for it.
    pub certificate: Option<CertificateNames>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A machine, or this one over the network.
    Address(SocketAddr),
    /// A process of this machine, over the Unix socket.
    Process(Process),
}

/// A process at the other end of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its user.
    pub uid: u32,
    /// Its number, for the log: another one may have it by now.
    pub pid: Option<i32>,
    /// Whether it is one that administers the daemon.
    pub is_admin: bool,
}

impl Arrival {
    /// One over TCP.
    pub fn from_network(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { peer: Peer::Address(peer), local: Some(local), encrypted: false, certificate: None }
    }

    /// The same with TLS, by which the client may have said who it is.
    pub fn with_tls(self, certificate: Option<CertificateNames>) -> Self {
        Self { encrypted: true, certificate, ..self }
    }

    /// One over the Unix socket at `path`.
    ///
    /// # Errors
    /// If the kernel does not say who it is.
    pub fn from_process(stream: &UnixStream, path: &Path) -> io::Result<Self> {
        let process = Process::at_other_end(stream, path)?;
        Ok(Self { peer: Peer::Process(process), local: None, encrypted: false, certificate: None })
    }
}

impl Peer {
    /// The address without its port. `None` of a process.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.ip().to_canonical()),
            Self::Process(_) => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Process(Process { uid, pid: Some(pid), .. }) => write!(f, "unix:uid={uid},pid={pid}"),
            Self::Process(Process { uid, pid: None, .. }) => write!(f, "unix:uid={uid}"),
        }
    }
}

impl Process {
    fn at_other_end(stream: &UnixStream, path: &Path) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let socket = std::fs::symlink_metadata(path)?;
        let is_admin = administers(uid, gid, geteuid().as_raw(), &Access { mode: socket.mode(), gid: socket.gid() });
        Ok(Self { uid, pid: credentials.pid(), is_admin })
    }
}

/// Who may open a socket.
struct Access {
    mode: u32,
    gid: u32,
}

/// Root, the daemon's own user, and members of the socket's group. The kernel says only the first group of a process, and no user at all where
/// users are mapped (`PrivateUsers=`), but it lets nobody else open a socket that is closed to others: so whoever has come in there is one.
fn administers(uid: u32, gid: u32, own: u32, socket: &Access) -> bool {
    let is_closed_to_others = socket.mode & 0o002 == 0;
    uid == 0 || uid == own || gid == socket.gid || is_closed_to_others
}

/// Listens at a path, which nobody but the user and the members of the group can open. What a process has left there that is no more
/// gives way.
///
/// # Errors
/// If somebody listens there, or something else is there.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        _ => {}
    }
    // It comes to its place once it is closed to others, so that nobody is in before.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let hidden = tempfile::Builder::new().prefix(".").rand_bytes(4).tempdir_in(folder)?;
    let made = hidden.path().join("s");
    let listener = UnixListener::bind(&made)?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(MODE))?;
    std::fs::rename(&made, path)?;
    Ok(listener)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_administers() {
        let (closed, open) = (Access { mode: 0o140_660, gid: 50 }, Access { mode: 0o140_666, gid: 50 });
        for (uid, gid, expected) in [(0, 0, true), (7, 70, true), (8, 50, true), (8, 80, false)] {
            assert_eq!(administers(uid, gid, 7, &open), expected, "{uid} {gid}");
            assert!(administers(uid, gid, 7, &closed), "the kernel has let it in");
        }
    }

    #[tokio::test]
    async fn a_socket_is_closed_to_others_and_says_who_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        for _ in 0..2 {
            let listener = listen(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
            let client = UnixStream::connect(&path).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let arrival = Arrival::from_process(&stream, &path).unwrap();
            let Peer::Process(process) = arrival.peer else { panic!("{arrival:?}") };
            assert!(process.uid == geteuid().as_raw() && process.is_admin, "{process:?}");
            assert_eq!(arrival.peer.to_string(), format!("unix:uid={},pid={}", process.uid, std::process::id()));
            assert!(listen(&path).unwrap_err().to_string().contains("another process listens there"));
            drop((client, listener));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing hidden is left");
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, "data").unwrap();
        assert!(listen(&path).unwrap_err().to_string().contains("no socket"));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }
}
