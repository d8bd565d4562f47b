//! What is logged: the configured filter, or another for a while. And how much was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tracing::{Event, Level as EventLevel, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::{EnvFilter, Layer, reload};

use super::format::InstallError;

/// The trail of changes is logged at any level, unless the filter names it.
const AUDIT_TARGET: &str = "audit";
/// What would log every probe of a dependency, unless the filter names it.
const QUIET_DIRECTIVES: &str = "tokio_postgres=off";

pub(crate) type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// The filter of the log.
pub struct LevelControl {
    state: Mutex<LevelState>,
    apply_filter: SetFilter,
    event_counts: Arc<EventCounts>,
}

struct LevelState {
    configured: String,
    active_override: Option<FilterOverride>,
}

/// Another filter than the configured one.
struct FilterOverride {
    filter: String,
    until: Option<Instant>,
    revert: Option<AbortHandle>,
}

impl Drop for FilterOverride {
    fn drop(&mut self) {
        if let Some(revert) = &self.revert {
            revert.abort();
        }
    }
}

/// The filter at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelStatus {
    /// What is in force.
    pub filter: String,
    /// What the settings say.
    pub configured: String,
    /// How long until that is in force again, if it is not and will be by itself.
    pub reverts_in: Option<Duration>,
}

impl LevelControl {
    pub(crate) fn new(
        configured: &str,
        apply_filter: SetFilter,
        event_counts: Arc<EventCounts>,
    ) -> Self {
        Self {
            state: Mutex::new(LevelState {
                configured: configured.to_owned(),
                active_override: None,
            }),
            apply_filter,
            event_counts,
        }
    }

    /// What is in force.
    #[must_use]
    pub fn status(&self) -> LevelStatus {
        let state = self.state();
        let other = state.active_override.as_ref();
        LevelStatus {
            filter: other
                .map_or(&state.configured, |other| &other.filter)
                .clone(),
            configured: state.configured.clone(),
            reverts_in: other
                .and_then(|other| other.until)
                .map(|until| until.saturating_duration_since(Instant::now())),
        }
    }

    /// Puts the settings' filter in force if they say another than before. If not, one that was set for a while stays.
    pub(super) fn set_configured(&self, filter: &str) -> Result<(), InstallError> {
        let mut state = self.state();
        if state.configured != filter {
            (self.apply_filter)(parse_filter(filter)?)?;
            filter.clone_into(&mut state.configured);
            state.active_override = None;
        }
        Ok(())
    }

    /// Puts a filter in force until the settings say another one, or for this time. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// It is none, and nothing has changed.
    pub fn set_override(
        self: &Arc<Self>,
        filter: &str,
        time: Option<Duration>,
    ) -> Result<(), InstallError> {
        let parsed = parse_filter(filter)?;
        let mut state = self.state();
        (self.apply_filter)(parsed)?;
        state.active_override = None;
        if filter == state.configured && time.is_none() {
            return Ok(());
        }
        let until = time.map(|time| Instant::now() + time);
        let revert = until.map(|until| {
            let level = Arc::downgrade(self);
            let revert = async move {
                tokio::time::sleep_until(until.into()).await;
                if let Some(level) = level.upgrade() {
                    level.revert();
                }
            };
            tokio::spawn(revert).abort_handle()
        });
        state.active_override = Some(FilterOverride {
            filter: filter.to_owned(),
            until,
            revert,
        });
        Ok(())
    }

    /// How many events passed the filter, by level.
    pub fn events(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LEVELS
            .into_iter()
            .zip(&self.event_counts.levels)
            .map(|((_, name), count)| (name, count.load(Ordering::Relaxed)))
    }

    /// How many of them were of the audit trail.
    pub fn audit_event_count(&self) -> u64 {
        self.event_counts.audit.load(Ordering::Relaxed)
    }

    fn revert(&self) {
        let mut state = self.state();
        let until = state.active_override.as_ref().and_then(|other| other.until);
        if until.is_none_or(|until| until > Instant::now()) {
            // Another was set in the last moment.
            return;
        }
        let outcome =
            parse_filter(&state.configured).and_then(|filter| Ok((self.apply_filter)(filter)?));
        state.active_override = None;
        let configured = state.configured.clone();
        drop(state);
        match outcome {
            Ok(()) => tracing::info!(
                level = configured,
                "the log level is the configured one again"
            ),
            Err(error) => tracing::error!(%error, "the log level could not be changed back"),
        }
    }

