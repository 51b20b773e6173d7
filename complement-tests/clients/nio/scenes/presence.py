"""Who types, and who is there."""

import time

from common.stage import test
from common.waiting import same, until
from lib import world
from lib.device import Device
from lib.answers import ok, refused
from lib.world import barrier, login, new_group


def typing(device: Device, room_id: str) -> set[str]:
    return set(device.room(room_id).typing_users)


@test("typing is seen while it lasts, ends when it stops, and by itself when the time is over")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, bob2 = world.everyone()
    alice, bob = alice1.user_id, bob1.user_id
    ok(await alice1.client.room_typing(room_id, True, 20_000))
    for device in (bob1, bob2, alice2):
        await until(f"{device.name} sees alice type", lambda device=device: typing(device, room_id) == {alice})
    ok(await bob2.client.room_typing(room_id, True, 20_000))
    for device in (bob1, alice2):
        await until(f"{device.name} sees both type", lambda device=device: typing(device, room_id) == {alice, bob})
    ok(await alice1.client.room_typing(room_id, False))
    for device in (bob1, alice2):
        await until(f"{device.name} sees alice stop", lambda device=device: typing(device, room_id) == {bob})
    ok(await bob2.client.room_typing(room_id, False))
    await until("nobody types", lambda: typing(alice1, room_id) == set())

    begin = time.monotonic()
    ok(await alice2.client.room_typing(room_id, True, 2_500))
    await until("bob sees alice type again", lambda: typing(bob1, room_id) == {alice})
    await until("alice's typing runs out", lambda: typing(bob1, room_id) == set())
    assert time.monotonic() - begin >= 2.4, f"typing ran out after {time.monotonic() - begin} s already"
    await barrier(alice1, room_id, [bob1])
    refused(await bob1.client.room_typing("!nowhere:localhost", True, 1000), 403, "M_FORBIDDEN")


@test("presence follows the person: online by syncing, away with a message, back, and gone")
async def _() -> None:
    room_id = await new_group()
    # All devices so far sync without being present.
    watch = Device("watch", await login("alice", "Alice's watch"))
    watchers = (world.bob1, world.bob2, world.alice1)
    same(ok(await world.bob1.client.get_presence(watch.user_id)).presence, "offline")

    async def becomes(presence: str, status: str | None = None) -> None:
        for device in watchers:

            def seen(device: Device = device) -> bool:
                now = device.recorder.presence(watch.user_id)
                return now is not None and now["presence"] == presence and (status is None or now.get("status_msg") == status)

            await until(f"{device.name} sees alice {presence} with status {status}", seen)
            user = device.room(room_id).users[watch.user_id]
            await until("nio knows it as well", lambda user=user: user.presence == presence)
        answer = ok(await world.bob2.client.get_presence(watch.user_id))
        same((answer.presence, status in (None, answer.status_msg)), (presence, True))

    async def declare(presence: str, status: str | None = None) -> None:
        # Without this pause a sync that says the old presence could overtake the new one.
        await watch.stop()
        ok(await watch.client.set_presence(presence, status))
        await watch.start(presence=None)
        await becomes(presence, status)

    await watch.start(presence=None)
    await becomes("online")
    same(world.bob1.recorder.presence(watch.user_id).get("currently_active"), True)
    await declare("unavailable", "Boiling water")
    await declare("online", "Tea is ready")
    await declare("offline")

    path = f"/_matrix/client/v3/presence/{watch.user_id}/status"
    status, error = await world.bob1.request("PUT", path, {"presence": "online"})
    same((status, error["errcode"]), (403, "M_FORBIDDEN"))
    await watch.stop()
    ok(await watch.client.logout())
    await watch.client.close()
