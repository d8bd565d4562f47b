//! nginx, `HAProxy` and Caddy in front of the daemon, as in `docs/reverse-proxies.md`.

use std::time::{Duration, Instant};

use crate::log_stream::EventStream;
use crate::support::{
    HEAVY, Home, Load, LoadProfile, ProxyProgram, documented_configuration, eventually, scale,
};

/// The configuration on the page for the public port, without TLS.
pub fn public_port(program: ProxyProgram, home: &Home, port: u16) -> String {
    let address = format!("127.0.0.1:{port}");
    let daemon = home.public_address();
    let (section, language, replacements) = match program {
        ProxyProgram::Nginx => (
            "nginx",
            "nginx",
            vec![
                ("443 ssl http2", address),
                (
                    "ssl_certificate     /etc/ssl/api.example.com.pem;",
                    String::new(),
                ),
                (
                    "ssl_certificate_key /etc/ssl/private/api.example.com.key;",
                    String::new(),
                ),
            ],
        ),
        ProxyProgram::HaProxy => (
            "HAProxy",
            "haproxy",
            vec![(
                ":443 ssl crt /etc/ssl/private/api.example.com.pem alpn h2,http/1.1",
                address,
            )],
        ),
        ProxyProgram::Caddy => (
            "Caddy",
            "caddyfile",
            vec![(
                "api.example.com {",
                format!("http://{address} {{\n    bind 127.0.0.1"),
            )],
        ),
    };
    let mut replacements: Vec<_> = replacements
        .iter()
        .map(|(from, to)| (*from, to.as_str()))
        .collect();
    replacements.push(("127.0.0.1:8000", &daemon));
    documented_configuration(section, language, &replacements)
}

#[test]
fn restarts_behind_a_proxy_lose_no_request() {
    const RESTARTS: u64 = 8;

    let _permit = HEAVY.enter();
    let requests = scale::requests();
    for program in ProxyProgram::ALL {
        let home = Home::started();
        let test = "restarts_behind_a_proxy_lose_no_request";
        let Some(proxy) = program.start(test, &home, |port| public_port(program, &home, port))
        else {
            continue;
        };
        let load = Load::start(&proxy.address(), &LoadProfile::default());
        for number in 1..=RESTARTS {
            let due = requests * number / RESTARTS;
            eventually("requests are answered", || load.answered() >= due);
            home.restart();
        }
        load.wait_for_more(1000);
        let report = load.finish();
        println!(
            "{program:?}: {} requests, {} failed",
            report.answered,
            report.failures.len()
        );
        report.assert_flawless();
    }
}

/// Default settings, and the option of the page for `HAProxy`.
fn admin_port(program: ProxyProgram, home: &Home, port: u16, option: &str) -> String {
    let admin = home.admin_address();
    match program {
        ProxyProgram::Nginx => format!(
            "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{admin}; }} }}"
        ),
        ProxyProgram::HaProxy => format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 75s\n timeout server 60s\n {option}\nlisten admin\n bind 127.0.0.1:{port}\n server daemon {admin}\n"
        ),
        ProxyProgram::Caddy => {
            format!("http://127.0.0.1:{port} {{\n bind 127.0.0.1\n reverse_proxy {admin}\n}}\n")
        }
    }
}

#[test]
fn proxies_hold_no_event_back() {
    let test = "proxies_hold_no_event_back";
    let home = Home::started();
    for (program, option) in [
        (ProxyProgram::Nginx, ""),
        (ProxyProgram::HaProxy, ""),
        (ProxyProgram::HaProxy, "option http-no-delay"),
        (ProxyProgram::Caddy, ""),
    ] {
        let configuration = |port| admin_port(program, &home, port, option);
        let Some(proxy) = program.start(test, &home, configuration) else {
            continue;
        };
        let query = "?lines=0&contains=client_request_id";
        let (mut stream, head) = EventStream::open_at(&proxy.address(), &home, query, &[]);
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        // In a burst, nginx would keep the last ones. Its next event would be the comment of an idle
        // stream, after 15 s.
        stream.set_read_timeout(Duration::from_secs(12));
        let mut burst = Vec::new();
        for number in 0..40 {
            let id = format!("burst-{number}-");
            home.log_request(&id);
            burst.push(id);
        }
        for id in burst {
            assert!(stream.next_line().contains(&id), "{id}");
        }
        let mut delays = Vec::new();
        for number in 0..scale::rounds() {
            let id = format!("single-{number}-");
            let sent = Instant::now();
            home.log_request(&id);
            assert!(stream.next_line().contains(&id), "{id}");
            delays.push(sent.elapsed());
        }
        delays.sort();
        let (p50, p99) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
        println!("{program:?} {option}: p50 {p50:?}, p99 {p99:?}");
    }
}
