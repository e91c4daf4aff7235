//! What tests share that touch the machine they run on. It may be slow and busy with other things, and
//! other tests of this process run at the same time: what one has bound is taken for the others, and a
//! child that one has started has a copy of every descriptor there is, for a moment at least. So what
//! was closed may stay open a little longer, of which shutdown(2) tells the other end all the same.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::poll::{PollTimeout, poll};
use smoltcp::time::Duration;

use crate::clock::Clock;
use crate::engine::Instant;

/// How long is waited for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is something. Where nothing of the program runs between two looks, what is there in
/// the end was there from the start, as far as the program is concerned.
///
/// # Panics
/// When there is nothing after a minute.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::new();
    loop {
        // Once more after the time, however late that is.
        let late = clock.now() > Instant::ZERO + PATIENCE;
        if let Some(found) = look() {
            return found;
        }
        assert!(!late, "not within {PATIENCE}: {what}");
        poll(&mut [], PollTimeout::from(1_u8)).ok();
    }
}

/// Waits for events, for a time at most; none when it is interrupted, as by a stop of the process.
pub(crate) fn wait(poll: &mut mio::Poll, events: &mut mio::Events, millis: u64) {
    match poll.poll(events, Some(std::time::Duration::from_millis(millis))) {
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => events.clear(),
        other => other.unwrap(),
    }
}

/// An address and port of the loopback that nobody else has: no other test, be it of another run, and no
/// connection, whose own port the kernel chooses above 32767.
pub(crate) fn address() -> SocketAddr {
    let random = getrandom::u32().unwrap();
    let port = 10_000 + u16::try_from(random % 10_000).unwrap();
    SocketAddr::new(loopback().into(), port)
}

/// An address of the loopback that nobody else uses.
pub(crate) fn loopback() -> Ipv4Addr {
    drop(crate::sys::link::bring_up("lo"));
    // 127.64.0.0 and on.
    Ipv4Addr::from_bits(0x7f40_0000 | getrandom::u32().unwrap() >> 10)
}

/// Waits until nobody listens at an address of the loopback any more, not even a child of another test
/// that has a copy of the socket.
#[track_caller]
pub(crate) fn nobody_listens(at: SocketAddr) {
    // A queue that nobody accepts from takes no more some time.
    let patience = std::time::Duration::from_secs(1);
    until("nobody listens", || {
        let error = TcpStream::connect_timeout(&at, patience).err()?;
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    });
}

/// A new directory for a test.
pub(crate) fn scratch(test: &str) -> PathBuf {
    let number = getrandom::u32().unwrap();
    let directory = std::env::temp_dir().join(format!("rnsnet-{test}-{number:x}"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    directory
}
