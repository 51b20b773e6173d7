"""What becomes of rooms: settings, upgrades."""

from common.waiting import same, until

from lib.person import PATIENCE, path_of
from lib.world import Side, both_ways, enter, keep, open_room, same_state, talk_to_each_other


@both_ways("name, topic, picture and rules of a room are known on both servers")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    room = await open_room(side, "12")
    settings = {
        "m.room.name": {"name": "Parlour"},
        "m.room.topic": {"topic": "Tea"},
        "m.room.avatar": {"url": f"mxc://{host.home.name}/pot"},
        "m.room.history_visibility": {"history_visibility": "invited"},
        "m.room.pinned_events": {"pinned": []},
        "org.example.own": {"deep": {"list": [1, "two", None, True]}},
    }
    for kind, content in settings.items():
        await guest.sees(room.room_id, await host.set(room.room_id, kind, content))
        same(await guest.read(room.room_id, kind), content)
    await same_state(room)


@both_ways("a new name and picture of a person come into the rooms that they are in")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    room = await open_room(side)
    name = f"{guest} of the {host} play"
    await guest.put(path_of("profile", guest.id, "displayname"), {"displayname": name})

    async def known() -> bool:
        member = await host.read(room.room_id, "m.room.member", guest.id) or {}
        return member.get("displayname") == name

    await until("the name is known", known, PATIENCE)
    await same_state(room)


@both_ways("a room is upgraded, and the guest follows")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    for old_version, new_version in (("6", "11"), ("11", "12")):
        old = await open_room(side, old_version, name="Old house")
        path = path_of("rooms", old.room_id, "upgrade")
        new_id = (await host.post(path, {"new_version": new_version}))["replacement_room"]

        async def told(old=old) -> object:
            return await guest.read(old.room_id, "m.room.tombstone")

        tombstone = await until("the guest is told where to go", told, PATIENCE)
        same(tombstone["replacement_room"], new_id)
        await enter(side, guest, new_id)
        created = await guest.read(new_id, "m.room.create") or {}
        same((created["room_version"], created["predecessor"]["room_id"]), (new_version, old.room_id))
        same(await guest.read(new_id, "m.room.name"), {"name": "Old house"})
        await talk_to_each_other(keep(new_id, host, guest))
        await same_state(old)


@both_ways("a server that is shut out of a room isn't heard there, until it is let in again")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    room, other = await open_room(side), await open_room(side)
    rules = {"allow": ["*"], "deny": [], "allow_ip_literals": True}
    name_alone = guest.home.name.rpartition(":")[0]
    shut = await host.set(room.room_id, "m.room.server_acl", rules | {"deny": [name_alone]})
    await guest.sees(room.room_id, shut)
    unheard = await guest.say(room.room_id, "anybody?")
    await host.sees(other.room_id, await guest.say(other.room_id, "here I am"))
    assert unheard not in host.recorder.ids(room.room_id)

    opened = await host.set(room.room_id, "m.room.server_acl", rules)
    await guest.sees(room.room_id, opened)
    await host.sees(room.room_id, await guest.say(room.room_id, "at last"))
    # What was said meanwhile is asked for, with what is built on it.
    await host.sees(room.room_id, unheard)
    await same_state(room)
