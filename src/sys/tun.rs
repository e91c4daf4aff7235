//! TAP devices: making one, and reading and writing its frames.
//!
//! Owns the ioctls of `/dev/net/tun` and the choice between a TAP with a virtio header and a plain
//! one. It neither configures the interface (`link.rs`) nor knows what a frame is. Read first:
//! Documentation/networking/tuntap.rst and `struct virtio_net_hdr` in the virtio specification
//! (section 5.1.6). The plain TAP is opened by the crate `tun-tap`, which has no way to ask for
//! `IFF_VNET_HDR`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::net::if_::if_nametoindex;

use crate::config::{MacAddress, Offload};

/// The network process's end of a container's interface.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    vnet_header: bool,
    udp_offload: bool,
    /// The interface survives us if we are killed, but not an end in order.
    persistent: bool,
    /// Another user has the descriptor too, who may set it to wait.
    shared: bool,
}

impl Tap {
    /// Takes over the descriptor of a TAP and makes it non-blocking and close-on-exec.
    /// `vnet_header` says whether every frame is preceded by a virtio header of
    /// [`VNET_HEADER_LEN`] bytes. Where it is, the kernel is asked for super-frames of UDP as well.
    ///
    /// # Errors
    /// What fcntl(2) reports.
    pub fn from_fd(fd: OwnedFd, vnet_header: bool) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let device = File::from(fd);
        // Linux 6.2; an older kernel keeps what was set.
        let udp_offload = vnet_header && set_offload(&device, TCP_OFFLOADS | UDP_OFFLOADS).is_ok();
        let fd = device.into();
        Ok(Self { fd, vnet_header, udp_offload, persistent: false, shared: false })
    }

    /// The same for a descriptor that another user has as well, who could take away at any time
    /// that it does not wait: every call says so itself (`RWF_NOWAIT`, Linux 5.9 for a TAP).
    ///
    /// # Errors
    /// As [`Tap::from_fd`], and `EOPNOTSUPP` of an older kernel.
    pub fn from_stranger(fd: OwnedFd, vnet_header: bool) -> io::Result<Self> {
        let mut tap = Self::from_fd(fd, vnet_header)?;
        tap.shared = true;
        // No frame, so that nobody gets it.
        match tap.write(&[0]) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Err(error),
            _ => Ok(tap),
        }
    }

    /// Takes over a TAP that somebody else has opened, as it is: with or without the virtio
    /// header. Offloads are asked for where there is one. It must have been opened with
    /// `IFF_NO_PI`, which cannot be found out: the kernel reports `IFF_NOFILTER` by the same bit.
    ///
    /// # Errors
    /// `ENOTTY` or `EBADFD` when the descriptor is no interface's, `InvalidInput` for a TUN.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let device = File::from(fd);
        let request = interface_of(device.as_fd())?;
        // SAFETY: TUNGETIFF has written the flags, and any bits are valid in this field.
        let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & libc::IFF_TAP == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let vnet_header = flags & libc::IFF_VNET_HDR != 0;
        if vnet_header {
            set_offloading(&device)?;
        }
        Self::from_fd(device.into(), vnet_header)
    }

    /// The hardware address of the interface, in whatever namespace it is.
    ///
    /// # Errors
    /// What the driver reports; `EBADFD` once the interface was deleted.
    pub fn hardware_address(&self) -> io::Result<MacAddress> {
        let mut request = empty_request();
        // SAFETY: SIOCGIFHWADDR of a tun descriptor writes one `ifreq`, which outlives the call.
        check(unsafe {
            libc::ioctl(self.fd.as_raw_fd(), libc::SIOCGIFHWADDR as libc::Ioctl, &raw mut request)
        })?;
        // SAFETY: the driver has written an address; the field is an array of bytes.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
        // `c_char` is signed on x86; the bits are the same.
        let [a, b, c, d, e, f, ..] = address.map(|byte| u8::from_ne_bytes(byte.to_ne_bytes()));
        Ok(MacAddress([a, b, c, d, e, f]))
    }

    /// Lets the interface, with its addresses and routes, outlive this process if it is killed, so
    /// that another can take it over by [`attach`]. Dropping the value removes it all the same.
    ///
    /// # Errors
    /// `EBADFD` once the interface was deleted.
    pub fn persist(&mut self) -> io::Result<()> {
        set_persistent(self.fd.as_fd(), true)?;
        self.persistent = true;
        Ok(())
    }

    /// Whether several UDP datagrams may be one frame, in both directions.
    #[must_use]
    pub fn udp_offload(&self) -> bool {
        self.udp_offload
    }

    /// Whether a virtio header precedes every frame.
    #[must_use]
    pub fn vnet_header(&self) -> bool {
        self.vnet_header
    }

    /// Reads one frame, with its virtio header if there is one, and returns its length in bytes.
    ///
    /// # Errors
    /// `WouldBlock` when no frame waits, `EBADFD` once the interface was deleted, `EIO` while it
    /// is down.
    pub fn read(&self, frame: &mut [u8]) -> io::Result<usize> {
        if self.shared {
            return no_wait(libc::SYS_preadv2, &self.fd, frame.as_mut_ptr(), frame.len());
        }
        Ok(nix::unistd::read(&self.fd, frame)?)
    }

    /// Writes one frame, with its virtio header if there is one. The kernel takes all or nothing.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel's socket buffer is full, `EINVAL` for a bad virtio header,
    /// `EIO` while the interface is down.
    pub fn write(&self, frame: &[u8]) -> io::Result<usize> {
        if self.shared {
            return no_wait(libc::SYS_pwritev2, &self.fd, frame.as_ptr().cast_mut(), frame.len());
        }
        Ok(nix::unistd::write(&self.fd, frame)?)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if self.persistent
            && let Err(error) = set_persistent(self.fd.as_fd(), false)
        {
            log::debug!("the container's interface stays or is gone already: {error}");
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Makes the TAP `name` in the network namespace of the calling process and returns its descriptor
/// and whether frames carry a virtio header. The device lives as long as the descriptor.
///
/// With [`Offload::Auto`] the container's kernel may leave checksums unfinished and hand over TCP
/// super-frames of up to 64 KiB; a kernel that refuses the header or the offloads gives a plain TAP.
///
/// # Errors
/// `EEXIST` if the interface exists, `EINVAL` for a name that is not 1 to 15 bytes long; `ENOENT`,
/// `ENODEV` or `EACCES` when `/dev/net/tun` cannot be opened; `EPERM` without `CAP_NET_ADMIN`.
pub fn create(name: &str, offload: Offload) -> io::Result<(OwnedFd, bool)> {
    check_name(name)?;
    // Without this a plain TUNSETIFF would attach to a persistent TAP of that name.
    if if_nametoindex(name).is_ok() {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    match offload {
        Offload::Off => create_plain(name),
        Offload::Auto => match create_offloading(name) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create_plain(name),
            // IFF_TUN_EXCL: made by somebody else since the check above.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                Err(io::Error::from_raw_os_error(libc::EEXIST))
            }
            other => other,
        },
    }
}

/// A longer name would be cut, and `%d` replaced by a number: neither is what was asked for.
fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['\0', '%', '/']) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(())
}

