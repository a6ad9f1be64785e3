//! What is allowed: policies into rulebooks, rulebooks into the image.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_image::{
    Direction, OTHER_KEY, PolicyClass, PolicyClassNumber, Protocol, Row, Rows, Rulebook, port_key,
};

use crate::Map;
use crate::compiler::{Compiler, LimitError};
use crate::identities::{Identity, IdentityNumber};
use crate::model::{NamedPort, ObjectName, PortNumbers};
use crate::policies::{CompiledPort, CompiledRule, PolicyNumber};
use crate::rulebooks::{ALLOW_ALL, BookKey, BookNumber};
use crate::terms::{Membership, PortName};

/// What one rule of a rulebook allows at a stretch of ports. Both the bitmaps and the explanations come from these.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) policy: PolicyNumber,
    /// Index in `spec.ingress` or `spec.egress`.
    pub(crate) rule: usize,
    /// Index in the rule's ports; None if it has none.
    pub(crate) port: Option<usize>,
    /// First and last [`port_key`].
    pub(crate) span: (u32, u32),
    /// Index in the rule's peers, if it has any, and the membership that the peer asks for; None is everyone.
    pub(crate) peers: Option<Vec<(Option<usize>, Membership)>>,
}

impl Compiler {
    /// Gives identities whose policies, pods or ports changed their policy class.
    pub(crate) fn select(&mut self) {
        for number in std::mem::take(&mut self.pending.selections) {
            let Some(identity) = self.pods.identity(number) else { continue };
            let old = identity.policy_class;
            let policies = self.policies_of(identity);
            let new =
                if identity.enforced > 0 { Some(self.policy_class_of(number, &policies)) } else { None };
            if let Some(old) = old {
                self.release_policy_class(old);
            }
            let Some(identity) = self.pods.identity_mut(number) else { continue };
            identity.policies = policies;
            identity.policy_class = new;
            if new != old {
                self.pending.endpoints.extend(&identity.pods);
            }
            if identity.pods.is_empty() {
                let namespace = identity.key.namespace.clone();
                if let Some(home) = self.namespaces.get_mut(&namespace) {
                    home.identities.remove(&number);
                }
                self.pods.remove_identity(number);
            }
        }
        for number in std::mem::take(&mut self.pending.policies) {
            self.policies.free(number);
        }
        for pod in std::mem::take(&mut self.pending.endpoints) {
            let Some(state) = self.pods.get(pod).filter(|state| state.enforced) else { continue };
            let identity = state.identity.and_then(|identity| self.pods.identity(identity));
            if let Some(class) = identity.and_then(|identity| identity.policy_class) {
                self.image.endpoints.insert(state.name.to_string().into(), PolicyClassNumber(class));
            }
        }
    }

    /// The policies that select an identity, sorted.
    fn policies_of(&self, identity: &Identity) -> Vec<PolicyNumber> {
        let Some(home) = self.namespaces.get(&identity.key.namespace) else { return Vec::new() };
        let selecting = home.policies.iter().filter(|number| {
            self.policies.get(**number).is_some_and(|state| state.policy.pods.matches(&identity.key.labels))
        });
        selecting.copied().collect()
    }

    /// The policy class of these policies on this identity, with one more user.
    fn policy_class_of(&mut self, identity: IdentityNumber, policies: &[PolicyNumber]) -> u32 {
        let books = [Direction::Ingress, Direction::Egress]
            .map(|direction| self.book_of(identity, policies, direction));
        let (class, new) = self.policy_classes.acquire(books);
        if new {
            for book in books {
                self.books.add_class(book, class);
            }
            self.pending.policy_classes.insert(class);
        }
        class
    }

    fn release_policy_class(&mut self, class: u32) {
        let Some(books) = self.policy_classes.release(class) else { return };
        self.image.policy_classes.remove(class);
        self.pending.policy_classes.remove(&class);
        for book in books {
            for term in self.books.remove_class(book, class) {
                self.terms.remove_book(term, book);
            }
        }
    }

