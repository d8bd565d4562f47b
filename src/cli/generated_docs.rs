//! Pages of the documentation that are generated: `docs/cli.md` from the arguments, and the list of
//! settings in `docs/configuration.md` from the table of settings. The tests compare the checked-in
//! pages with the rendered ones, and rewrite them with `UPDATE_DOCS=1` (`make docs`).

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Arg, Command};

use super::arguments;
use super::flags::is_setting;
use super::man::form;
use crate::config::{Activation, DEFINITIONS, SettingDefinition, activation, flag_name};

/// Lines of prose end at this column.
const WIDTH: usize = 100;

/// Examples and exit codes of a command, which clap does not know.
struct CommandNotes {
    name: &'static str,
    /// A comment and a command line each.
    examples: &'static [(&'static str, &'static str)],
    /// Exit codes and their meaning.
    exit_codes: &'static [(u8, &'static str)],
}

const DONE_OR_FAILED: &[(u8, &str)] = &[
    (0, "success"),
    (1, "the command failed"),
    (2, "wrong usage or invalid configuration"),
];

const NOTES: [CommandNotes; 16] = [
    CommandNotes {
        name: "start",
        examples: &[
            ("Start with the settings in .env", "fullon start"),
            ("Start on another port", "fullon start --port 9000"),
            (
                "Run an application behind the public port",
                "fullon start -- uvicorn app:app --fd {fd}",
            ),
        ],
        exit_codes: &[
            (0, "the daemon is ready"),
            (1, "it did not start, or was already running"),
            (2, "wrong usage or invalid configuration"),
        ],
    },
    CommandNotes {
        name: "stop",
        examples: &[
            (
                "Stop as soon as the requests in flight are finished",
                "fullon stop",
            ),
            ("Give them at most a minute", "fullon stop --timeout 1m"),
        ],
        exit_codes: &[
            (0, "the daemon has exited"),
            (1, "it was not running, or did not stop"),
            (2, "wrong usage or invalid configuration"),
        ],
    },
    CommandNotes {
        name: "restart",
        examples: &[
            (
                "Switch to the current program and .env without downtime",
                "fullon restart",
            ),
            (
                "Run another command of the application from now on",
                "fullon restart -- uvicorn app:app --fd {fd}",
            ),
            (
                "Stop and start, with other flags",
                "fullon restart --hard --port 9000",
            ),
        ],
        exit_codes: &[
            (0, "the new process is ready"),
            (1, "it did not start; the old process continues as before"),
            (
                2,
                "wrong usage or invalid configuration; the old process continues as before",
            ),
        ],
    },
    CommandNotes {
        name: "reload",
        examples: &[(
            "Activate a LOG_LEVEL that was changed in .env",
            "fullon reload",
        )],
        exit_codes: &[
            (0, "the settings were reloaded"),
            (1, "the daemon is not running, or could not be reached"),
            (
                2,
                "wrong usage or invalid configuration; nothing has changed",
            ),
        ],
    },
    CommandNotes {
        name: "status",
        examples: &[
            ("Show the state of the daemon", "fullon status"),
            ("Health check of a container", "fullon status --ready"),
        ],
        exit_codes: &[
            (0, "running; with `--ready`: ready"),
            (
                1,
                "dead, but its PID file exists; with `--ready`: not ready for any reason",
            ),
            (2, "wrong usage or invalid configuration"),
            (3, "not running (not with `--ready`)"),
            (
                4,
                "cannot tell, such as an unreadable PID file (not with `--ready`)",
            ),
        ],
    },
    CommandNotes {
        name: "logs",
        examples: &[
            ("Show the last 50 lines and follow the log", "fullon logs"),
            (
                "Show the errors of the last ten minutes",
                "fullon logs --level error --since 10m --lines 1000 --no-follow",
            ),
        ],
        exit_codes: &[
            (
                0,
                "success, or the daemon stopped while the log was followed",
            ),
            (1, "the log cannot be read"),
            (2, "wrong usage or invalid configuration"),
        ],
    },
    CommandNotes {
        name: "audit",
        examples: &[
            ("Show who changed what", "fullon audit"),
            (
                "Check that no record was changed or removed",
                "fullon audit --verify",
            ),
        ],
        exit_codes: &[
            (
                0,
                "the records were printed; with `--verify`: the chain is intact",
            ),
            (
                1,
                "the audit trail cannot be read; with `--verify`: the chain is broken",
            ),
            (2, "wrong usage or invalid configuration"),
        ],
    },
    CommandNotes {
        name: "console",
        examples: &[
            ("Open the console in a browser", "fullon console --open"),
            (
                "Print an address with read access",
                "fullon console --scope admin:read",
            ),
        ],
        exit_codes: DONE_OR_FAILED,
    },
    CommandNotes {
        name: "sessions",
        examples: &[
            ("List who is signed in to the console", "fullon sessions"),
            (
                "End a session",
                "fullon sessions --end 7f1d5f0e-6f0e-4b5c-9d0b-1f2e3d4c5b6a",
            ),
        ],
        exit_codes: DONE_OR_FAILED,
    },
    CommandNotes {
        name: "run",
        examples: &[
            (
                "Run in the foreground, with the log on stdout",
                "fullon run --log-file -",
            ),
            (
                "Run an application behind the public port",
                "fullon run -- node server.js",
            ),
        ],
        exit_codes: &[
            (0, "the daemon was stopped"),
            (1, "it did not start, or was interrupted by a second signal"),
            (2, "wrong usage or invalid configuration"),
        ],
    },
    CommandNotes {
        name: "token",
        examples: &[
            (
                "Call the admin API with curl",
                "curl -H \"Authorization: Bearer $(fullon token)\" http://127.0.0.1:8001/admin/status",
            ),
            (
                "Make a read-only token for Prometheus",
                "fullon token --scope admin:read --ttl 365d --subject prometheus",
            ),
            (
                "Revoke a token that has leaked",
                "fullon token --revoke - < leaked-token.txt",
            ),
            ("Take all tokens back", "fullon token --revoke-all"),
        ],
        exit_codes: DONE_OR_FAILED,
    },
    CommandNotes {
        name: "config",
        examples: &[
            (
                "Show every setting and where its value comes from",
                "fullon config",
            ),
            ("Check .env before a restart", "fullon config --check"),
        ],
        exit_codes: &[
            (0, "the settings are valid"),
            (2, "wrong usage or invalid configuration"),
        ],
    },
    CommandNotes {
        name: "doctor",
        examples: &[("Find out why a command fails", "fullon doctor")],
        exit_codes: &[
            (0, "no errors; warnings are possible"),
            (1, "errors found"),
            (2, "wrong usage or invalid configuration"),
        ],
    },
    CommandNotes {
        name: "openapi",
        examples: &[(
            "Save the document of the admin API",
            "fullon openapi admin > admin.json",
        )],
        exit_codes: DONE_OR_FAILED,
    },
    CommandNotes {
        name: "completions",
        examples: &[(
            "Enable completions in this Bash",
            "source <(fullon completions bash)",
        )],
        exit_codes: DONE_OR_FAILED,
    },
    CommandNotes {
        name: "man",
        examples: &[("Read the manual page", "fullon man | man -l -")],
        exit_codes: DONE_OR_FAILED,
    },
];

