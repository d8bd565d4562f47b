//! Protects the admin API from web pages of other origins.
//!
//! A page of another site makes the browser send that site's `Origin`. A foreign name that resolves
//! to this machine (DNS rebinding) arrives as an unknown `Host`. A proxy adds origins of its own,
//! which are listed in `ADMIN_ORIGINS`.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{HOST, ORIGIN};
use hyper::{HeaderMap, Method, Uri};

use crate::api::CONSOLE_CLEAR_PATH;
use crate::config::{AdminOrigin, LiveSettings, Settings, split_host_port};
use crate::server::http::negotiate::names;

/// The origins of the admin API.
#[derive(Debug, Clone)]
pub struct OwnOrigins {
    bound_to: IpAddr,
    live_settings: Arc<LiveSettings>,
}

impl OwnOrigins {
    /// Of a server that is bound to this address.
    pub fn new(bound_to: IpAddr, live_settings: Arc<LiveSettings>) -> Self {
        Self {
            bound_to,
            live_settings,
        }
    }

    /// Why a request is rejected, or `None`. The port in `Host` is not checked, because a tunnel or
    /// a proxy may listen on another port.
    pub fn rejection_reason(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<String> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(Ok(host)), None) = (hosts.next().map(|host| host.to_str()), hosts.next()) else {
            return Some("the request needs exactly one valid Host header".into());
        };
        let settings = self.live_settings.settings();
        let (name, _) = split_host_port(host);
        if !self.is_local_name(name) && !settings.admin_origins.has_host(name) {
            return Some(foreign_host_reason(host));
        }
        if headers.contains_key(ORIGIN) && !self.is_same_origin(headers) {
            return Some(foreign_origin_reason(headers));
        }
        if is_prefetch(headers) {
            return Some(PREFETCH.into());
        }
        // A local file loads this image. It has a check of its own.
        let is_clear = method.is_safe() && path.starts_with(CONSOLE_CLEAR_PATH);
        let is_foreign = is_cross_origin(headers) && !is_navigation(method, headers) && !is_clear;
        is_foreign.then(|| FOREIGN_PAGE.into())
    }

    /// Whether the request has an `Origin`, and it is one of this server.
    pub fn is_same_origin(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
            return false;
        };
        let settings = self.live_settings.settings();
        let is_local = self.is_local_name(split_host_port(host).0);
        let is_own = |origin: &str| {
            is_local && origin.strip_prefix("http://") == Some(host)
                || settings.admin_origins.with_text(origin).is_some()
        };
        headers.contains_key(ORIGIN)
            && headers
                .get_all(ORIGIN)
                .iter()
                .all(|origin| origin.to_str().is_ok_and(is_own))
    }

    /// The origin of `ADMIN_ORIGINS` that the browser shows. `Origin` names it even if a proxy has
    /// replaced `Host`, but a browser does not send it with each request.
    pub fn proxied(&self, headers: &HeaderMap) -> Option<AdminOrigin> {
        let settings = self.live_settings.settings();
        let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        let origin = origin.and_then(|origin| settings.admin_origins.with_text(origin));
        origin.or_else(|| host_origin(headers, &settings)).cloned()
    }

    /// The active settings.
    pub fn settings(&self) -> Arc<Settings> {
        self.live_settings.settings()
    }

    /// The address to which a page of `localhost` is redirected. Another program may have that name
    /// to itself, on the other of the two loopback addresses. API requests are not redirected.
    ///
    /// Nor is anything with `ADMIN_ORIGINS`: a proxy on this machine may send this `Host`, and the
    /// browser would take a one-time token to its own machine.
    pub fn numeric_address(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<String> {
        let host = headers.get(HOST)?.to_str().ok()?;
        let (name, port) = split_host_port(host);
        if !name.eq_ignore_ascii_case("localhost") || !is_page_request(method, headers) {
            return None;
        }
        if !self.live_settings.settings().admin_origins.is_empty() {
            return None;
        }
        // A tunnel from `localhost` to any other address has one of these two at this end.
        let address = if self.bound_to.is_ipv6() {
            "[::1]"
        } else {
            "127.0.0.1"
        };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Some(format!("http://{address}{port}{path}"))
    }

    fn is_local_name(&self, name: &str) -> bool {
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let address = name
            .strip_prefix('[')
            .and_then(|n| n.strip_suffix(']'))
            .unwrap_or(name);
        address.parse::<IpAddr>().is_ok_and(|address| {
            address == self.bound_to || matches!(address.to_string().as_str(), "127.0.0.1" | "::1")
        })
    }
}

