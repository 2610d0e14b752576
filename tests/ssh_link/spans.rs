//! Whatever is logged about a host, also by tasks that outlive the call that began them, is in a span with its name.
//!
//! The server runs in this process; nothing here needs sshd.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover::ssh::{ForwardTo, IdleTime, Pool};
use tokio::io::AsyncReadExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::hostile::{BOUND, Place, honest_version};

/// Every field with its value, in the order in which it was recorded.
#[derive(Debug, Default, Clone)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

/// Keeps what the SSH layer logs, each event behind the fields of its spans.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !event.metadata().target().starts_with("handover::ssh") {
            return;
        }
        let mut line = String::new();
        for span in context.event_scope(event).into_iter().flatten() {
            let fields = span.extensions().get::<Fields>().cloned();
            line.push_str(&fields.unwrap_or_default().0);
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().push(format!("{line}| {}", fields.0));
    }
}

#[tokio::test]
async fn every_task_of_a_connection_logs_under_the_hosts_name_and_never_under_its_address() {
    let log = Log::default();
    // One thread, so that whatever runs here is heard.
    let _heard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let place = Place::new(Arc::new(|_, _| None), honest_version()).await;
    let mut options = place.options.clone();
    options.idle = IdleTime(Duration::ZERO);
    let pool = Pool::new(options);
    let connection = pool.connect(&place.target).await.unwrap();
    // The server refuses this, and opens channels itself.
    let to = ForwardTo::Port {
        host: "localhost".to_owned(),
        port: 1,
    };
    let mut forward = connection.forward_local(0, to).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(forward.address())
        .await
        .unwrap();
    let _ = stream.read(&mut [0]).await;
    forward.failure().await.unwrap();
    drop((forward, connection));
    let wanted = [
        "connected",
        "a forwarded connection failed",
        "refusing a channel that the server opens",
        "a connection that nobody uses is closed",
    ];
    let all = async {
        while !wanted
            .iter()
            .all(|words| log.lines().iter().any(|line| line.contains(words)))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let heard = tokio::time::timeout(BOUND, all).await;
    assert!(heard.is_ok(), "{:#?}", log.lines());
    for line in log.lines() {
        let (spans, _) = line.split_once('|').unwrap();
        assert!(spans.contains("host=box "), "{line}");
        assert!(!line.contains("127.0.0.1"), "{line}");
    }
}
