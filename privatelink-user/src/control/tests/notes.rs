//! Several accounts at work, beside the notes that somebody takes of it with nothing but the rules at hand: who is let
//! in, who said yes, whose address is whose. Every operation must end as the notes say, and the state be what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    control::{connections::*, permissions::*},
    model::{EndpointState, Owner},
};

const ACCOUNTS: [&str; 3] = ["111111111111", "222222222222", "333333333333"];

const REGIONS: [&str; 2] = ["us-east-1", "eu-west-1"];

/// Who acts: each account, in each region. The first three are the accounts in the first region.
const OWNERS: usize = ACCOUNTS.len() * REGIONS.len();

fn account(who: usize) -> &'static str {
    ACCOUNTS[who % ACCOUNTS.len()]
}

fn region(who: usize) -> &'static str {
    REGIONS[who / ACCOUNTS.len()]
}

fn owner(who: usize) -> Owner {
    Owner { account: account(who).parse().unwrap(), region: region(who).parse().unwrap() }
}

/// One thing that one account does. Numbers pick among what there is, of whomever it is.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Publish {
        acceptance: bool,
    },
    Withdraw {
        service: u8,
        force: bool,
    },
    Demand {
        service: u8,
        acceptance: bool,
    },
    /// `whom`: one of the accounts, or everybody.
    Admit {
        service: u8,
        whom: u8,
    },
    Exclude {
        service: u8,
        whom: u8,
    },
    /// Lets endpoints be in the other region, or no more.
    Widen {
        service: u8,
    },
    Narrow {
        service: u8,
    },
    /// `at_home`: without a word on the service's region.
    Connect {
        service: u8,
        address: u8,
        at_home: bool,
    },
    Accept {
        service: u8,
        endpoint: u8,
    },
    Reject {
        service: u8,
        endpoint: u8,
    },
    Disconnect {
        endpoint: u8,
    },
    /// Days go by.
    Wait {
        days: u8,
    },
}

fn deeds() -> impl Strategy<Value = (usize, Deed)> {
    let n = any::<u8>;
    let deed = prop_oneof![
        2 => any::<bool>().prop_map(|acceptance| Deed::Publish { acceptance }),
        1 => (n(), any::<bool>()).prop_map(|(service, force)| Deed::Withdraw { service, force }),
        1 => (n(), any::<bool>()).prop_map(|(service, acceptance)| Deed::Demand { service, acceptance }),
        3 => (n(), 0u8..4).prop_map(|(service, whom)| Deed::Admit { service, whom }),
        1 => (n(), 0u8..4).prop_map(|(service, whom)| Deed::Exclude { service, whom }),
        2 => n().prop_map(|service| Deed::Widen { service }),
        1 => n().prop_map(|service| Deed::Narrow { service }),
        8 => (n(), 4u8..12, any::<bool>())
            .prop_map(|(service, address, at_home)| Deed::Connect { service, address, at_home }),
        3 => (n(), n()).prop_map(|(service, endpoint)| Deed::Accept { service, endpoint }),
        2 => (n(), n()).prop_map(|(service, endpoint)| Deed::Reject { service, endpoint }),
        1 => n().prop_map(|endpoint| Deed::Disconnect { endpoint }),
        1 => (1u8..8).prop_map(|days| Deed::Wait { days }),
    ];
    (0usize..OWNERS, deed)
}

/// A service, as noted.
struct Published {
    owner: usize,
    demands: bool,
    /// Accounts; one more than there are is everybody.
    admitted: BTreeSet<u8>,
    /// Whether endpoints may be in the other region.
    wide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Asked {
        on: u16,
    },
    Yes,
    No,
    /// Nobody answered for seven days.
    Silence,
}

/// An endpoint, as noted.
struct Connected {
    owner: usize,
    service: String,
    address: u8,
    word: Word,
}

#[derive(Default)]
struct Notes {
    services: BTreeMap<String, Published>,
    endpoints: BTreeMap<String, Connected>,
    day: u16,
}

fn picked<V>(all: &BTreeMap<String, V>, number: u8) -> Option<String> {
    all.keys().nth(usize::from(number) % all.len().max(1)).cloned()
}

impl Notes {
    fn admits(&self, service: &str, who: usize) -> bool {
        let everybody = u8::try_from(ACCOUNTS.len()).unwrap_or_default();
        self.services.get(service).is_some_and(|service| {
            let near = region(service.owner) == region(who) || service.wide;
            let own = account(service.owner) == account(who);
            let by_name = |one: &u8| usize::from(*one) == who % ACCOUNTS.len() || *one == everybody;
            near && (own || service.admitted.iter().any(by_name))
        })
    }

    fn owns(&self, who: usize, service: &str) -> bool {
        self.services.get(service).is_some_and(|service| service.owner == who)
    }

    fn held(&self, service: &str) -> bool {
        let holds = |one: &Connected| one.service == *service && matches!(one.word, Word::Asked { .. } | Word::Yes);
        self.endpoints.values().any(holds)
    }
}

fn principal(whom: u8) -> String {
    ACCOUNTS.get(usize::from(whom)).map_or_else(|| "*".to_owned(), |account| format!("arn:aws:iam::{account}:root"))
}

