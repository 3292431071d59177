//! The packets of a queue, as lists within one slab: taking and giving back a place is O(1), and
//! the slab never shrinks, so that nothing is allocated once the queue has been at its longest. Called
//! by the queue alone.

/// "No place": the end of a list.
pub(super) const NIL: u16 = u16::MAX;

/// A packet that waits.
#[derive(Debug)]
struct Place<T> {
    item: Option<T>,
    since_ns: u64,
    len: u32,
    next: u16,
}

/// A list of packets, first in first out.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u16,
    tail: u16,
}

impl List {
    pub const EMPTY: Self = Self { head: NIL, tail: NIL };
}

/// A packet taken out.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub item: T,
    pub since_ns: u64,
    pub len: u32,
}

/// The slab.
#[derive(Debug)]
pub(super) struct Store<T> {
    places: Vec<Place<T>>,
    free: u16,
}

impl<T> Store<T> {
    pub fn new() -> Self {
        Self { places: Vec::new(), free: NIL }
    }

    /// Places that were ever taken at once. Below [`NIL`], which the caller's bound ensures.
    #[cfg(test)]
    pub fn high_water(&self) -> usize {
        self.places.len()
    }

    /// Appends a packet. The caller bounds the number of packets to less than [`NIL`].
    pub fn push(&mut self, list: &mut List, item: T, len: u32, since_ns: u64) {
        let place = Place { item: Some(item), since_ns, len, next: NIL };
        let at = self.free;
        let at = if let Some(free) = self.places.get_mut(usize::from(at)) {
            self.free = free.next;
            *free = place;
            at
        } else {
            debug_assert!(self.places.len() < usize::from(NIL));
            self.places.push(place);
            (self.places.len() - 1) as u16
        };
        match self.places.get_mut(usize::from(list.tail)) {
            Some(tail) => tail.next = at,
            None => list.head = at,
        }
        list.tail = at;
    }

    /// Takes the first packet.
    pub fn pop(&mut self, list: &mut List) -> Option<Taken<T>> {
        let at = list.head;
        let place = self.places.get_mut(usize::from(at))?;
        let item = place.item.take()?;
        let taken = Taken { item, since_ns: place.since_ns, len: place.len };
        list.head = place.next;
        if list.head == NIL {
            list.tail = NIL;
        }
        place.next = self.free;
        self.free = at;
        Some(taken)
    }
}
