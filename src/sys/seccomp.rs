//! The system calls that a serving process may still make: an allow-list for seccomp(2).
//!
//! Everything else ends the process at once. The list is one table for every architecture, each
//! line with the function that needs the call; the BPF program is made from it here, because the
//! usual crates know no 32-bit ARM. Read first: seccomp(2), bpf(4) of the BSDs for the machine.
//! Not here: files, which Landlock restricts ([`super::landlock`]).

use std::io;

use nix::libc::{self, c_long, sock_filter, sock_fprog};

/// One allowed system call.
#[derive(Debug, Clone, Copy)]
struct Rule {
    name: &'static str,
    number: c_long,
    arguments: Arguments,
    needed_by: &'static str,
}

/// What its arguments must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arguments {
    Any,
    /// The argument at this index is one of these values.
    OneOf(u8, &'static [u32]),
    /// The argument at this index has none of these bits.
    Without(u8, u32),
}

use Arguments::{Any, OneOf, Without};

/// The numbers of the calls, those that the libc crate lacks included.
#[allow(non_upper_case_globals)] // named as in libc
mod calls {
    pub(super) use nix::libc::*;

    /// <asm/unistd.h>, the same on every 32-bit architecture (Linux 5.1).
    #[cfg(target_pointer_width = "32")]
    pub(super) const SYS_clock_gettime64: c_long = 403;
}

