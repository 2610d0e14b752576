//! Access control lists, as Windows has them.
//!
//! The invariant: what is made here has a list of its own that names the user and the system, and inherits nothing. A
//! directory hands it on to whatever is made in it, by whichever program. The list is set before anything is in the
//! file, through a handle that shares it with nobody; what cannot be given its list is removed again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;

use windows_permissions::constants::{
    AccessRights, AceFlags, AceType, SeObjectType, SecurityInformation,
};
use windows_permissions::utilities::current_process_sid;
use windows_permissions::wrappers::{ConvertSidToStringSid, GetSecurityInfo, SetSecurityInfo};
use windows_permissions::{LocalBox, SecurityDescriptor, Sid};

use super::{Attempts, patiently};

// Access rights: https://learn.microsoft.com/en-us/windows/win32/fileio/file-access-rights-constants
const READ_CONTROL: u32 = 0x2_0000;
const WRITE_DAC: u32 = 0x4_0000;
const GENERIC_READ: u32 = 0x8000_0000;
const GENERIC_WRITE: u32 = 0x4000_0000;
const FILE_READ_DATA: u32 = 0x1;
const GENERIC_ALL: u32 = 0x1000_0000;
/// `FILE_FLAG_BACKUP_SEMANTICS`: what a directory's handle is opened with.
const BACKUP_SEMANTICS: u32 = 0x0200_0000;

// System errors: https://learn.microsoft.com/en-us/windows/win32/debug/system-error-codes
const INVALID_FUNCTION: i32 = 1;
const ACCESS_DENIED: i32 = 5;
const SHARING_VIOLATION: i32 = 32;
const LOCK_VIOLATION: i32 = 33;
const NOT_SUPPORTED: i32 = 50;
const DELETE_PENDING: i32 = 303;

/// How often a file may be removed by others between the look for it and its making.
const MAX_REMOVED: usize = 100;

/// Local System, the Administrators, and a file's owner whoever that is: none of them is "others". They are those that
/// Win32-OpenSSH lets a private key's list name.
const TRUSTED: [&str; 3] = ["S-1-5-18", "S-1-5-32-544", "S-1-3-4"];

