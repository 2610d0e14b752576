//! A follow-up message for a running agent.
//!
//! The main function is [`say`]. The invariant: a message is taken exactly once or refused, also when the link is lost
//! in between: it has a name of its own, and the job's script, which moves it into the inbox, knows where it has been.

use std::sync::atomic::{AtomicU64, Ordering};

use super::failpoint::{FailPoint, reach};
use super::link::Link;
use super::running::Reporter;
use super::{Client, HandoffError, remote};
use crate::agent::{Delivery, names};
use crate::job::{JobRecord, now_ms};

/// The newest name's time that this process has given.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A name that no other message has. It sorts behind every earlier one of this process, and by this machine's clock
/// behind those of others: scripts of older versions go by that, and later ones number what they deliver.
fn new_name() -> String {
    let mut time = now_ms();
    let advance = |last| Some(now_ms().max(last + 1));
    if let Ok(last) = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance) {
        time = time.max(last + 1);
    }
    let random: u32 = rand::random();
    format!("{time:015}-{random:08x}")
}

/// Gives a message to a job's agent, which reads it after its present turn.
pub(crate) async fn say(
    client: &Client,
    record: &JobRecord,
    message: &str,
) -> Result<(), HandoffError> {
    let closed = || HandoffError::InboxClosed {
        job: record.id.clone(),
        host: record.host.clone(),
    };
    let unlaunched = || HandoffError::NotLaunched {
        job: record.id.clone(),
        host: record.host.clone(),
    };
    let gone = || match record.was_launched() {
        true => closed(),
        false => unlaunched(),
    };
    if record.ended_unsent() {
        return Err(unlaunched());
    }
    let Some(place) = record
        .remote
        .clone()
        .filter(|_| record.cleaned_ms.is_none())
    else {
        return Err(gone());
    };
    let host = client.host(record.host.as_str())?;
    let mut link = Link::to_job(client, &host, record, Reporter::unheard())?;
    let name = new_name();
    let file = place.job_directory.join(&names::message(&name));
    let mut sent = false;
    let result = loop {
        let live = match link.live().await {
            Ok(live) => live,
            Err(error) => break Err(error),
        };
        let delivered = async {
            if !sent {
                live.files().await?.write(&file, message.as_bytes()).await?;
                sent = true;
                reach(FailPoint::MessageWritten);
            }
            let answer = remote::deliver(&live, &place.job_directory, &name).await;
            reach(FailPoint::MessageGiven);
            answer
        };
        match delivered.await {
            Ok(Delivery::Taken) => break Ok(()),
            Ok(Delivery::Closed) => break Err(closed()),
            Ok(Delivery::Gone) => break Err(gone()),
            Ok(Delivery::Unlaunched) => break Err(unlaunched()),
            // The file is not there although it was written: the connection was lost before it was renamed.
            Ok(Delivery::Missing) if sent => sent = false,
            Ok(Delivery::Missing) => break Err(closed()),
            // Before the launch the script may not be there yet; after it the directory is gone.
            Err(HandoffError::Ssh(crate::ssh::SshError::NotFound { .. })) => break Err(gone()),
            Err(error) => {
                if let Err(error) = link.recover(error).await {
                    break Err(error);
                }
            }
        }
    };
    link.close();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_in_the_order_in_which_they_were_given() {
        let names: Vec<String> = (0..200).map(|_| new_name()).collect();
        assert!(names.is_sorted());
        let ascii = |name: &String| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        assert!(names.iter().all(ascii));
    }
}
