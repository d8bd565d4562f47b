//! Which web pages may talk to the admin API: its own. A page of another site makes the browser send that site's
//! `Origin`, and a name that was made to resolve to this machine (DNS rebinding) arrives as an unknown `Host`.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{HOST, ORIGIN};

/// Why a request is refused, or `None`. The port does not count: a tunnel may end on another.
pub fn refusal(headers: &HeaderMap, bound_to: IpAddr) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(|host| host.to_str()), hosts.next()) else {
        return Some("the request has no single valid Host header");
    };
    if !is_local(host, bound_to) {
        return Some("the Host header names another machine: use localhost, 127.0.0.1 or [::1]");
    }
    let is_foreign = headers
        .get_all(ORIGIN)
        .iter()
        .any(|origin| origin.to_str().ok().and_then(|o| o.strip_prefix("http://")) != Some(host));
    is_foreign.then_some("requests from pages of other origins are refused")
}

fn is_local(host: &str, bound_to: IpAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
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
        refusal(&headers, "127.0.0.1".parse().unwrap()).is_none()
    }

    #[test]
    fn only_this_machine_by_its_own_names() {
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
        assert!(refusal(&HeaderMap::new(), "127.0.0.1".parse().unwrap()).is_some());
    }

    #[test]
    fn only_pages_of_the_same_origin() {
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
}
