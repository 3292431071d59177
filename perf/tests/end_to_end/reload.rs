//! Every key that the reference marks *reload* takes effect by a reload, seen from outside, while the link
//! stays the same connection; what is refused changes nothing, and many reloads leave nothing behind.

use crate::{Fixture, SOON};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;
use stoq_perf::bed::{Family, Side, middle};
use stoq_perf::continuity::reload;
use stoq_perf::measure::flow::Flow;
use stoq_perf::node::{Node, NodeConfig};
use stoq_perf::{process, wait, workspace};

/// Keys that other tests see take effect: those of the XDP program, of the mesh's logs and clock, of what a
/// control plane pushes, and of tiers. That a reload takes them over at all is tested with the table.
const ELSEWHERE: &[&str] = &[
    "xdp.deny",
    "xdp.malformed",
    "xdp.initial",
    "xdp.initial_per_source",
    "xdp.initial_total",
    "xdp.version",
    "xdp.forged",
    "xdp.old_generation",
    "identity.log_grace_s",
    "identity.outlive_issuer_s",
    "control.prefixes",
    "tier.readings",
    "tier.stay_s",
];

/// How long what follows a reload may take on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Records that show that the flow goes on.
const GOES_ON: u64 = 200;

/// Reloads in a row, and what they may leave in memory: far less than one certificate each.
const MANY: usize = 100;
const BATCHES: usize = 4;
const GROWTH: u64 = 1 << 18;

/// Reloads that are asked for at the same time.
const AT_ONCE: usize = 4;

/// A peer that only the changed file has, at the host in the middle.
const OTHER_PREFIX: &str = "10.78.0.0/16";

/// Users without privilege, one for each right.
const READER: u32 = 4242;
const OPERATOR: u32 = 4243;
const PUSHER: u32 = 4244;

/// Counts packets with a long header (RFC 9000 §17.2) to B, which only handshakes have, and all to the
/// middle.
const COUNTERS: &str = "table inet seen {
    counter handshakes {}
    counter elsewhere {}
    chain out {
        type filter hook output priority 0;
        ip6 daddr fd00:99::2 udp dport 9292 @th,64,1 1 counter name handshakes
        ip6 daddr fd00:99::3 udp dport 9292 counter name elsewhere
    }
}";

#[test]
fn every_reloadable_key_takes_effect_and_the_link_stays() {
    crate::run("every_reloadable_key_takes_effect", "mio", |fixture| {
        let mut world = World::start(fixture);
        covers_the_reference();
        // Those of the identity replace the connection, as they should.
        let (identity, other): (Vec<&Row>, Vec<&Row>) =
            ROWS.into_iter().partition(|row| row.keys[0].starts_with("identity."));
        let before = world.count("handshakes");
        other.into_iter().for_each(|row| world.try_out(row));
        world.refusals_change_nothing();
        world.reloads_at_once_all_succeed();
        world.many_reloads_leave_nothing();
        assert_eq!(world.count("handshakes"), before, "the link was connected again");
        identity.into_iter().for_each(|row| world.try_out(row));
        world.finish();
    });
}

/// Keys, how the file is changed (its settings, and text behind them), and how their effect is seen.
struct Row {
    keys: &'static [&'static str],
    /// Whether packets go on while it is set.
    carries: bool,
    change: fn(&World, &mut NodeConfig) -> String,
    seen: fn(&World) -> Result<(), String>,
}

/// All of them.
const ROWS: [&Row; 7] = [&PEER, &SERVICE, &CONTROL, &LOG, &ROUTES, &CERTIFICATE, &AUTHORITY];

const PEER: Row = Row {
    keys: &["peer.name", "peer.endpoints", "peer.allowed_ips"],
    carries: true,
    change: |_, config| {
        config.over(&[Family::V6]);
        let to = middle(Family::V6);
        format!(
            "[[peer]]\nname = \"edge-c\"\nendpoints = [\"[{to}]:9292\"]\n\
                     allowed_ips = [\"{OTHER_PREFIX}\"]\n"
        )
    },
    seen: |world| {
        let status = world.a.status().map_err(|error| error.to_string())?;
        let routes = world.routes();
        let named = status["links"].as_array().is_some_and(|links| links.len() == 2);
        let dialled = world.count("elsewhere") > world.dialled_before;
        let all = named && dialled && routes.contains(OTHER_PREFIX);
        all.then_some(()).ok_or(format!("{routes}{status}, dialled: {dialled}"))
    },
};

