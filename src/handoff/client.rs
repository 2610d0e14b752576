//! This machine's side of every handoff.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::announce::{Settings, settings_file};
use super::bring_back::{blocking, open};
use super::{
    CollectBuilder, Discovery, HandoffBuilder, HandoffError, KillBuilder, PruneBuilder,
    SpawnBuilder, SyncReport, discover, local_files, sync,
};
use crate::agent::LocalAgent;
use crate::hosts::{Host, HostName, Hosts, LocalMachine, Places, ResolvedHost};
use crate::job::{JobRecord, Store};
use crate::session::{Limits, SessionId, inspect};
use crate::ssh::{ConnectOptions, Pool, Target};

/// SSH's port (RFC 4253, section 4.2).
const SSH_PORT: u16 = 22;

/// This machine's side of every handoff: its hosts, its store of jobs, its agent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    places: Places,
    hosts: Hosts,
    store: Store,
    set_aside: Option<PathBuf>,
    pool: Pool,
    opencode: Option<PathBuf>,
    settings: Settings,
    /// The notes about the ssh_config that have been logged.
    told: Mutex<BTreeSet<String>>,
}

/// What a [`Client`] is opened with.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where configuration and state are on this machine.
    pub places: Places,
    /// Hosts that the caller defines; they come before those of every file.
    pub inline_hosts: Vec<Host>,
    /// How connections are made: keys, host keys, deadlines, questions to a person.
    pub connect: ConnectOptions,
    /// The local opencode program; without it `opencode` is looked for in the search path.
    pub opencode: Option<PathBuf>,
}

impl ClientOptions {
    /// The options of a program without a terminal, from the environment.
    ///
    /// # Errors
    /// [`HandoffError::Hosts`] when the environment names no home.
    pub fn from_env() -> Result<Self, HandoffError> {
        let places = Places::from_env()?;
        let connect = ConnectOptions::new(&places.home).trusted_hosts(places.known_hosts_file());
        let opencode = std::env::var_os("HANDOVER_OPENCODE")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        Ok(Self {
            places,
            inline_hosts: Vec::new(),
            connect,
            opencode,
        })
    }
}

impl Client {
    /// Reads the hosts files and opens the store; a damaged one is set aside, see
    /// [`store_set_aside`](Self::store_set_aside).
    ///
    /// # Errors
    /// [`HandoffError::Hosts`], [`HandoffError::Settings`] or [`HandoffError::Store`].
    pub fn open(options: ClientOptions) -> Result<Self, HandoffError> {
        let hosts = Hosts::load(&options.places)?.with_inline(options.inline_hosts);
        let settings = Settings::load(&settings_file(&options.places.config_dir))?;
        let (store, set_aside) = Store::open_or_set_aside(&options.places.store_file())?;
        Ok(Self {
            inner: Arc::new(Inner {
                places: options.places,
                hosts,
                store,
                set_aside,
                pool: Pool::new(options.connect),
                opencode: options.opencode,
                settings,
                told: Mutex::default(),
            }),
        })
    }

    /// The hosts that were found.
    #[must_use]
    pub fn hosts(&self) -> &Hosts {
        &self.inner.hosts
    }