macro_rules! rules {
    ($($(#[$cfg:meta])* $call:ident $arguments:expr, $needed_by:literal;)+) => {
        const RULES: &[Rule] = &[$(
            $(#[$cfg])*
            Rule {
                name: stringify!($call),
                number: calls::$call as c_long,
                arguments: $arguments,
                needed_by: $needed_by,
            },
        )+];
    };
}

const INET: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];

// The hot ones first: the kernel walks the program from the top where it cannot cache the answer.
rules! {
    SYS_read Any, "tap::Port::read, signals, inotify, resolv.conf";
    SYS_pread64 Any, "mirror::read, process::look: files of /proc, from their start";
    SYS_preadv2 Any, "tun::Tap::read, of a TAP that another user has too";
    SYS_pwritev2 Any, "tun::Tap::write, the same";
    SYS_statx OneOf(2, &[DONT_SYNC]), "fd::kind: what another user sends";
    SYS_pwrite64 Any, "survivor::Record, roll::Roll: what is to be known after a kill";
    SYS_write Any, "tap::Port::write, log lines, capture files, --ready-fd";
    SYS_recvfrom Any, "host::TcpStream::recv";
    SYS_sendto Any, "host::TcpStream::send, connected datagrams";
    #[cfg(all(target_arch = "arm", target_env = "gnu"))]
    SYS_recv Any, "glibc, for host::TcpStream::recv and others";
    #[cfg(all(target_arch = "arm", target_env = "gnu"))]
    SYS_send Any, "glibc, for host::TcpStream::send and others";
    SYS_recvmsg Any, "datagram::recv_from, unix::receive";
    SYS_recvmmsg Any, "datagram::Batch::receive";
    SYS_sendmsg Any, "datagram::send_to, unix::send";
    #[cfg(not(target_arch = "aarch64"))]
    SYS_epoll_wait Any, "event_loop::Server::run, glibc";
    SYS_epoll_pwait Any, "event_loop::Server::run, musl";
    SYS_epoll_ctl Any, "host::Sockets::add";
    SYS_accept4 Any, "event_loop::Server::accept, io::clients";
    SYS_socket OneOf(0, INET), "host::Sockets::open";
    SYS_connect Any, "host::Sockets::open";
    SYS_bind Any, "host::Sockets::open, ports published on request";
    SYS_listen Any, "ports published on request";
    SYS_setsockopt Any, "sock::tune_stream, host::DatagramSocket::set, a reset on close";
    SYS_getsockopt Any, "sock::tcp_take_error, the peer of a control connection";
    SYS_getsockname Any, "sock::local_addr";
    SYS_shutdown Any, "host::TcpStream::finish";
    SYS_close Any, "host::Sockets::close";
    SYS_clock_gettime Any, "clock::Clock::now, where the vDSO is missing";
    #[cfg(target_pointer_width = "32")]
    SYS_clock_gettime64 Any, "clock::Clock::now, where the vDSO is missing";
    #[cfg(not(target_arch = "arm"))]
    SYS_mmap Without(2, libc::PROT_EXEC as u32), "alloc: rings, large buffers";
    #[cfg(target_arch = "arm")]
    SYS_mmap2 Without(2, libc::PROT_EXEC as u32), "alloc: rings, large buffers";
    SYS_munmap Any, "alloc";
    SYS_mremap Any, "alloc";
    SYS_madvise Any, "alloc::map, alloc::clear, alloc::unmap_program, and the C library";
    SYS_mprotect Without(2, libc::PROT_EXEC as u32), "alloc: musl's";
    SYS_brk Any, "alloc: the C library's";
    SYS_futex Any, "the unwinding of a panic that ends one flow, glibc's pthread_once(3)";
    SYS_openat Any, "fd::read_file: resolv.conf; Landlock says which files";
    #[cfg(not(target_arch = "arm"))]
    SYS_fcntl Any, "control::capture: the client's pipe";
    #[cfg(target_arch = "arm")]
    SYS_fcntl64 Any, "control::capture: the client's pipe";
    SYS_ioctl OneOf(1, &[SIOCGIFINDEX, TUNSETPERSIST, TUNSETOFFLOAD]), "sock::interface_index, tun::Tap";
    SYS_unlinkat Any, "process::PidFile, control sockets";
    SYS_wait4 Any, "session::run: the command's status";
    SYS_pidfd_send_signal Any, "event_loop: signals for the command of `rnsnet run`; fd::kind";
    #[cfg(not(target_arch = "aarch64"))]
    SYS_dup2 Any, "session::leave_terminal";
    #[cfg(target_arch = "aarch64")]
    SYS_dup3 Any, "session::leave_terminal";
    SYS_sigaltstack Any, "the end of the main thread";
    SYS_exit_group Any, "the end";
}

/// Those of a process that makes sockets, with the same arguments.
const MAKER: &[&str] = &[
    "SYS_recvmsg",
    "SYS_sendmsg",
    "SYS_socket",
    "SYS_setsockopt",
    "SYS_bind",
    "SYS_listen",
    "SYS_close",
    // The standard library's debug build looks before it closes.
    "SYS_fcntl",
    "SYS_fcntl64",
    "SYS_mmap",
    "SYS_mmap2",
    "SYS_munmap",
    "SYS_mremap",
    "SYS_madvise",
    "SYS_mprotect",
    "SYS_brk",
    "SYS_futex",
    "SYS_exit_group",
];

/// `SIOCGIFINDEX` of <linux/sockios.h>, the same on every architecture.
const SIOCGIFINDEX: u32 = 0x8933;

/// `TUNSETPERSIST` of <linux/if_tun.h>, the same on these architectures.
const TUNSETPERSIST: u32 = 0x4004_54cb;
/// `TUNSETOFFLOAD` of <linux/if_tun.h>: a container joins a named network.
const TUNSETOFFLOAD: u32 = 0x4004_54d0;

/// `AT_EMPTY_PATH` and `AT_STATX_DONT_SYNC`: what is known of an open file, asked of nobody.
const DONT_SYNC: u32 = 0x1000 | 0x4000;

/// The kernel's name for this architecture, <linux/audit.h>.
#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
#[cfg(target_arch = "arm")]
const AUDIT_ARCH: u32 = 0x4000_0028;

/// Calls of the x32 ABI carry this bit (syscall(2)); none is allowed.
const X32_SYSCALL_BIT: u32 = 0x4000_0000;

// Offsets in `struct seccomp_data`, <linux/seccomp.h>.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
/// Where the low half of a 64-bit argument is.
const LOW_HALF: u32 = if cfg!(target_endian = "little") { 0 } else { 4 };

// Instructions, <linux/filter.h>.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// What some processes need beyond the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// kill(2) of this process, where there are no pidfds ([`super::process`]).
    Kill(u32),
    /// splice(2), between a container's loopback and the host's ([`super::pipe`]).
    Splice,
}

impl Extra {
    fn rule(self) -> Rule {
        let (name, number, arguments, needed_by) = match self {
            Self::Kill(pid) => {
                // For good, as the restriction is.
                let only = OneOf(0, Box::leak(Box::new([pid])));
                ("SYS_kill", libc::SYS_kill, only, "process::signal")
            }
            Self::Splice => ("SYS_splice", libc::SYS_splice, Any, "pipe::Pipe::pass"),
        };
        Rule { name, number, arguments, needed_by }
    }
}

/// Allows the calls of the table, those that are asked for beyond it, and nothing else, for good.
/// `no_new_privs` must be set.
///
/// # Errors
/// `EINVAL` on a kernel without `CONFIG_SECCOMP_FILTER`.
pub fn restrict(extras: &[Extra]) -> io::Result<()> {
    let extras = extras.iter().map(|extra| extra.rule());
    restrict_to(&RULES.iter().copied().chain(extras).collect::<Vec<_>>())
}

/// The same for the process that makes sockets in a container ([`super::maker`]).
pub(super) fn restrict_maker() -> io::Result<()> {
    let rules = RULES.iter().filter(|rule| MAKER.contains(&rule.name));
    restrict_to(&rules.copied().collect::<Vec<_>>())
}

fn restrict_to(rules: &[Rule]) -> io::Result<()> {
    install(&program(rules, libc::SECCOMP_RET_KILL_PROCESS))
}

/// Has one call fail with `errno`, as it does where a kernel lacks it or an engine forbids it.
#[cfg(test)]
pub(super) fn refuse(call: c_long, errno: i32) -> io::Result<()> {
    let number = u32::try_from(call).map_err(|_| io::ErrorKind::InvalidInput)?;
    install(&[
        statement(LOAD, NUMBER),
        jump(JUMP_IF_EQUAL, number, 0, 1),
        statement(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        statement(RETURN, libc::SECCOMP_RET_ALLOW),
    ])
}

fn install(program: &[sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program and its instructions are alive for the call, which copies them; the
    // kernel checks the program and writes to neither.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One line a call: its name, what its arguments must be, and who needs it.
#[must_use]
pub fn listing() -> String {
    let line = |rule: &Rule| {
        let arguments = match rule.arguments {
            Any => String::new(),
            OneOf(index, values) => {
                let values: Vec<_> = values.iter().map(|value| format!("{value:#x}")).collect();
                format!("(arg{index}={})", values.join("|"))
            }
            Without(index, bits) => format!("(arg{index}&{bits:#x}==0)"),
        };
        let call = format!("{}{arguments}", rule.name.trim_start_matches("SYS_"));
        format!("{call:<32} # {}\n", rule.needed_by)
    };
    RULES.iter().map(line).collect()
}

fn program(rules: &[Rule], otherwise: u32) -> Vec<sock_filter> {
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        jump(JUMP_IF_EQUAL, AUDIT_ARCH, 1, 0),
        statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        statement(LOAD, NUMBER),
    ];
    if cfg!(target_arch = "x86_64") {
        program.push(jump(JUMP_IF_AT_LEAST, X32_SYSCALL_BIT, 0, 1));
        program.push(statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    }
    for rule in rules {
        let body = body(rule.arguments, otherwise);
        let number = u32::try_from(rule.number).unwrap_or(u32::MAX);
        let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
        program.push(jump(JUMP_IF_EQUAL, number, 0, skip));
        program.extend(body);
    }
    program.push(statement(RETURN, otherwise));
    program
}

/// What follows once the number has matched: always a return.
fn body(arguments: Arguments, otherwise: u32) -> Vec<sock_filter> {
    let allow = statement(RETURN, libc::SECCOMP_RET_ALLOW);
    let deny = statement(RETURN, otherwise);
    let load = |index: u8| statement(LOAD, FIRST_ARGUMENT + 8 * u32::from(index) + LOW_HALF);
    match arguments {
        Any => vec![allow],
        OneOf(index, values) => {
            let mut body = vec![load(index)];
            for value in values {
                body.extend([jump(JUMP_IF_EQUAL, *value, 0, 1), allow]);
            }
            body.push(deny);
            body
        }
        Without(index, bits) => vec![load(index), jump(JUMP_IF_BITS, bits, 0, 1), deny, allow],
    }
}

const fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::sys::netns::{spawn, wait};

    /// 128 + SIGSYS, as shells count.
    const KILLED: i32 = 128 + libc::SIGSYS;

    fn status_of(call: fn() -> bool) -> i32 {
        let child = spawn(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            restrict(&[]).unwrap();
            i32::from(!call())
        });
        wait(child.unwrap()).unwrap()
    }

    #[test]
    fn signals_go_to_one_process_alone() {
        let kill = |itself: bool| {
            let child = spawn(|| {
                nix::sys::prctl::set_no_new_privs().unwrap();
                let (own, parent) = (nix::unistd::getpid(), nix::unistd::getppid());
                restrict(&[Extra::Kill(own.as_raw().cast_unsigned())]).unwrap();
                let whom = if itself { own } else { parent };
                i32::from(nix::sys::signal::kill(whom, None).is_err())
            });
            wait(child.unwrap()).unwrap()
        };
        assert_eq!((kill(true), kill(false)), (0, KILLED));
    }

    #[test]
    fn what_serving_needs_still_works() {
        let serve = || {
            crate::sys::fd::read_file("/etc/passwd".as_ref()).is_ok()
                && crate::sys::sock::udp_any(false, Default::default()).is_ok()
        };
        assert_eq!(status_of(serve), 0);
    }

    #[test]
    fn who_makes_sockets_can_do_nothing_else() {
        let status_of = |call: fn() -> bool| {
            let child = spawn(|| {
                nix::sys::prctl::set_no_new_privs().unwrap();
                restrict_maker().unwrap();
                i32::from(!call())
            });
            wait(child.unwrap()).unwrap()
        };
        // All but the other architecture's name of two.
        let known = |name: &&&str| RULES.iter().any(|rule| rule.name == **name);
        assert_eq!(MAKER.iter().filter(known).count(), MAKER.len() - 2);
        const ANY: std::net::SocketAddr =
            std::net::SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0));
        assert_eq!(status_of(|| crate::sys::sock::tcp_listen(ANY, true).is_ok()), 0);
        assert_eq!(status_of(|| crate::sys::sock::udp_bind(ANY, true).is_ok()), 0);
        let read = || crate::sys::fd::read_file("/etc/passwd".as_ref()).is_ok();
        assert_eq!(status_of(read), KILLED);
        let connect = || {
            let socket = crate::sys::sock::tcp_open(false).unwrap();
            crate::sys::sock::connect_to(&socket, ANY).is_ok()
        };
        assert_eq!(status_of(connect), KILLED);
    }

    // A panic is caught, and told by our own hook: see `io::logger`. Here without one, whose lock another
    // test's thread may have held at the fork.
    #[test]
    fn a_panic_can_still_be_caught() {
        let caught = || {
            let unwound =
                std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new("expected")));
            unwound.is_err()
        };
        assert_eq!(status_of(caught), 0);
    }

    #[test]
    fn a_program_cannot_be_executed() {
        assert_eq!(status_of(|| nix::unistd::execv(c"/bin/true", &[c"true"]).is_ok()), KILLED);
    }

    #[test]
    fn no_other_family_of_sockets_can_be_opened() {
        let unix = || std::os::unix::net::UnixDatagram::unbound().is_ok();
        assert_eq!(status_of(unix), KILLED);
    }

    #[test]
    fn no_memory_can_become_code() {
        assert_eq!(
            status_of(|| {
                let (read_exec, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE);
                let anonymous = flags | libc::MAP_ANONYMOUS;
                // SAFETY: asks for a new mapping and never uses it.
                let at =
                    unsafe { libc::mmap(std::ptr::null_mut(), 4096, read_exec, anonymous, -1, 0) };
                at != libc::MAP_FAILED
            }),
            KILLED
        );
    }

    #[test]
    fn no_process_can_be_made_or_traced() {
        assert_eq!(status_of(|| spawn(|| 0).is_ok()), KILLED);
        // SAFETY: PTRACE_TRACEME takes no pointers.
        assert_eq!(status_of(|| unsafe { libc::ptrace(libc::PTRACE_TRACEME) } == 0), KILLED);
    }

    /// Who needs a call, by `module::function` or a type of the module, is there.
    #[test]
    fn who_needs_a_call_can_be_found_in_the_source() {
        fn files(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    files(&path, found);
                } else {
                    let text = std::fs::read_to_string(&path).unwrap();
                    found.push((path.with_extension(""), text));
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = Vec::new();
        files(&root, &mut sources);
        for rule in RULES {
            let paths = rule.needed_by.split([' ', ',', ';']).filter(|word| word.contains("::"));
            for path in paths.map(|path| path.trim_end_matches(':')) {
                let (module, rest) = path.split_once("::").unwrap();
                let last = rest.rsplit("::").next().unwrap();
                let there = sources.iter().any(|(file, text)| {
                    let words = || text.split(|c: char| !c.is_alphanumeric() && c != '_');
                    let kinds = ["fn", "struct", "enum", "mod"];
                    let defined = words().zip(words().skip(1));
                    file.strip_prefix(&root).unwrap().iter().any(|part| part == module)
                        && defined
                            .into_iter()
                            .any(|(kind, name)| kinds.contains(&kind) && name == last)
                });
                assert!(there, "{}: there is no {path}", rule.name);
            }
        }
    }

    #[test]
    fn the_list_in_vendor_config_is_this_one() {
        let path = format!(
            "{}/vendor-config/seccomp/{}.list",
            env!("CARGO_MANIFEST_DIR"),
            std::env::consts::ARCH
        );
        // It is of a build with musl, which needs neither of these on ARM.
        let of_glibc = |line: &&str| line.starts_with("recv ") || line.starts_with("send ");
        let listing = listing();
        let listing: String =
            listing.split_inclusive('\n').filter(|line| !of_glibc(line)).collect();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
            std::fs::write(&path, &listing).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), listing, "run with UPDATE_GOLDEN=1");
    }
}
