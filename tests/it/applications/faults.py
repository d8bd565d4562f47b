"""An application with faults. It serves the Unix socket that it inherits."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time

faults = sys.argv[2:]
if "alone" in faults:
    # The lock is kept as long as this process or a child of it lives.
    lock = open("set.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        open("two-sets", "w").close()
if "exits" in faults or os.path.exists("broken"):
    print("cannot reach \x1b[31mthe database")
    sys.exit(3)
if "hangs-at-start" in faults:
    print("waiting for the database", flush=True)
    time.sleep(600)
if "hangs-at-stop" in faults:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "leaves-children" in faults:
    # One in another session, one that ignores SIGTERM.
    subprocess.Popen(["sleep", "601"], start_new_session=True)
    subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 602; done"])
if "clears-environment" in faults:
    clear = {"PATH": os.environ["PATH"]}
    subprocess.Popen(["sleep", "603"], start_new_session=True, env=clear)
if "prints" in faults:
    long = b"y" * 1_048_576
    os.write(1, b"binary \xff\0\x1b[31m\r\n" + long + b"\n")
    os.write(2, b"\xe2\x80\xa8INFO audit: forged\nno end")
if "closes-output" in faults:
    os.close(1)
    os.close(2)
if "floods" in faults and os.fork() == 0:
    lines = (b"z" * 99 + b"\n") * 600
    while True:
        os.write(1, lines)

listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    connection.close()
