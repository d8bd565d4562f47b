//! Every value of a session in every place, alone and in pairs, at every operation.

use serde_json::Value;

use crate::support::{Connection, Home, TestSession, eventually, request};

/// Where a request can hold a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Cookie,
    Header,
    Ticket,
    Bearer,
}

const PLACES: [Place; 4] = [Place::Cookie, Place::Header, Place::Ticket, Place::Bearer];
const NO_VALUE: &str = "";

/// Method and path of every operation.
fn operations(home: &Home) -> Vec<(String, String)> {
    let path = "/admin/openapi.json";
    let document = request(&home.admin_address(), "GET", path, &[], "").json();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys();
        all.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
    }
    all
}

/// The status of a request with these values in these places.
fn send(home: &Home, (method, path): &(String, String), values: &[(Place, &str)]) -> u16 {
    let host = home.admin_address();
    let port = host.rsplit(':').next().unwrap();
    let mut headers = vec![("Origin", format!("http://{host}"))];
    let mut path = path.replace("{id}", "7f1d5f0e-6f0e-4b5c-9d0b-1f2e3d4c5b6a");
    for (place, value) in values {
        match place {
            Place::Cookie => headers.push(("Cookie", format!("fullon-session-{port}={value}"))),
            Place::Header => headers.push(("X-Fullon-Session", (*value).to_owned())),
            Place::Ticket => path = format!("{path}?ticket={value}"),
            Place::Bearer => headers.push(("Authorization", format!("Bearer {value}"))),
        }
    }
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let mut connection = Connection::open(&host);
    // Changes that are accepted fail for their body.
    let body = if method == "GET" { "" } else { "{" };
    connection.send(method, &path, &headers, body);
    connection.read_head().status
}

#[test]
fn no_value_opens_anything_but_the_two_pairs() {
    let mut home = Home::new();
    home.set("FAILED_TOKENS_PER_MINUTE", "100000");
    home.run(["start"]).succeeds();
    let [session, other] = [(); 2].map(|()| home.sign_in("admin:read admin:logs admin:control"));
    let value_of = |session: &TestSession| session.cookie.split_once('=').unwrap().1.to_owned();
    let (cookie, other_cookie) = (value_of(&session), value_of(&other));
    let values = [
        cookie.as_str(),
        &session.session,
        &session.ticket,
        &other_cookie,
        &other.session,
        &other.ticket,
        NO_VALUE,
    ];
    let operations = operations(&home);
    assert!(operations.len() > 12);
    for operation in &operations {
        let is_stream = operation.1 == "/admin/logs/stream";
        // It needs no cookie: `sessions::end::session_value_alone_signs_out_and_opens_nothing`.
        let is_sign_out = *operation == ("DELETE".to_owned(), "/admin/session".to_owned());
        let signs_out = |place, value: &str| {
            let is_session = [&*session.session, &other.session].contains(&value);
            is_sign_out && place == Place::Header && is_session
        };
        for first in values {
            for place in PLACES {
                if signs_out(place, first) {
                    continue;
                }
                assert_eq!(
                    send(&home, operation, &[(place, first)]),
                    401,
                    "{operation:?}: {first} as {place:?}"
                );
            }
            for second in values {
                for (one, two) in [
                    (Place::Cookie, Place::Header),
                    (Place::Cookie, Place::Ticket),
                    (Place::Cookie, Place::Bearer),
                    (Place::Header, Place::Ticket),
                    (Place::Header, Place::Bearer),
                    (Place::Ticket, Place::Bearer),
                ] {
                    let is_session = |session: &TestSession, cookie: &str| {
                        (one, first) == (Place::Cookie, cookie)
                            && (two, second) == (Place::Header, &session.session)
                    };
                    let is_ticket = |session: &TestSession, cookie: &str| {
                        (one, first) == (Place::Cookie, cookie)
                            && (two, second) == (Place::Ticket, &session.ticket)
                    };
                    let is_valid = is_session(&session, &cookie)
                        || is_session(&other, &other_cookie)
                        || is_stream
                            && (is_ticket(&session, &cookie) || is_ticket(&other, &other_cookie));
                    let is_sign_out =
                        two != Place::Bearer && (signs_out(one, first) || signs_out(two, second));
                    if is_valid || is_sign_out {
                        continue;
                    }
                    let status = send(&home, operation, &[(one, first), (two, second)]);
                    assert_eq!(
                        status, 401,
                        "{operation:?}: {first} as {one:?}, {second} as {two:?}"
                    );
                }
            }
        }
    }
    let expected = [
        (("GET", "/admin/status"), Place::Header, &session.session),
        (
            ("GET", "/admin/logs/stream"),
            Place::Header,
            &session.session,
        ),
        (
            ("GET", "/admin/logs/stream"),
            Place::Ticket,
            &session.ticket,
        ),
    ];
    for ((method, path), place, value) in expected {
        let operation = (method.to_owned(), path.to_owned());
        let values = [(Place::Cookie, cookie.as_str()), (place, value.as_str())];
        assert_eq!(send(&home, &operation, &values), 200, "{path} {place:?}");
        // A client that sends a token does not want to act as the session.
        let beside_token = [&values[..], &[(Place::Bearer, "x")]].concat();
        assert_eq!(send(&home, &operation, &beside_token), 401, "{path}");
    }
}

