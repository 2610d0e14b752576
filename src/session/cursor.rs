//! A strict reader over JSON bytes in memory that answers with byte spans and builds no values.

use std::collections::BTreeSet;
use std::ops::Range;

use super::error::{DocumentError, shown};
use super::limits::MAX_FIELDS;
use super::text::decode;

/// A place in JSON bytes. What it has passed is valid JSON by RFC 8259, no deeper than `max_depth`.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Where `bytes` begins in the document.
    offset: u64,
    depth: usize,
    max_depth: usize,
}

/// Where a field of an object is, and what must go if it is taken out.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// The value's bytes.
    pub(super) value: Range<usize>,
    /// The field's bytes with one comma.
    pub(super) cut: Range<usize>,
}

/// The fields of one object that were asked for.
#[derive(Debug, Clone)]
pub(super) struct Fields<const N: usize> {
    names: [&'static str; N],
    found: [Option<Field>; N],
    /// The object's bytes, braces included.
    pub(super) span: Range<usize>,
    /// Where a further field can be inserted.
    pub(super) end: usize,
    /// Whether the object has any field.
    pub(super) empty: bool,
}

impl<const N: usize> Fields<N> {
    /// The field `name`, which must be one of those asked for.
    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        let index = self.names.iter().position(|known| *known == name)?;
        self.found.get(index)?.as_ref()
    }

    /// The span of the value of `name`.
    pub(super) fn value(&self, name: &str) -> Option<Range<usize>> {
        self.get(name).map(|field| field.value.clone())
    }
}

impl<'a> Cursor<'a> {
    /// A cursor over the whole of `bytes`, which begin at `offset` in the document.
    pub(super) fn new(bytes: &'a [u8], offset: u64, max_depth: usize) -> Self {
        Self {
            bytes,
            position: 0,
            offset,
            depth: 0,
            max_depth,
        }
    }

    /// A cursor at a span that an earlier one has passed.
    pub(super) fn within(
        bytes: &'a [u8],
        span: Range<usize>,
        offset: u64,
        max_depth: usize,
    ) -> Self {
        let bytes = bytes.get(..span.end).unwrap_or(bytes);
        Self {
            bytes,
            position: span.start,
            offset,
            depth: 0,
            max_depth,
        }
    }

    fn here(&self) -> u64 {
        self.offset + self.position as u64
    }

    fn syntax(&self, expected: &'static str) -> DocumentError {
        DocumentError::Syntax {
            offset: self.here(),
            expected,
        }
    }

