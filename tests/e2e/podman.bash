# What the tests of Podman share, whichever helper it calls. Before: load common (or ../common), and
# `helpers` for the pids of that helper.

# Podman as these machines need it, and an image.
podman_here() {
    mkdir -p "$HOME/.config/containers/containers.conf.d"
    printf '%s\n' '[engine]' 'runtime="runc"' 'cgroup_manager="cgroupfs"' 'events_logger="file"' \
        >"$HOME/.config/containers/containers.conf.d/00-machine.conf"
    make_image "$HOME/bb.tar"
    podman image exists bb || podman import "$HOME/bb.tar" bb:latest
}

# settings FILE FROM TO: one of vendor-config/podman, with TO in the place of FROM
settings() {
    mkdir -p "$HOME/.config/containers/containers.conf.d"
    sed "s,$2,$3," "$E2E/vendor-config/podman/$1" \
        >"$HOME/.config/containers/containers.conf.d/$1"
    # It says what was put there.
    grep -q "$3" "$HOME/.config/containers/containers.conf.d/$1"
}

podman_gone() {
    podman rm --force --all --time 0
    podman network prune --force
}

# Podman has taken away what a container's end leaves.
no_namespaces() { ! compgen -G "$XDG_RUNTIME_DIR/netns/netns-*"; }

# Each of the following is a test; ADDRESS is what `ip addr` shows of a container.

ipv6_leads_out() {
    run podman run --rm bb nc 2001:db8:5::9 7
    has "$output" "2001:0db8:0005:0000:0000:0000:0000:0001"
}

# ports_in_a_range OPTION...: of podman run
ports_in_a_range() {
    local port
    podman run --detach --name range "$@" -p 127.0.0.1:18100-18102:80-82 bb sh -c '
        for port in 80 81 82; do socat -t 30 TCP6-LISTEN:$port,ipv6only=0,fork "SYSTEM:echo port $port" & done
        sleep 100'
    for port in 0 1 2; do
        answers() { [ "$(tcp 127.0.0.1 1810$port)" = "port 8$port" ]; }
        eventually answers
    done
    ! tcp 192.0.2.1 18100 || return 1
}

# a_port_that_is_taken MESSAGE OPTION...
a_port_that_is_taken() {
    local message="$1" listener
    shift
    socat TCP-LISTEN:18110,bind=127.0.0.1,reuseaddr - 3>&- &
    listener=$!
    eventually listens 18110
    run podman run --rm "$@" -p 127.0.0.1:18110:80 bb true
    kill "$listener" || true
    [ "$status" != 0 ]
    has "$output" "$message"
    has "$output" "in use"
    eventually no_helpers
}

# other_user_namespaces ADDRESS
other_user_namespaces() {
    local userns
    for userns in keep-id auto; do
        run podman run --rm --userns "$userns" bb sh -c 'ip addr; nc 192.0.2.9 7'
        has "$output" "inet $1"
        same "$(grep -cx 192.0.2.1 <<<"$output")" 1
    done
}

# a_bridge_network [HOST]: what host.containers.internal is there
a_bridge_network() {
    podman network create here
    podman run --detach --name server --network here -p 127.0.0.1:18120:80 bb \
        socat -t 30 TCP4-LISTEN:80,fork SYSTEM:"echo served"
    answers() { [ "$(tcp 127.0.0.1 18120)" = served ]; }
    eventually answers
    run podman run --rm --network here bb sh -c \
        'nc server 80; nslookup a.test; nc 192.0.2.9 7; grep internal /etc/hosts'
    has "$output" "served"
    has "$output" "Address: 192.0.2.9"
    same "$(grep -cx 192.0.2.1 <<<"$output")" 1
    has "$output" "${1:-}"
    same "$(helpers | wc -l)" 1
    podman rm --force --all --time 0
    eventually no_helpers
}

a_pod() {
    podman pod create --name pod -p 127.0.0.1:18130:80
    podman run --detach --pod pod bb socat -t 30 TCP4-LISTEN:80,fork SYSTEM:"echo pod"
    answers() { [ "$(tcp 127.0.0.1 18130)" = pod ]; }
    eventually answers
    has "$(podman run --rm --pod pod bb nc 127.0.0.1 80)" pod
    podman pod rm --force --time 0 pod
    eventually no_helpers
}

# a_build ADDRESS
a_build() {
    printf '%s\n' 'FROM bb' 'RUN ip addr && nc 192.0.2.9 7' >"$HOME/Containerfile"
    run podman build --no-cache --format oci -f "$HOME/Containerfile" "$HOME/.config"
    has "$output" "inet $1"
    same "$(grep -cx 192.0.2.1 <<<"$output")" 1
    eventually no_helpers
}
