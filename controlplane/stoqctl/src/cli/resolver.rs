//! The arguments of `stoqctl names`.

use clap::{Args, Subcommand, ValueEnum};

/// The tunnel's interface, unless stoqd's configuration says otherwise.
pub const TUNNEL: &str = "stoq0";

#[derive(Debug, Subcommand)]
pub enum Resolver {
    /// Show where names are asked, for which domains, and the keys that sign them.
    Show,
    /// Say whether this host's resolver asks hypermeshd. Changes nothing.
    Check {
        #[command(flatten)]
        stage: Stage,
    },
    /// Have it ask hypermeshd: by systemd-resolved where that runs. Again after each start of stoqd.
    Apply {
        #[command(flatten)]
        stage: Stage,
    },
    /// Have it ask what it asked before.
    Undo {
        #[command(flatten)]
        stage: Stage,
    },
}

/// By what the host is told.
#[derive(Debug, Args)]
pub struct Stage {
    /// This one; by default what the host has.
    #[arg(value_enum)]
    pub stage: Option<ResolverStage>,
    /// The tunnel's interface, which systemd-resolved is told of.
    #[arg(long, value_name = "NAME", default_value = TUNNEL)]
    pub interface: String,
}

/// The stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResolverStage {
    /// systemd-resolved asks hypermeshd for the mesh's domains alone.
    Resolved,
    /// /etc/resolv.conf names hypermeshd, which forwards the rest.
    ResolvConf,
}
