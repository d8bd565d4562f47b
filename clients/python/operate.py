"""Operates a daemon, and prints one JSON object a step. FULLON_ADMIN is the address of its admin API, FULLON_TOKEN a token."""

import json
import os

import fullon_admin as fullon


def say(step, value):
    print(json.dumps({step: value}), flush=True)


def problem_of(call):
    """What the API said that refused the call, as the type of the document."""
    try:
        call()
    except fullon.ApiException as error:
        problem: fullon.Problem = error.data
        return {"status": problem.status, "title": problem.title, "detail": problem.detail}
    raise SystemExit("this should have been refused")


def follow(log, count):
    """The first events: their names, and their data as the type of the document."""
    answer = log.stream_logs_without_preload_content(lines=count)
    name, events = None, []
    # The generated client knows no events, so this reads their lines (HTML standard, section 9.2).
    for line in answer:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            entry = fullon.LogEntry.from_json(value)
            events.append({"event": name, "entry": entry.to_dict()})
        if len(events) == count:
            answer.close()
            return events
    raise SystemExit("the stream ended")


def main():
    host = os.environ["FULLON_ADMIN"]
    with fullon.ApiClient(fullon.Configuration(host=host, access_token="none")) as stranger:
        say("refused", problem_of(fullon.DaemonApi(stranger).get_status))
    configuration = fullon.Configuration(host=host, access_token=os.environ["FULLON_TOKEN"])
    with fullon.ApiClient(configuration) as client:
        daemon, log = fullon.DaemonApi(client), fullon.LogApi(client)
        status = daemon.get_status()
        say("status", status.to_dict())
        say("bad_parameter", problem_of(lambda: log.get_logs(since="soon")))
        before = log.get_log_level()
        now = log.set_log_level(fullon.LogLevelRequest(level="debug", revert_after_seconds=600))
        say("log_level", {"before": before.level, "now": now.level, "configured": now.configured_level})
        say("logs", [entry.to_dict() for entry in log.get_logs(lines=2).entries])
        say("events", follow(log, 2))
        say("reload", fullon.SettingsApi(client).reload().to_dict())
        say("restart", daemon.restart().to_dict())
        say("stop", daemon.stop(fullon.StopRequest(timeout_seconds=5)).to_dict())


main()
