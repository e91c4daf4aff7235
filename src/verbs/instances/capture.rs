//! `rnsnet capture`: frames of a running container, for tcpdump.
//!
//! The network's process filters, so that it copies nothing that is not wanted (docs/decisions/0036);
//! the expression is checked here too, before anybody is asked. That process writes into a pipe and
//! never waits for its reader; this one may, as it is nobody's network.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::{Action, Argument, Typed, Verb};
use super::CTR;
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::cli::values::{ValueError, is_digits};
use crate::client::{self, ClientError, Line};
use crate::control::filter::Filter;
use crate::control::{Capture, CaptureEnd, Streaming};
use crate::error::Error;

pub(in crate::verbs) const CAPTURE: Verb = Verb {
    name: "capture",
    aliases: &[],
    about: "Write the frames of a running container in pcap format",
    more: "Ends with -c, with Ctrl-C or with its reader, and the container does not notice. EXPR is \
           as tcpdump's, of these words: ip, ip6, arp, tcp, udp, icmp, icmp6; [src|dst] host \
           ADDRESS, net PREFIX, [tcp|udp] port N, portrange N-M; ether [src|dst] host MAC; less N, \
           greater N; and, or, not, ( ).",
    arguments: &[Argument {
        help: "The container: its name, a pid in it, its network namespace, its id or the beginning of it; or network:NAME \
               for all containers of a network.",
        ..CTR
    }],
    options: &[
        OptionSpec {
            long: "--write",
            short: Some('w'),
            kind: Kind::Value("FILE"),
            help: "Where to; - is standard output. Default: -.",
            ..VERB
        },
        OptionSpec {
            long: "--filter",
            kind: Kind::Value("EXPR"),
            help: "Only frames that EXPR is about, as in 'tcp port 80'.",
            ..VERB
        },
        OptionSpec {
            long: "--count",
            short: Some('c'),
            kind: Kind::Value("N"),
            help: "End after N frames.",
            ..VERB
        },
        OptionSpec {
            long: "--snapshot-length",
            short: Some('s'),
            kind: Kind::Value("BYTES"),
            help: "Keep no more than that of a frame. Default: all of it.",
            ..VERB
        },
    ],
    examples: &[
        ("rnsnet capture web -w - --filter 'tcp port 80' | tcpdump -nr -", "Live, with a filter."),
        (
            "rnsnet capture network:n1 -w n1.pcap",
            "What the containers of n1 say, also to each other.",
        ),
        ("rnsnet capture web -w web.pcap -c 100", "A hundred frames for Wireshark."),
    ],
    parse,
};

#[derive(Debug)]
struct CaptureTo {
    container: String,
    /// `None` is standard output.
    file: Option<String>,
    count: Option<u64>,
    snap: Option<u32>,
    filter: Option<String>,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let file = typed.read("--write", |text| match text {
        "" => Err(ValueError::Empty),
        "-" => Ok(None),
        file => Ok(Some(file.to_owned())),
    })?;
    Ok(Box::new(CaptureTo {
        container: typed.argument(0).unwrap_or_default().to_owned(),
        file: file.flatten(),
        count: typed.read("--count", positive)?.map(u64::from),
        snap: typed.read("--snapshot-length", positive)?,
        filter: typed.read("--filter", |text| {
            Filter::parse(text).map(|_| text.to_owned()).map_err(ValueError::from)
        })?,
    }))
}

fn positive(text: &str) -> Result<u32, ValueError> {
    if text.is_empty() || !is_digits(text) {
        return Err(ValueError::NotANumber);
    }
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or(ValueError::OutOfRange { min: 1, max: u32::MAX })
}

impl Action for CaptureTo {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let system = |step| move |source| ClientError::System { step, source };
        let (mut connection, container) = match self.container.strip_prefix("network:") {
            Some(network) => (client::network(network)?, None),
            None => {
                let found = client::find(&self.container)?;
                let name = found.named();
                (found.instance.connection, name)
            }
        };
        let (mut out, file) = match &self.file {
            None if io::stdout().is_terminal() => return Err(ClientError::Terminal.into()),
            None => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                (stdout.map_err(system("use standard output"))?.into(), "standard output")
            }
            Some(file) => {
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(true).mode(0o600);
                let opened = options.open(file);
                let failed = |source| ClientError::Write { file: file.clone(), source };
                (opened.map_err(failed)?, file.as_str())
            }
        };
        let (reader, writer) = io::pipe().map_err(system("make a pipe"))?;
        // Room for a burst; what the kernel does not grant is no harm.
        if let Err(errno) = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_LEN)) {
            log::debug!("the pipe stays small: {errno}");
        }
        let asked = Capture { container, count: self.count, snap: self.snap, filter: self.filter };
        let Streaming { .. } = connection.ask_with("capture", &asked, &[writer.into()])?;
        match copy(reader, &mut out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            other => {
                other.map_err(|source| ClientError::Write { file: file.to_owned(), source })?
            }
        }
        report(&mut connection)?;
        Ok(0)
    }
}

/// Every piece at once, so that a reader sees each frame as it comes. A reader that goes is noticed
/// at once too, not only with the next frame.
fn copy(reader: io::PipeReader, out: &mut File) -> io::Result<()> {
    let mut reader = File::from(OwnedFd::from(reader));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut fds = [
            PollFd::new(reader.as_fd(), PollFlags::POLLIN),
            // Without a reader a pipe is in error, a socket hung up: poll(2) always says so.
            PollFd::new(out.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let [_, out_of] = fds;
        if out_of.any() == Some(true) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        out.write_all(buffer.get(..length).unwrap_or_default())?;
        out.flush()?;
    }
}

/// Says on standard error how many frames there were.
fn report(connection: &mut client::Connection) -> Result<(), ClientError> {
    while connection.wait(Some(1000)).unwrap_or(false) {
        match connection.next_event()? {
            Line::Event(event) => {
                if let Ok(CaptureEnd { captured, missed }) = serde_json::from_value(event) {
                    log::info!("{captured} frames captured, {missed} missed");
                    return Ok(());
                }
            }
            Line::NotYet => {}
            Line::End => break,
        }
    }
    log::info!("the network has ended");
    Ok(())
}

/// The most that an ordinary user's pipe may hold (pipe(7)), in bytes.
const PIPE_LEN: i32 = 1 << 20;
