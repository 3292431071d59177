//! Answers for the mesh's names on this host, as the ledger has them.
//!
//! Owns the servers of names, one for each address, and the key of the zones. Nothing here ends the
//! daemon: where no server can be had, that is a warning of the status, and it is tried again.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hypermesh_api::TrustAnchor;
use ipnet::IpNet;
use stoq_names::{
    Audience, Config, ListenError, Listener, Member, Mesh, Names, Outcome, Zone, ZoneKey,
};

use crate::app::App;
use crate::core::Core;
use crate::files::{self, Dir};
use crate::refused::Refused;
use crate::{bundling, clock};

/// How often the age of the signatures is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How soon an address that could not be had is tried again: stoqd may be about to start. Twice as long
/// each time, up to [`LOOK_EVERY`]: stoqd logs whom it refuses.
const RETRY: Duration = Duration::from_secs(2);

/// The servers, and what keeps some from running.
#[derive(Debug)]
pub struct NameService {
    /// Where this host asks.
    host: IpAddr,
    state: Mutex<Serving>,
}

#[derive(Debug, Default)]
struct Serving {
    servers: BTreeMap<IpAddr, Names>,
    warnings: Vec<String>,
    /// What they serve.
    zone: Option<Arc<Zone>>,
}

/// What is served at a height of the ledger.
struct Wanted {
    height: u64,
    mesh: Mesh,
    members: Vec<Member>,
    /// This node's tunnel addresses.
    own: Vec<IpAddr>,
    dir: Dir,
}

/// A zone as it was last built.
struct Built {
    height: u64,
    at_s: u64,
    zone: Arc<Zone>,
}

impl NameService {
    /// One that answers this host at `host`, once it runs.
    #[must_use]
    pub fn new(host: IpAddr) -> Self {
        Self { host, state: Mutex::default() }
    }

    /// What the operator should mend.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    /// Where this host asks, for which domains, and by what their signatures are verified.
    #[must_use]
    pub fn answers_for(&self) -> hypermesh_api::Names {
        let zone = self.state().zone.clone();
        let anchors = zone.iter().flat_map(|zone| zone.anchors()).map(|anchor| TrustAnchor {
            zone: anchor.zone.clone(),
            dnskey: anchor.dnskey.clone(),
            ds: anchor.ds.clone(),
        });
        hypermesh_api::Names {
            server: self.host,
            anchors: anchors.collect(),
            domains: zone.as_ref().map(|zone| zone.domains()).unwrap_or_default(),
        }
    }

    /// What became of the queries, by all servers.
    #[must_use]
    pub fn queries(&self) -> [(Outcome, u64); Outcome::ALL.len()] {
        let state = self.state();
        let counters: Vec<_> = state.servers.values().map(Names::counters).collect();
        Outcome::ALL.map(|outcome| (outcome, counters.iter().map(|c| c.get(outcome)).sum()))
    }

    /// Serves the zone on these addresses and on the host's, and nowhere else. Returns those of them where
    /// no server runs yet.
    fn serve(&self, own: &[IpAddr], zone: &Arc<Zone>) -> Vec<(IpAddr, Audience)> {
        let peers = own.iter().map(|address| (*address, Audience::Peers));
        let mut wanted: BTreeMap<_, _> = peers.chain([(self.host, Audience::Host)]).collect();
        let mut state = self.state();
        state.zone = Some(Arc::clone(zone));
        state.servers.retain(|address, _| wanted.contains_key(address));
        for (address, server) in &state.servers {
            server.replace(Arc::clone(zone));
            wanted.remove(address);
        }
        wanted.into_iter().collect()
    }

    /// Answers at a listener from now on.
    fn start(&self, listener: Listener, zone: &Arc<Zone>) -> Result<(), String> {
        let address = listener.address().ip();
        let config = Config { listeners: vec![listener], upstreams: Config::default_upstreams() };
        let names = Names::start(config, Arc::clone(zone)).map_err(|error| error.to_string())?;
        tracing::info!(%address, "names are served");
        self.state().servers.insert(address, names);
        Ok(())
    }

    /// Ends all servers.
    fn stop(&self) {
        let mut state = self.state();
        state.servers.clear();
        state.zone = None;
    }

