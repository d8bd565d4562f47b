//! The `.env` file: `NAME=value` lines, as operators of the Python launcher wrote them.
//!
//! The rules are those of `python-dotenv`, so that a file that worked there means the same here: `export`
//! is allowed, `#` starts a comment at the start of a line or after white space, single quotes keep every
//! character, double quotes know `\n`, `\r`, `\t`, `\"`, `\\` and `\$`, and `${NAME}` outside single quotes
//! stands for an earlier line of the file or the process environment. A lone `$` is an ordinary
//! character, so passwords need no escaping. A quoted value may span lines.

use std::collections::BTreeMap;

use thiserror::Error;

/// Why a line of the file could not be read. The text of the line is never part of the message: it may
/// hold a secret.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: {reason}")]
pub struct EnvFileError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// Reads the whole text. `environment` answers `${NAME}` for names the file itself does not set.
///
/// # Errors
///
/// Every line that is not understood, in order.
pub fn parse(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Vec<EnvFileError>> {
    let mut parser = Parser {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
    };
    let mut values = BTreeMap::new();
    let mut errors = Vec::new();
    while !parser.rest.is_empty() {
        let line = parser.line;
        let lookup = |name: &str| values.get(name).cloned().or_else(|| environment(name));
        match parser.entry(&lookup) {
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
    if errors.is_empty() {
        Ok(values)
    } else {
        Err(errors)
    }
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
}

impl Parser<'_> {
    /// One line, or several when a quoted value spans them. `None` for blank lines and comments.
    fn entry(
        &mut self,
        lookup: &impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(String, String)>, String> {
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
            return Err("expected NAME=value".into());
        }
        let name = self.rest[..name_len].to_owned();
        self.rest = &self.rest[name_len..];
        self.skip_blanks();
        if !self.eat('=') {
            return Err("expected NAME=value".into());
        }
        self.skip_blanks();
        let value = match self.peek() {
            Some('\'') => self.single_quoted(&name)?,
            Some('"') => self.double_quoted(&name, lookup)?,
            _ => {
                let raw = self.unquoted();
                expand(&raw, &name, lookup)?
            }
        };
        self.end_of_line(&name)?;
        Ok(Some((name, value)))
    }

    fn single_quoted(&mut self, name: &str) -> Result<String, String> {
        let body = &self.rest[1..];
        let end = body
            .find('\'')
            .ok_or_else(|| format!("the value of {name} has no closing '"))?;
        let value = body[..end].to_owned();
        self.line += value.matches('\n').count();
        self.rest = &body[end + 1..];
        Ok(value)
    }

    fn double_quoted(
        &mut self,
        name: &str,
        lookup: &impl Fn(&str) -> Option<String>,
    ) -> Result<String, String> {
        let mut value = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    let consumed = &self.rest[..at + 2];
                    self.line += consumed.matches('\n').count();
                    self.rest = &self.rest[at + 2..];
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, c @ ('"' | '\\' | '$' | '\''))) => value.push(c),
                    Some((_, c)) => value.extend(['\\', c]),
                    None => break,
                },
                '$' if chars.as_str().starts_with('{') => {
                    let (text, len) = reference(chars.as_str(), name, lookup)?;
                    value.push_str(&text);
                    let skipped = chars.as_str()[..len].chars().count();
                    chars.nth(skipped - 1);
                }
                c => value.push(c),
            }
        }
        Err(format!("the value of {name} has no closing \""))
    }

    /// Up to the end of the line or a comment, without the white space around it.
    fn unquoted(&mut self) -> String {
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

    fn end_of_line(&mut self, name: &str) -> Result<(), String> {
        self.skip_blanks();
        match self.peek() {
            None | Some('\n' | '#') => {
                self.skip_line();
                Ok(())
            }
            Some(_) => Err(format!(
                "text after the closing quote of {name}: put the whole value inside the quotes"
            )),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
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

fn expand(
    raw: &str,
    name: &str,
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut value = String::new();
    let mut rest = raw;
    while let Some(at) = rest.find("${") {
        value.push_str(&rest[..at]);
        let (text, len) = reference(&rest[at + 1..], name, lookup)?;
        value.push_str(&text);
        rest = &rest[at + 1 + len..];
    }
    value.push_str(rest);
    Ok(value)
}

/// `{NAME}` at the start of `text`: what it stands for and how long it is.
fn reference(
    text: &str,
    name: &str,
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<(String, usize), String> {
    let end = text
        .find('}')
        .ok_or_else(|| format!("the value of {name} has a ${{ without a }}"))?;
    let wanted = &text[1..end];
    let found = lookup(wanted).ok_or_else(|| {
        format!("the value of {name} refers to ${{…}} that is not set: use single quotes to keep it as it is")
    })?;
    Ok((found, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, Vec<EnvFileError>> {
        parse(text, |name| (name == "HOME").then(|| "/home/me".to_owned()))
            .map(|values| values.into_iter().collect())
    }

    fn one(text: &str) -> String {
        let values = read(text).unwrap();
        assert_eq!(values.len(), 1, "{values:?}");
        values[0].1.clone()
    }

    #[test]
    fn values_mean_what_they_meant_to_the_python_launcher() {
        assert_eq!(one("A=plain"), "plain");
        assert_eq!(one("export A = spaced  # why\n"), "spaced");
        assert_eq!(one("A=a#b"), "a#b");
        assert_eq!(one("A="), "");
        assert_eq!(one("A=pa$word$$"), "pa$word$$");
        assert_eq!(one("A='${HOME} \"x\" \\n'"), "${HOME} \"x\" \\n");
        assert_eq!(one("A=\"a\\nb \\\" \\$ \\x\""), "a\nb \" $ \\x");
        assert_eq!(one("A=${HOME}/log"), "/home/me/log");
        assert_eq!(one("A=\"${HOME}/log\""), "/home/me/log");
        assert_eq!(one("\u{feff}A=1\r\n"), "1");
    }

    #[test]
    fn a_quoted_value_may_span_lines_and_line_numbers_stay_right() {
        let errors = read("A='1\n2'\nB=\"3\n4\"\n# c\n?\n").unwrap_err();
        assert_eq!(errors[0].line, 6);
        assert_eq!(
            read("A=1\nB=${A}2\nA=3").unwrap(),
            [("A".into(), "3".into()), ("B".into(), "12".into())]
        );
    }

    #[test]
    fn every_bad_line_is_named_and_none_is_repeated_in_the_message() {
        let errors = read("hunter2\nA='hunter2\nB=1").unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert_eq!((errors[0].line, errors[1].line), (1, 2));
        assert!(!format!("{errors:?}").contains("2\\n"));
        assert!(errors.iter().all(|e| !e.reason.contains("='")));
        assert!(read("A=${NOPE}").unwrap_err()[0].reason.contains("not set"));
    }
}
