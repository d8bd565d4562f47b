//! The media types that a client prefers, by `Accept`, and whether it prefers gzip, by
//! `Accept-Encoding` (RFC 9110, section 12.5).

use poem::http::HeaderMap;
use poem::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

/// An element of such a header: a media range, or a content coding.
struct Choice {
    /// In lower case, without parameters.
    name: String,
    /// The value of `q` in thousandths.
    weight: u16,
}

/// How well a range fits a media type, the best one greatest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    weight: u16,
    /// 2 for the type itself, 1 for `type/*`, 0 for `*/*`.
    exactness: u8,
}

/// The one of these media types that the client prefers. Without a preference, or if it accepts
/// none of them, it is the first.
pub fn preferred<'a>(headers: &HeaderMap, offers: &[&'a str]) -> Option<&'a str> {
    let ranges = choices(headers, &ACCEPT);
    let fits = offers.iter().map(|offer| {
        let position = position(&ranges, offer);
        (offer, position)
    });
    let mut best: Option<(&&str, Fit, usize)> = None;
    for (offer, position) in fits {
        let Some((index, fit)) = position.filter(|(_, fit)| fit.weight > 0) else {
            continue;
        };
        // Of two that fit equally well, the one that the client lists first.
        let is_better = best
            .as_ref()
            .is_none_or(|(_, other, at)| fit > *other || (fit == *other && index < *at));
        if is_better {
            best = Some((offer, fit, index));
        }
    }
    best.map(|(offer, ..)| *offer).or(offers.first().copied())
}

/// Whether the client names this media type itself, and accepts it.
pub fn names(headers: &HeaderMap, media_type: &str) -> bool {
    position(&choices(headers, &ACCEPT), media_type)
        .is_some_and(|(_, fit)| fit.exactness == 2 && fit.weight > 0)
}

/// Whether the client accepts gzip, and does not prefer the plain content.
pub fn prefers_gzip(headers: &HeaderMap) -> bool {
    let codings = choices(headers, &ACCEPT_ENCODING);
    let weight = |names: &[&str]| {
        let mut named = codings.iter().filter(|it| names.contains(&&*it.name));
        named.next().map(|coding| coding.weight)
    };
    // `x-gzip` is an old name of it (RFC 9110, section 8.4.1.3).
    let gzip = weight(&["gzip", "x-gzip"]).or_else(|| weight(&["*"]));
    let plain = weight(&["identity"]).unwrap_or(0);
    gzip.is_some_and(|gzip| gzip > 0 && gzip >= plain)
}

/// The most exact range for a media type, and its place in the list.
fn position(ranges: &[Choice], offer: &str) -> Option<(usize, Fit)> {
    let kind = offer.split('/').next().unwrap_or_default();
    let exactness = |range: &Choice| match range.name.split_once('/') {
        _ if range.name == offer => Some(2),
        Some((of_range, "*")) if of_range == kind => Some(1),
        Some(("*", "*")) => Some(0),
        _ => None,
    };
    let fits = ranges.iter().enumerate().filter_map(|(index, range)| {
        let exactness = exactness(range)?;
        let weight = range.weight;
        Some((index, Fit { weight, exactness }))
    });
    // Of equally exact ones the first.
    fits.reduce(|best, next| {
        if next.1.exactness > best.1.exactness {
            next
        } else {
            best
        }
    })
}

/// The elements of all fields with this name. One that cannot be read is ignored.
fn choices(headers: &HeaderMap, name: &HeaderName) -> Vec<Choice> {
    let values = headers.get_all(name).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(parse_choice)
        .collect()
}

fn parse_choice(text: &str) -> Option<Choice> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next()?.to_ascii_lowercase();
    let mut weight = 1000;
    for parameter in parts {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("q")
        {
            weight = parse_weight(value.trim())?;
        }
    }
    Some(Choice { name, weight })
}

