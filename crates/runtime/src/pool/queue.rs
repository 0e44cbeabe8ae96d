//! Invocations that wait, and how much of the pool each function holds.
//!
//! There is one line, first come first served, of those that wait for a slot or for memory. An invocation of a function that
//! holds its whole share (`pool.share`), or would with those of its own in the line, waits aside, where it is in no other's
//! way. When the function has room again, the longest waiting of these enters the line, at the place that its arrival gives
//! it. A function may fill no more of the queue than of the pool, so that it cannot take the others' room to wait either.
//!
//! A function whose share is the whole pool has no account, and costs nothing here.

use super::{Refusal, Tenant};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// An invocation that waits.
pub struct Waiting<G, A> {
    pub guest: Arc<G>,
    /// How it is called up.
    pub waiter: A,
}

/// Invocations of guests `G` that wait, each called up through an `A`.
pub struct Queue<G, A> {
    slots: u32,
    length: u32,
    /// By ticket, which is the order of arrival.
    line: BTreeMap<u64, Waiting<G, A>>,
    accounts: HashMap<Arc<str>, Account<G, A>>,
    tickets: u64,
}

/// What a function with a share holds and wants. Held and in the line are together never more than the share.
struct Account<G, A> {
    /// Leases.
    held: u32,
    /// Invocations in the line.
    in_line: u32,
    aside: BTreeMap<u64, Waiting<G, A>>,
}

impl<G, A> Account<G, A> {
    fn claims(&self) -> u32 {
        self.held + self.in_line
    }
}

impl<G: Tenant, A> Queue<G, A> {
    /// An empty queue for `length` invocations, before a pool of `slots`.
    pub fn new(slots: u32, length: u32) -> Self {
        Self { slots, length, line: BTreeMap::new(), accounts: HashMap::new(), tickets: 0 }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.line.len() + self.accounts.values().map(|account| account.aside.len()).sum::<usize>()
    }

    /// Whether an invocation of `guest` need not let others go first.
    pub fn is_next(&self, guest: &G) -> bool {
        self.line.is_empty() && self.is_within_share(guest)
    }

    /// Whether one more invocation of `guest` may wait.
    ///
    /// # Errors
    /// [`Refusal::ShareFull`], [`Refusal::QueueFull`].
    pub fn room(&self, guest: &G) -> Result<(), Refusal> {
        if let Some((share, account)) = self.share(guest).zip(self.accounts.get(&**guest.function())) {
            let most = (u64::from(self.length) * u64::from(share)).div_ceil(u64::from(self.slots));
            let waiting = account.in_line as usize + account.aside.len();
            if waiting as u64 >= most {
                return Err(Refusal::ShareFull { share, waiting });
            }
        }
        if self.len() >= self.length as usize {
            return Err(Refusal::QueueFull { slots: self.slots, queue_length: self.length });
        }
        Ok(())
    }

    /// Lets an invocation wait, and returns its ticket.
    pub fn push(&mut self, guest: &Arc<G>, waiter: A) -> u64 {
        self.tickets += 1;
        let waiting = Waiting { guest: Arc::clone(guest), waiter };
        let within = self.is_within_share(guest);
        let ticket = self.tickets;
        match self.account(guest) {
            Some(account) if !within => drop(account.aside.insert(ticket, waiting)),
            account => {
                account.into_iter().for_each(|account| account.in_line += 1);
                self.line.insert(ticket, waiting);
            }
        }
        ticket
    }

    /// The guest of the next in line.
    pub fn front(&self) -> Option<&Arc<G>> {
        self.line.first_key_value().map(|(_, waiting)| &waiting.guest)
    }

    /// Takes the next in line, which has been given a lease.
    pub fn pop_front(&mut self) -> Option<Waiting<G, A>> {
        let (_, waiting) = self.line.pop_first()?;
        self.leave_line(&waiting.guest);
        Some(waiting)
    }

