//! The rules on sources that clippy cannot express, checked on the parsed files.
//!
//! - A file has at most 500 lines and opens with what it is for (`//!`).
//! - Blocks nest at most 3 deep inside a function. Clippy's `excessive_nesting` counts from the
//!   file, so one threshold means different depths for functions and methods (see `clippy.toml`);
//!   this counts as clippy does, but from each function.
//! - A lint is only allowed or expected with a reason.
//! - Every crate takes the workspace's lints, or repeats every one of them.
//!
//! The gates call [`check`]; the coverage asks [`test_only`] which lines are tests.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::workspace;

/// Most lines of a source file.
const FILE_LINES_MAX: usize = 500;

/// Deepest nesting of blocks inside a function; its body is level 0.
const NESTING_MAX: usize = 3;

/// Crates that ship and are no members of the workspace: their lint tables are checked as well.
const APART: &[&str] = &["ebpf/program"];

/// Checks every source file and every crate.
///
/// # Errors
/// When something breaks a rule (each place has been printed then), or cannot be read.
pub fn check() -> Result<()> {
    let mut broken = Vec::new();
    for path in workspace::files("rs")? {
        let text = read(&path)?;
        let shown = workspace::relative(&path).display();
        broken.extend(check_file(&text)?.into_iter().map(|what| format!("{shown}:{what}")));
    }
    broken.extend(check_lint_tables()?);
    if broken.is_empty() {
        return Ok(());
    }
    println!("{}", broken.join("\n"));
    bail!("{} places break a rule on sources\nwhat to do: cut the code better there", broken.len())
}

/// What breaks a rule in one file, each as `line: what`.
fn check_file(text: &str) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        broken.push(format!("{lines}: {lines} lines, at most {FILE_LINES_MAX}"));
    }
    if !text.starts_with("//!") {
        broken.push("1: does not open with what it is for (`//!`)".to_owned());
    }
    let file = syn::parse_file(text).context("cannot parse a source file")?;
    let mut rules = Rules::default();
    rules.visit_file(&file);
    broken.extend(rules.broken);
    Ok(broken)
}

#[derive(Default)]
struct Rules {
    /// Blocks around the place being visited, the function's body included.
    depth: usize,
    broken: Vec<String>,
}

impl Rules {
    /// Counts from zero in a function, and goes on where it was after it.
    fn in_function(&mut self, walk: impl FnOnce(&mut Self)) {
        let outside = std::mem::take(&mut self.depth);
        walk(self);
        self.depth = outside;
    }
}

impl<'ast> Visit<'ast> for Rules {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.in_function(|rules| visit::visit_item_fn(rules, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.in_function(|rules| visit::visit_impl_item_fn(rules, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.in_function(|rules| visit::visit_trait_item_fn(rules, item));
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.depth += 1;
        // Only the outermost of those too deep is worth a line.
        if self.depth == NESTING_MAX + 2 {
            let line = block.span().start().line;
            self.broken.push(format!("{line}: nested deeper than {NESTING_MAX} blocks"));
        }
        visit::visit_block(self, block);
        self.depth -= 1;
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let tokens = match &attribute.meta {
            syn::Meta::List(list) => list.tokens.to_string(),
            _ => String::new(),
        };
        let named = |name: &str| attribute.path().is_ident(name);
        let is_level = named("allow") || named("expect");
        let sets_level = named("cfg_attr") && tokens.contains("allow (");
        if (is_level || sets_level) && !tokens.contains("reason =") {
            let line = attribute.span().start().line;
            self.broken.push(format!("{line}: a lint is switched off without a reason"));
        }
    }
}

/// The parts of a file that are only compiled for tests.
#[derive(Default)]
pub struct TestOnly {
    /// Lines of items marked `#[cfg(test)]`.
    pub lines: Vec<RangeInclusive<usize>>,
    /// Names of modules marked so whose contents are in a file of their own.
    pub modules: Vec<String>,
}

/// Finds what only tests see in the file at `path`.
///
/// # Errors
/// When it cannot be read or parsed.
pub fn test_only(path: &Path) -> Result<TestOnly> {
    let file = syn::parse_file(&read(path)?)
        .with_context(|| format!("cannot parse {}", path.display()))?;
    let mut found = TestOnly::default();
    found.visit_file(&file);
    Ok(found)
}

impl<'ast> Visit<'ast> for TestOnly {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !attributes(item).iter().any(is_cfg_test) {
            return visit::visit_item(self, item);
        }
        match item {
            syn::Item::Mod(module) if module.content.is_none() => {
                self.modules.push(module.ident.to_string());
            }
            _ => self.lines.push(item.span().start().line..=item.span().end().line),
        }
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        _ => &[],
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
}

/// Crates whose lint table leaves out a lint of the workspace.
fn check_lint_tables() -> Result<Vec<String>> {
    let workspace_manifest = read(&workspace::root().join("Cargo.toml"))?;
    let lints = lint_names(&workspace_manifest, "[workspace.lints.");
    let mut broken = Vec::new();
    let apart = APART.iter().map(|folder| workspace::root().join(folder).join("Cargo.toml"));
    for manifest in member_manifests(&workspace_manifest).into_iter().chain(apart) {
        let text = read(&manifest)?;
        let shown = workspace::relative(&manifest).display().to_string();
        broken.extend(missing_lints(&text, &lints).map(|lint| format!("{shown}: no {lint}")));
    }
    Ok(broken)
}

fn missing_lints<'a>(manifest: &str, lints: &'a [String]) -> impl Iterator<Item = &'a String> {
    let inherits = manifest.contains("[lints]\nworkspace = true");
    let own = lint_names(manifest, "[lints.");
    lints.iter().filter(move |lint| !inherits && !own.contains(lint))
}

/// The keys below every table whose header starts with `table`.
fn lint_names(manifest: &str, table: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.starts_with(table);
        } else if let (true, Some((name, _))) = (inside, line.split_once('=')) {
            names.push(name.trim().to_owned());
        }
    }
    names
}

