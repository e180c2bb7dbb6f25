//! Session tickets: what lets a client come back without a full handshake (RFC 5077; RFC 8446 section 4.6.1). A ticket
//! is a session under a key of the listener's, so nothing is kept for it here. The keys are one set for all threads of
//! a relay, and go over to the relay that takes its sockets, so that a client does not notice.
//!
//! A ticket is the key's name, a nonce, and the session by AES-256-GCM with the name as additional data. Nonces are
//! random: at ten thousand handshakes a second, with two tickets each, a key sees 2^29 of them, and two are equal with
//! probability 2^-39.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

use super::crypto::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use crate::model::SecretText;

/// How long tickets are made by a key, in seconds. They are taken for as long again.
const LIFETIME: u32 = 6 * 3_600;
/// Bytes of a key's name.
const NAME: usize = 16;
/// Bytes of a key.
const SECRET: usize = 32;

/// The keys of a listener, as they go over to another relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TicketKeys {
    current: StoredKey,
    former: Option<StoredKey>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredKey {
    /// Seconds since 1970.
    made: u64,
    /// Name and key, in base64.
    bytes: SecretText,
}

/// A key that can be used.
#[derive(Clone)]
struct Key {
    made: u64,
    bytes: [u8; NAME + SECRET],
    aead: Arc<LessSafeKey>,
}

impl Key {
    fn from_bytes(made: u64, bytes: [u8; NAME + SECRET]) -> Option<Self> {
        let (_, secret) = bytes.split_at(NAME);
        let aead = Arc::new(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).ok()?));
        Some(Self { made, bytes, aead })
    }

    fn generate(now: u64) -> Option<Self> {
        let mut bytes = [0; NAME + SECRET];
        rand::fill(&mut bytes).ok()?;
        Self::from_bytes(now, bytes)
    }

    fn name(&self) -> &[u8] {
        self.bytes.get(..NAME).unwrap_or_default()
    }

    fn stored(&self) -> StoredKey {
        StoredKey { made: self.made, bytes: SecretText::from(STANDARD.encode(self.bytes)) }
    }

    fn restored(stored: &StoredKey) -> Option<Self> {
        let bytes = STANDARD.decode(stored.bytes.reveal()).ok()?;
        Self::from_bytes(stored.made, bytes.try_into().ok()?)
    }

    fn seal(&self, session: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = session.to_vec();
        let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(self.name()));
        let head = [self.name(), nonce.as_ref()].concat();
        self.aead.seal_in_place_append_tag(nonce, aad, &mut sealed).ok()?;
        Some([head, sealed].concat())
    }

    /// What a ticket of this key holds; `rest` is what follows the name.
    fn open(&self, rest: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = sealed.to_vec();
        let length = self.aead.open_in_place(nonce, Aad::from(self.name()), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

/// Makes and reads the tickets of a listener.
pub struct Tickets {
    keys: RwLock<Keys>,
    /// Seconds since 1970.
    now: fn() -> u64,
}

#[derive(Clone)]
struct Keys {
    current: Key,
    former: Option<Key>,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets(…)")
    }
}

/// There is no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("there is no randomness for the keys of session tickets")]
pub struct NoRandomness;

impl Tickets {
    /// With the keys of another relay, or fresh ones if there are none that can be used.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`]
    pub fn new(keys: Option<&TicketKeys>) -> Result<Self, NoRandomness> {
        Self::at(keys, || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
    }

    fn at(keys: Option<&TicketKeys>, now: fn() -> u64) -> Result<Self, NoRandomness> {
        let restored = keys.and_then(|TicketKeys { current, former }| {
            Some(Keys { current: Key::restored(current)?, former: former.as_ref().and_then(Key::restored) })
        });
        let fresh = || Some(Keys { current: Key::generate(now())?, former: None });
        let keys = restored.or_else(fresh).ok_or(NoRandomness)?;
        Ok(Self { keys: RwLock::new(keys), now })
    }

    /// For another relay.
    pub fn keys(&self) -> TicketKeys {
        let Keys { current, former } = self.read();
        TicketKeys { current: current.stored(), former: former.as_ref().map(Key::stored) }
    }

    fn read(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key that makes tickets: a fresh one if the present one is old.
    fn current(&self) -> Option<Key> {
        let old = |key: &Key| (self.now)().saturating_sub(key.made) >= LIFETIME.into();
        let present = self.read().current;
        if !old(&present) {
            return Some(present);
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been here.
        if old(&keys.current) {
            let fresh = Key::generate((self.now)())?;
            keys.former = Some(std::mem::replace(&mut keys.current, fresh));
        }
        Some(keys.current.clone())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.current()?.seal(session)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let Keys { current, former } = self.read();
        let taken = |key: &Key| (self.now)().saturating_sub(key.made) < 2 * u64::from(LIFETIME);
        std::iter::once(current).chain(former).find(|key| key.name() == name && taken(key))?.open(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_ticket_is_read_by_its_keys_alone_wherever_they_are() {
        let here = Tickets::new(None).expect("randomness");
        let ticket = here.encrypt(b"a session").expect("a ticket");
        assert!(!ticket.windows(7).any(|bytes| bytes == b"session"));
        assert_eq!(here.decrypt(&ticket).as_deref(), Some(b"a session".as_slice()));
        // They go over as text.
        let text = serde_json::to_string(&here.keys()).expect("text");
        let keys: TicketKeys = serde_json::from_str(&text).expect("keys");
        let there = Tickets::new(Some(&keys)).expect("randomness");
        assert_eq!(there.decrypt(&ticket).as_deref(), Some(b"a session".as_slice()));
        assert!(!format!("{keys:?}{here:?}").contains(keys.current.bytes.reveal()), "keys are not for logs");

        let others = Tickets::new(None).expect("randomness");
        assert_eq!(others.decrypt(&ticket), None);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(here.decrypt(&changed), None, "byte {at}");
            assert_eq!(here.decrypt(&ticket[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn keys_change_and_old_tickets_are_taken_once_more_as_long() {
        static NOW: AtomicU64 = AtomicU64::new(1_000);
        let tickets = Tickets::at(None, || NOW.load(Ordering::Relaxed)).expect("randomness");
        let first = tickets.encrypt(b"first").expect("a ticket");
        NOW.fetch_add(u64::from(LIFETIME), Ordering::Relaxed);
        let second = tickets.encrypt(b"second").expect("a ticket");
        assert_ne!(first[..NAME], second[..NAME]);
        assert!(tickets.decrypt(&first).is_some());
        NOW.fetch_add(u64::from(LIFETIME), Ordering::Relaxed);
        assert!(tickets.decrypt(&first).is_none());
        assert!(tickets.decrypt(&second).is_some());
    }

    #[test]
    fn keys_that_are_none_are_replaced() {
        let bytes = SecretText::from("not base64".to_owned());
        let broken = TicketKeys { current: StoredKey { made: 1, bytes }, former: None };
        let tickets = Tickets::new(Some(&broken)).expect("randomness");
        let ticket = tickets.encrypt(b"a session").expect("a ticket");
        assert!(tickets.decrypt(&ticket).is_some());
    }
}
