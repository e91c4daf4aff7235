#!/usr/bin/env bats
# Rootless Podman 4 with rnsnet as its slirp4netns: vendor-config/podman/50-rnsnet.conf with the
# path of the program under test.

load common

setup_file() {
    mkdir -p "$HOME/.config/containers/containers.conf.d"
    sed "s,/usr/bin/rnsnet,$E2E/bin/rnsnet," "$E2E/vendor-config/podman/50-rnsnet.conf" \
        >"$HOME/.config/containers/containers.conf.d/50-rnsnet.conf"
    # Not about networks: what these machines need.
    printf '%s\n' '[engine]' 'runtime="runc"' 'cgroup_manager="cgroupfs"' 'events_logger="file"' \
        >"$HOME/.config/containers/containers.conf.d/00-machine.conf"
    make_image "$HOME/bb.tar"
    podman image exists bb || podman import "$HOME/bb.tar" bb:latest
}

teardown() {
    podman rm --force --all --time 0
    podman network prune --force
}

# Podman has taken away what a container's end leaves.
no_namespaces() { ! compgen -G "$XDG_RUNTIME_DIR/netns/netns-*"; }

# A container that says who calls: TCP port 80, UDP port 53. Arguments as podman run.
who() {
    podman run --detach --name who "$@" bb sh -c '
        socat UDP4-LISTEN:53,fork SYSTEM:"read line; echo \$SOCAT_PEERADDR" &
        socat TCP4-LISTEN:80,fork SYSTEM:"echo \$SOCAT_PEERADDR"'
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
    run podman run --rm bb nc 2001:db8:5::9 7
    has "$output" "2001:0db8:0005:0000:0000:0000:0000:0001"
}

@test "the host's loopback is closed and its own address is not" {
    socat TCP-LISTEN:18090,reuseaddr,fork SYSTEM:'echo here' &
    listener=$!
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
        podman run --detach --name range --network "slirp4netns:port_handler=$handler" \
            -p 127.0.0.1:18100-18102:80-82 bb sh -c '
            for port in 80 81 82; do socat TCP4-LISTEN:$port,fork "SYSTEM:echo port $port" & done; sleep 100'
        for port in 0 1 2; do
            answers() { [ "$(tcp 127.0.0.1 1810$port)" = "port 8$port" ]; }
            eventually answers
        done
        podman rm --force --time 0 range
    done
    podman run --detach --name six --network slirp4netns:port_handler=slirp4netns \
        -p '[::1]:18106:80' bb socat TCP4-LISTEN:80,fork SYSTEM:"echo six"
    six() { [ "$(timeout 5 socat -t 5 - 'TCP6:[::1]:18106' </dev/null)" = six ]; }
    eventually six
}

@test "a port that is taken is an error that says so" {
    socat TCP-LISTEN:18110,bind=127.0.0.1,reuseaddr - &
    listener=$!
    run podman run --rm --network slirp4netns:port_handler=slirp4netns -p 127.0.0.1:18110:80 bb true
    kill "$listener" || true
    [ "$status" != 0 ]
    has "$output" "slirp_add_hostfwd failed"
    has "$output" "in use"
    eventually no_helpers
}

@test "cidr, mtu, IPv4 only, outbound_addr and allow_host_loopback" {
    socat TCP-LISTEN:18091,bind=127.0.0.1,reuseaddr,fork SYSTEM:'echo from $SOCAT_PEERADDR' &
    listener=$!
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
    for userns in keep-id auto; do
        run podman run --rm --userns "$userns" bb sh -c 'ip addr; nc 192.0.2.9 7'
        has "$output" "inet 10.0.2.100/24"
        has "$output" "192.0.2.1"
    done
}

@test "containers of a bridge network know each other and the world by name" {
    podman network create here
    podman run --detach --name server --network here -p 127.0.0.1:18120:80 bb \
        socat TCP4-LISTEN:80,fork SYSTEM:"echo served"
    answers() { [ "$(tcp 127.0.0.1 18120)" = served ]; }
    eventually answers
    run podman run --rm --network here bb sh -c \
        'nc server 80; nslookup a.test; nc 192.0.2.9 7'
    has "$output" "served"
    has "$output" "Address: 192.0.2.9"
    has "$output" "192.0.2.1"
    same "$(helpers | wc -l)" 1
    podman rm --force --all --time 0
    eventually no_helpers
}

@test "the containers of a pod share a network" {
    podman pod create --name pod -p 127.0.0.1:18130:80
    podman run --detach --pod pod bb socat TCP4-LISTEN:80,fork SYSTEM:"echo pod"
    answers() { [ "$(tcp 127.0.0.1 18130)" = pod ]; }
    eventually answers
    has "$(podman run --rm --pod pod bb nc 127.0.0.1 80)" pod
    podman pod rm --force --time 0 pod
    eventually no_helpers
}

@test "podman build, which calls slirp4netns by its name" {
    printf '%s\n' 'FROM bb' 'RUN ip addr && nc 192.0.2.9 7' >"$HOME/Containerfile"
    run podman build --no-cache --format oci -f "$HOME/Containerfile" "$HOME/.config"
    has "$output" "inet 10.0.2.100/24"
    has "$output" "192.0.2.1"
    eventually no_helpers
}

@test "a program of that name is found without configuration" {
    CONTAINERS_CONF=/dev/null run podman --runtime runc --cgroup-manager cgroupfs \
        --events-backend file run --rm bb ip addr
    has "$output" "inet 10.0.2.100/24"
    eventually no_helpers
}