const SERVICE: Row = Row {
    keys: &["service.name", "service.socket", "service.peers", "service.announce"],
    carries: true,
    change: |world, _| {
        let socket = world.service_path();
        format!(
            "[[service]]\nname = \"late\"\nsocket = {socket:?}\npeers = [\"edge-b\"]\n\
                     announce = true\n"
        )
    },
    seen: |world| world.service_answers(),
};

const CONTROL: Row = Row {
    keys: &["control.read_uids", "control.operate_uids", "control.push_uids"],
    carries: true,
    change: |_, config| {
        config
            .set("control.read_uids", &format!("[{READER}]"))
            .set("control.operate_uids", &format!("[{OPERATOR}]"))
            .set("control.push_uids", &format!("[{PUSHER}]"));
        String::new()
    },
    seen: |world| {
        world.as_user(READER, "status")?;
        world.as_user(OPERATOR, "reload")?;
        world.as_user(PUSHER, "status")
    },
};

const LOG: Row = Row {
    keys: &["log.level"],
    carries: true,
    change: |_, config| {
        config.set("log.level", "\"debug\"");
        String::new()
    },
    seen: |world| {
        let before = world.debug_lines();
        // Each reload says what it read, one level below what is usual.
        world.a.ctl(&["reload"]).map_err(|error| error.to_string())?;
        let more = world.debug_lines() > before;
        more.then_some(()).ok_or("no line of level DEBUG".to_owned())
    },
};

const ROUTES: Row = Row {
    keys: &["tunnel.routes"],
    carries: false,
    change: |_, config| {
        config.set("tunnel.routes", "\"off\"");
        String::new()
    },
    seen: |world| {
        let routes = world.routes();
        if routes.contains("10.2.0.0/16") { Err(routes) } else { Ok(()) }
    },
};

const CERTIFICATE: Row = Row {
    keys: &["identity.certificate", "identity.key"],
    carries: true,
    change: |world, config| {
        let mesh = &world.fixture.deployment.mesh;
        let folder = world.folder("renewed");
        mesh.issue("edge-a", &folder).unwrap();
        config
            .set("identity.certificate", &format!("{:?}", folder.join("node.crt")))
            .set("identity.key", &format!("{:?}", folder.join("node.key")));
        String::new()
    },
    seen: |world| {
        let serial = world.serial();
        (serial != world.serial).then_some(()).ok_or(serial)
    },
};

const AUTHORITY: Row = Row {
    keys: &["identity.authority"],
    carries: true,
    // With the roots of two files the certificate is as good, and the verifier is another.
    change: |world, config| {
        let own = world.fixture.deployment.mesh.identity(Side::A).join("ca.crt");
        let copy = world.folder("").join("roots.crt");
        let text = fs::read_to_string(own).unwrap();
        fs::write(&copy, format!("{text}{text}")).unwrap();
        config.set("identity.authority", &format!("{copy:?}"));
        String::new()
    },
    seen: |world| {
        let log = world.a.process.log();
        let used = log.matches("another certificate is in use").count();
        // The other certificate, the first one again, and these roots.
        (used % 2 == 1).then_some(()).ok_or(format!("{used} times"))
    },
};

/// Of every file here: a link that traffic puts into another tier would replace its connection.
fn steady(fixture: &Fixture) -> NodeConfig {
    let mut config = fixture.config();
    config.set("tier.readings", "240").set("tier.stay_s", "3600");
    config
}

