//! The SSH agent: where it is, and which keys it has.
//!
//! Main function: [`connect`]. Invariant: an agent is asked only what it must be asked, after it was told which session
//! it signs for, so that keys that are restricted to hosts (ssh-add(1), `-h`) work and stay restricted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use russh::keys::Error as KeyError;
use russh::keys::agent::AgentSessionBinding;
use russh::keys::agent::client::{AgentClient, AgentStream};

use super::held::{self, Held};
use crate::hosts::IdentityAgent;
use crate::ssh::options::AgentSource;

/// An agent behind whatever stream the platform has.
pub(in crate::ssh) type Agent = AgentClient<Box<dyn AgentStream + Send + Unpin>>;

/// Where the agent of a host is: what its `IdentityAgent` says comes before what the caller says.
pub(in crate::ssh) fn source(configured: &IdentityAgent, given: &AgentSource) -> AgentSource {
    match configured {
        IdentityAgent::Environment => given.clone(),
        IdentityAgent::None => AgentSource::None,
        IdentityAgent::Socket(path) => AgentSource::Path(path.clone()),
    }
}

/// Connects to the agent, binds it to the session, and asks for its keys; nothing where there is no agent.
pub(in crate::ssh) async fn connect(
    source: &AgentSource,
    binding: Option<&AgentSessionBinding>,
) -> Result<Option<(Agent, Held)>, KeyError> {
    let Some(mut agent) = open(source).await? else {
        return Ok(None);
    };
    if let Some(binding) = binding {
        // Agents without the extension answer with a failure, which changes nothing.
        let _ = agent.bind_session(binding, false).await;
    }
    let mut stream = agent.into_inner();
    let held = held::request(&mut stream).await?;
    Ok(Some((AgentClient::connect(stream), held)))
}

async fn open(source: &AgentSource) -> Result<Option<Agent>, KeyError> {
    match source {
        AgentSource::None => Ok(None),
        AgentSource::Path(path) => at(path).await.map(Some),
        AgentSource::Auto => platform_agent().await,
    }
}

#[cfg(unix)]
async fn at(path: &Path) -> Result<Agent, KeyError> {
    Ok(AgentClient::connect_uds(path).await?.dynamic())
}

#[cfg(unix)]
async fn platform_agent() -> Result<Option<Agent>, KeyError> {
    match named(std::env::var_os("SSH_AUTH_SOCK")) {
        Some(path) => at(&path).await.map(Some),
        None => Ok(None),
    }
}

