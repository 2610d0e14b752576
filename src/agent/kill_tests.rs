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

/// Ends processes in a way that none of them can do anything about.
fn slay(pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let killed = Command::new("kill").arg("-KILL").args(&pids).status();
    assert!(killed.unwrap().success());
    for pid in &pids {
        while lives(pid) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The guard beside a runner.
fn guard(job: &Job<'_>) -> u32 {
    job.wait_for("guard", || job.file("guard").exists());
    let text = fs::read(job.file("guard")).unwrap();
    Started::parse(&text).unwrap().pid
}

/// Ends a runner and its guard, so that nobody on the host looks after their agent.
fn orphan(job: &Job<'_>, runner: &Started) {
    slay(&[guard(job), runner.pid]);
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
fn a_second_kill_shortens_the_grace_period_of_the_first_one_and_never_lengthens_it() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, _) = at_work(&host, "trap '' TERM\necho $$ >>\"$HOME/stub/pids\"\n", 1);
        kill(&job, 600);
        // By now the guard has begun.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(living(&host).len(), 1, "{shell}");
        assert_eq!(kill(&job, 0), KillAnswer::Asked, "{shell}");
        kill(&job, 600);
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.code),
            (ExitReason::Killed, Some(137)),
            "{shell}"
        );

        let host = Host::new(shell);
        let job = host.job();
        host.say("export-hold", "");
        launch(&job);
        job.wait_for("export", || job.status().phase == Some(Phase::Exporting));
        kill(&job, 600);
        std::thread::sleep(Duration::from_secs(2));
        kill(&job, 0);
        assert!(!job.wait_exit().has_result(), "{shell}");
    }
}

#[test]
fn a_guard_ends_no_export_that_the_runner_has_begun_after_a_kill() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, _) = at_work(&host, "trap '' TERM\necho $$ >>\"$HOME/stub/pids\"\n", 1);
        guard(&job);
        host.say("export-hold", "");
        kill(&job, 1);
        job.wait_for("export", || job.status().phase == Some(Phase::Exporting));
        // For some of its looks.
        std::thread::sleep(Duration::from_secs(3));
        fs::remove_file(host.stub("export-hold")).unwrap();
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.has_result(), exit.left),
            (ExitReason::Killed, true, 0),
            "{shell}"
        );
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
        orphan(&job, &runner);
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
fn a_guard_outlives_its_runner_ends_the_family_and_exports() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let mut stranger = Stranger::new();
        let (job, runner) = at_work(&host, FAMILY, 5);
        guard(&job);
        job.put("inbox/1.txt", b"one more\n");
        slay(&[runner.pid]);
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.has_result(), exit.left, exit.undelivered),
            (ExitReason::RunnerDied, true, 0, 1),
            "{shell}"
        );
        assert_eq!(living(&host), Vec::<String>::new(), "{shell}");
        assert!(stranger.lives());
        let status = job.status();
        assert_eq!(status.exit, Some(exit), "{shell}");
        job.wait_for("end of the guard", || job.status().alive == Alive::No);
    }
}

#[test]
fn a_job_whose_runner_is_gone_counts_as_alive_until_its_agent_is_ended() {
    for shell in SHELLS {
        let host = Host::new(shell);
        // Two seconds in which the agent is still there although it was asked to end.
        let family = "trap 'sleep 2; exit 1' TERM\necho $$ >>\"$HOME/stub/pids\"\n";
        let (job, runner) = at_work(&host, family, 1);
        guard(&job);
        slay(&[runner.pid]);
        let status = loop {
            let status = job.status();
            if status.exit.is_some() {
                break status;
            }
            assert_eq!(status.alive, Alive::Yes, "{shell}");
        };
        assert_eq!(status.exit.unwrap().reason, ExitReason::RunnerDied);
        assert_eq!(living(&host), Vec::<String>::new(), "{shell}");
    }
}

