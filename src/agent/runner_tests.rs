//! The runner's protocol, run for real with a stand-in agent under every `sh`.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::stub::{Host, Job, SHELLS};
use super::{
    AgentError, Alive, Burial, CheckCleanup, Claim, Delivery, ExitReason, JobCall, JobStatus,
    KillAnswer, KillReason, LaunchAnswer, Nonce, Phase, RemoveAnswer, Started, names,
};

fn started(answer: LaunchAnswer) -> Started {
    let LaunchAnswer::Started(started) = answer else {
        panic!("not started: {answer:?}")
    };
    started
}

/// Starts a job whose agent has read its prompt and goes on.
fn at_work(host: &Host) -> (Job<'_>, Started) {
    host.say("hold", "");
    let job = host.job();
    let runner = started(job.launch(&Nonce::generate()));
    job.wait_for("run", || !host.heard("prompt").is_empty());
    (job, runner)
}

fn terminate(started: &Started) {
    assert!(
        Command::new("kill")
            .arg(started.pid.to_string())
            .status()
            .unwrap()
            .success()
    );
}

fn remove(job: &Job<'_>) -> RemoveAnswer {
    let (call, output) = job.call(JobCall::new(&job.path).remove().unwrap());
    RemoveAnswer::parse(&call, &output).unwrap()
}

fn private(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_symlink() {
            // It has no mode of its own.
            continue;
        }
        let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(
            metadata.permissions().mode() & 0o777,
            wanted,
            "{:?}",
            entry.path()
        );
        if metadata.is_dir() {
            private(&entry.path());
        }
    }
}

#[test]
fn a_job_runs_to_its_end_under_every_sh() {
    for shell in SHELLS {
        let host = Host::new(shell);
        fs::write(
            host.home().join(".profile"),
            "echo motd\numask 027\nexport PROVIDER_KEY='se cret'\n",
        )
        .unwrap();
        let job = host.job_in("~/-w $(touch x) 'ü\"", 0);
        let first = started(job.launch(&Nonce::generate()));
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.code, exit.phase),
            (ExitReason::Completed, Some(0), Phase::Exporting),
            "{shell}"
        );
        let result = fs::read(job.file("back.json")).unwrap();
        assert_eq!(exit.size, Some(result.len() as u64));
        use sha2::Digest;
        let sum: String = sha2::Sha256::digest(&result)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(exit.sha256, Some(sum));
        assert!(!job.file("session.json").exists() && !job.file("reserve").exists());
        private(Path::new(job.path.as_str()));

        assert_eq!(host.heard("prompt"), "go on\n\"$(touch x)\"\n");
        assert_eq!(
            host.heard("cwd").trim_end(),
            host.home().join("-w $(touch x) 'ü\"").to_str().unwrap()
        );
        assert_eq!(host.heard("umask").trim(), "0027");
        let environment = host.heard("env");
        assert!(
            environment.contains("PROVIDER_KEY=se cret")
                && environment.contains("HANDOVER_JOB_ID=j000000000-abcdef")
        );
        assert!(!environment.contains("HANDOVER_MARK") && !environment.contains("HANDOVER_FRAME"));
        assert!(host.heard("calls").contains(
            "run --session=ses_1aB2 --format json --agent=build $(touch x) --model=mock/m --auto\n"
        ));
        assert!(
            fs::read_to_string(job.file("events.ndjson"))
                .unwrap()
                .contains("done")
        );
        assert!(
            fs::read_to_string(job.file("stderr.log"))
                .unwrap()
                .contains("oops")
        );
        assert!(!host.home().join("x").exists() && !job.file("x").exists());
        for entry in fs::read_dir(job.path.as_str())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
        {
            assert!(
                !String::from_utf8_lossy(&fs::read(&entry).unwrap()).contains("se cret"),
                "the environment is in {entry:?}"
            );
        }

        job.wait_for("end of the runner", || job.status().alive == Alive::No);
        let status = job.status();
        assert_eq!((status.exit, status.started), (Some(exit), Some(first)));
        assert_eq!(remove(&job), RemoveAnswer::Removed);
        assert!(!Path::new(job.path.as_str()).exists());
        assert_eq!(remove(&job), RemoveAnswer::Removed);
    }
}

