//! Running other programs: to their end with a deadline, or in the background for a test's life.
//!
//! No process outlives its owner here: what is dropped is killed, by pid.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually::{PATIENCE, now, pause, secs};

/// How long a command may take where a test does not say otherwise.
pub(crate) const DEFAULT_DEADLINE: Duration = Duration::from_secs(20);

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    what: String,
}

impl Ran {
    /// Standard output without its last line end.
    ///
    /// # Panics
    /// When the command failed.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert!(self.status.success(), "command failed: {self}");
        self.stdout.trim_end()
    }

    /// The exit code.
    ///
    /// # Panics
    /// When a signal ended the command.
    #[track_caller]
    pub(crate) fn code(&self) -> i32 {
        match self.status.code() {
            Some(code) => code,
            None => panic!("ended by a signal: {self}"),
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n  {} after {:?}\n  stdout: {}\n  stderr: {}",
            self.what,
            self.status,
            self.took,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// Runs `command` to its end with `input` on standard input.
///
/// # Panics
/// When the command cannot be started, or has not ended within `deadline` (it is killed then).
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8], deadline: Duration) -> Ran {
    Proc::piped(command, input).finish(deadline)
}

/// A running program. Dropping it kills it.
pub(crate) struct Proc {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    what: String,
    start: std::time::Instant,
}

impl Proc {
    /// Starts `command` with pipes on all three standard streams.
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let what = printable(command);
        let start = now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        let stdin = child.stdin.take();
        let lines = lines_of(child.stdout.take().expect("standard output is a pipe"));
        let errors = lines_of(child.stderr.take().expect("standard error is a pipe"));
        Self { child, stdin, lines, errors, what, start }
    }

    /// Starts `command` and writes all of `input` to it, then closes its standard input.
    fn piped(command: &mut Command, input: &[u8]) -> Self {
        let mut process = Self::spawn(command);
        if let Some(mut stdin) = process.stdin.take()
            && !input.is_empty()
        {
            let input = input.to_vec();
            // A command may end without reading; what counts is what it says and returns.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
        process
    }

    /// The process id; the same program for as long as `self` lives.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one signal.
    pub(crate) fn signal(&self, signal: Signal) {
        signal_pid(self.pid(), signal);
    }

    /// Writes one line to the program's standard input.
    #[track_caller]
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        writeln!(stdin, "{line}").expect("the program reads its standard input");
    }

    /// Closes the program's standard input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next line of standard output.
    ///
    /// # Panics
    /// When none comes within `deadline` ([`PATIENCE`] times), or the program closes its standard
    /// output.
    #[track_caller]
    pub(crate) fn line(&mut self, deadline: Duration) -> String {
        let deadline = deadline * PATIENCE;
        match self.lines.recv_timeout(deadline) {
            Ok(line) => line,
            Err(error) => {
                let stderr: Vec<String> = self.errors.try_iter().collect();
                panic!(
                    "no output within {deadline:?} ({error}) from {}\n  stderr: {}",
                    self.what,
                    stderr.join("\n  ")
                )
            }
        }
    }

    /// The exit status, if the program has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Waits for the program's own end.
    ///
    /// # Panics
    /// When it has not ended within `deadline` ([`PATIENCE`] times); it is killed then.
    #[track_caller]
    pub(crate) fn finish(mut self, deadline: Duration) -> Ran {
        let deadline = deadline * PATIENCE;
        let waiting_since = now();
        let status = loop {
            if let Some(status) = self.ended() {
                break Some(status);
            }
            if waiting_since.elapsed() > deadline {
                break None;
            }
            pause(Duration::from_millis(1));
        };
        let took = self.start.elapsed();
        let killed = status.is_none();
        let status = status.unwrap_or_else(|| self.kill());
        let ran = Ran {
            status,
            stdout: rest(&self.lines),
            stderr: rest(&self.errors),
            took,
            what: self.what.clone(),
        };
        assert!(!killed, "not ended within {deadline:?}: {ran}");
        ran
    }

    fn kill(&mut self) -> ExitStatus {
        // Fails only for a program that has ended, which wait then says.
        drop(self.child.kill());
        self.child.wait().expect("the child is ours")
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends `signal` to a process that the caller started.
pub(crate) fn signal_pid(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid fits"));
    kill(pid, signal).unwrap_or_else(|error| panic!("cannot send {signal} to {pid}: {error}"));
}

/// How a command looks in a message: without the long scripts.
fn printable(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        text.push(' ');
        if argument.lines().count() > 5 {
            let tail: Vec<&str> = argument.lines().rev().take(3).collect();
            text.push_str("[... ");
            text.push_str(&tail.into_iter().rev().collect::<Vec<_>>().join(" ; "));
            text.push(']');
        } else {
            text.push_str(&argument);
        }
    }
    text
}

/// Feeds a stream's lines to a channel, so that they can be waited for with a deadline.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            line.clear();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What is left in a stream whose writer has ended: all of it, however late its reader is here. Only
/// where a grandchild holds it open is silence its end.
fn rest(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    while let Ok(line) = lines.recv_timeout(secs(10)) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}
