//! What `ci/release` refuses, and what it leaves behind, in a repository that builds nothing: its
//! `ci/build-edge` writes down that it was called.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Stands in for the build: a program, and the archive of the source.
const BUILD: &str = "#!/bin/sh
mkdir -p dist
case \"${1:-}\" in
    --vendor) git archive --prefix=rnsnet-1.2.3/ HEAD >dist/rnsnet-1.2.3-vendored.tar.xz ;;
    *) echo program >dist/rnsnet-x86_64 ;;
esac
";

/// What follows the tests of a version in the changelog.
const CHANGELOG: &str = "# Changelog

## [Unreleased]

## [1.2.3] - 2026-01-01

### Added

- the wheel

## [1.2.2]

- something older
";

/// A repository with a release script, removed at the end.
struct Repository(PathBuf);

impl Repository {
    fn new(name: &str) -> Self {
        let folder = format!("rnsnet-release-{name}-{}", std::process::id());
        let repository = Self(std::env::temp_dir().join(folder));
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        fs::create_dir_all(repository.0.join("ci")).expect("a writable temporary directory");
        for file in ["ci/release", "ci/common"] {
            repository.script(&source.join(file), file);
        }
        repository.write("ci/build", BUILD);
        repository.script(&repository.0.join("ci/build"), "ci/build-edge");
        repository.write("Cargo.toml", "[package]\nname = \"rnsnet\"\nversion = \"1.2.3\"\n");
        repository.write("CHANGELOG.md", CHANGELOG);
        repository.write(".gitignore", "dist\n");
        repository.git(&["init", "-q", "."]);
        repository.commit();
        repository
    }

    #[track_caller]
    fn git(&self, arguments: &[&str]) {
        let ran = Command::new("git").args(arguments).current_dir(&self.0).output();
        let ran = ran.expect("git can be run");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    #[track_caller]
    fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "-qm", "all"]);
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).expect("a writable temporary directory");
    }

    /// Puts a script there by another program: what this one has open for writing its other tests'
    /// children may have open too, and then nobody can execute it.
    #[track_caller]
    fn script(&self, from: &Path, file: &str) {
        let mut install = Command::new("install");
        let ran = install.args(["-m", "755"]).arg(from).arg(self.0.join(file)).status();
        assert!(ran.expect("install can be run").success(), "{file}");
    }

    fn release(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.0.join("ci/release"));
        command.args(arguments).env("RELEASE_TESTS", "no").current_dir(&self.0);
        command.output().expect("a shell can be run")
    }

    /// Asserts that nothing is built, and that the one line on standard error has `why`.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], why: &str) {
        let ran = self.release(arguments);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{said}");
        assert!(said.starts_with("release: ") && said.contains(why), "{said}");
        assert!(!self.0.join("dist").exists(), "something was built");
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_version_must_be_that_of_the_crate_and_of_the_changelog() {
    let repository = Repository::new("version");
    repository.refuses(&[], "usage: ci/release VERSION");
    repository.refuses(&["1;2"], "usage: ci/release VERSION");
    repository.refuses(&["1.2.2"], "Cargo.toml says 1.2.3, not 1.2.2");
    for text in ["# Changelog\n\n## [Unreleased]\n\n- x\n", "## [1.2.3]\n\n## [1.2.2]\n- x\n"] {
        repository.write("CHANGELOG.md", text);
        repository.refuses(&["1.2.3"], "CHANGELOG.md has no section ## [1.2.3]");
    }
}

#[test]
fn a_checkout_with_changes_is_refused() {
    let repository = Repository::new("dirty");
    repository.write("new", "x");
    repository.refuses(&["1.2.3"], "the checkout is not clean: ?? new");
    fs::remove_file(repository.0.join("new")).expect("it was written");
    repository.write(".gitignore", "dist\n#\n");
    repository.refuses(&["1.2.3"], "the checkout is not clean:  M .gitignore");
}

#[test]
fn a_vendored_source_that_makes_another_program_is_no_release() {
    let repository = Repository::new("another");
    repository.write("ci/build", &BUILD.replace("echo program", "echo \"$*\""));
    repository.script(&repository.0.join("ci/build"), "ci/build-edge");
    repository.commit();
    let ran = repository.release(&["1.2.3"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("from the vendored source another program comes out"), "{said}");
    assert!(!repository.0.join("dist/NOTES.md").exists(), "it has notes");
}

#[test]
fn the_notes_are_the_section_and_what_was_built() {
    let repository = Repository::new("notes");
    let ran = repository.release(&["1.2.3"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let read =
        |file: &str| fs::read_to_string(repository.0.join("dist").join(file)).expect("it was made");
    let notes = read("NOTES.md");
    assert!(notes.starts_with("# rnsnet 1.2.3\n"), "{notes}");
    assert!(notes.contains("- the wheel") && !notes.contains("older"), "{notes}");
    for line in ["| rnsnet-x86_64 | 8 | ", "| rnsnet-1.2.3-vendored.tar.xz | "] {
        assert!(notes.contains(line), "no {line}: {notes}");
    }
    let sums = Command::new("sha256sum")
        .args(["--strict", "--check", "SHA256SUMS"])
        .current_dir(repository.0.join("dist"))
        .output()
        .expect("sha256sum can be run");
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stderr));
    assert_eq!(read("SHA256SUMS").lines().count(), 3);
}
