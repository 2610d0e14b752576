//! What is required of a server before anybody logs in, held against one in this process: strict key exchange
//! (CVE-2023-48795) where the cipher needs it, and a host key that is long enough and the one that was agreed upon.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::borrow::Cow;
use std::sync::Arc;

use handover::hosts::{AlgorithmList, ListChange};
use handover::ssh::{
    AgentSource, ConnectOptions, Connection, HostKeyFault, KnownHosts, SshError, Target,
};
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::{Signature, private::RsaKeypair};
use russh::keys::{Algorithm, HashAlg, PrivateKey};
use russh::{Preferred, kex, mac, server};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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
    for (configured, required) in [(None, 1024), (Some(0), 1024), (Some(4096), 4096)] {
        let too_short = |error: &SshError| {
            matches!(
                error,
                SshError::HostKeyRefused {
                    fault: HostKeyFault::TooShort { required: told },
                    ..
                } if *told == required
            )
        };
        let mut target = Target::new("box".parse().unwrap(), "127.0.0.1", port, "somebody");
        target.settings.required_rsa_size = configured;
        let error = Connection::open(&target, &options).await.unwrap_err();
        assert!(too_short(&error), "{configured:?}: {error:?}");
        let words = error.to_string();
        assert!(words.contains(&required.to_string()), "{words}");
        let error = handover::ssh::scan_host_key(&target, &options)
            .await
            .unwrap_err();
        assert!(too_short(&error), "{configured:?}: {error:?}");
    }
}

/// How a server signs the exchange.
type Sign = Arc<dyn Fn(&[u8]) -> Signature + Send + Sync>;

/// A server that is free in what it agrees on, shows and signs with, as far as the end of the key exchange.
#[derive(Clone)]
struct Free {
    agrees_on: &'static str,
    shows: Vec<u8>,
    sign: Sign,
}

impl Free {
    /// A string of RFC 4251.
    fn text(bytes: &[u8]) -> Vec<u8> {
        let mut framed = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        framed.extend(bytes);
        framed
    }

    /// A packet of RFC 4253, before anything is encrypted.
    fn packet(payload: &[u8]) -> Vec<u8> {
        let padding = 4 + (16 - (payload.len() + 9) % 8) % 8;
        let length = u32::try_from(payload.len() + padding + 1).unwrap();
        let mut packet = length.to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend(payload);
        packet.resize(packet.len() + padding, 0);
        packet
    }

