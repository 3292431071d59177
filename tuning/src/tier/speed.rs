//! The nominal speed of an interface, as its driver says.

use std::fs;
use std::path::Path;

/// Highest speed that is believed, in Mbit/s: Ethernet's fastest (IEEE 802.3dj) is 1.6 Tbit/s.
pub const LINK_SPEED_MAX_MBPS: u32 = 1_600_000;

/// The speed of an interface in Mbit/s, from the file that Linux keeps under `sys` (`/sys`). `None` if
/// there is no such interface, it has no carrier, or its driver says nothing that can be: a bridge and a
/// tunnel say -1, and a veth always 10000.
#[must_use]
pub fn link_speed(sys: &Path, interface: &str) -> Option<u32> {
    // A name that would leave the folder is no interface.
    if interface.is_empty() || interface.contains('/') || interface.starts_with('.') {
        return None;
    }
    let text = fs::read_to_string(sys.join("class/net").join(interface).join("speed")).ok()?;
    parse(&text)
}

fn parse(text: &str) -> Option<u32> {
    let mbps = text.trim().parse::<u32>().ok()?;
    (1..=LINK_SPEED_MAX_MBPS).contains(&mbps).then_some(mbps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_say_is_read_or_refused() {
        let cases = [
            ("1000\n", Some(1000)),
            ("2500", Some(2500)),
            ("-1\n", None),
            ("0\n", None),
            ("4294967295\n", None),
            ("99999999999999\n", None),
            ("fast\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_interface_is_found_by_its_name_alone() {
        let sys = tempfile::tempdir().unwrap();
        let folder = sys.path().join("class/net/wan");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("speed"), "2500\n").unwrap();
        assert_eq!(link_speed(sys.path(), "wan"), Some(2500));
        for name in ["lan", "", ".", "..", "../net/wan", "wan/../wan"] {
            assert_eq!(link_speed(sys.path(), name), None, "{name:?}");
        }
    }
}
