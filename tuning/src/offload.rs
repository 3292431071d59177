//! Stages about trains of packets that the kernel puts together as they arrive.

use crate::cores::CorePlan;
use crate::ethtool::Feature;
use crate::host::Host;
use crate::network;
use crate::setting::{Change, Setting};
use crate::steering::{Port, with_interface};
use crate::{Look, Plan, Stage, Verdict};

/// Most interfaces that are looked at for forwarding: more than a gateway has ports.
const MAX_INTERFACES: usize = 64;

pub(crate) const GRO: Stage = Stage {
    name: "gro",
    why: "stoqd takes trains of packets with one system call; the kernel makes them only where the \
          interface may",
    look: |host, plan| with_interface(host, plan, Port::Any, gro),
};

pub(crate) const GRO_GAIN: &str = "not measured";

pub(crate) const UDP_FORWARDING: Stage = Stage {
    name: "udp-gro-forwarding",
    why: "UDP from the networks behind a gateway reaches the tunnel in trains, and is read and sealed \
          by one turn of the worker instead of one for each packet",
    look: forwarding,
};

pub(crate) const UDP_FORWARDING_GAIN: &str = "not measured";

fn gro(host: &Host, _: &CorePlan, interface: &str) -> Look {
    match host.ethtool().feature(interface, Feature::Gro) {
        Ok(true) => Look::Good(format!("{} is on", Feature::Gro)),
        Ok(false) => Look::settable("off", "on", vec![switch(interface, Feature::Gro)]),
        Err(error) => Look::bad(
            Verdict::Advice,
            format!("the driver of {interface} says: {error}"),
            "on",
            format!("ethtool -K {interface} gro on"),
        ),
    }
}

/// Looks at the interfaces of hardware that are not the WAN: behind those are a gateway's networks.
fn forwarding(host: &Host, plan: &Plan) -> Look {
    let forwards = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
    if !forwards.iter().any(|key| host.sysctl(key).is_some_and(|value| value != "0")) {
        return Look::Good("this host forwards nothing".to_owned());
    }
    let Some(wan) = plan.interface.as_deref() else {
        return Look::Good("no interface configured: what is behind is not known".to_owned());
    };
    if !network::is_there(host, wan) {
        return Look::Good(format!("no interface {wan}"));
    }
    let names = host.entries("sys/class/net").into_iter();
    let behind = names.filter(|name| name != wan && is_hardware(host, name));
    let behind: Vec<String> = behind.take(MAX_INTERFACES).collect();
    let (mut is, mut changes) = (Vec::new(), Vec::new());
    for name in &behind {
        match host.ethtool().feature(name, Feature::UdpGroForwarding) {
            Ok(true) => is.push(format!("{name} on")),
            Ok(false) => {
                is.push(format!("{name} off"));
                changes.push(switch(name, Feature::UdpGroForwarding));
            }
            Err(error) => is.push(format!("{name}: {error}")),
        }
    }
    match (is.is_empty(), changes.is_empty()) {
        (true, _) => Look::Good("no other interface of hardware".to_owned()),
        (false, true) => Look::Good(is.join(", ")),
        (false, false) => Look::settable(is.join(", "), "on", changes),
    }
}

fn is_hardware(host: &Host, name: &str) -> bool {
    network::is_there(host, name) && host.exists(&format!("sys/class/net/{name}/device"))
}

fn switch(interface: &str, feature: Feature) -> Change {
    let what = Setting::Feature { interface: interface.to_owned(), feature };
    Change { what, was: "off".to_owned(), to: "on".to_owned() }
}
