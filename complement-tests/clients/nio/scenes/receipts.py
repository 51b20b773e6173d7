"""Who has read what, for others and for oneself, and what it does to the unread counts."""

from nio.api import ReceiptType

from common.stage import test
from common.waiting import same, until
from lib import world
from lib.device import Device
from lib.answers import ok
from lib.world import barrier, everyone, new_group


async def read(device: Device, room_id: str, event_id: str, kind: ReceiptType = ReceiptType.read) -> None:
    ok(await device.client.update_receipt_marker(room_id, event_id, kind))


async def unread(devices: list[Device], room_id: str, total: int, highlights: int) -> None:
    """All of `devices` come to these unread counts."""
    for device in devices:

        def counts(device: Device = device) -> tuple[int, int]:
            room = device.room(room_id)
            return room.unread_notifications, room.unread_highlights

        try:
            await until(f"{device.name} counts {(total, highlights)} unread", lambda: counts() == (total, highlights))
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it counts {counts()}") from None


@test("a public receipt is seen by everybody")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, bob2 = everyone()
    event_id = await alice1.say(room_id, "Read this")
    await bob1.sees(room_id, event_id)
    await read(bob1, room_id, event_id)
    for device in (alice1, alice2, bob2):
        await until(
            f"{device.name} knows that bob has read",
            lambda device=device: (event_id, "m.read", bob1.user_id, "main") in device.recorder.receipts(room_id),
        )
        receipt = device.room(room_id).threaded_read_receipts[bob1.user_id]["main"]
        same(receipt.event_id, event_id)


@test("a private receipt is seen by one's own devices and by nobody else")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, bob2 = everyone()
    event_id = await bob1.say(room_id, "Has she read it?")
    await unread([alice1, alice2], room_id, 1, 0)
    await read(alice1, room_id, event_id, ReceiptType.read_private)
    await until(
        "alice's other device has the private receipt",
        lambda: (event_id, "m.read.private", alice1.user_id, "main") in alice2.recorder.receipts(room_id),
    )
    await unread([alice1, alice2], room_id, 0, 0)
    await barrier(bob1, room_id, [bob1, bob2])
    await barrier(alice1, room_id, [bob1, bob2])
    for device in (bob1, bob2):
        leaked = [r for r in device.recorder.receipts(room_id) if r[1] == "m.read.private" or r[:3:2] == (event_id, alice1.user_id)]
        same(leaked, [], f"private receipts that {device.name} got")


@test("unread counts go up by messages and mentions, down by receipts, the same on both devices")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, bob2 = everyone()
    alices = [alice1, alice2]
    await unread(alices, room_id, 0, 0)
    first = await bob1.say(room_id, "one")
    await bob2.say(room_id, "two")
    await unread(alices, room_id, 2, 0)
    await bob1.say(room_id, "Alice, three", **{"m.mentions": {"user_ids": [alice1.user_id]}})
    last = await bob1.say(room_id, "four")
    await unread(alices, room_id, 4, 1)
    await unread([bob1, bob2], room_id, 0, 0)

    # Edits, reactions and notices don't count.
    edit = {"rel_type": "m.replace", "event_id": last}
    await bob1.say(room_id, "* four!", **{"m.new_content": {"msgtype": "m.text", "body": "four!"}, "m.relates_to": edit})
    relation = {"rel_type": "m.annotation", "event_id": first, "key": "1"}
    ok(await bob1.send(room_id, "m.reaction", {"m.relates_to": relation}))
    await bob1.say(room_id, "a robot speaks", msgtype="m.notice")
    five = await bob1.say(room_id, "five")
    await unread(alices, room_id, 5, 1)

    await read(alice2, room_id, first)
    await unread(alices, room_id, 4, 1)
    await read(alice1, room_id, last, ReceiptType.read_private)
    await unread(alices, room_id, 1, 0)
    await read(alice1, room_id, five)
    await unread(alices, room_id, 0, 0)
    await bob1.say(room_id, "six")
    await unread(alices, room_id, 1, 0)


@test("the fully-read marker is for one's own devices")
async def _() -> None:
    room_id = await new_group()
    alice1, alice2, bob1, _ = everyone()
    event_id = await bob1.say(room_id, "Up to here")
    ok(await alice1.client.room_read_markers(room_id, event_id, event_id))
    await until("alice's other device has the marker", lambda: alice2.room(room_id).fully_read_marker == event_id)
    await until(
        "bob has the receipt that went with it",
        lambda: (event_id, "m.read", alice1.user_id, None) in bob1.recorder.receipts(room_id),
    )
    await unread([alice1, alice2], room_id, 0, 0)
    await barrier(alice1, room_id, [bob1])
    same(bob1.recorder.room_account_data(room_id, "m.fully_read"), [])
