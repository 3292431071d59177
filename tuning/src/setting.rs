//! Settings of the host that stages change: what each is called, how it is read, how it is set.
//!
//! Owns the one place where anything of the host is changed, [`Host::set`], and the text form of
//! every value, which is what is shown and recorded. Called by the stages (to read), and by `tune`
//! (to set).

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ethtool::Flow;
use crate::host::Host;
use crate::irq;

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
}

/// Why a setting could not be read or set.
#[derive(Debug, Error)]
pub enum SettingError {
    /// The interface or the interrupt is not there.
    #[error("{0} is not there")]
    Gone(String),
    /// The driver or the kernel refused.
    #[error("the driver says: {0}")]
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
    /// The interface that it belongs to.
    #[must_use]
    pub fn interface(&self) -> &str {
        match self {
            Self::Channels { interface }
            | Self::FlowHash { interface, .. }
            | Self::ThreadedNapi { interface }
            | Self::IrqAffinity { interface, .. } => interface,
        }
    }

    /// Whether the name can be an interface's. Any other could name a file elsewhere.
    pub(crate) fn is_named_well(&self) -> bool {
        let name = self.interface();
        !matches!(name, "" | "." | "..")
            && name.len() <= MAX_INTERFACE_LEN
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channels { interface } => write!(f, "{interface} channels"),
            Self::FlowHash { interface, flow } => write!(f, "{interface} rx-flow-hash {flow}"),
            Self::ThreadedNapi { interface } => write!(f, "{interface} threaded"),
            Self::IrqAffinity { irq, .. } => write!(f, "{irq} smp_affinity_list"),
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
            Setting::FlowHash { interface, flow } => {
                self.ethtool().flow_hash(interface, *flow)?.to_string()
            }
            Setting::ThreadedNapi { interface } => self.try_read(&threaded(interface))?,
            Setting::IrqAffinity { interface, irq } => {
                self.try_read(&self.affinity(interface, irq)?)?
            }
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
            Setting::Channels { interface } => {
                let now = self.ethtool().channels(interface)?;
                let channels = now.with(to).ok_or_else(|| wrong("combined 4"))?;
                self.ethtool().set_channels(interface, channels)?;
            }
            Setting::FlowHash { interface, flow } => {
                let hash = to.parse().map_err(|()| wrong("sdfn"))?;
                self.ethtool().set_flow_hash(interface, *flow, hash)?;
            }
            Setting::ThreadedNapi { interface } => {
                to.parse::<u8>().map_err(|_| wrong("1"))?;
                self.write(&threaded(interface), to).map_err(|error| no_napi(error, interface))?;
            }
            Setting::IrqAffinity { interface, irq } => {
                crate::cpu::cores(to).ok_or_else(|| wrong("0-3"))?;
                self.write(&self.affinity(interface, irq)?, to)?;
            }
        }
        Ok(())
    }

    fn check_interface(&self, what: &Setting) -> Result<(), SettingError> {
        let name = what.interface();
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

fn threaded(interface: &str) -> String {
    format!("sys/class/net/{interface}/threaded")
}

fn no_napi(error: io::Error, interface: &str) -> SettingError {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => SettingError::NoNapi(interface.to_owned()),
        _ => error.into(),
    }
}
