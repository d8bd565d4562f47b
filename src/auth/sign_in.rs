//! One-time sign-in tokens. The URL that opens the console contains one, and other people may see
//! that URL later.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::{Digest, SHA256, digest};

use super::key::{KeyError, generate_key};
use super::token::Claims;
use crate::config::Secret;
use crate::sys::hex;

/// How long a sign-in token is valid.
pub const SIGN_IN_LIFETIME: Duration = Duration::from_mins(1);
/// Limit on pending tokens. When it is reached, the oldest is dropped: one without more scopes if
/// there is one, and of those one of the same subject.
const MAX_PENDING: usize = 64;

/// Sign-in tokens that have not been used. They are kept in memory only; a restart drops them.
#[derive(Default)]
pub struct SignInTokens {
    pending: Mutex<VecDeque<PendingSignIn>>,
}

struct PendingSignIn {
    /// SHA-256 of the token, which is not kept.
    digest: Digest,
    claims: Claims,
    issued_at: Instant,
    /// Whether its id was used.
    is_id_used: bool,
}

impl SignInTokens {
    /// Issues a token that signs in once with these claims.
    ///
    /// # Errors
    ///
    /// The system gave no random bytes.
    pub fn issue(&self, claims: &Claims, now: Instant) -> Result<Secret, KeyError> {
        let token = generate_key()?;
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|sign_in| sign_in.is_valid(now));
        if pending.len() == MAX_PENDING {
            // Of equal ones, the first is the oldest.
            let oldest = (0..pending.len()).min_by_key(|at| {
                let other = &pending[*at].claims;
                let has_more = !other.scopes.is_within(claims.scopes);
                (has_more, other.subject != claims.subject)
            });
            pending.remove(oldest.unwrap_or(0));
        }
        pending.push_back(PendingSignIn {
            digest: token_digest(token.expose()),
            claims: claims.clone(),
            issued_at: now,
            is_id_used: false,
        });
        Ok(token)
    }

    /// The claims of a token that is valid, which is not used up.
    pub fn find(&self, token: &str, now: Instant) -> Option<Claims> {
        let digest = token_digest(token);
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pending = pending.iter();
        let sign_in = pending.find(|sign_in| sign_in.digest.as_ref() == digest.as_ref())?;
        sign_in.is_valid(now).then(|| sign_in.claims.clone())
    }

    /// Uses up a [`sign_in_id`], but not its token. Returns whether it was the id of a valid token
    /// of `fullon console`: any other token can be made by somebody who has only a token.
    pub fn use_id(&self, id: &str, now: Instant) -> bool {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let found = pending.iter_mut().find(|sign_in| {
            let is_usable = sign_in.is_valid(now) && sign_in.claims.is_of_console_command();
            is_usable && hex(sign_in.digest.as_ref()) == id
        });
        found.is_some_and(|sign_in| !std::mem::replace(&mut sign_in.is_id_used, true))
    }

    /// Uses up a token and returns its claims, if it is valid. They create no session if the
    /// configured key changed since ([`super::CreateSessionError`]).
    pub fn redeem(&self, token: &str, now: Instant) -> Option<Claims> {
        let digest = token_digest(token);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // The time that comparing digests takes reveals nothing about the token.
        let at = pending
            .iter()
            .position(|sign_in| sign_in.digest.as_ref() == digest.as_ref())?;
        let sign_in = pending.remove(at)?;
        let key_valid_for = sign_in.claims.key_valid_for;
        let is_key_valid = key_valid_for.is_none_or(|left| sign_in.age(now) < left);
        (sign_in.is_valid(now) && is_key_valid).then(|| Claims {
            key_valid_for: key_valid_for.map(|left| left.saturating_sub(sign_in.age(now))),
            ..sign_in.claims
        })
    }
}

impl PendingSignIn {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.issued_at)
    }

    fn is_valid(&self, now: Instant) -> bool {
        self.age(now) < SIGN_IN_LIFETIME
    }
}

/// Identifies a sign-in token without revealing it.
#[must_use]
pub fn sign_in_id(token: &str) -> String {
    hex(token_digest(token).as_ref())
}