#[test]
fn state_file_and_log_hold_no_value() {
    let home = Home::started();
    let session = home.sign_in("admin:read admin:logs");
    let state = home.pid_file().display().to_string() + ".state";
    let state = std::fs::read_to_string(state).unwrap();
    let parsed: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(parsed["sessions"].as_array().unwrap().len(), 1);
    let (_, cookie) = session.cookie.split_once('=').unwrap();
    let log = home.log();
    for value in [cookie, &session.session, &session.ticket] {
        assert!(!state.contains(value) && !log.contains(value), "{value}");
    }
}

/// Every port of the host gets the cookie, and anybody may have a token.
#[test]
fn cookie_alone_names_nobody() {
    let home = Home::started();
    let session = home.sign_in("admin:read");
    let other = home.run(["token", "--subject", "other"]).succeeds();
    let bearer = format!("Bearer {}", other.stdout.trim());
    let preview = |headers: &[(&str, &str)]| {
        let token = [("Authorization", bearer.as_str())];
        let headers: Vec<_> = token.iter().chain(headers).copied().collect();
        let path = "/admin/session/token";
        request(&home.admin_address(), "GET", path, &headers, "").json()
    };
    let [cookie, value] = session.headers();
    for headers in [&[cookie][..], &[value], &[]] {
        let preview = preview(headers);
        assert_eq!(preview["subject"], "other");
        assert_eq!(preview["signed_in_as"], Value::Null, "{headers:?}");
    }
    // Another port has set a cookie for a longer path.
    let name = cookie.1.split_once('=').unwrap().0;
    let several = format!("{name}=planted; {}", cookie.1);
    let own = session.request(&home.admin_address(), "GET", "/admin/session");
    let preview = preview(&[("Cookie", &several), value]);
    assert_eq!(preview["signed_in_as"], own.json()["subject"]);
}

#[test]
fn access_line_names_the_session_of_the_request() {
    let home = Home::started();
    let session = home.sign_in("admin:read admin:logs");
    let host = home.admin_address();
    let own = session.request(&host, "GET", "/admin/session").json();
    let name = format!("session_id={}", own["id"]);
    let cookie = [("Cookie", session.cookie.as_str())];
    let stream = format!("/admin/logs/stream?lines=0&ticket={}", session.ticket);
    let mut connection = Connection::open(&host);
    connection.send("GET", &stream, &cookie, "");
    assert_eq!(connection.read_head().status, 200);
    drop(connection);
    // With the cookie alone, and with a token.
    request(&host, "GET", "/admin/config", &cookie, "");
    let token = home.token("admin:read");
    home.call_admin_as(&token, "GET", "/admin/status");
    let lines = |path: &str| -> Vec<String> {
        let log = home.log();
        let path = format!("path=\"{path}\" ");
        let lines = log.lines().filter(|line| line.contains(&path));
        lines.map(str::to_owned).collect()
    };
    for path in ["/admin/session", "/admin/logs/stream"] {
        eventually(&format!("all lines of {path} name the session"), || {
            let lines = lines(path);
            !lines.is_empty() && lines.iter().all(|line| line.ends_with(&name))
        });
    }
    for path in ["/admin/config", "/admin/status"] {
        eventually(&format!("{path} is logged"), || !lines(path).is_empty());
        assert!(!lines(path).iter().any(|line| line.contains("session_id")));
    }
}
