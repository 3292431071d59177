//! What a process takes over from the one before it: from an elder that still runs and hands over, or from
//! the service manager, which kept it while stoqd was restarted.
//!
//! Owns the names under which descriptors are kept, and the will: what cannot be seen from them. Both come
//! from a process of this program with this user, but a descriptor is used only if it is what the
//! configuration asks for.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use stoq::control::BootId;

/// The form of the will. A process of another form starts as if there were none, or refuses to take over. A
/// field that an older process may leave unread, or a newer one may miss, is no other form.
pub const VERSION: u32 = 1;

/// Longest will in bytes: 65,536 routes and 10,000 links of under 128 bytes each.
const WILL_MAX: u64 = 16 << 20;

/// What a descriptor is, as the service manager names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A queue of the tunnel device.
    Tunnel,
    /// The listening control socket.
    Control,
    /// The listening socket of the metrics.
    Metrics,
    /// The will, in memory.
    Will,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Tunnel, Self::Control, Self::Metrics, Self::Will];

    /// Its name: letters only, as the service manager wants it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Control => "control",
            Self::Metrics => "metrics",
            Self::Will => "will",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What the descriptors do not show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    /// [`VERSION`].
    pub version: u32,
    /// The routes of the device, and whether each is kept beside the main table.
    pub routes: Vec<(String, bool)>,
    /// Only of an elder that runs.
    pub living: Option<Living>,
}

/// What an elder that runs hands over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Living {
    /// When its run began, in nanoseconds since the Unix epoch, and its random number: the successor goes
    /// on under the same boot identity.
    pub boot: (u64, u128),
    /// The peers that it has a link to.
    pub links: Vec<String>,
    /// Its packets went past the kernel.
    pub bypass: bool,
    /// Its number in connection IDs.
    #[serde(default)]
    pub generation: u16,
}

impl Living {
    /// The boot identity.
    #[must_use]
    pub const fn boot(&self) -> BootId {
        BootId { started_ns: self.boot.0, random: self.boot.1 }
    }
}

impl Will {
    /// Writes it to memory that another process can read.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn to_fd(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create(c"stoqd-will", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(file.into())
    }

    fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let mut file = File::from(fd);
        file.rewind()?;
        let mut bytes = Vec::new();
        file.take(WILL_MAX).read_to_end(&mut bytes)?;
        let will: Self = serde_json::from_slice(&bytes)?;
        if will.version == VERSION {
            return Ok(will);
        }
        let got = will.version;
        Err(io::Error::other(format!("expected a will of version {VERSION}, got {got}")))
    }
}

/// What was left to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Queues of the tunnel device.
    pub tunnel: Vec<OwnedFd>,
    control: Vec<OwnedFd>,
    metrics: Vec<OwnedFd>,
    /// The rest.
    pub will: Will,
    /// The process before runs still, and hands over.
    pub has_elder: bool,
}

impl Inherited {
    /// Sorts descriptors by their kind. A will that cannot be read is as good as none.
    ///
    /// # Errors
    /// What is wrong with the will; the descriptors are closed.
    pub fn new(fds: impl IntoIterator<Item = (Kind, OwnedFd)>) -> io::Result<Self> {
        let mut inherited = Self::default();
        for (kind, fd) in fds {
            match kind {
                Kind::Tunnel => inherited.tunnel.push(fd),
                Kind::Control => inherited.control.push(fd),
                Kind::Metrics => inherited.metrics.push(fd),
                Kind::Will => inherited.will = Will::from_fd(fd)?,
            }
        }
        Ok(inherited)
    }

    /// The control socket's listener, if one is this path's; the others are closed.
    pub fn take_control(&mut self, path: &Path) -> Option<UnixListener> {
        let mut left = std::mem::take(&mut self.control).into_iter().map(UnixListener::from);
        // The path must still lead to it: a stranger may have taken its place.
        left.find(|listener| {
            let address = listener.local_addr();
            address.is_ok_and(|address| address.as_pathname() == Some(path)) && path.exists()
        })
    }