#[test]
fn whoever_looks_at_a_job_that_nobody_guards_has_its_agent_ended() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, runner) = at_work(&host, FAMILY, 5);
        orphan(&job, &runner);
        assert_eq!(living(&host).len(), 5, "{shell}");
        assert_eq!(job.status().alive, Alive::Yes, "{shell}");
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.has_result()),
            (ExitReason::RunnerDied, true),
            "{shell}"
        );
        assert_eq!(living(&host), Vec::<String>::new(), "{shell}");
    }
}

#[test]
fn the_time_limit_is_kept_by_who_took_a_dead_runners_place() {
    for shell in SHELLS {
        let host = Host::new(shell);
        host.say("hold", "");
        host.say("export-hold", "");
        let job = host.job();
        job.put("params/max_time", b"4");
        let runner = launch(&job);
        job.wait_for("run", || !host.heard("prompt").is_empty());
        guard(&job);
        slay(&[runner.pid]);
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.has_result(), exit.left),
            (ExitReason::MaxTime, false, 0),
            "{shell}"
        );
        // What the limit cut can be asked for again.
        fs::remove_file(host.stub("export-hold")).unwrap();
        let (call, output) = job.call(
            JobCall::new(&job.path)
                .export(JobCall::EXPORT_SILENCE)
                .unwrap(),
        );
        let again = JobCall::parse_export(&call, &output).unwrap().unwrap();
        assert_eq!(again.reason, ExitReason::MaxTime, "{shell}");
        assert!(again.has_result());
    }
}

#[test]
fn whoever_kills_or_looks_at_a_job_whose_guard_is_gone_sends_another_one() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, _) = at_work(&host, FAMILY, 5);
        slay(&[guard(&job)]);
        assert_eq!(kill(&job, 1), KillAnswer::Asked, "{shell}");
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.has_result(), exit.left),
            (ExitReason::Killed, true, 0),
            "{shell}"
        );
        assert_eq!(living(&host), Vec::<String>::new(), "{shell}");

        let host = Host::new(shell);
        host.say("hold", "");
        let job = host.job();
        job.put("params/max_time", b"3");
        launch(&job);
        slay(&[guard(&job)]);
        assert_eq!(job.status().alive, Alive::Yes, "{shell}");
        assert_eq!(job.wait_exit().reason, ExitReason::MaxTime, "{shell}");
    }
}

/// The guards of a job that there are.
fn guards(job: &Job<'_>) -> Vec<u32> {
    let directory = job.file("").canonicalize().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_guard = |pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let there = fs::read_link(format!("/proc/{pid}/cwd"));
        command.contains("./run.sh guard") && there.is_ok_and(|there| there == directory)
    };
    pids.filter(is_guard).collect()
}

#[test]
fn of_guards_that_are_sent_at_the_same_time_one_stays_and_ends_with_the_job() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, _) = at_work(&host, "echo $$ >>\"$HOME/stub/pids\"\n", 1);
        let first = guard(&job);
        job.status();
        assert_eq!(guard(&job), first, "{shell}: the first one lives");
        slay(&[first]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(job.status().alive, Alive::Yes, "{shell}"));
            }
        });
        // Each has had its look at the others; a subshell of one counts for a moment.
        std::thread::sleep(Duration::from_secs(2));
        job.wait_for("one guard", || {
            guards(&job) == [guard(&job)] && lives(&guard(&job).to_string())
        });
        assert_eq!(kill(&job, 1), KillAnswer::Asked, "{shell}");
        assert_eq!(job.wait_exit().reason, ExitReason::Killed, "{shell}");
        job.wait_for("end of the guard", || guards(&job).is_empty());
    }
}

#[test]
fn a_guard_that_has_not_noted_itself_yet_is_not_taken_for_one_that_is_gone() {
    let host = Host::new("/bin/dash");
    let (job, _) = at_work(&host, "echo $$ >>\"$HOME/stub/pids\"\n", 1);
    slay(&[guard(&job)]);
    fs::remove_file(job.file("guard")).unwrap();
    job.status();
    assert!(guards(&job).is_empty());
    // One that has had its time is gone.
    let began = fs::read_to_string(job.file("began")).unwrap();
    let began: u64 = began.trim().parse().unwrap();
    job.put("began", format!("{}\n", began - 60).as_bytes());
    job.status();
    assert!(lives(&guard(&job).to_string()));
    kill(&job, 1);
    assert_eq!(job.wait_exit().reason, ExitReason::Killed);
}

