//! Somebody at a terminal, who is asked one thing at a time.
//!
//! Main type: [`Person`]. Invariant: of all its clones at most one puts a question at any time; whoever waited behind a
//! question that stayed without an answer asks nothing; a passphrase is kept only once it has opened its file.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::error::Elapsed;
use zeroize::Zeroizing;

use super::options::Prompt;

/// Somebody at a terminal. Cloning is cheap; all clones are the same person, who remembers what opened a key file until
/// the last of them is dropped.
#[derive(Clone)]
pub(super) struct Person {
    inner: Arc<Inner>,
}

struct Inner {
    prompt: Arc<dyn Prompt>,
    turn: tokio::sync::Mutex<()>,
    /// How many questions have stayed without an answer until their deadline.
    unanswered: AtomicUsize,
    /// The passphrases by their files, wiped when they go.
    passphrases: Mutex<HashMap<PathBuf, Zeroizing<String>>>,
}

/// The person's attention, which nobody else has meanwhile.
pub(super) struct Turn<'a> {
    inner: &'a Inner,
    _turn: MutexGuard<'a, ()>,
}

impl Person {
    /// The person behind a prompt.
    pub(super) fn new(prompt: Arc<dyn Prompt>) -> Self {
        Self {
            inner: Arc::new(Inner {
                prompt,
                turn: tokio::sync::Mutex::default(),
                unanswered: AtomicUsize::default(),
                passphrases: Mutex::default(),
            }),
        }
    }

    /// Waits until nobody else asks; nothing when a question has meanwhile stayed without an answer, for nobody is there
    /// then.
    pub(super) async fn turn(&self) -> Option<Turn<'_>> {
        let before = self.inner.unanswered.load(Ordering::SeqCst);
        let turn = self.inner.turn.lock().await;
        let after = self.inner.unanswered.load(Ordering::SeqCst);
        (before == after).then_some(Turn {
            inner: &self.inner,
            _turn: turn,
        })
    }

    /// The passphrase that has opened a key file before.
    pub(super) fn passphrase(&self, file: &Path) -> Option<Zeroizing<String>> {
        self.passphrases().get(file).cloned()
    }

    /// Keeps a passphrase that has opened a key file.
    pub(super) fn remember(&self, file: &Path, passphrase: Zeroizing<String>) {
        self.passphrases().insert(file.to_owned(), passphrase);
    }

    /// Drops a passphrase that does not open the file any more.
    pub(super) fn forget(&self, file: &Path) {
        self.passphrases().remove(file);
    }

    fn passphrases(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Zeroizing<String>>> {
        self.inner
            .passphrases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Who puts the questions.
    pub(super) fn prompt(&self) -> &dyn Prompt {
        self.inner.prompt.as_ref()
    }

    /// Waits for an answer, and not longer than `after`.
    pub(super) async fn answer<T>(
        &self,
        after: Duration,
        answer: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        tokio::time::timeout(after, answer).await.inspect_err(|_| {
            self.inner.unanswered.fetch_add(1, Ordering::SeqCst);
        })
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::ssh::UnknownHostKey;

    /// Answers after a while, and counts how many questions are open.
    #[derive(Default)]
    struct Counting {
        open: AtomicUsize,
        most: AtomicUsize,
        asked: AtomicUsize,
        answers_after: Duration,
    }

    #[async_trait]
    impl Prompt for Counting {
        async fn passphrase(&self, _key_file: &Path) -> Option<Zeroizing<String>> {
            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(open, Ordering::SeqCst);
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(self.answers_after).await;
            self.open.fetch_sub(1, Ordering::SeqCst);
            Some(Zeroizing::new("open sesame".to_owned()))
        }

        async fn accept_host_key(&self, _key: &UnknownHostKey) -> bool {
            false
        }
    }

    fn asking(answers_after: Duration) -> (Arc<Counting>, Person) {
        let prompt = Arc::new(Counting {
            answers_after,
            ..Counting::default()
        });
        (prompt.clone(), Person::new(prompt))
    }

    async fn ask(person: &Person, after: Duration) -> Option<Zeroizing<String>> {
        let turn = person.turn().await?;
        let answer = turn.prompt().passphrase(Path::new("key"));
        turn.answer(after, answer).await.ok().flatten()
    }

    #[tokio::test]
    async fn there_are_never_two_questions_and_waiting_for_a_turn_costs_no_time() {
        let (prompt, person) = asking(Duration::from_millis(300));
        let clones: Vec<_> = (0..5).map(|_| person.clone()).collect();
        let asking = clones
            .iter()
            .map(|person| ask(person, Duration::from_millis(1_200)));
        let answers = futures::future::join_all(asking).await;
        assert!(answers.iter().all(Option::is_some));
        assert_eq!(prompt.most.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn whoever_waits_behind_an_unanswered_question_asks_nothing() {
        let (prompt, person) = asking(Duration::from_secs(2));
        let asking = (0..5).map(|_| ask(&person, Duration::from_millis(100)));
        let answers = futures::future::join_all(asking).await;
        assert!(answers.iter().all(Option::is_none));
        assert_eq!(prompt.asked.load(Ordering::SeqCst), 1);
        // Somebody who comes later may find the person back.
        assert!(ask(&person, Duration::from_secs(60)).await.is_some());
    }
}