    /// Gives up a place, if it is still taken. Returns whether it was one in the line, so that others have moved up.
    pub fn remove(&mut self, ticket: u64, guest: &G) -> bool {
        if self.line.remove(&ticket).is_some() {
            self.leave_line(guest);
            return true;
        }
        if let Some(account) = self.account(guest) {
            account.aside.remove(&ticket);
        }
        false
    }

    /// The share that the invocation waits for, if that is what it waits for.
    pub fn waits_for_share(&self, ticket: u64, guest: &G) -> Option<u32> {
        let account = self.accounts.get(&**guest.function())?;
        account.aside.contains_key(&ticket).then(|| self.share(guest)).flatten()
    }

    /// Counts a lease.
    pub fn hold(&mut self, guest: &G) {
        if let Some(account) = self.account(guest) {
            account.held += 1;
        }
    }

    /// A lease is back.
    pub fn release(&mut self, guest: &G) {
        if let Some(account) = self.account(guest) {
            account.held -= 1;
        }
        self.call_in(guest);
    }

    /// Drops all that wait.
    pub fn clear(&mut self) {
        self.line.clear();
        for account in self.accounts.values_mut() {
            account.in_line = 0;
            account.aside.clear();
        }
    }

    fn leave_line(&mut self, guest: &G) {
        if let Some(account) = self.account(guest) {
            account.in_line -= 1;
        }
        self.call_in(guest);
    }

    /// Lets those enter the line that their function has room for.
    fn call_in(&mut self, guest: &G) {
        let Some(share) = self.share(guest) else { return };
        let Some(account) = self.accounts.get_mut(&**guest.function()) else { return };
        while account.claims() < share
            && let Some((ticket, waiting)) = account.aside.pop_first()
        {
            account.in_line += 1;
            self.line.insert(ticket, waiting);
        }
    }

    /// The most slots that the guest's function may hold, if that is not all of them.
    fn share(&self, guest: &G) -> Option<u32> {
        Some(guest.share().of(self.slots)).filter(|share| *share < self.slots)
    }

    fn is_within_share(&self, guest: &G) -> bool {
        let Some(share) = self.share(guest) else { return true };
        self.accounts.get(&**guest.function()).is_none_or(|account| account.claims() < share)
    }

