//! One run of the program, from the command as parsed to the exit code.
//!
//! The order is part of the security model (docs/security.md): nothing is made before every
//! input is known to be good, and nothing is served before the process has given up its powers.
//! A failure at any step leaves no port bound and no interface behind, since both die with their
//! descriptors.

mod left;
mod lock;
pub mod named;
pub mod network;
pub mod oci;

use std::error::Error as _;
use std::fs::{File, OpenOptions};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, gethostname, setsid};

use crate::attach::{self, Container};
use crate::config::pasta::{Mirror, Pasta};
use crate::config::{
    Addresses, Attach, Caller, Endpoint, Lease, MacAddress, Network, Process, Run, Setup, Target,
};
use crate::engine::nat;
use crate::error::{Error, report};
use crate::io::activation::Activation;
use crate::io::api::ApiSocket;
use crate::io::control::{ControlSocket, Facts, Serves};
use crate::io::listen::{Binder, Published, in_words, inherited_fds};
use crate::io::logger;
use crate::io::mirror::SocketTables;
use crate::io::notify::Manager;
use crate::io::outbound::OutboundPolicy;
use crate::io::overlay::Underlay;
use crate::io::process::{PidFile, ProcessError, announce_ready, open_log};
use crate::io::{self, Ended, HostResolvers, LoopError, Signals};
use crate::pasta::{self, Plan};
use crate::run;
use crate::runtime_dir::{Owner, Place, RuntimeDirError};
use crate::survivor::{Record, State};
use crate::sys::fd::{is_open, take_inherited};
use crate::sys::host_links::HostLinks;
use crate::sys::interfaces::Interfaces;
use crate::sys::isolate::isolate_initial;
use crate::sys::netns;
use lock::Lock;
use named::Tickets;

/// Attaches a container and serves it until it ends. Returns the exit code.
///
/// # Errors
/// Everything that keeps it from being attached, see [`Error`].
pub fn attach(mut command: Attach) -> Result<u8, Error> {
    let mut exit_is_closed = false;
    if command.caller.any_fds {
        let Process { ready_fd, exit_fd, .. } = &mut command.process;
        *ready_fd = ready_fd.filter(|fd| is_open(*fd));
        exit_is_closed = exit_fd.take_if(|fd| !is_open(*fd)).is_some();
    }
    let tap = match command.target {
        Target::Tap(fd) => Some(fd),
        Target::Pid(_) | Target::Path { .. } => None,
    };
    let published = inherited_fds(&command.network.publish, &Activation::of_environment())?;
    let fds = [command.process.ready_fd, command.process.exit_fd, tap].into_iter().flatten();
    // Those of a container on named networks mean nothing to the networks' processes.
    let own = command.membership.is_none().then(|| attach::handed_over(&command.target));
    let fds = fds.chain(published).chain(own.into_iter().flatten());
    isolate_initial(&fds.collect::<Vec<_>>())?;
    start_log_file(&command.process)?;
    let exit = if exit_is_closed {
        // A pipe that nobody can write to: it hangs up at once.
        let (reader, _) = std::io::pipe().map_err(set_up("make a pipe"))?;
        Some(reader.into())
    } else {
        command.process.exit_fd.map(|fd| inherited("--exit-fd", fd)).transpose()?
    };
    if let Some(membership) = command.membership.take() {
        named::attach(command, &membership, exit)
    } else if command.process.detach {
        in_background(command, exit)
    } else {
        attach_and_serve(command, exit, None)
    }
}

