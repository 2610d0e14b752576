//! Logins that end badly: what the person is told, and how often they are asked.
//!
//! The server runs in this process; nothing here needs sshd.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use handover::ssh::{
    AgentSource, AttemptOutcome, ConnectOptions, Connection, LoginAs, Prompt, SshError, Target,
    UnknownHostKey,
};
use russh::MethodSet;
use russh::keys::ssh_key::LineEnding;
use russh::server::{Auth, Config, Handler, VerifiedPublicKey};
use tempfile::TempDir;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::keys::{new_key, write_private};

/// Takes every key that is only shown, rejects every login, and hangs up without a word at the password of this number.
#[derive(Clone)]
struct Curt {
    hangs_up_at: usize,
    passwords: usize,
}

impl Handler for Curt {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(refusal())
    }

    async fn auth_password(&mut self, _user: &str, _password: &str) -> Result<Auth, Self::Error> {
        self.passwords += 1;
        if self.passwords == self.hangs_up_at {
            return Err(russh::Error::Disconnect);
        }
        Ok(refusal())
    }
}

/// A refusal after which everything may be tried again.
fn refusal() -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::client_supported()),
        partial_success: false,
    }
}

/// Answers the same to every question for a passphrase, and gives wrong passwords.
struct Wrong {
    passphrase: Option<&'static str>,
    passwords: AtomicUsize,
}

#[async_trait]
impl Prompt for Wrong {
    async fn passphrase(&self, _key_file: &Path) -> Option<Zeroizing<String>> {
        self.passphrase.map(|text| Zeroizing::new(text.to_owned()))
    }

    async fn accept_host_key(&self, _key: &UnknownHostKey) -> bool {
        false
    }

    async fn password(&self, _login: &LoginAs) -> Option<Zeroizing<String>> {
        self.passwords.fetch_add(1, Ordering::SeqCst);
        Some(Zeroizing::new("wrong".to_owned()))
    }
}

/// Such a server, what reaches it, and how often it was dialled.
struct Bench {
    target: Target,
    options: ConnectOptions,
    dials: Arc<AtomicUsize>,
    directory: TempDir,
}

impl Bench {
    async fn new(hangs_up_at: usize, method: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = new_key();
        let public = key.public_key().to_openssh().unwrap();
        let config = Arc::new(Config {
            keys: vec![key],
            auth_rejection_time: std::time::Duration::ZERO,
            ..Config::default()
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dials = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dials);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let server = Curt {
                    hangs_up_at,
                    passwords: 0,
                };
                if let Ok(session) = russh::server::run_stream(config.clone(), stream, server).await
                {
                    // It ends as it is told to above.
                    let _ = session.await;
                }
            }
        });
        let known = directory.path().join("known_hosts");
        write_private(&known, &format!("[127.0.0.1]:{port} {public}\n"));
        let mut target = Target::new("box".parse().unwrap(), "127.0.0.1", port, "dev");
        target.settings.preferred_authentications = Some(vec![method.to_owned()]);
        target.settings.no_identity_files = true;
        let options = ConnectOptions::default()
            .agent(AgentSource::None)
            .trusted_hosts(known);
        Self {
            target,
            options,
            dials,
            directory,
        }
    }

    async fn fail(&self, prompt: Option<Arc<Wrong>>) -> SshError {
        let options = self.options.clone();
        let options = match prompt {
            Some(prompt) => options.prompt(prompt),
            None => options,
        };
        Connection::open(&self.target, &options).await.unwrap_err()
    }
}

fn wrong(passphrase: Option<&'static str>) -> Arc<Wrong> {
    Arc::new(Wrong {
        passphrase,
        passwords: AtomicUsize::new(0),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_person_is_not_asked_again_where_the_server_hangs_up_without_a_word() {
    for (hangs_up_at, rejected) in [(3, true), (2, true), (1, false)] {
        let bench = Bench::new(hangs_up_at, "password").await;
        let prompt = wrong(None);
        let error = bench.fail(Some(Arc::clone(&prompt))).await;
        assert_eq!(error.is_retryable_dial(), !rejected, "{error:?}");
        match &error {
            SshError::AuthFailed { tried, .. } if rejected => {
                let (last, passwords) = tried.split_last().unwrap();
                assert_eq!(last.outcome, AttemptOutcome::Ended, "{tried:?}");
                assert_eq!(passwords.len(), hangs_up_at - 1, "{tried:?}");
                assert!(
                    passwords
                        .iter()
                        .all(|attempt| attempt.outcome == AttemptOutcome::Rejected),
                    "{tried:?}"
                );
            }
            // Nothing was rejected: a link that was cut looks the same.
            SshError::Lost { .. } if !rejected => {}
            error => panic!("{hangs_up_at}: {error:?}"),
        }
        assert_eq!(prompt.passwords.load(Ordering::SeqCst), hangs_up_at);
        assert_eq!(bench.dials.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_asked_for_a_passphrase_is_not_told_that_nobody_can_be_asked() {
    let mut bench = Bench::new(0, "publickey").await;
    let key = new_key().encrypt(&mut rand::rng(), "open sesame").unwrap();
    let file = bench.directory.path().join("id_ed25519");
    write_private(&file, &key.to_openssh(LineEnding::LF).unwrap());
    bench.target.settings.no_identity_files = false;
    bench.target.identity_files = vec![file];
    let error = bench.fail(None).await;
    assert!(matches!(error, SshError::KeyEncrypted { .. }), "{error:?}");
    for (passphrase, words) in [(None, "not answered"), (Some("sesame"), "passphrase")] {
        let error = bench.fail(Some(wrong(passphrase))).await;
        let SshError::AuthFailed { tried, .. } = &error else {
            panic!("{passphrase:?}: {error:?}");
        };
        assert_eq!(tried.len(), 1, "{tried:?}");
        assert!(tried[0].to_string().contains(words), "{tried:?}");
        assert!(!error.to_string().contains("nobody"), "{error}");
    }
}
