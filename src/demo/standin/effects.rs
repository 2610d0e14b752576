//! What each rule of a message does.
//!
//! The main function is [`obey`].

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::StandinError;
use super::answer::Turn;
use super::ids::Clock;
use super::rule::{self, Rule};
use super::shape;

/// How many names of files an answer tells.
const MAX_NAMES: usize = 20;

pub(super) fn fail(turn: &mut Turn<'_, '_>, text: &str) -> Result<ExitCode, StandinError> {
    let error = json!({"name": "UnknownError", "data": {"message": text}});
    turn.event("error", "error", &error)?;
    Ok(ExitCode::FAILURE)
}

/// Does what the rules say and ends the turn.
pub(super) fn obey(
    turn: &mut Turn<'_, '_>,
    message: &str,
    rules: &[Rule],
) -> Result<ExitCode, StandinError> {
    let mut code = ExitCode::SUCCESS;
    let mut spoken = false;
    let directory = turn.process.directory.clone();
    turn.begin_step()?;
    for rule in rules {
        match rule {
            Rule::Write { name, text } => {
                let state = write_file(turn.clock, &directory, name, text);
                turn.tool("write", state)?;
                turn.finish_step("tool-calls")?;
                turn.begin_step()?;
                spoken = false;
                continue;
            }
            Rule::Say(text) => turn.say(text)?,
            Rule::Lines(count) => {
                for number in 1..=*count {
                    turn.say(&format!("line {number}"))?;
                }
            }
            Rule::Big(bytes) => turn.say(&"0123456789abcdef".repeat(bytes / 16 + 1)[..*bytes])?,
            Rule::Surrogate => turn.say(&format!("half a face: {}", shape::HALF))?,
            Rule::Patch => {
                turn.name_snapshots();
                let file = directory.join("patched.txt").to_string_lossy().into_owned();
                turn.add(json!({"type": "patch", "hash": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "files": [file]}));
                continue;
            }
            Rule::Noise => {
                noise(turn)?;
                continue;
            }
            Rule::Error(text) => code = fail(turn, text)?,
            Rule::Sleep(seconds) => {
                turn.save()?;
                std::thread::sleep(Duration::from_secs(*seconds));
                continue;
            }
            Rule::Hang => {
                turn.save()?;
                turn.process.settings.hang();
                continue;
            }
            Rule::Await(name) => {
                turn.save()?;
                turn.process
                    .settings
                    .until(|| directory.join(name).exists());
                continue;
            }
            Rule::Tool { name, count } => {
                for _ in 0..*count {
                    let now = turn.clock.now();
                    let state = json!({"status": "completed", "input": {"of": name}, "output": "the same",
                        "metadata": {}, "title": name, "time": {"start": now, "end": now}});
                    turn.tool(name, state)?;
                    turn.finish_step("tool-calls")?;
                    turn.begin_step()?;
                }
                spoken = false;
                continue;
            }
            Rule::Child(seconds) => {
                start_child(&directory, *seconds)?;
                continue;
            }
            Rule::Exit(status) => {
                code = ExitCode::from(*status);
                continue;
            }
            Rule::ExitBefore(_) | Rule::Nothing => continue,
        }
        spoken = true;
    }
    if !spoken {
        turn.say(&answer(&directory, message, rules.is_empty()))?;
    }
    turn.finish_step("stop")?;
    turn.save()?;
    Ok(code)
}

fn answer(directory: &Path, message: &str, look: bool) -> String {
    if !look {
        return "Done.".to_owned();
    }
    let task = rule::task(message);
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names.truncate(MAX_NAMES);
    let seen = if names.is_empty() {
        "no files".to_owned()
    } else {
        names.join(", ")
    };
    format!(
        "You asked: \"{task}\". In {} I see {seen}.",
        directory.display()
    )
}

fn write_file(clock: &Clock, directory: &Path, name: &str, text: &str) -> Value {
    let path = directory.join(name);
    let shown = path.to_string_lossy();
    let (start, existed) = (clock.now(), path.exists());
    let input = json!({"filePath": shown, "content": text});
    let result = std::fs::write(&path, text);
    let time = json!({"start": start, "end": clock.now()});
    match result {
        Ok(()) => {
            json!({"status": "completed", "input": input, "output": "Wrote file successfully.",
            "metadata": {"diagnostics": {}, "filepath": shown, "exists": existed, "truncated": false},
            "title": name, "time": time})
        }
        Err(error) => {
            json!({"status": "error", "input": input, "error": error.to_string(), "time": time})
        }
    }
}

fn noise(turn: &mut Turn<'_, '_>) -> Result<(), StandinError> {
    let lines: [&[u8]; 5] = [
        b"Performing one time database migration...",
        b"\xff\xfe raw \x1b[31mbytes\x07",
        b"{\"type\":\"text\",",
        b"[1,2,3]",
        b"",
    ];
    for line in lines {
        turn.print(line)?;
        turn.process.print_error(&[line, b"\n"].concat())?;
    }
    Ok(())
}

/// Starts a process as opencode's shell tool does: in its own process group, out of reach of a group kill.
#[cfg(unix)]
fn start_child(directory: &Path, seconds: u64) -> Result<(), StandinError> {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    let child = Command::new("sleep")
        .arg(seconds.to_string())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(StandinError::file("sleep"))?;
    let path = directory.join("standin-child.pid");
    std::fs::write(&path, child.id().to_string()).map_err(StandinError::file(path))
}

/// Does nothing where there are no process groups.
#[cfg(not(unix))]
fn start_child(_directory: &Path, _seconds: u64) -> Result<(), StandinError> {
    Ok(())
}
