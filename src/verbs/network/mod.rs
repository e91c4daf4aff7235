//! `rnsnet network ...`: networks that several containers share.
//!
//! A file for the verbs that make one (`create`), that show some (`show`) and that change them
//! (`change`). Flags and output are Docker's, with Podman's where Docker has none. What is done to
//! the networks is in `crate::network`.

mod change;
mod connect;
mod create;
mod filter;
mod show;

use super::{Argument, Count, Group};

/// The verbs, in the order of the help.
pub(super) const NETWORK: Group = Group {
    name: "network",
    aliases: &["net"],
    about: "Manage networks that several containers share",
    verbs: &[
        &create::CREATE,
        &connect::CONNECT,
        &connect::DISCONNECT,
        &show::LS,
        &show::INSPECT,
        &show::EXISTS,
        &change::START,
        &change::UPDATE,
        &change::RM,
        &change::PRUNE,
    ],
};

/// The networks that a verb is about.
const NETWORKS: Argument =
    Argument { name: "NETWORK", count: Count::OneOrMore, help: "Name, id, or the start of an id." };

#[cfg(test)]
mod tests;
