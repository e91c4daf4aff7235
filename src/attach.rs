//! Attaching a container: from the namespace the user named to a TAP that carries its frames.
//!
//! The order is what makes it safe: a pidfd before the namespace, so that a number used again
//! cannot lead into another process; the namespace's own user namespace, as the kernel knows it;
//! then a child that enters both, makes and configures the TAP and hands its descriptor back. This
//! process never enters a container's namespaces. The TAP dies with its descriptor, so a failure
//! half-way leaves nothing behind; once it works it is made to outlive a killed rnsnet, and the
//! next one takes it over. The system calls are in `sys/netns.rs`, `tun.rs` and `link.rs`.

mod join;
mod outward;

use std::fs::OpenOptions;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::{
    Addresses, Caller, Endpoint, Layout, Lease, LinkRoute, MacAddress, Network, Offload, Protocol,
    Setup, Target,
};
use crate::io::mirror::{SocketTables, TABLES, open_table};
use crate::sys::fd::{is_open, take_inherited};
use crate::sys::link::{self, LinkConfig, LinkError};
use crate::sys::netns::{self, ChildError, Failure, Kind, Reply};
use crate::sys::process;
use crate::sys::sock;
use crate::sys::tun::{self, Tap};

pub use join::{Ifname, Joined, Joint, join, was_joined};
pub use outward::relayed;

/// A container whose namespaces are open and cannot be exchanged any more.
#[derive(Debug)]
pub struct Container {
    /// The process whose end is the container's end. `None` for a namespace by a path that names
    /// no process.
    pub pidfd: Option<OwnedFd>,
    /// Its network namespace.
    pub netns: OwnedFd,
    /// The user namespace to enter first; `None` if that is the caller's own.
    pub userns: Option<OwnedFd>,
    /// What the user called it, for messages: `pid 4242` or a path.
    pub label: String,
    /// The path whose disappearance is the container's end, where there is no `pidfd`.
    pub watch_path: Option<PathBuf>,
}

/// The network process's hold on an attached container.
#[derive(Debug)]
pub struct Attached {
    /// The other end of the container's interface.
    pub tap: Tap,
    /// Whether the container has IPv6, as far as it is ours to know; false where its namespace
    /// has none.
    pub ipv6: bool,
    /// The interface's hardware address, where it was not ours to choose.
    pub mac: Option<MacAddress>,
    /// Sockets inside the container at which its DNS is answered (`--dns-listen`).
    pub dns: Vec<(Protocol, OwnedFd)>,
}

/// A TAP's descriptor, and whether frames carry a virtio header.
type OpenTap = (OwnedFd, bool);

/// Why a container cannot be attached.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum AttachError {
    #[error("there is no process with pid {pid}")]
    NoProcess { pid: i32 },
    #[error("cannot watch pid {pid}")]
    Watch { pid: i32, source: io::Error },
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is not a {} namespace", path.display(), kind_name(*kind))]
    NotANamespace { path: PathBuf, kind: Kind },
    #[error("{label} is in the host network namespace")]
    HostNamespace { label: String },
    #[error("cannot enter the network namespace of {label}")]
    Enter { label: String, source: io::Error },
    #[error("the kernel does not tell a 32-bit program which user namespace {label} belongs to")]
    NoOwner { label: String, source: io::Error },
    #[error("{label} is already attached (interface {ifname}, {alias:?})")]
    AlreadyAttached { label: String, ifname: String, alias: String },
    #[error("interface {ifname} exists already in {label}")]
    InterfaceExists { label: String, ifname: String },
    #[error("cannot open /dev/net/tun")]
    OpenTun { source: io::Error },
    #[error("cannot create the TAP device {ifname} in {label}")]
    CreateTap { ifname: String, label: String, source: io::Error },
    #[error("{step}")]
    Configure { step: String, source: io::Error },
    #[error("cannot attach {label}")]
    Child { label: String, source: ChildError },
    #[error("cannot answer DNS at {address} in {label}")]
    DnsListen { address: SocketAddr, label: String, source: io::Error },
    #[error("cannot listen at {address}/{protocol} in {label}")]
    Outward { address: SocketAddr, protocol: Protocol, label: String, source: io::Error },
    #[error("cannot use the TAP device")]
    UseTap { source: io::Error },
    #[error("descriptor {fd} is a TAP's, not a namespace's")]
    NoNamespace { fd: i32 },
    #[error("descriptor {fd} is not open")]
    NoDescriptor { fd: i32, source: io::Error },
    #[error("descriptor {fd} is not a TAP")]
    NotATap { fd: i32, source: io::Error },
    #[error("cannot take over the TAP device {ifname} in {label}")]
    TakeTap { ifname: String, label: String, source: io::Error },
}

