//! The shallow view of a message and of the session's `info`: byte spans of the few fields that matter.
//!
//! The shapes are those of opencode's `export` as measured with versions 1.1 to 1.18.

use std::borrow::Cow;
use std::ops::Range;

use super::cursor::{Cursor, Fields};
use super::edit::Edits;
use super::error::{DocumentError, shown};
use super::limits::Limits;
use super::text::decode;

/// Bytes of a value in the document, where they begin, and the bounds for reading within.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    /// The value's bytes: valid JSON.
    pub(super) bytes: &'a [u8],
    /// Where they begin in the document.
    pub(super) offset: u64,
    depth: usize,
}

impl<'a> Raw<'a> {
    /// The bytes of a span within.
    pub(super) fn slice(&self, span: Range<usize>) -> &'a [u8] {
        self.bytes.get(span).unwrap_or_default()
    }

    /// The text at `span`, when a string is there.
    pub(super) fn text(&self, span: Option<Range<usize>>) -> Option<Cow<'a, str>> {
        let bytes = self.slice(span?);
        bytes.starts_with(b"\"").then(|| decode(bytes))
    }

    /// The whole number at `span`, when one is there that fits; a fraction is cut.
    pub(super) fn integer(&self, span: Option<Range<usize>>) -> Option<i64> {
        let text = std::str::from_utf8(self.slice(span?)).ok()?;
        text.parse().ok().or_else(|| {
            let number: f64 = text.parse().ok()?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the cast saturates, and the bound is checked"
            )]
            (number.abs() < 9e15).then_some(number as i64)
        })
    }

    /// The fields of the object at `span`; [`None`] when no object is there.
    pub(super) fn fields<const N: usize>(
        &self,
        span: Option<Range<usize>>,
        names: [&'static str; N],
    ) -> Result<Option<Fields<N>>, DocumentError> {
        let Some(span) = span.filter(|span| self.slice(span.clone()).starts_with(b"{")) else {
            return Ok(None);
        };
        Cursor::within(self.bytes, span, self.offset, self.depth)
            .fields(names)
            .map(Some)
    }

    /// Marks for emptying the list `diffs` of the summary at `summary`.
    ///
    /// It describes files of the machine that wrote it, whole ones in old versions, and its form differs between
    /// versions: opencode 1.2 stops in the middle of an import at those of 1.18.
    pub(super) fn empty_diffs(
        &self,
        summary: Option<Range<usize>>,
        edits: &mut Edits,
    ) -> Result<(), DocumentError> {
        let summary = self.fields(summary, ["diffs"])?;
        if let Some(span) = summary.and_then(|summary| summary.value("diffs")) {
            let inner = self
                .slice(span.clone())
                .strip_prefix(b"[")
                .and_then(|list| list.strip_suffix(b"]"));
            if inner.is_some_and(|list| !list.trim_ascii().is_empty()) {
                edits.replace(span, *b"[]");
            }
        }
        Ok(())
    }

    /// Where `span` begins in the document.
    pub(super) fn place(&self, span: &Range<usize>) -> u64 {
        self.offset + span.start as u64
    }
}

/// The fields of the session's `info` that are looked at.
pub(super) type InfoFields = Fields<9>;

/// The session's `info`.
pub(super) struct SessionInfo<'a> {
    pub(super) raw: Raw<'a>,
    pub(super) fields: InfoFields,
    pub(super) id: Cow<'a, str>,
}

impl<'a> SessionInfo<'a> {
    /// Reads an `info` object.
    pub(super) fn parse(
        bytes: &'a [u8],
        offset: u64,
        limits: &Limits,
    ) -> Result<Self, DocumentError> {
        let raw = Raw {
            bytes,
            offset,
            depth: limits.depth,
        };
        let mut cursor = Cursor::new(bytes, offset, limits.depth);
        let names = [
            "id",
            "directory",
            "title",
            "version",
            "agent",
            "model",
            "revert",
            "snapshot",
            "summary",
        ];
        let fields = cursor.fields(names)?;
        cursor.finish()?;
        let id = raw
            .text(fields.value("id"))
            .ok_or(DocumentError::NotAnExport {
                offset,
                expected: "a session id",
            })?;
        Ok(Self { raw, fields, id })
    }
}

/// Who a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
}

/// One part of a message.
pub(super) struct Part<'a> {
    /// The part's object.
    pub(super) span: Range<usize>,
    pub(super) kind: Cow<'a, str>,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) session: Option<Range<usize>>,
    pub(super) message: Option<Range<usize>>,
    pub(super) tool: Option<Range<usize>>,
    pub(super) call: Option<Range<usize>>,
    pub(super) state: Option<Range<usize>>,
    pub(super) text: Option<Range<usize>>,
    snapshot_cut: Option<Range<usize>>,
}

impl Part<'_> {
    /// Whether the part must not leave the machine: a `patch` names objects of its snapshot store, and a `snapshot`
    /// part (of old versions) is nothing but such a name.
    pub(super) fn stays(&self) -> bool {
        matches!(&*self.kind, "patch" | "snapshot")
    }
}

