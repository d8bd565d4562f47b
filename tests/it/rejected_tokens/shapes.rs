//! Valid parts, assembled or encoded in another way.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;

use super::{ATTACKER_KEY, Attempt, claims_with, valid_token};
use crate::support::jwt::{HEADER, SECRET, hs256, sign};

pub fn all() -> Vec<Attempt> {
    let good = valid_token();
    let parts: Vec<_> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("{good}");
    };
    let again = |encode: &dyn Fn(&[u8]) -> String| {
        // Long enough to contain special characters and padding.
        let claims = encode(claims_with("x", json!("????")).as_bytes());
        let message = format!("{}.{claims}", encode(HEADER.as_bytes()));
        let signature = encode(&hs256(SECRET, &message));
        format!("{message}.{signature}")
    };
    let standard = again(&|bytes| STANDARD.encode(bytes).replace('=', ""));
    assert!(standard.contains(['+', '/']), "{standard}");
    let padded = again(&|bytes| URL_SAFE.encode(bytes));
    assert!(padded.contains('='), "{padded}");
    let json_form = json!({ "protected": header, "payload": claims, "signature": signature });
    let long = claims_with("padding", json!("x".repeat(5_000)));
    [
        ("nonsense", "nonsense".to_owned()),
        ("one dot", ".".into()),
        ("two dots", "..".into()),
        ("four parts", format!("{good}.{signature}")),
        ("empty part in front", format!(".{good}")),
        ("empty part behind", format!("{good}.")),
        (
            "JWE",
            format!("{header}.{claims}.{claims}.{signature}.{signature}"),
        ),
        ("no claims", format!("{header}..{signature}")),
        (
            "claims twice",
            format!("{header}.{claims}{claims}.{signature}"),
        ),
        ("reversed", format!("{signature}.{claims}.{header}")),
        ("JSON form", json_form.to_string()),
        ("capitals", good.to_uppercase()),
        ("standard alphabet", standard),
        ("padded", padded),
        ("padded signature", format!("{good}=")),
        ("space inside", format!("{header} .{claims}.{signature}")),
        ("tab inside", format!("{header}.\t{claims}.{signature}")),
        (
            "space in the claims",
            format!("{header}.{} {}.{signature}", &claims[..9], &claims[9..]),
        ),
        ("per cent", good.replace('.', "%2e")),
        ("angle brackets", format!("<{good}>")),
        ("seven kilobytes", "a".repeat(7_000)),
        ("seven kilobytes of dots", ".".repeat(7_000)),
        (
            "seven kilobytes, another key",
            sign(ATTACKER_KEY, HEADER, long),
        ),
    ]
    .into_iter()
    .map(|(what, token)| Attempt::bearer(format!("shape {what}"), &token))
    .collect()
}
