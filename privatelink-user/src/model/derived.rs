//! Identifiers that follow from others, so that they are not stored: the same inputs give the same digits, always.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use super::{EndpointId, EndpointServiceId, NetworkInterfaceId, Principal, VpcId};

fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().into()
}

/// `digits` (at most 64) lower-case hexadecimal digits that follow from `parts`.
pub fn hex(digits: usize, parts: &[&str]) -> String {
    let text: String = digest(parts).iter().map(|byte| format!("{byte:02x}")).collect();
    text.chars().take(digits).collect()
}

/// `length` (at most 32) characters of `a` to `z` and `0` to `9` that follow from `parts`.
pub fn label(length: usize, parts: &[&str]) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).copied().map_or('a', char::from);
    digest(parts).iter().take(length).map(letter).collect()
}

/// The id of the permission of `principal` on `service`, `vpce-svc-perm-` + 17 hex digits.
pub fn permission_id(service: &EndpointServiceId, principal: &Principal) -> String {
    format!("vpce-svc-perm-{}", hex(17, &["permission", service.as_str(), &principal.to_string()]))
}

/// The id of the connection of `endpoint` to `service`, `vpce-con-` + 17 hex digits.
pub fn connection_id(service: &EndpointServiceId, endpoint: &EndpointId) -> String {
    format!("vpce-con-{}", hex(17, &["connection", service.as_str(), endpoint.as_str()]))
}

/// The id of the network interface that has `address` in `vpc`, `eni-` + 17 hex digits; `by` is the load balancer,
/// endpoint or instance that owns it.
pub fn interface_id(vpc: &VpcId, address: IpAddr, by: &str) -> NetworkInterfaceId {
    NetworkInterfaceId::derived(&["interface", vpc.as_str(), &address.to_string(), by])
}

/// The id of a VPC's default network ACL, `acl-` + 17 hex digits. It lets everything pass, and nothing changes that.
pub fn default_network_acl(vpc: &VpcId) -> String {
    format!("acl-{}", hex(17, &["network ACL", vpc.as_str()]))
}

/// The id of the hosted zone of a region's names of this kind, one for each region.
pub fn hosted_zone(kind: &str, region: &str) -> String {
    format!("Z{}", label(13, &["hosted zone", kind, region]).to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_identifiers_have_their_form_and_depend_on_every_part() {
        assert_eq!(hex(17, &["a", "b"]).len(), 17);
        assert_ne!(hex(17, &["a", "b"]), hex(17, &["ab", ""]));
        let label = label(8, &["vpce-1"]);
        assert!(label.len() == 8 && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{label}");
    }
}
