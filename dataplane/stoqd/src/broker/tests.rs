//! The broker against the real kernel: each test in a network namespace of its own.

use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::inherit::Will;
use crate::testing::in_namespace;

const FILE: &str = "
[node]
name = 'edge-a'
user = 'nobody'
[identity]
certificate = 'DIR/node.crt'
key = 'DIR/node.key'
authority = 'DIR/ca.crt'
[transport]
listen = ['127.0.0.1:9292', '[::1]:9292']
[tunnel]
device = 'stoqtest'
addresses = ['10.92.0.1/24', 'fd48:4d00::1/64']
[control]
prefixes = ['10.64.0.0/10']
[[peer]]
name = 'edge-b'
endpoints = ['10.99.0.2:9292']
allowed_ips = ['10.2.0.0/16', '0.0.0.0/0', 'fd02::/48']
";

/// A directory with the configuration file and an identity, removed at the end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("stoqd-broker-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let files = Self(dir);
        files.write(FILE);
        std::fs::write(files.0.join("node.key"), "the key").unwrap();
        files
    }

    fn write(&self, text: &str) {
        let text = text.replace("DIR", self.0.to_str().unwrap());
        std::fs::write(self.path(), text).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.0.join("stoqd.toml")
    }

    fn broker(&self) -> Broker {
        self.heir(Inherited::default())
    }

    /// The broker of a process to which this was left.
    fn heir(&self, mut inherited: Inherited) -> Broker {
        let config = Config::load(&self.path()).unwrap();
        Broker::fork(Policy::new(&self.path(), &config), &mut inherited).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn refusal<T: std::fmt::Debug>(result: Result<T, BrokerError>) -> String {
    match result.unwrap_err() {
        BrokerError::Refused(reason) => reason,
        other => panic!("{other}"),
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Waits until a process is gone. The broker is this process's child, so that is an event.
fn wait_for_end(pid: Pid) {
    nix::sys::wait::waitpid(pid, None).unwrap();
}

#[test]
fn a_device_is_made_with_its_addresses_mtu_and_routes() {
    in_namespace(|| {
        let files = Files::new("device");
        let broker = files.broker();
        let tunnel = broker.create_tunnel(2).unwrap();
        assert_eq!(tunnel.queues.len(), 2);
        assert!(tunnel.granted.checksum && tunnel.granted.tso);
        broker.set_mtu(1350).unwrap();
        let shown = ip("-d addr show dev stoqtest");
        for part in ["10.92.0.1/24", "fd48:4d00::1/64", "mtu 1350", "gso_max_size 61600", ",UP"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let wanted = [prefix("10.2.0.0/16"), prefix("fd02::/48"), prefix("10.64.3.0/24")];
        assert_eq!(broker.set_routes(&wanted, &[]).len(), 0);
        assert_eq!(ip("route show proto 92").lines().count(), 2);
        assert_eq!(ip("-6 route show proto 92").lines().count(), 1);
        assert_eq!(broker.set_routes(&wanted[..1], &[]).len(), 0);
        let left = ip("route show proto 92");
        assert!(left.starts_with("10.2.0.0/16 dev stoqtest scope link"), "{left}");
        assert_eq!(left.lines().count(), 1, "{left}");
        assert_eq!(ip("-6 route show proto 92"), "");
    });
}

/// What one process leaves, which has this device and one route.
fn left(tunnel: Vec<OwnedFd>, has_elder: bool) -> Inherited {
    let routes = vec![("10.2.0.0/16".to_owned(), false)];
    let mut inherited = Inherited::default();
    (inherited.tunnel, inherited.has_elder) = (tunnel, has_elder);
    inherited.will = Will { routes, ..Will::default() };
    inherited
}

#[test]
fn a_device_that_was_left_is_taken_over_with_its_routes() {
    in_namespace(|| {
        let files = Files::new("left");
        let elder = files.broker();
        let before = elder.create_tunnel(2).unwrap();
        elder.set_mtu(1350).unwrap();
        assert_eq!(elder.set_routes(&[prefix("10.2.0.0/16")], &[]).len(), 0);
        let index = ip("-o link show dev stoqtest");
        elder.keep_routes(true).unwrap();
        drop(elder);
        let heir = files.heir(left(before.queues, true));
        let _held = heir.create_tunnel(2).unwrap();
        assert_eq!(ip("-o link show dev stoqtest"), index);
        assert_eq!(heir.set_routes(&[prefix("fd02::/48")], &[]).len(), 0);
        assert_eq!(ip("route show proto 92"), "", "what the elder added is removed");
        assert_eq!(ip("-6 route show proto 92").lines().count(), 1);
    });
}

#[test]
fn a_heir_that_fails_leaves_the_elders_routes_as_they_are() {
    in_namespace(|| {
        let files = Files::new("failed");
        let elder = files.broker();
        let device = elder.create_tunnel(2).unwrap();
        elder.set_mtu(1350).unwrap();
        assert_eq!(elder.set_routes(&[prefix("10.2.0.0/16")], &[]).len(), 0);
        let routes = ip("route show proto 92");
        let copies = device.queues.iter().map(|queue| queue.try_clone().unwrap()).collect();
        let heir = files.heir(left(copies, true));
        let _held = heir.create_tunnel(2).unwrap();
        let pid = heir.pid();
        drop(heir);
        nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(ip("route show proto 92"), routes);
    });
}

#[test]
fn a_device_that_does_not_fit_is_made_anew_unless_it_is_in_use() {
    in_namespace(|| {
        let files = Files::new("unfit");
        let first = || stoq_tunnel::device::create("stoqtest", 1, Offloads::NONE).unwrap().queues;
        let reason = refusal(files.heir(left(first(), true)).create_tunnel(2));
        assert!(reason.contains("2 queues") && reason.contains("stop stoqd"), "{reason}");
        let heir = files.heir(left(first(), false));
        let held = heir.create_tunnel(2).unwrap();
        assert_eq!(held.queues.len(), 2);
        heir.set_mtu(1350).unwrap();
        assert_eq!(heir.set_routes(&[prefix("10.2.0.0/16")], &[]).len(), 0);
        assert_eq!(ip("route show proto 92").lines().count(), 1, "a route of the old device");
    });
}

#[test]
fn what_the_configuration_does_not_name_is_refused() {
    in_namespace(|| {
        let files = Files::new("refused");
        files.write(&FILE.replace("'0.0.0.0/0', ", ""));
        let broker = files.broker();
        assert!(refusal(broker.set_mtu(1400)).contains("device"));
        broker.create_tunnel(1).unwrap();
        for out in ["10.3.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "::/0", "fd03::/48", "10.63.0.0/16"] {
            let request = Request::AddRoute { prefix: out.into(), beside: false };
            let reason = refusal(broker.call(&request));
            assert!(reason.contains("allowed_ips") && reason.contains(out), "{reason}");
        }
        for malformed in ["", "10.2.1.0/16", "10.2.0.0/16 dev lo"] {
            let request = Request::AddRoute { prefix: malformed.into(), beside: true };
            assert!(refusal(broker.call(&request)).contains("expected"));
        }
        let request = Request::RemoveRoute { prefix: "10.2.0.0/16".into() };
        assert!(refusal(broker.call(&request)).contains("that the broker added"));
        assert!(refusal(broker.set_mtu(1279)).contains("1280"));
        assert!(refusal(broker.create_tunnel(0)).contains("queues"));
        assert!(refusal(broker.create_tunnel(65)).contains("queues"));
        assert!(refusal(broker.open_socket(UdpSocket::Listen(2))).contains("listen addresses"));
        assert!(refusal(broker.open_file(ConfiguredFile::Authority)).contains("ca.crt"));
        assert_eq!(ip("route show proto 92"), "");
    });
}

#[test]
fn an_unknown_request_is_refused_and_a_long_one_ends_it() {
    let files = Files::new("garbage");
    let broker = files.broker();
    let state = broker.state.lock().unwrap();
    for garbage in [&b"{}"[..], b"\xff", b"{\"Exec\":{}}", b"{\"SetMtu\":{\"mtu\":70000}}"] {
        state.channel.send(garbage, &[]).unwrap();
        let (answer, fds) = state.channel.receive().unwrap();
        assert!(String::from_utf8(answer).unwrap().contains("Refused"));
        assert!(fds.is_empty());
    }
    state.channel.send(&vec![b' '; sys::MESSAGE_MAX + 1], &[]).unwrap();
    assert!(state.channel.receive().is_err());
    wait_for_end(broker.pid());
}

#[test]
fn a_default_route_leaves_marked_packets_alone() {
    in_namespace(|| {
        let files = Files::new("default");
        for arguments in [
            "link add wan type veth peer name far",
            "link set far up",
            "link set wan up",
            "addr add 10.99.0.1/24 dev wan",
            "route add default via 10.99.0.254",
        ] {
            assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
        }
        let rules = ip("rule show");
        let broker = files.broker();
        let tunnel = broker.create_tunnel(1).unwrap();
        broker.set_mtu(1400).unwrap();
        let endpoint: IpAddr = "198.51.100.9".parse().unwrap();
        let all = [prefix("0.0.0.0/0"), prefix("10.2.0.0/16")];
        assert_eq!(broker.set_routes(&all, &[endpoint]).len(), 0);
        let mut netlink = crate::netlink::Netlink::open().unwrap();
        let device = netlink.index_of("stoqtest").unwrap();
        let wan = netlink.index_of("wan").unwrap();
        let mut way =
            |to: &str, mark| netlink.path_to(to.parse().unwrap(), mark).unwrap().interface;
        assert_eq!(way("198.51.100.9", 0x5354), wan);
        assert_eq!(way("198.51.100.9", 0), device);
        assert_eq!(way("10.2.0.1", 0), device);
        assert_eq!(way("10.99.0.2", 0), wan, "a longer prefix of the host stays in force");
        assert_eq!(broker.set_routes(&all[1..], &[endpoint]).len(), 0);
        assert_eq!(way("198.51.100.9", 0), wan);
        assert_eq!(ip("rule show"), rules);
        drop(tunnel);
    });
}

#[test]
fn rules_are_removed_when_stoqd_is_gone() {
    in_namespace(|| {
        let files = Files::new("gone");
        let rules = ip("rule show");
        let broker = files.broker();
        let tunnel = broker.create_tunnel(1).unwrap();
        broker.set_mtu(1400).unwrap();
        let endpoint: IpAddr = "10.99.0.2".parse().unwrap();
        assert_eq!(broker.set_routes(&[prefix("0.0.0.0/0")], &[endpoint]).len(), 0);
        assert_ne!(ip("rule show"), rules);
        let pid = broker.pid();
        drop((broker, tunnel));
        wait_for_end(pid);
        assert_eq!(ip("rule show"), rules);
        assert!(ip("link show stoqtest").is_empty());
    });
}

#[test]
fn a_reload_takes_over_the_prefixes_of_the_file() {
    in_namespace(|| {
        let files = Files::new("reload");
        let broker = files.broker();
        let tunnel = broker.create_tunnel(1).unwrap();
        broker.set_mtu(1400).unwrap();
        let new = prefix("fd05::/48");
        assert_eq!(broker.set_routes(&[new], &[]).len(), 1);
        files.write("not a configuration");
        assert!(refusal(broker.reload()).contains("stoqd.toml:1:"));
        files.write(&FILE.replace("fd02::/48", "fd05::/48"));
        assert_eq!(broker.reload().unwrap().peers[0].allowed_ips[2], new);
        assert_eq!(broker.set_routes(&[new], &[]).len(), 0);
        drop(tunnel);
    });
}

#[test]
fn a_reload_that_is_taken_back_leaves_the_files_and_prefixes_of_before() {
    in_namespace(|| {
        let files = Files::new("revert");
        let broker = files.broker();
        let _tunnel = broker.create_tunnel(1).unwrap();
        broker.set_mtu(1400).unwrap();
        files.write(&FILE.replace("node.key", "lost.key").replace("10.2.0.0/16", "10.3.0.0/16"));
        broker.reload().unwrap();
        assert!(refusal(broker.open_file(ConfiguredFile::Key)).contains("lost.key"));
        broker.revert().unwrap();
        assert!(broker.open_file(ConfiguredFile::Key).is_ok());
        assert_eq!(broker.set_routes(&[prefix("10.2.0.0/16")], &[]).len(), 0);
        broker.revert().unwrap();
        assert!(broker.open_file(ConfiguredFile::Key).is_ok(), "nothing is left to take back");
    });
}

#[test]
fn sockets_and_files_are_opened() {
    in_namespace(|| {
        let files = Files::new("socket");
        let broker = files.broker();
        let first = broker.open_socket(UdpSocket::Listen(0)).unwrap();
        let second = broker.open_socket(UdpSocket::Listen(0)).unwrap();
        assert_eq!((first.local, second.local), ("127.0.0.1:9292".parse().unwrap(), first.local));
        let dial = broker.open_socket(UdpSocket::Dial).unwrap();
        assert_ne!(dial.local.port(), 0);
        let mark = nix::sys::socket::getsockopt(&dial.fd, nix::sys::socket::sockopt::Mark).unwrap();
        assert_eq!(mark, 0x5354);
        let mut key = String::new();
        broker.open_file(ConfiguredFile::Key).unwrap().read_to_string(&mut key).unwrap();
        assert_eq!(key, "the key");
    });
}

#[test]
fn port_53_is_opened_at_own_and_loopback_addresses_and_nowhere_else() {
    in_namespace(|| {
        let broker = Files::new("names").broker();
        // The device is not there yet, and its addresses are not either.
        for address in ["10.92.0.1", "fd48:4d00::1", "127.0.92.53"] {
            let address: IpAddr = address.parse().unwrap();
            let given = broker.open_names(address).unwrap();
            let [udp, tcp] = <[OwnedFd; 2]>::try_from(given).unwrap();
            let (udp, tcp) = (std::net::UdpSocket::from(udp), std::net::TcpListener::from(tcp));
            let wanted = SocketAddr::new(address, 53);
            assert_eq!((udp.local_addr().unwrap(), tcp.local_addr().unwrap()), (wanted, wanted));
            // It listens: nobody has come yet.
            let nobody = tcp.accept().unwrap_err();
            assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
            let taken = refusal(broker.open_names(address));
            assert!(taken.contains("expected to bind UDP") && taken.contains(":53"), "{taken}");
        }
        for other in ["10.92.0.2", "0.0.0.0", "::", "192.0.2.1"] {
            let reason = refusal(broker.open_names(other.parse().unwrap()));
            assert!(reason.contains("[tunnel]") && reason.contains(other), "{reason}");
        }
    });
}

/// What `/proc/PID/status` says of capabilities and user.
fn privilege_lines(pid: &str) -> Vec<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let wanted = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Uid"];
    let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// stoqd after its start, as a process of its own: privilege is the process's, and dropping it here
/// would take it from the other tests.
#[test]
fn stoqd_holds_no_capability_and_the_broker_few() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs capabilities to give up; run as root");
        return;
    }
    let files = Files::new("privilege");
    let (channel, pid) = sys::fork_with(|channel| {
        let broker = files.broker();
        privilege::drop_for_good("nobody").unwrap();
        let stoqd = privilege_lines("self");
        let opened = broker.open_socket(UdpSocket::Dial).is_ok();
        // It answers only after it has given up the rest.
        let brokers = privilege_lines(&broker.pid().to_string());
        let raised = caps::raise(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN);
        let device = stoq_tunnel::device::create("stoqx", 1, Offloads::NONE);
        let seen = (stoqd, brokers, opened, raised.is_ok(), device.is_ok());
        channel.send(&serde_json::to_vec(&seen).unwrap(), &[]).unwrap();
    })
    .unwrap();
    let (seen, _) = channel.receive().unwrap();
    let (stoqd, brokers, opened, raised, device): (Vec<String>, Vec<String>, bool, bool, bool) =
        serde_json::from_slice(&seen).unwrap();
    wait_for_end(pid);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid;
    let none = "0000000000000000";
    // NET_BIND_SERVICE, NET_ADMIN, NET_RAW, IPC_LOCK; PERFMON, BPF (linux/capability.h). DAC_READ_SEARCH
    // is in force only while an identity of another user is opened; SETGID, SETUID and SETPCAP are for the
    // process that takes over.
    let (few, kept) = ("000000c000007400", "000000c0000075c4");
    let uids = format!("Uid: {nobody} {nobody} {nobody} {nobody}");
    let of_stoqd =
        ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|n| format!("{n} {none}"));
    assert_eq!(stoqd[0], uids);
    assert_eq!(stoqd[1..6], of_stoqd);
    assert_eq!(stoqd[6], "NoNewPrivs: 1");
    assert_eq!(brokers[0], "Uid: 0 0 0 0");
    let expected = [("CapPrm:", kept), ("CapEff:", few), ("CapBnd:", kept)];
    assert_eq!(brokers[2..5], expected.map(|(name, set)| format!("{name} {set}")));
    assert!(opened, "the broker serves on");
    assert!(!raised && !device, "nothing can be taken back");
}

/// What a user without any privilege gets: sockets with warnings, and errors that name what lacks.
#[test]
fn without_privilege_sockets_still_open_and_errors_name_the_capability() {
    let files = Files::new("unprivileged");
    let ask = || {
        let broker = files.broker();
        let socket = broker.open_socket(UdpSocket::Dial).unwrap();
        let tunnel = refusal(broker.create_tunnel(1));
        format!("{}\n{tunnel}", socket.warnings[0])
    };
    let told = if nix::unistd::geteuid().is_root() {
        crate::testing::as_user(4001, ask).unwrap()
    } else {
        ask()
    };
    let parts: Vec<&str> = told.lines().collect();
    assert_eq!(parts.len(), 2, "{told}");
    assert!(parts.iter().all(|part| part.contains("CAP_NET_ADMIN")), "{told}");
}
