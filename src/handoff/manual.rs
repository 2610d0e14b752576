//! The way out by hand: what is where, and the exact commands that finish a trip or undo it.
//!
//! For a person only: the lines hold paths of both machines.

use std::path::Path;

use super::{HandoffError, local_files};
use crate::agent::{AgentError, Mode};
use crate::hosts::Places;
use crate::job::{JobKind, JobRecord, RemotePlaces, State};

/// The lines for a job that failed after it was recorded.
pub(crate) fn steps(record: &JobRecord, places: &Places, error: &HandoffError) -> Vec<String> {
    let (job, host, session) = (&record.id, &record.host, record.session_key());
    if record.kind == JobKind::Spawn {
        return spawned(record);
    }
    let Some(remote) = &record.remote else {
        return vec![
            format!("nothing was sent to {host}; session {session} is unchanged"),
            format!("  send it again: {}", send_again(record)),
        ];
    };
    let directory = remote.job_directory.as_str();
    if !record.was_launched() {
        let asked_for = record
            .history
            .iter()
            .any(|entry| entry.state == State::Launching);
        if asked_for && record.state.is_live() {
            return vec![
                format!(
                    "whether it was launched on {host} is not known; session {session} is unchanged here"
                ),
                format!("  what was sent:            {directory} on {host}"),
                format!("  find out, and bring it back or close it: handover collect {job}"),
            ];
        }
        return vec![
            format!("nothing was launched on {host}; session {session} is unchanged"),
            format!("  what was sent so far:      {directory} on {host}"),
            format!("  close the job and tidy up: handover collect {job}"),
            format!("  send it again:             {}", send_again(record)),
        ];
    }
    match error {
        HandoffError::Agent(AgentError::JobAway { .. }) => out_of_sight(record, remote),
        HandoffError::Vanished { state, .. } => {
            without_result(record, remote, *state == State::Failed)
        }
        HandoffError::Remote { result: false, .. } => without_result(record, remote, false),
        _ => with_result(record, remote, places, error),
    }
}

/// The lines for a job that makes its own session: nothing on this machine depends on it.
fn spawned(record: &JobRecord) -> Vec<String> {
    let (job, host) = (&record.id, &record.host);
    let Some(remote) = &record.remote else {
        return vec![format!("nothing was sent to {host}: run it again")];
    };
    let directory = remote.job_directory.as_str();
    let mut lines = vec![
        format!("  on {host}, the job: {directory} (exit, events.ndjson, stderr.log)"),
        format!("  what there is of a result: handover collect {job}"),
    ];
    if let Some(session) = &record.session {
        lines.push(format!(
            "  or by hand: on {host}: cd {} && {} export {session} > back.json",
            quote(remote.work_directory.as_str()),
            quote(remote.opencode.as_str())
        ));
    }
    lines
}

/// The job's directory cannot be seen, and the job may be at work all the same.
fn out_of_sight(record: &JobRecord, remote: &RemotePlaces) -> Vec<String> {
    let (job, host) = (&record.id, &record.host);
    vec![
        format!(
            "session {} is unchanged here, and {job} keeps it",
            record.session_key()
        ),
        format!(
            "  on {host}, the job: {} (is its file system mounted?)",
            remote.job_directory
        ),
        format!("  once it is there again: handover collect {job}"),
        format!(
            "  where all jobs there were removed for good: handover prune --older-than 0s --force --forget-host {host}"
        ),
    ]
}

/// `left_agent`: the runner is gone, and the agent may not be.
fn without_result(record: &JobRecord, remote: &RemotePlaces, left_agent: bool) -> Vec<String> {
    let (job, host) = (&record.id, &record.host);
    let directory = remote.job_directory.as_str();
    let mut lines = vec![
        format!(
            "there is no result to bring back; session {} is unchanged here, and free",
            record.session_key()
        ),
        format!("  on {host}, what the job left: {directory} (stderr.log, events.ndjson)"),
        format!(
            "  on {host}, what the agent did: {} export {}",
            quote(remote.opencode.as_str()),
            record.session_key()
        ),
        format!(
            "  on {host}, remove it:         rm -rf {}",
            quote(directory)
        ),
        format!("  send it again:  {}", send_again(record)),
    ];
    if left_agent {
        let end = format!(
            "  end what the runner left there, and export it: handover kill {job}; then: handover collect {job}"
        );
        lines.insert(1, end);
    }
    lines
}

