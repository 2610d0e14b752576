//! Which algorithms are offered, in which order, and which of those agreed upon are refused all the same.
//!
//! Main function: [`preferred`]. Invariant: a signature over SHA-1 is never offered, whatever is configured (and what
//! was not agreed is not accepted: see `host_key::agreed`); a configured list that leaves nothing is an error and never
//! the default list.

use std::borrow::Cow;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, kex, mac};

use super::error::SshError;
use super::host_key::{KnownHosts, wildcard};
use super::target::Target;
use crate::hosts::{AlgorithmList, ListChange};

/// The ciphers that are offered when none is configured, all of ssh(1)'s; the first two change places where the CPU has
/// no AES.
const DEFAULT_CIPHERS: [cipher::Name; 6] = [
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];
/// The ciphers that can be configured besides.
const MORE_CIPHERS: [cipher::Name; 3] = [
    cipher::AES_256_CBC,
    cipher::AES_192_CBC,
    cipher::AES_128_CBC,
];

/// The key exchanges that are offered when none is configured, in the order of ssh(1). It has `sntrup761x25519-sha512`
/// besides, which the library does not know; the groups 17 and 15 (RFC 8268) are the library's, and ssh(1) has neither.
const DEFAULT_EXCHANGES: [kex::Name; 12] = [
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G17_SHA512,
    kex::DH_G15_SHA512,
    kex::DH_G14_SHA256,
];
/// What stands in the list of key exchanges and is none: it is offered whatever is configured (RFC 8308; OpenSSH's
/// strict key exchange).
const EXCHANGE_EXTENSIONS: [kex::Name; 4] = [
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
/// The integrity algorithms that are offered when none is configured. What is known against SHA-1 (collisions) does not
/// touch HMAC, so ssh(1) still offers it; here it comes last. `umac-*`, which it has besides, the library does not know.
const DEFAULT_MACS: [mac::Name; 6] = [
    mac::HMAC_SHA512_ETM,
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512,
    mac::HMAC_SHA256,
    mac::HMAC_SHA1_ETM,
    mac::HMAC_SHA1,
];
/// The length in bits under which ssh(1) takes no RSA key, whatever is configured.
const LEAST_RSA_SIZE: u32 = 1024;

/// The algorithms with which an authority may sign a host certificate.
const AUTHORITY_SIGNATURES: [&str; 8] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// The public key algorithms that a login may use, certificates first: all that can be signed here or by an agent.
const PUBLIC_KEYS: [&str; 16] = [
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// The lists that a connection to `target` is negotiated from.
///
/// A server shows one host key. It should be one that is on record, so the algorithms on record come first, unless the
/// configuration gives an order of its own (as in ssh(1): a whole list or `^`). Certificates are asked for where an
/// authority, or a revocation, is on record for the host.
///
/// # Errors
/// [`SshError::NoAlgorithm`] when a configured list leaves none.
pub(super) fn preferred(target: &Target, known: &KnownHosts) -> Result<Preferred, SshError> {
    let empty = |keyword| SshError::NoAlgorithm {
        host: target.name.clone(),
        keyword,
    };
    let ciphers = ciphers(target.settings.ciphers.as_ref());
    if ciphers.is_empty() {
        return Err(empty("Ciphers"));
    }
    let (plain, certificates) = host_keys(target, known);
    if plain.is_empty() && certificates.is_empty() {
        return Err(empty("HostKeyAlgorithms"));
    }
    let exchanges = exchanges(target.settings.kex_algorithms.as_ref());
    if exchanges.is_empty() {
        return Err(empty("KexAlgorithms"));
    }
    let macs = macs(target.settings.macs.as_ref());
    if macs.is_empty() {
        return Err(empty("MACs"));
    }
    Ok(Preferred {
        kex: Cow::Owned([exchanges, EXCHANGE_EXTENSIONS.to_vec()].concat()),
        mac: Cow::Owned(macs),
        cipher: Cow::Owned(ciphers),
        key: Cow::Owned(plain),
        host_key_certificates: Cow::Owned(certificates),
        ..Preferred::default()
    })
}

/// The names of the public key algorithms that a login may use.
///
/// # Errors
/// [`SshError::NoAlgorithm`] when the configured list leaves none.
pub(super) fn public_keys(target: &Target) -> Result<Vec<String>, SshError> {
    let configured = target.settings.pubkey_accepted_algorithms.as_ref();
    let names = resolve(configured, &PUBLIC_KEYS, &PUBLIC_KEYS);
    if names.is_empty() {
        return Err(SshError::NoAlgorithm {
            host: target.name.clone(),
            keyword: "PubkeyAcceptedAlgorithms",
        });
    }
    Ok(names)
}

/// Whether an agreed cipher and its MACs are open to the Terrapin attack (CVE-2023-48795) without strict key exchange.
///
/// Those are ChaCha20-Poly1305, and CBC with a MAC over the ciphertext: with them a packet can be cut off the beginning
/// of the encrypted part unnoticed.
pub(super) fn needs_strict_exchange(cipher: &str, macs: [&str; 2]) -> bool {
    cipher.starts_with("chacha20-poly1305")
        || (cipher.ends_with("-cbc") && macs.iter().any(|mac| mac.contains("-etm")))
}

fn ciphers(configured: Option<&AlgorithmList>) -> Vec<cipher::Name> {
    let mut default = DEFAULT_CIPHERS;
    if !has_aes() {
        // With the instructions AES-GCM has twice the throughput of ChaCha20, without them half of it.
        default.swap(0, 1);
    }
    let all: Vec<&str> = default
        .iter()
        .chain(&MORE_CIPHERS)
        .map(AsRef::as_ref)
        .collect();
    let ours: Vec<&str> = default.iter().map(AsRef::as_ref).collect();
    resolve(configured, &ours, &all)
        .iter()
        .filter_map(|name| cipher::Name::try_from(name.as_str()).ok())
        .collect()
}

fn exchanges(configured: Option<&AlgorithmList>) -> Vec<kex::Name> {
    let ours = DEFAULT_EXCHANGES.each_ref().map(AsRef::as_ref);
    resolve(configured, &ours, &ours)
        .iter()
        .filter_map(|name| kex::Name::try_from(name.as_str()).ok())
        .collect()
}

fn macs(configured: Option<&AlgorithmList>) -> Vec<mac::Name> {
    let ours = DEFAULT_MACS.each_ref().map(AsRef::as_ref);
    resolve(configured, &ours, &ours)
        .iter()
        .filter_map(|name| mac::Name::try_from(name.as_str()).ok())
        .collect()
}

/// Whether an authority may have signed with this algorithm.
pub(super) fn authority_may_sign(target: &Target, signature: &Algorithm) -> bool {
    let configured = target.settings.ca_signature_algorithms.as_ref();
    let names = resolve(configured, &AUTHORITY_SIGNATURES, &AUTHORITY_SIGNATURES);
    names.iter().any(|name| name == signature.as_str())
}

/// The least length in bits of an RSA key: what is configured, or the least that ssh(1) takes.
pub(super) fn required_rsa_size(target: &Target) -> u32 {
    let configured = target.settings.required_rsa_size.unwrap_or_default();
    configured.max(LEAST_RSA_SIZE)
}

/// Whether a key is an RSA key that is shorter than that.
pub(super) fn is_too_short(target: &Target, key: &KeyData) -> bool {
    let required = required_rsa_size(target);
    key.rsa().is_some_and(|rsa| rsa.key_size() < required)
}

/// The host key algorithms: plain ones, and those whose certificates are asked for.
fn host_keys(target: &Target, known: &KnownHosts) -> (Vec<Algorithm>, Vec<Algorithm>) {
    let (name, port) = target.host_key_name();
    let on_record = known.algorithms(name, port);
    let supported = supported_host_keys();
    let certificates: Vec<String> = supported
        .iter()
        .map(Algorithm::to_certificate_type)
        .collect();
    let plain: Vec<String> = supported.iter().map(ToString::to_string).collect();
    let all: Vec<&str> = certificates
        .iter()
        .chain(&plain)
        .map(String::as_str)
        .collect();
    let configured = target.settings.host_key_algorithms.as_ref();
    let names = resolve(configured, &all, &all);
    let chosen = |wanted: fn(&Algorithm) -> String| -> Vec<Algorithm> {
        names
            .iter()
            .filter_map(|name| {
                supported
                    .iter()
                    .find(|algorithm| wanted(algorithm) == *name)
            })
            .cloned()
            .collect()
    };
    let mut plain = chosen(ToString::to_string);
    let mut certified = chosen(Algorithm::to_certificate_type);
    let own_order = configured
        .is_some_and(|list| matches!(list.change, ListChange::Replace | ListChange::Prepend));
    if !own_order {
        plain.sort_by_key(|algorithm| !on_record.iter().any(|known| same_kind(known, algorithm)));
    }
    if !known.has_authority(name, port) && !plain.is_empty() {
        // Nobody vouches for its certificate, but its authority or the certified key may be revoked. The kinds on
        // record alone: a certificate of another kind would hide the key that is known.
        if !known.has_revoked(name, port) {
            certified.clear();
        } else if !on_record.is_empty() {
            certified.retain(|algorithm| on_record.iter().any(|known| same_kind(known, algorithm)));
        }
    }
    (plain, certified)
}

/// Whether keys of both are one kind: RSA keys are, whatever the hash of the signature.
pub(super) fn same_kind(left: &Algorithm, right: &Algorithm) -> bool {
    let rsa = |algorithm: &Algorithm| matches!(algorithm, Algorithm::Rsa { .. });
    left == right || (rsa(left) && rsa(right))
}

fn supported_host_keys() -> [Algorithm; 6] {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
    [
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa(HashAlg::Sha512),
        rsa(HashAlg::Sha256),
    ]
}

/// What a configured list makes of the default one. Names that are not supported count for nothing.
fn resolve(
    configured: Option<&AlgorithmList>,
    default: &[&str],
    supported: &[&str],
) -> Vec<String> {
    let Some(list) = configured else {
        return default.iter().map(|name| (*name).to_owned()).collect();
    };
    let named = |name: &str| {
        list.names
            .iter()
            .any(|pattern| wildcard(pattern.as_bytes(), name.as_bytes()))
    };
    let expanded = list.names.iter().flat_map(|pattern| {
        supported
            .iter()
            .filter(|name| wildcard(pattern.as_bytes(), name.as_bytes()))
    });
    let mut names: Vec<&str> = match list.change {
        ListChange::Replace => expanded.copied().collect(),
        ListChange::Append => default.iter().chain(expanded).copied().collect(),
        ListChange::Prepend => expanded.chain(default).copied().collect(),
        ListChange::Remove => default
            .iter()
            .filter(|name| !named(name))
            .copied()
            .collect(),
    };
    let mut seen = Vec::new();
    names.retain(|name| {
        let new = !seen.contains(name);
        seen.push(*name);
        new
    });
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDab9Nl7r3be/lb1rkliutHeMJZONW+dl1SUv6ZZiX+81lLD7iCzLvPWE1mP1htmeUX4I6S+TCPVvwQC0kE4DkxT4lrd1J5/nHqXBL3ttxKE+c9h+9ycamMT7MUV7SLVzDNhwWMDrphKg87GquBQF8MxiXE31kPrbcHpQ2HMcy/QQ==";

    /// No RSA key of 768 bits is taken by ssh(1).
    const RSA_768: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAYQDY85ImJ1CKYL3PzKjeakRaV2mu/x21S2kNxogbK485ObZ3nyBtTxsdGk/hr7x7obZ2JvpXmKtYsBToE4AN0bh70Xr4sm0dK00EH2LzbCUPP9aK5I8idBHoSIMXnNZLUz0=";

    fn target() -> Target {
        Target::new("box".parse().unwrap(), "box", 22, "me")
    }

    fn list(change: ListChange, names: &[&str]) -> Option<AlgorithmList> {
        Some(AlgorithmList {
            change,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    fn known(lines: &str) -> KnownHosts {
        let mut known = KnownHosts::default();
        known.add(Path::new("known_hosts"), lines.as_bytes());
        known
    }

    fn keys(target: &Target, lines: &str) -> (Vec<String>, Vec<String>) {
        let preferred = preferred(target, &known(lines)).unwrap();
        (
            preferred.key.iter().map(ToString::to_string).collect(),
            preferred
                .host_key_certificates
                .iter()
                .map(ToString::to_string)
                .collect(),
        )
    }

    #[test]
    fn a_list_changes_the_default_as_in_ssh_config() {
        let (default, all) = (["a1", "b1", "c1"], ["a1", "b1", "c1", "a2", "b2"]);
        for (change, names, wanted) in [
            (ListChange::Replace, vec!["b2", "a*", "nothing"], "b2 a1 a2"),
            (ListChange::Append, vec!["?2", "a1"], "a1 b1 c1 a2 b2"),
            (ListChange::Remove, vec!["a*", "c1"], "b1"),
            (ListChange::Prepend, vec!["c1", "b*"], "c1 b1 b2 a1"),
            (ListChange::Replace, vec!["nothing"], ""),
            (ListChange::Remove, vec!["*"], ""),
        ] {
            let names = resolve(list(change, &names).as_ref(), &default, &all);
            assert_eq!(names.join(" "), wanted);
        }
        assert_eq!(resolve(None, &default, &all), default);
    }

    #[test]
    fn the_algorithm_on_record_is_offered_first_and_sha1_never() {
        let host = target();
        assert_eq!(keys(&host, "").0.first().unwrap(), "ssh-ed25519");
        let mut rsa = target();
        rsa.settings.host_key_algorithms = list(ListChange::Append, &["*"]);
        for target in [&host, &rsa] {
            let (plain, _) = keys(target, &format!("box {RSA}"));
            assert_eq!(plain.first().unwrap(), "rsa-sha2-512");
            assert!(!plain.contains(&"ssh-rsa".to_owned()));
        }
        rsa.settings.host_key_algorithms = list(ListChange::Prepend, &["ecdsa*"]);
        assert_eq!(
            keys(&rsa, &format!("box {RSA}")).0.first().unwrap(),
            "ecdsa-sha2-nistp256"
        );
        rsa.settings.host_key_algorithms = list(ListChange::Replace, &["ssh-rsa"]);
        assert!(matches!(
            preferred(&rsa, &known("")),
            Err(SshError::NoAlgorithm {
                keyword: "HostKeyAlgorithms",
                ..
            })
        ));
    }

    #[test]
    fn certificates_are_asked_for_where_somebody_can_vouch_for_or_revoke_them() {
        let mut host = target();
        assert_eq!(keys(&host, &format!("box {KEY}")).1, Vec::<String>::new());
        assert_eq!(
            keys(&host, &format!("@cert-authority *.lan {KEY}")).1.len(),
            0
        );
        assert_eq!(keys(&host, &format!("@cert-authority * {KEY}")).1.len(), 6);
        let revoked = format!("@revoked * {KEY}\n");
        assert_eq!(keys(&host, &revoked).1.len(), 6);
        assert_eq!(
            keys(&host, &format!("{revoked}box {RSA}")).1,
            ["rsa-sha2-512", "rsa-sha2-256"]
        );
        host.settings.host_key_algorithms = list(ListChange::Remove, &["*-cert-v01@openssh.com"]);
        assert_eq!(keys(&host, &format!("@cert-authority * {KEY}")).1.len(), 0);
    }

    #[test]
    fn ciphers_and_login_keys_follow_their_lists() {
        let mut host = target();
        host.settings.ciphers = list(ListChange::Replace, &["aes128-*", "none"]);
        let preferred_ciphers = preferred(&host, &known("")).unwrap().cipher;
        let names: Vec<&str> = preferred_ciphers.iter().map(AsRef::as_ref).collect();
        assert_eq!(
            names,
            ["aes128-gcm@openssh.com", "aes128-ctr", "aes128-cbc"]
        );
        host.settings.ciphers = list(ListChange::Replace, &["none", "clear"]);
        assert!(matches!(
            preferred(&host, &known("")),
            Err(SshError::NoAlgorithm {
                keyword: "Ciphers",
                ..
            })
        ));
        host.settings.pubkey_accepted_algorithms = list(ListChange::Remove, &["*rsa*", "*ecdsa*"]);
        assert!(
            public_keys(&host)
                .unwrap()
                .iter()
                .all(|name| name.contains("ed25519"))
        );
        host.settings.pubkey_accepted_algorithms = list(ListChange::Replace, &["ssh-rsa"]);
        assert!(public_keys(&host).is_err());
    }

    #[test]
    fn strict_exchange_is_needed_by_the_ciphers_that_terrapin_breaks() {
        let (etm, plain) = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-256");
        for (cipher, macs, wanted) in [
            ("chacha20-poly1305@openssh.com", [plain, plain], true),
            ("aes256-cbc", [etm, etm], true),
            ("aes256-cbc", [plain, etm], true),
            ("aes256-cbc", [plain, plain], false),
            ("aes256-ctr", [etm, etm], false),
            ("aes256-gcm@openssh.com", [etm, etm], false),
        ] {
            assert_eq!(
                needs_strict_exchange(cipher, macs),
                wanted,
                "{cipher} {macs:?}"
            );
        }
    }

    #[test]
    fn key_exchanges_and_macs_follow_the_configuration_and_keep_the_extensions() {
        let names = |host: &Target| -> (Vec<String>, Vec<String>) {
            let preferred = preferred(host, &known("")).unwrap();
            let text = |name: &dyn AsRef<str>| name.as_ref().to_owned();
            (
                preferred.kex.iter().map(|name| text(name)).collect(),
                preferred.mac.iter().map(|name| text(name)).collect(),
            )
        };
        let default = names(&target());
        for russh in Preferred::DEFAULT.kex.iter() {
            let name = russh.as_ref().to_owned();
            assert!(default.0.contains(&name), "{name} is lost");
        }
        let (last, others) = (&default.1[4..], &default.1[..4]);
        assert_eq!(last, ["hmac-sha1-etm@openssh.com", "hmac-sha1"]);
        assert!(!others.concat().contains("sha1"), "{default:?}");
        let mut host = target();
        host.settings.kex_algorithms = list(ListChange::Replace, &["ecdh-*", "sntrup761*"]);
        host.settings.macs = list(ListChange::Prepend, &["hmac-sha1"]);
        let (exchanges, macs) = names(&host);
        assert_eq!(
            exchanges[..3],
            [
                "ecdh-sha2-nistp256",
                "ecdh-sha2-nistp384",
                "ecdh-sha2-nistp521"
            ]
        );
        let extensions: Vec<&str> = EXCHANGE_EXTENSIONS.iter().map(AsRef::as_ref).collect();
        assert_eq!(exchanges[3..], extensions);
        assert_eq!(macs[0], "hmac-sha1");
        assert_eq!(macs[1..], default.1[..5]);
        for keyword in ["KexAlgorithms", "MACs"] {
            let mut host = target();
            let nothing = list(ListChange::Replace, &["kex-strict-*", "none"]);
            match keyword {
                "MACs" => host.settings.macs = nothing,
                _ => host.settings.kex_algorithms = nothing,
            }
            let error = preferred(&host, &known("")).unwrap_err();
            assert!(
                matches!(error, SshError::NoAlgorithm { keyword: named, .. } if named == keyword)
            );
        }
    }

    #[test]
    fn short_keys_and_signatures_of_authorities_are_judged_as_configured() {
        let key = russh::keys::PublicKey::from_openssh(RSA).unwrap();
        let other = russh::keys::PublicKey::from_openssh(KEY).unwrap();
        let short = russh::keys::PublicKey::from_openssh(RSA_768).unwrap();
        let mut host = target();
        for configured in [None, Some(0), Some(512), Some(1024)] {
            host.settings.required_rsa_size = configured;
            assert!(!is_too_short(&host, key.key_data()), "{configured:?}");
            assert!(is_too_short(&host, short.key_data()), "{configured:?}");
        }
        host.settings.required_rsa_size = Some(2048);
        assert!(is_too_short(&host, key.key_data()) && !is_too_short(&host, other.key_data()));
        let rsa = |hash| Algorithm::Rsa { hash };
        assert!(authority_may_sign(&host, &rsa(Some(HashAlg::Sha512))));
        assert!(!authority_may_sign(&host, &rsa(None)), "SHA-1");
        host.settings.ca_signature_algorithms = list(ListChange::Remove, &["rsa-*"]);
        assert!(!authority_may_sign(&host, &rsa(Some(HashAlg::Sha512))));
        assert!(authority_may_sign(&host, &Algorithm::Ed25519));
    }
}
