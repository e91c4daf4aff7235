//! A root directory of the process's own: a temporary file system with the few directories that it
//! reads, and nothing else, in a user and a mount namespace of its own.
//!
//! A child makes it, step by step, and hands over its namespaces; only then are they entered. So
//! where a step is refused, as in many containers, the process is where it was. Read first:
//! user_namespaces(7), mount_namespaces(7), pivot_root(2), mount_setattr(2).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, chdir, getegid, geteuid, getpid, pivot_root};

use super::netns::{self, Failure, Kind, Reply};

/// A root directory that a child is making.
#[derive(Debug)]
pub struct Root {
    child: Pid,
    socket: OwnedFd,
}

/// A root directory that the process does not have.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RootError {
    /// It cannot be made here; nothing has changed.
    #[error("cannot {step}")]
    Refused { step: String, source: io::Error },
    /// The process is in its user namespace already, where it must not stay.
    #[error("cannot enter the mount namespace")]
    Half(#[source] io::Error),
}

impl Root {
    /// Has a child make one, in which `shown` are at their places: directories by their absolute
    /// paths, with what is mounted in them, to be read only. The process must be single-threaded.
    ///
    /// # Errors
    /// No child can be made.
    pub fn make(shown: &[PathBuf]) -> io::Result<Self> {
        let (socket, theirs) = netns::message_pair()?;
        let parent = getpid();
        let child =
            netns::spawn(|| i32::from(tell(theirs.as_fd(), namespaces(shown, parent)).is_err()))?;
        Ok(Self { child, socket })
    }

    /// Goes there. The working directory is the new root; of the old one nothing can be reached but
    /// by descriptors that are open. The process has every capability in its new user namespace,
    /// and none outside.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn enter(self) -> Result<(), RootError> {
        let [user, mounts] = self.namespaces()?;
        setns(&user, CloneFlags::CLONE_NEWUSER)
            .map_err(|errno| refused("enter the user namespace", errno.into()))?;
        setns(&mounts, CloneFlags::CLONE_NEWNS).map_err(|errno| RootError::Half(errno.into()))
    }

    /// What the child has made, for who goes there or only wants to know.
    ///
    /// # Errors
    /// [`RootError::Refused`].
    pub fn namespaces(self) -> Result<[OwnedFd; 2], RootError> {
        let made = self.hear().and_then(|user| Ok([user, self.hear()?]));
        // It has said everything.
        let ended = netns::wait(self.child).map_err(|error| refused("wait for a child", error));
        made.and_then(|made| ended.map(|_| made))
    }

    fn hear(&self) -> Result<OwnedFd, RootError> {
        match netns::receive_reply(self.socket.as_fd()) {
            Ok(Some(Ok(Reply { fd: Some(fd), .. }))) => Ok(fd),
            Ok(Some(Err(Failure { errno, text, .. }))) => {
                Err(refused(&text, io::Error::from_raw_os_error(errno)))
            }
            Ok(_) => Err(refused("hear of a child", io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(refused("hear of a child", error)),
        }
    }
}

fn refused(step: &str, source: io::Error) -> RootError {
    RootError::Refused { step: step.to_owned(), source }
}

/// The child's answer: one namespace after the other, or why there are none.
fn tell(socket: BorrowedFd<'_>, made: Result<[OwnedFd; 2], Failure>) -> io::Result<()> {
    match made {
        Ok(namespaces) => namespaces
            .into_iter()
            .try_for_each(|fd| netns::send_reply(socket, Ok(Reply { fd: Some(fd), flags: 0 }))),
        Err(failure) => netns::send_reply(socket, Err(failure)),
    }
}

/// The child's work: a user and a mount namespace with such a root.
fn namespaces(shown: &[PathBuf], parent: Pid) -> Result<[OwnedFd; 2], Failure> {
    netns::die_with(parent).map_err(|errno| failed("outlive nobody", errno.into()))?;
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| failed("make namespaces", errno.into()))?;
    // Everybody else is nobody in there, root outside of it as well.
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("gid_map", format!("{gid} {gid} 1")),
        ("uid_map", format!("{uid} {uid} 1")),
    ] {
        fs::write(Path::new("/proc/self").join(file), text)
            .map_err(|error| failed(format!("write /proc/self/{file}"), error))?;
    }
    let own = |kind| netns::own(kind).map_err(|error| failed("open namespaces", error));
    let namespaces = [own(Kind::User)?, own(Kind::Mount)?];
    build(shown)?;
    Ok(namespaces)
}

