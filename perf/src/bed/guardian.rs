//! The process that removes a bed when its owner is gone, even by SIGKILL.
//!
//! The guardian reads from a pipe whose other end only the owner holds. The kernel closes that end
//! when the owner ends, however it ends; the guardian then kills what still runs in the bed's
//! namespaces and deletes them and the scratch folder. A bed that is dropped closes the pipe itself
//! and waits for the guardian. Beds whose guardian was killed too are swept by the next one made.

use crate::process;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What every namespace and scratch folder of a bed is called first.
const PREFIX: &str = "stoqbed";

/// `$1` is the name of the bed, `$2` its scratch folder. The keyboard's interrupt reaches the whole
/// foreground group; the guardian must outlive it.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
ip netns list | cut -d' ' -f1 | grep "^$1-" | while read -r namespace; do
    for pid in $(ip netns pids "$namespace"); do kill -9 "$pid" 2>/dev/null; done
    ip netns del "$namespace"
done
rm -rf "$2"
"#;

/// Watches over one bed; dropping it removes the bed and returns when that is done.
#[derive(Debug)]
pub(super) struct Guardian {
    child: Child,
}

impl Guardian {
    /// Starts to watch over the bed called `name`.
    pub(super) fn watch(name: &str) -> Result<Self> {
        let child = remover(name, Stdio::piped()).map_err(Error::io("start the guardian"))?;
        Ok(Self { child })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It fails only if the guardian was reaped, and then there is nothing to wait for.
        let _ = self.child.wait();
    }
}

fn remover(name: &str, stdin: Stdio) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", SCRIPT, "stoqbed-guardian", name])
        .arg(folder(name))
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// The name of the `serial`th bed of this process.
pub(super) fn name(serial: u32) -> String {
    format!("{PREFIX}-{}-{serial}", std::process::id())
}

/// The scratch folder of a bed.
pub(super) fn folder(name: &str) -> PathBuf {
    env::temp_dir().join(name)
}

/// Removes the beds of processes that no longer exist.
pub(super) fn sweep() -> Result<()> {
    let listed = process::run(Command::new("ip").args(["netns", "list"]))?;
    let beds: BTreeSet<String> = listed.lines().filter_map(stale_bed).collect();
    for bed in beds {
        let mut child = remover(&bed, Stdio::null()).map_err(Error::io("start the sweeper"))?;
        child.wait().map_err(Error::io("wait for the sweeper"))?;
    }
    Ok(())
}

/// The bed that a namespace belongs to, if the process that made it is gone.
fn stale_bed(line: &str) -> Option<String> {
    let mut parts = line.split_whitespace().next()?.split('-');
    let (prefix, pid, serial) = (parts.next()?, parts.next()?, parts.next()?);
    let owner: u32 = pid.parse().ok()?;
    let stale = prefix == PREFIX && !Path::new(&format!("/proc/{owner}")).exists();
    stale.then(|| format!("{PREFIX}-{owner}-{serial}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_beds_of_dead_processes_are_stale() {
        let own = std::process::id();
        assert_eq!(stale_bed(&format!("stoqbed-{own}-0-a (id: 3)")), None);
        assert_eq!(
            stale_bed("stoqbed-4194305-2-mid (id: 3)"),
            Some("stoqbed-4194305-2".to_owned())
        );
        assert_eq!(stale_bed("someone-4194305-2"), None);
        assert_eq!(stale_bed(""), None);
    }
}
