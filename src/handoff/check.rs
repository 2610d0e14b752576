//! The doctor: whether a host is ready, and what to do where it is not.

use super::report::{
    Report, configuration, configuration_failed, connection_failed, opencode_there, probe_failed,
    shell, state_directory, stopped, the_clock, told, work_directory,
};
use super::{Client, HandoffError, clock, remote};
use crate::agent::{LocalIdentity, Probe, ProbeFor, ProbeRequest, names};
use crate::hosts::{Host, HostPath, ModelId};
use crate::ssh::{Connection, Files as _, RemotePath, SshError, Target, exposed_key_files};

/// The most that is read back of the file that shows whether SFTP and the shell see one tree, in bytes.
const VISIBLE_FILE: u64 = 4 << 10;
/// How a key file is made private.
const ONLY_YOURS: &str = if cfg!(windows) {
    "take away their access (at a command prompt: icacls FILE /reset, then icacls FILE /inheritance:r /grant:r \
     \"%USERNAME%:F\"), or make a new key"
} else {
    "take away their access (chmod 600), or make a new key"
};

impl Client {
    /// Examines a host: what a handoff needs of it, each with its remedy. Nothing is left on the host.
    ///
    /// `model` (`provider/model`) must be among the host's models; without it the host's configured one.
    ///
    /// # Errors
    /// [`HandoffError::Hosts`] when there is no such host. What the examination finds is in the report.
    ///
    /// # Cancel safety
    /// Safe; what the examination has made on the host may then still be there.
    pub async fn check(&self, host: &str, model: Option<&ModelId>) -> Result<Report, HandoffError> {
        let host = self.host(host)?;
        let mut report = Report::new(&host.name);
        if let Err(error) = examine(self, &host, model.or(host.model.as_ref()), &mut report).await {
            report.stopped_by = Some(error);
        }
        Ok(report)
    }
}

async fn examine(
    client: &Client,
    host: &Host,
    model: Option<&ModelId>,
    report: &mut Report,
) -> Result<(), HandoffError> {
    let target = match client.target(host) {
        Ok(target) => target,
        Err(error) => {
            configuration_failed(report, &error);
            return Err(error);
        }
    };
    configuration(report, &client.resolve(host)?);
    let connection = match client.pool().connect_apart(&target).await {
        Ok(connection) => connection,
        Err(error) => {
            connection_failed(report, &error);
            return Err(error.into());
        }
    };
    report.ok("dial", "the host answers");
    report.ok("host key", "as it is on record");
    report.ok("authentication", "accepted");
    for path in exposed_key_files(&target, client.connect_options()).await {
        report.warn(
            "key file",
            format!("others on this machine may read {}", path.display()),
            ONLY_YOURS,
        );
    }
    let request = ProbeRequest {
        purpose: ProbeFor::Check,
        state_dir: host.state_dir.as_ref().map(HostPath::as_str),
        opencode: host.opencode.as_ref().map(HostPath::as_str),
        work_dir: host.directory.as_ref().map(HostPath::as_str),
    };
    let (probe, skew) = match remote::probe(&connection, &request).await {
        Ok(answer) => answer,
        Err(error) => {
            connection.close().await;
            probe_failed(report, &error);
            return Err(error);
        }
    };
    let directory = probe
        .directory
        .as_ref()
        .and_then(|made| made.as_ref().ok())
        .map(|made| made.path.clone());
    let look = Look {
        client,
        connection: &connection,
        probe: &probe,
        directory: directory.as_ref(),
    };
    let mut looked = look.at_everything(report, skew, model).await;
    // Whatever was found or lost: nothing is left there.
    if let Some(directory) = &directory
        && !tidy(client, &target, &connection, directory).await
    {
        report.warn(
            "tidy",
            format!("{directory} is still there"),
            "remove it by hand",
        );
    }
    if looked.is_ok() {
        looked = survival(report, client, &target, &connection).await;
    }
    connection.close().await;
    looked.inspect_err(|error| stopped(report, error))
}

/// What the findings of one connection are drawn from.
struct Look<'a> {
    client: &'a Client,
    connection: &'a Connection,
    probe: &'a Probe,
    directory: Option<&'a RemotePath>,
}

impl Look<'_> {
    async fn at_everything(
        &self,
        report: &mut Report,
        skew: clock::Skew,
        model: Option<&ModelId>,
    ) -> Result<(), HandoffError> {
        let Self {
            client,
            connection,
            probe,
            directory,
        } = *self;
        shell(report, probe);
        sftp(report, connection, probe, directory).await?;
        state_directory(report, probe);
        work_directory(report, probe);
        the_clock(report, skew);
        if let (Some(opencode), Some(directory)) = (opencode_there(report, probe), directory) {
            the_model(report, connection, opencode, directory, model).await?;
        }
        opencode_here(report, client, probe).await;
        same_machine(report, probe).await;
        Ok(())
    }
}