    /// The jobs that this machine has sent, newest first.
    ///
    /// # Errors
    /// [`HandoffError::Store`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn jobs(&self) -> Result<Vec<JobRecord>, HandoffError> {
        Ok(self.inner.store.list().await?)
    }

    /// Begins a handoff to a host.
    ///
    /// # Errors
    /// [`HandoffError::Hosts`] when there is no such host, when its kind is not supported yet, or when what the
    /// ssh_config says of it cannot be used.
    pub fn handoff(&self, host: &str) -> Result<HandoffBuilder, HandoffError> {
        let host = self.host(host)?;
        self.resolve(&host)?;
        Ok(HandoffBuilder::new(
            self.clone(),
            host,
            self.inner.places.project_dir.clone(),
        ))
    }

    /// Begins a job that makes a fresh session on a host; `prompt` is what its agent is told.
    ///
    /// # Errors
    /// As [`Client::handoff`].
    pub fn spawn(
        &self,
        host: &str,
        prompt: impl Into<String>,
    ) -> Result<SpawnBuilder, HandoffError> {
        Ok(SpawnBuilder::new(self.handoff(host)?, prompt.into()))
    }

    /// Begins the collection of a job: its id, the beginning of one, or `-` for the newest.
    pub fn collect(&self, job: impl Into<String>) -> CollectBuilder {
        CollectBuilder::new(self.clone(), job.into())
    }

    /// Begins the end of a job: its id, the beginning of one, or `-` for the newest.
    pub fn kill(&self, job: impl Into<String>) -> KillBuilder {
        KillBuilder::new(self.clone(), job.into())
    }

    /// Reconciles the unfinished jobs of these hosts, or of all where none is named, with what is there: one connection
    /// a host, hosts side by side. A job that was recorded and never launched is closed; a result stays where it is.
    /// Where records were lost with a damaged store, the hosts are searched for their jobs first, each until it was
    /// once.
    ///
    /// Dropping the future leaves jobs that were not looked at as they were.
    ///
    /// # Errors
    /// [`HandoffError::Store`], or [`HandoffError::Hosts`] for a host that is not configured. What a single host or job
    /// met is in the report.
    pub async fn sync(&self, hosts: &[HostName]) -> Result<SyncReport, HandoffError> {
        sync::sync(self, hosts).await
    }

    /// Looks on these hosts, or on all where none is named, for jobs that this machine has no record of, and makes
    /// records of those that were launched. A job that another machine has sent becomes an index entry: that machine's
    /// files on the host are left alone.
    ///
    /// Dropping the future leaves what was not adopted yet.
    ///
    /// # Errors
    /// [`HandoffError::Store`], or [`HandoffError::Hosts`] for a host that is not configured. What a host met is in the
    /// report.
    pub async fn discover(&self, hosts: &[HostName]) -> Result<Discovery, HandoffError> {
        discover::discover(self, hosts).await
    }

    /// Begins the removal of what ended jobs have left.
    pub fn prune(&self) -> PruneBuilder {
        PruneBuilder::new(self.clone())
    }

    /// Where a damaged store was put aside when this client was opened; its jobs are found again by the next
    /// [`sync`](Self::sync), or by [`discover`](Self::discover).
    #[must_use]
    pub fn store_set_aside(&self) -> Option<&Path> {
        self.inner.set_aside.as_deref()
    }

    /// The jobs whose records were found damaged since this was asked last: the records are kept aside in the store, and
    /// the jobs found again as those of a [damaged store](Self::store_set_aside).
    #[must_use]
    pub fn take_damaged_records(&self) -> Vec<String> {
        self.store().take_damaged()
    }

    /// How many messages a session has on this machine.
    ///
    /// # Errors
    /// [`HandoffError::Agent`] when the agent does not export it, [`HandoffError::Document`] when the export is
    /// not whole.
    ///
    /// # Cancel safety
    /// Safe: the agent that exports is ended, and nothing is left.
    pub async fn message_count(&self, session: &SessionId) -> Result<usize, HandoffError> {
        let directory = tempfile::tempdir()
            .map_err(|source| local_files::local(&std::env::temp_dir(), source))?;
        let file = directory.path().join(local_files::EXPORT);
        self.local_agent()?.export(session, &file).await?;
        blocking(move || Ok(inspect(open(&file)?, &Limits::default())?.message_ids.len())).await
    }

    /// Closes the connections that are open. What waits on one is told that it was lost.
    ///
    /// # Cancel safety
    /// Safe; goodbyes may then not have been sent.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// Where configuration and state are.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.inner.places
    }

    pub(crate) fn host(&self, name: &str) -> Result<Host, HandoffError> {
        let host = self.inner.hosts.get(name)?;
        host.require_supported()?;
        Ok(host.clone())
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What the ssh_config says of a host, and what of that has no effect.
    ///
    /// # Errors
    /// [`HandoffError::Hosts`] when it cannot be used for this host.
    pub fn resolve(&self, host: &Host) -> Result<ResolvedHost, HandoffError> {
        let local = LocalMachine::of(&self.inner.places);
        Ok(self.inner.hosts.resolve(host, &local)?)
    }

    /// Where a host is reached, and how. What its ssh_config says without effect is logged, once for each line.
    ///
    /// # Errors
    /// [`HandoffError::Hosts`] and [`HandoffError::LocalUser`].
    pub(crate) fn target(&self, host: &Host) -> Result<Target, HandoffError> {
        let resolved = self.resolve(host)?;
        let jumps = resolved.jumps.iter();
        for note in jumps.flat_map(|hop| &hop.notes).chain(&resolved.notes) {
            let mut told = match self.inner.told.lock() {
                Ok(told) => told,
                Err(poisoned) => poisoned.into_inner(),
            };
            if told.insert(note.to_string()) {
                tracing::info!(host = %resolved.name, "{note}");
            }
        }
        target(resolved)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn connect_options(&self) -> &ConnectOptions {
        self.inner.pool.options()
    }

    /// The connections of every handoff of this client: one a host.
    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    pub(crate) fn local_agent(&self) -> Result<LocalAgent, HandoffError> {
        Ok(LocalAgent::find(self.inner.opencode.as_deref())?)
    }
}

/// A resolved host as the SSH layer takes it: the user of this machine where none is configured, SSH's port where none
/// is.
fn target(host: ResolvedHost) -> Result<Target, HandoffError> {
    let user = match host.user {
        Some(user) => user,
        None => whoami::username().map_err(|source| HandoffError::LocalUser {
            host: host.name.clone(),
            source,
        })?,
    };
    let port = host.port.unwrap_or(SSH_PORT);
    let mut target = Target::new(host.name, &host.host, port, &user);
    target.identity_files = host.identity_files;
    target.settings = host.settings;
    target.jumps = host
        .jumps
        .into_iter()
        .map(self::target)
        .collect::<Result<_, _>>()?;
    Ok(target)
}
