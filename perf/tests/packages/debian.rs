//! The .deb, in a Debian with a systemd that runs.

use std::path::Path;

use crate::machine::Machine;
use crate::{VERSIONS, packages, shown};

/// What the purge must leave nothing of.
const OURS: [&str; 7] = [
    "etc/stoq",
    "var/lib/stoq",
    "var/lib/hypermesh",
    "var/lib/stoq-backup",
    "run/stoq",
    "etc/systemd/system/multi-user.target.wants/stoqd.service",
    "etc/systemd/system/multi-user.target.wants/hypermeshd.service",
];

fn install(machine: &Machine, packages: &Path, version: &str) -> String {
    let name = format!("stoq_{version}-1_amd64.deb");
    let package = machine.root.bring(&packages.join(version).join(name));
    machine.run(&format!("dpkg --install --force-confold {package}"))
}

/// The numbers of the running daemons' processes; both must run.
fn running(machine: &Machine) -> [String; 2] {
    ["stoqd", "hypermeshd"].map(|daemon| {
        assert_eq!(machine.property(daemon, "ActiveState"), "active", "{daemon}");
        machine.property(daemon, "MainPID")
    })
}

/// That both daemons run the programs that are installed now.
fn run_what_is_installed(machine: &Machine) {
    for (daemon, pid) in ["stoqd", "hypermeshd"].iter().zip(running(machine)) {
        let program = machine.run(&format!("readlink /proc/{pid}/exe"));
        assert_eq!(program, format!("/usr/bin/{daemon}"));
    }
}

fn nothing_is_started(machine: &Machine) {
    for unit in ["stoqd", "hypermeshd", "stoq-tune", "stoq-backup.timer"] {
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
        assert_eq!(shown(&machine.inside(&format!("systemctl is-enabled {unit}"))), "disabled\n");
    }
}

/// Gives the node its certificate and its name, as the installed file tells.
fn configure(machine: &Machine) {
    machine.run("stoqctl pki init /root/pki --mesh lab");
    machine.run("stoqctl pki issue /root/pki edge-a --out /etc/stoq/pki");
    machine.run("sed -i 's/\"unnamed\"/\"edge-a\"/; s/^# \\(.tunnel.\\|addresses\\)/\\1/' /etc/stoq/stoqd.toml");
    machine.run("stoqd --check --config /etc/stoq/stoqd.toml");
}

/// stoqd answers, as the node that it is.
fn answers(machine: &Machine) {
    let status = machine.run("stoqctl status");
    assert!(status.starts_with("edge-a "), "{status}");
}

/// What identifies the tunnel device: another one of its name has another number.
fn device(machine: &Machine) -> String {
    machine.run("cat /sys/class/net/stoq0/ifindex")
}

/// An upgrade is a hand-over: the device stays, and its process is another one.
fn is_handed_over(machine: &Machine, since: &(String, String)) {
    let (device_then, pid_then) = since;
    assert_eq!(device(machine), *device_then);
    let pid = machine.property("stoqd", "MainPID");
    assert_ne!(pid, *pid_then);
    let said = machine.run(&format!("journalctl --output=cat _PID={pid} --grep='took over'"));
    assert!(said.contains("took over"), "{said}");
}

