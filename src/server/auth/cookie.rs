//! The session cookie of the admin API.

use std::iter;
use std::time::Duration;

use hyper::HeaderMap;
use poem::http::HeaderValue;
use poem::http::header::COOKIE;

use crate::config::AdminOrigin;
use crate::identity::identity;
use crate::server::http::origin::{self, OwnOrigins};
use crate::server::http::problem::{ApiError, Result};

/// Names, reads and writes the session cookie.
///
/// A browser shares cookies between all ports of a host, so the name contains the port that the
/// browser sees: the port in `Host`, which a tunnel may have chosen, or else the port of the admin
/// listener. Behind a proxy, the origin in `ADMIN_ORIGINS` decides.
#[derive(Debug)]
pub struct SessionCookie {
    admin_port: u16,
    origins: OwnOrigins,
}

impl SessionCookie {
    pub fn new(admin_port: u16, origins: OwnOrigins) -> Self {
        Self {
            admin_port,
            origins,
        }
    }

    /// The name for a page of this server, or of the origin that a proxy adds.
    fn name(&self, headers: &HeaderMap, proxied: Option<&AdminOrigin>) -> String {
        match proxied {
            Some(origin) if origin.is_https() => identity().secure_session_cookie(origin.port()),
            Some(origin) => identity().session_cookie(origin.effective_port()),
            None => {
                let port = origin::host_port(headers).unwrap_or(self.admin_port);
                identity().session_cookie(port)
            }
        }
    }

    /// The names of the cookie in a request. If a proxy replaces `Host`, only some requests say
    /// which origin the page has.
    fn possible_names(&self, headers: &HeaderMap) -> Vec<String> {
        let settings = self.origins.settings();
        let proxied = settings.admin_origins.iter().map(Some);
        let all = iter::once(None).chain(proxied);
        all.map(|proxied| self.name(headers, proxied)).collect()
    }

    /// The values of the session cookie. There are several when another server on this host set a
    /// cookie of this name for a longer path.
    pub fn values<'a>(&self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let names = self.possible_names(headers);
        headers
            .get_all(COOKIE)
            .iter()
            // Cookies of other servers on this host may not be UTF-8.
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|cookie| std::str::from_utf8(cookie).ok())
            .filter_map(|cookie| cookie.trim_matches([' ', '\t']).split_once('='))
            .filter(move |(name, _)| names.iter().any(|expected| expected == name))
            .map(|(_, value)| value)
    }

    /// `Set-Cookie` that stores a session for as long as it is valid. Without a proxy it has no
    /// `Secure`: the admin API speaks plain HTTP on loopback, which not every browser considers
    /// secure.
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
        let proxied = self.origins.proxied(request_headers);
        let name = self.name(request_headers, proxied.as_ref());
        let is_https = proxied.is_some_and(|origin| origin.is_https());
        let secure = if is_https { "; Secure" } else { "" };
        let cookie =
            format!("{name}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={max_age}{secure}");
        HeaderValue::try_from(cookie).map_err(|error| ApiError::internal(&error))
    }
}

#[cfg(test)]
mod tests {
    use poem::http::header::HOST;

    use super::*;
    use crate::server::http::origin::tests::own_origins;

    #[test]
    fn cookie_of_https_origin_is_secure_and_found_behind_any_proxy() {
        let cookie = SessionCookie::new(8001, own_origins("https://a, https://b:8443, http://c"));
        let headers = |list: &[(&'static str, &str)]| -> HeaderMap {
            let list = list.iter();
            list.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect()
        };
        let own = "fullon-session-8001=v";
        let cookies = "__Host-fullon-session=v";
        for (host, origin, expected, is_secure) in [
            ("a", None, cookies, true),
            ("127.0.0.1:8001", Some("https://a"), cookies, true),
            ("b:8443", None, "__Host-fullon-session-8443=v", true),
            ("c", None, "fullon-session-80=v", false),
            ("127.0.0.1:8001", None, own, false),
            ("127.0.0.1:8001", Some("http://127.0.0.1:8001"), own, false),
        ] {
            let mut list = vec![("host", host)];
            list.extend(origin.map(|origin| ("origin", origin)));
            let set = cookie.set(&headers(&list), "v", Duration::from_secs(9));
            let set = set.unwrap();
            let set = set.to_str().unwrap();
            let (pair, attributes) = set.split_once("; ").unwrap();
            assert_eq!(pair, expected);
            let secure = if is_secure { "; Secure" } else { "" };
            let other = "HttpOnly; SameSite=Strict; Path=/; Max-Age=9";
            assert_eq!(attributes, format!("{other}{secure}"));
            // Later requests have no `Origin`.
            let later = headers(&[("host", host), ("cookie", pair)]);
            assert_eq!(cookie.values(&later).collect::<Vec<_>>(), ["v"], "{set}");
        }
    }

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
        let cookie = SessionCookie::new(8001, own_origins(""));
        let values: Vec<_> = cookie.values(&headers).collect();
        assert_eq!(values, ["x.y.z", "second", "third"]);
        // Through a tunnel, the cookie has the port of the tunnel.
        headers.insert(HOST, HeaderValue::from_static("localhost:80"));
        let values: Vec<_> = cookie.values(&headers).collect();
        assert_eq!(values, ["no"]);
    }
}
