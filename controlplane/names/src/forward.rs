//! What this host asks that is no name of the mesh: asked of the host's resolvers, and remembered for
//! a while.
//!
//! Owns the list of resolvers, read from the files that other programs of the host keep, and the cache.
//! Called by the answering for the host's own queries only. It never asks itself: this server's
//! addresses and the mesh's prefixes are left out of the list, whoever put them there. Should another
//! resolver of the host send a question back here, it joins the one that is asked already and waits
//! with it, so that such a circle ends when the first question times out.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::{LowerName, Name};
use hickory_server::resolver::config::{NameServerConfig, ResolverOpts, ServerOrderingStrategy};
use hickory_server::store::forwarder::{ForwardConfig, ForwardZoneHandler};
use hickory_server::zone_handler::Catalog;
use ipnet::IpNet;
use tokio::time::Instant;
use tracing::{info, warn};

/// The most resolvers that are asked, as in resolv.conf(5).
const MAX_UPSTREAMS: usize = 3;

/// Answers that are remembered, at some hundred bytes to a few KiB each.
const CACHE_ENTRIES: u64 = 4096;

/// How long one resolver is waited for. Programs of the host wait five seconds for us (resolv.conf(5)).
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often each is asked.
const ATTEMPTS: usize = 2;

/// How soon a change of the files is seen.
const REREAD: Duration = Duration::from_secs(2);

/// Of a file this much is read: three lines count.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The forwarder.
#[derive(Debug)]
pub(crate) struct Forwarder {
    files: Vec<PathBuf>,
    own: Vec<IpAddr>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    read_at: Option<Instant>,
    upstreams: Vec<IpAddr>,
    catalog: Option<Arc<Catalog>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}

impl Forwarder {
    /// A forwarder to the resolvers of the first of these files that names any, but never to `own`.
    pub(crate) fn new(files: Vec<PathBuf>, own: Vec<IpAddr>) -> Self {
        Self { files, own, state: Mutex::default() }
    }

    /// What answers now; `None` when the host has no other resolver. `mesh` is the mesh's prefixes.
    pub(crate) fn catalog(&self, mesh: &[IpNet], now: Instant) -> Option<Arc<Catalog>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.read_at.is_some_and(|at| now < at + REREAD) {
            return state.catalog.clone();
        }
        state.read_at = Some(now);
        let upstreams = self.upstreams(mesh);
        if upstreams != state.upstreams || state.catalog.is_none() {
            info!(?upstreams, "resolvers of this host");
            state.catalog = forwarding(&upstreams);
            state.upstreams = upstreams;
        }
        state.catalog.clone()
    }

    fn upstreams(&self, mesh: &[IpNet]) -> Vec<IpAddr> {
        let usable = |address: &IpAddr| {
            let ours = self.own.contains(address) || mesh.iter().any(|net| net.contains(address));
            // To the kernel, an unspecified address is this host.
            !ours && !address.is_unspecified()
        };
        for file in &self.files {
            let found = nameservers(&read(file)).into_iter().filter(usable);
            let found: Vec<IpAddr> = found.take(MAX_UPSTREAMS).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}

fn forwarding(upstreams: &[IpAddr]) -> Option<Arc<Catalog>> {
    if upstreams.is_empty() {
        return None;
    }
    let name_servers = upstreams.iter().map(|address| NameServerConfig::udp_and_tcp(*address));
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = CACHE_ENTRIES;
    options.num_concurrent_reqs = 1;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.try_tcp_on_error = true;
    let config = ForwardConfig { name_servers: name_servers.collect(), options: Some(options) };
    let builder = ForwardZoneHandler::builder_with_config(config, TokioRuntimeProvider::default());
    let handler = builder.build().inspect_err(|error| warn!(%error, "no forwarder")).ok()?;
    let mut catalog = Catalog::new();
    catalog.upsert(LowerName::new(&Name::root()), vec![Arc::new(handler)]);
    Some(Arc::new(catalog))
}

/// A file's text; empty when it cannot be read.
fn read(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        let read = file.take(MAX_FILE_BYTES).read_to_end(&mut text);
        if let Err(error) = read {
            warn!(path = %path.display(), %error, "cannot read the host's resolvers");
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The addresses on `nameserver` lines (resolv.conf(5)). One with a zone (`fe80::1%eth0`) is left out.
pub(crate) fn nameservers(text: &str) -> Vec<IpAddr> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let is = words.next() == Some("nameserver");
        words.next().filter(|_| is)?.parse().ok()
    };
    text.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn forwarder(files: &[(&str, &str)]) -> (tempfile::TempDir, Forwarder) {
        let directory = tempfile::TempDir::new().unwrap();
        let paths = files.iter().map(|(name, text)| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        });
        let mut paths: Vec<PathBuf> = paths.collect();
        paths.insert(0, directory.path().join("missing"));
        let own = vec!["127.0.92.53".parse().unwrap(), "fd00::1".parse().unwrap()];
        (directory, Forwarder::new(paths, own))
    }

    fn mesh() -> Vec<IpNet> {
        vec!["fd42:1:2::/48".parse().unwrap()]
    }

    #[test]
    fn it_never_asks_itself_nor_the_mesh() {
        let ours = "nameserver 127.0.92.53\nnameserver fd00::1\nnameserver fd42:1:2::7\n\
                    nameserver 0.0.0.0\nnameserver ::\n";
        let (_directory, forwarder) = forwarder(&[("a", ours)]);
        assert_eq!(forwarder.upstreams(&mesh()), Vec::<IpAddr>::new());
        assert!(forwarder.catalog(&mesh(), Instant::now()).is_none());
    }

    #[test]
    fn the_first_file_that_names_another_resolver_counts() {
        let (_directory, forwarder) = forwarder(&[
            ("a", "nameserver 127.0.92.53\n"),
            ("b", "nameserver 127.0.92.53\nnameserver 192.0.2.1\n"),
            ("c", "nameserver 192.0.2.2\n"),
        ]);
        assert_eq!(forwarder.upstreams(&mesh()), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn lines_that_name_no_address_are_passed_over() {
        let text = "# nameserver 192.0.2.9\n; x\nnameserver\nnameserver x\nnameserver fe80::1%eth0\n\
                    nameserverx 192.0.2.8\n search nameserver 192.0.2.7\nnameserver\t2001:db8::1 # up\n\
                    \u{0}\u{fffd}\n  nameserver 192.0.2.1";
        let expected: Vec<IpAddr> =
            ["2001:db8::1", "192.0.2.1"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(nameservers(text), expected);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_change_of_the_file_is_seen_after_a_while() {
        let (directory, forwarder) = forwarder(&[("a", "")]);
        let now = Instant::now();
        assert!(forwarder.catalog(&mesh(), now).is_none());
        fs::write(directory.path().join("a"), "nameserver 192.0.2.1\n").unwrap();
        assert!(forwarder.catalog(&mesh(), now).is_none());
        let first = forwarder.catalog(&mesh(), now + REREAD).unwrap();
        let again = forwarder.catalog(&mesh(), now + 2 * REREAD).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "the cache stays while nothing changes");
    }
}
