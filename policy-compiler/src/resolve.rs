//! Who is meant: terms against namespaces and identities, addresses into peer classes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use heddle_image::{Outside, PeerClass};

use crate::blocks::{BlockIndex, RangeTerms};
use crate::classes::ClassKey;
use crate::compiler::Compiler;
use crate::identities::{Identity, IdentityNumber};
use crate::model::Block;
use crate::terms::{Membership, TermNumber, TermPeer};
use crate::{Map, Set};

/// Above this many changed blocks all addresses are looked at again, rather than those in each block.
const BLOCKS_ONE_BY_ONE: usize = 16;

impl Compiler {
    /// Finds out where the new terms apply, and which terms apply in new and relabelled namespaces.
    pub(crate) fn match_terms(&mut self) {
        for number in std::mem::take(&mut self.terms.fresh) {
            let Some(term) = self.terms.get(number).cloned().filter(|_| self.terms.is_used(number)) else {
                continue;
            };
            let mut members: Vec<IdentityNumber> = Vec::new();
            match &term.peer {
                TermPeer::Block(block) => {
                    self.block_terms.insert(number);
                    self.pending.blocks.push(block.clone());
                }
                TermPeer::Local { namespace, .. } => {
                    let state = self.home(namespace);
                    state.local.insert(number);
                    members.extend(&state.identities);
                }
                TermPeer::Wide { .. } | TermPeer::AnyPod => {
                    self.wide_terms.insert(number);
                    for state in self.namespaces.values_mut() {
                        if applies(&term.peer, state.labels.as_ref()) {
                            state.wide.insert(number);
                            members.extend(&state.identities);
                        }
                    }
                }
            }
            // The identities to be matched with all terms are so in a moment.
            members.retain(|identity| !self.pending.identities.contains(identity));
            for identity in members {
                self.join_term(identity, number);
            }
        }
        self.match_namespaces();
    }

    fn match_namespaces(&mut self) {
        for name in std::mem::take(&mut self.pending.namespaces) {
            let Some(state) = self.namespaces.get_mut(&name) else { continue };
            let term_applies = |number: &&TermNumber| {
                self.terms.get(**number).is_some_and(|term| applies(&term.peer, state.labels.as_ref()))
            };
            let wide = self.wide_terms.iter().filter(term_applies).copied().collect();
            if wide != state.wide {
                state.wide = wide;
                self.pending.identities.extend(&state.identities);
            }
        }
    }

    /// Matches identities with all terms that apply in their namespace.
    pub(crate) fn match_identities(&mut self) {
        for number in std::mem::take(&mut self.pending.identities) {
            let Some(identity) = self.pods.identity(number) else { continue };
            let memberships = self.memberships(identity);
            if memberships != identity.memberships {
                self.touch_addresses(number);
                if let Some(identity) = self.pods.identity_mut(number) {
                    identity.memberships = memberships;
                }
            }
        }
    }

    fn memberships(&self, identity: &Identity) -> Vec<Membership> {
        let key = &identity.key;
        let mut memberships = Vec::new();
        if let Some(home) = self.namespaces.get(&key.namespace) {
            for number in home.local.iter().chain(&home.wide) {
                if let Some(term) = self.terms.get(*number) {
                    term.memberships(*number, &key.labels, &key.ports, &mut memberships);
                }
            }
        }
        memberships.sort_unstable();
        memberships
    }

    fn join_term(&mut self, identity: IdentityNumber, number: TermNumber) {
        let (Some(term), Some(state)) = (self.terms.get(number), self.pods.identity_mut(identity)) else {
            return;
        };
        let before = state.memberships.len();
        term.memberships(number, &state.key.labels, &state.key.ports, &mut state.memberships);
        if state.memberships.len() > before {
            state.memberships.sort_unstable();
            self.touch_addresses(identity);
        }
    }

