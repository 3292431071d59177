//! Stages about processors.

use crate::{Look, Stage, Verdict};

pub(crate) const CORES: Stage = Stage {
    name: "cores",
    why: "a worker that owns its core is not held up by the rest of the host",
    look: |host, _| {
        let cores = host.read("sys/devices/system/cpu/online").as_deref().and_then(count);
        match cores {
            Some(1) => Look::bad(
                Verdict::Advice,
                "1 core",
                "2 or more: one for a worker, one for everything else",
                "give the machine another core; expect less throughput until then",
            ),
            Some(cores) => Look::Good(format!("{cores} cores")),
            None => Look::Good("the number of cores is not visible here".to_owned()),
        }
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

/// The number of cores in a list such as `0-3,6`.
fn count(list: &str) -> Option<u32> {
    list.split(',').try_fold(0u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_counted() {
        for (list, expected) in [
            ("0", Some(1)),
            ("0-3", Some(4)),
            ("0-3,6,8-9", Some(7)),
            ("", None),
            ("3-0", None),
            ("a-b", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(count(list), expected, "{list}");
        }
    }

    #[test]
    fn only_numbered_entries_are_cores() {
        assert!(is_core("cpu0") && is_core("cpu17"));
        assert!(!is_core("cpu") && !is_core("cpufreq") && !is_core("cpuidle"));
    }
}