/// The name of the interface of a TAP's or TUN's descriptor, in whatever namespace it is.
///
/// # Errors
/// `ENOTTY` or `EBADFD` when the descriptor is no interface's.
pub fn name(tap: &OwnedFd) -> io::Result<String> {
    let request = interface_of(tap.as_fd())?;
    // `c_char` is signed on x86; the bits are the same.
    let bytes = request.ifr_name.map(|byte| u8::from_ne_bytes(byte.to_ne_bytes()));
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Takes over the persistent TAP `name`, or makes it if there is no interface of that name, and
/// returns what [`create`] does.
///
/// # Errors
/// As [`create`], but instead of `EEXIST`: `EINVAL` when the interface is no TAP or one with several
/// queues, `EBUSY` when another process has it.
pub fn attach(name: &str, offload: Offload) -> io::Result<(OwnedFd, bool)> {
    check_name(name)?;
    match offload {
        Offload::Off => attach_plain(name),
        Offload::Auto => match open_offloading(name, 0) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => attach_plain(name),
            other => other,
        },
    }
}

/// Whether the interface of a TAP lives on when its last descriptor is closed: `TUNSETPERSIST`.
///
/// # Errors
/// `EBADFD` once the interface was deleted.
pub fn set_persistent(tap: BorrowedFd<'_>, persistent: bool) -> io::Result<()> {
    let argument = libc::c_ulong::from(persistent);
    // SAFETY: TUNSETPERSIST reads its argument as a number and dereferences nothing.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETPERSIST, argument) })
}

/// A TAP with a virtio header, checksum offload and TCP segmentation offload for both families.
fn create_offloading(name: &str) -> io::Result<(OwnedFd, bool)> {
    open_offloading(name, libc::IFF_TUN_EXCL)
}

fn open_offloading(name: &str, flags: libc::c_int) -> io::Result<(OwnedFd, bool)> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    set_interface(&device, name, flags)?;
    set_offloading(&device)?;
    Ok((device.into(), true))
}

/// Agrees with the kernel about the virtio header, and takes checksum and segmentation offloads.
fn set_offloading(device: &File) -> io::Result<()> {
    // The kernel's own choice too, made explicit: a persistent TAP keeps what was set before.
    ioctl_set(device, libc::TUNSETVNETHDRSZ, VNET_HEADER_LEN)?;
    // The header is little-endian on big-endian hosts as well. Kernels before 4.0 know only the
    // host's order, which is the same thing on a little-endian host.
    match ioctl_set(device, libc::TUNSETVNETLE, 1) {
        Err(error) if cfg!(target_endian = "big") || error.raw_os_error() != Some(libc::EINVAL) => {
            return Err(error);
        }
        _ => {}
    }
    set_offload(device, TCP_OFFLOADS)
}

