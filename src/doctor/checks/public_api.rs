//! Whether the public API answers.

use crate::api::{HealthReport, HealthStatus};
use crate::client::HealthError;
use crate::doctor::finding::Finding;
use crate::doctor::process::{describe_listener, describe_state, resume_hint};
use crate::doctor::snapshot::Snapshot;

const PUBLIC_API: &str = "public API";

pub fn answer(snapshot: &Snapshot) -> Option<Finding> {
    let process = snapshot.process();
    let (base, answer) = snapshot.public.as_ref()?;
    Some(match answer {
        Ok(HealthReport {
            status: HealthStatus::Healthy,
            ..
        }) => Finding::ok(PUBLIC_API, format!("{base} answers")),
        Ok(_) => Finding::warning(
            PUBLIC_API,
            format!("{base} reports unhealthy"),
            format!("curl {base}/health/ready"),
        ),
        Err(HealthError::Unreachable(reason)) => Finding::error(
            PUBLIC_API,
            format!(
                "{base} cannot be reached: {reason}{}",
                describe_state(process)
            ),
            process.map_or("run this as the daemon's user".into(), |process| {
                resume_hint(process, base)
            }),
        ),
        Err(error @ HealthError::UnexpectedServer(_)) => Finding::error(
            PUBLIC_API,
            format!("{base}: {error}; {} listens there", describe_listener(base)),
            "set HOST and PORT to the daemon's address",
        ),
    })
}
