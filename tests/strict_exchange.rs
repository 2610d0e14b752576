//! Strict key exchange (CVE-2023-48795) is required of servers whose cipher needs it: an in-process server that does not
//! announce it, or does.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::borrow::Cow;
use std::sync::Arc;

use handover::hosts::{AlgorithmList, ListChange};
use handover::ssh::{AgentSource, ConnectOptions, Connection, KnownHosts, SshError, Target};
use russh::keys::{Algorithm, PrivateKey};
use russh::{Preferred, kex, mac, server};
use tokio::net::TcpListener;

struct Refusing;

impl server::Handler for Refusing {
    type Error = russh::Error;
}

/// Serves one connection after the other, and lets nobody in; returns the port.
async fn serve(key: PrivateKey, strict: bool) -> u16 {
    let mut preferred = Preferred {
        cipher: Cow::Owned(
            russh::cipher::ALL_CIPHERS
                .iter()
                .map(|name| **name)
                .collect(),
        ),
        mac: Cow::Owned(vec![mac::HMAC_SHA256_ETM, mac::HMAC_SHA256]),
        ..Preferred::default()
    };
    if !strict {
        let mut names = preferred.kex.into_owned();
        names.retain(|name| *name != kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER);
        preferred.kex = Cow::Owned(names);
    }
    let config = Arc::new(server::Config {
        keys: vec![key],
        preferred,
        ..server::Config::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(session) = server::run_stream(config.clone(), stream, Refusing).await {
                // The client goes when it has seen enough.
                let _ = session.await;
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cipher_that_needs_strict_exchange_is_refused_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("known_hosts");
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    for (strict, cipher, refused) in [
        (false, "chacha20-poly1305@openssh.com", true),
        (false, "aes256-cbc", true),
        (false, "aes256-gcm@openssh.com", false),
        (false, "aes256-ctr", false),
        (true, "chacha20-poly1305@openssh.com", false),
        (true, "aes256-cbc", false),
    ] {
        let port = serve(key.clone(), strict).await;
        KnownHosts::append(&trusted, "127.0.0.1", port, key.public_key())
            .await
            .unwrap();
        let mut target = Target::new("box".parse().unwrap(), "127.0.0.1", port, "somebody");
        target.settings.ciphers = Some(AlgorithmList {
            change: ListChange::Replace,
            names: vec![cipher.to_owned()],
        });
        let options = ConnectOptions::default()
            .agent(AgentSource::None)
            .trusted_hosts(trusted.clone());
        let error = Connection::open(&target, &options).await.unwrap_err();
        match &error {
            SshError::NotStrict { cipher: named, .. } if refused => {
                assert_eq!(named, cipher);
                assert!(error.to_string().contains("CVE-2023-48795"), "{error}");
            }
            SshError::AuthFailed { .. } if !refused => {}
            error => panic!("{cipher}, strict {strict}: {error:?}"),
        }
        assert!(!error.is_retryable_dial());
    }
}
