//! The .rpm, by `rpm --root`. No systemd runs there: its scripts must do without.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::machine::Root;
use crate::{VERSIONS, packages, run};

/// The root has no other packages as rpm sees it, so that glibc is there but not by its name.
fn rpm(root: &Root, arguments: &[&str]) -> String {
    run(Command::new("rpm").arg("--root").arg(root.path()).args(arguments))
}

fn install(root: &Root, packages: &Path, version: &str) {
    let package = packages.join(version).join(format!("stoq-{version}-1.x86_64.rpm"));
    let package = package.to_str().unwrap();
    rpm(root, &["--upgrade", "--oldpackage", "--nodeps", package]);
    let installed = rpm(root, &["--query", "stoq"]);
    assert_eq!(installed.trim(), format!("stoq-{version}-1.x86_64"));
    rpm(root, &["--verify", "--nodeps", "--noconfig", "stoq"]);
}

#[test]
fn an_rpm_is_installed_upgraded_downgraded_and_erased() {
    let Some(packages) = packages("an_rpm_is_installed_upgraded_downgraded_and_erased") else {
        return;
    };
    let root = Root::new();
    install(&root, &packages, VERSIONS[0]);
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    assert!(users.contains("\nstoq:") && users.contains("\nhypermesh:"), "{users}");
    assert!(!root.has("etc/systemd/system/multi-user.target.wants/stoqd.service"));

    let config = root.path().join("etc/stoq/stoqd.toml");
    let own = fs::read_to_string(&config).unwrap().replace("unnamed", "edge-a");
    fs::write(&config, &own).unwrap();
    for version in [VERSIONS[1], VERSIONS[0]] {
        install(&root, &packages, version);
        assert_eq!(fs::read_to_string(&config).unwrap(), own);
    }

    rpm(&root, &["--erase", "stoq"]);
    assert!(!root.has("usr/bin/stoqd") && !root.has("usr/lib/systemd/system/stoqd.service"));
    assert_eq!(fs::read_to_string(root.path().join("etc/stoq/stoqd.toml.rpmsave")).unwrap(), own);
}
