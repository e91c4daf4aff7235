//! The program under test: how a test starts it, waits for it, and what it demands at its end.
//!
//! Every instance writes `rnsnet.log` and `guest.pcap` to the test's folder. When it is dropped it
//! must end on SIGTERM, with exit code 0 and no error in its log.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, millis, now, pause, secs};
use crate::exec::{DEFAULT_DEADLINE, Proc, Ran, run};
use crate::lab::{Container, Lab, Place};

/// How soon it must have ended after it was told to, where that is what is tested.
pub(crate) const END: Duration = secs(1);
/// How long its end is waited for elsewhere.
const ENDING: Duration = secs(5);

/// The file that is tested: `RNSNET_BIN`, or what cargo built.
pub(crate) fn binary() -> OsString {
    std::env::var_os("RNSNET_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_rnsnet").into())
}

/// A call of `rnsnet` that is being put together.
pub(crate) struct Invocation<'a> {
    lab: &'a Lab,
    verb: Option<&'static str>,
    options: Vec<String>,
    target: Vec<String>,
    pcap: bool,
    exit_fd: bool,
    env: Vec<(&'static str, String)>,
    log_level: &'static str,
    name: &'static str,
    traced: bool,
    descriptors: Option<u32>,
}

impl Lab {
    /// `rnsnet PID` for a container.
    pub(crate) fn rnsnet(&self, container: &Container) -> Invocation<'_> {
        self.rnsnet_at(&[&container.pid().to_string()])
    }

    /// `rnsnet` with any operands.
    pub(crate) fn rnsnet_at(&self, target: &[&str]) -> Invocation<'_> {
        Invocation {
            lab: self,
            verb: None,
            options: Vec::new(),
            target: target.iter().map(ToString::to_string).collect(),
            pcap: true,
            exit_fd: false,
            env: Vec::new(),
            log_level: "debug",
            name: "rnsnet",
            traced: false,
            descriptors: None,
        }
    }

    /// `rnsnet reattach` with any operands.
    pub(crate) fn reattach(&self, what: &[&str]) -> Invocation<'_> {
        Invocation { verb: Some("reattach"), ..self.rnsnet_at(what) }.named("reattach")
    }

    /// `rnsnet ARGS` as the user typed it, nothing added.
    pub(crate) fn rnsnet_command(&self, args: &[&str]) -> Command {
        let mut command = self.cmd(Place::User, &[binary()]);
        command.args(args);
        command
    }

    /// Runs `rnsnet ARGS` to its end.
    #[track_caller]
    pub(crate) fn rnsnet_ends(&self, args: &[&str]) -> Ran {
        run(&mut self.rnsnet_command(args), b"", DEFAULT_DEADLINE)
    }
}

