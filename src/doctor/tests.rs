//! Findings from a machine made of files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

/// A machine without a file.
pub(super) fn machine(name: &str) -> Machine {
    let root = crate::testing::scratch(&format!("doctor-{name}"));
    Machine {
        home: root.join("home/ada"),
        path: vec![root.join("bin")],
        runtime_directory: None,
        user: "ada".into(),
        uid: 1000,
        gids: vec![1000],
        root,
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.root != Path::new("/") {
            drop(fs::remove_dir_all(&self.root));
        }
    }
}

impl Machine {
    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[track_caller]
fn assert_finding(finding: &Finding, level: Level, what: &str) {
    assert_eq!(finding.level, level, "{finding:?}");
    assert!(finding.what.contains(what), "{finding:?}");
    assert_eq!(finding.remedy.is_some(), level > Level::Ok, "{finding:?}");
}

#[test]
fn a_report_is_a_line_each_and_a_failure_counts() {
    let findings = [
        Finding::ok("tun", "there"),
        Finding::warn("ping", "closed", "open it"),
        Finding::fail("container", "none", "make one"),
    ];
    assert_eq!(
        text(&findings),
        "ok   tun: there\nwarn ping: closed – open it\nFAIL container: none – make one\n"
    );
    assert!(!healthy(&findings) && healthy(&findings[..2]));
    let json: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["findings"][2]["level"], "fail");
    assert_eq!(json["findings"][1]["remedy"], "open it");
    assert!(json["findings"][0].get("remedy").is_none());
}

#[test]
fn resolvers_are_those_that_can_be_asked() {
    let machine = machine("dns");
    assert_finding(&files::dns(&machine), Level::Warn, "cannot be read");
    machine.write("/etc/resolv.conf", "search a.test\nnameserver nonsense\n#nameserver 1.2.3.4\n");
    assert_finding(&files::dns(&machine), Level::Warn, "names no server");
    machine.write("/etc/resolv.conf", "nameserver 127.0.0.53\n nameserver fe80::1%eth0\n");
    assert_finding(&files::dns(&machine), Level::Ok, "127.0.0.53, fe80::1%eth0");
}

#[test]
fn subordinate_ids_are_counted_by_name_and_number() {
    let machine = machine("subid");
    let finding = files::subordinate_ids(&machine);
    assert_finding(&finding, Level::Warn, "0 user ids and 0 group ids");
    assert!(finding.remedy.unwrap().contains("165535 ada, then"));
    machine.write("/etc/subuid", "adam:1:65536\nada:100000:65000\n1000:200000:536\n");
    machine.write("/etc/subgid", "ada:100000:65535\n");
    assert_finding(&files::subordinate_ids(&machine), Level::Warn, "65536 user ids and 65535");
    machine.write("/etc/subgid", "ada:100000:65536\n");
    assert_finding(&files::subordinate_ids(&machine), Level::Ok, "65536 group ids");
}

#[test]
fn a_runtime_directory_must_be_ones_own() {
    let mut machine = machine("runtime");
    assert_finding(&files::runtime_directory(&machine), Level::Warn, "is not set");
    machine.uid = geteuid().as_raw();
    let own = format!("/tmp/rnsnet-{}", machine.uid);
    machine.write("/tmp/x", "");
    assert_finding(&files::runtime_directory(&machine), Level::Ok, &own);
    // Others may look into it.
    machine.write(&format!("{own}/x"), "");
    fs::set_permissions(machine.at(&own), fs::Permissions::from_mode(0o750)).unwrap();
    assert_finding(&files::runtime_directory(&machine), Level::Warn, &own);
    let session = format!("/run/user/{}", machine.uid);
    machine.write(&format!("{session}/x"), "");
    fs::set_permissions(machine.at(&session), fs::Permissions::from_mode(0o700)).unwrap();
    assert_finding(&files::runtime_directory(&machine), Level::Ok, &session);
    machine.uid = 1000;
    machine.runtime_directory = Some(machine.at("/run/user/other"));
    assert_finding(&files::runtime_directory(&machine), Level::Warn, "cannot use");
    machine.write("/run/user/other/x", "");
    machine.uid = geteuid().as_raw();
    assert_finding(&files::runtime_directory(&machine), Level::Ok, "/run/user/other");
    machine.uid += 1;
    assert_finding(&files::runtime_directory(&machine), Level::Warn, "belongs to uid");
}

#[test]
fn low_ports_are_a_matter_of_choice() {
    let machine = machine("ports");
    machine.write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024\n");
    assert_finding(&files::low_ports(&machine), Level::Ok, "sysctl -w");
    machine.write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0\n");
    assert_finding(&files::low_ports(&machine), Level::Ok, "from 0 up");
}

#[test]
fn an_engine_tells_its_helper() {
    let machine = machine("engines");
    let one = |machine: &Machine| engines::all(machine).remove(0);
    // What is in the real /usr/sbin is no part of this.
    if machine.program("podman").is_none() {
        assert_finding(&one(&machine), Level::Ok, "none is installed");
    }
    machine.write("/bin/podman", "");
    machine.write("/bin/newuidmap", "");
    assert_finding(&files::newuidmap(&machine), Level::Ok, "bin/newuidmap");
    machine.write("/bin/slirp4netns", "");
    assert_finding(&one(&machine), Level::Ok, "a helper of its own");
    machine.write("/home/ada/.config/containers/containers.conf.d/50.conf", "#\n[engine]\n");
    assert_finding(&one(&machine), Level::Ok, "a helper of its own");
    let line = "[engine]\nnetwork_cmd_path = \"/usr/bin/rnsnet\"\n";
    machine.write("/home/ada/.config/containers/containers.conf.d/60.conf", line);
    assert_finding(&one(&machine), Level::Ok, "runs on rnsnet, by");
    assert_eq!(one(&machine).name, "podman");

    machine.write("/bin/dockerd-rootless.sh", "");
    let docker = || engines::all(&machine).into_iter().find(|one| one.name == "docker").unwrap();
    assert_finding(&docker(), Level::Ok, "a helper of its own");
    let drop_in = "# rnsnet\n[Service]\nEnvironment=PATH=%h/.local/lib/rnsnet:/bin\n";
    machine.write("/home/ada/.config/systemd/user/docker.service.d/50.conf", drop_in);
    assert_finding(&docker(), Level::Ok, "runs on rnsnet, by");
}

#[test]
fn podman_finds_pasta_in_a_folder_of_its_own() {
    let machine = machine("pasta");
    let podman = || engines::all(&machine).remove(0);
    machine.write("/bin/podman", "");
    machine.write("/usr/libexec/podman/pasta", "");
    assert_finding(&podman(), Level::Ok, "a helper of its own");
    machine.write("/usr/bin/rnsnet", "");
    machine.write("/usr/lib/rnsnet/x", "");
    let link = machine.at("/usr/lib/rnsnet/pasta");
    std::os::unix::fs::symlink(machine.at("/usr/bin/rnsnet"), &link).unwrap();
    assert_finding(&podman(), Level::Ok, "a helper of its own");
    machine
        .write("/etc/containers/containers.conf", "#helper_binaries_dir = [\"/usr/lib/rnsnet\"]");
    assert_finding(&podman(), Level::Ok, "a helper of its own");
    let text = "[engine]\nhelper_binaries_dir = [\n  \"/usr/lib/rnsnet\",\n  \"/usr/libexec/podman\",\n]\n";
    machine.write("/home/ada/.config/containers/containers.conf.d/50-rnsnet-pasta.conf", text);
    assert_finding(&podman(), Level::Ok, "runs on rnsnet, called");
}
