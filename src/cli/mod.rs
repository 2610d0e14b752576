//! The command line: one file a verb, one table of exit codes, one place that renders.
//!
//! The main function is [`run`]. Data goes to stdout, talk to stderr; nothing here is needed to embed the crate.

mod args;
mod check;
mod collect;
mod demo;
mod discover;
mod exit;
mod forward;
mod hosts;
mod interrupt;
mod job_view;
mod jobs;
mod kill;
mod logging;
mod logs;
mod man;
mod model;
mod plugin;
mod prompt;
mod prune;
mod render;
mod run;
mod say;
mod send;
mod status;
mod sync;
mod terminal;
mod text;
mod trip;
mod trust;
mod wait;
mod watch;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command, Form};
use prompt::TerminalPrompt;
use render::{Renderer, json_line, say};

use crate::handoff::{Client, ClientOptions, Failure, HandoffError};

/// Why a verb ended without doing its work.
pub(crate) enum CliError {
    /// A value on the command line that clap cannot judge.
    Usage(String),
    /// The work failed.
    Failure(Box<Failure>),
    /// Something around the work failed: the demonstration's stage.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: Into<Failure>> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::Failure(Box::new(error.into()))
    }
}

/// Runs the program with its arguments, the program's name first.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    if arguments
        .get(1)
        .is_some_and(|verb| verb == crate::demo::standin::VERB)
    {
        return crate::demo::standin::main(arguments.into_iter().skip(2));
    }
    let json = arguments
        .iter()
        .any(|argument| argument == "--json" || argument == "--for-model");
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if json && error.use_stderr() => {
            json_line(&exit::usage_document(exit::clap_words(&error)));
            return ExitCode::from(exit::USAGE);
        }
        Err(error) => {
            if let Err(closed) = error.print() {
                tracing::trace!(%closed, "nobody reads the help");
            }
            return ExitCode::from(if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            });
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: the runtime cannot be started: {error}"));
            return ExitCode::from(exit::OTHER);
        }
    };
    let code = runtime.block_on(dispatch(cli));
    // A task that goes on may still have a question open, or be about to put one.
    terminal::close();
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn dispatch(cli: Cli) -> u8 {
    let form = form(&cli.command);
    let json = form != Form::Person;
    match command(cli).await {
        Ok(code) => code,
        Err(CliError::Usage(message)) => {
            if json {
                json_line(&exit::usage_document(message));
            } else {
                say(&format!("error: {}", text::printable(&message)));
            }
            exit::USAGE
        }
        Err(CliError::Other(error)) => {
            let message = exit::with_causes(error.as_ref());
            if form == Form::Model {
                tracing::warn!(%message, "failed");
                json_line(&exit::other_document("something else failed".to_owned()));
            } else if json {
                json_line(&exit::other_document(message));
            } else {
                say(&format!("error: {}", text::printable(&message)));
            }
            exit::OTHER
        }
        Err(CliError::Failure(failure)) => {
            tracing::info!(kind = exit::describe(&failure.error).kind, "failed");
            Renderer::new(form).failure(&failure);
            exit::describe(&failure.error).code
        }
    }
}

async fn command(cli: Cli) -> Result<u8, CliError> {
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "handover", &mut script);
        render::data_line(String::from_utf8_lossy(&script).trim_end());
        return Ok(exit::DONE);
    }
    if let Command::Man { directory } = &cli.command {
        return man::run(directory);
    }
    let log = |directory: Option<&Path>| {
        if let Some(problem) = logging::start(directory, cli.verbose) {
            say(&format!("warning: {problem}"));
        }
    };
    if let Command::Demo(args) = &cli.command {
        // It leaves nothing behind, and so no log.
        log(None);
        return demo::run(args).await;
    }
    let mut options = ClientOptions::from_env()?;
    log(Some(&options.places.log_dir()));
    if let Command::Plugin(args) = &cli.command {
        return plugin::run(&options.places, &args.action);
    }
    if let Some(prompt) = TerminalPrompt::detect() {
        interrupt::end_the_program().map_err(|error| CliError::Other(error.into()))?;
        options.connect = options.connect.prompt(prompt);
    }
    let client = Client::open(options)?;
    if let Some(aside) = client.store_set_aside() {
        say(&format!(
            "warning: the job store was damaged; it is kept as {}, and a new one was made. 'handover sync' finds its \
             jobs on their hosts again",
            match form(&cli.command) {
                Form::Model => "a file beside the new one".to_owned(),
                _ => aside.display().to_string(),
            }
        ));
    }
    let done = verb(&client, &cli.command).await;
    client.announce().await;
    for job in client.take_damaged_records() {
        say(&format!(
            "warning: the record of job {} was damaged; it is kept aside in the store. 'handover sync' finds the job on \
             its host again",
            text::printable(&job)
        ));
    }
    client.close().await;
    done
}

async fn verb(client: &Client, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::Send(args) => send::run(client, args).await,
        Command::Run(args) => run::run(client, args).await,
        Command::Collect(args) => collect::run(client, args).await,
        Command::Jobs(args) => jobs::run(client, args).await,
        Command::Kill(args) => kill::run(client, args).await,
        Command::Prune(args) => prune::run(client, args).await,
        Command::Sync(args) => sync::run(client, args).await,
        Command::Status(args) => status::run(client, args).await,
        Command::Logs(args) => logs::run(client, args).await,
        Command::Watch(args) => watch::run(client, args).await,
        Command::Wait(args) => wait::run(client, args).await,
        Command::Say(args) => say::run(client, args).await,
        Command::Hosts(args) => Ok(hosts::run(client, args)),
        Command::Trust(args) => trust::run(client, args).await,
        Command::Check(args) => check::run(client, args).await,
        Command::Forward(args) => forward::run(client, args).await,
        Command::Demo(_)
        | Command::Plugin(_)
        | Command::Completions { .. }
        | Command::Man { .. } => Err(HandoffError::Aborted.into()),
    }
}

/// Reads a value that clap took as text.
fn parse<T>(text: &str) -> Result<T, CliError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse()
        .map_err(|error: T::Err| CliError::Usage(error.to_string()))
}

fn form(command: &Command) -> Form {
    let json = match command {
        Command::Send(args) => return args.waiting.form(),
        Command::Collect(args) => return args.waiting.form(),
        Command::Kill(args) => return Form::of(args.json, args.for_model),
        Command::Run(args) => return Form::of(args.json, args.for_model),
        Command::Hosts(args) => return Form::of(args.json, args.for_model),
        Command::Jobs(args) => return Form::of(args.json, args.for_model),
        Command::Status(args) => return Form::of(args.json, args.for_model),
        Command::Logs(args) => return Form::of(args.json, args.for_model),
        Command::Wait(args) => return Form::of(args.json, args.for_model),
        Command::Say(args) => return Form::of(args.json, args.for_model),
        Command::Watch(args) => args.json,
        Command::Prune(args) => args.json,
        Command::Sync(args) => args.json,
        Command::Trust(args) => args.json,
        Command::Check(args) => args.json,
        Command::Demo(args) => args.json,
        Command::Forward(_)
        | Command::Plugin(_)
        | Command::Completions { .. }
        | Command::Man { .. } => false,
    };
    Form::of(json, false)
}
