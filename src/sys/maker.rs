//! Sockets made inside a container while its network is served.
//!
//! A socket belongs to the network namespace that its maker is in (network_namespaces(7)), and the
//! network process never enters a container. So a child does, and stays: it makes sockets on
//! request, hands them over and does nothing else. Of its rights it keeps the one to bind ports
//! below 1024 in the container; it can reach no file, and few system calls. It ends with its
//! parent. What the sockets are for is decided in `io/relay`.

use std::fs::OpenOptions;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, getpid};

use super::netns::{self, ChildError, Failure, Reply};
use super::{isolate, sock};

/// The child, as long as it answers.
#[derive(Debug)]
pub struct Maker {
    requests: Option<OwnedFd>,
}

/// A socket inside the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A TCP listener, even where the address is not there yet.
    TcpListener(SocketAddr),
    /// A UDP socket, the same.
    UdpBound(SocketAddr),
    /// A TCP socket to connect, of IPv6 or not.
    Tcp {
        /// Of IPv6.
        v6: bool,
    },
    /// A UDP socket to connect.
    Udp {
        /// Of IPv6.
        v6: bool,
    },
}

impl Maker {
    /// Starts the child in `netns`, by way of `userns` unless that is the caller's own.
    ///
    /// The process must be single-threaded.
    ///
    /// # Errors
    /// See [`ChildError`].
    pub fn start(
        netns: BorrowedFd<'_>,
        userns: Option<BorrowedFd<'_>>,
    ) -> Result<Self, ChildError> {
        let (ours, theirs) = netns::message_pair().map_err(ChildError::Start)?;
        let parent = getpid();
        let pid = netns::spawn(|| {
            let ready = netns::enter(netns, userns, parent).and_then(|()| settle(&theirs));
            let ready = ready.map(|()| Reply { fd: None, flags: 0 });
            let is_ready = ready.is_ok();
            match netns::send_reply(theirs.as_fd(), ready) {
                Ok(()) if is_ready => serve(theirs.as_fd()),
                _ => 1,
            }
        })
        .map_err(ChildError::Start)?;
        drop(theirs);
        match netns::receive_reply(ours.as_fd()).map_err(ChildError::Start)? {
            Some(Ok(_)) => {}
            Some(Err(failure)) => return Err(netns::child_error(failure)),
            None => {
                return Err(ChildError::Died(netns::wait(pid).map_err(ChildError::Start)?));
            }
        }
        // Nothing that the child does takes long; one that was stopped must not stop us.
        setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_S))
            .map_err(|errno| ChildError::Start(errno.into()))?;
        Ok(Self { requests: Some(ours) })
    }

    /// Has a socket made.
    ///
    /// # Errors
    /// What socket(2), bind(2) and listen(2) report in the container; `EMFILE` when there is no
    /// descriptor left for it here; `BrokenPipe` from the child's end on.
    pub fn make(&mut self, wanted: Wanted) -> io::Result<OwnedFd> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        let answer = netns::send(requests.as_fd(), &wanted.encode(), None)
            .and_then(|()| netns::receive_reply(requests.as_fd()));
        match answer {
            Ok(Some(Ok(reply))) => {
                reply.fd.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))
            }
            Ok(Some(Err(failure))) => Err(io::Error::from_raw_os_error(failure.errno)),
            // The kernel has dropped a descriptor that there was no number for here.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                Err(io::Error::from_raw_os_error(libc::EMFILE))
            }
            // A late answer would be taken for that of the next request.
            Ok(None) | Err(_) => {
                log::warn!("the process that makes sockets in the container does not answer");
                self.requests = None;
                Err(gone())
            }
        }
    }
}

impl Wanted {
    /// A kind, a port, an address.
    fn encode(self) -> [u8; REQUEST_LEN] {
        let any = |v6| SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(u128::from(v6))), 0);
        let (kind, address) = match self {
            Self::TcpListener(address) => (0, address),
            Self::UdpBound(address) => (1, address),
            Self::Tcp { v6 } => (2, any(v6)),
            Self::Udp { v6 } => (3, any(v6)),
        };
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut request = [0; REQUEST_LEN];
        let (head, rest) = request.split_at_mut(3);
        let [high, low] = address.port().to_be_bytes();
        head.copy_from_slice(&[kind, high, low]);
        rest.copy_from_slice(&ip.octets());
        request
    }

    fn decode(request: &[u8]) -> Option<Self> {
        let [kind, high, low, ip @ ..] = request else { return None };
        let ip = Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?);
        let v6 = ip == Ipv6Addr::LOCALHOST;
        let port = u16::from_be_bytes([*high, *low]);
        let address = SocketAddr::new(ip.to_canonical(), port);
        Some(match kind {
            0 => Self::TcpListener(address),
            1 => Self::UdpBound(address),
            2 => Self::Tcp { v6 },
            3 => Self::Udp { v6 },
            _ => return None,
        })
    }

    fn make(self) -> io::Result<OwnedFd> {
        match self {
            Self::TcpListener(address) => sock::tcp_listen(address, true),
            Self::UdpBound(address) => sock::udp_bind(address, true),
            Self::Tcp { v6 } => sock::tcp_open(v6),
            Self::Udp { v6 } => sock::udp_open(v6),
        }
    }
}

