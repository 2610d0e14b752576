//! Every keyword of ssh_config(5), and what becomes of it.
//!
//! Main type: [`Keyword`], found by [`find`]. Invariant: a keyword is honoured whole, ignored where that is the safe
//! side and then named, or refused; the module's own page has the table.

/// A keyword of the manual.
#[derive(Debug)]
pub(super) struct Keyword {
    /// As the manual spells it.
    pub(super) name: &'static str,
    /// What becomes of it.
    pub(super) class: Class,
}

/// What becomes of a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It is read.
    Honoured(Honoured),
    /// It has no effect, and without it nothing is less safe. With one of these values, it says what is so anyway.
    Ignored(&'static [&'static str]),
    /// A host that it applies to is refused, unless the value is one of these.
    Refused {
        satisfied: &'static [&'static str],
        reason: &'static str,
    },
}

/// The keywords that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Honoured {
    CASignatureAlgorithms,
    CertificateFile,
    Ciphers,
    ConnectionAttempts,
    ConnectTimeout,
    GlobalKnownHostsFile,
    HashKnownHosts,
    HostKeyAlgorithms,
    HostKeyAlias,
    HostName,
    IdentitiesOnly,
    IdentityAgent,
    IdentityFile,
    IgnoreUnknown,
    KbdInteractiveAuthentication,
    KexAlgorithms,
    Macs,
    PasswordAuthentication,
    Port,
    PreferredAuthentications,
    ProxyCommand,
    ProxyJump,
    PubkeyAcceptedAlgorithms,
    PubkeyAuthentication,
    RequiredRsaSize,
    ServerAliveCountMax,
    ServerAliveInterval,
    StrictHostKeyChecking,
    User,
    UserKnownHostsFile,
}

const OFF: &[&str] = &["no", "false"];
const NONE: &[&str] = &["none"];

const fn honoured(name: &'static str, honoured: Honoured) -> Keyword {
    Keyword {
        name,
        class: Class::Honoured(honoured),
    }
}

const fn ignored(name: &'static str, satisfied: &'static [&'static str]) -> Keyword {
    Keyword {
        name,
        class: Class::Ignored(satisfied),
    }
}

const fn refused(
    name: &'static str,
    satisfied: &'static [&'static str],
    reason: &'static str,
) -> Keyword {
    Keyword {
        name,
        class: Class::Refused { satisfied, reason },
    }
}

