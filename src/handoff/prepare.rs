//! Everything before the launch: export, look at the host, patch, upload.
//!
//! The invariant: nothing runs on the host after a failure here.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};

use super::bring_back::{blocking, export, open};
use super::clock::Skew;
use super::failpoint::{FailPoint, reach};
use super::link::{Link, Live};
use super::request::HandoffBuilder;
use super::running::Reporter;
use super::send::Sending;
use super::{HandoffError, local_files, remote};
use crate::agent::{
    JobLimits, JobSpec, LocalIdentity, Mode, Place, Probe, ProbeFor, ProbeRequest, WorkDirectory,
    continuation, moved_output, names,
};
use crate::events::{Event, Step};
use crate::hosts::HostPath;
use crate::job::{JobRecord, RemotePlaces, SentDocument};
use crate::private_fs;
use crate::session::{Inspection, Limits, Outgoing, Sent, SessionId, inspect, prepare_outgoing};
use crate::ssh::{RemotePath, SshError};

/// What is kept free on the host besides the session and its result, in KiB.
const DISK_RESERVE_KIB: u64 = 16 << 10;
/// How long the host's answer is waited for when the export here has failed.
const ANSWER_BOUND: Duration = Duration::from_secs(5);

impl Sending {
    /// Everything before the launch: nothing runs on the host after a failure here.
    pub(super) async fn prepare(&mut self) -> Result<RemotePath, HandoffError> {
        if let Some(spawn) = self.request.spawn.clone() {
            return self.prepare_spawn(&spawn).await;
        }
        let session = self.session()?;
        let client = self.request.client.clone();
        let workspace = local_files::make(client.places(), &self.record.id)?;
        let exported = workspace.join(local_files::EXPORT);
        if self.record.mode == Mode::RoundTrip {
            // Said now, and not when all the work is done.
            let import = workspace.join(local_files::IMPORT);
            client.local_agent()?.can_import_from(&import)?;
        }
        self.reporter.step(Step::Export, session.as_str()).await;
        let (inspection, (probe, skew)) = self.export_and_ask(&session, &exported).await?;
        if let Some(message) = inspection.reverted_to.clone() {
            return Err(HandoffError::Reverted { session, message });
        }
        self.record.local_directory = PathBuf::from(&inspection.directory);
        if self.record.mode == Mode::RoundTrip {
            client
                .local_agent()?
                .can_import_in(&self.record.local_directory)?;
        }
        let opencode = self
            .require_ready(
                &probe,
                skew,
                inspection.bytes,
                inspection.newest_created_ms.unwrap_or(0),
            )
            .await?;
        let document = workspace.join(local_files::SENT);
        let (sent, prompt) = self.patch(&probe, &exported, &document, inspection).await?;
        reach(FailPoint::Patched);
        local_files::remember_sent(&workspace, &sent.message_ids)?;
        let directory = self.job_directory(&probe)?;
        self.record.remote = Some(RemotePlaces {
            job_directory: directory.clone(),
            work_directory: probe.work_dir.clone(),
            opencode,
            files_by_exec: false,
        });
        self.record.sent = Some(SentDocument {
            bytes: sent.bytes,
            sha256: sent.sha256.clone(),
        });
        client.store().update(&mut self.record).await?;
        reach(FailPoint::Placed);
        self.upload(&directory, Some((&sent, &document)), &prompt)
            .await?;
        reach(FailPoint::Uploaded);
        Ok(directory)
    }

    /// Exports the session while the host is asked.
    async fn export_and_ask(
        &mut self,
        session: &SessionId,
        exported: &Path,
    ) -> Result<(Inspection, (Probe, Skew)), HandoffError> {
        let exporting = pin!(export_and_inspect(&self.request, session, exported));
        let asking = pin!(probe(
            &mut self.link,
            &self.request,
            &self.record,
            &mut self.directory,
            &self.reporter
        ));
        match select(exporting, asking).await {
            Either::Left((Ok(inspection), asking)) => Ok((inspection, asking.await?)),
            Either::Left((Err(error), asking)) => {
                // A host that is being asked may make a directory, which only its answer names. What is wrong with
                // the host, or that it takes its time, is nothing beside the error here.
                let _ = tokio::time::timeout(ANSWER_BOUND, asking).await;
                Err(error)
            }
            Either::Right((answer, exporting)) => {
                let answer = answer?;
                Ok((exporting.await?, answer))
            }
        }
    }

    fn session(&self) -> Result<SessionId, HandoffError> {
        let job = &self.record.id;
        self.record
            .session
            .clone()
            .ok_or_else(|| HandoffError::NoSessionYet { job: job.clone() })
    }

