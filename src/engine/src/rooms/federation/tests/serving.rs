//! What other servers are told of a room's past.

use super::*;
use crate::rooms::federation::serve::Gap;

/// Events that nobody has.
fn made_up(count: usize) -> impl Iterator<Item = OwnedEventId> {
    (0..count).map(|count| OwnedEventId::try_from(format!("$made-up-{count}")).unwrap())
}

fn gap(latest: Vec<OwnedEventId>, earliest: Vec<OwnedEventId>) -> Gap {
    Gap {
        earliest,
        latest,
        limit: 10,
        min_depth: 0,
    }
}

#[tokio::test]
async fn of_ends_that_are_named_by_the_thousand_the_first_count() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    one.say(&room_id, "first").await;
    let last = one.say(&room_id, "last").await;
    let with = |before: usize| -> Vec<OwnedEventId> {
        let real = std::iter::once(last.clone());
        made_up(before).chain(real).chain(made_up(1_000)).collect()
    };
    for (before, is_found) in [(49, true), (50, false)] {
        let backfill = one
            .rooms()
            .backfill_for(&two.name, &room_id, with(before), 10);
        assert_eq!(!backfill.await.unwrap().is_empty(), is_found);
        let gap = gap(with(before), with(50));
        let missing = one.rooms().missing_for(&two.name, &room_id, gap);
        assert_eq!(!missing.await.unwrap().is_empty(), is_found);
    }
}
