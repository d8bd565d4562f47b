//! `APP_COMMAND`: a command line, split as a shell splits words. No shell runs, so what only a shell
//! understands is an error.

use std::fmt;

use super::shell_syntax::{find_shell_syntax, shell_line};

/// Name of the setting.
pub const APP_COMMAND: &str = "APP_COMMAND";

/// A command line, split into words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppCommand {
    words: Vec<String>,
    placeholder: Placeholder,
}

/// How a worker learns its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// `{fd}`: the number of an inherited, listening Unix socket.
    Fd,
    /// `{socket}`: the path of a Unix socket to bind.
    Socket,
    /// `{port}`: a free port of 127.0.0.1.
    Port,
    /// None: the variables `PORT` and `HOST`.
    Environment,
}

/// The placeholders as they are written.
const PLACEHOLDERS: [(&str, Placeholder); 3] = [
    ("{fd}", Placeholder::Fd),
    ("{socket}", Placeholder::Socket),
    ("{port}", Placeholder::Port),
];

/// Names of an address in other programs. Other text in braces may belong to the application.
const OTHER_NAMES: [&str; 8] = [
    "addr", "address", "bind", "host", "listen", "path", "sock", "unix",
];

/// Commands that are part of a shell.
const SHELL_COMMANDS: [&str; 5] = [".", "cd", "exec", "export", "source"];

impl AppCommand {
    /// Splits a command line.
    ///
    /// # Errors
    ///
    /// It needs a shell, has a quote that is not closed, or is not a valid command.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(syntax) = find_shell_syntax(text) {
            let line = shell_line(text, &syntax);
            return Err(format!(
                "`{syntax}` needs a shell, and none runs: quote it, or use `{line}`"
            ));
        }
        let words = shell_words::split(text).map_err(|_| "has a quote that is not closed")?;
        Self::new(words)
    }

    /// Takes the words of a command line.
    ///
    /// # Errors
    ///
    /// They are not a valid command.
    pub fn new(words: Vec<String>) -> Result<Self, String> {
        check_program(words.first().map_or("", String::as_str))?;
        if words.iter().any(|word| word.contains('\0')) {
            return Err("contains a NUL character".into());
        }
        let placeholder = find_placeholder(&words)?;
        Ok(Self { words, placeholder })
    }

    /// The words, with their placeholders. The first one is the program.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The placeholder that the words contain.
    #[must_use]
    pub fn placeholder(&self) -> Placeholder {
        self.placeholder
    }
}

impl fmt::Display for AppCommand {
    /// A command line that [`AppCommand::parse`] splits into the same words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.words.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            // Options such as `--workers=4` need no quotes.
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+={}".contains(c);
            if !word.is_empty() && word.chars().all(is_plain) {
                f.write_str(word)?;
            } else {
                f.write_str(&shell_words::quote(word))?;
            }
        }
        Ok(())
    }
}

impl Placeholder {
    /// How it is written in a command, such as `{fd}`; `None` without one.
    #[must_use]
    pub fn text(self) -> Option<&'static str> {
        let mut known = PLACEHOLDERS.into_iter();
        known.find_map(|(text, placeholder)| (placeholder == self).then_some(text))
    }
}

/// Checks the first word.
fn check_program(program: &str) -> Result<(), String> {
    const EXAMPLE: &str = "begin with a program, such as `uvicorn app:app --fd {fd}`";
    if program.is_empty() {
        return Err(format!("the program is missing: {EXAMPLE}"));
    }
    // A message must not show a password.
    let shown = if program.contains('@') {
        "the first word".to_owned()
    } else {
        format!("`{program}`")
    };
    if let Some(name) = assigned_variable(program) {
        return Err(format!(
            "`{name}=` needs a shell, and none runs: set APP_ENV_{name} instead, or use `sh -c '{name}=… exec …'`"
        ));
    }
    if program.contains("://") {
        return Err(format!("is a URL, but a command is needed: {EXAMPLE}"));
    }
    if program.ends_with('/') {
        return Err(format!("{shown} is a directory, not a program"));
    }
    if PLACEHOLDERS.iter().any(|(text, _)| program.contains(text)) {
        return Err(format!("{shown} is not a program: {EXAMPLE}"));
    }
    if SHELL_COMMANDS.contains(&program) {
        return Err(format!(
            "`{program}` is a command of the shell, and none runs: leave it out, or use `sh -c '{program} …'`"
        ));
    }
    Ok(())
}

/// The variable that a shell would set for a word such as `NAME=value`.
fn assigned_variable(word: &str) -> Option<&str> {
    let (name, _) = word.split_once('=')?;
    let is_name_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let is_name = name.chars().all(is_name_part) && !name.starts_with(|c: char| c.is_ascii_digit());
    (is_name && !name.is_empty()).then_some(name)
}

fn find_placeholder(words: &[String]) -> Result<Placeholder, String> {
    let is_used = |(text, _): &&(&str, Placeholder)| words.iter().any(|word| word.contains(text));
    let mut used = PLACEHOLDERS.iter().filter(is_used);
    let (first, second) = (used.next(), used.next());
    if let (Some((first, _)), Some((second, _))) = (first, second) {
        return Err(format!(
            "has {first} and {second}: a worker has one address, so use one of them"
        ));
    }
    if let Some(unknown) = words.iter().find_map(|word| unknown_placeholder(word)) {
        return Err(format!(
            "`{{{unknown}}}` is not a placeholder: use {{fd}}, {{socket}} or {{port}}"
        ));
    }
    Ok(first.map_or(Placeholder::Environment, |(_, placeholder)| *placeholder))
}