/// The fields of a message's `info` that are looked at.
pub(super) type MessageFields = Fields<12>;

/// One message.
pub(super) struct Message<'a> {
    pub(super) raw: Raw<'a>,
    pub(super) info: MessageFields,
    pub(super) id: Cow<'a, str>,
    pub(super) session: Cow<'a, str>,
    pub(super) role: Role,
    pub(super) parts: Vec<Part<'a>>,
    /// Where the closing bracket of `parts` is.
    pub(super) parts_end: usize,
}

impl<'a> Message<'a> {
    /// Reads a message.
    pub(super) fn parse(
        bytes: &'a [u8],
        offset: u64,
        limits: &Limits,
    ) -> Result<Self, DocumentError> {
        let raw = Raw {
            bytes,
            offset,
            depth: limits.depth,
        };
        let not = |expected| DocumentError::NotAnExport { offset, expected };
        let mut cursor = Cursor::new(bytes, offset, limits.depth);
        let top = cursor.fields(["info", "parts"])?;
        cursor.finish()?;
        let names = [
            "id",
            "sessionID",
            "role",
            "time",
            "agent",
            "model",
            "finish",
            "tokens",
            "cost",
            "error",
            "snapshot",
            "summary",
        ];
        let info = raw
            .fields(top.value("info"), names)?
            .ok_or(not("a message's info"))?;
        let id = raw.text(info.value("id")).ok_or(not("a message id"))?;
        let session = raw
            .text(info.value("sessionID"))
            .ok_or(not("a message's session id"))?;
        let role = match raw
            .text(info.value("role"))
            .ok_or(not("a message's role"))?
            .as_ref()
        {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                return Err(DocumentError::BadRole {
                    role: shown(other),
                    offset,
                });
            }
        };
        let list = top.value("parts").ok_or(not("a message's parts"))?;
        if !raw.slice(list.clone()).starts_with(b"[") {
            return Err(not("an array of parts"));
        }
        let parts_end = list.end - 1;
        let mut parts = Vec::new();
        Cursor::within(bytes, list, offset, limits.depth).array(|cursor| {
            if parts.len() >= limits.parts {
                return Err(DocumentError::Limit {
                    what: "parts in a message",
                    limit: limits.parts as u64,
                    offset,
                });
            }
            parts.push(part(&raw, cursor)?);
            Ok(())
        })?;
        Ok(Self {
            raw,
            info,
            id,
            session,
            role,
            parts,
            parts_end,
        })
    }

    /// Marks for cutting what must not leave the machine: `patch` parts, `snapshot` fields of the info and of parts,
    /// and the turn's file differences.
    pub(super) fn cut_local(&self, edits: &mut Edits) -> Result<(), DocumentError> {
        self.raw.empty_diffs(self.info.value("summary"), edits)?;
        if let Some(field) = self.info.get("snapshot") {
            edits.cut(field.cut.clone());
        }
        for cut in self
            .parts
            .iter()
            .filter(|part| !part.stays())
            .filter_map(|part| part.snapshot_cut.clone())
        {
            edits.cut(cut);
        }
        let spans: Vec<_> = self.parts.iter().map(|part| part.span.clone()).collect();
        edits.cut_items(&spans, |index| {
            self.parts.get(index).is_some_and(Part::stays)
        });
        Ok(())
    }

    /// Whether the message has ended, by itself or with an error.
    pub(super) fn ended(&self) -> Result<bool, DocumentError> {
        let time = self.raw.fields(self.info.value("time"), ["completed"])?;
        Ok(self.failed() || time.is_some_and(|time| time.get("completed").is_some()))
    }

    /// Whether the message has ended with an error.
    pub(super) fn failed(&self) -> bool {
        let error = self.info.value("error");
        error.is_some_and(|span| self.raw.slice(span) != b"null")
    }

    /// When the message was made, in milliseconds since 1970.
    pub(super) fn created_ms(&self) -> Result<Option<i64>, DocumentError> {
        let time = self.raw.fields(self.info.value("time"), ["created"])?;
        Ok(self
            .raw
            .integer(time.and_then(|time| time.value("created"))))
    }
}

fn part<'a>(raw: &Raw<'a>, cursor: &mut Cursor<'a>) -> Result<Part<'a>, DocumentError> {
    let names = [
        "type",
        "id",
        "sessionID",
        "messageID",
        "tool",
        "callID",
        "state",
        "text",
        "snapshot",
    ];
    let fields = cursor.fields(names)?;
    let offset = raw.place(&fields.span);
    let kind = raw
        .text(fields.value("type"))
        .ok_or(DocumentError::NotAnExport {
            offset,
            expected: "a part's type",
        })?;
    Ok(Part {
        kind,
        id: raw.text(fields.value("id")),
        session: fields.value("sessionID"),
        message: fields.value("messageID"),
        tool: fields.value("tool"),
        call: fields.value("callID"),
        state: fields.value("state"),
        text: fields.value("text"),
        snapshot_cut: fields.get("snapshot").map(|field| field.cut.clone()),
        span: fields.span,
    })
}
