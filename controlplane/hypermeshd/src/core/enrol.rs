//! Issuing: enrolment by a token, renewal, and this node's own certificate.

use hypermesh_api::{
    Base64, Done, EnrolReply, EnrolRequest, ErrorCode, OperatorCertificate, OperatorRequest,
    RenewReply, RenewRequest,
};
use hypermesh_consensus::{CommandV1, Ledger, Role};
use stoq_identity::{CertificateInfo, Kind, PublicKeys};
use stoq_trustchain::{Enrolment, Request, Subject, renewal_context};

use super::{Core, Membership};
use crate::issuer::Logged;
use crate::refused::Refused;
use crate::store::Change;
use crate::{bundling, clock, identity, pem, roles};

/// Largest difference of two clocks in seconds: certificates are backdated by as much, so within it
/// both hosts find a new one good.
const MAX_SKEW_S: u64 = 300;

impl Core {
    /// Exchanges a token for a certificate: the token's consumption, the certificate and its place in
    /// the log are one transaction. The same token with the same keys gives the same answer.
    ///
    /// # Errors
    /// Why the token or the request does not count.
    pub fn enrol(&mut self, request: &EnrolRequest, now_s: u64) -> Result<EnrolReply, Refused> {
        check_clock(request.at_s, now_s)?;
        let EnrolRequest { proof, request: asked, endpoints, at_s } = request;
        let enrolment = Enrolment { request: &asked.0, endpoints, at_s: *at_s };
        let token = enrolment.verify(&proof.0).map_err(invalid)?;
        let asked = Request::from_bytes(&asked.0).map_err(invalid)?;
        let keys = asked.verify(&token).map_err(invalid)?.clone();
        let membership = self.membership.as_mut().ok_or_else(|| invalid("no mesh here"))?;
        membership.check_mesh(&asked.mesh)?;
        let command = CommandV1::Enrol {
            token,
            node: asked.name.clone(),
            keys: keys.fingerprint(),
            endpoints: endpoints.clone(),
            at_s: now_s,
        };
        let (der, index) = match subject(membership.chain.ledger(), &asked.name, &token) {
            Some(subject) => membership.issue_with(&subject, &keys, now_s, Some(command))?,
            // No token and no member of it: the ledger says why.
            None => {
                return Err(membership
                    .submit(command, Change::default())
                    .err()
                    .unwrap_or_else(|| Refused::internal("an enrolment without a token")));
            }
        };
        let proof = membership.issuer()?.proof(index)?;
        let (_, bundle) = membership.bundle(&self.store)?;
        Ok(EnrolReply {
            certificate: pem::certificate(&der),
            log_proof: Base64(proof),
            bundle: Base64(bundle),
            snapshot: self.snapshot()?,
        })
    }

    /// Renews the certificate of a node, on its word over its own link.
    ///
    /// # Errors
    /// When it is no member, was revoked, or does not prove its keys.
    pub fn renew(
        &mut self,
        node: &str,
        request: &RenewRequest,
        now_s: u64,
    ) -> Result<RenewReply, Refused> {
        check_clock(request.at_s, now_s)?;
        let asked = Request::from_bytes(&request.request.0).map_err(invalid)?;
        let membership = self.mesh()?;
        membership.check_mesh(&asked.mesh)?;
        let ledger = membership.chain.ledger();
        let member = ledger.member(node).filter(|_| asked.name == node && asked.kind == Kind::Node);
        let member = member.ok_or_else(|| {
            let text =
                format!("expected the request of the member {node}, got one for {}", asked.name);
            Refused::new(ErrorCode::Forbidden, text)
        })?;
        let keys = proven(&asked, &member.keys, request.at_s)?;
        let subject = node_subject(ledger, node, member.index);
        let (der, index) = membership.issue_with(&subject, &keys, now_s, None)?;
        let proof = membership.issuer()?.proof(index)?;
        Ok(RenewReply { certificate: pem::certificate(&der), log_proof: Base64(proof) })
    }

