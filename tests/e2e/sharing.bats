#!/usr/bin/env bats
# One network of several users: members of a group attach their own containers, nobody else does.
#
# The users are subordinate ids of the one that runs the tests, in a user namespace where that one is
# root: 1001, 1002 and 1004 are in group 500, 1003 is not.

load common

setup_file() {
    unshare --user --map-root-user --map-auto sleep 1000 3>&- &
    echo $! >"$HOME/realm"
    realm=$!
    eventually is_mapped
    nsenter -t "$realm" -U sh -c 'for user in 1001 1002 1003 1004; do
        mkdir -p "$HOME/$user/run"
        chown -R "$user:$user" "$HOME/$user"
        chmod 700 "$HOME/$user/run"
    done'
}

teardown_file() {
    kill "$(cat "$HOME/realm")"
}

setup() {
    realm=$(cat "$HOME/realm")
    pids=
}

teardown() {
    as 1001 rnsnet network rm --force shared
    nsenter -t "$realm" -U sh -c "kill $pids || true; rm -rf /tmp/rnsnet-shared-$(outer 1001) \
        /tmp/rnsnet-shared-$(outer 1004) $HOME/*/pid"
}

is_mapped() { [ "$(wc -l <"/proc/$realm/uid_map")" -gt 1 ]; }

# What a user of the tests is called outside.
outer() { awk -v uid="$1" '$1 <= uid && uid < $1 + $3 { print $2 + uid - $1 }' "/proc/$realm/uid_map"; }

# as USER COMMAND...
as() {
    local user="$1" groups="$1,500"
    shift
    [ "$user" != 1003 ] || groups=1003
    nsenter -t "$realm" -U setpriv --reuid "$user" --regid "$user" --groups "$groups" \
        env "HOME=$HOME/$user" "XDG_RUNTIME_DIR=$HOME/$user/run" "$@" 3>&-
}

# A container of USER, its pid in $pid.
container() {
    as "$1" rm -f "$HOME/$1/pid"
    as "$1" unshare --user --map-root-user --net \
        sh -c 'echo $$ >"$HOME/pid.new"; mv "$HOME/pid.new" "$HOME/pid"; exec sleep 1000' &
    eventually test -s "$HOME/$1/pid"
    pid=$(cat "$HOME/$1/pid")
    pids="$pids $pid"
}

@test "two users of a group share a network, and a third is kept out" {
    owner=$(outer 1001)
    as 1002 rnsnet events --format '{{.Action}} {{.Network}} {{.Name}}' >"$HOME/told" 3>&- &
    pids="$pids $!"
    as 1001 rnsnet network create --group 500 shared
    container 1002
    as 1002 rnsnet -d --network "$owner/shared" --name two "$pid"
    container 1001
    as 1001 rnsnet -d --network shared --name one "$pid"
    # Whoever has a container there hears what happens, from the day on which it joins.
    for told in "connect shared two" "connect shared one"; do
        eventually grep -qx "$told" "$HOME/told"
    done
    run as 1002 rnsnet run --network "$owner/shared" -- ping -c 1 -W 20 one
    has "$output" " 0% packet loss"
    run as 1001 rnsnet run --network shared -- ping -c 1 -W 20 two
    has "$output" " 0% packet loss"

    container 1003
    run as 1003 rnsnet -d --network "$owner/shared" --name three "$pid"
    [ "$status" = 1 ]
    has "${output,,}" "permission denied"
    run as 1003 rnsnet network inspect "$owner/shared"
    has "${output,,}" "permission denied"
    run as 1003 rnsnet network create --group 500 mine
    [ "$status" = 1 ]
    has "$output" "permission denied: you are not in the group 500"
    run nsenter -t "$realm" -U env "HOME=$HOME/root" rnsnet network create --group 4000000000 mine
    [ "$status" = 1 ]
    same "$output" "rnsnet: the group 4000000000 is not in this user namespace"

    # Everybody of the group sees who is there.
    names='{{range .Containers}}{{.Name}} {{end}}'
    run as 1002 rnsnet network inspect --format "$names" "$owner/shared"
    has "$output" one
    has "$output" two
    run as 1002 rnsnet ps --format '{{.Name}}'
    has "$output" two
}

