# Becomes the first process of a container, as a runtime does it: in fresh namespaces of mounts and processes, with nothing but
# what is in the directory, /proc, and of /dev what every runtime has there. $1: the directory; $2: who it runs as.
set -eu
mount -t proc proc "$1/proc"
for device in null random urandom; do
    : >"$1/dev/$device"
    mount --bind "/dev/$device" "$1/dev/$device"
done
exec chroot --userspec="$2:$2" "$1" /fullon run
