//! One-time tokens: the address that opens the console holds one, and may be seen by others afterwards.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::{Claims, KeyError, generate_key};
use crate::config::Secret;

/// How long one counts.
pub const SIGN_IN_LIFETIME: Duration = Duration::from_mins(1);
/// How many there are at once. One more drops the oldest, of the same subject if there is one.
const MAX_PENDING: usize = 64;

/// Those that were not used yet. Only in memory: a restart forgets them.
#[derive(Default)]
pub struct SignInTokens {
    pending: Mutex<VecDeque<PendingSignIn>>,
}

struct PendingSignIn {
    /// Of the token, which is not kept.
    digest: [u8; 32],
    claims: Claims,
    issued_at: Instant,
}

impl SignInTokens {
    /// A token that signs in once as whoever these claims are of.
    ///
    /// # Errors
    ///
    /// The system gave no random bytes.
    pub fn issue(&self, claims: &Claims, now: Instant) -> Result<Secret, KeyError> {
        let token = generate_key()?;
        let mut open = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|sign_in| sign_in.is_valid(now));
        if open.len() == MAX_PENDING {
            let own = open
                .iter()
                .position(|sign_in| sign_in.claims.subject == claims.subject);
            open.remove(own.unwrap_or(0));
        }
        open.push_back(PendingSignIn {
            digest: digest(token.expose()),
            claims: claims.clone(),
            issued_at: now,
        });
        Ok(token)
    }

    /// Whom the token signs in, which does not count from now on. No session begins if the key was changed since
    /// ([`super::CreateSessionError`]).
    pub fn redeem(&self, token: &str, now: Instant) -> Option<Claims> {
        let digest = digest(token);
        let mut open = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // Comparing digests tells nothing of the token by the time that it takes.
        let at = open.iter().position(|sign_in| sign_in.digest == digest)?;
        let sign_in = open.remove(at)?;
        let key_left = sign_in.claims.key_valid_for;
        let is_of_key_that_counts = key_left.is_none_or(|left| sign_in.age(now) < left);
        (sign_in.is_valid(now) && is_of_key_that_counts).then(|| Claims {
            key_valid_for: key_left.map(|left| left.saturating_sub(sign_in.age(now))),
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

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Scope, Scopes};

    fn claims(subject: &str) -> Claims {
        Claims {
            subject: subject.into(),
            token_id: None,
            key_valid_for: None,
            key_revision: 0,
            scopes: Scopes::default().with(Scope::Logs),
        }
    }

    #[test]
    fn sign_in_token_is_valid_once_within_a_minute() {
        let sign_ins = SignInTokens::default();
        let now = Instant::now();
        let token = sign_ins.issue(&claims("me"), now).unwrap();
        assert_eq!(sign_ins.redeem("another", now), None);
        assert_eq!(sign_ins.redeem(token.expose(), now), Some(claims("me")));
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
