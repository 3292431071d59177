//! Where in the file each key and value stands, and which keys are unknown. Called by
//! [`Config::parse`](super::Config::parse) before the values are read into their types.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{KEYS, Problem};

/// The places of all keys and values of a file.
pub(super) struct Places<'t> {
    text: &'t str,
    /// Path such as `peer[1].allowed_ips[0]`, and the bytes of key or value; outer before inner.
    found: Vec<(String, Range<usize>)>,
}

impl<'t> Places<'t> {
    /// Finds them.
    ///
    /// # Errors
    /// Where the text is no TOML.
    pub(super) fn of(text: &'t str) -> Result<Self, Problem> {
        let mut places = Self { text, found: Vec::new() };
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| places.line_at(span.start));
            let message = format!("expected TOML, got: {}; mend this line", error.message());
            Problem { line, key: String::new(), message }
        })?;
        places.table("", table.get_ref());
        Ok(places)
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            self.found.push((path.clone(), key.span()));
            self.value(&path, value);
        }
    }

    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>) {
        self.found.push((path.to_owned(), value.span()));
        match value.get_ref() {
            DeValue::Table(table) => self.table(path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&format!("{path}[{index}]"), item);
                }
            }
            _ => {}
        }
    }

    fn line_at(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    /// The line of a key, or of the nearest thing around it; 0 if nothing of it is in the file.
    pub(super) fn line_of(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some((_, span)) = self.found.iter().rev().find(|(found, _)| found == path) {
                return self.line_at(span.start);
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 0,
            }
        }
    }

    /// One problem for each key that the table of keys does not have.
    pub(super) fn unknown_keys(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Vec::new();
        for (path, _) in &self.found {
            let plain = without_indices(path);
            let within = |parent: &str| {
                path.strip_prefix(parent).is_some_and(|rest| rest.starts_with(['.', '[']))
            };
            let reported = problems.iter().any(|p| p.key == *path || within(&p.key));
            if reported || is_known(&plain) {
                continue;
            }
            let nearest = nearest(&plain);
            let message = format!("expected a known key, got `{plain}`; did you mean `{nearest}`?");
            problems.push(Problem { line: self.line_of(path), key: path.clone(), message });
        }
        problems
    }

    /// The place and the words of an error from reading values into their types.
    pub(super) fn typed(&self, error: &toml::de::Error) -> Problem {
        let span = error.span().unwrap_or(0..0);
        let innermost = self
            .found
            .iter()
            .filter(|(_, found)| found.start <= span.start && span.end <= found.end)
            .min_by_key(|(_, found)| found.len());
        let key = innermost.map_or_else(String::new, |(path, _)| path.clone());
        let message = error.message();
        if let Some(field) = message.strip_prefix("missing field `") {
            return self.missing(&key, field.trim_end_matches('`'));
        }
        let plain = without_indices(&key);
        let takes = KEYS.iter().find(|k| k.name == plain).map_or("", |k| k.takes);
        let message = match message.split_once(", expected ") {
            Some((got, expected)) => format!("expected {expected}, got {got}; it takes {takes}"),
            None if message.contains("expected") => message.to_owned(),
            None => format!("expected {takes}, got: {message}"),
        };
        Problem { line: self.line_at(span.start), key, message }
    }

    fn missing(&self, section: &str, field: &str) -> Problem {
        let key = if section.is_empty() { field.into() } else { format!("{section}.{field}") };
        let plain = without_indices(&key);
        let takes = KEYS.iter().find(|k| k.name == plain).map_or("a section", |k| k.takes);
        let message = format!("expected this key, got nothing; add it ({takes})");
        Problem { line: self.line_of(&key).max(1), key, message }
    }
}

/// `peer[1].allowed_ips[0]` without its indices: `peer.allowed_ips`.
fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            other if !inside => plain.push(other),
            _ => {}
        }
    }
    plain
}

/// Whether it is a key, or a section that holds keys.
fn is_known(plain: &str) -> bool {
    KEYS.iter().any(|key| {
        let rest = key.name.strip_prefix(plain);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The known key or section that is most like an unknown one. The same name in another section is
/// nearer than another name in this one.
fn nearest(plain: &str) -> &'static str {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = last(plain);
    let moved = KEYS.iter().map(|key| key.name).find(|name| last(name) == wanted);
    let depth = plain.split('.').count();
    let candidates = KEYS.iter().filter_map(|key| cut(key.name, depth));
    let alike = candidates.min_by_key(|name| strsim::damerau_levenshtein(name, plain));
    moved.or(alike).unwrap_or_default()
}

/// The first `depth` parts of a name.
fn cut(name: &'static str, depth: usize) -> Option<&'static str> {
    let end = name.match_indices('.').map(|(at, _)| at).nth(depth.checked_sub(1)?);
    Some(&name[..end.unwrap_or(name.len())])
}
