//! Invalid signatures of valid claims.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::{ATTACKER_KEY, Attempt, PLACEHOLDER, SCOPES, valid_token};
use crate::support::jwt::{HEADER, SECRET, claims, encode_part, hs256, sign, signing_input};

pub fn all() -> Vec<Attempt> {
    let good = valid_token();
    let (signed_part, signature) = good.rsplit_once('.').unwrap();
    let claims = claims(SCOPES).to_string();
    let right = hs256(SECRET, signed_part);
    let other_header = r#"{"alg":"HS256","kid":"x"}"#;
    let of_other_header = hs256(SECRET, &signing_input(other_header, &claims));
    let hs384 = signing_input(r#"{"alg":"HS384"}"#, &claims);
    let hs512 = signing_input(r#"{"alg":"HS512"}"#, &claims);
    let mac384 = Hmac::<Sha384>::new_from_slice(SECRET.as_bytes()).unwrap();
    let mac384 = mac384.chain_update(&hs384).finalize().into_bytes();
    let mac512 = Hmac::<Sha512>::new_from_slice(SECRET.as_bytes()).unwrap();
    let of_hs256 = mac512
        .clone()
        .chain_update(signed_part)
        .finalize()
        .into_bytes();
    let mac512 = mac512.chain_update(&hs512).finalize().into_bytes();
    let hex = right
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let flipped = |at: usize| {
        let mut bytes = right.clone();
        bytes[at] ^= 1;
        format!("{signed_part}.{}", encode_part(bytes))
    };
    let with = |bytes: &[u8]| format!("{signed_part}.{}", encode_part(bytes));
    let none = |name: &str| {
        format!(
            "{}.",
            signing_input(format!(r#"{{"alg":"{name}"}}"#), &claims)
        )
    };
    let mut attempts = vec![
        ("empty", format!("{signed_part}.")),
        ("missing", signed_part.to_owned()),
        ("16 bytes of it", with(&right[..16])),
        ("31 bytes of it", with(&right[..31])),
        ("one byte more", with(&[&right[..], &[0]].concat())),
        ("one character less", good[..good.len() - 1].to_owned()),
        ("first bit", flipped(0)),
        ("last bit", flipped(31)),
        ("twice", format!("{good}{signature}")),
        ("hexadecimal", format!("{signed_part}.{hex}")),
        ("zeros", with(&[0; 32])),
        ("of another header", with(&of_other_header)),
        (
            "of the claims alone",
            with(&hs256(SECRET, &encode_part(&claims))),
        ),
        (
            "of the plain text",
            with(&hs256(SECRET, &format!("{HEADER}.{claims}"))),
        ),
        (
            "a plain hash",
            with(&Sha256::digest(format!("{SECRET}{signed_part}"))),
        ),
        ("SHA-512 cut short", with(&of_hs256[..32])),
        ("HS384", format!("{hs384}.{}", encode_part(mac384))),
        ("HS512", format!("{hs512}.{}", encode_part(mac512))),
        (
            "ES256 of zeros",
            format!(
                "{}.{}",
                signing_input(r#"{"alg":"ES256"}"#, &claims),
                encode_part([0; 64])
            ),
        ),
        ("none", none("none")),
        ("None", none("None")),
        ("NONE", none("NONE")),
    ];
    for (what, key) in [
        ("no key", String::new()),
        ("placeholder", PLACEHOLDER.into()),
        ("another key", ATTACKER_KEY.into()),
        ("capitals", SECRET.to_uppercase()),
        ("with its line end", format!("{SECRET}\n")),
        ("a part of it", SECRET[..32].into()),
        ("encoded", encode_part(SECRET)),
    ] {
        attempts.push((what, sign(key, HEADER, &claims)));
    }
    let mut attempts: Vec<_> = attempts
        .into_iter()
        .map(|(what, token)| Attempt::bearer(format!("signature {what}"), &token))
        .collect();
    attempts.extend(other_last_characters(signed_part, signature));
    attempts
}

/// The last character has unused bits: four spellings decode to the same signature, and only one
/// is valid.
fn other_last_characters(signed_part: &str, signature: &str) -> impl Iterator<Item = Attempt> {
    let (rest, last) = signature.split_at(signature.len() - 1);
    let others = (b'A'..=b'Z')
        .chain(b'a'..=b'z')
        .chain(b'0'..=b'9')
        .chain(*b"-_");
    others
        .map(char::from)
        .filter(move |other| last != other.to_string())
        .map(move |other| {
            let token = format!("{signed_part}.{rest}{other}");
            Attempt::bearer(format!("signature {other} in place of {last}"), &token)
        })
}
