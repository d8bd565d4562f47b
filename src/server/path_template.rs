//! Paths with a parameter, such as `/admin/sessions/{id}`.

/// Whether the path is one of the template's: equal, or with any segment in place of `{…}` at the
/// end.
pub fn matches(template: &str, path: &str) -> bool {
    match template.split_once('{') {
        None => template == path,
        Some((prefix, _)) => path
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_segment_may_be_a_parameter() {
        for (template, path, expected) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/c", false),
            ("/a/{id}", "/a/7", true),
            ("/a/{id}", "/a/", false),
            ("/a/{id}", "/a", false),
            ("/a/{id}", "/a/7/8", false),
        ] {
            assert_eq!(matches(template, path), expected, "{template} {path}");
        }
    }
}
