//! The program: parse, log, run, tell the error, exit.

use std::ffi::OsString;
use std::process::ExitCode;

use rnsnet::cli::pasta;
use rnsnet::cli::slirp4netns::{self, Invocation};
use rnsnet::cli::{Command, Environment};
use rnsnet::config::Process;
use rnsnet::error::Error;
use rnsnet::io::logger;
use rnsnet::output;
use rnsnet::session;
use rnsnet::sys::alloc::PageAllocator;
use rnsnet::verbs;

#[global_allocator]
static ALLOCATOR: PageAllocator = PageAllocator;

/// What `rnsnet run` exits with when it fails itself, as docker-run(1): the command's own statuses
/// stay apart from it.
const EXIT_RUN_FAILED: u8 = 125;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let args: Vec<_> = args.collect();
    let environment = verbs::environment(Environment::of_this_process());
    let code = if pasta::is_meant(&program, &args) {
        as_pasta(&args)
    } else if slirp4netns::is_meant(&program, &args, &environment) {
        as_slirp4netns(&args)
    } else {
        as_rnsnet(&args, &environment)
    };
    ExitCode::from(code)
}

fn as_rnsnet(args: &[OsString], environment: &Environment) -> u8 {
    let command = match verbs::parse(environment, args.iter().cloned()) {
        Err(error) => return session::finish(Err(Error::Usage(error)), Error::exit_code),
        Ok(verbs::Command::Verb(action)) => {
            start_log(&Process::default());
            return session::finish(action.run(), Error::exit_code);
        }
        Ok(verbs::Command::Main(command)) => *command,
    };
    match command {
        Command::Help(text) | Command::Version(text) => print(&text),
        Command::Attach(attach) => {
            start_log(&attach.process);
            session::finish(session::attach(attach), Error::exit_code)
        }
        Command::Run(run) => {
            start_log(&run.process);
            session::finish(session::run(&run), |error| match error.exit_code() {
                code @ (126 | 127) => code,
                _ => EXIT_RUN_FAILED,
            })
        }
    }
}

/// In the place of slirp4netns: whatever goes wrong, the exit code is 1.
#[allow(clippy::print_stderr)] // one message in the caller's words, without our name
fn as_slirp4netns(args: &[OsString]) -> u8 {
    match slirp4netns::parse(args) {
        Err(error) => {
            eprintln!("{error}");
            print(slirp4netns::help());
            1
        }
        Ok(Invocation { command: Command::Attach(attach), warnings }) => {
            start_log(&attach.process);
            for warning in warnings {
                log::warn!("{warning}");
            }
            session::finish(session::attach(attach), |_| 1)
        }
        Ok(Invocation { command: Command::Help(text) | Command::Version(text), .. }) => {
            print(&text)
        }
        // A personality has no `run`.
        Ok(Invocation { command: Command::Run(_), .. }) => 1,
    }
}

/// In the place of pasta: the exit code is 1, or that of the command.
#[allow(clippy::print_stderr)] // one message in the caller's words, without our name
fn as_pasta(args: &[OsString]) -> u8 {
    match pasta::parse(args) {
        Err(error) => {
            eprintln!("{error}");
            1
        }
        Ok(pasta::Command::Print(text)) => print(&text),
        Ok(pasta::Command::Pasta(pasta)) => {
            start_log(&pasta.process);
            session::finish(session::pasta(*pasta), |error| match error.exit_code() {
                code @ (126 | 127) => code,
                _ => 1,
            })
        }
    }
}

fn start_log(process: &Process) {
    logger::init(process.log_level.0);
}

fn print(text: &str) -> u8 {
    let printed = output::print(text).map(|()| 0);
    session::finish(printed.map_err(Error::from), Error::exit_code)
}
