use super::*;
use std::sync::LazyLock;

static FUNCTION: LazyLock<Arc<str>> = LazyLock::new(|| "function".into());

/// A guest by its initial memory.
impl Tenant for u64 {
    fn function(&self) -> &Arc<str> {
        &FUNCTION
    }

    fn generation(&self) -> u64 {
        1
    }

    fn share(&self) -> Share {
        Share::default()
    }

    fn initial_memory(&self) -> u64 {
        *self
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_millis(40)
    }

    fn may_park(&self) -> bool {
        *self != OUTDATED
    }
}

/// The guest that another has replaced.
const OUTDATED: u64 = 7;

fn pool(slots: u32, queue_length: u32) -> Pool<u64, &'static str> {
    Pool::new(Capacity { slots, queue_length, queue_timeout: Duration::from_millis(40), total_memory: 100 })
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

async fn admitted(pool: &Pool<u64, &'static str>, guest: &Arc<u64>) -> Lease<u64, &'static str> {
    pool.admit(guest, far()).await.expect("free")
}

/// Polls `future` once.
async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
    tokio::select! { biased; _ = future => false, () = std::future::ready(()) => true }
}

#[tokio::test]
async fn a_full_pool_queues_and_a_full_queue_refuses() {
    let guest = Arc::new(0);
    let pool = pool(1, 1);
    let lease = pool.admit(&guest, far()).await.expect("free");
    let mut second = Box::pin(pool.admit(&guest, far()));
    assert!(waits(&mut second).await);
    assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 1, parked: 0, waiting: 1 });
    assert_eq!(pool.admit(&guest, far()).await.err(), Some(Refusal::QueueFull { slots: 1, queue_length: 1 }));
    drop(lease);
    drop(second.await.expect("freed"));
    assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 0, parked: 0, waiting: 0 });
}

#[tokio::test]
async fn waiting_ends_at_the_timeout_or_the_deadline() {
    let guest = Arc::new(0);
    let pool = pool(1, 5);
    let _lease = pool.admit(&guest, far()).await.expect("free");
    for (deadline, least) in [(3_600_000, 40), (10, 10)] {
        let deadline = Instant::now() + Duration::from_millis(deadline);
        let Some(Refusal::WaitedTooLong { waited }) = pool.admit(&guest, deadline).await.err() else {
            panic!("admitted")
        };
        assert!(waited >= Duration::from_millis(least), "{waited:?}");
    }
    assert_eq!(pool.occupancy().waiting, 0);
}

#[tokio::test]
async fn a_request_that_goes_away_leaves_the_queue() {
    let guest = Arc::new(0);
    let pool = pool(1, 1);
    let lease = pool.admit(&guest, far()).await.expect("free");
    let mut gone = Box::pin(pool.admit(&guest, far()));
    assert!(waits(&mut gone).await);
    drop(gone);
    let mut second = Box::pin(pool.admit(&guest, far()));
    assert!(waits(&mut second).await);
    drop(lease);
    drop(second.await.expect("the place of the one that left"));
    assert_eq!(pool.occupancy().busy, 0);
}

#[tokio::test]
async fn a_lease_that_was_granted_but_not_taken_comes_back() {
    let guest = Arc::new(0);
    let pool = pool(1, 2);
    let lease = pool.admit(&guest, far()).await.expect("free");
    let mut first = Box::pin(pool.admit(&guest, far()));
    let mut second = Box::pin(pool.admit(&guest, far()));
    assert!(waits(&mut first).await && waits(&mut second).await);
    drop(lease);
    drop(first);
    drop(second.await.expect("what the first did not take"));
    assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 0, parked: 0, waiting: 0 });
}

#[tokio::test]
async fn memory_is_admitted_too_and_no_request_overtakes() {
    let [large, medium, small] = [90, 20, 1].map(Arc::new);
    let pool = pool(4, 4);
    let large = pool.admit(&large, far()).await.expect("free");
    let mut second = Box::pin(pool.admit(&medium, far()));
    let mut third = Box::pin(pool.admit(&small, far()));
    assert!(waits(&mut second).await && waits(&mut third).await);
    drop(large);
    let (second, third) = (second.await.expect("memory"), third.await.expect("memory"));
    assert_ne!(second.slot, third.slot);
}