@test "a member of the group has a say in its own containers alone" {
    owner=$(outer 1001)
    as 1001 rnsnet network create --group 500 shared
    container 1001
    as 1001 rnsnet -d --network shared --name one "$pid"
    as 1001 rnsnet dns add shared printer 192.0.2.9
    as 1001 rnsnet publish @shared/web 8091:80
    for name in printer web localhost www.test; do
        container 1002
        run as 1002 rnsnet -d --network "$owner/shared:alias=$name" "$pid"
        [ "$status" = 1 ]
        has "$output" "permission denied: the name $name is another's"
    done
    as 1002 rnsnet -d --network "$owner/shared" --name two -p 8092:80 "$pid"
    has "$(as 1002 rnsnet port two)" "80/tcp -> 0.0.0.0:8092"
    for verb in "detach one" "publish one 8093:80" "publish @shared/two 8093:80"; do
        run as 1002 rnsnet $verb
        [ "$status" != 0 ]
    done
    run as 1002 rnsnet detach one
    has "$output" "permission denied: detach with one is for its owner"
    run as 1002 rnsnet capture one -w "$HOME/1002/frames"
    has "$output" "permission denied"
    run as 1002 rnsnet network disconnect "$owner/shared" one
    has "$output" "permission denied"
    # How fast it is, is the owner's to say.
    run as 1002 rnsnet update --rate 1gbit two
    has "$output" "permission denied: rate with two is for the network's owner"
    container 1002
    run as 1002 rnsnet -d --network "$owner/shared" --rate 1gbit "$pid"
    has "$output" "permission denied: a rate is for the network's owner to say"
    as 1001 rnsnet update --rate 1mbit two
    same "$(as 1002 rnsnet inspect -f '{{.NetworkSettings.Rate}}' two)" "down=1mbit,up=1mbit"
    # The other one's name cannot be had, by either.
    container 1002
    run as 1002 rnsnet -d --network "$owner/shared" --name one "$pid"
    [ "$status" = 1 ]
    run as 1002 rnsnet -d --network "$owner/shared:alias=ONE" "$pid"
    has "$output" "permission denied: the name one is another's"
    container 1001
    run as 1001 rnsnet -d --network "shared:alias=two" "$pid"
    has "$output" "permission denied: the name two is another's"
    as 1002 rnsnet unpublish two 8092:80
    as 1002 rnsnet network disconnect "$owner/shared" two
    # The owner may remove anybody.
    container 1002
    as 1002 rnsnet -d --network "$owner/shared" --name two "$pid"
    as 1001 rnsnet detach two
    run nsenter -t "$realm" -U nsenter -t "$pid" -n ip -br link
    [[ "$output" != *eth0* ]]
}

@test "a shared network's process waits for others, and is started again by its owner" {
    owner=$(outer 1001)
    as 1001 rnsnet network create --group 500 shared
    sockets=/tmp/rnsnet-shared-$owner
    same "$(as 1001 stat -c %a "$sockets" "$sockets/shared" "$sockets/shared/control.sock" | xargs)" "711 710 660"
    process=$(echo '{"version":1,"execute":"info"}' |
        as 1001 socat -t 5 - "UNIX-CONNECT:$sockets/shared/control.sock" | jq .return.process)
    nsenter -t "$realm" -U kill -9 "$process"
    container 1002
    eventually is_not_served
    run as 1002 rnsnet -d --network "$owner/shared" "$pid"
    [ "$status" = 1 ]
    has "$output" "the network $owner/shared is not served"
    as 1001 rnsnet network start shared
    as 1002 rnsnet -d --network "$owner/shared" "$pid"
}

@test "who joins again is told of on a network that was killed, too" {
    owner=$(outer 1001)
    as 1001 rnsnet network create --group 500 shared
    container 1002
    as 1002 rnsnet -d --network "$owner/shared" --name two "$pid"
    as 1002 rnsnet events --since 1h --format '{{.Action}} {{.Name}}' >"$HOME/told" 3>&- &
    pids="$pids $!"
    eventually grep -qx "connect two" "$HOME/told"
    process=$(echo '{"version":1,"execute":"info"}' |
        as 1001 socat -t 5 - "UNIX-CONNECT:/tmp/rnsnet-shared-$owner/shared/control.sock" | jq .return.process)
    nsenter -t "$realm" -U kill -9 "$process"
    eventually grep -qx "disconnect two" "$HOME/told"
    as 1001 rnsnet network start shared
    container 1002
    as 1002 rnsnet -d --network "$owner/shared" --name again "$pid"
    eventually grep -qx "connect again" "$HOME/told"
}

