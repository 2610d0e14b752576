//! `handover check`: the doctor's report.

use comfy_table::{Table, presets};

use super::args::CheckArgs;
use super::render::{data_line, json_line, say};
use super::text::printable;
use super::{CliError, exit, parse};
use crate::handoff::{Client, Finding, Status};
use crate::hosts::ModelId;

/// Examines a host; the exit code is 0 unless something fails.
pub(crate) async fn run(client: &Client, args: &CheckArgs) -> Result<u8, CliError> {
    let model: Option<ModelId> = args.model.as_deref().map(parse).transpose()?;
    let report = client.check(&args.host, model.as_ref()).await?;
    if args.json {
        json_line(&report);
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for finding in &report.findings {
            table.add_row([
                mark(finding.status),
                finding.name,
                &printable(&finding.detail),
            ]);
        }
        data_line(&table.trim_fmt());
        for Finding { name, remedy, .. } in &report.findings {
            if let Some(remedy) = remedy {
                say(&format!("{name}: {}", printable(remedy)));
            }
        }
    }
    match (&report.stopped_by, report.status) {
        (Some(error), _) => Ok(exit::describe(error).code),
        (None, Status::Fail) => Ok(exit::NOT_READY),
        (None, _) => Ok(exit::DONE),
    }
}

fn mark(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warn => "warn",
        Status::Fail => "FAIL",
    }
}
