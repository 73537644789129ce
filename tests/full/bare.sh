#!/usr/bin/env bash
# ./quickstart on a bare Debian: as root, a second time, and as a user without sudo
# usage: bash bare.sh (as root, with debootstrap; else it is skipped)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
if [ "$(id -u)" != 0 ] || ! command -v debootstrap > /dev/null; then
    echo "skipped: not root, or no debootstrap"
    exit 77
fi
scratch=$(mktemp -d)
bare=$scratch/bare
leave() {
    umount "$bare/proc" 2> /dev/null || true
    rm -rf --one-file-system "$scratch"
}
trap leave EXIT
# shellcheck disable=SC1091
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
debootstrap --variant=minbase "$release" "$bare" > "$scratch/log" 2>&1 || {
    tail "$scratch/log"
    echo "skipped: debootstrap found no packages"
    exit 77
}
mount -t proc proc "$bare/proc"
cp /etc/resolv.conf "$bare/etc/"
cp /etc/apt/apt.conf.d/* "$bare/etc/apt/apt.conf.d/" 2> /dev/null || true

fresh_copy() { # fresh_copy FOLDER, inside
    mkdir -p "$bare$1"
    (cd "$root" && tar -c --exclude=./build --exclude=./runs --exclude=./.git .) |
        tar -x --no-same-owner -C "$bare$1"
}
must_say() { # must_say WHAT FILE
    grep -q "$1" "$2" || {
        cat "$2"
        echo "not said: $1"
        exit 1
    }
}

# A user, before anything is there: all names, and the end.
chroot "$bare" useradd -m -d /srv/guest guest
fresh_copy /srv/guest/tern
chroot "$bare" chown -R guest /srv/guest
as_guest() {
    chroot "$bare" su - guest -c "cd tern && $1"
}
if as_guest './quickstart train' > "$scratch/none" 2>&1; then
    echo 'a user without a compiler was not told so'
    exit 1
fi
must_say 'nothing can be built' "$scratch/none"
must_say 'Fedora zlib-devel' "$scratch/none"

# Root: everything from nothing, then nothing twice.
fresh_copy /srv/tern
chroot "$bare" bash -c 'cd /srv/tern && ./quickstart train --epochs 1' > "$scratch/first" 2>&1 || {
    tail -n 40 "$scratch/first"
    exit 1
}
must_say '^installing: ' "$scratch/first"
chroot "$bare" bash -c 'cd /srv/tern && ./quickstart train --epochs 1' > "$scratch/second" 2>&1
if grep -E '^(installing|Get:)' "$scratch/second"; then
    echo 'the second run installed again'
    exit 1
fi

# The user again, with the least that builds, and without the data package.
chroot "$bare" env DEBIAN_FRONTEND=noninteractive apt-get -q remove -y libpng-dev libjpeg-dev \
    libjpeg62-turbo-dev libjansson-dev libxxhash-dev libzip-dev dataset-fashion-mnist \
    > "$scratch/log" 2>&1
as_guest './quickstart train --epochs 1' > "$scratch/least" 2>&1 || {
    tail -n 40 "$scratch/least"
    exit 1
}
must_say 'missing png.h' "$scratch/least"
must_say 'Fashion-MNIST is in /srv/guest' "$scratch/least"
echo "bare Debian $release: root, a second time, a user"