#[test]
fn the_agent_has_the_users_own_umask_and_not_ours() {
    let host = Host::new("/bin/dash");
    fs::write(host.home().join(".profile"), "").unwrap();
    let job = host.job();
    started(job.launch(&Nonce::generate()));
    job.wait_exit();
    let output = Command::new("sh").args(["-c", "umask"]).output().unwrap();
    assert_eq!(
        host.heard("umask"),
        String::from_utf8(output.stdout).unwrap()
    );
}

#[test]
fn a_launch_repeated_with_its_nonce_finds_the_same_runner_and_another_is_refused() {
    for shell in SHELLS {
        let host = Host::new(shell);
        host.say("hold", "");
        let job = host.job();
        let nonce = Nonce::generate();
        let first = started(job.launch(&nonce));
        assert_eq!(started(job.launch(&nonce)), first, "{shell}");
        assert_eq!(job.launch(&Nonce::generate()), LaunchAnswer::Taken);
        job.wait_for("run", || job.status().phase == Some(Phase::Running));
        let status = job.status();
        assert_eq!(
            (status.alive, status.claim),
            (Alive::Yes, Claim::Launch(nonce.clone()))
        );
        assert_eq!(remove(&job), RemoveAnswer::Alive);
        fs::remove_file(host.stub("hold")).unwrap();
        assert_eq!(job.wait_exit().reason, ExitReason::Completed);
        assert_eq!(started(job.launch(&nonce)), first);
        assert_eq!(host.heard("calls").matches("run ").count(), 1);
    }
}

#[test]
fn a_host_without_setsid_timeout_and_sha256sum_runs_a_job() {
    for shell in SHELLS {
        let host = Host::new(shell).without(&["setsid", "timeout", "sha256sum"]);
        let (job, _) = at_work(&host);
        assert_eq!(job.status().alive, Alive::Yes, "{shell}");
        fs::remove_file(host.stub("hold")).unwrap();
        let exit = job.wait_exit();
        assert_eq!(exit.reason, ExitReason::Completed, "{shell}");
        assert_eq!(exit.sha256.map(|sum| sum.len()), Some(64));
    }
}

#[test]
#[ignore = "needs root for a tmpfs"]
fn a_full_disk_ends_in_an_exit_that_claims_no_result() {
    let host = Host::new("/bin/dash");
    let disk = host.home().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&disk)
        .status()
        .unwrap();
    assert!(mount.success());
    fs::create_dir_all(host.home().join(".local")).unwrap();
    std::os::unix::fs::symlink(&disk, host.home().join(".local/state")).unwrap();
    // Longer than what the runner's own files give up while the disk fills.
    host.say("export-long", "");
    let (job, _) = at_work(&host);
    let _ = fs::write(disk.join("filler"), vec![0; 512 << 10]);
    fs::remove_file(host.stub("hold")).unwrap();
    let exit = job.wait_exit();
    fs::remove_file(disk.join("filler")).unwrap();
    let (call, output) = job.call(
        JobCall::new(&job.path)
            .export(JobCall::EXPORT_SILENCE)
            .unwrap(),
    );
    let again = JobCall::parse_export(&call, &output).unwrap().unwrap();
    assert!(
        Command::new("umount")
            .arg("-l")
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(
        (exit.reason, exit.has_result()),
        (ExitReason::ExportFailed, false)
    );
    assert!(again.has_result());
}

