//! The syntax of `.env` files: `NAME=value` lines, by the rules of `python-dotenv`.
//!
//! Operators have files that were written for the Python launcher, and those must keep their
//! meaning:
//!
//! - `export` may precede a name. A name without `=` sets nothing.
//! - `#` starts a comment at the start of a line or after white space.
//! - Single quotes know `\\` and `\'`; double quotes also know `\"`, `\n` and similar escapes. A
//!   quoted value may span lines.
//! - `${NAME}` and `${NAME:-default}` stand for a variable of the process environment or of an
//!   earlier line. A lone `$` is an ordinary character, so passwords need no escaping.
//!
//! Two rules differ: `${…}` inside single quotes is not expanded, and an invalid line is an error
//! instead of a warning.

use std::borrow::Cow;
use std::collections::BTreeMap;

use thiserror::Error;

/// An invalid line. The message does not quote the line: it may contain a secret, or the rest of
/// one whose quote is not closed.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: {reason}")]
pub struct EnvFileError {
    /// Line number, from 1.
    pub line: usize,
    pub reason: &'static str,
}

/// Parses a file: the values of all valid lines, and an error for each invalid line. `environment`
/// resolves `${NAME}`.
pub fn parse(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> (BTreeMap<String, String>, Vec<EnvFileError>) {
    let mut parser = Parser {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
        expansion_budget: MAX_EXPANSION,
    };
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut errors = Vec::new();
    while !parser.rest.is_empty() {
        let line = parser.line;
        let lookup = |name: &str| {
            let earlier = || values.get(name).map(Cow::from);
            environment(name).map(Cow::from).or_else(earlier)
        };
        match parser.parse_entry(&lookup) {
            Ok(Some((name, value))) => {
                values.insert(name, value);
            }
            Ok(None) => {}
            Err(reason) => {
                errors.push(EnvFileError { line, reason });
                parser.skip_line();
            }
        }
    }
    (values, errors)
}

/// How many bytes references may add to all values together. Values of nested references grow
/// exponentially.
const MAX_EXPANSION: usize = 1024 * 1024;

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    /// How many bytes references may still add.
    expansion_budget: usize,
}