/// A name in braces that is probably meant to be a placeholder.
fn unknown_placeholder(word: &str) -> Option<&str> {
    let names = word.split('{').skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('}')?;
        let is_name_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
        name.chars().all(is_name_part).then_some(name)
    });
    let is_meant = |name: &&str| {
        let lower = name.to_ascii_lowercase();
        let is_near = PLACEHOLDERS.iter().any(|(text, _)| {
            let known = &text[1..text.len() - 1];
            let max_distance = known.len() / 3;
            *name != known && strsim::osa_distance(&lower, known) <= max_distance
        });
        is_near || OTHER_NAMES.contains(&lower.as_str())
    };
    names.into_iter().find(is_meant)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        AppCommand::parse(text).unwrap_err()
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (text, words) in [
            (
                "uvicorn app:app --fd {fd}",
                &["uvicorn", "app:app", "--fd", "{fd}"][..],
            ),
            (
                "gunicorn  -b fd://{fd} app:create()",
                &["gunicorn", "-b", "fd://{fd}", "app:create()"],
            ),
            (
                r#"sh -c 'cd "$HOME" && exec x' "a b" c\ d"#,
                &["sh", "-c", "cd \"$HOME\" && exec x", "a b", "c d"],
            ),
            ("node\n  server.js", &["node", "server.js"]),
            ("x \\$y '' a#b $ 5$", &["x", "$y", "", "a#b", "$", "5$"]),
            ("awk {print} {{fd}}", &["awk", "{print}", "{{fd}}"]),
        ] {
            assert_eq!(AppCommand::parse(text).unwrap().words(), words, "{text}");
        }
    }

    #[test]
    fn shell_syntax_is_an_error_that_shows_the_next_step() {
        for (text, syntax, line) in [
            ("cd x && run it", "&&", "sh -c 'cd x && exec run it'"),
            ("a; b", ";", "sh -c 'a; exec b'"),
            ("a | b", "|", "sh -c 'a | b'"),
            ("run >log", ">", "sh -c 'exec run >log'"),
            ("run <in", "<", "sh -c 'exec run <in'"),
            ("run &", "&", "sh -c 'exec run'"),
            ("run $PORT", "$PORT", "sh -c 'exec run $PORT'"),
            ("run \"${PORT}\"", "${PORT}", "sh -c 'exec run \"${PORT}\"'"),
            ("run $(id)", "$(", "sh -c 'exec run $(id)'"),
            ("run `id`", "`", "sh -c 'exec run `id`'"),
            ("~/bin/run", "~", "sh -c 'exec ~/bin/run'"),
            ("run # not this", "#", "sh -c 'exec …'"),
            ("run $X me:hunter2@host", "$X", "sh -c 'exec …'"),
        ] {
            assert_eq!(
                error(text),
                format!("`{syntax}` needs a shell, and none runs: quote it, or use `{line}`")
            );
        }
        assert_eq!(
            error("DEBUG=1 run"),
            "`DEBUG=` needs a shell, and none runs: set APP_ENV_DEBUG instead, or use `sh -c 'DEBUG=… exec …'`"
        );
        assert!(error("exec run").starts_with("`exec` is a command of the shell"));
        assert_eq!(error("run 'it"), "has a quote that is not closed");
    }

    #[test]
    fn program_must_be_one() {
        for text in [" ", "'' x"] {
            assert!(error(text).starts_with("the program is missing"), "{text}");
        }
        assert!(error("http://localhost:80").starts_with("is a URL"));
        assert!(error("{fd}").starts_with("`{fd}` is not a program"));
        assert!(error("bin/").ends_with("is a directory, not a program"));
    }

    #[test]
    fn command_has_one_known_placeholder() {
        for (text, placeholder) in [
            ("x --fd {fd} --again={fd}", Placeholder::Fd),
            ("x unix:{socket}", Placeholder::Socket),
            ("x {port}", Placeholder::Port),
            (
                "x {} {print} {\"a\":1} {2,3} {app}",
                Placeholder::Environment,
            ),
        ] {
            let command = AppCommand::parse(text).unwrap();
            assert_eq!(command.placeholder(), placeholder, "{text}");
        }
        let two = "has {fd} and {port}: a worker has one address, so use one of them";
        assert_eq!(error("x {port} {fd}"), two);
        for unknown in ["sock", "PORT", "Fd", "ports", "socekt", "host", "prt"] {
            let text = format!("x --listen=http://{{{unknown}}}");
            let expected =
                format!("`{{{unknown}}}` is not a placeholder: use {{fd}}, {{socket}} or {{port}}");
            assert_eq!(error(&text), expected);
        }
    }

    #[test]
    fn ordinary_words_are_shown_without_quotes() {
        for text in [
            "uvicorn app:app --fd {fd}",
            "gunicorn --bind=fd://{fd} --workers=4 app:app",
            "sh -c 'exec x'",
        ] {
            assert_eq!(AppCommand::parse(text).unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn words_survive_quoting(
            program in "[a-z]{1,5}",
            words in prop::collection::vec("[ -~\n\t\r'\"\\\\$`#~&äß]{0,9}", 0..6),
        ) {
            let words: Vec<_> = [program].into_iter().chain(words).collect();
            let command = AppCommand { words, placeholder: Placeholder::Environment };
            let text = command.to_string();
            prop_assert_eq!(find_shell_syntax(&text), None);
            prop_assert_eq!(shell_words::split(&text).unwrap(), command.words);
        }
    }
}
