//! What must hold for any document.

use proptest::prelude::*;

use super::generate::{Document, SESSION, document};
use super::*;

/// A message of the assistant that ran on the other machine, with what must not come back.
fn remote_message(index: usize) -> String {
    let id = format!("msg_2fb8fbee{index:04x}NCuh47pqrCCv8P");
    let ids = format!(r#""id":"prt_2fb8{index:04x}X","sessionID":"{SESSION}","messageID":"{id}""#);
    format!(
        r#"{{"info":{{"id":"{id}","sessionID":"{SESSION}","role":"assistant","time":{{"created":9,"completed":9}},"n":1e400}},"parts":[{{"type":"text","text":"\ud83d",{ids},"snapshot":"s"}}]}}"#
    )
}

/// The document with further messages at its end.
fn grown(document: &Document, count: usize) -> String {
    let more: Vec<String> = (0..count).map(remote_message).collect();
    match document.messages.last() {
        Some(last) if count > 0 => {
            let at = document.text.rfind(last.as_str()).unwrap() + last.len();
            format!(
                "{},{}{}",
                &document.text[..at],
                more.join(","),
                &document.text[at..]
            )
        }
        _ => document.text.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn out_and_back_without_a_change_adds_nothing(document in document()) {
        let (remote, sent) = sent(document.text.as_bytes());
        prop_assert_eq!(sent.message_ids.len(), document.messages.len());
        let (_, returned) = returned(&remote, document.text.as_bytes(), &sent.message_ids).unwrap();
        prop_assert!(returned.new_message_ids.is_empty());
        prop_assert_eq!((returned.absent, returned.settled), (0, 0));
    }

    #[test]
    fn what_need_not_change_goes_out_byte_for_byte(document in document()) {
        let (written, _) = sent(document.text.as_bytes());
        let written = String::from_utf8(written).unwrap();
        if document.clean {
            prop_assert_eq!(&written, &document.text);
        }
        let (again, _) = sent(written.as_bytes());
        prop_assert_eq!(written.as_bytes(), again);
    }

    #[test]
    fn what_is_taken_out_is_exactly_the_snapshots(document in document()) {
        let (written, _) = sent(document.text.as_bytes());
        // The parts without snapshots are in the outgoing document as they were, the others are not there or shorter.
        let (found, before) = (looked(&written), looked(document.text.as_bytes()));
        prop_assert_eq!(&found.message_ids, &before.message_ids);
        prop_assert_eq!(found.raw_info(), before.raw_info());
        prop_assert!(written.len() <= document.text.len());
        prop_assert_eq!(written.len() == document.text.len(), document.clean);
    }

    #[test]
    fn exactly_the_new_messages_come_back_with_their_bytes(document in document(), count in 0_usize..3) {
        let (_, sent) = sent(document.text.as_bytes());
        let back = grown(&document, count);
        let expected = if document.messages.is_empty() { 0 } else { count };
        let (written, returned) = returned(back.as_bytes(), document.text.as_bytes(), &sent.message_ids).unwrap();
        prop_assert_eq!(returned.new_message_ids.len(), expected);
        let written = String::from_utf8(written).unwrap();
        for index in 0..expected {
            let message = remote_message(index).replace(r#","snapshot":"s""#, "");
            prop_assert!(written.contains(&message));
        }
        prop_assert!(inspect(written.as_bytes(), &Limits::default()).is_ok());
    }

    #[test]
    fn any_document_cut_at_any_byte_is_an_error(document in document(), place in any::<prop::sample::Index>()) {
        let end = document.text.trim_ascii_end().len();
        let length = place.index(end);
        let cut = &document.text.as_bytes()[..length];
        let error = inspect(cut, &Limits::default()).unwrap_err();
        prop_assert!(matches!(error, DocumentError::Cut { .. }), "{}", error);
        prop_assert!(returned(cut, document.text.as_bytes(), &[]).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = inspect(bytes.as_slice(), &Limits::default());
    }

    #[test]
    fn no_damaged_document_makes_it_panic(document in document(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = document.text.clone().into_bytes();
        let at = place.index(bytes.len());
        bytes[at] = byte;
        if let Ok(found) = inspect(bytes.as_slice(), &Limits::default()) {
            let mut written = Vec::new();
            let _ = prepare_outgoing(bytes.as_slice(), &mut written, &found, &Outgoing::default(), &Limits::default());
        }
        let _ = returned(&bytes, document.text.as_bytes(), &[]);
    }
}
