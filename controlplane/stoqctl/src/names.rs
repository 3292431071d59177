//! `stoqctl names`: makes this host ask hypermeshd for the mesh's names, and undoes it.
//!
//! The stages are those of `stoq-names`: one for systemd-resolved, one for resolv.conf. What they are to
//! say comes from hypermeshd.

use std::net::IpAddr;
use std::path::PathBuf;

use hypermesh_api::{Names, path};
use serde::Serialize;
use stoq_names::host::{Change, HostError, ORIGINAL, PATH, ResolvConf, Resolved};
use stoq_tuning::{Finding, Verdict};

use crate::cli::{Resolver, ResolverStage, TUNNEL};
use crate::failure::Failure;
use crate::hypermesh::{Way, connect};
use crate::output::{self, answer};

/// A stage, ready to run.
enum Stage {
    Resolved(Resolved),
    ResolvConf(ResolvConf),
}

/// Carries out one of the commands.
pub fn run(way: &Way, command: &Resolver, json: bool) -> Result<(), Failure> {
    if !matches!(command, Resolver::Show) {
        way.local()?;
    }
    match command {
        Resolver::Show => show(&names(way)?, json),
        Resolver::Check { stage } => {
            let chosen = stage.stage.unwrap_or_else(own);
            let finding = choose(way, chosen, &stage.interface)?.check();
            answer(json, &output::Finding::from(&finding), |_| found(&finding))
        }
        Resolver::Apply { stage } => {
            let chosen =
                stage.stage.or_else(|| Resolved::is_there().then_some(ResolverStage::Resolved));
            let chosen = chosen.ok_or_else(|| {
                Failure::Usage(format!(
                    "expected systemd-resolved, which does not run here; to have {PATH} replaced \
                     instead, say so: stoqctl names apply resolv-conf"
                ))
            })?;
            done(json, choose(way, chosen, &stage.interface)?.apply(), "the host asks hypermeshd")
        }
        Resolver::Undo { stage } => {
            let chosen = stage.stage.unwrap_or_else(own);
            done(
                json,
                restorable(chosen, &stage.interface).undo(),
                "the host asks what it asked before",
            )
        }
    }
}

/// Whether programs of this host find the mesh's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// Not before stoqd runs.
    Pending,
    /// They do.
    Asked,
    /// Not unless the operator has resolv.conf replaced.
    OptIn,
    /// The host's resolver could not be told, and why.
    Failed(String),
}

impl Naming {
    /// What is left to the operator.
    pub fn shown(&self) -> String {
        match self {
            Self::Pending => "Once stoqd runs: stoqctl names apply\n".to_owned(),
            Self::Asked => "The mesh's names are found here.\n".to_owned(),
            Self::OptIn => format!(
                "No systemd-resolved runs here: to have the mesh's names found, let {PATH} be replaced \
                 (`stoqctl names undo` restores it): stoqctl names apply resolv-conf\n"
            ),
            Self::Failed(why) => format!("The mesh's names are not found yet: {why}\n"),
        }
    }
}

/// Has this host's resolver ask for the mesh's names where it is made for that (systemd-resolved); a
/// resolv.conf belongs to somebody else, and is only looked at.
pub fn settle(way: &Way) -> Naming {
    let stage = choose(way, own(), TUNNEL);
    match stage.map(|stage| (stage.check().verdict, stage)) {
        Ok((Verdict::Good, _)) => Naming::Asked,
        Ok((_, Stage::ResolvConf(_))) => Naming::OptIn,
        Ok((_, stage)) => {
            stage.apply().map_or_else(|e| Naming::Failed(e.to_string()), |_| Naming::Asked)
        }
        Err(failure) => Naming::Failed(failure.to_string()),
    }
}

/// The stage of this host if nobody says otherwise.
fn own() -> ResolverStage {
    if Resolved::is_there() { ResolverStage::Resolved } else { ResolverStage::ResolvConf }
}

fn names(way: &Way) -> Result<Names, Failure> {
    let names: Names = connect(way)?.get(path::NAMES)?;
    if names.domains.is_empty() {
        return Err(Failure::Refused(
            "expected hypermeshd to serve names, got none; create or join a mesh first, or look at \
             its log"
                .to_owned(),
        ));
    }
    Ok(names)
}

fn choose(way: &Way, stage: ResolverStage, interface: &str) -> Result<Stage, Failure> {
    let Names { server, domains, .. } = names(way)?;
    Ok(match stage {
        ResolverStage::Resolved => {
            Stage::Resolved(Resolved { interface: interface.to_owned(), server, domains })
        }
        ResolverStage::ResolvConf => Stage::ResolvConf(resolv_conf(server)),
    })
}

/// A stage that is only undone: hypermeshd need not run for that.
fn restorable(stage: ResolverStage, interface: &str) -> Stage {
    let server = stoq_names::LOOPBACK.into();
    match stage {
        ResolverStage::Resolved => Stage::Resolved(Resolved {
            interface: interface.to_owned(),
            server,
            domains: Vec::new(),
        }),
        ResolverStage::ResolvConf => Stage::ResolvConf(resolv_conf(server)),
    }
}

fn resolv_conf(server: IpAddr) -> ResolvConf {
    ResolvConf { path: PathBuf::from(PATH), original: PathBuf::from(ORIGINAL), server }
}

impl Stage {
    fn check(&self) -> Finding {
        match self {
            Self::Resolved(stage) => stage.check(),
            Self::ResolvConf(stage) => stage.check(),
        }
    }

    fn apply(&self) -> Result<Change, HostError> {
        match self {
            Self::Resolved(stage) => stage.apply(),
            Self::ResolvConf(stage) => stage.apply(),
        }
    }

    fn undo(&self) -> Result<Change, HostError> {
        match self {
            Self::Resolved(stage) => stage.undo(),
            Self::ResolvConf(stage) => stage.undo(),
        }
    }
}

/// One line: what is, what it should be, and what that gains.
fn found(finding: &Finding) -> String {
    let Finding { stage, is, should, why, mend, .. } = finding;
    if finding.verdict == Verdict::Good {
        return format!("{stage}  {is} (good)\n");
    }
    format!("{stage}  {is} -> {should} ({why}); {mend}\n")
}

/// What became of the host's resolver.
#[derive(Serialize)]
struct Told {
    /// Whether anything had to be changed.
    changed: bool,
    /// How it is now.
    now: &'static str,
}

fn done(json: bool, change: Result<Change, HostError>, now: &'static str) -> Result<(), Failure> {
    let change = change.map_err(|error| Failure::Refused(error.to_string()))?;
    answer(json, &Told { changed: change == Change::Made, now }, |told| match told.changed {
        true => format!("Done: {now}.\n"),
        false => format!("Nothing to do: {now}.\n"),
    })
}

fn show(names: &Names, json: bool) -> Result<(), Failure> {
    answer(json, names, |names| {
        let mut text = format!("asked at {}: {}\n", names.server, names.domains.join(", "));
        for anchor in &names.anchors {
            text += &format!(
                "{} IN DNSKEY {}\n{} IN DS {}\n",
                anchor.zone, anchor.dnskey, anchor.zone, anchor.ds
            );
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_what_mends_it() {
        let mut finding = Finding::good("resolved", "stoq0 asks 127.0.92.53".to_owned());
        assert_eq!(found(&finding), "resolved  stoq0 asks 127.0.92.53 (good)\n");
        finding.verdict = Verdict::Advice;
        finding.mend = "resolvectl dns stoq0 127.0.92.53".to_owned();
        assert!(found(&finding).ends_with("; resolvectl dns stoq0 127.0.92.53\n"));
    }
}