/// `0`, `1`, or such a number with up to three decimals, in thousandths.
fn parse_weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, decimals) {
        ("0", decimals) => Some(decimals),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json";
    const TEXT: &str = "text/plain";

    fn accept(lines: &[&str]) -> HeaderMap {
        let lines = lines.iter().map(|line| (ACCEPT, line.parse().unwrap()));
        lines.collect()
    }

    #[test]
    fn preferred_type_follows_the_weights() {
        let cases: &[(&[&str], &str)] = &[
            (&[], JSON),
            (&["*/*"], JSON),
            (&["text/plain"], TEXT),
            (&["TEXT/Plain"], TEXT),
            (&["text/*"], TEXT),
            (&["text/plain; charset=utf-8"], TEXT),
            (&["application/json, text/plain"], JSON),
            (&["text/plain, application/json"], TEXT),
            (&["text/plain;q=0.1, application/json;q=.9"], TEXT),
            (&["text/plain;q=0.1, application/json;q=0.9"], JSON),
            (&["application/json;q=0.5, text/plain;Q=0.501"], TEXT),
            (&["application/json;q=0.5", "text/plain"], TEXT),
            (&["text/plain;q=0"], JSON),
            (&["application/json;q=0, */*"], TEXT),
            (&["*/*, application/json;q=0.000"], TEXT),
            (&["text/plain;q=0.9, */*;q=0.5"], TEXT),
            (&["text/*, application/*;q=0.9"], TEXT),
            (&["text/*;q=0.9, text/plain;q=0.1, */*;q=0.5"], JSON),
            (&["*/*, text/plain"], TEXT),
            // Nothing that is offered.
            (&["image/png"], JSON),
            (&["application/json;q=0"], JSON),
            (&["application/json;q=0, text/plain;q=0"], JSON),
            // Nothing that can be read.
            (
                &[
                    "text/plain;q=2",
                    "text/plain;q=",
                    "text/plain;q=1.001",
                    ";,,/",
                ],
                JSON,
            ),
            (&["text/plain;q=0.1234"], JSON),
        ];
        for (lines, expected) in cases {
            let found = preferred(&accept(lines), &[JSON, TEXT]);
            assert_eq!(found, Some(*expected), "{lines:?}");
        }
    }

    #[test]
    fn gzip_follows_the_weights() {
        let cases: &[(&[&str], bool)] = &[
            (&[], false),
            (&[""], false),
            (&["gzip"], true),
            (&["GZip"], true),
            (&["x-gzip"], true),
            (&["gzip, deflate, br, zstd"], true),
            (&["br", "gzip;q=0.1"], true),
            (&["br, deflate"], false),
            (&["*"], true),
            (&["br, *;q=0.1"], true),
            (&["*;q=0"], false),
            (&["*;q=0, gzip"], true),
            (&["gzip;q=0"], false),
            (&["gzip;q=0.000, *"], false),
            (&["identity"], false),
            (&["identity, gzip"], true),
            (&["identity, gzip;q=0.9"], false),
            (&["identity, *;q=0.5"], false),
            (&["identity;q=0.5, gzip;q=0.501"], true),
            (&["identity;q=0, gzip;q=0.1"], true),
            (&["identity;q=0, *"], true),
            // Nothing that is offered: the plain content.
            (&["identity;q=0"], false),
            (&["identity;q=0, br"], false),
            // Nothing that can be read.
            (&["gzip;q=2", "gzip;q=", "gzip;q=a", ";,,gzi p"], false),
        ];
        for (lines, expected) in cases {
            let lines = lines.iter();
            let headers = lines.map(|line| (ACCEPT_ENCODING, line.parse().unwrap()));
            let headers: HeaderMap = headers.collect();
            assert_eq!(prefers_gzip(&headers), *expected, "{headers:?}");
        }
    }

    #[test]
    fn only_a_type_that_is_named_and_accepted_counts() {
        for (line, expected) in [
            ("text/html,application/xml;q=0.9,*/*;q=0.8", true),
            ("Text/HTML;q=0.1", true),
            ("text/html;q=0", false),
            ("text/*", false),
            ("*/*", false),
            ("x-text/html-like", false),
        ] {
            assert_eq!(names(&accept(&[line]), "text/html"), expected, "{line}");
        }
    }
}
