//! Stages that keep the control plane, and the rest of the host, off the workers' cores.

use crate::cpu::list;
use crate::host::Host;
use crate::setting::{Change, Setting};
use crate::{Look, Plan, Stage, Verdict, cpu, unit};

/// The controllers of cgroup version 2.
const CONTROLLERS: &str = "sys/fs/cgroup/cgroup.controllers";

/// The cores that the scheduler leaves alone (`isolcpus`).
const ISOLATED: &str = "sys/devices/system/cpu/isolated";

pub(crate) const CPUSET: Stage = Stage {
    name: "cpuset",
    why: "hypermeshd and what it starts never run on a worker's core, whatever they ask for",
    look: cpuset,
};

pub(crate) const ISOLATION: Stage = Stage {
    name: "isolation",
    why: "an isolated core has no task but those that are put there: without a worker it is idle",
    look: isolation,
};

/// stoqd itself has no limit: beside its pinned workers, its threads that send may use every core.
fn cpuset(host: &Host, plan: &Plan) -> Look {
    let controllers = host.read(CONTROLLERS).unwrap_or_default();
    if !controllers.split(' ').any(|controller| controller == "cpuset") {
        return Look::Good("skipped: no cgroup (version 2) with a cpuset controller".to_owned());
    }
    if !host.exists(unit::MANAGER) {
        return Look::Good("skipped: systemd does not manage this host".to_owned());
    }
    let cores = plan.core_plan(host);
    if cores.pinned.is_empty() {
        return Look::Good("workers are not pinned: no core is theirs alone".to_owned());
    }
    let what = Setting::ControlCores;
    let to = list(&cores.control);
    match host.get(&what) {
        Ok(was) if was == to => Look::Good(format!("{} {was}", unit::SHOWN)),
        Ok(was) => {
            let is = format!("{} {was}", unit::SHOWN);
            Look::settable(is, to.clone(), vec![Change { what, was, to }])
        }
        Err(error) => {
            Look::bad(Verdict::Advice, error.to_string(), to, "systemctl cat hypermeshd.service")
        }
    }
}

/// Isolating cores is for the host's operator alone: it takes them from everything else, for good.
fn isolation(host: &Host, plan: &Plan) -> Look {
    let isolated = host.read(ISOLATED).as_deref().and_then(cpu::cores).unwrap_or_default();
    let cores = plan.core_plan(host);
    if isolated.is_empty() {
        let advice = match list(&cores.pinned) {
            none if none.is_empty() => "workers are not pinned".to_owned(),
            cores => format!(
                "on a host for STOQ alone, the kernel's command line may have isolcpus={cores} \
                 nohz_full={cores} rcu_nocbs={cores} (gain not measured)"
            ),
        };
        return Look::Good(format!("no core is isolated; {advice}"));
    }
    let used = [cores.pinned, cores.beside].concat();
    let idle: Vec<usize> = isolated.iter().copied().filter(|core| !used.contains(core)).collect();
    if idle.is_empty() {
        return Look::Good(format!("isolated, each with a worker: {}", list(&isolated)));
    }
    Look::bad(
        Verdict::Advice,
        format!("isolated without a worker: {}", list(&idle)),
        "a worker, or the other thread of a worker's core, on each isolated core",
        "list them in `cores` of [transport], or take them out of isolcpus= and reboot",
    )
}
