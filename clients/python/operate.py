"""Operates a daemon and prints one JSON object per step.

FULLON_ADMIN is the address of the admin API, FULLON_TOKEN a token.
"""

import json
import os

import fullon_admin as fullon


def report(step, value):
    # Timestamps are `datetime` objects.
    print(json.dumps({step: value}, default=lambda time: time.isoformat()), flush=True)


def problem_of(call):
    """The problem of an error response."""
    try:
        call()
    except fullon.ApiException as error:
        problem: fullon.Problem = error.data
        return {"status": problem.status, "title": problem.title, "detail": problem.detail}
    raise SystemExit("the call was not refused")


def follow(log, count):
    """Names and data of the first events."""
    response = log.stream_logs_without_preload_content(lines=count)
    name, events = None, []
    # The generated client does not parse event streams (HTML standard, section 9.2).
    for line in response:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            entry = fullon.LogEntry.from_json(value)
            events.append({"event": name, "entry": entry.to_dict()})
        if len(events) == count:
            response.close()
            return events
    raise SystemExit("the stream ended")


def main():
    host = os.environ["FULLON_ADMIN"]
    with fullon.ApiClient(fullon.Configuration(host=host, access_token="none")) as unauthorized:
        report("refused", problem_of(fullon.DaemonApi(unauthorized).get_status))
    configuration = fullon.Configuration(host=host, access_token=os.environ["FULLON_TOKEN"])
    with fullon.ApiClient(configuration) as client:
        daemon, log = fullon.DaemonApi(client), fullon.LogApi(client)
        status = daemon.get_status()
        report("status", status.to_dict())
        report("bad_parameter", problem_of(lambda: log.get_logs(since="soon")))
        before = log.get_log_level()
        now = log.set_log_level(fullon.LogLevelRequest(level="debug", revert_after_seconds=600))
        report("log_level", {"before": before.level, "now": now.level, "configured": now.configured_level})
        report("logs", [entry.to_dict() for entry in log.get_logs(lines=2).entries])
        report("events", follow(log, 2))
        report("reload", fullon.SettingsApi(client).reload_settings().to_dict())
        report("audit", [record.to_dict() for record in fullon.AuditApi(client).get_audit(lines=1).records])
        report("restart", daemon.restart_daemon().to_dict())
        report("stop", daemon.stop_daemon(fullon.StopRequest(timeout_seconds=5)).to_dict())


main()
