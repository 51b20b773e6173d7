"""Registration, login, devices."""

import re

from nio import DeleteDevicesAuthResponse

from common.stage import test
from common.waiting import same
from lib import world
from lib.device import Device
from lib.env import deviates
from lib.answers import ok, refused
from lib.world import anonymous, localpart, login, password


@test("a registered person has the name asked for, and each device its own token")
async def _() -> None:
    for device, name in ((world.alice1, "alice"), (world.alice2, "alice"), (world.bob1, "bob")):
        assert re.match(f"^@{localpart(name)}:.+", device.user_id)
        whoami = ok(await device.client.whoami())
        same((whoami.user_id, whoami.device_id), (device.user_id, device.device_id))
    same(world.alice1.user_id, world.alice2.user_id)
    assert world.alice1.device_id != world.alice2.device_id
    assert world.alice1.client.access_token != world.alice2.client.access_token


@test("a name that is taken or not allowed is refused")
async def _() -> None:
    client = anonymous("nobody")
    refused(await client.register(localpart("alice"), "long enough"), 400, "M_USER_IN_USE")
    refused(await client.register("no spaces here", "long enough"), 400, "M_INVALID_USERNAME")
    await client.close()


@test("password login is offered, and a wrong password or an unknown person gets the same answer")
async def _() -> None:
    client = anonymous("alice")
    assert "m.login.password" in ok(await client.login_info()).flows
    wrong = refused(await client.login("wrong"), 403, "M_FORBIDDEN")
    await client.close()
    client = anonymous("nobody")
    unknown = refused(await client.login("wrong"), 403, "M_FORBIDDEN")
    await client.close()
    same(wrong.message, unknown.message)


@test("a person can log in by the full user id and may choose the id of the device")
async def _() -> None:
    first = anonymous("alice")
    first.user, first.device_id = world.alice1.user_id, "TABLET"
    same(ok(await first.login(password("alice"), "tablet")).device_id, "TABLET")
    second = anonymous("alice")
    second.device_id = "TABLET"
    same(ok(await second.login(password("alice"), "ignored, the device has a name")).device_id, "TABLET")
    names = {device.id: device.display_name for device in ok(await second.devices()).devices}
    same(names["TABLET"], "tablet")
    if not deviates("relogin-keeps-old-token"):
        refused(await first.whoami(), 401, "M_UNKNOWN_TOKEN")
    ok(await second.logout())
    await first.close()
    await second.close()


@test("the device list has both devices, and a new name for one is seen by the other")
async def _() -> None:
    async def names(device: Device) -> dict[str, str]:
        return {entry.id: entry.display_name for entry in ok(await device.client.devices()).devices}

    alice1, alice2 = world.alice1, world.alice2
    same(await names(alice1), {alice1.device_id: "Alice's desk", alice2.device_id: "Alice's phone"})
    ok(await alice1.client.update_device(alice2.device_id, {"display_name": "Alice's new phone"}))
    same((await names(alice2))[alice2.device_id], "Alice's new phone")
    refused(await world.bob1.client.update_device(alice1.device_id, {"display_name": "mine"}), 404, "M_NOT_FOUND")


@test("a device is deleted only with the password, and its token dies with it")
async def _() -> None:
    lost = await login("alice", "lost phone")
    client = world.alice1.client
    challenge = await client.delete_devices([lost.device_id])
    assert isinstance(challenge, DeleteDevicesAuthResponse), challenge
    assert any("m.login.password" in flow["stages"] for flow in challenge.flows), challenge.flows
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": world.alice1.user_id},
        "password": "wrong",
        "session": challenge.session,
    }
    again = await client.delete_devices([lost.device_id], auth)
    assert isinstance(again, DeleteDevicesAuthResponse), again
    same(again.session, challenge.session)
    ok(await lost.whoami())
    ok(await client.delete_devices([lost.device_id], {**auth, "password": password("alice")}))
    refused(await lost.whoami(), 401, "M_UNKNOWN_TOKEN")
    await lost.close()