    /// Takes terms that no rule has any more off namespaces and identities.
    pub(crate) fn drop_unused_terms(&mut self) {
        let idle: Set<TermNumber> = self.terms.idle.drain(..).collect();
        let unused: Vec<_> = idle.into_iter().filter(|number| !self.terms.is_used(*number)).collect();
        for number in &unused {
            let Some(term) = self.terms.get(*number).cloned() else { continue };
            let mut homes = Vec::new();
            match &term.peer {
                TermPeer::Block(block) => {
                    if self.block_terms.remove(number) {
                        self.pending.blocks.push(block.clone());
                    }
                }
                TermPeer::Local { namespace, .. } => {
                    if let Some(state) = self.namespaces.get_mut(namespace) {
                        state.local.remove(number);
                        homes.push(&*state);
                    }
                }
                TermPeer::Wide { .. } | TermPeer::AnyPod => {
                    self.wide_terms.remove(number);
                    let having = self
                        .namespaces
                        .values_mut()
                        .filter_map(|state| state.wide.remove(number).then_some(&*state));
                    homes.extend(having);
                }
            }
            let members: Vec<IdentityNumber> =
                homes.iter().flat_map(|state| &state.identities).copied().collect();
            for identity in members {
                self.leave_term(identity, *number);
            }
        }
        self.terms.idle = unused;
    }

    fn leave_term(&mut self, identity: IdentityNumber, term: TermNumber) {
        let Some(state) = self.pods.identity_mut(identity) else { return };
        let before = state.memberships.len();
        state.memberships.retain(|membership| membership.term != term);
        if state.memberships.len() < before {
            self.touch_addresses(identity);
        }
    }

    /// Frees the numbers of unused terms, after no address is in them any more.
    pub(crate) fn forget_unused_terms(&mut self) {
        for number in std::mem::take(&mut self.terms.idle) {
            self.classes.leave_term(number, &mut self.terms);
            self.terms.forget(number);
        }
    }

    fn touch_addresses(&mut self, identity: IdentityNumber) {
        let Some(identity) = self.pods.identity(identity) else { return };
        let pods = identity.pods.iter().filter_map(|pod| self.pods.get(*pod));
        self.pending.addresses.extend(pods.flat_map(|pod| &pod.addresses));
    }

    /// Cuts the address space anew if a block came or went.
    pub(crate) fn cut_blocks(&mut self) {
        let changed = std::mem::take(&mut self.pending.blocks);
        if changed.is_empty() {
            return;
        }
        let inside = |address: &&IpAddr| {
            changed.len() > BLOCKS_ONE_BY_ONE || changed.iter().any(|block| block.cidr.contains(*address))
        };
        self.pending.addresses.extend(self.addresses.keys().filter(inside));
        let terms: Vec<_> = self
            .block_terms
            .iter()
            .filter_map(|number| Some((*number, self.terms.get(*number)?.clone())))
            .collect();
        let blocks = terms.iter().filter_map(|(number, term)| Some((*number, block(&term.peer)?)));
        self.blocks = BlockIndex::new(blocks);
        let old = std::mem::take(&mut self.range_classes);
        let v4 = self.classify_ranges(&self.blocks.v4.clone(), |start| start as u32);
        let v6 = self.classify_ranges(&self.blocks.v6.clone(), |start| start);
        self.image.outside_v4 = Outside::new(&v4).expect("blocks are cut from 0 on in order");
        self.image.outside_v6 = Outside::new(&v6).expect("blocks are cut from 0 on in order");
        for class in old {
            self.classes.release(class);
        }
    }

    /// Gives each range the class of its terms. No address in it has a pod, so terms with port names do not count.
    fn classify_ranges<A>(
        &mut self,
        ranges: &[(u128, RangeTerms)],
        address: fn(u128) -> A,
    ) -> Vec<(A, PeerClass)> {
        let mut classified: Vec<(A, PeerClass)> = Vec::new();
        for (start, terms) in ranges {
            let plain =
                |number: &&TermNumber| self.terms.get(**number).is_some_and(|term| term.port.is_none());
            let key: Vec<_> =
                terms.iter().filter(plain).map(|term| Membership { term: *term, port: 0 }).collect();
            let class = PeerClass(self.classes.acquire(&key, &mut self.terms));
            self.range_classes.push(class.0);
            if classified.last().is_none_or(|last| last.1 != class) {
                classified.push((address(*start), class));
            }
        }
        classified
    }

