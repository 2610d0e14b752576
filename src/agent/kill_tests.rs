//! The end of a job before its time, caused for real under every `sh`.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use super::stub::{Host, Job, SHELLS};
use super::{
    Alive, ExitReason, JobCall, KillAnswer, KillReason, LaunchAnswer, Nonce, Phase, Started,
};

/// An agent with a family: a child in its own session, one there that ignores TERM, one below another parent, one
/// without the agent's environment.
const FAMILY: &str = r#"
setsid sleep 300 & echo $! >>"$HOME/stub/pids"
setsid sh -c 'trap "" TERM; echo $$ >>"$HOME/stub/pids"; while :; do sleep 1; done' &
(setsid sleep 301 & echo $! >>"$HOME/stub/pids")
env -i sleep 302 & echo $! >>"$HOME/stub/pids"
echo $$ >>"$HOME/stub/pids"
"#;

fn launch(job: &Job<'_>) -> Started {
    let answer = job.launch(&Nonce::generate());
    let LaunchAnswer::Started(started) = answer else {
        panic!("not started: {answer:?}")
    };
    started
}

fn kill(job: &Job<'_>, grace: u64) -> KillAnswer {
    let call = JobCall::new(&job.path).kill(KillReason::Asked, Duration::from_secs(grace));
    let (call, output) = job.call(call.unwrap());
    KillAnswer::parse(&call, &output)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output)))
}

/// Starts a job whose agent does this and goes on; waits until so many processes have named themselves.
fn at_work<'h>(host: &'h Host, family: &str, count: usize) -> (Job<'h>, Started) {
    host.say("hold", "");
    host.say("family", family);
    let job = host.job();
    let started = launch(&job);
    job.wait_for("family", || host.heard("pids").lines().count() >= count);
    (job, started)
}

fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn living(host: &Host) -> Vec<String> {
    host.heard("pids")
        .lines()
        .filter(|pid| lives(pid))
        .map(str::to_owned)
        .collect()
}

/// Waits until the runner has noted which process its agent is.
fn noted(job: &Job<'_>) {
    let agent = job.host.heard("pids").trim().to_owned();
    let line = format!("pid={agent}\n");
    job.wait_for("note of the agent", || {
        fs::read_to_string(job.file("agent")).is_ok_and(|noted| noted.starts_with(&line))
    });
}

/// A process that has nothing to do with the job; ended when dropped.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("300").spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_kill_leaves_nothing_of_the_agent_behind_and_its_result_is_exported() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let mut stranger = Stranger::new();
        let (job, _) = at_work(&host, FAMILY, 5);
        assert_eq!(living(&host).len(), 5, "{shell}");
        assert_eq!(kill(&job, 1), KillAnswer::Asked, "{shell}");
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.phase, exit.left),
            (ExitReason::Killed, Phase::Exporting, 0),
            "{shell}"
        );
        assert!(
            exit.has_result(),
            "{shell}: what the agent had done is there"
        );
        assert_eq!(living(&host), Vec::<String>::new(), "{shell}");
        assert!(stranger.lives());
        // Asked again, it says how it ended.
        assert_eq!(kill(&job, 1), KillAnswer::Ended(exit), "{shell}");
        job.wait_for("end of the runner", || job.status().alive == Alive::No);
    }
}

#[test]
fn an_agent_that_ignores_being_asked_is_made_to_end() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, _) = at_work(&host, "trap '' TERM\necho $$ >>\"$HOME/stub/pids\"\n", 1);
        kill(&job, 0);
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.code, exit.has_result()),
            (ExitReason::Killed, Some(137), true),
            "{shell}"
        );
        assert_eq!(living(&host), Vec::<String>::new(), "{shell}");
    }
}

#[test]
fn where_grep_stops_at_a_zero_byte_the_family_is_found_all_the_same() {
    let host = Host::new("/bin/dash");
    host.put_first("grep", "#!/bin/sh\nexec /bin/busybox grep \"$@\"\n");
    let (job, _) = at_work(&host, FAMILY, 5);
    kill(&job, 1);
    assert!(job.wait_exit().has_result());
    assert_eq!(living(&host), Vec::<String>::new());
}