fn with_result(
    record: &JobRecord,
    remote: &RemotePlaces,
    places: &Places,
    error: &HandoffError,
) -> Vec<String> {
    let (job, host, session) = (&record.id, &record.host, record.session_key());
    let directory = remote.job_directory.as_str();
    let mut lines = vec![
        match error {
            HandoffError::NotVerified { .. } | HandoffError::Agent(_) => format!(
                "session {session} kept what it had here, and may have got a part of what was new; \
                 the host keeps its part until all of it is back"
            ),
            _ => format!(
                "session {session} is unchanged here, and the host keeps its part until it is back"
            ),
        },
        format!("  finish the trip:  handover collect {job}"),
        format!("  on {host}, the job: {directory} (exit, events.ndjson, stderr.log, back.json)"),
    ];
    let prepared = places.job_dir(job.as_str()).join(local_files::IMPORT);
    if Path::exists(&prepared) {
        lines.push(format!(
            "  or by hand, the checked result: {}",
            import_here(&record.local_directory, &prepared.to_string_lossy())
        ));
    } else {
        lines.push(format!(
            "  or by hand: on {host}: cd {} && {} export {session} > back.json; copy it here; {}",
            quote(remote.work_directory.as_str()),
            quote(remote.opencode.as_str()),
            import_here(&record.local_directory, "back.json")
        ));
        lines.push(
            "     (an import by hand also brings what names the host's files: do not /undo past it)"
                .to_owned(),
        );
    }
    lines.push(format!(
        "  give it up: on {host}: rm -rf {}; then: handover collect {job}",
        quote(directory)
    ));
    lines
}

/// The command that hands the session over in the same way once more.
fn send_again(record: &JobRecord) -> String {
    let mut command = format!(
        "handover send {} --session {}",
        record.host,
        record.session_key()
    );
    if record.mode == Mode::RoundTrip {
        command.push_str(" --round-trip");
    }
    let values = [
        ("dir", &record.directory),
        ("agent", &record.agent),
        ("model", &record.model),
    ];
    for (flag, value) in values {
        if let Some(value) = value {
            command.push_str(&format!(" --{flag} {}", word_here(value)));
        }
    }
    command
}

/// The commands by which the agent here imports a file in a directory.
fn import_here(directory: &Path, file: &str) -> String {
    let file = word_here(file);
    // Of a job that another machine sent nobody here knows it.
    if directory.as_os_str().is_empty() {
        return format!("in the session's directory: opencode import {file}");
    }
    let directory = word_here(&directory.to_string_lossy());
    if cfg!(windows) {
        // It goes to another drive too, and the two shells have no way in common to join commands.
        format!("pushd {directory}; then: opencode import {file}")
    } else {
        format!("cd {directory} && opencode import {file}")
    }
}

/// The text as one word for the shells of this machine.
fn word_here(text: &str) -> String {
    if cfg!(windows) {
        quote_for_windows(text)
    } else {
        quote(text)
    }
}

