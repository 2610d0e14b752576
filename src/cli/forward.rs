//! `handover forward`: a port of this machine that leads to one behind a host.

use super::args::ForwardArgs;
use super::interrupt::Interrupts;
use super::render::{data_line, say};
use super::text::printable;
use super::{CliError, exit, parse};
use crate::handoff::{Client, ForwardNews};
use crate::ssh::ForwardTo;

/// Forwards until Ctrl-C.
pub(crate) async fn run(client: &Client, args: &ForwardArgs) -> Result<u8, CliError> {
    let (port, to) = ends(&args.ends)?;
    let mut interrupts = Interrupts::listen().map_err(|error| CliError::Other(error.into()))?;
    let mut forwarding = tokio::select! {
        forwarding = client.forward(&args.host, port, to.clone()) => forwarding?,
        () = interrupts.next() => return Ok(exit::INTERRUPTED),
    };
    data_line(&forwarding.address().to_string());
    say(&format!(
        "it leads to {} on {}; Ctrl-C ends it",
        printable(&to.to_string()),
        args.host
    ));
    tokio::select! {
        error = forwarding.run(tell) => return Err(error.into()),
        () = interrupts.next() => {}
    }
    forwarding.close().await;
    Ok(exit::DONE)
}

fn tell(news: ForwardNews) {
    let words = match news {
        ForwardNews::Failed(error) => format!("warning: {}", exit::with_causes(&error)),
        ForwardNews::Lost(error) => format!("warning: {}", exit::with_causes(&error)),
        ForwardNews::Waiting { reason, retry_in } => format!(
            "{}; the next attempt is in {:.1} s",
            exit::with_causes(&reason),
            retry_in.as_secs_f32()
        ),
        ForwardNews::Reconnected => "connected again".to_owned(),
    };
    say(&printable(&words));
}

/// Reads `LOCAL:REMOTE`.
fn ends(text: &str) -> Result<(u16, ForwardTo), CliError> {
    let only = "127.0.0.1:";
    let rest = text.strip_prefix(only).unwrap_or(text);
    let Some((local, remote)) = rest.split_once(':') else {
        return Err(CliError::Usage(format!(
            "{text:?} is not LOCAL:REMOTE, such as 8080:80 or 0:/run/app.sock"
        )));
    };
    let digits = !local.is_empty() && local.bytes().all(|byte| byte.is_ascii_digit());
    let port = local.parse().ok().filter(|_| digits).ok_or_else(|| {
        CliError::Usage(format!(
            "{local:?} is not a port: LOCAL is PORT or 127.0.0.1:PORT, for nobody but this machine may reach it"
        ))
    })?;
    Ok((port, parse(remote)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_end_is_a_port_of_this_machine_alone() {
        for (text, port, to) in [
            ("8080:80", 8080, "80"),
            ("0:/run/app.sock", 0, "/run/app.sock"),
            ("127.0.0.1:5432:db:5432", 5432, "db:5432"),
            ("0:[::1]:80", 0, "[::1]:80"),
        ] {
            let Ok(read) = ends(text) else {
                panic!("{text}");
            };
            assert_eq!(read, (port, to.parse().unwrap()), "{text}");
        }
        for text in [
            "80",
            "",
            ":80",
            "0.0.0.0:80:80",
            "*:80:80",
            "[::]:80:80",
            "65536:80",
            "+1:80",
            "10.0.0.1:80:80",
            "80:",
            "localhost:80:80",
            r"8080:C:\x",
            r"8080:C:\x\app.sock",
        ] {
            assert!(matches!(ends(text), Err(CliError::Usage(_))), "{text}");
        }
    }
}
