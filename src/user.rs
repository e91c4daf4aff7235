//! Whose process this is, where the environment does not say it.
//!
//! An engine's hook runs as root of the engine's user namespace, with an environment that is empty
//! unless it was told otherwise. The user is then the one that this root is outside of the
//! namespace: that one's home and run-time directory are meant, not root's.

use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User, geteuid};

/// The user outside of this process's user namespace; the effective one where that is not known.
#[must_use]
pub fn outer() -> Uid {
    let uid = geteuid();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outside(uid.as_raw(), &map).map_or(uid, Uid::from_raw)
}

/// A user of this process's user namespace as it is outside; `None` where it is not there.
#[must_use]
pub fn outer_of(uid: Uid) -> Option<Uid> {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outside(uid.as_raw(), &map).map(Uid::from_raw)
}

/// Whether there is such a group in this process's user namespace, so that a file can be given to it.
#[must_use]
pub fn is_group_here(gid: Gid) -> bool {
    let map = std::fs::read_to_string("/proc/self/gid_map");
    map.map_or(true, |map| outside(gid.as_raw(), &map).is_some())
}

/// The home directory: `$HOME`, else what the user database says of [`outer`].
#[must_use]
pub fn home() -> Option<PathBuf> {
    let named = std::env::var_os("HOME").map(PathBuf::from);
    let known = || User::from_uid(outer()).ok().flatten().map(|user| user.dir);
    named.or_else(known).filter(|path| path.is_absolute())
}

/// What `uid` is in the parent namespace, by the lines of user_namespaces(7): the first id inside,
/// the first outside, and how many.
fn outside(uid: u32, map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let (inside, outside, count) = (inside.ok()?, outside.ok()?, count.ok()?);
        let place = uid.checked_sub(inside).filter(|place| *place < count)?;
        outside.checked_add(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_an_engine_is_its_user() {
        let podman = "         0       1001          1\n         1     165536      65536\n";
        assert_eq!(outside(0, podman), Some(1001));
        assert_eq!(outside(1, podman), Some(165_536));
        assert_eq!(outside(65_537, podman), None);
        let init = "         0          0 4294967295\n";
        assert_eq!(outside(1001, init), Some(1001));
        assert_eq!(outside(0, ""), None);
        assert_eq!(outside(0, "0 x 1"), None);
    }
}
