//! From a launched job to its outcome: watch it, judge its end, bring its session back.

use std::time::Duration;

use super::bring_back::BringBack;
use super::failpoint::{FailPoint, reach};
use super::link::Link;
use super::request::Homecoming;
use super::running::Reporter;
use super::watch::{Watch, Watched};
use super::{Client, Ending, HandoffError, Outcome, Trip, local_files, remote};
use crate::agent::{Exit, ExitReason, Phase, RemoveAnswer};
use crate::events::Step;
use crate::job::{Evidence, JobKind, JobRecord, RESULT_LIMIT, State, now_ms};
use crate::ssh::RemotePath;

/// For how long a lost host is tried again once the job has ended: what is left to do there can wait.
pub(crate) const TIDY_PATIENCE: Duration = Duration::from_secs(20);

/// A launched job and what is to become of it.
pub(crate) struct Follow<'a> {
    pub(crate) client: &'a Client,
    pub(crate) reporter: &'a Reporter,
    pub(crate) record: &'a mut JobRecord,
    pub(crate) directory: RemotePath,
    pub(crate) homecoming: Homecoming,
    /// The host's clock, where it was asked just now, in milliseconds since 1970.
    pub(crate) clock_ms: Option<u64>,
}

impl Follow<'_> {
    /// Watches until the agent runs.
    pub(crate) async fn until_running(&mut self, link: &mut Link) -> Result<Outcome, HandoffError> {
        match self.watch(link, true).await? {
            None => Ok(self.outcome(Ending::Detached, None)),
            Some(Watched::AgentRuns) => Ok(self.outcome(Ending::Running, None)),
            Some(Watched::Vanished(evidence, reason)) => {
                Err(self.vanished(evidence, reason).await?)
            }
            Some(Watched::Ended(exit)) => {
                self.note_end(&exit).await?;
                match exit.reason {
                    ExitReason::Completed if self.record.state == State::Failed => {
                        Err(self.nothing_new(link, &exit).await?)
                    }
                    ExitReason::Completed => Ok(self.outcome(Ending::Running, None)),
                    _ => Err(self.remote_failure(link, &exit).await),
                }
            }
        }
    }

    /// Watches to the end and, when it is a good one, brings the session back; with `whatever_end` it brings
    /// back what there is.
    pub(crate) async fn see_through(
        &mut self,
        link: &mut Link,
        whatever_end: bool,
    ) -> Result<Outcome, HandoffError> {
        link.patience = None;
        match self.watch(link, false).await? {
            None | Some(Watched::AgentRuns) => Ok(self.outcome(Ending::Detached, None)),
            Some(Watched::Vanished(evidence, reason)) => {
                Err(self.vanished(evidence, reason).await?)
            }
            Some(Watched::Ended(exit)) => {
                self.note_end(&exit).await?;
                if !exit.has_result() || !(whatever_end || exit.reason == ExitReason::Completed) {
                    return Err(self.remote_failure(link, &exit).await);
                }
                self.bring_back(link, &exit).await
            }
        }
    }

    /// Brings back what an ended job left, whatever its end was.
    pub(crate) async fn bring_back(
        &mut self,
        link: &mut Link,
        exit: &Exit,
    ) -> Result<Outcome, HandoffError> {
        if self.record.kind == JobKind::Spawn {
            return self.take_spawned(link, exit).await;
        }
        let session = self
            .record
            .session
            .clone()
            .ok_or_else(|| HandoffError::NoSessionYet {
                job: self.record.id.clone(),
            })?;
        let back = BringBack {
            client: self.client,
            reporter: self.reporter,
            record: self.record,
            homecoming: self.homecoming,
            directory: &self.directory,
        };
        let fetched = tokio::select! {
            biased;
            () = self.reporter.detach.cancelled() => None,
            fetched = back.fetch(link, exit) => Some(fetched?),
        };
        if fetched.is_none() {
            return Ok(self.outcome(Ending::Detached, None));
        }
        let landed = back.land(&session, exit).await;
        let trip = match landed {
            Ok(trip) => trip,
            Err(HandoffError::NothingNew { .. }) => {
                self.record.nothing_new = true;
                return Err(self.nothing_new(link, exit).await?);
            }
            Err(error) => return Err(error),
        };
        let trip = self.introduced(trip);
        link.patience = Some(TIDY_PATIENCE);
        self.record.collected_ms = Some(now_ms());
        // A clean-up that is cut off is finished by whoever collects the job next, who need not ask for this again.
        self.record.forget = self.homecoming.forget;
        self.enter_answered(exit).await?;
        reach(FailPoint::Collected);
        self.clean_up(link).await;
        Ok(self.outcome(Ending::Completed, Some(trip)))
    }

    /// Notes in the store what the job's end makes of it.
    pub(crate) async fn note_end(&mut self, exit: &Exit) -> Result<(), HandoffError> {
        self.record.end(exit, end_words(exit));
        self.client.store().update(self.record).await?;
        reach(FailPoint::EndNoted);
        Ok(())
    }

    pub(crate) async fn enter(&mut self, state: State) -> Result<(), HandoffError> {
        self.record.enter(state);
        Ok(self.client.store().update(self.record).await?)
    }

    /// Notes the end of a job whose agent has answered, also where none of its events told of that.
    pub(crate) async fn enter_answered(&mut self, exit: &Exit) -> Result<(), HandoffError> {
        let state = if exit.reason == ExitReason::Completed {
            self.record.error = None;
            State::Completed
        } else if exit.reason.is_kill() {
            State::Killed
        } else {
            State::Failed
        };
        self.enter(state).await
    }

    /// The end of a job whose agent has answered nothing, as an error; the record says so then.
    pub(crate) async fn nothing_new(
        &mut self,
        link: &mut Link,
        exit: &Exit,
    ) -> Result<HandoffError, HandoffError> {
        if exit.reason != ExitReason::Completed {
            if self.record.state.is_live() {
                self.enter(State::Failed).await?;
            }
            return Ok(self.remote_failure(link, exit).await);
        }
        self.record.enter(State::Failed);
        let mut error = HandoffError::NothingNew {
            host: self.record.host.clone(),
            tail: String::new(),
        };
        self.record.error = Some(error.to_string());
        self.client.store().update(self.record).await?;
        if let HandoffError::NothingNew { tail, .. } = &mut error {
            *tail = self.error_tail(link).await;
        }
        Ok(error)
    }

    /// What a runner's bad end means, with the end of the agent's error output.
    pub(crate) async fn remote_failure(&mut self, link: &mut Link, exit: &Exit) -> HandoffError {
        let tail = self.error_tail(link).await;
        let error = HandoffError::Remote {
            host: self.record.host.clone(),
            phase: phase_words(exit),
            reason: reason_words(exit),
            code: exit.code.map(i32::from),
            result: exit.has_result(),
            tail,
        };
        self.record.error = Some(error.to_string());
        if let Err(store) = self.client.store().update(self.record).await {
            self.reporter
                .warn(format!("the end of the job is not recorded: {store}"))
                .await;
        }
        error
    }

    /// The result, behind what its reader must know first.
    pub(crate) fn introduced(&mut self, mut trip: Trip) -> Trip {
        self.record.result = trip.text.clone().map(|mut text| {
            text.truncate(text.floor_char_boundary(RESULT_LIMIT));
            text
        });
        if let Some(notice) = &self.record.notice {
            let text = trip.text.unwrap_or_default();
            trip.text = Some(format!("[handover] {notice}.\n{text}"));
        }
        trip
    }

    pub(crate) fn outcome(&self, ending: Ending, trip: Option<Trip>) -> Outcome {
        Outcome {
            ending,
            job: self.record.id.clone(),
            host: self.record.host.clone(),
            kind: self.record.kind,
            session: self.record.session.clone(),
            mode: self.record.mode,
            trip,
            duration_ms: now_ms().saturating_sub(self.record.created_ms()),
        }
    }

    /// `None` when the caller detached.
    async fn watch(
        &mut self,
        link: &mut Link,
        until_running: bool,
    ) -> Result<Option<Watched>, HandoffError> {
        let mut watch = Watch::new(
            self.client.store(),
            &self.directory,
            self.reporter,
            self.record,
        );
        watch.buries = true;
        if let Some(clock_ms) = self.clock_ms {
            watch.set_clock(clock_ms);
        }
        let watched = tokio::select! {
            biased;
            () = self.reporter.detach.cancelled() => Ok(None),
            watched = watch.run(link, until_running) => watched.map(Some),
        };
        watch.seen.note_in(self.record);
        watched
    }

    async fn vanished(
        &mut self,
        evidence: Evidence,
        reason: &'static str,
    ) -> Result<HandoffError, HandoffError> {
        self.record.note(evidence);
        let error = HandoffError::Vanished {
            job: self.record.id.clone(),
            host: self.record.host.clone(),
            state: self.record.state,
            reason,
        };
        self.record.error = Some(error.to_string());
        self.client.store().update(self.record).await?;
        Ok(error)
    }

    /// The end of the agent's error output; nothing when the caller detaches, or the host is gone.
    pub(crate) async fn error_tail(&self, link: &mut Link) -> String {
        link.patience = Some(TIDY_PATIENCE);
        tokio::select! {
            biased;
            () = self.reporter.detach.cancelled() => String::new(),
            tail = remote::error_tail(link, &self.directory) => tail,
        }
    }

    /// Removes the job's files there and here. The session is safe by now, so a failure is only told, with the
    /// way to try again.
    pub(crate) async fn clean_up(&mut self, link: &mut Link) {
        self.reporter.step(Step::Cleanup, "").await;
        let cleaned = tokio::select! {
            biased;
            () = self.reporter.detach.cancelled() => Err("it was not waited for".to_owned()),
            cleaned = self.clean_host(link) => cleaned,
        };
        match cleaned {
            Ok(()) => {
                reach(FailPoint::HostCleaned);
                self.record.cleaned_ms = Some(now_ms());
                if let Err(error) = self.client.store().update(self.record).await {
                    self.reporter.warn(error.to_string()).await;
                }
                reach(FailPoint::CleanNoted);
            }
            Err(reason) => {
                self.reporter
                    .warn(format!(
                        "the session is back, and what the job left on {} is still there ({reason}); \
                         'handover collect {}' tidies up",
                        self.record.host, self.record.id
                    ))
                    .await;
            }
        }
        if let Err(error) = local_files::remove_all(self.client.places(), &self.record.id) {
            self.reporter.warn(error.to_string()).await;
        }
        reach(FailPoint::LocalCleaned);
    }

    async fn clean_host(&self, link: &mut Link) -> Result<(), String> {
        // The machine that sent it may still want it.
        if self.record.sender.is_some() {
            return Ok(());
        }
        let mut forgotten = !self.homecoming.forget;
        loop {
            match self.clean_once(link, &mut forgotten).await {
                Ok(cleaned) => return cleaned,
                Err(error) => link
                    .recover(error)
                    .await
                    .map_err(|error| error.to_string())?,
            }
        }
    }

    /// The inner error is the host's own.
    async fn clean_once(
        &self,
        link: &mut Link,
        forgotten: &mut bool,
    ) -> Result<Result<(), String>, HandoffError> {
        let live = link.live().await?;
        if !*forgotten {
            if let Err(said) = remote::forget(&live, &self.directory).await? {
                return Ok(Err(format!("the session was not deleted: {said}")));
            }
            *forgotten = true;
        }
        Ok(match remote::remove(&live, &self.directory).await? {
            RemoveAnswer::Removed => Ok(()),
            RemoveAnswer::Alive => Err("the runner still lives".to_owned()),
            RemoveAnswer::Failed(said) => Err(said),
        })
    }
}

