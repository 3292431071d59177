//! The limit of hypermeshd's cores, as a drop-in of its unit.
//!
//! Owns one file below `/run`, so that a reboot undoes it as it does all other settings. systemd puts
//! the limit into the unit's cgroup (`AllowedCPUs=`, systemd.resource-control(5)), where it holds for every
//! thread and child, whatever mask they ask for. Called by `setting` and by the stage `cpuset`.

use std::io;
use std::process::{Command, Stdio};

use crate::cpu;
use crate::host::Host;
use crate::setting::SettingError;

/// How the setting is shown.
pub(crate) const SHOWN: &str = "hypermeshd.service AllowedCPUs";

/// The value without a limit of ours.
pub(crate) const NONE: &str = "none";

/// The directory is there when systemd manages this host (sd_booted(3)).
pub(crate) const MANAGER: &str = "run/systemd/system";

const FILE: &str = "run/systemd/system/hypermeshd.service.d/50-stoq-cores.conf";

const KEY: &str = "AllowedCPUs=";

/// The limit that is set.
///
/// # Errors
/// When the file is there, and cannot be read or has no limit.
pub(crate) fn limit(host: &Host) -> Result<String, SettingError> {
    let text = match host.try_read(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(NONE.to_owned()),
        Err(error) => return Err(error.into()),
    };
    let value = text.lines().find_map(|line| line.strip_prefix(KEY));
    let wrong = || SettingError::Value { expected: "AllowedCPUs=0-1", got: text.clone() };
    value.map(|value| value.trim().to_owned()).ok_or_else(wrong)
}

/// Sets the limit, or removes it for [`NONE`].
///
/// # Errors
/// `wrong` for what is no list of cores, and what writing the file or systemd says.
pub(crate) fn set_limit(
    host: &Host,
    to: &str,
    wrong: impl Fn() -> SettingError,
) -> Result<(), SettingError> {
    if to == NONE {
        host.remove(FILE)?;
    } else {
        cpu::cores(to).ok_or_else(wrong)?;
        let text = format!(
            "# By `stoqctl tune apply cpuset`, until its undo or the next boot.\n[Service]\n{KEY}{to}\n"
        );
        host.place(FILE, &text)?;
    }
    if host.is_this() { reload() } else { Ok(()) }
}

/// Has systemd read its units anew.
fn reload() -> Result<(), SettingError> {
    let mut command = Command::new("systemctl");
    command.arg("daemon-reload").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("`systemctl daemon-reload` ended with {status}")).into())
}