/// Three accounts, each with a VPC of the same range and a load balancer for each service that it may publish.
fn world() -> World {
    let mut world = World::new();
    for who in 0..OWNERS {
        world.by(account(who)).in_region(region(who));
        world.json::<CreateVpc>(json!({"name": "net", "cidr": "10.0.0.0/24"})).unwrap();
        for number in 0..4 {
            let address = Ipv4Addr::new(10, 0, 0, 200 + number);
            let lb = json!({"name": format!("lb{number}"), "vpc": "net", "addresses": [address]});
            world.json::<CreateLoadBalancer>(lb).unwrap();
        }
    }
    world
}

/// Does the deed and notes it. Whether it was done must be what the notes say.
fn does(world: &mut World, notes: &mut Notes, who: usize, deed: Deed) -> Result<(), TestCaseError> {
    world.by(account(who)).in_region(region(who));
    let (allowed, done) = match deed {
        Deed::Publish { acceptance } => {
            let used = notes.services.values().filter(|service| service.owner == who).count();
            let in_use: BTreeSet<&str> = world
                .state
                .endpoint_services
                .values()
                .flat_map(|service| &service.load_balancers)
                .map(|lb| lb.as_str())
                .collect();
            let free = (0..4).map(|number| format!("lb{number}")).find(|name| {
                let mut own = world.state.load_balancers.values().filter(|lb| lb.id.belongs_to(&owner(who)));
                own.any(|lb| lb.name.as_str() == name && !in_use.contains(lb.id.as_str()))
            });
            let Some(lb) = free else {
                prop_assert_eq!(used, 4, "a load balancer serves one service");
                return Ok(());
            };
            let request = json!({"load_balancers": [lb], "acceptance_required": acceptance});
            let made = world.json::<CreateEndpointService>(request);
            if let Ok(made) = &made {
                let noted = Published { owner: who, demands: acceptance, admitted: BTreeSet::new(), wide: false };
                notes.services.insert(made.id.to_string(), noted);
            }
            (true, made.is_ok())
        }
        Deed::Withdraw { service, force } => {
            let Some(id) = picked(&notes.services, service) else { return Ok(()) };
            let allowed = notes.owns(who, &id) && (force || !notes.held(&id));
            let done = world.json::<DeleteEndpointService>(json!({"endpoint_service": id, "force": force})).is_ok();
            if allowed {
                notes.services.remove(&id);
                for one in notes.endpoints.values_mut().filter(|one| one.service == id) {
                    if matches!(one.word, Word::Asked { .. } | Word::Yes) {
                        one.word = Word::No;
                    }
                }
            }
            (allowed, done)
        }
        Deed::Demand { service, acceptance } => {
            let Some(id) = picked(&notes.services, service) else { return Ok(()) };
            let allowed = notes.owns(who, &id);
            let request = json!({"endpoint_service": id, "acceptance_required": acceptance});
            let done = world.json::<ModifyEndpointService>(request).is_ok();
            if allowed && let Some(service) = notes.services.get_mut(&id) {
                service.demands = acceptance;
            }
            (allowed, done)
        }
        Deed::Admit { service, whom } | Deed::Exclude { service, whom } => {
            let Some(id) = picked(&notes.services, service) else { return Ok(()) };
            let admit = matches!(deed, Deed::Admit { .. });
            let allowed = notes.owns(who, &id);
            let list = if admit { "add" } else { "remove" };
            let done =
                world.json::<ModifyPermissions>(json!({"endpoint_service": id, list: [principal(whom)]})).is_ok();
            if allowed && let Some(service) = notes.services.get_mut(&id) {
                if admit {
                    service.admitted.insert(whom)
                } else {
                    service.admitted.remove(&whom)
                };
            }
            (allowed, done)
        }
        Deed::Widen { service } | Deed::Narrow { service } => {
            let Some(id) = picked(&notes.services, service) else { return Ok(()) };
            let widen = matches!(deed, Deed::Widen { .. });
            let wide = notes.services.get(&id).is_some_and(|service| service.wide);
            let other = REGIONS[1 - who / ACCOUNTS.len()];
            let allowed = notes.owns(who, &id) && (widen || wide);
            let list = if widen { "add_supported_regions" } else { "remove_supported_regions" };
            let done = world.json::<ModifyEndpointService>(json!({"endpoint_service": id, list: [other]})).is_ok();
            if allowed && let Some(service) = notes.services.get_mut(&id) {
                service.wide = widen;
            }
            (allowed, done)
        }
        Deed::Connect { service, address, at_home } => {
            let Some(id) = picked(&notes.services, service) else { return Ok(()) };
            let from = notes.services.get(&id).map_or(who, |service| service.owner);
            let holder = notes.endpoints.values().find(|one| one.owner == who && one.address == address);
            // The same again is the same endpoint.
            let allowed = notes.admits(&id, who)
                && (region(from) == region(who) || !at_home)
                && holder.is_none_or(|one| one.service == id);
            let name = format!("com.amazonaws.vpce.{}.{id}", region(from));
            let request = json!({"service_name": name, "vpc": "net", "address": Ipv4Addr::new(10, 0, 0, address),
                "service_region": (!at_home).then(|| region(from))});
            let made = world.json::<CreateEndpoint>(request);
            if let Ok(made) = &made {
                let demands = notes.services.get(&id).is_some_and(|service| service.demands);
                let word = if demands { Word::Asked { on: notes.day } } else { Word::Yes };
                let noted = Connected { owner: who, service: id, address, word };
                notes.endpoints.entry(made.id.to_string()).or_insert(noted);
            }
            (allowed, made.is_ok())
        }
        Deed::Accept { service, endpoint } | Deed::Reject { service, endpoint } => {
            let (service, endpoint) = (picked(&notes.services, service), picked(&notes.endpoints, endpoint));
            let (Some(service), Some(endpoint)) = (service, endpoint) else { return Ok(()) };
            let yes = matches!(deed, Deed::Accept { .. });
            let leads = notes.endpoints.get(&endpoint).is_some_and(|one| one.service == service);
            let silent = notes.endpoints.get(&endpoint).is_some_and(|one| one.word == Word::Silence);
            let allowed = notes.owns(who, &service) && leads && (yes || !silent);
            let request = json!({"endpoint_service": service, "endpoints": [endpoint]});
            let done = if yes {
                world.json::<AcceptConnections>(request).is_ok()
            } else {
                world.json::<RejectConnections>(request).is_ok()
            };
            if allowed && let Some(one) = notes.endpoints.get_mut(&endpoint) {
                one.word = if yes { Word::Yes } else { Word::No };
            }
            (allowed, done)
        }
        Deed::Disconnect { endpoint } => {
            let Some(id) = picked(&notes.endpoints, endpoint) else { return Ok(()) };
            let allowed = notes.endpoints.get(&id).is_some_and(|one| one.owner == who);
            let done = world.json::<DeleteEndpoint>(json!({"endpoint": id})).is_ok();
            if allowed {
                notes.endpoints.remove(&id);
            }
            (allowed, done)
        }
        Deed::Wait { days } => {
            notes.day += u16::from(days);
            world.now += jiff::SignedDuration::from_hours(24 * i64::from(days));
            let change = expire_unanswered(&world.state, world.now);
            world.state.apply(&change);
            for one in notes.endpoints.values_mut() {
                if let Word::Asked { on } = one.word
                    && notes.day >= on + 7
                {
                    one.word = Word::Silence;
                }
            }
            (true, true)
        }
    };
    prop_assert_eq!(done, allowed, "{} {:?}", owner(who), deed);
    Ok(())
}

