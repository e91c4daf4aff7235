//! How a harness drives the engine: as the event loop does, one turn after another, until there is
//! nothing left to do. The engine must come to rest, and owe nothing to the past.

use std::collections::BTreeMap;

use rnsnet::engine::host::{HostOp, SocketId};
use rnsnet::engine::{Engine, Instant};

use super::input::Input;

/// Steps within which the engine must come to rest after one action.
pub const MAX_STEPS: usize = 100_000;

/// A harness with an engine in its middle.
pub trait World {
    /// The engine, and the time that it is.
    fn engine(&mut self) -> (&mut Engine, Instant);
    /// Does what the engine asks of the host.
    fn serve(&mut self, op: HostOp);
    /// Takes the frames that wait for guests. Returns whether there were any.
    fn frames(&mut self) -> bool;

    /// Serves every request to the host. Returns whether there were any.
    fn host_ops(&mut self) -> bool {
        let mut steps = 0;
        while let Some(op) = self.engine().0.poll_host() {
            steps += 1;
            assert!(steps < MAX_STEPS, "requests without end");
            self.serve(op);
        }
        steps > 0
    }

    /// Turns of the event loop until the engine is at rest.
    fn settle(&mut self) {
        for _ in 0..MAX_STEPS {
            let mut busy = self.host_ops();
            let (engine, now) = self.engine();
            engine.handle_timeout(now);
            busy |= self.host_ops();
            busy |= self.frames();
            let (engine, now) = self.engine();
            assert_eq!(engine.stats().flow_panics, 0, "smoltcp panicked");
            if !busy && engine.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
        }
        panic!("no rest");
    }
}

/// Nothing is left of any conversation but what it has counted.
pub fn check_idle<T>(engine: &Engine, sockets: &BTreeMap<SocketId, T>) {
    let left = engine.to_string();
    let idle = "flows: 0 tcp, 0 udp, 0 echo; 0 dns queries in flight\n";
    assert!(left.starts_with(idle), "something is left:\n{left}");
    assert!(sockets.is_empty(), "{} sockets are left", sockets.len());
}

/// One of the open sockets, the newest ones first.
pub fn socket<T: Copy>(
    sockets: &BTreeMap<SocketId, T>,
    input: &mut Input<'_>,
) -> Option<(SocketId, T)> {
    let which = usize::from(input.u8()).checked_rem(sockets.len())?;
    sockets.iter().nth_back(which).map(|(id, kind)| (*id, *kind))
}