#[test]
fn where_the_runner_is_gone_the_call_ends_the_family_and_exports() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, runner) = at_work(&host, FAMILY, 5);
        let killed = Command::new("kill")
            .args(["-KILL", &runner.pid.to_string()])
            .status();
        assert!(killed.unwrap().success());
        job.wait_for("death of the runner", || job.status().alive == Alive::No);
        assert_eq!(living(&host).len(), 5, "{shell}");
        let KillAnswer::Ended(exit) = kill(&job, 1) else {
            panic!("{shell}: not ended")
        };
        assert_eq!(
            (exit.reason, exit.has_result(), exit.left),
            (ExitReason::Killed, true, 0),
            "{shell}"
        );
        assert_eq!(living(&host), Vec::<String>::new(), "{shell}");
        assert_eq!(job.wait_exit(), exit);
    }
}

#[test]
fn a_stranger_who_got_the_agents_number_is_left_alone() {
    let host = Host::new("/bin/dash");
    let (job, runner) = at_work(&host, "echo $$ >>\"$HOME/stub/pids\"\n", 1);
    let mut stranger = Stranger::new();
    noted(&job);
    let killed = Command::new("kill")
        .args(["-KILL", &runner.pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
    job.wait_for("death of the runner", || job.status().alive == Alive::No);
    // The agent's number went to a stranger, as after a long time; its start time is another.
    let noted = fs::read_to_string(job.file("agent")).unwrap();
    let agent = host.heard("pids").trim().to_owned();
    let number = stranger.0.id().to_string();
    let stolen = noted.replace(&format!("pid={agent}\n"), &format!("pid={number}\n"));
    assert_ne!(stolen, noted);
    job.put("agent", stolen.as_bytes());
    assert!(matches!(kill(&job, 1), KillAnswer::Ended(_)));
    assert!(stranger.lives());
    assert_eq!(living(&host), Vec::<String>::new());
}

#[test]
fn a_number_of_an_earlier_boot_or_another_machine_is_nobodys() {
    for (key, other) in [("boot=", "boot=other"), ("machine=", "machine=other")] {
        let host = Host::new("/bin/dash");
        let (job, runner) = at_work(&host, "echo $$ >>\"$HOME/stub/pids\"\n", 1);
        let mut stranger = Stranger::new();
        noted(&job);
        let killed = Command::new("kill")
            .args(["-KILL", &runner.pid.to_string()])
            .status();
        assert!(killed.unwrap().success());
        job.wait_for("death of the runner", || job.status().alive == Alive::No);
        let start = fs::read_to_string(format!("/proc/{}/stat", stranger.0.id())).unwrap();
        let start = start.rsplit_once(") ").unwrap().1;
        let start = start.split(' ').nth(19).unwrap();
        let noted = fs::read_to_string(job.file("agent")).unwrap();
        let stolen: Vec<String> = noted
            .lines()
            .map(|line| match line.split_once('=').unwrap().0 {
                "pid" => format!("pid={}", stranger.0.id()),
                "start" => format!("start={start}"),
                _ if line.starts_with(key) => other.to_owned(),
                _ => line.to_owned(),
            })
            .collect();
        job.put("agent", (stolen.join("\n") + "\n").as_bytes());
        assert!(matches!(kill(&job, 1), KillAnswer::Ended(_)));
        assert!(stranger.lives(), "{other}");
    }
}

#[test]
fn a_job_that_was_never_launched_is_closed_for_ever() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = host.job();
        assert_eq!(kill(&job, 5), KillAnswer::NeverLaunched, "{shell}");
        assert_eq!(job.launch(&Nonce::generate()), LaunchAnswer::Tombstone);
        assert_eq!(kill(&job, 5), KillAnswer::NeverLaunched, "{shell}");
    }
}