/// The manifests of the folders in `members = [ ... ]`.
fn member_manifests(manifest: &str) -> Vec<PathBuf> {
    let members = manifest.split_once("members = [").map_or("", |(_, rest)| rest);
    let members = members.split_once(']').map_or("", |(list, _)| list);
    let folders = members.split(',').map(|member| member.trim().trim_matches('"'));
    let named = folders.filter(|folder| !folder.is_empty());
    named.map(|folder| workspace::root().join(folder).join("Cargo.toml")).collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(levels: usize) -> String {
        format!("fn f() {{ {} {} }}", "if a {".repeat(levels), "}".repeat(levels))
    }

    #[test]
    fn three_levels_pass_and_four_do_not_in_functions_and_methods_alike() {
        for (levels, count) in [(3, 0), (4, 1), (6, 1)] {
            let free = format!("//! x\n{}", function(levels));
            assert_eq!(check_file(&free).unwrap().len(), count, "{free}");
            let method = format!("//! x\nmod m {{ impl S {{ {} }} }}", function(levels));
            assert_eq!(check_file(&method).unwrap().len(), count, "{method}");
        }
    }

    #[test]
    fn arms_and_literals_are_no_level_of_their_own() {
        let text = "//! x\nfn f() { if a { match b { C { d } => { loop { E { f: 1 }; } } } } }";
        assert!(check_file(text).unwrap().is_empty());
    }

    #[test]
    fn length_opening_and_reasons_are_checked() {
        let long = format!("//! x\n{}", "\n".repeat(500));
        assert!(check_file(&long).unwrap()[0].contains("501 lines"));
        assert_eq!(check_file("fn f() {}").unwrap().len(), 1);
        assert_eq!(check_file("//! x\n#[allow(dead_code)] fn f() {}").unwrap().len(), 1);
        let reasoned = "//! x\n#[allow(dead_code, reason = \"y\")] fn f() {}";
        assert!(check_file(reasoned).unwrap().is_empty());
        let conditional = "//! x\n#![cfg_attr(test, allow(clippy::unwrap_used))]";
        assert_eq!(check_file(conditional).unwrap().len(), 1);
    }

    #[test]
    fn a_lint_table_must_inherit_or_be_complete() {
        let lints =
            lint_names("[workspace.lints.rust]\na = 1\nb = 2\n[x]\nc = 3", "[workspace.lints.");
        assert_eq!(lints, ["a", "b"]);
        assert_eq!(missing_lints("[lints]\nworkspace = true\n", &lints).count(), 0);
        assert_eq!(missing_lints("[lints.rust]\na = 1\n", &lints).count(), 1);
        assert_eq!(missing_lints("", &lints).count(), 2);
    }

    #[test]
    fn lines_of_tests_are_found() {
        let mut found = TestOnly::default();
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n}\n#[cfg(test)]\nmod apart;\n";
        found.visit_file(&syn::parse_file(text).unwrap());
        assert_eq!(found.lines, [2..=4]);
        assert_eq!(found.modules, ["apart"]);
    }
}