# In a container of a member: `member.py SOCKET null` sends a descriptor of something else as its TAP,
# `member.py SOCKET wait` one that it makes wait once it is served.
write_member() {
    cat >"$HOME/member.py" <<'END'
import fcntl, json, os, socket, struct, subprocess, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
def ask(execute, fds=(), **arguments):
    line = json.dumps({"version": 1, "execute": execute, "arguments": arguments}) + "\n"
    socket.send_fds(s, [line.encode()], list(fds))
    return s.recv(65536)
def attach(fd):
    return ask("attach", [fd], id="1" * 64, vnet_header=True, ipv6=False, ifname="eth0")
lease = json.loads(ask("lease", name="m"))["return"]
if sys.argv[2] == "null":
    sys.exit(attach(os.open("/dev/null", os.O_RDWR)) != b"")
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x5002))
assert b"return" in attach(tap)
fcntl.fcntl(tap, fcntl.F_SETFL, fcntl.fcntl(tap, fcntl.F_GETFL) & ~os.O_NONBLOCK)
subprocess.check_call(["ip", "link", "set", "eth0", "address", lease["mac"], "up"])
subprocess.check_call(["ip", "addr", "add", lease["ipv4"] + "/24", "dev", "eth0"])
print(subprocess.call(["ping", "-c", "3", "-i", "0.2", "-W", "5", "10.89.0.1"], stdout=2), flush=True)
END
}

@test "a member that wants to stop the network stops nobody" {
    owner=$(outer 1001)
    as 1001 rnsnet network create --group 500 shared
    container 1001
    as 1001 rnsnet -d --network shared --name one "$pid"
    write_member
    member() {
        as 1002 timeout 60 unshare --user --map-root-user --net \
            python3 "$HOME/member.py" "/tmp/rnsnet-shared-$owner/shared/control.sock" "$1"
    }
    member null
    same "$(as 1001 rnsnet ps --format '{{.Name}}')" one
    same "$(member wait)" 0
    as 1001 rnsnet detach m
    # Again and again, and nobody but the owner is let in any more.
    for _ in $(seq 70); do
        member null || break
    done
    run member null
    [ "$status" != 0 ]
    same "$(as 1001 rnsnet ps --format '{{.Name}}')" one
}

# A member on a kernel without pidfds, or in a container whose engine forbids them.
@test "without pidfds a member is told so, and shuts nobody out" {
    owner=$(outer 1001)
    as 1001 rnsnet network create --group 500 shared
    cat >"$HOME/old.py" <<'END'
import ctypes, errno, os, struct, sys
op = lambda code, k, t=0, f=0: struct.pack("<HBBI", code, t, f, k)
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
# pidfd_send_signal, pidfd_open
code = b"".join(op(0x20, 0) + op(0x15, call, 0, 1) + op(6, 0x50000 | errno.ENOSYS) for call in (424, 434))
code += op(6, 0x7FFF0000)
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code)), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
END
    container 1002
    for _ in $(seq 70); do
        run as 1002 python3 "$HOME/old.py" rnsnet -d --network "$owner/shared" --name two "$pid"
        [ "$status" = 1 ]
        has "$output" "Linux 5.9 is needed"
    done
    as 1002 rnsnet -d --network "$owner/shared" --name two "$pid"
    same "$(as 1001 rnsnet ps --format '{{.Name}}')" two
}

is_not_served() { ! as 1002 rnsnet network inspect "$owner/shared"; }

@test "a socket in the place of another user's is not trusted" {
    victim=$(outer 1004)
    place=/tmp/rnsnet-shared-$victim
    as 1003 mkdir -p -m 777 "$place/shared"
    as 1003 socat "UNIX-LISTEN:$place/shared/control.sock,mode=666,fork" PIPE &
    eventually test -S "$place/shared/control.sock"
    container 1002
    run as 1002 rnsnet -d --network "$victim/shared" "$pid"
    pids="$pids $(nsenter -t "$realm" -U pgrep -f "^socat UNIX-LISTEN:$place" | xargs)"
    [ "$status" = 1 ]
    has "$output" "the socket of $victim/shared is not its owner's"
    # The victim cannot have that directory, and says so instead of sharing it.
    run as 1004 rnsnet network create --group 500 shared
    [ "$status" = 1 ]
    has "$output" "$place belongs to somebody else"
    run as 1004 rnsnet network exists shared
    [ "$status" = 1 ]
}
