//! The peers that the control plane pushed: their bounds, their file, and how they join those of the
//! configuration. Owned by the daemon; the file is read at the start, so that the last snapshot
//! holds with the control plane dead.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use stoq_control::{ErrorCode, MAX_REQUEST_BYTES, Refusal, Snapshot, SnapshotPeer};

use crate::config::{Config, Peer, Prefix, check_peer, overlapping};
use crate::durable;

/// Most peers of a snapshot: ten thousand connections are asked for, with room.
const PEERS_MAX: usize = 16_384;

/// Name of the file in the state directory.
const FILE: &str = "pushed-peers.json";

/// Why the persisted snapshot cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum PushedError {
    /// The file cannot be read or written.
    #[error("expected to use {path}, got: {source}; give the directory to stoqd's user")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is no snapshot.
    #[error(
        "expected a snapshot in {path}, got: {reason}; remove it, and the control plane pushes anew"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
}

/// A peer, and which keys its certificate must have if a member record names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The peer, as the configuration would have it.
    pub peer: Peer,
    /// Fingerprint of its keys.
    pub keys: Option<[u8; 32]>,
}

/// A member of the mesh, out of a verified record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// As a pushed peer.
    pub peer: SnapshotPeer,
    /// Fingerprint of its keys.
    pub keys: [u8; 32],
}

/// The snapshot in force, if there is one.
#[derive(Debug)]
pub struct PushedPeers {
    path: PathBuf,
    current: Option<Snapshot>,
    /// The members that the snapshot's bundle names.
    members: Vec<Member>,
}

impl PushedPeers {
    /// Reads the last snapshot from the state directory.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn open(state: &Path) -> Result<Self, PushedError> {
        let path = state.join(FILE);
        let text = durable::read(&path, MAX_REQUEST_BYTES)
            .map_err(|source| PushedError::Io { path: path.clone(), source })?;
        let malformed = |e: serde_json::Error| PushedError::Malformed {
            path: path.clone(),
            reason: e.to_string(),
        };
        let parse = |text: Vec<u8>| serde_json::from_slice(&text).map_err(malformed);
        let current = text.map(parse).transpose()?;
        Ok(Self { path, current, members: Vec::new() })
    }

    /// The bundle of the snapshot in force.
    #[must_use]
    pub fn bundle(&self) -> Option<&str> {
        self.current.as_ref()?.bundle.as_deref()
    }

    /// The members that a bundle names, once it was verified.
    pub fn set_members(&mut self, members: Vec<Member>) {
        self.members = members;
    }

    /// The number of the snapshot in force.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.current.as_ref().map(|snapshot| snapshot.number)
    }

    /// Checks a snapshot against the bounds of the configuration, persists it, and makes it the one
    /// in force.
    ///
    /// # Errors
    /// Why it is refused; then the one before stays in force.
    pub fn push(
        &mut self,
        snapshot: Snapshot,
        members: Vec<Member>,
        config: &Config,
    ) -> Result<(), Refusal> {
        let refuse = |message: String| Refusal::new(ErrorCode::Refused, message);
        check(&snapshot, &members, self.number(), config).map_err(refuse)?;
        let io = |source| refuse(PushedError::Io { path: self.path.clone(), source }.to_string());
        let text = serde_json::to_vec(&snapshot).map_err(|error| io(error.into()))?;
        durable::replace(&self.path, &text).map_err(io)?;
        self.current = Some(snapshot);
        self.members = members;
        Ok(())
    }

    /// The peers of the configuration and the pushed ones together, and what was left out of the
    /// latter: peers of the file win, and the bounds of the file hold for what was pushed earlier.
    #[must_use]
    pub fn merged(&self, config: &Config) -> (Vec<Known>, Vec<String>) {
        let of_file = |peer: &Peer| Known { peer: peer.clone(), keys: None };
        let mut peers: Vec<Known> = config.peers.iter().map(of_file).collect();
        let mut left_out = Vec::new();
        let Some(snapshot) = &self.current else { return (peers, left_out) };
        let names: HashSet<&str> = config.peers.iter().map(|peer| peer.name.as_str()).collect();
        let taken: HashSet<Prefix> =
            config.peers.iter().flat_map(|peer| peer.allowed_ips.iter().copied()).collect();
        let plain = snapshot.peers.iter().map(|peer| (peer, None));
        let members = self.members.iter().map(|member| (&member.peer, Some(member.keys)));
        for (pushed, keys) in plain.chain(members) {
            // A bundle names every member, so this node too.
            let own = pushed.name == config.node.name;
            if own && keys.is_some() {
                continue;
            }
            if own || names.contains(pushed.name.as_str()) {
                left_out.push(pushed.name.clone());
                continue;
            }
            let Ok(mut peer) = typed(pushed) else {
                left_out.push(pushed.name.clone());
                continue;
            };
            peer.allowed_ips.retain(|prefix| {
                let fine = bounded(*prefix, config) && !taken.contains(prefix);
                if !fine {
                    left_out.push(format!("{} {prefix}", pushed.name));
                }
                fine
            });
            peers.push(Known { peer, keys });
        }
        (peers, left_out)
    }
}

