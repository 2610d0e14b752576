//! `handover trust`: look at a host's key, and write it down after a yes.

use serde::Serialize;

use super::args::TrustArgs;
use super::prompt::{TerminalPrompt, ask_yes};
use super::render::{json_line, say};
use super::{CliError, exit};
use crate::handoff::{Client, HostKey, Trust};

#[derive(Serialize)]
struct Answer<'a> {
    host: &'a str,
    algorithm: &'a str,
    fingerprint: &'a str,
    /// `known`, `written` or `not_written`.
    trust: &'static str,
}

pub(crate) async fn run(client: &Client, args: &TrustArgs) -> Result<u8, CliError> {
    if let Some(fingerprint) = &args.fingerprint
        && !fingerprint.starts_with("SHA256:")
    {
        return Err(CliError::Usage(format!(
            "{fingerprint:?} is not a fingerprint: it begins with SHA256:"
        )));
    }
    let key = client.host_key(&args.host).await?;
    if !args.json {
        say(&format!(
            "the host key of {}: {} {}",
            key.host, key.algorithm, key.fingerprint
        ));
    }
    if key.trust == Trust::Known {
        if args
            .fingerprint
            .as_ref()
            .is_some_and(|demanded| demanded != &key.fingerprint)
        {
            return Err(mismatch(args, &key));
        }
        return Ok(told(args, &key, "known"));
    }
    match &args.fingerprint {
        Some(demanded) if demanded == &key.fingerprint => {}
        Some(_) => return Err(mismatch(args, &key)),
        None if args.yes => {}
        None if TerminalPrompt::detect().is_some() => {
            if !tokio::task::spawn_blocking(|| {
                ask_yes("Trust this key (yes/no)? ").unwrap_or(false)
            })
            .await
            .unwrap_or(false)
            {
                return Ok(told(args, &key, "not_written").max(exit::HOST_KEY));
            }
        }
        None => {
            return Err(CliError::Usage(format!(
                "nobody can be asked here: compare the fingerprint {} with the host's own and give it with \
                 --fingerprint, or give --yes",
                key.fingerprint
            )));
        }
    }
    client.trust(&key).await?;
    Ok(told(args, &key, "written"))
}

fn mismatch(args: &TrustArgs, key: &HostKey) -> CliError {
    crate::handoff::HandoffError::FingerprintMismatch {
        host: key.host.clone(),
        offered: key.fingerprint.clone(),
        demanded: args.fingerprint.clone().unwrap_or_default(),
    }
    .into()
}

fn told(args: &TrustArgs, key: &HostKey, trust: &'static str) -> u8 {
    if args.json {
        json_line(&Answer {
            host: key.host.as_str(),
            algorithm: &key.algorithm,
            fingerprint: &key.fingerprint,
            trust,
        });
    } else {
        say(match trust {
            "known" => "it is known already",
            "written" => "it is trusted from now on",
            _ => "nothing was written",
        });
    }
    exit::DONE
}
