//! What can be tried: the TAP device, namespaces, the sandbox, sockets.

use std::fs::OpenOptions;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, rlim_t};

use super::{Finding, Machine};
use crate::config::{LinkRoute, MacAddress, Mtu, Offload};
use crate::run::{APPARMOR, apparmor_restricts, namespace_hint};
use crate::sys::link::{self, LinkConfig};
use crate::sys::root::Root;
use crate::sys::{landlock as files, netns, process, seccomp as calls, sock, tun as taps};

/// The device that makes TAPs.
pub(super) fn tun() -> Finding {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let looked_at = opened.and_then(|file| file.metadata());
    match looked_at.map_err(|error| (error.raw_os_error(), error)) {
        // Documentation/admin-guide/devices.txt.
        Ok(found)
            if found.file_type().is_char_device() && found.rdev() == libc::makedev(10, 200) =>
        {
            Finding::ok("tun", "/dev/net/tun can be opened")
        }
        Ok(_) => Finding::fail(
            "tun",
            "/dev/net/tun is not the device (10, 200)",
            "rm /dev/net/tun; mknod /dev/net/tun c 10 200; chmod 0666 /dev/net/tun",
        ),
        Err((Some(libc::ENOENT), _)) => Finding::fail(
            "tun",
            "missing",
            "modprobe tun / opkg install kmod-tun; inside a container: --device /dev/net/tun",
        ),
        Err((Some(libc::ENODEV | libc::ENXIO), _)) => Finding::fail(
            "tun",
            "/dev/net/tun has no driver",
            "modprobe tun / opkg install kmod-tun; a kernel of one's own needs CONFIG_TUN",
        ),
        Err((Some(libc::EACCES), _)) => Finding::fail(
            "tun",
            "/dev/net/tun is closed to this user",
            "chmod 0666 /dev/net/tun, for good: vendor-config/udev/60-rnsnet-tun.rules",
        ),
        Err((Some(libc::EPERM), _)) => Finding::fail(
            "tun",
            "/dev/net/tun is forbidden here",
            "the device cgroup of this container: --device /dev/net/tun",
        ),
        Err((_, error)) => {
            Finding::fail("tun", format!("cannot open /dev/net/tun: {error}"), "modprobe tun")
        }
    }
}

/// How far a child came in namespaces of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Namespaces,
    Tap,
    Link,
    Through { vnet_header: bool, ipv6: bool },
}

/// Does the whole job once, in namespaces that nobody else sees.
pub(super) fn namespaces_and_tap(machine: &Machine) -> Finding {
    match trial() {
        Ok((came, error)) => judge(machine, came, &error),
        Err(error) => Finding::fail(
            "container",
            format!("cannot try: {error}"),
            "is the machine out of memory?",
        ),
    }
}

fn judge(machine: &Machine, came: Came, error: &io::Error) -> Finding {
    let name = "container";
    match came {
        Came::Namespaces => Finding::fail(
            name,
            format!("no user and network namespace: {error}"),
            namespace_hint(error).unwrap_or("the kernel needs CONFIG_USER_NS and CONFIG_NET_NS"),
        ),
        Came::Tap => Finding::fail(
            name,
            format!("no TAP device in a namespace: {error}"),
            match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) if apparmor_restricts() => APPARMOR,
                _ => "see the line `tun`; an LSM may forbid it too (dmesg says so)",
            },
        ),
        Came::Link => Finding::fail(
            name,
            format!("a TAP device cannot be configured: {error}"),
            "an LSM forbids it (dmesg says so), or the kernel lacks CONFIG_INET",
        ),
        Came::Through { vnet_header: false, .. } => Finding::warn(
            name,
            "gets a TAP without checksum and segmentation offload: slow",
            "a kernel from 2.6.27 on has both; is this one patched?",
        ),
        Came::Through { ipv6: false, .. } => Finding::warn(
            name,
            "gets a TAP with offloads, and no IPv6",
            if machine.at("/proc/sys/net/ipv6").exists() {
                "sysctl -w net.ipv6.conf.default.disable_ipv6=0"
            } else {
                "modprobe ipv6, or start the kernel without ipv6.disable=1"
            },
        ),
        Came::Through { .. } => {
            Finding::ok(name, "gets namespaces, a TAP with offloads, IPv4 and IPv6")
        }
    }
}

/// Where a child got stuck, with the error.
fn trial() -> io::Result<(Came, io::Error)> {
    let (ours, theirs) = netns::message_pair()?;
    let child = netns::spawn(|| {
        let (code, errno) = match in_namespaces() {
            Ok((vnet_header, ipv6)) => (THROUGH | u8::from(vnet_header) | u8::from(ipv6) << 1, 0),
            Err((code, errno)) => (code, errno),
        };
        let [a, b, c, d] = errno.to_ne_bytes();
        i32::from(netns::send(theirs.as_fd(), &[code, a, b, c, d], None).is_err())
    })?;
    drop(theirs);
    let reply = netns::receive(ours.as_fd());
    let status = netns::wait(child)?;
    match reply?.0.as_slice() {
        [code, a, b, c, d] => {
            let came = match *code {
                NAMESPACES => Came::Namespaces,
                TAP => Came::Tap,
                LINK => Came::Link,
                flags => Came::Through { vnet_header: flags & 1 != 0, ipv6: flags & 2 != 0 },
            };
            Ok((came, io::Error::from_raw_os_error(i32::from_ne_bytes([*a, *b, *c, *d]))))
        }
        _ => Err(io::Error::other(format!("the child ended with status {status}"))),
    }
}

