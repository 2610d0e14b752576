//! What becomes of a record that two processes have written: neither loses what the other has noted.
//!
//! The main function is [`JobRecord::merged_with`]. The invariant: a job that one of them has seen ended stays ended,
//! unless the writer knew of that end and begins anew.

use super::JobRecord;

impl JobRecord {
    /// This record, which was read a while ago and changed, written over what is stored now.
    pub(super) fn merged_with(mut self, stored: &Self) -> Self {
        let same = self
            .history
            .iter()
            .zip(&stored.history)
            .take_while(|(ours, theirs)| ours == theirs)
            .count();
        let theirs = stored.history.get(same..).unwrap_or_default();
        let ours = self.history.split_off(same);
        if theirs.is_empty() {
            self.history.extend(ours);
            self.learn_from(stored);
            return self;
        }
        if stored.state.is_ended() && self.state.is_live() {
            let mut ended = stored.clone();
            ended.learn_from(&self);
            ended.remote = ended.remote.or(self.remote);
            ended.sent = ended.sent.or(self.sent);
            return ended;
        }
        self.history.extend_from_slice(theirs);
        for entry in ours {
            // What they have entered too was entered when they say.
            if !theirs.iter().any(|their| their.state == entry.state) {
                self.history.push(entry);
            }
        }
        let state = self.history.last().map_or(stored.state, |last| last.state);
        if state != self.state {
            self.attributes = stored.attributes;
        }
        self.state = state;
        self.error = self.error.or_else(|| stored.error.clone());
        self.exit_code = self.exit_code.or(stored.exit_code);
        self.signal = self.signal.or(stored.signal);
        self.result = self.result.or_else(|| stored.result.clone());
        self.undelivered = self.undelivered.max(stored.undelivered);
        self.learn_from(stored);
        self
    }

    /// Takes over what is only ever learnt of a job, and never taken back.
    fn learn_from(&mut self, other: &Self) {
        self.session = self.session.take().or_else(|| other.session.clone());
        self.notice = self.notice.take().or_else(|| other.notice.clone());
        self.collected_ms = self.collected_ms.or(other.collected_ms);
        self.cleaned_ms = self.cleaned_ms.or(other.cleaned_ms);
        self.imported |= other.imported;
        if other.usage.position > self.usage.position {
            self.usage = other.usage.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::job::State;
    use crate::job::store::tests::record;

    #[test]
    fn an_end_that_another_one_noted_is_not_taken_back() {
        let mut stored = record("ses_1");
        stored.enter(State::Launching);
        let mut ours = stored.clone();
        stored.enter(State::Running);
        stored.enter(State::Failed);
        stored.error = Some("the host was restarted".to_owned());
        ours.enter(State::Running);
        ours.usage.position = 7;
        let merged = ours.merged_with(&stored);
        assert_eq!(
            (merged.state, &merged.error),
            (State::Failed, &stored.error)
        );
        assert_eq!(merged.history, stored.history);
        assert_eq!(merged.usage.position, 7);
    }

    #[test]
    fn whoever_knows_of_the_end_can_begin_anew() {
        let mut stored = record("ses_1");
        stored.enter(State::Completed);
        let mut ours = stored.clone();
        ours.enter(State::Running);
        assert_eq!(ours.clone().merged_with(&stored), ours);
    }

    #[test]
    fn a_state_that_was_passed_is_not_entered_again() {
        let mut stored = record("ses_1");
        let mut ours = stored.clone();
        stored.enter(State::Running);
        stored.enter(State::Returning);
        ours.enter(State::Running);
        let merged = ours.clone().merged_with(&stored);
        assert_eq!(merged.history, stored.history);
        // And what one of them alone has seen is kept, in its order.
        ours.enter(State::Failed);
        ours.error = Some("of ours".to_owned());
        let merged = ours.merged_with(&stored);
        let states: Vec<State> = merged.history.iter().map(|entry| entry.state).collect();
        let all = [
            State::Preparing,
            State::Running,
            State::Returning,
            State::Failed,
        ];
        assert_eq!(states, all);
        assert_eq!(merged.error.as_deref(), Some("of ours"));
    }

    #[test]
    fn what_is_taken_back_on_purpose_stays_so() {
        let stored = crate::job::JobRecord {
            remote: Some(crate::job::RemotePlaces {
                job_directory: "/s/j".parse().unwrap(),
                work_directory: "/w".parse().unwrap(),
                opencode: "/o".parse().unwrap(),
                files_by_exec: false,
            }),
            ..record("ses_1")
        };
        let mut ours = stored.clone();
        ours.remote = None;
        ours.enter(State::Failed);
        assert_eq!(ours.merged_with(&stored).remote, None);
    }
}
