//! What is required of a server before anybody logs in, held against one in this process: strict key exchange
//! (CVE-2023-48795) where the cipher needs it, and a host key that is long enough.

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

/// An RSA key of 768 bits, made for this test: ssh-keygen(1) makes none so short.
const SHORT_KEY: &str = "-----BEGIN RSA PRIVATE KEY-----
MIIBywIBAAJhANjzkiYnUIpgvc/MqN5qRFpXaa7/HbVLaQ3GiBsrjzk5tnefIG1P
Gx0aT+GvvHuhtnYm+leYq1iwFOgTgA3RuHvReviybR0rTQQfYvNsJQ8/1orkjyJ0
EehIgxec1ktTPQIDAQABAmEAi1zzriSlHS8F312VwMI8xFfQoMRq3hHiGyJEPkfe
CiGjr/X9S5p8TVagp9ZO2pBGyUme6MJXnA3VqDF4QeW6nVbMw/N9SVqGeD9jEXsa
N1PSORzKoFH3GSKd7vmhBOrBAjEA9qtwGyozORmlRWKDp3nauy1+nSIdRFhFP3zH
0QgeIFrY04640Dk3J/dOKRMF4xXNAjEA4ShdOp4tgh6y4MOzQaUiFtv0Kw+VczBy
PwIXrymiTcMwqALmvS1gbVngsgxUHcMxAjEArT+wF4RGQd6fU+JjcaeGV10WxqqF
P9F3oaW0ej5nWnY0QDLH34ewE6QBA5xW0C4pAjBbHJJdXhTcSr/n5Eltjv00ct1j
b3LyofAZPyeGYjqjbRELa+EjPHGAzpX2drazNIECMHsTrEPe7jIHzuBKAEAfhvF+
+bYOHxKnQAgfqTIf0cWZtIVox31EOiZ515MEXWkbzw==
-----END RSA PRIVATE KEY-----
";

#[tokio::test(flavor = "multi_thread")]
async fn a_host_key_that_ssh_would_not_take_is_refused_whatever_is_configured() {
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("known_hosts");
    let key = russh::keys::decode_secret_key(SHORT_KEY, None).unwrap();
    let port = serve(key.clone(), true).await;
    KnownHosts::append(&trusted, "127.0.0.1", port, key.public_key())
        .await
        .unwrap();
    let options = ConnectOptions::default()
        .agent(AgentSource::None)
        .trusted_hosts(trusted);
    for configured in [None, Some(0)] {
        let mut target = Target::new("box".parse().unwrap(), "127.0.0.1", port, "somebody");
        target.settings.required_rsa_size = configured;
        let error = Connection::open(&target, &options).await.unwrap_err();
        assert!(
            matches!(&error, SshError::NoAlgorithm { keyword, .. } if *keyword == "RequiredRSASize"),
            "{configured:?}: {error:?}"
        );
        let error = handover::ssh::scan_host_key(&target, &options)
            .await
            .unwrap_err();
        assert!(
            matches!(error, SshError::NoAlgorithm { .. }),
            "{configured:?}: {error:?}"
        );
    }
}
