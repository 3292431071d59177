//! Stages about processors.

use crate::host::Host;
use crate::setting::{Change, Setting};
use crate::{Look, Plan, Stage, Verdict};

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
    look: governor,
};

/// Governors that wait for load before they give a core its clock.
const SLOW: [&str; 3] = ["powersave", "ondemand", "conservative"];

fn governor(host: &Host, _: &Plan) -> Look {
    let cores = host.entries("sys/devices/system/cpu").into_iter();
    let numbers = cores.filter_map(|name| name.strip_prefix("cpu")?.parse().ok());
    let mut changes = Vec::new();
    for core in numbers {
        let what = Setting::Governor { core };
        let Ok(was) = host.get(&what) else { continue };
        if SLOW.contains(&was.as_str()) {
            changes.push(Change { what, was, to: "performance".to_owned() });
        }
    }
    changes.sort_by(|a, b| a.what.cmp(&b.what));
    let Some(first) = changes.first() else { return Look::Good("no slow governor".to_owned()) };
    // intel_pstate and amd-pstate in their active mode call a governor `powersave` that follows the
    // load within microseconds.
    if is_hardware_managed(host.read(DRIVER).as_deref()) {
        return Look::Good("the processor manages its own clock".to_owned());
    }
    let is = format!("{} on {} cores", first.was, changes.len());
    Look::settable(is, "performance, or schedutil", changes)
}

const DRIVER: &str = "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver";

fn is_hardware_managed(driver: Option<&str>) -> bool {
    matches!(driver, Some("intel_pstate" | "amd-pstate-epp"))
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

/// Cores as the kernel lists them, such as `0-1,4`; empty for none.
#[must_use]
pub fn list(cores: &[usize]) -> String {
    let mut sorted = cores.to_vec();
    sorted.sort_unstable();
    let ranges = sorted.chunk_by(|a, b| a + 1 == *b);
    let text = ranges.filter_map(|range| match range {
        [] => None,
        [only] => Some(only.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
    });
    text.collect::<Vec<_>>().join(",")
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
    fn cores_are_listed_as_they_are_read() {
        for text in ["0", "0-1", "0-2,4,6-7"] {
            assert_eq!(list(&cores(text).unwrap()), text);
        }
        assert_eq!((list(&[]), list(&[3, 1, 2])), (String::new(), "1-3".to_owned()));
    }
}
