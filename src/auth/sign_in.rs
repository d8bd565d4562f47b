//! One-time tokens: the address that opens the console holds one, and may be seen by others afterwards.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::{Claims, KeyError, random_key};
use crate::config::Secret;

/// How long one counts.
pub const SIGN_IN_LIFETIME: Duration = Duration::from_mins(1);
/// How many there are at once. One more drops the oldest, of the same subject if there is one.
const MOST: usize = 64;

/// Those that were not used yet. Only in memory: a restart forgets them.
#[derive(Default)]
pub struct SignIns {
    open: Mutex<VecDeque<SignIn>>,
}

struct SignIn {
    /// Of the token, which is not kept.
    digest: [u8; 32],
    claims: Claims,
    begun: Instant,
}

impl SignIns {
    /// A token that signs in once as whoever these claims are of.
    ///
    /// # Errors
    ///
    /// The system gave no random bytes.
    pub fn begin(&self, claims: &Claims, now: Instant) -> Result<Secret, KeyError> {
        let token = random_key()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|sign_in| sign_in.counts(now));
        if open.len() == MOST {
            let own = open
                .iter()
                .position(|sign_in| sign_in.claims.subject == claims.subject);
            open.remove(own.unwrap_or(0));
        }
        open.push_back(SignIn {
            digest: digest(token.expose()),
            claims: claims.clone(),
            begun: now,
        });
        Ok(token)
    }

    /// Whom the token signs in, which does not count from now on. No session begins if the key was changed since
    /// ([`super::BeginError`]).
    pub fn take(&self, token: &str, now: Instant) -> Option<Claims> {
        let digest = digest(token);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Comparing digests tells nothing of the token by the time that it takes.
        let at = open.iter().position(|sign_in| sign_in.digest == digest)?;
        let sign_in = open.remove(at)?;
        let key_left = sign_in.claims.key_left;
        let is_of_key_that_counts = key_left.is_none_or(|left| sign_in.age(now) < left);
        (sign_in.counts(now) && is_of_key_that_counts).then(|| Claims {
            key_left: key_left.map(|left| left.saturating_sub(sign_in.age(now))),
            ..sign_in.claims
        })
    }
}

impl SignIn {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    fn counts(&self, now: Instant) -> bool {
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
            key_left: None,
            key_changes: 0,
            scopes: Scopes::default().with(Scope::Logs),
        }
    }

    #[test]
    fn one_counts_once_and_within_a_minute() {
        let sign_ins = SignIns::default();
        let now = Instant::now();
        let token = sign_ins.begin(&claims("me"), now).unwrap();
        assert_eq!(sign_ins.take("another", now), None);
        assert_eq!(sign_ins.take(token.expose(), now), Some(claims("me")));
        assert_eq!(sign_ins.take(token.expose(), now), None);

        let token = sign_ins.begin(&claims("me"), now).unwrap();
        let just_in_time = now + SIGN_IN_LIFETIME.saturating_sub(Duration::from_millis(1));
        assert!(sign_ins.take(token.expose(), just_in_time).is_some());
        let token = sign_ins.begin(&claims("me"), now).unwrap();
        assert_eq!(sign_ins.take(token.expose(), now + SIGN_IN_LIFETIME), None);
    }

    #[test]
    fn what_a_replaced_key_gave_ends_with_it() {
        let sign_ins = SignIns::default();
        let now = Instant::now();
        let of_old_key = Claims {
            key_left: Some(Duration::from_secs(10)),
            ..claims("me")
        };
        let [early, late] = [3, 10].map(|seconds| now + Duration::from_secs(seconds));
        let token = sign_ins.begin(&of_old_key, now).unwrap();
        let taken = sign_ins.take(token.expose(), early).unwrap();
        assert_eq!(taken.key_left, Some(Duration::from_secs(7)));
        let token = sign_ins.begin(&of_old_key, now).unwrap();
        assert_eq!(sign_ins.take(token.expose(), late), None);
    }

    #[test]
    fn one_too_many_drops_the_oldest() {
        let sign_ins = SignIns::default();
        let now = Instant::now();
        let tokens: Vec<_> = (0..=MOST)
            .map(|number| sign_ins.begin(&claims(&number.to_string()), now).unwrap())
            .collect();
        assert_eq!(sign_ins.take(tokens[0].expose(), now), None);
        for (number, token) in tokens.iter().enumerate().skip(1) {
            let taken = sign_ins.take(token.expose(), now).unwrap();
            assert_eq!(taken.subject, number.to_string());
        }
    }
}