    async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        let length = stream.read_u32().await?;
        let mut packet = vec![0; length as usize];
        stream.read_exact(&mut packet).await?;
        let end = packet.len() - usize::from(packet[0]);
        Ok(packet[1..end].to_vec())
    }

    /// Exchanges keys with a private exponent of one: the public value is the generator, the secret the client's value.
    async fn exchange(&self, mut stream: TcpStream) -> std::io::Result<()> {
        const VERSION: &[u8] = b"SSH-2.0-free";
        stream.write_all(&[VERSION, b"\r\n"].concat()).await?;
        let mut theirs = Vec::new();
        while !theirs.ends_with(b"\n") {
            theirs.push(stream.read_u8().await?);
        }
        let theirs = theirs.trim_ascii_end();
        let mut lists = [&[20][..], &[7; 16]].concat();
        for list in [
            "diffie-hellman-group14-sha256,kex-strict-s-v00@openssh.com",
            self.agrees_on,
            "aes256-ctr",
            "aes256-ctr",
            "hmac-sha2-256",
            "hmac-sha2-256",
            "none",
            "none",
            "",
            "",
        ] {
            lists.extend(Self::text(list.as_bytes()));
        }
        lists.extend([0; 5]);
        stream.write_all(&Self::packet(&lists)).await?;
        let their_lists = Self::read(&mut stream).await?;
        let init = Self::read(&mut stream).await?;
        let (their_value, our_value) = (&init[1..], Self::text(&[2]));
        let shown = Self::text(&self.shows);
        let hashed = [
            &Self::text(theirs)[..],
            &Self::text(VERSION),
            &Self::text(&their_lists),
            &Self::text(&lists),
            &shown,
            their_value,
            &our_value,
            their_value,
        ]
        .concat();
        let signature = (self.sign)(&Sha256::digest(&hashed));
        let signature = signature.encode_vec().unwrap();
        let reply = [&[31][..], &shown, &our_value, &Self::text(&signature)].concat();
        stream.write_all(&Self::packet(&reply)).await?;
        stream.write_all(&Self::packet(&[21])).await?;
        // Until the client goes, or waits for an answer to the first packet that it encrypts.
        Self::read(&mut stream).await?;
        stream.read_u8().await?;
        Ok(())
    }

    async fn serve(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // The client may go at any time.
                let _ = server.exchange(stream).await;
            }
        });
        port
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_key_on_record_counts_with_the_algorithm_alone_that_was_agreed_upon() {
    let rsa = RsaKeypair::random(&mut rand::rng(), 1024).unwrap();
    let rsa_key = PrivateKey::from(rsa.clone());
    let ed25519 = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let signed_rsa = |hash: Option<HashAlg>| -> Sign {
        let rsa = rsa.clone();
        Arc::new(move |hashed| (&rsa, hash).try_sign(hashed).unwrap())
    };
    let signed_ed25519: Sign = {
        let key = ed25519.clone();
        Arc::new(move |hashed| key.try_sign(hashed).unwrap())
    };
    let (sha1, sha256, sha512) = (
        signed_rsa(None),
        signed_rsa(Some(HashAlg::Sha256)),
        signed_rsa(Some(HashAlg::Sha512)),
    );
    let only = |names: &[&str]| {
        Some(AlgorithmList {
            change: ListChange::Replace,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    };
    let directory = tempfile::tempdir().unwrap();
    for (offered, agrees_on, key, sign, wanted) in [
        (None, "ssh-ed25519", &ed25519, &signed_ed25519, ""),
        (None, "rsa-sha2-512", &rsa_key, &sha512, ""),
        (None, "rsa-sha2-256", &rsa_key, &sha256, ""),
        (
            only(&["ssh-ed25519"]),
            "ssh-ed25519",
            &rsa_key,
            &sha512,
            "not offered",
        ),
        (None, "ssh-ed25519", &rsa_key, &sha512, "not agreed"),
        (
            None,
            "rsa-sha2-512",
            &ed25519,
            &signed_ed25519,
            "not agreed",
        ),
        (None, "rsa-sha2-512", &rsa_key, &sha1, "signature"),
        (None, "rsa-sha2-512", &rsa_key, &sha256, "signature"),
    ] {
        let server = Free {
            agrees_on,
            shows: key.public_key().to_bytes().unwrap(),
            sign: Arc::clone(sign),
        };
        let port = server.serve().await;
        let trusted = directory.path().join(port.to_string());
        KnownHosts::append(&trusted, "127.0.0.1", port, key.public_key())
            .await
            .unwrap();
        let mut target = Target::new("box".parse().unwrap(), "127.0.0.1", port, "somebody");
        target.settings.host_key_algorithms = offered;
        let options = ConnectOptions::default()
            .agent(AgentSource::None)
            .trusted_hosts(trusted);
        let name = |error: &SshError| match error {
            SshError::HostKeyRefused { fault, .. } => match fault {
                HostKeyFault::NotOffered { .. } => "not offered",
                HostKeyFault::NotAgreed { .. } => "not agreed",
                HostKeyFault::Signature { .. } => "signature",
                _ => "another fault",
            },
            // This server ends where the login begins.
            SshError::Lost { .. } => "",
            _ => "another error",
        };
        let case = format!("{agrees_on}, {}: {wanted}", key.algorithm());
        let error = Connection::open(&target, &options).await.unwrap_err();
        assert_eq!(name(&error), wanted, "{case}: {error:?}");
        assert!(wanted.is_empty() || !error.is_retryable_dial());
        // Who looks at it to trust it sees no key that does not count. The signature is there for a connection alone.
        match handover::ssh::scan_host_key(&target, &options).await {
            Ok(seen) => {
                assert!(matches!(wanted, "" | "signature"), "{case}: {seen:?}");
                assert_eq!(seen.key.key_data(), key.public_key().key_data());
            }
            Err(error) => assert_eq!(name(&error), wanted, "{case}: {error:?}"),
        }
    }
}
