#!/usr/bin/env bats
# Named networks: containers of Podman and of plain rootless runc by rnsnet's hook, and any other by
# its pid, all on one network.

load common

setup_file() {
    mkdir -p "$HOME/.config/containers/containers.conf.d" "$HOME/hooks"
    # Not about networks: what these machines need.
    printf '%s\n' '[engine]' 'runtime="runc"' 'cgroup_manager="cgroupfs"' 'events_logger="file"' \
        >"$HOME/.config/containers/containers.conf.d/00-machine.conf"
    # The shipped one with the path of the program under test, and where this machine has its user's
    # files: neither the home nor the run-time directory is the one of the user database.
    jq --arg path "$E2E/bin/rnsnet" --arg home "$HOME" --arg run "$XDG_RUNTIME_DIR" \
        '.hook.path = $path | .hook.env = ["HOME=" + $home, "XDG_RUNTIME_DIR=" + $run]' \
        "$E2E/vendor-config/podman/hooks.d/rnsnet.json" >"$HOME/hooks/rnsnet.json"
    make_image "$HOME/bb.tar"
    podman image exists bb || podman import "$HOME/bb.tar" bb:latest
}

setup() {
    rnsnet network create n1
    # Podman takes no --dns for --network none.
    echo "nameserver 10.89.0.1" >"$HOME/resolv.conf"
    dns="--volume $HOME/resolv.conf:/etc/resolv.conf:ro"
}

teardown() {
    podman rm --force --all --time 0
    [ ! -e "$HOME/bundle" ] || runc --root "$HOME/runc" delete --force plain || true
    [ -z "${bare:-}" ] || kill "$bare" || true
    bare=
    rnsnet network rm --force n1 n2
    eventually no_helpers
    rm -rf "$HOME/bundle" "$HOME/bare"
}

# hooked NAME OPTION...: a Podman container that sleeps, on n1 by the hook
hooked() {
    local name="$1"
    shift
    podman --hooks-dir "$HOME/hooks" run --detach --name "$name" --network none \
        --cap-add NET_RAW --annotation org.rnsnet.network=n1 \
        --annotation "org.rnsnet.name=$name" "$@" bb sleep 1000
}

# A container without an engine, its pid in $bare.
make_bare() {
    unshare --user --map-root-user --net --fork --kill-child sh -c 'echo >"$HOME/bare"; exec sleep 1000' &
    local parent=$!
    eventually test -e "$HOME/bare"
    bare=$(pgrep -P "$parent")
}
in_bare() { nsenter -t "$bare" -U --preserve-credentials -n "$@"; }

@test "a Podman container and one of unshare ping each other by name" {
    hooked web --annotation org.rnsnet.alias="site shop" $dns
    make_bare
    rnsnet --detach --network n1 --name bare "$bare"
    run podman exec web ping -c 1 -W 20 bare
    has "$output" " 0% packet loss"
    # And back. The bare one has no file system, so no resolv.conf, of its own.
    address=$(podman exec web ip -4 addr show eth0 | grep -o 'inet [0-9.]*' | cut -d' ' -f2)
    for name in web site shop; do
        run in_bare busybox nslookup "$name" 10.89.0.1
        has "$output" "$address"
    done
    run in_bare busybox ping -c 1 -W 20 "$address"
    has "$output" " 0% packet loss"
    # Its short id is a name too, as with any engine.
    run podman exec web ping -c 1 -W 20 "$(podman inspect -f '{{.Id}}' web | cut -c1-12)"
    has "$output" " 0% packet loss"
}

@test "two Podman containers, one of them without a name" {
    hooked one $dns
    id=$(podman --hooks-dir "$HOME/hooks" run --detach --network none \
        --annotation org.rnsnet.network=n1:ip=10.89.0.77 bb sleep 1000)
    run podman exec one ping -c 1 -W 20 "${id:0:12}"
    has "$output" "10.89.0.77"
    has "$output" " 0% packet loss"
    has "$(rnsnet ps)" "${id:0:12}"
}

@test "a published port leads in, and goes with its container" {
    podman --hooks-dir "$HOME/hooks" run --detach --name served --network none \
        --annotation org.rnsnet.network=n1 --annotation org.rnsnet.publish=127.0.0.1:18210:80 \
        bb socat -t 30 TCP4-LISTEN:80,fork SYSTEM:"echo served"
    answers() { [ "$(tcp 127.0.0.1 18210)" = served ]; }
    eventually answers
    podman rm --force --time 0 served
    closed() { ! tcp 127.0.0.1 18210; }
    eventually closed
    eventually no_helpers
}

@test "a Podman container without the hook, by its pid" {
    hooked web
    podman run --detach --name late --network none $dns --cap-add NET_RAW bb sleep 1000
    rnsnet --detach --network n1 --name late "$(podman inspect -f '{{.State.Pid}}' late)"
    run podman exec late ping -c 1 -W 20 web
    has "$output" " 0% packet loss"
    podman stop --time 0 late
    gone() { ! rnsnet ps | grep -q late; }
    eventually gone
}

