"""Stands in for the Python launcher that fullon replaces: a FastAPI application on uvicorn.

Written like typical launchers: two forks, a PID file, a signal and a poll. Imports are at the top,
as they commonly are, so each command pays for them. Like fullon, it does not log probes: uvicorn
keeps no access log. supervisord runs the same `app`.
"""

import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path

import uvicorn
from fastapi import FastAPI

HOST = os.environ.get("HOST", "127.0.0.1")
PORT = int(os.environ.get("PORT", "8000"))
PID_FILE = Path(os.environ.get("PID_FILE", Path.home() / ".fullon_master_api.pid"))
LOG_FILE = Path(os.environ.get("LOG_FILE", "/tmp/fullon_master_api.log"))
HEALTH = json.loads(os.environ["HEALTH_BODY"])

app = FastAPI(title="Fullon Master API")


@app.get("/health")
async def health():
    return HEALTH


def running_pid():
    """The PID in the PID file, if a process has it."""
    try:
        pid = int(PID_FILE.read_text())
        os.kill(pid, 0)
        return pid
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None


def start():
    if pid := running_pid():
        print(f"Daemon is already running with PID {pid}")
        return 1
    if os.fork() > 0:
        print(f"Daemon started\nLog file: {LOG_FILE}\nPID file: {PID_FILE}")
        return 0
    os.setsid()
    if os.fork() > 0:
        os._exit(0)
    log = os.open(LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    PID_FILE.write_text(str(os.getpid()))
    uvicorn.run(app, host=HOST, port=PORT, access_log=False)
    PID_FILE.unlink(missing_ok=True)
    return 0


def stop():
    pid = running_pid()
    if pid is None:
        print("Daemon is not running")
        return 1
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while running_pid() == pid and time.monotonic() < deadline:
        time.sleep(0.1)
    if running_pid() == pid:
        os.kill(pid, signal.SIGKILL)
    print("Daemon stopped")
    return 0


def status():
    pid = running_pid()
    if pid is None:
        print("Status: not running")
        return 3
    with urllib.request.urlopen(f"http://{HOST}:{PORT}/health", timeout=5) as response:
        print(f"Status: running\nPID: {pid}\nHealth: {json.load(response)['status']}")
    return 0


if __name__ == "__main__":
    commands = {"start": start, "stop": stop, "status": status}
    command = commands.get(sys.argv[1] if len(sys.argv) == 2 else "")
    sys.exit(command() if command else "usage: start_fullon.py start|stop|status")
