//! What a figure was measured on: without it no figure says anything.

use crate::process;
use crate::workspace;
use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Command;
use std::thread;

/// What a CPU can do that the figures depend on: block ciphers, vectors, and what guards against its
/// own flaws cost.
const FLAGS: &[&str] = &[
    "aes",
    "vaes",
    "vpclmulqdq",
    "avx2",
    "avx512f",
    "pmull",
    "sve",
    "sha_ni",
    "ibrs_enhanced",
    "hypervisor",
];

/// The host of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// What of its flags the figures depend on; `hypervisor` means a virtual machine.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory in MiB.
    #[serde(default)]
    pub memory_mib: u64,
    /// The commit that was measured, with `+` when files differed from it; empty outside of a checkout.
    #[serde(default)]
    pub commit: String,
    /// Load average of the last minute before the run: above zero, something else ran too.
    pub load_before: String,
}

impl Host {
    /// Reads it from `/proc` and git; what cannot be read is empty.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let word = |path: &str| text(path).split_whitespace().next().unwrap_or_default().to_owned();
        let cpuinfo = text("/proc/cpuinfo");
        Self {
            kernel: word("/proc/sys/kernel/osrelease"),
            cpu: cpu_model(&cpuinfo),
            flags: cpu_flags(&cpuinfo),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_mib(&text("/proc/meminfo")),
            commit: commit(),
            load_before: word("/proc/loadavg"),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { kernel, cpu, flags, cores, memory_mib, commit, load_before } = self;
        let flags = flags.join(" ");
        format!(
            "{cpu} ({flags}), {cores} cores, {memory_mib} MiB, kernel {kernel}, commit {commit}, \
             load before {load_before}"
        )
    }
}

/// `model name` on x86; arm64 has no name there, only the numbers of its implementer and part.
fn cpu_model(cpuinfo: &str) -> String {
    let arm = || {
        let (implementer, part) =
            (of_cpu(cpuinfo, "CPU implementer")?, of_cpu(cpuinfo, "CPU part")?);
        Some(format!("implementer {implementer} part {part}"))
    };
    of_cpu(cpuinfo, "model name").map(str::to_owned).or_else(arm).unwrap_or_default()
}

/// `flags` on x86, `Features` on arm64.
fn cpu_flags(cpuinfo: &str) -> Vec<String> {
    let all = of_cpu(cpuinfo, "flags").or_else(|| of_cpu(cpuinfo, "Features")).unwrap_or_default();
    let known = |flag: &&str| FLAGS.contains(flag);
    all.split_whitespace().filter(known).map(str::to_owned).collect()
}

fn of_cpu<'text>(cpuinfo: &'text str, key: &str) -> Option<&'text str> {
    let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn memory_mib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn commit() -> String {
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(workspace::root()).args(words);
        process::run(&mut git).map(|printed| printed.trim().to_owned())
    };
    let Ok(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return String::new() };
    let is_clean = git(&["status", "--porcelain"]).is_ok_and(|changes| changes.is_empty());
    commit + if is_clean { "" } else { "+" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_cpuinfo() {
        let x86 = "processor\t: 0\nmodel name\t: Intel N100\nflags\t\t: fpu aes avx2 sse\n";
        assert_eq!(cpu_model(x86), "Intel N100");
        assert_eq!(cpu_flags(x86), ["aes", "avx2"]);
        let arm = "processor\t: 0\nFeatures\t: fp pmull aes\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(cpu_model(arm), "implementer 0x41 part 0xd0c");
        assert_eq!(cpu_flags(arm), ["pmull", "aes"]);
    }

    #[test]
    fn memory_is_read_in_mib() {
        assert_eq!(memory_mib("MemTotal:        8165336 kB\nMemFree: 1 kB\n"), 7973);
        assert_eq!(memory_mib(""), 0);
    }
}
