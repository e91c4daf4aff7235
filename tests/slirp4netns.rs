//! The personality of slirp4netns from outside: its command line, its TAPs and its API socket, with
//! real namespaces and no container engine.
//!
//! Every test is a shell script in namespaces of its own: a "host" without a way out, and in it
//! containers. No privilege is needed but user namespaces and /dev/net/tun.

#![allow(clippy::print_stderr)] // a skipped test is told where a person looks

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Functions that the scripts use. `$T` is a directory of the test's own.
const PRELUDE: &str = r#"
set -eu
fail() { echo "FAILED: $*"; sed 's/^/  helper: /' "$T"/out 2>/dev/null; exit 1; }
# eventually COMMAND...: until it succeeds, for a minute: the machine may be busy with other things
eventually() { for _ in $(seq 1200); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; fail "never: $*"; }
same() { [ "$1" = "$2" ] || fail "expected '$2', found '$1'"; }
has() { case "$1" in *"$2"*) ;; *) fail "'$2' is not in '$1'";; esac; }
# It has its namespaces, and its ids there, when it sleeps.
asleep() { [ "$(cat "/proc/$C/comm")" = sleep ]; }
# A container; its pid is $C.
container() { unshare -Urn sleep 600 & C=$!; eventually asleep; }
in_() { nsenter -t "$C" -U --preserve-credentials -n "$@"; }
# start ARG...: the helper until it says that it is ready; its pid is $H
start() {
    rm -f "$T/ready"; mkfifo "$T/ready"
    slirp4netns -r 9 "$@" 9>"$T/ready" >"$T/out" 2>&1 & H=$!
    byte=""; read -t 60 -r -n 1 byte <"$T/ready" || true
    [ "$byte" = 1 ] || fail "not ready: $*"
}
api() { printf %s "$1" | timeout 60 socat -t 60 - "UNIX-CONNECT:$T/api"; }
# ask ADDRESS PORT [in_]: what a UDP service answers
ask() { "${@:3}" bash -c 'exec 3<>"/dev/udp/$1/$2"; echo q >&3; timeout 60 dd bs=512 count=1 <&3 2>/dev/null' ask "$1" "$2"; }
ended() { ! kill -0 "$H" 2>/dev/null; }
# who PORT: a TCP service of the host's loopback that says who calls
# (-t here and below: a socat waits for no more than half a second after one of its sides has ended)
who() { socat -t 60 "TCP-LISTEN:$1,bind=127.0.0.1,reuseaddr,fork" SYSTEM:'echo $SOCAT_PEERADDR' & eventually busy "$1"; }
busy() { ss -Htln "sport = :$1" | grep -q .; }
in_busy() { in_ ss -Htuln "sport = :$1" | grep -q .; }
ip link set lo up
"#;

/// Runs a script; `None` where this machine does not let us have namespaces.
fn script(text: &str) -> Option<Output> {
    let directory = directory();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout")
        .args(["600", "unshare", "-Urnpf", "--kill-child", "--mount-proc", "bash", "-c"])
        .arg(format!("{PRELUDE}\n{text}\necho passed"))
        .env("T", &directory)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .expect("timeout(1) starts");
    drop(std::fs::remove_dir_all(&directory));
    let refused = String::from_utf8_lossy(&output.stderr).contains("unshare: ");
    if refused && output.stdout.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "no namespaces, and CI is set: {output:?}");
        eprintln!("SKIP: no namespaces: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(output)
}

