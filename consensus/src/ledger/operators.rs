//! Who may do what with the control plane.

use super::state::Operator;
use super::tokens::check_room;
use super::{Ledger, OPERATORS_MAX};
use crate::command::OperatorRole;
use crate::effect::Effect;
use crate::rejected::Rejected;

impl Ledger {
    pub(super) fn set_role(
        &mut self,
        name: &str,
        keys: [u8; 32],
        role: OperatorRole,
        at_s: u64,
    ) -> Result<Effect, Rejected> {
        self.founded()?;
        let token = if let Some(known) = self.operators.get(name) {
            if known.keys != keys {
                return Err(Rejected::OperatorKeys { operator: name.to_owned() });
            }
            known.token
        } else {
            self.check_free_name(name)?;
            self.check_no_token(name, at_s)?;
            self.check_free_keys(&keys)?;
            check_room("operators", self.operators.len(), OPERATORS_MAX)?;
            self.keys.insert(keys, name.to_owned());
            None
        };
        self.operators.insert(name.to_owned(), Operator { keys, role, token });
        Ok(Effect::RoleSet { operator: name.to_owned(), role })
    }
}