/// Every key of the reference that a reload applies is in a row or tested elsewhere.
fn covers_the_reference() {
    let path = workspace::root().join("docs/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let (mut section, mut found) = ("", 0);
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## `") {
            section = title.trim_matches(['[', ']', '`']);
        }
        let Some((key, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) else {
            continue;
        };
        if rest.contains("| reload |") {
            let name = format!("{section}.{key}");
            let known = ROWS.iter().any(|row| row.keys.contains(&&*name));
            assert!(known || ELSEWHERE.contains(&&*name), "no test sees `{name}` take effect");
            found += 1;
        }
    }
    let known = ROWS.iter().map(|row| row.keys.len()).sum::<usize>() + ELSEWHERE.len();
    assert_eq!(found, known, "a key of the tests is not in the reference");
}

/// Two nodes with a link, and a TCP flow through it.
struct World<'bed> {
    fixture: &'bed Fixture<'bed>,
    a: Node,
    b: Node,
    flow: Flow,
    serial: String,
    dialled_before: u64,
    service: UnixListener,
    socket: PathBuf,
}

impl<'bed> World<'bed> {
    fn start(fixture: &'bed Fixture<'bed>) -> Self {
        let (a, b) = fixture.deployment.start_both(&steady(fixture)).unwrap();
        fixture.wait_for_sites(SOON);
        fixture.bed.a.namespace.nft(COUNTERS).unwrap();
        let hosts = (fixture.host(Side::A), fixture.host(Side::B));
        let flow = Flow::start(hosts.0, hosts.1, Side::B.host(Family::V6)).unwrap();
        let service = UnixListener::bind(fixture.bed.folder().join("late.sock")).unwrap();
        service.set_nonblocking(true).unwrap();
        let serial = serial_of(&a);
        let file = fixture.deployment.write(Side::A, &steady(fixture)).unwrap();
        let socket = file.with_file_name("stoqd.sock");
        // The folder of the keys is root's alone; the users of this test have to pass to the socket.
        for folder in socket.ancestors().skip(1).take(2) {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { fixture, a, b, flow, serial, dialled_before: 0, service, socket }
    }

    /// Reloads with the row's change and without it, and sees each take effect.
    fn try_out(&mut self, row: &Row) {
        let seen = |world: &Self| (row.seen)(world);
        assert!(seen(self).is_err(), "{:?} have their effect before they are set", row.keys);
        let mut config = steady(self.fixture);
        let more = (row.change)(self, &mut config);
        self.dialled_before = self.count("elsewhere");
        self.write(&config, &more);
        reload(&mut self.a).unwrap();
        wait::until(&format!("the effect of {:?}", row.keys), PATIENCE, || seen(self)).unwrap();
        if row.carries {
            self.goes_on();
        }
        self.write(&steady(self.fixture), "");
        reload(&mut self.a).unwrap();
        self.dialled_before = u64::MAX;
        wait::until(&format!("the end of {:?}", row.keys), PATIENCE, || match seen(self) {
            Ok(()) => Err("as before".to_owned()),
            Err(_) => Ok(()),
        })
        .unwrap();
        self.goes_on();
    }

    fn refusals_change_nothing(&mut self) {
        let good = self.write(&steady(self.fixture), "");
        let mut unreadable = steady(self.fixture);
        unreadable
            .set("identity.certificate", "\"/nowhere/node.crt\"")
            .set("tunnel.routes", "\"off\"");
        let unreadable = fs::read_to_string(self.write(&unreadable, "")).unwrap();
        let foreign = self.foreign();
        for (text, reason) in [
            ("[node", "stoqd.toml:1"),
            (unreadable.as_str(), "/nowhere/node.crt"),
            (&foreign, "certificate"),
        ] {
            fs::write(&good, text).unwrap();
            let refusal = self.a.ctl(&["reload"]).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{refusal}");
            assert!(self.routes().contains("10.2.0.0/16"), "a refused reload took routes away");
            assert_eq!(self.serial(), self.serial);
            self.goes_on();
        }
        self.write(&steady(self.fixture), "");
        assert!(self.a.ctl(&["reload"]).is_ok(), "an unchanged file");
    }

    /// A good file with the certificate of another mesh, and without routes.
    fn foreign(&self) -> String {
        let folder = self.folder("foreign");
        let binaries = self.fixture.deployment.binaries();
        let foreign = stoq_perf::node::Mesh::create(&folder, "elsewhere", binaries).unwrap();
        let mut config = steady(self.fixture);
        config.set("tunnel.routes", "\"off\"");
        for (key, file) in [("certificate", "node.crt"), ("key", "node.key")] {
            let path = foreign.identity(Side::A).join(file);
            config.set(&format!("identity.{key}"), &format!("{path:?}"));
        }
        fs::read_to_string(self.write(&config, "")).unwrap()
    }

    fn many_reloads_leave_nothing(&mut self) {
        let mut readings = Vec::new();
        for _ in 0..=BATCHES {
            (0..MANY).for_each(|_| reload(&mut self.a).unwrap());
            let process = &self.a.process;
            readings.push((process.descriptors(), process.resident_bytes()));
        }
        println!("descriptors and bytes after each {MANY} reloads: {readings:?}");
        // The first ones fill what is kept for the next; a leak grows with each batch.
        let gained = readings.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1));
        assert!(readings.iter().all(|reading| reading.0 == readings[0].0), "{readings:?}");
        assert!(gained.min() <= Some(GROWTH), "{readings:?}");
        self.goes_on();
    }

    /// Some are asked for while others run.
    fn reloads_at_once_all_succeed(&self) {
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| self.a.ctl(&["reload"]).unwrap());
            }
        });
        self.goes_on();
    }

    fn goes_on(&self) {
        self.flow.wait_for_more(GOES_ON, PATIENCE).unwrap();
        for node in [&self.a, &self.b] {
            assert!(!node.process.log().contains("link down"), "{}", node.process.log());
        }
    }

    fn finish(self) {
        self.flow.finish().unwrap();
        assert_eq!(self.a.stop().unwrap().code(), Some(0));
    }

    fn write(&self, config: &NodeConfig, more: &str) -> PathBuf {
        let path = self.fixture.deployment.write(Side::A, config).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "\n" + more).unwrap();
        path
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.fixture.bed.folder().join(name)
    }

    fn service_path(&self) -> PathBuf {
        self.folder("late.sock")
    }

    /// Opens a stream to the service, which hears who opened it.
    fn service_answers(&self) -> Result<(), String> {
        let mut heard = String::new();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| self.b.ctl(&["stream", "edge-a", "late"]));
            let ended = wait::until("the end of the stream", PATIENCE, || {
                // To its end, so that the stream ends for the other side too.
                if let Ok((mut stream, _)) = self.service.accept() {
                    stream.read_to_string(&mut heard).map_err(|error| error.to_string())?;
                }
                if asked.is_finished() { Ok(()) } else { Err("it is open".to_owned()) }
            });
            ended.map_err(|error| error.to_string())?;
            let asked = asked.join().map_err(|_| "a panic".to_owned())?;
            asked.map(drop).map_err(|error| error.to_string())
        })?;
        heard.starts_with("{\"peer\":\"edge-b\"").then_some(()).ok_or(heard)
    }

    fn count(&self, counter: &str) -> u64 {
        let words = format!("list counter inet seen {counter}");
        let printed = self.fixture.bed.a.namespace.nft(&words).unwrap();
        let (_, behind) = printed.split_once("packets ").unwrap();
        behind.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn routes(&self) -> String {
        self.fixture.bed.a.namespace.ip("route show").unwrap()
    }

    fn serial(&self) -> String {
        serial_of(&self.a)
    }

    fn debug_lines(&self) -> usize {
        self.a.process.log().matches(" DEBUG ").count()
    }

    /// Runs a command of `stoqctl` as a user without privilege.
    fn as_user(&self, uid: u32, word: &str) -> Result<(), String> {
        let stoqctl = &self.fixture.deployment.binaries().stoqctl;
        let mut command = self.fixture.bed.a.namespace.command("setpriv");
        command.args(["--reuid", &uid.to_string(), "--clear-groups"]).arg(stoqctl);
        command.arg("--socket").arg(&self.socket).arg(word);
        process::run(&mut command).map(drop).map_err(|error| error.to_string())
    }
}

fn serial_of(node: &Node) -> String {
    node.status().unwrap()["certificate"]["serial"].as_str().unwrap().to_owned()
}