impl Invocation<'_> {
    /// Adds options.
    pub(crate) fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(ToString::to_string));
        self
    }

    /// Leaves the capture out, for tests that move gigabytes.
    pub(crate) fn without_pcap(mut self) -> Self {
        self.pcap = false;
        self
    }

    /// Hands it an exit-fd; see [`Rnsnet::close_exit_fd`].
    pub(crate) fn with_exit_fd(mut self) -> Self {
        self.exit_fd = true;
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    /// Asks for another log level than `debug`.
    pub(crate) fn log_level(mut self, level: &'static str) -> Self {
        self.log_level = level;
        self
    }

    /// Has strace(1) write its system calls to `NAME.strace`.
    pub(crate) fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    /// Lets it have no more than so many descriptors.
    pub(crate) fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Names its log and capture, where a test runs several.
    pub(crate) fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Starts it and waits until it says that it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> Rnsnet {
        let log = self.lab.dir().join(format!("{}.log", self.name));
        let pcap = self.lab.dir().join(match self.name {
            "rnsnet" => "guest.pcap".to_owned(),
            name => format!("{name}.pcap"),
        });
        let ready = self.lab.dir().join(format!("{}.ready", self.name));
        // Only a shell hands over descriptors beyond the first three without unsafe code here.
        let exit_fd = if self.exit_fd { "4<&0" } else { "" };
        let script = format!("exec \"$@\" 3>\"$READY\" {exit_fd} </dev/null >/dev/null 2>\"$LOG\"");
        let mut command = self.lab.cmd(Place::User, &["sh", "-c", &script, "sh"]);
        if let Some(limit) = self.descriptors {
            command.args(["prlimit", &format!("--nofile={limit}:{limit}")]);
        }
        if self.traced {
            let file = self.lab.dir().join(format!("{}.strace", self.name));
            command.args(["strace", "--daemonize", "-q", "-o"]).arg(file);
        }
        command.arg(binary()).env("LOG", &log).env("READY", &ready);
        command.args(self.verb).args(["--ready-fd", "3"]);
        if self.verb.is_none() {
            command.args(["--log-level", self.log_level]);
        }
        if self.exit_fd {
            command.args(["--exit-fd", "4"]);
        }
        if self.pcap && self.verb.is_none() {
            command.arg("--pcap").arg(&pcap);
        }
        command.args(&self.options).args(&self.target).envs(self.env);
        drop(fs::remove_file(&ready));
        let mut process = Proc::spawn(&mut command);
        eventually(secs(5), "rnsnet says that it is ready", || {
            if let Some(status) = process.ended() {
                panic!(
                    "rnsnet ended with {status} before it was ready: {}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            match fs::read_to_string(&ready).unwrap_or_default().as_str() {
                "1" => Ok(()),
                other => Err(format!("the ready-fd holds {other:?}")),
            }
        });
        Rnsnet { process: Some(process), log, pcap }
    }
}

/// A running `rnsnet`, attached to one container.
pub(crate) struct Rnsnet {
    process: Option<Proc>,
    log: PathBuf,
    pcap: PathBuf,
}

impl Rnsnet {
    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.running().pid()
    }

    /// The capture it writes.
    pub(crate) fn pcap(&self) -> &str {
        self.pcap.to_str().expect("the lab's folders are UTF-8")
    }

    /// Everything it has written to standard error until now.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it uses no processor time: what is under way settles first.
    #[track_caller]
    pub(crate) fn rests(&self, what: &str) {
        eventually(secs(5), what, || {
            let (before, since) = (ticks(self.pid()), now());
            pause(secs(1));
            let used = ticks(self.pid()) - before;
            if used <= 5 {
                Ok(())
            } else {
                Err(format!("{} ms in {:?}", used * 10, since.elapsed()))
            }
        });
    }

    /// The processor time that it has used until now, which other programs do not make longer.
    pub(crate) fn used(&self) -> Duration {
        millis(10 * ticks(self.pid()))
    }

    /// Sends one signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.running().signal(signal);
    }

    /// Closes our end of the exit-fd.
    pub(crate) fn close_exit_fd(&mut self) {
        self.process.as_mut().expect("it is running").close_stdin();
    }

    /// Whether it is still there.
    pub(crate) fn alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Waits for its own end.
    ///
    /// # Panics
    /// When it does not end, or its log tells of an error.
    #[track_caller]
    pub(crate) fn ends(mut self) -> ExitStatus {
        let process = self.process.take().expect("it is running");
        let status = process.finish(ENDING).status;
        self.assert_clean_log();
        status
    }

    /// SIGUSR1's answer: what the log gained.
    #[track_caller]
    pub(crate) fn dump(&self) -> String {
        let before = self.log().len();
        self.signal(Signal::SIGUSR1);
        eventually(secs(5), "the dump is complete", || {
            let dump = self.log().get(before..).unwrap_or_default().to_owned();
            match dump.split_once("end of dump\n") {
                Some((dump, _)) => Ok(dump.to_owned()),
                None => Err(dump),
            }
        })
    }

    #[track_caller]
    fn running(&self) -> &Proc {
        self.process.as_ref().expect("it is running")
    }

    #[track_caller]
    fn assert_clean_log(&self) {
        let log = self.log();
        let bad =
            log.lines().find(|line| line.contains("rnsnet: error") || line.contains("panicked"));
        if let Some(line) = bad {
            panic!("rnsnet's log tells of an error: {line}\n  in {}", self.log.display());
        }
    }
}

/// Processor time a process has used, in clock ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let after_name = stat.rsplit_once(") ").expect("the name is in parentheses").1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    // proc(5): utime and stime are fields 14 and 15; the name is field 2.
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

impl Drop for Rnsnet {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        if std::thread::panicking() {
            // The tables as they were at the failure go to the log, for whoever reads it.
            if process.ended().is_none() {
                process.signal(Signal::SIGUSR1);
                pause(millis(200));
            }
            return;
        }
        if let Some(status) = process.ended() {
            panic!("rnsnet ended by itself with {status}; log: {}", self.log());
        }
        process.signal(Signal::SIGTERM);
        let ran = process.finish(ENDING);
        assert!(ran.status.success(), "rnsnet must exit 0 on SIGTERM: {ran}\n{}", self.log());
        self.assert_clean_log();
    }
}
