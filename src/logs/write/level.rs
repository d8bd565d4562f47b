//! Which events are logged, and how many were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::Context;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// The target of audit events. They are logged at any level unless the filter names this target.
pub const AUDIT_TARGET: &str = "audit";
/// Suppresses an event for every probe of a dependency unless the filter names the target.
const QUIET_DIRECTIVES: &str = "tokio_postgres=off";

pub(crate) type ApplyFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// The filter of the log cannot be changed.
#[derive(Debug, Error)]
pub enum LevelError {
    /// The filter is invalid. Settings are validated earlier, other callers may not validate.
    #[error("LOG_LEVEL: {0}")]
    Filter(#[from] ParseError),
    /// The log of this process no longer exists.
    #[error("cannot change the log filter: {0}")]
    Reload(#[from] reload::Error),
}

/// The filter of the log: the configured one, or a temporary override.
pub struct LevelControl {
    state: Mutex<LevelState>,
    apply_filter: ApplyFilter,
    event_counts: Arc<EventCounts>,
}

struct LevelState {
    configured: String,
    active_override: Option<FilterOverride>,
}

/// A filter that replaces the configured one.
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
    /// The active filter.
    pub filter: String,
    /// The filter of the settings.
    pub configured: String,
    /// Time until the configured filter becomes active; `None` if that will not happen by itself.
    pub reverts_in: Option<Duration>,
}

impl LevelControl {
    pub(crate) fn new(
        configured: &str,
        apply_filter: ApplyFilter,
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

    /// The active and the configured filter.
    #[must_use]
    pub fn status(&self) -> LevelStatus {
        let state = self.state();
        let active = state.active_override.as_ref();
        LevelStatus {
            filter: active
                .map_or(&state.configured, |active| &active.filter)
                .clone(),
            configured: state.configured.clone(),
            reverts_in: active
                .and_then(|active| active.until)
                .map(|until| until.saturating_duration_since(Instant::now())),
        }
    }

    /// Activates the filter of the settings if it has changed. Otherwise an override stays.
    pub(crate) fn set_configured(&self, filter: &str) -> Result<(), LevelError> {
        let mut state = self.state();
        if state.configured != filter {
            (self.apply_filter)(parse_filter(filter)?)?;
            filter.clone_into(&mut state.configured);
            state.active_override = None;
        }
        Ok(())
    }

    /// Activates a filter until the setting changes, or for this time. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// The filter is invalid. Nothing has changed then.
    pub fn set_override(
        self: &Arc<Self>,
        filter: &str,
        time: Option<Duration>,
    ) -> Result<(), LevelError> {
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
                sleep_until(until).await;
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

    /// How many audit events passed the filter.
    pub fn audit_event_count(&self) -> u64 {
        self.event_counts.audit.load(Ordering::Relaxed)
    }

    fn revert(&self) {
        let mut state = self.state();
        let until = state.active_override.as_ref().and_then(|it| it.until);
        if until.is_none_or(|until| until > Instant::now()) {
            // Another override was set in the last moment.
            return;
        }
        let outcome = parse_filter(&state.configured)
            .map_err(LevelError::from)
            .and_then(|filter| Ok((self.apply_filter)(filter)?));
        state.active_override = None;
        let configured = state.configured.clone();
        drop(state);
        match outcome {
            Ok(()) => tracing::info!(level = configured, "log level reverted to LOG_LEVEL"),
            Err(error) => tracing::error!(%error, "cannot revert the log level to LOG_LEVEL"),
        }
    }

    fn state(&self) -> MutexGuard<'_, LevelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the filter has a directive for [`AUDIT_TARGET`].
#[must_use]
pub fn names_audit(filter: &str) -> bool {
    filter.split(',').any(|directive| {
        let target = directive.split(['=', '[']).next().unwrap_or_default();
        target.trim() == AUDIT_TARGET
    })
}

/// Parses a filter and adds the default directives. Values of fields are compared as they are: a
/// regular expression of a few bytes can take minutes to compile.
pub(crate) fn parse_filter(filter: &str) -> Result<EnvFilter, ParseError> {
    let audit = if names_audit(filter) {
        ""
    } else {
        ",audit=info"
    };
    let builder = EnvFilter::builder().with_regex(false);
    builder.parse(format!("{QUIET_DIRECTIVES},{filter}{audit}"))
}

const LEVELS: [(Level, &str); 5] = [
    (Level::ERROR, "error"),
    (Level::WARN, "warn"),
    (Level::INFO, "info"),
    (Level::DEBUG, "debug"),
    (Level::TRACE, "trace"),
];

/// Counts of events by level, and of audit events.
#[derive(Debug, Default)]
pub(crate) struct EventCounts {
    levels: [AtomicU64; LEVELS.len()],
    audit: AtomicU64,
}

/// The layer that counts events.
pub(crate) struct EventCounter(pub Arc<EventCounts>);

impl<S: Subscriber> Layer<S> for EventCounter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = event.metadata().level();
        if let Some(index) = LEVELS.iter().position(|(each, _)| each == level) {
            self.0.levels[index].fetch_add(1, Ordering::Relaxed);
        }
        if event.metadata().target() == AUDIT_TARGET {
            self.0.audit.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A control, and the filters it has applied.
    fn level() -> (Arc<LevelControl>, Arc<Mutex<Vec<String>>>) {
        let applied = Arc::<Mutex<Vec<String>>>::default();
        let apply = {
            let applied = Arc::clone(&applied);
            move |filter: EnvFilter| {
                applied.lock().unwrap().push(filter.to_string());
                Ok(())
            }
        };
        let level = LevelControl::new("info", Box::new(apply), Arc::default());
        (Arc::new(level), applied)
    }

    fn shown(level: &LevelControl) -> (String, Option<u64>) {
        let status = level.status();
        (status.filter, status.reverts_in.map(|left| left.as_secs()))
    }

    #[test]
    fn field_value_is_not_a_regular_expression() {
        assert!(parse_filter("a[{f=*}]=trace").is_ok());
    }

    #[test]
    fn audit_events_are_logged_unless_the_filter_names_them() {
        let parsed = |filter| parse_filter(filter).unwrap().to_string();
        assert!(parsed("off").contains("audit=info"));
        let similar = "warn,fullon_master_api::server::audit=debug";
        assert!(parsed(similar).contains(",audit=info"));
        assert!(!parsed("info,audit=off").contains("audit=info"));
    }

    #[tokio::test(start_paused = true)]
    async fn override_ends_after_its_time_or_with_new_settings() {
        let (level, applied) = level();
        let ten_minutes = Duration::from_mins(10);
        level.set_override("debug", Some(ten_minutes)).unwrap();
        assert_eq!(shown(&level), ("debug".into(), Some(600)));
        // A reload for another reason.
        level.set_configured("info").unwrap();
        assert_eq!(shown(&level), ("debug".into(), Some(600)));
        level.set_configured("warn").unwrap();
        assert_eq!(shown(&level), ("warn".into(), None));

        level.set_override("trace", Some(ten_minutes)).unwrap();
        tokio::time::sleep(ten_minutes + Duration::from_millis(1)).await;
        assert_eq!(shown(&level), ("warn".into(), None));
        let applied = applied.lock().unwrap();
        let levels: Vec<_> = applied
            .iter()
            .map(|filter| filter.split(',').find(|part| !part.contains('=')).unwrap())
            .collect();
        assert_eq!(levels, ["debug", "warn", "trace", "warn"]);
    }

    #[tokio::test(start_paused = true)]
    async fn override_replaces_the_one_before() {
        let (level, _) = level();
        let minute = Duration::from_mins(1);
        level.set_override("debug", Some(minute)).unwrap();
        level.set_override("trace", None).unwrap();
        tokio::time::sleep(2 * minute).await;
        assert_eq!(shown(&level), ("trace".into(), None));
        assert!(level.set_override("info,hyper=loud", None).is_err());
        assert_eq!(shown(&level), ("trace".into(), None));
        level.set_override("info", None).unwrap();
        assert_eq!(shown(&level), ("info".into(), None));
    }
}