#[test]
fn launches_at_the_same_time_start_one_runner() {
    let host = Host::new("/bin/dash");
    let job = host.job();
    let nonces: Vec<Nonce> = (0..4).map(|_| Nonce::generate()).collect();
    let answers: Vec<LaunchAnswer> = std::thread::scope(|scope| {
        let threads: Vec<_> = nonces
            .iter()
            .map(|nonce| scope.spawn(|| job.launch(nonce)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(
        answers
            .iter()
            .filter(|answer| matches!(answer, LaunchAnswer::Started(_)))
            .count(),
        1,
        "{answers:?}"
    );
    assert_eq!(
        answers
            .iter()
            .filter(|answer| **answer == LaunchAnswer::Taken)
            .count(),
        3,
        "{answers:?}"
    );
    job.wait_exit();
    assert_eq!(host.heard("calls").matches("run ").count(), 1);
}

#[test]
fn a_settled_job_is_never_launched_and_a_launched_one_is_never_settled() {
    let settle = |job: &Job<'_>| {
        let (call, output) = job.call(JobCall::new(&job.path).settle().unwrap());
        Claim::parse_settled(&call, &output).unwrap().unwrap()
    };
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = host.job();
        assert_eq!(job.status().claim, Claim::Free);
        assert_eq!(settle(&job), Claim::Tombstone);
        assert_eq!(
            job.launch(&Nonce::generate()),
            LaunchAnswer::Tombstone,
            "{shell}"
        );
        assert!(!job.file("started").exists());

        let host = Host::new(shell);
        let (job, nonce) = (host.job(), Nonce::generate());
        started(job.launch(&nonce));
        assert_eq!(settle(&job), Claim::Launch(nonce));
        job.wait_exit();
    }
}

#[test]
fn an_upload_that_is_not_whole_is_not_launched() {
    let host = Host::new("/bin/dash");
    let (job, nonce) = (host.job(), Nonce::generate());
    job.put("session.json", b"ses");
    assert_eq!(
        job.launch(&nonce),
        LaunchAnswer::Incomplete {
            file: "session.json".into()
        }
    );
    fs::remove_file(job.file("params/directory")).unwrap();
    assert_eq!(
        job.launch(&nonce),
        LaunchAnswer::Incomplete {
            file: "params/directory".into()
        }
    );
    assert_eq!(job.status().claim, Claim::Free);
}

#[test]
fn a_job_whose_directory_is_gone_is_missing() {
    let host = Host::new("/bin/dash");
    let job = host.job();
    fs::remove_dir_all(job.path.as_str()).unwrap();
    assert_eq!(job.launch(&Nonce::generate()), LaunchAnswer::Missing);
}

#[test]
fn a_message_is_run_once_also_where_it_cannot_be_renamed() {
    for shell in SHELLS {
        for (programs, undelivered) in [(&["mv"][..], 0), (&["mv", "rm"], 1)] {
            let host = Host::new(shell);
            host.put_first(
                "mv",
                "#!/bin/sh\ncase $* in *.txt.done) exit 1 ;; esac\nexec /bin/mv \"$@\"\n",
            );
            if programs.contains(&"rm") {
                host.put_first(
                    "rm",
                    "#!/bin/sh\ncase $* in *.txt) exit 1 ;; esac\nexec /bin/rm \"$@\"\n",
                );
            }
            host.say("hold", "");
            let job = host.job();
            started(job.launch(&Nonce::generate()));
            job.put("inbox/1.txt", b"one more\n");
            fs::remove_file(host.stub("hold")).unwrap();
            let exit = job.wait_exit();
            let runs = host.heard("calls").matches("run ").count();
            assert_eq!(
                (runs, exit.undelivered, exit.has_result()),
                (2, undelivered, true),
                "{shell}"
            );
        }
    }
}

#[test]
fn a_message_that_no_agent_could_read_is_told_as_undelivered() {
    for shell in SHELLS {
        let host = Host::new(shell);
        host.say("hold", "");
        let job = host.job();
        started(job.launch(&Nonce::generate()));
        job.wait_for("run", || !host.heard("prompt").is_empty());
        for name in ["1", "2"] {
            job.put(&format!("inbox/{name}.txt"), b"one more\n");
        }
        // As by an upgrade.
        fs::remove_file(host.home().join(".local/bin/opencode")).unwrap();
        fs::remove_file(host.stub("hold")).unwrap();
        assert_eq!(job.wait_exit().undelivered, 2, "{shell}");
    }
}

#[test]
fn a_second_export_that_hangs_is_given_up_and_the_next_one_is_made() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = host.job();
        host.say("export-hold", "");
        started(job.launch(&Nonce::generate()));
        job.wait_for("export", || job.status().phase == Some(Phase::Exporting));
        let kill = JobCall::new(&job.path).kill(KillReason::Asked, Duration::ZERO);
        job.call(kill.unwrap());
        assert!(!job.wait_exit().has_result(), "{shell}");
        job.wait_for("end of the runner", || job.status().alive == Alive::No);
        let call = JobCall::new(&job.path)
            .export(Duration::from_secs(1))
            .unwrap();
        let mut asked = host.begin(&call);
        job.wait_for("end of the second export", || {
            asked.try_wait().unwrap().is_some()
        });
        let output = asked.wait_with_output().unwrap().stdout;
        assert_eq!(
            JobCall::parse_export(&call, &output).unwrap(),
            None,
            "{shell}"
        );
        fs::remove_file(host.stub("export-hold")).unwrap();
        let (call, output) = job.call(
            JobCall::new(&job.path)
                .export(JobCall::EXPORT_SILENCE)
                .unwrap(),
        );
        let again = JobCall::parse_export(&call, &output).unwrap().unwrap();
        assert_eq!(
            (again.reason, again.has_result()),
            (ExitReason::Killed, true),
            "{shell}"
        );
    }
}

