//! A value that must never be shown.

use std::fmt;

/// What stands wherever a secret would be shown.
pub const MASK: &str = "******";

/// A password or key. It has no `Display`, its `Debug` prints [`MASK`], and it is read only
/// through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value so that it cannot be printed by accident.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
