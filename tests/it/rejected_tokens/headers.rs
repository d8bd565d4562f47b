//! Invalid headers with a matching signature.

use super::{ATTACKER_KEY, Attempt, SCOPES};
use crate::support::jwt::{HEADER, SECRET, claims, encode_part, sign};

/// Signed with the configured key.
const HEADERS: [&str; 43] = [
    r#"{"typ":"JWT"}"#,
    r#"{"alg":null}"#,
    r#"{"alg":256}"#,
    r#"{"alg":["HS256"]}"#,
    r#"{"alg":"hs256"}"#,
    r#"{"alg":"Hs256"}"#,
    r#"{"alg":"HS256 "}"#,
    r#"{"alg":""}"#,
    r#"{"alg":"none"}"#,
    r#"{"alg":"None"}"#,
    r#"{"alg":"NONE"}"#,
    r#"{"alg":"HS384"}"#,
    r#"{"alg":"HS512"}"#,
    r#"{"alg":"RS256"}"#,
    r#"{"alg":"PS256"}"#,
    r#"{"alg":"ES256"}"#,
    r#"{"alg":"EdDSA"}"#,
    r#"{"alg":"dir","enc":"A128GCM"}"#,
    r#"{"Alg":"HS256"}"#,
    r#"{"alg":"none","alg":"HS256"}"#,
    r#"{"alg":"HS256","alg":"none"}"#,
    r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
    r#"{"alg":"HS256","kid":7}"#,
    r#"{"alg":"HS256","kid":["instance"]}"#,
    r#"{"alg":"HS256","kid":"instance"}"#,
    r#"{"alg":"HS256","kid":"instanc\u0065"}"#,
    r#"{"alg":"HS256","typ":7}"#,
    r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
    r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
    r#"{"alg":"HS256","crit":["unknown"]}"#,
    r#"{"alg":"HS256","crit":[]}"#,
    r#"{"alg":"HS256","crit":"exp"}"#,
    r#"{"alg":"HS256"} "more""#,
    r#"{"alg":"HS256",}"#,
    r#"{alg:"HS256"}"#,
    r"{'alg':'HS256'}",
    r#"["HS256"]"#,
    r#""HS256""#,
    "\u{feff}{\"alg\":\"HS256\"}",
    "HS256",
    "null",
    "{}",
    "",
];

/// `instance` is the key in the state file of the daemon, `elsewhere` a server that offers keys.
pub fn all(instance: &str, elsewhere: &str) -> Vec<Attempt> {
    let claims = claims(SCOPES).to_string();
    let of = |what: &str, header: &[u8], key: &str| {
        Attempt::bearer(format!("header {what}"), &sign(key, header, &claims))
    };
    let named = |kid: &str| format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
    let jwk = |key: &str| format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{key}"}}}}"#);
    let url = |name: &str| format!(r#"{{"alg":"HS256","{name}":"http://{elsewhere}/key"}}"#);
    let deep = ["[".repeat(500), "]".repeat(500)].concat();
    let keys = [
        (HEADER.to_owned(), instance),
        (named("Instance"), instance),
        (named("../../../../../../../../dev/null"), ""),
        (named("/proc/sys/kernel/randomize_va_space"), "2\n"),
        (named("x' UNION SELECT 'key"), "key"),
        (named(""), ""),
        (jwk(&encode_part(ATTACKER_KEY)), ATTACKER_KEY),
        (jwk(ATTACKER_KEY), ATTACKER_KEY),
        (url("jku"), ATTACKER_KEY),
        (url("x5u"), ATTACKER_KEY),
        (format!(r#"{{"alg":"HS256","x":{deep}}}"#), SECRET),
    ];
    let keys = keys
        .iter()
        .map(|(header, key)| of(header, header.as_bytes(), key));
    HEADERS
        .iter()
        .map(|header| of(header, header.as_bytes(), SECRET))
        .chain(keys)
        .chain([of(
            "not UTF-8",
            b"{\"alg\":\"HS256\",\"kid\":\"\xff\"}",
            SECRET,
        )])
        .collect()
}