#[test]
fn a_job_that_cannot_be_seen_is_not_missing() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = host.job();
        let away = |what: &str| {
            let (call, output) = job.call(JobCall::new(&job.path).status().unwrap());
            let error = JobStatus::parse(&call, &output).unwrap_err();
            let is_away = matches!(&error, AgentError::JobAway { .. });
            assert!(is_away, "{shell}, {what}: {error:?}");
        };
        // As where a file system is not mounted: all of it, or the part with the jobs.
        let state = job.file("../..");
        let elsewhere = state.with_file_name("elsewhere");
        let state = state.canonicalize().unwrap();
        let elsewhere = state.with_file_name(elsewhere.file_name().unwrap());
        fs::rename(&state, &elsewhere).unwrap();
        away("nothing is there");
        fs::create_dir(&state).unwrap();
        away("its directory is empty");
        fs::remove_dir(&state).unwrap();
        fs::rename(&elsewhere, &state).unwrap();
        assert_eq!(job.status().claim, Claim::Free, "{shell}");
        fs::remove_dir_all(job.path.as_str()).unwrap();
        let (call, output) = job.call(JobCall::new(&job.path).status().unwrap());
        assert_eq!(JobStatus::parse(&call, &output).unwrap(), None, "{shell}");
        // What is there and cannot be entered is not gone.
        fs::write(job.path.as_str(), "").unwrap();
        away("it cannot be entered");
    }
}

#[test]
fn every_failure_ends_in_an_exit_that_names_it() {
    for shell in SHELLS {
        let ended = |prepare: &dyn Fn(&Host, &Job<'_>)| {
            let host = Host::new(shell);
            let job = host.job();
            prepare(&host, &job);
            started(job.launch(&Nonce::generate()));
            let exit = job.wait_exit();
            (
                exit,
                fs::read_to_string(job.file("stderr.log")).unwrap_or_default(),
            )
        };
        let (exit, log) = ended(&|host, _| host.say("import-fails", ""));
        assert_eq!(
            (exit.reason, exit.phase, exit.code),
            (ExitReason::ImportFailed, Phase::Importing, None),
            "{shell}"
        );
        assert!(log.contains("File not found"), "{log}");
        let (exit, _) = ended(&|_, job| job.put("params/opencode", b"/nowhere/opencode"));
        assert_eq!(exit.reason, ExitReason::AgentMissing);
        let (exit, _) = ended(&|host, _| fs::write(host.home().join("work"), "").unwrap());
        assert_eq!(exit.reason, ExitReason::WorkdirFailed);
        let (exit, _) = ended(&|host, _| host.say("code", "7"));
        assert_eq!((exit.reason, exit.code), (ExitReason::AgentFailed, Some(7)));
        assert!(
            exit.has_result(),
            "the session of a failed agent can be fetched"
        );
        let (exit, _) = ended(&|host, _| host.say("killed", ""));
        assert_eq!(
            (exit.reason, exit.signal()),
            (ExitReason::AgentSignalled, Some(9))
        );
        let (exit, _) = ended(&|host, _| host.say("export-cut", ""));
        assert_eq!(
            (exit.reason, exit.has_result(), exit.code),
            (ExitReason::ExportFailed, false, Some(0))
        );
    }
}

