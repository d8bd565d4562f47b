"""Takes over connections to PORT as USER, while another user listens there.

Its sockets are bound to the port before that user listens. Each of them waits for a client with one
of the ephemeral ports: it is about to connect to that port, but its SYN is deferred
(TCP_FASTOPEN_CONNECT, without a cookie). The kernel gives the SYN of the client to such a socket
rather than to the listener, and the socket drops it (IP_MINTTL). Then both connect to each other.

Prints "ready". Ends when its standard input does, and prints what it received from each client.
"""

import ctypes
import resource
import select
import socket
import struct
import sys

IP_MINTTL, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE = 21, 30, 34
# sock_diag(7)
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLMSG_DONE, REQUEST_ALL = 4, 20, 3, 0x301
SYN_SENT = 2
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


kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)


def connecting_clients():
    """The ports of sockets that are about to connect to the port. The kernel selects them: a table
    of all sockets takes long to read."""
    header = struct.pack("=IHHII", 72, SOCK_DIAG_BY_FAMILY, REQUEST_ALL, 0, 0)
    wanted = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 1 << SYN_SENT)
    kernel.send(header + wanted + struct.pack("!HH", 0, port) + bytes(44))
    while True:
        answer = kernel.recv(65536)
        while answer:
            length, kind = struct.unpack_from("=IH", answer)
            if kind == NLMSG_DONE:
                return
            yield struct.unpack_from("!H", answer, 20)[0]
            answer = answer[length:]


def take_over(client):
    """Returns what the client sends to another user's socket."""
    taker = takers.pop(client)
    taker.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 0)
    try:
        taker.send(b"")
    except BlockingIOError:
        pass
    taker.settimeout(30)
    try:
        return f"received {taker.recv(65536)!r}"
    except OSError as error:
        return f"not connected: {error}"


outcomes = []
while not select.select([sys.stdin], [], [], 0.001)[0]:
    outcomes += [take_over(client) for client in connecting_clients() if client in takers]
print("\n".join(outcomes))
