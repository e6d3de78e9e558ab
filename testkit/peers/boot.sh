#!/bin/sh
# Boots a systemd that sees a copy of this host, in namespaces of its own: what it writes vanishes with it, and it can end only its own
# processes. Nothing is started but the units that the caller starts.
#
# usage: boot.sh PROGRAM ETC FOLDER: the daemon, the folder with its units, and a folder for the log of systemd.
set -e
program=$1 etc=$2 folder=$3

if [ -z "$BOOT_STAGE" ]; then
    BOOT_STAGE=1 exec unshare --mount --propagation private sh "$0" "$@"
fi
if [ "$BOOT_STAGE" = 1 ]; then
    # A control group of its own.
    mkdir "$folder/cgroup"
    mount -t cgroup2 cgroup2 "$folder/cgroup"
    group=$folder/cgroup/spf-milter-test-$$
    mkdir "$group"
    echo $$ >"$group/cgroup.procs"
    BOOT_STAGE=2 exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup sh "$0" "$@"
fi

mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
for part in etc var usr; do
    mkdir -p "/mnt/$part/upper" "/mnt/$part/work"
    mount -t overlay -o "lowerdir=/$part,upperdir=/mnt/$part/upper,workdir=/mnt/$part/work" overlay "/$part"
done
cp "$program" /usr/sbin/spf-milter
cp "$folder/spf-milter.conf" /etc/spf-milter.conf
chmod 0644 /etc/spf-milter.conf
rm -rf /etc/systemd/system
mkdir -p /etc/systemd/system /run/systemd/system
ln -s /dev/null /etc/systemd/system/network-online.target
cp "$etc/spf-milter.service" "$etc/spf-milter.socket" /run/systemd/system/
# Nothing of the host's own start.
for unit in spf-milter.service spf-milter.socket test.target; do
    mkdir "/run/systemd/system/$unit.d"
    printf '[Unit]\nDefaultDependencies=no\n' >"/run/systemd/system/$unit.d/test.conf"
done
printf '[Unit]\nDescription=Test\n' >/run/systemd/system/test.target
printf '[Service]\nStandardOutput=append:/run/log\nStandardError=append:/run/log\n' >/run/systemd/system/spf-milter.service.d/log.conf
systemd-sysusers "$etc/spf-milter.sysusers"
systemd-tmpfiles --create "$etc/spf-milter.tmpfiles"
# systemd is not to set clocks, nor to end the host.
export container=other
unset BOOT_STAGE
exec setpriv --bounding-set=-sys_time,-sys_boot,-sys_module /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
