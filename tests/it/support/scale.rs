//! How much the repeating tests do: a little in `make test`, a lot in `make soak`. These
//! environment variables are read here and nowhere else.
//!
//! | variable          | `make test` | `make soak` | meaning                                   |
//! |-------------------|-------------|-------------|-------------------------------------------|
//! | `ROUNDS`          | 25          | 200         | kills and stops at a random moment        |
//! | `REQUESTS`        | 5,000       | 100,000     | requests during twenty restarts           |
//! | `SOAK_SECONDS`    | 10          | 600         | length of the soak test                   |
//! | `FLOOD`           | 3,000       | 300,000     | requests without a token in a flood       |
//! | `CONSOLE_SECONDS` | 3           | 60          | length of the busy log in the browser     |
//! | `SCRAPE_SECONDS`  | 1           | 15          | interval of Prometheus during restarts    |
//! | `RESTARTS`        | 3           | 20          | restarts under load of an application     |
//! | `SEED`            | random      | random      | seed of random tests, printed on failure  |

use std::time::Duration;

/// Rounds of a test that kills or stops the daemon at a random moment.
pub fn rounds() -> u64 {
    variable("ROUNDS").unwrap_or(25)
}

/// Rounds of a test with a real application, which takes seconds.
pub fn application_rounds() -> u64 {
    variable("ROUNDS").map_or(1, |rounds| rounds.div_ceil(10))
}

/// Requests that are answered during twenty restarts.
pub fn requests() -> u64 {
    variable("REQUESTS").unwrap_or(5_000)
}

/// Requests without a token that must not fill the audit trail.
pub fn flood() -> u64 {
    variable("FLOOD").unwrap_or(3_000)
}

/// Length of the soak test.
pub fn soak_time() -> Duration {
    Duration::from_secs(variable("SOAK_SECONDS").unwrap_or(10))
}

/// How many seconds of a busy log the browser shows.
pub fn console_seconds() -> u64 {
    variable("CONSOLE_SECONDS").unwrap_or(3)
}

/// How often Prometheus scrapes during restarts.
pub fn scrape_interval() -> Duration {
    Duration::from_secs(variable("SCRAPE_SECONDS").unwrap_or(1))
}

/// Restarts while Prometheus scrapes, or while an application is under load.
pub fn restarts() -> u32 {
    u32::try_from(variable("RESTARTS").unwrap_or(3)).unwrap()
}

/// The seed of a random test: another one in each run, unless `SEED` sets it.
pub fn seed() -> u64 {
    variable("SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 16)
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}
