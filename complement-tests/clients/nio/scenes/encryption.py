"""A chat that the server can't read: it only carries keys and ciphertext, each to the right device, once."""

from nio import RoomMessageText, RoomPreset

from common.stage import test
from common.waiting import same, until
from lib import world
from lib.device import Device
from lib.env import without
from lib.answers import ok
from lib.world import everyone, joined, login

ALGORITHM = "m.megolm.v1.aes-sha2"


@test("an encrypted chat is read by all devices, by one added later, and by one that was away", without("encryption"))
async def _() -> None:
    alice1, alice2, bob1, bob2 = everyone()
    clear: dict[Device, dict[str, str]] = {}

    def listen(device: Device) -> None:
        texts = clear.setdefault(device, {})

        def heard(_, event: RoomMessageText) -> None:
            if event.decrypted:
                texts[event.event_id] = event.body

        device.client.add_event_callback(heard, RoomMessageText)

    async def reads(device: Device, event_id: str, body: str) -> None:
        await until(f"{device.name} can read '{body}'", lambda: clear[device].get(event_id) == body)

    for device in everyone():
        listen(device)
    encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": ALGORITHM}}
    created = await alice1.client.room_create(
        preset=RoomPreset.private_chat, invite=[bob1.user_id], initial_state=[encryption]
    )
    room_id = ok(created).room_id
    await bob1.be("invite", room_id)
    ok(await bob1.client.join(room_id))
    for device in everyone():
        await device.be("join", room_id)
        await until(f"{device.name} sees both", lambda device=device: joined(device, room_id, bob1.user_id))
        await until(f"{device.name} encrypts", lambda device=device: device.room(room_id).encrypted)

    first = await alice1.say(room_id, "for four devices")
    for device in (alice2, bob1, bob2):
        await reads(device, first, "for four devices")
        raw = await device.sees(room_id, first)
        same((raw["type"], raw["content"]["algorithm"], raw["content"].get("body")), ("m.room.encrypted", ALGORITHM, None))
    answer = await bob2.say(room_id, "heard you")
    await reads(alice1, answer, "heard you")

    await bob2.stop()
    mark = bob2.recorder.mark()
    tablet = Device("tablet", await login("bob", "Bob's tablet"))
    listen(tablet)
    await tablet.start()

    def known() -> set[str]:
        return set(alice1.client.device_store[bob1.user_id])

    await until("alice is told of bob's new device", lambda: tablet.device_id in known())
    assert bob2.device_id in known()
    alice1.client.invalidate_outbound_session(room_id)  # so that each device needs a new key
    second = await alice1.say(room_id, "for five devices")
    for device in (alice2, bob1, tablet):
        await reads(device, second, "for five devices")

    # nio has a new client now, whose callbacks come with it.
    await bob2.resume(listen)
    await reads(bob2, second, "for five devices")
    same(len(bob2.recorder.to_device("m.room.encrypted", mark)), 1, "keys that waited")
    await tablet.stop()
    ok(await tablet.client.logout())
    await tablet.client.close()
    assert world.bob2 is bob2
