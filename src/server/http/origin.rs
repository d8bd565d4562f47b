//! Protects the admin API from web pages of other origins.
//!
//! A page of another site makes the browser send that site's `Origin`. A foreign name that resolves
//! to this machine (DNS rebinding) arrives as an unknown `Host`.

use std::net::IpAddr;

use hyper::header::{HOST, ORIGIN};
use hyper::{HeaderMap, Method};

/// Why a request is rejected, or `None`. The port in `Host` is not checked, because a tunnel may
/// start at another port.
pub fn rejection_reason(
    method: &Method,
    headers: &HeaderMap,
    bound_to: IpAddr,
) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(|host| host.to_str()), hosts.next()) else {
        return Some("the request needs exactly one valid Host header");
    };
    if !is_local_host(host, bound_to) {
        return Some(
            "the Host header does not name this machine: use localhost, 127.0.0.1 or [::1]",
        );
    }
    let is_foreign = headers.contains_key(ORIGIN) && !is_same_origin(headers)
        || is_cross_origin(headers) && !is_navigation(method, headers);
    is_foreign.then_some("requests from pages of other origins are rejected")
}

/// Whether the request has an `Origin`, and it is that of this server.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    headers.contains_key(ORIGIN)
        && headers.get_all(ORIGIN).iter().all(|origin| {
            origin.to_str().ok().and_then(|o| o.strip_prefix("http://")) == Some(host)
        })
}

/// Whether a page of another origin caused the request, according to `Sec-Fetch-Site` (Fetch
/// Metadata). A browser sends no `Origin` for images, scripts and links, but it may send the
/// cookie: cookies do not distinguish ports of a host.
pub fn is_cross_origin(headers: &HeaderMap) -> bool {
    headers
        .get_all("sec-fetch-site")
        .iter()
        .any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// Whether the user follows a link and the browser opens it as a page. The page with the link
/// cannot read the response.
fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().is_some_and(|first| first == value) && values.next().is_none()
    };
    method.is_safe() && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

/// The port in `Host`, as the browser knows it.
pub fn host_port(headers: &HeaderMap) -> Option<u16> {
    let host = headers.get(HOST)?.to_str().ok()?;
    split_host_port(host).1?.parse().ok()
}

fn split_host_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    }
}

fn is_local_host(host: &str, bound_to: IpAddr) -> bool {
    let (name, _) = split_host_port(host);
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .unwrap_or(name);
    address.parse::<IpAddr>().is_ok_and(|address| {
        address == bound_to || matches!(address.to_string().as_str(), "127.0.0.1" | "::1")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        is_accepted(&Method::GET, &headers)
    }

    fn is_accepted(method: &Method, headers: &HeaderMap) -> bool {
        rejection_reason(method, headers, "127.0.0.1".parse().unwrap()).is_none()
    }

    #[test]
    fn host_header_must_name_this_machine() {
        for host in [
            "localhost",
            "LOCALHOST:8001",
            "127.0.0.1:9",
            "[::1]:8001",
            "[::1]",
        ] {
            assert!(check(host, None), "{host}");
        }
        for host in [
            "evil.example",
            "0.0.0.0:8001",
            "localhost.evil.example",
            "127.0.0.1.nip.io:8001",
            "",
            "127.0.0.2",
        ] {
            assert!(!check(host, None), "{host}");
        }
        assert!(!is_accepted(&Method::GET, &HeaderMap::new()));
    }

    #[test]
    fn origin_header_must_match_the_host() {
        assert!(check("localhost:8001", Some("http://localhost:8001")));
        for origin in [
            "null",
            "http://localhost:8000",
            "http://127.0.0.1:8001",
            "https://localhost:8001",
            "http://evil.example",
        ] {
            assert!(!check("localhost:8001", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn missing_origin_is_not_same_origin() {
        let mut headers = HeaderMap::new();
        assert!(!is_same_origin(&headers));
        headers.insert(HOST, "localhost:8001".parse().unwrap());
        assert!(!is_same_origin(&headers));
        headers.append(ORIGIN, "http://localhost:8001".parse().unwrap());
        assert!(is_same_origin(&headers));
        headers.append(ORIGIN, "http://localhost:9".parse().unwrap());
        assert!(!is_same_origin(&headers));
    }

    #[test]
    fn cross_site_requests_may_only_navigate() {
        let from_elsewhere = |method, mode: &str, dest: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("host", "localhost:8001"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ] {
                headers.insert(name, value.parse().unwrap());
            }
            is_accepted(&method, &headers)
        };
        assert!(from_elsewhere(Method::GET, "navigate", "document"));
        assert!(!from_elsewhere(Method::POST, "navigate", "document"));
        assert!(!from_elsewhere(Method::GET, "navigate", "iframe"));
        assert!(!from_elsewhere(Method::GET, "no-cors", "script"));
        assert!(!from_elsewhere(Method::GET, "cors", "empty"));
    }

    #[test]
    fn another_port_of_this_host_is_cross_origin() {
        for (site, of_other) in [
            (None, false),
            (Some("none"), false),
            (Some("same-origin"), false),
            (Some("same-site"), true),
            (Some("cross-site"), true),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            assert_eq!(is_cross_origin(&headers), of_other, "{site:?}");
        }
    }
}
