"""Takes over connections to PORT as USER, while another user listens there.

Its sockets are bound to the port before that user listens. Each of them waits for a client with one
of the ephemeral ports: it is about to connect to that port, but its SYN is deferred
(TCP_FASTOPEN_CONNECT, without a cookie). The kernel gives the SYN of the client to such a socket
rather than to the listener, and the socket drops it (IP_MINTTL). Then both connect to each other.

Prints "ready", and what it received from each client.
"""

import ctypes
import resource
import socket
import sys
import time

IP_MINTTL, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE = 21, 30, 34
SYN_SENT = "02"
port, user = map(int, sys.argv[1:])
# The user that a socket belongs to.
ctypes.CDLL(None).setfsuid(user)
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
first, last = map(int, open("/proc/sys/net/ipv4/ip_local_port_range").read().split())


def wait_for_client(client):
    taker = socket.socket()
    taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taker.bind(("127.0.0.1", port))
    taker.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 255)
    taker.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    taker.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    taker.setblocking(False)
    taker.connect(("127.0.0.1", client))
    return taker


# Linux prefers the ports of this parity for connections.
takers = {}
for client in range(first, last + 1, 2):
    try:
        takers[client] = wait_for_client(client)
    except OSError:
        pass  # In use by another program.
print("ready", flush=True)


def connecting_clients():
    for line in open("/proc/self/net/tcp"):
        columns = line.split(None, 4)
        if columns[3] == SYN_SENT and columns[2] == f"0100007F:{port:04X}":
            yield int(columns[1].split(":")[1], 16)


while True:
    for client in set(connecting_clients()) & set(takers):
        taker = takers.pop(client)
        taker.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 0)
        try:
            taker.send(b"")
        except BlockingIOError:
            pass
        print("connected", flush=True)
        taker.settimeout(30)
        try:
            print(f"received {taker.recv(65536)!r}", flush=True)
        except OSError as error:
            print(f"received nothing: {error}", flush=True)
    time.sleep(0.005)
