//! Stages about interfaces and forwarding.

use crate::host::Host;
use crate::{Look, Stage, Verdict, set_sysctl};

/// The smallest MTU of a WAN interface on which QUIC can run (RFC 9000 §14) and one inner packet of
/// 1280 bytes still fits a datagram whole: 1280 + 40 (IPv6) + 8 (UDP) + about 50 (QUIC, AEAD).
const MTU_COMFORTABLE: u32 = 1400;
/// The least that carries QUIC over IPv6: 1200 + 48.
const MTU_LEAST: u32 = 1248;

/// A forwarding host ignores router advertisements unless told otherwise (networking/ip-sysctl,
/// accept_ra), and so loses the address that it got from one.
const V6_GATEWAY: &str = "1, on a gateway; first set accept_ra = 2 on an interface whose address \
                          comes from router advertisements";

pub(crate) const FORWARDING_V4: Stage = Stage {
    name: "forwarding-v4",
    why: "without it only this host uses the tunnel, not the networks behind it",
    look: |host, _| forwarding(host, "net.ipv4.ip_forward", "1, on a gateway"),
};

pub(crate) const FORWARDING_V6: Stage = Stage {
    name: "forwarding-v6",
    why: "without it only this host uses the tunnel, not the networks behind it",
    look: |host, _| forwarding(host, "net.ipv6.conf.all.forwarding", V6_GATEWAY),
};

pub(crate) const INTERFACE: Stage = Stage {
    name: "interface",
    why: "packets to the peers leave by the WAN interface",
    look: |host, plan| {
        let Some(name) = &plan.interface else {
            return Look::Good("none configured: the routes decide".to_owned());
        };
        if !is_there(host, name) {
            let present = host.entries("sys/class/net");
            return Look::bad(
                Verdict::Problem,
                format!("no interface {name}"),
                format!("one of {}", present.join(", ")),
                "set transport.interface in the configuration, then `stoqctl reload`",
            );
        }
        let state = host.read(&format!("sys/class/net/{name}/operstate"));
        match state.as_deref() {
            Some("down" | "lowerlayerdown") => Look::bad(
                Verdict::Problem,
                format!("{name} is down"),
                "up, with a carrier",
                format!("ip link set {name} up (and look at the cable)"),
            ),
            _ => Look::Good(format!("{name} is there")),
        }
    },
};

pub(crate) const MTU: Stage = Stage {
    name: "mtu",
    why: "what does not fit the path is fragmented, which costs throughput",
    look: |host, plan| {
        let Some((name, mtu)) = plan.interface.as_ref().and_then(|name| {
            let text = host.read(&format!("sys/class/net/{name}/mtu"))?;
            Some((name, text.parse::<u32>().ok()?))
        }) else {
            return Look::Good("measured on the path".to_owned());
        };
        let verdict = match mtu {
            0..MTU_LEAST => Verdict::Problem,
            MTU_LEAST..MTU_COMFORTABLE => Verdict::Advice,
            _ => return Look::Good(format!("{name} has {mtu} bytes")),
        };
        let is = format!("{name} has {mtu} bytes");
        let should = format!("{MTU_COMFORTABLE} bytes or more");
        Look::bad(verdict, is, should, format!("ip link set {name} mtu 1500"))
    },
};

pub(crate) const REVERSE_PATH: Stage = Stage {
    name: "rp_filter",
    why: "a strict filter drops packets that arrive by another interface than the answer leaves by",
    look: |host, plan| {
        let Some(name) = &plan.interface else {
            return Look::Good("no interface configured".to_owned());
        };
        let value = |scope: &str| {
            let text = host.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"))?;
            text.parse::<u8>().ok()
        };
        // The kernel takes the larger of the two (networking/ip-sysctl, rp_filter).
        let all = value("all").unwrap_or(0);
        match all.max(value(name).unwrap_or(0)) {
            1 => Look::bad(
                Verdict::Advice,
                format!("strict on {name}"),
                "loose (2), unless this host has one uplink only",
                set_sysctl(&format!("net.ipv4.conf.{name}.rp_filter"), "2"),
            ),
            _ => Look::Good(format!("not strict on {name}")),
        }
    },
};

/// Whether an interface of this name is there, whatever the name contains.
pub(crate) fn is_there(host: &Host, name: &str) -> bool {
    host.entries("sys/class/net").iter().any(|present| present == name)
}

fn forwarding(host: &Host, key: &str, should: &str) -> Look {
    match host.sysctl(key).as_deref() {
        Some("0") => Look::bad(Verdict::Advice, format!("{key} = 0"), should, set_sysctl(key, "1")),
        Some(value) => Look::Good(format!("{key} = {value}")),
        None => Look::bad(
            Verdict::Advice,
            format!("{key} is not there"),
            "a kernel that speaks this version of IP, if the site uses it",
            "boot without `ipv6.disable=1`, or leave that version out of the configuration",
        ),
    }
}