    pub(super) fn job_directory(&self, probe: &Probe) -> Result<RemotePath, HandoffError> {
        match &probe.directory {
            Some(Ok(made)) => Ok(made.path.clone()),
            Some(Err(reason)) => {
                Err(self.state_directory_problem(probe.state.to_string(), reason.clone()))
            }
            None => {
                Err(self
                    .state_directory_problem(probe.state.to_string(), "it was not made".to_owned()))
            }
        }
    }

    pub(super) fn state_directory_problem(
        &self,
        directory: String,
        reason: String,
    ) -> HandoffError {
        HandoffError::StateDirectory {
            host: self.record.host.clone(),
            directory,
            reason,
        }
    }

    /// Refuses a host that cannot do it; answers where its agent is.
    pub(super) async fn require_ready(
        &self,
        probe: &Probe,
        skew: Skew,
        bytes: u64,
        newest_ms: i64,
    ) -> Result<RemotePath, HandoffError> {
        let host = || self.record.host.clone();
        if LocalIdentity::read().await.same_database(probe) {
            return Err(HandoffError::SameMachine { host: host() });
        }
        if let Some(reason) = &probe.login_env_error {
            self.reporter
                .warn(format!(
                    "the login environment of {} is not available: {reason}",
                    host()
                ))
                .await;
        }
        self.job_directory(probe)?;
        let Some(opencode) = probe.opencode.clone() else {
            return Err(HandoffError::AgentMissing {
                host: host(),
                looked_in: probe.tried.clone(),
            });
        };
        if let Some(reason) = &probe.version_error {
            return Err(HandoffError::AgentBroken {
                host: host(),
                program: opencode,
                reason: reason.clone(),
            });
        }
        if let Some(version) = probe.too_old() {
            return Err(HandoffError::AgentTooOld {
                host: host(),
                program: opencode,
                version: version.to_owned(),
                oldest: Probe::OLDEST_AGENT,
            });
        }
        if probe.work_dir_is == WorkDirectory::NotADirectory {
            return Err(HandoffError::WorkDirectory {
                host: host(),
                directory: probe.work_dir.clone(),
            });
        }
        let needed_kib = bytes.div_ceil(1024) * 2 + DISK_RESERVE_KIB;
        match probe
            .directory
            .as_ref()
            .and_then(|made| made.as_ref().ok())
            .and_then(|made| made.free_kib)
        {
            Some(free_kib) if free_kib < needed_kib => {
                return Err(HandoffError::DiskFull {
                    host: host(),
                    free_kib,
                    needed_kib,
                });
            }
            _ => {}
        }
        let now_ms = remote::clock_ms();
        skew.allow(&self.record.host, self.record.mode, newest_ms, now_ms)?;
        Ok(opencode)
    }

    /// Makes the document to send, and the message that goes with it.
    async fn patch(
        &self,
        probe: &Probe,
        exported: &Path,
        document: &Path,
        inspection: Inspection,
    ) -> Result<(Sent, String), HandoffError> {
        let local_name = gethostname::gethostname().to_string_lossy().into_owned();
        let to = Place {
            name: self.record.host.as_str(),
            os: &probe.os,
            directory: probe.work_dir.as_str(),
        };
        let from = Place {
            name: &local_name,
            os: std::env::consts::OS,
            directory: &inspection.directory,
        };
        let prompt = continuation(to, from, self.record.mode, self.request.message.as_deref());
        let outgoing = Outgoing {
            output: moved_output(to, from, self.record.mode),
            arguments: self
                .request
                .call
                .arguments
                .clone()
                .map(serde_json::Value::Object),
            call_id: self.request.call.id.clone(),
            agent: self.record.agent.clone(),
            model: self.record.model.clone(),
            now_ms: remote::clock_ms(),
        };
        let (exported, document) = (exported.to_owned(), document.to_owned());
        let sent = blocking(move || {
            let file = private_fs::create(&document)
                .map_err(|source| local_files::local(&document, source))?;
            let reader = open(&exported)?;
            Ok(prepare_outgoing(
                reader,
                BufWriter::new(file),
                &inspection,
                &outgoing,
                &Limits::default(),
            )?)
        })
        .await?;
        Ok((sent, prompt))
    }

