//! Settings of the host that stages change: what each is called, how it is read, how it is set.
//!
//! Owns the one place where anything of the host is changed, [`Host::set`], and the text form of
//! every value, which is what is shown and recorded. Called by the stages (to read), and by `tune`
//! (to set).

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ethtool::{Feature, Flow, Spread};
use crate::host::Host;
use crate::{irq, unit};

/// Longest name of an interface, in bytes (`IFNAMSIZ` without its zero).
const MAX_INTERFACE_LEN: usize = 15;

/// One thing that can be set. Their order is that in which they are set and restored: a driver that
/// changes its channels requests its interrupts anew, so that interrupts come after channels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "setting", rename_all = "kebab-case")]
pub enum Setting {
    /// The numbers of channels, such as `combined 4` or `rx 1 tx 1`.
    Channels {
        /// Whose.
        interface: String,
    },
    /// How hashes are spread over receive queues, such as `equal 4`.
    Spread {
        /// Whose.
        interface: String,
    },
    /// The lengths of the rings, such as `rx 512 tx 512`.
    Rings {
        /// Whose.
        interface: String,
    },
    /// Whether the interface does something: `on` or `off`.
    Feature {
        /// Whose.
        interface: String,
        /// What.
        feature: Feature,
    },
    /// What is hashed to choose a receive queue, such as `sdfn`.
    FlowHash {
        /// Whose.
        interface: String,
        /// Of which packets.
        flow: Flow,
    },
    /// Whether packets are taken from the interface by a thread: `0` or `1`.
    ThreadedNapi {
        /// Whose.
        interface: String,
    },
    /// The cores that an interrupt may go to, such as `0-3`. It is known by its name: its number is
    /// another after a reboot, or once the driver has requested it anew.
    IrqAffinity {
        /// Whose.
        interface: String,
        /// The name that the driver gave it, such as `wan-TxRx-0`.
        irq: String,
    },
    /// A number of the kernel's.
    Sysctl {
        /// Which.
        key: Sysctl,
    },
    /// What chooses the clock of a core, such as `performance`.
    Governor {
        /// The core's number.
        core: u16,
    },
    /// The cores that hypermeshd is limited to, such as `0-1`, or `none` without a limit of ours.
    ControlCores,
}

/// The kernel's numbers that may be set, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sysctl {
    /// The most that a socket may ask for to receive, in bytes.
    #[serde(rename = "net.core.rmem_max")]
    ReceiveMax,
    /// The most that a socket may ask for to send, in bytes.
    #[serde(rename = "net.core.wmem_max")]
    SendMax,
}

impl Sysctl {
    /// Its name.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::ReceiveMax => "net.core.rmem_max",
            Self::SendMax => "net.core.wmem_max",
        }
    }

    fn path(self) -> String {
        format!("proc/sys/{}", self.key().replace('.', "/"))
    }
}

/// Why a setting could not be read or set.
#[derive(Debug, Error)]
pub enum SettingError {
    /// The interface or the interrupt is not there.
    #[error("{0} is not there")]
    Gone(String),
    /// The driver or the kernel refused.
    #[error("the kernel or the driver says: {0}")]
    Refused(#[from] io::Error),
    /// `EOPNOTSUPP` to a thread for NAPI.
    #[error(
        "{0} has no NAPI now; a veth has it while it is up with an XDP program attached, or with GRO \
         on (`ethtool -K {0} gro on`)"
    )]
    NoNapi(String),
    /// The driver accepted it, and did nothing.
    #[error("the driver accepted it, but it is still {0}")]
    Ignored(String),
    /// A record or a stage asked for what is no value of this setting.
    #[error("expected a value such as `{expected}`, got `{got}`; undo it by hand")]
    Value {
        /// A value as it should look.
        expected: &'static str,
        /// What came.
        got: String,
    },
}

/// A setting that is to have another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting.
    pub what: Setting,
    /// The value that it had.
    pub was: String,
    /// The value that it should have. The same as `was` when only a side effect of the changes
    /// before could alter it.
    pub to: String,
}

impl Setting {
    /// The interface that it belongs to, if it does to one.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::Channels { interface }
            | Self::Spread { interface }
            | Self::Rings { interface }
            | Self::Feature { interface, .. }
            | Self::FlowHash { interface, .. }
            | Self::ThreadedNapi { interface }
            | Self::IrqAffinity { interface, .. } => Some(interface),
            Self::Sysctl { .. } | Self::Governor { .. } | Self::ControlCores => None,
        }
    }

    /// Whether the name can be an interface's. Any other could name a file elsewhere.
    pub(crate) fn is_named_well(&self) -> bool {
        let Some(name) = self.interface() else { return true };
        !matches!(name, "" | "." | "..")
            && name.len() <= MAX_INTERFACE_LEN
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channels { interface } => write!(f, "{interface} channels"),
            Self::Spread { interface } => write!(f, "{interface} rss-table"),
            Self::Rings { interface } => write!(f, "{interface} rings"),
            Self::Feature { interface, feature } => write!(f, "{interface} {feature}"),
            Self::FlowHash { interface, flow } => write!(f, "{interface} rx-flow-hash {flow}"),
            Self::ThreadedNapi { interface } => write!(f, "{interface} threaded"),
            Self::IrqAffinity { irq, .. } => write!(f, "{irq} smp_affinity_list"),
            Self::Sysctl { key } => f.write_str(key.key()),
            Self::Governor { core } => write!(f, "cpu{core} scaling_governor"),
            Self::ControlCores => f.write_str(unit::SHOWN),
        }
    }
}