/// The phase that failed: an agent that ended badly did so before the export that followed.
fn phase_words(exit: &Exit) -> &'static str {
    let agent_failed = matches!(
        exit.reason,
        ExitReason::AgentFailed | ExitReason::AgentSignalled
    );
    let ended_early = exit.reason.is_kill() || exit.reason == ExitReason::RunnerDied;
    match exit.phase {
        _ if agent_failed => "run",
        Phase::Importing => "import",
        Phase::Running => "run",
        Phase::Exporting if ended_early => "run",
        Phase::Exporting => "export",
    }
}

/// [`reason_words`] of an end that was not wished for.
pub(crate) fn end_words(exit: &Exit) -> Option<String> {
    (exit.reason != ExitReason::Completed).then(|| reason_words(exit))
}

/// Why a runner ended, in words that hold nothing of the host.
fn reason_words(exit: &Exit) -> String {
    match exit.reason {
        ExitReason::Completed => "there is no result".to_owned(),
        ExitReason::AgentFailed => format!(
            "the agent ended with status {}",
            exit.code.unwrap_or_default()
        ),
        ExitReason::AgentSignalled => format!(
            "the agent was ended by signal {}",
            exit.signal().unwrap_or_default()
        ),
        ExitReason::AgentMissing => "the agent's program is gone".to_owned(),
        ExitReason::WorkdirFailed => "the work directory cannot be made or entered".to_owned(),
        ExitReason::ImportFailed => "the agent did not import the session".to_owned(),
        ExitReason::Clock => "the host's clock is too far behind the newest message".to_owned(),
        ExitReason::ExportFailed => {
            "the result is missing: the agent's export failed or was cut".to_owned()
        }
        ExitReason::Stopped => "it was stopped".to_owned(),
        ExitReason::RunnerDied => "the runner was ended on the host, and then its agent".to_owned(),
        ExitReason::Killed => "it was killed".to_owned(),
        ExitReason::MaxTime => "it was killed: its time limit was over".to_owned(),
        ExitReason::KilledStalled => "it was killed: nothing had come from the agent".to_owned(),
        ExitReason::KilledLooping => "it was killed: the agent went in circles".to_owned(),
        _ => "the runner failed".to_owned(),
    }
}
