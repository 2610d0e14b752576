//! The probe and the small scripts, run for real under every login shell and every `sh`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::stub::{Host, JOB, SHELLS};
use super::{
    AgentError, CheckCleanup, JobListing, Models, Probe, ProbeFor, ProbeRequest, WorkDirectory,
    runner_script,
};

fn check() -> ProbeRequest<'static> {
    ProbeRequest {
        purpose: ProbeFor::Check,
        state_dir: None,
        opencode: None,
        work_dir: None,
    }
}

#[test]
fn every_sh_answers_the_probe() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let probe = host.probe();
        let home = host.home();
        assert_eq!(probe.home.as_str(), home.to_str().unwrap(), "{shell}");
        assert_eq!(probe.work_dir.as_str(), home.join("work").to_str().unwrap());
        assert_eq!(probe.work_dir_is, WorkDirectory::Missing);
        assert_eq!(
            probe.opencode.unwrap().as_str(),
            home.join(".local/bin/opencode").to_str().unwrap()
        );
        assert_eq!(probe.version.as_deref(), Some("9.9.9"));
        assert_eq!(probe.login_env_error, None, "{shell}");
        assert!(probe.can_detach && probe.has_sha256 && probe.clock.ms > 1_600_000_000_000);
        assert!(!probe.machine.is_empty() && !probe.boot.is_empty());
        let directory = probe.directory.unwrap().unwrap();
        assert!(directory.free_kib.unwrap() > 0);
        assert_eq!(
            directory.path.as_str(),
            home.join(".local/state/handover/jobs")
                .join(JOB)
                .to_str()
                .unwrap()
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for part in [
            "handover",
            "handover/jobs",
            &format!("handover/jobs/{JOB}"),
            &format!("handover/jobs/{JOB}/params"),
        ] {
            assert_eq!(mode(&home.join(".local/state").join(part)), 0o700, "{part}");
        }
        let visible = Path::new(directory.path.as_str()).join("visible");
        assert_eq!(mode(&visible), 0o600);
        assert_eq!(fs::read_to_string(visible).unwrap().trim(), probe.visible);
    }
}

#[test]
#[ignore = "needs fish, tcsh, zsh and busybox"]
fn every_login_shell_answers_the_probe_through_noise() {
    let rc = "echo noise from a profile; echo 'more; $(noise)' >&2\n";
    for shell in [
        "/bin/bash",
        "/bin/dash",
        "/usr/bin/zsh",
        "/usr/bin/fish",
        "/usr/bin/tcsh",
        "/bin/busybox",
    ] {
        let mut host = Host::new("/bin/sh");
        let home = host.home();
        for (file, export) in [
            (".bashrc", "export NOISE=1\n"),
            (".profile", "export XDG_STATE_HOME=\"$HOME/st ate\"\n"),
            (".zprofile", "export XDG_STATE_HOME=\"$HOME/st ate\"\n"),
            (".zshenv", ""),
            (".cshrc", ""),
            (".login", "setenv XDG_STATE_HOME \"$HOME/st ate\"\n"),
            (
                ".config/fish/config.fish",
                "set -gx XDG_STATE_HOME \"$HOME/st ate\"\n",
            ),
        ] {
            fs::create_dir_all(home.join(file).parent().unwrap()).unwrap();
            fs::write(
                home.join(file),
                if file.contains("csh") || file == ".login" {
                    format!("echo noise\n{export}")
                } else {
                    format!("{rc}{export}")
                },
            )
            .unwrap();
        }
        host.login_shell = shell.into();
        if shell.ends_with("busybox") {
            let link = home.join("ash");
            std::os::unix::fs::symlink(shell, &link).unwrap();
            host.login_shell = link;
        }
        let probe = host.probe();
        assert_eq!(probe.login_env_error, None, "{shell}");
        assert_eq!(
            probe.state.as_str(),
            home.join("st ate/handover").to_str().unwrap(),
            "{shell}"
        );
        assert_eq!(probe.version.as_deref(), Some("9.9.9"), "{shell}");
    }
}