/// A directory with a link that is called slirp4netns.
fn directory() -> PathBuf {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("rnsnet-slirp-{}-{count}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    drop(std::fs::remove_dir_all(&directory));
    std::fs::create_dir(&directory).expect("a directory of the test's own");
    let program = env!("CARGO_BIN_EXE_rnsnet");
    symlink(program, directory.join("slirp4netns")).expect("a link");
    symlink(program, directory.join("rnsnet")).expect("a link");
    directory
}

/// Holds that a script runs to its end.
#[track_caller]
fn passes(text: &str) {
    if let Some(output) = script(text) {
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(stdout.ends_with("passed\n"), "{stdout}\n{stderr}");
    }
}

#[test]
fn configure_gives_addresses_routes_and_an_mtu() {
    passes(
        r#"
        container
        start -c -m 1400 --macaddress 0e:d4:18:d9:38:fb --cidr 10.0.135.128/25 -6 "$C" tap11
        has "$(in_ ip -4 addr show tap11)" "inet 10.0.135.228/25 "
        has "$(in_ ip -6 addr show tap11)" "inet6 fd00::"
        has "$(in_ ip link show tap11)" "mtu 1400 "
        has "$(in_ ip link show tap11)" "link/ether 0e:d4:18:d9:38:fb "
        has "$(in_ ip link show lo)" "UP"
        has "$(in_ ip route)" "default via 10.0.135.130 dev tap11"
        has "$(in_ ip -6 route)" "default via fd00::2 dev tap11"
        in_ ping -c 1 -W 20 10.0.135.130 >/dev/null
        in_ ping -c 1 -W 20 fd00::2 >/dev/null
        "#,
    );
}

// As who has opened the namespace hands it on, in any way to write it.
#[test]
fn a_namespace_may_be_an_inherited_descriptor() {
    passes(
        r#"
        for path in /proc/self/fd/7 /dev/fd/7 /proc/thread-self/fd/7; do
            container
            start -c --enable-sandbox --netns-type=path "$path" tap0 7<"/proc/$C/ns/net"
            in_ ping -c 1 -W 20 10.0.2.2 >/dev/null
            # Nothing of it is kept.
            case "$(ls -l "/proc/$H/fd")" in *net:*) fail "it holds the namespace";; esac
            kill "$H"; eventually ended
        done
        code=0; slirp4netns --netns-type=path /proc/self/fd/7 tap0 >"$T/out" 2>&1 || code=$?
        same "$code" 1
        has "$(cat "$T/out")" "cannot open /proc/self/fd/7: "
        has "$(cat "$T/out")" "hint: the descriptor must be open "
        "#,
    );
}

// slirp4netns ends on POLLHUP: who has said everything may still be there.
#[test]
fn an_exit_descriptor_whose_other_side_has_said_everything_is_not_closed() {
    passes(
        r#"
        container
        export C
        cat >"$T/caller.py" <<'E'
import os, socket, subprocess
ours, theirs = socket.socketpair()
ready, say = os.pipe()
pid = os.environ["C"]
fds = [theirs.fileno(), say]
helper = subprocess.Popen(["slirp4netns", "-c", "-e", str(fds[0]), "-r", str(fds[1]), pid, "tap0"],
                          pass_fds=fds)
theirs.close()
assert os.read(ready, 1) == b"1"
ours.shutdown(socket.SHUT_WR)
into = ["nsenter", "-t", pid, "-U", "--preserve-credentials", "-n"]
subprocess.check_call([*into, "ping", "-c1", "-W20", "10.0.2.2"])
assert helper.poll() is None, "it has ended"
ours.close()
assert helper.wait(60) == 0
E
        python3 "$T/caller.py" >"$T/out" 2>&1 || fail caller
        "#,
    );
}

#[test]
fn an_mtu_too_small_for_ipv6_still_serves_ipv4() {
    passes(
        r#"
        container
        who 8080
        start -c -6 -m 68 "$C" tap0
        has "$(in_ ip link show tap0)" "mtu 68 "
        same "$(in_ socat -t 60 - TCP:10.0.2.2:8080)" 127.0.0.1
        "#,
    );
}

#[test]
fn a_tap_that_is_there_is_taken_over_and_not_configured() {
    passes(
        r#"
        container
        who 8080
        in_ ip tuntap add name tap0 mode tap
        in_ ip link set tap0 address 02:00:00:00:00:09 up
        start --mtu 65520 "$C" tap0
        same "$(in_ ip -4 -br addr show tap0 | tr -s ' ' | cut -d' ' -f3)" ""
        has "$(in_ ip link show tap0)" "mtu 1500 "
        in_ ip link set tap0 mtu 65520
        in_ ip addr add 10.0.2.100/24 dev tap0
        in_ ip route add default via 10.0.2.2
        same "$(in_ socat -t 60 - TCP:10.0.2.2:8080)" 127.0.0.1
        head -c 3000000 /dev/zero >"$T/zeros"
        socat "TCP-LISTEN:8081,bind=127.0.0.1,reuseaddr" "OPEN:$T/got,creat" & eventually busy 8081
        in_ socat -u "OPEN:$T/zeros" TCP:10.0.2.2:8081
        whole() { [ "$(stat -c %s "$T/got")" = 3000000 ]; }
        eventually whole
        kill "$H"; eventually ended
        has "$(in_ ip link show tap0)" "tap0"
        # And again, by another helper.
        start "$C" tap0
        same "$(in_ socat -t 60 - TCP:10.0.2.2:8080)" 127.0.0.1
        "#,
    );
}

