"""Paging back through what was said, on a device that wasn't there."""

from nio import MessageDirection, RoomMessagesResponse

from common.stage import test
from common.waiting import same
from lib import world
from lib.device import Device
from lib.answers import ok
from lib.world import login, new_group

PAGE_SIZE = 15


async def talk(room_id: str, count: int) -> list[str]:
    """Sends `count` texts by turns; returns their event ids in order."""
    speakers = [world.alice1, world.bob1, world.bob2]
    return [await speakers[n % 3].say(room_id, f"line {n}") for n in range(count)]


def ids(page: RoomMessagesResponse) -> list[str]:
    return [event.event_id for event in page.chunk]


@test("a new device pages back to the room's beginning and gets each event once, in order")
async def _() -> None:
    room_id = await new_group(name="Chronicle")
    said = await talk(room_id, 50)
    tablet = Device("tablet", await login("bob", "Bob's tablet"))
    await tablet.start({"room": {"timeline": {"limit": 10}}})
    first = tablet.recorder.parts(room_id)[0]["timeline"]
    same(first["limited"], True)
    newest = [event["event_id"] for event in first["events"]]
    same(newest, said[-10:])

    token: str | None = first["prev_batch"]
    older: list[str] = []
    kinds: list[str] = []
    pages = 0
    while token:
        page = ok(await tablet.client.room_messages(room_id, token, limit=PAGE_SIZE))
        assert len(page.chunk) <= PAGE_SIZE
        older += ids(page)
        kinds += [event.source["type"] for event in page.chunk]
        token = page.end
        pages += 1
        assert pages < 12, "paging back doesn't come to an end"
    assert pages >= 3, f"only {pages} pages"
    same(kinds[-1], "m.room.create")
    whole = older[::-1] + newest
    same(len(set(whole)), len(whole), "numbers of different events and of events")
    same([event_id for event_id in whole if event_id in said], said)
    await tablet.stop()
    ok(await tablet.client.logout())
    await tablet.client.close()


@test("pages forwards and backwards from one token meet without a gap or an overlap")
async def _() -> None:
    room_id = await new_group()
    said = await talk(room_id, 30)
    client = world.bob1.client
    newest = ok(await client.room_messages(room_id, limit=12))
    older = ok(await client.room_messages(room_id, newest.end, limit=8))
    back = ok(await client.room_messages(room_id, newest.end, direction=MessageDirection.front, limit=12))
    same(ids(newest), said[-12:][::-1])
    same(ids(older), said[-20:-12][::-1])
    same(ids(back), said[-12:])


@test("an event is shown in its surroundings, and by filter only what is asked for comes")
async def _() -> None:
    room_id = await new_group()
    said = await talk(room_id, 11)
    context = ok(await world.bob1.client.room_context(room_id, said[5], limit=4))
    same(context.event.event_id, said[5])
    same([event.event_id for event in context.events_before], [said[4], said[3]])
    same([event.event_id for event in context.events_after], [said[6], said[7]])
    wish = {"types": ["m.room.message"], "senders": [world.alice1.user_id]}
    hers = ok(await world.bob1.client.room_messages(room_id, limit=50, message_filter=wish))
    same(ids(hers), said[::3][::-1])
