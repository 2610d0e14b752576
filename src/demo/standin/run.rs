//! The command `run`: a turn of the agent, as the rules in the message decide it.
//!
//! The main function is [`run`].

use std::path::Path;
use std::process::ExitCode;

use super::StandinError;
use super::answer::Turn;
use super::binding::Binding;
use super::effects::{fail, obey};
use super::ids::Clock;
use super::process::Process;
use super::rule::{self, Rule};

use super::shape;
use super::store::{Session, Store};

/// The arguments of `run`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct RunArguments {
    pub(super) session: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) model: Option<String>,
    pub(super) title: Option<String>,
    pub(super) json: bool,
    /// The message, when it is not on standard input.
    pub(super) words: Vec<String>,
}

/// Runs one turn in the process' directory.
pub(super) fn run(
    process: &mut Process<'_>,
    arguments: RunArguments,
    models: &[String],
) -> Result<ExitCode, StandinError> {
    let message = if arguments.words.is_empty() {
        process.read()?
    } else {
        arguments.words.join(" ")
    };
    let rules = Rule::all(&message);
    let early = rules.iter().find_map(|rule| match rule {
        Rule::ExitBefore(code) => Some(*code),
        _ => None,
    });
    if let Some(code) = early {
        return Ok(ExitCode::from(code));
    }
    let binding = Binding::of(&process.directory);
    let store = Store::open(process.settings.directory())?;
    let mut clock = Clock::new(process.settings.clock_offset());
    let session = match &arguments.session {
        Some(id) => store.load(id)?,
        None => create(&store, &mut clock, &binding, &arguments, &message)?,
    };
    let agent = arguments
        .agent
        .clone()
        .unwrap_or_else(|| agent_of(&session));
    let model = arguments
        .model
        .clone()
        .unwrap_or_else(|| model_of(&session));
    let newest = session
        .messages
        .keys()
        .next_back()
        .cloned()
        .unwrap_or_default();
    let bound_here = Path::new(&session.text("directory")) == process.directory;

    let who = (agent.as_str(), model.as_str());
    let mut turn = Turn::begin(
        &store, &mut clock, process, &binding, &session, who, &message,
    );
    turn.json = arguments.json;
    turn.save()?;
    if turn.user() <= newest.as_str() || rules.contains(&Rule::Nothing) {
        // The prompt is not the newest message: nothing asks the model for anything.
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.model.is_some() && !models.contains(&model) {
        return fail(&mut turn, &format!("model not found: {model}"));
    }
    let code = obey(&mut turn, &message, &rules)?;
    if !bound_here {
        // opencode waits for ever for its session to go idle, in the directory of the session.
        process.settings.hang();
    }
    Ok(code)
}

fn create(
    store: &Store,
    clock: &mut Clock,
    binding: &Binding,
    arguments: &RunArguments,
    message: &str,
) -> Result<Session, StandinError> {
    let now = clock.now();
    let title = arguments
        .title
        .as_deref()
        .unwrap_or_else(|| rule::task(message));
    let agent = arguments.agent.as_deref().unwrap_or("build");
    let model = arguments.model.as_deref().unwrap_or("standin/m");
    let id = clock.session_at(now);
    let info = shape::session(&id, title, agent, model, now);
    let make = || {
        let mut session = Session::new(info)?;
        binding.apply(&mut session)?;
        Ok(session)
    };
    let session = make().map_err(StandinError::document(id))?;
    store.save(&session, &store.lock()?)?;
    Ok(session)
}

fn agent_of(session: &Session) -> String {
    let agent = session.text("agent");
    if agent.is_empty() {
        "build".to_owned()
    } else {
        agent
    }
}

fn model_of(session: &Session) -> String {
    let model = session.get("model");
    match (model["providerID"].as_str(), model["id"].as_str()) {
        (Some(provider), Some(id)) => format!("{provider}/{id}"),
        _ => "standin/m".to_owned(),
    }
}