impl Parser<'_> {
    /// Parses one line, or several if a quoted value spans them. `None` for blank lines and
    /// comments.
    fn parse_entry<'v>(
        &mut self,
        lookup: &impl Fn(&str) -> Option<Cow<'v, str>>,
    ) -> Result<Option<(String, String)>, &'static str> {
        self.skip_blanks();
        if self.peek().is_none_or(|c| c == '#' || c == '\n') {
            self.skip_line();
            return Ok(None);
        }
        if let Some(after) = self.rest.strip_prefix("export ") {
            self.rest = after;
            self.skip_blanks();
        }
        let name_len = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-'))
            .unwrap_or(self.rest.len());
        if name_len == 0 {
            return Err("expected NAME=value");
        }
        let name = self.rest[..name_len].to_owned();
        self.rest = &self.rest[name_len..];
        self.skip_blanks();
        if self.peek().is_none_or(|c| c == '#' || c == '\n') {
            self.skip_line();
            return Ok(None);
        }
        if !self.consume('=') {
            return Err("expected NAME=value");
        }
        self.skip_blanks();
        let value = match self.peek() {
            Some('\'') => self.parse_quoted('\'')?,
            Some('"') => {
                let value = self.parse_quoted('"')?;
                self.expand(&value, lookup)?
            }
            _ => {
                let value = self.parse_unquoted();
                self.expand(&value, lookup)?
            }
        };
        self.expect_end_of_line()?;
        Ok(Some((name, value)))
    }

    fn parse_quoted(&mut self, quote: char) -> Result<String, &'static str> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                let (consumed, rest) = self.rest.split_at(at + 1);
                self.line += consumed.matches('\n').count();
                self.rest = rest;
                return Ok(value);
            }
            if c != '\\' {
                value.push(c);
                continue;
            }
            match chars.next() {
                Some((_, c @ ('\\' | '\''))) => value.push(c),
                Some((_, '"')) if quote == '"' => value.push('"'),
                Some((_, c)) if quote == '"' && "abfnrtv".contains(c) => value.push(match c {
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    _ => '\x0b',
                }),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            }
        }
        Err("the value has no closing quote")
    }

    /// Parses up to the end of the line or a comment, and trims white space.
    fn parse_unquoted(&mut self) -> String {
        let line_end = self.rest.find('\n').unwrap_or(self.rest.len());
        let line = &self.rest[..line_end];
        let mut end = line.len();
        let mut previous = ' ';
        for (at, c) in line.char_indices() {
            if c == '#' && previous.is_whitespace() {
                end = at;
                break;
            }
            previous = c;
        }
        let value = line[..end].trim().to_owned();
        self.rest = &self.rest[line_end..];
        value
    }

    /// Replaces `${NAME}` and `${NAME:-default}` by their values. A name that is not set is empty.
    fn expand<'v>(
        &mut self,
        raw: &str,
        lookup: &impl Fn(&str) -> Option<Cow<'v, str>>,
    ) -> Result<String, &'static str> {
        let mut value = String::new();
        let mut rest = raw;
        while let Some((before, reference)) = rest.split_once("${") {
            let Some((reference, after)) = reference.split_once('}') else {
                break;
            };
            value.push_str(before);
            let (name, default) = reference.split_once(":-").unwrap_or((reference, ""));
            let found = lookup(name).unwrap_or(default.into());
            self.expansion_budget = self
                .expansion_budget
                .checked_sub(found.len())
                .ok_or("the ${NAME} references in this file expand to more than 1 MiB")?;
            value.push_str(&found);
            rest = after;
        }
        value.push_str(rest);
        Ok(value)
    }

    fn expect_end_of_line(&mut self) -> Result<(), &'static str> {
        self.skip_blanks();
        match self.peek() {
            None | Some('\n' | '#') => {
                self.skip_line();
                Ok(())
            }
            Some(_) => Err("text after the closing quote: put the whole value inside the quotes"),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn consume(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self
            .rest
            .trim_start_matches(|c: char| c != '\n' && c.is_whitespace());
    }

    fn skip_line(&mut self) {
        match self.rest.find('\n') {
            Some(end) => {
                self.rest = &self.rest[end + 1..];
                self.line += 1;
            }
            None => self.rest = "",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn read(text: &str) -> (Vec<(String, String)>, Vec<EnvFileError>) {
        let (values, errors) = parse(text, |name| (name == "HOME").then(|| "/home/me".to_owned()));
        (values.into_iter().collect(), errors)
    }

    fn one(text: &str) -> String {
        let (values, errors) = read(text);
        assert_eq!(
            (values.len(), errors.len()),
            (1, 0),
            "{text}: {values:?} {errors:?}"
        );
        values[0].1.clone()
    }

    /// The expected values are those of `python-dotenv` 1.x.
    #[test]
    fn values_match_python_dotenv() {
        for (text, value) in [
            ("A=plain", "plain"),
            ("export A = spaced  # why\n", "spaced"),
            ("A=a#b", "a#b"),
            ("A=", ""),
            ("A=pa$word$$", "pa$word$$"),
            ("A='it\\'s \\\\ \\n'", "it's \\ \\n"),
            ("A=\"a\\nb \\\" \\$ \\x\"", "a\nb \" \\$ \\x"),
            ("A=${HOME}/log", "/home/me/log"),
            ("A=\"${HOME}/log\"", "/home/me/log"),
            ("A=${NOPE}x", "x"),
            ("A=${NOPE:-y}x", "yx"),
            ("A=x${y", "x${y"),
            ("\u{feff}A=1\r\n", "1"),
        ] {
            assert_eq!(one(text), value, "{text}");
        }
        assert_eq!(read("NAME\nNAME # why\n"), (vec![], vec![]));
    }

    #[test]
    fn single_quotes_prevent_expansion() {
        assert_eq!(one("A='${HOME}'"), "${HOME}");
    }

    #[test]
    fn multiline_values_keep_line_numbers_correct() {
        let (_, errors) = read("A='1\n2'\nB=\"3\n4\"\n# c\n?\n");
        assert_eq!(errors[0].line, 6);
        let (values, _) = read("A=1\nB=${A}2\nA=3\nHOME=x\nC=${HOME}");
        assert_eq!(values[1], ("B".into(), "12".into()));
        assert_eq!(
            values[2],
            ("C".into(), "/home/me".into()),
            "the environment wins"
        );
    }

    #[test]
    fn errors_do_not_quote_possible_secrets() {
        let (_, errors) = read("KEY=\"aaaa\nhunter2='\n");
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(!format!("{errors:?}").contains("hunter2"));
    }

    #[test]
    fn nested_references_have_bounded_expansion() {
        let mut text = format!("A0={}\n", "a".repeat(1000));
        for n in 0..7 {
            let value = format!("${{A{n}}}").repeat(4);
            writeln!(text, "A{}={value}", n + 1).unwrap();
        }
        text += "LAST=1\n";
        let (values, errors) = read(&text);
        let length: usize = values.iter().map(|(_, value)| value.len()).sum();
        assert!(length <= text.len() + MAX_EXPANSION, "{length}");
        assert!(!errors.is_empty());
        assert_eq!(values.last().unwrap().0, "LAST");
    }

    #[test]
    fn every_invalid_line_is_reported_and_others_are_used() {
        let (values, errors) = read("hunter2 secret\nA='hunter2\nB=1\nC=\"x\"y\nD=2");
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 2, 4], "{errors:?}");
        assert!(!format!("{errors:?}").contains("hunter2"));
        assert_eq!(values, [("B".into(), "1".into()), ("D".into(), "2".into())]);
    }
}