    /// Renews the certificate of an operator, with the role that the ledger gives him now. The issuer's
    /// follows it, as it may be another than before.
    ///
    /// # Errors
    /// When it is for somebody else, or does not prove the operator's keys.
    pub fn renew_operator(
        &mut self,
        operator: &str,
        request: &RenewRequest,
        now_s: u64,
    ) -> Result<RenewReply, Refused> {
        check_clock(request.at_s, now_s)?;
        let asked = Request::from_bytes(&request.request.0).map_err(invalid)?;
        let membership = self.mesh()?;
        membership.check_mesh(&asked.mesh)?;
        let known = membership.chain.ledger().operator(operator);
        let own = asked.name == operator && matches!(asked.kind, Kind::Operator(_));
        let known = known.filter(|_| own).ok_or_else(|| {
            let text = format!(
                "expected the request of the operator {operator}, got one for {} {}",
                asked.kind, asked.name
            );
            Refused::new(ErrorCode::Forbidden, text)
        })?;
        let keys = proven(&asked, &known.keys, request.at_s)?;
        let subject = operator_subject(operator, known.role);
        let (der, index) = membership.issue_with(&subject, &keys, now_s, None)?;
        let issuer = membership.issuer()?;
        let certificate = pem::certificate(&der) + &pem::certificate(issuer.certificate());
        Ok(RenewReply { certificate, log_proof: Base64(issuer.proof(index)?) })
    }

    /// Whom a renewal is asked for; nothing of it is proven yet.
    ///
    /// # Errors
    /// When it is no request.
    pub fn asks_to_renew(request: &RenewRequest) -> Result<String, Refused> {
        Ok(Request::from_bytes(&request.request.0).map_err(invalid)?.name)
    }

    /// Issues this node's own certificate and replaces the identity file.
    ///
    /// # Errors
    /// On a host that issues nothing.
    pub fn renew_self(&mut self) -> Result<Done, Refused> {
        let membership = self.membership.as_mut().ok_or_else(|| invalid("no mesh here"))?;
        let (ledger, node) = (membership.chain.ledger(), membership.standing.node.clone());
        let member = ledger
            .member(&node)
            .ok_or_else(|| Refused::new(ErrorCode::Refused, "this node is no member any more"))?;
        let subject = node_subject(ledger, &node, member.index);
        let keys = membership.keys.public().clone();
        let (der, index) = membership.issue_with(&subject, &keys, clock::now_s(), None)?;
        let proof = membership.issuer()?.proof(index)?;
        identity::write(&self.dir, &der, &membership.keys, &proof, membership.chain.ledger())?;
        self.certificate = identity::standing(&self.dir)?;
        Ok(Done { height: self.height() })
    }

    /// Replaces the identity file by a certificate that another issuer gave.
    ///
    /// # Errors
    /// When it is not for this node's keys.
    pub fn take_certificate(&mut self, reply: &RenewReply) -> Result<(), Refused> {
        let der = pem::first_certificate("the renewed certificate", &reply.certificate)?;
        let keys = &self.mesh()?.keys;
        let certified = CertificateInfo::read(&der).map_err(invalid)?;
        if certified.keys != *keys.public() {
            return Err(invalid("expected a certificate of this node's keys, got one of others"));
        }
        if let Some(membership) = &self.membership {
            let ledger = membership.chain.ledger();
            identity::write(&self.dir, &der, &membership.keys, &reply.log_proof.0, ledger)?;
        }
        self.certificate = identity::standing(&self.dir)?;
        Ok(())
    }

    /// Gives an operator a role and a certificate.
    ///
    /// # Errors
    /// When the ledger refuses, or the keys are not proven.
    pub fn set_operator(
        &mut self,
        request: &OperatorRequest,
        now_s: u64,
    ) -> Result<OperatorCertificate, Refused> {
        let asked = Request::from_bytes(&request.request.0).map_err(invalid)?;
        let membership = self.mesh()?;
        membership.check_mesh(&asked.mesh)?;
        if asked.name != request.name {
            return Err(invalid(format!(
                "expected a request of {}, got one of {}",
                request.name, asked.name
            )));
        }
        let keys = asked.verify(&[]).map_err(invalid)?.clone();
        let role = request.role;
        let command = CommandV1::SetRole {
            operator: request.name.clone(),
            keys: keys.fingerprint(),
            role: roles::to_ledger(role),
            at_s: now_s,
        };
        let subject =
            Subject::Operator { name: request.name.clone(), role: roles::to_identity(role) };
        let (der, _) = membership.issue_with(&subject, &keys, now_s, Some(command))?;
        let certificate =
            pem::certificate(&der) + &pem::certificate(membership.issuer()?.certificate());
        let not_after_s = identity::validity(&der)?.not_after_s;
        Ok(OperatorCertificate { certificate, not_after_s })
    }
}

