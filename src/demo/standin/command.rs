//! The command line of the stand-in agent, as far as opencode's is used in a handoff.
//!
//! The main function is [`main`].

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::StandinError;
use super::binding::Binding;
use super::ids::Clock;
use super::process::Process;
use super::run::{RunArguments, run};
use super::settings::Settings;
use super::store::{Session, Store};

/// How deep the hostile export of `STANDIN_EXPORT=deep` is nested.
const DEPTH: usize = 200_000;

/// Plays opencode with these arguments (without a program name), and gives the exit status.
///
/// Reads standard input for `run`, prints on standard output and error, and keeps its sessions under the data
/// directory of the environment.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let (mut input, mut out, mut errors) = (io::stdin(), io::stdout(), io::stderr());
    let done = Settings::load().and_then(|settings| {
        let directory = std::env::current_dir().map_err(StandinError::file("."))?;
        let mut process = Process {
            directory,
            settings,
            input: &mut input,
            out: &mut out,
            errors: &mut errors,
        };
        dispatch(&mut process, &arguments)
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            let mut text = format!("Error: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the arguments say.
pub(super) fn dispatch(
    process: &mut Process<'_>,
    arguments: &[String],
) -> Result<ExitCode, StandinError> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--version" | "-v", ..] => {
            let version = process.settings.get("STANDIN_VERSION");
            let version = version.as_deref().unwrap_or("1.18.33");
            process.print(format!("{version}\n").as_bytes())?;
        }
        ["models", ..] => {
            let names = models(&process.settings).join("\n");
            process.print(format!("{names}\n").as_bytes())?;
        }
        ["session", "list", rest @ ..] => list(process, rest)?,
        ["session", "delete", id] => {
            Store::open(process.settings.directory())?.delete(id)?;
            process.print(format!("Session {id} deleted\n").as_bytes())?;
        }
        ["export", id, ..] => export(process, id)?,
        ["import", file] => import(process, Path::new(file))?,
        ["run", rest @ ..] => {
            let models = models(&process.settings);
            return run(process, run_arguments(rest)?, &models);
        }
        _ => return Err(StandinError::Usage),
    }
    Ok(ExitCode::SUCCESS)
}

fn models(settings: &Settings) -> Vec<String> {
    match settings.get("STANDIN_MODELS") {
        Some(names) => names
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect(),
        None => ["standin/m", "standin/large", "mock/m"]
            .map(str::to_owned)
            .to_vec(),
    }
}

/// The sessions of this directory's project, newest first. As with opencode, that can be sessions of other
/// directories, and nothing at all is printed where there are none.
fn list(process: &mut Process<'_>, arguments: &[&str]) -> Result<(), StandinError> {
    let project = Binding::of(&process.directory).project;
    let mut sessions = Store::open(process.settings.directory())?.all()?;
    sessions.retain(|session| session.text("projectID") == project);
    sessions.sort_by_key(|session| std::cmp::Reverse(time(session, "updated").as_u64()));
    if let Some(count) = count(arguments) {
        sessions.truncate(count);
    }
    if sessions.is_empty() {
        return Ok(());
    }
    let rows: Vec<Value> = sessions.iter().map(row).collect();
    let text =
        serde_json::to_string_pretty(&rows).map_err(|error| StandinError::Stream(error.into()))?;
    process.print(format!("{text}\n").as_bytes())
}

fn count(arguments: &[&str]) -> Option<usize> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let value = match argument.split_once('=') {
            Some(("-n" | "--max-count", value)) => Some(value),
            None if ["-n", "--max-count"].contains(argument) => arguments.next().copied(),
            _ => None,
        };
        if let Some(count) = value.and_then(|value| value.parse().ok()) {
            return Some(count);
        }
    }
    None
}

fn time(session: &Session, key: &str) -> Value {
    session.get("time").get(key).cloned().unwrap_or_default()
}

fn row(session: &Session) -> Value {
    json!({"id": session.id(), "title": session.text("title"), "updated": time(session, "updated"),
           "created": time(session, "created"), "projectId": session.text("projectID"),
           "directory": session.text("directory")})
}