/// Topics of the settings, and the first setting of each.
const TOPICS: [(&str, &str); 9] = [
    ("Addresses", "HOST"),
    ("Application", "APP_COMMAND"),
    ("Log", "LOG_LEVEL"),
    ("Process", "PID_FILE"),
    ("Admin API tokens", "JWT_SECRET_KEY"),
    ("Limits of requests and connections", "HEADER_TIMEOUT"),
    ("PostgreSQL", "DATABASE_URL"),
    ("Redis", "REDIS_URL"),
    ("Health checks of PostgreSQL and Redis", "CHECK_INTERVAL"),
];

#[test]
fn command_line_page_is_up_to_date() {
    check("cli.md", |_| command_line_page());
}

#[test]
fn configuration_page_is_up_to_date() {
    const BEGIN: &str = "<!-- generated: settings -->\n";
    const END: &str = "<!-- end -->";
    check("configuration.md", |page| {
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        format!("{before}{BEGIN}\n{}\n{END}{after}", settings_list())
    });
}

/// Compares a page with its rendering, or rewrites it.
fn check(name: &str, render: impl FnOnce(&str) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    let page = fs::read_to_string(&path).unwrap_or_default();
    let rendered = render(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &rendered).unwrap();
    } else {
        assert!(
            page == rendered,
            "docs/{name} is out of date: run `make docs`"
        );
    }
}

fn command_line_page() -> String {
    let mut program = arguments::command().disable_help_subcommand(true);
    program.build();
    let name = program.get_name().to_owned();
    let commands = || program.get_subcommands().filter(|it| !it.is_hide_set());
    let mut page = format!(
        "# Command line\n\n\
        <!-- Generated by `make docs` from the arguments of the program. Do not edit. -->\n\n\
        This page lists the commands of `{name}`, their options, their exit codes and\n\
        examples. `{name} COMMAND --help` and `{name} man` list the options, too.\n\n"
    );
    let summaries = commands().map(|command| {
        let command_name = command.get_name();
        [
            format!("[`{command_name}`](#{name}-{command_name})"),
            about(command),
        ]
    });
    page += &table(["Command", "Summary"], summaries);

    page += "\n## Options of every command\n\n";
    let is_global = |argument: &&Arg| argument.is_global_set() && !is_setting(argument);
    page += &table(
        ["Option", "Description"],
        program.get_arguments().filter(is_global).map(option_row),
    );
    page += "\n`start`, `run`, `config`, `openapi`, `completions` and `man` do not connect to a daemon and refuse\n\
        `--admin-url`.\n\n\
        Every setting that is not a secret is also an option of `start`, `run`, `restart` and `config`,\n\
        such as `--port 9000` for `PORT`. See [configuration](configuration.md).\n\n\
        With `--json`, messages for people go to stderr.\n";

    page += "\n## Exit codes\n\n";
    let exit_codes = [
        (0, "success"),
        (1, "the command failed, or there was nothing to do"),
        (2, "wrong usage or invalid configuration"),
    ];
    page += &exit_code_table(&exit_codes);
    page += "\n`status` also uses 3 and 4. Each command below lists its own.\n";

    for command in commands() {
        page += &command_section(&name, command);
    }
    page
}

