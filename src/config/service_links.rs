//! Variables that Kubernetes and Docker set for each service beside this one: a service `redis` has
//! `REDIS_PORT=tcp://10.96.0.5:6379`, `REDIS_SERVICE_HOST` and others. Nobody means them as
//! settings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::error::{SettingWarning, SettingWarningKind};
use super::table::DEFINITIONS;
use super::unknown_names::is_in_family;

/// The service links of an environment.
pub(super) struct ServiceLinks(BTreeSet<String>);

impl ServiceLinks {
    pub fn find(environment: &BTreeMap<String, String>) -> Self {
        let service = |(name, value): (&'_ String, &'_ String)| {
            let by_port = name.strip_suffix("_PORT");
            let by_port = by_port.filter(|_| is_address(value));
            let service = by_port.or_else(|| name.strip_suffix("_SERVICE_HOST"))?;
            Some(format!("{service}_"))
        };
        let services: BTreeSet<_> = environment.iter().filter_map(service).collect();
        let is_link = |(name, value): &(&String, &String)| {
            let mut services = services.iter();
            // The value of `PORT` alone may be one, too.
            (name.as_str() == "PORT" && is_address(value))
                || services.any(|service| {
                    let part = name.strip_prefix(service.as_str());
                    part.is_some_and(|part| is_part(part, value))
                })
        };
        let links = environment.iter().filter(is_link);
        Self(links.map(|(name, _)| name.clone()).collect())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// A warning, if a link has the name of a setting or looks like one.
    pub fn warning(&self) -> Option<SettingWarning> {
        let is_setting = |name: &&String| DEFINITIONS.iter().any(|it| it.name == name.as_str());
        let (settings, others): (Vec<_>, Vec<_>) = self.0.iter().partition(is_setting);
        let others: Vec<_> = others.into_iter().filter(|it| is_in_family(it)).collect();
        let mut subject: Vec<_> = settings.iter().map(|name| name.as_str()).collect();
        let mut others = others.iter().map(|name| name.as_str());
        if subject.is_empty() {
            subject.push(others.next()?);
        }
        let more = match others.count() {
            0 => String::new(),
            1 => " with one other variable".into(),
            count => format!(" with {count} other variables"),
        };
        let is = if subject.len() == 1 { "is" } else { "are" };
        Some(SettingWarning {
            kind: SettingWarningKind::ServiceLinks,
            subject: subject.join(", "),
            message: format!(
                "{is} set by Kubernetes or Docker for a service of that name, and ignored{more} (environment)"
            ),
            next_step: "set `enableServiceLinks: false` in the pod, or set the value in .env or with a flag"
                .into(),
        })
    }
}

/// `tcp://10.96.0.5:6379`
fn is_address(value: &str) -> bool {
    let protocols = ["tcp://", "udp://", "sctp://"];
    let mut addresses = protocols.iter().filter_map(|it| value.strip_prefix(it));
    addresses.any(|address| address.parse::<SocketAddr>().is_ok())
}

/// Whether the rest of a name, after the service, is one of those that a platform makes.
fn is_part(part: &str, value: &str) -> bool {
    let is_port = |text: &str| {
        let number = text.split('_').next().unwrap_or_default();
        number.parse::<u16>().is_ok()
    };
    match part {
        "PORT" => is_address(value),
        "SERVICE_HOST" | "SERVICE_PORT" => true,
        // Of Docker: `/container/alias`.
        "NAME" => value.starts_with('/'),
        _ => {
            part.starts_with("SERVICE_PORT_")
                || part.starts_with("ENV_")
                || part.strip_prefix("PORT_").is_some_and(is_port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(variables: &[(&str, &str)]) -> ServiceLinks {
        let variables = variables.iter();
        ServiceLinks::find(
            &variables
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn variables_of_platforms_are_links() {
        let kubernetes = links(&[
            ("REDIS_PORT", "tcp://10.96.0.5:6379"),
            ("REDIS_PORT_6379_TCP", "tcp://10.96.0.5:6379"),
            ("REDIS_PORT_6379_TCP_PROTO", "tcp"),
            ("REDIS_SERVICE_HOST", "10.96.0.5"),
            ("REDIS_SERVICE_PORT_MAIN", "6379"),
            ("REDIS_HOST", "redis"),
            ("REDIS_PASSWORD", "tcp://10.96.0.5:6379"),
        ]);
        let names: Vec<_> = kubernetes.0.iter().map(String::as_str).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        assert!(!kubernetes.contains("REDIS_HOST"));
        let warning = kubernetes.warning().unwrap();
        assert_eq!(warning.subject, "REDIS_PORT");
        assert!(
            warning.message.contains(" with 4 other variables "),
            "{warning}"
        );

        let docker = links(&[
            ("DB_PORT", "tcp://172.17.0.5:5432"),
            ("DB_NAME", "/web/db"),
            ("DB_ENV_PG_MAJOR", "9.3"),
        ]);
        assert!(docker.contains("DB_NAME") && docker.contains("DB_ENV_PG_MAJOR"));
        assert!(links(&[("ADMIN_PORT", "udp://[fd00::1]:53")]).contains("ADMIN_PORT"));
        // A service of another name.
        let other = links(&[("WEB_PORT", "tcp://10.96.0.5:80")]);
        assert!(other.contains("WEB_PORT") && other.warning().is_none());
    }

    #[test]
    fn other_values_are_no_links() {
        for (name, value) in [
            ("REDIS_PORT", "6379"),
            ("REDIS_PORT", "tcp://user:hunter2@redis:6379"),
            ("DB_NAME", "/web/db"),
            ("DB_PORT", "postgres://10.96.0.5:6379"),
        ] {
            assert!(!links(&[(name, value)]).contains(name), "{name}={value}");
        }
    }
}