#[test]
fn without_configure_a_tap_is_made_and_left_alone() {
    passes(
        r#"
        container
        start "$C" tap7
        has "$(in_ ip link show tap7)" "state DOWN"
        has "$(in_ ip link show lo)" "state DOWN"
        in_ ip link set tap7 up
        in_ ip addr add 10.0.2.100/24 dev tap7
        in_ ping -c 1 -W 20 10.0.2.2 >/dev/null
        "#,
    );
}

#[test]
fn a_router_is_advertised_to_a_container_that_configures_itself() {
    passes(
        r#"
        container
        in_ ip tuntap add name tap0 mode tap
        in_ ip link set tap0 up
        start -6 -a "$T/api" "$C" tap0
        global() { in_ ip -6 addr show tap0 scope global | grep -q 'inet6 fd00::'; }
        eventually global
        has "$(in_ ip -6 route)" "default via fe80::"
        in_ ping -c 1 -W 20 fd00::2 >/dev/null
        # A port published on request finds that address.
        in_ socat -t 60 TCP6-LISTEN:80,reuseaddr,fork SYSTEM:'echo six' & eventually in_busy 80
        has "$(api '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"::1","host_port":8080,"guest_addr":"","guest_port":80}}')" '"id":1'
        settled() { [ "$(timeout 10 socat -t 10 - TCP6:[::1]:8080)" = six ]; }
        eventually settled
        "#,
    );
}

#[test]
fn a_tap_may_be_handed_in_by_its_descriptor() {
    passes(
        r#"
        container
        who 8080
        cat >"$T/tapfd.py" <<'EOF'
import ctypes, fcntl, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
home = os.open("/proc/self/ns/net", os.O_RDONLY)
def enter(fd):
    if libc.setns(fd, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")
enter(os.open(f"/proc/{sys.argv[1]}/ns/net", os.O_RDONLY))
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"tap0", int(sys.argv[2], 16)))
enter(home)
os.dup2(tap, 20, inheritable=True)
os.execvp(sys.argv[3], sys.argv[3:] + ["-r", "9", "--netns-type=tapfd", "20"])
EOF
        for how in "1002 slirp4netns" "5002 slirp4netns" "5002 rnsnet --host-access=8080"; do
            rm -f "$T/ready"; mkfifo "$T/ready"
            python3 "$T/tapfd.py" "$C" $how 9>"$T/ready" >"$T/out" 2>&1 & H=$!
            read -t 60 -r -n 1 byte <"$T/ready" || fail "not ready"
            in_ ip link set tap0 up
            in_ ip addr add 10.0.2.100/24 dev tap0
            has "$(cat "$T/out")" "tap0 10.0.2.100/24"
            same "$(in_ socat -t 60 - TCP:10.0.2.2:8080)" 127.0.0.1
            kill "$H"; eventually ended; wait "$H" || true
        done
        # A TUN, and no interface at all.
        code=0; python3 "$T/tapfd.py" "$C" 1001 slirp4netns 9>/dev/null >"$T/out" 2>&1 || code=$?
        same "$code" 1
        has "$(cat "$T/out")" "descriptor 20 is not a TAP"
        code=0; slirp4netns --netns-type=tapfd 20 20</dev/null >"$T/out" 2>&1 || code=$?
        same "$code" 1
        "#,
    );
}

#[test]
fn the_exit_descriptor_ends_it_by_a_hang_up_alone() {
    passes(
        r#"
        container
        mkfifo "$T/exit"
        exec 8<>"$T/exit"
        sleep 600 8>&- & # no copy of the other side
        ( exec 3<"$T/exit" 8>&-; slirp4netns -c -e 3 "$C" tap0 >"$T/out" 2>&1; echo $? >"$T/code" ) &
        there() { in_ ip link show tap0; }
        eventually there
        echo data >&8
        sleep 0.3
        there >/dev/null || fail "ended by data"
        # The last writer goes; what it wrote is still there.
        exec 8>&-
        over() { [ -s "$T/code" ]; }
        eventually over
        same "$(cat "$T/code")" 0
        gone() { ! there; }
        eventually gone
        # A descriptor that is not open has hung up.
        code=0; timeout 60 slirp4netns -c -e 77 "$C" tap1 >"$T/out" 2>&1 || code=$?
        same "$code" 0
        # A file never does.
        code=0; timeout 1 slirp4netns -c -e 3 "$C" tap2 3</etc/passwd >"$T/out" 2>&1 || code=$?
        same "$code" 124
        # A ready descriptor that is not open is nobody's to hear.
        code=0; timeout 1 slirp4netns -c -r 77 "$C" tap3 >"$T/out" 2>&1 || code=$?
        same "$code" 124
        "#,
    );
}

