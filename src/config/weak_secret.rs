//! Secrets that are long enough but easy to guess.

use std::collections::BTreeSet;

/// Secrets of at least 32 bytes that tutorials and standards print.
const PUBLISHED: [(&str, &str); 7] = [
    (
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "the FastAPI tutorial",
    ),
    (
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "the Supabase documentation",
    ),
    (
        "your-super-secret-jwt-token-with-at-least-32-characters-long",
        "the Supabase documentation",
    ),
    ("a-string-secret-at-least-256-bits-long", "jwt.io"),
    (
        "a-valid-string-secret-that-is-at-least-384-bits-long",
        "jwt.io",
    ),
    (
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
        "jwt.io",
    ),
    (
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "RFC 7515",
    ),
];

/// Of 32 random hexadecimal digits, fewer are left once in 20 million times.
const MIN_UNPREDICTABLE_BYTES: usize = 14;

/// Of 32 random hexadecimal digits, fewer are different once in 25 million times.
const MIN_DIFFERENT_BYTES: usize = 8;

/// Why a secret is easy to guess; `None` for a random one. The reason does not contain the secret.
#[must_use]
pub fn secret_weakness(secret: &str) -> Option<String> {
    let is_published = |(published, _): &&(&str, &str)| *published == secret.trim();
    if let Some((_, place)) = PUBLISHED.iter().find(is_published) {
        return Some(format!("is published in {place}"));
    }
    let bytes = secret.as_bytes();
    let period = smallest_period(bytes);
    let unit = &bytes[..period];
    let different = unit.iter().collect::<BTreeSet<_>>().len();
    let is_weak =
        unpredictable_bytes(unit) < MIN_UNPREDICTABLE_BYTES || different < MIN_DIFFERENT_BYTES;
    is_weak.then(|| {
        if period == 1 {
            "is one repeated byte".into()
        } else if period <= bytes.len() / 2 {
            format!("repeats a sequence of {period} bytes")
        } else if different < MIN_DIFFERENT_BYTES {
            format!("has only {different} different bytes")
        } else {
            "consists of sequences and repetitions".into()
        }
    })
}

/// The smallest number such that the text repeats after so many bytes; at most its length.
fn smallest_period(text: &[u8]) -> usize {
    let repeats = |period: &usize| text.iter().zip(&text[*period..]).all(|(a, b)| a == b);
    (1..text.len()).find(repeats).unwrap_or(text.len())
}

/// The number of bytes that neither continue a sequence (`aaaa`, `1234`, `fedc`) nor end four bytes
/// that occurred before.
fn unpredictable_bytes(text: &[u8]) -> usize {
    let mut seen = BTreeSet::new();
    let is_unpredictable = |index: &usize| {
        let is_new = *index < 3 || seen.insert(&text[index - 3..=*index]);
        let is_step = *index > 0 && text[index - 1].abs_diff(text[*index]) <= 1;
        is_new && !is_step
    };
    (0..text.len()).filter(is_unpredictable).count()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn guessable_secrets_are_weak() {
        for (weak, reason) in [
            ("a".repeat(32), "one repeated byte"),
            ("changeme".repeat(4), "sequence of 8 bytes"),
            ("change-me!".repeat(4) + "chan", "sequence of 10 bytes"),
            ("0123456789".repeat(4), "sequence of 10 bytes"),
            ("password".repeat(4) + "1", "repetitions"),
            ("changeme-".repeat(3) + "12345", "repetitions"),
            ("qwerty".repeat(5) + "!!", "different bytes"),
            ("abcdefghijklmnopqrstuvwxyz012345".into(), "repetitions"),
            ("00112233445566001122334455660001".into(), "different bytes"),
            (PUBLISHED[0].0.into(), "FastAPI"),
            (format!("{}\n", PUBLISHED[6].0), "RFC 7515"),
        ] {
            let found = secret_weakness(&weak);
            assert!(
                found.as_ref().is_some_and(|text| text.contains(reason)),
                "{weak}: {found:?}"
            );
        }
    }

    #[test]
    fn random_secrets_are_never_weak() {
        let random = uuid::Uuid::new_v4;
        for _ in 0..1_000 {
            let bytes = [*random().as_bytes(), *random().as_bytes()].concat();
            for secret in [
                format!("{}{}", random().simple(), random().simple()),
                random().simple().to_string(),
                random().simple().to_string().to_uppercase(),
                random().to_string(),
                STANDARD.encode(&bytes),
                URL_SAFE_NO_PAD.encode(&bytes),
                STANDARD.encode(&bytes[..24]),
            ] {
                assert_eq!(secret_weakness(&secret), None, "{secret}");
            }
        }
    }

    #[test]
    fn sentences_are_not_weak() {
        for secret in [
            "correct horse battery staple and more",
            "31415926535897932384626433832795",
        ] {
            assert_eq!(secret_weakness(secret), None, "{secret}");
        }
    }
}
