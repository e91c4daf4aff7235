//! One run of the program, from the command as parsed to the exit code.
//!
//! The order is part of the security model (docs/security.md): nothing is made before every
//! input is known to be good, and nothing is served before the process has given up its powers.
//! A failure at any step leaves no port bound and no interface behind, since both die with their
//! descriptors.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::attach::{self, Container};
use crate::config::{Addresses, Attach, Endpoint, Network, Process, Run};
use crate::error::{Error, report};
use crate::io::listen::{self, Listener};
use crate::io::process::{PidFile, ProcessError, announce_ready};
use crate::io::{self, Ended, HostResolvers, LoopError};
use crate::run;
use crate::sys::fd::take_inherited;
use crate::sys::isolate::{isolate_final, isolate_initial};
use crate::sys::netns;

/// Attaches a container and serves it until it ends. Returns the exit code.
///
/// # Errors
/// Everything that keeps it from being attached, see [`Error`].
pub fn attach(command: Attach) -> Result<u8, Error> {
    let inherited = [command.process.ready_fd, command.process.exit_fd];
    isolate_initial(&inherited.into_iter().flatten().collect::<Vec<_>>())?;
    if command.process.detach { in_background(command) } else { attach_and_serve(command, None) }
}

fn attach_and_serve(command: Attach, background: Option<OwnedFd>) -> Result<u8, Error> {
    let Attach { target, endpoint, network, process } = command;
    let container = attach::open(&target)?;
    let announcement = Announcement { process, background };
    if endpoint.loopback_only {
        attach::loopback_only(&container)?;
        announcement.make()?;
        return Ok(0);
    }
    let served = Served::attach(&container, &endpoint, network)?;
    let Container { pidfd, watch_path, .. } = container;
    let network = served.into_network(&endpoint, pidfd, watch_path, &announcement.process)?;
    serve(network, announcement)?;
    Ok(0)
}

/// Runs a command in new namespaces and serves them until it ends. Returns its exit status.
///
/// # Errors
/// Everything that keeps the command from being run, see [`Error`].
pub fn run(command: &Run) -> Result<u8, Error> {
    let Run { endpoint, network, process, .. } = command;
    let fds = [process.ready_fd, process.exit_fd];
    let inherited = isolate_initial(&fds.into_iter().flatten().collect::<Vec<_>>())?;
    let (dns, guest) = addresses_inside(endpoint, &network.addresses);
    let mut sandbox = run::spawn(command, &dns, &guest, &inherited)?;
    let container = sandbox.container()?;
    let announcement = Announcement { process: process.clone(), background: None };
    let mut network = if endpoint.loopback_only {
        attach::loopback_only(&container)?;
        Served::nothing(network.clone())
    } else {
        Served::attach(&container, endpoint, network.clone())?
    };
    let ipv6 = network.config.addresses.v6.is_some();
    // Stopped by the kernel when we end, so the command never outlives its network.
    sandbox.start(ipv6)?;
    network.forward_signals = true;
    let pidfd = sandbox.pidfd.try_clone().map_err(set_up("watch the command"))?;
    let network = network.into_network(endpoint, Some(pidfd), None, process)?;
    match serve(network, announcement)? {
        Ended::Container => {}
        Ended::Asked => {
            sandbox
                .signal(nix::sys::signal::Signal::SIGTERM)
                .map_err(set_up("stop the command"))?;
        }
    }
    let status = netns::wait(Pid::from_raw(sandbox.pid)).map_err(set_up("wait for the command"))?;
    Ok(u8::try_from(status).unwrap_or(1))
}

/// What the files of a command's mount namespace name: the resolvers and the command's addresses.
fn addresses_inside(endpoint: &Endpoint, addresses: &Addresses) -> (Vec<IpAddr>, Vec<IpAddr>) {
    if endpoint.loopback_only {
        return (Vec::new(), Vec::new());
    }
    let v6 = addresses.v6.as_ref();
    let dns = [Some(IpAddr::V4(addresses.v4.dns)), v6.map(|v6| IpAddr::V6(v6.dns))];
    let guest = [Some(IpAddr::V4(addresses.v4.guest)), v6.map(|v6| IpAddr::V6(v6.guest))];
    (dns.into_iter().flatten().collect(), guest.into_iter().flatten().collect())
}

