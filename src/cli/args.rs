//! The command line, as clap reads it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Moves a coding agent's live session to another machine over SSH, lets it go on there, and brings it back.
#[derive(Debug, Parser)]
#[command(name = "handover", version, propagate_version = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Say more on stderr: -v for steps and decisions, -vv for everything.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0 done                       6 authentication failed
  1 other error                7 the host is not ready (see 'handover check')
  2 usage                      8 conflict: live job, or the session changed here
  3 configuration              9 the job failed on the host
  4 host not reached or lost  10 detached: the job goes on
  5 host key                  11 a session document was refused
                              12 the local agent failed
                             130 interrupted before anything was launched";

const KILL_HELP: &str = "\
Examples:
  handover kill -                 the newest job
  handover kill j0mi5 --grace 1m  the job whose id begins so; its agent gets a minute to end by itself";

const SYNC_HELP: &str = "\
Examples:
  handover sync                   every host with an unfinished job, side by side
  handover sync gpu-box --json    one host, as one JSON document

A host that is not reached changes nothing; the exit code says that there was one.";

const JOBS_HELP: &str = "\
The hosts of jobs that have not ended are looked at first, side by side, each for three seconds at most. What a host
meets is told on stderr, and its jobs are listed as they were last seen; the exit code is 0 all the same.";

const PRUNE_HELP: &str = "\
Examples:
  handover prune --dry-run         what would be removed
  handover prune --older-than 12h  what ended more than twelve hours ago

A result that was not collected stays without --force.";

/// In which form a verb answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Words and tables.
    Person,
    /// JSON for a program of the user's.
    Json,
    /// JSON with nothing in it that a model may not see.
    Model,
}

