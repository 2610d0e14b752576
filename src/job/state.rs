//! The states of a job's life, and what the evidence on the host makes of them.
//!
//! Transitions are one pure function, [`State::judge`]: it knows no transport and no clock.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::Mode;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Recorded here; nothing has been launched.
    Preparing,
    /// The launch was asked for; whether it happened is for the host's files to say.
    Launching,
    /// The runner has started.
    Running,
    /// The runner has ended; its result is not yet on this machine.
    Returning,
    /// Ended well. A one-way job's result may still be on the host.
    Completed,
    /// Ended badly; what there is of a result may still be on the host.
    Failed,
    /// Closed before it was launched, or ended by a person.
    Killed,
    /// The host was restarted while the job ran.
    Lost,
    /// Claimed but never seen to start: a person has to look.
    Unknown,
}

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Preparing,
        Self::Launching,
        Self::Running,
        Self::Returning,
        Self::Completed,
        Self::Failed,
        Self::Killed,
        Self::Lost,
        Self::Unknown,
    ];

    /// Whether the session may not be handed over again while a job of it is in this state.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(
            self,
            Self::Preparing | Self::Launching | Self::Running | Self::Returning
        )
    }

    /// Whether the job is over: whatever is seen of it later, it stays so.
    #[must_use]
    pub fn is_ended(self) -> bool {
        !self.is_live()
    }

    /// Whether a job gets into this state only after its runner was seen to start.
    ///
    /// [`State::Failed`] is not among them: a handoff can fail before its launch.
    #[must_use]
    pub fn shows_launch(self) -> bool {
        matches!(
            self,
            Self::Running | Self::Returning | Self::Completed | Self::Lost | Self::Unknown
        )
    }

    /// The state's name, as `--json` prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Launching => "launching",
            Self::Running => "running",
            Self::Returning => "returning",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }

    /// The state that follows from what the host's job directory shows.
    ///
    /// An ended job keeps its end: evidence never brings it back to life. Evidence that says nothing
    /// ([`Evidence::OtherMachine`], [`Evidence::Unclaimed`] of a job that was never launched) changes nothing.
    #[must_use]
    pub fn judge(self, mode: Mode, evidence: Evidence) -> Self {
        if !self.is_live() {
            return self;
        }
        match evidence {
            Evidence::OtherMachine => self,
            Evidence::Unclaimed => match self {
                Self::Preparing | Self::Launching => self,
                _ => Self::Lost,
            },
            Evidence::Tombstone | Evidence::Killed { .. } => Self::Killed,
            Evidence::ClaimedOnly => match self {
                Self::Preparing | Self::Launching => Self::Launching,
                _ => Self::Unknown,
            },
            Evidence::NeverStarted => Self::Unknown,
            Evidence::Alive => Self::Running,
            Evidence::Ended {
                success: true,
                result: true,
            } => match mode {
                Mode::RoundTrip => Self::Returning,
                Mode::OneWay => Self::Completed,
            },
            Evidence::Ended { .. } | Evidence::Died => Self::Failed,
            Evidence::Rebooted => Self::Lost,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What a job directory on its host shows, in the order in which it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// `exit` is there.
    Ended {
        /// The agent ended with status 0 and every phase was reached.
        success: bool,
        /// `back.json` is there as `exit` describes it.
        result: bool,
    },
    /// `exit` is there, and says that the job was ended before its time: by somebody or by a limit.
    Killed {
        /// What the agent had done by then is there, to be collected.
        result: bool,
    },
    /// The runner's boot identity is not the host's present one.
    Rebooted,
    /// The runner is gone and left no `exit`.
    Died,
    /// The directory belongs to another machine of a shared home.
    OtherMachine,
    /// The runner is alive.
    Alive,
    /// Claimed a moment ago and not yet started.
    ClaimedOnly,
    /// Claimed, not started, and the grace period is over.
    NeverStarted,
    /// Somebody closed the job before it was launched.
    Tombstone,
    /// No claim, or no directory.
    Unclaimed,
}

impl Evidence {
    /// Whether the runner was started: what the host shows cannot be without that.
    #[must_use]
    pub fn shows_launch(self) -> bool {
        matches!(
            self,
            Self::Ended { .. } | Self::Killed { .. } | Self::Rebooted | Self::Died | Self::Alive
        )
    }

    /// Whether the runner may be at work: it is seen to live, or cannot be judged from where it was asked.
    #[must_use]
    pub fn may_be_at_work(self) -> bool {
        matches!(self, Self::Alive | Self::OtherMachine)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::JobRecord;

    const EVIDENCE: [Evidence; 14] = [
        Evidence::Ended {
            success: true,
            result: true,
        },
        Evidence::Ended {
            success: true,
            result: false,
        },
        Evidence::Ended {
            success: false,
            result: true,
        },
        Evidence::Ended {
            success: false,
            result: false,
        },
        Evidence::Killed { result: true },
        Evidence::Killed { result: false },
        Evidence::Rebooted,
        Evidence::Died,
        Evidence::OtherMachine,
        Evidence::Alive,
        Evidence::ClaimedOnly,
        Evidence::NeverStarted,
        Evidence::Tombstone,
        Evidence::Unclaimed,
    ];

    #[test]
    fn every_live_state_and_every_evidence_has_its_row() {
        use State::{
            Completed, Failed, Killed, Launching, Lost, Preparing, Returning, Running, Unknown,
        };
        // One row a live state, one column an evidence, in the order of EVIDENCE.
        let table = [
            (
                Preparing,
                [
                    Returning, Failed, Failed, Failed, Killed, Killed, Lost, Failed, Preparing,
                    Running, Launching, Unknown, Killed, Preparing,
                ],
            ),
            (
                Launching,
                [
                    Returning, Failed, Failed, Failed, Killed, Killed, Lost, Failed, Launching,
                    Running, Launching, Unknown, Killed, Launching,
                ],
            ),
            (
                Running,
                [
                    Returning, Failed, Failed, Failed, Killed, Killed, Lost, Failed, Running,
                    Running, Unknown, Unknown, Killed, Lost,
                ],
            ),
            (
                Returning,
                [
                    Returning, Failed, Failed, Failed, Killed, Killed, Lost, Failed, Returning,
                    Running, Unknown, Unknown, Killed, Lost,
                ],
            ),
        ];
        for (state, expected) in table {
            for (evidence, expected) in EVIDENCE.into_iter().zip(expected) {
                assert_eq!(
                    state.judge(Mode::RoundTrip, evidence),
                    expected,
                    "{state} and {evidence:?}"
                );
                let one_way = if expected == Returning && matches!(evidence, Evidence::Ended { .. })
                {
                    Completed
                } else {
                    expected
                };
                assert_eq!(
                    state.judge(Mode::OneWay, evidence),
                    one_way,
                    "one-way, {state} and {evidence:?}"
                );
            }
        }
    }

    #[test]
    fn an_ended_job_stays_ended() {
        for state in State::ALL.into_iter().filter(|state| !state.is_live()) {
            for evidence in EVIDENCE {
                assert_eq!(state.judge(Mode::RoundTrip, evidence), state);
            }
        }
    }

    fn any_evidence() -> impl Strategy<Value = Evidence> {
        proptest::sample::select(EVIDENCE.to_vec())
    }

    /// What a person would say of a job who has seen all of this: written from the protocol's table, not from the
    /// function's branches.
    #[derive(Debug, Default)]
    struct Model {
        /// The runner was seen, alive or by what it left.
        launched: bool,
        end: Option<State>,
        /// The last thing seen of a job that goes on.
        seen: Option<State>,
    }

    impl Model {
        fn see(&mut self, mode: Mode, evidence: Evidence) {
            if self.end.is_some() {
                return;
            }
            let went =
                |seen: Option<State>| matches!(seen, Some(State::Running | State::Returning));
            match evidence {
                Evidence::OtherMachine => {}
                Evidence::Alive => {
                    self.launched = true;
                    self.seen = Some(State::Running);
                }
                Evidence::Ended { success, result } => {
                    self.launched = true;
                    match (success && result, mode) {
                        (true, Mode::RoundTrip) => self.seen = Some(State::Returning),
                        (true, Mode::OneWay) => self.end = Some(State::Completed),
                        (false, _) => self.end = Some(State::Failed),
                    }
                }
                Evidence::Killed { .. } => {
                    self.launched = true;
                    self.end = Some(State::Killed);
                }
                Evidence::Died => {
                    self.launched = true;
                    self.end = Some(State::Failed);
                }
                Evidence::Rebooted => {
                    self.launched = true;
                    self.end = Some(State::Lost);
                }
                Evidence::Tombstone => self.end = Some(State::Killed),
                Evidence::NeverStarted => self.end = Some(State::Unknown),
                Evidence::ClaimedOnly if went(self.seen) => self.end = Some(State::Unknown),
                Evidence::ClaimedOnly => self.seen = Some(State::Launching),
                Evidence::Unclaimed if went(self.seen) => self.end = Some(State::Lost),
                Evidence::Unclaimed => {}
            }
        }

        fn state(&self) -> State {
            self.end.or(self.seen).unwrap_or(State::Preparing)
        }
    }

    fn record(mode: Mode) -> JobRecord {
        JobRecord {
            mode,
            ..crate::job::store::tests::record("ses_1")
        }
    }

    proptest! {
        #[test]
        fn any_evidence_in_any_order_leads_where_the_model_goes(
            round_trip: bool,
            seen in proptest::collection::vec(any_evidence(), 0..12),
        ) {
            let mode = if round_trip { Mode::RoundTrip } else { Mode::OneWay };
            let (mut record, mut model) = (record(mode), Model::default());
            for evidence in seen {
                let before = record.clone();
                let changed = record.note(evidence);
                model.see(mode, evidence);
                prop_assert_eq!(record.state, model.state());
                prop_assert_eq!(changed, record != before);
                prop_assert!(before.state.is_live() || record == before, "an end is an end");
                prop_assert!(!model.launched || record.was_launched());
                prop_assert!(!record.note(evidence), "seen twice is seen once");
            }
            let states: Vec<State> = record.history.iter().map(|entry| entry.state).collect();
            let ends = states.iter().filter(|state| state.is_ended()).count();
            prop_assert!(ends <= 1 && (ends == 0 || states.last().unwrap().is_ended()));
            prop_assert_eq!(states.last(), Some(&record.state));
            prop_assert!(states.windows(2).all(|pair| pair[0] != pair[1]));
            prop_assert!(record.history.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms));
        }

        #[test]
        fn a_launch_that_was_seen_once_is_never_unseen(
            seen in proptest::collection::vec(any_evidence(), 0..12),
        ) {
            let mut record = record(Mode::RoundTrip);
            let mut launched = false;
            for evidence in seen {
                record.note(evidence);
                prop_assert!(!launched || record.was_launched());
                launched = record.was_launched();
            }
            // What was launched is never taken for a job to be closed.
            prop_assert!(!launched || !matches!(record.state, State::Preparing | State::Launching));
        }
    }
}
