"""How sessions go on and how they end."""

import json

from common.stage import test
from common.waiting import same
from lib import world
from lib.env import deviates
from lib.answers import ok, refused
from lib.world import anonymous, localpart, login, password


async def post(path: str, body: dict[str, object]) -> tuple[int, dict[str, object]]:
    """A request without a token, for which nio has no function."""
    client = anonymous("nobody")
    try:
        answer = await client.send("POST", f"/_matrix/client/v3{path}", json.dumps(body), {"Content-Type": "application/json"})
        return answer.status, await answer.json()
    finally:
        await client.close()


@test("a refresh token gives a new access token for the same device, once")
async def _() -> None:
    client = anonymous("alice")
    wish = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": localpart("alice")},
        "password": password("alice"),
        "refresh_token": True,
    }
    session = ok(await client.login_raw(wish))
    given = await session.transport_response.json()
    status, renewed = await post("/refresh", {"refresh_token": given["refresh_token"]})
    same(status, 200)
    assert renewed["access_token"] != given["access_token"]
    client.access_token = renewed["access_token"]
    same(ok(await client.whoami()).device_id, session.device_id)
    if not deviates("spent-refresh-token-is-403"):
        status, error = await post("/refresh", {"refresh_token": given["refresh_token"]})
        same((status, error["errcode"]), (401, "M_UNKNOWN_TOKEN"))
    ok(await client.logout())
    status, error = await post("/refresh", {"refresh_token": renewed["refresh_token"]})
    same((status, error["errcode"]), (401, "M_UNKNOWN_TOKEN"))
    await client.close()


@test("logout ends one session at once, logout everywhere ends all")
async def _() -> None:
    spare = await login("alice", "spare")
    token = spare.access_token
    ok(await spare.logout())
    spare.access_token = token
    refused(await spare.whoami(), 401, "M_UNKNOWN_TOKEN")
    await spare.close()
    same(ok(await world.alice1.client.whoami()).device_id, world.alice1.device_id)

    tokens = [device.client.access_token for device in (world.alice1, world.alice2)]
    for device in (world.alice1, world.alice2):
        await device.stop()
    ok(await world.alice1.client.logout(all_devices=True))
    for device, token in zip((world.alice1, world.alice2), tokens, strict=True):
        device.client.access_token = token
        refused(await device.client.whoami(), 401, "M_UNKNOWN_TOKEN")
        await device.client.close()
    same(ok(await world.bob1.client.whoami()).device_id, world.bob1.device_id)
    again = await login("alice", "after all")
    same([entry.id for entry in ok(await again.devices()).devices], [again.device_id])
    await again.close()
