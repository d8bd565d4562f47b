# Boots systemd on an overlay of this machine's files, with fullon installed in it. Runs in fresh namespaces, as the first
# process of its own; becomes systemd. $1: an empty directory; $2: the sources; $3: the program to install.
set -eu
umask 022
mount -t tmpfs tmpfs "$1"
root=$1/root
mkdir "$1/upper" "$1/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$root"

make --silent -C "$2" install DESTDIR="$root" FULLON="$3"
# Files that a daemon of this machine may have left are not of this one.
rm -rf "$root/etc/fullon_master_api" "$root/var/lib/fullon_master_api" "$root/var/log/fullon_master_api"

# Without an identity, the first boot would enable everything.
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
units=$root/etc/systemd/system
rm -rf "$units"/*.wants "$root/var/log/journal"
# No hardware, no clock, nobody to ask.
for unit in systemd-udevd systemd-udev-trigger systemd-timesyncd systemd-firstboot; do
    ln -sf /dev/null "$units/$unit.service"
done
cat >"$units/machine.target" <<'UNIT'
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
UNIT

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ip link set lo up

cd "$root"
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=machine.target
