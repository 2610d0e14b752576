//! The walk through a document as it streams by: finds where each message begins and ends.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};

use super::cursor::Cursor;
use super::error::{DocumentError, shown};
use super::limits::{Limits, MAX_FIELDS};
use super::message::{Message, SessionInfo};
use super::text::decode;

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// What is kept of the buffer for a message after an exceptionally large one.
const KEPT_CAPACITY: usize = 4 << 20;

/// Who looks at what the walk finds, in the document's own order.
pub(super) trait Visitor {
    /// Bytes that belong to no `info` and no message: braces, keys, commas, white space, values of unknown keys.
    fn between(&mut self, bytes: &[u8]) -> Result<(), DocumentError> {
        let _ = bytes;
        Ok(())
    }

    /// The session's `info`.
    fn info(&mut self, info: &SessionInfo<'_>) -> Result<(), DocumentError>;

    /// The next message.
    fn message(&mut self, message: &Message<'_>) -> Result<(), DocumentError>;
}

/// Walks through the whole document, to its end, and answers with its size in bytes.
///
/// Every byte of it is either passed to [`Visitor::between`] or part of a value passed to one of the others. A success
/// means that the document is complete, valid JSON and has exactly one `info` and one `messages`.
pub(super) fn walk<R: Read, V: Visitor>(
    reader: R,
    limits: &Limits,
    visitor: &mut V,
) -> Result<u64, DocumentError> {
    let mut walk = Walk {
        stream: Stream {
            reader,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            offset: 0,
            limit: limits.document,
        },
        limits,
        visitor,
        between: Vec::new(),
        value: Vec::new(),
        messages: 0,
    };
    walk.document()?;
    Ok(walk.stream.offset)
}

struct Walk<'a, R, V> {
    stream: Stream<R>,
    limits: &'a Limits,
    visitor: &'a mut V,
    between: Vec<u8>,
    value: Vec<u8>,
    messages: usize,
}

impl<R: Read, V: Visitor> Walk<'_, R, V> {
    fn document(&mut self) -> Result<(), DocumentError> {
        self.white()?;
        self.expect(b'{', "an object")?;
        self.white()?;
        let mut keys = BTreeSet::new();
        if self.stream.peek()? != Some(b'}') {
            loop {
                self.white()?;
                let offset = self.stream.offset;
                let name = self.key()?;
                if keys.len() >= MAX_FIELDS {
                    return Err(DocumentError::Limit {
                        what: "fields in an object",
                        limit: MAX_FIELDS as u64,
                        offset,
                    });
                }
                if let Some(key) = keys.replace(name.clone()) {
                    return Err(DocumentError::DuplicateKey {
                        key: shown(&key),
                        offset,
                    });
                }
                self.white()?;
                self.expect(b':', "':'")?;
                self.white()?;
                match name.as_str() {
                    "info" => self.info()?,
                    "messages" => self.messages()?,
                    _ => self.unknown()?,
                }
                self.white()?;
                if !self.comma()? {
                    break;
                }
            }
        }
        self.expect(b'}', "',' or '}'")?;
        let end = self.stream.offset;
        self.white()?;
        if self.stream.peek()?.is_some() {
            return Err(DocumentError::Trailing {
                offset: self.stream.offset,
            });
        }
        for (key, expected) in [
            ("info", "the session's info"),
            ("messages", "an array of messages"),
        ] {
            if !keys.contains(key) {
                return Err(DocumentError::NotAnExport {
                    offset: end,
                    expected,
                });
            }
        }
        self.flush()
    }

    fn key(&mut self) -> Result<String, DocumentError> {
        let offset = self.stream.offset;
        if self.stream.require()? != b'"' {
            return Err(DocumentError::Syntax {
                offset,
                expected: "a string",
            });
        }
        self.capture()?;
        let mut cursor = Cursor::new(&self.value, offset, self.limits.depth);
        cursor.string()?;
        cursor.finish()?;
        self.between.extend_from_slice(&self.value);
        Ok(decode(&self.value).into_owned())
    }

    fn info(&mut self) -> Result<(), DocumentError> {
        self.flush()?;
        let offset = self.capture()?;
        let info = SessionInfo::parse(&self.value, offset, self.limits)?;
        self.visitor.info(&info)
    }

    fn unknown(&mut self) -> Result<(), DocumentError> {
        let offset = self.capture()?;
        let mut cursor = Cursor::new(&self.value, offset, self.limits.depth);
        cursor.value()?;
        cursor.finish()?;
        self.flush()?;
        self.visitor.between(&self.value)
    }

    fn messages(&mut self) -> Result<(), DocumentError> {
        let offset = self.stream.offset;
        if self.stream.require()? != b'[' {
            return Err(DocumentError::NotAnExport {
                offset,
                expected: "an array of messages",
            });
        }
        self.expect(b'[', "'['")?;
        self.white()?;
        if self.stream.peek()? != Some(b']') {
            loop {
                self.white()?;
                self.message()?;
                self.white()?;
                if !self.comma()? {
                    break;
                }
            }
        }
        self.expect(b']', "',' or ']'")
    }

