//! The process of a crowd: one thread, one poll, one list of timers for all of its nodes.

use super::member::{Member, Turn};
use super::mint::Mint;
use super::{NODES_MAX, Progress, READY, TOLD, Target};
use crate::{Error, Result};
use mio::{Events, Interest, Poll, Token};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stoq_telemetry::Drops;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// Nodes that dial at a time until each has been up once: they share one core, and a node whose core is
/// taken by the others gives up its handshake, which nodes on hosts of their own would not.
const DIALLING_MAX: usize = 64;

/// Sockets that one poll tells of at most; the others are told of by the next.
const EVENTS_MAX: usize = 1024;

struct Swarm {
    poll: Poll,
    members: Vec<Member>,
    timers: BTreeSet<(Instant, usize)>,
    began: Instant,
    target: Target,
    /// Members that have dialled, the first ones, and those of them that have been up.
    dialled: usize,
    reached: usize,
    told: Progress,
}

/// Makes the nodes that `spec` asks for and keeps their links, until it is killed.
///
/// # Errors
/// When certificates, sockets or memory are refused.
pub fn run(spec: &str) -> Result<()> {
    let target: Target = serde_json::from_str(spec).map_err(|error| Error::Output {
        what: "the argument of a crowd".to_owned(),
        expected: "a target in JSON".to_owned(),
        got: error.to_string(),
    })?;
    let mut swarm = Swarm::gather(target)?;
    println!("{READY}");
    swarm.live().map_err(Error::io("carry a crowd's packets"))
}

impl Swarm {
    fn gather(target: Target) -> Result<Self> {
        let poll = Poll::new().map_err(Error::io("open a poll"))?;
        let mint = Mint::open(&target.root)?;
        let drops = Arc::new(Drops::default());
        let mut members = Vec::new();
        for number in 0..target.nodes.min(NODES_MAX) {
            let mut member = Member::new(mint.identity(number, &target)?, &target, &drops)?;
            let token = Token(members.len());
            let watched = poll.registry().register(&mut member.socket, token, Interest::READABLE);
            watched.map_err(Error::io("watch a node's socket"))?;
            members.push(member);
        }
        let (timers, told) = (BTreeSet::new(), Progress::default());
        let (began, dialled, reached) = (Instant::now(), 0, 0);
        Ok(Self { poll, members, timers, began, target, dialled, reached, told })
    }

    /// Has the next nodes dial.
    fn dial(&mut self) {
        while self.dialled < self.members.len() && self.dialled - self.reached < DIALLING_MAX {
            let at = self.dialled;
            self.dialled += 1;
            self.members[at].dial(&self.target, Instant::now());
            self.set_timer(at);
        }
    }

    fn live(&mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        self.began = Instant::now();
        let mut tell_at = self.began;
        loop {
            self.dial();
            let now = Instant::now();
            if now >= tell_at {
                self.tell(now)?;
                tell_at = now + TELL_EVERY;
            }
            let due = self.timers.first().map_or(tell_at, |(at, _)| tell_at.min(*at));
            self.poll.poll(&mut events, Some(due.saturating_duration_since(now)))?;
            for event in &events {
                self.turn(event.token().0)?;
            }
            self.serve_timers()?;
        }
    }

    /// Serves the timers that are due, as many as there are nodes at most: then sockets have their turn.
    fn serve_timers(&mut self) -> std::io::Result<()> {
        let now = Instant::now();
        for _ in 0..self.members.len() {
            match self.timers.first() {
                Some(&(at, member)) if at <= now => self.turn(member)?,
                _ => break,
            }
        }
        Ok(())
    }

    fn turn(&mut self, at: usize) -> std::io::Result<()> {
        let now = Instant::now();
        let Turn { came_up, went_down, refused, sent, received } = self.members[at].turn(now)?;
        let told = &mut self.told;
        told.came_up += came_up;
        told.went_down += went_down;
        told.refused += refused;
        told.sent += sent;
        told.received += received;
        if came_up > 0 {
            self.reached +=
                usize::from(!std::mem::replace(&mut self.members[at].has_been_up, true));
            told.last_up_s = self.began.elapsed().as_secs_f64();
        }
        self.set_timer(at);
        Ok(())
    }

    fn set_timer(&mut self, at: usize) {
        let member = &mut self.members[at];
        let due = member.timeout();
        let old = std::mem::replace(&mut member.timer, due);
        if old == due {
            return;
        }
        if let Some(old) = old {
            self.timers.remove(&(old, at));
        }
        if let Some(due) = due {
            self.timers.insert((due, at));
        }
    }

    fn tell(&mut self, now: Instant) -> std::io::Result<()> {
        let up = || self.members.iter().filter(|member| member.is_up);
        let silent = up().map(|member| now.saturating_duration_since(member.heard)).max();
        self.told.up = u32::try_from(up().count()).unwrap_or(u32::MAX);
        self.told.silent_s = silent.unwrap_or_default().as_secs_f64();
        self.told.seconds = now.saturating_duration_since(self.began).as_secs_f64();
        println!("{TOLD}{}", serde_json::json!(self.told));
        std::io::stdout().flush()
    }
}
