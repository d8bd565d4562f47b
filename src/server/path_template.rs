//! Paths with a parameter, such as `/admin/sessions/{id}`.

/// Whether the path is one of the template's: equal, or with any segment in place of each `{…}`.
pub fn matches(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    template.split('/').all(|expected| {
        let is_parameter = expected.starts_with('{');
        segments
            .next()
            .is_some_and(|segment| segment == expected || is_parameter && !segment.is_empty())
    }) && segments.next().is_none()
}

/// The template of the path, as the router finds it: a literal segment precedes a parameter.
pub fn find<'a>(templates: impl Iterator<Item = &'a String>, path: &str) -> Option<&'a String> {
    let are_parameters = |template: &&String| {
        let segments = template.split('/');
        segments.map(|it| it.starts_with('{')).collect::<Vec<_>>()
    };
    templates
        .filter(|template| matches(template, path))
        .min_by_key(are_parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_may_be_parameters() {
        for (template, path, expected) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/c", false),
            ("/a/{id}", "/a/7", true),
            ("/a/{id}", "/a/", false),
            ("/a/{id}", "/a", false),
            ("/a/{id}", "/a/7/8", false),
            ("/a/{id}/b", "/a/7/b", true),
            ("/a/{id}/b", "/a/7/c", false),
            ("/a/{id}/b", "/a//b", false),
            ("/a/{id}/{name}", "/a/7/8", true),
            ("/", "/", true),
            ("/", "/a", false),
        ] {
            assert_eq!(matches(template, path), expected, "{template} {path}");
        }
    }

    #[test]
    fn literal_segment_precedes_a_parameter() {
        let templates = ["/{a}/b", "/a/{b}", "/a/b", "/{a}/{b}"].map(str::to_owned);
        for (path, expected) in [
            ("/a/b", Some("/a/b")),
            ("/a/x", Some("/a/{b}")),
            ("/x/b", Some("/{a}/b")),
            ("/x/y", Some("/{a}/{b}")),
            ("/x", None),
        ] {
            let found = find(templates.iter(), path).map(String::as_str);
            assert_eq!(found, expected, "{path}");
        }
    }
}
