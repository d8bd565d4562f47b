//! Finds what only a shell understands in a command line, outside quotes.

/// The part of a command line that needs a shell, such as `&&` or `$HOME`; `None` if it needs none.
pub(super) fn find_shell_syntax(text: &str) -> Option<String> {
    let mut quote = None;
    let mut rest = text;
    let mut is_word_start = true;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let mut next = after;
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => next = after.get(escaped_len(after)..).unwrap_or_default(),
            (_, '`') => return Some("`".into()),
            (_, '$') => {
                if let Some(expansion) = find_expansion(rest) {
                    return Some(expansion.into());
                }
            }
            (None, '\'' | '"') => quote = Some(c),
            (None, '&' | '|' | ';' | '<' | '>') => {
                let is_double = after.starts_with(c);
                return Some(rest[..if is_double { 2 } else { 1 }].into());
            }
            (None, '#' | '~') if is_word_start => return Some(c.into()),
            (Some(_) | None, _) => {}
        }
        is_word_start = quote.is_none() && matches!(c, ' ' | '\t' | '\n');
        rest = next;
    }
    None
}

fn escaped_len(after: &str) -> usize {
    after.chars().next().map_or(0, char::len_utf8)
}

/// `$NAME`, `${NAME}` or `$(`, if the text begins so. Any other `$` is an ordinary character.
fn find_expansion(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let is_name_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
    match name.chars().next()? {
        '(' => Some(&text[..2]),
        '{' => Some(&text[..=text.find('}').unwrap_or(1)]),
        first if is_name_part(first) => {
            let len = name.find(|c| !is_name_part(c)).unwrap_or(name.len());
            Some(&text[..=len])
        }
        _ => None,
    }
}

/// The command line that runs `text`, which has this syntax, with a shell. The application replaces
/// the shell, so that it receives signals itself.
pub(super) fn shell_line(text: &str, syntax: &str) -> String {
    let text = text.trim();
    // A message must not show a password.
    if text.contains('@') || syntax == "#" {
        return "sh -c 'exec …'".into();
    }
    let script = match syntax {
        "&&" | ";" => match text.rsplit_once(syntax) {
            Some((before, last)) => format!("{before}{syntax} exec {}", last.trim_start()),
            None => text.into(),
        },
        "|" | "||" => text.into(),
        "&" => format!("exec {}", text.trim_end_matches('&').trim_end()),
        _ => format!("exec {text}"),
    };
    format!("sh -c {}", shell_words::quote(&script))
}