const PREFETCH: &str = "requests for a page before the user opens it are rejected: the browser does not name the page that causes them";
const FOREIGN_PAGE: &str = "requests from pages of other origins are rejected";

/// Names the header and the setting. Only characters of host names are repeated.
fn foreign_host_reason(host: &str) -> String {
    let hint = "use 127.0.0.1 or [::1], or add the origin of the proxy in front of this port to ADMIN_ORIGINS";
    if is_plain(host) {
        format!("the Host header names `{host}`, not this machine: {hint}, such as https://{host}")
    } else {
        format!("the Host header does not name this machine: {hint}")
    }
}

fn foreign_origin_reason(headers: &HeaderMap) -> String {
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin = origin.filter(|origin| {
        let parts = origin.split_once("://");
        parts.is_some_and(|(scheme, host)| is_plain(scheme) && is_plain(host))
    });
    match origin {
        Some(origin) => format!(
            "{FOREIGN_PAGE}: if `{origin}` is the console behind a proxy, add it to ADMIN_ORIGINS"
        ),
        None => FOREIGN_PAGE.into(),
    }
}

fn is_plain(host: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    !host.is_empty() && host.len() <= 300 && host.chars().all(is_valid)
}

/// The origin of `ADMIN_ORIGINS` that `Host` names.
fn host_origin<'a>(headers: &HeaderMap, settings: &'a Settings) -> Option<&'a AdminOrigin> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let (name, port) = split_host_port(host);
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    settings.admin_origins.with_host(name, port)
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

/// Whether the browser loads the page before the user opens it. It may do so for a page of another
/// origin, and not name that in `Sec-Fetch-Site`. The headers are those of speculation rules, and
/// older ones of Chromium, Firefox and Safari.
fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"]
        .into_iter()
        .any(|name| headers.contains_key(name))
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

/// Whether the response is shown to a person. Browsers send no Fetch Metadata to hosts that they do
/// not trust, but they ask for HTML.
pub fn is_page_request(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && if headers.contains_key("sec-fetch-mode") {
            is_navigation(method, headers)
        } else {
            names(headers, "text/html")
        }
}

/// The port in `Host`, as the browser knows it.
pub fn host_port(headers: &HeaderMap) -> Option<u16> {
    let host = headers.get(HOST)?.to_str().ok()?;
    split_host_port(host).1?.parse().ok()
}

#[cfg(test)]
pub(in crate::server) mod tests {
    use super::*;
    use crate::config::{Flags, SettingsLocation};