    /// The next byte.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.position += 1;
        }
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), DocumentError> {
        if self.peek() != Some(byte) {
            return Err(self.syntax(expected));
        }
        self.position += 1;
        Ok(())
    }

    /// Passes white space and then the end of the bytes.
    pub(super) fn finish(&mut self) -> Result<(), DocumentError> {
        self.white();
        if self.position == self.bytes.len() {
            Ok(())
        } else {
            Err(self.syntax("the end of the value"))
        }
    }

    /// Passes one value and answers with its span.
    pub(super) fn value(&mut self) -> Result<Range<usize>, DocumentError> {
        self.white();
        let start = self.position;
        match self.peek() {
            Some(b'{') => self.object(|cursor, _| cursor.value().map(drop))?,
            Some(b'[') => self.array(|cursor| cursor.value().map(drop))?,
            Some(b'"') => self.string().map(drop)?,
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            _ => self.number()?,
        }
        Ok(start..self.position)
    }

    fn enter(&mut self) -> Result<(), DocumentError> {
        if self.depth >= self.max_depth {
            let limit = self.max_depth as u64;
            return Err(DocumentError::Limit {
                what: "levels of nesting",
                limit,
                offset: self.here(),
            });
        }
        self.depth += 1;
        self.position += 1;
        Ok(())
    }

    /// Passes an object; `member` is called with each key's span, must pass the value.
    fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Range<usize>) -> Result<(), DocumentError>,
    ) -> Result<(), DocumentError> {
        if self.peek() != Some(b'{') {
            return Err(self.syntax("an object"));
        }
        self.enter()?;
        self.white();
        if self.peek() != Some(b'}') {
            loop {
                self.white();
                let key = self.string()?;
                self.white();
                self.expect(b':', "':'")?;
                member(self, key)?;
                self.white();
                if self.peek() != Some(b',') {
                    break;
                }
                self.position += 1;
            }
        }
        self.expect(b'}', "',' or '}'")?;
        self.depth -= 1;
        Ok(())
    }

    /// Passes an array; `element` is called before each element and must pass it.
    pub(super) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), DocumentError>,
    ) -> Result<(), DocumentError> {
        self.white();
        if self.peek() != Some(b'[') {
            return Err(self.syntax("an array"));
        }
        self.enter()?;
        self.white();
        if self.peek() != Some(b']') {
            loop {
                element(self)?;
                self.white();
                if self.peek() != Some(b',') {
                    break;
                }
                self.position += 1;
            }
        }
        self.expect(b']', "',' or ']'")?;
        self.depth -= 1;
        Ok(())
    }

    /// Passes an object and answers with those of its fields that are named; two fields of one name are refused,
    /// whatever the name.
    pub(super) fn fields<const N: usize>(
        &mut self,
        names: [&'static str; N],
    ) -> Result<Fields<N>, DocumentError> {
        self.white();
        let start = self.position;
        if self.peek() != Some(b'{') {
            return Err(DocumentError::NotAnExport {
                offset: self.here(),
                expected: "an object",
            });
        }
        let mut seen = BTreeSet::new();
        let mut found: [Option<Field>; N] = [const { None }; N];
        let mut previous_end = None;
        // The index of a first field: only when a second one follows is it known where the first one's cut ends.
        let mut first = None;
        self.object(|cursor, key_span| {
            let offset = cursor.offset + key_span.start as u64;
            let key = decode(cursor.bytes.get(key_span.clone()).unwrap_or_default());
            let index = names.iter().position(|name| *name == key);
            if let Some(index) = first.take()
                && let Some(Some(field)) = found.get_mut(index)
            {
                let field: &mut Field = field;
                field.cut.end = key_span.start;
            }
            let value = cursor.value()?;
            let cut = previous_end.unwrap_or(key_span.start)..value.end;
            if previous_end.is_none() {
                first = index;
            }
            previous_end = Some(value.end);
            if let Some(place) = index.and_then(|index| found.get_mut(index)) {
                *place = Some(Field { value, cut });
            }
            if seen.len() >= MAX_FIELDS {
                return Err(DocumentError::Limit {
                    what: "fields in an object",
                    limit: MAX_FIELDS as u64,
                    offset,
                });
            }
            match seen.replace(key) {
                Some(key) => Err(DocumentError::DuplicateKey {
                    key: shown(&key),
                    offset,
                }),
                None => Ok(()),
            }
        })?;
        let empty = previous_end.is_none();
        Ok(Fields {
            names,
            found,
            span: start..self.position,
            end: previous_end.unwrap_or(start + 1),
            empty,
        })
    }

    /// Passes a string and answers with its span, quotes included.
    pub(super) fn string(&mut self) -> Result<Range<usize>, DocumentError> {
        let start = self.position;
        self.expect(b'"', "a string")?;
        loop {
            let rest = self.bytes.get(self.position..).unwrap_or_default();
            let plain = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
                .unwrap_or(rest.len());
            self.position += plain;
            match self.peek() {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(start..self.position);
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.syntax("a character of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), DocumentError> {
        self.position += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.position += 1,
            Some(b'u') => {
                self.position += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.syntax("a hexadecimal digit"));
                    }
                    self.position += 1;
                }
            }
            _ => return Err(self.syntax("an escape")),
        }
        Ok(())
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), DocumentError> {
        if !self
            .bytes
            .get(self.position..)
            .is_some_and(|rest| rest.starts_with(word))
        {
            return Err(self.syntax("a value"));
        }
        self.position += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<(), DocumentError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.syntax("a value"));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.position += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), DocumentError> {
        if self.peek() == Some(b'-') {
            self.position += 1;
        }
        if self.peek() == Some(b'0') {
            self.position += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.position += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.position += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.position += 1;
            }
            self.digits()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_passed() {
        for good in [
            "1e400",
            "-0.5E-7",
            "123456789012345678901234567890",
            "[]",
            "{ }",
            "[1 , {\"a\":null}]",
            r#""\ud83d""#,
        ] {
            let mut cursor = Cursor::new(good.as_bytes(), 0, 8);
            assert!(
                cursor.value().and_then(|_| cursor.finish()).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "01",
            "1.",
            "+1",
            ".5",
            "1e",
            "NaN",
            "tru",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "[1}",
            r#""\x""#,
            "\"\n\"",
            "",
        ] {
            let mut cursor = Cursor::new(bad.as_bytes(), 0, 8);
            assert!(
                cursor.value().and_then(|_| cursor.finish()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_field_is_cut_with_exactly_one_comma() {
        for (object, left) in [
            (r#"{"x":1}"#, "{}"),
            (r#"{ "x" : 1 , "b":2}"#, r#"{ "b":2}"#),
            (r#"{"a":1, "x": [1,2] ,"b":2}"#, r#"{"a":1 ,"b":2}"#),
            (r#"{"a":1, "x":1 }"#, r#"{"a":1 }"#),
        ] {
            let fields = Cursor::new(object.as_bytes(), 0, 8).fields(["x"]).unwrap();
            let mut cut = object.to_owned();
            cut.replace_range(fields.get("x").unwrap().cut.clone(), "");
            assert_eq!(cut, left);
        }
    }
}
