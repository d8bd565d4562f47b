//! The syntax of `.env` files: `NAME=value` lines, by the grammar of `python-dotenv` 1.2.4.
//!
//! Operators have files that were written for the Python launcher, and those must keep their
//! meaning:
//!
//! - `export` may precede a name. A name is any text without white space, `=` and `#`, or anything
//!   in single quotes. A name without `=` is not set, also if an earlier line has set it.
//! - `#` starts a comment at the start of a line or after white space.
//! - Single quotes know `\\` and `\'`; double quotes also know `\"`, `\n` and similar escapes. A
//!   quoted value may span lines.
//! - `${NAME}` and `${NAME:-default}` stand for a variable of the process environment or of an
//!   earlier line. A lone `$` is an ordinary character, so passwords need no escaping.
//! - An invalid line is skipped. So is what follows it in the same line.
//!
//! Two rules differ: `${…}` inside single quotes is not expanded, because a password would change
//! silently, and all references together add at most 1 MiB.

use std::borrow::Cow;
use std::collections::BTreeMap;

use thiserror::Error;

use crate::config::table::{DEFINITIONS, SettingDefinition};

/// An invalid line. The message does not quote the line: it may contain a secret, or the rest of
/// one whose quote is not closed.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: {reason}")]
pub struct EnvFileError {
    /// Line number, from 1.
    pub line: usize,
    pub reason: &'static str,
    /// The text that was skipped has the name of a setting.
    pub names_setting: bool,
}

/// Parses a file: the values of all valid lines, and an error for each invalid line. `environment`
/// resolves `${NAME}`.
pub fn parse(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> (BTreeMap<String, String>, Vec<EnvFileError>) {
    parse_with(text, environment, SingleQuotes::Literal)
}

/// Whether references in single quotes are expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SingleQuotes {
    Literal,
    /// As `python-dotenv` does, for a comparison with it.
    #[cfg(test)]
    Expanded,
}

pub(super) fn parse_with(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
    single_quotes: SingleQuotes,
) -> (BTreeMap<String, String>, Vec<EnvFileError>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // As Python reads a text file.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader {
        rest: &text,
        line: 1,
    };
    // `None` for a name without a value.
    let mut values: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut errors = Vec::new();
    let mut expansion_budget = MAX_EXPANSION;
    loop {
        reader.skip(is_space);
        let (start, line) = (reader.rest, reader.line);
        if start.is_empty() {
            break;
        }
        let lookup = |name: &str| {
            let earlier = || values.get(name).map(|value| value.as_deref().unwrap_or(""));
            let found = environment(name).map(Cow::from);
            found.or_else(|| earlier().map(Cow::from))
        };
        let entry = reader.read_entry().and_then(|entry| {
            let Some((name, value)) = entry else {
                return Ok(None);
            };
            let value = match value {
                Some(Value { text, quote })
                    if quote != Some('\'') || single_quotes != SingleQuotes::Literal =>
                {
                    Some(expand(&text, &lookup, &mut expansion_budget)?)
                }
                value => value.map(|value| value.text.into_owned()),
            };
            Ok(Some((name.to_owned(), value)))
        });
        match entry {
            Ok(entry) => values.extend(entry),
            Err(reason) => {
                reader.skip(|c| c != '\n');
                let skipped = &start[..start.len() - reader.rest.len()];
                errors.push(EnvFileError {
                    line,
                    reason,
                    names_setting: names_setting(skipped),
                });
            }
        }
    }
    let set = values.into_iter();
    let set = set.filter_map(|(name, value)| Some((name, value?)));
    (set.collect(), errors)
}

/// How many bytes references may add to all values together. Values of nested references grow
/// exponentially.
const MAX_EXPANSION: usize = 1024 * 1024;

/// White space of Python's regular expressions.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn is_blank(c: char) -> bool {
    c != '\n' && is_space(c)
}

fn names_setting(text: &str) -> bool {
    let is_setting = |word: &str| {
        let mut variables = DEFINITIONS.iter().flat_map(SettingDefinition::variables);
        variables.any(|variable| variable == word)
    };
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(is_setting)
}