fn export(process: &mut Process<'_>, id: &str) -> Result<(), StandinError> {
    process.print_error(format!("Exporting session: {id}\n").as_bytes())?;
    let session = Store::open(process.settings.directory())?.load(id)?;
    let mut bytes = Vec::new();
    session.write(&mut bytes).map_err(StandinError::Stream)?;
    bytes.push(b'\n');
    match process.settings.get("STANDIN_EXPORT").as_deref() {
        Some("fail") => return Err(StandinError::Asked),
        Some("cut") => bytes.truncate(bytes.len() / 2),
        Some("sleep") => process.settings.sleep(),
        Some("wrong-session") => {
            let text =
                String::from_utf8_lossy(&bytes).replace(id, "ses_000000000000wrongwrongwron");
            bytes = text.into_bytes();
        }
        Some("deep") => {
            let text = String::from_utf8_lossy(&bytes);
            let open = text.trim_end().strip_suffix('}').unwrap_or_default();
            let (down, up) = ("[".repeat(DEPTH), "]".repeat(DEPTH));
            bytes = format!("{open}, \"deep\": {down}{up}}}\n").into_bytes();
        }
        _ => {}
    }
    process.print(&bytes)
}

fn import(process: &mut Process<'_>, file: &Path) -> Result<(), StandinError> {
    let failure = process.settings.get("STANDIN_IMPORT");
    match failure.as_deref() {
        Some("fail") => return Err(StandinError::Asked),
        Some("sleep") => process.settings.sleep(),
        _ => {}
    }
    let path = process.directory.join(file);
    let text = std::fs::read_to_string(&path).map_err(StandinError::file(&path))?;
    let mut session = Session::parse(&text).map_err(StandinError::document(&path))?;
    if failure.as_deref() == Some("drop-part")
        && let Some(mut last) = session.messages.last_entry()
    {
        last.get_mut().parts.pop_last();
    }
    let store = Store::open(process.settings.directory())?;
    let lock = store.lock()?;
    match store.load(&session.id()) {
        Ok(mut existing) => {
            existing.unite(session);
            session = existing;
            // As measured: a new row keeps the time of the file, an existing one is touched.
            let now = Clock::new(process.settings.clock_offset()).now();
            session.touch(now).map_err(StandinError::document(&path))?;
        }
        Err(StandinError::NoSession { .. }) => {}
        Err(error) => return Err(error),
    }
    Binding::of(&process.directory)
        .apply(&mut session)
        .map_err(StandinError::document(&path))?;
    store.save(&session, &lock)?;
    drop(lock);
    if failure.as_deref() == Some("silent") {
        return Ok(());
    }
    process.print(format!("Imported session: {}\n", session.id()).as_bytes())
}

/// Reads the arguments of `run`: values as `--name=value` or `--name value`.
fn run_arguments(words: &[&str]) -> Result<RunArguments, StandinError> {
    let mut arguments = RunArguments::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with('-') => (name, Some(value)),
            _ => (*word, None),
        };
        let mut value = || {
            value
                .or_else(|| words.next().copied())
                .map(str::to_owned)
                .ok_or(StandinError::Usage)
        };
        match name {
            "--session" | "-s" => arguments.session = Some(value()?),
            "--agent" => arguments.agent = Some(value()?),
            "--model" | "-m" => arguments.model = Some(value()?),
            "--title" => arguments.title = Some(value()?),
            "--format" => arguments.json = value()? == "json",
            "--auto" => {}
            name if name.starts_with('-') => return Err(StandinError::Usage),
            _ => arguments.words.push((*word).to_owned()),
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_run_are_read_in_both_spellings() {
        let arguments = run_arguments(&[
            "--session=ses_1",
            "--format",
            "json",
            "--auto",
            "-m",
            "a/b",
            "x=y",
            "z",
        ]);
        let expected = RunArguments {
            session: Some("ses_1".into()),
            model: Some("a/b".into()),
            json: true,
            words: vec!["x=y".into(), "z".into()],
            ..RunArguments::default()
        };
        assert_eq!(arguments.unwrap(), expected);
        assert!(run_arguments(&["--nonsense"]).is_err());
        assert!(run_arguments(&["--session"]).is_err());
    }

    #[test]
    fn the_count_of_a_list_is_read_in_its_spellings() {
        assert_eq!(count(&["--format", "json", "-n", "3"]), Some(3));
        assert_eq!(count(&["--max-count=4"]), Some(4));
        assert_eq!(count(&["--format", "json"]), None);
    }
}
