//! A browser session: its cookie and its two other values.

use super::{Home, Response, request};

/// The three values of a session.
#[derive(Debug, Clone)]
pub struct TestSession {
    /// `NAME=VALUE`.
    pub cookie: String,
    pub session: String,
    pub ticket: String,
}

impl From<&Response> for TestSession {
    /// The session of the response to `POST /admin/session`.
    #[track_caller]
    fn from(response: &Response) -> Self {
        assert_eq!(response.status, 201, "{response:#?}");
        let body = response.json();
        let value = |name: &str| body[name].as_str().unwrap().to_owned();
        Self {
            cookie: response.cookie(),
            session: value("session"),
            ticket: value("ticket"),
        }
    }
}

impl TestSession {
    /// The headers that a page of the admin API sends.
    pub fn headers(&self) -> [(&str, &str); 2] {
        [
            ("Cookie", &self.cookie),
            ("X-Fullon-Session", &self.session),
        ]
    }

    /// A request as a page of the admin API sends it.
    pub fn request(&self, host: &str, method: &str, path: &str) -> Response {
        let origin = format!("http://{host}");
        let [cookie, session] = self.headers();
        let headers = [cookie, session, ("Origin", &origin)];
        request(host, method, path, &headers, "")
    }

    /// The same with the cookie name of the port on which the daemon listens now.
    pub fn with_current_port(&self, home: &Home) -> Self {
        let (_, value) = self.cookie.split_once('=').unwrap();
        let port = home.admin_address().rsplit(':').next().unwrap().to_owned();
        Self {
            cookie: format!("fullon-session-{port}={value}"),
            ..self.clone()
        }
    }
}

impl Home {
    /// Signs in with a token of this scope.
    #[track_caller]
    pub fn sign_in(&self, scope: &str) -> TestSession {
        let token = self.token(scope);
        TestSession::from(&self.call_admin_as(&token, "POST", "/admin/session"))
    }
}
