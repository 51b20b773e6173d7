"""One device of a person: a nio client with its store, and the record of what the server told it."""

import asyncio
import json
import logging
import traceback
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from aiohttp import ClientPayloadError
from nio import AsyncClient, AsyncClientConfig, MatrixRoom, Response, SyncError, SyncResponse

from common.recorder import Json, Recorder
from common.waiting import until
from .env import SERVER_URL
from .answers import ok

# nio warns of every error response, and of being asked to retry.
logging.getLogger("nio").setLevel(logging.ERROR)

SYNC_LIMIT = 20
"""How many timeline events each device wants at most in one answer."""

FILTER: Json = {"room": {"timeline": {"limit": SYNC_LIMIT}}}
LAZY_FILTER: Json = {"room": {"timeline": {"limit": SYNC_LIMIT}, "state": {"lazy_load_members": True}}}

running: set["Device"] = set()
"""All devices that sync at this moment."""


class RecordingClient(AsyncClient):
    """Records each answer to /sync before nio works on it."""

    recorder: Recorder
    troubles: list[str]

    async def sync(self, timeout=0, sync_filter=None, since=None, full_state=None, set_presence=None):
        self._since = since or self.next_batch or self.loaded_sync_token or None
        self.recorder.asked.append(self._since)
        return await super().sync(timeout, sync_filter, since, full_state, set_presence)

    async def receive_response(self, response: Response) -> None:
        if isinstance(response, SyncResponse):
            self.recorder.record(self._since, await response.transport_response.json())
        elif isinstance(response, SyncError):
            self.troubles.append(str(response))
        await super().receive_response(response)


def new_client(user: str, store: str, device_id: str = "") -> RecordingClient:
    """A client that isn't logged in; `store` is the folder for its keys and its position."""
    config = AsyncClientConfig(
        store_sync_tokens=True,
        max_timeout_retry_wait_time=0.4,
        request_timeout=30,
    )
    client = RecordingClient(SERVER_URL, user, device_id=device_id, store_path=store, config=config)
    client.recorder = Recorder()
    client.troubles = []
    return client


class Device:
    def __init__(self, name: str, client: RecordingClient) -> None:
        self.name = name
        self.client = client
        self._task: asyncio.Task[None] | None = None
        self._filter: Json | str = FILTER
        self._presence: str | None = "offline"

    @property
    def user_id(self) -> str:
        return self.client.user_id

    @property
    def device_id(self) -> str:
        return str(self.client.device_id)

    @property
    def recorder(self) -> Recorder:
        return self.client.recorder

    @property
    def troubles(self) -> list[str]:
        return self.client.troubles

    async def start(self, sync_filter: Json | str = FILTER, presence: str | None = "offline") -> "Device":
        """Starts to sync, from the stored position if there is one, and returns after the first answer.

        Without `presence="offline"` each device would be online all the time, and the presence scene have nothing to see."""
        self._filter, self._presence = sync_filter, presence
        mark = self.recorder.mark()
        self._task = asyncio.create_task(self._sync())
        running.add(self)
        await until(f"{self.name} has synced for the first time", lambda: self.recorder.mark() > mark or self._task.done())
        await asyncio.sleep(0)  # nio has still to work on what was recorded
        return self

    async def _sync(self) -> None:
        # nio keeps rooms in memory only: with its stored token it needs the state once more.
        full_state = bool(self.client.loaded_sync_token)
        while True:
            try:
                await self.client.sync_forever(
                    timeout=30_000, sync_filter=self._filter, full_state=full_state, set_presence=self._presence
                )
            except ClientPayloadError:  # the server was killed in the middle of an answer
                full_state = False
            except Exception:
                self.troubles.append(traceback.format_exc())
                raise

    async def stop(self) -> str:
        """Closes the app: its keys and its position are in its store, nothing of it runs on. Returns that position."""
        running.discard(self)
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.client.close()
        return self.client.next_batch

    async def resume(self, prepare: Callable[["Device"], None] = lambda _: None) -> None:
        """Opens the app again: a new client with the old access token and the old position. `prepare` is called
        before it syncs, for example to set the new client's callbacks."""
        old = self.client
        self.client = new_client(old.user, str(old.store_path), self.device_id)
        self.client.recorder, self.client.troubles = old.recorder, old.troubles
        self.client.restore_login(old.user_id, str(old.device_id), old.access_token)
        prepare(self)
        await self.start(self._filter, self._presence)

    def room(self, room_id: str) -> MatrixRoom:
        return self.client.rooms[room_id]

    async def be(self, membership: str, room_id: str) -> None:
        """Returns once this device is a member in the way that is said."""
        await until(
            f"{self.name} has membership {membership}",
            lambda: self.recorder.membership(room_id, self.user_id) == membership
            and (membership != "join" or room_id in self.client.rooms)
            and (membership != "invite" or room_id in self.client.invited_rooms),
        )

    async def sees(self, room_id: str, event_id: str) -> Json:
        """Returns the event as it was sent to this device, once it was."""

        def find() -> Json | None:
            return next((e for e in self.recorder.timeline(room_id) if e["event_id"] == event_id), None)

        return await until(f"{self.name} sees the event {event_id}", find)

    async def send(self, room_id: str, kind: str, content: Json, tx_id: str | None = None) -> Any:
        """Sends an event, again and again under the same transaction id while the server is away."""
        tx_id = tx_id or str(uuid4())
        while True:
            try:
                return await self.client.room_send(room_id, kind, content, tx_id, ignore_unverified_devices=True)
            except ClientPayloadError:  # killed in the middle of the answer; nio itself retries the rest
                await asyncio.sleep(0.05)

    async def say(self, room_id: str, body: str, **extra: Any) -> str:
        """Sends a text; returns the event's id."""
        return ok(await self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": body, **extra})).event_id

    async def request(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        """A request for which nio has no function; returns status and body."""
        headers = {"Authorization": f"Bearer {self.client.access_token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        answer = await self.client.send(method, path, data, headers)
        return answer.status, await answer.json()
