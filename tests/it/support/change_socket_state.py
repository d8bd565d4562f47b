"""Binds a socket to PORT as USER, and makes it connected and unconnected again without end, so that
it is seldom in the part of the kernel's tables that is just being read. Prints "ready"."""

import ctypes
import socket
import sys
import time

TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE = 30, 34
HALF_PERIOD = 0.0003
port, user = map(int, sys.argv[1:])
libc = ctypes.CDLL(None)
# The user that a socket belongs to.
libc.setfsuid(user)
changing = socket.socket()
changing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
changing.bind(("127.0.0.1", port))
changing.setblocking(False)
unspecified = (ctypes.c_char * 16)()
print("ready", flush=True)
while True:
    # The SYN is deferred: the socket counts as connected without a server.
    changing.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    changing.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    changing.connect(("127.0.0.1", 9))
    time.sleep(HALF_PERIOD)
    libc.connect(changing.fileno(), unspecified, 16)
    time.sleep(HALF_PERIOD)
