//! Results that a hostile or broken host hands back: refused before the agent here sees them.

use std::path::{Path, PathBuf};

use handover::handoff::Ending;
use handover::job::Mode;
use sha2::{Digest as _, Sha256};

use crate::support::{Message, Stage, grown, until, walk};

/// Puts another result in the place of an ended job's own, with an `exit` that describes it.
fn forge(job: &Path, result: &[u8]) {
    std::fs::write(job.join("back.json"), result).unwrap();
    let digest = Sha256::digest(result);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let exit = std::fs::read_to_string(job.join("exit")).unwrap();
    let mut forged = String::new();
    for line in exit.lines() {
        let line = match line.split_once('=').unwrap().0 {
            "size" => format!("size={}", result.len()),
            "sha256" => format!("sha256={digest}"),
            _ => line.to_owned(),
        };
        forged.push_str(&line);
        forged.push('\n');
    }
    std::fs::write(job.join("exit"), forged).unwrap();
}

/// A one-way job that has ended; its id, and its directory there.
pub(crate) async fn ended_job(stage: &Stage) -> (String, PathBuf) {
    let handoff = stage.round_trip("RULE say worked").mode(Mode::OneWay);
    let job = handoff.start().outcome().await.unwrap().job.to_string();
    let directory = stage.job_directories().remove(0);
    let exit = directory.join("exit");
    until("the job ends", || exit.exists()).await;
    (job, directory)
}

#[tokio::test]
async fn a_forged_result_is_refused_and_the_true_one_can_still_be_collected() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    let back = std::fs::read_to_string(directory.join("back.json")).unwrap();
    let session = stage.session.as_str();
    let last = back.rfind("\"msg_").unwrap();
    let replaced_last = |text: &str, with: &str| {
        let at = back.rfind(text).unwrap();
        format!("{}{with}{}", &back[..at], &back[at + text.len()..])
    };
    let parts = stage.history_there().messages.pop().unwrap().parts;
    let part = parts[0]["id"].as_str().unwrap().to_owned();
    let deep = "[".repeat(100_000);
    let forgeries = [
        ("no JSON", "not found".to_owned()),
        ("another shape", "{\"info\":{},\"messages\":7}".to_owned()),
        ("cut within", back[..last].to_owned()),
        (
            "cut at the end",
            back.trim_end().strip_suffix('}').unwrap().to_owned(),
        ),
        ("more after the end", format!("{back}{back}")),
        (
            "another session",
            back.replace(session, "ses_000000000000wrongwrongwron"),
        ),
        (
            "one message of another session",
            replaced_last(session, "ses_000000000000wrongwrongwron"),
        ),
        ("a message twice", {
            let first = back.find("\"messages\"").unwrap();
            let open = first + back[first..].find('[').unwrap() + 1;
            let close = back.rfind(']').unwrap();
            format!("{},{}", &back[..close], &back[open..])
        }),
        (
            "an id that leads out",
            back.replace(&part, "../../../etc/passwd"),
        ),
        ("an id that is an option", back.replace(&part, "--help")),
        (
            "a key twice",
            back.replacen("\"info\"", "\"info\": {}, \"info\"", 1),
        ),
        (
            "too deep",
            back.replacen("\"messages\"", &format!("\"x\": {deep}, \"messages\""), 1),
        ),
    ];
    // Were anything imported, this would fail in another way.
    stage.settings_here("STANDIN_IMPORT=fail\n");
    let mut accepted = Vec::new();
    for (what, forged) in forgeries {
        assert_ne!(forged, back, "{what}");
        forge(&directory, forged.as_bytes());
        let ran = stage.run(&["collect", &job, "--json"]).await;
        if ran.code != Some(11) {
            accepted.push(format!("{what}: {:?} {}", ran.code, ran.out));
        }
        assert_eq!(stage.history_here(), before, "{what}");
    }
    assert!(accepted.is_empty(), "{accepted:#?}");
    stage.settings_here("");
    forge(&directory, back.as_bytes());
    let outcome = stage.collect(&job).await.unwrap();
    assert_eq!(outcome.ending, Ending::Completed);
    grown(&before, &stage.history_here());
}

/// How many bytes 5 GiB are, which is more than any document may have.
const HUGE: u64 = 5 << 30;

