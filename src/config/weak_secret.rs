//! Secrets that are long enough but easy to guess.

use std::collections::BTreeSet;

/// Secrets that tutorials and standards print.
const PUBLISHED: [(&str, &str); 14] = [
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
    ("your-256-bit-secret", "jwt.io"),
    ("your-384-bit-secret", "jwt.io"),
    ("your-512-bit-secret", "jwt.io"),
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
    ("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg", "RFC 7520"),
    (
        "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
        "tutorials for Spring",
    ),
    (
        "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
        "tutorials for Spring",
    ),
    (
        "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        "every list of hashes of passwords",
    ),
];

/// The signs around a variable that a template has not replaced.
const PLACEHOLDERS: [(&str, &str); 3] = [("{{", "}}"), ("${", "}"), ("<", ">")];

/// Pieces of placeholders for secrets, longer ones first. No random digits of base 16 contain one.
const COMMON: [&str; 55] = [
    "qwertyuiop",
    "asdfghjkl",
    "production",
    "characters",
    "qwertzuiop",
    "yxcvbnm",
    "zxcvbnm",
    "password",
    "passw0rd",
    "p@ssw0rd",
    "changeit",
    "changeme",
    "replace",
    "private",
    "example",
    "default",
    "signing",
    "letmein",
    "welcome",
    "s3cr3t",
    "secure",
    "secret",
    "master",
    "fullon",
    "random",
    "string",
    "please",
    "change",
    "qwerty",
    "qwertz",
    "azerty",
    "super",
    "admin",
    "token",
    "least",
    "server",
    "local",
    "asdf",
    "zxcv",
    "your",
    "this",
    "long",
    "very",
    "with",
    "test",
    "user",
    "bits",
    "hs256",
    "auth",
    "sha256",
    "jwt",
    "key",
    "api",
    "for",
    "my",
];

/// Of 32 random hexadecimal digits, fewer are left once in 20 million times.
const MIN_UNPREDICTABLE_BYTES: usize = 14;

/// Of 32 random hexadecimal digits, fewer are different once in 25 million times.
const MIN_DIFFERENT_BYTES: usize = 8;

/// Why a secret is easy to guess; `None` for a random one. The reason does not contain the secret.
#[must_use]
pub fn secret_weakness(secret: &str) -> Option<String> {
    let bytes = secret.as_bytes();
    let period = smallest_period(bytes);
    let unit = secret.get(..period).unwrap_or(secret);
    let repeated = unit.strip_suffix('-').unwrap_or(unit);
    let is_published =
        |(published, _): &&(&str, &str)| [secret.trim(), repeated].contains(published);
    if let Some((_, place)) = PUBLISHED.iter().find(is_published) {
        return Some(format!("is published in {place}"));
    }
    let is_around = |(start, end): &(&str, &str)| {
        let text = secret.trim();
        text.starts_with(start) && text.ends_with(end)
    };
    if PLACEHOLDERS.iter().any(is_around) {
        return Some("is a placeholder that was not replaced".into());
    }
    let different = unit.bytes().collect::<BTreeSet<_>>().len();
    let is_predictable = |text: &str| unpredictable_bytes(text) < MIN_UNPREDICTABLE_BYTES;
    let is_weak = is_predictable(unit)
        || is_predictable(&without_common(unit))
        || different < MIN_DIFFERENT_BYTES;
    is_weak.then(|| {
        if period == 1 {
            "is one repeated byte".into()
        } else if period <= bytes.len() / 2 {
            format!("repeats a sequence of {period} bytes")
        } else if different < MIN_DIFFERENT_BYTES {
            format!("has only {different} different bytes")
        } else {
            "consists of common words, sequences and repetitions".into()
        }
    })
}

/// The smallest number such that the text repeats after so many bytes; at most its length.
fn smallest_period(text: &[u8]) -> usize {
    let repeats = |period: &usize| text.iter().zip(&text[*period..]).all(|(a, b)| a == b);
    (1..text.len()).find(repeats).unwrap_or(text.len())
}

/// The text without common pieces, whatever their case.
fn without_common(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    COMMON
        .iter()
        .fold(text, |text, piece| text.replace(piece, ""))
}

/// The number of bytes that neither continue a sequence (`aaaa`, `1234`, `fedc`) nor end four bytes
/// that occurred before.
fn unpredictable_bytes(text: &str) -> usize {
    let text = text.as_bytes();
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
            (format!("{}\n", PUBLISHED[9].0), "RFC 7515"),
            (PUBLISHED[11].0.into(), "Spring"),
            (
                "{{ jwt_secret_of_the_orders_service }}".into(),
                "placeholder",
            ),
            ("${JWT_SECRET_FOR_THE_ADMIN_API_5174}".into(), "placeholder"),
            ("your-256-bit-secret".repeat(2), "jwt.io"),
            (["your-256-bit-secret"; 2].join("-"), "jwt.io"),
            ("your-256-bit-secret-".repeat(3), "jwt.io"),
            (
                "my-super-secret-jwt-key-for-fullon-api".into(),
                "common words",
            ),
            (
                "MySuperSecretJwtKeyForFullonApi_2026".into(),
                "common words",
            ),
            ("please-change-this-secret-key-12345".into(), "common words"),
            ("qwertyuiopasdfghjklzxcvbnm123456".into(), "common words"),
            ("P@ssw0rdPassword12345-admin-test".into(), "common words"),
        ] {
            let found = secret_weakness(&weak);
            assert!(
                found.as_ref().is_some_and(|text| text.contains(reason)),
                "{weak}: {found:?}"
            );
        }
    }

    /// Words for passphrases, of which one is a common word.
    const WORDS: [[&str; 8]; 6] = [
        [
            "abacus", "acrobat", "almanac", "anvil", "apricot", "badger", "banjo", "barley",
        ],
        [
            "bicycle", "blanket", "bramble", "cactus", "candle", "cedar", "clarinet", "cobalt",
        ],
        [
            "compass", "dagger", "dolphin", "drizzle", "elbow", "ember", "falcon", "feather",
        ],
        [
            "fiddle", "garlic", "ginger", "glacier", "hammock", "harvest", "igloo", "jigsaw",
        ],
        [
            "juniper", "kettle", "lantern", "secret", "magnet", "marble", "mustard", "nectar",
        ],
        [
            "nutmeg", "orchid", "otter", "paddle", "pebble", "pickle", "quarry", "rattle",
        ],
    ];

    #[test]
    fn random_secrets_are_never_weak() {
        let random = uuid::Uuid::new_v4;
        let words = |random: &[u8; 16]| {
            let words = WORDS.iter().zip(random);
            let words = words.map(|(words, byte)| words[usize::from(*byte) % words.len()]);
            words.collect::<Vec<_>>().join("-")
        };
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
                words(random().as_bytes()),
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
