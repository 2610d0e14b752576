//! Tests of the module as a whole: real exports, generated documents, cut ones, hostile ones.

mod cut;
mod fixtures;
mod generate;
mod hostile;
mod large;
mod properties;

use std::collections::HashSet;

use super::{
    DocumentError, Inspection, Limits, Outgoing, Returned, Returning, Sent, inspect,
    prepare_outgoing, prepare_returning,
};

/// A time after everything in the fixtures.
const NOW: i64 = 1_795_300_000_000;

fn looked(document: &[u8]) -> Inspection {
    inspect(document, &Limits::default()).unwrap()
}

fn sent_with(document: &[u8], outgoing: &Outgoing) -> (Vec<u8>, Sent) {
    let mut written = Vec::new();
    let sent = prepare_outgoing(
        document,
        &mut written,
        &looked(document),
        outgoing,
        &Limits::default(),
    )
    .unwrap();
    (written, sent)
}

fn sent(document: &[u8]) -> (Vec<u8>, Sent) {
    sent_with(
        document,
        &Outgoing {
            output: "You are on box now.".into(),
            now_ms: NOW,
            ..Outgoing::default()
        },
    )
}

fn returned(
    back: &[u8],
    local: &[u8],
    sent_ids: &[String],
) -> Result<(Vec<u8>, Returned), DocumentError> {
    let local = looked(local);
    let ids: HashSet<String> = sent_ids.iter().cloned().collect();
    let mut written = Vec::new();
    let returning = Returning {
        session: &local.session,
        sent_ids: &ids,
        local: &local,
        now_ms: NOW,
        limits: Limits::default(),
    };
    let returned = prepare_returning(back, &mut written, &returning)?;
    assert_eq!(written.len() as u64, returned.bytes);
    Ok((written, returned))
}
