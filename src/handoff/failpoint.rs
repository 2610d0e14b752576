//! The steps of a job's life on this machine, each a place where a test kills the process.
//!
//! The main type is [`FailPoint`]. Only builds with debug assertions look at `HANDOVER_FAILPOINT`, and only they hold
//! the names: of this nothing is in a release.

macro_rules! fail_points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)+) => {
        /// A step that has just been done.
        #[derive(Clone, Copy)]
        pub(crate) enum FailPoint {
            $($(#[$doc])* $point,)+
        }

        /// The names of all steps, in the order in which they are defined; for tests, in builds with debug assertions.
        #[cfg(debug_assertions)]
        pub const FAIL_POINTS: &[&str] = &[$($name,)+];

        #[cfg(debug_assertions)]
        impl FailPoint {
            fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)+ }
            }
        }
    };
}

fail_points! {
    /// The job is recorded.
    Recorded = "send-recorded",
    /// The local session is exported.
    Exported = "send-exported",
    /// The host has answered, and made the job's directory.
    Probed = "send-probed",
    /// The document to send is made.
    Patched = "send-patched",
    /// The record knows where the job is on the host.
    Placed = "send-placed",
    /// Everything is on the host.
    Uploaded = "send-uploaded",
    /// The record says that the launch is asked for.
    LaunchNoted = "launch-noted",
    /// The host has answered the launch.
    LaunchAnswered = "launch-answered",
    /// The record says that the job runs.
    LaunchedNoted = "launched-noted",
    /// What was needed for the launch alone is removed here.
    LaunchTidied = "launch-tidied",
    /// The job was looked at, and goes on.
    Looked = "watch-looked",
    /// The agent was seen to run.
    SeenRunning = "watch-running",
    /// The end was seen.
    SeenEnded = "watch-ended",
    /// The record knows the end.
    EndNoted = "end-noted",
    /// The result is on this machine.
    Fetched = "fetched",
    /// The local session is exported as it was before.
    Before = "return-before",
    /// The document to import is made.
    Prepared = "return-prepared",
    /// The local agent has imported it.
    Imported = "return-imported",
    /// The local session is exported as it is after.
    After = "return-after",
    /// Both were compared.
    Compared = "return-compared",
    /// The record says that the session is back.
    Collected = "return-noted",
    /// The job's directory on the host is gone.
    HostCleaned = "cleaned-host",
    /// The record says so.
    CleanNoted = "cleaned-noted",
    /// The job's files here are gone.
    LocalCleaned = "cleaned-here",
    /// A job that was never launched has its tombstone.
    Settled = "close-settled",
    /// The record says that it is closed.
    CloseNoted = "close-noted",
    /// What was sent of it is gone.
    CloseCleaned = "close-cleaned",
    /// What an ended job has left on its host was removed.
    PrunedThere = "prune-host",
    /// What it has left here was removed, but for its record.
    PrunedHere = "prune-here",
    /// A message for the agent is on the host.
    MessageWritten = "say-written",
    /// The host has answered whether the agent will read it.
    MessageGiven = "say-given",
    /// A job was asked to end.
    KillAsked = "kill-asked",
    /// A job has ended, because it was asked to.
    KillEnded = "kill-ended",
    /// A look has noted what it found of a job.
    FoundNoted = "found-noted",
    /// A job that this machine had no record of has one.
    Adopted = "adopted",
    /// An end is claimed for its announcement.
    AnnouncementClaimed = "announcement-claimed",
    /// A job that was claimed and did not start cannot start any more.
    Buried = "buried",
    /// The host has made the result that an earlier export had not.
    ExportedAgain = "exported-again",
}

/// Kills this process, as `kill -9` does, where the environment asks for it at this step.
pub(crate) fn reach(point: FailPoint) {
    #[cfg(debug_assertions)]
    if std::env::var_os("HANDOVER_FAILPOINT").is_some_and(|name| name == point.name()) {
        #[cfg(unix)]
        if let Err(error) =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        {
            tracing::error!(%error, "the failpoint does not work");
        }
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = point;
}
