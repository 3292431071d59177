//! Tokens, of which the ledger keeps only hashes.

use hypermesh_api::{ErrorCode, TokenInfo, TokenReply, TokenRequest, Tokens};
use hypermesh_consensus::CommandV1;
use stoq_identity::{NodeId, root_keys};
use stoq_trustchain::Token;

use super::Core;
use crate::refused::Refused;
use crate::{bundling, roles};

impl Core {
    /// All open tokens.
    ///
    /// # Errors
    /// Where there is no mesh.
    pub fn tokens(&mut self) -> Result<Tokens, Refused> {
        let tokens = self.mesh()?.chain.ledger().tokens().map(|(node, token)| TokenInfo {
            node: node.to_owned(),
            expires_at_s: token.expires_at_s,
        });
        Ok(Tokens { tokens: tokens.collect() })
    }

    /// Makes a token. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// When the name is held or invalid, or the life too long.
    pub fn create_token(
        &mut self,
        request: &TokenRequest,
        now_s: u64,
    ) -> Result<TokenReply, Refused> {
        let invalid = |error: String| Refused::new(ErrorCode::Invalid, error);
        let port = self.api_port;
        let membership = self.mesh()?;
        let ledger = membership.chain.ledger();
        let mesh = ledger.mesh().ok_or_else(|| Refused::internal("a ledger without a mesh"))?;
        let own =
            ledger.member(&membership.standing.node).map(|member| member.endpoints.as_slice());
        let given = Some(request.addresses.as_slice()).filter(|given| !given.is_empty());
        // The API is where STOQ is, on a TCP port of its own.
        let addresses: Vec<_> = match given {
            Some(given) => given.iter().map(ToString::to_string).collect(),
            None => own
                .unwrap_or_default()
                .iter()
                .map(|e| std::net::SocketAddr::new(e.ip(), port).to_string())
                .collect(),
        };
        if addresses.is_empty() {
            return Err(invalid(
                "this node has no endpoint; say where it is reached (--address HOST:PORT)".into(),
            ));
        }
        let root =
            root_keys(&mesh.root, bundling::policy(mesh.policy)).map_err(Refused::internal)?;
        let id =
            NodeId::new(&mesh.id, &request.node).map_err(|error| invalid(error.to_string()))?;
        let (role, kind) = roles::of_token(request.role);
        let expires_at_s = now_s.saturating_add(request.expires_s);
        let token = Token::new(&id, kind, addresses, root.fingerprint(), expires_at_s);
        let token = token.map_err(|error| invalid(error.to_string()))?;
        let node = request.node.clone();
        self.submit(CommandV1::CreateToken {
            hash: token.hash().map_err(Refused::internal)?,
            node,
            role,
            expires_at_s,
            at_s: now_s,
        })?;
        let token = token.to_text().map_err(Refused::internal)?.to_string();
        Ok(TokenReply { token, expires_at_s })
    }
}