impl Host {
    /// The value that a setting has.
    ///
    /// # Errors
    /// When the interface or the interrupt is gone, and what the driver says.
    pub(crate) fn get(&self, what: &Setting) -> Result<String, SettingError> {
        self.check_interface(what)?;
        Ok(match what {
            Setting::Channels { interface } => self.ethtool().channels(interface)?.to_string(),
            Setting::Spread { interface } => self.ethtool().table(interface)?.to_string(),
            Setting::Rings { interface } => self.ethtool().rings(interface)?.to_string(),
            Setting::Feature { interface, feature } => {
                switched(self.ethtool().feature(interface, *feature)?).to_owned()
            }
            Setting::FlowHash { interface, flow } => {
                self.ethtool().flow_hash(interface, *flow)?.to_string()
            }
            Setting::ThreadedNapi { interface } => self.try_read(&threaded(interface))?,
            Setting::IrqAffinity { interface, irq } => {
                self.try_read(&self.affinity(interface, irq)?)?
            }
            Setting::Sysctl { key } => self.try_read(&key.path())?,
            Setting::Governor { core } => self.try_read(&governor(*core))?,
            Setting::ControlCores => unit::limit(self)?,
        })
    }

    /// Gives a setting a value.
    ///
    /// # Errors
    /// When the interface or the interrupt is gone, for what is no value of this setting, and what
    /// the driver says.
    pub(crate) fn set(&self, what: &Setting, to: &str) -> Result<(), SettingError> {
        self.check_interface(what)?;
        let wrong = |expected| SettingError::Value { expected, got: to.to_owned() };
        match what {
            Setting::ThreadedNapi { interface } => {
                to.parse::<u8>().map_err(|_| wrong("1"))?;
                self.write(&threaded(interface), to).map_err(|error| no_napi(error, interface))?;
            }
            Setting::IrqAffinity { interface, irq } => {
                crate::cpu::cores(to).ok_or_else(|| wrong("0-3"))?;
                self.write(&self.affinity(interface, irq)?, to)?;
            }
            Setting::Sysctl { key } => {
                to.parse::<u64>().map_err(|_| wrong("8388608"))?;
                self.write(&key.path(), to)?;
            }
            Setting::Governor { core } => {
                let named =
                    !to.is_empty() && to.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                named.then_some(()).ok_or_else(|| wrong("performance"))?;
                self.write(&governor(*core), to)?;
            }
            Setting::ControlCores => unit::set_limit(self, to, || wrong("0-1"))?,
            Setting::Channels { .. }
            | Setting::Spread { .. }
            | Setting::Rings { .. }
            | Setting::Feature { .. }
            | Setting::FlowHash { .. } => self.set_driver(what, to, wrong)?,
        }
        Ok(())
    }

    /// As `set`, for what the driver of an interface is asked by `ethtool`.
    fn set_driver(
        &self,
        what: &Setting,
        to: &str,
        wrong: impl Fn(&'static str) -> SettingError,
    ) -> Result<(), SettingError> {
        let driver = self.ethtool();
        match what {
            Setting::Channels { interface } => {
                let now = driver.channels(interface)?;
                let channels = now.with(to).ok_or_else(|| wrong("combined 4"))?;
                driver.set_channels(interface, channels)?;
            }
            Setting::Spread { interface } => {
                let spread = Spread::parse(to).ok_or_else(|| wrong("equal 4"))?;
                driver.set_table(interface, &spread)?;
            }
            Setting::Rings { interface } => {
                let rings = driver.rings(interface)?.with(to);
                driver.set_rings(interface, rings.ok_or_else(|| wrong("rx 512 tx 512"))?)?;
            }
            Setting::Feature { interface, feature } => {
                let on = [false, true].into_iter().find(|on| switched(*on) == to);
                driver.set_feature(interface, *feature, on.ok_or_else(|| wrong("on"))?)?;
            }
            Setting::FlowHash { interface, flow } => {
                let hash = to.parse().map_err(|()| wrong("sdfn"))?;
                driver.set_flow_hash(interface, *flow, hash)?;
            }
            // Not the driver's: `set` does the others itself.
            Setting::ThreadedNapi { .. }
            | Setting::IrqAffinity { .. }
            | Setting::Sysctl { .. }
            | Setting::Governor { .. }
            | Setting::ControlCores => {}
        }
        Ok(())
    }

    fn check_interface(&self, what: &Setting) -> Result<(), SettingError> {
        let Some(name) = what.interface() else { return Ok(()) };
        let there = what.is_named_well() && self.exists(&format!("sys/class/net/{name}"));
        if there { Ok(()) } else { Err(SettingError::Gone(format!("the interface {name}"))) }
    }

    /// The file with the cores of an interrupt.
    fn affinity(&self, interface: &str, name: &str) -> Result<String, SettingError> {
        let mut irqs = irq::of_interface(self, interface).into_iter();
        let found = irqs.find(|irq| irq.name == name);
        found
            .map(|irq| irq.affinity_file())
            .ok_or_else(|| SettingError::Gone(format!("the interrupt {name}")))
    }
}

fn switched(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn governor(core: u16) -> String {
    format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")
}

fn threaded(interface: &str) -> String {
    format!("sys/class/net/{interface}/threaded")
}

fn no_napi(error: io::Error, interface: &str) -> SettingError {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => SettingError::NoNapi(interface.to_owned()),
        _ => error.into(),
    }
}
