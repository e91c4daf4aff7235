#!/usr/bin/env bats
# The units of vendor-config without a running systemd: systemd-analyze reads them, and their
# command is run as systemd would, with a socket that hears what a service manager is told.

load common

setup_file() {
    mkdir -p "$HOME/.config/containers/containers.conf.d"
    printf '%s\n' '[engine]' 'runtime="runc"' 'cgroup_manager="cgroupfs"' 'events_logger="file"' \
        >"$HOME/.config/containers/containers.conf.d/00-machine.conf"
    make_image "$HOME/bb.tar"
    podman image exists bb || podman import "$HOME/bb.tar" bb:latest
}

teardown() {
    [ -z "${service:-}" ] || kill -9 "$service" || true
    [ -z "${manager:-}" ] || kill "$manager" || true
    podman rm --force --all --time 0
}

verify() { systemd-analyze verify --user --man=no --recursive-errors=no "$1"; }

# start INSTANCE: what systemd makes of ExecStart; $service is its process
start() {
    local command
    command="$(sed -n 's/^ExecStart=//p' "$E2E/vendor-config/systemd/rnsnet@.service" |
        sed "s/%i/$1/g; s/\\$\\$/$/g")"
    eval "exec $command" 3>&- 2>>"$HOME/rnsnet.log" &
    service=$!
}

@test "systemd understands the units" {
    mkdir -p "$HOME/units/docker.service.d"
    cp "$E2E/vendor-config/systemd/rnsnet@.service" "$HOME/units/rnsnet@web.service"
    run verify "$HOME/units/rnsnet@web.service"
    same "$status $output" "0 "
    cp "$E2E"/vendor-config/systemd/rnsnet-metrics.* "$HOME/units/"
    run verify "$HOME/units/rnsnet-metrics.timer"
    same "$status $output" "0 "
    run verify "$HOME/units/rnsnet-metrics.service"
    same "$status $output" "0 "
    printf '%s\n' '[Service]' 'ExecStart=/bin/true' >"$HOME/units/docker.service"
    cp "$E2E/vendor-config/docker/50-rnsnet.conf" "$HOME/units/docker.service.d/"
    run verify "$HOME/units/docker.service"
    same "$status $output" "0 "
    # And it does look.
    echo 'Enviroment=x' >>"$HOME/units/docker.service.d/50-rnsnet.conf"
    run verify "$HOME/units/docker.service"
    has "$output" "Unknown key"
}

@test "rnsnet@.service serves a Podman container, also after kill -9" {
    export NOTIFY_SOCKET="$XDG_RUNTIME_DIR/notify" RNSNET_OPTIONS="-p 18080:80"
    socat -u "UNIX-RECV:$NOTIFY_SOCKET" - >"$HOME/told" 2>/dev/null 3>&- &
    manager=$!
    eventually test -S "$NOTIFY_SOCKET"
    podman run --detach --name web --network none --sdnotify=ignore bb \
        socat -t 30 TCP4-LISTEN:80,fork SYSTEM:'echo \$SOCAT_PEERADDR'
    start web
    eventually grep READY=1 "$HOME/told"
    has "$(cat "$HOME/told")" "STATUS=eth0 10.0.2.100/24"
    served() { [ "$(tcp 192.0.2.1 18080)" = 192.0.2.1 ]; }
    eventually served
    container="$(podman inspect --format '{{.State.Pid}}' web)"

    kill -9 "$service"
    wait "$service" || true
    has "$(podman exec web ip addr show eth0)" "inet 10.0.2.100/24"
    : >"$HOME/told"
    start web
    eventually grep -a READY=1 "$HOME/told"
    same "$(tcp 192.0.2.1 18080)" 192.0.2.1
    same "$(podman inspect --format '{{.State.Pid}}' web)" "$container"

    # What ExecReload does.
    : >"$HOME/told"
    kill -HUP "$service"
    eventually grep -a RELOADING=1 "$HOME/told"
    eventually grep -a READY=1 "$HOME/told"
    same "$(tcp 192.0.2.1 18080)" 192.0.2.1

    kill "$service"
    wait "$service"
    service=
    eventually grep -a STOPPING=1 "$HOME/told"
}
