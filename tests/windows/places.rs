//! What lies where on Windows, who may read it, and how a person begins.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::console::{painted, say_yes};
use crate::far::{Far, ready, user};
use crate::opencode::grown;
use crate::support::client::finish;
use crate::wine::{LocalAgent, Windows, without_escapes};
use crate::{result, told};

fn mode(path: &Path) -> Result<u32> {
    let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(metadata.permissions().mode() & 0o777)
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn what_is_kept_lies_in_the_profile_and_is_private() -> Result<()> {
    let (windows, _far) = ready(LocalAgent::Exe)?;
    windows.new_session()?;
    result(windows.run(&["send", "far", "--json", "--round-trip"])?)?;
    // Wine writes what a list says into the mode, as far as a mode can say it: the user's rights are the group's too.
    for private in [
        "AppData/Local/handover",
        "AppData/Local/handover/logs",
        "AppData/Local/handover/jobs",
        "AppData/Local/handover/store/jobs.db",
        "AppData/Local/handover/logs/handover.log",
        "AppData/Roaming/handover/config/known_hosts",
    ] {
        let mode = mode(&windows.profile(private))?;
        assert_eq!(mode & 0o007, 0, "{private} has the mode {mode:o}");
    }
    let known = windows.profile("AppData/Roaming/handover/config/known_hosts");
    assert!(std::fs::read_to_string(known)?.contains("ssh-ed25519"));
    let log = std::fs::read_to_string(windows.profile("AppData/Local/handover/logs/handover.log"))?;
    without_escapes(&log)
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn a_key_file_that_others_may_read_is_warned_of_and_used() -> Result<()> {
    let (windows, far) = ready(LocalAgent::Exe)?;
    let key = far.give_key(&windows)?;
    let warnings = || -> Result<Vec<Value>> {
        let report = told(windows.run(&["check", "far", "--json"])?)?;
        let findings = report["findings"].as_array().context("no findings")?;
        let about_keys = findings
            .iter()
            .filter(|finding| finding["name"] == "key file");
        Ok(about_keys.cloned().collect())
    };
    // Wine makes a list of the mode: what all may read has an entry for everybody.
    for (mode, warned) in [(0o600, false), (0o644, true)] {
        std::fs::set_permissions(&key, Permissions::from_mode(mode))?;
        let warnings = warnings()?;
        assert_eq!(!warnings.is_empty(), warned, "{mode:o}: {warnings:?}");
        for warning in warnings {
            let said = |field: &str, words: &str| {
                warning[field]
                    .as_str()
                    .is_some_and(|text| text.contains(words))
            };
            assert_eq!(warning["status"], "warn", "{warning}");
            let key = Windows::profile_there(".ssh/id_ed25519");
            assert!(said("detail", &key), "{warning}");
            assert!(said("remedy", "icacls"), "{warning}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn the_plugin_lies_where_opencode_looks_on_windows() -> Result<()> {
    for agent in [LocalAgent::Exe, LocalAgent::Cmd] {
        let windows = Windows::new(agent)?;
        windows.run(&["plugin", "install"])?.expect_code(0)?;
        let plugin = windows.profile(".config/opencode/plugin/handover.ts");
        let text = std::fs::read_to_string(&plugin)?;
        let program = serde_json::to_string(r"C:\Program Files\handover\handover.exe")?;
        assert!(text.contains(&program), "{program} is not in it");
        windows.run(&["plugin", "install"])?.expect_code(0)?;
        windows.run(&["plugin", "uninstall"])?.expect_code(0)?;
        assert!(!plugin.exists());
    }
    Ok(())
}

/// `(ONE& TWO) >> FILE` as `ONE >> FILE& TWO >> FILE`: Wine 8 writes no more than the first of a block.
fn without_block(line: &str) -> Result<String> {
    let parts = line
        .split_once('(')
        .and_then(|(first, rest)| Some((first, rest.rsplit_once(") >> ")?)));
    let (first, (block, file)) = parts.with_context(|| format!("no block in {line}"))?;
    let commands: Vec<_> = block
        .split("& ")
        .map(|command| format!("{command} >> {file}"))
        .collect();
    Ok(format!("{first}{}", commands.join("& ")))
}

/// The lines of the README for a command prompt.
fn readme_lines() -> Result<Vec<String>> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme)?;
    let (_, from) = readme.split_once("```bat\n").context("no lines")?;
    let (lines, _) = from.split_once("```").context("no end of the lines")?;
    Ok(lines.lines().map(str::to_owned).collect())
}

#[test]
#[ignore = "needs Wine and the Windows build: tests/run --tier windows"]
fn the_lines_of_the_readme_install_it_and_hand_a_session_over() -> Result<()> {
    // Here the directory of the local agent has no handover.exe, so that the one which is copied must be found.
    let (windows, far) = (Windows::new(LocalAgent::Cmd)?, Far::start()?);
    far.give_key(&windows)?;
    let lines = readme_lines()?;
    let [copy, configure, hand_over] = &lines[..] else {
        anyhow::bail!("not three lines: {lines:#?}");
    };
    let named = "\"ada@gpu.example.net\"";
    ensure!(configure.contains(named), "{configure}");
    let host = format!("\"{}@127.0.0.1\"& echo port = {}", user(), far.port());
    let configure = without_block(&configure.replace(named, &host))?;
    let script = |name: &str, line: &str| -> Result<[String; 2]> {
        std::fs::write(windows.profile(name), format!("@echo off\r\n{line}\r\n"))?;
        Ok(["/c".to_owned(), Windows::profile_there(name)])
    };
    for (name, line, directory) in [
        ("copy.bat", copy.as_str(), windows.installed("")),
        ("configure.bat", &configure, windows.profile("my project")),
    ] {
        let mut command = windows.command(Path::new("cmd"), &script(name, line)?);
        command.current_dir(directory);
        finish(command, None, &windows.profile("Temp"))?.expect_code(0)?;
    }
    std::fs::remove_file(windows.installed("handover.exe"))?;

    let session = windows.new_session()?;
    let before = windows.export(&session)?;
    let output = windows.scratch("prompt");
    let mut prompt = windows
        .in_console("cmd".as_ref(), &script("go.bat", hand_over)?, &output)?
        .spawn()?;
    say_yes(&mut prompt, &output)?;
    let new = grown(&before, &windows.export(&session)?)?;
    ensure!(
        Value::from(new).to_string().contains("Go on there."),
        "{}",
        painted(&output)
    );
    Ok(())
}
