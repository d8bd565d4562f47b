//! Follows other processes, which may revoke the keys of this one.

use super::configured::{ConfiguredKeys, Keys, SigningKey};
use crate::auth::key::{key_id, read_key_file};
use crate::auth::revocations::RevokedNow;

impl ConfiguredKeys {
    /// Reads the revoked tokens as they are now. Another process may have revoked all tokens. Then
    /// the key file has another key, if this key is from it, and no previous key is valid any more.
    pub(in crate::auth) fn refresh(&self) -> RevokedNow {
        let revoked = self.revocations.now();
        self.drop_revoked_keys(&revoked);
        revoked
    }

    fn drop_revoked_keys(&self, revoked: &RevokedNow) {
        let look_up = |keys: &Keys| {
            let previous = keys.previous.as_ref().map(|(key, _)| key.id);
            let listed = revoked.look_up(keys.current.id, previous);
            // Of the keys that ended long ago, only the key file tells.
            let is_unknown = listed.is_incomplete && revoked.reads != keys.compared_at;
            let is_limited = listed.limit > keys.limit;
            let may_be_replaced =
                keys.key_file.is_some() && (listed.is_current_ended || is_limited || is_unknown);
            let needs_change = is_limited || listed.is_previous_ended || may_be_replaced;
            (needs_change, may_be_replaced, is_limited, listed)
        };
        if !look_up(&self.keys()).0 {
            return;
        }
        let mut keys = self.write();
        let (_, may_be_replaced, is_limited, listed) = look_up(&keys);
        if is_limited {
            keys.revision += 1;
            keys.limit = listed.limit;
            keys.previous = None;
        }
        if listed.is_previous_ended && keys.previous.take().is_some() {
            keys.revision += 1;
        }
        if may_be_replaced
            && let Some(Ok(secret)) = keys.key_file.as_deref().map(read_key_file)
            && !revoked.is_key_revoked(key_id(&secret))
        {
            keys.compared_at = revoked.reads;
            if secret.expose() != keys.current.secret.expose() {
                keys.revision += 1;
                keys.current = SigningKey::new(&secret);
                keys.previous = None;
                keys.note_limit(revoked);
                tracing::info!(
                    "another process has replaced the signing key and revoked all tokens"
                );
            }
        }
    }
}
