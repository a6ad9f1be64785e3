//! A numbered table whose copies share what did not change: the switch's endpoints and VTEPs, and the policy classes of
//! a policy image, are published many times a second and change a little each time.
#![forbid(unsafe_code)]

use std::sync::Arc;

/// Slots of a page: as many as `Page::used` has bits.
const PAGE: usize = u64::BITS as usize;

#[derive(Debug, Clone)]
struct Page<T> {
    /// Bit n is set when slot n has a value.
    used: u64,
    slots: [Option<T>; PAGE],
}

/// Values by number. Cloning copies one pointer a page of 64; changing a value after that copies its page.
#[derive(Debug, Clone)]
pub struct Paged<T> {
    /// `None` for a page without values.
    pages: Vec<Option<Arc<Page<T>>>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T: Clone> Paged<T> {
    /// The value with this number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        let (page, slot) = place(number);
        self.pages.get(page)?.as_ref()?.slots[slot].as_ref()
    }

    /// Puts a value at `number`, in place of the one there.
    pub fn set(&mut self, number: u32, value: T) {
        let (page, slot) = place(number);
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let empty = || Arc::new(Page { used: 0, slots: std::array::from_fn(|_| None) });
        let page = Arc::make_mut(self.pages[page].get_or_insert_with(empty));
        page.used |= 1 << slot;
        page.slots[slot] = Some(value);
    }

    /// Takes the value with this number away.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        self.get(number)?;
        let (page, slot) = place(number);
        let shared = self.pages.get_mut(page)?;
        let page = Arc::make_mut(shared.as_mut()?);
        page.used &= !(1 << slot);
        let old = page.slots[slot].take();
        if page.used == 0 {
            *shared = None;
        }
        old
    }

    /// All values with their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let pages = (0..).step_by(PAGE).zip(&self.pages);
        let pages = pages.filter_map(|(first, page)| Some((first, page.as_ref()?)));
        let slots = pages.flat_map(|(first, page)| (first..).zip(&page.slots));
        slots.filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }

    /// Numbers at which the two differ, with the values of both. Pages that they share are passed in one step.
    pub fn changes<'t>(
        &'t self,
        to: &'t Self,
    ) -> impl Iterator<Item = (u32, Option<&'t T>, Option<&'t T>)> + use<'t, T>
    where
        T: PartialEq,
    {
        fn page<T>(table: &Paged<T>, number: usize) -> Option<&Arc<Page<T>>> {
            table.pages.get(number)?.as_ref()
        }
        fn slot<T>(page: Option<&Arc<Page<T>>>, number: usize) -> Option<&T> {
            page?.slots[number].as_ref()
        }
        let pages = (0..self.pages.len().max(to.pages.len())).filter_map(move |number| {
            let pair = (page(self, number), page(to, number));
            let shared = match pair {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (a, b) => a.is_none() && b.is_none(),
            };
            (!shared).then_some((number, pair))
        });
        let slots = pages.flat_map(|(page, (a, b))| {
            (0..PAGE).map(move |place| ((page * PAGE + place) as u32, slot(a, place), slot(b, place)))
        });
        slots.filter(|(_, a, b)| a != b)
    }

    /// The lowest number from `from` on that is free. Full pages are passed in one step.
    pub fn first_free(&self, from: u32) -> u32 {
        let (first, slot) = place(from);
        // In the first page, the slots before `from` do not count.
        let mut passed = (1_u64 << slot) - 1;
        for (number, page) in self.pages.iter().enumerate().skip(first) {
            let used = passed | page.as_ref().map_or(0, |page| page.used);
            if used != u64::MAX {
                return (number * PAGE) as u32 + used.trailing_ones();
            }
            passed = 0;
        }
        from.max((self.pages.len() * PAGE) as u32)
    }
}

/// Page and slot of a number.
#[inline]
fn place(number: u32) -> (usize, usize) {
    (number as usize / PAGE, number as usize % PAGE)
}

#[cfg(test)]
mod tests {
    //! A paged table is a map by number, and its copies do not see each other's changes.

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn contents(table: &Paged<u16>) -> Vec<(u32, u16)> {
        table.iter().map(|(number, value)| (number, *value)).collect()
    }

    /// Numbers around the borders of the first pages.
    fn numbers() -> impl Strategy<Value = u32> {
        prop_oneof![0..4_u32, 60..70_u32, 125..131_u32, 0..400_u32]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(changes in prop::collection::vec((numbers(), any::<Option<u16>>()), 1..200)) {
            let (mut table, mut model) = (Paged::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for (number, change) in changes {
                if let Some(value) = change {
                    table.set(number, value);
                    model.insert(number, value);
                } else {
                    prop_assert_eq!(table.remove(number), model.remove(&number));
                }
                prop_assert_eq!(table.get(number), model.get(&number));
                let free = (number..1_000).find(|number| !model.contains_key(number));
                prop_assert_eq!(Some(table.first_free(number)), free);
                copies.push((table.clone(), model.clone()));
            }
            for (copy, model) in copies {
                prop_assert_eq!(contents(&copy), model.into_iter().collect::<Vec<_>>());
            }
        }
    }

    proptest! {
        /// Between copies of one table, which share pages, and tables that never met.
        #[test]
        fn changes_are_what_a_naive_comparison_finds(
            common in prop::collection::btree_map(numbers(), any::<u16>(), 0..50),
            changes in prop::collection::vec((numbers(), any::<Option<u16>>()), 0..50),
            is_copy: bool,
        ) {
            let fill = || {
                let mut table = Paged::default();
                for (number, value) in &common {
                    table.set(*number, *value);
                }
                table
            };
            let before = fill();
            let mut after = if is_copy { before.clone() } else { fill() };
            for (number, change) in changes {
                match change {
                    Some(value) => after.set(number, value),
                    None => drop(after.remove(number)),
                }
            }
            let naive: Vec<_> = (0..1_000)
                .map(|number| (number, before.get(number), after.get(number)))
                .filter(|(_, old, new)| old != new)
                .collect();
            prop_assert_eq!(before.changes(&after).collect::<Vec<_>>(), naive);
            prop_assert_eq!(after.changes(&after.clone()).count(), 0);
        }
    }

    #[test]
    fn numbers_given_out_in_sequence_have_no_gap() {
        let mut table = Paged::default();
        for expected in 1..=1_000 {
            let number = table.first_free(1);
            assert_eq!(number, expected);
            table.set(number, ());
        }
        table.remove(77);
        assert_eq!((table.first_free(1), table.first_free(78)), (77, 1_001));
    }

    #[test]
    fn unchanged_pages_are_shared_and_empty_ones_given_back() {
        let mut table = Paged::default();
        for number in [1, 65, 129] {
            table.set(number, number);
        }
        let copy = table.clone();
        table.set(65, 0);
        let shared = |page: usize| {
            Arc::ptr_eq(table.pages[page].as_ref().unwrap(), copy.pages[page].as_ref().unwrap())
        };
        assert_eq!([shared(0), shared(1), shared(2)], [true, false, true]);
        assert_eq!(table.remove(129), Some(129));
        assert!(table.pages[2].is_none());
        assert_eq!(copy.get(129), Some(&129));
    }
}