    fn book_of(
        &mut self,
        identity: IdentityNumber,
        policies: &[PolicyNumber],
        direction: Direction,
    ) -> BookNumber {
        let states = policies.iter().filter_map(|number| Some((*number, self.policies.get(*number)?)));
        let applying: Vec<_> = states.filter(|(_, state)| state.applies(direction)).collect();
        if applying.is_empty() {
            return ALLOW_ALL;
        }
        let mut ports = BTreeSet::new();
        if let (Direction::Ingress, Some(identity)) = (direction, self.pods.identity(identity)) {
            for name in applying.iter().flat_map(|(_, state)| state.ingress_port_names()) {
                let resolved = name.numbers(&identity.key.ports);
                ports.extend(resolved.map(|number| NamedPort {
                    name: name.name.clone(),
                    protocol: name.protocol,
                    number,
                }));
            }
        }
        let key = BookKey {
            direction,
            policies: applying.iter().map(|(number, _)| *number).collect(),
            ports: ports.into_iter().collect(),
        };
        if let Some(number) = self.books.number(&key) {
            return number;
        }
        let terms: BTreeSet<_> = applying.iter().flat_map(|(_, state)| state.terms(direction)).collect();
        let number = self.books.insert(key, terms.iter().copied().collect());
        for term in terms {
            self.terms.add_book(term, number);
        }
        number
    }

    /// Builds new rulebooks, and those again that have a term whose classes changed.
    pub(crate) fn build_rulebooks(&mut self) -> Result<(), LimitError> {
        let changed = self.terms.take_outdated_books();
        self.books.outdated.extend(changed);
        while let Some(number) = self.books.outdated.first().copied() {
            if let Some(book) = self.books.get(number) {
                let key = book.key.clone();
                let (runs, rows) = self.lay_out(&key)?;
                let compiled = Rulebook { ports: self.books.table(runs), rows: Rows::new(&rows) };
                let classes = self.books.set_compiled(number, compiled);
                self.pending.policy_classes.extend(classes);
            }
            if self.books.row_bytes > self.limits.row_bytes {
                return Err(LimitError::RowBytes {
                    rulebooks: self.books.len(),
                    limit: self.limits.row_bytes,
                });
            }
            self.books.outdated.remove(&number);
        }
        Ok(())
    }

    /// Puts policy classes that are new or have a rebuilt rulebook into the image.
    pub(crate) fn emit_policy_classes(&mut self) {
        for number in std::mem::take(&mut self.pending.policy_classes) {
            let books = self.policy_classes.books(number);
            let compiled = |book: BookNumber| self.books.get(book).and_then(|book| book.compiled.clone());
            let pair = books.and_then(|[ingress, egress]| Some((compiled(ingress)?, compiled(egress)?)));
            if let Some((ingress, egress)) = pair {
                self.image.policy_classes.set(number, Arc::new(PolicyClass { ingress, egress }));
            }
        }
    }

    pub(crate) fn check_limits(&self) -> Result<(), LimitError> {
        let (count, _) = self.classes.len();
        let limit = self.limits.peer_classes;
        if count > limit { Err(LimitError::PeerClasses { count, limit }) } else { Ok(()) }
    }

    /// Cuts the ports into runs of equal rows.
    fn lay_out(&self, key: &BookKey) -> Result<Layout, LimitError> {
        let grants = self.grants(key);
        let mut cuts: BTreeSet<u32> =
            grants.iter().flat_map(|grant| [grant.span.0, grant.span.1 + 1]).collect();
        cuts.insert(0);
        let mut by_start: Vec<&Grant> = grants.iter().collect();
        by_start.sort_by_key(|grant| grant.span.0);
        let (mut active, mut next): (Vec<&Grant>, usize) = (Vec::new(), 0);
        let mut runs: Vec<(u32, u16)> = Vec::new();
        let mut numbers: Map<Option<BTreeSet<Membership>>, u16> = Map::default();
        let mut rows = Vec::new();
        for cut in cuts.into_iter().filter(|cut| *cut <= OTHER_KEY) {
            active.retain(|grant| grant.span.1 >= cut);
            while let Some(grant) = by_start.get(next).filter(|grant| grant.span.0 <= cut) {
                active.push(grant);
                next += 1;
            }
            let allowed = allowed(&active);
            let class = if let Some(class) = numbers.get(&allowed) {
                *class
            } else {
                let class = u16::try_from(rows.len()).map_err(|_| self.too_many_ports(key))?;
                rows.push(self.row(allowed.as_ref()));
                numbers.insert(allowed, class);
                class
            };
            if runs.last().is_none_or(|last| last.1 != class) {
                runs.push((cut, class));
            }
        }
        Ok((runs, rows))
    }

