# Runs the session of a page in namespaces of processes, mounts, network and host name: user `me`, an
# empty home, a private /tmp, the program as /usr/local/bin/fullon, the examples of the crate beside it.
# $1: the program; $2: the crate; $3: user and group; $4: the directory of the session.
set -eu
program=$1 crate=$2 user=$3 session=$4
hostname vm
ip link set lo up

# /tmp is hidden below. The session and the crate may be in it.
mkdir -p /run/fullon-session
mount -t tmpfs tmpfs /run/fullon-session
mkdir /run/fullon-session/files /run/fullon-session/crate
mount --bind "$session" /run/fullon-session/files
mount --bind "$crate" /run/fullon-session/crate
touch /run/fullon-session/fullon
mount --bind "$program" /run/fullon-session/fullon

mount -t tmpfs tmpfs /usr/local/bin
touch /usr/local/bin/fullon
mount --bind /run/fullon-session/fullon /usr/local/bin/fullon
mount -t tmpfs tmpfs /home
mkdir /home/me
chown "$user:$user" /home/me
printf 'root:x:0:0:root:/root:/bin/bash\nme:x:%s:%s::/home/me:/bin/bash\n' "$user" "$user" >/run/fullon-session/passwd
mount --bind /run/fullon-session/passwd /etc/passwd
# Progress meters are for terminals.
printf "silent\nshow-error\n" >/run/fullon-session/.curlrc
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p "$session"
mount --bind /run/fullon-session/files "$session"

cd /home/me
setpriv --reuid "$user" --regid "$user" --clear-groups \
    env -i CURL_HOME=/run/fullon-session HOME=/home/me USER=me LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    bash "$session/session" >"$session/output" 2>&1 || true
