//! What is odd about a running job: it says nothing, it goes round in circles, it cannot be reached.
//!
//! The main types are [`Bounds`], what is tolerated, and [`Attributes`], what was found. The judgement is a pure
//! function, [`Attributes::judge`]; nothing here ends a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{State, Usage};

/// For how long a running agent may say nothing.
pub const DEFAULT_INACTIVITY: Duration = Duration::from_secs(600);
/// How many times in a row the same tool may be called with the same input.
pub const DEFAULT_LOOP_LIMIT: u32 = 12;

/// What is tolerated of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Milliseconds without an event after which a running agent is `stalled`.
    pub inactivity_ms: u64,
    /// From so many calls of the same tool with the same input on, one after the other, the agent is `looping`.
    pub loop_limit: u32,
    /// Whoever finds the job stalled ends it.
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

/// What is odd about a job, and since when: milliseconds since 1970 by this machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// The running agent has said nothing for longer than the inactivity bound.
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

    /// What holds at `now_ms` of a job that was just looked at. `quiet_since_ms` is when its agent was last heard, or
    /// began to run; what held before keeps its time.
    #[must_use]
    pub fn judge(
        self,
        bounds: &Bounds,
        state: State,
        usage: &Usage,
        quiet_since_ms: u64,
        now_ms: u64,
    ) -> Self {
        let running = state == State::Running;
        let holds =
            |holds: bool, before: Option<u64>| (running && holds).then(|| before.unwrap_or(now_ms));
        Self {
            stalled: holds(
                now_ms.saturating_sub(quiet_since_ms) >= bounds.inactivity_ms,
                self.stalled,
            ),
            unreachable: None,
            looping: holds(usage.repeats >= bounds.loop_limit.max(2), self.looping),
            retrying: holds(usage.failing, self.retrying),
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

    #[test]
    fn silence_beyond_the_bound_is_a_stall_while_the_agent_runs() {
        let bounds = Bounds::default();
        let none = Attributes::default();
        let usage = Usage::default();
        let judge =
            |before: Attributes, state, now| before.judge(&bounds, state, &usage, 1000, now);
        assert_eq!(judge(none, State::Running, 600_999), none);
        let stalled = judge(none, State::Running, 601_000);
        assert_eq!(stalled.names(), ["stalled"]);
        assert_eq!(
            judge(stalled, State::Running, 700_000).stalled,
            Some(601_000)
        );
        assert_eq!(judge(stalled, State::Completed, 700_000), none);
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
            let found = Attributes::default().judge(&bounds, State::Running, &usage, 0, 1);
            assert_eq!(found.looping.is_some(), loops, "{repeats}");
        }
    }
}
