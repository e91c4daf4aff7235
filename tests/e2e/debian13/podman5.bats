#!/usr/bin/env bats
# Rootless Podman 5 with rnsnet as its pasta: vendor-config/podman/50-rnsnet-pasta.conf with the
# folder of the link to the program under test.

load ../common
load ../podman

setup_file() {
    settings 50-rnsnet-pasta.conf /usr/lib/rnsnet "$E2E/helpers"
    podman_here
}

teardown() { podman_gone; }

# In the place of those of slirp4netns.
helpers() { pgrep -u "$(id -u)" -f "^$E2E/helpers/pasta " || true; }

# A container that says who calls: TCP port 80, UDP port 53. Arguments as podman run.
who() {
    podman run --detach --name who "$@" bb sh -c '
        socat UDP6-LISTEN:53,ipv6only=0,fork SYSTEM:"read line; echo \$SOCAT_PEERADDR" &
        socat -t 30 TCP6-LISTEN:80,ipv6only=0,fork SYSTEM:"echo \$SOCAT_PEERADDR"'
    eventually podman exec who sh -c 'grep -q ":0050 " /proc/net/tcp6 && grep -q ":0035 " /proc/net/udp6'
}

# An IPv6 address as socat writes it.
v6() { sed 's/[][]//g' <<<"$1" | sed 's/^0000:0000:0000:0000:0000:ffff:/::ffff:/'; }

@test "podman info shows the program" {
    has "$(podman info --format '{{.Host.Pasta.Executable}}')" "$E2E/helpers/pasta"
    has "$(podman info --format '{{.Host.Pasta.Version}}')" "rnsnet"
    same "$(podman info --format '{{.Host.RootlessNetworkCmd}}')" pasta
}

@test "by default a container has the host's addresses, names and a way out" {
    run podman run --rm --cap-add NET_RAW bb sh -c '
        ip addr; ip route; cat /etc/resolv.conf; nc 192.0.2.9 7; nslookup a.test 169.254.1.1
        ping -c 1 192.0.2.9'
    echo "$output"
    has "$output" "inet 192.0.2.1/24"
    has "$output" "inet6 2001:db8:5::1/64"
    has "$output" "default via 192.0.2.9"
    has "$output" "nameserver 169.254.1.1"
    has "$output" "Address: 192.0.2.9"
    has "$output" " 0% packet loss"
    same "$(grep -cx 192.0.2.1 <<<"$output")" 1
    [ "$status" = 0 ]
    eventually no_helpers
}

@test "IPv6 leads out too" {
    ipv6_leads_out
}

@test "the host is at host.containers.internal, and its loopback is closed" {
    socat -t 30 TCP4-LISTEN:18090,bind=192.0.2.1,reuseaddr,fork SYSTEM:'echo here' &
    open=$!
    socat -t 30 TCP4-LISTEN:18091,bind=127.0.0.1,reuseaddr,fork SYSTEM:'echo closed' &
    closed=$!
    eventually listens 18090
    eventually listens 18091
    run podman run --rm bb sh -c '
        grep host.containers.internal /etc/hosts
        nc host.containers.internal 18090
        for address in 127.0.0.1 192.0.2.1 192.0.2.9 169.254.1.1 169.254.1.2; do
            nc -w 2 $address 18091
        done'
    kill "$open" "$closed"
    has "$output" "169.254.1.2"
    has "$output" "here"
    case "$output" in *closed*) false ;; esac
}

@test "the helper ends with its container" {
    podman run --detach --name one bb sleep 100
    [ -n "$(helpers)" ]
    podman kill one
    eventually no_helpers
    # Started before the namespace is cleared away, it may have no helper.
    eventually no_namespaces
    podman start one
    [ -n "$(helpers)" ]
    podman stop --time 1 one
    eventually no_helpers
    podman rm one
}

@test "published ports, TCP and UDP, keep the client's address" {
    who -p 18080:80 -p 18053:53/udp
    same "$(tcp 192.0.2.9 18080)" "[0000:0000:0000:0000:0000:ffff:c000:0209]"
    same "$(tcp 127.0.0.1 18080)" "[0000:0000:0000:0000:0000:ffff:c000:0209]"
    same "$(tcp 192.0.2.1 18080)" "[0000:0000:0000:0000:0000:ffff:a9fe:0102]"
    same "$(udp 127.0.0.1 18053)" "[0000:0000:0000:0000:0000:ffff:c000:0209]"
    same "$(udp 192.0.2.1 18053)" "[0000:0000:0000:0000:0000:ffff:a9fe:0102]"
    has "$(podman port who)" "80/tcp -> 0.0.0.0:18080"
    podman rm --force --time 0 who
    ! tcp 127.0.0.1 18080
}