impl AttachError {
    /// What the user can do about it, for the failures that everyone meets once.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::OpenTun { source } if denied(source) => Some(
                "users need read and write access to /dev/net/tun (mode 0666 on most systems; in \
                 a container it must be passed in, for example with --device /dev/net/tun)",
            ),
            Self::OpenTun { .. } => Some(
                "the tun driver is not there: load it with `modprobe tun`, or pass the device in \
                 with --device /dev/net/tun when inside a container",
            ),
            Self::NoProcess { .. } => Some(
                "give the pid as the host sees it, for example from \
                 `podman inspect -f '{{.State.Pid}}' NAME`; the container may also have ended",
            ),
            Self::HostNamespace { .. } => Some(
                "attach a process that has a network namespace of its own, such as one started \
                 with `unshare --user --map-root-user --net` or `podman run --network none`",
            ),
            Self::Enter { source, .. } if denied(source) => Some(
                "the namespace must belong to a user namespace of the calling user: run rnsnet as \
                 the user who started the container, or as root",
            ),
            Self::Open { path, .. } if descriptor_in(path).is_some() => Some(
                "the descriptor must be open when rnsnet starts; for a container on a named \
                 network give a pid, or the path of its namespace",
            ),
            Self::NoOwner { .. } => Some("say it by --userns-path, or use the 64-bit rnsnet"),
            Self::CreateTap { source, .. } if denied(source) => Some(
                "the user namespace has no right over this network namespace, or the device \
                 cgroup forbids /dev/net/tun",
            ),
            Self::AlreadyAttached { .. } => {
                Some("rnsnet ps tells who serves it, and rnsnet detach takes it away from there")
            }
            Self::InterfaceExists { .. } => Some("--ifname gives rnsnet's another name"),
            Self::TakeTap { source, .. } if source.raw_os_error() == Some(libc::EBUSY) => {
                Some("another process serves that interface")
            }
            Self::TakeTap { .. } => {
                Some("the interface must be a TAP without packet information, with one queue")
            }
            _ => None,
        }
    }
}

/// Opens the namespaces of a container, without entering them.
///
/// # Errors
/// See [`AttachError`]; the caller's own network namespace is refused, and [`Target::Tap`], which
/// names none.
pub fn open(target: &Target) -> Result<Container, AttachError> {
    match target {
        Target::Pid(pid) => {
            let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
            finish(open_pid(*pid, &path, format!("pid {pid}"))?, Some(*pid), None)
        }
        Target::Path { netns, userns } => open_path(netns, userns.as_deref()),
        Target::Tap(fd) => Err(AttachError::NoNamespace { fd: *fd }),
    }
}