    /// Puts the warnings into the status; a new one is logged.
    fn warn(&self, warnings: Vec<String>) {
        let mut state = self.state();
        for warning in warnings.iter().filter(|warning| !state.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        state.warnings = warnings;
    }

    fn state(&self) -> MutexGuard<'_, Serving> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sockets at an address: our own, or, as the unit leaves us no privilege for port 53, those that stoqd
/// opens for us.
async fn listener(app: &App, address: IpAddr, audience: Audience) -> Result<Listener, String> {
    match Listener::bind(address, audience) {
        Err(ListenError::Bind { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {}
        other => return other.map_err(|error| error.to_string()),
    }
    let given = app.stoqd().names(address).await.map_err(|error| error.to_string())?;
    Listener::from_sockets(given.0, given.1, audience).map_err(|error| error.to_string())
}

/// Runs for as long as the daemon does: a zone at every change of the ledger, and in time anew.
pub async fn run(app: App) {
    let mut height = app.height();
    let mut built = None;
    let mut retry = RETRY;
    loop {
        let warnings = match refresh(&app, &mut built).await {
            Ok(warnings) => warnings,
            Err(error) => vec![format!("names are not up to date: {error}")],
        };
        let (look, longer) =
            if warnings.is_empty() { (LOOK_EVERY, RETRY) } else { (retry, retry * 2) };
        retry = longer.min(LOOK_EVERY);
        app.names().warn(warnings);
        // A change or the next look, whichever comes first.
        let _ = tokio::time::timeout(look, height.changed()).await;
    }
}

/// Serves what the ledger says now.
async fn refresh(app: &App, built: &mut Option<Built>) -> Result<Vec<String>, Refused> {
    let Some(wanted) = app.core(|core| Ok(wanted(core))).await? else {
        app.names().stop();
        *built = None;
        return Ok(Vec::new());
    };
    let (now_s, own, height) = (clock::now_s(), wanted.own.clone(), wanted.height);
    let good = built.as_ref().filter(|built| built.is_good(height, now_s));
    let zone = match good {
        Some(built) => Arc::clone(&built.zone),
        None => {
            let build = tokio::task::spawn_blocking(move || build(&wanted));
            let zone = Arc::new(build.await.map_err(Refused::internal)??);
            *built = Some(Built { height, at_s: now_s, zone: Arc::clone(&zone) });
            zone
        }
    };
    let mut warnings = Vec::new();
    for (address, audience) in app.names().serve(&own, &zone) {
        let listener = listener(app, address, audience).await;
        let started = listener.and_then(|listener| app.names().start(listener, &zone));
        warnings
            .extend(started.err().map(|why| format!("names are not served at {address}: {why}")));
    }
    Ok(warnings)
}

impl Built {
    /// Whether it says what the ledger says, and its signatures are young. A clock that was set back
    /// makes them too young.
    fn is_good(&self, height: u64, now_s: u64) -> bool {
        let young = now_s.checked_sub(self.at_s).is_some_and(|age| age < Zone::REBUILD.as_secs());
        self.height == height && young
    }
}

/// What the ledger says; none on a host that belongs to no mesh.
fn wanted(core: &mut Core) -> Option<Wanted> {
    let dir = core.dir.clone();
    let membership = core.mesh().ok().filter(|membership| !membership.standing.left)?;
    let (ledger, server) = (membership.chain.ledger(), membership.standing.node.clone());
    let of = |member| {
        let addresses = bundling::addresses(ledger, member);
        addresses.iter().map(IpNet::addr).collect::<Vec<_>>()
    };
    let own = of(ledger.member(&server)?);
    let mesh = ledger.mesh()?;
    let prefixes = [Some(mesh.prefix.into()), mesh.ipv4.map(Into::into)];
    let members = ledger
        .members()
        .map(|(name, member)| Member { name: name.to_owned(), addresses: of(member) })
        .collect();
    let prefixes = prefixes.into_iter().flatten().collect();
    let mesh = Mesh { name: mesh.name.clone(), server, prefixes };
    Some(Wanted { height: ledger.height(), mesh, members, own, dir })
}

/// Builds and signs the zone.
fn build(wanted: &Wanted) -> Result<Zone, Refused> {
    let key = key(&wanted.dir)?;
    // The ledger's height modulo 2³²: serial numbers wrap (RFC 1982).
    let [.., a, b, c, d] = wanted.height.to_be_bytes();
    let serial = u32::from_be_bytes([a, b, c, d]);
    let (mesh, members) = (&wanted.mesh, &wanted.members);
    Zone::build(mesh, members, serial, &key, clock::system_time()).map_err(Refused::internal)
}

/// The key of the zones: read, or made once. It is this host's own trust anchor, so it stays.
fn key(dir: &Dir) -> Result<ZoneKey, Refused> {
    if let Some(pem) = dir.read(files::ZONE_KEY)? {
        return ZoneKey::from_pem(&pem).map_err(Refused::internal);
    }
    let key = ZoneKey::generate().map_err(Refused::internal)?;
    dir.write(files::ZONE_KEY, 0o600, key.to_pem().as_bytes())?;
    Ok(key)
}