/// Whether root's file lets the control plane push this prefix.
fn bounded(prefix: Prefix, config: &Config) -> bool {
    config.control.prefixes.iter().any(|bound| bound.covers(prefix))
}

fn check(
    snapshot: &Snapshot,
    members: &[Member],
    current: Option<u64>,
    config: &Config,
) -> Result<(), String> {
    if let Some(current) = current.filter(|current| snapshot.number <= *current) {
        let got = snapshot.number;
        return Err(format!(
            "expected a snapshot above number {current}, got {got}; push the newest"
        ));
    }
    if snapshot.bundle.is_some() && !snapshot.peers.is_empty() {
        let got = snapshot.peers.len();
        return Err(format!("expected no peers beside a bundle, got {got}; its records name them"));
    }
    let count = snapshot.peers.len().max(members.len());
    if count > PEERS_MAX {
        return Err(format!("expected at most {PEERS_MAX} peers, got {count}; push fewer"));
    }
    let mut names = HashSet::new();
    let mut peers = Vec::with_capacity(count);
    for pushed in &snapshot.peers {
        let peer = typed(pushed)?;
        if !names.insert(pushed.name.as_str()) {
            return Err(format!("expected each peer once, got `{}` again; join them", pushed.name));
        }
        if let Some(outside) = peer.allowed_ips.iter().find(|prefix| !bounded(**prefix, config)) {
            return Err(format!(
                "expected prefixes within [control] prefixes, got {outside} of `{}`; \
                 widen it in the configuration, or push less",
                peer.name
            ));
        }
        peers.push(peer);
    }
    for member in members {
        let peer = typed(&member.peer)?;
        // Other networks beyond root's bounds are left out one by one: a member's new network must not
        // keep a revocation from this host. But nobody has all addresses behind it.
        let default = peer.allowed_ips.iter().find(|p| p.length() == 0 && !bounded(**p, config));
        if let Some(default) = default {
            return Err(format!(
                "expected networks of members, got {default} behind `{}`, which would take all \
                 traffic; whoever signed that record is not to be trusted",
                peer.name
            ));
        }
        peers.push(peer);
    }
    match overlapping(&peers).into_iter().next() {
        Some((_, _, message)) => Err(message),
        None => Ok(()),
    }
}

