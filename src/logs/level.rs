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
const AUDIT: &str = "audit";
/// What would log every probe of a dependency, unless the filter names it.
const QUIET: &str = "tokio_postgres=off";

pub(crate) type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// The filter of the log.
pub struct Level {
    state: Mutex<State>,
    set: SetFilter,
    events: Arc<Events>,
}

struct State {
    configured: String,
    other: Option<Other>,
}

/// Another filter than the configured one.
struct Other {
    filter: String,
    until: Option<Instant>,
    revert: Option<AbortHandle>,
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(revert) = &self.revert {
            revert.abort();
        }
    }
}

/// The filter at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelNow {
    /// What is in force.
    pub filter: String,
    /// What the settings say.
    pub configured: String,
    /// How long until that is in force again, if it is not and will be by itself.
    pub left: Option<Duration>,
}

impl Level {
    pub(crate) fn new(configured: &str, set: SetFilter, events: Arc<Events>) -> Self {
        Self {
            state: Mutex::new(State {
                configured: configured.to_owned(),
                other: None,
            }),
            set,
            events,
        }
    }

    /// What is in force.
    #[must_use]
    pub fn now(&self) -> LevelNow {
        let state = self.state();
        let other = state.other.as_ref();
        LevelNow {
            filter: other
                .map_or(&state.configured, |other| &other.filter)
                .clone(),
            configured: state.configured.clone(),
            left: other
                .and_then(|other| other.until)
                .map(|until| until.saturating_duration_since(Instant::now())),
        }
    }

    /// Puts the settings' filter in force if they say another than before. If not, one that was set for a while stays.
    pub(super) fn configure(&self, filter: &str) -> Result<(), InstallError> {
        let mut state = self.state();
        if state.configured != filter {
            (self.set)(parse(filter)?)?;
            filter.clone_into(&mut state.configured);
            state.other = None;
        }
        Ok(())
    }

    /// Puts a filter in force until the settings say another one, or for this time. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// It is none, and nothing has changed.
    pub fn change(
        self: &Arc<Self>,
        filter: &str,
        time: Option<Duration>,
    ) -> Result<(), InstallError> {
        let parsed = parse(filter)?;
        let mut state = self.state();
        (self.set)(parsed)?;
        state.other = None;
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
        state.other = Some(Other {
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
            .zip(&self.events.levels)
            .map(|((_, name), count)| (name, count.load(Ordering::Relaxed)))
    }

    /// How many of them were of the audit trail.
    pub fn audit_events(&self) -> u64 {
        self.events.audit.load(Ordering::Relaxed)
    }

    fn revert(&self) {
        let mut state = self.state();
        let until = state.other.as_ref().and_then(|other| other.until);
        if until.is_none_or(|until| until > Instant::now()) {
            // Another was set in the last moment.
            return;
        }
        let outcome = parse(&state.configured).and_then(|filter| Ok((self.set)(filter)?));
        state.other = None;
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a filter has a say in how much of the trail of changes is logged.
#[must_use]
pub fn names_audit(filter: &str) -> bool {
    filter.split(',').any(|directive| {
        let target = directive.split(['=', '[']).next().unwrap_or_default();
        target.trim() == AUDIT
    })
}

/// Values of fields are compared as they are: a regular expression of a few bytes can take minutes to make.
pub(super) fn parse(filter: &str) -> Result<EnvFilter, InstallError> {
    let audit = if names_audit(filter) {
        ""
    } else {
        ",audit=info"
    };
    let builder = EnvFilter::builder().with_regex(false);
    Ok(builder.parse(format!("{QUIET},{filter}{audit}"))?)
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
pub(crate) struct Events {
    levels: [AtomicU64; LEVELS.len()],
    audit: AtomicU64,
}

/// The layer that does.
pub(super) struct Counting(pub Arc<Events>);

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = event.metadata().level();
        if let Some(place) = LEVELS.iter().position(|(each, _)| each == level) {
            self.0.levels[place].fetch_add(1, Ordering::Relaxed);
        }
        if event.metadata().target() == AUDIT {
            self.0.audit.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level, and the filters that were put in force.
    fn level() -> (Arc<Level>, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let set = {
            let seen = Arc::clone(&seen);
            move |filter: EnvFilter| {
                seen.lock().unwrap().push(filter.to_string());
                Ok(())
            }
        };
        let level = Level::new("info", Box::new(set), Arc::default());
        (Arc::new(level), seen)
    }

    fn shown(level: &Level) -> (String, Option<u64>) {
        let now = level.now();
        (now.filter, now.left.map(|left| left.as_secs()))
    }

    #[test]
    fn the_value_of_a_field_is_no_regular_expression() {
        assert!(parse("a[{f=*}]=trace").is_ok());
    }

    #[test]
    fn the_trail_of_changes_is_logged_at_every_level_unless_it_is_named() {
        assert!(parse("off").unwrap().to_string().contains("audit=info"));
        let similar = parse("warn,fullon_master_api::server::audit=debug").unwrap();
        assert!(similar.to_string().contains(",audit=info"));
        assert!(
            !parse("info,audit=off")
                .unwrap()
                .to_string()
                .contains("audit=info")
        );
    }

    #[tokio::test]
    async fn another_level_ends_when_its_time_is_over_or_the_settings_say_another() {
        let (level, seen) = level();
        level
            .change("debug", Some(Duration::from_mins(10)))
            .unwrap();
        assert_eq!(shown(&level), ("debug".into(), Some(599)));
        // A reload for another reason.
        level.configure("info").unwrap();
        assert_eq!(shown(&level), ("debug".into(), Some(599)));
        level.configure("warn").unwrap();
        assert_eq!(shown(&level), ("warn".into(), None));

        level
            .change("trace", Some(Duration::from_millis(20)))
            .unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while level.now().left.is_some() {
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
    async fn a_change_takes_the_place_of_the_one_before_and_of_its_end() {
        let (level, _) = level();
        level
            .change("debug", Some(Duration::from_millis(1)))
            .unwrap();
        level.change("trace", None).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(shown(&level), ("trace".into(), None));
        assert!(level.change("info,hyper=loud", None).is_err());
        assert_eq!(shown(&level), ("trace".into(), None));
        level.change("info", None).unwrap();
        assert_eq!(shown(&level), ("info".into(), None));
    }
}
