//! Which container engines there are, and whether rnsnet is their helper.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Finding, Machine};

/// A finding for each engine that is installed.
pub(super) fn all(machine: &Machine) -> Vec<Finding> {
    let podman = machine.program("podman").map(|_| podman(machine));
    let docker = machine.program("dockerd-rootless.sh").map(|_| docker(machine));
    let rootlesskit = machine.program("rootlesskit").map(|_| by_path(machine, "rootlesskit"));
    let found: Vec<_> = podman.into_iter().chain(docker).chain(rootlesskit).collect();
    if found.is_empty() {
        return vec![Finding::ok("engines", "none is installed; rnsnet run needs none")];
    }
    found
}

/// Podman finds pasta in its folders of helpers. It names slirp4netns, its helper of before, in
/// containers.conf(5), or finds it by its path.
fn podman(machine: &Machine) -> Finding {
    let pasta = helper(machine, "pasta");
    if let Some(path) = pasta.as_deref().filter(|path| is_rnsnet(path)) {
        return Finding::ok("podman", format!("runs on rnsnet, called {}", path.display()));
    }
    let configured = podman_files(machine).into_iter().rfind(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines().map(str::trim_start);
        lines.any(|line| line.starts_with("network_cmd_path") && line.contains("rnsnet"))
    });
    match configured {
        Some(path) => Finding::ok("podman", format!("runs on rnsnet, by {}", path.display())),
        None if pasta.is_some() => own_helper("podman"),
        None => by_path(machine, "podman"),
    }
}

/// Where Podman finds a helper: in the folders that the last of its files names, or its own, and
/// then in the PATH.
fn helper(machine: &Machine, name: &str) -> Option<PathBuf> {
    let named = podman_files(machine).into_iter().rev().find_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let text: String = lines.collect();
        let (list, _) = text.split_once("helper_binaries_dir")?.1.split_once(']')?;
        Some(list.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
    });
    let folders = named.unwrap_or_else(|| HELPERS.map(str::to_owned).to_vec());
    let mut paths = folders.iter().map(|folder| machine.at(folder).join(name));
    paths.find(|path| path.is_file()).or_else(|| machine.program(name))
}

/// Where Podman looks that is not told where.
const HELPERS: [&str; 4] = [
    "/usr/local/libexec/podman",
    "/usr/local/lib/podman",
    "/usr/libexec/podman",
    "/usr/lib/podman",
];

/// The files in the order in which Podman reads them: what comes later counts.
fn podman_files(machine: &Machine) -> Vec<PathBuf> {
    let home = machine.home.join(".config/containers");
    let mut files = Vec::new();
    for directory in [machine.at("/usr/share/containers"), machine.at("/etc/containers"), home] {
        files.push(directory.join("containers.conf"));
        files.extend(listed(&directory.join("containers.conf.d")));
    }
    files
}

/// Rootless Docker has a unit, whose drop-in gives it a PATH with rnsnet in it.
fn docker(machine: &Machine) -> Finding {
    let drop_ins = machine.home.join(".config/systemd/user/docker.service.d");
    let configured = listed(&drop_ins).into_iter().find(|path| {
        fs::read_to_string(path).is_ok_and(|text| {
            text.lines().any(|line| !line.starts_with('#') && line.contains("rnsnet"))
        })
    });
    match configured {
        Some(path) => Finding::ok("docker", format!("runs on rnsnet, by {}", path.display())),
        None => by_path(machine, "docker"),
    }
}

/// An engine that takes the slirp4netns in its PATH.
fn by_path(machine: &Machine, engine: &'static str) -> Finding {
    match machine.program("slirp4netns") {
        Some(path) if is_rnsnet(&path) => {
            Finding::ok(engine, format!("runs on rnsnet, called {}", path.display()))
        }
        Some(_) => own_helper(engine),
        None => Finding::warn(
            engine,
            "is installed without slirp4netns in the PATH, which rnsnet can stand in for",
            "see docs/engines.md",
        ),
    }
}

/// No fault: who has installed rnsnet need not want this.
fn own_helper(engine: &'static str) -> Finding {
    Finding::ok(engine, "has a helper of its own; docs/engines.md says how to change it")
}

fn is_rnsnet(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rnsnet"))
    })
}

/// The `.conf` files of a directory, by name.
fn listed(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
}