#[test]
fn a_profile_that_noises_or_replaces_the_shell_does_no_harm() {
    let mut host = Host::new("/bin/dash");
    host.login_shell = "/bin/bash".into();
    fs::write(
        host.home().join(".profile"),
        "echo motd\nprintf 'no line break'\nexport PATH=\"$HOME/tools:$PATH\"\nsleep 30 &\n",
    )
    .unwrap();
    fs::create_dir(host.home().join("tools")).unwrap();
    fs::rename(
        host.home().join(".local/bin/opencode"),
        host.home().join("tools/opencode"),
    )
    .unwrap();
    let probe = host.probe();
    assert_eq!(probe.login_env_error, None);
    assert!(
        probe
            .opencode
            .unwrap()
            .as_str()
            .ends_with("/tools/opencode")
    );

    fs::write(host.home().join(".profile"), "exec true\n").unwrap();
    let probe = host.probe_with(&check());
    assert!(probe.login_env_error.is_some());
    assert_eq!(probe.opencode, None);
}

#[test]
fn a_missing_agent_names_every_place_that_was_looked_at() {
    let host = Host::new("/bin/dash");
    fs::remove_file(host.home().join(".local/bin/opencode")).unwrap();
    let probe = host.probe_with(&check());
    assert_eq!(probe.opencode, None);
    let tried = probe.tried.join("\n");
    for place in [
        "PATH of the login shell: ",
        ".opencode/bin/opencode",
        ".bun/bin/opencode",
        "/usr/local/bin/opencode",
        "/opt/homebrew/bin/opencode",
    ] {
        assert!(tried.contains(place), "{place} is not in {tried}");
    }
    let probe = host.probe_with(&ProbeRequest {
        opencode: Some("~/none here"),
        ..check()
    });
    assert_eq!(probe.opencode, None);
    assert_eq!(
        probe.tried,
        [host.home().join("none here").to_str().unwrap()]
    );
}

#[test]
fn an_agent_of_a_node_version_manager_is_found() {
    let host = Host::new("/bin/dash");
    fs::remove_file(host.home().join(".local/bin/opencode")).unwrap();
    fs::create_dir_all(host.home().join(".nvm/versions/node/v22.1.0/bin")).unwrap();
    host.install(".nvm/versions/node/v22.1.0/bin/opencode");
    assert_eq!(host.probe_with(&check()).version.as_deref(), Some("9.9.9"));
}

#[test]
fn a_question_whose_answer_was_lost_can_be_repeated_until_the_job_is_claimed() {
    let host = Host::new("/bin/dash");
    let first = host.probe().directory.unwrap().unwrap();
    assert!(first.is_new);
    let second = host.probe().directory.unwrap().unwrap();
    assert!(!second.is_new);
    assert_eq!(second.path, first.path);
    fs::create_dir(format!("{}/claim", first.path)).unwrap();
    assert_eq!(
        host.probe().directory.unwrap().unwrap_err(),
        "the job is claimed already"
    );
}

#[test]
fn a_state_directory_that_cannot_be_made_is_an_answer_with_the_reason() {
    let host = Host::new("/bin/dash");
    fs::write(host.home().join("file"), "").unwrap();
    let probe = host.probe_with(&ProbeRequest {
        state_dir: Some("~/file/state"),
        ..check()
    });
    assert!(probe.directory.unwrap().unwrap_err().contains("file"));
}

#[test]
fn hostile_paths_are_carried_as_they_are() {
    for shell in SHELLS {
        let host = Host::new(shell);
        for name in [
            "a b",
            "ü 漢",
            "'q\"",
            "-leading",
            "$(touch x)",
            "`touch x`",
            "a;b&c|d",
            "a\\nb",
            "*",
            "!!",
            "~x",
        ] {
            let path = format!("~/w/{name}");
            let probe = host.probe_with(&ProbeRequest {
                work_dir: Some(&path),
                state_dir: Some(&path),
                ..check()
            });
            assert_eq!(
                probe.work_dir.as_str(),
                host.home().join("w").join(name).to_str().unwrap(),
                "{shell}"
            );
            assert!(probe.directory.unwrap().is_ok(), "{name} under {shell}");
        }
        assert!(!host.home().join("x").exists());
    }
}

