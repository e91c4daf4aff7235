//! What the loop waits for, registered once; every descriptor has its token here.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token};
use nix::sys::resource::{Resource, getrlimit};

use super::{
    API, CONTAINER, CONTROL, EXIT, FIRST_API_CLIENT, FIRST_CONTROL_CLIENT, FIRST_PORT,
    FIRST_RELAYED, FIRST_SOCKET, INTERFACES, LoopError, MAX_DATAGRAM, Network, PER_CALL, SIGNALS,
    Server, WATCHES, follow::follow_links,
};
use crate::clock::Clock;
use crate::config::{self, Lease, Limit, Limits, Protocol, Sharing};
use crate::engine::frame::MAX_FRAME_LEN;
use crate::engine::{Destination, Engine, Instant, PortId};
use crate::io::api::{self, Api};
use crate::io::control::{Control, ControlSocket, Instance, Serves};
use crate::io::host::Sockets;
use crate::io::listen::Published;
use crate::io::logger;
use crate::io::mirror::Mirrors;
use crate::io::outbound::OutboundPolicy;
use crate::io::overlay::Underlay;
use crate::io::ports::Ports;
use crate::io::published::{Place, PublishedPorts};
use crate::io::relay::Relay;
use crate::io::resolv::{HostResolvers, directories_of};
use crate::io::watch::{File, Watches};
use crate::sys::datagram::Batch;
use crate::sys::interfaces::Interfaces;

type Result<T> = std::result::Result<T, LoopError>;

impl Server {
    pub(super) fn new(network: Network) -> Result<Self> {
        let poll = Poll::new().map_err(set_up("create an epoll instance"))?;
        let registry = || another(poll.registry());
        let clock = Clock::new();
        let now = clock.now();
        let config = network.config;
        let addresses = config.addresses;
        let private = config.sharing == Sharing::Private;
        let discovers = !config.discovery.is_empty();
        let mut engine = new_engine(config.clone(), &network.resolvers, &network.published, now)?;
        let mut sockets = Sockets::new(registry()?, FIRST_SOCKET, network.outbound);
        let limits = config.limits;
        logger::set_rate(limits.get(Limit::Log));
        sockets.keep_reserve(max_descriptors(&limits));

        let mut ports = Ports::new(registry()?, FIRST_PORT);
        let mut container = None;
        for attached in network.containers {
            let lease = attached.lease;
            let mut place = Place { engine: &mut engine, sockets: &mut sockets };
            let port = ports.attach(attached, &mut place, now)?;
            container.get_or_insert((port, lease));
        }

        watch(&poll, network.signals.raw_fd(), SIGNALS).map_err(set_up("watch signals"))?;
        if let Some(pidfd) = &network.pidfd {
            ports
                .watch_process(pidfd.as_fd(), CONTAINER, now)
                .map_err(set_up("watch the container"))?;
        }
        for exit in &network.exits {
            watch_exit(&poll, exit)?;
        }
        let mut watches =
            watch_files(&poll, &network.resolvers, private, network.watch_path.as_deref())?;
        let mut underlay = network.underlay;
        if let Some(underlay) = &mut underlay {
            let place = Place { engine: &mut engine, sockets: &mut sockets };
            watch_underlay(underlay, &mut watches, place, now)?;
        }

        let api = network
            .api
            .zip(container)
            .map(|(socket, (port, lease))| {
                let container = api::Container { port, lease, addresses };
                Api::new(socket, registry()?, API, FIRST_API_CLIENT, container)
                    .map_err(set_up("watch the API socket"))
            })
            .transpose()?;
        let mut control = network
            .control
            .map(|socket| {
                let ControlSocket { place, serves } = socket;
                let instance = instance(serves, config, container);
                let (first, clients) = (FIRST_CONTROL_CLIENT, limits.get(Limit::Clients));
                Control::new(place, registry()?, CONTROL, first, instance, clients)
                    .map_err(set_up("watch the control socket"))
            })
            .transpose()?;
        if let (Some(egress), Some((port, _))) = (network.egress, container) {
            engine.set_egress(port, egress.clone(), now);
            if let Some(control) = &mut control {
                control.note_egress(port, egress);
            }
        }
        let limit = sockets.flow_limit();
        let relay = Relay::new(registry()?, FIRST_RELAYED, network.relayed, limit, now)
            .map_err(set_up("watch the ports of the container's loopback"))?;

        let to: Vec<Destination> =
            container.iter().map(|&(port, _)| Destination { port, address: None }).collect();
        let mut published = PublishedPorts::default();
        for bound in network.published {
            let mut place = Place { engine: &mut engine, sockets: &mut sockets };
            published.adopt(bound, &to, &mut place).map_err(set_up("watch a published port"))?;
        }
        if let Some((record, places)) = network.record {
            published.keep(record, &places);
        }
        let mirrors = Mirrors::new(network.mirrors, addresses.v6.is_some(), to, now);
        let mut interfaces = network.interfaces;
        if let Some(interfaces) = &mut interfaces {
            let follows = discovers || underlay.is_some();
            watch_interfaces(&poll, interfaces, &mut sockets.outbound, follows)?;
            if let Some(underlay) = &mut underlay {
                underlay.note(interfaces);
            }
            follow_links(&mut engine, interfaces, &sockets);
        } else if discovers {
            log::warn!("no discovery: the host's interfaces cannot be listed");
        }
        Ok(Self {
            engine,
            poll,
            clock,
            ports,
            private,
            frame: vec![0; MAX_FRAME_LEN].into_boxed_slice(),
            more_frames: false,
            sockets,
            published,
            interfaces,
            api,
            mirrors,
            relay,
            control,
            signals: network.signals,
            watches,
            underlay,
            resolvers: network.resolvers,
            doubted_at: None,
            pidfd: network.pidfd,
            _exits: network.exits,
            forward_signals: network.forward_signals,
            manager: network.manager,
            unfinished: Vec::new(),
            starved: Vec::new(),
            retry_at: None,
            datagram: vec![0; MAX_DATAGRAM].into_boxed_slice(),
            batch: Batch::new(PER_CALL),
            pings_refused: false,
            crowded: false,
            gid: nix::unistd::getegid(),
        })
    }
}