fn attach_and_serve(
    command: Attach,
    exit: Option<OwnedFd>,
    background: Option<Background>,
) -> Result<u8, Error> {
    let Attach { target, mut endpoint, network, process, caller, .. } = command;
    let mut announcement = Announcement { background, ..Announcement::of(process) };
    if caller == Caller::default() {
        announcement.manager = Manager::from_environment();
    }
    // From here on every signal is an end in order, which removes the interface.
    let signals = Signals::new().map_err(set_up("receive signals"))?;
    let called_as = caller.personality.unwrap_or("rnsnet");
    let (served, watched) = if let Target::Tap(fd) = target {
        let mut served = Served::take_tap(fd, &mut endpoint, network, &caller)?;
        let (process, ifname) = (&announcement.process, &endpoint.ifname);
        served.control = control(process, None, Some(&target), called_as, ifname)?;
        (served, Watched::default())
    } else {
        let container = attach::open(&target)?;
        let Process { ready_fd, exit_fd, .. } = announcement.process;
        for fd in attach::handed_over(&target) {
            // Nothing is to hold the namespace but what it is for.
            if ![ready_fd, exit_fd].contains(&Some(fd)) {
                drop(take_inherited(fd));
            }
        }
        if endpoint.loopback_only {
            attach::loopback_only(&container)?;
            let manager = std::mem::take(&mut announcement.manager);
            announcement.make(&manager)?;
            return Ok(0);
        }
        let (process, ifname) = (&announcement.process, &endpoint.ifname);
        let control = control(process, Some(&container), Some(&target), called_as, ifname)?;
        let names = names_inside(&endpoint, &network);
        let mut served = Served::attach(&container, &endpoint, network, &caller)?;
        run::write_files(&names, process, served.config.addresses.v6.is_some())?;
        served.control = control;
        if caller.setup == Setup::Create {
            served.survive()?;
            served.record = keep(&container, &announcement.process, &mut served);
        }
        let Container { pidfd, watch_path, .. } = container;
        if caller.outlive_netns {
            (served, Watched::default())
        } else {
            (served, Watched { pidfd, path: watch_path })
        }
    };
    announcement.log_status = true;
    announcement.status = served.summary(&endpoint);
    let exits = exit.into_iter().collect();
    let network = served.into_network(signals, watched, &announcement.process, exits);
    serve(network, announcement, caller.inspectable)?;
    Ok(0)
}

/// Keeps what `rnsnet reattach` needs to know, beside the control socket. Without a place for it
/// everything else works.
fn keep(container: &Container, process: &Process, served: &mut Served) -> Option<Record> {
    let control = served.control.as_mut().filter(|_| !process.arguments.is_empty())?;
    let ports = served.published.iter().map(|published| published.pairs.clone()).collect();
    let state = State::of_this_process(&container.netns, process, ports);
    let directory = &mut control.place.directory;
    let record = state.and_then(|state| state.write(directory.path()));
    directory.with_state |= record.is_ok();
    record.inspect_err(|error| log::debug!("rnsnet reattach will not know of this: {error}")).ok()
}

