"""A direct chat and a group."""

from nio import RoomPreset

from common.stage import test
from common.waiting import same, until
from lib import world
from lib.answers import ok, refused
from lib.world import barrier, everyone


async def set_direct(device: world.Device, other: str, room_id: str) -> None:
    path = f"/_matrix/client/v3/user/{device.user_id}/account_data/m.direct"
    same(await device.request("PUT", path, {other: [room_id]}), (200, {}))


@test("a direct chat is one for the invited person too, and for each one's other device")
async def _() -> None:
    alice1, alice2, bob1, bob2 = everyone()
    created = await alice1.client.room_create(is_direct=True, preset=RoomPreset.trusted_private_chat, invite=[bob1.user_id])
    room_id = ok(created).room_id
    await set_direct(alice1, bob1.user_id, room_id)
    await until(
        "alice's other device knows the direct chat",
        lambda: {bob1.user_id: [room_id]} in alice2.recorder.account_data("m.direct"),
    )
    for device in (bob1, bob2):
        await device.be("invite", room_id)
        same(device.client.invited_rooms[room_id].inviter, alice1.user_id)
        invite = device.recorder.parts(room_id)[0]
        same(invite["section"], "invite")
        member = next(e for e in invite["invite_state"]["events"] if e.get("state_key") == bob1.user_id)
        same((member["content"]["is_direct"], member["content"]["membership"]), (True, "invite"))

    ok(await bob2.client.join(room_id))
    await set_direct(bob2, alice1.user_id, room_id)
    await bob1.be("join", room_id)
    await until(
        "bob's other device knows the direct chat",
        lambda: {alice1.user_id: [room_id]} in bob1.recorder.account_data("m.direct"),
    )
    same(ok(await bob1.client.list_direct_rooms()).rooms, {alice1.user_id: [room_id]})
    # In a trusted private chat the invited person has as much power as the one who invites.
    levels = ok(await bob1.client.room_get_state_event(room_id, "m.room.power_levels")).content
    ok(await bob1.client.room_put_state(room_id, "m.room.power_levels", {**levels, "invite": 100}))

    hello = await bob1.say(room_id, "Hello Alice")
    for device in (alice1, alice2, bob2):
        same((await device.sees(room_id, hello))["content"]["body"], "Hello Alice")
    members = ok(await alice1.client.joined_members(room_id)).members
    same({member.user_id for member in members}, {alice1.user_id, bob1.user_id})
    assert room_id in ok(await bob1.client.joined_rooms()).rooms


@test("a group has its name, topic and power levels on all devices, and they are kept to")
async def _() -> None:
    alice1, alice2, bob1, bob2 = everyone()
    created = await alice1.client.room_create(
        preset=RoomPreset.private_chat,
        name="Tea club",
        topic="Green or black",
        invite=[bob1.user_id],
        power_level_override={"events": {"m.room.topic": 25}, "invite": 50},
    )
    room_id = ok(created).room_id
    for device in (bob1, bob2):
        await device.be("invite", room_id)
        same(device.client.invited_rooms[room_id].name, "Tea club")
    ok(await bob1.client.join(room_id))
    for device in everyone():
        await device.be("join", room_id)
        await until(f"{device.name} knows two members", lambda device=device: device.room(room_id).member_count == 2)
        room = device.room(room_id)
        same((room.name, room.topic, room.join_rule), ("Tea club", "Green or black", "invite"))
        same(room.power_levels.events.get("m.room.topic"), 25)

    refused(await bob1.client.update_room_topic(room_id, "Coffee"), 403, "M_FORBIDDEN")
    refused(await bob1.client.room_invite(room_id, "@somebody:localhost"), 403, "M_FORBIDDEN")
    levels = ok(await alice1.client.room_get_state_event(room_id, "m.room.power_levels")).content
    levels.setdefault("users", {})[bob1.user_id] = 25
    ok(await alice1.client.room_put_state(room_id, "m.room.power_levels", levels))
    for device in (alice2, bob1, bob2):
        await until(
            f"{device.name} knows bob's power",
            lambda device=device: device.room(room_id).power_levels.get_user_level(bob1.user_id) == 25,
        )
    ok(await bob1.client.update_room_topic(room_id, "White too"))
    for device in everyone():
        await until(f"{device.name} has the topic", lambda device=device: device.room(room_id).topic == "White too")
    refused(await bob1.client.room_put_state(room_id, "m.room.name", {"name": "Coffee club"}), 403, "M_FORBIDDEN")
    levels["users"][bob1.user_id] = 100
    refused(await bob1.client.room_put_state(room_id, "m.room.power_levels", levels), 403, "M_FORBIDDEN")
    ok(await alice2.client.room_put_state(room_id, "m.room.name", {"name": "Tea and cake club"}))
    for device in everyone():
        await until(f"{device.name} has the name", lambda device=device: device.room(room_id).name == "Tea and cake club")
    await barrier(bob2, room_id, [alice1, alice2, bob1])


@test("who isn't in a room can neither read it nor write to it")
async def _() -> None:
    alice1, bob1 = world.alice1, world.bob1
    room_id = ok(await alice1.client.room_create(preset=RoomPreset.private_chat, name="Diary")).room_id
    await alice1.be("join", room_id)
    secret = await alice1.say(room_id, "Dear diary")
    refused(await bob1.client.join(room_id), 403, "M_FORBIDDEN")
    refused(await bob1.client.room_get_state(room_id), 403, "M_FORBIDDEN")
    refused(await bob1.client.room_messages(room_id), 403, "M_FORBIDDEN")
    refused(await bob1.client.room_get_event(room_id, secret), 404, "M_NOT_FOUND")
    body = {"msgtype": "m.text", "body": "hi"}
    status, error = await bob1.request("PUT", f"/_matrix/client/v3/rooms/{room_id}/send/m.room.message/1", body)
    same((status, error["errcode"]), (403, "M_FORBIDDEN"))
