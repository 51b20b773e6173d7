"""What people do with messages: send, answer, edit, react, take back; and what the sending device alone is told."""

import asyncio
import time
from typing import Any

from nio import RedactionEvent
from nio.api import RelationshipType

from common.stage import test
from common.waiting import same, until
from lib import world
from lib.device import Device, Json
from lib.env import has, without
from lib.answers import ok, refused
from lib.world import barrier, everyone, new_group


async def fetch(device: Device, room_id: str, event_id: str) -> Json:
    """The event as the server has it now."""
    return ok(await device.client.room_get_event(room_id, event_id)).event.source


@test("the transaction id comes back to the device that sent, and to no other")
async def _() -> None:
    room_id = await new_group()
    alice1 = world.alice1
    content = {"msgtype": "m.text", "body": "Mine"}
    event_id = ok(await alice1.send(room_id, "m.room.message", content, "my-own")).event_id
    for device in everyone():
        event = await device.sees(room_id, event_id)
        same((event["sender"], event["content"]), (alice1.user_id, content))
        assert abs(time.time() * 1000 - event["origin_server_ts"]) < 60_000
        expected = "my-own" if device is alice1 else None
        same(event.get("unsigned", {}).get("transaction_id"), expected, f"transaction id for {device.name}")


@test("a request repeated under its transaction id makes one event, and each device has its own ids")
async def _() -> None:
    room_id = await new_group()

    async def send(device: Device, tx_id: str) -> str:
        return ok(await device.send(room_id, "m.room.message", {"msgtype": "m.text", "body": "once"}, tx_id)).event_id

    first = await send(world.alice1, "same")
    same(await send(world.alice1, "same"), first)
    third, fourth = await asyncio.gather(send(world.alice1, "race"), send(world.alice1, "race"))
    same(third, fourth)
    other = await send(world.alice2, "same")
    assert other != first
    await barrier(world.alice1, room_id, everyone())
    for device in everyone():
        once = [e["event_id"] for e in device.recorder.timeline(room_id) if e["content"].get("body") == "once"]
        same(once, [first, third, other])


@test("messages of two people at once come in the same order to everybody")
async def _() -> None:
    room_id = await new_group()

    async def talk(device: Device) -> list[str]:
        return [await device.say(room_id, f"{device.name} {n}") for n in range(8)]

    spoken = await asyncio.gather(*(talk(device) for device in everyone()))
    everything = {event_id for own in spoken for event_id in own}
    await barrier(world.alice1, room_id, everyone())
    heard = [[i for i in device.recorder.ids(room_id) if i in everything] for device in everyone()]
    same(len(heard[0]), 32)
    for order in heard:
        same(order, heard[0], "orders")
    for own in spoken:
        same([i for i in heard[0] if i in own], own, "one device's own order")


@test("a reply names what it answers")
async def _() -> None:
    room_id = await new_group()
    question = await world.alice1.say(room_id, "Tea?")
    relation = {"m.in_reply_to": {"event_id": question}}
    answer = await world.bob1.say(room_id, "Please", **{"m.relates_to": relation})
    for device in everyone():
        same((await device.sees(room_id, answer))["content"]["m.relates_to"], relation)


@test("an edit is bundled with what it edits, only its author can make one, and the original stays readable")
async def _() -> None:
    room_id = await new_group()
    original = await world.alice1.say(room_id, "Tee at five")

    async def edit(device: Device, body: str) -> str:
        relation = {"rel_type": "m.replace", "event_id": original}
        new = {"msgtype": "m.text", "body": body}
        return await device.say(room_id, f"* {body}", **{"m.new_content": new, "m.relates_to": relation})

    first = await edit(world.alice2, "Tea at five")
    last = await edit(world.alice1, "Tea at six")
    for device in everyone():
        event = await device.sees(room_id, last)
        same(event["content"]["m.new_content"]["body"], "Tea at six")
    event = await fetch(world.bob2, room_id, original)
    same(event["content"]["body"], "Tee at five")
    same(event["unsigned"]["m.relations"]["m.replace"]["event_id"], last)
    edits = [e async for e in world.bob2.client.room_get_event_relations(room_id, original, RelationshipType.replacement)]
    same([e.event_id for e in edits], [last, first])

    await edit(world.bob1, "Beer at six")
    event = await fetch(world.alice1, room_id, original)
    same(event["unsigned"]["m.relations"]["m.replace"]["event_id"], last)