#[test]
fn a_job_is_ended_by_its_own_time_limit() {
    for shell in SHELLS {
        let host = Host::new(shell);
        host.say("hold", "");
        host.say("family", FAMILY);
        let job = host.job();
        job.put("params/max_time", b"2");
        launch(&job);
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.has_result()),
            (ExitReason::MaxTime, true),
            "{shell}"
        );
        assert_eq!(living(&host), Vec::<String>::new(), "{shell}");
    }
}

#[test]
fn follow_up_messages_are_not_begun_after_a_kill() {
    let host = Host::new("/bin/dash");
    let (job, _) = at_work(&host, "echo $$ >>\"$HOME/stub/pids\"\n", 1);
    job.put("inbox/1.txt", b"one more\n");
    kill(&job, 1);
    let exit = job.wait_exit();
    assert_eq!(
        (exit.reason, exit.undelivered),
        (ExitReason::Killed, 1),
        "nobody reads it, and that is told"
    );
    assert_eq!(host.heard("calls").matches("run ").count(), 1);
}

#[test]
fn an_agent_that_ends_by_itself_is_not_called_killed() {
    let host = Host::new("/bin/dash");
    let job = host.job();
    host.say("export-hold", "");
    launch(&job);
    job.wait_for("export", || job.status().phase == Some(Phase::Exporting));
    assert_eq!(kill(&job, 600), KillAnswer::Asked);
    fs::remove_file(host.stub("export-hold")).unwrap();
    let exit = job.wait_exit();
    assert_eq!(
        (exit.reason, exit.has_result()),
        (ExitReason::Completed, true)
    );
}

#[test]
fn an_export_that_hangs_is_ended_by_a_kill() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = host.job();
        host.say("export-hold", "");
        launch(&job);
        job.wait_for("export", || job.status().phase == Some(Phase::Exporting));
        kill(&job, 0);
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.phase, exit.has_result(), exit.left),
            (ExitReason::Killed, Phase::Exporting, false, 0),
            "{shell}"
        );
    }
}

#[test]
fn above_the_limit_of_the_host_a_job_is_refused_with_the_count() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, _) = at_work(&host, "echo $$ >>\"$HOME/stub/pids\"\n", 1);
        // Another job of the host, prepared as the first one was.
        let jobs = job.file("..").canonicalize().unwrap();
        let beside = |id: &str| {
            let path = jobs.join(id);
            fs::create_dir(&path).unwrap();
            let copied = Command::new("cp")
                .arg("-r")
                .arg(job.file("params"))
                .args([job.file("prompt.txt"), job.file("run.sh")])
                .arg(&path)
                .status();
            assert!(copied.unwrap().success());
            let other = Job {
                host: &host,
                path: path.to_str().unwrap().parse().unwrap(),
            };
            other.put("session.json", super::stub::SESSION.as_bytes());
            other.put("params/max_jobs", b"1");
            other
        };
        let second = beside("j000000000-abcdeg");
        let nonce = Nonce::generate();
        let full = LaunchAnswer::Full { count: 1 };
        assert_eq!(second.launch(&nonce), full, "{shell}");
        assert_eq!(second.launch(&nonce), full, "{shell}: the lost answer");
        assert!(!second.file("started").exists());
        // Neither a job that has ended nor one whose runner is gone counts.
        kill(&job, 1);
        job.wait_exit();
        fs::create_dir_all(jobs.join("j000000000-abcdeh/claim")).unwrap();
        let dead = fs::read_to_string(job.file("started")).unwrap();
        let dead: String = dead
            .lines()
            .map(|line| match line.split_once('=').unwrap().0 {
                "start" => "start=1\n".to_owned(),
                _ => format!("{line}\n"),
            })
            .collect();
        fs::write(jobs.join("j000000000-abcdeh/started"), dead).unwrap();
        fs::remove_file(host.stub("hold")).unwrap();
        let third = beside("j000000000-abcdei");
        launch(&third);
        third.wait_exit();
    }
}
