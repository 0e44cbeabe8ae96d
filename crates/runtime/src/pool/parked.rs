//! Instances between two requests, each in the slot that it keeps.
//!
//! Every guest has a stack: the instance parked last is taken first, because its memory is still in the caches. So the
//! one at the bottom has been parked longest; eviction and idle time-outs begin there. An instance belongs to one
//! [`Guest`](crate::guest::Guest) value, which is one generation of a function: no other can be given it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// All parked instances `I`, a stack for each guest `G`.
pub struct Parked<G, I> {
    stacks: Vec<Stack<G, I>>,
    count: usize,
}

struct Stack<G, I> {
    /// Instances keep their guest alive; an empty stack does not.
    guest: Weak<G>,
    /// The one parked last is at the back.
    places: VecDeque<Place<I>>,
}

struct Place<I> {
    slot: u32,
    instance: I,
    since: Instant,
    until: Instant,
}

impl<G, I> Parked<G, I> {
    /// No instance is parked.
    pub fn new() -> Self {
        Self { stacks: Vec::new(), count: 0 }
    }

    /// How many instances are parked.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Every slot with an instance, and since when it is parked there.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Instant)> {
        self.stacks.iter().flat_map(|stack| &stack.places).map(|place| (place.slot, place.since))
    }

    /// Parks an instance of `guest` from `now` until `until` at the longest.
    pub fn park(&mut self, guest: &Arc<G>, slot: u32, instance: I, now: Instant, until: Instant) {
        let place = Place { slot, instance, since: now, until };
        self.count += 1;
        if let Some(stack) = self.stack_of(guest) {
            stack.places.push_back(place);
            return;
        }
        let stack = Stack { guest: Arc::downgrade(guest), places: VecDeque::from([place]) };
        match self.stacks.iter_mut().find(|stack| stack.places.is_empty()) {
            Some(empty) => *empty = stack,
            None => self.stacks.push(stack),
        }
    }

    /// Takes the instance of `guest` that was parked last, with its slot.
    pub fn take(&mut self, guest: &Arc<G>) -> Option<(u32, I)> {
        let place = self.stack_of(guest)?.places.pop_back()?;
        self.count -= 1;
        Some((place.slot, place.instance))
    }

    /// Removes the instance that has been parked longest, whatever its guest.
    pub fn evict(&mut self) -> Option<(u32, I)> {
        let since = |stack: &&mut Stack<G, I>| stack.places.front().map(|place| place.since);
        let oldest = self.stacks.iter_mut().filter(|stack| !stack.places.is_empty()).min_by_key(since)?;
        let place = oldest.places.pop_front()?;
        self.count -= 1;
        Some((place.slot, place.instance))
    }

    /// Removes one instance whose time is over.
    pub fn expire(&mut self, now: Instant) -> Option<(u32, I)> {
        let over = |stack: &&mut Stack<G, I>| stack.places.front().is_some_and(|place| place.until <= now);
        let place = self.stacks.iter_mut().find(over)?.places.pop_front()?;
        self.count -= 1;
        Some((place.slot, place.instance))
    }

    /// When the next instance's time is over.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.stacks.iter().filter_map(|stack| Some(stack.places.front()?.until)).min()
    }

    fn stack_of(&mut self, guest: &Arc<G>) -> Option<&mut Stack<G, I>> {
        self.stacks.iter_mut().find(|stack| std::ptr::eq(stack.guest.as_ptr(), Arc::as_ptr(guest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn last_in_first_out_and_the_longest_parked_is_evicted() {
        let (a, b, start) = (Arc::new("a"), Arc::new("b"), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let mut parked = Parked::new();
        for (guest, slot, since) in [(&a, 0, 0), (&b, 1, 1), (&a, 2, 2), (&b, 3, 3)] {
            parked.park(guest, slot, slot * 10, at(since), at(since + 60));
        }
        assert_eq!(parked.take(&a), Some((2, 20)));
        assert_eq!(parked.evict(), Some((0, 0)));
        assert_eq!(parked.evict(), Some((1, 10)));
        assert_eq!(parked.take(&a), None);
        assert_eq!((parked.len(), parked.take(&b), parked.len()), (1, Some((3, 30)), 0));
        assert_eq!(parked.evict(), None);
    }

    #[test]
    fn each_goes_when_its_own_time_is_over() {
        let (a, b, start) = (Arc::new("a"), Arc::new("b"), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let mut parked = Parked::new();
        assert_eq!(parked.next_expiry(), None);
        parked.park(&a, 0, (), at(0), at(50));
        parked.park(&b, 1, (), at(1), at(20));
        parked.park(&a, 2, (), at(2), at(52));
        assert_eq!(parked.next_expiry(), Some(at(20)));
        assert_eq!(parked.expire(at(19)), None);
        assert_eq!(parked.expire(at(51)).map(|(slot, ())| slot), Some(0));
        assert_eq!(parked.expire(at(51)).map(|(slot, ())| slot), Some(1));
        assert_eq!(parked.expire(at(51)), None);
        assert_eq!(parked.len(), 1);
    }

    #[test]
    fn a_new_generation_gets_no_instance_of_the_old_one_and_keeps_no_old_guest_alive() {
        let old = Arc::new("guest");
        let mut parked = Parked::new();
        parked.park(&old, 0, Arc::clone(&old), Instant::now(), Instant::now());
        let new = Arc::new("guest");
        assert!(parked.take(&new).is_none());
        parked.evict();
        assert_eq!(Arc::strong_count(&old), 1);
        drop(old);
        parked.park(&new, 0, Arc::clone(&new), Instant::now(), Instant::now());
        assert_eq!(parked.stacks.len(), 1);
    }
}