/// Runs a command in new namespaces and serves them until it ends. Returns its exit status.
///
/// # Errors
/// Everything that keeps the command from being run, see [`Error`].
pub fn run(command: &Run) -> Result<u8, Error> {
    let Run { endpoint, network, process, caller, .. } = command;
    let published = inherited_fds(&network.publish, &Activation::of_environment())?;
    let fds = [process.ready_fd, process.exit_fd].into_iter().flatten();
    let inherited = isolate_initial(&fds.chain(published).collect::<Vec<_>>())?;
    start_log_file(process)?;
    let tickets = match &command.membership {
        Some(membership) => Some(Tickets::get(membership, process.name.clone())?),
        None => None,
    };
    let names = match &tickets {
        Some(tickets) => tickets.names_inside(),
        None => names_inside(endpoint, network),
    };
    let mut sandbox = run::spawn(command, &names, &inherited)?;
    let container = sandbox.container()?;
    let mut announcement = Announcement::of(process.clone());
    if *caller == Caller::default() {
        announcement.manager = Manager::from_environment();
    }
    let target = Target::Pid(sandbox.pid);
    let mut members = Vec::new();
    let (mut network, ipv6) = if let Some(tickets) = tickets {
        members = tickets.bring(&container, &target, endpoint.offload)?;
        announcement.status = named::summary(&members);
        let ipv6 = members.iter().any(|member| member.lease.v6.is_some());
        (Served::nothing(endpoint, network.clone()), ipv6)
    } else {
        let called_as = caller.personality.unwrap_or("rnsnet run");
        let ifname = &endpoint.ifname;
        let control = control(process, Some(&container), Some(&target), called_as, ifname)?;
        let mut network = if endpoint.loopback_only {
            attach::loopback_only(&container)?;
            Served::nothing(endpoint, network.clone())
        } else {
            Served::attach(&container, endpoint, network.clone(), caller)?
        };
        network.control = control;
        announcement.status = network.summary(endpoint);
        let ipv6 = network.config.addresses.v6.is_some();
        (network, ipv6)
    };
    log::debug!("{}", announcement.status);
    // Blocked before the command exists, so that none for it is lost or ends us instead.
    let signals = Signals::new().map_err(set_up("receive signals"))?;
    // Stopped by the kernel when we end, so the command never outlives its network.
    sandbox.start(ipv6)?;
    network.forward_signals = true;
    let pidfd = sandbox.pidfd.try_clone().map_err(set_up("watch the command"))?;
    let watched = Watched { pidfd: Some(pidfd), path: None };
    let exit = process.exit_fd.map(|fd| self::inherited("--exit-fd", fd)).transpose()?;
    let exits = named::ends_of(&members)?.into_iter().chain(exit).collect();
    let network = network.into_network(signals, watched, process, exits);
    let served = serve(network, announcement, false);
    // As where it is served from here, the command does not outlive its network.
    if let Err(error) = named::leave_all(members) {
        log::warn!("{error}");
    }
    match served? {
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

/// In the place of pasta: looks at the host, then attaches a namespace or runs a command.
///
/// # Errors
/// As [`attach()`] and [`run()`], and what the host lacks.
pub fn pasta(wanted: Pasta) -> Result<u8, Error> {
    let host = HostLinks::read().map_err(set_up("list the host's addresses"))?;
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let shell = shell.unwrap_or_else(|| "/bin/sh".into());
    match pasta::plan(wanted, &host, shell, &ephemeral_ports())? {
        Plan::Attach(command) => attach(command),
        Plan::Run(command) => run(&command),
    }
}

/// Sends the log to its file, if it has one: not before foreign descriptors are closed.
fn start_log_file(process: &Process) -> Result<(), ProcessError> {
    if let Some(path) = &process.log_file {
        logger::redirect(open_log(path)?);
    }
    Ok(())
}

/// The ports that the host gives to outgoing connections, ip(7).
fn ephemeral_ports() -> RangeInclusive<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.unwrap_or_default();
    let mut words = range.split_ascii_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        // The kernel's default.
        _ => 32_768..=60_999,
    }
}

/// What the files of a command's mount namespace name.
fn names_inside(endpoint: &Endpoint, network: &Network) -> run::Names {
    if endpoint.loopback_only {
        return run::Names::default();
    }
    let Network { addresses, resolver, .. } = network;
    let mut hosts: Vec<(IpAddr, String)> = Vec::new();
    for host in resolver.hosts.iter().filter(|host| !host.wildcard) {
        hosts.extend(host.address.resolve(addresses).map(|ip| (ip, host.name.to_string())));
    }
    let own = [Some(IpAddr::V4(endpoint.lease.v4)), endpoint.lease.v6.map(IpAddr::V6)];
    run::Names {
        servers: servers_inside(network),
        search: resolver.search.iter().map(ToString::to_string).collect(),
        options: match resolver.listen {
            // What Docker writes beside 127.0.0.11: a name without a dot may be a container's.
            Some(_) if resolver.options.is_empty() => vec!["ndots:0".to_owned()],
            _ => resolver.options.clone(),
        },
        own: own.into_iter().flatten().collect(),
        hosts,
    }
}