#[tokio::test]
async fn one_that_leaves_makes_way_for_those_behind_it() {
    let [large, medium, small] = [90, 20, 1].map(Arc::new);
    let pool = pool(4, 4);
    let _large = pool.admit(&large, far()).await.expect("free");
    let mut medium = Box::pin(pool.admit(&medium, far()));
    let mut small = Box::pin(pool.admit(&small, far()));
    assert!(waits(&mut medium).await && waits(&mut small).await);
    drop(medium);
    drop(small.await.expect("it had room, but for the one before it"));
}

/// A guest by its function and that one's share.
pub struct Sharing(pub Arc<str>, pub Share);

impl Tenant for Sharing {
    fn function(&self) -> &Arc<str> {
        &self.0
    }

    fn generation(&self) -> u64 {
        1
    }

    fn share(&self) -> Share {
        self.1
    }

    fn initial_memory(&self) -> u64 {
        0
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn may_park(&self) -> bool {
        true
    }
}

fn shared_pool(slots: u32, queue_length: u32) -> (Pool<Sharing, ()>, Arc<Sharing>, Arc<Sharing>) {
    let capacity = Capacity { slots, queue_length, queue_timeout: Duration::from_millis(40), total_memory: 0 };
    let [greedy, modest] = [("greedy", Share::Percent(50)), ("modest", Share::default())]
        .map(|(function, share)| Arc::new(Sharing(function.into(), share)));
    (Pool::new(capacity), greedy, modest)
}

#[tokio::test]
async fn a_function_that_holds_its_share_waits_and_blocks_no_other() {
    let (pool, greedy, modest) = shared_pool(4, 8);
    let held = [pool.admit(&greedy, far()).await.expect("1 of 2"), pool.admit(&greedy, far()).await.expect("2 of 2")];
    // The next generation of the function has no share of its own.
    let next = Arc::new(Sharing("greedy".into(), Share::Percent(50)));
    let mut aside = [&greedy, &next].map(|guest| Box::pin(pool.admit(guest, far())));
    assert!(waits(&mut aside[0]).await && waits(&mut aside[1]).await);

    let first = pool.admit(&modest, far()).await.expect("nothing is in its way");
    let _second = pool.admit(&modest, far()).await.expect("the last slot");
    let mut third = Box::pin(pool.admit(&modest, far()));
    assert!(waits(&mut third).await);
    assert_eq!(pool.occupancy(), Occupancy { slots: 4, busy: 4, parked: 0, waiting: 3 });

    // A slot of the others goes to the others, though the greedy one has waited longer.
    drop(first);
    let third = third.await.expect("the slot that became free");
    let mut fourth = Box::pin(pool.admit(&modest, far()));
    assert!(waits(&mut fourth).await);
    // With one of its own back, its first stands where it would have stood all the time.
    let [one, two] = held;
    drop(one);
    let [longest, mut shorter] = aside;
    let _longest = longest.await.expect("its function has room again");
    assert!(waits(&mut shorter).await && waits(&mut fourth).await);
    drop(third);
    let _fourth = fourth.await.expect("not the greedy one's, which holds its share");
    drop(two);
    drop(shorter.await.expect("room again"));
}

#[tokio::test]
async fn a_function_fills_no_more_of_the_queue_than_of_the_pool() {
    let (pool, greedy, modest) = shared_pool(2, 3);
    let _greedy = pool.admit(&greedy, far()).await.expect("1 of 1");
    let _modest = pool.admit(&modest, far()).await.expect("the last slot");
    let mut waiting = [&greedy, &greedy, &modest].map(|guest| Box::pin(pool.admit(guest, far())));
    assert!(waits(&mut waiting[0]).await && waits(&mut waiting[1]).await);
    let refused = pool.admit(&greedy, far()).await.err().expect("its half of the queue is full");
    assert_eq!(refused, Refusal::ShareFull { share: 1, waiting: 2 });
    assert!(refused.to_string().contains("(pool.share)"), "{refused}");
    assert!(waits(&mut waiting[2]).await);
    assert!(matches!(pool.admit(&modest, far()).await.err(), Some(Refusal::QueueFull { .. })));
    let [first, ..] = waiting;
    assert!(matches!(first.await.err(), Some(Refusal::WaitedForShare { share: 1, .. })));
}

#[tokio::test]
async fn one_that_leaves_gives_its_part_of_the_share_back() {
    let (pool, greedy, modest) = shared_pool(2, 8);
    let slots = [pool.admit(&modest, far()).await.expect("free"), pool.admit(&modest, far()).await.expect("free")];
    // The first waits for a slot, the others for their share.
    let [mut first, mut second, mut third] = [(); 3].map(|()| Box::pin(pool.admit(&greedy, far())));
    assert!(waits(&mut first).await && waits(&mut second).await && waits(&mut third).await);
    drop(second);
    drop(first);
    let [slot, _other] = slots;
    drop(slot);
    drop(third.await.expect("it moved up"));
    drop(pool.admit(&greedy, far()).await.expect("nothing of the share is lost"));
    pool.close();
    assert_eq!(pool.occupancy().waiting, 0);
}

#[tokio::test]
async fn a_parked_instance_is_no_part_of_the_share() {
    let (pool, greedy, modest) = shared_pool(2, 0);
    pool.admit(&greedy, far()).await.expect("1 of 1").park(());
    assert!(pool.admit(&greedy, far()).await.expect("parked").instance.is_some());
    let _leases = [pool.admit(&modest, far()).await.expect("free"), pool.admit(&modest, far()).await.expect("evicted")];
    assert_eq!(pool.occupancy(), Occupancy { slots: 2, busy: 2, parked: 0, waiting: 0 });
}

#[tokio::test]
async fn a_closed_pool_turns_every_request_away() {
    let guest = Arc::new(0);
    let pool = pool(1, 5);
    let lease = pool.admit(&guest, far()).await.expect("free");
    let mut waiting = Box::pin(pool.admit(&guest, far()));
    assert!(waits(&mut waiting).await);
    pool.close();
    assert_eq!(waiting.await.err(), Some(Refusal::Closed));
    assert_eq!(pool.admit(&guest, far()).await.err(), Some(Refusal::Closed));
    drop(lease);
    assert_eq!(pool.occupancy().busy, 0);
}

#[tokio::test]
async fn the_next_request_to_the_same_guest_gets_the_instance_parked_last() {
    let (guest, other) = (Arc::new(0), Arc::new(0));
    let pool = pool(3, 0);
    let leases = [pool.admit(&guest, far()).await.expect("free"), pool.admit(&guest, far()).await.expect("free")];
    for (lease, name) in leases.into_iter().zip(["first", "last"]) {
        lease.park(name);
    }
    assert_eq!(pool.occupancy(), Occupancy { slots: 3, busy: 0, parked: 2, waiting: 0 });
    let foreign = pool.admit(&other, far()).await.expect("the free slot");
    assert_eq!((foreign.slot, foreign.instance), (2, None));
    let warm = pool.admit(&guest, far()).await.expect("parked");
    assert_eq!((warm.slot, warm.instance), (1, Some("last")));
}

#[tokio::test]
async fn the_longest_parked_gives_way_to_any_guest() {
    let (guest, other) = (Arc::new(0), Arc::new(0));
    let pool = pool(2, 1);
    let leases = [pool.admit(&guest, far()).await.expect("free"), pool.admit(&guest, far()).await.expect("free")];
    for (lease, name) in leases.into_iter().zip(["first", "last"]) {
        lease.park(name);
    }
    let foreign = pool.admit(&other, far()).await.expect("evicted");
    assert_eq!((foreign.slot, foreign.instance), (0, None));
    let own = pool.admit(&guest, far()).await.expect("parked");
    assert_eq!(own.instance, Some("last"));
    // The one that waits gets the slot, not the instance of another guest.
    let mut waiting = Box::pin(pool.admit(&other, far()));
    assert!(waits(&mut waiting).await);
    own.park("last");
    assert_eq!(waiting.await.expect("evicted").instance, None);
}

#[tokio::test]
async fn of_an_outdated_guest_nothing_stays_parked() {
    let old = Arc::new(OUTDATED);
    let pool = pool(3, 0);
    let [first, second] = [pool.admit(&old, far()).await.expect("free"), pool.admit(&old, far()).await.expect("free")];
    // As if it had been parked before it was outdated.
    pool.state().parked.park(&old, 2, "early", Instant::now(), far());
    pool.state().free.retain(|slot| *slot != 2);
    first.park("while it is replaced");
    pool.retire(&old);
    second.park("late");
    assert_eq!(pool.occupancy(), Occupancy { slots: 3, busy: 0, parked: 0, waiting: 0 });
}

#[tokio::test]
async fn a_lease_that_was_not_used_keeps_its_instance_parked() {
    let guest = Arc::new(0);
    let pool = pool(1, 0);
    pool.admit(&guest, far()).await.expect("free").park("warm");
    drop(pool.admit(&guest, far()).await.expect("parked"));
    assert_eq!(pool.admit(&guest, far()).await.expect("parked").instance, Some("warm"));
}

#[tokio::test]
async fn an_idle_instance_is_retired_and_a_closed_pool_parks_nothing() {
    let guest = Arc::new(0);
    let pool = pool(1, 0);
    let retiring = tokio::spawn({
        let pool = pool.clone();
        async move { pool.retire_idle(|| ()).await }
    });
    let begun = Instant::now();
    pool.admit(&guest, far()).await.expect("free").park("warm");
    let retired = async {
        while pool.occupancy().parked > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), retired).await.expect("it is retired");
    assert!(begun.elapsed() >= guest.idle_timeout());
    retiring.abort();