/// The child's work: whether there is a virtio header, and IPv6; or the step and the error.
fn in_namespaces() -> Result<(bool, bool), (u8, i32)> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|errno| (NAMESPACES, errno as i32))?;
    let ifname = "rnsnet0";
    let (_tap, vnet_header) = taps::create(ifname, Offload::Auto)
        .map_err(|error| (TAP, error.raw_os_error().unwrap_or(libc::EIO)))?;
    let configured = link::configure(&LinkConfig {
        ifname,
        mac: MacAddress([2, 0x72, 10, 0, 2, 100]),
        mtu: Mtu::default(),
        tx_queue_len: 4096,
        alias: "rnsnet doctor",
        addresses: &[(IpAddr::from([10, 0, 2, 100]), 24)],
        routes: &[LinkRoute::by(IpAddr::from([10, 0, 2, 2]))],
        again: false,
    });
    configured.map(|done| (vnet_header, done.ipv6)).map_err(|error| (LINK, error.errno()))
}

/// The list of allowed system calls.
pub(super) fn seccomp() -> Finding {
    let child = netns::spawn(|| {
        let locked = nix::sys::prctl::set_no_new_privs().is_ok() && calls::restrict(&[]).is_ok();
        i32::from(!locked)
    });
    match child.and_then(netns::wait) {
        Ok(0) => Finding::ok("seccomp", "system calls can be restricted"),
        _ => Finding::fail(
            "seccomp",
            "system calls cannot be restricted",
            "a kernel with CONFIG_SECCOMP_FILTER, or rnsnet --no-seccomp",
        ),
    }
}

/// The wall around files.
pub(super) fn landlock() -> Finding {
    match files::abi() {
        Some(abi) => Finding::ok("landlock", format!("version {abi}")),
        None => Finding::warn(
            "landlock",
            "missing: rnsnet serves without this second wall",
            "a kernel from 5.13 on with CONFIG_SECURITY_LANDLOCK, started with landlock in lsm=",
        ),
    }
}

/// Whether a serving process can leave the host's root directory.
pub(super) fn root() -> Finding {
    let made = Root::make(&["/etc".into()]).map(Root::namespaces);
    let why = match made {
        Ok(Ok(_)) => {
            return Finding::ok("root", "a process that serves has a root directory of its own");
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Finding::warn(
        "root",
        format!("{why}: a process that serves stays in the host's root directory"),
        "user namespaces in which file systems can be mounted",
    )
}

/// How the end of a container is seen.
pub(super) fn pidfd() -> Finding {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    match process::pidfd_open(own) {
        Ok(_) => Finding::ok("pidfd", "the end of a container is seen at once"),
        Err(error) => Finding::warn(
            "pidfd",
            format!("missing ({error}): the end of a container is looked for every second"),
            "a kernel from 5.3 on; in a container, a seccomp profile that allows pidfd_open",
        ),
    }
}

/// Ping sockets.
pub(super) fn ping(machine: &Machine) -> Finding {
    let range = machine.read("/proc/sys/net/ipv4/ping_group_range").unwrap_or_default();
    let range = range.replace('\t', " ");
    match sock::ping_socket(false, sock::Local::default()) {
        Ok(_) => Finding::ok("ping", format!("works (ping_group_range {range})")),
        Err(error) if error.raw_os_error() == Some(Errno::EACCES as i32) => Finding::warn(
            "ping",
            format!(
                "net.ipv4.ping_group_range ({range}) has none of the groups {:?}",
                machine.gids
            ),
            "sysctl -w net.ipv4.ping_group_range='0 2147483647', for good: \
             vendor-config/sysctl/50-rnsnet.conf",
        ),
        Err(error) => Finding::warn(
            "ping",
            format!("no ping sockets: {error}"),
            "a kernel with CONFIG_IP_PING",
        ),
    }
}

/// How many connections there can be at once.
pub(super) fn open_files() -> Finding {
    let name = "open-files";
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    if hard >= ENOUGH_FILES {
        return Finding::ok(name, format!("up to {hard}"));
    }
    Finding::warn(
        name,
        format!("up to {hard}: no more connections than that at once"),
        "ulimit -Hn 65536 as root, or LimitNOFILE=65536 in a unit, or /etc/security/limits.conf",
    )
}

/// Below this a busy server in a container meets the limit.
const ENOUGH_FILES: rlim_t = 4096;

// What the child says.
const NAMESPACES: u8 = 1;
const TAP: u8 = 2;
const LINK: u8 = 3;
const THROUGH: u8 = 0x10;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn each_step_has_its_own_remedy() {
        let machine = crate::doctor::tests::machine("steps");
        let failed = io::Error::from_raw_os_error(libc::EPERM);
        let finding = |came| judge(&machine, came, &failed);
        for came in [Came::Namespaces, Came::Tap, Came::Link] {
            assert_eq!(finding(came).level, Level::Fail, "{came:?}");
        }
        assert!(finding(Came::Tap).what.contains("Operation not permitted"));
        let plain = finding(Came::Through { vnet_header: false, ipv6: true });
        assert!(plain.level == Level::Warn && plain.what.contains("without checksum"));
        let v4 = finding(Came::Through { vnet_header: true, ipv6: false });
        assert_eq!(
            v4.remedy.as_deref(),
            Some("modprobe ipv6, or start the kernel without ipv6.disable=1")
        );
        let all = finding(Came::Through { vnet_header: true, ipv6: true });
        assert_eq!((all.level, all.remedy), (Level::Ok, None));
    }
}
