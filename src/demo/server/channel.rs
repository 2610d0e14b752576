//! What a client sends on a channel, read so that no channel can hold up its connection.
//!
//! The main type is [`Input`].

use russh::{ChannelMsg, ChannelReadHalf};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// The bytes that a client sends on a channel, in order, until it says that there are no more.
///
/// The queue has no bound of its own. russh refills a channel's window when data arrives and not when it is
/// read, and serves nothing else of the connection while a channel's queue is full: a bound here would turn a
/// command that does not read its input (or that cannot write its output) into a frozen connection. What is
/// queued is at most what the one authorised client chose to send.
pub(super) type Input = mpsc::UnboundedReceiver<Bytes>;

/// Reads the channel until it closes. `closed` fires then; the input ends before that if the client says so.
pub(super) async fn drain(
    mut channel: ChannelReadHalf,
    input: mpsc::UnboundedSender<Bytes>,
    closed: CancellationToken,
) {
    let mut input = Some(input);
    loop {
        let message = tokio::select! {
            () = closed.cancelled() => return,
            message = channel.wait() => message,
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                if let Some(sender) = &input
                    && sender.send(data).is_err()
                {
                    // Nobody reads any more; what still comes is thrown away.
                    input = None;
                }
            }
            Some(ChannelMsg::Eof) => input = None,
            Some(ChannelMsg::Close) | None => {
                closed.cancel();
                return;
            }
            Some(_) => {}
        }
    }
}