    let lease = pool.admit(&guest, far()).await.expect("free");
    pool.close();
    lease.park("late");
    assert_eq!(pool.occupancy(), Occupancy { slots: 1, busy: 0, parked: 0, waiting: 0 });
}

#[tokio::test]
async fn free_slots_give_memory_back_while_others_run() {
    let guest = Arc::new(0);
    let pool = pool(2, 0);
    let (told, mut given_back) = tokio::sync::mpsc::unbounded_channel();
    let looking = pool.clone();
    let retiring = tokio::spawn(async move { looking.retire_idle(|| told.send(()).expect("it is read")).await });
    let two = [pool.admit(&guest, far()).await.expect("free"), pool.admit(&guest, far()).await.expect("free")];
    drop(two);
    given_back.recv().await.expect("it looks");

    let one = [pool.admit(&guest, far()).await.expect("free"), pool.admit(&guest, far()).await.expect("free")];
    let [first, second] = one;
    drop(first);
    given_back.recv().await.expect("it looks");
    assert_eq!(pool.occupancy().busy, 1);
    drop(second);
    given_back.recv().await.expect("nothing runs any more");
    retiring.abort();
}

#[tokio::test]
async fn a_snapshot_shows_what_each_slot_is_doing() {
    let guest = Arc::new(0);
    let pool = pool(4, 1);
    let [mut running, mut parked, unused] =
        [admitted(&pool, &guest).await, admitted(&pool, &guest).await, admitted(&pool, &guest).await];
    running.new_instance();
    running.begin(std::time::Instant::now());
    running.enter(Phase::Body);
    parked.new_instance();
    parked.park("warm");

    let Snapshot { slots, waiting, .. } = pool.snapshot();
    let occupant = Occupant { function: Arc::clone(&FUNCTION), generation: 1 };
    assert_eq!((slots.len(), waiting), (4, 0));
    assert!(
        matches!(&slots[0], Slot::Running { guest, instance: 1, phase: Phase::Body, .. } if *guest == occupant),
        "{slots:?}"
    );
    assert!(matches!(&slots[1], Slot::Parked { guest, instance: 2, .. } if *guest == occupant), "{slots:?}");
    assert_eq!(slots[2..], [Slot::Admitted { guest: occupant }, Slot::Free]);

    // The instance that was parked keeps its id; how far the one before it had come is forgotten.
    let mut again = admitted(&pool, &guest).await;
    assert!(matches!(pool.snapshot().slots[1], Slot::Admitted { .. }));
    assert_eq!(again.take_parked(), Some("warm"));
    again.begin(std::time::Instant::now());
    assert!(matches!(pool.snapshot().slots[1], Slot::Running { instance: 2, phase: Phase::Instantiate, .. }));
    drop((running, unused, again));
    assert_eq!(pool.snapshot().slots, [Slot::Free, Slot::Free, Slot::Free, Slot::Free]);
}