/// The DNS servers that a command is told of. Where the gateway answers no queries they are the host's,
/// as far as the container reaches them itself.
fn servers_inside(network: &Network) -> Vec<IpAddr> {
    if network.dns {
        return nat::servers_for_guest(network);
    }
    let reaches = |server: &IpAddr| {
        (server.is_ipv4() || network.addresses.v6.is_some()) && !nat::denied(network, *server)
    };
    let host = HostResolvers::default().read();
    host.servers().iter().map(SocketAddr::ip).filter(reaches).collect()
}

/// A container's interface and its published ports.
struct Served {
    config: Network,
    lease: Lease,
    attached: Option<attach::Attached>,
    published: Vec<Published>,
    interfaces: Option<Interfaces>,
    api: Option<ApiSocket>,
    outbound: OutboundPolicy,
    underlay: Option<Underlay>,
    resolvers: HostResolvers,
    mirrors: (Vec<Mirror>, SocketTables),
    relayed: io::relay::Relayed,
    forward_signals: bool,
    control: Option<ControlSocket>,
    /// Where changes of the published ports are noted.
    record: Option<Record>,
}

impl Served {
    fn nothing(endpoint: &Endpoint, config: Network) -> Self {
        Self {
            config,
            lease: endpoint.lease,
            attached: None,
            published: Vec::new(),
            interfaces: None,
            api: None,
            outbound: OutboundPolicy::default(),
            underlay: None,
            resolvers: HostResolvers::default(),
            mirrors: (Vec::new(), SocketTables::new()),
            relayed: io::relay::Relayed::default(),
            forward_signals: false,
            control: None,
            record: None,
        }
    }

    /// What a caller wants that takes us for another program, before anything is made.
    fn wanted(endpoint: &Endpoint, mut config: Network, caller: &Caller) -> Result<Self, Error> {
        if let Some(name) = gethostname().ok().and_then(|name| name.into_string().ok()) {
            config.discovery = config.discovery.on_host(&name);
        }
        let outbound = OutboundPolicy::find(&caller.outbound)?;
        let resolvers = HostResolvers::of(&config.resolver)?;
        let mut interfaces = Interfaces::open()
            .inspect_err(|error| log::debug!("the host's interfaces cannot be listed: {error}"))
            .ok();
        let v6 = config.addresses.v6.is_some();
        let mut binder = Binder { v6, interfaces: interfaces.as_mut(), may_inherit: true };
        let published = binder.bind(&config.publish)?;
        let api = caller.api_socket.as_deref().map(ApiSocket::bind).transpose()?;
        let nothing = Self::nothing(endpoint, config);
        Ok(Self { published, interfaces, api, outbound, resolvers, ..nothing })
    }

    /// Serves a TAP that the caller has opened, and named.
    fn take_tap(
        fd: i32,
        endpoint: &mut Endpoint,
        config: Network,
        caller: &Caller,
    ) -> Result<Self, Error> {
        let mut served = Self::wanted(endpoint, config, caller)?;
        let ipv6 = served.config.addresses.v6.is_some();
        let (attached, name) = attach::take_tap(fd, ipv6)?;
        endpoint.ifname = name;
        served.expect_own_choice(attached.mac);
        served.attached = Some(attached);
        Ok(served)
    }

    /// A container whose interface we do not configure has a hardware address already, and chooses
    /// its IPv6 address by it.
    fn expect_own_choice(&mut self, mac: Option<MacAddress>) {
        if let Some(mac) = mac {
            self.lease.mac = mac;
            self.lease.v6 = self.config.addresses.v6.map(|v6| v6.self_assigned(mac));
        }
    }