@test "published ports of one address, of IPv6 and in ranges" {
    ports_in_a_range -p '[::1]:18106:80' -p '[::]:18107:80' -p 18107:80 -p 127.0.0.1:18107:80
    same "$(tcp '[::1]' 18106)" "port 80"
    same "$(tcp '[::1]' 18107)" "port 80"
    same "$(tcp 127.0.0.1 18107)" "port 80"
}

@test "a port that is taken is an error that says so" {
    a_port_that_is_taken "pasta failed with exit code 1"
    has "$output" 18110
}

@test "options of --network pasta" {
    socat -t 30 TCP4-LISTEN:18091,bind=127.0.0.1,reuseaddr,fork SYSTEM:'echo from $SOCAT_PEERADDR' &
    listener=$!
    eventually listens 18091
    options=--ipv4-only,-a,10.0.2.100,-n,24,-g,10.0.2.2,--dns-forward,10.0.2.3,-m,1500,-I,net0
    options=$options,--no-ndp,--no-dhcpv6,--no-dhcp
    run podman run --rm --network "pasta:$options" bb sh -c \
        'ip addr; cat /etc/resolv.conf; nc 192.0.2.9 7; nslookup a.test 10.0.2.3; nc -w 2 10.0.2.2 18091'
    has "$output" "inet 10.0.2.100/24"
    has "$output" "net0: "
    has "$output" "mtu 1500 "
    has "$output" "nameserver 10.0.2.3"
    has "$output" "Address: 192.0.2.9"
    same "$(grep -cx 192.0.2.1 <<<"$output")" 1
    case "$output" in *inet6\ 2001* | *from*) false ;; esac
    run podman run --rm --network pasta:--map-gw bb nc 192.0.2.9 18091
    has "$output" "from 127.0.0.1"
    run podman run --rm --network pasta:-T,18091 bb nc 127.0.0.1 18091
    has "$output" "from 127.0.0.1"
    # Podman adds addresses of IPv4 all the same.
    run podman run --rm --network pasta:--ipv6-only bb nc 2001:db8:5::9 7
    has "$output" "2001:0db8:0005:0000:0000:0000:0000:0001"
    run podman run --rm --network pasta:--no-such-option bb true
    [ "$status" != 0 ]
    has "$output" "no-such-option"
    kill "$listener"
}

@test "ports follow the container with --network pasta:-t,auto" {
    podman run --detach --name auto --network pasta:-t,auto bb sh -c 'socat -t 30 TCP4-LISTEN:18140,fork SYSTEM:"echo followed"'
    answers() { [ "$(tcp 192.0.2.1 18140)" = followed ]; }
    eventually answers
}

# The line of podman-run(1).
@test "ports follow both ways with --network pasta:-t,auto,-u,auto,-T,auto,-U,auto" {
    socat -t 30 TCP4-LISTEN:18091,bind=127.0.0.1,reuseaddr,fork SYSTEM:'echo outside' 3>&- &
    listener=$!
    podman run --detach --name auto --network pasta:-t,auto,-u,auto,-T,auto,-U,auto bb \
        sh -c 'socat -t 30 TCP4-LISTEN:18140,fork SYSTEM:"echo inside"'
    inside() { [ "$(tcp 127.0.0.1 18140)" = inside ]; }
    eventually inside
    outside() { podman exec auto nc 127.0.0.1 18091 | grep -qx outside; }
    eventually outside
    kill "$listener"
    podman rm --force --time 0 auto
    eventually no_helpers
}

@test "a server on the container's own loopback, with --network pasta:--host-lo-to-ns-lo" {
    podman run --detach --name local --network pasta:--host-lo-to-ns-lo -p 18141:80 bb \
        socat -t 30 TCP4-LISTEN:80,bind=127.0.0.1,fork SYSTEM:'echo \$SOCAT_PEERADDR'
    answers() { [ "$(tcp 127.0.0.1 18141)" = 127.0.0.1 ]; }
    eventually answers
    ! tcp 192.0.2.9 18141 || return 1
}

@test "user namespaces of other kinds: keep-id and auto" {
    other_user_namespaces 192.0.2.1/24
}

@test "containers of a bridge network know each other and the world by name" {
    a_bridge_network 169.254.1.2
}

@test "the containers of a pod share a network" {
    a_pod
}

@test "podman build" {
    a_build 192.0.2.1/24
}

@test "rnsnet as Podman 5's slirp4netns" {
    run podman --network-cmd-path "$E2E/bin/rnsnet" run --rm --network slirp4netns bb ip addr
    has "$output" "inet 10.0.2.100/24"
}
