//! What a fresh account has, and the requests that it has sent before.

use jiff::Timestamp;

use super::{Context, ControlError, vpcs};
use crate::model::{Account, Change, ClientToken, RecordId, State, Subnet, SubnetCidr, SubnetId, VpcAttributes, Zone};

/// The range of a fresh account's VPC.
const DEFAULT_VPC: &str = "172.31.0.0/16";
/// The subnets in it, one a zone.
const DEFAULT_SUBNETS: [(Zone, &str); 3] =
    [(Zone::A, "172.31.0.0/20"), (Zone::B, "172.31.16.0/20"), (Zone::C, "172.31.32.0/20")];

/// Makes the defaults of the caller's account and region, once: a VPC with a subnet in each zone.
pub fn ensure(state: &State, context: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
    let owner = context.owner();
    let id = RecordId::account(&owner);
    if state.accounts.contains_key(&id) {
        return Ok((Change::default(), ()));
    }
    let attributes = VpcAttributes { dns_support: true, dns_hostnames: true, is_default: true };
    let vpc = vpcs::nameless(state, context, DEFAULT_VPC.parse()?, attributes)?;
    let mut subnets = Change::default();
    for (zone, cidr) in DEFAULT_SUBNETS {
        subnets = subnets.put(Subnet {
            id: SubnetId::generate(context.ids),
            vpc: vpc.id.clone(),
            cidr: cidr.parse::<SubnetCidr>()?,
            ipv6_cidr: None,
            zone,
            is_default: true,
            public_ip_on_launch: false,
            created_at: context.now,
        });
    }
    Ok((vpcs::made(vpc).then(subnets).put(Account { id, owner, created_at: context.now }), ()))
}

/// Forgets the client tokens that are too old to be sent again.
pub fn expire_tokens(state: &State, now: Timestamp) -> Change {
    let old = state.client_tokens.values().filter(|token| token.expires_at() <= now);
    old.fold(Change::default(), |change, token| change.remove(crate::model::Key::ClientToken(token.id.clone())))
}

/// When [`expire_tokens`] has something to do next.
pub fn next_token_expiry(state: &State) -> Option<Timestamp> {
    state.client_tokens.values().map(ClientToken::expires_at).min()
}
