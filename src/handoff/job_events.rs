//! A job's events as a stream.
//!
//! The main type is [`JobEvents`]. The invariant: an event is given once, however often the waiting for it was given up.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use super::{HandoffError, LogReader};
use crate::agent::EventParser;
use crate::events::AgentEvent;

/// A job's events, as they come.
///
/// A [`Stream`] of them, which ends when the job has; an error is its last item.
pub struct JobEvents {
    state: State,
}

enum State {
    Idle(Box<Source>),
    Reading(Reading),
    Over,
}

/// What is under way when an event is waited for: kept, whoever stops waiting.
type Reading =
    Pin<Box<dyn Future<Output = (Box<Source>, Result<Option<AgentEvent>, HandoffError>)> + Send>>;

struct Source {
    reader: LogReader,
    parser: EventParser,
    waiting: Vec<AgentEvent>,
}

impl JobEvents {
    pub(super) fn new(reader: LogReader) -> Self {
        Self {
            state: State::Idle(Box::new(Source {
                reader,
                parser: EventParser::new(),
                waiting: Vec::new(),
            })),
        }
    }

    /// Waits for the next event; `None` once the job has ended and all were given, and after an error.
    ///
    /// Cancel safe: an event is either returned or still to come.
    ///
    /// # Errors
    /// As [`LogReader::next`].
    pub async fn next(&mut self) -> Result<Option<AgentEvent>, HandoffError> {
        std::future::poll_fn(|context| self.poll(context))
            .await
            .transpose()
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<AgentEvent, HandoffError>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Idle(mut source) => match source.waiting.pop() {
                    Some(event) => {
                        self.state = State::Idle(source);
                        return Poll::Ready(Some(Ok(event)));
                    }
                    None => self.state = State::Reading(Box::pin(source.next())),
                },
                State::Reading(mut reading) => match reading.as_mut().poll(context) {
                    Poll::Pending => {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready((source, Ok(Some(event)))) => {
                        self.state = State::Idle(source);
                        return Poll::Ready(Some(Ok(event)));
                    }
                    Poll::Ready((_, Ok(None))) => return Poll::Ready(None),
                    Poll::Ready((_, Err(error))) => return Poll::Ready(Some(Err(error))),
                },
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for JobEvents {
    type Item = Result<AgentEvent, HandoffError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

impl Source {
    /// Reads on; with the events behind the first one waiting in itself.
    async fn next(mut self: Box<Self>) -> (Box<Self>, Result<Option<AgentEvent>, HandoffError>) {
        loop {
            match self.reader.next().await {
                Ok(Some(bytes)) => {
                    self.waiting = self.parser.push(&bytes);
                    self.waiting.reverse();
                    if let Some(event) = self.waiting.pop() {
                        return (self, Ok(Some(event)));
                    }
                }
                Ok(None) => {
                    let last = self.parser.finish();
                    return (self, Ok(last));
                }
                Err(error) => return (self, Err(error)),
            }
        }
    }
}

impl fmt::Debug for JobEvents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Idle(source) => format!("idle at {:?}", source.reader),
            State::Reading(_) => "reading".to_owned(),
            State::Over => "over".to_owned(),
        };
        formatter
            .debug_struct("JobEvents")
            .field("state", &state)
            .finish()
    }
}
