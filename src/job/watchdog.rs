//! What is odd about a running job: it says nothing, it goes round in circles, it cannot be reached.
//!
//! The main types are [`Bounds`], what is tolerated, and [`Attributes`], what was found. The judgement is a pure
//! function, [`Attributes::judge`], the same for whoever looks; nothing here ends a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Evidence, Usage};
use crate::agent::Phase;

/// For how long a running agent may say nothing.
pub const DEFAULT_INACTIVITY: Duration = Duration::from_secs(600);
/// How many times in a row the same tool may be called with the same input.
pub const DEFAULT_LOOP_LIMIT: u32 = 12;

/// What is tolerated of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Milliseconds without an event, or in an import or an export, after which a job is `stalled`.
    pub inactivity_ms: u64,
    /// From so many calls of the same tool with the same input on, one after the other, the agent is `looping`.
    pub loop_limit: u32,
    /// Whoever finds the agent stalled ends the job; an import or an export is not cut for it.
    pub kill_on_stall: bool,
    /// Whoever finds the job looping ends it.
    pub kill_on_loop: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            inactivity_ms: milliseconds(DEFAULT_INACTIVITY),
            loop_limit: DEFAULT_LOOP_LIMIT,
            kill_on_stall: false,
            kill_on_loop: false,
        }
    }
}

impl Bounds {
    /// With another inactivity bound.
    #[must_use]
    pub fn inactivity(mut self, bound: Duration) -> Self {
        self.inactivity_ms = milliseconds(bound);
        self
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The phase in which a job's runner was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSeen {
    /// The phase.
    pub phase: Phase,
    /// When it was first seen, in milliseconds since 1970 by this machine's clock: it may have begun before that.
    pub since_ms: u64,
}

impl PhaseSeen {
    /// What is known once a look has found `phase` at `now_ms`; phases follow each other and never go back.
    #[must_use]
    pub fn after(before: Option<Self>, phase: Phase, now_ms: u64) -> Self {
        let found = Self {
            phase,
            since_ms: now_ms,
        };
        before.map_or(found, |before| before.with(found))
    }

    /// What two lookers know together: the later phase, and the earlier time at which it was seen.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        match self.phase.cmp(&other.phase) {
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Equal => Self {
                since_ms: self.since_ms.min(other.since_ms),
                ..self
            },
        }
    }
}

/// What is odd about a job, and since when: milliseconds since 1970 by this machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// For longer than the inactivity bound the agent has said nothing, or an import or an export has not ended.
    pub stalled: Option<u64>,
    /// The host did not answer when it was last asked.
    pub unreachable: Option<u64>,
    /// The agent calls the same tool with the same input over and over.
    pub looping: Option<u64>,
    /// The agent reported an error and has not gone on since: it tries again, or is about to end.
    pub retrying: Option<u64>,
}

impl Attributes {
    /// The names of all that there are.
    pub const NAMES: [&str; 4] = ["stalled", "unreachable", "looping", "retrying"];

