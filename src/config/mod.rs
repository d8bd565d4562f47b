//! Settings. Flags override the process environment, which overrides `.env`, which overrides the
//! defaults.
//!
//! [`Sources`] finds the text of every setting and its source. [`Settings`] are the settings of a
//! daemon; they exist only if every value is valid. [`ClientSettings`] is the small part that a
//! client command needs, so that a broken `.env` does not prevent `stop`. No other module reads the
//! environment.
//!
//! To add a setting, add a row to `table`, then run the unit tests: they name each place that does
//! not know it yet.

mod admin_origins;
mod app;
mod app_command;
mod changes;
mod client;
mod database;
mod database_url;
mod dependencies;
mod endpoint;
mod entries;
mod env_file;
mod environment;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_targets;
mod limits;
mod live;
mod location;
mod log;
mod own_files;
mod parse;
mod paths;
mod redis;
mod redis_url;
mod secret;
mod secret_file;
mod server_address;
mod service_links;
mod settings;
mod shell_syntax;
mod sources;
mod table;
mod tls;
mod trusted_proxies;
mod unknown_names;
mod validator;
mod weak_secret;
mod worker_environment;

pub(crate) use admin_origins::split_host_port;
pub use admin_origins::{AdminOrigin, AdminOrigins};
pub use app::AppSettings;
pub use app_command::{APP_COMMAND, AppCommand, Placeholder};
pub use changes::{SettingChange, SettingChanges};
pub use client::{BestEffortSettings, ClientSettings};
pub use database::DatabaseSettings;
pub use database_url::SessionKind;
pub use dependencies::{DependencySettings, ProbeSchedule};
pub use endpoint::DependencyEndpoint;
pub use entries::SettingEntry;
pub use env_file::{EnvFileChoice, replaceable_directory};
pub use environment::{
    differing_variables, has_same_variable, inherited_settings, is_colour_wanted, is_journal,
    user_name, working_directory,
};
pub use error::{
    InvalidSettings, SettingProblem, SettingWarning, SettingWarningKind, ephemeral_port_warning,
    root_warning,
};
pub use limits::Limits;
pub use live::LiveSettings;
pub use location::SettingsLocation;
pub(crate) use log::LOG_FILTER_FORM;
pub use log::{LogFormat, LogSettings, LogTarget, better_log_file, parse_log_filter};
pub use own_files::{revoked_file, state_file, workers_directory};
pub use parse::duration;
pub use redis::RedisSettings;
pub use secret::{MASK, Secret};
pub use server_address::ServerAddress;
pub use settings::Settings;
pub use sources::{Flags, Source, Sources};
pub use table::{Activation, DEFINITIONS, SettingDefinition, SettingValue, activation, flag_name};
pub use tls::{CertificateAuthorities, ClientIdentity, TlsMode, TlsSettings};
pub use trusted_proxies::TrustedProxies;
pub use weak_secret::secret_weakness;