/// Removes the check's directory, over a new connection where the first one is lost; whether it is gone.
async fn tidy(
    client: &Client,
    target: &Target,
    connection: &Connection,
    directory: &RemotePath,
) -> bool {
    let lost = match remote::clean(connection, directory).await {
        Ok(gone) => return gone,
        Err(error) => error,
    };
    tracing::info!(%lost, "the check's directory is removed over another connection");
    let Ok(again) = client.pool().connect_apart(target).await else {
        return false;
    };
    let gone = remote::clean(&again, directory).await;
    again.close().await;
    gone.unwrap_or(false)
}

async fn sftp(
    report: &mut Report,
    connection: &Connection,
    probe: &Probe,
    directory: Option<&RemotePath>,
) -> Result<(), HandoffError> {
    const REMEDY: &str =
        "nothing has to be done: files travel over an exec channel, which is slower";
    let files = match connection.sftp().await {
        Ok(files) => files,
        Err(SshError::SftpUnavailable { .. }) => {
            report.warn("sftp", "the server has no SFTP subsystem", REMEDY);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let Some(directory) = directory else {
        report.ok("sftp", "available");
        return Ok(());
    };
    match files
        .read(&directory.join(names::VISIBLE), VISIBLE_FILE)
        .await
    {
        Ok(bytes) if bytes.trim_ascii() == probe.visible.as_bytes() => {
            report.ok("sftp", "shows the shell's files")
        }
        Ok(_) | Err(SshError::NotFound { .. } | SshError::PermissionDenied { .. }) => {
            report.warn(
                "sftp",
                "shows other files than the shell does (a chroot?)",
                REMEDY,
            );
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn the_model(
    report: &mut Report,
    connection: &Connection,
    opencode: &RemotePath,
    directory: &RemotePath,
    model: Option<&ModelId>,
) -> Result<(), HandoffError> {
    let Some(model) = model else {
        report.ok("model", "none asked for: the session's own is used");
        return Ok(());
    };
    let models = remote::models(connection, opencode, directory).await?;
    if models.iter().any(|known| known == model.as_str()) {
        report.ok("model", format!("{model} is there"));
    } else {
        let remedy = format!(
            "choose one of its {} models ('opencode models' there), or log in there",
            models.len()
        );
        report.fail(
            "model",
            format!("{model} is not among the host's models"),
            &remedy,
        );
    }
    Ok(())
}

async fn opencode_here(report: &mut Report, client: &Client, probe: &Probe) {
    const REMEDY: &str = "install opencode here, or set HANDOVER_OPENCODE to its path";
    let agent = match client.local_agent() {
        Ok(agent) => agent,
        Err(error) => return report.fail("opencode here", told(&error), REMEDY),
    };
    let here = match agent.version().await {
        Ok(version) => version,
        Err(error) => return report.fail("opencode here", told(&error), REMEDY),
    };
    match &probe.version {
        Some(there) if there != &here => report.warn(
            "opencode here",
            format!("{here}, and {there} there"),
            "a session keeps what both versions know; the same version on both sides keeps everything",
        ),
        _ => report.ok("opencode here", format!("{} {here}", agent.program().display())),
    }
}

async fn same_machine(report: &mut Report, probe: &Probe) {
    if LocalIdentity::read().await.same_database(probe) {
        report.fail(
            "other machine",
            "the host is this very machine, with the same agent database",
            "use another account or another machine",
        );
    } else {
        report.ok("other machine", "its agent has its own database");
    }
}

/// Leaves a process behind, closes the connection, and looks from a new one whether it lived.
async fn survival(
    report: &mut Report,
    client: &Client,
    target: &Target,
    connection: &Connection,
) -> Result<(), HandoffError> {
    let survivor = remote::leave_survivor(connection).await?;
    connection.close().await;
    let again = client.pool().connect_apart(target).await?;
    let lives = remote::survivor_lives(&again, &survivor).await;
    again.close().await;
    if lives? {
        report.ok("after logout", "processes live on");
    } else {
        report.fail(
            "after logout",
            "the host ends an account's processes when it logs out",
            "on the host: loginctl enable-linger, or KillUserProcesses=no in logind.conf",
        );
    }
    Ok(())
}