/// All keywords but `Host`, `Match` and `Include`, which are no settings.
pub(super) const KEYWORDS: &[Keyword] = &[
    honoured("CASignatureAlgorithms", Honoured::CASignatureAlgorithms),
    honoured("CertificateFile", Honoured::CertificateFile),
    honoured("Ciphers", Honoured::Ciphers),
    honoured("ConnectionAttempts", Honoured::ConnectionAttempts),
    honoured("ConnectTimeout", Honoured::ConnectTimeout),
    honoured("GlobalKnownHostsFile", Honoured::GlobalKnownHostsFile),
    honoured("HashKnownHosts", Honoured::HashKnownHosts),
    honoured("HostKeyAlgorithms", Honoured::HostKeyAlgorithms),
    honoured("HostKeyAlias", Honoured::HostKeyAlias),
    honoured("Hostname", Honoured::HostName),
    honoured("IdentitiesOnly", Honoured::IdentitiesOnly),
    honoured("IdentityAgent", Honoured::IdentityAgent),
    honoured("IdentityFile", Honoured::IdentityFile),
    honoured("IgnoreUnknown", Honoured::IgnoreUnknown),
    honoured(
        "KbdInteractiveAuthentication",
        Honoured::KbdInteractiveAuthentication,
    ),
    honoured("PasswordAuthentication", Honoured::PasswordAuthentication),
    honoured("KexAlgorithms", Honoured::KexAlgorithms),
    honoured("MACs", Honoured::Macs),
    honoured("RequiredRSASize", Honoured::RequiredRsaSize),
    honoured("Port", Honoured::Port),
    honoured(
        "PreferredAuthentications",
        Honoured::PreferredAuthentications,
    ),
    honoured("ProxyCommand", Honoured::ProxyCommand),
    honoured("ProxyJump", Honoured::ProxyJump),
    honoured(
        "PubkeyAcceptedAlgorithms",
        Honoured::PubkeyAcceptedAlgorithms,
    ),
    honoured("PubkeyAuthentication", Honoured::PubkeyAuthentication),
    honoured("ServerAliveCountMax", Honoured::ServerAliveCountMax),
    honoured("ServerAliveInterval", Honoured::ServerAliveInterval),
    honoured("StrictHostKeyChecking", Honoured::StrictHostKeyChecking),
    honoured("User", Honoured::User),
    honoured("UserKnownHostsFile", Honoured::UserKnownHostsFile),
    refused(
        "BindAddress",
        &[],
        "the connection would leave by another address than the configured one",
    ),
    refused(
        "BindInterface",
        &[],
        "the connection would leave by another interface than the configured one",
    ),
    refused(
        "CanonicalizeHostname",
        OFF,
        "the host could be another one; write its full name",
    ),
    refused(
        "CheckHostIP",
        OFF,
        "the keys on record for the IP address would not be compared",
    ),
    refused(
        "KnownHostsCommand",
        NONE,
        "the keys that it revokes would not be known",
    ),
    refused(
        "RefuseConnection",
        &[],
        "it says that there must be no connection",
    ),
    refused(
        "RevokedHostKeys",
        NONE,
        "the keys that it revokes would be accepted; '@revoked' lines in known_hosts are read",
    ),
    ignored("AddKeysToAgent", OFF),
    ignored("AddressFamily", &["any"]),
    ignored("BatchMode", OFF),
    ignored("CanonicalDomains", &[]),
    ignored("CanonicalizeFallbackLocal", &["yes", "true"]),
    ignored("CanonicalizeMaxDots", &[]),
    ignored("CanonicalizePermittedCNAMEs", NONE),
    ignored("ChannelTimeout", NONE),
    ignored("Cipher", &[]),
    ignored("ClearAllForwardings", &["yes", "true", "no", "false"]),
    ignored("Compression", OFF),
    ignored("CompressionLevel", &[]),
    ignored("ControlMaster", OFF),
    ignored("ControlPath", NONE),
    ignored("ControlPersist", OFF),
    ignored("DynamicForward", &[]),
    ignored("EnableEscapeCommandline", OFF),
    ignored("EnableSSHKeysign", OFF),
    ignored("EscapeChar", NONE),
    ignored("ExitOnForwardFailure", OFF),
    ignored("FingerprintHash", &["sha256"]),
    ignored("ForkAfterAuthentication", OFF),
    ignored("ForwardAgent", OFF),
    ignored("ForwardX11", OFF),
    ignored("ForwardX11Timeout", &[]),
    ignored("ForwardX11Trusted", OFF),
    ignored("GatewayPorts", OFF),
    ignored("GSSAPIAuthentication", OFF),
    ignored("GSSAPIClientIdentity", &[]),
    ignored("GSSAPIDelegateCredentials", OFF),
    ignored("GSSAPIKexAlgorithms", &[]),
    ignored("GSSAPIKeyExchange", OFF),
    ignored("GSSAPIRenewalForcesRekey", OFF),
    ignored("GSSAPIServerIdentity", &[]),
    ignored("GSSAPITrustDns", OFF),
    ignored("HostbasedAcceptedAlgorithms", &[]),
    ignored("HostbasedAuthentication", OFF),
    ignored("IPQoS", &[]),
    ignored("KbdInteractiveDevices", &[]),
    ignored("LocalCommand", NONE),
    ignored("LocalForward", &[]),
    ignored("LogLevel", &[]),
    ignored("LogVerbose", NONE),
    ignored("NoHostAuthenticationForLocalhost", OFF),
    ignored("NumberOfPasswordPrompts", &[]),
    ignored("ObscureKeystrokeTiming", &[]),
    ignored("PermitLocalCommand", OFF),
    ignored("PermitRemoteOpen", &[]),
    ignored("PKCS11Provider", NONE),
    ignored("Protocol", &["2"]),
    ignored("ProxyUseFdpass", OFF),
    ignored("RekeyLimit", &[]),
    ignored("RemoteCommand", NONE),
    ignored("RemoteForward", &[]),
    ignored("RequestTTY", &["no", "auto"]),
    ignored("SecurityKeyProvider", NONE),
    ignored("SendEnv", &[]),
    ignored("SessionType", &["default"]),
    ignored("SetEnv", &[]),
    ignored("StdinNull", OFF),
    ignored("StreamLocalBindMask", &[]),
    ignored("StreamLocalBindUnlink", OFF),
    ignored("SyslogFacility", &[]),
    ignored("Tag", &[]),
    ignored("TCPKeepAlive", &[]),
    ignored("Tunnel", OFF),
    ignored("TunnelDevice", &[]),
    ignored("UpdateHostKeys", OFF),
    ignored("UseKeychain", OFF),
    ignored("VerifyHostKeyDNS", OFF),
    ignored("VersionAddendum", NONE),
    ignored("VisualHostKey", OFF),
    ignored("WarnWeakCrypto", &[]),
    ignored("XAuthLocation", &[]),
];