/// The agent that `SSH_AUTH_SOCK` names with this value.
#[cfg(unix)]
fn named(value: Option<OsString>) -> Option<PathBuf> {
    value.filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[cfg(windows)]
async fn at(path: &Path) -> Result<Agent, KeyError> {
    let pipe = pipe(&path.to_string_lossy()).unwrap_or_else(|| path.to_owned());
    Ok(AgentClient::connect_named_pipe(pipe).await?.dynamic())
}

/// The pipe of OpenSSH's agent for Windows.
#[cfg(windows)]
const OPENSSH_PIPE: &str = r"\\.\pipe\openssh-ssh-agent";

/// The pipe that a text names. OpenSSH for Windows takes slashes of either kind; and one backslash in front is what an
/// ssh_config leaves of the two that are not within quotes.
#[cfg(windows)]
fn pipe(text: &str) -> Option<PathBuf> {
    let text = text.replace('/', r"\");
    let rest = text.trim_start_matches('\\');
    let (device, name) = (rest.get(..7)?, rest.get(7..)?);
    let is_pipe = text.len() > rest.len() && device.eq_ignore_ascii_case(r".\pipe\");
    (is_pipe && !name.is_empty()).then(|| PathBuf::from(format!(r"\\.\pipe\{name}")))
}

#[cfg(windows)]
async fn platform_agent() -> Result<Option<Agent>, KeyError> {
    if let Some(path) = named(std::env::var_os("SSH_AUTH_SOCK")) {
        return at(&path).await.map(Some);
    }
    if let Ok(agent) = at(Path::new(OPENSSH_PIPE)).await {
        return Ok(Some(agent));
    }
    Ok(AgentClient::connect_pageant()
        .await
        .ok()
        .map(AgentClient::dynamic))
}

/// The agent that `SSH_AUTH_SOCK` names with this value. A socket of another world (MSYS, WSL) is no pipe.
#[cfg(windows)]
fn named(value: Option<OsString>) -> Option<PathBuf> {
    pipe(&value?.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_of_a_host_comes_before_that_of_the_environment() {
        let given = [
            AgentSource::Auto,
            AgentSource::None,
            AgentSource::Path("/run/other".into()),
        ];
        for given in given {
            assert_eq!(source(&IdentityAgent::Environment, &given), given);
            assert_eq!(source(&IdentityAgent::None, &given), AgentSource::None);
            assert_eq!(
                source(&IdentityAgent::Socket("/run/own".into()), &given),
                AgentSource::Path("/run/own".into())
            );
        }
    }

    #[test]
    fn ssh_auth_sock_names_a_socket_or_on_windows_a_pipe() {
        let named = |value: Option<&str>| named(value.map(OsString::from));
        let (socket, pipe) = (
            "/private/tmp/com.apple.launchd.x/Listeners",
            r"\\.\pipe\own",
        );
        let (ours, other) = if cfg!(windows) {
            (pipe, Some(socket))
        } else {
            (socket, None)
        };
        assert_eq!(named(Some(ours)), Some(PathBuf::from(ours)));
        assert_eq!(named(other), None);
        assert_eq!(named(Some("")), None);
        assert_eq!(named(None), None);
    }

    #[cfg(windows)]
    #[test]
    fn a_pipe_is_named_in_every_way_that_people_name_it() {
        let named = |text: &str| pipe(text).map(|pipe| pipe.to_string_lossy().into_owned());
        for text in [
            r"\\.\pipe\own",
            "//./pipe/own",
            r"\\.\PIPE\own",
            // What an ssh_config leaves of `\\.\pipe\own`.
            r"\.\pipe\own",
        ] {
            assert!(
                named(text).is_some_and(|name| name == r"\\.\pipe\own"),
                "{text}"
            );
        }
        for text in [
            "",
            r"\\.\pipe\",
            r".\pipe\own",
            r"C:\pipe\own",
            "/tmp/ssh-x/agent.1",
            r"\\server\pipe\own",
            "//./pi",
            "//./ü̈pe/own",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
    }

    #[cfg(windows)]
    #[tokio::test]
    async fn openssh_s_pipe_is_found_by_itself_and_its_keys_sign() {
        use russh::keys::signature::Verifier as _;
        use russh::keys::{Algorithm, PrivateKey};
        use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};

        let instance = |first: bool| -> std::io::Result<NamedPipeServer> {
            let mut options = ServerOptions::new();
            options.first_pipe_instance(first).create(OPENSSH_PIPE)
        };
        let pipe = instance(true).expect("no agent of this machine's own may run");
        let clients = futures::stream::unfold(pipe, move |pipe| async move {
            let connected = pipe.connect().await.map(|()| pipe);
            Some((connected, instance(false).ok()?))
        });
        let agent = tokio::spawn(russh::keys::agent::server::serve(Box::pin(clients), ()));

        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let mut adding = at(Path::new(OPENSSH_PIPE)).await.unwrap();
        adding.add_identity(&key, &[]).await.unwrap();
        let (mut found, held) = connect(&AgentSource::Auto, None).await.unwrap().unwrap();
        let offered: Vec<_> = held
            .keys
            .iter()
            .map(|key| key.public_key().into_owned())
            .collect();
        assert_eq!(offered.len(), 1);
        assert_eq!(offered[0].key_data(), key.public_key().key_data());
        let signature = found
            .sign_request_signature(&held.keys[0].public_key(), None, b"a session")
            .await
            .unwrap();
        key.public_key()
            .key_data()
            .verify(b"a session", &signature)
            .unwrap();
        agent.abort();
    }

    #[cfg(windows)]
    #[tokio::test]
    async fn the_agent_behind_a_named_pipe_is_asked_for_its_keys() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        use tokio::net::windows::named_pipe::ServerOptions;

        let name = format!(r"\\.\pipe\handover-test-{}", std::process::id());
        let mut pipe = ServerOptions::new()
            .first_pipe_instance(true)
            .create(&name)
            .unwrap();
        let agent = tokio::spawn(async move {
            pipe.connect().await.unwrap();
            // SSH_AGENTC_REQUEST_IDENTITIES, and SSH_AGENT_IDENTITIES_ANSWER with no keys (draft-miller-ssh-agent, 4.4).
            let mut request = [0; 5];
            pipe.read_exact(&mut request).await.unwrap();
            pipe.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).await.unwrap();
            (request, pipe)
        });
        let connected = connect(&AgentSource::Path(name.into()), None).await;
        let (_, held) = connected.unwrap().unwrap();
        assert!(held.keys.is_empty());
        assert_eq!(agent.await.unwrap().0, [0, 0, 0, 1, 11]);
        let nobody = AgentSource::Path(r"\\.\pipe\handover-test-nobody".into());
        assert!(connect(&nobody, None).await.is_err());
    }
}
