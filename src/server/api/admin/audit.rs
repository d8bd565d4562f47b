//! Reads the audit trail.

use poem::http::StatusCode;
use poem_openapi::OpenApi;
use poem_openapi::param::Query;
use tokio::task::spawn_blocking;

use super::state::StateHandle;
use super::tag::AdminTag;
use crate::api::{AuditEntry, AuditPage, MAX_AUDIT_RECORDS};
use crate::audit::{last_records, trail_owner};
use crate::server::auth::{Auth, Logs};
use crate::server::http::compress::Compressible;
use crate::server::http::json::JsonResponse;
use crate::server::http::problem::{ApiError, Result};
use crate::server::openapi::{DocumentedError, Operation};

const NO_AUDIT_FILE: DocumentedError = DocumentedError::new(
    409,
    "There is no audit file. Set `AUDIT_FILE` and restart.",
    "there is no audit file: set AUDIT_FILE to the path of a file and restart the daemon",
);
const UNREADABLE: DocumentedError = DocumentedError::new(
    503,
    "The audit file cannot be read.",
    "the audit trail cannot be read: /var/log/fullon.log.audit: permission denied; run `fullon doctor` as the daemon's user",
);

pub const OPERATIONS: [Operation; 1] =
    [Operation::query("get_audit", &[NO_AUDIT_FILE, UNREADABLE])];

pub struct AuditApi(pub StateHandle);

#[OpenApi]
impl AuditApi {
    /// Get the last records of the audit trail.
    ///
    /// Rotated files are part of the trail. To read further back, pass the `seq` of the first
    /// record as `before_seq`. The chain is checked by `fullon audit --verify`.
    #[oai(
        path = "/admin/audit",
        method = "get",
        operation_id = "get_audit",
        tag = "AdminTag::Audit"
    )]
    async fn audit(
        &self,
        _caller: Auth<Logs>,
        /// Maximum number of records, 1 to 1,000.
        #[oai(
            name = "lines",
            default = "default_lines",
            validator(minimum(value = "1"), maximum(value = "1000"))
        )]
        lines: Query<u32>,
        /// Only records with a lower number than this.
        #[oai(validator(minimum(value = "0")))]
        before_seq: Query<Option<i64>>,
    ) -> Result<Compressible<JsonResponse<AuditPage>>> {
        let state = self.0.get()?;
        let path = state
            .audit
            .path()
            .ok_or_else(|| ApiError::from(&NO_AUDIT_FILE))?
            .to_owned();
        let count = lines.0.min(MAX_AUDIT_RECORDS) as usize;
        let before = before_seq.0.and_then(|seq| u64::try_from(seq).ok());
        let records = {
            let _search = state.log_readers.acquire_search().await;
            let owner = trail_owner(&path, None);
            spawn_blocking(move || last_records(&path, owner, count, before)).await?
        };
        let records = records.map_err(|error| {
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "the audit trail cannot be read: {error}; run `fullon doctor` as the daemon's user"
                ),
            )
        })?;
        Ok(Compressible(JsonResponse(AuditPage {
            records: records.into_iter().map(AuditEntry::from).collect(),
        })))
    }
}

fn default_lines() -> u32 {
    50
}
