//! Tests of the configuration as a whole: the documented file, the errors, the table of keys.

use std::path::Path;

use super::*;

/// The file of the interface document.
const DOCUMENTED: &str = include_str!("documented.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("stoqd.toml"), text)
}

/// The documented file with one text replaced by another.
fn changed(from: &str, to: &str) -> String {
    assert!(DOCUMENTED.contains(from), "{from}");
    DOCUMENTED.replacen(from, to, 1)
}

fn refusal(from: &str, to: &str) -> String {
    parse(&changed(from, to)).unwrap_err().to_string()
}

/// The line of the documented file in which a text stands.
fn line_of(text: &str) -> usize {
    1 + DOCUMENTED.lines().position(|line| line.contains(text)).unwrap()
}

#[test]
fn the_documented_file_is_accepted() {
    let config = parse(DOCUMENTED).unwrap();
    assert_eq!(config.node.name, "edge-a");
    assert_eq!(config.transport.cores, Some(vec![0]));
    let tunnel = config.tunnel.unwrap();
    assert_eq!(tunnel.addresses[1].to_string(), "fd48:4d00::1/64");
    assert_eq!(config.peers[0].allowed_ips[2].to_string(), "10.2.0.0/16");
    assert_eq!(config.metrics.unwrap().listen.port(), 9293);
}

#[test]
fn the_file_that_the_package_installs_is_accepted() {
    let config = parse(include_str!("../../../../packaging/stoqd.toml")).unwrap();
    assert_eq!(config.identity.certificate, Path::new("/etc/stoq/pki/node.crt"));
    assert!(config.tunnel.is_none() && config.peers.is_empty());
}

#[test]
fn the_least_file_has_the_defaults_of_the_table() {
    let least = "[node]\nname='a'\n[identity]\ncertificate='c'\nkey='k'\nauthority='r'\n\
                 [tunnel]\n[metrics]\n[[peer]]\nname='b'\n\
                 [[service]]\nname='s'\nsocket='s'\npeers=[]\n";
    let config = parse(least).unwrap();
    let whole = serde_json::to_value(&config).unwrap();
    for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
        let path = key
            .name
            .replace("peer.", "peer.0.")
            .replace("service.", "service.0.")
            .replace('.', "/");
        let got = whole.pointer(&format!("/{path}")).unwrap();
        let expected = match key.default {
            "none" => serde_json::Value::Null,
            given => serde_json::from_str(given).unwrap(),
        };
        assert_eq!(*got, expected, "{}", key.name);
    }
}

#[test]
fn the_table_names_every_key_there_is() {
    fn leaves(path: &str, value: &serde_json::Value, into: &mut Vec<String>) {
        let fields = match value {
            serde_json::Value::Object(fields) => fields,
            serde_json::Value::Array(items) if path == "peer" || path == "service" => {
                items[0].as_object().unwrap()
            }
            _ => return into.push(path.to_owned()),
        };
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(&path, value, into);
        }
    }
    let mut found = Vec::new();
    leaves("", &serde_json::to_value(parse(DOCUMENTED).unwrap()).unwrap(), &mut found);
    found.sort_unstable();
    let mut table: Vec<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    table.sort_unstable();
    assert_eq!(found, table);
}

/// The documented file with every key given another value.
const OTHER: &str = include_str!("other.toml");

#[test]
fn a_reload_takes_the_keys_that_are_marked_and_no_other() {
    let (running, new) = (parse(DOCUMENTED).unwrap(), parse(OTHER).unwrap());
    let reloaded = running.reloaded(new.clone());
    for key in KEYS {
        let name = key.name.replace("peer.", "peer.0.").replace("service.", "service.0.");
        assert_ne!(
            running.value(&name),
            new.value(&name),
            "{name} has to differ in the test's files"
        );
        let expected = if key.reloadable { &new } else { &running };
        assert_eq!(reloaded.value(&name), expected.value(&name), "{name}");
    }
    let named: Vec<_> = KEYS.iter().filter(|key| !key.reloadable).map(|key| key.name).collect();
    assert_eq!(Config::diff(&reloaded, &new), named, "a second reload names them again");
}

