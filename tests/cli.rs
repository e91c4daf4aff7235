//! The command line from outside: what the built binary prints where, and its exit code.
//!
//! Nothing here gets as far as a namespace; the tables of every refusal are beside the code in
//! `src/cli`. These tests need no privilege and no device.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What one call printed.
#[derive(Debug)]
struct Printed {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn rnsnet<S: AsRef<OsStr>>(args: &[S]) -> Printed {
    printed(Command::new(env!("CARGO_BIN_EXE_rnsnet")).args(args).stdin(Stdio::null()))
}

fn printed(command: &mut Command) -> Printed {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    Printed {
        code: status.code(),
        stdout: String::from_utf8(stdout).expect("UTF-8 on stdout"),
        stderr: String::from_utf8(stderr).expect("UTF-8 on stderr"),
    }
}

/// Holds a refused command line against its line on stderr.
#[track_caller]
fn refused(args: &[&str], stderr: &str) {
    let printed = rnsnet(args);
    assert_eq!(printed.stderr, stderr, "{args:?}");
    assert_eq!(printed.code, Some(2), "{args:?}");
    assert_eq!(printed.stdout, "", "{args:?}");
}

#[test]
fn help_goes_to_stdout_and_is_success() {
    for args in [&["--help"][..], &["-h"], &["4711", "--help"], &["-p", "1:2", "-h"]] {
        let printed = rnsnet(args);
        assert_eq!(printed.code, Some(0), "{args:?}");
        assert_eq!(printed.stderr, "", "{args:?}");
        assert!(printed.stdout.contains("\nUsage: rnsnet [OPTIONS] PID|NETNS_PATH [IFNAME]\n"));
        assert!(printed.stdout.contains("\n  -p, --publish SPEC"));
    }
    let printed = rnsnet(&["run", "--help"]);
    assert_eq!(printed.code, Some(0));
    assert!(printed.stdout.contains("\nUsage: rnsnet run [OPTIONS] [--] CMD [ARG...]\n"));
}

#[test]
fn version_goes_to_stdout_and_is_success() {
    for args in [["--version"], ["-V"]] {
        let printed = rnsnet(&args);
        assert_eq!(printed.code, Some(0));
        assert_eq!(printed.stdout, concat!("rnsnet ", env!("CARGO_PKG_VERSION"), "\n"));
        assert_eq!(printed.stderr, "");
    }
}

#[test]
fn a_wrong_command_line_is_one_line_and_exit_code_2() {
    refused(
        &["--publish", "8080:", "4711"],
        "rnsnet: invalid --publish \"8080:\": \
         the container port is missing: write HOST:CONTAINER, as in 8080:80\n",
    );
    refused(
        &["-p8080:80/sctp", "4711"],
        "rnsnet: invalid --publish \"8080:80/sctp\": sctp is not supported: only tcp and udp\n",
    );
    refused(
        &["4711", "--mtu=70000"],
        "rnsnet: invalid --mtu \"70000\": out of range: 1280 to 65520\n",
    );
    refused(
        &["--cidr", "10.0.2.7/24", "4711"],
        "rnsnet: invalid --cidr \"10.0.2.7/24\": it has host bits set: the prefix is 10.0.2.0/24\n",
    );
    refused(&["0"], "rnsnet: invalid PID \"0\": out of range: 1 to 4194304\n");
    refused(
        &["--publsh", "8080:80", "4711"],
        "rnsnet: unknown option \"--publsh\": did you mean --publish?\n",
    );
    refused(
        &["--network", "a\nb", "4711"],
        "rnsnet: invalid --network \"a\\nb\": \
         write letters, digits, and from the second on '_', '.' and '-'\n",
    );
}

#[test]
fn what_everyone_meets_has_a_hint() {
    refused(
        &[],
        "rnsnet: PID or NETNS_PATH is missing\n\
         hint: rnsnet PID attaches a running container; rnsnet --help has examples\n",
    );
    refused(
        &["--frobnicate", "4711"],
        "rnsnet: unknown option \"--frobnicate\"\nhint: rnsnet --help lists the options\n",
    );
    refused(
        &["run"],
        "rnsnet: the command is missing: rnsnet run [OPTIONS] [--] CMD [ARG...]\n\
         hint: rnsnet run --help has examples\n",
    );
}

#[test]
fn bytes_that_are_no_text_are_shown_as_far_as_they_are() {
    let printed = rnsnet(&[OsStr::from_bytes(b"/run/netns/w\xffb")]);
    assert_eq!(printed.stderr, "rnsnet: not UTF-8: \"/run/netns/w\u{fffd}b\"\n");
    assert_eq!(printed.code, Some(2));
}

#[test]
fn a_failure_is_exit_code_1_and_names_what_was_typed() {
    // The largest process id there can be; no test machine counts that far.
    let printed = rnsnet(&["4194304"]);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    assert_eq!(printed.stdout, "");
    let first = printed.stderr.lines().next().unwrap_or_default();
    assert!(first.starts_with("rnsnet: ") && first.contains("4194304"), "{}", printed.stderr);
}

/// Makes it a command of a user whose run-time directory is this one.
fn at<'c>(runtime: &Path, command: &'c mut Command) -> &'c mut Command {
    command.env("XDG_RUNTIME_DIR", runtime).env("XDG_CONFIG_HOME", runtime)
}

/// A new run-time directory.
fn runtime(test: &str) -> PathBuf {
    let runtime = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(test);
    drop(fs::remove_dir_all(&runtime));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&runtime).expect("a directory");
    runtime
}

#[test]
fn a_socket_that_cannot_be_connected_to_is_passed_over() {
    let runtime = runtime("long");
    let containers = runtime.join("rnsnet/containers").join("n".repeat(120));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(containers).expect("a directory");
    let mut ps = Command::new(env!("CARGO_BIN_EXE_rnsnet"));
    let printed = printed(at(&runtime, ps.args(["ps", "-q"])));
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), ""), "{printed:?}");
    assert_eq!(printed.stderr, "");
}

#[test]
fn what_cannot_be_printed_is_told() {
    for args in ["--help", "--version", "version", "ps"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
        let printed = printed(Command::new(env!("CARGO_BIN_EXE_rnsnet")).arg(args).stdout(full));
        let told =
            "rnsnet: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(1), told), "{args}");
    }
}

#[test]
fn what_goes_on_for_ever_ends_with_its_reader() {
    let runtime = runtime("reader");
    for name in ["stats", "events"] {
        let mut verb = Command::new("timeout");
        verb.args(["60", env!("CARGO_BIN_EXE_rnsnet"), name]);
        at(&runtime, &mut verb).stdout(Stdio::piped());
        let mut child = verb.spawn().expect("timeout(1) starts");
        drop(child.stdout.take());
        assert_eq!(child.wait().expect("it is ours").code(), Some(0), "{name}");
    }
}