/// Who the daemons are, and that neither has more than its unit says.
fn daemons_have_no_privilege(machine: &Machine) {
    let [stoqd, hypermeshd] = running(machine);
    let field = |pid: &str, name: &str| {
        let line = machine.run(&format!("grep ^{name}: /proc/{pid}/status"));
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let id = |user: &str| machine.run(&format!("id -u {user}"));
    assert_eq!(field(&stoqd, "Uid"), id("stoq"));
    assert_eq!(field(&hypermeshd, "Uid"), id("hypermesh"));
    assert_eq!(u64::from_str_radix(&field(&stoqd, "CapBnd"), 16), Ok(0));
    assert_eq!(u64::from_str_radix(&field(&hypermeshd, "CapBnd"), 16), Ok(0));
}

#[test]
fn a_mesh_made_under_the_units_answers_for_its_names_without_privilege() {
    let name = "a_mesh_made_under_the_units_answers_for_its_names_without_privilege";
    let Some(packages) = packages(name) else {
        return;
    };
    let machine = Machine::boot();
    install(&machine, &packages, VERSIONS[0]);
    machine.run("systemctl enable --now hypermeshd");
    machine.run("hostname edge-a; stoqctl mesh create lab");
    daemons_have_no_privilege(&machine);
    machine.run("echo nameserver 127.0.92.53 > /etc/resolv.conf");
    let asked = "for i in $(seq 100); do getent ahosts edge-a.lab.internal && exit; sleep 0.2; done; \
                 stoqctl mesh status; exit 1";
    let answered = machine.run(asked);
    machine.run("systemctl stop stoqd");
    assert_eq!(machine.run(asked), answered, "its sockets do not go with stoqd");
    machine.run("systemctl start stoqd; systemctl restart hypermeshd");
    assert_eq!(machine.run(asked), answered, "and are opened anew");
    let udp = machine.run("cat /proc/net/udp6");
    assert!(udp.contains(":0035 "), "at the tunnel's address too: {udp}");
}

#[test]
fn a_deb_is_installed_upgraded_downgraded_removed_and_purged() {
    let Some(packages) = packages("a_deb_is_installed_upgraded_downgraded_removed_and_purged")
    else {
        return;
    };
    let machine = Machine::boot();
    eprintln!("under {}", machine.run("systemctl --version | head -n 1"));

    install(&machine, &packages, VERSIONS[0]);
    nothing_is_started(&machine);
    machine.run("stoqd --check --config /etc/stoq/stoqd.toml");
    let verify = "systemd-analyze verify --man=no stoqd.service hypermeshd.service stoq-tune.service \
                  stoq-backup.timer";
    assert_eq!(shown(&machine.inside(verify)), "");

    configure(&machine);
    machine.run("systemctl enable --now stoqd hypermeshd");
    answers(&machine);
    run_what_is_installed(&machine);
    daemons_have_no_privilege(&machine);
    machine.run("ip link show stoq0");
    let denied = machine.inside("journalctl --unit=stoqd --unit=hypermeshd | grep -i denied");
    assert_eq!(shown(&denied), "", "what the units forbid");

    let before = machine.run("sha256sum /etc/stoq/stoqd.toml");
    for version in [VERSIONS[1], VERSIONS[0]] {
        let since = (device(&machine), machine.property("stoqd", "MainPID"));
        install(&machine, &packages, version);
        answers(&machine);
        is_handed_over(&machine, &since);
        run_what_is_installed(&machine);
        assert_eq!(
            machine.run("sha256sum /etc/stoq/stoqd.toml"),
            before,
            "the operator's own file"
        );
    }
    for (line, stays) in
        [("systemctl restart stoqd", true), ("systemctl stop stoqd; systemctl start stoqd", false)]
    {
        let before = device(&machine);
        machine.run(line);
        answers(&machine);
        assert_eq!(device(&machine) == before, stays, "the device after `{line}`");
    }

    machine.run("dpkg --remove stoq");
    let left = machine.inside("readlink /proc/[0-9]*/exe | grep -E 'stoqd|hypermeshd'");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "processes");
    assert!(!machine.root.has("usr/bin/stoqd") && machine.root.has("etc/stoq/stoqd.toml"));

    machine.run("dpkg --purge stoq");
    let left: Vec<_> = OURS.into_iter().filter(|path| machine.root.has(path)).collect();
    assert!(left.is_empty(), "{left:?}");
    let owned = machine.run("find / -xdev '(' -user stoq -o -user hypermesh ')' -print");
    assert_eq!(owned, "", "files of the users");
}
