#!/usr/bin/env bats
# Rootless Podman 5 with rnsnet as its pasta: vendor-config/podman/50-rnsnet-pasta.conf with the
# folder of the link to the program under test.

load ../common

setup_file() {
    mkdir -p "$HOME/.config/containers/containers.conf.d"
    sed "s,\"/usr/lib/rnsnet\",\"$E2E/helpers\"," "$E2E/vendor-config/podman/50-rnsnet-pasta.conf" \
        >"$HOME/.config/containers/containers.conf.d/50-rnsnet-pasta.conf"
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

pastas() { pgrep -u "$(id -u)" -f "^$E2E/helpers/pasta " || true; }
no_pastas() { [ -z "$(pastas)" ]; }

# A container that says who calls: TCP port 80, UDP port 53. Arguments as podman run.
who() {
    podman run --detach --name who "$@" bb sh -c '
        socat UDP6-LISTEN:53,ipv6only=0,fork SYSTEM:"read line; echo \$SOCAT_PEERADDR" &
        socat TCP6-LISTEN:80,ipv6only=0,fork SYSTEM:"echo \$SOCAT_PEERADDR"'
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
    eventually no_pastas
}

@test "IPv6 leads out too" {
    run podman run --rm bb nc 2001:db8:5::9 7
    has "$output" "2001:0db8:0005:0000:0000:0000:0000:0001"
}

@test "the host is at host.containers.internal, and its loopback is closed" {
    socat TCP4-LISTEN:18090,bind=192.0.2.1,reuseaddr,fork SYSTEM:'echo here' &
    open=$!
    socat TCP4-LISTEN:18091,bind=127.0.0.1,reuseaddr,fork SYSTEM:'echo closed' &
    closed=$!
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
    [ -n "$(pastas)" ]
    podman kill one
    eventually no_pastas
    podman start one
    [ -n "$(pastas)" ]
    podman stop --time 1 one
    eventually no_pastas
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
    podman run --detach --name range -p 127.0.0.1:18100-18102:80-82 -p '[::1]:18106:80' bb sh -c '
        for port in 80 81 82; do socat TCP6-LISTEN:$port,ipv6only=0,fork "SYSTEM:echo port $port" & done
        sleep 100'
    for port in 0 1 2; do
        answers() { [ "$(tcp 127.0.0.1 1810$port)" = "port 8$port" ]; }
        eventually answers
    done
    ! tcp 192.0.2.1 18100
    same "$(timeout 5 socat -t 5 - 'TCP6:[::1]:18106' </dev/null)" "port 80"
}

@test "a port that is taken is an error that says so" {
    socat TCP-LISTEN:18110,bind=127.0.0.1,reuseaddr - &
    listener=$!
    run podman run --rm -p 127.0.0.1:18110:80 bb true
    kill "$listener" || true
    [ "$status" != 0 ]
    has "$output" "pasta failed with exit code 1"
    has "$output" "18110"
    has "$output" "in use"
    eventually no_pastas
}

@test "options of --network pasta" {
    socat TCP4-LISTEN:18091,bind=127.0.0.1,reuseaddr,fork SYSTEM:'echo from $SOCAT_PEERADDR' &
    listener=$!
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
    run podman run --rm --network pasta:-T,18091 bb true
    [ "$status" != 0 ]
    has "$output" "tcp-ns"
    kill "$listener"
}

@test "ports follow the container with --network pasta:-t,auto" {
    podman run --detach --name auto --network pasta:-t,auto bb sh -c 'socat TCP4-LISTEN:18140,fork SYSTEM:"echo followed"'
    answers() { [ "$(tcp 192.0.2.1 18140)" = followed ]; }
    eventually answers
}

@test "user namespaces of other kinds: keep-id and auto" {
    for userns in keep-id auto; do
        run podman run --rm --userns "$userns" bb sh -c 'ip addr; nc 192.0.2.9 7'
        has "$output" "inet 192.0.2.1/24"
        same "$(grep -cx 192.0.2.1 <<<"$output")" 1
    done
}

@test "containers of a bridge network know each other and the world by name" {
    podman network create here
    podman run --detach --name server --network here -p 127.0.0.1:18120:80 bb \
        socat TCP4-LISTEN:80,fork SYSTEM:"echo served"
    answers() { [ "$(tcp 127.0.0.1 18120)" = served ]; }
    eventually answers
    run podman run --rm --network here bb sh -c \
        'nc server 80; nslookup a.test; nc 192.0.2.9 7; grep internal /etc/hosts'
    has "$output" "served"
    has "$output" "Address: 192.0.2.9"
    has "$output" "192.0.2.1"
    has "$output" "169.254.1.2"
    same "$(pastas | wc -l)" 1
    podman rm --force --all --time 0
    eventually no_pastas
}

@test "the containers of a pod share a network" {
    podman pod create --name pod -p 127.0.0.1:18130:80
    podman run --detach --pod pod bb socat TCP4-LISTEN:80,fork SYSTEM:"echo pod"
    answers() { [ "$(tcp 127.0.0.1 18130)" = pod ]; }
    eventually answers
    has "$(podman run --rm --pod pod bb nc 127.0.0.1 80)" pod
    podman pod rm --force --time 0 pod
    eventually no_pastas
}

@test "podman build" {
    printf '%s\n' 'FROM bb' 'RUN ip addr && nc 192.0.2.9 7' >"$HOME/Containerfile"
    run podman build --no-cache --format oci -f "$HOME/Containerfile" "$HOME/.config"
    has "$output" "inet 192.0.2.1/24"
    eventually no_pastas
}

@test "rnsnet as Podman 5's slirp4netns" {
    run podman --network-cmd-path "$E2E/bin/rnsnet" run --rm --network slirp4netns bb ip addr
    has "$output" "inet 10.0.2.100/24"
}