#[test]
fn links_in_a_work_directory_are_resolved() {
    let host = Host::new("/bin/dash");
    fs::create_dir(host.home().join("real")).unwrap();
    std::os::unix::fs::symlink(host.home().join("real"), host.home().join("link")).unwrap();
    let probe = host.probe_with(&ProbeRequest {
        work_dir: Some("~/link/new/dir/"),
        ..check()
    });
    assert_eq!(
        probe.work_dir.as_str(),
        host.home().join("real/new/dir").to_str().unwrap()
    );
    fs::write(host.home().join("file"), "").unwrap();
    let probe = host.probe_with(&ProbeRequest {
        work_dir: Some("~/file"),
        ..check()
    });
    assert_eq!(probe.work_dir_is, WorkDirectory::NotADirectory);
}

#[test]
fn the_models_are_listed_and_the_checks_directory_goes_away() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let probe = host.probe_with(&check());
        let directory = probe.directory.unwrap().unwrap().path;
        let call = Models::call(&probe.opencode.unwrap(), &directory).unwrap();
        assert_eq!(
            Models::parse(&call, &host.exec(&call)).unwrap().names,
            ["mock/m", "mock/n"],
            "{shell}"
        );
        let call = CheckCleanup::call(&directory).unwrap();
        assert!(CheckCleanup::parse(&call, &host.exec(&call)).unwrap());
        assert!(!Path::new(directory.as_str()).exists());
        let call = CheckCleanup::call(&probe.home).unwrap();
        assert!(!CheckCleanup::parse(&call, &host.exec(&call)).unwrap());
        assert!(host.home().exists());
    }
}

#[test]
fn of_more_jobs_than_are_listed_it_is_the_newest_that_are() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let jobs = host.home().join("jobs");
        // Three more than are listed, and one that is none.
        for age in 0..5003 {
            let job = jobs.join(format!("j{age:09}-abcdef"));
            fs::create_dir_all(&job).unwrap();
            fs::write(job.join("job.json"), "{}").unwrap();
        }
        fs::create_dir(jobs.join("jz-none")).unwrap();
        let path = jobs.to_str().unwrap().parse().unwrap();
        let call = JobListing::call(&path).unwrap();
        let listing = JobListing::parse(&call, &host.exec(&call)).unwrap();
        assert!(listing.more, "{shell}");
        assert_eq!(listing.names.len(), 5000, "{shell}");
        assert_eq!(listing.names[0], "j000000003-abcdef", "{shell}");
        assert_eq!(listing.names[4999], "j000005002-abcdef", "{shell}");
    }
}

#[test]
fn a_login_that_is_refused_is_no_answer() {
    let mut host = Host::new("/bin/dash");
    let refusing = host.home().join("nologin");
    fs::write(
        &refusing,
        "#!/bin/sh\necho This account is currently not available.\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&refusing, fs::Permissions::from_mode(0o755)).unwrap();
    host.login_shell = refusing;
    let call = check().call().unwrap();
    let Err(AgentError::NoAnswer { said }) = Probe::parse(&call, &host.exec(&call)) else {
        panic!("it answered")
    };
    assert_eq!(said, "This account is currently not available.");
}

#[test]
#[ignore = "needs shellcheck"]
fn every_script_passes_shellcheck() {
    let root = tempfile::tempdir().unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/agent/scripts");
    let join = |names: &[&str]| {
        names
            .iter()
            .map(|name| fs::read_to_string(scripts.join(name)).unwrap())
            .collect::<String>()
    };
    let texts = [
        runner_script().to_owned(),
        join(&["frame.sh", "login_env.sh", "identity.sh", "probe.sh"]),
        join(&["frame.sh", "login_env.sh", "models.sh"]),
        join(&["frame.sh", "removal.sh", "clean.sh"]),
        join(&["frame.sh", "list.sh"]),
        join(&["job.sh"]),
    ];
    for text in texts {
        let file = root.path().join("script.sh");
        fs::write(&file, text).unwrap();
        let output = Command::new("shellcheck")
            .args(["-s", "sh"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

#[test]
fn a_restricted_shell_answers_or_says_why_not() {
    let mut host = Host::new("/bin/dash");
    host.login_shell = "/bin/rbash".into();
    let probe = host.probe_with(&check());
    assert_eq!(probe.version.as_deref(), Some("9.9.9"));
    let call = check().call().unwrap();
    let error = Probe::parse(&call, b"")
        .unwrap_err()
        .with_stderr(b"rbash: line 1: sh: command not found\n");
    assert!(
        matches!(error, AgentError::NoAnswer { said } if said.ends_with("sh: command not found"))
    );
}