/// Makes and configures the container's interface, and brings `lo` up; `caller` says which of
/// this, and the addresses where they are not those of a private network.
///
/// The process must be single-threaded, as a child is forked.
///
/// # Errors
/// See [`AttachError`]. The container is then as it was.
pub fn attach(
    container: &Container,
    endpoint: &Endpoint,
    network: &Network,
    caller: &Caller,
) -> Result<Attached, AttachError> {
    let setup = caller.setup;
    let label = &container.label;
    let ifname = &endpoint.ifname;
    let layout = match &caller.layout {
        Some(layout) => layout.clone(),
        None => private_layout(&endpoint.lease, &network.addresses),
    };
    let Layout { addresses, routes } = &layout;
    let alias = alias(addresses);
    let mut link = LinkConfig {
        ifname,
        mac: endpoint.lease.mac,
        mtu: network.mtu,
        tx_queue_len: TX_QUEUE_LEN,
        alias: &alias,
        addresses,
        routes,
        // Routes that were copied may be the same twice, or come with an address.
        again: caller.layout.is_some(),
    };
    let reply = in_container(container, || {
        let (tap, vnet_header) = match setup {
            Setup::Create => match take_remains(ifname, &alias, endpoint.offload)? {
                Some(tap) => {
                    link.again = true;
                    tap
                }
                None => tun::create(ifname, endpoint.offload)
                    .map_err(|error| failure(CREATE_TAP, &error, ""))?,
            },
            Setup::Configure | Setup::Bare => tun::attach(ifname, endpoint.offload)
                .map_err(|error| failure(TAKE_TAP, &error, ""))?,
        };
        let ipv6 = if setup == Setup::Bare {
            network.addresses.v6.is_some()
        } else {
            let configured = link::configure(&link).map_err(configure_failure)?;
            link::bring_up("lo").map_err(configure_failure)?;
            configured.ipv6
        };
        let flags = if vnet_header { VNET_HEADER } else { 0 } | if ipv6 { IPV6 } else { 0 };
        Ok(Reply { fd: Some(tap), flags })
    })
    .map_err(|error| describe(error, label, ifname))?;
    let fd =
        reply.fd.ok_or_else(|| AttachError::UseTap { source: io::ErrorKind::NotFound.into() })?;
    let use_tap = |source| AttachError::UseTap { source };
    let tap = Tap::from_fd(fd, reply.flags & VNET_HEADER != 0).map_err(use_tap)?;
    let mac = match setup {
        Setup::Bare => Some(tap.hardware_address().map_err(use_tap)?),
        Setup::Create | Setup::Configure => None,
    };
    let dns = match network.resolver.listen {
        Some(address) => dns_sockets(container, address)?,
        None => Vec::new(),
    };
    Ok(Attached { tap, ipv6: reply.flags & IPV6 != 0, mac, dns })
}

/// Opens the container's tables of sockets, as far as its namespace has them.
///
/// The process must be single-threaded, as children are forked.
///
/// # Errors
/// See [`AttachError`].
pub fn socket_tables(container: &Container) -> Result<SocketTables, AttachError> {
    // A table belongs to the namespace that its reader was in when it was opened.
    let mut tables = SocketTables::new();
    for (protocol, name) in TABLES {
        let reply = in_container(container, || match open_table(name) {
            Ok(table) => Ok(Reply { fd: table.map(Into::into), flags: 0 }),
            Err(error) => Err(failure(CONFIGURE, &error, "cannot see the container's sockets")),
        })
        .map_err(|error| describe(error, &container.label, name))?;
        tables.extend(reply.fd.map(|table| (protocol, table.into())));
    }
    Ok(tables)
}