#[test]
fn an_export_that_failed_can_be_made_again() {
    let host = Host::new("/bin/dash");
    let job = host.job();
    host.say("export-cut", "");
    started(job.launch(&Nonce::generate()));
    assert_eq!(job.wait_exit().reason, ExitReason::ExportFailed);
    assert!(!job.file("back.json").exists() && !job.file("back.json.part").exists());
    let again = || {
        let (call, output) = job.call(
            JobCall::new(&job.path)
                .export(JobCall::EXPORT_SILENCE)
                .unwrap(),
        );
        JobCall::parse_export(&call, &output).unwrap()
    };
    assert_eq!(again(), None);
    fs::remove_file(host.stub("export-cut")).unwrap();
    let exit = again().unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Completed, Some(0)));
    assert!(job.file("back.json").exists());
}

/// A job whose export has failed, and can be made now.
fn job_without_result(host: &Host) -> Job<'_> {
    let job = host.job();
    host.say("export-cut", "");
    started(job.launch(&Nonce::generate()));
    assert_eq!(job.wait_exit().reason, ExitReason::ExportFailed);
    job.wait_for("end of the runner", || job.status().alive == Alive::No);
    fs::remove_file(host.stub("export-cut")).unwrap();
    job
}

#[test]
fn a_second_export_whose_asker_is_gone_is_finished_and_waited_for() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = job_without_result(&host);
        host.say("export-hold", "");
        let call = JobCall::new(&job.path)
            .export(JobCall::EXPORT_SILENCE)
            .unwrap();
        let mut first = host.begin(&call);
        let asked = || host.heard("calls").matches("export ").count();
        job.wait_for("export", || asked() == 2);
        drop(first.stdout.take());
        let exit = std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let (call, output) = job.call(
                    JobCall::new(&job.path)
                        .export(JobCall::EXPORT_SILENCE)
                        .unwrap(),
                );
                JobCall::parse_export(&call, &output).unwrap()
            });
            fs::remove_file(host.stub("export-hold")).unwrap();
            second.join().unwrap()
        });
        first.wait().unwrap();
        assert_eq!(exit.unwrap().reason, ExitReason::Completed, "{shell}");
        assert_eq!(
            asked(),
            2,
            "the first one's result is the second one's answer"
        );
        assert_eq!(holders(&job), ["free"], "{shell}");
    }
}

/// Who holds the lock of the export, by its links.
fn holders(job: &Job<'_>) -> Vec<String> {
    let entries = fs::read_dir(job.path.as_str()).unwrap();
    let links = entries.filter_map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name()?.to_str()?.to_owned();
        let link = name
            .starts_with("export.lock.")
            .then(|| fs::read_link(path));
        Some(link?.unwrap().to_str()?.trim_end_matches('|').to_owned())
    });
    links.collect()
}

#[test]
fn the_lock_of_a_dead_export_is_taken_over_and_that_of_a_living_one_is_not() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = job_without_result(&host);
        let started = fs::read_to_string(job.file("started")).unwrap();
        let link = |name: &str, text: &str| {
            symlink(text.replace('\n', "|"), job.file(name)).unwrap();
        };
        link("export.lock.3", &started);
        let (call, output) = job.call(
            JobCall::new(&job.path)
                .export(JobCall::EXPORT_SILENCE)
                .unwrap(),
        );
        let exit = JobCall::parse_export(&call, &output).unwrap().unwrap();
        assert_eq!(exit.reason, ExitReason::Completed, "{shell}");
        assert_eq!(holders(&job), ["free"], "{shell}");
    }
}

/// Whether a process is in the job's directory.
fn is_at_work(job: &Job<'_>) -> bool {
    let entries = fs::read_dir("/proc").unwrap();
    let mut there = entries.filter_map(|entry| fs::read_link(entry.ok()?.path().join("cwd")).ok());
    there.any(|directory| directory == Path::new(job.path.as_str()))
}

