//! The plugin's one file: the embedded source, stamped for a program.

use std::path::Path;

use super::PluginError;

/// What opencode loads; `@@VERSION@@` and `@@PROGRAM@@` stand for the program that it runs.
const SOURCE: &str = include_str!("handover.ts");
/// How every version of the file begins.
const MARK: &str = "// handover plugin ";

/// The plugin, stamped for one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    text: String,
}

impl Plugin {
    /// The plugin of the running program.
    ///
    /// # Errors
    /// [`PluginError::Program`] and [`PluginError::ProgramPath`].
    pub fn of_this_program() -> Result<Self, PluginError> {
        let program = std::env::current_exe().map_err(PluginError::Program)?;
        Self::of(&program)
    }

    /// The plugin that runs the program at `program`, an absolute path, in this version.
    ///
    /// # Errors
    /// [`PluginError::ProgramPath`].
    pub fn of(program: &Path) -> Result<Self, PluginError> {
        let path = program.to_str().ok_or_else(|| PluginError::ProgramPath {
            path: program.to_owned(),
        })?;
        // A JSON string is a string of JavaScript too (ECMA-262, since its tenth edition).
        let path = serde_json::Value::from(path).to_string();
        let text = SOURCE
            .replace("@@VERSION@@", env!("CARGO_PKG_VERSION"))
            .replace("\"@@PROGRAM@@\"", &path);
        Ok(Self { text })
    }

    /// The file's content.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Whether a file is the plugin, of any version.
pub(super) fn is_ours(content: &[u8]) -> bool {
    content.starts_with(MARK.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_names_the_version_and_the_program_and_nothing_is_left_open() {
        let plugin = Plugin::of(Path::new("/opt/a \"b\"\\c/handover")).unwrap();
        assert!(!plugin.text().contains("@@"), "a place is left open");
        assert!(
            plugin
                .text()
                .contains(r#"const PROGRAM = "/opt/a \"b\"\\c/handover""#)
        );
        let version = format!("const VERSION = \"{}\"", env!("CARGO_PKG_VERSION"));
        assert!(plugin.text().contains(&version));
    }

    #[test]
    fn the_file_is_known_as_ours() {
        assert!(is_ours(SOURCE.as_bytes()));
        assert!(!is_ours(b"// my own plugin"));
        assert!(!is_ours(b""));
    }

    #[test]
    fn the_file_needs_no_package() {
        let imports = SOURCE.lines().filter(|line| line.starts_with("import "));
        for line in imports {
            assert!(line.contains("from \"node:"), "{line}");
        }
    }
}