/// Sockets in the container's network namespace at which DNS is to be answered, each made by a child
/// that enters it; from there on they are served from here. UDP comes first.
///
/// The process must be single-threaded, as children are forked.
///
/// # Errors
/// See [`AttachError`].
pub fn dns_sockets(
    container: &Container,
    address: IpAddr,
) -> Result<Vec<(Protocol, OwnedFd)>, AttachError> {
    let address = SocketAddr::new(address, DNS_PORT);
    let label = &container.label;
    [(Protocol::Udp, sock::udp_bind as Bind), (Protocol::Tcp, sock::tcp_listen)]
        .into_iter()
        .map(|(protocol, bind)| {
            let reply = in_container(container, || {
                let socket = bind(address, false).map_err(|error| failure(LISTEN, &error, ""))?;
                Ok(Reply { fd: Some(socket), flags: 0 })
            });
            let refused = |source| AttachError::DnsListen { address, label: label.clone(), source };
            let reply = reply.map_err(|error| match error {
                ChildError::Work(Failure { code: LISTEN, errno, .. }) => {
                    refused(io::Error::from_raw_os_error(errno))
                }
                error => describe(error, label, ""),
            })?;
            let socket = reply.fd.ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
            Ok((protocol, socket))
        })
        .collect()
}

/// What makes a socket at an address.
type Bind = fn(SocketAddr, bool) -> io::Result<OwnedFd>;
/// Where DNS is answered.
const DNS_PORT: u16 = 53;

/// Takes over a TAP whose descriptor was inherited under this number, and tells its name. `ipv6`
/// says whether its container is to have IPv6.
///
/// # Errors
/// No such descriptor, or one of something else.
pub fn take_tap(fd: i32, ipv6: bool) -> Result<(Attached, String), AttachError> {
    let inherited =
        take_inherited(fd).map_err(|source| AttachError::NoDescriptor { fd, source })?;
    let not_a_tap = |source| AttachError::NotATap { fd, source };
    let name = tun::name(&inherited).map_err(not_a_tap)?;
    let tap = Tap::adopt(inherited).map_err(not_a_tap)?;
    let mac = tap.hardware_address().map_err(|source| AttachError::UseTap { source })?;
    Ok((Attached { tap, ipv6, mac: Some(mac), dns: Vec::new() }, name))
}

/// What `ip link` shows of our interface: which process serves it, and the addresses it was given.
fn alias(addresses: &[(IpAddr, u8)]) -> String {
    let mut shown = String::new();
    for (address, prefix_len) in addresses {
        let word = format!(" {address}/{prefix_len}");
        if shown.len() + word.len() > SHOWN_LEN {
            break;
        }
        shown.push_str(&word);
    }
    format!("{ALIAS_PREFIX} pid {}{shown}", std::process::id())
}

/// Bytes of an alias, 255 in all, for addresses: whatever the number of the process.
const SHOWN_LEN: usize = 255 - ALIAS_PREFIX.len() - " pid 4294967295".len();

/// In the container: takes over the interface that an rnsnet left which was killed, if it is the
/// one of this name and alias; removes it if it is another. `None` when there is none then.
///
/// A TAP has one queue, so only what nobody serves can be opened: a living rnsnet is a failure.
fn take_remains(
    wanted: &str,
    wanted_alias: &str,
    offload: Offload,
) -> Result<Option<OpenTap>, Failure> {
    let found = link::find_alias(ALIAS_PREFIX)
        .map_err(|error| failure(CONFIGURE, &error, "cannot list the interfaces"))?;
    let Some((ifname, alias)) = found else { return Ok(None) };
    let remains = match tun::attach(&ifname, offload) {
        Ok(remains) => remains,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINVAL)) => {
            let text = format!("{ifname}\0{alias}");
            return Err(Failure { code: ALREADY_ATTACHED, errno: 0, text });
        }
        Err(error) => return Err(failure(TAKE_TAP, &error, "")),
    };
    if ifname == wanted && addresses_in(&alias) == addresses_in(wanted_alias) {
        return Ok(Some(remains));
    }
    tun::set_persistent(remains.0.as_fd(), false)
        .map_err(|error| failure(CONFIGURE, &error, "cannot remove the old interface"))?;
    Ok(None)
}

/// The part of an alias that describes the interface, not the process.
fn addresses_in(alias: &str) -> Option<&str> {
    alias.splitn(4, ' ').nth(3)
}

