//! `handover plugin` and what the plugin asks the program for, through the binary and with no agent.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A home directory of its own, and a project in it.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        std::fs::create_dir_all(directory.path().join("project"))?;
        Ok(Self { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command
            .args(arguments)
            .current_dir(self.path("project"))
            .env("HOME", self.directory.path())
            .env("USERPROFILE", self.directory.path())
            .env("HANDOVER_CONFIG_DIR", self.path("config"))
            .env("HANDOVER_STATE_DIR", self.path("state"))
            .env("HANDOVER_SSH_CONFIG", "none")
            .env_remove("OPENCODE_CONFIG_DIR")
            .env_remove("XDG_CONFIG_HOME");
        command.output().context("run handover")
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(arguments)?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn write_hosts(&self, hosts: &str) -> Result<()> {
        std::fs::create_dir_all(self.path("config"))?;
        Ok(std::fs::write(self.path("config/hosts.toml"), hosts)?)
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_plugin_is_installed_printed_and_removed() -> Result<()> {
    let home = Home::new()?;
    // A broken hosts file is no reason not to install the plugin that explains it.
    home.write_hosts("not toml at all")?;
    let printed = home.run(&["plugin", "print"])?;
    let places: [(&[&str], &str); 2] = [
        (&[], ".config/opencode/plugin/handover.ts"),
        (&["--project"], "project/.opencode/plugin/handover.ts"),
    ];
    for (more, place) in places {
        let plugin = |verb| home.run(&[&["plugin", verb], more].concat());
        for words in ["is installed: ", "is installed already: "] {
            let output = plugin("install")?;
            ensure!(output.status.success(), "{}", said(&output));
            ensure!(said(&output).contains(words), "{}", said(&output));
            ensure!(std::fs::read(home.path(place))? == printed.stdout);
        }
        for words in ["is removed: ", "there is no plugin at "] {
            let output = plugin("uninstall")?;
            ensure!(output.status.success(), "{}", said(&output));
            ensure!(said(&output).contains(words), "{}", said(&output));
            ensure!(!home.path(place).exists());
        }
        std::fs::write(home.path(place), "mine")?;
        for verb in ["install", "uninstall"] {
            let output = plugin(verb)?;
            ensure!(output.status.code() == Some(1));
            ensure!(said(&output).contains("left as it is"), "{}", said(&output));
            ensure!(std::fs::read_to_string(home.path(place))? == "mine");
        }
    }
    Ok(())
}

#[test]
fn the_tool_lists_names_and_says_what_a_project_has() -> Result<()> {
    let home = Home::new()?;
    home.write_hosts(
        "[hosts.gpu-box]\nhost = \"ada@gpu.example.net\"\n[hosts.nas]\nhost = \"b@nas\"\n",
    )?;
    std::fs::create_dir_all(home.path("project/.opencode"))?;
    std::fs::write(home.path("project/.opencode/hosts.json"), "{}")?;
    let listing = home.json(&["hosts", "--for-model"])?;
    let unused = Path::new(".opencode").join("hosts.json");
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "hosts": ["gpu-box", "nas"],
        "unused": [unused.to_string_lossy()],
    });
    ensure!(listing == expected, "{listing}");
    home.write_hosts("[hosts.gpu-box]\nhost = \"ada@gpu.example.net:0\"\n")?;
    let refused = home.json(&["hosts", "--for-model"])?;
    let message = refused["error"]["message"].as_str().context("no message")?;
    ensure!(
        !message.contains("example") && !message.contains("hosts.toml"),
        "{message}"
    );
    let log = std::fs::read_to_string(home.path("state/logs/handover.log"))?;
    ensure!(
        log.contains("hosts.toml"),
        "the person's log says nothing: {log}"
    );
    Ok(())
}

#[test]
fn a_call_for_an_unknown_host_is_answered_for_a_model() -> Result<()> {
    let home = Home::new()?;
    home.write_hosts("[hosts.gpu-box]\nhost = \"ada@gpu.example.net\"\n")?;
    let send = [
        "send",
        "--for-model",
        "--tool-call",
        "--round-trip",
        "--",
        "-oProxyCommand=x",
    ];
    let answer = home.json(&send)?;
    ensure!(answer["error"]["kind"] == "unknown_host", "{answer}");
    ensure!(!answer.to_string().contains("example"), "{answer}");
    Ok(())
}

#[test]
fn there_is_a_manual_page_for_every_verb_of_a_person() -> Result<()> {
    let home = Home::new()?;
    let output = home.run(&["man", "."])?;
    ensure!(output.status.success(), "{}", said(&output));
    for page in [
        "handover.1",
        "handover-send.1",
        "handover-collect.1",
        "handover-plugin-install.1",
    ] {
        let text = std::fs::read_to_string(home.path("project").join(page)).context(page)?;
        ensure!(
            !text.contains("for\\-model"),
            "{page} shows a hidden option"
        );
    }
    Ok(())
}
