#!/usr/bin/env bats
# RootlessKit 2 with rnsnet as its pasta: what rootless Docker starts where there is no slirp4netns.

load ../common

teardown() {
    [ -z "${kit:-}" ] || kill "$kit" || true
    eventually no_pastas
    rm -rf "$HOME/kit" "$HOME/out"
}

pastas() { pgrep -u "$(id -u)" -f "^$E2E/(helpers/pasta|bin/rnsnet) " || true; }
no_pastas() { [ -z "$(pastas)" ]; }

# kit BINARY OPTION... -- COMMAND: RootlessKit in the background, its pid in $kit
kit() {
    local binary="$1"
    shift
    rootlesskit --state-dir "$HOME/kit" --net pasta --pasta-binary "$binary" --disable-host-loopback \
        --copy-up /etc "$@" >"$HOME/out" 2>&1 &
    kit=$!
}
ready() { [ -S "$HOME/kit/api.sock" ]; }
inside() {
    nsenter -t "$(cat "$HOME/kit/child_pid")" -U --preserve-credentials -m -n "$@"
}

@test "a command has addresses, names and a way out" {
    for binary in "$E2E/helpers/pasta" "$E2E/bin/rnsnet"; do
        run timeout 30 rootlesskit --net pasta --pasta-binary "$binary" --disable-host-loopback \
            --mtu 65520 --copy-up /etc sh -c '
                ip addr show tap0; ip route; cat /etc/resolv.conf
                socat -t 30 - TCP:192.0.2.9:7; socat -u TCP:a.test:7 -; socat -T 2 - TCP:10.0.2.2:22'
        echo "$output"
        has "$output" "mtu 65520 "
        has "$output" "inet 10.0.2.100/24"
        has "$output" "default via 10.0.2.2"
        has "$output" "nameserver 10.0.2.3"
        same "$(grep -cx 192.0.2.1 <<<"$output")" 2
        eventually no_pastas
    done
}

@test "the network, its name and its MTU can be chosen" {
    run timeout 30 rootlesskit --net pasta --pasta-binary "$E2E/helpers/pasta" \
        --mtu 1500 --cidr 10.9.8.0/24 --ifname eth9 --copy-up /etc \
        sh -c 'ip addr show eth9; socat -t 30 - TCP:192.0.2.9:7'
    echo "$output"
    has "$output" "mtu 1500 "
    has "$output" "inet 10.9.8.100/24"
    has "$output" "192.0.2.1"
}

@test "ports follow the child with the implicit port driver" {
    kit "$E2E/helpers/pasta" --port-driver implicit \
        socat -t 30 TCP4-LISTEN:18080,fork SYSTEM:'echo $SOCAT_PEERADDR'
    answers() { [ "$(tcp 192.0.2.9 18080)" = 192.0.2.9 ]; }
    eventually answers || { cat "$HOME/out"; false; }
    same "$(tcp 127.0.0.1 18080)" 10.0.2.2
}

@test "a network namespace apart from the child's" {
    ln -sf "$E2E/bin/rnsnet" "$E2E/home/slirp4netns"
    for net in "pasta --pasta-binary $E2E/helpers/pasta" \
        "slirp4netns --slirp4netns-binary $E2E/home/slirp4netns"; do
        # shellcheck disable=SC2086  # a list of words
        run timeout 30 rootlesskit --net $net --disable-host-loopback --detach-netns --copy-up /etc \
            sh -c 'nsenter -n"$ROOTLESSKIT_STATE_DIR/netns" socat -t 30 - TCP:192.0.2.9:7'
        echo "$output"
        has "$output" "192.0.2.1"
        eventually no_pastas
    done
}

@test "the helper ends when RootlessKit is killed" {
    kit "$E2E/helpers/pasta" sleep 100
    eventually ready
    [ -n "$(pastas)" ]
    kill -KILL "$kit"
    kit=
    eventually no_pastas
}
