//! The limits that a client can exceed.

/// A limit that a client exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// The request headers took too long.
    HeaderTimeout,
    /// The request body took too long.
    BodyTimeout,
    /// The connection was idle, or the client did not read.
    IdleTimeout,
    /// The request headers were too large.
    HeaderSize,
    /// The request body was too large.
    BodySize,
    /// The connection was closed to make room for another.
    Evicted,
    /// A connection was refused because all others were busy, or a log reader because there were
    /// too many.
    Refused,
}

impl LimitKind {
    /// All limits, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::IdleTimeout,
        Self::HeaderSize,
        Self::BodySize,
        Self::Evicted,
        Self::Refused,
    ];

    /// The value of the `limit` label in the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::HeaderSize => "header_size",
            Self::BodySize => "body_size",
            Self::Evicted => "evicted",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_kinds_are_listed_in_declaration_order() {
        let kinds = LimitKind::ALL.into_iter().enumerate();
        assert!({ kinds }.all(|(index, kind)| kind as usize == index));
    }
}
