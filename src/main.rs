//! The program: parse, log, run, tell the error, exit.

use std::io::Write;
use std::process::ExitCode;

use rnsnet::cli::{self, Command};
use rnsnet::config::Process;
use rnsnet::error::Error;
use rnsnet::io::logger;
use rnsnet::session;
use rnsnet::sys::alloc::PageAllocator;

#[global_allocator]
static ALLOCATOR: PageAllocator = PageAllocator;

/// What `rnsnet run` exits with when it fails itself, as docker-run(1): the command's own statuses
/// stay apart from it.
const EXIT_RUN_FAILED: u8 = 125;

fn main() -> ExitCode {
    let code = match cli::parse(std::env::args_os().skip(1)) {
        Err(error) => session::finish(Err(Error::Usage(error)), Error::exit_code),
        Ok(Command::Help(text) | Command::Version(text)) => print(&text),
        Ok(Command::Attach(attach)) => {
            start_log(&attach.process);
            session::finish(session::attach(attach), Error::exit_code)
        }
        Ok(Command::Run(run)) => {
            start_log(&run.process);
            session::finish(session::run(&run), |error| match error.exit_code() {
                code @ (126 | 127) => code,
                _ => EXIT_RUN_FAILED,
            })
        }
    };
    ExitCode::from(code)
}

fn start_log(process: &Process) {
    logger::init(process.log_level.0);
}

/// A reader that has gone away, as in `rnsnet --help | head -1`, is no failure.
fn print(text: &str) -> u8 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => 1,
        _ => 0,
    }
}
