//! Passwords and the server's own questions, for a person at a terminal.
//!
//! Invariant: without a person nothing is sent; what a server asks is bounded, and every answer has a deadline.

use russh::client::{AuthResult, KeyboardInteractiveAuthResponse};
use zeroize::Zeroizing;

use super::{AttemptOutcome, Login, MAX_FAILURES, Method, Offer};
use crate::ssh::SshError;
use crate::ssh::error::bounded;
use crate::ssh::options::{Challenge, LoginAs, Question};

/// How often a person may mistype, as in ssh(1) (`NumberOfPasswordPrompts 3`).
const MAX_TRIES: usize = 3;
/// How many questions one request may have, and how many requests one dialogue.
const MAX_QUESTIONS: usize = 16;
const MAX_REQUESTS: usize = 16;
/// How many characters of each of the server's texts are shown.
const TEXT_LIMIT: usize = 2_000;

impl Login<'_> {
    /// Asks for a password and sends it; nothing when there is nobody to ask, or the tries are used up.
    pub(super) async fn offer_password(&mut self) -> Result<Option<Offer>, SshError> {
        let label = Method::Password.name().to_owned();
        let Some(person) = self.person() else {
            return Ok(None);
        };
        let Some(before) = self.tries(&label) else {
            return Ok(None);
        };
        let question = self.login_as(before);
        let asked = match self.turn(&person).await? {
            Some(turn) => {
                self.answered(&turn, turn.prompt().password(&question))
                    .await
            }
            None => self.nobody(),
        };
        let Some(password) = asked else {
            self.note(label, AttemptOutcome::NotAnswered);
            return Ok(None);
        };
        // The library takes a plain string, and wipes it when the server has answered.
        let work = self
            .handle
            .authenticate_password(self.target.user.clone(), password.as_str());
        let answer = tokio::time::timeout(self.options.deadlines.auth, work).await;
        let answer = answer.map(|result| result.map_err(|error| error.to_string()));
        let offer = self.answer(answer).await?;
        Ok(Some(self.noted(label, offer)))
    }

    /// Has the server ask its questions; nothing when there is nobody to ask, or the tries are used up.
    pub(super) async fn converse(&mut self) -> Result<Option<Offer>, SshError> {
        let label = Method::KeyboardInteractive.name().to_owned();
        let Some(person) = self.person() else {
            return Ok(None);
        };
        let Some(before) = self.tries(&label) else {
            return Ok(None);
        };
        let login = self.login_as(before);
        let user = self.target.user.clone();
        let after = self.options.deadlines.auth;
        let work = self
            .handle
            .authenticate_keyboard_interactive_start(user, None::<String>);
        let mut answer = tokio::time::timeout(after, work).await;
        for _ in 0..MAX_REQUESTS {
            let (name, instructions, prompts) = match answer {
                Ok(Ok(KeyboardInteractiveAuthResponse::InfoRequest {
                    name,
                    instructions,
                    prompts,
                })) => (name, instructions, prompts),
                answer => {
                    let answer = answer.map(|result| match result {
                        Ok(KeyboardInteractiveAuthResponse::Success) => Ok(AuthResult::Success),
                        Ok(KeyboardInteractiveAuthResponse::Failure {
                            remaining_methods,
                            partial_success,
                        }) => Ok(AuthResult::Failure {
                            remaining_methods,
                            partial_success,
                        }),
                        Ok(_) => Err("an answer out of turn".to_owned()),
                        Err(error) => Err(error.to_string()),
                    });
                    let offer = self.answer(answer).await?;
                    return Ok(Some(self.noted(label, offer)));
                }
            };
            if prompts.len() > MAX_QUESTIONS {
                break;
            }
            let challenge = Challenge {
                login: login.clone(),
                name: bounded(&name, TEXT_LIMIT),
                instructions: bounded(&instructions, TEXT_LIMIT),
                questions: prompts
                    .iter()
                    .map(|prompt| Question {
                        // The blank at the end is the server's own, and stands before the answer.
                        text: prompt.prompt.chars().take(TEXT_LIMIT).collect(),
                        echo: prompt.echo,
                    })
                    .collect(),
            };
            let silent = challenge.questions.is_empty()
                && challenge.name.is_empty()
                && challenge.instructions.is_empty();
            let answers = if silent {
                Some(Vec::new())
            } else {
                match self.turn(&person).await? {
                    Some(turn) => {
                        self.answered(&turn, turn.prompt().answers(&challenge))
                            .await
                    }
                    None => self.nobody(),
                }
            };
            let Some(answers) = answers.filter(|answers| answers.len() == prompts.len()) else {
                // The library waits for answers and for nothing else, so the login ends here.
                self.note(label, AttemptOutcome::NotAnswered);
                return Err(self.failure());
            };
            let answers = answers
                .iter()
                .map(|answer: &Zeroizing<String>| (**answer).clone());
            let work = self
                .handle
                .authenticate_keyboard_interactive_respond(answers.collect());
            answer = tokio::time::timeout(after, work).await;
        }
        self.note(
            label,
            AttemptOutcome::Unusable("the server asks too much".to_owned()),
        );
        Err(self.failure())
    }

    /// How often a method was tried, when it may be tried again.
    fn tries(&self, label: &str) -> Option<usize> {
        let before = self
            .tried
            .iter()
            .filter(|attempt| attempt.key == label)
            .count();
        // The first try is worth the disconnection that a failure may bring.
        (before == 0 || (before < MAX_TRIES && self.failures < MAX_FAILURES)).then_some(before)
    }

    fn login_as(&self, tries_before: usize) -> LoginAs {
        LoginAs {
            host: self.target.name.clone(),
            user: self.target.user.clone(),
            address: self.target.address.clone(),
            tries_before,
        }
    }

    fn noted(&mut self, label: String, offer: Offer) -> Offer {
        if let Offer::Not(outcome) = &offer {
            self.rejected_answers += usize::from(*outcome == AttemptOutcome::Rejected);
            self.note(label, outcome.clone());
        }
        offer
    }
}
