//! What the library's documentation promises of itself.

use std::path::Path;

use crate::support::walk;

/// The documentation in front of a line: the comments above it, over attributes.
fn documentation(before: &[&str]) -> String {
    let above = before.iter().rev().map(|line| line.trim_start());
    let belongs = above.take_while(|line| line.starts_with("///") || line.starts_with("#["));
    belongs.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_public_future_says_whether_it_may_be_cancelled() {
    let mut silent = Vec::new();
    let mut futures = 0;
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut |path| {
            if path.extension().is_none_or(|extension| extension != "rs") {
                return;
            }
            let text = std::fs::read_to_string(path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for (number, line) in lines.iter().enumerate() {
                if !line.trim_start().starts_with("pub async fn ") {
                    continue;
                }
                futures += 1;
                let said = documentation(&lines[..number]);
                let words = ["ancel", "Dropping the future"];
                if !words.iter().any(|word| said.contains(word)) {
                    silent.push(format!("{}:{}", path.display(), number + 1));
                }
            }
        },
    );
    assert!(futures > 40, "{futures} were found");
    assert!(silent.is_empty(), "{silent:#?}");
}
