//! `ci/advisories` with data bases made up for crates that this program has.

// What cannot be prepared fails the test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A data base with one advisory, removed at the end.
struct Base(PathBuf);

impl Base {
    fn new(name: &str, package: &str, versions: &str) -> Self {
        let folder = format!("rnsnet-advisories-{name}-{}", std::process::id());
        let base = Self(std::env::temp_dir().join(folder));
        let crates = base.0.join("crates").join(package);
        fs::create_dir_all(&crates).unwrap();
        let text = format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-2001-0001\"\npackage = \"{package}\"\n\
             date = \"2001-01-01\"\n\n[versions]\n{versions}\n```\n\n# Something is wrong\n"
        );
        fs::write(crates.join("RUSTSEC-2001-0001.md"), text).unwrap();
        base
    }

    fn check(&self) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/advisories");
        Command::new(script).env("ADVISORY_DB", &self.0).output().unwrap()
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_version_that_is_not_mended_is_named() {
    for (name, versions, fine) in [
        ("never", "patched = []", false),
        ("later", "patched = [\">= 0.14.1\"]", false),
        ("before", "patched = []\nunaffected = [\"< 0.14.0\"]", false),
        ("between", "patched = [\">= 0.13.2, < 0.14.0\", \">= 0.14.1\"]", false),
        ("release-candidate", "patched = [\"> 0.14.0\"]", false),
        ("another-minor", "patched = [\"^0.13.5\"]", false),
        ("mended", "patched = [\">= 0.14.0-rc.1\"]", true),
        ("one-of-two", "patched = [\"> 0.15\", \"^0.14\"]", true),
        ("unaffected", "patched = []\nunaffected = [\"~0.14.0\"]", true),
    ] {
        let base = Base::new(name, "smoltcp", versions);
        let output = base.check();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), fine, "{name}: {said}");
        assert_eq!(said.contains("smoltcp 0.14.0: RUSTSEC-2001-0001"), !fine, "{name}: {said}");
    }
}

#[test]
fn a_base_of_nothing_or_in_words_that_are_not_known_is_no_success() {
    let other = Base::new("words", "smoltcp", "patched = [\"newer\"]");
    assert!(!other.check().status.success());
    fs::remove_dir_all(other.0.join("crates")).unwrap();
    assert!(!other.check().status.success());
}