    /// Moves addresses whose memberships may have changed to their class.
    pub(crate) fn classify_addresses(&mut self) {
        let mut keys = Map::default();
        let mut moves: BTreeMap<u32, Vec<(IpAddr, ClassKey)>> = BTreeMap::new();
        for address in self.pending_addresses() {
            let Some(state) = self.addresses.get(&address) else { continue };
            let old = state.class;
            match (self.address_key(address, &mut keys), old) {
                (None, None) => drop(self.addresses.remove(&address)),
                (None, Some(old)) => {
                    self.addresses.remove(&address);
                    self.image.remove_pod(address);
                    self.classes.release(old);
                }
                (Some(key), None) => self.set_class(address, &key),
                (Some(key), Some(old)) if *self.classes.key(old) == key => {}
                (Some(key), Some(old)) => moves.entry(old).or_default().push((address, key)),
            }
        }
        for (old, moving) in moves {
            // If all of a class moves to one new place, the class itself does.
            let together = moving.len() == self.classes.holders(old)
                && moving.iter().all(|(_, key)| *key == moving[0].1);
            if together && self.classes.rename(old, &moving[0].1, &mut self.terms) {
                continue;
            }
            for (address, key) in moving {
                self.set_class(address, &key);
                self.classes.release(old);
            }
        }
    }

    /// The addresses in order of identities, which come namespace by namespace from the API server: new classes of one namespace then lie
    /// side by side, and rows that allow only those are short.
    fn pending_addresses(&mut self) -> impl Iterator<Item = IpAddr> + use<> {
        let pending = std::mem::take(&mut self.pending.addresses).into_iter();
        let identity = |address| self.pods.owner(&self.addresses.get(&address)?.owners)?.identity;
        let mut ordered: Vec<_> = pending.map(|address| (identity(address), address)).collect();
        ordered.sort_unstable();
        ordered.into_iter().map(|(_, address)| address)
    }

    fn set_class(&mut self, address: IpAddr, key: &[Membership]) {
        let class = self.classes.acquire(key, &mut self.terms);
        self.addresses.entry(address).or_default().class = Some(class);
        self.image.set_pod(address, PeerClass(class));
    }

    /// What an address is a member of; None if no pod has it. `keys` remembers what is the same for all pods of an identity in one range.
    fn address_key(
        &self,
        address: IpAddr,
        keys: &mut Map<(IdentityNumber, usize), ClassKey>,
    ) -> Option<ClassKey> {
        let number = self.pods.owner(&self.addresses.get(&address)?.owners)?.identity?;
        let identity = self.pods.identity(number)?;
        let blocks = self.blocks.get(address);
        let key = keys
            .entry((number, Arc::as_ptr(blocks).addr()))
            .or_insert_with(|| self.with_blocks(identity, blocks));
        Some(key.clone())
    }

    fn with_blocks(&self, identity: &Identity, blocks: &[TermNumber]) -> ClassKey {
        let mut key = identity.memberships.clone();
        for number in blocks {
            if let Some(term) = self.terms.get(*number) {
                term.memberships(*number, &identity.key.labels, &identity.key.ports, &mut key);
            }
        }
        key.sort_unstable();
        key.into()
    }
}

/// True when the term applies to pods of a namespace with these labels.
fn applies(peer: &TermPeer, labels: Option<&crate::model::Labels>) -> bool {
    match peer {
        TermPeer::AnyPod => true,
        TermPeer::Wide { namespaces, .. } => labels.is_some_and(|labels| namespaces.matches(labels)),
        TermPeer::Local { .. } | TermPeer::Block(_) => false,
    }
}

fn block(peer: &TermPeer) -> Option<&Block> {
    if let TermPeer::Block(block) = peer { Some(block) } else { None }
}
