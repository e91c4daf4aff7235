# What the tests of every engine share.

# eventually COMMAND...: until it succeeds, for a minute: the machine may be busy
eventually() {
    for _ in $(seq 1200); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "never: $*" >&2
    return 1
}

# has TEXT PART
has() {
    case "$1" in
    *"$2"*) ;;
    *)
        printf '%s\n' "'$2' is not in:" "$1" >&2
        return 1
        ;;
    esac
}

# same FOUND EXPECTED
same() {
    [ "$1" = "$2" ] || {
        printf '%s\n' "expected '$2', found '$1'" >&2
        return 1
    }
}

# Pids of the helpers that serve now.
helpers() { pgrep -u "$(id -u)" -f "^$E2E/bin/(rnsnet|slirp4netns) |^slirp4netns " || true; }
no_helpers() { [ -z "$(helpers)" ]; }

# A root file system of busybox and socat alone, as a tar file.
make_image() {
    [ ! -e "$1" ] || return 0
    local root="$1.d" applet library
    mkdir -p "$root/bin" "$root/etc" "$root/tmp"
    cp /bin/busybox /usr/bin/socat "$root/bin/"
    for library in $(ldd /usr/bin/socat | grep -o '/[^ ]*'); do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
    for applet in cat echo grep head ip nc nslookup ping sh sleep true; do
        ln -s busybox "$root/bin/$applet"
    done
    echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
    tar -C "$root" -cf "$1" .
}

# tcp ADDRESS PORT, udp ADDRESS PORT: what is answered there
# (TCP without an end of our own, after which every socat on the way would wait for half a second,
# unless it has been told otherwise)
tcp() { timeout 30 socat -u "TCP:$1:$2" -; }
udp() {
    timeout 30 bash -c 'exec 3<>"/dev/udp/$1/$2"; echo hello >&3; dd bs=512 count=1 <&3 2>/dev/null' \
        udp "$1" "$2"
}

# listens PORT: whether a TCP service of this host does
listens() { ss -Hltn "sport = :$1" | grep -q .; }
