"""Coming, going, and being shown the door."""

from nio import RoomPreset
from nio.api import RoomVisibility

from common.stage import test
from common.waiting import same, until
from lib import world
from lib.device import Device
from lib.env import without
from lib.answers import ok, refused
from lib.world import barrier, everyone, new_group

BANNED = ("M_FORBIDDEN", "M_BAD_STATE")
"""The specification leaves open which code tells of a ban."""


def bobs() -> list[Device]:
    return [world.bob1, world.bob2]


async def bob_is(membership: str, room_id: str) -> None:
    for device in bobs():
        await device.be(membership, room_id)


async def seen_by_alice(room_id: str, membership: str) -> None:
    """Alice's devices see bob's membership."""
    for device in (world.alice1, world.alice2):

        def latest(device: Device = device) -> str | None:
            own = [
                event["content"]["membership"]
                for event in device.recorder.timeline(room_id)
                if event["type"] == "m.room.member" and event["state_key"] == world.bob1.user_id
            ]
            return own[-1] if own else None

        await until(f"{device.name} sees bob's membership {membership}", lambda latest=latest: latest() == membership)


def reason(device: Device, room_id: str) -> str | None:
    """The reason that came with the device's own last membership."""
    own = [e for e in device.recorder.timeline(room_id) if e["type"] == "m.room.member" and e["state_key"] == device.user_id]
    return own[-1]["content"].get("reason")


@test("who is kicked hears no more, can't write, and hears again after a new invitation")
async def _() -> None:
    room_id, other = await new_group(), await new_group()
    alice1, alice2, bob1, bob2 = everyone()
    ok(await alice1.client.room_kick(room_id, bob1.user_id, "too loud"))
    await bob_is("leave", room_id)
    for device in bobs():
        same(reason(device, room_id), "too loud")
    await seen_by_alice(room_id, "leave")
    refused(await bob1.send(room_id, "m.room.message", {"msgtype": "m.text", "body": "but"}), 403, "M_FORBIDDEN")
    refused(await bob2.client.join(room_id), 403, "M_FORBIDDEN")

    unheard = await alice1.say(room_id, "At last, peace")
    await barrier(alice1, other, bobs())
    for device in bobs():
        assert unheard not in device.recorder.ids(room_id)
    ok(await alice2.client.room_invite(room_id, bob1.user_id))
    await bob_is("invite", room_id)
    ok(await bob2.client.join(room_id))
    await bob_is("join", room_id)
    await barrier(alice1, room_id, bobs())


@test("who is banned can neither join nor be invited before the ban is lifted")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, bob2 = everyone()
    refused(await bob1.client.room_ban(room_id, alice1.user_id), 403, "M_FORBIDDEN")
    ok(await alice2.client.room_ban(room_id, bob1.user_id, "spam"))
    await bob_is("ban", room_id)
    for device in bobs():
        same(reason(device, room_id), "spam")
    await seen_by_alice(room_id, "ban")
    refused(await bob1.client.join(room_id), 403, *BANNED)
    refused(await alice1.client.room_invite(room_id, bob1.user_id), 403, *BANNED)
    ok(await alice1.client.room_unban(room_id, bob1.user_id))
    await seen_by_alice(room_id, "leave")
    refused(await bob1.client.join(room_id), 403, "M_FORBIDDEN")
    ok(await alice1.client.room_invite(room_id, bob1.user_id))
    await bob_is("invite", room_id)
    ok(await bob1.client.join(room_id))
    await seen_by_alice(room_id, "join")
    await bob_is("join", room_id)
    await barrier(alice1, room_id, bobs())


@test("who leaves is gone on all devices, and what is forgotten can't be read any more")
async def _() -> None:
    room_id = await new_group()
    bob1, bob2 = bobs()
    ok(await bob1.client.room_leave(room_id))
    await bob_is("leave", room_id)
    await seen_by_alice(room_id, "leave")
    assert room_id not in ok(await bob2.client.joined_rooms()).rooms
    assert ok(await bob2.client.room_messages(room_id, limit=5)).chunk, "who has left may still read up to there"
    ok(await bob2.client.room_forget(room_id))
    refused(await bob1.client.room_messages(room_id, limit=5), 403, "M_FORBIDDEN")


@test("an invitation can be declined, and be taken back")
async def _() -> None:
    alice1, alice2, bob1, bob2 = everyone()
    room_id = ok(await alice1.client.room_create(preset=RoomPreset.private_chat, invite=[bob1.user_id])).room_id
    await bob_is("invite", room_id)
    ok(await bob2.client.room_leave(room_id))
    await bob_is("leave", room_id)
    await seen_by_alice(room_id, "leave")
    ok(await alice1.client.room_invite(room_id, bob1.user_id))
    await bob_is("invite", room_id)
    ok(await alice2.client.room_kick(room_id, bob1.user_id))
    await bob_is("leave", room_id)
    refused(await bob1.client.join(room_id), 403, "M_FORBIDDEN")


@test("one can ask to be let in, and the answer is an invitation", without("knocking"))
async def _() -> None:
    alice1, alice2, bob1, bob2 = everyone()
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    created = await alice1.client.room_create(preset=RoomPreset.private_chat, name="The tea room", initial_state=[rules])
    room_id = ok(created).room_id
    await alice1.be("join", room_id)
    ok(await bob1.client.room_knock(room_id, "I smell tea"))
    await bob_is("knock", room_id)
    await seen_by_alice(room_id, "knock")
    ok(await alice2.client.room_invite(room_id, bob1.user_id))
    await bob_is("invite", room_id)
    ok(await bob2.client.join(room_id))
    await bob_is("join", room_id)
    await barrier(bob1, room_id, [alice1, alice2])


@test("anyone may join a public room by its alias, and it is listed")
async def _() -> None:
    alice1, alice2, bob1, bob2 = everyone()
    name = f"tea-{world.SEASON}-nio"
    created = await alice1.client.room_create(
        preset=RoomPreset.public_chat, visibility=RoomVisibility.public, alias=name, name=f"Open tea {name}"
    )
    room_id = ok(created).room_id
    alias = f"#{name}:{alice1.user_id.split(':', 1)[1]}"
    same(ok(await bob1.client.room_resolve_alias(alias)).room_id, room_id)
    found = ok(await bob1.client.list_public_rooms(filter_generic_search_term=name)).public_rooms
    same([(room.room_id, room.canonical_alias) for room in found], [(room_id, alias)])
    ok(await bob1.client.join(alias))
    await bob_is("join", room_id)
    await barrier(bob2, room_id, [alice1, alice2])
    status, error = await bob1.request("DELETE", f"/_matrix/client/v3/directory/room/%23{alias[1:]}")
    same((status, error["errcode"]), (403, "M_FORBIDDEN"))
