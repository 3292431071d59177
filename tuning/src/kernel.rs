//! Stages about the kernel: its version, what it lets this process do, and its devices.

use crate::host::Host;
use crate::{Look, Plan, Stage, Verdict};

/// `CAP_NET_ADMIN` (linux/capability.h).
const NET_ADMIN_BIT: u32 = 12;

/// The oldest kernel that is tested.
const OLDEST: Version = Version(5, 15);
/// io_uring: multishot receive of datagrams, and rings of buffers.
const MULTISHOT: Version = Version(6, 0);
/// TUN: unsegmented UDP (USO).
const USO: Version = Version(6, 2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

pub(crate) const VERSION: Stage = Stage {
    name: "kernel",
    why: "older kernels lack what tunnel and ports are built on",
    look: |host: &Host, _: &Plan| match running(host) {
        Some(version) if version >= OLDEST => {
            Look::Good(format!("Linux {}.{}", version.0, version.1))
        }
        Some(version) => Look::bad(
            Verdict::Problem,
            format!("Linux {}.{}", version.0, version.1),
            format!("Linux {}.{} or later", OLDEST.0, OLDEST.1),
            "install a newer kernel of your distribution and reboot",
        ),
        None => Look::bad(
            Verdict::Advice,
            "not to be read from /proc/sys/kernel/osrelease",
            format!("Linux {}.{} or later", OLDEST.0, OLDEST.1),
            "mount /proc",
        ),
    },
};

pub(crate) const CAPABILITIES: Stage = Stage {
    name: "capabilities",
    why: "stoqd needs CAP_NET_ADMIN at its start, for the tunnel device and its routes",
    look: |host, _| {
        let bounding =
            host.read("proc/self/status").and_then(|text| capability_set(&text, "CapBnd"));
        match bounding {
            Some(set) if set >> NET_ADMIN_BIT & 1 == 1 => {
                Look::Good("CAP_NET_ADMIN can be had here".to_owned())
            }
            Some(_) => Look::bad(
                Verdict::Problem,
                "CAP_NET_ADMIN is outside the bounding set",
                "a host, or a container that grants it",
                "start the container with `--cap-add NET_ADMIN --device /dev/net/tun`",
            ),
            None => Look::bad(
                Verdict::Advice,
                "not to be read from /proc/self/status",
                "CAP_NET_ADMIN in the bounding set",
                "mount /proc",
            ),
        }
    },
};

pub(crate) const TUN: Stage = Stage {
    name: "tun",
    why: "the tunnel is a TUN device",
    look: |host, _| {
        if host.exists("dev/net/tun") {
            return Look::Good("/dev/net/tun is there".to_owned());
        }
        Look::bad(
            Verdict::Problem,
            "/dev/net/tun is missing",
            "/dev/net/tun",
            "modprobe tun && echo tun > /etc/modules-load.d/stoq.conf",
        )
    },
};

pub(crate) const IO_URING: Stage = Stage {
    name: "io_uring",
    why: "the uring port needs it; the mio port takes its place otherwise",
    look: |host, _| {
        let disabled = host.sysctl("kernel.io_uring_disabled");
        let version = running(host);
        match disabled.as_deref() {
            Some("1" | "2") => Look::bad(
                Verdict::Advice,
                format!("kernel.io_uring_disabled = {}", disabled.unwrap_or_default()),
                "0",
                crate::set_sysctl("kernel.io_uring_disabled", "0"),
            ),
            _ if version.is_some_and(|version| version < MULTISHOT) => Look::bad(
                Verdict::Advice,
                "io_uring without multishot receive",
                format!("Linux {}.{} or later", MULTISHOT.0, MULTISHOT.1),
                "install a newer kernel of your distribution and reboot",
            ),
            _ => Look::Good("io_uring is not disabled".to_owned()),
        }
    },
};

pub(crate) const OFFLOADS: Stage = Stage {
    name: "offloads",
    why: "trains of UDP packets in one system call are most of the throughput",
    look: |host: &Host, _: &Plan| match running(host) {
        Some(version) if version < USO => Look::bad(
            Verdict::Advice,
            "UDP GSO and GRO on sockets, but no USO on the tunnel device",
            format!("Linux {}.{} or later for unsegmented UDP in the tunnel", USO.0, USO.1),
            "install a newer kernel of your distribution and reboot",
        ),
        _ => Look::Good("UDP GSO and GRO on sockets, TSO and USO on the tunnel device".to_owned()),
    },
};

fn running(host: &Host) -> Option<Version> {
    host.sysctl("kernel.osrelease").as_deref().and_then(parse_version)
}

/// `6.1.0-18-amd64` is 6.1.
fn parse_version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some(Version(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A set of capabilities, such as `CapBnd`, from `/proc/PID/status`.
fn capability_set(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        for (release, expected) in [
            ("6.1.0-18-amd64", Some(Version(6, 1))),
            ("5.15.167.4-microsoft-standard-WSL2", Some(Version(5, 15))),
            ("6.18", Some(Version(6, 18))),
            ("6", None),
            ("", None),
            ("x.y", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(parse_version(release), expected, "{release}");
        }
        assert!(Version(5, 15) < Version(6, 0) && Version(6, 2) < Version(6, 10));
    }

    #[test]
    fn the_asked_for_set_is_read() {
        let status = "Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n";
        assert_eq!(capability_set(status, "CapBnd"), Some(0x1ff_ffff_ffff));
        assert_eq!(capability_set(status, "CapEff"), Some(0));
        assert_eq!(capability_set("CapBnd:\tnonsense", "CapBnd"), None);
    }
}