/// A pushed peer in the types of the configuration, by the same rules.
fn typed(pushed: &SnapshotPeer) -> Result<Peer, String> {
    let mut allowed_ips = Vec::with_capacity(pushed.allowed_ips.len());
    for text in &pushed.allowed_ips {
        allowed_ips.push(text.parse().map_err(|error| format!("peer `{}`: {error}", pushed.name))?);
    }
    let (name, endpoints) = (pushed.name.clone(), pushed.endpoints.clone());
    let peer = Peer { name, endpoints, allowed_ips };
    match check_peer(&peer).into_iter().next() {
        Some((key, message)) => Err(format!("peer `{}`: {key}: {message}", peer.name)),
        None => Ok(peer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE_TEXT: &str = "
[node]
name = 'edge-a'
[identity]
certificate = 'c'
key = 'k'
authority = 'a'
[control]
prefixes = ['10.0.0.0/8']
[[peer]]
name = 'edge-b'
allowed_ips = ['10.2.0.0/16']
";

    fn config(text: &str) -> Config {
        Config::parse(Path::new("stoqd.toml"), text).unwrap()
    }

    fn peer(name: &str, allowed_ips: &[&str]) -> SnapshotPeer {
        let allowed_ips = allowed_ips.iter().map(ToString::to_string).collect();
        SnapshotPeer { name: name.into(), endpoints: Vec::new(), allowed_ips }
    }

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("stoqd-pushed-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_snapshot_outlives_a_restart_and_older_ones_are_refused() {
        let state = directory("restart");
        let config = config(FILE_TEXT);
        let mut pushed = PushedPeers::open(&state).unwrap();
        assert_eq!(pushed.number(), None);
        let snapshot = Snapshot { number: 5, peers: vec![peer("edge-c", &["10.3.0.0/16"])], bundle: None };
        pushed.push(snapshot.clone(), Vec::new(), &config).unwrap();
        let mut again = PushedPeers::open(&state).unwrap();
        assert_eq!(again.number(), Some(5));
        let (peers, left_out) = again.merged(&config);
        let names: Vec<_> = peers.iter().map(|known| known.peer.name.as_str()).collect();
        assert_eq!((names, left_out.len()), (vec!["edge-b", "edge-c"], 0));
        for number in [0, 4, 5] {
            let refusal = again.push(Snapshot { number, ..snapshot.clone() }, Vec::new(), &config).unwrap_err();
            assert!(refusal.message.contains("above number 5"), "{}", refusal.message);
        }
        again.push(Snapshot { number: 6, peers: Vec::new(), bundle: None }, Vec::new(), &config).unwrap();
        assert_eq!(again.merged(&config).0.len(), 1);
        std::fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn snapshots_beyond_the_bounds_are_refused_whole() {
        let state = directory("bounds");
        let config = config(FILE_TEXT);
        let mut pushed = PushedPeers::open(&state).unwrap();
        let cases: &[(&[SnapshotPeer], &str)] = &[
            (&[peer("edge-c", &["11.0.0.0/16"])], "[control] prefixes"),
            (&[peer("edge-c", &["0.0.0.0/0"])], "[control] prefixes"),
            (&[peer("edge-c", &["10.3.0.1/16"])], "host bits"),
            (&[peer("Edge C", &[])], "1 to 63"),
            (&[peer("edge-c", &[]), peer("edge-c", &[])], "once"),
            (&[peer("edge-c", &["10.3.0.0/16"]), peer("edge-d", &["10.3.0.0/16"])], "`edge-c` and"),
        ];
        for (peers, part) in cases {
            let snapshot = Snapshot { number: 1, peers: peers.to_vec(), bundle: None };
            let refusal = pushed.push(snapshot, Vec::new(), &config).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::Refused);
            assert!(refusal.message.contains(part), "{}", refusal.message);
        }
        assert_eq!(pushed.number(), None);
        assert!(!state.join(FILE).exists());
        std::fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn peers_of_the_file_win_and_narrower_bounds_hold_for_earlier_pushes() {
        let state = directory("merge");
        let mut pushed = PushedPeers::open(&state).unwrap();
        let peers = vec![
            peer("edge-b", &["10.9.0.0/16"]),
            peer("edge-c", &["10.2.0.0/16", "10.3.0.0/16"]),
            peer("edge-a", &[]),
        ];
        pushed.push(Snapshot { number: 1, peers, bundle: None }, Vec::new(), &config(FILE_TEXT)).unwrap();
        let (peers, left_out) = pushed.merged(&config(FILE_TEXT));
        assert_eq!(peers.len(), 2);
        assert_eq!(peers[0].peer.allowed_ips, ["10.2.0.0/16".parse().unwrap()]);
        assert_eq!(peers[1].peer.allowed_ips, ["10.3.0.0/16".parse().unwrap()]);
        assert_eq!(left_out, ["edge-b", "edge-c 10.2.0.0/16", "edge-a"]);
        let narrower = config(&FILE_TEXT.replace("10.0.0.0/8", "10.4.0.0/16"));
        assert!(pushed.merged(&narrower).0[1].peer.allowed_ips.is_empty());
        std::fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn a_broken_file_is_named() {
        let state = directory("broken");
        std::fs::write(state.join(FILE), "{").unwrap();
        let error = PushedPeers::open(&state).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("remove it"), "{error}");
        std::fs::remove_dir_all(&state).unwrap();
    }
}
