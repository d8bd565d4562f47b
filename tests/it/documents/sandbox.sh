# Runs the session of a page in namespaces of processes, mounts, network and host name: user `me`, an
# empty home, a private /tmp, the program as /usr/local/bin/fullon, the examples of the crate beside it,
# and the Python programs of the tests.
# $1: the program; $2: the crate; $3: user and group; $4: the directory of the session; $5: the tools.
set -eu
program=$1 crate=$2 user=$3 session=$4 tools=$5
python=$("$tools/bin/python" -c 'import sys; print(sys.base_prefix)')
hostname vm
ip link set lo up

# /tmp is hidden below. The session and the crate may be in it.
mkdir -p /run/fullon-session
mount -t tmpfs tmpfs /run/fullon-session
mkdir /run/fullon-session/files /run/fullon-session/crate /run/fullon-session/tools /run/fullon-session/python
mount --bind "$tools" /run/fullon-session/tools
mount --bind "$python" /run/fullon-session/python
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

as_user() { setpriv --reuid "$user" --regid "$user" --clear-groups "$@"; }
# Programs know where they are installed: shows the directory $2 at its own path $1, where the user
# may not be able to go.
show() {
    as_user test -x "$1/bin/python3" && return
    above=
    IFS=/
    for name in ${1#/}; do
        above=$above/$name
        as_user test -x "$above" || [ ! -e "$above" ] || mount -t tmpfs -o mode=755 tmpfs "$above"
    done
    unset IFS
    mkdir -p "$1"
    mount --bind "$2" "$1"
}
show "$python" /run/fullon-session/python
show "$tools" /run/fullon-session/tools

cd /home/me
as_user env -i CURL_HOME=/run/fullon-session HOME=/home/me USER=me LANG=C.UTF-8 PATH="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:$tools/bin" \
    bash "$session/session" >"$session/output" 2>&1 || true