#[test]
fn a_runner_and_its_burial_at_the_same_time_are_one_or_the_other() {
    let bury = |job: &Job<'_>| {
        let (call, output) = job.call(JobCall::new(&job.path).bury().unwrap());
        Burial::parse(&call, &output).unwrap()
    };
    for shell in SHELLS {
        for (slow, won) in [("buried", false), ("pid=", true)] {
            let host = Host::new(shell);
            let job = host.job();
            // One of the two stands still before it takes what both want.
            let wait = format!("case $* in *{slow}*) sleep 2 ;; esac");
            host.put_first("ln", &format!("#!/bin/sh\n{wait}\nexec /bin/ln \"$@\"\n"));
            let nonce = Nonce::generate();
            let call = JobCall::new(&job.path).launch(&nonce).unwrap();
            let mut launching = host.begin(&call);
            job.wait_for("claim", || job.file("claim/nonce").exists());
            let mut answer = bury(&job);
            if !won {
                job.wait_for("start", || job.file("started").exists());
                answer = bury(&job);
            }
            launching.wait().unwrap();
            if won {
                job.wait_for("end of the runner", || !is_at_work(&job));
            }
            let (started, buried) = (
                job.file("started").exists(),
                job.file("claim/tombstone").exists(),
            );
            assert_ne!(started, buried, "{shell}, {slow}: {answer:?}");
            let told = if buried {
                Burial::Buried
            } else {
                Burial::Started
            };
            assert_eq!((answer, bury(&job)), (told, told), "{shell}, {slow}");
            if started {
                job.wait_exit();
            } else {
                assert_eq!(job.launch(&nonce), LaunchAnswer::Tombstone, "{shell}");
            }
        }
    }
}

#[test]
fn a_runner_that_died_before_its_first_word_can_be_buried() {
    let host = Host::new("/bin/dash");
    let job = host.job();
    fs::create_dir(job.file("claim")).unwrap();
    job.put("claim/nonce", b"0123456789abcdef0123456789abcdef\n");
    let (other, nonce) = (Host::new("/bin/dash"), Nonce::generate());
    let ran = other.job();
    started(ran.launch(&nonce));
    ran.wait_exit();
    ran.wait_for("end of the runner", || ran.status().alive == Alive::No);
    let dead = fs::read_link(ran.file("claim/runner")).unwrap();
    symlink(dead, job.file("claim/runner")).unwrap();
    let (call, output) = job.call(JobCall::new(&job.path).bury().unwrap());
    assert_eq!(Burial::parse(&call, &output).unwrap(), Burial::Buried);
    assert_eq!(job.status().claim, Claim::Tombstone);
}

/// Asks a job's script to deliver a message, after it was put beside the inbox.
fn say(job: &Job<'_>, name: &str, text: &str) -> Delivery {
    job.put(&names::message(name), text.as_bytes());
    let (call, output) = job.call(JobCall::new(&job.path).say(name).unwrap());
    Delivery::parse(&call, &output).unwrap()
}

#[test]
fn messages_are_read_in_the_order_of_their_delivery_whatever_their_names_say() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, _) = at_work(&host);
        // As of machines whose clocks disagree; the same name twice is the same message.
        for name in ["900-b", "100-a", "500-c"] {
            assert_eq!(say(&job, name, &format!("{name}\n")), Delivery::Taken);
            assert_eq!(say(&job, name, "twice\n"), Delivery::Taken, "{shell}");
        }
        fs::remove_file(host.stub("hold")).unwrap();
        let exit = job.wait_exit();
        assert_eq!((exit.reason, exit.undelivered), (ExitReason::Completed, 0));
        let prompt = host.heard("prompt");
        assert!(
            prompt.ends_with("900-b\n100-a\n500-c\n"),
            "{shell}: {prompt}"
        );
        assert_eq!(say(&job, "100-a", "late\n"), Delivery::Taken);
        assert_eq!(say(&job, "700-d", "late\n"), Delivery::Closed, "{shell}");
    }
}

#[test]
fn a_message_to_a_job_that_was_not_launched_is_refused_at_once() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = host.job();
        let since = std::time::Instant::now();
        assert_eq!(say(&job, "1-a", "hear\n"), Delivery::Unlaunched, "{shell}");
        assert!(since.elapsed().as_secs() < 8, "{shell}");
        assert!(!job.file("say-1-a.txt").exists());
        job.launch(&Nonce::generate());
        let exit = job.wait_exit();
        assert_eq!(exit.undelivered, 0, "{shell}");
        assert!(!host.heard("prompt").contains("hear"));
    }
}