    /// None where the function may hold the whole pool.
    fn account(&mut self, guest: &G) -> Option<&mut Account<G, A>> {
        self.share(guest)?;
        let name = guest.function();
        if !self.accounts.contains_key(&**name) {
            self.accounts.insert(Arc::clone(name), Account { held: 0, in_line: 0, aside: BTreeMap::new() });
        }
        self.accounts.get_mut(&**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Share;
    use crate::pool::tests::Sharing;

    fn guest(function: &str, share: Share) -> Arc<Sharing> {
        Arc::new(Sharing(function.into(), share))
    }

    fn empty<A>(slots: u32, length: u32) -> Queue<Sharing, A> {
        Queue::new(slots, length)
    }

    /// Calls up the whole line.
    fn line<A>(queue: &mut Queue<Sharing, A>) -> Vec<A> {
        std::iter::from_fn(|| queue.pop_front()).map(|waiting| waiting.waiter).collect()
    }

    #[test]
    fn the_line_is_first_come_first_served_and_costs_no_account() {
        let (a, b) = (guest("a", Share::default()), guest("b", Share::default()));
        let mut queue = empty(2, 3);
        assert!(queue.is_next(&a) && queue.front().is_none());
        for (guest, name) in [(&a, "first"), (&b, "second"), (&a, "third")] {
            queue.room(guest).expect("there is room");
            queue.push(guest, name);
        }
        assert!(!queue.is_next(&b), "others wait");
        assert_eq!((queue.len(), queue.front().map(|guest| &*guest.0)), (3, Some("a")));
        assert_eq!(line(&mut queue), ["first", "second", "third"]);
        assert_eq!((queue.len(), queue.accounts.len()), (0, 0));
    }

    #[test]
    fn the_queue_is_bounded_as_a_whole_and_for_each_share() {
        let (half, whole) = (guest("half", Share::Percent(50)), guest("whole", Share::default()));
        let mut queue = empty(4, 3);
        // Half of three, rounded up; in the line or aside.
        queue.hold(&half);
        for place in 0..2 {
            assert_eq!(queue.room(&half), Ok(()));
            queue.push(&half, place);
        }
        assert_eq!(queue.room(&half), Err(Refusal::ShareFull { share: 2, waiting: 2 }));
        assert_eq!(queue.room(&whole), Ok(()));
        queue.push(&whole, 2);
        assert_eq!(queue.room(&whole), Err(Refusal::QueueFull { slots: 4, queue_length: 3 }));
        assert_eq!(queue.room(&half), Err(Refusal::ShareFull { share: 2, waiting: 2 }));

        let none = empty::<()>(4, 0);
        assert_eq!(none.room(&whole), Err(Refusal::QueueFull { slots: 4, queue_length: 0 }));
    }

    #[test]
    fn one_beyond_its_share_waits_aside_and_enters_the_line_where_it_arrived() {
        let (one, other) = (guest("one", Share::Slots(1)), guest("other", Share::default()));
        let mut queue = empty(2, 9);
        queue.hold(&one);
        assert!(!queue.is_next(&one) && queue.is_next(&other));
        let first = queue.push(&one, "beyond its share");
        let second = queue.push(&one, "beyond its share, later");
        assert!(queue.is_next(&other), "what waits aside is in no other's way");
        let third = queue.push(&other, "in the line");
        assert_eq!((queue.len(), queue.front().map(|guest| &*guest.0)), (3, Some("other")));
        let waits = |queue: &Queue<Sharing, _>, ticket, guest: &Sharing| queue.waits_for_share(ticket, guest);
        assert_eq!((waits(&queue, first, &one), waits(&queue, third, &other)), (Some(1), None));

        // One comes back, one is called in.
        queue.release(&one);
        assert_eq!((waits(&queue, first, &one), waits(&queue, second, &one)), (None, Some(1)));
        // As the pool does: a lease first, then out of the line.
        queue.hold(&one);
        assert_eq!(queue.pop_front().map(|waiting| waiting.waiter), Some("beyond its share"));
        assert_eq!(line(&mut queue), ["in the line"], "the share is held again");
        queue.release(&one);
        assert_eq!(line(&mut queue), ["beyond its share, later"]);
    }

    #[test]
    fn those_in_the_line_count_for_the_share() {
        let two = guest("two", Share::Slots(2));
        let mut queue = empty(4, 9);
        queue.hold(&two);
        let tickets = [1, 2, 3].map(|place| queue.push(&two, place));
        let aside = |queue: &Queue<Sharing, _>| tickets.map(|ticket| queue.waits_for_share(ticket, &*two).is_some());
        assert_eq!(aside(&queue), [false, true, true]);
        assert!(queue.remove(tickets[0], &two), "it stood in the line");
        assert_eq!(aside(&queue), [false, false, true]);
        queue.release(&two);
        assert_eq!(aside(&queue), [false; 3]);
        assert_eq!(line(&mut queue), [2, 3]);
    }

    #[test]
    fn a_place_is_given_up_once() {
        let (one, other) = (guest("one", Share::Slots(1)), guest("other", Share::default()));
        let mut queue = empty(2, 9);
        queue.hold(&one);
        let (aside, in_line) = (queue.push(&one, ()), queue.push(&other, ()));
        assert!(!queue.remove(aside, &one), "it was in no other's way");
        assert!(queue.remove(in_line, &other));
        assert!(!queue.remove(in_line, &other) && !queue.remove(aside, &one));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_cleared_queue_keeps_count_of_the_leases() {
        let one = guest("one", Share::Slots(1));
        let mut queue = empty(2, 9);
        queue.push(&one, "in the line");
        queue.push(&one, "aside");
        queue.clear();
        assert_eq!(queue.len(), 0);
        assert!(queue.is_next(&one), "nothing of the share is taken");
        queue.hold(&one);
        queue.clear();
        queue.push(&one, "aside, because the lease is still out");
        assert!(queue.front().is_none());
        queue.release(&one);
        assert_eq!(line(&mut queue), ["aside, because the lease is still out"]);
    }
}