pub(super) fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
    create_dir_all(parent)?;
    let parent = Some(parent).filter(|parent| !parent.as_os_str().is_empty());
    // It has its list before it has its name: whoever finds it, after a crash of this process too, finds it private.
    let made = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(parent.unwrap_or(Path::new(".")))?;
    OpenOptions::new()
        .access_mode(READ_CONTROL | WRITE_DAC)
        .custom_flags(BACKUP_SEMANTICS)
        .open(made.path())
        .and_then(|mut directory| restrict(&mut directory, "OICI", path))?;
    match patiently(|| match std::fs::rename(made.path(), path) {
        // Another process was faster.
        Err(_) if path.is_dir() => Ok(false),
        renamed => renamed.map(|()| true),
    }) {
        Ok(named) => {
            if named {
                let _its_name_is_another_now = made.keep();
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

pub(super) fn create_new(path: &Path) -> io::Result<File> {
    make(path)?;
    again(|| OpenOptions::new().write(true).open(path))
}

pub(super) fn open_append(path: &Path) -> io::Result<File> {
    for _ in 0..MAX_REMOVED {
        let opened = again(|| OpenOptions::new().read(true).append(true).open(path));
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        match make(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Makes an empty private file. Nobody gets a handle of it before it has its list, since the one that it is made with
/// shares it with nobody.
fn make(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .access_mode(GENERIC_WRITE | READ_CONTROL | WRITE_DAC)
        .share_mode(0)
        .open(path)?;
    let restricted = restrict(&mut file, "", path);
    drop(file);
    restricted.inspect_err(|_| drop(std::fs::remove_file(path)))
}

pub(super) fn open_existing(path: &Path) -> io::Result<File> {
    again(|| OpenOptions::new().read(true).write(true).open(path))
}

/// Opens a file that another program, one that has just made it included, may have for itself alone for a moment.
fn again(open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    let mut attempts = Attempts::start();
    loop {
        match open() {
            Err(error) if is_locked(&error) && attempts.another(&error) => {}
            opened => return opened,
        }
    }
}

/// Gives what was just made a list of the user and the system alone; `flags` are the entries' in SDDL.
fn restrict(file: &mut File, flags: &str, path: &Path) -> io::Result<()> {
    let user = current_process_sid()?;
    let user = ConvertSidToStringSid(&user)?;
    let user = user.to_string_lossy();
    // `P`: nothing is inherited. `FA`: all file rights. `SY`: Local System.
    let list: LocalBox<SecurityDescriptor> =
        format!("D:P(A;{flags};FA;;;{user})(A;{flags};FA;;;SY)").parse()?;
    let set = SetSecurityInfo(
        file,
        SeObjectType::SE_FILE_OBJECT,
        SecurityInformation::Dacl | SecurityInformation::ProtectedDacl,
        None,
        None,
        list.dacl(),
        None,
    );
    match set {
        // A FAT volume has no lists, as it has no modes on Unix.
        Err(error) if matches!(error.raw_os_error(), Some(INVALID_FUNCTION | NOT_SUPPORTED)) => {
            tracing::warn!(path = %path.display(), %error, "this volume cannot keep a file private");
            Ok(())
        }
        set => set,
    }
}

pub(super) fn others_may_read(file: &File) -> io::Result<bool> {
    let descriptor = GetSecurityInfo(
        file,
        SeObjectType::SE_FILE_OBJECT,
        SecurityInformation::Dacl,
    )?;
    let Some(list) = descriptor.dacl() else {
        // No list at all lets everybody in.
        return Ok(true);
    };
    let mut trusted = vec![current_process_sid()?];
    for text in TRUSTED {
        trusted.push(text.parse::<LocalBox<Sid>>()?);
    }
    let reading =
        AccessRights::from_bits_truncate(GENERIC_READ | GENERIC_ALL | FILE_READ_DATA).bits();
    Ok((0..list.len())
        .filter_map(|index| list.get_ace(index))
        .any(|entry| {
            entry.ace_type() == AceType::ACCESS_ALLOWED_ACE_TYPE
                && !entry.flags().contains(AceFlags::InheritOnly)
                && entry.mask().bits() & reading != 0
                && entry
                    .sid()
                    .is_none_or(|sid| !trusted.iter().any(|one| **one == *sid))
        }))
}

/// Another program, an indexer or a virus scanner most often, has the file open for a moment.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(ACCESS_DENIED | SHARING_VIOLATION | LOCK_VIOLATION | DELETE_PENDING)
    )
}

/// Another program has locked the file, or opened it for itself alone.
pub(super) fn is_locked(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(SHARING_VIOLATION | LOCK_VIOLATION)
    )
}

#[cfg(test)]
mod tests {
    use super::super::{create, create_dir_all, create_new, open_append, read, write_atomic};
    use super::*;

    /// The list of a file or directory as SDDL.
    fn list(path: &Path) -> String {
        let file = OpenOptions::new()
            .access_mode(READ_CONTROL)
            .custom_flags(BACKUP_SEMANTICS)
            .open(path)
            .unwrap();
        let descriptor = GetSecurityInfo(
            &file,
            SeObjectType::SE_FILE_OBJECT,
            SecurityInformation::Dacl,
        )
        .unwrap();
        descriptor.as_sddl().unwrap().into_string().unwrap()
    }

    /// Whether the list names nobody but the user and the system.
    fn is_private(path: &Path) -> bool {
        let user = ConvertSidToStringSid(&current_process_sid().unwrap()).unwrap();
        let user = user.into_string().unwrap();
        list(path)
            .split('(')
            .skip(1)
            .filter(|entry| entry.starts_with("A;"))
            .filter_map(|entry| entry.split(')').next()?.rsplit(';').next())
            .all(|who| who == user || who == "SY")
    }

    /// A directory of our own making, where others have no access to hand on: Wine before 9 merges what the parent
    /// hands on into a list that is to inherit nothing, and the directory for temporary files itself is private.
    fn private_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::remove_dir(root.path()).unwrap();
        create_dir_all(root.path()).unwrap();
        root
    }

    #[test]
    fn what_is_made_names_the_user_and_the_system_alone() {
        let root = private_root();
        let directory = root.path().join("ä b").join("c");
        create_dir_all(&directory).unwrap();
        create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name);
        create_new(&at("new")).unwrap();
        create(&at("made")).unwrap();
        open_append(&at("log")).unwrap();
        open_append(&at("log")).unwrap();
        write_atomic(&at("atomic"), b"x").unwrap();
        for path in [
            root.path().to_owned(),
            root.path().join("ä b"),
            directory.clone(),
            at("new"),
            at("made"),
            at("log"),
            at("atomic"),
        ] {
            assert!(is_private(&path), "{}: {}", path.display(), list(&path));
            let file = OpenOptions::new()
                .access_mode(READ_CONTROL)
                .custom_flags(BACKUP_SEMANTICS)
                .open(&path)
                .unwrap();
            assert!(!others_may_read(&file).unwrap(), "{}", list(&path));
        }
    }

    #[test]
    fn a_file_that_is_opened_by_many_at_once_is_private_and_loses_no_line() {
        let root = private_root();
        let path = root.path().join("log");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    use std::io::Write as _;
                    open_append(&path).unwrap().write_all(b"line\n").unwrap();
                });
            }
        });
        assert_eq!(std::fs::read(&path).unwrap().len(), 8 * 5);
        assert!(is_private(&path), "{}", list(&path));
    }

    #[test]
    fn a_file_that_is_new_is_shared_with_others_once_it_is_private() {
        let root = private_root();
        let path = root.path().join("file");
        let made = create_new(&path).unwrap();
        assert!(is_private(&path), "{}", list(&path));
        std::fs::read(&path).unwrap();
        drop(made);
        assert_eq!(
            create_new(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(path.exists(), "what is somebody else's stays");
    }

    #[test]
    fn a_list_that_lets_everybody_read_is_noticed() {
        let root = private_root();
        let path = root.path().join("key");
        drop(create_new(&path).unwrap());
        let mut file = OpenOptions::new()
            .access_mode(READ_CONTROL | WRITE_DAC)
            .open(&path)
            .unwrap();
        assert!(!others_may_read(&file).unwrap());
        let user = ConvertSidToStringSid(&current_process_sid().unwrap()).unwrap();
        let wide: LocalBox<SecurityDescriptor> =
            format!("D:P(A;;FA;;;{})(A;;FR;;;WD)", user.to_string_lossy())
                .parse()
                .unwrap();
        SetSecurityInfo(
            &mut file,
            SeObjectType::SE_FILE_OBJECT,
            SecurityInformation::Dacl | SecurityInformation::ProtectedDacl,
            None,
            None,
            wide.dacl(),
            None,
        )
        .unwrap();
        assert!(others_may_read(&file).unwrap(), "{}", list(&path));
    }

    #[test]
    fn a_file_that_another_program_has_open_is_replaced_once_it_is_free() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, "old").unwrap();
        // Shared with nobody, as a virus scanner may have it.
        let held = OpenOptions::new()
            .read(true)
            .share_mode(0)
            .open(&path)
            .unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let replaced = path.clone();
        let writer = std::thread::spawn(move || {
            sender.send(()).unwrap();
            write_atomic(&replaced, b"new")
        });
        receiver.recv().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(held);
        writer.join().unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_another_program_has_open_gets_its_name_or_goes_once_it_is_free() {
        use super::super::{open_existing, persist_new, remove_dir_all, remove_file, rename};
        let root = tempfile::tempdir().unwrap();
        let (file, part) = (root.path().join("file"), root.path().join("part"));
        std::fs::write(&part, "whole").unwrap();
        // Shared with nobody, as a virus scanner may have it.
        let hold = |path: &Path| {
            let mut alone = OpenOptions::new();
            alone.read(true).share_mode(0).open(path).unwrap()
        };
        let freed_soon = |held: File, act: &(dyn Fn() -> io::Result<()> + Sync)| {
            std::thread::scope(|scope| {
                let acting = scope.spawn(act);
                std::thread::sleep(std::time::Duration::from_millis(50));
                drop(held);
                acting.join().unwrap().unwrap();
            });
        };
        freed_soon(hold(&part), &|| {
            persist_new(tempfile::TempPath::try_from_path(&part)?, &file)
        });
        assert_eq!(std::fs::read(&file).unwrap(), b"whole");
        freed_soon(hold(&file), &|| open_existing(&file).map(drop));
        freed_soon(hold(&file), &|| rename(&file, &part));
        freed_soon(hold(&part), &|| remove_file(&part));
        let directory = root.path().join("directory");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("inner"), "").unwrap();
        freed_soon(hold(&directory.join("inner")), &|| {
            remove_dir_all(&directory)
        });
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    /// The list of a directory that everybody may read, and that hands this on.
    fn open_to_all(path: &Path) {
        std::fs::create_dir(path).unwrap();
        let mut directory = OpenOptions::new()
            .access_mode(READ_CONTROL | WRITE_DAC)
            .custom_flags(BACKUP_SEMANTICS)
            .open(path)
            .unwrap();
        let user = ConvertSidToStringSid(&current_process_sid().unwrap()).unwrap();
        let wide: LocalBox<SecurityDescriptor> = format!(
            "D:P(A;OICI;FA;;;{})(A;OICI;FR;;;WD)",
            user.to_string_lossy()
        )
        .parse()
        .unwrap();
        SetSecurityInfo(
            &mut directory,
            SeObjectType::SE_FILE_OBJECT,
            SecurityInformation::Dacl | SecurityInformation::ProtectedDacl,
            None,
            None,
            wide.dacl(),
            None,
        )
        .unwrap();
    }

    #[test]
    fn what_a_database_makes_beside_itself_is_private_in_a_directory_that_is_not() {
        let root = private_root();
        let state = root.path().join("state");
        open_to_all(&state);
        let places = crate::hosts::Places::from_lookup(
            |key| match key {
                "USERPROFILE" => Some(root.path().into()),
                "HANDOVER_STATE_DIR" => Some(state.clone().into()),
                _ => None,
            },
            root.path(),
        )
        .unwrap();
        let file = places.store_file();
        let store = crate::job::Store::open(&file).unwrap();
        let directory = file.parent().unwrap();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            assert!(is_private(&path), "{}: {}", path.display(), list(&path));
            names.push(path.file_name().unwrap().to_owned());
        }
        assert!(names.len() > 1, "{names:?}");
        assert!(is_private(directory), "{}", list(directory));
        drop(store);
    }

    #[test]
    fn a_file_that_is_locked_is_read_once_it_is_free() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, "text").unwrap();
        // Wine does not hold readers to locks; to this it does, and to the program it is the same.
        let held = OpenOptions::new()
            .read(true)
            .share_mode(0)
            .open(&path)
            .unwrap();
        assert!(is_locked(&std::fs::read(&path).unwrap_err()));
        let reader = std::thread::spawn(move || read(&path));
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(held);
        assert_eq!(reader.join().unwrap().unwrap(), b"text");
    }

    #[test]
    fn a_file_that_stays_open_is_an_error_and_keeps_what_it_held() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let held = OpenOptions::new()
            .read(true)
            .share_mode(1)
            .open(&path)
            .unwrap();
        assert!(is_passing(&write_atomic(&path, b"new").unwrap_err()));
        drop(held);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
