//! The headers that a worker and a client get: all of the other side's, but those that belong to one
//! connection, and those that only a proxy may set.

use std::fmt::Write as _;
use std::net::IpAddr;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, StatusCode, Version};

use super::trace::{TRACE_PARENT, TRACE_STATE, TraceIds, is_trace_parent};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The only protocol that a connection may change to.
const WEBSOCKET: &str = "websocket";

/// The client of a request, as the worker gets to know it.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The addresses that a trusted peer names, from the client to the last proxy before the peer.
    /// `None` if the peer is not trusted.
    pub hops: Option<&'a [IpAddr]>,
    /// The address of this server, for a request without `Host`.
    pub local: std::net::SocketAddr,
    pub request_id: &'a HeaderValue,
}

/// Properties of a request that its response depends on.
#[derive(Debug, Clone, Copy)]
pub struct RequestKind {
    /// It asks for a WebSocket.
    pub is_upgrade: bool,
    /// The client takes trailers.
    pub takes_trailers: bool,
}

/// Rewrites the headers of a request for a worker. `has_body` says whether it has a body.
pub fn rewrite_request(
    headers: &mut HeaderMap,
    method: &Method,
    version: Version,
    has_body: bool,
    client: &Forwarded<'_>,
    trace_ids: &TraceIds,
) -> RequestKind {
    let kind = RequestKind {
        is_upgrade: *method == Method::GET
            && version == Version::HTTP_11
            && !has_body
            && asks_for_websocket(headers),
        takes_trailers: has_token(headers, &TE, "trailers"),
    };
    let is_trusted = client.hops.is_some();
    remove_connection_headers(headers);
    headers.remove(EXPECT);
    remove_if(headers, |name| {
        let name = name.as_str();
        name.contains('_')
            || name == "proxy"
            || name.starts_with("proxy-")
            || !is_trusted && is_forwarding(name)
    });
    if kind.is_upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    }
    set_client(headers, client);
    headers.insert(&X_REQUEST_ID, client.request_id.clone());
    if !headers.get(&TRACE_PARENT).is_some_and(is_trace_parent) {
        headers.remove(&TRACE_STATE);
        headers.insert(&TRACE_PARENT, trace_ids.next());
    }
    kind
}

/// Sets the framing of a request whose body is known now. hyper writes it from the body, but leaves
/// out a body of unknown length of a `GET`.
pub fn set_framing(headers: &mut HeaderMap, length: Option<u64>) {
    let had_framing =
        headers.remove(TRANSFER_ENCODING).is_some() | headers.remove(CONTENT_LENGTH).is_some();
    match length {
        Some(0) if !had_framing => {}
        Some(length) => {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// Whether the response to a request for a WebSocket begins one.
pub fn is_websocket_response(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS && asks_for_websocket(headers)
}

/// Whether the response may last for hours without an end.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let kind = value.as_bytes().split(|byte| *byte == b';').next();
        kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
    })
}

/// Rewrites the headers of a response for the client.
///
/// # Errors
///
/// The worker has used a transfer coding that the client would not get to know.
pub fn rewrite_response(headers: &mut HeaderMap, kind: RequestKind) -> Result<(), &'static str> {
    if headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let is_chunked = codings
            .next()
            .is_some_and(|it| it.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if !is_chunked || codings.next().is_some() {
            return Err("unsupported Transfer-Encoding: only `chunked` is supported");
        }
        // The other one is invalid beside it (RFC 9112, section 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    // hyper writes the trailers that it lists.
    let trailer = headers.remove(TRAILER).filter(|_| kind.takes_trailers);
    remove_connection_headers(headers);
    remove_if(headers, |name| {
        matches!(name.as_str(), "proxy-connection" | "proxy-authenticate")
    });
    headers.remove(TRANSFER_ENCODING);
    if let Some(trailer) = trailer {
        headers.insert(TRAILER, trailer);
    }
    Ok(())
}

