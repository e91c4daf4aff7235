//! The networks that are there without having been made: `bridge`, `host` and `none`, as Docker
//! lists them.
//!
//! PURE. Nothing of them is kept or served: `bridge` stands for the network of its own that a
//! container gets that names none, the others for having none. Their names are no user's
//! (`check_name`), so that a name says which network is meant. Their ids are the same everywhere.

use super::definition::Definition;
use crate::json;

/// All of them.
pub fn all() -> impl Iterator<Item = Definition> {
    // Read as any definition is; a unit test sees to it that they can be.
    DEFINITIONS.iter().filter_map(|text| json::read(text.as_bytes()).ok())
}

/// The one that a word names: its name, its id, or the start of its id.
#[must_use]
pub fn named(word: &str) -> Option<Definition> {
    let short = word.len() < SHORTEST;
    all().find(|network| network.name == word || (!short && network.id.starts_with(word)))
}

/// The driver of a network: by its name that of those that nobody made.
#[must_use]
pub fn driver(network: &Definition) -> &'static str {
    match network.name.as_str() {
        "host" => "host",
        "none" => "null",
        _ if network.overlay.is_some() => OVERLAY,
        _ => "bridge",
    }
}

/// Whether the name is one of theirs.
#[must_use]
pub fn is(name: &str) -> bool {
    matches!(name, BRIDGE | "host" | NONE)
}

/// The network of a container that names none.
pub const BRIDGE: &str = "bridge";
/// The network of a container that has `lo` alone.
pub const NONE: &str = "none";

/// The driver of networks that span hosts.
pub const OVERLAY: &str = "overlay";

/// Fewer digits of an id name none of them, as they may be those of a user's.
const SHORTEST: usize = 4;

/// The addresses of `bridge` are those of a container's own network unless it asks for others.
const DEFINITIONS: [&str; 3] = [
    r#"{"version":1,"name":"bridge","id":"62726964676572a1c03e9e11d5b84c7f20a6d9f3b81e5c4472d01ba96f38e7c5","created":"1970-01-01T00:00:00Z","v4":{"subnet":"10.0.2.0/24","gateway":"10.0.2.2"},"v6":{"subnet":"fd72:6e73:6e65::/64","gateway":"fd72:6e73:6e65::2"}}"#,
    r#"{"version":1,"name":"host","id":"686f7374a98c1d2705e3f6b49c0b7e82d4156fa3c9d07be21f486a53e09c2b7d","created":"1970-01-01T00:00:00Z","v4":{"subnet":"10.0.2.0/24","gateway":"10.0.2.2"}}"#,
    r#"{"version":1,"name":"none","id":"6e6f6e65f4b20d3861c79ea5d08f1b6c93e7245adb0186fc5e39a27410d6cb8f","created":"1970-01-01T00:00:00Z","v4":{"subnet":"10.0.2.0/24","gateway":"10.0.2.2"}}"#,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Addresses;

    // E23
    #[test]
    fn the_three_are_whole_and_found_by_name_and_id() {
        let names: Vec<_> = all().map(|network| network.name).collect();
        assert_eq!(names, ["bridge", "host", "none"]);
        for network in all() {
            assert_eq!(network.id.len(), 64);
            assert!(
                is(&network.name) && super::super::definition::check_name(&network.name).is_err()
            );
            assert_eq!(named(network.short_id()), Some(network.clone()));
            assert_eq!(named(&network.name), Some(network));
        }
        assert_eq!(named("626"), None);
        assert_eq!(named("n1"), None);
        let drivers: Vec<_> = all().map(|network| driver(&network)).collect();
        assert_eq!(drivers, ["bridge", "host", "null"]);
        // What a container has that names none.
        let (bridge, own) = (named(BRIDGE).unwrap().addresses(), Addresses::default());
        assert_eq!(bridge.v4.gateway, own.v4.gateway);
        assert_eq!(bridge.v4.subnet, own.v4.subnet);
        assert_eq!(bridge.v6.map(|v6| v6.subnet), own.v6.map(|v6| v6.subnet));
    }
}
