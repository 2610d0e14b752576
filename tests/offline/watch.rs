//! The live table of `watch`, at a terminal.

use tokio::process::Command;

use crate::support::{BOX, Stage, bounded, until};

/// What clears the line that the cursor is in (ECMA-48, EL).
const CLEAR_LINE: &str = "\x1b[2K";
/// What moves the cursor from the last line of a table of three up to its first (ECMA-48, CUU).
const UP: &str = "\x1b[2A";

#[tokio::test]
async fn the_table_is_drawn_again_in_its_place_and_ends_with_one_row_a_job() {
    let stage = Stage::new().await;
    for _ in 0..2 {
        let run = ["run", BOX, "--json", "RULE await go\nRULE say done"];
        stage.run(&run).await.exits(0);
    }
    let jobs = stage.jobs().await;
    let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();

    // `script` plays the terminal; it hands its command to a shell, which gets the path by the environment.
    let screen = stage.here("screen");
    let mut script = Command::new("script");
    script
        .args([
            "-q",
            "-e",
            "-c",
            "stty cols 200 rows 50; exec \"$HANDOVER\" watch",
        ])
        .arg(&screen)
        .env_clear()
        .envs(stage.environment())
        .env("HANDOVER", env!("CARGO_BIN_EXE_handover"))
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .current_dir(stage.here("project"))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true);
    let mut script = script.spawn().unwrap();
    let drawn =
        || String::from_utf8_lossy(&std::fs::read(&screen).unwrap_or_default()).into_owned();
    until("the table is drawn, and drawn again", || {
        let drawn = drawn();
        ids.iter().all(|id| drawn.matches(id.as_str()).count() > 1)
    })
    .await;
    std::fs::write(stage.there("go"), "").unwrap();
    let status = bounded("the end of watch", script.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));

    let drawn = drawn();
    assert!(drawn.contains(UP), "nothing was drawn in place: {drawn:?}");
    assert!(
        drawn.contains(CLEAR_LINE),
        "what was drawn stays: {drawn:?}"
    );
    let (_, last) = drawn.rsplit_once(UP).expect("it was drawn again");
    for id in &ids {
        assert_eq!(last.matches(id.as_str()).count(), 1, "{last:?}");
    }
    for (word, times) in [("STATE", 1), ("completed", 2), ("running", 0)] {
        assert_eq!(last.matches(word).count(), times, "{word} in {last:?}");
    }
}
