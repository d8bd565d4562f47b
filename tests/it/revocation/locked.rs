//! Changes while another process has locked a file that they need.

use std::fs;
use std::thread;

use serde_json::json;

use super::{ALL, file, revoke, session_status, sign_in};
use crate::support::{Connection, Home, eventually, lock_file};

/// Only the command waits, not the daemon.
#[test]
fn locked_list_holds_up_revocation_of_all_tokens_only() {
    let home = Home::started();
    let token = home.token(ALL);
    let lock = lock_file(&file(&home).with_extension("revoked.lock"));
    thread::scope(|scope| {
        let all = scope.spawn(|| revoke(&home, &json!({ "all": true })));
        let accepted = "action=\"revoke_tokens\" outcome=\"accepted\"";
        eventually("the daemon tries to revoke all tokens", || {
            home.log().contains(accepted)
        });
        // The daemon saves the session.
        let session = sign_in(&home, &token);
        home.run(["reload"]).succeeds();
        assert_eq!(session_status(&home, &session), 200);
        drop(lock);
        let answer = all.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:#?}");
        assert_eq!(answer.json()["sessions_ended"], 1);
        assert_eq!(session_status(&home, &session), 401);
        assert_eq!(home.log().matches(accepted).count(), 1);
    });
}

#[test]
fn session_begins_and_ends_once_that_is_in_the_audit_trail() {
    let home = Home::started();
    let [ended, signed_out] = [(); 2].map(|()| home.sign_in(ALL));
    let host = home.admin_address();
    let id = ended.request(&host, "GET", "/admin/session").json()["id"].clone();
    let path = format!("/admin/sessions/{}", id.as_str().unwrap());
    let bearer = home.bearer();
    let origin = format!("http://{host}");
    let [cookie, value] = signed_out.headers();
    let by_token = [("Authorization", &*bearer)];
    for (action, method, path, headers, status) in [
        ("end_session", "DELETE", &*path, &by_token[..], 204),
        (
            "sign_out",
            "DELETE",
            "/admin/session",
            &[cookie, value, ("Origin", &origin)],
            204,
        ),
        ("sign_in", "POST", "/admin/session", &by_token, 201),
    ] {
        let sessions = || home.call_admin("GET", "/admin/sessions").body;
        let before = sessions();
        let trail = home.path().join("fullon.log.audit");
        let accepted = format!("\"event\":\"{action}\",\"outcome\":\"accepted\"");
        let recorded = || {
            let text = fs::read_to_string(&trail).unwrap();
            text.matches(&accepted).count()
        };
        let recorded_before = recorded();
        let lock = lock_file(&trail);
        let mut connection = Connection::open(&host);
        connection.send(method, path, headers, "");
        for _ in 0..10 {
            assert_eq!(sessions(), before, "{action}");
        }
        assert_eq!(recorded(), recorded_before, "{action}");
        drop(lock);
        assert_eq!(connection.read_response(method).status, status, "{action}");
        assert_ne!(sessions(), before, "{action}");
        assert_eq!(recorded(), recorded_before + 1, "{action}");
    }
}