/// A process namespace of its own, whose first process collects what others leave behind.
struct Processes(Child);

impl Processes {
    fn new() -> Self {
        // bash collects every orphan, and starts nothing meanwhile that would take a number.
        let first = "sleep 100000 & while :; do wait; done";
        let child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", first])
            .spawn();
        let processes = Self(child.unwrap());
        while !processes.command("1").contains("sleep 100000") {
            std::thread::sleep(Duration::from_millis(10));
        }
        processes
    }

    /// The number of its first process out here, once that is there.
    fn first(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        loop {
            let text = fs::read_to_string(&children).unwrap();
            if let Some(pid) = text.split_whitespace().next() {
                return pid.parse().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What a shell in there prints.
    fn run(&self, script: &str) -> String {
        let output = Command::new("nsenter")
            .args(["--target", &self.first().to_string(), "--pid", "--mount"])
            .args(["bash", "-c", script])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts a process that has nothing to do with any job, under a number that somebody else had.
    fn stranger(&self, pid: &str) {
        let start = format!(
            "echo $(({pid} - 1)) >/proc/sys/kernel/ns_last_pid
             sleep 300 </dev/null >/dev/null 2>&1 &
             [ $! = {pid} ] && echo $! || kill $!"
        );
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while self.run(&start) != pid {
            assert!(std::time::Instant::now() < end, "the number {pid} is taken");
        }
    }

    /// The command line of a process in there.
    fn command(&self, pid: &str) -> String {
        self.run(&format!("tr '\\0' ' ' </proc/{pid}/cmdline"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root for a process namespace"]
fn numbers_that_went_to_strangers_in_the_same_boot_are_told_apart() {
    for shell in SHELLS {
        let processes = Processes::new();
        let mut host = Host::new(shell);
        host.inside = Some(processes.first());
        let pids =
            "setsid sleep 303 & echo $! >>\"$HOME/stub/child\"\necho $$ >>\"$HOME/stub/pids\"\n";
        let (job, runner) = at_work(&host, pids, 1);
        noted(&job);
        let (agent, runner) = (host.heard("pids").trim().to_owned(), runner.pid.to_string());
        let child = host.heard("child").trim().to_owned();
        let guard = guard(&job);
        // Whatever else the agent had started lives on.
        processes.run(&format!("kill -KILL {runner} {guard} {agent}"));
        processes.stranger(&agent);
        processes.stranger(&runner);
        processes.stranger(&guard.to_string());
        assert!(processes.command(&child).contains("303"), "{shell}");
        let KillAnswer::Ended(exit) = kill(&job, 1) else {
            panic!("{shell}: not ended")
        };
        assert_eq!((exit.reason, exit.left), (ExitReason::Killed, 0), "{shell}");
        for stranger in [&agent, &runner, &guard.to_string()] {
            assert_eq!(processes.command(stranger).trim(), "sleep 300", "{shell}");
        }
        assert_eq!(processes.command(&child), "", "{shell}");
    }
}

#[test]
fn a_stranger_who_got_the_agents_number_is_left_alone() {
    let host = Host::new("/bin/dash");
    let (job, runner) = at_work(&host, "echo $$ >>\"$HOME/stub/pids\"\n", 1);
    let mut stranger = Stranger::new();
    noted(&job);
    orphan(&job, &runner);
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
        orphan(&job, &runner);
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
fn an_export_that_hangs_is_ended_by_the_time_limit() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = host.job();
        host.say("export-hold", "");
        job.put("params/max_time", b"2");
        launch(&job);
        let exit = job.wait_exit();
        assert_eq!(
            (exit.reason, exit.phase, exit.has_result(), exit.left),
            (ExitReason::MaxTime, Phase::Exporting, false, 0),
            "{shell}"
        );
    }
}

/// Another job of the host, prepared as the first one was.
fn beside<'h>(job: &Job<'h>, id: &str) -> Job<'h> {
    let path = job.file("..").canonicalize().unwrap().join(id);
    fs::create_dir(&path).unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(job.file("params"))
        .args([job.file("prompt.txt"), job.file("run.sh")])
        .arg(&path)
        .status();
    assert!(copied.unwrap().success());
    let other = Job {
        host: job.host,
        path: path.to_str().unwrap().parse().unwrap(),
    };
    other.put("session.json", super::stub::SESSION.as_bytes());
    other.put("params/max_jobs", b"1");
    other
}

#[test]
fn of_two_that_are_launched_at_the_same_time_one_gets_the_last_place() {
    let host = Host::new("/bin/dash");
    host.say("hold", "");
    let first = host.job();
    for round in 0..20 {
        let jobs = [0, 1].map(|n| beside(&first, &format!("j{round:09}-abcde{n}")));
        let answers = std::thread::scope(|scope| {
            let launches = jobs.each_ref();
            let launches = launches.map(|job| scope.spawn(|| job.launch(&Nonce::generate())));
            launches.map(|launch| launch.join().unwrap())
        });
        let full = LaunchAnswer::Full { count: 1 };
        let refused = answers.iter().filter(|answer| **answer == full).count();
        let started = jobs.iter().filter(|job| job.file("started").exists());
        let started: Vec<_> = started.collect();
        assert_eq!((started.len(), refused), (1, 1), "{round}: {answers:?}");
        kill(started[0], 0);
        started[0].wait_exit();
    }
}

#[test]
fn a_launch_that_died_holds_neither_a_place_nor_the_lock() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let first = host.job();
        let dead = Command::new("true").spawn();
        let mut dead = dead.unwrap();
        dead.wait().unwrap();
        // What there is of a launch whose host killed it between the claim and the runner.
        let left = beside(&first, "j000000000-abcdeg");
        let me = format!("pid={}\nstart=1\n{}", dead.id(), here(&first));
        fs::create_dir(left.file("claim")).unwrap();
        left.put("claim/nonce", b"0123456789abcdef0123456789abcdef\n");
        left.put("claim/launcher", me.as_bytes());
        let lock = first.file("../../launching.7");
        std::os::unix::fs::symlink(me.replace('\n', "|"), &lock).unwrap();
        let next = beside(&first, "j000000000-abcdeh");
        launch(&next);
        next.wait_exit();
        assert!(!lock.exists() && fs::symlink_metadata(&lock).is_err());
    }
}

#[test]
fn a_launch_ends_also_where_no_lock_can_be_made() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let job = host.job();
        let lock = job.file("../../launching.3");
        std::os::unix::fs::symlink("free|", &lock).unwrap();
        host.put_first("ln", "#!/bin/sh\nexit 1\n");
        launch(&job);
        job.wait_exit();
        assert!(
            fs::symlink_metadata(&lock).is_ok(),
            "{shell}: the last one stays"
        );
    }
}

/// The lines `boot=` and `machine=` of this host, from a job that ran here.
fn here(job: &Job<'_>) -> String {
    let other = beside(job, "j000000000-abcdef0");
    launch(&other);
    other.wait_exit();
    let text = fs::read_to_string(other.file("started")).unwrap();
    text[text.find("boot=").unwrap()..].to_owned()
}

#[test]
fn above_the_limit_of_the_host_a_job_is_refused_with_the_count() {
    for shell in SHELLS {
        let host = Host::new(shell);
        let (job, _) = at_work(&host, "echo $$ >>\"$HOME/stub/pids\"\n", 1);
        let jobs = job.file("..").canonicalize().unwrap();
        let second = beside(&job, "j000000000-abcdeg");
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
        let third = beside(&job, "j000000000-abcdei");
        launch(&third);
        third.wait_exit();
    }
}
