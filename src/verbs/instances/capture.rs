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
        OptionSpec {
            long: "--ring",
            kind: Kind::Value("MIB"),
            help: "Keep the last frames alone, at most that many MiB: FILE is begun anew when it \
                   has half of them, and what it had is FILE.1.",
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
        (
            "rnsnet capture web -w web.pcap --ring 64",
            "For as long as it takes until it fails again.",
        ),
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
    /// Bytes, of both files together.
    ring: Option<u64>,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let file = typed.read("--write", |text| match text {
        "" => Err(ValueError::Empty),
        "-" => Ok(None),
        file => Ok(Some(file.to_owned())),
    })?;
    let (file, ring) = (file.flatten(), typed.read("--ring", positive)?);
    if ring.is_some() && file.is_none() {
        return Err(UsageError::Useless { option: "--ring", needed: "--write FILE" });
    }
    Ok(Box::new(CaptureTo {
        container: typed.argument(0).unwrap_or_default().to_owned(),
        file,
        ring: ring.map(|mib| u64::from(mib) << 20),
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
        let (out, file) = match &self.file {
            None if io::stdout().is_terminal() => return Err(ClientError::Terminal.into()),
            None => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                (stdout.map_err(system("use standard output"))?.into(), "standard output")
            }
            Some(file) => {
                let failed = |source| ClientError::Write { file: file.clone(), source };
                (begin(file).map_err(failed)?, file.as_str())
            }
        };
        let (reader, writer) = io::pipe().map_err(system("make a pipe"))?;
        // Room for a burst; what the kernel does not grant is no harm.
        if let Err(errno) = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_LEN)) {
            log::debug!("the pipe stays small: {errno}");
        }
        let asked = Capture { container, count: self.count, snap: self.snap, filter: self.filter };
        let Streaming { .. } = connection.ask_with("capture", &asked, &[writer.into()])?;
        if let Some(file) = &self.file {
            let failed = |source| ClientError::Write { file: file.clone(), source };
            empty(&out).map_err(failed)?;
        }
        let ring = self.ring.map(|most| Ring::new(file, most / 2));
        match copy(reader, out, ring) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            other => {
                other.map_err(|source| ClientError::Write { file: file.to_owned(), source })?
            }
        }
        report(&mut connection)?;
        Ok(0)
    }
}

/// A new file, or an old one, whose contents stay until there is something else to write.
fn begin(file: &str) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file)
}

/// Takes out what is in a file; a pipe or device has nothing.
fn empty(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

/// A capture that goes on in a new file each time that one is full; the one before is kept.
#[derive(Debug)]
struct Ring<'a> {
    file: &'a str,
    /// The most bytes of one file.
    most: u64,
    /// What each file begins with.
    head: Vec<u8>,
    /// What the file at hand has.
    length: u64,
    /// The beginning of what is not there as a whole.
    rest: Vec<u8>,
}

impl<'a> Ring<'a> {
    fn new(file: &'a str, most: u64) -> Self {
        Self { file, most, head: Vec::new(), length: 0, rest: Vec::new() }
    }

    /// Writes the frames that are whole by now.
    fn write(&mut self, piece: &[u8], out: &mut File) -> io::Result<()> {
        self.rest.extend_from_slice(piece);
        let mut written = 0;
        while let Some(rest) = self.rest.get(written..) {
            // pcap-savefile(5): a head of 24 bytes, then each frame behind 16, its length at 8.
            let length = match rest.get(8..12).and_then(<[u8]>::first_chunk) {
                _ if self.head.is_empty() => 24,
                Some(length) => usize::try_from(u32::from_ne_bytes(*length))
                    .unwrap_or(usize::MAX)
                    .saturating_add(16),
                None => break,
            };
            let Some(whole) = rest.get(..length) else { break };
            if self.head.is_empty() {
                self.head = whole.to_vec();
            } else if self.length + length as u64 > self.most {
                std::fs::rename(self.file, format!("{}.1", self.file))?;
                *out = begin(self.file)?;
                out.write_all(&self.head)?;
                self.length = self.head.len() as u64;
            }
            out.write_all(whole)?;
            self.length += length as u64;
            written += length;
        }
        self.rest.drain(..written);
        Ok(())
    }
}

/// Every piece at once, so that a reader sees each frame as it comes. A reader that goes is noticed
/// at once too, not only with the next frame.
fn copy(reader: io::PipeReader, mut out: File, mut ring: Option<Ring<'_>>) -> io::Result<()> {
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
        let piece = buffer.get(..length).unwrap_or_default();
        match &mut ring {
            Some(ring) => ring.write(piece, &mut out)?,
            None => out.write_all(piece)?,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_has_the_last_frames_whole_in_files_that_begin_as_all_do() {
        let directory = crate::testing::scratch("ring");
        let file = directory.join("ring");
        let (file, before) = (file.to_str().unwrap().to_owned(), file.with_extension("1"));
        let mut ring = Ring::new(&file, 1000);
        let frame = |number: u8, length: u32| {
            let head = [&[0; 8][..], &length.to_ne_bytes(), &length.to_ne_bytes()].concat();
            [head, vec![number; length as usize]].concat()
        };
        let frames = (0..50).map(|number| frame(number, 60 + u32::from(number)));
        let stream = [vec![0xa1; 24]].into_iter().chain(frames).collect::<Vec<_>>().concat();
        let mut out = begin(&file).unwrap();
        for piece in stream.chunks(37) {
            ring.write(piece, &mut out).unwrap();
            assert!(std::fs::metadata(&file).unwrap().len() <= 1000);
        }
        let [older, newer] = [before.to_str().unwrap(), &file].map(|file| {
            let all = std::fs::read(file).unwrap();
            assert!(all.len() <= 1000 && all.starts_with(&[0xa1; 24]), "{file}");
            all[24..].to_vec()
        });
        std::fs::remove_dir_all(directory).unwrap();
        let kept = [older, newer].concat();
        assert!(stream.ends_with(&kept) && kept.len() > 1000, "{} bytes", kept.len());
        assert_eq!(kept[..8], [0; 8], "it begins with a frame");
    }
}
