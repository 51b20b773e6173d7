"""The books of the whole play: what must hold for each of the four devices from its first sync to its last."""

from common.stage import test
from common.waiting import same
from lib.world import everyone


@test("no device was told the same event twice, and all could work with every answer")
async def _() -> None:
    for device in everyone():
        assert device.recorder.mark() > 20
        same(device.recorder.repeats(), [], f"what {device.name} was told again")
        same(device.troubles, [], f"troubles of {device.name}")


@test("each device went on from the position that it was given, each time")
async def _() -> None:
    for device in everyone():
        given = {None, *(body["next_batch"] for body in device.recorder.syncs())}
        same([since for since in device.recorder.asked if since not in given], [], f"unknown positions of {device.name}")
