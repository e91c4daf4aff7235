#!/usr/bin/env bats
# Rootless Docker 20.10 with rnsnet as the slirp4netns in its PATH, ports by the helper: with the
# environment that vendor-config/docker/50-rnsnet.conf gives its unit, and nothing else.

load common

setup_file() {
    command -v dockerd-rootless.sh >/dev/null || return 0
    make_image "$HOME/bb.tar"
    mkdir -p "$XDG_RUNTIME_DIR/docker"
    export DOCKER_HOST="unix://$XDG_RUNTIME_DIR/docker.sock"
    # As docs/engines.md has it.
    mkdir -p "$HOME/.local/lib/rnsnet"
    ln -sf "$E2E/bin/rnsnet" "$HOME/.local/lib/rnsnet/slirp4netns"
    mapfile -t environment < <(sed -n "s,%h,$HOME,g; s,^Environment=,,p" \
        "$E2E/vendor-config/docker/50-rnsnet.conf")
    # Where this machine has Docker, but not the other links to rnsnet.
    docker_path="${PATH#"$E2E/bin:"}"
    for index in "${!environment[@]}"; do
        case "${environment[index]}" in PATH=*) environment[index]+=":$docker_path" ;; esac
    done
    env "${environment[@]}" \
        dockerd-rootless.sh --data-root="$HOME/docker" --host="$DOCKER_HOST" \
        >"$HOME/dockerd.log" 2>&1 3>&- &
    echo $! >"$HOME/dockerd.pid"
    eventually docker version || { cat "$HOME/dockerd.log"; return 1; }
    docker import "$HOME/bb.tar" bb:latest
}

teardown_file() {
    [ ! -e "$HOME/dockerd.pid" ] || kill "$(cat "$HOME/dockerd.pid")" || true
    eventually no_helpers
}

setup() {
    command -v dockerd-rootless.sh >/dev/null || skip "no rootless Docker here"
}

teardown() {
    command -v docker >/dev/null || return 0
    docker ps --all --quiet | xargs -r docker rm --force
}

@test "Docker's network is rnsnet's" {
    same "$(helpers | wc -l)" 1
    run timeout 20 docker run --rm bb sh -c 'cat /etc/resolv.conf; nc 192.0.2.9 7; nslookup a.test'
    has "$output" "nameserver 10.0.2.3"
    has "$output" "192.0.2.1"
    has "$output" "Address: 192.0.2.9"
    # dockerd-rootless.sh's own choice would be 1500.
    has "$(docker run --rm --network host bb ip addr show tap0)" "mtu 65520 "
}

@test "published ports, TCP and UDP, and their end" {
    docker run --detach --name who -p 18080:80 -p 127.0.0.1:18053:53/udp bb sh -c '
        socat UDP4-LISTEN:53,fork SYSTEM:"read line; echo asked" &
        socat -t 30 TCP4-LISTEN:80,fork SYSTEM:"echo \$SOCAT_PEERADDR"'
    answers() { [ "$(tcp 127.0.0.1 18080)" = 10.0.2.2 ]; }
    eventually answers
    same "$(tcp 192.0.2.1 18080)" 192.0.2.1
    same "$(tcp 192.0.2.9 18080)" 192.0.2.9
    asked() { [ "$(udp 127.0.0.1 18053)" = asked ]; }
    eventually asked
    docker rm --force who
    ! tcp 127.0.0.1 18080
}

@test "containers of a user network know each other and the world by name" {
    docker network create here
    docker run --detach --name server --network here bb socat -t 30 TCP4-LISTEN:80,fork SYSTEM:'echo served'
    eventually docker exec server grep -q ":0050 " /proc/net/tcp
    run timeout 20 docker run --rm --network here bb sh -c 'nc server 80; nslookup a.test; nc 192.0.2.9 7'
    has "$output" "served"
    has "$output" "Address: 192.0.2.9"
    has "$output" "192.0.2.1"
}
