//! The stage for systemd-resolved, with the real one: on a bus of its own, in namespaces of its own.
//!
//! Debian's package changes the host's resolv.conf when it is installed, so it is not among those that
//! the tests install. `NAMES_RESOLVED=DIRECTORY` names where it is unpacked (`dpkg-deb -x`).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::NODES;
use super::bed::{Bed, HOST_V6, Served, can_run, zone};
use stoq_names::host::{Change, Resolved};
use stoq_names::{Outcome, ZoneKey};

/// Set in the test that runs again inside, to the mesh's domains.
const INSIDE: &str = "NAMES_INSIDE";

/// Anybody may do anything on this bus: it has no other users.
const BUS: &str = r#"<busconfig><type>system</type>
<listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="signal"/><allow receive_type="method_return"/><allow receive_type="error"/>
</policy></busconfig>"#;

/// With a `/run` and users of its own, starts both and then the test once more. It is the first
/// process of its namespace: what it leaves behind ends with it.
const SCRIPT: &str = r#"set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/systemd/resolve
for file in passwd group; do cp /etc/$file /run/$file; done
grep -q ^systemd-resolve: /run/passwd || echo 'systemd-resolve:x:991:991::/:/bin/false' >> /run/passwd
grep -q ^systemd-resolve: /run/group || echo 'systemd-resolve:x:991:' >> /run/group
for file in passwd group; do mount --bind /run/$file /etc/$file; done
chown systemd-resolve: /run/systemd/resolve
dbus-daemon --config-file="$1" --fork
"$2" 2>/run/log &
for try in $(seq 600); do resolvectl status >/dev/null 2>&1 && break; sleep 0.1; done
"$3" --exact resolved::resolved_asks_here_for_the_mesh_and_forgets_it --nocapture || { cat /run/log; exit 1; }
"#;

#[test]
fn resolved_asks_here_for_the_mesh_and_forgets_it() {
    if let Ok(domains) = env::var(INSIDE) {
        return inside(&domains);
    }
    let root = PathBuf::from(env::var_os("NAMES_RESOLVED").unwrap_or_else(|| "/".into()));
    let program = root.join("lib/systemd/systemd-resolved");
    if !can_run() {
        return;
    }
    if !program.exists() || !Path::new("/usr/bin/dbus-daemon").exists() {
        println!("skipped: needs dbus-daemon, and systemd-resolved, not at {}", program.display());
        return;
    }
    let bed = Bed::new();
    let zone = zone(&ZoneKey::generate().unwrap(), NODES, 1);
    let domains = zone.domains().join(" ");
    let served = Served::start(&bed.host, zone, vec![]);
    bed.host.set_resolvers("nameserver 127.0.0.53\n");
    let directory = tempfile::tempdir().unwrap();
    let bus = directory.path().join("bus.conf");
    fs::write(&bus, BUS).unwrap();
    let path = format!("{}:{}", root.join("usr/bin").display(), env::var("PATH").unwrap());
    let words = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", SCRIPT, "sh"];
    let output = bed
        .host
        .command(&words)
        .args([&bus, &program, &env::current_exe().unwrap()])
        .env("PATH", path)
        .env(INSIDE, domains)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(served.count(Outcome::Zone) >= 2, "{said}");
    assert_eq!(served.count(Outcome::Refused), 0, "only the mesh's names are asked here: {said}");
}

fn inside(domains: &str) {
    let stage = Resolved {
        interface: "stoq0".into(),
        server: HOST_V6.parse().unwrap(),
        domains: domains.split(' ').map(str::to_owned).collect(),
    };
    assert!(Resolved::is_there());
    assert!(!stage.check().mend.is_empty());
    assert_eq!(stage.apply().unwrap(), Change::Made);
    assert_eq!(stage.apply().unwrap(), Change::None);
    assert!(stage.check().mend.is_empty(), "{:?}", stage.check());
    let ask = |what: &str| {
        let output = Command::new("getent").args(["hosts", what]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(ask("edge-b.lab.internal").contains("fd42:1:2::2"));
    assert!(ask("fd42:1:2::3").contains("edge-c.lab.internal"));
    assert!(ask("10.9.0.3").contains("edge-c.lab.internal"));
    assert_eq!(ask("www.example.org"), "");
    assert_eq!(stage.undo().unwrap(), Change::Made);
    assert!(!stage.check().mend.is_empty());
    assert_eq!(ask("edge-a.lab.internal"), "");
}
