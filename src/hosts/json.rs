//! `hosts.json` and `hosts.jsonc` as a [`Node`].

use std::collections::HashSet;

use jsonc_parser::ast::{self, Object};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::error::HostsError;
use super::file::Text;
use super::tree::{Entry, LEVELS, Node, Value};

/// JSON with comments and trailing commas, and nothing else that is not JSON.
fn options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

/// Parses JSON with comments and trailing commas; a key that occurs twice in a table is an error.
///
/// # Errors
///
/// [`HostsError::Parse`] with the place.
pub(super) fn parse(text: &Text<'_>) -> Result<Node, HostsError> {
    let parsed = parse_to_ast(text.as_str(), &CollectOptions::default(), &options())
        .map_err(|error| text.parse_error(error.range().start, &error.kind().to_string()))?;
    match parsed.value {
        Some(value) => convert(text, &value, LEVELS),
        None => Err(text.parse_error(0, "there is no JSON value in the file")),
    }
}

fn convert(text: &Text<'_>, value: &ast::Value<'_>, levels: usize) -> Result<Node, HostsError> {
    let converted = match value {
        ast::Value::StringLit(literal) => Value::Text(literal.value.clone().into_owned()),
        ast::Value::NumberLit(literal) => Value::Number(literal.value.parse().ok()),
        ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::Array(_) => Value::Other("a list"),
        ast::Value::Object(object) if levels > 0 => {
            Value::Table(entries(text, object, levels - 1)?)
        }
        ast::Value::Object(_) => Value::Other("a table"),
    };
    Ok(Node {
        at: value.start(),
        value: converted,
    })
}

fn entries(text: &Text<'_>, object: &Object<'_>, levels: usize) -> Result<Vec<Entry>, HostsError> {
    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(object.properties.len());
    for property in &object.properties {
        let key = property.name.as_str().to_owned();
        let at = property.start();
        if !seen.insert(key.clone()) {
            return Err(text.parse_error(at, "duplicate key"));
        }
        entries.push(Entry {
            key,
            at,
            node: convert(text, &property.value, levels)?,
        });
    }
    Ok(entries)
}