/// A TAP whose frames carry nothing else.
fn create_plain(name: &str) -> io::Result<(OwnedFd, bool)> {
    let fd = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tap)?.into_raw_fd();
    // SAFETY: `into_raw_fd` gave up the ownership of an open descriptor.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, false))
}

/// As [`create_plain`]; the interface may have been opened with offloads before, which stay.
fn attach_plain(name: &str) -> io::Result<(OwnedFd, bool)> {
    let (fd, vnet_header) = create_plain(name)?;
    let device = File::from(fd);
    set_offload(&device, 0)?;
    Ok((device.into(), vnet_header))
}

/// TUNGETIFF: the name and the flags of a descriptor's interface.
fn interface_of(device: BorrowedFd<'_>) -> io::Result<libc::ifreq> {
    let mut request = empty_request();
    // SAFETY: TUNGETIFF writes one `ifreq`, which outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    Ok(request)
}

fn empty_request() -> libc::ifreq {
    // SAFETY: every field of `ifreq` is an integer, an array or a union of such, valid as zeros.
    unsafe { std::mem::zeroed() }
}

/// TUNSETIFF, which makes the interface or attaches to it. `flags` are added to the usual ones.
fn set_interface(device: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = empty_request();
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        // `c_char` is unsigned on ARM; the bits are the same.
        *to = from as libc::c_char;
    }
    let flags = flags | libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    // The kernel's field is a `short`; IFF_TUN_EXCL is its top bit.
    #[allow(clippy::cast_possible_truncation)]
    {
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
    }
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// An ioctl of `/dev/net/tun` that takes a pointer to an int.
fn ioctl_set(device: &File, request: libc::Ioctl, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the requests passed here read one `int`, which outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), request, &raw const value) })
}

/// TUNSETOFFLOAD, which takes its argument by value.
fn set_offload(device: &File, offloads: libc::c_uint) -> io::Result<()> {
    let argument = libc::c_ulong::from(offloads);
    // SAFETY: TUNSETOFFLOAD reads its argument as a number and dereferences nothing.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, argument) })
}

/// preadv2(2) into these bytes, or pwritev2(2) of them, that does not wait whatever the descriptor
/// says. The caller lends the bytes, to be written to for `SYS_preadv2`.
fn no_wait(call: libc::c_long, fd: &OwnedFd, bytes: *mut u8, length: usize) -> io::Result<usize> {
    let buffer = libc::iovec { iov_base: bytes.cast(), iov_len: length };
    let (number, here): (_, libc::c_long) = (fd.as_raw_fd(), -1);
    // SAFETY: one buffer, which outlives the call. -1 in both halves is the file's own position.
    let result = unsafe {
        libc::syscall(call, number, &raw const buffer, 1_usize, here, here, libc::RWF_NOWAIT)
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const TCP_OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
/// `TUN_F_USO4` and `TUN_F_USO6` of <linux/if_tun.h>, which not every libc crate has.
const UDP_OFFLOADS: libc::c_uint = 0x20 | 0x40;

/// Bytes of `struct virtio_net_hdr` without the buffer count that only mergeable buffers have.
pub const VNET_HEADER_LEN: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_names_that_the_kernel_would_change() {
        for name in ["", "sixteen-bytes-ab", "tap%d", "a/b", "a\0b"] {
            let error = create(name, Offload::Auto).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{name:?}");
        }
    }

    #[test]
    fn refuses_an_interface_that_exists() {
        let error = create("lo", Offload::Off).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    }

    #[test]
    fn a_stranger_cannot_make_a_tap_wait() {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let theirs_too = ours.try_clone().unwrap();
        let tap = match Tap::from_stranger(ours.into(), false) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                eprintln!("SKIP: no RWF_NOWAIT for sockets here, which stand for a TAP");
                return;
            }
            other => other.unwrap(),
        };
        theirs_too.set_nonblocking(false).unwrap();
        let mut frame = [0; 8];
        assert_eq!(tap.read(&mut frame).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        theirs.send(b"back").unwrap();
        assert_eq!(tap.read(&mut frame).unwrap(), 4);
        while tap.write(b"on").is_ok() {}
        assert_eq!(tap.write(b"on").unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_tap_is_non_blocking_and_one_write_is_one_frame() {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let tap = Tap::from_fd(ours.into(), true).unwrap();
        assert!(tap.vnet_header());
        let mut frame = [0; 8];
        assert_eq!(tap.read(&mut frame).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(tap.write(b"one").unwrap(), 3);
        assert_eq!(tap.write(b"three").unwrap(), 5);
        assert_eq!(theirs.recv(&mut frame).unwrap(), 3);
        theirs.send(b"back").unwrap();
        assert_eq!(tap.read(&mut frame).unwrap(), 4);
        let flags = fcntl(&tap, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
}
