#!/usr/bin/env bats
# RootlessKit 1.1 with rnsnet as its slirp4netns: what rootless Docker starts.

load common

teardown() {
    [ -z "${kit:-}" ] || kill "$kit" || true
    eventually no_helpers
    rm -rf "$HOME/kit" "$HOME/out"
}

# kit OPTION... -- COMMAND: RootlessKit in the background, its pid in $kit
kit() {
    rootlesskit --state-dir "$HOME/kit" --net slirp4netns --disable-host-loopback \
        --slirp4netns-binary "$E2E/bin/slirp4netns" --copy-up /etc "$@" >"$HOME/out" 2>&1 &
    kit=$!
}
ready() { [ -S "$HOME/kit/api.sock" ]; }
control() { rootlessctl --socket "$HOME/kit/api.sock" "$@"; }
inside() {
    nsenter -t "$(cat "$HOME/kit/child_pid")" -U --preserve-credentials -m -n "$@"
}
served() { [ "$(tcp 127.0.0.1 18080)" = served ]; }

@test "a command has addresses, names and a way out" {
    run rootlesskit --net slirp4netns --disable-host-loopback --mtu 65520 --copy-up /etc \
        --slirp4netns-binary "$E2E/bin/slirp4netns" \
        sh -c 'ip addr show tap0; cat /etc/resolv.conf; socat -t 30 - TCP:192.0.2.9:7; socat -u TCP:a.test:7 -'
    has "$output" "mtu 65520 "
    has "$output" "inet 10.0.2.100/24"
    has "$output" "nameserver 10.0.2.3"
    same "$(grep -cx 192.0.2.1 <<<"$output")" 2
    [ "$status" = 0 ]
    eventually no_helpers
}

@test "cidr, interface name, IPv6, sandbox and seccomp" {
    run timeout 90 rootlesskit --net slirp4netns --disable-host-loopback --mtu 1500 --cidr 10.9.8.0/24 \
        --ifname eth9 --ipv6 --slirp4netns-sandbox true --slirp4netns-seccomp true --copy-up /etc \
        --slirp4netns-binary "$E2E/bin/slirp4netns" \
        sh -c 'ip addr show eth9; socat -t 30 - TCP:192.0.2.9:7
            until ip -6 addr show eth9 scope global -tentative | grep fd00::; do sleep 0.1; done
            socat -t 30 - TCP6:[2001:db8:5::9]:7'
    has "$output" "inet 10.9.8.100/24"
    has "$output" "192.0.2.1"
    has "$output" "inet6 fd00::"
    has "$output" "2001:0db8:0005:0000:0000:0000:0000:0001"
    eventually no_helpers
}

@test "ports by the helper, on the command line and on request" {
    kit --port-driver slirp4netns -p 127.0.0.1:18080:80/tcp -p 127.0.0.1:18053:53/udp \
        sh -c "socat UDP4-LISTEN:53,fork SYSTEM:'read line; echo \$SOCAT_PEERADDR' &
            socat -t 30 TCP4-LISTEN:81,fork SYSTEM:'echo \$SOCAT_PEERADDR' &
            socat -t 30 TCP4-LISTEN:80,fork SYSTEM:'echo served'"
    eventually served
    # The others may not be as far as that.
    asked() { [ "$(udp 127.0.0.1 18053)" = 10.0.2.2 ]; }
    eventually asked
    by_81() { inside ss -Hltn 'sport = :81' | grep -q .; }
    eventually by_81
    id="$(control add-ports 0.0.0.0:18081:81/tcp)"
    same "$(tcp 127.0.0.1 18081)" 10.0.2.2
    same "$(tcp 192.0.2.1 18081)" 192.0.2.1
    has "$(control list-ports)" 18081
    control remove-ports "$id"
    ! tcp 127.0.0.1 18081
}

@test "ports by RootlessKit's own forwarder" {
    kit --port-driver builtin -p 127.0.0.1:18080:80/tcp \
        socat -t 30 TCP4-LISTEN:80,fork SYSTEM:'echo served'
    eventually served
}

@test "under rnsnet's own name too, as --disable-host-loopback gives it away" {
    run rootlesskit --net slirp4netns --disable-host-loopback --copy-up /etc \
        --slirp4netns-binary "$E2E/bin/rnsnet" socat -t 30 - TCP:192.0.2.9:7
    has "$output" "192.0.2.1"
}

@test "the helper ends when RootlessKit is killed" {
    kit --port-driver slirp4netns sleep 100
    eventually ready
    [ -n "$(helpers)" ]
    kill -KILL "$kit"
    kit=
    eventually no_helpers
}
