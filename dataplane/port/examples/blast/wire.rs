//! Two namespaces joined by a bridge in a third one, as a cable would join two hosts.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use crate::Failure;

/// Removed when dropped.
pub struct Wire {
    names: [String; 3],
}

impl Wire {
    pub fn new() -> Result<Self, Failure> {
        let id = std::process::id();
        let names = ["near", "far", "bridge"].map(|name| format!("blast-{name}-{id}"));
        let wire = Self { names };
        let [near, far, bridge] = &wire.names;
        let mut script = String::from("set -e\n");
        for name in &wire.names {
            script += &format!("ip netns add {name}; ip -n {name} link set lo up\n");
        }
        script += &format!(
            "ip -n {bridge} link add name middle type bridge; ip -n {bridge} link set middle up\n"
        );
        script += &format!(
            "ip netns exec {bridge} sysctl -qw net.bridge.bridge-nf-call-iptables=0 \
                            net.bridge.bridge-nf-call-ip6tables=0 || true\n"
        );
        for (end, last) in [(near, 1), (far, 2)] {
            script += &format!(
                "ip -n {end} link add name wan type veth peer name b{last} netns {bridge}\n\
                 ip -n {bridge} link set b{last} master middle up\n\
                 ip -n {end} addr add fd00:b1a5::{last}/64 dev wan nodad; ip -n {end} link set wan up\n\
                 ip netns exec {end} ethtool -K wan gso off tso off tx-udp-segmentation off gro on\n\
                 ip netns exec {bridge} ethtool -K b{last} gso off tso off tx-udp-segmentation off gro off\n"
            );
        }
        let status = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).status()?;
        if status.success() {
            Ok(wire)
        } else {
            Err("the namespaces need root, ip and ethtool".into())
        }
    }

    pub fn near(&self) -> &str {
        &self.names[0]
    }

    pub fn far(&self) -> &str {
        &self.names[1]
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A process of a run; killed when dropped.
pub struct Started(Child);

impl Started {
    pub fn new(mut command: Command) -> Result<Self, Failure> {
        Ok(Self(command.stdout(Stdio::piped()).spawn()?))
    }

    /// Waits for its end and returns the figures that it printed.
    pub fn finish(mut self) -> Result<Vec<f64>, Failure> {
        let mut text = String::new();
        self.0.stdout.take().ok_or("no output")?.read_to_string(&mut text)?;
        let status = self.0.wait()?;
        let figures = text.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        if status.success() && figures.len() == 2 {
            Ok(figures)
        } else {
            Err("a run failed".into())
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
