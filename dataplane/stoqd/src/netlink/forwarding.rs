//! Whether the host forwards packets, and lets answers of the tunnel in: read from `/proc/sys`, never
//! changed. Called by the daemon at the start, for its warnings.

use std::path::Path;

/// What the operator should mend before a site behind this host can use the tunnel, each with the
/// command. `guarded` says that a route covers a peer's endpoint, such as a default route.
#[must_use]
pub fn forwarding_warnings(guarded: bool) -> Vec<String> {
    warnings(Path::new("/proc/sys"), guarded)
}

/// Whether this host passes packets on between its interfaces, in either family.
#[must_use]
pub fn forwards() -> bool {
    ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"]
        .iter()
        .any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0"))
}

fn warnings(root: &Path, guarded: bool) -> Vec<String> {
    let is = |name: &str, value: &str| {
        let path = root.join(name.replace('.', "/"));
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
    };
    let mut found = Vec::new();
    for (name, what) in [("net.ipv4.ip_forward", "IPv4"), ("net.ipv6.conf.all.forwarding", "IPv6")]
    {
        if is(name, "0") {
            found.push(format!(
                "this host does not forward {what}, so a site behind it cannot use the tunnel; \
                 run: sysctl -w {name}=1"
            ));
        }
    }
    if guarded && is("net.ipv4.conf.all.rp_filter", "1") {
        found.push(
            "the strict reverse-path filter drops outer packets while a route through the tunnel \
             covers a peer's endpoint; run: sysctl -w net.ipv4.conf.all.rp_filter=2"
                .to_owned(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_hinders_is_named_with_its_command() {
        let root = std::env::temp_dir().join(format!("stoqd-forwarding-{}", std::process::id()));
        let set = |name: &str, value: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{value}\n")).unwrap();
        };
        assert!(warnings(&root, true).is_empty(), "what cannot be read is not reported");
        set("net/ipv4/ip_forward", "0");
        set("net/ipv6/conf/all/forwarding", "1");
        set("net/ipv4/conf/all/rp_filter", "1");
        let found = warnings(&root, false);
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("run: sysctl -w net.ipv4.ip_forward=1"), "{}", found[0]);
        assert_eq!(warnings(&root, true).len(), 2);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
