//! The files that a serving process may still reach: Landlock, landlock(7), Linux 5.13.
//!
//! Reading below /etc and /run and where else resolv.conf leads; unlinking in the directories of what
//! must be removed at the end, and removing empty directories in one more; nothing else. On kernels
//! without Landlock the process serves without it, and says so once: the container cannot make us
//! open a file anyway, so this is a second wall.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};

/// Where resolv.conf and what it links to may be (resolv.conf(5), systemd-resolved(8)).
const READABLE: [&str; 2] = ["/etc", "/run"];
/// The newest Landlock whose rights we name; older kernels enforce those that they know.
const NEWEST: ABI = ABI::V5;

/// The directories that may still be used, and how. They are opened when they are added: their paths
/// may lead elsewhere by the time that everything else is forbidden.
#[derive(Debug, Default)]
pub struct Allowed(Vec<(PathFd, BitFlags<AccessFs>)>);

impl Allowed {
    /// What is below [`READABLE`] may be read.
    #[must_use]
    pub fn usual() -> Self {
        let mut allowed = Self::default();
        READABLE.iter().for_each(|path| allowed.read_below(path.as_ref()));
        allowed
    }

    /// What is below a directory may be read.
    pub fn read_below(&mut self, directory: &Path) {
        self.add(directory, AccessFs::ReadFile | AccessFs::ReadDir);
    }

    /// Files in a directory may be removed.
    pub fn remove_files(&mut self, directory: &Path) {
        self.add(directory, AccessFs::RemoveFile.into());
    }

    /// Empty directories in a directory may be removed.
    pub fn remove_directories(&mut self, directory: &Path) {
        self.add(directory, AccessFs::RemoveDir.into());
    }

    /// Of one that is not there nothing can be used anyway.
    fn add(&mut self, directory: &Path, rights: BitFlags<AccessFs>) {
        self.0.extend(PathFd::new(directory).ok().map(|directory| (directory, rights)));
    }
}

/// Allows that and no other use of files. Returns whether the kernel enforces it.
///
/// # Errors
/// What the kernel reports beyond not knowing Landlock.
pub fn restrict(allowed: Allowed) -> Result<bool, RulesetError> {
    let mut ruleset = nothing()?;
    for (directory, rights) in allowed.0 {
        ruleset = ruleset.add_rule(PathBeneath::new(directory, rights))?;
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

fn nothing() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .create()
}

/// The version of Landlock that the kernel has; `None` if it has none or has it switched off.
#[must_use]
pub fn abi() -> Option<u32> {
    let (attributes, size) = (std::ptr::null::<libc::c_void>(), 0_usize);
    // SAFETY: with this flag the call reads no attributes, which may be null, and makes nothing.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size, CREATE_RULESET_VERSION)
    };
    u32::try_from(version).ok()
}

/// `LANDLOCK_CREATE_RULESET_VERSION` of <linux/landlock.h>.
const CREATE_RULESET_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::{spawn, wait};

    #[test]
    fn only_resolv_conf_can_be_read_and_only_named_directories_changed() {
        let directory = crate::testing::scratch("landlock");
        let kept = directory.join("kept");
        std::fs::create_dir(&kept).unwrap();
        for file in [directory.join("pid"), kept.join("file")] {
            std::fs::write(file, "x").unwrap();
        }
        let child = spawn(|| {
            let mut allowed = Allowed::usual();
            allowed.remove_files(&directory);
            let enforced = restrict(allowed).unwrap();
            let checks = [
                std::fs::read("/etc/passwd").is_ok(),
                std::fs::remove_file(directory.join("pid")).is_ok(),
                !enforced || std::fs::read(kept.join("file")).is_err(),
                !enforced || std::fs::write(directory.join("new"), "x").is_err(),
                !enforced || std::fs::read("/proc/self/status").is_err(),
            ];
            i32::from(checks.contains(&false))
        });
        let status = wait(child.unwrap()).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(status, 0);
    }
}