/// Brings the container's `lo` up, and sees to it that it has no interface of ours: `--network none`.
///
/// The process must be single-threaded, as a child is forked.
///
/// # Errors
/// See [`AttachError`]; the interface of an rnsnet that runs is not taken away.
pub fn loopback_only(container: &Container) -> Result<(), AttachError> {
    in_container(container, || {
        // What one has left that was killed is none of this name.
        take_remains("", "", Offload::Auto)?;
        link::bring_up("lo").map_err(configure_failure)?;
        Ok(Reply { fd: None, flags: 0 })
    })
    .map_err(|error| describe(error, &container.label, "lo"))?;
    Ok(())
}

/// A container without its user namespace yet, by a path that is this process's.
fn open_pid(pid: i32, path: &Path, label: String) -> Result<Container, AttachError> {
    let pidfd = match process::open(pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            return Err(AttachError::NoProcess { pid });
        }
        Err(source) => return Err(AttachError::Watch { pid, source }),
    };
    let opened = open_namespace(path, Kind::Network);
    // Only now is it sure that the path was this process's. A process that has ended has no
    // namespaces, and its directory may be gone.
    if !process::is_alive(pidfd.as_fd()).map_err(|source| AttachError::Watch { pid, source })? {
        return Err(AttachError::NoProcess { pid });
    }
    let netns = opened.map_err(|error| denied_as_enter(error, &label))?;
    Ok(Container { pidfd: Some(pidfd), netns, userns: None, label, watch_path: None })
}

fn open_path(path: &Path, userns: Option<&Path>) -> Result<Container, AttachError> {
    let label = path.display().to_string();
    // A path that names a process gets what a pid gets: nobody is told of changes in /proc.
    let process = process_in(path);
    let mut container = match process {
        Some((pid, _)) => open_pid(pid, path, label)?,
        None => {
            let netns = open_namespace(path, Kind::Network)
                .map_err(|error| denied_as_enter(error, &label))?;
            Container { pidfd: None, netns, userns: None, label, watch_path: None }
        }
    };
    // What the process sees as a file may go before it. Nobody is told of a descriptor's end.
    let is_file = process.is_none_or(|(_, rest)| rest.starts_with("root/"));
    if is_file && descriptor_in(path).is_none() {
        container.watch_path = Some(path.to_owned());
    }
    let userns = match userns {
        Some(path) => Some(open_namespace(path, Kind::User)?),
        None => None,
    };
    finish(container, process.map(|(pid, _)| pid), userns)
}

/// Refuses the caller's own network namespace and finds the user namespace. `pid` is the process
/// whose namespace it is, if it is known by one.
fn finish(
    mut container: Container,
    pid: Option<i32>,
    userns: Option<OwnedFd>,
) -> Result<Container, AttachError> {
    let own = |kind, path: &str| {
        netns::own(kind).map_err(|source| AttachError::Open { path: path.into(), source })
    };
    let is_own = |namespace: BorrowedFd<'_>, own: &OwnedFd, path: &str| {
        netns::same(namespace, own.as_fd())
            .map_err(|source| AttachError::Open { path: path.into(), source })
    };
    let path = "/proc/self/ns/net";
    if is_own(container.netns.as_fd(), &own(Kind::Network, path)?, path)? {
        return Err(AttachError::HostNamespace { label: container.label });
    }
    let userns = match userns {
        Some(userns) => userns,
        None => owner(&container, pid)?,
    };
    let path = "/proc/self/ns/user";
    // setns(2) refuses the namespace that one is in already.
    let is_own = is_own(userns.as_fd(), &own(Kind::User, path)?, path)?;
    container.userns = if is_own { None } else { Some(userns) };
    Ok(container)
}

