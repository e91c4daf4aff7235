//! Sockets that whoever started us has bound already: systemd by socket activation, or a shell.
//!
//! Owns the questions that tell what such a socket is; a wrong one is refused by its kind. Read
//! first: sd_listen_fds(3), socket(7).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockaddrStorage, getpeername, getsockopt, sockopt};

use super::fd::take_inherited;
use super::sock;
use crate::config::Protocol;

/// A socket that can be published.
#[derive(Debug)]
pub struct InheritedSocket {
    /// The socket, close-on-exec and non-blocking.
    pub socket: OwnedFd,
    /// What it is bound to.
    pub address: SocketAddr,
    /// TCP that listens, or UDP.
    pub protocol: Protocol,
    /// Whether it takes IPv4 too, though it is an IPv6 socket.
    pub dual_stack: bool,
}

/// A descriptor that is no socket to publish.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum InheritedError {
    #[error("it is not open: who starts rnsnet has to open it")]
    NotOpen,
    #[error("it is {0}, not a TCP or UDP socket")]
    WrongKind(&'static str),
    #[error("it is a TCP socket that does not listen")]
    NotListening,
    #[error("it is a UDP socket that is connected to a peer")]
    Connected,
    #[error("it is a UDP socket without a port")]
    Unbound,
    #[error("cannot ask what it is")]
    Ask(#[source] io::Error),
}

/// Takes over an inherited socket, and finds out what it is.
///
/// Call it once for a number: the owner closes it.
///
/// # Errors
/// A descriptor that is not open, no socket, or one of another kind.
pub fn take_socket(fd: RawFd) -> Result<InheritedSocket, InheritedError> {
    let socket = take_inherited(fd).map_err(|_| InheritedError::NotOpen)?;
    let family = match ask(&socket, libc::SO_DOMAIN) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {
            return Err(InheritedError::WrongKind("no socket"));
        }
        other => other.map_err(InheritedError::Ask)?,
    };
    let v6 = match family {
        libc::AF_INET => false,
        libc::AF_INET6 => true,
        libc::AF_UNIX => return Err(InheritedError::WrongKind("a UNIX socket")),
        libc::AF_NETLINK => return Err(InheritedError::WrongKind("a netlink socket")),
        libc::AF_VSOCK => return Err(InheritedError::WrongKind("a vsock socket")),
        _ => return Err(InheritedError::WrongKind("a socket of another family")),
    };
    let kind = ask(&socket, libc::SO_TYPE).map_err(InheritedError::Ask)?;
    let protocol = ask(&socket, libc::SO_PROTOCOL).map_err(InheritedError::Ask)?;
    let protocol = match (kind, protocol) {
        (libc::SOCK_STREAM, libc::IPPROTO_TCP) => Protocol::Tcp,
        (libc::SOCK_DGRAM, libc::IPPROTO_UDP) => Protocol::Udp,
        (libc::SOCK_RAW, _) => return Err(InheritedError::WrongKind("a raw socket")),
        (_, libc::IPPROTO_SCTP) => return Err(InheritedError::WrongKind("an SCTP socket")),
        (_, libc::IPPROTO_MPTCP) => return Err(InheritedError::WrongKind("an MPTCP socket")),
        (_, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => {
            return Err(InheritedError::WrongKind("a ping socket"));
        }
        _ => return Err(InheritedError::WrongKind("a socket of another protocol")),
    };
    let address = sock::local_addr(socket.as_fd()).map_err(InheritedError::Ask)?;
    match protocol {
        Protocol::Tcp => {
            let listens = getsockopt(&socket, sockopt::AcceptConn);
            if !listens.map_err(|errno| InheritedError::Ask(errno.into()))? {
                return Err(InheritedError::NotListening);
            }
        }
        Protocol::Udp => {
            match getpeername::<SockaddrStorage>(socket.as_raw_fd()) {
                Err(Errno::ENOTCONN) => {}
                Err(errno) => return Err(InheritedError::Ask(errno.into())),
                Ok(_) => return Err(InheritedError::Connected),
            }
            if address.port() == 0 {
                return Err(InheritedError::Unbound);
            }
            sock::prepare_published(&socket, address).map_err(InheritedError::Ask)?;
        }
    }
    let only_v6 = v6
        && getsockopt(&socket, sockopt::Ipv6V6Only).map_err(|e| InheritedError::Ask(e.into()))?;
    let dual_stack = v6 && !only_v6 && address.ip().is_unspecified();
    let prepare = || -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(())
    };
    prepare().map_err(InheritedError::Ask)?;
    Ok(InheritedSocket { socket, address, protocol, dual_stack })
}

/// The value of an option of socket(7) that is an `int`.
fn ask(socket: &OwnedFd, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len: libc::socklen_t = 4;
    // SAFETY: both pointers are to live values, and `len` is the size of an `int`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::IntoRawFd;

    use super::*;

    fn need_loopback() {
        drop(crate::sys::link::bring_up("lo"));
    }

    fn refusal(fd: impl IntoRawFd) -> String {
        take_socket(fd.into_raw_fd()).unwrap_err().to_string()
    }

    #[test]
    fn listeners_and_datagram_sockets_are_taken_as_they_are() {
        need_loopback();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = take_socket(listener.into_raw_fd()).unwrap();
        assert_eq!((taken.address, taken.protocol), (address, Protocol::Tcp));
        assert!(!taken.dual_stack);
        let error = sock::tcp_accept(taken.socket.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let taken = take_socket(socket.into_raw_fd()).unwrap();
        assert_eq!((taken.address, taken.protocol), (address, Protocol::Udp));
    }

    #[test]
    fn whatever_else_it_is_is_named() {
        need_loopback();
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(refusal(a), "it is a UNIX socket, not a TCP or UDP socket");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(refusal(file), "it is no socket, not a TCP or UDP socket");
        drop(b);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(refusal(stream), "it is a TCP socket that does not listen");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect("127.0.0.1:9").unwrap();
        assert_eq!(refusal(socket), "it is a UDP socket that is connected to a peer");
        assert_eq!(
            take_socket(i32::MAX).unwrap_err().to_string(),
            "it is not open: who starts rnsnet has to open it"
        );
    }
}
