//! What the machine's files say: settings of the kernel, subordinate ids, resolvers.

use std::fs::Metadata;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::{Finding, Machine};

/// Ports that an unprivileged user may publish.
pub(super) fn low_ports(machine: &Machine) -> Finding {
    let name = "ports";
    let setting = "net.ipv4.ip_unprivileged_port_start";
    let first = machine.read("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    match first.and_then(|text| text.parse::<u32>().ok()) {
        _ if machine.uid == 0 => Finding::ok(name, "root may publish every port"),
        Some(first) if first <= 80 => {
            Finding::ok(name, format!("may be published from {first} up"))
        }
        // Usual, and what most want.
        Some(first) => Finding::ok(
            name,
            format!("may be published from {first} up (lower ones: sysctl -w {setting}=80)"),
        ),
        None => Finding::ok(name, "may be published from 1024 up"),
    }
}

/// Where sockets to control a running rnsnet are.
pub(super) fn runtime_directory(machine: &Machine) -> Finding {
    let name = "runtime-directory";
    let uid = machine.uid;
    let Some(path) = machine.runtime_directory.as_ref().filter(|path| path.is_absolute()) else {
        return unnamed_directory(machine, name);
    };
    let shown = path.display();
    match path.metadata() {
        Err(error) => Finding::warn(
            name,
            format!("cannot use {shown}: {error}"),
            format!("loginctl enable-linger {}, or: mkdir -m 700 {shown}", machine.user),
        ),
        Ok(found) if !found.is_dir() => Finding::warn(
            name,
            format!("{shown} is not a directory"),
            format!("export XDG_RUNTIME_DIR=/run/user/{uid}"),
        ),
        Ok(found) if found.uid() != uid => Finding::warn(
            name,
            format!("{shown} belongs to uid {} and is not used", found.uid()),
            format!("export XDG_RUNTIME_DIR=/run/user/{uid}"),
        ),
        Ok(found) if found.permissions().mode() & 0o022 != 0 => Finding::warn(
            name,
            format!("others may write to {shown}"),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => Finding::ok(name, shown.to_string()),
    }
}

/// The same where XDG_RUNTIME_DIR does not say it: the better of two places, if it can be had.
fn unnamed_directory(machine: &Machine, name: &'static str) -> Finding {
    let uid = machine.uid;
    let session = machine.at(&format!("/run/user/{uid}"));
    let own = machine.at(&format!("/tmp/rnsnet-{uid}"));
    let is_ours = |found: Metadata, others| {
        found.is_dir() && found.uid() == uid && found.mode() & others == 0
    };
    if session.metadata().is_ok_and(|found| is_ours(found, 0o022)) {
        return Finding::ok(name, session.display().to_string());
    }
    let usable = match own.symlink_metadata() {
        Ok(found) => is_ours(found, 0o077),
        // It will be made.
        Err(_) => machine.at("/tmp").is_dir(),
    };
    if usable {
        return Finding::ok(name, own.display().to_string());
    }
    Finding::warn(
        name,
        format!(
            "XDG_RUNTIME_DIR is not set, and {} cannot be used: a running rnsnet cannot be asked or \
             changed",
            own.display()
        ),
        format!("log in by a session of systemd, or: export XDG_RUNTIME_DIR=/run/user/{uid}"),
    )
}

/// The servers that the DNS forwarder asks.
pub(super) fn dns(machine: &Machine) -> Finding {
    let name = "dns";
    let remedy = "write a line `nameserver ADDRESS` to /etc/resolv.conf";
    let Some(text) = machine.read("/etc/resolv.conf") else {
        return Finding::warn(name, "/etc/resolv.conf cannot be read", remedy);
    };
    let servers: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("nameserver"))
        .map(str::trim)
        .filter(|server| {
            server.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok())
        })
        .collect();
    if servers.is_empty() {
        return Finding::warn(name, "/etc/resolv.conf names no server", remedy);
    }
    Finding::ok(name, format!("forwarded to {}", servers.join(", ")))
}

/// What engines need for containers with more than one user.
pub(super) fn subordinate_ids(machine: &Machine) -> Finding {
    let name = "subordinate-ids";
    if machine.uid == 0 {
        return Finding::ok(name, "root needs none");
    }
    let owner = [machine.user.clone(), machine.uid.to_string()];
    let count = |path: &str| -> u64 {
        let text = machine.read(path).unwrap_or_default();
        let lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let own = lines.filter(|line| owner.iter().any(|owner| line.first() == Some(&&**owner)));
        own.filter_map(|line| line.get(2)?.trim().parse::<u64>().ok()).sum()
    };
    let (uids, gids) = (count("/etc/subuid"), count("/etc/subgid"));
    if uids >= 65_536 && gids >= 65_536 {
        return Finding::ok(name, format!("{uids} user ids, {gids} group ids"));
    }
    Finding::warn(
        name,
        format!("{uids} user ids and {gids} group ids; engines want 65536 of both"),
        format!(
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}, then: \
             podman system migrate",
            machine.user
        ),
    )
}

/// Who writes the id maps of engines' containers.
pub(super) fn newuidmap(machine: &Machine) -> Finding {
    let name = "newuidmap";
    let remedy = "apt install uidmap (Debian), dnf install shadow-utils (Fedora)";
    match machine.program("newuidmap") {
        None => Finding::warn(name, "is not installed; engines need it", remedy),
        Some(path) => {
            // Else it has file capabilities, which only running it shows.
            let setuid =
                path.metadata().is_ok_and(|found| found.permissions().mode() & 0o4000 != 0);
            let how = if setuid { "setuid" } else { "by file capabilities" };
            Finding::ok(name, format!("{} ({how})", path.display()))
        }
    }
}