@test "the hook at two stages attaches once, and twice by hand changes nothing" {
    jq '.stages = ["prestart", "createRuntime"]' "$HOME/hooks/rnsnet.json" >"$HOME/hooks/two.json"
    hooked web
    rm "$HOME/hooks/two.json"
    same "$(podman exec web ip -o link | grep -c eth)" 1
    pid=$(podman inspect -f '{{.State.Pid}}' web)
    jq -n --argjson pid "$pid" '{ociVersion: "1.0.2", id: "another", status: "running", pid: $pid,
        annotations: {"org.rnsnet.network": "n1"}}' >"$HOME/state"
    rnsnet oci-hook <"$HOME/state"
    same "$(podman exec web ip -o link | grep -c eth)" 1
    # A network that is new to it is joined, by the name that it has.
    rnsnet network create n2
    jq '.annotations["org.rnsnet.network"] = "n1 n2"' "$HOME/state" >"$HOME/state2"
    rnsnet oci-hook <"$HOME/state2"
    same "$(podman exec web ip -o link | grep -c eth)" 2
    same "$(rnsnet network inspect -f '{{range .Containers}}{{.Name}}{{end}}' n2)" web
}

@test "a user namespace of another kind: keep-id" {
    hooked mine --userns keep-id --user 0
    has "$(podman exec mine ip -4 addr)" "10.89.0."
}

@test "the other runtime, crun" {
    # With cgroups of both versions crun 1.8 has no place for a container of its own.
    hooked other --runtime crun --cgroups disabled $dns
    same "$(podman inspect -f '{{.OCIRuntime}}' other)" crun
    hooked web $dns
    run podman exec other ping -c 1 -W 20 web
    has "$output" " 0% packet loss"
    run podman exec web ping -c 1 -W 20 other
    has "$output" " 0% packet loss"
    podman rm --force --time 0 other
    gone() { ! rnsnet ps | grep -q other; }
    eventually gone
}

@test "what is wrong keeps the container from starting, and says why" {
    run podman --hooks-dir "$HOME/hooks" run --rm --network none \
        --annotation org.rnsnet.network=nosuch bb true
    [ "$status" != 0 ]
    has "$output" "rnsnet: no such network: nosuch"
    run podman --hooks-dir "$HOME/hooks" run --rm --network none \
        --annotation org.rnsnet.network=n1 --annotation org.rnsnet.ports=80 bb true
    [ "$status" != 0 ]
    has "$output" "unknown annotation org.rnsnet.ports"
    run podman --hooks-dir "$HOME/hooks" run --rm --network host \
        --annotation org.rnsnet.network=n1 bb true
    [ "$status" != 0 ]
    has "$output" "is in the host network namespace"
    run rnsnet oci-hook </dev/null
    same "$status" 1
    has "$output" "rnsnet: standard input is not the state of a container"
    eventually no_helpers
}

@test "plain rootless runc, without any engine" {
    hooked web
    mkdir -p "$HOME/bundle/rootfs"
    tar -C "$HOME/bundle/rootfs" -xf "$HOME/bb.tar"
    (cd "$HOME/bundle" && runc spec --rootless)
    jq --arg path "$E2E/bin/rnsnet" --arg home "$HOME" --arg run "$XDG_RUNTIME_DIR" '
        .process.terminal = false | .process.args = ["sleep", "1000"] |
        .process.capabilities.bounding += ["CAP_NET_RAW"] |
        .process.capabilities.effective += ["CAP_NET_RAW"] |
        .process.capabilities.permitted += ["CAP_NET_RAW"] |
        .linux.namespaces += [{"type": "network"}] |
        .annotations = {"org.rnsnet.network": "n1", "org.rnsnet.alias": "sql"} |
        .hooks.createRuntime = [{path: $path, args: ["rnsnet", "oci-hook"],
            env: ["HOME=" + $home, "XDG_RUNTIME_DIR=" + $run]}]' \
        "$HOME/bundle/config.json" >"$HOME/bundle/config.new"
    mv "$HOME/bundle/config.new" "$HOME/bundle/config.json"
    echo "nameserver 10.89.0.1" >"$HOME/bundle/rootfs/etc/resolv.conf"
    runc --root "$HOME/runc" run --detach --bundle "$HOME/bundle" plain </dev/null >"$HOME/out" 2>&1
    run runc --root "$HOME/runc" exec plain ping -c 1 -W 20 web
    has "$output" " 0% packet loss"
    has "$(rnsnet ps)" plain
    runc --root "$HOME/runc" delete --force plain
    gone() { ! rnsnet ps | grep -q plain; }
    eventually gone
}