/// The user namespace that owns the container's network namespace.
fn owner(container: &Container, pid: Option<i32>) -> Result<OwnedFd, AttachError> {
    let label = || container.label.clone();
    match (netns::owner(container.netns.as_fd()), pid) {
        (Ok(owner), _) => Ok(owner),
        // The kernel does not answer: the one that the process is in, which is the same but for
        // processes that have joined a network namespace from outside.
        (Err(error), Some(pid)) if error.raw_os_error() == Some(libc::ENOTTY) => {
            let userns = open_namespace(Path::new(&format!("/proc/{pid}/ns/user")), Kind::User);
            if let Some(pidfd) = &container.pidfd
                && !process::is_alive(pidfd.as_fd())
                    .map_err(|source| AttachError::Watch { pid, source })?
            {
                return Err(AttachError::NoProcess { pid });
            }
            userns.map_err(|error| denied_as_enter(error, &container.label))
        }
        (Err(source), None) if source.raw_os_error() == Some(libc::ENOTTY) => {
            Err(AttachError::NoOwner { label: label(), source })
        }
        (Err(source), _) => Err(AttachError::Enter { label: label(), source }),
    }
}

fn open_namespace(path: &Path, kind: Kind) -> Result<OwnedFd, AttachError> {
    // Non-blocking, so that a FIFO of that name does not stop us.
    let namespace: OwnedFd = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| AttachError::Open { path: path.into(), source })?
        .into();
    match netns::is_kind(namespace.as_fd(), kind) {
        Ok(true) => Ok(namespace),
        _ => Err(AttachError::NotANamespace { path: path.into(), kind }),
    }
}

/// The pid in `/proc/PID/...`, and what follows.
fn process_in(path: &Path) -> Option<(i32, &str)> {
    let (pid, rest) = path.to_str()?.strip_prefix("/proc/")?.split_once('/')?;
    Some((pid.parse().ok()?, rest))
}

/// The number in a path that means a descriptor of this process.
fn descriptor_in(path: &Path) -> Option<RawFd> {
    let path = path.to_str()?;
    let number = ["/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"]
        .iter()
        .find_map(|directory| path.strip_prefix(directory));
    number?.parse().ok()
}

/// The open descriptors that a target's paths mean: whoever started us has opened the namespaces.
pub fn handed_over(target: &Target) -> Vec<RawFd> {
    let Target::Path { netns, userns } = target else {
        return Vec::new();
    };
    let paths = std::iter::once(netns).chain(userns);
    paths.filter_map(|path| descriptor_in(path)).filter(|fd| *fd > 2 && is_open(*fd)).collect()
}

fn denied_as_enter(error: AttachError, label: &str) -> AttachError {
    match error {
        AttachError::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            AttachError::Enter { label: label.into(), source }
        }
        other => other,
    }
}

/// What a container of a private network is given: its lease, and the gateway as its router.
fn private_layout(lease: &Lease, addresses: &Addresses) -> Layout {
    let v4 = addresses.v4;
    let mut layout = Layout {
        addresses: vec![(lease.v4.into(), v4.subnet.prefix_len)],
        routes: vec![LinkRoute::by(v4.gateway.into())],
    };
    if let (Some(guest), Some(v6)) = (lease.v6, addresses.v6) {
        layout.addresses.push((guest.into(), v6.subnet.prefix_len));
        layout.routes.push(LinkRoute::by(v6.gateway.into()));
    }
    let length = |address: IpAddr| if address.is_ipv4() { 16 } else { 64 };
    layout
        .addresses
        .extend(lease.link_local.all().into_iter().map(|address| (address, length(address))));
    layout
}

fn in_container<F>(container: &Container, work: F) -> Result<Reply, ChildError>
where
    F: FnOnce() -> Result<Reply, Failure>,
{
    netns::in_child(container.netns.as_fd(), container.userns.as_ref().map(AsFd::as_fd), work)
}

fn failure(code: u8, error: &io::Error, text: &str) -> Failure {
    Failure { code, errno: error.raw_os_error().unwrap_or(libc::EIO), text: text.into() }
}