/// The text as one word for a POSIX shell.
fn quote(text: &str) -> String {
    if is_plain(text, b"") {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The text as one word for cmd and for PowerShell. No quotes keep every text for both: a variable's name (`%x%`, `$x`)
/// is replaced in one of them.
fn quote_for_windows(text: &str) -> String {
    if is_plain(text, b"\\") {
        return text.to_owned();
    }
    // Backslashes before a quotation mark would take away its meaning.
    let body = text.trim_end_matches('\\');
    let last = text.get(body.len()..).unwrap_or_default();
    format!("\"{}{last}{last}\"", body.replace('"', "\\\""))
}

/// Whether the text has nothing but letters, digits and what no shell takes for its own; `more` counts as that too.
fn is_plain(text: &str, more: &[u8]) -> bool {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"/._-+=:".contains(&byte) || more.contains(&byte)
    };
    !text.is_empty() && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::job::Transition;

    fn record(states: &[State]) -> JobRecord {
        JobRecord {
            state: *states.last().unwrap(),
            directory: Some("~/it's".to_owned()),
            model: Some("a/b".to_owned()),
            remote: Some(RemotePlaces {
                job_directory: "/s/handover/jobs/j".parse().unwrap(),
                work_directory: "/w".parse().unwrap(),
                opencode: "/o/opencode".parse().unwrap(),
                files_by_exec: false,
            }),
            history: states
                .iter()
                .map(|&state| Transition { state, at_ms: 0 })
                .collect(),
            ..JobRecord::new(
                JobKind::Handoff,
                "box".parse().unwrap(),
                Some("ses_1".parse().unwrap()),
                Mode::RoundTrip,
                PathBuf::from("/home/ada/my project"),
            )
        }
    }

    fn told(record: &JobRecord, error: &HandoffError) -> String {
        let home = tempfile::tempdir().unwrap();
        let lookup = |key: &str| {
            matches!(key, "HOME" | "USERPROFILE").then(|| home.path().as_os_str().to_owned())
        };
        let places = Places::from_lookup(lookup, home.path()).unwrap();
        steps(record, &places, error).join("\n")
    }

    #[test]
    fn the_way_out_is_that_of_what_happened() {
        let directory = word_here("~/it's");
        let again =
            format!("handover send box --session ses_1 --round-trip --dir {directory} --model a/b");
        let again = again.as_str();
        let mut unsent = record(&[State::Preparing, State::Failed]);
        let unlaunched = told(&unsent, &HandoffError::CalledOff);
        assert!(unlaunched.contains("nothing was launched") && unlaunched.contains(again));
        unsent.remote = None;
        assert!(told(&unsent, &HandoffError::CalledOff).contains("nothing was sent"));

        // Asked for, and then nothing was heard; or refused by the host.
        let asked = record(&[State::Preparing, State::Launching]);
        let unknown = told(&asked, &HandoffError::Aborted);
        let collect = format!("handover collect {}", asked.id);
        assert!(
            unknown.contains("is not known") && unknown.contains(&collect),
            "{unknown}"
        );
        assert!(!unknown.contains("keeps its part"), "{unknown}");
        let refused = record(&[State::Preparing, State::Launching, State::Failed]);
        let refused = told(&refused, &HandoffError::Aborted);
        assert!(refused.contains("nothing was launched"), "{refused}");
        // Ended by somebody while it ran: there is what it had done.
        let killed = record(&[
            State::Preparing,
            State::Launching,
            State::Running,
            State::Killed,
        ]);
        let killed = told(&killed, &HandoffError::Aborted);
        assert!(killed.contains("keeps its part"), "{killed}");

        let ended = record(&[
            State::Preparing,
            State::Launching,
            State::Running,
            State::Failed,
        ]);
        let failed = |result| HandoffError::Remote {
            host: ended.host.clone(),
            phase: "run",
            reason: String::new(),
            code: None,
            result,
            tail: String::new(),
        };
        let collect = format!("handover collect {}", ended.id);
        let without = told(&ended, &failed(false));
        assert!(
            without.contains("no result") && without.contains(again),
            "{without}"
        );
        assert!(
            !without.contains(&collect),
            "there is nothing to collect: {without}"
        );
        let dead = HandoffError::Vanished {
            job: ended.id.clone(),
            host: ended.host.clone(),
            state: State::Failed,
            reason: "the runner is gone and left no result",
        };
        let kill = format!("handover kill {}", ended.id);
        assert!(told(&ended, &dead).contains(&kill) && !without.contains(&kill));
        let with = told(&ended, &failed(true));
        assert!(
            with.contains(&collect) && with.contains("rm -rf /s/handover/jobs/j"),
            "{with}"
        );
        let import = match cfg!(windows) {
            true => "pushd \"/home/ada/my project\"; then: opencode import back.json",
            false => "cd '/home/ada/my project' && opencode import back.json",
        };
        assert!(with.contains(import), "{with}");
        let mut adopted = ended.clone();
        adopted.local_directory = PathBuf::new();
        let with = told(&adopted, &failed(true));
        assert!(
            with.contains("in the session's directory: opencode import back.json"),
            "{with}"
        );
    }

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(quote("/home/a/b-c_1.json"), "/home/a/b-c_1.json");
        assert_eq!(quote("/it's $(x)"), r"'/it'\''s $(x)'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn a_path_is_one_word_for_both_shells_of_windows() {
        for (text, word) in [
            (r"C:\a\b-c_1.json", r"C:\a\b-c_1.json"),
            (r"C:\Users\Ada Müller\it's", r#""C:\Users\Ada Müller\it's""#),
            (r"D:\a b\", r#""D:\a b\\""#),
            (r#"a "b""#, r#""a \"b\"""#),
            ("", r#""""#),
        ] {
            assert_eq!(quote_for_windows(text), word);
        }
    }
}