fn command_section(program: &str, command: &Command) -> String {
    let name = command.get_name();
    let notes = NOTES.iter().find(|notes| notes.name == name);
    let notes = notes.unwrap_or_else(|| panic!("NOTES has no entry for {name}"));
    let mut section = format!("\n## {program} {name}\n\n{}.\n\n", about(command));
    let is_own = |argument: &&Arg| {
        let is_shared = argument.is_global_set() || is_setting(argument);
        !is_shared && !argument.is_hide_set() && argument.get_id() != "help"
    };
    let own: Vec<&Arg> = command.get_arguments().filter(is_own).collect();
    let mut usage = format!("{program} {name}");
    if command.get_arguments().any(is_setting) {
        usage += " [OPTIONS] [SETTINGS]";
    } else if own.iter().any(|argument| !argument.is_positional()) {
        usage += " [OPTIONS]";
    }
    for argument in own.iter().filter(|argument| argument.is_positional()) {
        if argument.is_last_set() {
            write!(usage, " [{}]", form(argument)).unwrap();
        } else {
            write!(usage, " {argument}").unwrap();
        }
    }
    write!(section, "```text\n{usage}\n```\n\n").unwrap();
    if !own.is_empty() {
        section += &table(["Option", "Description"], own.into_iter().map(option_row));
        section.push('\n');
    }
    section += "```sh\n";
    for (comment, line) in notes.examples {
        writeln!(section, "# {comment}\n{line}").unwrap();
    }
    section += "```\n\n";
    section += &exit_code_table(notes.exit_codes);
    section
}

fn about(command: &Command) -> String {
    command.get_about().unwrap().to_string()
}

fn option_row(argument: &Arg) -> [String; 2] {
    let short = argument.get_short().map(|short| format!("`-{short}`, "));
    let mut help = argument.get_help().unwrap().to_string();
    let values = argument.get_possible_values();
    let values: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
    if argument.get_action().takes_values() && !values.is_empty() {
        write!(help, ": {}", values.join(", ")).unwrap();
    }
    let defaults = argument.get_default_values();
    if let (Some(default), true) = (defaults.first(), argument.get_action().takes_values()) {
        write!(help, " (default: `{}`)", default.display()).unwrap();
    }
    [
        format!("{}`{}`", short.unwrap_or_default(), form(argument)),
        help,
    ]
}

fn exit_code_table(codes: &[(u8, &str)]) -> String {
    let rows = codes
        .iter()
        .map(|(code, text)| [code.to_string(), (*text).to_owned()]);
    table(["Exit code", "Meaning"], rows)
}

/// A table whose columns are aligned in the source.
fn table(header: [&str; 2], rows: impl IntoIterator<Item = [String; 2]>) -> String {
    let rows: Vec<_> = [header.map(str::to_owned)]
        .into_iter()
        .chain(rows)
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap();
    let (first, second) = (width(0), width(1));
    let mut text = String::new();
    for (at, [left, right]) in rows.iter().enumerate() {
        writeln!(text, "| {left:<first$} | {right:<second$} |").unwrap();
        if at == 0 {
            writeln!(text, "| {} | {} |", "-".repeat(first), "-".repeat(second)).unwrap();
        }
    }
    text
}

fn settings_list() -> String {
    let mut list = String::new();
    for setting in &DEFINITIONS {
        if let Some((topic, _)) = TOPICS.iter().find(|(_, first)| *first == setting.name) {
            let separator = if list.is_empty() { "" } else { "\n" };
            write!(list, "{separator}### {topic}\n\n").unwrap();
        }
        list += &setting_item(setting);
    }
    list
}

fn setting_item(setting: &SettingDefinition) -> String {
    let name = setting.name;
    let default = match setting.default_text() {
        Some(default) => format!("default `{default}`"),
        None => "not set by default".into(),
    };
    let flag = match setting.file_variable {
        Some(variable) => format!("secret; in a file: `{variable}`"),
        None => format!("`--{}`", flag_name(name)),
    };
    let change = match activation(name) {
        Activation::Reload => "reload",
        Activation::Restart => "restart",
        Activation::Start => "stop and start",
    };
    let mut item = format!("- **`{name}`** ({flag}; {default}; {change})\n");
    let mut line = String::from(" ");
    for word in format!("{}.", setting.help).split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            writeln!(item, "{line}").unwrap();
            line = String::from(" ");
        }
        write!(line, " {word}").unwrap();
    }
    writeln!(item, "{line}").unwrap();
    item
}