/// Has changes of the host's interfaces be events, and looks at them now if something `follows`
/// them, what goes out or else.
fn watch_interfaces(
    poll: &Poll,
    interfaces: &mut Interfaces,
    outbound: &mut OutboundPolicy,
    follows: bool,
) -> Result<()> {
    watch(poll, interfaces.raw_fd(), INTERFACES).map_err(set_up("watch the host's interfaces"))?;
    if outbound.follows() || follows {
        interfaces.follow().map_err(set_up("list the host's interfaces"))?;
    }
    if outbound.follows() {
        outbound.note(interfaces);
        outbound.missing(&mut |name| {
            log::warn!("the container goes out by {name}, which is not there yet");
        });
    }
    Ok(())
}

/// Gives the socket between the hosts to the engine, and has changes of the file be events.
fn watch_underlay(
    underlay: &mut Underlay,
    watches: &mut Watches,
    Place { engine, sockets }: Place<'_>,
    now: Instant,
) -> Result<()> {
    if let (Some(id), Some(socket)) = (engine.overlay_socket(), underlay.socket.take()) {
        let added = sockets.add_bound(id, Protocol::Udp, socket);
        added.map_err(set_up("watch the socket between the hosts"))?;
    }
    let directory = underlay.directory();
    let added = watches.add_directory(directory, File::Hosts);
    added.map_err(set_up("watch the file of the hosts"))?;
    // It may be another since it was read.
    if let Some(hosts) = underlay.read_again() {
        engine.set_overlay_hosts(hosts, now);
    }
    Ok(())
}

/// What an error of a step of setting up becomes.
fn set_up(step: &'static str) -> impl FnOnce(io::Error) -> LoopError {
    move |source| LoopError::SetUp { step, source }
}

fn another(registry: &Registry) -> Result<Registry> {
    registry.try_clone().map_err(set_up("create an epoll instance"))
}

fn watch(poll: &Poll, fd: i32, token: Token) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)
}

/// The engine, knowing the host's resolvers and how many sockets it may ask for.
fn new_engine(
    config: config::Network,
    resolvers: &HostResolvers,
    published: &[Published],
    now: Instant,
) -> Result<Engine> {
    let descriptors = max_descriptors(&config.limits);
    let mut engine = Engine::new(config, seed()?);
    engine.set_resolvers(resolvers.read(), now);
    for (domain, servers) in resolvers.routes() {
        engine.set_dns_route(domain, servers, now);
    }
    // Half of the descriptors that published ports leave: connections need the others, and a
    // datagram's socket can be given up for a new one while theirs cannot.
    let listeners: usize = published.iter().map(|published| published.listeners.len()).sum();
    engine.set_max_udp_sockets(descriptors.saturating_sub(listeners) / 2);
    Ok(engine)
}

/// A secret from the kernel.
fn seed() -> Result<[u64; 4]> {
    let mut seed = [0; 4];
    for word in &mut seed {
        *word = getrandom::u64()
            .map_err(io::Error::other)
            .map_err(set_up("get random numbers from the kernel"))?;
    }
    Ok(seed)
}

/// How many descriptors there may be: as many as the system allows, or fewer.
fn max_descriptors(limits: &Limits) -> usize {
    let most = limits.get(Limit::Descriptors);
    let system = getrlimit(Resource::RLIMIT_NOFILE).ok();
    system.and_then(|(soft, _)| usize::try_from(soft).ok()).map_or(most, |soft| soft.min(most))
}

fn watch_exit(poll: &Poll, exit: &OwnedFd) -> Result<()> {
    match watch(poll, exit.as_raw_fd(), EXIT) {
        // epoll(7) takes no regular files, and those never hang up.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            log::warn!("--exit-fd is a file, which nobody can close from afar");
            Ok(())
        }
        other => other.map_err(set_up("watch --exit-fd")),
    }
}

/// The host's `resolv.conf`, where it can be watched, and the namespace's path, which must be.
fn watch_files(
    poll: &Poll,
    resolvers: &HostResolvers,
    private: bool,
    namespace: Option<&std::path::Path>,
) -> Result<Watches> {
    let mut watches = Watches::new().map_err(set_up("watch files"))?;
    // Those of a named network may be the host's later.
    if let Some(path) = resolvers.path(!private)
        && let Err(error) = watches.add_resolvers(path, directories_of(path))
    {
        log::debug!("changes of the host's resolvers go unnoticed: {error}");
    }
    if let Some(path) = namespace {
        watches.add(path, File::Namespace).map_err(set_up("watch the network namespace's path"))?;
    }
    watch(poll, watches.raw_fd(), WATCHES).map_err(set_up("watch files"))?;
    Ok(watches)
}

/// What the control socket says of this process.
fn instance(
    serves: Serves,
    config: config::Network,
    container: Option<(PortId, Lease)>,
) -> Instance {
    match serves {
        Serves::Private(facts) => Instance::private(facts, config, container),
        Serves::Shared(definition, journal, roll) => {
            Instance::shared_by_many(*definition, journal, roll, config)
        }
    }
}
