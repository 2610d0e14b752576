//! `handover plugin`: put the tools `remote_login` and `remote_*` into opencode, or take them out.

use super::args::PluginAction;
use super::render::{data_line, say};
use super::{CliError, exit};
use crate::hosts::Places;
use crate::plugin::{Installed, Plugin, PluginError, Removed, Scope, competitors};

/// Does what was asked for and says what it did.
pub(crate) fn run(places: &Places, action: &PluginAction) -> Result<u8, CliError> {
    let scope = |project: &bool| {
        if *project {
            Scope::Project
        } else {
            Scope::User
        }
    };
    match action {
        PluginAction::Print => {
            data_line(Plugin::of_this_program().map_err(told)?.text().trim_end());
        }
        PluginAction::Install { project } => {
            let plugin = Plugin::of_this_program().map_err(told)?;
            let (path, installed) = plugin.install(places, scope(project)).map_err(told)?;
            let path = path.display();
            say(&match installed {
                Installed::New => format!("the plugin is installed: {path}"),
                Installed::Renewed => format!("the plugin is renewed: {path}"),
                Installed::Unchanged => format!("the plugin is installed already: {path}"),
            });
            if installed != Installed::Unchanged {
                say(
                    "opencode loads it at its next start, and has the tools remote_login and remote_* then",
                );
            }
            for file in competitors(places) {
                say(&format!(
                    "warning: {} names opencode-remote-login, which has a tool of the same name; take it out",
                    file.display()
                ));
            }
        }
        PluginAction::Uninstall { project } => {
            let (path, removed) = crate::plugin::uninstall(places, scope(project)).map_err(told)?;
            let path = path.display();
            say(&match removed {
                Removed::Removed => format!("the plugin is removed: {path}"),
                Removed::NotThere => format!("there is no plugin at {path}"),
            });
        }
    }
    Ok(exit::DONE)
}

fn told(error: PluginError) -> CliError {
    CliError::Other(Box::new(error))
}