/// Older names, in lower case, and the keywords that they mean today.
const ALIASES: &[(&str, &str)] = &[
    (
        "challengeresponseauthentication",
        "KbdInteractiveAuthentication",
    ),
    ("dsaauthentication", "PubkeyAuthentication"),
    ("hostbasedkeytypes", "HostbasedAcceptedAlgorithms"),
    ("identityfile2", "IdentityFile"),
    ("keepalive", "TCPKeepAlive"),
    ("pubkeyacceptedkeytypes", "PubkeyAcceptedAlgorithms"),
    ("skeyauthentication", "KbdInteractiveAuthentication"),
    ("smartcarddevice", "PKCS11Provider"),
    ("tisauthentication", "KbdInteractiveAuthentication"),
];

/// The keyword of this name, whatever its case; `None` when the manual has none.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    let alias = ALIASES
        .iter()
        .find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    let name = alias.map_or(name, |(_, today)| today);
    KEYWORDS
        .iter()
        .find(|keyword| keyword.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `man ssh_config` of OpenSSH 10 describes, but for `Host`, `Match` and `Include`.
    const MANUAL: &str = "AddKeysToAgent AddressFamily BatchMode BindAddress BindInterface CanonicalDomains \
        CanonicalizeFallbackLocal CanonicalizeHostname CanonicalizeMaxDots CanonicalizePermittedCNAMEs \
        CASignatureAlgorithms CertificateFile ChannelTimeout CheckHostIP Ciphers ClearAllForwardings Compression \
        ConnectionAttempts ConnectTimeout ControlMaster ControlPath ControlPersist DynamicForward \
        EnableEscapeCommandline EnableSSHKeysign EscapeChar ExitOnForwardFailure FingerprintHash \
        ForkAfterAuthentication ForwardAgent ForwardX11 ForwardX11Timeout ForwardX11Trusted GatewayPorts \
        GlobalKnownHostsFile GSSAPIAuthentication GSSAPIClientIdentity GSSAPIDelegateCredentials \
        GSSAPIKeyExchange GSSAPIRenewalForcesRekey GSSAPIServerIdentity GSSAPITrustDns GSSAPIKexAlgorithms \
        HashKnownHosts HostbasedAcceptedAlgorithms HostbasedAuthentication HostKeyAlgorithms HostKeyAlias Hostname \
        IdentitiesOnly IdentityAgent IdentityFile IgnoreUnknown IPQoS KbdInteractiveAuthentication \
        KbdInteractiveDevices KexAlgorithms KnownHostsCommand LocalCommand LocalForward LogLevel LogVerbose MACs \
        NoHostAuthenticationForLocalhost NumberOfPasswordPrompts ObscureKeystrokeTiming PasswordAuthentication \
        PermitLocalCommand PermitRemoteOpen PKCS11Provider Port PreferredAuthentications ProxyCommand ProxyJump \
        ProxyUseFdpass PubkeyAcceptedAlgorithms PubkeyAuthentication RefuseConnection RekeyLimit RemoteCommand \
        RemoteForward RequestTTY RequiredRSASize RevokedHostKeys SecurityKeyProvider SendEnv ServerAliveCountMax \
        ServerAliveInterval SessionType SetEnv StdinNull StreamLocalBindMask StreamLocalBindUnlink \
        StrictHostKeyChecking SyslogFacility Tag TCPKeepAlive Tunnel TunnelDevice UpdateHostKeys User \
        UserKnownHostsFile VerifyHostKeyDNS VersionAddendum VisualHostKey WarnWeakCrypto XAuthLocation";

    #[test]
    fn every_keyword_of_the_manual_has_its_class_once() {
        for name in MANUAL.split_whitespace() {
            let known = KEYWORDS.iter().filter(|keyword| keyword.name == name);
            assert_eq!(known.count(), 1, "{name}");
        }
        for (alias, name) in ALIASES {
            assert_eq!(find(alias).unwrap().name, *name);
        }
        assert_eq!(find("pORT").unwrap().name, "Port");
        assert!(find("Host").is_none() && find("Colour").is_none());
    }

    #[test]
    fn the_modules_page_has_every_keyword_in_its_class() {
        let page = include_str!("mod.rs");
        let row = |title: &str| {
            let rows = page
                .lines()
                .filter(|line| line.starts_with(&format!("//! | {title}")));
            rows.collect::<Vec<_>>().join(" ")
        };
        let (read, not_used, no_host) = (row("honoured"), row("ignored"), row("refused"));
        for keyword in KEYWORDS {
            let rows = match keyword.class {
                Class::Honoured(_) => &read,
                Class::Ignored(_) => &not_used,
                Class::Refused { .. } => &no_host,
            };
            assert!(
                rows.contains(&format!("`{}`", keyword.name)),
                "{} in {rows}",
                keyword.name
            );
        }
    }
}