    /// Binds the ports before the interface is made, so that a port that is taken leaves no trace
    /// in the container.
    fn attach(
        container: &Container,
        endpoint: &Endpoint,
        config: Network,
        caller: &Caller,
    ) -> Result<Self, Error> {
        let mut served = Self::wanted(endpoint, config, caller)?;
        let attached = attach::attach(container, endpoint, &served.config, caller)?;
        served.relayed = attach::relayed(container, caller)?;
        if !caller.mirrors.is_empty() {
            served.mirrors = (caller.mirrors.clone(), attach::socket_tables(container)?);
        }
        if !attached.ipv6 {
            served.config.addresses.v6 = None;
            served.lease.v6 = None;
            served.published.iter_mut().for_each(Published::drop_v6);
        }
        served.expect_own_choice(attached.mac);
        served.attached = Some(attached);
        Ok(served)
    }

    /// Lets the container keep its interface if we are killed.
    fn survive(&mut self) -> Result<(), Error> {
        match &mut self.attached {
            None => Ok(()),
            Some(attached) => {
                attached.tap.persist().map_err(set_up("make the container's interface last"))
            }
        }
    }

    /// What was made, in one line.
    fn summary(&self, endpoint: &Endpoint) -> String {
        let Addresses { v4, v6 } = &self.config.addresses;
        let lease = &self.lease;
        let mut text = format!("{} {}/{}", endpoint.ifname, lease.v4, v4.subnet.prefix_len);
        if let (Some(guest), Some(v6)) = (lease.v6, v6) {
            text.push_str(&format!(" {guest}/{}", v6.subnet.prefix_len));
        }
        text.push_str(&format!(" gateway {} dns {}", v4.gateway, v4.dns));
        for port in in_words(self.published.iter().flat_map(Published::bound)) {
            text.push(' ');
            text.push_str(&port);
        }
        text
    }

    fn into_network(
        self,
        signals: Signals,
        watched: Watched,
        process: &Process,
        exits: Vec<OwnedFd>,
    ) -> io::Network {
        io::Network {
            config: self.config,
            containers: self
                .attached
                .into_iter()
                .map(|attached| {
                    let pcap = process.pcap.clone();
                    let (tap, lease, dns) = (attached.tap, self.lease, attached.dns);
                    io::Container { tap, lease, pidfd: None, pcap, dns }
                })
                .collect(),
            published: self.published,
            interfaces: self.interfaces,
            resolvers: self.resolvers,
            pidfd: watched.pidfd,
            watch_path: watched.path,
            exits,
            signals,
            forward_signals: self.forward_signals,
            manager: Manager::default(),
            api: self.api,
            outbound: self.outbound,
            underlay: self.underlay,
            mirrors: self.mirrors,
            relayed: self.relayed,
            control: self.control,
            record: self.record.map(|record| (record, process.republished.origins.clone())),
            egress: process.republished.egress.clone(),
        }
    }
}

/// What a container is called.
fn name_of(process: &Process, container: Option<&Container>) -> String {
    let default = || match container.and_then(named::inode) {
        Some(inode) => format!("ns-{inode}"),
        None => format!("pid-{}", std::process::id()),
    };
    process.name.clone().unwrap_or_else(default)
}

/// The control socket of a container. Without one everything else works, so only a name that
/// somebody else has is an error, and only where the user has chosen it.
fn control(
    process: &Process,
    container: Option<&Container>,
    target: Option<&Target>,
    called_as: &'static str,
    ifname: &str,
) -> Result<Option<ControlSocket>, Error> {
    let name = name_of(process, container);
    let place = match Place::take(Owner::Container, &name) {
        Ok(place) => place,
        Err(error @ RuntimeDirError::InUse { .. }) if process.name.is_some() => {
            return Err(error.into());
        }
        Err(error) => {
            let level = if process.name.is_some() { log::Level::Warn } else { log::Level::Debug };
            let because = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            log::log!(level, "rnsnet ps will not know of this: {error}{because}");
            return Ok(None);
        }
    };
    let mut id = String::with_capacity(64);
    for _ in 0..4 {
        let random = getrandom::u64().map_err(std::io::Error::other);
        id.push_str(&format!("{:016x}", random.map_err(set_up("get random numbers"))?));
    }
    let (pid, netns) = target.map_or((None, None), where_it_is);
    let (ifname, aliases) = (ifname.to_owned(), Vec::new());
    let inode = container.and_then(named::inode);
    let metric = Some(0);
    let facts = Facts { id, name, pid, netns, called_as, ifname, inode, aliases, metric };
    Ok(Some(ControlSocket { place, serves: Serves::Private(facts) }))
}

