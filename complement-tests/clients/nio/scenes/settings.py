"""What people set about themselves and for themselves: profile, tags, account data, muting, ignoring."""

from typing import Any

from nio.api import PushRuleKind

from common.stage import test
from common.waiting import same, until
from lib import world
from lib.device import Device, Json
from lib.env import deviates
from lib.answers import ok
from lib.world import barrier, everyone, new_group

PICTURE = "mxc://localhost/teapot"


async def set_account_data(device: Device, kind: str, content: Json, room_id: str | None = None) -> None:
    """Sets account data, which nio has no function for."""
    room = f"/rooms/{room_id}" if room_id else ""
    path = f"/_matrix/client/v3/user/{device.user_id}{room}/account_data/{kind}"
    same(await device.request("PUT", path, content), (200, {}))


@test("a new name and picture are seen by the members of all shared rooms")
async def _() -> None:
    rooms = [await new_group(), await new_group()]
    alice1, alice2, bob1, bob2 = everyone()
    ok(await alice1.client.set_displayname("Alice of the Teapots"))
    ok(await alice1.client.set_avatar(PICTURE))
    for device in (alice2, bob1, bob2):
        for room_id in rooms:

            def seen(device: Device = device, room_id: str = room_id) -> bool:
                user = device.room(room_id).users[alice1.user_id]
                return (user.display_name, user.avatar_url) == ("Alice of the Teapots", PICTURE)

            await until(f"{device.name} sees alice's profile in {room_id}", seen)
    profile = ok(await bob1.client.get_profile(alice1.user_id))
    same((profile.displayname, profile.avatar_url), ("Alice of the Teapots", PICTURE))
    path = f"/_matrix/client/v3/profile/{alice1.user_id}/displayname"
    status, error = await bob1.request("PUT", path, {"displayname": "Mallory"})
    same((status, error["errcode"]), (400 if deviates("foreign-profile-is-400") else 403, "M_FORBIDDEN"))


@test("tags are on all of one's devices, and only there")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, bob2 = everyone()

    async def tag(device: Device, method: str, name: str, body: Any = None) -> None:
        path = f"/_matrix/client/v3/user/{device.user_id}/rooms/{room_id}/tags/{name}"
        same(await device.request(method, path, body), (200, {}))

    await tag(alice1, "PUT", "m.favourite", {"order": 0.25})
    await tag(alice2, "PUT", "u.tea", {})
    for device in (alice1, alice2):
        both = {"m.favourite": {"order": 0.25}, "u.tea": {}}
        await until(f"{device.name} has both tags", lambda device=device: device.room(room_id).tags == both)
    await tag(alice2, "DELETE", "m.favourite")
    for device in (alice1, alice2):
        await until(f"{device.name} has one tag left", lambda device=device: device.room(room_id).tags == {"u.tea": {}})
    await barrier(alice1, room_id, [bob1, bob2])
    same(bob1.room(room_id).tags, {})
    status, error = await bob1.request("GET", f"/_matrix/client/v3/user/{alice1.user_id}/rooms/{room_id}/tags")
    same((status, error["errcode"]), (403, "M_FORBIDDEN"))


@test("account data, global and of a room, reaches one's other devices in its latest state")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, _ = everyone()
    await set_account_data(alice1, "org.example.tea", {"cups": 1})
    await set_account_data(alice2, "org.example.tea", {"cups": 2})
    await set_account_data(alice2, "org.example.seat", {"row": 7}, room_id)
    for device in (alice1, alice2):
        recorder = device.recorder
        await until(
            f"{device.name} knows the cups",
            lambda recorder=recorder: recorder.account_data("org.example.tea")[-1:] == [{"cups": 2}],
        )
        await until(
            f"{device.name} knows the seat",
            lambda recorder=recorder: recorder.room_account_data(room_id, "org.example.seat")[-1:] == [{"row": 7}],
        )
    path = f"/_matrix/client/v3/user/{alice1.user_id}/account_data/org.example.tea"
    same(await alice1.request("GET", path), (200, {"cups": 2}))
    await barrier(alice1, room_id, [bob1])
    same(bob1.recorder.account_data("org.example.tea"), [])
    same(bob1.recorder.room_account_data(room_id, "org.example.seat"), [])


@test("a muted room counts nothing, on the other device as well")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, _ = everyone()

    def muted(device: Device) -> bool:
        rules = device.recorder.account_data("m.push_rules")[-1]["global"].get("room", [])
        return any(rule["rule_id"] == room_id and rule["actions"] in ([], ["dont_notify"]) for rule in rules)

    ok(await alice1.client.set_pushrule("global", PushRuleKind.room, room_id, actions=[]))
    await until("alice's other device has the rule", lambda: muted(alice2))
    await barrier(bob1, room_id, [alice1, alice2])
    same([alice1.room(room_id).unread_notifications, alice2.room(room_id).unread_notifications], [0, 0])
    ok(await alice2.client.delete_pushrule("global", PushRuleKind.room, room_id))
    await until("alice's first device has lost the rule", lambda: not muted(alice1))
    await barrier(bob1, room_id, [alice1, alice2])
    for device in (alice1, alice2):
        await until(f"{device.name} counts again", lambda device=device: device.room(room_id).unread_notifications >= 1)


@test("who is ignored isn't heard, until forgiven")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, bob2 = everyone()
    kind = "m.ignored_user_list"
    ignoring = {"ignored_users": {bob1.user_id: {}}}
    await set_account_data(alice1, kind, ignoring)
    await until("alice's other device ignores too", lambda: alice2.recorder.account_data(kind)[-1:] == [ignoring])
    unheard = await bob1.say(room_id, "Can you hear me?")
    await barrier(alice1, room_id, [alice2, bob1])
    for device in (alice1, alice2):
        assert unheard not in device.recorder.ids(room_id)
    await set_account_data(alice2, kind, {"ignored_users": {}})
    await until("alice's first device forgives too", lambda: alice1.recorder.account_data(kind)[-1] == {"ignored_users": {}})
    await barrier(bob2, room_id, [alice1, alice2])
