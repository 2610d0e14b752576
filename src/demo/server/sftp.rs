//! The SFTP subsystem: version 3 of the protocol (draft-ietf-secsh-filexfer-02) with the extensions of
//! OpenSSH's `PROTOCOL` that an uploader wants, over the real file system.
//!
//! The main type is [`Files`]. Every operation runs on a thread for blocking work, with the rights of this
//! process; requests of one session are answered in order.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use russh::Channel;
use russh::server::Msg;
use russh_sftp::extensions;
use russh_sftp::protocol::{
    Attrs, Data, ExtendedReply, File as Listed, FileAttributes, Handle, Name, OpenFlags, Packet,
    Status, StatusCode, Version,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::drain;
use super::files::{MODE_BITS, apply, apply_to_path, attributes, list, open_file, read_at};
use super::paths::View;
use super::state::Shared;

const POSIX_RENAME: &str = "posix-rename@openssh.com";
/// The longest packet, as OpenSSH's server has it; russh-sftp refuses longer ones.
const MAX_PACKET: u64 = 256 * 1024;
/// The longest read or write: a packet less its headers, as OpenSSH's server has it.
const MAX_DATA: u32 = 255 * 1024;
/// How many files and directories a session may hold open.
const MAX_HANDLES: usize = 1024;
/// How many names one answer to `READDIR` holds.
const NAMES_AT_A_TIME: usize = 100;

/// Serves SFTP on a channel until the client ends it or the channel closes.
pub(super) async fn run(shared: Arc<Shared>, channel: Channel<Msg>, closed: CancellationToken) {
    let (reader, writer) = channel.split();
    let (sender, mut input) = mpsc::unbounded_channel();
    shared.tasks.spawn(drain(reader, sender, closed.clone()));
    let input = futures::stream::poll_fn(move |context| {
        input
            .poll_recv(context)
            .map(|data| data.map(Ok::<_, io::Error>))
    });
    let served = CancellationToken::new();
    let stream = Session {
        stream: tokio::io::join(StreamReader::new(input), writer.make_writer()),
        _served: served.clone().drop_guard(),
    };
    let view = View::new(
        shared.options.home.clone(),
        shared.options.sftp_root.clone(),
    );
    // Returns at once: the session is served by a task of russh-sftp, which ends with its input.
    russh_sftp::server::run(stream, Files::new(view)).await;
    tokio::select! {
        () = closed.cancelled() => {}
        () = served.cancelled() => {}
    }
    // The client may have closed the channel already, or the connection may be gone.
    let _ = writer.exit_status(0).await;
    let _ = writer.eof().await;
    let _ = writer.close().await;
    closed.cancel();
}

/// The byte stream of a session, which tells when russh-sftp has let go of it.
struct Session<S> {
    stream: S,
    _served: DropGuard,
}

impl<S: AsyncRead + Unpin> AsyncRead for Session<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Session<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What a handle stands for.
enum Open {
    File(Arc<File>),
    /// The names not yet told, last first.
    Directory(Vec<Listed>),
}

/// One SFTP session over a view of the file system.
struct Files {
    view: View,
    handles: HashMap<String, Open>,
    next_handle: u64,
}

impl Files {
    fn new(view: View) -> Self {
        Self {
            view,
            handles: HashMap::new(),
            next_handle: 0,
        }
    }

    fn keep(&mut self, id: u32, open: Open) -> Handle {
        self.next_handle += 1;
        let handle = self.next_handle.to_string();
        self.handles.insert(handle.clone(), open);
        Handle { id, handle }
    }

    fn room(&self) -> Result<(), StatusCode> {
        if self.handles.len() < MAX_HANDLES {
            Ok(())
        } else {
            Err(StatusCode::Failure)
        }
    }

    fn file(&self, handle: &str) -> Result<Arc<File>, StatusCode> {
        match self.handles.get(handle) {
            Some(Open::File(file)) => Ok(Arc::clone(file)),
            _ => Err(StatusCode::Failure),
        }
    }

    /// Does something with the real path of what the client named.
    async fn with_path<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StatusCode> {
        let real = self.view.real(path);
        blocking(move || work(&real)).await
    }
}

/// Runs blocking work on a thread for it, and says in the protocol's words why it failed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StatusCode> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::NotFound => StatusCode::NoSuchFile,
            io::ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
            io::ErrorKind::UnexpectedEof => StatusCode::Eof,
            _ => StatusCode::Failure,
        }),
        Err(_) => Err(StatusCode::Failure),
    }
}

