//! A numbered table whose copies share what did not change.

use std::sync::Arc;

const PAGE: usize = 64;

type Page<T> = [Option<T>; PAGE];

/// Values by number. Cloning copies one pointer a page of 64; changing a value after that copies its page.
#[derive(Debug, Clone)]
pub struct Paged<T> {
    pages: Vec<Arc<Page<T>>>,
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
        self.pages.get(number as usize / PAGE)?[number as usize % PAGE].as_ref()
    }

    /// Puts a value at `number`, in place of the one there.
    pub fn set(&mut self, number: u32, value: T) {
        let page = number as usize / PAGE;
        while self.pages.len() <= page {
            self.pages.push(Arc::new(std::array::from_fn(|_| None)));
        }
        Arc::make_mut(&mut self.pages[page])[number as usize % PAGE] = Some(value);
    }

    /// Takes the value with this number away.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let page = self.pages.get_mut(number as usize / PAGE)?;
        page[number as usize % PAGE].as_ref()?;
        Arc::make_mut(page)[number as usize % PAGE].take()
    }

    /// All values with their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.pages.iter().flat_map(|page| page.iter());
        (0..).zip(slots).filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }
}
