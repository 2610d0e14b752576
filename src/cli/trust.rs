//! `handover trust`: look at a host's key, and write it down after a yes.

use serde::Serialize;

use super::args::TrustArgs;
use super::prompt::{TerminalPrompt, ask_yes};
use super::render::{json_line, say};
use super::text::printable;
use super::{CliError, exit};
use crate::handoff::{Client, HandoffError, HostKey, Trust};

#[derive(Serialize)]
struct Answer<'a> {
    host: &'a str,
    algorithm: &'a str,
    fingerprint: &'a str,
    /// `known`, `written`, `replaced` or `not_written`.
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
    if key.trust == Trust::Changed {
        return replace(client, args, &key).await;
    }
    match &args.fingerprint {
        Some(demanded) if demanded == &key.fingerprint => {}
        Some(_) => return Err(mismatch(args, &key)),
        None if args.yes => {}
        None if TerminalPrompt::detect().is_some() => {
            if !ask_yes("Trust this key (yes/no)? ").await {
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

/// Replaces a changed key. Only somebody at a terminal can have compared the two: neither `--yes` nor a fingerprint
/// that anybody could have copied from the refusal is enough.
async fn replace(client: &Client, args: &TrustArgs, key: &HostKey) -> Result<u8, CliError> {
    let demanded = args.fingerprint.as_ref();
    if demanded.is_some_and(|demanded| demanded != &key.fingerprint) {
        return Err(mismatch(args, key));
    }
    if TerminalPrompt::detect().is_none() {
        return Err(HandoffError::from(key.changed()).into());
    }
    say("THE HOST KEY HAS CHANGED: somebody may be in between. On record is:");
    for recorded in &key.recorded {
        let stays = if client.replaces(key, recorded) {
            ""
        } else {
            ", which only an administrator changes"
        };
        let place = format!("{}:{}", recorded.file.display(), recorded.line);
        say(&format!(
            "  {} ({}{stays})",
            recorded.key,
            printable(&place)
        ));
    }
    say(&format!(
        "it showed now:\n  {} {}",
        key.algorithm, key.fingerprint
    ));
    let question = format!(
        "Only if {} was set up anew, and this is its new key: replace the recorded one (yes/no)? ",
        key.host
    );
    if !ask_yes(&question).await {
        return Ok(told(args, key, "not_written").max(exit::HOST_KEY));
    }
    client.replace_trust(key).await?;
    Ok(told(args, key, "replaced"))
}

fn mismatch(args: &TrustArgs, key: &HostKey) -> CliError {
    HandoffError::FingerprintMismatch {
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
            "replaced" => "it is trusted from now on, in the place of what was on record",
            _ => "nothing was written",
        });
    }
    exit::DONE
}