/// The process of a container and the path of its network namespace, for others to find it by.
fn where_it_is(target: &Target) -> (Option<i32>, Option<String>) {
    match target {
        Target::Pid(pid) => (Some(*pid), Some(format!("/proc/{pid}/ns/net"))),
        Target::Path { netns, .. } => (None, Some(absolute(netns))),
        Target::Tap(_) => (None, None),
    }
}

/// A path that means the same in another directory.
fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path);
    absolute.as_deref().unwrap_or(path).display().to_string()
}

/// Gives up the process's powers, tells the caller that the network works, and serves it.
fn serve(
    mut network: io::Network,
    mut announcement: Announcement,
    inspectable: bool,
) -> Result<Ended, Error> {
    let manager = std::mem::take(&mut announcement.manager);
    network.manager = manager.clone();
    let pid_file = announcement.process.pid_file.as_deref().map(PidFile::write).transpose()?;
    let lock = Lock::new(&network, &announcement.process, inspectable);
    let ended = io::serve(network, || {
        lock.close()?;
        announcement.make(&manager)
    })?;
    manager.stopping();
    drop(pid_file);
    Ok(ended)
}

/// What is to be told once the network works, and to whom.
struct Announcement {
    process: Process,
    /// What was made, in one line.
    status: String,
    /// Whether that goes to the log.
    log_status: bool,
    manager: Manager,
    background: Option<Background>,
}

/// What a process in the background has of the one in the foreground.
struct Background {
    /// It waits here for us to be ready.
    foreground: OwnedFd,
    /// Opened while files still can be: what becomes of the terminal.
    null: File,
}

/// What ends with the container.
#[derive(Default)]
struct Watched {
    pidfd: Option<OwnedFd>,
    path: Option<PathBuf>,
}

impl Announcement {
    fn of(process: Process) -> Self {
        let (status, manager) = (String::new(), Manager::default());
        Self { process, status, log_status: false, manager, background: None }
    }

    fn make(self, manager: &Manager) -> Result<(), Error> {
        if self.log_status {
            log::info!("{}", self.status);
        }
        if let Some(fd) = self.process.ready_fd {
            announce_ready(fd, inherited("--ready-fd", fd)?)?;
        }
        manager.ready(&self.status, self.background.is_some());
        if let Some(Background { foreground, null }) = self.background {
            leave_terminal(&null).map_err(set_up("leave the terminal"))?;
            netns::send(foreground.as_fd(), b"1", None).map_err(set_up("go to the background"))?;
        }
        Ok(())
    }
}

/// `--detach`: a child does everything; this process ends well once the child is ready, or with
/// the child's own failure.
fn in_background(command: Attach, exit: Option<OwnedFd>) -> Result<u8, Error> {
    let (ours, theirs) = netns::message_pair().map_err(set_up("start a background process"))?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(set_up("open /dev/null"))?;
    let child = netns::spawn(|| {
        if let Err(errno) = setsid() {
            log::debug!("cannot start a session: {errno}");
        }
        let background = Background { foreground: theirs, null };
        finish(attach_and_serve(command, exit, Some(background)), Error::exit_code).into()
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
fn leave_terminal(null: &File) -> std::io::Result<()> {
    dup2_stdin(null)?;
    dup2_stdout(null)?;
    dup2_stderr(null)?;
    logger::leave_stderr();
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
    log::logger().flush();
    result.unwrap_or_else(|error| {
        eprintln!("{}", report(&error));
        code(&error)
    })
}
