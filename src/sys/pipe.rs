//! A pipe that bytes go through from one socket to another without a copy: splice(2), Linux 2.6.17.
//!
//! It is empty between two calls of [`Pipe::pass`], so one is enough for all connections: what the
//! second socket does not take is read out of it again. Not here: which sockets are ready.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::{pipe2, read};

/// Bytes that the pipe holds, if the user may have so many (pipe(7), `pipe-user-pages-soft`): a page
/// of it can hold a whole page of a socket's queue, however little of that page is data.
const CAPACITY: i32 = 1 << 20;

/// An empty pipe.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// What became of some bytes.
#[derive(Debug)]
pub struct Passed {
    /// How many were taken from the first socket; 0 at the end of its stream.
    pub taken: usize,
    /// What went wrong after that, `EAGAIN` for a full queue among it.
    pub stopped: Option<io::Error>,
}

impl Pipe {
    /// # Errors
    /// What pipe2(2) reports.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        if let Err(errno) = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(CAPACITY)) {
            log::debug!("a pipe stays as small as it is: {errno}");
        }
        Ok(Self { reader, writer })
    }

    /// Takes `most` bytes from one socket and gives them to another; what that does not take is
    /// appended to `rest`.
    ///
    /// # Errors
    /// What splice(2) reports of the first socket, `EAGAIN` if it has nothing.
    pub fn pass(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        most: usize,
        rest: &mut Vec<u8>,
    ) -> io::Result<Passed> {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        let taken = splice(from, None, &self.writer, None, most, flags)?;
        let (mut left, mut stopped) = (taken, None);
        while left > 0 && stopped.is_none() {
            match splice(&self.reader, None, to, None, left, flags) {
                Ok(given) => left = left.saturating_sub(given),
                Err(Errno::EINTR) => {}
                Err(errno) => stopped = Some(errno.into()),
            }
        }
        let first = rest.len();
        rest.resize(first + left, 0);
        let mut space = rest.get_mut(first..).unwrap_or_default();
        while !space.is_empty() {
            match read(&self.reader, space) {
                Ok(length) => space = space.get_mut(length..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Passed { taken, stopped })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn streams() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    #[test]
    fn bytes_pass_and_what_is_not_taken_is_kept() {
        let pipe = Pipe::new().unwrap();
        let ((from, mut client), (to, mut server)) = (streams(), streams());
        let mut rest = Vec::new();
        let nothing = pipe.pass(from.as_fd(), to.as_fd(), 1000, &mut rest).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);

        let mut sent = Vec::new();
        let full = loop {
            let bytes: Vec<u8> = (sent.len()..sent.len() + 9_999)
                .map(|at| u8::try_from(at % 251).unwrap())
                .collect();
            client.write_all(&bytes).unwrap();
            sent.extend(bytes);
            let passed = pipe.pass(from.as_fd(), to.as_fd(), 10_000, &mut rest).unwrap();
            assert_eq!(passed.taken, 9_999);
            if let Some(error) = passed.stopped {
                break error;
            }
            assert!(rest.is_empty());
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert!(!rest.is_empty());
        let mut got = vec![0; sent.len() - rest.len()];
        server.read_exact(&mut got).unwrap();
        assert_eq!([got, rest.split_off(0)].concat(), sent);

        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(pipe.pass(from.as_fd(), to.as_fd(), 1000, &mut rest).unwrap().taken, 0);
    }

    #[test]
    fn a_socket_that_is_gone_leaves_the_pipe_empty() {
        let pipe = Pipe::new().unwrap();
        let ((from, mut client), (to, server)) = (streams(), streams());
        server.shutdown(std::net::Shutdown::Both).unwrap();
        client.write_all(b"lost").unwrap();
        let mut rest = Vec::new();
        let passed = pipe.pass(from.as_fd(), to.as_fd(), 1000, &mut rest).unwrap();
        assert_eq!(passed.stopped.unwrap().kind(), ErrorKind::BrokenPipe);
        let ((from, mut client), (to, mut server)) = (streams(), streams());
        client.write_all(b"new").unwrap();
        assert_eq!(pipe.pass(from.as_fd(), to.as_fd(), 1000, &mut rest).unwrap().taken, 3);
        let mut got = [0; 3];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"new");
    }
}
