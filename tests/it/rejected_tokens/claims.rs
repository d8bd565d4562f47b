//! Invalid claims with a valid signature.

use serde_json::Value;

use super::{Attempt, SCOPES, claims_with};
use crate::support::jwt::{HEADER, SECRET, claims, sign};

/// Invalid values of each claim. `-1h` and the like stand for a Unix time relative to now.
const VALUES: [(&str, &str); 6] = [
    (
        "exp",
        r#"[null, "", true, [], {}, ["1h"], "NaN", "2100-01-01T00:00:00Z", "4000000000", 0, -1,
            -9223372036854775808, 1e300, -1e300, -0.5, 4000000000000, "-24h", "-31s", "-6s"]"#,
    ),
    (
        "nbf",
        r#"["1h", "300s", 1e300, null, "", "0", true, [], {}]"#,
    ),
    ("jti", r#"[7, true, [], {}, ["x"]]"#),
    (
        "aud",
        r#"[null, "", 7, true, [], {}, "other", "Fullon-Admin", "FULLON-ADMIN", "fullon", "fullon-admi",
            "fullon-admin2", "fullon-admin ", " fullon-admin", "fullon-admin fullon-session", "fullon-session", "*",
            "fullon-admin\u0000", ["other"], [["fullon-admin"]], ["fullon-admin", 7], [null], {"fullon-admin": true}]"#,
    ),
    (
        "sub",
        r#"[null, "", 7, true, [], {}, ["me"], {"sub": "me"}]"#,
    ),
    (
        "scope",
        r#"[null, 7, true, [], {}, ["admin:read"], ["admin:read", "admin:logs"], {"admin:read": true}]"#,
    ),
];

fn attempt_with(name: &str, value: Value, now: i64) -> Attempt {
    let what = format!("{name} {value}");
    let away: Option<jiff::SignedDuration> = value.as_str().and_then(|text| text.parse().ok());
    let value = away.map_or(value, |away| (now + away.as_secs()).into());
    Attempt::bearer(what, &sign(SECRET, HEADER, claims_with(name, value)))
}

pub fn all() -> Vec<Attempt> {
    let now = jiff::Timestamp::now().as_second();
    let mut attempts = Vec::new();
    for (name, values) in VALUES {
        let values: Vec<Value> = serde_json::from_str(values).unwrap();
        attempts.extend(
            values
                .into_iter()
                .map(|value| attempt_with(name, value, now)),
        );
    }
    for name in ["exp", "sub", "aud", "scope"] {
        let mut claims = claims(SCOPES);
        claims.as_object_mut().unwrap().remove(name);
        let token = sign(SECRET, HEADER, claims.to_string());
        attempts.push(Attempt::bearer(format!("no {name}"), &token));
    }
    attempts.extend(malformed_claims(now - 60).map(|claims| {
        let token = sign(SECRET, HEADER, &claims);
        let claims = String::from_utf8_lossy(&claims);
        Attempt::bearer(format!("claims {claims}"), &token)
    }));
    attempts
}

/// Claims that are no JSON object, or have duplicate names.
fn malformed_claims(past: i64) -> [Vec<u8>; 21] {
    let good = claims(SCOPES);
    let expires_at = good["exp"].to_string();
    let good = good.to_string();
    let inside = good.trim_start_matches('{').trim_end_matches('}');
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    [
        format!(r#"{{"exp":{past},{inside}}}"#).into(),
        format!(r#"{{{inside},"exp":{past}}}"#).into(),
        format!(r#"{{"e\u0078p":{past},{inside}}}"#).into(),
        format!(r#"{{"aud":"other",{inside}}}"#).into(),
        format!(r#"{{{inside},"scope":"none"}}"#).into(),
        format!(r#"{{{inside},"sub":"you"}}"#).into(),
        format!(r#"{{{inside},"nbf":0,"nbf":1}}"#).into(),
        format!(r#"{{{inside},"x":Infinity}}"#).into(),
        format!("{{{inside},}}").into(),
        format!("{{{inside}}} {{}}").into(),
        format!("{{{inside},\"x\":\"\u{0}\"}}").into(),
        format!(r#"{{{inside},"jti":{deep}}}"#).into(),
        good.replace(&expires_at, "NaN").into(),
        format!("[{good}]").into(),
        format!("\u{feff}{good}").into(),
        [b"{\"jti\":\"\xff\",", inside.as_bytes(), b"}"].concat(),
        utf16,
        "not JSON".into(),
        "null".into(),
        "{}".into(),
        "".into(),
    ]
}