fn token_digest(token: &str) -> Digest {
    digest(&SHA256, token.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Scope, Scopes};

    fn claims(subject: &str) -> Claims {
        Claims {
            subject: subject.into(),
            scopes: Scopes::default().with(Scope::Logs),
            ..crate::auth::tests::claims()
        }
    }

    #[test]
    fn sign_in_token_is_valid_once_within_a_minute() {
        let sign_ins = SignInTokens::default();
        let now = Instant::now();
        let me = claims("me");
        let token = sign_ins.issue(&me, now).unwrap();
        assert_eq!(sign_ins.redeem("another", now), None);
        assert_eq!(sign_ins.find(token.expose(), now), Some(me.clone()));
        assert_eq!(sign_ins.redeem(token.expose(), now), Some(me));
        assert_eq!(sign_ins.find(token.expose(), now), None);
        assert_eq!(sign_ins.redeem(token.expose(), now), None);

        let token = sign_ins.issue(&claims("me"), now).unwrap();
        let just_in_time = now + SIGN_IN_LIFETIME.saturating_sub(Duration::from_millis(1));
        assert!(sign_ins.redeem(token.expose(), just_in_time).is_some());
        let token = sign_ins.issue(&claims("me"), now).unwrap();
        assert_eq!(
            sign_ins.redeem(token.expose(), now + SIGN_IN_LIFETIME),
            None
        );
    }

    #[test]
    fn id_is_used_once_and_only_of_console_command() {
        let sign_ins = SignInTokens::default();
        let now = Instant::now();
        let of_command = || Claims {
            request: Some("POST /admin/session/token".into()),
            session_expires_at: Some(jiff::Timestamp::now()),
            ..claims("me")
        };
        let without_end = Claims {
            session_expires_at: None,
            ..of_command()
        };
        let of_other_request = Claims {
            request: Some("POST /admin/session".into()),
            ..of_command()
        };
        for other in [claims("me"), without_end, of_other_request] {
            let token = sign_ins.issue(&other, now).unwrap();
            assert!(!sign_ins.use_id(&sign_in_id(token.expose()), now));
        }
        let token = sign_ins.issue(&of_command(), now).unwrap();
        let id = sign_in_id(token.expose());
        assert!(!sign_ins.use_id(token.expose(), now) && !sign_ins.use_id("", now));
        assert!(!sign_ins.use_id(&id, now + SIGN_IN_LIFETIME));
        assert!(sign_ins.use_id(&id, now));
        assert!(!sign_ins.use_id(&id, now));
        // The token is not used up.
        assert!(sign_ins.redeem(token.expose(), now).is_some());
        let token = sign_ins.issue(&of_command(), now).unwrap();
        assert!(sign_ins.redeem(token.expose(), now).is_some());
        assert!(!sign_ins.use_id(&sign_in_id(token.expose()), now));
    }

    #[test]
    fn sign_in_token_expires_with_its_key() {
        let sign_ins = SignInTokens::default();
        let now = Instant::now();
        let of_old_key = Claims {
            key_valid_for: Some(Duration::from_secs(10)),
            ..claims("me")
        };
        let [early, late] = [3, 10].map(|seconds| now + Duration::from_secs(seconds));
        let token = sign_ins.issue(&of_old_key, now).unwrap();
        let taken = sign_ins.redeem(token.expose(), early).unwrap();
        assert_eq!(taken.key_valid_for, Some(Duration::from_secs(7)));
        let token = sign_ins.issue(&of_old_key, now).unwrap();
        assert_eq!(sign_ins.redeem(token.expose(), late), None);
    }

    /// A token that only reads must not invalidate that of its user's console.
    #[test]
    fn full_table_keeps_tokens_with_more_scopes() {
        let sign_ins = SignInTokens::default();
        let now = Instant::now();
        let with_more = Claims {
            scopes: Scopes::ALL,
            ..claims("me")
        };
        let kept = sign_ins.issue(&with_more, now).unwrap();
        for _ in 0..=MAX_PENDING {
            sign_ins.issue(&claims("me"), now).unwrap();
        }
        assert!(sign_ins.redeem(kept.expose(), now).is_some());
    }

    #[test]
    fn full_table_drops_oldest_sign_in_token() {
        let sign_ins = SignInTokens::default();
        let now = Instant::now();
        let tokens: Vec<_> = (0..=MAX_PENDING)
            .map(|number| sign_ins.issue(&claims(&number.to_string()), now).unwrap())
            .collect();
        assert_eq!(sign_ins.redeem(tokens[0].expose(), now), None);
        for (number, token) in tokens.iter().enumerate().skip(1) {
            let taken = sign_ins.redeem(token.expose(), now).unwrap();
            assert_eq!(taken.subject, number.to_string());
        }
    }
}
