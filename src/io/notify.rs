//! The service manager that started us: sd_notify(3), for systemd units with `Type=notify`, or
//! `notify-reload` (systemd 253).
//!
//! The socket is opened before files and new sockets are given up; a manager that cannot be told
//! is no reason not to serve. The command of `rnsnet run` inherits the variable, and is not listened
//! to as long as the unit says `NotifyAccess=main`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;

use crate::clock::monotonic_micros;

/// Where the manager listens, if there is one.
#[derive(Debug, Default, Clone)]
pub struct Manager {
    socket: Option<Rc<UnixDatagram>>,
    /// Our own, asked for while it can be.
    pid: u32,
}

impl Manager {
    /// The manager that the variable `NOTIFY_SOCKET` names.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match connect(&name) {
            Ok(socket) => Self { socket: Some(socket.into()), pid: std::process::id() },
            Err(error) => {
                log::warn!("cannot reach the service manager at {}: {error}", name.display());
                Self::default()
            }
        }
    }

    /// Says that the network works and what it is in one line; `in_background`, also that this is
    /// the process to watch, and not the one that was started.
    pub fn ready(&self, status: &str, in_background: bool) {
        // Line breaks separate assignments, and nothing we say of a network has one.
        let mut message = format!("READY=1\nSTATUS={}", status.replace('\n', " "));
        if in_background {
            message.push_str(&format!("\nMAINPID={}", self.pid));
        }
        self.tell(&message);
    }

    /// Whether there is one. It has us read our configuration again by SIGHUP, which without it is
    /// a terminal that hangs up.
    pub(super) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Says that the configuration is read again while `read` does so, and that we are ready after it.
    pub(super) fn reload(&self, read: impl FnOnce()) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_micros()));
        read();
        self.tell("READY=1");
    }

    /// Says that the end has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            log::debug!("the service manager was not told: {error}");
        }
    }
}

/// A path, or after `@` a name in the abstract namespace of unix(7).
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not stop us.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(manager: &UnixDatagram) -> String {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    #[test]
    fn the_manager_is_told_by_path_and_by_abstract_name() {
        let directory = crate::testing::scratch("notify");
        let path = directory.join("socket");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let abstract_name = format!("rnsnet-test-{}", directory.display());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        let at_name = format!("@{abstract_name}");
        for (name, socket) in [(path.as_os_str(), &by_path), (at_name.as_ref(), &by_name)] {
            let manager = Manager { socket: Some(connect(name).unwrap().into()), pid: 7 };
            manager.ready("eth0\nup", false);
            assert_eq!(told(socket), "READY=1\nSTATUS=eth0 up");
            manager.ready("", true);
            assert!(told(socket).ends_with("\nMAINPID=7"));
            let before = monotonic_micros();
            manager.reload(|| {
                let reloading = told(socket);
                let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
                assert!((before..=monotonic_micros()).contains(&at.parse().unwrap()), "{at}");
            });
            assert_eq!(told(socket), "READY=1");
            manager.stopping();
            assert_eq!(told(socket), "STOPPING=1");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_cannot_be_reached_is_an_error_and_no_end() {
        assert!(connect("/no/such/socket".as_ref()).is_err());
        assert!(connect("vsock:2:1234".as_ref()).is_err());
        Manager::default().ready("nobody listens", true);
    }
}
