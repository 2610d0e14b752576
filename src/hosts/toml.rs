//! `hosts.toml` as a [`Node`].

use toml::de::{DeTable, DeValue};

use super::error::HostsError;
use super::file::Text;
use super::tree::{Entry, LEVELS, Node, Value};

/// Parses TOML 1.1.
///
/// # Errors
///
/// [`HostsError::Parse`] with the place.
pub(super) fn parse(text: &Text<'_>) -> Result<Node, HostsError> {
    let table = DeTable::parse(text.as_str()).map_err(|error| {
        text.parse_error(error.span().map_or(0, |span| span.start), error.message())
    })?;
    Ok(Node {
        at: 0,
        value: Value::Table(entries(table.get_ref(), LEVELS - 1)),
    })
}

fn entries(table: &DeTable<'_>, levels: usize) -> Vec<Entry> {
    table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().clone().into_owned(),
            at: key.span().start,
            node: Node {
                at: value.span().start,
                value: convert(value.get_ref(), levels),
            },
        })
        .collect()
}

fn convert(value: &DeValue<'_>, levels: usize) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => {
            Value::Number(i64::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(_) => Value::Number(None),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(_) => Value::Other("a list"),
        DeValue::Table(table) if levels > 0 => Value::Table(entries(table, levels - 1)),
        DeValue::Table(_) => Value::Other("a table"),
    }
}
