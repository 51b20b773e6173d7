"""What was said before the guest came."""

from common.waiting import same, until

from lib.person import PATIENCE
from lib.world import Side, both_ways, enter, keep

COUNT = 500


@both_ways(f"{COUNT} events of the time before the join are paged back through, each once and in order")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    room_id = await host.create(preset="public_chat", room_version="11", name="Chronicle")
    said = [await host.say(room_id, f"line {n}") for n in range(COUNT)]
    await enter(side, guest, room_id)
    keep(room_id, host, guest)
    mark = guest.recorder.mark()

    async def read_back() -> list[str]:
        events = (await guest.history(room_id))[::-1]
        ids = [event["event_id"] for event in events]
        same(len(set(ids)), len(ids), "numbers of different events and of events")
        return [event_id for event_id in ids if event_id in wanted]

    wanted = set(said)
    if guest.home.title == "Parley":
        same(await read_back(), said)
    else:

        async def has_all() -> bool:
            return await read_back() == said

        # Synapse answers a page before it has asked for all of it.
        await until("the guest has read it all", has_all, PATIENCE)
    assert not wanted & set(guest.recorder.ids(room_id, mark)), "what was read back isn't news"


@both_ways("of the time before an invitation nothing is shown where the room doesn't want it")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    visibility = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room_id = await host.create(preset="public_chat", room_version="11", initial_state=[visibility])
    secret = await host.say(room_id, "before you came")
    await enter(side, guest, room_id)
    room = keep(room_id, host, guest)
    room.without.add(secret)
    public = await host.say(room_id, "for you, too")
    await guest.sees(room_id, public)
    ids = [event["event_id"] for event in await guest.history(room_id)]
    assert public in ids and secret not in ids


@both_ways("the event of a time is found on the other server")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    room_id = await host.create(preset="public_chat", room_version="11")
    said = [await host.say(room_id, f"line {n}") for n in range(30)]
    await enter(side, guest, room_id)
    keep(room_id, host, guest)
    wanted = next(e for e in await host.history(room_id) if e["event_id"] == said[3])
    path = f"/_matrix/client/v1/rooms/{room_id}/timestamp_to_event"
    found = await guest.get(path, ts=str(wanted["origin_server_ts"]), dir="b")
    same(found["origin_server_ts"], wanted["origin_server_ts"])
