//! How the daemon is started.

use super::run_mode::RunMode;
use super::upgrade::UpgradeChild;
use crate::config::Settings;
use crate::instance::{Launch, StartupReporter};
use crate::server::public::Mounts;

/// What a daemon is started with.
pub struct StartOptions {
    /// The settings.
    pub settings: Settings,
    /// The command line that this process was started with, and its successor will be.
    pub launch: Launch,
    /// Background or foreground.
    pub mode: RunMode,
    /// Where to report that the daemon serves, or why it does not.
    pub reporter: Option<StartupReporter>,
    /// The handoff from the old process, in a zero-downtime restart.
    pub upgrade: Option<UpgradeChild>,
    /// Routes that are served beside the built-in ones.
    pub mounts: Mounts,
}