#[test]
fn a_job_of_an_older_script_is_understood() {
    let old = include_bytes!("../../tests/fixtures/scripts/run-2026-11.sh");
    for shell in SHELLS {
        let host = Host::new(shell);
        host.say("hold", "");
        let job = host.job();
        job.put("run.sh", old);
        let bury = || {
            let (call, output) = job.call(JobCall::new(&job.path).bury().unwrap());
            Burial::parse(&call, &output).unwrap()
        };
        assert_eq!(bury(), Burial::Unknown, "{shell}");
        let nonce = Nonce::generate();
        let runner = started(job.launch(&nonce));
        job.wait_for("run", || !host.heard("prompt").is_empty());
        let status = job.status();
        assert_eq!(
            (status.alive, status.phase, status.claim),
            (Alive::Yes, Some(Phase::Running), Claim::Launch(nonce)),
            "{shell}"
        );
        assert_eq!(say(&job, "1-a", "hear\n"), Delivery::Taken, "{shell}");
        // Of a runner that is gone the old script says so, and ends what it left when it is asked to.
        assert!(
            Command::new("kill")
                .args(["-KILL", &runner.pid.to_string()])
                .status()
                .unwrap()
                .success()
        );
        job.wait_for("death of the runner", || job.status().alive == Alive::No);
        let call = JobCall::new(&job.path).kill(KillReason::Asked, Duration::ZERO);
        let (call, output) = job.call(call.unwrap());
        let KillAnswer::Ended(exit) = KillAnswer::parse(&call, &output).unwrap() else {
            panic!("{shell}: not ended")
        };
        assert_eq!(
            (exit.reason, exit.has_result(), exit.undelivered),
            (ExitReason::Killed, true, 1),
            "{shell}"
        );
        assert_eq!(remove(&job), RemoveAnswer::Removed, "{shell}");
    }
}

#[test]
fn an_export_that_somebody_else_makes_is_no_failed_one() {
    let call = JobCall::new(&"/x/handover/jobs/j".parse().unwrap())
        .export(JobCall::EXPORT_SILENCE)
        .unwrap();
    let nonce = call.nonce();
    let output = format!("{nonce} begin\n{nonce} export=busy\n{nonce} end\n");
    assert!(matches!(
        JobCall::parse_export(&call, output.as_bytes()),
        Err(AgentError::ExportBusy)
    ));
}

#[test]
fn the_claim_is_the_last_thing_that_is_removed() {
    for tidy in ["clean", "remove"] {
        let host = Host::new("/bin/dash");
        let job = host.job();
        let seen = host.home().join("seen");
        // Looks into the job's directory before each removal.
        host.put_first(
            "rm",
            &format!(
                "#!/bin/sh\nls -A {0:?} | tr '\\n' ' ' >>{1:?}\necho >>{1:?}\nexec /bin/rm \"$@\"\n",
                job.path.as_str(),
                seen.to_str().unwrap(),
            ),
        );
        if tidy == "clean" {
            let call = CheckCleanup::call(&job.path).unwrap();
            assert!(CheckCleanup::parse(&call, &host.exec(&call)).unwrap());
        } else {
            assert_eq!(remove(&job), RemoveAnswer::Removed);
        }
        assert!(!Path::new(job.path.as_str()).exists(), "{tidy}");
        let seen = fs::read_to_string(seen).unwrap();
        assert!(seen.lines().count() > 3, "{tidy}: {seen}");
        assert!(
            seen.lines().all(|line| line.contains("claim")),
            "{tidy}: {seen}"
        );
        assert_eq!(
            seen.lines().last().unwrap().trim(),
            "claim",
            "{tidy}: {seen}"
        );
    }
}

#[test]
fn a_runner_that_is_told_to_end_ends_its_agent_and_still_exports() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, runner) = at_work(&host);
        terminate(&runner);
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.code),
            (ExitReason::Stopped, Some(143)),
            "{shell}"
        );
        assert!(exit.has_result());
    }
}