    /// Those of a server on 127.0.0.1 with this value of `ADMIN_ORIGINS`.
    pub(in crate::server) fn own_origins(admin_origins: &str) -> OwnOrigins {
        let location = SettingsLocation {
            directory: "/".into(),
            env_file: Some("/dev/null".into()),
            flags: Flags::from([("ADMIN_ORIGINS".to_owned(), admin_origins.to_owned())]),
        };
        let settings = Settings::load(&location.read_sources()).unwrap();
        let live_settings = Arc::new(LiveSettings::new(location, settings));
        OwnOrigins::new("127.0.0.1".parse().unwrap(), live_settings)
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let list = list.iter();
        list.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn check(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        is_accepted(&Method::GET, &headers)
    }

    fn is_accepted(method: &Method, headers: &HeaderMap) -> bool {
        let reason = own_origins("").rejection_reason(method, "/", headers);
        reason.is_none()
    }

    #[test]
    fn page_is_not_loaded_before_the_user_opens_it() {
        for (name, value) in [
            ("sec-purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("purpose", "prefetch"),
            ("x-purpose", "preview"),
            ("x-moz", "prefetch"),
        ] {
            let mut list = vec![
                ("host", "127.0.0.1:8001"),
                ("sec-fetch-site", "none"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ];
            assert!(is_accepted(&Method::GET, &headers(&list)));
            list.push((name, value));
            assert!(
                !is_accepted(&Method::GET, &headers(&list)),
                "{name}: {value}"
            );
        }
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
        let origins = own_origins("");
        let mut headers = HeaderMap::new();
        assert!(!origins.is_same_origin(&headers));
        headers.insert(HOST, "localhost:8001".parse().unwrap());
        assert!(!origins.is_same_origin(&headers));
        headers.append(ORIGIN, "http://localhost:8001".parse().unwrap());
        assert!(origins.is_same_origin(&headers));
        headers.append(ORIGIN, "http://localhost:9".parse().unwrap());
        assert!(!origins.is_same_origin(&headers));
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

    #[test]
    fn listed_origins_are_own_origins() {
        let origins = own_origins("https://a.example, https://b.example:8443, http://c.example");
        let reason = |host: &str, origin: &str| {
            let headers = headers(&[("host", host), ("origin", origin)]);
            origins.rejection_reason(&Method::POST, "/", &headers)
        };
        for (host, origin) in [
            ("a.example", "https://a.example"),
            ("A.example:8080", "https://a.example"),
            // The proxy replaced `Host`.
            ("127.0.0.1:8001", "https://b.example:8443"),
            ("c.example", "http://c.example"),
            ("127.0.0.1:8001", "http://127.0.0.1:8001"),
        ] {
            assert_eq!(reason(host, origin), None, "{host} {origin}");
        }
        for (host, origin) in [
            ("a.example", "http://a.example"),
            ("a.example", "https://a.example:8443"),
            ("b.example:8443", "https://b.example"),
            ("a.example", "https://sub.a.example"),
            ("a.example", "null"),
        ] {
            let headers = headers(&[("host", host), ("origin", origin)]);
            assert!(!origins.is_same_origin(&headers), "{host} {origin}");
            let reason = reason(host, origin).unwrap();
            assert!(reason.contains("other origins"), "{reason}");
            assert_eq!(reason.contains("ADMIN_ORIGINS"), origin != "null");
        }
        let reason = reason("d.example", "https://a.example").unwrap();
        assert!(reason.contains("`d.example`") && reason.contains("ADMIN_ORIGINS"));
    }

    #[test]
    fn reason_repeats_no_markup() {
        let origins = own_origins("");
        for (host, origin) in [
            ("<b>", "http://a"),
            ("127.0.0.1", "http://<b>"),
            ("127.0.0.1", "<b>://x"),
        ] {
            let headers = headers(&[("host", host), ("origin", origin)]);
            let reason = origins
                .rejection_reason(&Method::GET, "/", &headers)
                .unwrap();
            assert!(!reason.contains("<b>"), "{reason}");
        }
    }

    #[test]
    fn only_pages_of_localhost_are_redirected() {
        let page = ("accept", "text/html,*/*;q=0.8");
        let address = |origins: &OwnOrigins, method: Method, list: &[(&'static str, &str)]| {
            let uri = "/console?a=b".parse().unwrap();
            origins.numeric_address(&method, &uri, &headers(list))
        };
        let origins = own_origins("");
        let host = ("host", "LocalHost:9001");
        let expected = Some("http://127.0.0.1:9001/console?a=b");
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(
                address(&origins, method, &[host, page]).as_deref(),
                expected
            );
        }
        let fetched = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
        let opened = [
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        let with = |more: [(&'static str, &'static str); 2]| [host, page, more[0], more[1]];
        assert_eq!(
            address(&origins, Method::GET, &with(opened)).as_deref(),
            expected
        );
        assert_eq!(address(&origins, Method::GET, &with(fetched)), None);
        assert_eq!(
            address(&origins, Method::GET, &[host, ("accept", "*/*")]),
            None
        );
        assert_eq!(address(&origins, Method::POST, &[host, page]), None);
        let behind_proxy = own_origins("https://fullon.example.com");
        assert_eq!(address(&behind_proxy, Method::GET, &[host, page]), None);
        for other in ["127.0.0.1:9001", "localhost.example"] {
            assert_eq!(
                address(&origins, Method::GET, &[("host", other), page]),
                None
            );
        }
        let ipv6 = OwnOrigins {
            bound_to: "::1".parse().unwrap(),
            ..own_origins("")
        };
        assert_eq!(
            address(&ipv6, Method::GET, &[("host", "localhost"), page]).as_deref(),
            Some("http://[::1]/console?a=b")
        );
    }
}
