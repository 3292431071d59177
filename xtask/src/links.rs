//! Links between documents: what a Markdown file points to inside the repository must exist.
//!
//! Called by the gates. Links to the web are not followed: a gate must not depend on the network.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Checks every Markdown file.
///
/// # Errors
/// When a link leads nowhere (each has been printed then), or a file cannot be read.
pub fn check() -> Result<()> {
    let mut broken = Vec::new();
    for path in workspace::files("md")? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let folder = path.parent().unwrap_or(&path);
        let dead = targets(&text).filter(|target| !leads_somewhere(folder, target));
        let shown = workspace::relative(&path).display();
        broken.extend(dead.map(|target| format!("{shown}: {target} is not there")));
    }
    if broken.is_empty() {
        return Ok(());
    }
    println!("{}", broken.join("\n"));
    bail!("{} links lead nowhere\nwhat to do: mend the link, or write the document", broken.len())
}

/// What stands in the round brackets of `[text](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

fn leads_somewhere(folder: &Path, target: &str) -> bool {
    let file = target.split_once('#').map_or(target, |(file, _)| file);
    target.contains("://") || file.is_empty() || folder.join(file).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_followed_inside_the_repository() {
        let text = "[a](Cargo.toml), [b](docs/none.md#x)\n[c](#here) [d](https://x.example/y)";
        let found: Vec<_> = targets(text).collect();
        assert_eq!(found, ["Cargo.toml", "docs/none.md#x", "#here", "https://x.example/y"]);
        let dead: Vec<_> = found
            .into_iter()
            .filter(|target| !leads_somewhere(workspace::root(), target))
            .collect();
        assert_eq!(dead, ["docs/none.md#x"]);
    }
}
