//! Which cores this daemon stays on, so that it never takes time from a worker of the data plane.
//!
//! Called once by the binary, before it starts a thread: threads inherit the cores. Owns nothing.

use std::fmt;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use stoq_tuning::{Host, control_cores, core_list, listed_cores};

/// Cores that an operator has listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List(Vec<usize>);

/// It is no list of cores.
#[derive(Debug, thiserror::Error)]
#[error("expected a list of cores such as 0-1,4, got `{0}`; `stoqctl tune cores` shows a plan")]
pub struct NoList(String);

/// Reads a list such as `0-1,4`.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<List, NoList> {
    listed_cores(text).map(List).ok_or_else(|| NoList(text.to_owned()))
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&core_list(&self.0))
    }
}

/// Keeps this thread, and those that it starts, on the listed cores; without a list, on those that the
/// host's plan leaves to the control plane, unless somebody has narrowed them already.
///
/// A refusal is logged and no more: on other cores everything works, only less well for packets.
pub fn stay_on(listed: Option<List>) {
    let Some(cores) = listed.or_else(|| control_cores(&Host::this()).map(List)) else {
        tracing::info!("cores: as they were given");
        return;
    };
    match set(&cores) {
        Ok(()) => tracing::info!("cores: {cores}"),
        Err(errno) => tracing::warn!(
            "expected to stay on the cores {cores}, got: {errno}; name others with --cores"
        ),
    }
}

fn set(cores: &List) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for core in &cores.0 {
        set.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::sched_getaffinity;

    /// What a thread of its own may run on after it has called `stay_on`.
    fn after(list: Option<&str>) -> Vec<usize> {
        let list = list.map(|list| parse(list).unwrap());
        let thread = std::thread::spawn(move || {
            stay_on(list);
            let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
            (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap()).collect()
        });
        thread.join().unwrap()
    }

    #[test]
    fn the_list_wins_then_the_plan_and_a_refusal_changes_nothing() {
        let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let all: Vec<_> = (0..CpuSet::count()).filter(|core| all.is_set(*core).unwrap()).collect();
        assert_eq!(after(Some(&all[0].to_string())), all[..1]);
        assert_eq!(after(None), control_cores(&Host::this()).unwrap_or_else(|| all.clone()));
        assert_eq!(
            after(Some(&(CpuSet::count() - 1).to_string())),
            all,
            "a core that is not there"
        );
        assert_eq!(after(Some("16000")), all, "a core that no mask can name");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "all", "0-", "3-1", "-1", "99999"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("0-1,4"), "{error}");
        }
        assert_eq!(parse("0-1,4").unwrap().to_string(), "0-1,4");
    }
}
