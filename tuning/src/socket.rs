//! Stages about UDP sockets: their buffers, their port, and the firewall in front of them.

use crate::host::{Host, Ruleset};
use crate::setting::{Change, Setting, Sysctl};
use crate::{Look, Plan, Stage, Verdict, set_sysctl};

/// What a worker asks for to receive: 27 ms at 2.5 Gbit/s, so that a worker that the scheduler
/// holds back for a tick or two loses nothing.
const RECEIVE_BYTES: u64 = 8 << 20;

/// What a worker needs to send: the kernel's default, which holds two GSO trains of 64 KiB with
/// their bookkeeping. More only hides a full link from the queues that could manage it.
const SEND_BYTES: u64 = 212_992;

pub(crate) const RECEIVE_BUFFER: Stage = Stage {
    name: "receive-buffer",
    why: "bursts overflow a small buffer and are lost; with CAP_NET_ADMIN stoqd passes the limit",
    look: |host, _| buffer(host, Sysctl::ReceiveMax, RECEIVE_BYTES),
};

pub(crate) const SEND_BUFFER: Stage = Stage {
    name: "send-buffer",
    why: "a buffer that holds no whole train of packets makes the worker send them one by one",
    look: |host, _| buffer(host, Sysctl::SendMax, SEND_BYTES),
};

pub(crate) const PORT: Stage =
    Stage { name: "port", why: "peers dial this host on its listening port", look: port };

pub(crate) const FIREWALL: Stage = Stage {
    name: "firewall",
    why: "peers can not dial a host whose firewall drops the port",
    look: |host, plan| {
        let text = match host.ruleset() {
            Ruleset::Nftables(text) => text,
            Ruleset::Unknown(reason) => {
                return Look::bad(
                    Verdict::Advice,
                    format!("not to be seen: {reason}"),
                    "UDP to the listening port accepted",
                    "run `stoqctl doctor` as root with nftables installed, or look yourself",
                );
            }
        };
        let closed = |port: &&u16| drops_input(text) && !mentions(text, **port);
        match plan.listen_ports.iter().find(closed) {
            Some(port) => Look::bad(
                Verdict::Advice,
                format!("nftables drops input by policy, and no rule names {port}"),
                format!("UDP port {port} accepted"),
                format!(
                    "nft add rule inet filter input udp dport {port} accept (name your own table and chain)"
                ),
            ),
            None => Look::Good("nftables does not drop the port by policy".to_owned()),
        }
    },
};

fn port(host: &Host, plan: &Plan) -> Look {
    let tables = ["proc/net/udp", "proc/net/udp6"].map(|path| host.read(path).unwrap_or_default());
    let bound = |port: u16| tables.iter().any(|table| is_bound(table, port));
    let ports = &plan.listen_ports;
    match ports.iter().find(|port| bound(**port) != plan.daemon_runs) {
        Some(port) if plan.daemon_runs => Look::bad(
            Verdict::Problem,
            format!("stoqd runs, but UDP port {port} is not open here"),
            "open: the configuration lists it",
            "stoqctl reload (or run stoqctl in the network namespace of stoqd)",
        ),
        Some(port) => Look::bad(
            Verdict::Problem,
            format!("UDP port {port} belongs to another program"),
            "free for stoqd",
            format!("ss -ulpn 'sport = :{port}' (then stop that program)"),
        ),
        None => {
            let held = if plan.daemon_runs { "held by stoqd" } else { "free" };
            Look::Good(format!("UDP {}: {held}", list(ports)))
        }
    }
}

fn list(ports: &[u16]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn buffer(host: &Host, key: Sysctl, least: u64) -> Look {
    let what = Setting::Sysctl { key };
    let value = host.get(&what).ok().and_then(|text| text.parse::<u64>().ok());
    let key = key.key();
    match value {
        Some(value) if value >= least => Look::Good(format!("{key} = {value}")),
        Some(value) => {
            let to = least.to_string();
            let lasting = Some(set_sysctl(key, &to));
            let is = format!("{key} = {value}");
            let should = format!("{least} bytes or more");
            let changes = vec![Change { what, was: value.to_string(), to }];
            Look::Settable { is, should, changes, lasting }
        }
        // It belongs to the whole host, and is invisible inside network namespaces.
        None => Look::Good(format!("{key} is not visible in this namespace")),
    }
}

/// Whether a socket in a table like `/proc/net/udp` is bound to `port` and unconnected.
fn is_bound(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().and_then(|field| field.rsplit_once(':'));
        let remote = fields.next().and_then(|field| field.rsplit_once(':'));
        local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port))
            && remote.is_some_and(|(_, hex)| hex == "0000")
    })
}

/// Whether a base chain on the input hook drops what no rule accepts.
fn drops_input(ruleset: &str) -> bool {
    ruleset.lines().any(|line| line.contains("hook input") && line.contains("policy drop"))
}

/// Whether any rule contains the number of the port as a word of its own.
fn mentions(ruleset: &str, port: u16) -> bool {
    let port = port.to_string();
    ruleset.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP6: &str = "  sl  local_address                         remote_address                        st
 1048: 00000000000000000000000000000000:244C 00000000000000000000000000000000:0000 07 00000000:00000000
 1049: 00000000000000000000000000000000:0035 00000000000000000000000001000000:14E9 01 00000000:00000000";

    #[test]
    fn bound_sockets_are_told_from_connected_ones() {
        assert!(is_bound(UDP6, 9292));
        assert!(!is_bound(UDP6, 53), "a connected socket leaves the port to others");
        assert!(!is_bound(UDP6, 5353));
        for damaged in ["", "header", "header\nx", "header\n 1: :\n", "header\n 1: zz:GGGG 0:0000"]
        {
            assert!(!is_bound(damaged, 9292), "{damaged:?}");
        }
    }

    #[test]
    fn a_port_is_mentioned_only_as_a_word() {
        assert!(mentions("udp dport 9292 accept", 9292));
        assert!(mentions("udp dport { 53, 9292 } accept", 9292));
        assert!(!mentions("udp dport 19292 accept", 9292));
        assert!(!mentions("comment \"x92923\"", 9292));
    }
}
