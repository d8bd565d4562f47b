//! Declarations of an operation beside its poem-openapi attributes.

use super::errors::DocumentedError;

/// The audit action and the errors of one operation.
pub struct Operation {
    /// Its `operation_id`.
    pub id: &'static str,
    /// Name of the change in the audit trail. Every operation that changes something has one.
    pub audit_action: Option<&'static str>,
    /// Errors in addition to those that every operation has.
    pub errors: &'static [DocumentedError],
}

impl Operation {
    /// An operation that changes nothing.
    pub const fn query(id: &'static str, errors: &'static [DocumentedError]) -> Self {
        Self {
            id,
            audit_action: None,
            errors,
        }
    }

    /// An operation that changes something.
    pub const fn change(
        id: &'static str,
        audit_action: &'static str,
        errors: &'static [DocumentedError],
    ) -> Self {
        Self {
            id,
            audit_action: Some(audit_action),
            errors,
        }
    }
}