/// A container's interface and its published ports.
struct Served {
    config: Network,
    attached: Option<attach::Attached>,
    listeners: Vec<Listener>,
    forward_signals: bool,
}

impl Served {
    fn nothing(config: Network) -> Self {
        Self { config, attached: None, listeners: Vec::new(), forward_signals: false }
    }

    /// Binds the ports before the interface is made, so that a port that is taken leaves no trace
    /// in the container.
    fn attach(
        container: &Container,
        endpoint: &Endpoint,
        mut config: Network,
    ) -> Result<Self, Error> {
        let mut listeners = listen::bind(&config.publish, config.addresses.v6.is_some())?;
        let attached = attach::attach(container, endpoint, &config)?;
        if !attached.ipv6 {
            config.addresses.v6 = None;
            listeners.retain(|listener| listener.address.is_ipv4());
        }
        Ok(Self { config, attached: Some(attached), listeners, forward_signals: false })
    }

    fn into_network(
        self,
        endpoint: &Endpoint,
        pidfd: Option<OwnedFd>,
        watch_path: Option<std::path::PathBuf>,
        process: &Process,
    ) -> Result<io::Network, Error> {
        Ok(io::Network {
            config: self.config,
            tap: self.attached.map(|attached| (attached.tap, endpoint.mac)),
            listeners: self.listeners,
            resolvers: HostResolvers::default(),
            pidfd,
            watch_path,
            exit: process.exit_fd.map(|fd| inherited("--exit-fd", fd)).transpose()?,
            forward_signals: self.forward_signals,
            pcap: process.pcap.clone(),
        })
    }
}

/// Gives up the process's powers, tells the caller that the network works, and serves it.
fn serve(network: io::Network, announcement: Announcement) -> Result<Ended, Error> {
    let pid_file = announcement.process.pid_file.as_deref().map(PidFile::write).transpose()?;
    let ended = io::serve(network, || {
        isolate_final()?;
        announcement.make()
    })?;
    drop(pid_file);
    Ok(ended)
}

/// What is to be told once the network works, and to whom.
struct Announcement {
    process: Process,
    /// The process in the foreground that waits for us to be ready.
    background: Option<OwnedFd>,
}

impl Announcement {
    fn make(self) -> Result<(), Error> {
        if let Some(fd) = self.process.ready_fd {
            announce_ready(fd, inherited("--ready-fd", fd)?)?;
        }
        if let Some(foreground) = self.background {
            leave_terminal().map_err(set_up("leave the terminal"))?;
            netns::send(foreground.as_fd(), b"1", None).map_err(set_up("go to the background"))?;
        }
        Ok(())
    }
}

/// `--detach`: a child does everything; this process ends well once the child is ready, or with
/// the child's own failure.
fn in_background(command: Attach) -> Result<u8, Error> {
    let (ours, theirs) = netns::message_pair().map_err(set_up("start a background process"))?;
    let child = netns::spawn(|| {
        if let Err(errno) = setsid() {
            log::debug!("cannot start a session: {errno}");
        }
        finish(attach_and_serve(command, Some(theirs)), Error::exit_code).into()
    })
    .map_err(set_up("start a background process"))?;
    match netns::receive(ours.as_fd()) {
        Ok((message, _)) if message == b"1" => Ok(0),
        // It has said why on stderr.
        _ => {
            let status = netns::wait(child).map_err(set_up("wait for the background process"))?;
            Ok(u8::try_from(status).unwrap_or(1))
        }
    }
}

/// Standard input, output and error become /dev/null.
fn leave_terminal() -> std::io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

fn set_up(step: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Loop(LoopError::SetUp { step, source })
}

/// Takes over a descriptor that an option names.
fn inherited(option: &'static str, fd: i32) -> Result<OwnedFd, ProcessError> {
    take_inherited(fd).map_err(|source| ProcessError::Inherited { option, fd, source })
}

/// The exit code of a session; an error is told on stderr, and ends it with `code(error)`.
#[allow(clippy::print_stderr)] // the one place that tells errors
pub fn finish(result: Result<u8, Error>, code: impl FnOnce(&Error) -> u8) -> u8 {
    result.unwrap_or_else(|error| {
        eprintln!("{}", report(&error));
        code(&error)
    })
}