impl Form {
    pub(crate) fn of(json: bool, for_model: bool) -> Self {
        match (json, for_model) {
            (_, true) => Self::Model,
            (true, false) => Self::Json,
            (false, false) => Self::Person,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hand a session over to a host.
    Send(Box<SendArgs>),
    /// Start a fresh session on a host, and return once its agent runs.
    Run(Box<RunArgs>),
    /// Bring a job's session back: wait for it, import it here.
    Collect(CollectArgs),
    /// List the jobs that this machine has sent, after a quick look at their hosts.
    #[command(after_help = JOBS_HELP)]
    Jobs(JobsArgs),
    /// Show one job, as its host shows it now.
    Status(StatusArgs),
    /// Show what a job's agent says and does.
    Logs(LogsArgs),
    /// Keep a table of jobs up to date until they have ended.
    Watch(WatchArgs),
    /// Wait until jobs have ended.
    Wait(WaitJobsArgs),
    /// Give a running agent a follow-up message.
    Say(SayArgs),
    /// End a job: its agent with everything that it has started. What it had done can be collected.
    #[command(after_help = KILL_HELP)]
    Kill(KillArgs),
    /// Find out what became of unfinished jobs, and close those that were never launched.
    #[command(after_help = SYNC_HELP)]
    Sync(SyncArgs),
    /// Remove what ended jobs have left, here and on their hosts.
    #[command(after_help = PRUNE_HELP)]
    Prune(PruneArgs),
    /// List the configured hosts.
    Hosts(HostsArgs),
    /// Look at a host's key, and trust it after a yes.
    Trust(TrustArgs),
    /// Examine a host: connection, shell, files, clock, opencode.
    Check(CheckArgs),
    /// Forward a port of this machine to one behind a host, until Ctrl-C.
    Forward(ForwardArgs),
    /// Run a whole round trip with nothing installed: an own SSH server and a stand-in agent.
    Demo(DemoArgs),
    /// Put the tools remote_login and remote_* into opencode, or take them out.
    Plugin(PluginArgs),
    /// Print the completion script of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one a command, into a directory.
    #[command(hide = true)]
    Man {
        /// The directory, which must exist.
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The host's name, as 'handover hosts' lists it.
    pub(crate) host: String,
    /// The session; without it the newest one of the current directory.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Wait for the agent and bring the session back.
    #[arg(long, conflicts_with = "one_way")]
    pub(crate) round_trip: bool,
    /// Return once the agent runs on the host (the default).
    #[arg(long)]
    pub(crate) one_way: bool,
    /// The work directory on the host; '~' is the home there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<String>,
    /// What the agent is told besides finishing its task.
    #[arg(long, value_name = "TEXT", conflicts_with = "message_file")]
    pub(crate) message: Option<String>,
    /// The same from a file; '-' is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) message_file: Option<PathBuf>,
    /// The agent to use on the host.
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// The model to use on the host, provider/model.
    #[arg(long, value_name = "PROVIDER/MODEL")]
    pub(crate) model: Option<String>,
    /// For a tool that runs this: standard input is one line of JSON, `{"id", "arguments"}` of the call, and its
    /// end detaches. The call's `message` is the message.
    #[arg(long, hide = true, conflicts_with_all = ["message", "message_file"])]
    pub(crate) tool_call: bool,
    #[command(flatten)]
    pub(crate) watchdogs: WatchdogArgs,
    #[command(flatten)]
    pub(crate) waiting: WaitArgs,
}

const RUN_EXAMPLES: &str = "\
Examples:
  handover run gpu --dir ~/app 'Run the long tests and mend what fails.'
  handover run gpu - <task.md
  handover run gpu --kill-on-loop --inactivity 30m 'Find the leak.'
Then: handover logs -f -, handover say - 'and the docs too', handover collect -";

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// The host's name, as 'handover hosts' lists it.
    pub(crate) host: String,
    /// What the agent is told; '-' is standard input. One that begins with a dash goes after '--'.
    pub(crate) prompt: String,
    /// The work directory on the host; '~' is the home there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<String>,
    /// The agent to use.
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// The model to use, provider/model.
    #[arg(long, value_name = "PROVIDER/MODEL")]
    pub(crate) model: Option<String>,
    /// The session's title.
    #[arg(long)]
    pub(crate) title: Option<String>,
    #[command(flatten)]
    pub(crate) watchdogs: WatchdogArgs,
    /// The session whose agent asks for this.
    #[arg(long, hide = true, value_name = "ID")]
    pub(crate) parent: Option<String>,
    /// Print one JSON event a line, the result last.
    #[arg(long)]
    pub(crate) json: bool,
    /// The same, with nothing in it that a model may not see.
    #[arg(long, hide = true)]
    pub(crate) for_model: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchdogArgs {
    /// End the agent after this time ('30m', '2h'), counted on the host; what it had done can be collected.
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(crate) max_time: Option<Duration>,
    /// The job counts as stalled after this time without a sign of the agent; else the host's, else 10 minutes.
    #[arg(long, value_name = "TIME", value_parser = a_time)]
    pub(crate) inactivity: Option<Duration>,
    /// End the job when it is found stalled (by jobs, wait, watch, status or collect).
    #[arg(long)]
    pub(crate) kill_on_stall: bool,
    /// The job counts as looping after so many calls of the same tool with the same input [default: 12].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) loop_limit: Option<u32>,
    /// End the job when it is found looping.
    #[arg(long)]
    pub(crate) kill_on_loop: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// The job: its id, the beginning of one, or '-' for the newest.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Import the session that a 'run' has made, whole, into the current directory.
    #[arg(long)]
    pub(crate) import: bool,
    #[command(flatten)]
    pub(crate) waiting: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Stop waiting after this time ('30s', '2h'); the job goes on.
    #[arg(long, value_name = "TIME", value_parser = a_time)]
    pub(crate) timeout: Option<Duration>,
    /// Delete the session from the host's agent after its return.
    #[arg(long)]
    pub(crate) forget: bool,
    /// Bring the session back even when it got new messages here meanwhile.
    #[arg(long)]
    pub(crate) merge: bool,
    /// Print one JSON event a line, the result last.
    #[arg(long)]
    pub(crate) json: bool,
    /// The same, with nothing in it that a model may not see.
    #[arg(long, hide = true)]
    pub(crate) for_model: bool,
}

impl WaitArgs {
    pub(crate) fn form(&self) -> Form {
        Form::of(self.json, self.for_model)
    }
}

#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    /// All that ever were, not only live ones and those with a result to collect.
    #[arg(long)]
    pub(crate) all: bool,
    /// Only those on this host.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Only those in this state (several: running,failed), ended ones too; stalled, looping, retrying and unreachable
    /// count as states.
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(crate) state: Vec<String>,
    /// Only this session's, and those that its agent has started.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Ask no host: the jobs as they were last seen.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Look on the host (without --host on all) for jobs that this machine has no record of, and make records of them.
    #[arg(long, conflicts_with_all = ["all", "session", "state", "offline"])]
    pub(crate) discover: bool,
    /// Print one JSON array, newest first.
    #[arg(long)]
    pub(crate) json: bool,
    /// The same, with nothing in it that a model may not see.
    #[arg(long, hide = true)]
    pub(crate) for_model: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The job: its id, the beginning of one, or '-' for the newest.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
    /// The same, with nothing in it that a model may not see.
    #[arg(long, hide = true)]
    pub(crate) for_model: bool,
}

const LOGS_EXAMPLES: &str = "\
Examples:
  handover logs -              what the newest job's agent has said and done
  handover logs -f j0mi5       go on until the job has ended
  handover logs --raw j0mi5    the events as opencode printed them, byte for byte";

#[derive(Debug, Args)]
#[command(after_help = LOGS_EXAMPLES)]
pub(crate) struct LogsArgs {
    /// The job: its id, the beginning of one, or '-' for the newest.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Go on until the job has ended, over a lost connection too.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The bytes as they are.
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// The agent's error output instead of its events.
    #[arg(long, conflicts_with = "json")]
    pub(crate) stderr: bool,
    /// Print one JSON document an event.
    #[arg(long)]
    pub(crate) json: bool,
    /// The end of the events, with nothing in it that a model may not see.
    #[arg(long, hide = true, conflicts_with_all = ["follow", "raw", "stderr"])]
    pub(crate) for_model: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The jobs; without one all that have not ended.
    #[arg(value_name = "JOB")]
    pub(crate) jobs: Vec<String>,
    /// Print one JSON document a change.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WaitJobsArgs {
    /// The jobs: ids, beginnings of them, or '-' for the newest.
    #[arg(value_name = "JOB", required = true)]
    pub(crate) jobs: Vec<String>,
    /// Stop waiting after this time ('30s', '2h'); the jobs go on, and the exit code is 10.
    #[arg(long, value_name = "TIME", value_parser = a_time)]
    pub(crate) timeout: Option<Duration>,
    /// Return as soon as one of them has ended.
    #[arg(long)]
    pub(crate) any: bool,
    /// Print one JSON document a job, when it has ended.
    #[arg(long)]
    pub(crate) json: bool,
    /// The same, with nothing in it that a model may not see.
    #[arg(long, hide = true)]
    pub(crate) for_model: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SayArgs {
    /// The job: its id, the beginning of one, or '-' for the newest.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// The message; '-' is standard input. One that begins with a dash goes after '--'.
    pub(crate) message: String,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
    /// The same, with nothing in it that a model may not see.
    #[arg(long, hide = true)]
    pub(crate) for_model: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The job: its id, the beginning of one, or '-' for the newest.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// How long the agent may take to end by itself ('0s', '1m').
    #[arg(long, value_name = "TIME", value_parser = a_time, default_value = "5s")]
    pub(crate) grace: Duration,
    /// The session whose agent asks for this: the job must be one that it has started.
    #[arg(long, hide = true, value_name = "ID")]
    pub(crate) parent: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
    /// The same, with nothing in it that a model may not see.
    #[arg(long, hide = true, requires = "parent")]
    pub(crate) for_model: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// Only these hosts; without one, all that have an unfinished job.
    #[arg(value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only jobs that ended longer ago than this ('12h', '7d').
    #[arg(long, value_name = "TIME", value_parser = a_time, default_value = "7d")]
    pub(crate) older_than: Duration,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove results that were not collected, too; with --forget-host also jobs that were alive when last seen.
    #[arg(long)]
    pub(crate) force: bool,
    /// Remove the records of this host's jobs alone, and do not ask it: it is gone. What is there stays (repeatable).
    #[arg(long, value_name = "HOST")]
    pub(crate) forget_host: Vec<String>,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HostsArgs {
    /// List the hosts that only ~/.ssh/config names too, and where every host is once that has been read.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print one JSON document with the hosts' names alone.
    #[arg(long, hide = true)]
    pub(crate) for_model: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    pub(crate) action: PluginAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginAction {
    /// Write the plugin into opencode's configuration directory.
    Install {
        /// Into the .opencode of the current directory instead.
        #[arg(long)]
        project: bool,
    },
    /// Remove the plugin; a file that is not ours is left.
    Uninstall {
        /// From the .opencode of the current directory instead.
        #[arg(long)]
        project: bool,
    },
    /// Print the plugin as it would be written.
    Print,
}

#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// The host's name.
    pub(crate) host: String,
    /// Trust the key without a question.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Trust the key only if it has this fingerprint (SHA256:...), without a question.
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) fingerprint: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The host's name.
    pub(crate) host: String,
    /// A model that must be there, provider/model; without it the host's configured one.
    #[arg(long, value_name = "PROVIDER/MODEL")]
    pub(crate) model: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  handover forward box 8080:80               port 80 of box is 127.0.0.1:8080 here
  handover forward box 0:db.internal:5432    a free port here, printed on stdout
  handover forward box 0:/run/app.sock       a Unix socket there")]
pub(crate) struct ForwardArgs {
    /// The host's name.
    pub(crate) host: String,
    /// Both ends. LOCAL is a port (0: a free one) or 127.0.0.1:PORT; REMOTE is a port, HOST:PORT or the path of a
    /// socket, as the host sees it.
    #[arg(value_name = "LOCAL:REMOTE")]
    pub(crate) ends: String,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Print one JSON event a line, the result last.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A duration.
fn a_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time such as 30s or 2h is needed".to_owned())
}

/// A duration that is longer than nothing.
fn some_time(text: &str) -> Result<Duration, String> {
    match a_time(text)? {
        time if time.is_zero() => Err("must be longer than nothing".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_dash_is_the_newest_job() {
        let cli = Cli::try_parse_from(["handover", "collect", "-"]).unwrap();
        assert!(matches!(cli.command, Command::Collect(CollectArgs { job, .. }) if job == "-"));
    }

    /// What a command line is refused with; empty when it is taken.
    fn refusal(arguments: &[&str]) -> String {
        Cli::try_parse_from([&["handover"], arguments].concat())
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn an_option_after_a_job_is_an_option() {
        let cli = Cli::try_parse_from(["handover", "wait", "j1", "-", "--timeout", "3s"]).unwrap();
        let Command::Wait(args) = cli.command else {
            panic!("no wait");
        };
        assert_eq!(args.jobs, ["j1", "-"]);
        assert_eq!(args.timeout, Some(Duration::from_secs(3)));
        let cli = Cli::try_parse_from(["handover", "watch", "j1", "--json"]).unwrap();
        assert!(matches!(cli.command, Command::Watch(args) if args.json && args.jobs == ["j1"]));
    }

    #[test]
    fn a_mistyped_option_is_no_job_and_no_text() {
        for arguments in [
            &["run", "box", "--jsn"][..],
            &["say", "-", "--jsn"],
            &["say", "-", "-x"],
            &["collect", "--jsn"],
            &["status", "--jsn"],
            &["logs", "--jsn"],
            &["kill", "--jsn"],
            &["wait", "j1", "--jsn"],
            &["watch", "--jsn"],
        ] {
            let said = refusal(arguments);
            assert!(
                said.contains("unexpected argument"),
                "{arguments:?}: {said}"
            );
        }
    }

    #[test]
    fn a_text_with_a_dash_goes_after_two() {
        let cli =
            Cli::try_parse_from(["handover", "run", "box", "--json", "--", "--help"]).unwrap();
        assert!(matches!(cli.command, Command::Run(args) if args.json && args.prompt == "--help"));
        let cli = Cli::try_parse_from(["handover", "say", "-", "--", "- one\n- two"]).unwrap();
        assert!(matches!(cli.command, Command::Say(args) if args.message == "- one\n- two"));
        // As the plugin asks, with the text on standard input.
        let cli =
            Cli::try_parse_from(["handover", "run", "--for-model", "--", "box", "-"]).unwrap();
        assert!(matches!(cli.command, Command::Run(args) if args.for_model && args.prompt == "-"));
    }

    #[test]
    fn a_time_that_is_none_is_told_what_one_looks_like() {
        for (arguments, option) in [
            (&["kill", "-", "--grace"][..], "--grace"),
            (&["prune", "--older-than"], "--older-than"),
            (&["wait", "-", "--timeout"], "--timeout"),
            (&["collect", "-", "--timeout"], "--timeout"),
            (&["run", "box", "go", "--max-time"], "--max-time"),
            (&["run", "box", "go", "--inactivity"], "--inactivity"),
        ] {
            for bad in ["x", "5", "-1s"] {
                let said = refusal(
                    &[
                        &arguments[..arguments.len() - 1],
                        &[&format!("{option}={bad}")],
                    ]
                    .concat(),
                );
                assert!(
                    said.contains("a time such as 30s or 2h"),
                    "{option} {bad}: {said}"
                );
            }
        }
        assert_eq!(refusal(&["kill", "-", "--grace", "0s"]), "");
        assert!(refusal(&["run", "box", "go", "--max-time", "0s"]).contains("longer than nothing"));
    }

    #[test]
    fn the_two_modes_exclude_each_other() {
        assert!(
            Cli::try_parse_from(["handover", "send", "box", "--one-way", "--round-trip"]).is_err()
        );
    }
}
