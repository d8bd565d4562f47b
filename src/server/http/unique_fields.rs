//! JSON objects in which no field is repeated.
//!
//! RFC 8259 leaves open which of two equal fields is used, so programs differ: one in front of the
//! daemon may check the first, where `serde_json` keeps the last.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses a JSON object. The error is for the client.
pub fn parse_object(text: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(text) {
        Ok(UniqueFields(Value::Object(object))) => Ok(object),
        Ok(_) => Err("the request body is not a JSON object".into()),
        Err(error) if error.is_data() => Err(error.to_string()),
        Err(error) => Err(format!("the request body is not a JSON object: {error}")),
    }
}

/// False for a name that may be a secret, which no error repeats.
pub fn is_like_a_field(name: &str) -> bool {
    let is_part_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=32).contains(&name.len()) && name.bytes().all(is_part_of_name)
}

struct UniqueFields(Value);

impl<'de> Deserialize<'de> for UniqueFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(UniqueFields(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, UniqueFields(value))) = fields.next_entry::<String, _>()? {
            if object.contains_key(&name) {
                let error = if is_like_a_field(&name) {
                    format!("field `{name}` is repeated")
                } else {
                    "a field is repeated".to_owned()
                };
                return Err(A::Error::custom(error));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_without_repeated_fields_is_parsed_as_by_serde_json() {
        for text in [
            "{}",
            r#" {"a":1,"b":[{"a":-1},{"a":1.5e3},null,true,"x\u0061"],"c":{"a":{}}} "#,
            r#"{"a":18446744073709551615,"A":-9223372036854775808,"":1e400}"#,
        ] {
            let expected = serde_json::from_str::<Map<_, _>>(text).ok();
            assert_eq!(parse_object(text.as_bytes()).ok(), expected, "{text}");
        }
    }

    #[test]
    fn repeated_field_is_named() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":1}"#,
            r#"{"b":[0,{"c":{"a":1,"a":2}}]}"#,
        ] {
            let error = parse_object(text.as_bytes()).unwrap_err();
            assert!(
                error.starts_with("field `a` is repeated"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn name_that_may_be_a_secret_is_not_repeated() {
        let error = parse_object(br#"{"hunter2@db":1,"hunter2@db":1}"#).unwrap_err();
        assert!(error.starts_with("a field is repeated"), "{error}");
    }

    #[test]
    fn other_text_is_no_object() {
        for text in [
            "[]",
            "1",
            "null",
            "{",
            "",
            "{\"a\":1}x",
            "\u{feff}{}",
            "{\"a\":01}",
        ] {
            let error = parse_object(text.as_bytes()).unwrap_err();
            assert!(error.contains("is not a JSON object"), "{text}: {error}");
        }
        assert!(parse_object(&b"[".repeat(10_000)).is_err());
    }
}
