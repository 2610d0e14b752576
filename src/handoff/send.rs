//! Sending a session: record it, have it prepared, launch it once, and follow it.

use std::time::Duration;

use super::failpoint::{FailPoint, reach};
use super::follow::Follow;
use super::link::Link;
use super::lock::JobLock;
use super::request::HandoffBuilder;
use super::running::Reporter;
use super::{Ending, Failure, HandoffError, Outcome, collect, local_files, manual, remote};
use crate::agent::{LaunchAnswer, Mode, Nonce, names};
use crate::events::{Event, Step};
use crate::job::{Bounds, JobKind, JobRecord, State, StoreError};
use crate::session::SessionId;
use crate::ssh::RemotePath;

/// How long a launch that is under way may still answer after the caller has detached.
const LAUNCH_GRACE: Duration = Duration::from_secs(2);

/// A handoff in the making.
pub(super) struct Sending {
    pub(super) request: HandoffBuilder,
    pub(super) reporter: Reporter,
    pub(super) record: JobRecord,
    pub(super) link: Link,
    /// The job's directory, from the moment the host has made it.
    pub(super) directory: Option<RemotePath>,
    /// Nobody else on this machine writes the record or brings the job back meanwhile.
    lock: JobLock,
}

pub(crate) async fn send(request: HandoffBuilder, reporter: Reporter) -> Result<Outcome, Failure> {
    let detach = reporter.detach.clone();
    let session = tokio::select! {
        biased;
        () = detach.cancelled() => return Err(HandoffError::CalledOff.into()),
        session = session_of(&request) => session?,
    };
    let mut sending = Sending::begin(request, reporter, session).await?;
    let prepared = tokio::select! {
        biased;
        () = detach.cancelled() => Err(HandoffError::CalledOff),
        prepared = sending.prepare() => prepared,
    };
    let result = match prepared {
        Ok(directory) => sending.launch_and_follow(directory).await,
        Err(error) => Err(sending.give_up(error).await),
    };
    sending.link.close();
    if sending.record.cleaned_ms.is_some()
        || !sending.record.was_launched() && !sending.record.state.is_live()
    {
        sending.lock.retire();
    }
    let (record, places) = (&sending.record, sending.request.client.places());
    result.map_err(|error| Failure {
        manual: manual::steps(record, places, &error),
        job: Some(record.id.clone()),
        error,
    })
}

impl Sending {
    /// Records the job: nothing remote happens before that. Not to be cancelled, for a record that was being written
    /// would be there all the same.
    async fn begin(
        request: HandoffBuilder,
        reporter: Reporter,
        session: Option<SessionId>,
    ) -> Result<Self, Failure> {
        let (spawn, watchdogs) = (request.spawn.as_ref(), request.watchdogs);
        let mut bounds = Bounds {
            kill_on_stall: watchdogs.kill_on_stall || request.host.kill_on_stall,
            kill_on_loop: watchdogs.kill_on_loop,
            ..Bounds::default()
        };
        if let Some(inactivity) = watchdogs.inactivity.or(request.host.inactivity) {
            bounds = bounds.inactivity(inactivity);
        }
        if let Some(limit) = watchdogs.loop_limit {
            bounds.loop_limit = limit;
        }
        let message = spawn
            .map(|spawn| &spawn.prompt)
            .or(request.message.as_ref());
        let record = JobRecord {
            parent: request.parent.clone(),
            title: spawn.and_then(|spawn| spawn.title.clone()),
            prompt: message.and_then(|message| JobRecord::preview(message)),
            bounds,
            directory: text(
                request
                    .directory
                    .as_ref()
                    .or(request.host.directory.as_ref()),
            ),
            agent: text(request.agent.as_ref().or(request.host.agent.as_ref())),
            model: text(request.model.as_ref().or(request.host.model.as_ref())),
            forget: request.homecoming.forget,
            ..JobRecord::new(
                if spawn.is_some() {
                    JobKind::Spawn
                } else {
                    JobKind::Handoff
                },
                request.host.name.clone(),
                session.clone(),
                request.mode,
                request.from_directory.clone(),
            )
        };
        let lock = JobLock::take(request.client.places(), &record.id)?.ok_or_else(|| {
            HandoffError::JobBusy {
                job: record.id.clone(),
            }
        })?;
        let mut link = Link::new(
            request.client.target(&request.host)?,
            request.client.pool().clone(),
            reporter.clone(),
        );
        link.mark(request.client.store(), &record);
        let sending = Self {
            request,
            reporter,
            record,
            link,
            directory: None,
            lock,
        };
        sending.take_session().await?;
        reach(FailPoint::Recorded);
        sending
            .reporter
            .tell(Event::Job {
                job: sending.record.id.to_string(),
                host: sending.record.host.to_string(),
                session: session.map(|session| session.to_string()),
            })
            .await;
        Ok(sending)
    }

    /// Takes the session for this job. A job that holds it and has ended on its host in the meantime is
    /// settled first.
    async fn take_session(&self) -> Result<(), HandoffError> {
        let store = self.request.client.store();
        match store.insert(&self.record).await {
            Err(StoreError::SessionBusy { .. }) => {}
            other => return Ok(other?),
        }
        if let Some(session) = &self.record.session
            && let Some(holder) = store.live(session).await?
        {
            collect::settle_if_ended(&self.request.client, holder, &self.reporter).await?;
        }
        Ok(store.insert(&self.record).await?)
    }