    /// Writes the job's files; `document` is the session's, where one moves.
    pub(super) async fn upload(
        &mut self,
        directory: &RemotePath,
        document: Option<(&Sent, &Path)>,
        prompt: &str,
    ) -> Result<(), HandoffError> {
        let total = document.map_or(0, |(sent, _)| sent.bytes);
        self.reporter
            .step(Step::Send, format!("{} KiB", total.div_ceil(1024)))
            .await;
        let places = self.record.remote.clone().ok_or(HandoffError::Aborted)?;
        let sender = gethostname::gethostname().to_string_lossy().into_owned();
        let client = local_files::client_id(self.request.client.places())?;
        let spec = JobSpec {
            job: self.record.id.as_str(),
            kind: self.record.kind,
            session: self.record.session.as_ref(),
            title: self.record.title.as_deref(),
            host: &self.record.host,
            mode: self.record.mode,
            directory: &places.work_directory,
            opencode: &places.opencode,
            agent: self.record.agent.as_deref(),
            model: self.record.model.as_deref(),
            auto_approve: self.request.host.auto_approve,
            sender: &sender,
            client: Some(&client),
            parent: self.record.parent.as_ref(),
            created_ms: self.record.created_ms(),
            newest_ms: document
                .and_then(|(sent, _)| sent.newest_created_ms)
                .and_then(|ms| u64::try_from(ms).ok())
                .unwrap_or(0),
            prompt,
            limits: JobLimits {
                max_time: self.request.max_time,
                max_jobs: Some(self.request.host.max_jobs),
            },
            terms: self.record.terms(),
        };
        let small = spec.files(total)?;
        loop {
            let live = self.link.live().await?;
            let progress = |done| {
                self.reporter.tell_if_room(Event::Progress {
                    step: Step::Send,
                    done,
                    total,
                })
            };
            let session = directory.join(names::SESSION);
            let uploaded = async {
                let files = live.files().await?;
                live.expect_launch();
                let others = small.iter().map(|file| {
                    let (files, path) = (&files, directory.join(file.name));
                    async move { files.write(&path, &file.content).await }
                });
                futures::try_join!(
                    async {
                        match document {
                            Some((_, document)) => {
                                files.upload(document, &session, &progress).await.map(drop)
                            }
                            None => Ok(()),
                        }
                    },
                    futures::future::try_join_all(others),
                )?;
                Ok::<_, HandoffError>(())
            };
            match uploaded.await {
                Ok(()) => return Ok(()),
                // The shell has just made the directory: SFTP that does not see it shows another tree.
                Err(HandoffError::Ssh(
                    SshError::NotFound { .. } | SshError::PermissionDenied { .. },
                )) if !self.link.uses_exec_files() => {
                    self.reporter
                        .warn("SFTP shows other files than the shell does: using an exec channel")
                        .await;
                    self.link.use_exec_files();
                    if let Some(remote) = &mut self.record.remote {
                        remote.files_by_exec = true;
                    }
                }
                Err(HandoffError::Ssh(
                    error @ (SshError::NotFound { .. } | SshError::PermissionDenied { .. }),
                )) => {
                    let reason = error.to_string();
                    return Err(self.state_directory_problem(directory.to_string(), reason));
                }
                Err(error) => self.link.recover(error).await?,
            }
        }
    }
}

async fn export_and_inspect(
    request: &HandoffBuilder,
    session: &SessionId,
    to: &Path,
) -> Result<Inspection, HandoffError> {
    let agent = request.client.local_agent()?;
    export(&agent, session, to).await?;
    reach(FailPoint::Exported);
    let to = to.to_owned();
    let inspection = blocking(move || Ok(inspect(open(&to)?, &Limits::default())?)).await?;
    if inspection.session != *session {
        return Err(HandoffError::WrongSession {
            asked: session.clone(),
            got: inspection.session,
        });
    }
    Ok(inspection)
}

/// Connects and asks the host; SFTP is started beside the question. `made` notes the directory that the host
/// made, even when this is called off afterwards.
pub(super) async fn probe(
    link: &mut Link,
    request: &HandoffBuilder,
    record: &JobRecord,
    made: &mut Option<RemotePath>,
    reporter: &Reporter,
) -> Result<(Probe, Skew), HandoffError> {
    let question = ProbeRequest {
        purpose: ProbeFor::Job(record.id.as_str()),
        state_dir: request.host.state_dir.as_ref().map(HostPath::as_str),
        opencode: request.host.opencode.as_ref().map(HostPath::as_str),
        work_dir: record.directory.as_deref(),
    };
    // A mistake in the question must not cost a connection.
    question.call()?;
    loop {
        let live = link.live().await?;
        reporter.step(Step::Probe, "").await;
        let answered = ask(&live, &question).await;
        match answered {
            Ok((probe, skew)) => {
                if let Some(Ok(directory)) = &probe.directory {
                    *made = Some(directory.path.clone());
                }
                reach(FailPoint::Probed);
                return Ok((probe, skew));
            }
            Err(error) => link.recover(error).await?,
        }
    }
}

async fn ask(live: &Live, question: &ProbeRequest<'_>) -> Result<(Probe, Skew), HandoffError> {
    let (answer, _files) =
        futures::try_join!(remote::probe(&live.connection, question), live.files())?;
    Ok(answer)
}