/// Puts a root directory in the place of that of this mount namespace, which is new: nothing that is
/// mounted here is seen elsewhere (`CL_SHARED_TO_SLAVE` of the kernel's `copy_mnt_ns`).
fn build(shown: &[PathBuf]) -> Result<(), Failure> {
    let step = |step: &str| {
        let step = step.to_owned();
        move |errno: Errno| failed(step, errno.into())
    };
    mount(Some("rnsnet"), BASE, Some("tmpfs"), NOTHING_SPECIAL, Some(CONTENT))
        .map_err(step("mount a temporary file system"))?;
    for directory in shown {
        let name = directory.display();
        let place = Path::new(BASE).join(directory.strip_prefix("/").unwrap_or(directory));
        fs::create_dir_all(&place).map_err(|error| failed(format!("make {name}"), error))?;
        // With what is mounted there, which may be resolv.conf itself.
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(directory), &place, NONE, flags, NONE)
            .and_then(|()| make_read_only(&place))
            .map_err(step(&format!("show {name}")))?;
    }
    chdir(BASE).map_err(step("go to a new root directory"))?;
    // The old one lies over the new one then, until it is taken away.
    pivot_root(".", ".").map_err(step("change the root directory"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(step("take the old root directory away"))?;
    chdir("/").map_err(step("go to the new root directory"))?;
    mount(NONE, "/", NONE, READ_ONLY, NONE).map_err(step("make the root directory read-only"))
}

/// Nothing below a mount point can be written, executed, or gives rights.
fn make_read_only(place: &Path) -> nix::Result<()> {
    let path = CString::new(place.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let attributes = MountAttributes { set: ATTRIBUTES, clear: 0, propagation: 0, userns: 0 };
    let (flags, size) = (libc::AT_RECURSIVE, size_of::<MountAttributes>());
    // SAFETY: the path ends in a NUL and the attributes are of the size that is told; both outlive
    // the call, which only reads them.
    let result = unsafe {
        libc::syscall(
            SYS_MOUNT_SETATTR,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        // Before Linux 5.12: without what is mounted below it.
        Err(_) => mount(NONE, place, NONE, READ_ONLY, NONE),
    }
}

fn failed(step: impl Into<String>, error: io::Error) -> Failure {
    Failure { code: 0, errno: error.raw_os_error().unwrap_or(libc::EIO), text: step.into() }
}

/// `struct mount_attr` of <linux/mount.h>, and the call's number, the same on every architecture.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}
const SYS_MOUNT_SETATTR: libc::c_long = 442;
/// `MOUNT_ATTR_RDONLY`, `_NOSUID`, `_NODEV` and `_NOEXEC`.
const ATTRIBUTES: u64 = 1 | 2 | 4 | 8;

const NOTHING_SPECIAL: MsFlags =
    MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const READ_ONLY: MsFlags =
    NOTHING_SPECIAL.union(MsFlags::MS_RDONLY).union(MsFlags::MS_REMOUNT).union(MsFlags::MS_BIND);
const NONE: Option<&str> = None;

/// Where it is made: there on every Linux, and no resolv.conf in use leads there.
const BASE: &str = "/sys";
/// No byte, and as many directories as the way to some others may have.
const CONTENT: &str = "mode=0755,size=4k,nr_inodes=64";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::read_dir;

    fn names(directory: &str) -> Vec<String> {
        let names = read_dir(directory).unwrap().flatten().map(|entry| entry.file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect()
    }

    // A child stands for the process, as its namespaces are changed for good.
    fn in_child(check: impl FnOnce() -> bool) -> bool {
        let child = netns::spawn(|| i32::from(!check())).unwrap();
        netns::wait(child).unwrap() == 0
    }

    fn own_namespaces() -> [PathBuf; 2] {
        ["user", "mnt"].map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap())
    }

    #[test]
    fn only_what_is_shown_is_there_and_it_can_be_read_only() {
        let scratch = crate::testing::scratch("root");
        fs::write(scratch.join("file"), "text").unwrap();
        assert!(in_child(|| {
            let ids = (geteuid(), getegid());
            let Ok(()) = Root::make(&["/etc".into(), scratch.clone()]).unwrap().enter() else {
                // No user namespaces here.
                return std::env::var_os("CI").is_none();
            };
            let place = scratch.join("file");
            let first = scratch.iter().nth(1).unwrap().to_string_lossy().into_owned();
            let mut there = names("/");
            there.sort();
            there == ["etc".to_owned(), first]
                && std::env::current_dir().unwrap() == Path::new("/")
                && ids == (geteuid(), getegid())
                && fs::read_to_string(&place).unwrap() == "text"
                && fs::metadata("/etc/passwd").is_ok()
                && fs::write(&place, "x").unwrap_err().raw_os_error() == Some(libc::EROFS)
                && fs::write("/new", "x").unwrap_err().raw_os_error() == Some(libc::EROFS)
        }));
        fs::remove_dir_all(scratch).unwrap();
    }

    #[test]
    fn where_a_step_is_refused_nothing_has_changed() {
        assert!(in_child(|| {
            let before = (own_namespaces(), names("/").len());
            let gone = Root::make(&["/no/such".into()]).unwrap().enter();
            matches!(gone, Err(RootError::Refused { .. }))
                && (own_namespaces(), names("/").len()) == before
        }));
    }

    #[test]
    fn a_child_that_says_nothing_is_a_refusal() {
        let (socket, theirs) = netns::message_pair().unwrap();
        drop(theirs);
        let child = netns::spawn(|| 1).unwrap();
        let error = Root { child, socket }.enter().unwrap_err();
        assert!(matches!(error, RootError::Refused { .. }), "{error}");
    }
}
