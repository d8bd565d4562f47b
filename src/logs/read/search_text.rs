//! The text that lines are searched for.

use std::sync::Arc;

use memchr::memmem::Finder;

/// The longest text that lines can be searched for, in bytes. Each line that begins like a longer
/// text would cost more.
pub const MAX_SEARCH_TEXT: usize = 1024;

/// Text to search for. The search is prepared once, because that takes time for each byte of it.
#[derive(Debug, Clone)]
pub struct SearchText {
    finder: Arc<Finder<'static>>,
    /// Lines that are not UTF-8 contain replacement characters once they are text.
    has_replacement: bool,
}

impl SearchText {
    /// Whether the text is in the bytes of a line.
    pub(super) fn is_in(&self, line: impl AsRef<[u8]>) -> bool {
        self.finder.find(line.as_ref()).is_some()
    }

    pub(super) fn has_replacement(&self) -> bool {
        self.has_replacement
    }

    /// The text itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.finder.needle()
    }
}

impl From<&str> for SearchText {
    fn from(text: &str) -> Self {
        Self {
            finder: Arc::new(Finder::new(text).into_owned()),
            has_replacement: text.contains(char::REPLACEMENT_CHARACTER),
        }
    }
}
