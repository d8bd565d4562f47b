//! The dependencies that are watched: a task for each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::dependency::{Change, Dependency, DependencyFigures, Turn};
use super::failure::Failure;
use super::prober::{self, Target};
use crate::api::{Check, CheckState};
use crate::config::{DependencySettings, Pace};

/// All of them. Whether all are up is known without asking.
#[derive(Debug)]
pub struct Watched {
    each: Mutex<Vec<Watch>>,
    are_up: AtomicBool,
}

#[derive(Debug)]
struct Watch {
    dependency: Arc<Dependency>,
    target: Target,
    pace: Pace,
    /// Whether it counts as up before it was asked.
    is_presumed_up: bool,
    /// Gone once nobody is asked any more.
    task: Option<AbortOnDropHandle<()>>,
}

impl Watch {
    /// Whether its task still runs.
    fn is_asked(&self) -> bool {
        let task = self.task.as_ref();
        task.is_some_and(|task| !task.is_finished())
    }
}

impl Watched {
    /// None.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            each: Mutex::default(),
            are_up: AtomicBool::new(true),
        })
    }

    /// Whether requests can be served as they should. Waits for nothing.
    pub fn are_up(&self) -> bool {
        self.are_up.load(Ordering::Acquire)
    }

    /// Watches those that the settings name, and none else. One whose settings are as before is left alone; of one whose
    /// settings are others, what was known stays until its first answer. Must be called within a tokio runtime.
    pub fn watch(
        self: &Arc<Self>,
        settings: &DependencySettings,
        known: &[(Check, u64)],
        are_presumed_up: bool,
    ) {
        let postgres = settings.database.clone().map(Target::Postgres);
        let redis = settings.redis.clone().map(Target::Redis);
        let wanted = [("postgresql", postgres), ("redis", redis)];
        let mut each = self.each();
        let mut before = std::mem::take(&mut *each);
        for (name, target) in wanted {
            let watched = before
                .iter()
                .position(|watch| watch.dependency.name() == name)
                .map(|at| before.remove(at));
            let Some(target) = target else {
                // Its last word may be on its way.
                if let Some(watch) = watched {
                    watch.dependency.next_turn(false);
                }
                continue;
            };
            each.push(match watched {
                Some(watch)
                    if watch.target == target
                        && watch.pace == settings.pace
                        && watch.is_asked() =>
                {
                    watch
                }
                Some(watch) => {
                    let is_presumed_up = watch.is_presumed_up;
                    let dependency = Arc::clone(&watch.dependency);
                    let turn = dependency.next_turn(watch.target == target);
                    drop(watch);
                    self.begin(dependency, turn, target, settings.pace, is_presumed_up)
                }
                None => {
                    let known = known.iter().find(|(check, _)| check.name == name);
                    let dependency = known.map_or_else(
                        || Dependency::new(name),
                        |(check, _)| Dependency::known(name, check),
                    );
                    let is_same = known.is_some_and(|(_, digest)| *digest == target.digest());
                    let turn = dependency.next_turn(is_same);
                    let dependency = Arc::new(dependency);
                    self.begin(dependency, turn, target, settings.pace, are_presumed_up)
                }
            });
        }
        self.count(&each);
    }

    /// Asks nobody any more. What was known stays.
    pub fn stop(&self) {
        for watch in self.each().iter_mut() {
            watch.dependency.next_turn(true);
            watch.task = None;
        }
    }

    /// What is known of each, and a digest of the settings by which it is.
    pub fn known(&self) -> Vec<(Check, u64)> {
        let each = self.each();
        let known = each
            .iter()
            .map(|watch| (watch.dependency.check(), watch.target.digest()));
        known.collect()
    }

    pub fn checks(&self) -> Vec<Check> {
        let each = self.each();
        each.iter().map(|watch| watch.dependency.check()).collect()
    }

    pub fn figures(&self) -> Vec<DependencyFigures> {
        let each = self.each();
        let figures = each.iter().map(|watch| watch.dependency.figures());
        figures.collect()
    }

    fn begin(
        self: &Arc<Self>,
        dependency: Arc<Dependency>,
        turn: Turn,
        target: Target,
        pace: Pace,
        is_presumed_up: bool,
    ) -> Watch {
        let (all, its) = (Arc::clone(self), Arc::clone(&dependency));
        let tell = move |outcome: Result<_, &Failure>| all.note(&its, turn, outcome);
        let task = tokio::spawn(prober::run(target.clone(), pace, tell));
        Watch {
            dependency,
            target,
            pace,
            is_presumed_up,
            task: Some(AbortOnDropHandle::new(task)),
        }
    }

    fn note(&self, dependency: &Dependency, turn: Turn, outcome: Result<Duration, &Failure>) {
        let change = dependency.note(turn, outcome);
        if change == Change::None {
            return;
        }
        self.count(&self.each());
        let dependency = dependency.name();
        match change {
            Change::Up {
                down_for: Some(down_for),
            } => tracing::info!(target: "health", dependency, ?down_for, "up again"),
            Change::Up { down_for: None } => tracing::info!(target: "health", dependency, "up"),
            Change::Down { reason } => {
                tracing::warn!(target: "health", dependency, reason, "down");
            }
            Change::None => {}
        }
    }

    fn count(&self, each: &[Watch]) {
        let is_up = |watch: &Watch| match watch.dependency.state() {
            CheckState::Up => true,
            CheckState::Down => false,
            CheckState::Unknown => watch.is_presumed_up,
        };
        self.are_up.store(each.iter().all(is_up), Ordering::Release);
    }

    fn each(&self) -> MutexGuard<'_, Vec<Watch>> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
