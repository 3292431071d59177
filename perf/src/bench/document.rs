//! `report`: puts the last measured tables into `docs/performance.md`, and their plots beside it, so
//! that no figure in a document is written by hand.
//!
//! The document marks where each goes: what stands between `<!-- measured: tiers -->` and
//! `<!-- end -->` is replaced by the tables of `target/bench/tiers.json`.

use super::results::{self, Results};
use super::{continuity, scale, tiers};
use crate::{Error, Result};
use std::fs;
use std::path::Path;

/// Ends what is replaced.
const END: &str = "<!-- end -->";

/// Where plots go, beside the document.
const PLOTS: &str = "performance";

/// Puts each of `files` into its place in `document`.
///
/// # Errors
/// When a file cannot be read or written, is of a benchmark without tables, or has no place there.
pub fn fill(document: &Path, files: &[impl AsRef<Path>]) -> Result<()> {
    let shown = document.display();
    let mut text = fs::read_to_string(document).map_err(Error::io(format!("read {shown}")))?;
    for file in files {
        let results = Results::read(file.as_ref())?;
        let (tables, plots) = rendered(&results)?;
        let folder = document.with_file_name(PLOTS);
        let mut section = String::new();
        for (name, svg) in plots {
            let name = format!("{}-{name}.svg", results.benchmark);
            println!("written to {}", results::write(&folder.join(&name), &svg)?.display());
            section += &format!("![{name}]({PLOTS}/{name})\n\n");
        }
        text = replace(&text, &results.benchmark, &(section + &tables))?;
    }
    println!("written to {}", results::write(document, &text)?.display());
    Ok(())
}

/// Tables and plots of a result.
fn rendered(results: &Results) -> Result<(String, Vec<(&'static str, String)>)> {
    match results.benchmark.as_str() {
        "tiers" => Ok((tiers::markdown(results), tiers::plots(results))),
        "scale" => Ok((scale::markdown(results), Vec::new())),
        "continuity" => Ok((continuity::markdown(results), Vec::new())),
        other => Err(Error::Output {
            what: "the result of a benchmark".to_owned(),
            expected: "one of `tiers`, `scale` or `continuity`".to_owned(),
            got: other.to_owned(),
        }),
    }
}

fn replace(text: &str, benchmark: &str, section: &str) -> Result<String> {
    let mark = format!("<!-- measured: {benchmark} -->");
    let found = text.split_once(&mark).and_then(|(head, rest)| {
        let (_, tail) = rest.split_once(END)?;
        Some(format!("{head}{mark}\n\n{}\n\n{END}{tail}", section.trim()))
    });
    found.ok_or_else(|| Error::Output {
        what: "the document".to_owned(),
        expected: format!("`{mark}` and after it `{END}`"),
        got: "no such place".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = "a\n<!-- measured: scale -->\nold\n<!-- end -->\nb\n<!-- measured: tiers -->\nx\n<!-- end -->\n";
        let new = replace(text, "scale", "| new |\n").unwrap();
        assert!(new.contains("| new |") && !new.contains("old") && new.contains("\nx\n"));
        assert_eq!(replace(&new, "scale", "| new |\n").unwrap(), new, "again changes nothing");
        assert!(replace(text, "flood", "").unwrap_err().to_string().contains("measured: flood"));
    }

    #[test]
    fn a_result_gets_into_the_document_with_its_plots() {
        let folder = tempfile::tempdir().unwrap();
        let document = folder.path().join("performance.md");
        fs::write(&document, "<!-- measured: tiers -->\n<!-- end -->\n").unwrap();
        let mut measured = Results::new("tiers", 1, 1);
        measured.add("100/clean/none/tcp", &[("goodput_mbps", 94.5)], Value::Null);
        let file = measured.write(&folder.path().join("tiers.json")).unwrap();
        fill(&document, &[file]).unwrap();
        let text = fs::read_to_string(&document).unwrap();
        assert!(
            text.contains("94.5") && text.contains("(performance/tiers-goodput.svg)"),
            "{text}"
        );
        assert!(folder.path().join("performance/tiers-goodput.svg").is_file());
    }
}