#[tokio::test]
async fn a_result_that_claims_to_be_huge_is_refused_before_anything_of_it_is_fetched() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    let (back, exit) = (directory.join("back.json"), directory.join("exit"));
    let (result, end) = (
        std::fs::read(&back).unwrap(),
        std::fs::read_to_string(&exit).unwrap(),
    );
    // Sparse: it takes no room there, and would fill a disk here.
    let file = std::fs::File::create(&back).unwrap();
    file.set_len(HUGE).unwrap();
    let size = format!("size={}", result.len());
    assert!(end.contains(&size));
    std::fs::write(&exit, end.replace(&size, &format!("size={HUGE}"))).unwrap();
    let watched = stage.here("state");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    // Not even a part of it, for a moment.
    let largest = tokio::spawn(async move {
        let (mut largest, mut stopped) = (0, stopped);
        while stopped.try_recv().is_err() {
            walk(&watched, &mut |path| {
                let is_back = path.to_string_lossy().contains("back.json");
                let size = path.metadata().map_or(0, |metadata| metadata.len());
                largest = largest.max(if is_back { size } else { 0 });
            });
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        largest
    });
    let ran = stage.run(&["collect", &job, "--json"]).await;
    let error = ran.exits(11).error("document");
    assert!(
        error["message"].as_str().unwrap().contains("limit"),
        "{error}"
    );
    stop.send(()).unwrap();
    assert_eq!(largest.await.unwrap(), 0, "it was fetched");
    assert_eq!(stage.history_here(), before);
    std::fs::write(&back, result).unwrap();
    std::fs::write(&exit, end).unwrap();
    stage.run(&["collect", &job]).await.exits(0);
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn old_messages_that_were_altered_there_do_not_change_the_ones_here() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    let back = std::fs::read_to_string(directory.join("back.json")).unwrap();
    let altered = back.replace("Please do step 1", "Please do step 9");
    // A new part under the id of an old one.
    let part = |message: &Message| message.parts[0]["id"].as_str().unwrap().to_owned();
    let new = part(stage.history_there().messages.last().unwrap());
    let altered = altered.replace(&new, &part(&before.messages[0]));
    assert_ne!(altered, back);
    forge(&directory, altered.as_bytes());
    stage.collect(&job).await.unwrap();
    let new = grown(&before, &stage.history_here());
    assert_eq!(new[1].text(), "worked");
}

#[tokio::test]
async fn an_exit_file_that_makes_no_sense_is_an_error_and_changes_nothing() {
    let stage = Stage::new().await;
    let before = stage.history_here();
    let (job, directory) = ended_job(&stage).await;
    let exit = std::fs::read(directory.join("exit")).unwrap();
    let text = String::from_utf8(exit.clone()).unwrap();
    for nonsense in [
        String::new(),
        "end=1\n".to_owned(),
        text.replace("protocol=1", "protocol=99"),
        text.replace("size=", "size=-"),
        "\u{0}\u{1b}[2J".repeat(50_000),
    ] {
        std::fs::write(directory.join("exit"), &nonsense).unwrap();
        let ran = stage.run(&["collect", &job]).await;
        let refused = ran.code.is_some_and(|code| code != 0 && code != 101);
        assert!(
            refused,
            "{:?}: {ran:?}",
            &nonsense[..nonsense.len().min(99)]
        );
        assert!(!ran.err.contains('\u{1b}'), "{}", ran.err);
        assert_eq!(stage.history_here(), before);
    }
    std::fs::write(directory.join("exit"), exit).unwrap();
    stage.collect(&job).await.unwrap();
    grown(&before, &stage.history_here());
}

#[tokio::test]
async fn a_forged_session_of_a_spawned_job_is_refused_before_the_agent_here_sees_it() {
    let stage = Stage::new().await;
    let spawned = stage
        .run(&["run", "box", "--json", "RULE say worked"])
        .await
        .exits(0);
    let job = spawned.document()["job"].as_str().unwrap().to_owned();
    let directory = stage.job_directories().remove(0);
    let exit = directory.join("exit");
    until("the job ends", || exit.exists()).await;
    stage.run(&["sync"]).await.exits(0);
    let session = stage.jobs().await[0].session.clone().unwrap();
    let back = std::fs::read_to_string(directory.join("back.json")).unwrap();
    let another = "ses_000000000000wrongwrongwron";
    let deep = "[".repeat(100_000);
    let forgeries = [
        ("another session", back.replace(session.as_str(), another)),
        (
            "a session that is here already",
            back.replace(session.as_str(), stage.session.as_str()),
        ),
        (
            "a key twice",
            back.replacen("\"info\"", "\"info\": {}, \"info\"", 1),
        ),
        (
            "too deep",
            back.replacen("\"messages\"", &format!("\"x\": {deep}, \"messages\""), 1),
        ),
        (
            "cut at the end",
            back.trim_end().strip_suffix('}').unwrap().to_owned(),
        ),
    ];
    let before = stage.history_here();
    // Were anything imported, this would fail in another way.
    stage.settings_here("STANDIN_IMPORT=fail\n");
    for (what, forged) in forgeries {
        assert_ne!(forged, back, "{what}");
        forge(&directory, forged.as_bytes());
        let ran = stage.run(&["collect", "--import", &job, "--json"]).await;
        assert_eq!(ran.code, Some(11), "{what}: {}", ran.out);
        assert_eq!(stage.history_here(), before, "{what}");
        assert!(directory.join("back.json").exists(), "{what}");
    }
    stage.settings_here("");
    forge(&directory, back.as_bytes());
    stage
        .run(&["collect", "--import", &job, "--json"])
        .await
        .exits(0);
    let brought = crate::support::History::read(&stage.here(".local/share"), &session);
    assert!(brought.text().contains("worked"));
    assert_eq!(stage.history_here(), before);
}