/// Makes the length of a response one number. `length` is that of its body, `None` if there is none
/// although a length may be announced.
pub fn set_one_length(headers: &mut HeaderMap, length: Option<u64>) {
    if !headers.contains_key(CONTENT_LENGTH) {
        return;
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
        return;
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number = lengths
        .next()
        .is_some_and(|length| length.as_bytes().iter().all(u8::is_ascii_digit));
    if !is_number || lengths.next().is_some() {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Sets the headers of a response that begins a WebSocket.
pub fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(UPGRADE).iter();
    let protocol = upgrades.next();
    upgrades.next().is_none()
        && protocol.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
        && has_token(headers, &CONNECTION, "upgrade")
}

/// Whether a list has an element, whose parameters do not matter.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|line| {
        line.as_bytes().split(|byte| *byte == b',').any(|element| {
            let element = element.split(|byte| *byte == b';').next();
            element.is_some_and(|it| it.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        })
    })
}

/// Removes headers that belong to one connection (RFC 9110, section 7.6.1). The framing stays.
fn remove_connection_headers(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            // No client may remove these from its own request.
            .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TRANSFER_ENCODING))
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [TE, TRAILER, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name == FORWARDED.as_str() || name == "x-real-ip"
}

fn remove_if(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    // Allocates nothing if there is none.
    let removed: Vec<HeaderName> = headers
        .keys()
        .filter(|it| is_removed(it))
        .cloned()
        .collect();
    for name in removed {
        headers.remove(name);
    }
}

