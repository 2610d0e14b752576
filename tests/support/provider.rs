//! A model provider that answers by rule, for the real agent.
//!
//! [`Provider`] speaks what opencode asks of an OpenAI-compatible one: `POST /v1/chat/completions`, answered as
//! server-sent events. The rule looks at the last user message alone, so that a conversation gives the same answers
//! on whichever machine it goes on: each line `TOOL:name {json}` becomes that tool call, one after another, and once
//! their results are there the answer is the text `mock reply to: ...`. A line `AND:name {json}` is a call in the same
//! message as the one before it. A request without tools (a title) gets a text.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

struct Shared {
    requests: Mutex<Vec<Value>>,
    held: watch::Sender<bool>,
}

/// A running provider on loopback; it ends when dropped.
pub(crate) struct Provider {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Provider {
    /// Starts one on a free port.
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("bind the provider")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            held: watch::Sender::new(false),
        });
        let (stop, mut stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    let stream = tokio::select! {
                        accepted = listener.accept() => accepted.map(|(stream, _)| stream),
                        _ = &mut stopped => break,
                    };
                    let Ok(stream) = stream else { continue };
                    let shared = Arc::clone(&served);
                    tokio::spawn(async move {
                        let service =
                            service_fn(move |request| serve(Arc::clone(&shared), request));
                        // A client that goes away in the middle is the client's affair.
                        drop(
                            http1::Builder::new()
                                .serve_connection(TokioIo::new(stream), service)
                                .await,
                        );
                    });
                }
            });
        });
        Ok(Self {
            address,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Keeps every answer back until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets the answers go that were held, and all later ones.
    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// The last user messages of all requests that offered tools, in the order in which they came.
    pub(crate) fn prompts(&self) -> Vec<String> {
        self.requests()
            .iter()
            .filter(|request| !offered(request).is_empty())
            .map(|request| last_prompt(request).0)
            .collect()
    }

    /// The models that were asked, in the order in which the requests came.
    pub(crate) fn models(&self) -> Vec<String> {
        self.requests()
            .iter()
            .filter_map(|request| request["model"].as_str().map(str::to_owned))
            .collect()
    }

    /// Every request, in the order in which they came: all that a model has seen.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes an `opencode.json` that knows this provider alone, with two models, into the home directory `home`.
    pub(crate) fn configure(&self, home: &Path) -> Result<()> {
        let model =
            |name: &str| json!({"name": name, "limit": {"context": 1_000_000, "output": 4_000}});
        let config = json!({
            "model": "mock/m", "small_model": "mock/m", "autoupdate": false, "share": "disabled",
            "provider": {"mock": {
                "npm": "@ai-sdk/openai-compatible", "name": "Mock",
                "options": {"baseURL": format!("http://{}/v1", self.address), "apiKey": "x"},
                "models": {"m": model("m"), "other": model("other")},
            }},
        });
        let directory = home.join(".config/opencode");
        std::fs::create_dir_all(&directory)?;
        std::fs::write(
            directory.join("opencode.json"),
            serde_json::to_vec_pretty(&config)?,
        )?;
        Ok(())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let respond = |status: StatusCode, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(
            "content-type",
            hyper::header::HeaderValue::from_static("text/event-stream"),
        );
        Ok(response)
    };
    let wanted = request.uri().path() == "/v1/chat/completions";
    let Ok(body) = request.into_body().collect().await else {
        return respond(StatusCode::BAD_REQUEST, "the body was cut".into());
    };
    let Ok(asked) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return respond(StatusCode::BAD_REQUEST, "the body is no JSON".into());
    };
    if !wanted {
        return respond(
            StatusCode::NOT_FOUND,
            "only /v1/chat/completions is here".into(),
        );
    }
    let events = answer(&asked);
    shared
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked);
    // The sender is in `shared`, so this ends by a release alone.
    drop(shared.held.subscribe().wait_for(|held| !held).await);
    respond(StatusCode::OK, events)
}

fn offered(request: &Value) -> Vec<&str> {
    let tools = request["tools"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    tools
        .iter()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .collect()
}

/// The text of the last user message, and how many tool results came after it.
fn last_prompt(request: &Value) -> (String, usize) {
    let messages = request["messages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let after = messages
        .iter()
        .rev()
        .take_while(|message| message["role"] != "user");
    let results = after.filter(|message| message["role"] == "tool").count();
    let content = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user")
        .map(|message| &message["content"]);
    let text = match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    };
    (text, results)
}

/// The calls of the next message, when the results of `done` calls are there: each a tool's name and its arguments.
fn calls(prompt: &str, done: usize) -> Vec<(&str, &str)> {
    let call = |line: &'_ str, mark: &str| -> Option<usize> {
        line.strip_prefix(mark).map(|_| mark.len())
    };
    let mut index = 0;
    let mut next = Vec::new();
    for line in prompt.lines().map(str::trim_start) {
        let (begins, length) = match (call(line, "TOOL:"), call(line, "AND:")) {
            (Some(length), _) => (true, length),
            (None, Some(length)) => (false, length),
            (None, None) => continue,
        };
        if index > done && begins {
            break;
        }
        if index >= done {
            next.extend(
                line.get(length..)
                    .and_then(|call| call.trim().split_once(' ')),
            );
        }
        index += 1;
    }
    next
}

fn answer(request: &Value) -> String {
    let (prompt, results) = last_prompt(request);
    let tools = offered(request);
    let delta = if tools.is_empty() {
        json!({"role": "assistant", "content": "mock title"})
    } else {
        match calls(&prompt, results) {
            calls if calls.is_empty() => {
                let first = prompt.lines().next().unwrap_or_default();
                json!({"role": "assistant", "content": format!("mock reply to: {first}")})
            }
            calls => match calls.iter().find(|(name, _)| !tools.contains(name)) {
                Some((name, _)) => {
                    json!({"role": "assistant", "content": format!("mock: no tool {name}")})
                }
                None => {
                    let call = |(index, (name, arguments)): (usize, &(&str, &str))| {
                        json!({
                            "index": index, "id": format!("call_{}", results + index), "type": "function",
                            "function": {"name": name, "arguments": arguments},
                        })
                    };
                    let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
                    json!({"role": "assistant", "tool_calls": calls})
                }
            },
        }
    };
    let reason = if delta.get("tool_calls").is_some() {
        "tool_calls"
    } else {
        "stop"
    };
    let chunk = |delta: &Value, reason: Option<&str>| {
        let mut chunk = json!({
            "id": "mock", "object": "chat.completion.chunk", "created": 0, "model": request["model"],
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        });
        if reason.is_some() {
            chunk["usage"] =
                json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
        }
        format!("data: {chunk}\n\n")
    };
    format!(
        "{}{}data: [DONE]\n\n",
        chunk(&delta, None),
        chunk(&json!({}), Some(reason))
    )
}
