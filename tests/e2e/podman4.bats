#!/usr/bin/env bats
# Rootless Podman 4 with rnsnet as its slirp4netns: vendor-config/podman/50-rnsnet.conf with the
# path of the program under test.

load common
load podman

setup_file() {
    settings 50-rnsnet.conf /usr/bin/rnsnet "$E2E/bin/rnsnet"
    podman_here
}

teardown() { podman_gone; }

# A container that says who calls: TCP port 80, UDP port 53. Arguments as podman run.
who() {
    podman run --detach --name who "$@" bb sh -c '
        socat UDP4-LISTEN:53,fork SYSTEM:"read line; echo \$SOCAT_PEERADDR" &
        socat -t 30 TCP4-LISTEN:80,fork SYSTEM:"echo \$SOCAT_PEERADDR"'
    eventually podman exec who sh -c 'grep -q ":0050 " /proc/net/tcp && grep -q ":0035 " /proc/net/udp'
}

@test "podman info shows the program" {
    has "$(podman info --format '{{.Host.Slirp4NetNS.Executable}}')" "$E2E/bin/rnsnet"
    has "$(podman info --format '{{.Host.Slirp4NetNS.Version}}')" "rnsnet"
}

@test "by default a container has addresses, names and a way out" {
    run podman run --rm --cap-add NET_RAW bb sh -c 'ip addr; cat /etc/resolv.conf; nc 192.0.2.9 7; nslookup a.test 10.0.2.3; ping -c 1 192.0.2.9'
    has "$output" "inet 10.0.2.100/24"
    has "$output" "inet6 fd00::"
    has "$output" "nameserver 10.0.2.3"
    has "$output" "192.0.2.1"
    has "$output" "Address: 192.0.2.9"
    has "$output" " 0% packet loss"
    [ "$status" = 0 ]
}

@test "IPv6 leads out too" {
    ipv6_leads_out
}

@test "the host's loopback is closed and its own address is not" {
    socat -t 30 TCP-LISTEN:18090,reuseaddr,fork SYSTEM:'echo here' &
    listener=$!
    eventually listens 18090
    run podman run --rm bb sh -c 'nc 10.0.2.2 18090; nc 127.0.0.1 18090; nc 192.0.2.1 18090'
    kill "$listener"
    same "$(grep -c here <<<"$output")" 1
}

@test "the helper ends with its container" {
    podman run --detach --name one bb sleep 100
    [ -n "$(helpers)" ]
    podman kill one
    eventually no_helpers
    # Podman 4 starts a container without a helper while it has yet to clear the namespace away.
    eventually no_namespaces
    podman start one
    [ -n "$(helpers)" ]
    podman rm --force --time 0 one
    eventually no_helpers
}

@test "ports by podman's own forwarder" {
    who -p 127.0.0.1:18080:80 -p 127.0.0.1:18053:53/udp
    same "$(tcp 127.0.0.1 18080)" 10.0.2.100
    same "$(udp 127.0.0.1 18053)" 10.0.2.100
}

@test "ports by the helper keep the client's address" {
    who --network slirp4netns:port_handler=slirp4netns -p 18080:80 -p 18053:53/udp
    same "$(tcp 127.0.0.1 18080)" 10.0.2.2
    same "$(tcp 192.0.2.1 18080)" 192.0.2.1
    # By way of the LAN.
    same "$(tcp 192.0.2.9 18080)" 192.0.2.9
    # slirp4netns loses this answer, as the loopback is disabled.
    same "$(udp 127.0.0.1 18053)" 10.0.2.2
    same "$(udp 192.0.2.1 18053)" 192.0.2.1
    podman port who
    podman rm --force --time 0 who
    ! tcp 127.0.0.1 18080
}

@test "a range of ports by either forwarder, and one that is bound to IPv6" {
    for handler in rootlesskit slirp4netns; do
        ports_in_a_range --network "slirp4netns:port_handler=$handler"
        podman rm --force --time 0 range
    done
    podman run --detach --name six --network slirp4netns:port_handler=slirp4netns \
        -p '[::1]:18106:80' bb socat -t 30 TCP4-LISTEN:80,fork SYSTEM:"echo six"
    six() { [ "$(tcp '[::1]' 18106)" = six ]; }
    eventually six
}

@test "a port that is taken is an error that says so" {
    a_port_that_is_taken "slirp_add_hostfwd failed" \
        --network slirp4netns:port_handler=slirp4netns
}

@test "cidr, mtu, IPv4 only, outbound_addr and allow_host_loopback" {
    socat -t 30 TCP-LISTEN:18091,bind=127.0.0.1,reuseaddr,fork SYSTEM:'echo from $SOCAT_PEERADDR' &
    listener=$!
    eventually listens 18091
    options=mtu=1400,cidr=10.77.0.0/24,allow_host_loopback=true,enable_ipv6=false
    run podman run --rm --network "slirp4netns:$options" bb sh -c \
        'ip addr; nc 10.77.0.2 18091; nslookup a.test 10.77.0.3'
    has "$output" "inet 10.77.0.100/24"
    has "$output" "mtu 1400 "
    has "$output" "from 127.0.0.1"
    has "$output" "Address: 192.0.2.9"
    case "$output" in *fd00:*) false ;; esac
    run podman run --rm --network "slirp4netns:allow_host_loopback=true,outbound_addr=h0" \
        bb nc 10.0.2.2 18091
    has "$output" "from 192.0.2.1"
    run podman run --rm --network "slirp4netns:outbound_addr6=2001:db8:5::1" bb nc 2001:db8:5::9 7
    has "$output" "2001:0db8:0005:0000:0000:0000:0000:0001"
    kill "$listener"
}

@test "user namespaces of other kinds: keep-id and auto" {
    other_user_namespaces 10.0.2.100/24
}

@test "containers of a bridge network know each other and the world by name" {
    a_bridge_network
}

@test "the containers of a pod share a network" {
    a_pod
}

@test "podman build, which calls slirp4netns by its name" {
    a_build 10.0.2.100/24
}

@test "a program of that name is found without configuration" {
    CONTAINERS_CONF=/dev/null run podman --runtime runc --cgroup-manager cgroupfs \
        --events-backend file run --rm bb ip addr
    has "$output" "inet 10.0.2.100/24"
    eventually no_helpers
}