    /// The names of what holds, as `--json` prints them.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let all = [self.stalled, self.unreachable, self.looping, self.retrying];
        Self::NAMES
            .into_iter()
            .zip(all)
            .filter_map(|(name, since)| since.map(|_| name))
            .collect()
    }

    /// What holds at `now_ms` of a job that was just looked at: what that has shown, the phase in which its runner is,
    /// and what was counted of its events. What held before keeps its time.
    ///
    /// Silence counts from the newest event, or from when the present phase was first seen. Only the agent goes in
    /// circles or tries again; of a job that has ended nothing is odd.
    #[must_use]
    pub fn judge(
        self,
        bounds: &Bounds,
        evidence: Evidence,
        phase: Option<PhaseSeen>,
        usage: &Usage,
        now_ms: u64,
    ) -> Self {
        let phase = phase.filter(|_| evidence.may_be_at_work());
        let running = phase.is_some_and(|seen| seen.phase == Phase::Running);
        let silent = phase.is_some_and(|seen| {
            let heard = usage.last_event_ms.unwrap_or(0).max(seen.since_ms);
            now_ms.saturating_sub(heard) >= bounds.inactivity_ms
        });
        let holds = |holds: bool, before: Option<u64>| holds.then(|| before.unwrap_or(now_ms));
        let loops = usage.repeats >= bounds.loop_limit.max(2);
        Self {
            stalled: holds(silent, self.stalled),
            unreachable: None,
            looping: holds(running && loops, self.looping),
            retrying: holds(running && usage.failing, self.retrying),
        }
    }

    /// The host did not answer at `now_ms`: nothing else is known to have changed.
    #[must_use]
    pub fn not_reached(mut self, now_ms: u64) -> Self {
        self.unreachable.get_or_insert(now_ms);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(phase: Phase, since_ms: u64) -> Option<PhaseSeen> {
        Some(PhaseSeen { phase, since_ms })
    }

    #[test]
    fn silence_beyond_the_bound_is_a_stall_in_every_phase() {
        let bounds = Bounds::default();
        let none = Attributes::default();
        let usage = Usage::default();
        for phase in [Phase::Importing, Phase::Running, Phase::Exporting] {
            let judge = |before: Attributes, evidence, now| {
                before.judge(&bounds, evidence, seen(phase, 1000), &usage, now)
            };
            assert_eq!(judge(none, Evidence::Alive, 600_999), none);
            let stalled = judge(none, Evidence::Alive, 601_000);
            assert_eq!(stalled.names(), ["stalled"]);
            let later = judge(stalled, Evidence::OtherMachine, 700_000);
            assert_eq!(later.stalled, Some(601_000));
            let ended = Evidence::Ended {
                success: true,
                result: true,
            };
            for over in [ended, Evidence::Died, Evidence::Rebooted] {
                assert_eq!(judge(stalled, over, 700_000), none);
            }
        }
        assert_eq!(
            none.judge(&bounds, Evidence::Alive, None, &usage, 700_000),
            none
        );
    }

    #[test]
    fn silence_counts_from_the_newest_event_and_anew_in_every_phase() {
        let bounds = Bounds::default();
        let mut usage = Usage::default();
        usage.last_event_ms = Some(5000);
        let judge = |before: Attributes, phase, since, now| {
            before.judge(&bounds, Evidence::Alive, seen(phase, since), &usage, now)
        };
        let none = Attributes::default();
        assert_eq!(judge(none, Phase::Running, 1000, 604_999), none);
        let stalled = judge(none, Phase::Running, 1000, 605_000);
        assert_eq!(stalled.stalled, Some(605_000));
        assert_eq!(judge(stalled, Phase::Exporting, 605_100, 605_200), none);
        let again = judge(none, Phase::Exporting, 605_100, 1_205_100);
        assert_eq!(again.stalled, Some(1_205_100));
    }

    #[test]
    fn only_the_agent_goes_in_circles_or_tries_again() {
        let mut usage = Usage::default();
        usage.repeats = 12;
        usage.failing = true;
        for (phase, names) in [
            (Phase::Importing, &[][..]),
            (Phase::Running, &["looping", "retrying"]),
            (Phase::Exporting, &[]),
        ] {
            let found = Attributes::default().judge(
                &Bounds::default(),
                Evidence::Alive,
                seen(phase, 0),
                &usage,
                1,
            );
            assert_eq!(found.names(), names, "{phase:?}");
        }
    }

    #[test]
    fn two_lookers_know_the_later_phase_and_its_earlier_time() {
        let at = |phase, since_ms| PhaseSeen { phase, since_ms };
        let (import, run) = (at(Phase::Importing, 5), at(Phase::Running, 9));
        assert_eq!(PhaseSeen::after(None, Phase::Importing, 5), import);
        assert_eq!(PhaseSeen::after(Some(import), Phase::Importing, 7), import);
        assert_eq!(PhaseSeen::after(Some(import), Phase::Running, 9), run);
        assert_eq!(PhaseSeen::after(Some(run), Phase::Importing, 12), run);
        assert_eq!(run.with(at(Phase::Running, 7)), at(Phase::Running, 7));
    }

    #[test]
    fn an_unreachable_host_keeps_what_was_known() {
        let looping = Attributes {
            looping: Some(5),
            ..Attributes::default()
        };
        let lost = looping.not_reached(9).not_reached(12);
        assert_eq!((lost.unreachable, lost.looping), (Some(9), Some(5)));
    }

    #[test]
    fn as_many_calls_as_the_limit_are_a_loop() {
        let bounds = Bounds {
            loop_limit: 3,
            ..Bounds::default()
        };
        for (repeats, loops) in [(2, false), (3, true), (4, true)] {
            let mut usage = Usage::default();
            usage.repeats = repeats;
            let running = seen(Phase::Running, 0);
            let found = Attributes::default().judge(&bounds, Evidence::Alive, running, &usage, 1);
            assert_eq!(found.looping.is_some(), loops, "{repeats}");
        }
    }
}