#[test]
fn it_ends_with_its_container_and_in_order_by_a_signal() {
    passes(
        r#"
        container
        start -c -a "$T/api" "$C" tap0
        test -S "$T/api"
        kill -KILL "$C"
        eventually ended
        wait "$H" || fail "exit code $?"
        test ! -e "$T/api" || fail "the API socket is left behind"
        container
        start -c -a "$T/api" --enable-sandbox --enable-seccomp "$C" tap0
        kill -TERM "$H"
        eventually ended
        test ! -e "$T/api" || fail "the API socket is left behind"
        "#,
    );
}

// `nohup dockerd-rootless.sh &`, and then the terminal goes.
#[test]
fn what_the_caller_ignores_does_not_end_it() {
    passes(
        r#"
        container
        trap '' HUP INT QUIT
        start -c "$C" tap0
        for signal in HUP INT QUIT; do kill -$signal "$H"; done
        in_ ping -c 1 -W 20 10.0.2.2 >/dev/null || fail "it died"
        kill -TERM "$H"
        eventually ended
        wait "$H" || fail "exit code $?"
        "#,
    );
}

#[test]
fn sandbox_and_seccomp_are_what_it_does_anyway_and_can_be_looked_at() {
    passes(
        r#"
        container
        status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$H/status"; }
        start -c --enable-sandbox --enable-seccomp "$C" tap0
        same "$(status NoNewPrivs)" 1
        same "$(status Seccomp)" 2
        # CAP_NET_BIND_SERVICE alone.
        for set in CapInh CapPrm CapEff CapBnd; do
            value=$(status $set)
            same "$((0x$value & ~0x400))" 0
        done
        same "$((0x$(status CapEff)))" $((0x400))
        test -d "/proc/$H/root/etc" || fail "hidden"
        kill "$H"; eventually ended
        # Without the option nothing is kept and nothing is shown.
        start -c "$C" tap0
        same "$(status Seccomp)" 2
        same "$((0x$(status CapEff)))" 0
        "#,
    );
}

#[test]
fn the_host_s_loopback_is_offered_unless_disabled() {
    passes(
        r#"
        container
        who 8080
        start -c "$C" tap0
        has "$(cat "$T/out")" "127.0.0.1:* on the host is accessible as 10.0.2.2"
        same "$(in_ socat -t 60 - TCP:10.0.2.2:8080)" 127.0.0.1
        kill "$H"; eventually ended
        start -c --disable-host-loopback "$C" tap0
        in_ ping -c 1 -W 20 10.0.2.2 >/dev/null
        has "$(in_ socat -t 60 - TCP:10.0.2.2:8080 2>&1 || true)" "Network is unreachable"
        has "$(in_ socat -t 60 - TCP:127.0.0.2:8080 2>&1 || true)" "refused"
        # Not by a raw route to it either.
        in_ ip route add 192.0.2.1 via 10.0.2.2
        has "$(in_ socat -t 60 - TCP:192.0.2.1:8080 2>&1 || true)" "unreachable"
        "#,
    );
}

#[test]
fn without_dns_nothing_answers_at_its_address() {
    passes(
        r#"
        container
        start -c --disable-dns "$C" tap0
        in_ ping -c 1 -W 20 10.0.2.2 >/dev/null
        has "$(in_ socat -t 60 - TCP:10.0.2.3:53,connect-timeout=1 2>&1 || true)" "timed out"
        ! in_ ping -c 1 -W 1 10.0.2.3 >/dev/null || fail "it answers"
        "#,
    );
}