    async fn launch_and_follow(&mut self, directory: RemotePath) -> Result<Outcome, HandoffError> {
        let detach = self.reporter.detach.clone();
        let detached = async {
            detach.cancelled().await;
            tokio::time::sleep(LAUNCH_GRACE).await;
        };
        let launched = tokio::select! {
            biased;
            launched = self.launch(&directory) => Some(launched?),
            () = detached => None,
        };
        let mut follow = Follow {
            client: &self.request.client,
            reporter: &self.reporter,
            record: &mut self.record,
            directory,
            homecoming: self.request.homecoming,
            clock_ms: None,
        };
        if launched.is_none() {
            // Whether it runs is for the host's files to say: whoever collects the job reads them.
            return Ok(follow.outcome(Ending::Detached, None));
        }
        let workspace = self
            .request
            .client
            .places()
            .job_dir(follow.record.id.as_str());
        for name in [local_files::EXPORT, local_files::SENT] {
            if let Err(left) = local_files::remove(&workspace.join(name)) {
                self.reporter.warn(left.to_string()).await;
            }
        }
        reach(FailPoint::LaunchTidied);
        match self.request.mode {
            Mode::OneWay => follow.until_running(&mut self.link).await,
            Mode::RoundTrip => follow.see_through(&mut self.link, false).await,
        }
    }

    /// Launches the runner. A lost answer is asked for again with the same nonce: the claim tells it apart.
    async fn launch(&mut self, directory: &RemotePath) -> Result<(), HandoffError> {
        self.reporter.step(Step::Launch, "").await;
        if let Err(error) = self.enter(State::Launching).await {
            return Err(self.give_up(error).await);
        }
        reach(FailPoint::LaunchNoted);
        self.link.launched = true;
        let nonce = Nonce::generate();
        let answer = loop {
            let live = self.link.live().await?;
            match remote::launch(&live, directory, &nonce).await {
                Ok(answer) => break answer,
                Err(error) => self.link.recover(error).await?,
            }
        };
        reach(FailPoint::LaunchAnswered);
        let (job, host) = (self.record.id.clone(), self.record.host.clone());
        let (state, error) = match answer {
            LaunchAnswer::Started(_) => {
                self.enter(State::Running).await?;
                reach(FailPoint::LaunchedNoted);
                return Ok(());
            }
            LaunchAnswer::Full { count } => {
                match self.remove_sent(directory).await {
                    Ok(()) => self.record.remote = None,
                    Err(left) => tracing::info!(%left, "what was sent could not be removed"),
                }
                let limit = self.request.host.max_jobs;
                (
                    State::Failed,
                    HandoffError::TooManyJobs { host, count, limit },
                )
            }
            LaunchAnswer::Tombstone => (State::Killed, HandoffError::ClosedBeforeLaunch { job }),
            // It may still start: the job keeps its session until somebody collects it.
            LaunchAnswer::Unknown | LaunchAnswer::Taken => {
                (State::Launching, HandoffError::NeverStarted { job, host })
            }
            LaunchAnswer::Incomplete { file } => {
                (State::Failed, HandoffError::Incomplete { host, file })
            }
            LaunchAnswer::Missing => (
                State::Failed,
                HandoffError::Incomplete {
                    host,
                    file: names::SCRIPT.to_owned(),
                },
            ),
            _ => {
                let reason = "the launch could not write there".to_owned();
                (
                    State::Failed,
                    self.state_directory_problem(directory.to_string(), reason),
                )
            }
        };
        self.record.error = Some(error.to_string());
        self.enter(state).await?;
        Err(error)
    }

    /// Enters a state, in the store and then here: what could not be written down has not happened.
    async fn enter(&mut self, state: State) -> Result<(), HandoffError> {
        let mut record = self.record.clone();
        record.enter(state);
        self.request.client.store().update(&mut record).await?;
        self.record = record;
        Ok(())
    }

    /// Ends a handoff that was not launched: the session is free, and what was sent is removed where the host
    /// can still be reached.
    async fn give_up(&mut self, error: HandoffError) -> HandoffError {
        if let Some(directory) = self.directory.clone() {
            match self.remove_sent(&directory).await {
                Ok(()) => self.record.remote = None,
                Err(left) => tracing::info!(%left, "what was sent could not be removed"),
            }
        }
        self.record.error = Some(error.to_string());
        let called_off = matches!(error, HandoffError::CalledOff);
        let state = if called_off {
            State::Killed
        } else {
            State::Failed
        };
        if let Err(store) = self.enter(state).await {
            self.reporter
                .warn(format!("the end of the job is not recorded: {store}"))
                .await;
        }
        if let Err(left) = local_files::remove_all(self.request.client.places(), &self.record.id) {
            self.reporter.warn(left.to_string()).await;
        }
        error
    }

    async fn remove_sent(&mut self, directory: &RemotePath) -> Result<(), HandoffError> {
        let Some(live) = self.link.connected() else {
            return Err(HandoffError::Aborted);
        };
        if remote::clean(&live.connection, directory).await? {
            return Ok(());
        }
        Err(HandoffError::StateDirectory {
            host: self.record.host.clone(),
            directory: directory.to_string(),
            reason: "it could not be removed".to_owned(),
        })
    }
}

fn text(value: Option<&impl ToString>) -> Option<String> {
    value.map(ToString::to_string)
}

/// The session that moves; none where one is made on the host.
async fn session_of(request: &HandoffBuilder) -> Result<Option<SessionId>, HandoffError> {
    if request.spawn.is_some() {
        return Ok(None);
    }
    // Without the program there is nothing to export with, and no job to be recorded.
    let agent = request.client.local_agent()?;
    if let Some(session) = &request.session {
        return Ok(Some(session.clone()));
    }
    match agent.newest_session(&request.from_directory).await? {
        Some(entry) => Ok(Some(entry.id)),
        None => Err(HandoffError::NoSession {
            directory: request.from_directory.clone(),
        }),
    }
}