/// A value as it is written.
struct Value<'a> {
    text: Cow<'a, str>,
    quote: Option<char>,
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    /// Reads a line, or several if a quoted value spans them: a name and its value, or nothing from
    /// a comment. Stops before the line end. After an error, the rest of the line is to be skipped.
    fn read_entry(&mut self) -> Result<Option<(&'a str, Option<Value<'a>>)>, &'static str> {
        const EXPECTED: &str = "expected NAME=value";
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(is_blank)
        {
            self.rest = after;
            self.skip(is_blank);
        }
        let mut reason = EXPECTED;
        let mut entry = None;
        if !self.rest.starts_with('#') {
            let name = self.read_name().ok_or(EXPECTED)?;
            self.skip(is_blank);
            let mut value = None;
            if let Some(after) = self.rest.strip_prefix('=') {
                self.rest = after;
                let blanks = self.skip(is_blank);
                value = Some(if !blanks.is_empty() && self.rest.starts_with('#') {
                    Value {
                        text: "".into(),
                        quote: None,
                    }
                } else {
                    self.read_value()?
                });
                reason = "text after the closing quote: put the whole value inside the quotes";
            }
            entry = Some((name, value));
        }
        self.skip(is_blank);
        if self.rest.starts_with('#') {
            self.skip(|c| c != '\n');
        }
        if self.rest.is_empty() || self.rest.starts_with('\n') {
            Ok(entry)
        } else {
            Err(reason)
        }
    }

    fn read_name(&mut self) -> Option<&'a str> {
        let Some(quoted) = self.rest.strip_prefix('\'') else {
            let name = self.skip(|c| !is_space(c) && c != '=' && c != '#');
            return (!name.is_empty()).then_some(name);
        };
        let (name, _) = quoted.split_once('\'')?;
        if name.is_empty() {
            return None;
        }
        self.advance(name.len() + 2);
        Some(name)
    }

    fn read_value(&mut self) -> Result<Value<'a>, &'static str> {
        let Some(quote @ ('\'' | '"')) = self.rest.chars().next() else {
            let line = self.skip(|c| c != '\n');
            return Ok(Value {
                text: without_comment(line).into(),
                quote: None,
            });
        };
        let mut is_escaped = true;
        let end = self.rest.find(|c| {
            // The first character is the opening quote.
            let ends = c == quote && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let end = end.ok_or("the value has no closing quote")?;
        let text = &self.rest[1..end];
        self.advance(end + 1);
        Ok(Value {
            text: unescape(text, quote),
            quote: Some(quote),
        })
    }

    fn skip(&mut self, mut is_skipped: impl FnMut(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_skipped(c));
        self.advance(end.unwrap_or(self.rest.len()))
    }

    fn advance(&mut self, length: usize) -> &'a str {
        let (read, rest) = self.rest.split_at(length);
        self.line += read.matches('\n').count();
        self.rest = rest;
        read
    }
}

/// The text before a comment, which begins after white space.
fn without_comment(line: &str) -> &str {
    let mut previous = '=';
    let comment = line.find(|c| {
        let starts = c == '#' && is_space(previous);
        previous = c;
        starts
    });
    line[..comment.unwrap_or(line.len())].trim_end_matches(is_space)
}

fn unescape(text: &str, quote: char) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        match chars.next() {
            Some(c @ ('\\' | '\'')) => value.push(c),
            Some('"') if quote == '"' => value.push('"'),
            Some('a') if quote == '"' => value.push('\x07'),
            Some('b') if quote == '"' => value.push('\x08'),
            Some('f') if quote == '"' => value.push('\x0c'),
            Some('n') if quote == '"' => value.push('\n'),
            Some('r') if quote == '"' => value.push('\r'),
            Some('t') if quote == '"' => value.push('\t'),
            Some('v') if quote == '"' => value.push('\x0b'),
            other => {
                value.push('\\');
                value.extend(other);
            }
        }
    }
    value.into()
}

/// Replaces `${NAME}` and `${NAME:-default}` by their values. A name that is not set is empty.
fn expand<'v>(
    raw: &str,
    lookup: &impl Fn(&str) -> Option<Cow<'v, str>>,
    budget: &mut usize,
) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once("${") {
        value.push_str(before);
        let Some((name, default, after)) = read_reference(after) else {
            value.push_str("${");
            rest = after;
            continue;
        };
        let found = lookup(name).unwrap_or(default.into());
        *budget = budget
            .checked_sub(found.len())
            .ok_or("the ${NAME} references in this file expand to more than 1 MiB")?;
        value.push_str(&found);
        rest = after;
    }
    value.push_str(rest);
    Ok(value)
}

/// The name and the default of a reference after its `${`, and what follows it.
fn read_reference(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_at(text.find([':', '}'])?);
    if let Some(after) = rest.strip_prefix('}') {
        return Some((name, "", after));
    }
    let (default, after) = rest.strip_prefix(":-")?.split_once('}')?;
    Some((name, default, after))
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
            ("A=${a:b}${HOME:-x}", "${a:b}/home/me"),
            ("A=#x", "#x"),
            ("A= # x", ""),
            ("A=x\u{1f}# y", "x"),
            ("export\tA=1", "1"),
            ("'A B=\n'=1", "1"),
            ("APP:NAME[ä]=1", "1"),
            ("A=1\rA=2", "2"),
            ("A='1\r\n2'", "1\n2"),
            ("A='\\\\' # x", "\\"),
            ("\u{feff}A=1\r\n", "1"),
        ] {
            assert_eq!(one(text), value, "{text}");
        }
        assert_eq!(read("NAME\nNAME # why\n"), (vec![], vec![]));
        assert_eq!(read("NAME=1\nNAME\n"), (vec![], vec![]));
    }

    #[test]
    fn single_quotes_prevent_expansion() {
        assert_eq!(one("A='${HOME}'"), "${HOME}");
    }

    #[test]
    fn multiline_values_keep_line_numbers_correct() {
        let (_, errors) = read("A='1\n2'\nB=\"3\n4\"\n# c\n=\n");
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
        let (values, errors) = read("hunter2 secret\nA='hunter2\nB=1\nPORT=\"x\"y\nD=2");
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 2, 4], "{errors:?}");
        assert!(!format!("{errors:?}").contains("hunter2"));
        let named: Vec<_> = errors.iter().map(|error| error.names_setting).collect();
        assert_eq!(named, [false, false, true]);
        assert_eq!(values, [("B".into(), "1".into()), ("D".into(), "2".into())]);
    }
}
