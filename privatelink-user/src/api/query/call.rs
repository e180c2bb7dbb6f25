//! One request on its way through an action.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::{
    params::{Params, Scope},
    refusal::Refusal,
};
use crate::{
    api::{Api, settling::Settling},
    control::{Context, Installed, Mutation, tags},
    model::{Change, ClientToken, Identity, Owner, RecordId, State, TagKey, TagValue, TaggedId},
    runtime::TargetHealthReport,
};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub owner: Owner,
    pub identity: Identity,
    /// As whom the request was signed; empty if it was not.
    pub access_key: String,
}

/// A request and what it may use. Handlers run on a thread that may wait.
pub struct Call<'a> {
    pub api: &'a Arc<Api>,
    pub caller: &'a Caller,
    pub params: &'a Params,
    pub action: &'static str,
    pub dry_run: bool,
    pub handle: &'a Handle,
}

impl<'a> Call<'a> {
    /// The request's parameters.
    pub fn scope(&self) -> Scope<'a> {
        self.params.root()
    }

    /// Whose resources it is about.
    pub fn owner(&self) -> &'a Owner {
        &self.caller.owner
    }

    /// Refuses parameters that nobody has read. Everything that changes state checks it before.
    pub fn complete(&self) -> Result<(), Refusal> {
        self.params.unread().map_or(Ok(()), |name| Err(Refusal::unknown_parameter(name)))
    }

    /// Reads what the caller sees (first argument) of the world (second).
    pub fn read<R>(&self, read: impl FnOnce(&State, &State) -> Result<R, Refusal>) -> Result<R, Refusal> {
        let world = self.api.store.state();
        read(&world.seen_by(self.owner()), &world)
    }

    /// What the datapath has now.
    pub fn installed(&self) -> Arc<Installed> {
        Settling::new(&*self.api.runtime).installed(&self.api.store.state())
    }

    /// The same, with what the datapath has of it; `read` also says whether the next pass changes its answer, and is
    /// asked again after that.
    pub fn read_settled<R>(
        &self,
        read: impl Fn(&State, &State, &Installed) -> Result<(R, bool), Refusal>,
    ) -> Result<R, Refusal> {
        let mut settling = Settling::new(&*self.api.runtime);
        loop {
            let world = self.api.store.state();
            let (answer, passing) = read(&world.seen_by(self.owner()), &world, &settling.installed(&world))?;
            if !passing || !self.handle.block_on(settling.wait()) {
                return Ok(answer);
            }
        }
    }

    /// Decides on what the caller sees, and commits.
    pub fn update<R>(
        &self,
        decide: impl FnOnce(&State, &mut Context<'_>) -> Result<(Change, R), Refusal>,
    ) -> Result<R, Refusal> {
        self.complete()?;
        let Caller { owner, identity, access_key: _ } = self.caller;
        let done = self.api.store.update(|world| {
            let decided = self.api.decide(world, owner, identity, decide)?;
            if self.dry_run { Err(Refusal::DryRun) } else { Ok(decided) }
        });
        Ok(done?)
    }

    /// Does one native operation.
    pub fn mutate<M: Mutation>(&self, request: &M) -> Result<M::Response, Refusal> {
        self.update(|state, context| Ok(request.decide(state, context)?))
    }

    /// The same for each of several, each by itself: what failed, by the id that was given.
    pub fn each<M: Mutation>(
        &self,
        ids: Vec<&str>,
        request: impl Fn(&str) -> M,
    ) -> Result<Vec<(String, Refusal)>, Refusal> {
        let mut failed = Vec::new();
        for id in ids {
            match self.mutate(&request(id)) {
                Ok(_) => {}
                Err(refusal @ Refusal::Control(_)) => failed.push((id.to_owned(), refusal)),
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(failed)
    }

    /// Makes something once for a client's token, and answers its id: the change must make it, and `decide` names it.
    pub fn create(
        &self,
        decide: impl FnOnce(&State, &mut Context<'_>) -> Result<(Change, String), Refusal>,
    ) -> Result<String, Refusal> {
        let Some(token) = self.scope().text("ClientToken") else { return self.update(decide) };
        let id = RecordId::token(self.owner(), self.action, token)?;
        let digest = Sha256::digest(self.params.canonical("ClientToken").as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.update(|state, context| {
            if let Some(known) = state.client_tokens.get(&id) {
                return if known.digest == digest {
                    Ok((Change::default(), known.made.clone()))
                } else {
                    Err(Refusal::coded(
                        "IdempotentParameterMismatch",
                        format!("The client token '{token}' was used with other parameters"),
                    ))
                };
            }
            let (change, made) = decide(state, context)?;
            let (owner, created_at) = (context.owner(), context.now);
            let token = ClientToken { id, owner, digest, made: made.clone(), created_at };
            Ok((change.put(token), made))
        })
    }

    /// The health of a target group's targets.
    pub fn target_health(&self, state: &State, group: &crate::model::TargetGroupId) -> Vec<TargetHealthReport> {
        self.handle.block_on(self.api.runtime.target_health(state, group))
    }
}

/// EC2's `TagSpecification.N` for the resource that is made, of this kind.
pub fn tag_specification(scope: &Scope<'_>, kind: &str) -> Result<BTreeMap<TagKey, TagValue>, Refusal> {
    let mut tags = BTreeMap::new();
    for specification in scope.structures("TagSpecification") {
        let named = specification.required("ResourceType")?;
        if named != kind {
            return Err(Refusal::value("TagSpecification.ResourceType", named, &format!("must be {kind}")));
        }
        tags.extend(read_tags(&specification.structures("Tag"))?);
    }
    Ok(tags)
}

/// A list of `Key` and `Value`.
pub fn read_tags(list: &[Scope<'_>]) -> Result<BTreeMap<TagKey, TagValue>, Refusal> {
    let pair = |one: &Scope<'_>| {
        let key = one.required("Key")?.parse::<TagKey>()?;
        Ok((key, one.text("Value").unwrap_or_default().parse::<TagValue>()?))
    };
    list.iter().map(pair).collect()
}

/// `change`, and the tags of what it makes.
pub fn with_tags(
    state: &State,
    change: Change,
    id: &str,
    tags: &BTreeMap<TagKey, TagValue>,
) -> Result<Change, Refusal> {
    if tags.is_empty() {
        return Ok(change);
    }
    Ok(change.then(tags::tag_new(state, &id.parse::<TaggedId>()?, tags)?))
}
