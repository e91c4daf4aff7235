//! Bytes and descriptors over connected UNIX stream sockets, unix(7), `SCM_RIGHTS`.
//!
//! What the bytes mean is for the caller; so is waiting, as nothing here ever does.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Most descriptors that are taken with one call; a message with more is refused whole.
pub const MAX_FDS: usize = 16;

/// Reads what there is, up to the length of `buffer`, and appends the descriptors that came with
/// it to `fds`, close-on-exec. 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock` when there is nothing, `InvalidData` when there are more descriptors than
/// [`MAX_FDS`] (those that came are closed), and what recvmsg(2) reports.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: plain numbers and null pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: the message points to the caller's buffer and to `control`, with their lengths, and
    // both outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // By hand, since nix does not show the descriptors of control data that was cut short, and
    // they would never be closed.
    let mut received = take_fds(&message);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
    }
    fds.append(&mut received);
    Ok(length)
}

/// The descriptors in a message's control data.
fn take_fds(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the control data and set its length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: null, or a header inside the control data, which is aligned for it.
    while let Some(header) = unsafe { next.as_ref() } {
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: computes lengths and a pointer behind the header; nothing is read.
            let (start, header_len) = unsafe { (libc::CMSG_DATA(next), libc::CMSG_LEN(0)) };
            // 32 bits wide in musl, as wide as a pointer in glibc.
            #[allow(clippy::unnecessary_cast)]
            let count = (header.cmsg_len as usize).saturating_sub(header_len as usize);
            for index in 0..count / size_of::<RawFd>() {
                // SAFETY: the header's length says that there are that many descriptors. The
                // kernel has just installed them, for us alone.
                fds.push(unsafe {
                    OwnedFd::from_raw_fd(start.cast::<RawFd>().add(index).read_unaligned())
                });
            }
        }
        // SAFETY: as for the first one.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    fds
}

/// Room for [`MAX_FDS`] descriptors, aligned as `struct cmsghdr`.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

#[allow(clippy::cast_possible_truncation)] // 64
// SAFETY: computes a number from a number.
const CONTROL_LEN: usize =
    unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as libc::c_uint) as usize };

/// Writes a prefix of `bytes` and returns its length; all of `fds` go with its first byte.
///
/// # Errors
/// `WouldBlock` when there is no room, and what sendmsg(2) reports.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &control[..0] } else { &control[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_and_descriptors_cross() {
        let (a, b) = UnixStream::pair().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        assert_eq!(send(a.as_fd(), b"hello", &[reader.into()]).unwrap(), 5);
        let (mut buffer, mut fds) = ([0; 10], Vec::new());
        assert_eq!(receive(b.as_fd(), &mut buffer, &mut fds).unwrap(), 5);
        assert_eq!(fds.len(), 1);
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(fds.pop().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        let error = receive(b.as_fd(), &mut buffer, &mut fds).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        a.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(receive(b.as_fd(), &mut buffer, &mut fds).unwrap(), 0);
    }

    /// What the kernel leaves behind, made by hand: Miri does not know it.
    #[test]
    fn descriptors_are_found_in_control_data() {
        use std::os::fd::IntoRawFd;
        let pair = || UnixStream::pair().unwrap();
        let ((a, mut b), (c, d)) = (pair(), pair());
        let raw = [a, c].map(IntoRawFd::into_raw_fd);
        let mut control = Control([0; CONTROL_LEN]);
        // SAFETY: as in `receive`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        #[allow(clippy::cast_possible_truncation)] // 8
        let len = size_of_val(&raw) as libc::c_uint;
        // SAFETY: the buffer is aligned and has room for more descriptors than these.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len) as _;
            libc::CMSG_DATA(header).cast::<[RawFd; 2]>().write_unaligned(raw);
            message.msg_controllen = libc::CMSG_SPACE(len) as _;
        }
        let found = take_fds(&message);
        assert_eq!(found.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), raw);
        drop(found);
        assert_eq!(b.read(&mut [0; 4]).unwrap(), 0, "the other end was closed");
        drop(d);
    }

    #[test]
    fn too_many_descriptors_are_refused_and_closed() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let writers = (0..=MAX_FDS).map(|_| writer.try_clone().unwrap().into()).collect::<Vec<_>>();
        send(a.as_fd(), b"x", &writers).unwrap();
        drop((writer, writers));
        let (mut buffer, mut fds) = ([0; 10], Vec::new());
        let error = receive(b.as_fd(), &mut buffer, &mut fds).unwrap_err();
        assert_eq!((error.kind(), fds.len()), (io::ErrorKind::InvalidData, 0));
        // Nobody holds the pipe's other end any more.
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    }
}