fn done(id: u32) -> Status {
    Status {
        id,
        status_code: StatusCode::Ok,
        error_message: String::from("Ok"),
        language_tag: String::from("en"),
    }
}

/// Splits a string (RFC 4251, section 5) off the data of an extended request.
fn take_string(data: &mut &[u8]) -> Result<String, StatusCode> {
    let (length, rest) = data
        .split_first_chunk::<4>()
        .ok_or(StatusCode::BadMessage)?;
    let length =
        usize::try_from(u32::from_be_bytes(*length)).map_err(|_| StatusCode::BadMessage)?;
    let (text, rest) = rest
        .split_at_checked(length)
        .ok_or(StatusCode::BadMessage)?;
    *data = rest;
    String::from_utf8(text.to_vec()).map_err(|_| StatusCode::BadMessage)
}

impl russh_sftp::server::Handler for Files {
    type Error = StatusCode;

    fn unimplemented(&self) -> Self::Error {
        StatusCode::OpUnsupported
    }

    async fn init(
        &mut self,
        _version: u32,
        _extensions: HashMap<String, String>,
    ) -> Result<Version, Self::Error> {
        let mut version = Version::new();
        for name in [POSIX_RENAME, extensions::FSYNC, extensions::LIMITS] {
            version
                .extensions
                .insert(name.to_owned(), String::from("1"));
        }
        Ok(version)
    }

    async fn open(
        &mut self,
        id: u32,
        filename: String,
        pflags: OpenFlags,
        attrs: FileAttributes,
    ) -> Result<Handle, Self::Error> {
        self.room()?;
        let open = move |path: &Path| open_file(path, pflags, attrs.permissions);
        let file = self.with_path(&filename, open).await?;
        Ok(self.keep(id, Open::File(Arc::new(file))))
    }

    async fn close(&mut self, id: u32, handle: String) -> Result<Status, Self::Error> {
        match self.handles.remove(&handle) {
            Some(_) => Ok(done(id)),
            None => Err(StatusCode::Failure),
        }
    }

    async fn read(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        len: u32,
    ) -> Result<Data, Self::Error> {
        let file = self.file(&handle)?;
        let length = usize::try_from(len.min(MAX_DATA)).map_err(|_| StatusCode::Failure)?;
        let data = blocking(move || read_at(&file, offset, length)).await?;
        Ok(Data { id, data })
    }

