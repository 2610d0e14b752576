//! The keys that an agent says it has.
//!
//! Main function: [`request`]. Invariant: one entry that cannot be read costs that entry alone, and what an agent sends
//! is bounded. The frames are those of draft-miller-ssh-agent, section 4.4.

use std::io;

use russh::keys::Error as KeyError;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::{AgentClient, AgentStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// `SSH_AGENTC_REQUEST_IDENTITIES` as a frame.
const REQUEST_IDENTITIES: [u8; 5] = [0, 0, 0, 1, 11];
/// `SSH_AGENT_IDENTITIES_ANSWER`.
const IDENTITIES_ANSWER: u8 = 12;
/// The longest frame, in bytes, as OpenSSH has it.
const MAX_FRAME: usize = 256 * 1024;

/// What an agent has.
#[derive(Debug, Default)]
pub(in crate::ssh) struct Held {
    /// The keys and certificates, in its order.
    pub(in crate::ssh) keys: Vec<AgentIdentity>,
    /// How many more there are that cannot be read.
    pub(in crate::ssh) unreadable: u32,
}

/// Asks an agent for its keys; one that refuses has none.
///
/// # Errors
/// When the agent is gone or does not keep to the protocol.
pub(super) async fn request(
    stream: &mut (impl AgentStream + Unpin + ?Sized),
) -> Result<Held, KeyError> {
    stream.write_all(&REQUEST_IDENTITIES).await?;
    stream.flush().await?;
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(KeyError::AgentProtocolError);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(read(&body).await)
}

/// Reads the body of an answer. The entries behind one whose length is wrong cannot be told apart, and do not count.
async fn read(body: &[u8]) -> Held {
    let mut held = Held::default();
    let Some((&IDENTITIES_ANSWER, rest)) = body.split_first() else {
        return held;
    };
    let Some((count, mut rest)) = rest.split_first_chunk() else {
        return held;
    };
    let count = u32::from_be_bytes(*count);
    while let Some(entry) = string(&mut rest).zip(string(&mut rest)) {
        let (blob, comment) = entry;
        match identity(blob, &String::from_utf8_lossy(comment)).await {
            Ok(Some(identity)) => held.keys.push(identity),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a key of the agent cannot be read"),
        }
    }
    let read = u32::try_from(held.keys.len()).unwrap_or(u32::MAX);
    held.unreadable = count.saturating_sub(read);
    held
}

/// Reads one entry as the library reads a whole answer, where one bad entry would be the end of all.
async fn identity(blob: &[u8], comment: &str) -> Result<Option<AgentIdentity>, KeyError> {
    let mut body = vec![IDENTITIES_ANSWER];
    body.extend(1_u32.to_be_bytes());
    for part in [blob, comment.as_bytes()] {
        body.extend(length(part)?);
        body.extend(part);
    }
    let mut frame = length(&body)?.to_vec();
    frame.extend(body);
    let answer = tokio::io::join(frame.as_slice(), tokio::io::sink());
    let mut identities = AgentClient::connect(answer).request_identities().await?;
    Ok(identities.pop())
}

fn length(bytes: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    Ok(length.to_be_bytes())
}

/// Takes a string (RFC 4251 section 5) off the front.
fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(string)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;
    use russh::keys::ssh_key::private::Ed25519Keypair;
    use russh::keys::{PrivateKey, PublicKeyBase64 as _};

    use super::*;

    /// An ed25519 public key in the form of the wire.
    fn blob(seed: u8) -> Vec<u8> {
        let pair = Ed25519Keypair::from_seed(&[seed; 32]);
        PrivateKey::from(pair).public_key().public_key_bytes()
    }

    fn answer(count: u32, entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut body = vec![IDENTITIES_ANSWER];
        body.extend(count.to_be_bytes());
        for part in entries.iter().flat_map(|(blob, comment)| [blob, comment]) {
            body.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            body.extend(part);
        }
        body
    }

    fn held(body: &[u8]) -> Held {
        read(body).now_or_never().expect("it is all in memory")
    }

    fn comments(held: &Held) -> Vec<&str> {
        held.keys.iter().map(AgentIdentity::comment).collect()
    }

    #[test]
    fn a_key_of_no_known_kind_and_a_comment_that_is_no_text_cost_no_other_key() {
        let unknown = [&[0, 0, 0, 7][..], b"ssh-new", &[1, 2, 3]].concat();
        let nested = b"-cert-v01@openssh.com".repeat(20);
        let entries = [
            (unknown, b"new".to_vec()),
            (blob(1), b"\xff".to_vec()),
            (nested, b"deep".to_vec()),
            (Vec::new(), Vec::new()),
            (blob(2), b"second".to_vec()),
        ];
        let held = held(&answer(5, &entries));
        assert_eq!(comments(&held), ["\u{fffd}", "second"]);
        assert_eq!(held.unreadable, 3);
    }

    #[test]
    fn an_answer_that_is_cut_off_keeps_what_was_whole() {
        let entries = [(blob(1), b"first".to_vec()), (blob(2), b"second".to_vec())];
        let mut body = answer(2, &entries);
        body.pop();
        let held = held(&body);
        assert_eq!(comments(&held), ["first"]);
        assert_eq!(held.unreadable, 1);
    }

    #[tokio::test]
    async fn a_frame_is_bounded_and_a_refusal_is_no_keys() {
        async fn asked(frame: &[u8]) -> Result<Held, KeyError> {
            request(&mut tokio::io::join(frame, tokio::io::sink())).await
        }
        assert!(asked(&[0, 0, 0, 1, 5]).await.unwrap().keys.is_empty());
        assert!(asked(&[0, 4, 0, 1, 12]).await.is_err());
        assert!(asked(&[0, 0, 0, 9, 12]).await.is_err());
    }

    proptest! {
        #[test]
        fn good_keys_survive_among_whatever_else_an_agent_says(
            before in any::<Vec<u8>>(),
            comment in any::<Vec<u8>>(),
            after in any::<Vec<u8>>(),
            tail in any::<Vec<u8>>(),
            count: u32,
        ) {
            let entries = [(before, comment.clone()), (blob(1), comment), (after, Vec::new()), (blob(2), b"last".to_vec())];
            let mut body = answer(count, &entries);
            body.extend(tail);
            let held = held(&body);
            let good = held.keys.iter().filter(|identity| {
                [blob(1), blob(2)].contains(&identity.public_key().public_key_bytes())
            });
            prop_assert_eq!(good.count(), 2);
        }

        #[test]
        fn no_answer_is_too_strange_to_be_read(mut body in any::<Vec<u8>>()) {
            held(&body);
            body.insert(0, IDENTITIES_ANSWER);
            held(&body);
        }
    }
}