@test("reactions are seen, cannot be given twice, and go when they are redacted")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, bob2 = everyone()
    cake = await alice1.say(room_id, "There is cake")

    async def react(device: Device, key: str) -> Any:
        relation = {"rel_type": "m.annotation", "event_id": cake, "key": key}
        return await device.send(room_id, "m.reaction", {"m.relates_to": relation})

    await react(alice2, "🎂")
    applause = ok(await react(bob1, "🎂")).event_id
    coffee = ok(await react(bob1, "☕")).event_id
    for device in everyone():
        event = await device.sees(room_id, coffee)
        same(event["content"]["m.relates_to"], {"rel_type": "m.annotation", "event_id": cake, "key": "☕"})
    refused(await react(bob2, "☕"), 400, "M_DUPLICATE_ANNOTATION")

    async def related() -> set[tuple[str, str]]:
        events = bob2.client.room_get_event_relations(room_id, cake, RelationshipType.annotation)
        return {(e.sender, e.key) async for e in events}

    both = {(alice1.user_id, "🎂"), (bob1.user_id, "🎂"), (bob1.user_id, "☕")}
    same(await related(), both)
    redaction = ok(await bob2.client.room_redact(room_id, applause)).event_id
    for device in everyone():
        await device.sees(room_id, redaction)
    same(await related(), both - {(bob1.user_id, "🎂")})
    ok(await react(bob2, "🎂"))
    same(await related(), both)


@test("a redacted message has no content left for anybody, and only those with power redact others'")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, bob2 = everyone()
    slip = await bob1.say(room_id, "My PIN is 1234")
    keep = await alice1.say(room_id, "Hers")
    refused(await bob1.client.room_redact(room_id, keep), 403, "M_FORBIDDEN")
    seen: list[str] = []
    bob2.client.add_event_callback(lambda _, event: seen.append(event.redacts), RedactionEvent)
    redaction = ok(await alice2.client.room_redact(room_id, slip, "secret")).event_id
    for device in everyone():
        await device.sees(room_id, redaction)
    await until("nio knows what was redacted", lambda: slip in seen)
    event = await fetch(bob2, room_id, slip)
    same(event["content"], {})
    because = event["unsigned"]["redacted_because"]
    same((because["event_id"], because["content"]["reason"]), (redaction, "secret"))
    page = ok(await alice1.client.room_messages(room_id, limit=50)).chunk
    same([e.source["content"] for e in page if e.event_id == slip], [{}])
    same((await fetch(bob1, room_id, keep))["content"]["body"], "Hers")


@test("a thread has its own messages, and its root tells of them", without("threads"))
async def _() -> None:
    room_id = await new_group()
    root = await world.alice1.say(room_id, "Which tea?")
    relation = {"rel_type": "m.thread", "event_id": root}
    first = await world.bob1.say(room_id, "Assam", **{"m.relates_to": relation})
    latest = await world.alice2.say(room_id, "Darjeeling", **{"m.relates_to": relation})
    await world.alice1.say(room_id, "outside")
    for device in everyone():
        same((await device.sees(room_id, latest))["content"]["m.relates_to"]["event_id"], root)
    summary = (await fetch(world.bob2, room_id, root))["unsigned"]["m.relations"]["m.thread"]
    same((summary["count"], summary["latest_event"]["event_id"]), (2, latest))
    same(summary["current_user_participated"], True)
    replies = world.bob2.client.room_get_event_relations(room_id, root, RelationshipType.thread)
    same([e.event_id async for e in replies], [latest, first])
    if has("thread-list"):
        same([e.event_id async for e in world.bob1.client.room_get_threads(room_id)], [root])


@test("a message that is too large is refused, and the device can go on")
async def _() -> None:
    room_id = await new_group()
    content = {"msgtype": "m.text", "body": "x" * 70_000}
    refused(await world.alice1.send(room_id, "m.room.message", content), 413, "M_TOO_LARGE")
    await barrier(world.alice1, room_id, [world.bob1, world.bob2])
