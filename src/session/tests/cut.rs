//! A document that was cut is an error, wherever it was cut.

use std::io::{self, Read};

use super::fixtures::{ALL, PENDING};
use super::*;

#[test]
fn a_document_cut_at_any_byte_is_an_error_and_never_a_shorter_document() {
    for (_, document) in ALL {
        let end = document.trim_ascii_end().len();
        for length in 0..end {
            let error = inspect(&document[..length], &Limits::default()).unwrap_err();
            assert!(
                matches!(error, DocumentError::Cut { offset } if offset == length as u64),
                "{length}: {error}"
            );
        }
        assert!(inspect(&document[..end], &Limits::default()).is_ok());
    }
}

#[test]
fn a_cut_document_neither_goes_out_nor_comes_back() {
    let whole = looked(PENDING);
    for length in (0..PENDING.trim_ascii_end().len()).step_by(7) {
        let cut = &PENDING[..length];
        let out = prepare_outgoing(
            cut,
            io::sink(),
            &whole,
            &Outgoing::default(),
            &Limits::default(),
        );
        assert!(matches!(out.unwrap_err(), DocumentError::Cut { .. }));
        assert!(matches!(
            returned(cut, PENDING, &whole.message_ids).unwrap_err(),
            DocumentError::Cut { .. }
        ));
    }
}

#[test]
fn only_white_space_may_follow() {
    let with = |tail: &str| [PENDING, tail.as_bytes()].concat();
    assert!(inspect(with(" \r\n\t").as_slice(), &Limits::default()).is_ok());
    for tail in ["x", "{}", "\0", "\n]", ","] {
        let error = inspect(with(tail).as_slice(), &Limits::default()).unwrap_err();
        assert!(matches!(error, DocumentError::Trailing { .. }), "{tail:?}");
    }
}

/// Gives one byte at a time, with interruptions.
struct Drip<'a>(&'a [u8], bool);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = 1.min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn how_the_bytes_arrive_makes_no_difference() {
    let mut written = Vec::new();
    let outgoing = Outgoing {
        output: "You are on box now.".into(),
        now_ms: NOW,
        ..Outgoing::default()
    };
    let drip = Drip(PENDING, false);
    let dripped = prepare_outgoing(
        drip,
        &mut written,
        &looked(PENDING),
        &outgoing,
        &Limits::default(),
    )
    .unwrap();
    assert_eq!((written, dripped), sent(PENDING));
}

#[test]
fn an_error_of_the_reader_or_writer_is_told_with_its_cause() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    assert!(matches!(
        inspect(Broken, &Limits::default()).unwrap_err(),
        DocumentError::Read { .. }
    ));
    let mut small = [0_u8; 100];
    let out = prepare_outgoing(
        PENDING,
        &mut small[..],
        &looked(PENDING),
        &Outgoing::default(),
        &Limits::default(),
    );
    assert!(matches!(out.unwrap_err(), DocumentError::Write { .. }));
}