// By value, as `map_err` gives it.
#[allow(clippy::needless_pass_by_value)]
fn configure_failure(error: LinkError) -> Failure {
    Failure { code: CONFIGURE, errno: error.errno(), text: error.to_string() }
}

/// Turns what came back from the child into an error again.
fn describe(error: ChildError, label: &str, ifname: &str) -> AttachError {
    let label = label.to_owned();
    let ifname = ifname.to_owned();
    match error {
        ChildError::EnterUser(source) | ChildError::EnterNetwork(source) => {
            AttachError::Enter { label, source }
        }
        ChildError::Work(Failure { code, errno, text }) => {
            let source = io::Error::from_raw_os_error(errno);
            match (code, errno) {
                (ALREADY_ATTACHED, _) => {
                    let (ifname, alias) = text.split_once('\0').unwrap_or((&text, ""));
                    let (ifname, alias) = (ifname.to_owned(), alias.to_owned());
                    AttachError::AlreadyAttached { label, ifname, alias }
                }
                (CREATE_TAP, libc::EEXIST) => AttachError::InterfaceExists { label, ifname },
                // Only opening the device gives these, never making the interface.
                (
                    CREATE_TAP | TAKE_TAP,
                    libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::EACCES,
                ) => AttachError::OpenTun { source },
                (TAKE_TAP, libc::EBUSY | libc::EINVAL) => {
                    AttachError::TakeTap { ifname, label, source }
                }
                (CREATE_TAP | TAKE_TAP, _) => AttachError::CreateTap { ifname, label, source },
                _ => AttachError::Configure { step: text, source },
            }
        }
        source @ (ChildError::Start(_) | ChildError::Died(_)) => {
            AttachError::Child { label, source }
        }
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Network => "network",
        Kind::Mount => "mount",
        Kind::User => "user",
    }
}

/// How the alias of each of our interfaces starts, whatever its name.
const ALIAS_PREFIX: &str = "rnsnet";

/// Packets in the interface's queue. The windows that we offer count bytes, so a queue of 1000
/// packets (the default) overruns with small segments and TCP collapses.
const TX_QUEUE_LEN: u32 = 4096;

