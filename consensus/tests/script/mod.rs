//! Random commands, sensible and not, for the tests that replay them. The same seed gives the same.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::SocketAddr;

use hypermesh_consensus::{Command, CommandV1, Founder, Ledger, OperatorRole, Policy, Role};
use ipnet::IpNet;

/// Names that commands are about: few, so that they meet again.
const NAMES: u8 = 12;

pub struct Script {
    pub rng: fastrand::Rng,
    now_s: u64,
}

impl Script {
    pub fn new(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), now_s: 1_800_000_000 }
    }

    pub fn found() -> Command {
        let founder = Founder { node: "n0".to_owned(), keys: [0xf0; 32], endpoints: Vec::new() };
        Command::V1(CommandV1::Found {
            mesh: "lab-0123456789abcdef".to_owned(),
            name: "lab".to_owned(),
            prefix: "fd12:3456:789a::/48".parse().unwrap(),
            ipv4: Some("10.92.0.0/27".parse().unwrap()),
            policy: Policy::Hybrid,
            root: vec![0x30; 64],
            founder,
            at_s: 1_800_000_000,
        })
    }

    /// The next command: what a mesh does, mixed with what is against the rules.
    pub fn next(&mut self, ledger: &Ledger) -> Command {
        if ledger.mesh().is_none() && self.rng.u8(..4) != 0 {
            return Self::found();
        }
        self.now_s += self.rng.u64(..120);
        let (node, at_s) = (self.name(), self.now_s);
        Command::V1(match self.rng.u8(..24) {
            0..6 => CommandV1::CreateToken {
                hash: self.keys(),
                role: self.role(),
                expires_at_s: at_s + self.rng.u64(..1200),
                node,
                at_s,
            },
            6..12 => self.enrol(ledger, node),
            12 => CommandV1::DropToken { node },
            13 => CommandV1::SetEndpoints { node, endpoints: self.endpoints() },
            14..17 => CommandV1::AddRoute { node, prefix: self.prefix() },
            17 => CommandV1::RemoveRoute { prefix: self.held_route(ledger, &node), node },
            18 => CommandV1::Revoke { node, at_s },
            19 => self.set_role(node, at_s),
            20 => CommandV1::Leave { node, at_s },
            21 => return Self::found(),
            _ => self.add_issuer(node),
        })
    }

    fn enrol(&mut self, ledger: &Ledger, node: String) -> CommandV1 {
        let open = ledger.token(&node).map(|token| token.hash);
        let before = ledger.member(&node).and_then(|member| member.token);
        let token = open.or(before).filter(|_| self.rng.u8(..8) != 0);
        let token = token.unwrap_or_else(|| self.keys());
        let (keys, endpoints) = (self.keys(), self.endpoints());
        CommandV1::Enrol { token, node, keys, endpoints, at_s: self.now_s }
    }

    fn set_role(&mut self, operator: String, at_s: u64) -> CommandV1 {
        let roles = [OperatorRole::Viewer, OperatorRole::Operator, OperatorRole::Admin];
        let role = roles[self.rng.usize(..3)];
        CommandV1::SetRole { operator, keys: self.keys(), role, at_s }
    }

    fn add_issuer(&mut self, node: String) -> CommandV1 {
        let certificate = vec![1; self.rng.usize(..4)];
        let (keys, log) = (self.keys(), self.keys());
        CommandV1::AddIssuer { node, keys, certificate, log, log_certificate: vec![2; 3] }
    }

    fn name(&mut self) -> String {
        match self.rng.u8(..64) {
            0 => "-not-a-name".to_owned(),
            n => format!("n{}", n % NAMES),
        }
    }

    fn keys(&mut self) -> [u8; 32] {
        [self.rng.u8(..200); 32]
    }

    fn role(&mut self) -> Role {
        match self.rng.u8(..4) {
            0 => Role::Operator(OperatorRole::Viewer),
            _ => Role::Node,
        }
    }

    fn endpoints(&mut self) -> Vec<SocketAddr> {
        let count = self.rng.usize(..3);
        (0..count).map(|_| SocketAddr::from(([198, 51, 100, 7], self.rng.u16(..8)))).collect()
    }

    fn prefix(&mut self) -> IpNet {
        let length = self.rng.u8(6..=26);
        let address = [10, self.rng.u8(..), self.rng.u8(..4) << 6, 0];
        let net = IpNet::new(address.into(), length).unwrap();
        if self.rng.u8(..8) == 0 { net } else { net.trunc() }
    }

    fn held_route(&mut self, ledger: &Ledger, node: &str) -> IpNet {
        let held = ledger.member(node).and_then(|member| member.routes.first().copied());
        held.unwrap_or_else(|| self.prefix())
    }
}
