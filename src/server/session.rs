//! The session cookie: how a session travels to a browser and back, and the answers that carry it.

use hyper::HeaderMap;
use poem::http::header::{self, InvalidHeaderValue};
use poem::http::{HeaderValue, StatusCode};
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type as _;

use super::{payload, site};
use crate::api;
use crate::auth::{SESSION_LIFETIME, Scope, Session};

/// The cookie of one daemon. Its name has the port that the browser sees, because a browser keeps the cookies of all
/// ports of a host together: that of the `Host`, where a tunnel may begin, or else the one that the admin API is bound to.
#[derive(Debug)]
pub struct SessionCookie {
    admin_port: u16,
}

impl SessionCookie {
    pub fn new(admin_port: u16) -> Self {
        Self { admin_port }
    }

    fn name(&self, headers: &HeaderMap) -> String {
        let port = site::host_port(headers).unwrap_or(self.admin_port);
        format!("fullon-session-{port}")
    }

    /// The values under this name. There are several when another server of this host set a cookie for a part of
    /// our paths.
    pub fn values<'a>(&self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let ours = self.name(headers);
        headers
            .get_all(header::COOKIE)
            .iter()
            // Another server of this host may have set one that is no text.
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|cookie| std::str::from_utf8(cookie).ok())
            .filter_map(|cookie| cookie.trim_matches([' ', '\t']).split_once('='))
            .filter(move |(name, _)| *name == ours)
            .map(|(_, value)| value)
    }

    /// `Set-Cookie` that makes a browser keep the value. Without `Secure`: the admin API speaks plain HTTP on
    /// loopback, and not every browser takes that for secure.
    fn set(&self, asked: &HeaderMap, value: &str) -> Result<HeaderValue, InvalidHeaderValue> {
        self.set_cookie(asked, value, SESSION_LIFETIME.as_secs())
    }

    /// `Set-Cookie` that makes a browser forget it.
    fn remove(&self, asked: &HeaderMap) -> Result<HeaderValue, InvalidHeaderValue> {
        self.set_cookie(asked, "", 0)
    }

    fn set_cookie(
        &self,
        asked: &HeaderMap,
        value: &str,
        max_age: u64,
    ) -> Result<HeaderValue, InvalidHeaderValue> {
        let name = self.name(asked);
        HeaderValue::try_from(format!(
            "{name}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={max_age}"
        ))
    }
}

/// `201` with what the session allows, and the cookie.
pub struct SessionCreated {
    session: api::Session,
    cookie: HeaderValue,
}

impl SessionCreated {
    pub fn new(
        cookie: &SessionCookie,
        asked: &HeaderMap,
        session: Session,
        value: &str,
    ) -> Result<Self, InvalidHeaderValue> {
        Ok(Self {
            cookie: cookie.set(asked, value)?,
            session: session.into(),
        })
    }
}

impl From<Session> for api::Session {
    fn from(session: Session) -> Self {
        let scopes = Scope::ALL
            .into_iter()
            .filter(|scope| session.scopes.contains(*scope));
        Self {
            scopes: scopes.map(|scope| scope.as_str().to_owned()).collect(),
            subject: session.subject,
            expires_at: session.expires_at.to_string(),
        }
    }
}

impl IntoResponse for SessionCreated {
    fn into_response(self) -> Response {
        let mut response = payload::render(StatusCode::CREATED, &self.session);
        response
            .headers_mut()
            .insert(header::SET_COOKIE, self.cookie);
        response
    }
}

impl ApiResponse for SessionCreated {
    fn meta() -> MetaResponses {
        let mut meta = payload::meta::<api::Session>(StatusCode::CREATED, "Signed in.");
        meta.headers.push(set_cookie_header_meta("The session."));
        MetaResponses {
            responses: vec![meta],
        }
    }

    fn register(registry: &mut Registry) {
        api::Session::register(registry);
    }
}

/// `204`, and the cookie is removed.
pub struct SessionDeleted {
    cookie: HeaderValue,
}

impl SessionDeleted {
    pub fn new(cookie: &SessionCookie, asked: &HeaderMap) -> Result<Self, InvalidHeaderValue> {
        Ok(Self {
            cookie: cookie.remove(asked)?,
        })
    }
}

impl IntoResponse for SessionDeleted {
    fn into_response(self) -> Response {
        Response::builder()
            .status(StatusCode::NO_CONTENT)
            .header(header::SET_COOKIE, self.cookie)
            .finish()
    }
}

impl ApiResponse for SessionDeleted {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Signed out.",
                status: Some(StatusCode::NO_CONTENT.as_u16()),
                status_range: None,
                content: vec![],
                headers: vec![set_cookie_header_meta(
                    "Removes the session from the browser.",
                )],
            }],
        }
    }

    fn register(_: &mut Registry) {}
}

fn set_cookie_header_meta(description: &str) -> MetaHeader {
    MetaHeader {
        name: "Set-Cookie".into(),
        description: Some(description.into()),
        required: true,
        deprecated: false,
        schema: String::schema_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cookies_of_this_port_are_read() {
        let mut headers = HeaderMap::new();
        for value in [
            "a=1; fullon-session-8001=x.y.z;fullon-session-80=no",
            "fullon-session-8001=second; Fullon-Session-8001=no; fullon-session-8001",
            "other=\u{e9}; fullon-session-8001=third",
        ] {
            headers.append(header::COOKIE, HeaderValue::from_str(value).unwrap());
        }
        let cookie = SessionCookie::new(8001);
        let values: Vec<_> = cookie.values(&headers).collect();
        assert_eq!(values, ["x.y.z", "second", "third"]);
        // Through a tunnel it is the cookie of the port where that begins.
        headers.insert(header::HOST, HeaderValue::from_static("localhost:80"));
        let values: Vec<_> = cookie.values(&headers).collect();
        assert_eq!(values, ["no"]);
    }
}