#[test]
fn the_outbound_address_may_be_one_or_an_interface_s() {
    passes(
        r#"
        container
        who 8080
        ip addr add 127.9.9.9/32 dev lo
        start -c --outbound-addr 127.9.9.9 "$C" tap0
        same "$(in_ socat -t 60 - TCP:10.0.2.2:8080)" 127.9.9.9
        socat UDP-LISTEN:8053,bind=127.0.0.1,fork SYSTEM:'read line; echo $SOCAT_PEERADDR' &
        bound() { ss -Huln "sport = :8053" | grep -q .; }
        eventually bound
        same "$(ask 10.0.2.2 8053 in_)" 127.9.9.9
        kill "$H"; eventually ended
        ip link add v0 type veth peer name v1
        ip addr add 192.0.2.7/24 dev v0; ip link set v0 up; ip link set v1 up
        start -c --outbound-addr v0 "$C" tap0
        same "$(in_ socat -t 60 - TCP:10.0.2.2:8080)" 192.0.2.7
        kill "$H"; eventually ended
        code=0; slirp4netns -c --outbound-addr no-link "$C" tap0 >"$T/out" 2>&1 || code=$?
        same "$code" 1
        has "$(cat "$T/out")" "interface no-link has no IPv4 address"
        "#,
    );
}

#[test]
fn ports_are_forwarded_on_request() {
    passes(
        r#"
        container
        ip link add v0 type veth peer name v1
        ip addr add 192.0.2.7/24 dev v0; ip link set v0 up; ip link set v1 up
        start -c --disable-host-loopback --enable-sandbox --enable-seccomp -a "$T/api" "$C" tap0
        same "$(stat -c %a "$T/api")" 600
        in_ socat -t 60 TCP-LISTEN:80,reuseaddr,fork SYSTEM:'echo tcp $SOCAT_PEERADDR' &
        in_ socat UDP-LISTEN:53,reuseaddr,fork SYSTEM:'read line; echo udp $SOCAT_PEERADDR' &
        eventually in_busy 80; eventually in_busy 53
        same "$(api '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"0.0.0.0","host_port":8080,"guest_addr":"10.0.2.100","guest_port":80}}')" '{"return":{"id":1}}'
        same "$(api '{"execute":"add_hostfwd","arguments":{"proto":"udp","host_addr":"","host_port":8080,"guest_addr":"","guest_port":53}}
')" '{"return":{"id":2}}'
        same "$(socat -t 60 - TCP:127.0.0.1:8080)" "tcp 10.0.2.2"
        same "$(socat -t 60 - TCP:192.0.2.7:8080)" "tcp 192.0.2.7"
        # slirp4netns itself drops this answer when the loopback is disabled.
        same "$(ask 127.0.0.1 8080)" "udp 10.0.2.2"
        same "$(ask 192.0.2.7 8080)" "udp 192.0.2.7"
        # From IPv6 to an IPv4 container.
        same "$(api '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"[::1]","host_port":8086,"guest_port":80}}')" '{"return":{"id":3}}'
        same "$(socat -t 60 - TCP6:[::1]:8086)" "tcp 10.0.2.2"
        list="$(api '{"execute":"list_hostfwd"}')"
        one='{"id":1,"proto":"tcp","host_addr":"0.0.0.0","host_port":8080,"guest_addr":"10.0.2.100","guest_port":80}'
        has "$list" "{\"return\":{\"entries\":[$one,"
        same "$(printf %s "$list" | jq -c '.entries | length')" 3
        same "$(printf %s "$list" | jq -c '.return.entries == .entries')" true
        # What stands goes on when its forward is taken back.
        in_ socat TCP-LISTEN:81,reuseaddr,fork EXEC:cat & eventually in_busy 81
        api '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":8081,"guest_port":81}}' >/dev/null
        mkfifo "$T/say"; exec 7<>"$T/say"
        socat -t 60 - TCP:127.0.0.1:8081 <"$T/say" >"$T/heard" &
        echo before >&7
        heard() { grep -q "$1" "$T/heard"; }
        eventually heard before
        same "$(api '{"execute":"remove_hostfwd","arguments":{"id":4}}')" '{"return":{}}'
        echo after >&7
        eventually heard after
        for id in 1 2 3; do
            same "$(api "{\"execute\":\"remove_hostfwd\",\"arguments\":{\"id\":$id}}")" '{"return":{}}'
        done
        has "$(socat -t 60 - TCP:127.0.0.1:8080 2>&1 || true)" "refused"
        ! busy 8080 || fail "still bound"
        "#,
    );
}

