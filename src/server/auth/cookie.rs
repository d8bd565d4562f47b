//! The session cookie of the admin API.

use std::time::Duration;

use hyper::HeaderMap;
use poem::http::HeaderValue;
use poem::http::header::COOKIE;

use crate::identity::identity;
use crate::server::http::origin;
use crate::server::http::problem::{ApiError, Result};

/// Names, reads and writes the session cookie.
///
/// A browser shares cookies between all ports of a host, so the name contains the port that the
/// browser sees: the port in `Host`, which a tunnel may have chosen, or else the port of the admin
/// listener.
#[derive(Debug)]
pub struct SessionCookie {
    admin_port: u16,
}

impl SessionCookie {
    pub fn new(admin_port: u16) -> Self {
        Self { admin_port }
    }

    fn name(&self, headers: &HeaderMap) -> String {
        let port = origin::host_port(headers).unwrap_or(self.admin_port);
        identity().session_cookie(port)
    }

    /// The values of the session cookie. There are several when another server on this host set a
    /// cookie of this name for a longer path.
    pub fn values<'a>(&self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let expected = self.name(headers);
        headers
            .get_all(COOKIE)
            .iter()
            // Cookies of other servers on this host may not be UTF-8.
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|cookie| std::str::from_utf8(cookie).ok())
            .filter_map(|cookie| cookie.trim_matches([' ', '\t']).split_once('='))
            .filter(move |(name, _)| *name == expected)
            .map(|(_, value)| value)
    }

    /// `Set-Cookie` that stores a session for as long as it is valid. It has no `Secure`: the admin
    /// API speaks plain HTTP on loopback, which not every browser considers secure.
    pub fn set(
        &self,
        request_headers: &HeaderMap,
        value: &str,
        lifetime: Duration,
    ) -> Result<HeaderValue> {
        self.set_cookie(request_headers, value, lifetime.as_secs())
    }

    /// `Set-Cookie` that removes the session from the browser.
    pub fn remove(&self, request_headers: &HeaderMap) -> Result<HeaderValue> {
        self.set_cookie(request_headers, "", 0)
    }

    fn set_cookie(
        &self,
        request_headers: &HeaderMap,
        value: &str,
        max_age: u64,
    ) -> Result<HeaderValue> {
        let name = self.name(request_headers);
        let cookie =
            format!("{name}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={max_age}");
        HeaderValue::try_from(cookie).map_err(|error| ApiError::internal(&error))
    }
}

#[cfg(test)]
mod tests {
    use poem::http::header::HOST;

    use super::*;

    #[test]
    fn only_cookies_of_this_port_are_read() {
        let mut headers = HeaderMap::new();
        for value in [
            "a=1; fullon-session-8001=x.y.z;fullon-session-80=no",
            "fullon-session-8001=second; Fullon-Session-8001=no; fullon-session-8001",
            "other=\u{e9}; fullon-session-8001=third",
        ] {
            headers.append(COOKIE, HeaderValue::from_str(value).unwrap());
        }
        let cookie = SessionCookie::new(8001);
        let values: Vec<_> = cookie.values(&headers).collect();
        assert_eq!(values, ["x.y.z", "second", "third"]);
        // Through a tunnel, the cookie has the port of the tunnel.
        headers.insert(HOST, HeaderValue::from_static("localhost:80"));
        let values: Vec<_> = cookie.values(&headers).collect();
        assert_eq!(values, ["no"]);
    }
}
