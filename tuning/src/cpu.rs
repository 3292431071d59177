//! Stages about processors.

use crate::host::Host;
use crate::{Look, Stage, Verdict};

/// Cores have lower numbers than this: twice what the largest host that Linux is built for by default
/// has.
const MAX_CORES: usize = 16_384;

pub(crate) const CORES: Stage = Stage {
    name: "cores",
    why: "a worker that owns its core is not held up by the rest of the host",
    look: |host, _| match online(host).len() {
        1 => Look::bad(
            Verdict::Advice,
            "1 core",
            "2 or more: one for a worker, one for everything else",
            "give the machine another core; expect less throughput until then",
        ),
        0 => Look::Good("the number of cores is not visible here".to_owned()),
        cores => Look::Good(format!("{cores} cores")),
    },
};

pub(crate) const GOVERNOR: Stage = Stage {
    name: "governor",
    why: "a core that is slowed down while packets are few is late for the next burst",
    look: |host, _| {
        let names = host.entries("sys/devices/system/cpu");
        let cores = names.iter().filter(|name| is_core(name));
        let governors = cores.filter_map(|core| {
            host.read(&format!("sys/devices/system/cpu/{core}/cpufreq/scaling_governor"))
        });
        match governors
            .into_iter()
            .find(|governor| governor == "powersave" || governor == "ondemand")
        {
            // intel_pstate and amd-pstate in their active mode call a governor `powersave` that
            // follows the load within microseconds.
            Some(_) if is_hardware_managed(host.read(DRIVER).as_deref()) => {
                Look::Good("the processor manages its own clock".to_owned())
            }
            Some(governor) => Look::bad(
                Verdict::Advice,
                governor,
                "performance, or schedutil",
                "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
            ),
            None => Look::Good("no slow governor".to_owned()),
        }
    },
};

const DRIVER: &str = "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver";

fn is_hardware_managed(driver: Option<&str>) -> bool {
    matches!(driver, Some("intel_pstate" | "amd-pstate-epp"))
}

fn is_core(name: &str) -> bool {
    let number = name.strip_prefix("cpu").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The cores that are on, in ascending order; none when they are not visible.
pub(crate) fn online(host: &Host) -> Vec<usize> {
    let list = host.read("sys/devices/system/cpu/online");
    list.as_deref().and_then(cores).unwrap_or_default()
}

/// The cores of a list such as `0-3,6`; `None` for any other text.
#[must_use]
pub fn cores(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MAX_CORES {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        for (list, expected) in [
            ("0", Some(vec![0])),
            ("0-3", Some(vec![0, 1, 2, 3])),
            ("0-1,6,8-9", Some(vec![0, 1, 6, 8, 9])),
            ("", None),
            ("3-0", None),
            ("a-b", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(cores(list), expected, "{list}");
        }
    }

    #[test]
    fn only_numbered_entries_are_cores() {
        assert!(is_core("cpu0") && is_core("cpu17"));
        assert!(!is_core("cpu") && !is_core("cpufreq") && !is_core("cpuidle"));
    }
}
