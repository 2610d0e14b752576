//! A handoff at work: its events, its detaching, its outcome.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Failure, HandoffError, Outcome};
use crate::events::Event;

/// How many events wait for a slow reader before the flow waits too: enough for a burst of tool calls, and
/// little memory even when each event is a long text.
const EVENT_BUFFER: usize = 256;

/// A handoff or a collection at work.
///
/// Read events with [`Running::next_event`], then take the [`Running::outcome`]. A reader that stops
/// reading slows the watching down and never the agent. Dropping this detaches: what was launched goes on.
#[derive(Debug)]
pub struct Running {
    events: mpsc::Receiver<Event>,
    detach: CancellationToken,
    task: Option<JoinHandle<Result<Outcome, Failure>>>,
}

/// The flow's end of [`Running`].
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    events: mpsc::Sender<Event>,
    pub(crate) detach: CancellationToken,
}

impl Reporter {
    /// For work whose steps nobody follows: what it tells goes nowhere, warnings into the log.
    pub(crate) fn unheard() -> Self {
        let (events, _) = mpsc::channel(1);
        Self {
            events,
            detach: CancellationToken::new(),
        }
    }

    /// Tells an event. Nobody listening is no error: the work does not depend on it.
    pub(crate) async fn tell(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            tracing::trace!("nobody reads the events any more");
        }
    }

    /// Tells an event that may be left out when the reader is slow: progress.
    pub(crate) fn tell_if_room(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            tracing::trace!("a progress event was left out");
        }
    }

    pub(crate) async fn step(&self, step: crate::events::Step, detail: impl Into<String>) {
        let detail = detail.into();
        tracing::info!(?step, "step");
        self.tell(Event::Step { step, detail }).await;
    }

    pub(crate) async fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        if self.events.is_closed() {
            tracing::warn!("{message}");
        }
        self.tell(Event::Warning { message }).await;
    }
}

impl Running {
    pub(crate) fn start<F, W>(work: W) -> Self
    where
        W: FnOnce(Reporter) -> F,
        F: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        let (sender, events) = mpsc::channel(EVENT_BUFFER);
        let detach = CancellationToken::new();
        let task = tokio::spawn(work(Reporter {
            events: sender,
            detach: detach.clone(),
        }));
        Self {
            events,
            detach,
            task: Some(task),
        }
    }

    /// Waits for the next event; `None` once the work has ended.
    ///
    /// Cancel safe: an event is either returned or still to come.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// A token that detaches when it is cancelled: before the launch the handoff is called off, after it
    /// the job goes on and is collected later.
    #[must_use]
    pub fn detacher(&self) -> CancellationToken {
        self.detach.clone()
    }

    /// Waits for the end, leaving out events that were not read.
    ///
    /// Dropping the future detaches.
    ///
    /// # Errors
    /// A [`Failure`]: the error, and what a person can do by hand.
    pub async fn outcome(mut self) -> Result<Outcome, Failure> {
        while self.events.recv().await.is_some() {}
        match self.task.take() {
            Some(task) => match task.await {
                Ok(result) => result,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(HandoffError::Aborted.into()),
                },
            },
            None => Err(HandoffError::Aborted.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.detach.cancel();
    }
}