#[test]
fn a_reload_makes_no_tunnel_and_takes_none_away() {
    let with = parse(DOCUMENTED).unwrap();
    let without = Config { tunnel: None, ..with.clone() };
    assert!(with.reloaded(without.clone()).tunnel.is_some());
    assert!(without.reloaded(with).tunnel.is_none());
}

#[test]
fn the_reference_document_is_made_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("STOQ_WRITE_DOCS").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == reference(), "run the tests with STOQ_WRITE_DOCS=1 and commit the document");
}

#[test]
fn unknown_keys_name_the_nearest() {
    let cases = [
        ("device    =", "devise    =", "`tunnel.device`"),
        ("[tunnel]", "[tunel]", "`tunnel`"),
        ("workers   = \"auto\"", "wrokers = 1", "`transport.workers`"),
        ("interface = \"wan\"", "mtu = 1400", "`tunnel.mtu`"),
        ("allowed_ips =", "allowed_ip =", "`peer.allowed_ips`"),
        ("routes    = \"auto\"", "offload = { tsoo = true }", "`tunnel.offload.tso`"),
    ];
    for (from, to, nearest) in cases {
        let text = refusal(from, to);
        let place = format!("stoqd.toml:{}:", line_of(from));
        assert!(text.starts_with(&place), "{text}");
        assert!(text.contains(&format!("did you mean {nearest}?")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn values_of_the_wrong_type_are_refused_with_their_line() {
    let cases = [
        ("port      = \"auto\"", "port = \"mioo\"", "transport.port", "got unknown variant `mioo`"),
        ("port      = \"auto\"", "port = 5", "transport.port", "`auto`, `xdp`, `uring` or `mio`"),
        ("mtu       = \"auto\"", "mtu = \"big\"", "tunnel.mtu", "got `big`"),
        ("mtu       = \"auto\"", "mtu = 70000", "tunnel.mtu", "got 70000"),
        ("\"10.2.0.0/16\"", "\"10.2.1.0/16\"", "peer[0].allowed_ips[2]", "write 10.2.0.0/16"),
        ("\"[::]:9292\"", "\"9292\"", "transport.listen[0]", "invalid socket address"),
        ("name = \"edge-a\"", "nam = 1 = 2", "", "expected TOML"),
    ];
    for (from, to, key, part) in cases {
        let text = refusal(from, to);
        assert!(text.starts_with(&format!("stoqd.toml:{}: {key}", line_of(from))), "{text}");
        assert!(text.contains("expected") && text.contains(part), "{text}");
    }
}

#[test]
fn missing_keys_are_named() {
    let text = refusal("key         = \"/etc/stoq/pki/node.key\"", "");
    assert!(text.contains("identity.key: expected this key, got nothing; add it"), "{text}");
    assert!(parse("").unwrap_err().to_string().contains("node: expected this key"), "section");
}

#[test]
fn senseless_values_are_refused_with_their_line() {
    let cases = [
        ("name = \"edge-a\"", "name = \"Edge A\"", "node.name"),
        ("name        = \"edge-b\"", "name = \"edge-a\"", "peer[0].name"),
        ("[\"[::]:9292\"]", "[\"[::]:9292\", \"[::]:9292\"]", "transport.listen[1]"),
        ("\"[::]:9292\"", "\"[::]:0\"", "transport.listen[0]"),
        ("interface = \"wan\"", "interface = \"a-name-of-16-byt\"", "transport.interface"),
        ("workers   = \"auto\"", "workers = 2", "transport.workers"),
        ("workers   = \"auto\"", "workers = 0", "transport.workers"),
        ("cores     = [0]", "cores = [100000]", "transport.cores[0]"),
        ("cores     = [0]", "cores = []", "transport.cores"),
        ("device    = \"stoq0\"", "device = \"a/b\"", "tunnel.device"),
        ("mtu       = \"auto\"", "mtu = 1279", "tunnel.mtu"),
        ("mtu       = \"auto\"", "offload = { checksum = false }", "tunnel.offload.checksum"),
        ("\"[fd00:99::2]:9292\"", "\"[fd00:99::2]:0\"", "peer[0].endpoints[0]"),
        ("\"[fd00:99::2]:9292\"", "\"[::]:9292\"", "peer[0].endpoints[0]"),
        ("name   = \"backup\"", "name = \"Back up\"", "service[0].name"),
        ("\"/run/backup.sock\"", "\"\"", "service[0].socket"),
        ("peers  = [\"edge-b\"]", "peers = [\"edge-b\", \"edge-b\"]", "service[0].peers[1]"),
        ("peers  = [\"edge-b\"]", "peers = [\"Edge B\"]", "service[0].peers[0]"),
        ("peers  = [\"edge-b\"]", "peers = \"all\"", "service[0].peers"),
        ("[transport]", "log_grace_s = 90000\n[transport]", "identity.log_grace_s"),
        ("[transport]", "outlive_issuer_s = 604801\n[transport]", "identity.outlive_issuer_s"),
        ("[node]", "tier.readings = 0\n[node]", "tier.readings"),
        ("[node]", "tier.readings = 241\n[node]", "tier.readings"),
        ("[node]", "tier.stay_s = 3601\n[node]", "tier.stay_s"),
    ];
    for (from, to, key) in cases {
        let text = refusal(from, to);
        let place = format!("stoqd.toml:{}: {key}: expected", line_of(from));
        assert!(text.starts_with(&place), "{to}: {text}");
    }
}

#[test]
fn peers_that_claim_the_same_are_both_named() {
    let second =
        "\n[[peer]]\nname = \"edge-c\"\nallowed_ips = [\"10.3.0.0/16\", \"10.2.0.0/16\"]\n";
    let error = parse(&format!("{DOCUMENTED}{second}")).unwrap_err();
    assert_eq!(error.problems.len(), 1);
    assert_eq!(error.problems[0].key, "peer[1].allowed_ips[1]");
    assert_eq!(error.problems[0].line, DOCUMENTED.lines().count() + 4);
    assert!(error.problems[0].message.contains("behind `edge-b` and `edge-c`"));
    let again = "\n[[peer]]\nname = \"edge-b\"\n";
    let error = parse(&format!("{DOCUMENTED}{again}")).unwrap_err();
    assert_eq!(error.problems[0].key, "peer[1].name");
}

#[test]
fn a_longer_prefix_within_another_peers_is_allowed() {
    let second = "\n[[peer]]\nname = \"edge-c\"\nallowed_ips = [\"0.0.0.0/0\", \"10.2.3.0/24\"]\n";
    assert!(parse(&format!("{DOCUMENTED}{second}")).is_ok());
}

#[test]
fn a_reload_names_the_keys_that_need_a_restart() {
    let old = parse(DOCUMENTED).unwrap();
    let mut new = old.clone();
    new.peers.clear();
    new.log.level = LogLevel::Debug;
    assert!(Config::diff(&old, &new).is_empty());
    new.transport.gso = false;
    new.tunnel = None;
    let differing = Config::diff(&old, &new);
    assert!(differing.contains(&"transport.gso") && differing.contains(&"tunnel.device"));
    assert!(!differing.contains(&"transport.gro"));
}

#[test]
fn a_file_that_others_can_write_is_refused_for_root() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("stoqd-config-{}.toml", std::process::id()));
    std::fs::write(&path, DOCUMENTED).unwrap();
    let load_with = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Config::load(&path)
    };
    assert!(load_with(0o644).is_ok());
    let root = nix::unistd::geteuid().is_root();
    assert_eq!(load_with(0o646).is_err(), root);
    std::fs::remove_file(&path).unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.contains("expected a readable file"), "{error}");
}

#[test]
fn no_text_makes_it_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut bytes = DOCUMENTED.as_bytes().to_vec();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(32..127);
        }
        bytes.truncate(random.usize(1..=bytes.len()));
        let _ = parse(&String::from_utf8_lossy(&bytes)).map_err(|error| error.to_string());
    }
}
