"""Adapts schemathesis to this API."""

import json
import os
import subprocess
import urllib.request
import uuid

import schemathesis

# The document has no patterns for these texts, because other forms may become valid.
VALID_TEXTS = {
    "since": ["10m", "2h 30m", "2026-01-31T09:00:00Z", "2024-02-29T23:59:59.123456789+01:00"],
    "before": ["0-0-0-0", "5e0c1-1a3f9c2e11b0a7d4-2c1-a9"],
    "after": ["0-0-0-0", "5e0c1-1a3f9c2e11b0a7d4-2c1-a9"],
    "Last-Event-ID": ["", "0-0-0-0", "5e0c1-1a3f9c2e11b0a7d4-2c1-a9"],
    "level": ["error", "warn", "info", "debug", "trace", "off", "info,hyper=debug"],
}


def with_valid_texts(values, names):
    """Replaces generated texts. Values of another type are invalid on purpose."""
    for name in names:
        if values and isinstance(values.get(name), str):
            texts = VALID_TEXTS[name]
            values[name] = texts[len(values[name]) % len(texts)]
    return values


@schemathesis.hook
def map_query(context, query):
    return with_valid_texts(query, ["since", "before", "after"])


@schemathesis.hook
def map_headers(context, headers):
    return with_valid_texts(headers, ["Last-Event-ID"])


@schemathesis.hook
def map_body(context, body):
    return with_valid_texts(body, ["level"]) if isinstance(body, dict) else body


def is_revocation(body):
    """Whether a body for the revocation of tokens has the fields and types of the document."""
    types = {"token": str, "jti": str, "all": bool}
    return isinstance(body, dict) and all(
        name in types and type(value) in (types[name], type(None)) for name, value in body.items()
    )


def sign_in_again(case):
    """Replaces the session, which the first successful sign-out has ended, by a new one."""
    cookie, session = os.environ["COOKIE"], os.environ["SESSION"]
    (name, value) = cookie.split("=")
    if case.cookies.get(name) != value or case.headers.get("X-Fullon-Session") != session:
        return
    request = urllib.request.Request(
        os.environ["SIGN_IN"], method="POST", headers={"Authorization": os.environ["BEARER"]}
    )
    with urllib.request.urlopen(request) as response:
        case.headers["X-Fullon-Session"] = json.load(response)["session"]
        cookie = response.headers["Set-Cookie"].split(";")[0]
        case.cookies[name] = cookie.split("=")[1]


@schemathesis.hook
def before_call(context, case, kwargs):
    """Replaces bodies that would be refused for a reason that the document cannot express."""
    # `null` stands for a body that is left out, so it is not invalid.
    if case.body is None and case.operation.path in ("/admin/stop", "/admin/restart"):
        case.body = []
    if case.operation.path == "/admin/tokens/revoke" and is_revocation(case.body):
        # One field has to be set. Most generated texts are no token, and `all` would revoke the
        # token of this test.
        case.body = {"jti": str(uuid.uuid4())}
    if (case.method.upper(), case.operation.path) == ("DELETE", "/admin/session"):
        if "SESSION" in os.environ:
            sign_in_again(case)


@schemathesis.hook
def after_call(context, case, response):
    """Starts the daemon again after each accepted stop, before the next request."""
    if response.status_code == 202:
        fullon = os.environ["FULLON"]
        # Waits until the process has exited. It is no error if it has exited before.
        subprocess.run([fullon, "stop"], capture_output=True)
        subprocess.run([fullon, "start"], capture_output=True, check=True)
