//! The name of a node in its mesh, `stoq://MESH/NODE`: its syntax and its one parser.
//!
//! Used by the verifier on what peers send, and by the authority on what operators type, so that
//! no name can be issued that would be refused.

use std::fmt;

use thiserror::Error;

use crate::mesh::MESH_NAME_MAX;

/// Longest mesh or node name: a DNS label (RFC 1035 §2.3.4), since names become DNS labels.
pub const NAME_MAX: usize = 63;

const SCHEME: &str = "stoq://";

/// Why a text is no name of a mesh or node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The length is outside 1..=[`NAME_MAX`].
    #[error("expected a name of 1 to 63 characters, got {got}: shorten the name")]
    Length {
        /// Length in bytes.
        got: usize,
    },
    /// A mesh's name leaves no room for its digits.
    #[error("expected a mesh's name of at most {MESH_NAME_MAX} characters, got {got}: shorten it")]
    MeshLength {
        /// Length in bytes.
        got: usize,
    },
    /// A character is outside `[a-z0-9-]`.
    #[error("expected only a-z, 0-9 and '-' in a name, got {got:?}: use lower-case letters")]
    Character {
        /// The first that does not belong.
        got: char,
    },
    /// A hyphen opens or closes the name.
    #[error("expected a letter or digit at both ends of a name, got '-': remove it")]
    Hyphen,
    /// The URI is not of the form `stoq://MESH/NODE`.
    #[error(
        "expected stoq://MESH/NODE, got {got:?}: issue a new certificate with `stoqctl pki issue`"
    )]
    Form {
        /// The start of what came, with control characters escaped when shown.
        got: String,
    },
}

/// Checks a mesh or node name: 1 to 63 of `[a-z0-9-]`, no hyphen at either end.
///
/// # Errors
/// The first rule that the name breaks.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(NameError::Length { got: name.len() });
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(got) = name.chars().find(|&c| !allowed(c)) {
        return Err(NameError::Character { got });
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

/// A node in a mesh. Both names are always valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    mesh: String,
    node: String,
}

impl NodeId {
    /// The node of this name in the mesh of that name.
    ///
    /// # Errors
    /// When either name is invalid.
    pub fn new(mesh: &str, node: &str) -> Result<Self, NameError> {
        check_name(mesh)?;
        check_name(node)?;
        Ok(Self { mesh: mesh.to_owned(), node: node.to_owned() })
    }

    /// Parses `stoq://MESH/NODE`, exactly: no upper case, port, query, escape or trailing slash.
    ///
    /// # Errors
    /// When the form or one of the names is invalid.
    pub fn parse(uri: &str) -> Result<Self, NameError> {
        let form = || NameError::Form { got: uri.chars().take(2 * NAME_MAX).collect() };
        let names = uri.strip_prefix(SCHEME).ok_or_else(form)?;
        let (mesh, node) = names.split_once('/').ok_or_else(form)?;
        Self::new(mesh, node)
    }

    /// The mesh.
    #[must_use]
    pub fn mesh(&self) -> &str {
        &self.mesh
    }

    /// The node, unique in its mesh.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.mesh, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_well_formed_uri_is_read_and_written_back() {
        let longest = "a".repeat(NAME_MAX);
        for uri in ["stoq://hq/edge-a", "stoq://a/0", &format!("stoq://{longest}/{longest}")] {
            assert_eq!(NodeId::parse(uri).unwrap().to_string(), uri);
        }
    }

    #[test]
    fn each_broken_rule_is_named() {
        let form = |uri: &str| NameError::Form { got: uri.to_owned() };
        for (uri, expected) in [
            ("https://hq/edge-a", form("https://hq/edge-a")),
            ("STOQ://hq/edge-a", form("STOQ://hq/edge-a")),
            ("stoq://hq", form("stoq://hq")),
            ("stoq://hq/", NameError::Length { got: 0 }),
            ("stoq:///edge-a", NameError::Length { got: 0 }),
            ("stoq://hq/edge-a/", NameError::Character { got: '/' }),
            ("stoq://hq:9292/edge-a", NameError::Character { got: ':' }),
            ("stoq://hq/edge%2da", NameError::Character { got: '%' }),
            ("stoq://hq/Edge", NameError::Character { got: 'E' }),
            ("stoq://hq/edge\0", NameError::Character { got: '\0' }),
            ("stoq://hq/-edge", NameError::Hyphen),
            ("stoq://hq-/edge", NameError::Hyphen),
        ] {
            assert_eq!(NodeId::parse(uri), Err(expected), "{uri}");
        }
        let long = "a".repeat(NAME_MAX + 1);
        assert_eq!(NodeId::new("hq", &long), Err(NameError::Length { got: NAME_MAX + 1 }));
    }

    proptest! {
        #[test]
        fn whatever_parses_is_written_back_unchanged(uri in "stoq://[a-c/:-]{0,8}|\\PC{0,40}") {
            if let Ok(id) = NodeId::parse(&uri) {
                prop_assert_eq!(id.to_string(), uri);
            }
        }
    }
}
