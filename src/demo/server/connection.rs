//! One client's connection: who is let in, and what its channels may do.
//!
//! The main type is [`Connection`]. No handler waits for a process or a file: whatever takes time is a task
//! of its own, so that one channel never holds up another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use russh::keys::ssh_key;
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::state::{Shared, lock};
use super::{exec, sftp};

/// An open session channel; dropping the entry frees its place among the `max_sessions`.
struct Entry {
    /// Taken by the first request that starts something.
    channel: Option<Channel<Msg>>,
    closed: CancellationToken,
}

/// The handler of one connection.
pub(super) struct Connection {
    shared: Arc<Shared>,
    channels: Arc<Mutex<HashMap<ChannelId, Entry>>>,
    /// Fires when the connection has ended: it is dropped together with this handler.
    ended: CancellationToken,
    _end: DropGuard,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let ended = shared.stopping.child_token();
        Self {
            shared,
            channels: Arc::default(),
            _end: ended.clone().drop_guard(),
            ended,
        }
    }

    fn judge(&self, key: &ssh_key::PublicKey) -> Auth {
        if key.key_data() == self.shared.options.authorized_key.key_data() {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }

    /// Takes the channel for a request that starts something; a second such request gets `None`.
    fn take(&self, id: ChannelId) -> Option<(Channel<Msg>, CancellationToken)> {
        let mut channels = lock(&self.channels);
        let entry = channels.get_mut(&id)?;
        Some((entry.channel.take()?, entry.closed.clone()))
    }

    /// Runs a task of a channel, and frees the channel's place after it.
    fn spawn(&self, id: ChannelId, task: impl Future<Output = ()> + Send + 'static) {
        let channels = Arc::clone(&self.channels);
        self.shared.tasks.spawn(async move {
            task.await;
            lock(&channels).remove(&id);
        });
    }

    fn start_command(
        &self,
        id: ChannelId,
        command: Option<&[u8]>,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some((channel, closed)) = self.take(id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        self.shared.execs.add();
        let run = exec::run(
            Arc::clone(&self.shared),
            channel,
            session.handle(),
            command.map(<[u8]>::to_vec),
            closed,
        );
        self.spawn(id, run);
        Ok(())
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.judge(offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.judge(key.public_key))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if self.shared.options.open_forwarded_channel {
            let (shared, ended) = (Arc::clone(&self.shared), self.ended.clone());
            self.shared
                .tasks
                .spawn(open_unasked(shared, session.handle(), ended));
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let id = channel.id();
        let admitted = {
            let mut channels = lock(&self.channels);
            let room = self
                .shared
                .options
                .max_sessions
                .is_none_or(|most| channels.len() < most);
            if room {
                let entry = Entry {
                    closed: self.ended.child_token(),
                    channel: Some(channel),
                };
                channels.insert(id, entry);
            }
            room
        };
        if admitted {
            reply.accept().await;
        } else {
            // What sshd answers past MaxSessions.
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
        Ok(())
    }

    async fn channel_close(
        &mut self,
        id: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(entry) = lock(&self.channels).remove(&id) {
            entry.closed.cancel();
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start_command(id, Some(command), session)
    }

    async fn shell_request(
        &mut self,
        id: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start_command(id, None, session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name != "sftp" || !self.shared.options.sftp {
            return session.channel_failure(id);
        }
        let Some((channel, closed)) = self.take(id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        self.shared.sftp_sessions.add();
        self.spawn(id, sftp::run(Arc::clone(&self.shared), channel, closed));
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }
}

/// Opens a channel to the client that nobody asked for, and counts what the client makes of it.
async fn open_unasked(shared: Arc<Shared>, handle: Handle, ended: CancellationToken) {
    let opened = tokio::select! {
        () = ended.cancelled() => return,
        opened = handle.channel_open_forwarded_tcpip("127.0.0.1", 1, "127.0.0.1", 2) => opened,
    };
    match opened {
        Ok(channel) => {
            shared.forwarded_accepted.add();
            // The connection may be gone; the count stands.
            let _ = channel.close().await;
        }
        Err(_) => {
            shared.forwarded_refused.add();
        }
    }
}