    /// The metrics' listener, if one is this address's; the others are closed.
    pub fn take_metrics(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let mut left = std::mem::take(&mut self.metrics).into_iter().map(TcpListener::from);
        left.find(|listener| listener.local_addr().is_ok_and(|bound| bound == address))
    }
}

/// A descriptor that is left to the next process.
pub type Left<'a> = (Kind, BorrowedFd<'a>);

/// Copies of descriptors to leave to the next process, while their owners use them.
#[derive(Debug, Default)]
pub struct Estate(Vec<(Kind, OwnedFd)>);

impl Estate {
    /// Adds a copy of a descriptor.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn add(&mut self, kind: Kind, fd: impl AsFd) -> io::Result<()> {
        self.0.push((kind, fd.as_fd().try_clone_to_owned()?));
        Ok(())
    }

    /// What there is.
    pub fn iter(&self) -> impl Iterator<Item = Left<'_>> {
        self.0.iter().map(|(kind, fd)| (*kind, fd.as_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn will() -> Will {
        let living = Living {
            boot: (7, u128::MAX),
            links: vec!["edge-b".into()],
            bypass: true,
            generation: 3,
        };
        let routes = vec![("10.2.0.0/16".into(), false)];
        Will { version: VERSION, routes, living: Some(living) }
    }

    #[test]
    fn what_is_left_arrives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let control = UnixListener::bind(&path).unwrap();
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = metrics.local_addr().unwrap();
        let mut estate = Estate::default();
        estate.add(Kind::Control, &control).unwrap();
        estate.add(Kind::Metrics, &metrics).unwrap();
        estate.add(Kind::Will, will().to_fd().unwrap()).unwrap();
        let copies = estate.iter().map(|(kind, fd)| (kind, fd.try_clone_to_owned().unwrap()));
        let mut inherited = Inherited::new(copies).unwrap();
        assert_eq!(inherited.will, will());
        assert!(inherited.take_control(&path).is_some());
        assert!(inherited.take_metrics(at).is_some());
        assert!(inherited.take_metrics(at).is_none(), "taken once");
    }

    #[test]
    fn of_listeners_of_more_than_one_address_the_right_one_is_taken() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        for wanted in &listeners {
            let copies = listeners.iter().map(|listener| listener.try_clone().unwrap().into());
            let mut inherited = Inherited::new(copies.map(|fd| (Kind::Metrics, fd))).unwrap();
            let at = wanted.local_addr().unwrap();
            assert_eq!(inherited.take_metrics(at).unwrap().local_addr().unwrap(), at);
        }
    }

    #[test]
    fn what_the_configuration_does_not_ask_for_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let listener = || OwnedFd::from(UnixListener::bind(&path).unwrap());
        let with = |fd| Inherited::new([(Kind::Control, fd)]).unwrap();
        assert!(with(listener()).take_control(&directory.path().join("other")).is_none());
        std::fs::remove_file(&path).unwrap();
        let unlinked = listener();
        std::fs::remove_file(&path).unwrap();
        assert!(with(unlinked).take_control(&path).is_none());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(with(tcp.into()).take_control(&path).is_none());
    }

    #[test]
    fn a_will_of_another_version_is_refused() {
        let other = Will { version: VERSION + 1, ..will() };
        let error = Inherited::new([(Kind::Will, other.to_fd().unwrap())]).unwrap_err();
        assert!(error.to_string().contains("version"), "{error}");
    }

    #[test]
    fn a_will_of_a_neighbouring_version_is_read() {
        let text = br#"{"version":1,"routes":[],"newer":7,
            "living":{"boot":[7,1],"links":["edge-b"],"bypass":false,"newer":"yes"}}"#;
        let mut file = File::from(memfd_create(c"will", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(text).unwrap();
        let inherited = Inherited::new([(Kind::Will, file.into())]).unwrap();
        assert_eq!(inherited.will.living.unwrap().links, ["edge-b"]);
    }

    #[test]
    fn names_are_kinds() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
        assert_eq!(Kind::named("stored"), None);
    }
}
