//! The limit on failed tokens.

use super::metric;
use crate::support::{Home, eventually, request};

#[test]
fn failed_tokens_are_limited_but_valid_one_is_accepted() {
    let mut home = Home::new();
    home.set("FAILED_TOKENS_PER_MINUTE", "5");
    home.run(["start"]).succeeds();
    let status = |headers: &[(&str, &str)]| {
        request(&home.admin_address(), "GET", "/admin/status", headers, "")
    };
    let bad = [("Authorization", "Bearer nonsense")];
    for _ in 0..5 {
        status(&bad).assert_problem(401, "malformed");
    }
    let answer = status(&bad);
    answer.assert_problem(429, "wait");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    status(&[("X-Fullon-Session", "nonsense")]).assert_problem(429, "wait");
    // A request without a token has no failed token.
    status(&[]).assert_problem(401, "Authorization");
    let bearer = home.bearer();
    assert_eq!(status(&[("Authorization", &bearer)]).status, 200);
    home.run(["status"]).succeeds();
    home.run(["reload"]).succeeds();
    // A command whose own token is refused does not report that nothing runs.
    let mut other_home = Home::new();
    other_home.set(
        "JWT_SECRET_KEY",
        "the key of another daemon, as long as ours",
    );
    let url = format!("http://{}", home.admin_address());
    other_home
        .run(["--admin-url", &url, "status"])
        .exits(4)
        .stdout_contains(&["invalid tokens from this client"]);
    assert!(metric(&home, "fullon_admin_refused_tokens_total") >= 7);
    // Every requested change is audited, however many tokens were refused before.
    let stop = request(&home.admin_address(), "POST", "/admin/stop", &bad, "");
    stop.assert_problem(429, "wait");
    eventually("the line is logged", || {
        home.log()
            .contains("audit: action=\"stop\" outcome=\"refused\" peer=127.0.0.1")
    });
    home.run(["restart"]).succeeds();
    home.run(["stop"]).succeeds();
}
