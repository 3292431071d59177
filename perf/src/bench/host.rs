//! What a figure was measured on: without it no figure says anything.

use serde::Serialize;
use std::fs;
use std::thread;

/// The host of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Load average of the last minute before the run: above zero, something else ran too.
    pub load_before: String,
}

impl Host {
    /// Reads it from `/proc`; what cannot be read is empty.
    #[must_use]
    pub fn read() -> Self {
        let word = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().next().unwrap_or_default().to_owned()
        };
        Self {
            kernel: word("/proc/sys/kernel/osrelease"),
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: thread::available_parallelism().map_or(0, usize::from),
            load_before: word("/proc/loadavg"),
        }
    }
}

/// `model name` on x86; arm64 has no name there, only the numbers of its implementer and part.
fn cpu_model(cpuinfo: &str) -> String {
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let arm =
        || Some(format!("implementer {} part {}", value("CPU implementer")?, value("CPU part")?));
    value("model name").or_else(arm).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_cpuinfo() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Intel N100\n"), "Intel N100");
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(cpu_model(arm), "implementer 0x41 part 0xd0c");
    }
}