fn set_client(headers: &mut HeaderMap, client: &Forwarded<'_>) {
    let mut addresses = String::with_capacity(40);
    for hop in client.hops.unwrap_or_default() {
        let _ = write!(addresses, "{hop}, ");
    }
    let _ = write!(addresses, "{}", client.peer.to_canonical());
    if let Ok(addresses) = HeaderValue::try_from(addresses) {
        headers.insert(&X_FORWARDED_FOR, addresses);
    }
    // TLS ends at a proxy in front, if there is one.
    headers
        .entry(&X_FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static("http"));
    if !headers.contains_key(HOST)
        && let Ok(local) = HeaderValue::try_from(client.local.to_string())
    {
        headers.insert(HOST, local);
    }
    if let Some(host) = headers.get(HOST).cloned() {
        headers.entry(&X_FORWARDED_HOST).or_insert(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        headers
    }

    /// The headers that a worker gets, without the request id and the trace.
    fn rewritten(lines: &[(&str, &str)], hops: Option<&[IpAddr]>) -> Vec<String> {
        let mut headers = headers(lines);
        let id = HeaderValue::from_static("id");
        let client = Forwarded {
            peer: "192.0.2.1".parse().unwrap(),
            hops,
            local: "127.0.0.1:8000".parse().unwrap(),
            request_id: &id,
        };
        let ids = TraceIds::new();
        rewrite_request(
            &mut headers,
            &Method::GET,
            Version::HTTP_11,
            false,
            &client,
            &ids,
        );
        assert_eq!(headers.remove("x-request-id").unwrap(), "id");
        let trace = headers.remove("traceparent").unwrap();
        assert!(is_trace_parent(&trace), "{trace:?}");
        let lines = headers.iter();
        let mut lines: Vec<_> = lines
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    const OWN: [&str; 4] = [
        "host: a",
        "x-forwarded-for: 192.0.2.1",
        "x-forwarded-host: a",
        "x-forwarded-proto: http",
    ];

    #[test]
    fn headers_of_the_connection_are_removed() {
        let lines = [
            ("host", "a"),
            ("connection", "x-private, keep-alive, host"),
            ("connection", "close, content-length"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "x"),
            ("proxy-connection", "x"),
            ("proxy", "http://evil"),
            ("expect", "100-continue"),
            ("x_forwarded_for", "1.1.1.1"),
            ("content_length", "5"),
        ];
        assert_eq!(rewritten(&lines, None), OWN);
        // Names of their own that only look alike.
        let kept = rewritten(&[("host", "a"), ("proxies", "1"), ("x-forward", "1")], None);
        assert!(kept.contains(&"proxies: 1".into()) && kept.contains(&"x-forward: 1".into()));
    }

    #[test]
    fn only_a_trusted_peer_may_say_who_the_client_is() {
        let lines = [
            ("host", "a"),
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "b"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "6.6.6.6"),
        ];
        assert_eq!(rewritten(&lines, None), OWN);
        let hops = ["198.51.100.7", "10.0.0.2"].map(|it| it.parse().unwrap());
        assert_eq!(
            rewritten(&lines, Some(&hops)),
            [
                "forwarded: for=6.6.6.6",
                "host: a",
                "x-forwarded-for: 198.51.100.7, 10.0.0.2, 192.0.2.1",
                "x-forwarded-host: b",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
                "x-real-ip: 6.6.6.6",
            ]
        );
        assert_eq!(rewritten(&[("host", "a")], Some(&[])), OWN);
    }

    #[test]
    fn request_without_host_gets_the_own_address() {
        let lines = rewritten(&[], None);
        assert!(lines.contains(&"host: 127.0.0.1:8000".into()), "{lines:?}");
    }

    #[test]
    fn framing_is_that_of_the_body() {
        for (before, length, expected) in [
            (&[][..], Some(0), None),
            (&[("content-length", "0")], Some(0), Some("0")),
            (&[("transfer-encoding", "chunked")], Some(0), Some("0")),
            (&[("transfer-encoding", "chunked")], Some(7), Some("7")),
            (&[("content-length", "7")], Some(7), Some("7")),
            (&[("transfer-encoding", "chunked")], None, None),
        ] {
            let mut headers = headers(before);
            set_framing(&mut headers, length);
            let found = headers.get(CONTENT_LENGTH).map(|it| it.to_str().unwrap());
            assert_eq!(found, expected, "{before:?} {length:?}");
            assert_eq!(headers.contains_key(TRANSFER_ENCODING), length.is_none());
        }
    }

    #[test]
    fn websocket_is_the_only_upgrade() {
        for (connection, upgrade, expected) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "WebSocket", true),
            ("keep-alive", "websocket", false),
            ("upgrade", "h2c", false),
            ("upgrade", "websocket, h2c", false),
        ] {
            let headers = headers(&[("connection", connection), ("upgrade", upgrade)]);
            assert_eq!(asks_for_websocket(&headers), expected, "{upgrade}");
        }
        let twice = [("connection", "upgrade"), ("upgrade", "websocket")];
        let twice = headers(&[twice[0], twice[1], ("upgrade", "h2c")]);
        assert!(!asks_for_websocket(&twice));
    }

    #[test]
    fn response_has_one_framing() {
        let kind = RequestKind {
            is_upgrade: false,
            takes_trailers: false,
        };
        let chunked = ("transfer-encoding", "chunked");
        let mut both = headers(&[chunked, ("content-length", "5"), ("trailer", "x")]);
        rewrite_response(&mut both, kind).unwrap();
        assert!(both.is_empty(), "{both:?}");
        for lines in [
            &[("transfer-encoding", "gzip, chunked")][..],
            &[("transfer-encoding", "gzip")],
            &[chunked, chunked],
        ] {
            assert!(
                rewrite_response(&mut headers(lines), kind).is_err(),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn response_has_one_length() {
        let set = |lengths: &[&str], body| {
            let lines: Vec<_> = lengths.iter().map(|it| ("content-length", *it)).collect();
            let mut headers = headers(&lines);
            set_one_length(&mut headers, body);
            let lengths = headers.get_all(CONTENT_LENGTH).iter();
            let lengths: Vec<_> = lengths.map(|it| it.to_str().unwrap().to_owned()).collect();
            lengths.join("|")
        };
        assert_eq!(set(&["5", "5"], Some(5)), "5");
        assert_eq!(set(&["5, 5"], Some(5)), "5");
        assert_eq!(set(&[], Some(5)), "");
        // The response to a HEAD request.
        assert_eq!(set(&["5"], None), "5");
        assert_eq!(set(&["5", "5"], None), "");
        assert_eq!(set(&["5, 5"], None), "");
    }
}