    async fn write(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<Status, Self::Error> {
        let file = self.file(&handle)?;
        blocking(move || file.write_all_at(&data, offset)).await?;
        Ok(done(id))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Result<Attrs, Self::Error> {
        let metadata = self
            .with_path(&path, |path| path.symlink_metadata())
            .await?;
        Ok(Attrs {
            id,
            attrs: attributes(&metadata),
        })
    }

    async fn stat(&mut self, id: u32, path: String) -> Result<Attrs, Self::Error> {
        let metadata = self.with_path(&path, |path| path.metadata()).await?;
        Ok(Attrs {
            id,
            attrs: attributes(&metadata),
        })
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Result<Attrs, Self::Error> {
        let file = self.file(&handle)?;
        let metadata = blocking(move || file.metadata()).await?;
        Ok(Attrs {
            id,
            attrs: attributes(&metadata),
        })
    }

    async fn setstat(
        &mut self,
        id: u32,
        path: String,
        attrs: FileAttributes,
    ) -> Result<Status, Self::Error> {
        self.with_path(&path, move |path| apply_to_path(path, &attrs))
            .await?;
        Ok(done(id))
    }

    async fn fsetstat(
        &mut self,
        id: u32,
        handle: String,
        attrs: FileAttributes,
    ) -> Result<Status, Self::Error> {
        let file = self.file(&handle)?;
        blocking(move || apply(&file, &attrs)).await?;
        Ok(done(id))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Result<Handle, Self::Error> {
        self.room()?;
        let names = self.with_path(&path, list).await?;
        Ok(self.keep(id, Open::Directory(names)))
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Result<Name, Self::Error> {
        let Some(Open::Directory(names)) = self.handles.get_mut(&handle) else {
            return Err(StatusCode::Failure);
        };
        if names.is_empty() {
            return Err(StatusCode::Eof);
        }
        let files = names.split_off(names.len().saturating_sub(NAMES_AT_A_TIME));
        Ok(Name { id, files })
    }

    async fn remove(&mut self, id: u32, filename: String) -> Result<Status, Self::Error> {
        self.with_path(&filename, |path| fs::remove_file(path))
            .await?;
        Ok(done(id))
    }

    async fn mkdir(
        &mut self,
        id: u32,
        path: String,
        attrs: FileAttributes,
    ) -> Result<Status, Self::Error> {
        let mode = attrs.permissions.unwrap_or(0o777) & MODE_BITS;
        let make = move |path: &Path| fs::DirBuilder::new().mode(mode).create(path);
        self.with_path(&path, make).await?;
        Ok(done(id))
    }

    async fn rmdir(&mut self, id: u32, path: String) -> Result<Status, Self::Error> {
        self.with_path(&path, |path| fs::remove_dir(path)).await?;
        Ok(done(id))
    }

    async fn realpath(&mut self, id: u32, path: String) -> Result<Name, Self::Error> {
        let view = self.view.clone();
        let canonical: PathBuf = blocking(move || view.canonical(&path)).await?;
        let name = canonical.to_string_lossy().into_owned();
        Ok(Name {
            id,
            files: vec![Listed::dummy(name)],
        })
    }

    /// As the draft has it, an existing file is not replaced; `posix-rename@openssh.com` does that.
    async fn rename(
        &mut self,
        id: u32,
        oldpath: String,
        newpath: String,
    ) -> Result<Status, Self::Error> {
        let new = self.view.real(&newpath);
        let rename = move |old: &Path| {
            if new.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(old, new)
        };
        self.with_path(&oldpath, rename).await?;
        Ok(done(id))
    }

    async fn extended(
        &mut self,
        id: u32,
        request: String,
        data: Vec<u8>,
    ) -> Result<Packet, Self::Error> {
        let mut data = data.as_slice();
        match request.as_str() {
            POSIX_RENAME => {
                let old = self.view.real(&take_string(&mut data)?);
                let new = self.view.real(&take_string(&mut data)?);
                blocking(move || fs::rename(old, new)).await?;
                Ok(Packet::Status(done(id)))
            }
            extensions::FSYNC => {
                let file = self.file(&take_string(&mut data)?)?;
                blocking(move || file.sync_all()).await?;
                Ok(Packet::Status(done(id)))
            }
            extensions::LIMITS => {
                let limits = [
                    MAX_PACKET,
                    u64::from(MAX_DATA),
                    u64::from(MAX_DATA),
                    MAX_HANDLES as u64,
                ];
                Ok(Packet::ExtendedReply(ExtendedReply {
                    id,
                    data: limits
                        .iter()
                        .flat_map(|limit| limit.to_be_bytes())
                        .collect(),
                }))
            }
            _ => Err(StatusCode::OpUnsupported),
        }
    }
}