    fn too_many_ports(&self, key: &BookKey) -> LimitError {
        let policies = key.policies.iter().filter_map(|number| self.policies.get(*number));
        LimitError::PortClasses {
            policies: policies.map(|state| state.policy.name.clone()).collect::<Vec<ObjectName>>(),
        }
    }

    fn row(&self, allowed: Option<&BTreeSet<Membership>>) -> Row {
        let Some(memberships) = allowed else { return Row::All };
        let mut classes = heddle_image::Bitmap::default();
        for more in memberships.iter().filter_map(|membership| self.terms.classes_at(*membership)) {
            classes.union(more);
        }
        Row::Classes(classes)
    }

    /// Everything the rules of a rulebook allow.
    pub(crate) fn grants(&self, key: &BookKey) -> Vec<Grant> {
        let mut grants = Vec::new();
        for policy in &key.policies {
            let Some(state) = self.policies.get(*policy) else { continue };
            for (rule, compiled) in state.rules(key.direction).iter().enumerate() {
                let grant = |port, span, peers| Grant { policy: *policy, rule, port, span, peers };
                let Some(ports) = &compiled.ports else {
                    grants.push(grant(None, (0, OTHER_KEY), plain(compiled)));
                    continue;
                };
                for (index, port) in ports.iter().enumerate() {
                    let spans = self.spans(key, compiled, port);
                    grants.extend(spans.into_iter().map(|(span, peers)| grant(Some(index), span, peers)));
                }
            }
        }
        grants
    }

    /// The stretches of ports of one entry of a rule's ports, with the peers that are allowed there.
    fn spans(&self, key: &BookKey, rule: &CompiledRule, port: &CompiledPort) -> Vec<Span> {
        let protocol = port.matches.protocol;
        let span = |first, last| (port_key(protocol, first), port_key(protocol, last));
        match &port.matches.numbers {
            PortNumbers::All => vec![(span(0, u16::MAX), plain(rule))],
            PortNumbers::Range(first, last) => vec![(span(*first, *last), plain(rule))],
            PortNumbers::Named(name) if key.direction == Direction::Ingress => {
                let name = PortName { name: name.clone(), protocol };
                name.numbers(&key.ports).map(|number| (span(number, number), plain(rule))).collect()
            }
            PortNumbers::Named(_) => self.named_spans(rule, port, protocol),
        }
    }

    /// A named port of an egress rule: at each number that some peer gives the name, those peers.
    fn named_spans(&self, rule: &CompiledRule, port: &CompiledPort, protocol: Protocol) -> Vec<Span> {
        let mut spans = Vec::new();
        for (index, term) in port.named.iter().enumerate() {
            let peer = rule.peers.as_ref().map(|_| index);
            for (number, _) in self.terms.classes(*term) {
                let key = port_key(protocol, number);
                spans.push(((key, key), Some(vec![(peer, Membership { term: *term, port: number })])));
            }
        }
        spans
    }
}

/// The runs of a port table, and the row of each port class.
type Layout = (Vec<(u32, u16)>, Vec<Row>);

/// First and last port key, and the peers as in [`Grant`].
type Span = ((u32, u32), Option<Vec<(Option<usize>, Membership)>>);

/// A rule's peers, whatever the port.
fn plain(rule: &CompiledRule) -> Option<Vec<(Option<usize>, Membership)>> {
    let terms = rule.peers.as_ref()?.iter().enumerate();
    Some(terms.map(|(index, term)| (Some(index), Membership { term: *term, port: 0 })).collect())
}

/// What an address must be a member of, any of it, for one of the grants to hold; None when one holds for everyone.
fn allowed(grants: &[&Grant]) -> Option<BTreeSet<Membership>> {
    let mut memberships = BTreeSet::new();
    for grant in grants {
        memberships.extend(grant.peers.as_ref()?.iter().map(|(_, membership)| *membership));
    }
    Some(memberships)
}