#[test]
fn bad_requests_are_answered_and_harm_nothing() {
    passes(
        r#"
        container
        start -c -a "$T/api" "$C" tap0
        refused() { same "$(api "$1")" "{\"error\":{\"desc\":\"bad request: $2\"}}"; }
        refused '' 'cannot parse JSON'
        refused 'bad json' 'cannot parse JSON'
        refused '[]' 'json_object() failed'
        refused '{"unexpectedjson": "json"}' 'no execute found'
        refused '{"execute": "bad"}' 'unknown execute'
        refused '{"execute": "add_hostfwd", "arguments": {"host_port": 8080}}' 'add_hostfwd: bad arguments.proto'
        refused '{"execute": "add_hostfwd", "arguments": {"proto": "bad"}}' 'add_hostfwd: bad arguments.proto'
        refused '{"execute": "add_hostfwd", "arguments": {"proto": 5}}' 'add_hostfwd: bad arguments.proto'
        refused '{"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_port": 70000, "guest_port": 80}}' 'add_hostfwd: bad arguments.host_port'
        refused '{"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_port": -1, "guest_port": 80}}' 'add_hostfwd: bad arguments.host_port'
        refused '{"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_port": "8080", "guest_port": 80}}' 'add_hostfwd: bad arguments.host_port'
        refused '{"execute": "remove_hostfwd", "arguments": {"id": 9}}' 'remove_hostfwd: bad arguments.id'
        refused "$(head -c 5000 /dev/zero | tr '\0' ' ')" 'too large message'
        socat TCP-LISTEN:8080,bind=127.0.0.1 - & eventually busy 8080
        taken="$(api '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":8079,"guest_port":80,"range":2}}')"
        has "$taken" '{"error":{"desc":"bad request: add_hostfwd: slirp_add_hostfwd failed","reason":"'
        ! busy 8079 || fail "half of a range is bound"
        ! ended || fail "it died"
        in_ ping -c 1 -W 20 10.0.2.2 >/dev/null
        "#,
    );
}

#[test]
fn silent_clients_of_the_api_delay_no_packet() {
    passes(
        r#"
        container
        who 8080
        start -c -a "$T/api" "$C" tap0
        for _ in $(seq 40); do socat -t 300 "UNIX-CONNECT:$T/api" EXEC:'sleep 300' & done
        sleep 0.5
        for _ in $(seq 5); do in_ ping -c 1 -W 20 10.0.2.2 >/dev/null; done
        same "$(in_ socat -t 60 - TCP:10.0.2.2:8080)" 127.0.0.1
        has "$(api '{"execute":"list_hostfwd"}')" '"entries":[]'
        "#,
    );
}

#[test]
fn an_api_socket_is_replaced_only_where_nobody_listens() {
    passes(
        r#"
        container
        start -c -a "$T/api" "$C" tap0
        code=0; slirp4netns -c -a "$T/api" "$C" tap1 >"$T/err" 2>&1 || code=$?
        same "$code" 1
        has "$(cat "$T/err")" "another process listens on the API socket"
        ! in_ ip link show tap1 2>/dev/null || fail "an interface is left behind"
        has "$(api '{"execute":"list_hostfwd"}')" '"entries":[]'
        kill -KILL "$H"; eventually ended
        test -S "$T/api"
        start -c -a "$T/api" "$C" tap0
        has "$(api '{"execute":"list_hostfwd"}')" '"entries":[]'
        long="$T/$(printf 'a%.0s' $(seq 108))"
        code=0; slirp4netns -c -a "$long" "$C" tap2 >"$T/err" 2>&1 || code=$?
        same "$code" 1
        has "$(cat "$T/err")" "the specified API socket path is too long (>= 108)"
        "#,
    );
}

#[test]
fn two_hundred_connections_in_a_row_are_all_quick() {
    passes(
        r#"
        container
        start -c --disable-host-loopback -a "$T/api" "$C" tap0
        cat >"$T/serve.py" <<'EOF'
import socket
s = socket.create_server(("0.0.0.0", 80), backlog=300)
while True:
    c, _ = s.accept(); c.close()
EOF
        in_ python3 "$T/serve.py" & eventually in_busy 80
        api '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":8080,"guest_port":80}}' >/dev/null
        python3 - <<'EOF' || fail "slow"
import socket, time
def slowest():
    worst = 0
    for _ in range(200):
        start = time.monotonic()
        s = socket.create_connection(("127.0.0.1", 8080), 30); s.recv(1); s.close()
        worst = max(worst, time.monotonic() - start)
    return worst
# What is slow by itself is so each time; what other work on the machine delays is not.
rounds = []
while min(rounds, default=1) >= 0.2 and len(rounds) < 4: rounds.append(slowest())
assert min(rounds) < 0.2, rounds
EOF
        "#,
    );
}

