//! Scopes: the groups of operations that a token allows.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// One scope of the `scope` claim (RFC 8693, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Read status, settings and metrics.
    Read,
    /// Read the log.
    Logs,
    /// Change anything.
    Control,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Read, Self::Logs, Self::Control];

    /// Its name in the claim.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "admin:read",
            Self::Logs => "admin:logs",
            Self::Control => "admin:control",
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// All scopes.
    pub const ALL: Self = Self(0b111);

    /// Adds a scope.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u8)
    }

    /// Whether the set contains `scope`.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u8 != 0
    }

    /// Whether all of these are also in `others`.
    #[must_use]
    pub const fn is_within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// Whether the set allows nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Parses a `scope` claim. Unknown scopes may belong to another service and are ignored.
    #[must_use]
    pub fn from_claim(claim: &str) -> Self {
        Scope::ALL
            .into_iter()
            .filter(|scope| claim.split(' ').any(|word| word == scope.as_str()))
            .fold(Self::default(), Self::with)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = Scope::ALL
            .into_iter()
            .filter(|scope| self.contains(*scope))
            .map(Scope::as_str);
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

/// An unknown scope in operator input.
#[derive(Debug, Error)]
#[error("`{0}` is not a valid scope: use admin:read, admin:logs, admin:control")]
pub struct UnknownScope(String);

impl FromStr for Scopes {
    type Err = UnknownScope;

    /// Parses operator input: scopes separated by spaces or commas. Unknown scopes are an error.
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        text.split([' ', ','])
            .filter(|word| !word.is_empty())
            .try_fold(Self::default(), |scopes, word| {
                Scope::ALL
                    .into_iter()
                    .find(|scope| scope.as_str() == word)
                    .map(|scope| scopes.with(scope))
                    .ok_or_else(|| UnknownScope(word.into()))
            })
            .and_then(|scopes| {
                if scopes.is_empty() {
                    Err(UnknownScope(text.into()))
                } else {
                    Ok(scopes)
                }
            })
    }
}
