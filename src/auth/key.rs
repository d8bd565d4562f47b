//! The key file, which only its owner can read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::hmac;
use thiserror::Error;

use super::digest::ValueDigest;
use crate::config::{Secret, secret_weakness};
use crate::sys::{
    Renamed, adopt_owner, create_beside, hex, open_nofollow, rename_synced,
    rename_without_replacing,
};

/// The message whose HMAC is the id of a key.
const KEY_ID_LABEL: &[u8] = b"fullon key id 1";

/// The key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Reading or creating it failed.
    #[error("the key file {path} cannot be {action}: {source}")]
    Io {
        path: PathBuf,
        /// `read`, `created` or `replaced`.
        action: &'static str,
        source: io::Error,
    },
    /// Other users can read it.
    #[error(
        "the key file {path} is readable by other users (mode {mode:o}): run `chmod 600 {path}`, and consider a new key"
    )]
    Exposed { path: PathBuf, mode: u32 },
    /// It belongs to another user.
    #[error(
        "the key file {0} belongs to another user: move the file away; the next start creates a new key"
    )]
    WrongOwner(PathBuf),
    /// It has a second name, under which another user may know it.
    #[error(
        "the key file {0} has more than one hard link: move the file away; the next start creates a new key"
    )]
    HardLinked(PathBuf),
    /// It is too short to be a key.
    #[error(
        "the key file {0} contains fewer than 32 bytes: remove the file; the next start creates a new key"
    )]
    TooShort(PathBuf),
    /// It can be guessed.
    #[error(
        "the key in {path} {weakness}, so it can be guessed: remove the file; the next start creates a new key"
    )]
    Weak { path: PathBuf, weakness: String },
    /// The configured key was ended.
    #[error("JWT_SECRET_KEY is a key that `fullon token --revoke-all` has ended: set another one")]
    Revoked,
    /// The system gave no random bytes.
    #[error("the operating system provided no random bytes: {0}")]
    NoRandomBytes(#[source] io::Error),
}

impl KeyError {
    /// Whether the file does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Generates 32 random bytes in hexadecimal.
///
/// # Errors
///
/// The system gave no random bytes.
pub fn generate_key() -> Result<Secret, KeyError> {
    Ok(Secret::new(hex(&random_bytes()?)))
}

/// Identifies a key without containing it.
#[must_use]
pub fn key_id(key: &Secret) -> ValueDigest {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    let mut id = [0; 32];
    id.copy_from_slice(hmac::sign(&key, KEY_ID_LABEL).as_ref());
    ValueDigest::from_bytes(id)
}

pub(super) fn random_bytes() -> Result<[u8; 32], KeyError> {
    let mut bytes = [0_u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| KeyError::NoRandomBytes(errno.into()))?;
    Ok(bytes)
}

/// Reads the key file, and creates it if it does not exist. Two processes that do so at once get
/// the same key.
///
/// # Errors
///
/// The file cannot be read or created, or is not private.
pub fn read_or_create_key_file(path: &Path) -> Result<Secret, KeyError> {
    match read_key_file(path) {
        Err(error) if error.is_missing() => {
            create_key_file(path)?;
            read_key_file(path)
        }
        other => other,
    }
}

/// Reads the key file.
///
/// # Errors
///
/// The file cannot be read, or is not private.
pub fn read_key_file(path: &Path) -> Result<Secret, KeyError> {
    let fail = |source| KeyError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    };
    let mut file = open_nofollow(path, OpenOptions::new().read(true)).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let me = nix::unistd::geteuid();
    if metadata.uid() != me.as_raw() && !me.is_root() {
        return Err(KeyError::WrongOwner(path.to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path.to_owned(),
            mode: metadata.mode() & 0o7777,
        });
    }
    if metadata.nlink() > 1 {
        return Err(KeyError::HardLinked(path.to_owned()));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(fail)?;
    let key = text.trim();
    if key.len() < 32 {
        return Err(KeyError::TooShort(path.to_owned()));
    }
    if let Some(weakness) = secret_weakness(key) {
        return Err(KeyError::Weak {
            path: path.to_owned(),
            weakness,
        });
    }
    Ok(Secret::new(key.to_owned()))
}

/// Writes a new key to a temporary file and renames it, so that no process reads half a key, and
/// the first of two creators wins.
fn create_key_file(path: &Path) -> Result<(), KeyError> {
    let key = generate_key()?;
    let temporary = path.with_extension(format!("key.{}", uuid::Uuid::new_v4().simple()));
    let created =
        write_new_file(&temporary, &key).and_then(|()| rename_without_replacing(&temporary, path));
    created.or_else(|error| {
        // It may not exist.
        let _ = std::fs::remove_file(&temporary);
        if error.kind() == io::ErrorKind::AlreadyExists {
            return Ok(());
        }
        Err(KeyError::Io {
            path: path.to_owned(),
            action: "created",
            source: error,
        })
    })
}

/// A new key beside the key file, which it replaces when it is installed. The caller holds the lock
/// of the file of revoked tokens.
#[derive(Debug)]
pub(super) struct NewKeyFile {
    path: PathBuf,
    temporary: PathBuf,
    key: Secret,
}

impl NewKeyFile {
    /// Writes the new key to the disk.
    pub fn write(path: &Path) -> Result<Self, KeyError> {
        let key = generate_key()?;
        let failed = |source| KeyError::Io {
            path: path.to_owned(),
            action: "replaced",
            source,
        };
        let (temporary, file) = create_beside(path).map_err(failed)?;
        let new = Self {
            path: path.to_owned(),
            temporary,
            key,
        };
        // The name may be that of another file by now, but not the handle.
        adopt_owner(&file, path)
            .and_then(|()| write_key(file, &new.key))
            .map_err(failed)?;
        Ok(new)
    }

    /// Replaces the key file, and returns the key. If an error is returned, the file is as before.
    pub fn install(self) -> Result<(Secret, Renamed), KeyError> {
        let renamed = rename_synced(&self.temporary, &self.path);
        let renamed = renamed.map_err(|source| KeyError::Io {
            path: self.path.clone(),
            action: "replaced",
            source,
        })?;
        Ok((self.key.clone(), renamed))
    }
}

impl Drop for NewKeyFile {
    fn drop(&mut self) {
        // It does not exist any more if it was installed.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn write_new_file(path: &Path, key: &Secret) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    write_key(options.open(path)?, key)
}

fn write_key(mut file: File, key: &Secret) -> io::Result<()> {
    writeln!(file, "{}", key.expose())?;
    file.sync_all()
}