#[test]
fn rnsnet_takes_slirp4netns_s_line_by_its_own_options() {
    passes(
        r#"
        container
        rm -f "$T/ready"; mkfifo "$T/ready"
        rnsnet --disable-host-loopback --mtu=65520 --enable-sandbox --enable-seccomp --enable-ipv6 \
            -c -e 8 -r 9 --netns-type=path "/proc/$C/ns/net" tap0 8</dev/null 9>"$T/ready" >"$T/out" 2>&1 & H=$!
        read -t 60 -r -n 1 byte <"$T/ready" || fail "not ready"
        has "$(in_ ip -4 addr show tap0)" "inet 10.0.2.100/24 "
        # Its own line stays its own: an interface that is there is refused.
        in_ ip tuntap add name tap1 mode tap
        code=0; rnsnet --mtu 65520 "$C" tap1 >"$T/err" 2>&1 || code=$?
        same "$code" 1
        "#,
    );
}

#[test]
fn usage_errors_are_told_on_stderr_with_the_usage_on_stdout() {
    let directory = directory();
    let run = |args: &[&str]| {
        Command::new(directory.join("slirp4netns"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("it starts")
    };
    for (args, message) in [
        (&["--cidr", "24", "1"][..], "invalid CIDR: 24\n"),
        (&["-m", "0", "1"], "MTU must be a positive integer (< 65522)\n"),
        (&["--frob"], "unrecognized option \"--frob\"\n"),
        (&[], "PID, PATH or FD is missing\n"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), message);
        assert!(output.stdout.starts_with(b"Usage: slirp4netns "), "{args:?}");
    }
    let output = run(&["--help"]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let output = run(&["-v"]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    assert!(output.stdout.starts_with(b"slirp4netns version "));
    drop(std::fs::remove_dir_all(&directory));
}

#[test]
fn fifteen_hundred_one_shot_datagrams_are_answered_with_few_descriptors() {
    passes(
        r#"
        container
        cat >"$T/echo.py" <<'EOF'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 8053))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
while True:
    data, peer = s.recvfrom(512); s.sendto(data, peer)
EOF
        python3 "$T/echo.py" &
        bound() { ss -Huln "sport = :8053" | grep -q .; }
        eventually bound
        ulimit -n 1024
        start -c "$C" tap0
        cat >"$T/ask.py" <<'EOF'
import socket, sys
missing = 0
for number in range(1500):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
    s.sendto(b"%d" % number, ("10.0.2.2", 8053))
    try:
        assert s.recv(512) == b"%d" % number
    except TimeoutError:
        missing += 1
        if missing > 5: break
    s.close()
sys.exit(f"{missing} of {number + 1} without an answer" if missing else 0)
EOF
        in_ python3 "$T/ask.py" || fail "queries were lost"
        same "$(ask 10.0.2.2 8053 in_)" q
        "#,
    );
}

#[test]
fn a_published_port_takes_150_connections_a_second_with_few_descriptors() {
    passes(
        r#"
        container
        ulimit -n 1024
        start -c --disable-host-loopback -a "$T/api" "$C" tap0
        cat >"$T/serve.py" <<'EOF'
import socket
s = socket.create_server(("0.0.0.0", 80), backlog=300)
while True:
    c, _ = s.accept(); c.sendall(b"served"); c.close()
EOF
        in_ python3 "$T/serve.py" & eventually in_busy 80
        api '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":8080,"guest_port":80}}' >/dev/null
        python3 - <<'EOF' || fail "connections failed"
import socket, time
begin, slow = time.monotonic(), 0
for number in range(150 * 30):
    time.sleep(max(0, begin + number / 150 - time.monotonic()))
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", 8080), 30) as s:
        assert s.recv(100) == b"served", number
    slow += time.monotonic() - start > 3
# A machine that is busy makes some slow; who waits for a descriptor is one of many.
assert slow < 15, slow
EOF
        "#,
    );
}
