//! Logins that are over, since nobody waits for them or their server is gone: nobody is asked for them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use handover::ssh::{Connection, Prompt, UnknownHostKey};
use zeroize::Zeroizing;

use crate::sshd::wait_for;
use crate::support::{AT_ONCE, behind, options, start, target};

/// Somebody who is asked, and says nothing.
#[derive(Default)]
struct NoAnswer(AtomicUsize);

#[async_trait]
impl Prompt for NoAnswer {
    async fn passphrase(&self, _key_file: &Path) -> Option<Zeroizing<String>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }

    async fn accept_host_key(&self, _key: &UnknownHostKey) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_dial_that_is_dropped_takes_its_question_with_it() {
    let sshd = start(&[]);
    let (target, mut options) = behind(&sshd, sshd.port());
    options.known_hosts.clear();
    let person = Arc::new(NoAnswer::default());
    let options = options.prompt(person.clone());
    for asked in 1..3 {
        let (target, options) = (target.clone(), options.clone());
        let dial = tokio::spawn(async move { Connection::open(&target, &options).await });
        // Well before the deadline of the question before.
        assert!(
            wait_for(AT_ONCE, || person.0.load(Ordering::SeqCst) == asked),
            "{asked}"
        );
        dial.abort();
        assert!(dial.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd"]
async fn a_login_whose_server_is_gone_before_its_turn_asks_nobody() {
    let patient = start(&[]);
    let hasty = start(&["LoginGraceTime 2".to_owned()]);
    let person = Arc::new(NoAnswer::default());
    let options = options(&[&patient, &hasty]).prompt(person.clone());
    let first = {
        let (target, options) = (target(&patient, "patient", "locked"), options.clone());
        tokio::spawn(async move { Connection::open(&target, &options).await })
    };
    assert!(wait_for(AT_ONCE, || person.0.load(Ordering::SeqCst) == 1));
    let target = target(&hasty, "hasty", "locked");
    let second = tokio::time::timeout(AT_ONCE, Connection::open(&target, &options)).await;
    assert!(second.is_ok_and(|opened| opened.is_err()));
    assert!(!first.is_finished(), "it holds the turn");
    assert_eq!(person.0.load(Ordering::SeqCst), 1);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
}
