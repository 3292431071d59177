//! A host's own files: the daemons and commands of each host use their real paths, and yet several
//! hosts share this machine. A mount namespace gives each its own `/etc` and `/var/lib` (what it
//! writes lies above the machine's), its own `/run`, and a host name; an anchor process keeps it.

use super::CONFIG;
use crate::bed::Namespace;
use crate::process::Process;
use crate::{Error, Result};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The user that `hypermeshd` runs as.
pub const HYPERMESH: &str = "hypermesh";

/// The group of its sockets: that of stoqd, which hands over the streams of peers.
pub const STOQ: &str = "stoq";

/// How long the mounts may take.
const MOUNTED: Duration = Duration::from_secs(30);

/// What the anchor prints when all is in place.
const READY: &str = "files are mounted";

/// `$1` is an empty folder, `$2` the host's name. User numbers are above those that Debian gives out.
const SCRIPT: &str = r#"
mount -t tmpfs tmpfs "$1"
for part in etc var/lib; do
    mkdir -p "$1/$part" "$1/overlay/$part"
    mount -t overlay overlay -o "lowerdir=/$part,upperdir=$1/$part,workdir=$1/overlay/$part" "/$part"
done
# Bare, whatever this machine has itself.
rm -rf /etc/stoq /var/lib/stoq /var/lib/stoq-root /var/lib/hypermesh
mount -t tmpfs tmpfs /run
hostname "$2"
for user in hypermesh:62101 stoq:62102; do
    name=${user%:*} id=${user#*:}
    grep -q "^$name:" /etc/group || echo "$name:x:$id:" >>/etc/group
    grep -q "^$name:" /etc/passwd || echo "$name:x:$id:$id::/nonexistent:/bin/false" >>/etc/passwd
done
# What a service manager makes before it starts the two daemons.
install -d -m 0755 /run/stoq
install -d -o hypermesh -g stoq -m 0755 /run/hypermesh
install -d -o hypermesh -g stoq -m 0700 /var/lib/hypermesh
rm -f /etc/resolv.conf
printf 'nameserver 127.0.92.53\noptions timeout:1\n' >/etc/resolv.conf
echo files are mounted
exec sleep infinity
"#;

/// The files of one host.
#[derive(Debug)]
pub struct Files {
    anchor: Process,
}

impl Files {
    /// Mounts them for the host `name` in `namespace`, with what they hold below `folder`.
    pub fn mount(namespace: &Namespace, folder: &Path, name: &str) -> Result<Self> {
        let own = folder.join(format!("files-{name}"));
        fs::create_dir(&own).map_err(Error::io(format!("create {}", own.display())))?;
        let log = folder.join(format!("anchor-{name}.log"));
        let script = ["--mount", "--uts", "sh", "-ec", SCRIPT, "stoqbed-anchor"].map(OsStr::new);
        let words = script.into_iter().chain([own.as_os_str(), OsStr::new(name)]);
        let mut anchor = Process::spawn(namespace, &log, Path::new("unshare"), words)?;
        anchor.wait_for_log(READY, MOUNTED)?;
        Ok(Self { anchor })
    }

    /// Where the host's file `path` is for this process.
    pub fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.anchor.pid()))
    }

    /// A command that will run `program` with these files, in the host's network.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.anchor.pid().to_string();
        command.args(["--target", &target, "--mount", "--uts", "--net", "--"]).arg(program);
        command
    }

    /// Takes plain sockets in the host's stoqd configuration: hosts that share two cores would
    /// measure each other when they choose by measuring. Gives the configuration's path.
    pub fn use_plain_sockets(&self) -> Result<&'static str> {
        let path = self.at(CONFIG);
        let failed = |source| Error::Io { what: format!("{}", path.display()), source };
        let text = fs::read_to_string(&path).map_err(failed)?;
        fs::write(&path, text.replace("port = \"auto\"", "port = \"mio\"")).map_err(failed)?;
        Ok(CONFIG)
    }
}