/// The state is what the notes say, and each account sees of it what it should.
fn compare(world: &mut World, notes: &Notes) -> Result<(), TestCaseError> {
    let word = |state: EndpointState| match state {
        EndpointState::PendingAcceptance => "asked",
        EndpointState::Available => "yes",
        EndpointState::Rejected => "no",
        EndpointState::Expired => "silence",
    };
    let noted = |one: &Connected| match one.word {
        Word::Asked { .. } => "asked",
        Word::Yes => "yes",
        Word::No => "no",
        Word::Silence => "silence",
    };
    let states: BTreeMap<String, &str> =
        world.state.endpoints.values().map(|one| (one.id.to_string(), word(one.state))).collect();
    let wanted: BTreeMap<String, &str> = notes.endpoints.iter().map(|(id, one)| (id.clone(), noted(one))).collect();
    prop_assert_eq!(states, wanted);
    for who in 0..OWNERS {
        let owner = owner(who);
        // What exists for it: the services that admit it, and its own endpoints.
        for (id, service) in &world.state.endpoint_services {
            let admitted = admits(service, &owner, &Identity::Root);
            prop_assert_eq!(admitted, notes.admits(id.as_str(), who), "{} and {}", owner, id);
        }
        let seen = world.state.seen_by(&owner);
        let own: BTreeSet<String> = seen.endpoints.keys().map(ToString::to_string).collect();
        let noted: BTreeSet<String> =
            notes.endpoints.iter().filter(|(_, one)| one.owner == who).map(|(id, _)| id.clone()).collect();
        prop_assert_eq!(own, noted);
        // A provider sees who leads to its services, and nobody else does.
        for id in notes.services.keys() {
            world.by(account(who)).in_region(region(who));
            let answer = world.ask(DescribeConnections { endpoint_service: id.into() });
            prop_assert_eq!(answer.is_ok(), notes.owns(who, id));
            let told: BTreeSet<String> =
                answer.into_iter().flatten().map(|connection| connection.endpoint.to_string()).collect();
            let leads: BTreeSet<String> = notes
                .endpoints
                .iter()
                .filter(|(_, one)| one.service == *id && notes.owns(who, id))
                .map(|(id, _)| id.clone())
                .collect();
            prop_assert_eq!(told, leads);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_accounts_do_ends_as_the_notes_say(deeds in prop::collection::vec(deeds(), 1..60)) {
        let (mut world, mut notes) = (world(), Notes::default());
        for (who, deed) in deeds {
            does(&mut world, &mut notes, who, deed)?;
            compare(&mut world, &notes)?;
        }
    }
}
