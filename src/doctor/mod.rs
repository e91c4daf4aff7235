//! `rnsnet doctor`: what this machine has of what rnsnet needs, and how to get the rest.
//!
//! [`examine`] makes the findings, [`text`] and [`json`] tell them. What can be tried is tried (a
//! TAP in a throw-away namespace, the list of system calls in a child), in `trial`; what can only
//! be read is read, in `files` and `engines`. Nothing on the machine is changed.

mod engines;
mod files;
mod trial;

use std::fs;
use std::path::PathBuf;

use nix::unistd::{User, getegid, geteuid, getgroups};
use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is as it should be.
    Ok,
    /// Something that many want does not work.
    Warn,
    /// Containers cannot be given a network.
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in one word.
    pub name: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do, as exactly as can be said from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, what: what.into(), remedy: None }
    }

    fn warn(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, remedy: Some(remedy.into()), ..Self::ok(name, what) }
    }

    fn fail(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, remedy: Some(remedy.into()), ..Self::ok(name, what) }
    }
}

/// Looks at everything. Forks, so the process must be single-threaded.
#[must_use]
pub fn examine() -> Vec<Finding> {
    let machine = Machine::this();
    let mut findings = vec![trial::tun(), trial::namespaces_and_tap(&machine)];
    findings.extend([
        trial::seccomp(),
        trial::landlock(),
        trial::root(),
        trial::pidfd(),
        trial::ping(&machine),
        files::low_ports(&machine),
        trial::open_files(),
        files::runtime_directory(&machine),
        files::dns(&machine),
        files::subordinate_ids(&machine),
        files::newuidmap(&machine),
    ]);
    findings.extend(engines::all(&machine));
    findings
}

/// Whether containers can be given a network.
#[must_use]
pub fn healthy(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.level < Level::Fail)
}

/// One line for each finding: `ok|warn|FAIL name: what – remedy`.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { name, level, what, remedy } in findings {
        let level = match level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        text.push_str(&format!("{level} {name}: {what}"));
        if let Some(remedy) = remedy {
            text.push_str(&format!(" \u{2013} {remedy}"));
        }
        text.push('\n');
    }
    text
}

/// One JSON object: `{"ok": ..., "findings": [{"name", "level", "what", "remedy"}, ...]}`.
#[must_use]
pub fn json(findings: &[Finding]) -> String {
    let report = serde_json::json!({ "ok": healthy(findings), "findings": findings });
    format!("{report:#}\n")
}

/// Where the files are, and who asks.
#[derive(Debug)]
struct Machine {
    /// `/`, or a directory that stands for it in tests.
    root: PathBuf,
    home: PathBuf,
    /// `PATH`.
    path: Vec<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    runtime_directory: Option<PathBuf>,
    user: String,
    uid: u32,
    /// The process's group, and the user's others.
    gids: Vec<u32>,
}

impl Machine {
    fn this() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let uid = geteuid();
        let user = User::from_uid(uid).ok().flatten();
        let groups = getgroups().unwrap_or_default();
        Self {
            root: "/".into(),
            home: std::env::var_os("HOME").unwrap_or_default().into(),
            path: std::env::split_paths(&path).collect(),
            runtime_directory: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
            user: user.map_or_else(|| uid.to_string(), |user| user.name),
            uid: uid.as_raw(),
            gids: [getegid()].into_iter().chain(groups).map(|gid| gid.as_raw()).collect(),
        }
    }

    /// The path as it is on this machine.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What a file holds, without the last line break; `None` if it cannot be read.
    fn read(&self, path: &str) -> Option<String> {
        let text = fs::read(self.at(path)).ok()?;
        Some(String::from_utf8_lossy(&text).trim_end().to_owned())
    }

    /// Where a program is found.
    fn program(&self, name: &str) -> Option<PathBuf> {
        let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let directories = self.path.iter().chain(&sbin);
        let mut found = directories.map(|directory| directory.join(name));
        found.find(|path| path.is_file())
    }
}

#[cfg(test)]
mod tests;