    fn message(&mut self) -> Result<(), DocumentError> {
        self.flush()?;
        let offset = self.capture()?;
        if self.messages >= self.limits.messages {
            return Err(DocumentError::Limit {
                what: "messages",
                limit: self.limits.messages as u64,
                offset,
            });
        }
        self.messages += 1;
        let message = Message::parse(&self.value, offset, self.limits)?;
        self.visitor.message(&message)
    }

    /// Reads one value into `self.value`; answers with where it begins.
    fn capture(&mut self) -> Result<u64, DocumentError> {
        self.value.clear();
        self.value.shrink_to(KEPT_CAPACITY);
        let offset = self.stream.offset;
        self.stream.capture(&mut self.value, self.limits)?;
        if let Err(error) = std::str::from_utf8(&self.value) {
            return Err(DocumentError::Syntax {
                offset: offset + error.valid_up_to() as u64,
                expected: "UTF-8",
            });
        }
        Ok(offset)
    }

    fn flush(&mut self) -> Result<(), DocumentError> {
        if !self.between.is_empty() {
            self.visitor.between(&self.between)?;
            self.between.clear();
        }
        Ok(())
    }

    fn white(&mut self) -> Result<(), DocumentError> {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.stream.peek()? {
            self.stream.advance(1);
            self.between.push(byte);
            if self.between.len() >= BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), DocumentError> {
        if self.stream.require()? != byte {
            return Err(DocumentError::Syntax {
                offset: self.stream.offset,
                expected,
            });
        }
        self.stream.advance(1);
        self.between.push(byte);
        Ok(())
    }

    fn comma(&mut self) -> Result<bool, DocumentError> {
        if self.stream.require()? != b',' {
            return Ok(false);
        }
        self.expect(b',', "','").map(|()| true)
    }
}

struct Stream<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the next byte is in the document.
    offset: u64,
    limit: u64,
}

impl<R: Read> Stream<R> {
    /// What is buffered; empty only at the end of the document.
    fn chunk(&mut self) -> Result<&[u8], DocumentError> {
        while self.start == self.end {
            match self.reader.read(&mut self.buffer) {
                Ok(0) => return Ok(&[]),
                Ok(count) => {
                    (self.start, self.end) = (0, count);
                    if self.offset + count as u64 > self.limit {
                        let (limit, offset) = (self.limit, self.limit);
                        return Err(DocumentError::Limit {
                            what: "bytes in the document",
                            limit,
                            offset,
                        });
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(DocumentError::Read { source }),
            }
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn peek(&mut self) -> Result<Option<u8>, DocumentError> {
        Ok(self.chunk()?.first().copied())
    }

    fn require(&mut self) -> Result<u8, DocumentError> {
        let offset = self.offset;
        self.peek()?.ok_or(DocumentError::Cut { offset })
    }

    fn advance(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// Appends the bytes of one value to `value`, by its quotes and brackets alone: whether it is JSON is for the
    /// [`Cursor`] to say.
    fn capture(&mut self, value: &mut Vec<u8>, limits: &Limits) -> Result<(), DocumentError> {
        let mut shape = Shape::default();
        loop {
            let offset = self.offset;
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Err(DocumentError::Cut { offset });
            }
            let (count, done) = shape.take(chunk);
            if value.len() + count > limits.message {
                let limit = limits.message as u64;
                return Err(DocumentError::Limit {
                    what: "bytes in one message",
                    limit,
                    offset,
                });
            }
            value.extend_from_slice(chunk.get(..count).unwrap_or_default());
            self.advance(count);
            if done {
                return Ok(());
            }
            if shape.depth > limits.depth {
                let limit = limits.depth as u64;
                return Err(DocumentError::Limit {
                    what: "levels of nesting",
                    limit,
                    offset: self.offset,
                });
            }
        }
    }
}

/// How far into one value the scanner is.
#[derive(Default)]
struct Shape {
    depth: usize,
    string: bool,
    escaped: bool,
    scalar: bool,
}

impl Shape {
    /// How many of these bytes belong to the value, and whether it ends with them.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut position = 0;
        while let Some(&byte) = bytes.get(position) {
            if self.escaped {
                self.escaped = false;
            } else if self.string {
                let rest = bytes.get(position..).unwrap_or_default();
                let Some(plain) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                    return (bytes.len(), false);
                };
                position += plain;
                if rest.get(plain) == Some(&b'\\') {
                    self.escaped = true;
                } else {
                    self.string = false;
                    if self.depth == 0 {
                        return (position + 1, true);
                    }
                }
            } else {
                match byte {
                    b'"' if !self.scalar => self.string = true,
                    b'{' | b'[' if !self.scalar => self.depth += 1,
                    b'}' | b']' if self.depth > 0 => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            return (position + 1, true);
                        }
                    }
                    // What ends a number or a word is not part of it.
                    b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => {
                        return (position, true);
                    }
                    _ if self.depth == 0 => self.scalar = true,
                    _ => {}
                }
            }
            position += 1;
        }
        (bytes.len(), false)
    }
}
