//! What the log holds: events, numbered and chained.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::hex;

/// Longest actor or subject, in bytes: names, addresses, a certificate's fingerprint.
pub const NAME_MAX: usize = 256;
/// Longest action, in bytes: a word or two.
pub const ACTION_MAX: usize = 64;
/// Longest reason, in bytes: the refusals of this product are shorter.
pub const REASON_MAX: usize = 512;

/// What every hash is taken over begins with this, so that no other hash is one by chance.
const DOMAIN: &[u8] = b"hypermesh audit 1\0";

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not, for this reason.
    Refused(String),
}

/// Something that happened. Texts that are too long are cut, and end in `…`: an event is never left
/// out because of what someone else wrote into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, in seconds since 1970 UTC.
    pub at_s: u64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To whom or to what.
    pub subject: String,
    /// How it ended.
    pub result: Outcome,
}

/// An event in its place. Its hash covers everything in it, and through `previous` everything
/// before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 1, without gaps.
    pub number: u64,
    /// When, in seconds since 1970 UTC.
    pub at_s: u64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To whom or to what.
    pub subject: String,
    /// How it ended.
    pub result: Outcome,
    /// Hash of the entry before; zeros for the first.
    #[serde(with = "hex::hash")]
    pub previous: [u8; 32],
    /// Its own hash, for people and for the recovery after a crash.
    #[serde(with = "hex::hash")]
    pub hash: [u8; 32],
}

impl Entry {
    pub(crate) fn new(number: u64, previous: [u8; 32], event: Event) -> Self {
        let Event { at_s, actor, action, subject, result } = event;
        let result = match result {
            Outcome::Done => Outcome::Done,
            Outcome::Refused(reason) => Outcome::Refused(cut(reason, REASON_MAX)),
        };
        let (actor, subject) = (cut(actor, NAME_MAX), cut(subject, NAME_MAX));
        let action = cut(action, ACTION_MAX);
        let mut entry =
            Self { number, at_s, actor, action, subject, result, previous, hash: [0; 32] };
        entry.hash = entry.computed();
        entry
    }

    /// The hash that its content comes to: over the fields in their order, numbers as 8 bytes
    /// big-endian, each text behind its length.
    #[must_use]
    pub fn computed(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(DOMAIN);
        context.update(&self.number.to_be_bytes());
        context.update(&self.at_s.to_be_bytes());
        let (result, reason) = match &self.result {
            Outcome::Done => (0, ""),
            Outcome::Refused(reason) => (1, reason.as_str()),
        };
        context.update(&[result]);
        for text in [&self.actor, &self.action, &self.subject, reason] {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        context.update(&self.previous);
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}

fn cut(text: String, most: usize) -> String {
    const SIGN: &str = "…";
    if text.len() <= most {
        return text;
    }
    let starts = text.char_indices().map(|(start, _)| start);
    let end = starts.take_while(|start| *start <= most - SIGN.len()).last().unwrap_or_default();
    text[..end].to_owned() + SIGN
}
