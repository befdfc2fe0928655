#!/usr/bin/env bash
# boot.sh ROOM PROGRAMS: starts a systemd in its own namespaces, which runs scenario.sh with the units in
# ROOM/units, and exits with it. It can read the machine's files; writes go to memory, except those in ROOM.
# Needs root. ROOM/booted exists once systemd runs.
set -euo pipefail
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
hierarchies=(/sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd)
group=restpipe-test-$$

# Control groups below a temporary one, in every hierarchy of the machine.
outside() {
    local dir status=0
    for dir in "${hierarchies[@]}"; do
        if [ -w "$dir/cgroup.procs" ]; then
            mkdir "$dir/$group"
            echo $$ >"$dir/$group/cgroup.procs"
        fi
    done
    timeout --kill-after=5 120 unshare --mount --pid --fork --mount-proc --ipc --uts --net --cgroup \
        "$here/boot.sh" inside "$@" || status=$?
    for dir in "${hierarchies[@]}"; do
        if [ -d "$dir/$group" ]; then
            echo $$ >"$dir/cgroup.procs"
            find "$dir/$group" -depth -type d -exec rmdir {} +
        fi
    done
    return "$status"
}

# The first process of the new namespaces becomes systemd.
inside() {
    local room=$1 programs=$2 dir unit
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/{room,bin,scripts,etc}
    mount --bind "$room" /mnt/room
    mount --bind "$programs" /mnt/bin
    mount --bind "$here" /mnt/scripts
    cp -a /etc/. /mnt/etc
    mount --bind /mnt/etc /etc
    for dir in /run /var /tmp; do mount -t tmpfs -o mode=755 tmpfs "$dir"; done
    chmod 1777 /tmp
    mkdir -p /run/lock /var/{lib,log,cache} && mkdir -m 1777 /var/tmp

    echo 'restpipe:x:64999:64999::/var/lib/restpipe:/usr/sbin/nologin' >>/etc/passwd
    echo 'restpipe:x:64999:' >>/etc/group
    rm -rf /etc/systemd/system
    mkdir -p /etc/systemd/system/basic.target.wants
    for unit in getty.target systemd-udevd.service systemd-logind.service systemd-udev-trigger.service; do
        ln -s /dev/null "/etc/systemd/system/$unit"
    done
    cp "$room"/units/* /etc/systemd/system
    printf '%s\n' '[Service]' Type=oneshot 'ExecStart=/bin/bash /mnt/scripts/scenario.sh' \
        'StandardOutput=truncate:/mnt/room/output' 'StandardError=truncate:/mnt/room/output' \
        >/etc/systemd/system/scenario.service
    ln -s ../scenario.service /etc/systemd/system/basic.target.wants/scenario.service
    export container=lxc
    exec /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
}

if [ "$1" = inside ]; then
    shift
    inside "$@"
else
    outside "$@"
fi