#[test]
fn the_agent_waits_until_the_clock_has_passed_the_newest_message() {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64
    };
    for shell in SHELLS {
        let host = Host::new(shell);
        let newest = now() + 1500;
        let job = host.job_in("~/work", newest);
        started(job.launch(&Nonce::generate()));
        let exit = job.wait_exit();
        assert_eq!(exit.reason, ExitReason::Completed, "{shell}");
        assert!(exit.ended_ms > newest);
    }
}

#[test]
fn follow_up_messages_are_read_in_order_and_the_inbox_is_shut_at_the_end() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, _) = at_work(&host);
        for (name, text) in [
            ("2.txt", "second\n"),
            ("1.txt", "first\n"),
            ("3.part", "never whole\n"),
        ] {
            job.put(&format!("inbox/{name}"), text.as_bytes());
        }
        fs::remove_file(host.stub("hold")).unwrap();
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.undelivered),
            (ExitReason::Completed, 0),
            "{shell}"
        );
        assert!(
            host.heard("prompt").ends_with("first\nsecond\n"),
            "{:?}",
            host.heard("prompt")
        );
        assert_eq!(host.heard("calls").matches("run ").count(), 3);
        assert!(
            !job.file("inbox").exists(),
            "a delivery after the end must fail"
        );
    }
}

#[test]
fn a_message_delivered_around_the_end_is_read_or_refused() {
    let host = Host::new("/bin/dash");
    for round in 0..6 {
        host.say("hold", "");
        host.say("prompt", "");
        let job = host.job();
        started(job.launch(&Nonce::generate()));
        job.wait_for("run", || !host.heard("prompt").is_empty());
        let end = std::thread::scope(|scope| {
            let delivery = scope.spawn(|| {
                let mut accepted = Vec::new();
                for number in 0..200 {
                    let (part, whole) = (
                        job.file(&format!("inbox/{number:03}.part")),
                        job.file(&format!("inbox/{number:03}.txt")),
                    );
                    if fs::write(&part, format!("message {number};\n")).is_ok()
                        && fs::rename(&part, &whole).is_ok()
                    {
                        accepted.push(number);
                        if accepted.len() >= 3 {
                            break;
                        }
                    }
                    std::thread::sleep(std::time::Duration::from_millis(round + 1));
                }
                accepted
            });
            fs::remove_file(host.stub("hold")).unwrap();
            let exit = job.wait_exit();
            (exit, delivery.join().unwrap())
        });
        let prompt = host.heard("prompt");
        for number in &end.1 {
            assert!(
                prompt.contains(&format!("message {number};\n")),
                "message {number} was accepted and lost"
            );
        }
        assert_eq!(prompt.matches("message").count(), end.1.len());
        assert_eq!(remove(&job), RemoveAnswer::Removed);
    }
}

#[test]
fn a_session_is_forgotten_by_the_hosts_agent() {
    let host = Host::new("/bin/dash");
    let job = host.job();
    started(job.launch(&Nonce::generate()));
    job.wait_exit();
    let forget = || {
        let (call, output) = job.call(JobCall::new(&job.path).forget().unwrap());
        JobCall::parse_forget(&call, &output).unwrap()
    };
    let session = fs::read(job.file("params/session")).unwrap();
    job.put("params/session", b"ses_other");
    assert!(forget().is_err());
    job.put("params/session", &session);
    assert_eq!(forget(), Ok(()));
    // Whoever asks again is not told of a session that is gone: the agent, which would say so, is not asked.
    job.put("params/session", b"ses_other");
    assert_eq!(forget(), Ok(()));
}

#[test]
fn another_machine_and_another_boot_are_told_apart_from_a_dead_runner() {
    let host = Host::new("/bin/dash");
    let job = host.job();
    started(job.launch(&Nonce::generate()));
    job.wait_exit();
    let whole = fs::read_to_string(job.file("started")).unwrap();
    let altered = |key: &str| {
        let lines: Vec<String> = whole
            .lines()
            .map(|line| {
                if line.starts_with(key) {
                    format!("{key}other")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        job.put("started", (lines.join("\n") + "\n").as_bytes());
        job.status().alive
    };
    assert_eq!(altered("machine="), Alive::Elsewhere);
    assert_eq!(altered("boot="), Alive::Reboot);
    assert_eq!(altered("start="), Alive::No);
}