// Codes of `Failure`, and flags of `Reply`.
const ALREADY_ATTACHED: u8 = 1;
const CREATE_TAP: u8 = 2;
const CONFIGURE: u8 = 3;
const TAKE_TAP: u8 = 4;
const LISTEN: u8 = 5;
const VNET_HEADER: u64 = 1;
const IPV6: u64 = 2;
/// The upper half is a metric.
const METRIC: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_network_namespace_is_refused() {
        let own = i32::try_from(std::process::id()).unwrap();
        let error = open(&Target::Pid(own)).unwrap_err();
        assert_eq!(error.to_string(), format!("pid {own} is in the host network namespace"));
        assert!(error.hint().is_some());
        let netns = PathBuf::from("/proc/self/ns/net");
        let error = open(&Target::Path { netns, userns: None }).unwrap_err();
        assert_eq!(error.to_string(), "/proc/self/ns/net is in the host network namespace");
    }

    #[test]
    fn a_pid_that_is_not_in_use_is_named() {
        let error = open(&Target::Pid(i32::MAX)).unwrap_err();
        assert_eq!(error.to_string(), "there is no process with pid 2147483647");
        assert!(error.hint().is_some());
    }

    #[test]
    fn paths_must_be_namespaces_of_the_right_kind() {
        for (netns, userns, message) in [
            ("/no/such/netns", None, "cannot open /no/such/netns"),
            ("/proc/self/status", None, "/proc/self/status is not a network namespace"),
            ("/proc/self/ns/user", None, "/proc/self/ns/user is not a network namespace"),
        ] {
            let target = Target::Path { netns: netns.into(), userns };
            assert_eq!(open(&target).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_path_that_names_a_process_is_recognised() {
        for rest in ["ns/net", "task/4243/ns/net", "fd/7", "root/run/netns/web"] {
            let path = format!("/proc/4242/{rest}");
            assert_eq!(process_in(Path::new(&path)), Some((4242, rest)));
        }
        for path in ["/proc/self/fd/7", "/dev/fd/7", "/proc/thread-self/fd/7"] {
            assert_eq!((process_in(path.as_ref()), descriptor_in(path.as_ref())), (None, Some(7)));
        }
        assert_eq!(descriptor_in("/proc/self/fd/x".as_ref()), None);
        for path in ["/proc/self/ns/net", "/proc/4242", "/run/netns/web", "/proc//ns/net"] {
            assert_eq!(process_in(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn failures_of_the_child_become_what_the_user_reads() {
        let text = |code, errno, text: &str| {
            let failure = Failure { code, errno, text: text.into() };
            let error = describe(ChildError::Work(failure), "pid 7", "eth0");
            (error.to_string(), error.hint().is_some())
        };
        assert_eq!(
            text(ALREADY_ATTACHED, 0, "eth0\0rnsnet pid 12\x1b[31m").0,
            "pid 7 is already attached (interface eth0, \"rnsnet pid 12\\u{1b}[31m\")"
        );
        assert_eq!(text(CREATE_TAP, libc::ENOENT, ""), ("cannot open /dev/net/tun".into(), true));
        assert_eq!(text(CREATE_TAP, libc::EACCES, ""), ("cannot open /dev/net/tun".into(), true));
        assert_eq!(text(CREATE_TAP, libc::EEXIST, "").0, "interface eth0 exists already in pid 7");
        assert_eq!(
            text(CREATE_TAP, libc::EPERM, ""),
            ("cannot create the TAP device eth0 in pid 7".into(), true)
        );
        assert_eq!(text(CONFIGURE, libc::EPERM, "cannot bring eth0 up").0, "cannot bring eth0 up");
        let error = describe(
            ChildError::EnterUser(io::ErrorKind::PermissionDenied.into()),
            "pid 7",
            "eth0",
        );
        assert_eq!(error.to_string(), "cannot enter the network namespace of pid 7");
        assert!(error.hint().is_some());
    }

    #[test]
    fn an_alias_says_which_interface_it_was() {
        let addresses = [("10.0.2.100".parse().unwrap(), 24), ("fd00::1".parse().unwrap(), 64)];
        let alias = alias(&addresses);
        assert_eq!(alias, format!("rnsnet pid {} 10.0.2.100/24 fd00::1/64", std::process::id()));
        assert_eq!(addresses_in(&alias), Some("10.0.2.100/24 fd00::1/64"));
        assert_eq!(addresses_in("rnsnet pid 12"), None);
    }

    #[test]
    fn every_family_gives_an_address_and_a_router() {
        let mut addresses = Addresses::default();
        let lease = Lease::default();
        let layout = private_layout(&lease, &addresses);
        assert_eq!(layout.addresses[0], ("10.0.2.100".parse().unwrap(), 24));
        assert_eq!(layout.addresses[1], ("fd72:6e73:6e65::100".parse().unwrap(), 64));
        assert_eq!(layout.routes.len(), 2);
        addresses.v6 = None;
        assert_eq!(private_layout(&lease, &addresses).addresses.len(), 1);
    }

    #[test]
    fn an_alias_has_as_many_addresses_as_fit() {
        let address = |n: u16| (IpAddr::from([0xfd00, 0, 0, 0, 0xffff, 0xffff, 0xffff, n]), 64);
        let many: Vec<_> = (0x1000..0x1100).map(address).collect();
        let text = alias(&many);
        assert!(text.len() <= 255 && text.len() > 200, "{text}");
        assert!(text.ends_with("/64"), "{text}");
        assert!(alias(&many[..3]).ends_with("fd00::ffff:ffff:ffff:1002/64"));
    }
}
