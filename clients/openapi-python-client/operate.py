"""Operates a daemon and prints one JSON object per step.

FULLON_ADMIN is the address of the admin API, FULLON_TOKEN a token.
"""

import json
import os

from fullon_admin import AuthenticatedClient, models
from fullon_admin.api.audit import get_audit
from fullon_admin.api.daemon import get_status, restart_daemon, stop_daemon
from fullon_admin.api.log import get_log_level, get_logs, set_log_level, stream_logs
from fullon_admin.api.settings import reload_settings


def report(step, value):
    print(json.dumps({step: value}), flush=True)


def problem_of(response):
    """The problem of an error response."""
    problem = response.parsed
    assert isinstance(problem, models.Problem), "the call was not refused"
    return {"status": problem.status, "title": problem.title, "detail": problem.detail}


def follow(client, count):
    """Names and data of the first events."""
    name, events = None, []
    # The generated function waits for the end of the stream, and does not parse event streams (HTML
    # standard, section 9.2).
    with client.get_httpx_client().stream(**stream_logs._get_kwargs(lines=count)) as response:
        for line in response.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                entry = models.LogEntry.from_dict(json.loads(value))
                events.append({"event": name, "entry": entry.to_dict()})
            if len(events) == count:
                return events
    raise SystemExit("the stream ended")


def main():
    host = os.environ["FULLON_ADMIN"]
    with AuthenticatedClient(base_url=host, token="none") as unauthorized:
        report("refused", problem_of(get_status.sync_detailed(client=unauthorized)))
    with AuthenticatedClient(base_url=host, token=os.environ["FULLON_TOKEN"]) as client:
        report("status", get_status.sync(client=client).to_dict())
        report("bad_parameter", problem_of(get_logs.sync_detailed(client=client, since="soon")))
        before = get_log_level.sync(client=client)
        request = models.LogLevelRequest(level="debug", revert_after_seconds=600)
        now = set_log_level.sync(client=client, body=request)
        report("log_level", {"before": before.level, "now": now.level, "configured": now.configured_level})
        report("logs", [entry.to_dict() for entry in get_logs.sync(client=client, lines=2).entries])
        report("events", follow(client, 2))
        report("reload", reload_settings.sync(client=client).to_dict())
        report("audit", [record.to_dict() for record in get_audit.sync(client=client, lines=1).records])
        report("restart", restart_daemon.sync(client=client).to_dict())
        report("stop", stop_daemon.sync(client=client, body=models.StopRequest(timeout_seconds=5)).to_dict())


main()