impl Membership {
    /// Issues a certificate and logs it, in the transaction of `command` if there is one.
    fn issue_with(
        &mut self,
        subject: &Subject,
        keys: &PublicKeys,
        now_s: u64,
        command: Option<CommandV1>,
    ) -> Result<(Vec<u8>, u64), Refused> {
        let issuer = self.issuer()?;
        let der = issuer.certify(subject, keys, now_s)?;
        let logged = issuer.log(&der, keys.fingerprint(), now_s)?;
        let Some(command) = command else {
            issuer.write(&logged.change)?;
            return Ok((der, issuer.took(logged)));
        };
        self.issue_by_command(command, keys, der, logged)
    }

    fn issue_by_command(
        &mut self,
        command: CommandV1,
        keys: &PublicKeys,
        der: Vec<u8>,
        logged: Logged,
    ) -> Result<(Vec<u8>, u64), Refused> {
        let before = self.chain.ledger().height();
        let receipt = self.submit(command, logged.change.clone())?;
        let issuer = self.issuer()?;
        if receipt.height > before {
            return Ok((der, issuer.took(logged)));
        }
        // Said before: the certificate of then, unless it was never written or is another's.
        if let Some((index, der)) = issuer.latest(&keys.fingerprint())? {
            return Ok((der, index));
        }
        issuer.write(&logged.change)?;
        Ok((der, issuer.took(logged)))
    }

    fn check_mesh(&self, mesh: &str) -> Result<(), Refused> {
        let own = self.chain.ledger().mesh().map_or("", |own| own.id.as_str());
        if own == mesh {
            return Ok(());
        }
        Err(invalid(format!("expected a request to mesh {own}, got one to {mesh}")))
    }
}

/// Whom a token makes: read from the open token, or from the member that it made.
fn subject(ledger: &Ledger, name: &str, token: &[u8; 32]) -> Option<Subject> {
    if let Some(open) = ledger.token(name).filter(|open| open.hash == *token) {
        return Some(match (open.role, open.index) {
            (Role::Operator(role), _) => operator_subject(name, role),
            (Role::Node, index) => node_subject(ledger, name, index?),
        });
    }
    if let Some(member) = ledger.member(name).filter(|m| m.token.as_ref() == Some(token)) {
        return Some(node_subject(ledger, name, member.index));
    }
    let operator = ledger.operator(name).filter(|o| o.token.as_ref() == Some(token))?;
    Some(operator_subject(name, operator.role))
}

fn operator_subject(name: &str, role: hypermesh_consensus::OperatorRole) -> Subject {
    Subject::Operator { name: name.to_owned(), role: roles::ledger_to_identity(role) }
}

fn node_subject(ledger: &Ledger, node: &str, index: u32) -> Subject {
    let addresses =
        bundling::addresses_of(ledger, index).into_iter().map(|net| net.addr()).collect();
    Subject::Node { node: node.to_owned(), addresses }
}

/// The keys of a renewal, once they are proven and those that are known.
fn proven(asked: &Request, known: &[u8; 32], at_s: u64) -> Result<PublicKeys, Refused> {
    let keys = asked.verify(&renewal_context(known, at_s)).map_err(invalid)?;
    if keys.fingerprint() == *known {
        return Ok(keys.clone());
    }
    let text = "expected the keys that are known, got others; to change keys, enrol again";
    Err(Refused::new(ErrorCode::Forbidden, text))
}

fn check_clock(theirs_s: u64, ours_s: u64) -> Result<(), Refused> {
    let ahead = theirs_s.cast_signed() - ours_s.cast_signed();
    if ahead.unsigned_abs() <= MAX_SKEW_S {
        return Ok(());
    }
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    let text = format!(
        "the joining host's clock is {} s {way} the issuer's, more than {MAX_SKEW_S} s; set the clock that is wrong (`timedatectl`), then try again",
        ahead.unsigned_abs()
    );
    Err(Refused::new(ErrorCode::Clock, text))
}

fn invalid(error: impl std::fmt::Display) -> Refused {
    Refused::new(ErrorCode::Invalid, error.to_string())
}
