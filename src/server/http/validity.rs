//! Checks of requests that RFC 9112 calls invalid and hyper accepts.

use std::net::Ipv6Addr;

use hyper::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::{HeaderMap, Method, Request, Uri, Version};
use poem::http::StatusCode;

/// Why a request is invalid. The connection ends with the response, because the client and the
/// daemon may disagree about where the request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidRequest {
    pub status: StatusCode,
    pub detail: &'static str,
}

const fn bad_request(detail: &'static str) -> InvalidRequest {
    InvalidRequest {
        status: StatusCode::BAD_REQUEST,
        detail,
    }
}

/// Checks the target, the transfer coding and the host of a request. Afterwards `Host` names the host of the
/// request: the authority of an absolute target replaces it (RFC 9112, section 3.2.2).
pub fn check<B>(request: &mut Request<B>) -> Result<(), InvalidRequest> {
    check_target(request.method(), request.uri())?;
    check_transfer_encoding(request.headers())?;
    check_host(request)
}

/// A request with both Transfer-Encoding and Content-Length may be two requests for a program that
/// follows the other one (RFC 9112, section 6.1).
pub fn check_framing(has_two: bool) -> Result<(), InvalidRequest> {
    if has_two {
        let detail = "the request has both Transfer-Encoding and Content-Length";
        Err(bad_request(detail))
    } else {
        Ok(())
    }
}

/// `*` is for `OPTIONS` only, and a host without a path for `CONNECT` only (RFC 9112, section 3.2).
fn check_target(method: &Method, uri: &Uri) -> Result<(), InvalidRequest> {
    let is_valid = match uri.path() {
        "*" => method == Method::OPTIONS,
        path => path.starts_with('/') || method == Method::CONNECT,
    };
    if is_valid {
        Ok(())
    } else {
        Err(bad_request("the request target has no path"))
    }
}

/// `chunked` is the only transfer coding that hyper decodes, but it accepts others before it.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), InvalidRequest> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter().peekable();
    if codings.peek().is_none() {
        return Ok(());
    }
    let (mut count, mut has_empty) = (0, false);
    for coding in codings.flat_map(|codings| codings.as_bytes().split(|byte| *byte == b',')) {
        let coding = coding.trim_ascii();
        if !coding.is_empty() && !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(InvalidRequest {
                status: StatusCode::NOT_IMPLEMENTED,
                detail: "unsupported Transfer-Encoding: only `chunked` is supported",
            });
        }
        has_empty |= coding.is_empty();
        count += 1;
    }
    if count == 1 && !has_empty {
        Ok(())
    } else {
        Err(bad_request("Transfer-Encoding must be `chunked`, once"))
    }
}

fn check_host<B>(request: &mut Request<B>) -> Result<(), InvalidRequest> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_valid_host(host.as_bytes()) => {}
        (None, _) if request.version() < Version::HTTP_11 => {}
        _ => {
            return Err(bad_request(
                "the request needs exactly one valid Host header",
            ));
        }
    }
    let Some(authority) = request.uri().authority() else {
        return Ok(());
    };
    let host = HeaderValue::from_str(authority.as_str());
    match host {
        Ok(host) if is_valid_host(host.as_bytes()) => {
            request.headers_mut().insert(HOST, host);
            Ok(())
        }
        _ => Err(bad_request("the request target has an invalid host")),
    }
}

/// Whether the bytes are `uri-host [ ":" port ]` (RFC 9110, section 7.2). The host may be empty.
fn is_valid_host(value: &[u8]) -> bool {
    let (host, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !value.ends_with(b"]") => (&value[..colon], Some(&value[colon + 1..])),
        _ => (value, None),
    };
    port.is_none_or(is_valid_port)
        && match host {
            [b'[', address @ .., b']'] => is_ipv6(address),
            name => is_registered_name(name),
        }
}

fn is_valid_port(port: &[u8]) -> bool {
    let mut number = 0_u32;
    port.iter().all(|byte| {
        number = number.saturating_mul(10) + u32::from(byte.wrapping_sub(b'0'));
        byte.is_ascii_digit() && u16::try_from(number).is_ok()
    })
}

fn is_ipv6(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// `reg-name` (RFC 3986, section 3.2.2). An IPv4 address is one, too.
fn is_registered_name(mut name: &[u8]) -> bool {
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..]
                if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) =>
            {
                rest
            }
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(target: &str, headers: &[(&str, &str)]) -> Result<Vec<HeaderValue>, u16> {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        check(&mut request).map_err(|invalid| invalid.status.as_u16())?;
        Ok(request.headers().get_all(HOST).iter().cloned().collect())
    }

    #[test]
    fn authority_of_target_replaces_host() {
        let host = |target, host| checked(target, &[("host", host)]);
        assert_eq!(host("/", "a").unwrap(), ["a"]);
        assert_eq!(host("http://b:1/", "a").unwrap(), ["b:1"]);
        assert_eq!(host("http://b", "").unwrap(), ["b"]);
        assert_eq!(host("http://u@b/", "b"), Err(400));
        assert_eq!(host("http://b/", "a b"), Err(400));
        assert_eq!(checked("http://b/", &[]), Err(400));
    }

    #[test]
    fn host_has_the_form_of_rfc_9110() {
        for valid in [
            "", "a", "a:", "a:65535", "[::1]", "[::1]:1", "a%2F", "a_b.-~",
        ] {
            assert!(is_valid_host(valid.as_bytes()), "{valid}");
        }
        for invalid in [
            "a b",
            "a/",
            "@",
            "a:65536",
            "a:b",
            "a::1",
            "::1",
            "[",
            "]",
            "[]",
            "[::1]a",
            "a[::1]",
            "[::1%25lo]",
            "%",
            "%2",
            "%2g",
            "\u{e4}",
            "a:99999999999999999999",
            "a?",
            "a#",
            "a\\",
        ] {
            assert!(!is_valid_host(invalid.as_bytes()), "{invalid}");
        }
    }

    #[test]
    fn only_chunked_is_a_transfer_coding() {
        let status = |codings: &[&str]| {
            let codings = codings.iter().map(|it| ("transfer-encoding", *it));
            let headers: Vec<_> = codings.chain([("host", "a")]).collect();
            checked("/", &headers).map_or_else(|status| status, |_| 200)
        };
        assert_eq!(status(&[]), 200);
        assert_eq!(status(&["\tChunked "]), 200);
        for codings in [
            &["chunked,chunked"][..],
            &["chunked", "chunked"],
            &[""],
            &[",chunked"],
        ] {
            assert_eq!(status(codings), 400, "{codings:?}");
        }
        for codings in [&["gzip, chunked"][..], &["gzip", "chunked"], &["xchunked"]] {
            assert_eq!(status(codings), 501, "{codings:?}");
        }
    }
}
