//! The page for a person whose browser opened the admin port under an address that is not accepted.

use poem::Response;
use poem::http::StatusCode;

use super::static_file::HTML;
use crate::identity::identity;

/// `403` with the reason as a page, for a browser that shows problem documents as code.
pub fn refusal_page(reason: &str) -> Response {
    let title = identity().title;
    let command = identity().command;
    let reason = escape(reason);
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>Refused – {title}</title>\n<link rel=\"icon\" href=\"data:,\">\n</head>\n<body>\n<h1>{title} refuses this address</h1>\n<p>{reason}.</p>\n<p>ADMIN_ORIGINS is a setting of the daemon. <code>{command} reload</code> activates it. If you did not expect this page here, close it: another site may have led you to this machine.</p>\n</body>\n</html>\n"
    );
    Response::builder()
        .status(StatusCode::FORBIDDEN)
        .content_type(HTML)
        .body(page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
