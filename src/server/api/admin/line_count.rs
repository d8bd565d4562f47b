//! Numbers of lines in query parameters.

use std::borrow::Cow;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, ToJSON, Type};
use serde_json::Value;

use crate::api::MAX_PAGE_LINES;

/// A number of lines from `MIN` to `MAX`. The error of poem-openapi names no range.
pub struct LineCount<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> LineCount<MIN, MAX> {
    pub fn get(&self) -> usize {
        self.0 as usize
    }
}

/// The number of lines of a request without the parameter.
impl<const MIN: u32, const MAX: u32> Default for LineCount<MIN, MAX> {
    fn default() -> Self {
        Self(50)
    }
}

impl<const MIN: u32, const MAX: u32> Type for LineCount<MIN, MAX> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "LineCount".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            minimum: Some(MIN.into()),
            maximum: Some(MAX.into()),
            ..MetaSchema::new_with_format("integer", "uint32")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.as_raw_value().into_iter())
    }
}

impl<const MIN: u32, const MAX: u32> ParseFromParameter for LineCount<MIN, MAX> {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        match text.parse() {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => {
                let max = MAX as usize;
                let page = group_thousands(max.min(MAX_PAGE_LINES));
                let text = if max > MAX_PAGE_LINES {
                    let max = group_thousands(max);
                    format!(", or to {max} with `Accept: text/plain`")
                } else {
                    String::new()
                };
                Err(ParseError::custom(format!(
                    "is not a whole number from {MIN} to {page}{text}"
                )))
            }
        }
    }
}

impl<const MIN: u32, const MAX: u32> ToJSON for LineCount<MIN, MAX> {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.into())
    }
}

/// `10,000` for 10000.
fn group_thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
