//! A measurement, not a test: memory and speed with a large document.

use std::io::Read;
use std::time::Instant;

use super::*;

/// A session of as many messages as are asked for, made while it is read.
struct Endless {
    messages: usize,
    made: usize,
    ready: Vec<u8>,
    read: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.ready.len() && self.made <= self.messages {
            let session = super::generate::SESSION;
            let (index, text) = (self.made, "tool output \\n ".repeat(7_000));
            self.ready = match index {
                0 => format!("{{\"info\":{{\"id\":\"{session}\"}},\"messages\":["),
                _ => format!(
                    r#"{}{{"info":{{"id":"msg_{index:012x}a","sessionID":"{session}","role":"assistant","time":{{"created":1,"completed":2}}}},"parts":[{{"type":"text","text":"{text}","snapshot":"s","id":"prt_{index:012x}a","sessionID":"{session}","messageID":"msg_{index:012x}a"}}]}}{}"#,
                    if index == 1 { "" } else { "," },
                    if index == self.messages { "]}" } else { "" }
                ),
            }
            .into_bytes();
            (self.made, self.read) = (index + 1, 0);
        }
        let count = buffer.len().min(self.ready.len() - self.read);
        buffer[..count].copy_from_slice(&self.ready[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

#[test]
#[ignore = "a measurement: run alone, with --nocapture"]
fn a_document_of_100_mb_goes_out_and_comes_back_in_flat_memory() {
    let make = || Endless {
        messages: 1_000,
        made: 0,
        ready: Vec::new(),
        read: 0,
    };
    let limits = Limits::default();
    let start = Instant::now();
    let found = inspect(make(), &limits).unwrap();
    let inspected = start.elapsed();
    let out = prepare_outgoing(
        make(),
        std::io::sink(),
        &found,
        &Outgoing::default(),
        &limits,
    )
    .unwrap();
    let sent = start.elapsed();
    let ids = found.message_ids.iter().take(10).cloned().collect();
    let returning = Returning {
        session: &found.session,
        sent_ids: &ids,
        local: &found,
        now_ms: NOW,
        limits,
    };
    let back = prepare_returning(make(), std::io::sink(), &returning).unwrap();
    assert_eq!(back.new_message_ids.len(), 990);
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default()
        .to_owned();
    println!(
        "{} bytes; inspect {inspected:?}, send by {sent:?}, back by {:?}; {peak}",
        out.bytes,
        start.elapsed()
    );
}