/// In the child: lets go of everything but the requests.
fn settle(requests: &OwnedFd) -> Result<(), Failure> {
    let settle = || {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        drop(null);
        isolate::close_all_but(&[requests.as_raw_fd()])
    };
    let failed = |errno, text: String| Failure { code: 0, errno, text };
    settle().map_err(|error| {
        failed(error.raw_os_error().unwrap_or(libc::EIO), "cannot let go of descriptors".into())
    })?;
    isolate::isolate_maker().map_err(|error| failed(error.errno(), error.to_string()))
}

/// In the child: answers until the parent is gone. Returns the exit status.
fn serve(requests: BorrowedFd<'_>) -> i32 {
    loop {
        let request = match netns::receive(requests) {
            Ok((request, _)) if request.is_empty() => return 0,
            Ok((request, _)) => request,
            Err(_) => return 1,
        };
        let made = Wanted::decode(&request).ok_or_else(|| io::ErrorKind::InvalidInput.into());
        let reply = match made.and_then(Wanted::make) {
            Ok(socket) => Ok(Reply { fd: Some(socket), flags: 0 }),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                Err(Failure { code: 0, errno, text: String::new() })
            }
        };
        if netns::send_reply(requests, reply).is_err() {
            return 1;
        }
    }
}

/// Bytes of a request.
const REQUEST_LEN: usize = 19;
/// How long an answer may take, in seconds.
const PATIENCE_S: i64 = 2;

/// Whether a test may have a child enter the namespace that it is in: setns(2) wants rights there.
#[cfg(test)]
pub fn may_be_started() -> bool {
    let may = nix::unistd::geteuid().is_root();
    if !may {
        eprintln!("SKIP: only root may enter its own network namespace");
    }
    may
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;
    use crate::sys::netns::{Kind, own};

    fn maker() -> Maker {
        drop(crate::sys::link::bring_up("lo"));
        let netns = own(Kind::Network).unwrap();
        // The caller's own network namespace can be entered by who has rights in its owner.
        Maker::start(netns.as_fd(), None).unwrap()
    }

    #[test]
    fn requests_say_what_is_wanted() {
        for wanted in [
            Wanted::TcpListener("127.0.0.1:80".parse().unwrap()),
            Wanted::TcpListener("[::1]:65535".parse().unwrap()),
            Wanted::UdpBound("127.0.0.9:53".parse().unwrap()),
            Wanted::Tcp { v6: true },
            Wanted::Tcp { v6: false },
            Wanted::Udp { v6: true },
            Wanted::Udp { v6: false },
        ] {
            assert_eq!(Wanted::decode(&wanted.encode()), Some(wanted));
        }
        for request in [&b""[..], b"\0\0\0", &[4; REQUEST_LEN], &[0; REQUEST_LEN + 1]] {
            assert_eq!(Wanted::decode(request), None, "{request:?}");
        }
    }

    #[test]
    fn sockets_are_made_and_errors_told() {
        if !may_be_started() {
            return;
        }
        let mut maker = maker();
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = maker.make(Wanted::TcpListener(any)).unwrap();
        let address = sock::local_addr(listener.as_fd()).unwrap();
        let taken = maker.make(Wanted::TcpListener(address)).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let stream = maker.make(Wanted::Tcp { v6: false }).unwrap();
        sock::connect_to(&stream, address).unwrap();
        for wanted in [Wanted::UdpBound(any), Wanted::Udp { v6: false }] {
            assert!(maker.make(wanted).is_ok(), "{wanted:?}");
        }
    }

    // In a child of its own, whose limit is nobody else's.
    #[test]
    fn without_a_descriptor_for_it_a_socket_is_not_had_and_the_next_one_is() {
        if !may_be_started() {
            return;
        }
        let pid = netns::spawn(|| {
            let mut maker = maker();
            let limits = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 0, limits.1).unwrap();
            let starved = maker.make(Wanted::Tcp { v6: false });
            setrlimit(Resource::RLIMIT_NOFILE, limits.0, limits.1).unwrap();
            let errno = starved.unwrap_err().raw_os_error();
            let again = maker.make(Wanted::Tcp { v6: false });
            i32::from(errno != Some(libc::EMFILE) || again.is_err())
        });
        assert_eq!(netns::wait(pid.unwrap()).unwrap(), 0);
    }

    #[test]
    fn a_child_that_is_gone_is_told_once_and_for_all() {
        if !may_be_started() {
            return;
        }
        let mut maker = maker();
        // No request at all: the child's end closes at once.
        netns::send(maker.requests.as_ref().unwrap().as_fd(), b"", None).unwrap();
        for _ in 0..2 {
            let error = maker.make(Wanted::Tcp { v6: false }).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