    fn state(&self) -> MutexGuard<'_, LevelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a filter has a say in how much of the trail of changes is logged.
#[must_use]
pub fn names_audit(filter: &str) -> bool {
    filter.split(',').any(|directive| {
        let target = directive.split(['=', '[']).next().unwrap_or_default();
        target.trim() == AUDIT_TARGET
    })
}

/// Values of fields are compared as they are: a regular expression of a few bytes can take minutes to make.
pub(super) fn parse_filter(filter: &str) -> Result<EnvFilter, InstallError> {
    let audit = if names_audit(filter) {
        ""
    } else {
        ",audit=info"
    };
    let builder = EnvFilter::builder().with_regex(false);
    Ok(builder.parse(format!("{QUIET_DIRECTIVES},{filter}{audit}"))?)
}

const LEVELS: [(EventLevel, &str); 5] = [
    (EventLevel::ERROR, "error"),
    (EventLevel::WARN, "warn"),
    (EventLevel::INFO, "info"),
    (EventLevel::DEBUG, "debug"),
    (EventLevel::TRACE, "trace"),
];

/// Counts events by level, and those of the audit trail.
#[derive(Debug, Default)]
pub(crate) struct EventCounts {
    levels: [AtomicU64; LEVELS.len()],
    audit: AtomicU64,
}

/// The layer that does.
pub(super) struct EventCounter(pub Arc<EventCounts>);

impl<S: Subscriber> Layer<S> for EventCounter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = event.metadata().level();
        if let Some(place) = LEVELS.iter().position(|(each, _)| each == level) {
            self.0.levels[place].fetch_add(1, Ordering::Relaxed);
        }
        if event.metadata().target() == AUDIT_TARGET {
            self.0.audit.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level, and the filters that were put in force.
    fn level() -> (Arc<LevelControl>, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let set = {
            let seen = Arc::clone(&seen);
            move |filter: EnvFilter| {
                seen.lock().unwrap().push(filter.to_string());
                Ok(())
            }
        };
        let level = LevelControl::new("info", Box::new(set), Arc::default());
        (Arc::new(level), seen)
    }

    fn shown(level: &LevelControl) -> (String, Option<u64>) {
        let now = level.status();
        (now.filter, now.reverts_in.map(|left| left.as_secs()))
    }

    #[test]
    fn field_value_is_not_a_regular_expression() {
        assert!(parse_filter("a[{f=*}]=trace").is_ok());
    }

    #[test]
    fn audit_events_are_logged_unless_the_filter_names_them() {
        assert!(
            parse_filter("off")
                .unwrap()
                .to_string()
                .contains("audit=info")
        );
        let similar = parse_filter("warn,fullon_master_api::server::audit=debug").unwrap();
        assert!(similar.to_string().contains(",audit=info"));
        assert!(
            !parse_filter("info,audit=off")
                .unwrap()
                .to_string()
                .contains("audit=info")
        );
    }

    #[tokio::test]
    async fn override_ends_after_its_time_or_with_new_settings() {
        let (level, seen) = level();
        level
            .set_override("debug", Some(Duration::from_mins(10)))
            .unwrap();
        assert_eq!(shown(&level), ("debug".into(), Some(599)));
        // A reload for another reason.
        level.set_configured("info").unwrap();
        assert_eq!(shown(&level), ("debug".into(), Some(599)));
        level.set_configured("warn").unwrap();
        assert_eq!(shown(&level), ("warn".into(), None));

        level
            .set_override("trace", Some(Duration::from_millis(20)))
            .unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while level.status().reverts_in.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        assert_eq!(shown(&level), ("warn".into(), None));
        let seen = seen.lock().unwrap();
        let levels: Vec<_> = seen
            .iter()
            .map(|filter| filter.split(',').find(|part| !part.contains('=')).unwrap())
            .collect();
        assert_eq!(levels, ["debug", "warn", "trace", "warn"]);
    }

    #[tokio::test]
    async fn override_replaces_the_one_before() {
        let (level, _) = level();
        level
            .set_override("debug", Some(Duration::from_millis(1)))
            .unwrap();
        level.set_override("trace", None).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(shown(&level), ("trace".into(), None));
        assert!(level.set_override("info,hyper=loud", None).is_err());
        assert_eq!(shown(&level), ("trace".into(), None));
        level.set_override("info", None).unwrap();
        assert_eq!(shown(&level), ("info".into(), None));
    }
}
