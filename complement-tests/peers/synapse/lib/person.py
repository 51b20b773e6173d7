"""Somebody with an account on one of the servers, who syncs from the first scene to the last."""

import asyncio
import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp

from common.recorder import Json, Recorder
from common.waiting import until

from .homeserver import Homeserver

FILTER = json.dumps({"room": {"timeline": {"limit": 100}}})
PATIENCE = 30.0
"""How long something that another server has to do may take, in seconds."""


class Refused(Exception):
    """The server said no."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.errcode = status, body.get("errcode")


def path_of(*parts: str) -> str:
    """A path of the client-server API."""
    return "/_matrix/client/v3/" + "/".join(quote(part, safe="") for part in parts)


class Person:
    def __init__(self, home: Homeserver, localpart: str) -> None:
        self.home, self.localpart = home, localpart
        self.id = f"@{localpart}:{home.name}"
        self.recorder = Recorder()
        self._http: aiohttp.ClientSession
        self._syncing: asyncio.Task[None]

    def __str__(self) -> str:
        return self.localpart

    async def begin(self) -> "Person":
        """Gets an account and syncs from now on."""
        token = await self.home.register(self.localpart)
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"}, timeout=aiohttp.ClientTimeout(total=60)
        )
        self._syncing = asyncio.create_task(self._sync())
        await until(f"{self} has synced", lambda: self.recorder.mark() > 0)
        return self

    def has_ended(self) -> bool:
        """Whether syncing failed."""
        return self._syncing.done()

    async def end(self) -> None:
        self._syncing.cancel()
        await asyncio.gather(self._syncing, return_exceptions=True)
        await self._http.close()

    async def _sync(self) -> None:
        since = None
        while True:
            # Who syncs isn't online by that: presence is said where it's looked at.
            query = {"filter": FILTER, "timeout": "30000", "set_presence": "offline"} | ({"since": since} if since else {})
            body = await self.get(path_of("sync"), **query)
            self.recorder.record(since, body)
            since = body["next_batch"]

    # --- Requests --------------------------------------------------------------------------------

    async def request(self, method: str, path: str, body: Json | None = None, query: Any = None) -> Any:
        """Asks, again and again while the server is away."""
        while True:
            try:
                async with self._http.request(method, self.home.url + path, json=body, params=query) as answer:
                    # Synapse says in a stop that it can't say anything.
                    if answer.status == 503 and answer.content_type != "application/json":
                        await asyncio.sleep(0.05)
                        continue
                    said = await answer.json()
                    if answer.status != 200:
                        raise Refused(answer.status, said)
                    return said
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                await asyncio.sleep(0.05)

    async def get(self, path: str, **query: str) -> Json:
        return await self.request("GET", path, query=query)

    async def put(self, path: str, body: Json) -> Json:
        return await self.request("PUT", path, body)

    async def post(self, path: str, body: Json | None = None, query: Any = None) -> Json:
        return await self.request("POST", path, body or {}, query)

    # --- Rooms -----------------------------------------------------------------------------------

    async def create(self, **options: Any) -> str:
        return (await self.post(path_of("createRoom"), options))["room_id"]

    async def join(self, room: str, via: Homeserver | None = None) -> str:
        """Joins the room of this id or alias, and returns its id."""
        servers = [("server_name", via.name), ("via", via.name)] if via else None
        return (await self.post(path_of("join", room), query=servers))["room_id"]

    async def knock(self, room: str, via: Homeserver, reason: str) -> None:
        servers = [("server_name", via.name), ("via", via.name)]
        await self.post(path_of("knock", room), {"reason": reason}, servers)

    async def act(self, action: str, room_id: str, on: "Person | None" = None, **more: str) -> None:
        """Invites, kicks, bans or unbans somebody, or leaves."""
        await self.post(path_of("rooms", room_id, action), more | ({"user_id": on.id} if on else {}))

    async def send(self, room_id: str, kind: str, content: Json) -> str:
        """Sends an event once, however often that takes; returns its id."""
        return (await self.put(path_of("rooms", room_id, "send", kind, str(uuid4())), content))["event_id"]

    async def say(self, room_id: str, body: str, **more: Any) -> str:
        return await self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": body, **more})

    async def redact(self, room_id: str, event_id: str, reason: str) -> str:
        path = path_of("rooms", room_id, "redact", event_id, str(uuid4()))
        return (await self.put(path, {"reason": reason}))["event_id"]

    async def set(self, room_id: str, kind: str, content: Json, key: str = "") -> str:
        """Sets a piece of state; returns the event's id."""
        return (await self.put(path_of("rooms", room_id, "state", kind, key), content))["event_id"]

    async def read(self, room_id: str, kind: str, key: str = "") -> Json | None:
        """A piece of state, or nothing if there is none."""
        try:
            return await self.get(path_of("rooms", room_id, "state", kind, key))
        except Refused as refused:
            assert refused.errcode == "M_NOT_FOUND", refused
            return None


    async def state(self, room_id: str) -> list[Json]:
        """The current state."""
        return await self.request("GET", path_of("rooms", room_id, "state"))

    async def history(self, room_id: str) -> list[Json]:
        """All events from the newest one back to as far as the server knows."""
        events: list[Json] = []
        place: Json = {"dir": "b", "limit": "100"}
        while True:
            page = await self.get(path_of("rooms", room_id, "messages"), **place)
            events += page["chunk"]
            if "end" not in page:
                return events
            place["from"] = page["end"]

    # --- What was told ---------------------------------------------------------------------------

    async def sees(self, room_id: str, event_id: str, patience: float = PATIENCE) -> Json:
        """Returns the event as this person was told of it, once they were."""

        def find() -> Json | None:
            return next((e for e in self.recorder.timeline(room_id) if e["event_id"] == event_id), None)

        return await until(f"{self} sees {event_id} of {room_id}", find, patience)

    async def is_(self, membership: str, room_id: str) -> None:
        """Returns once this person knows that they are a member in that way."""
        await until(
            f"{self} has membership {membership} of {room_id}",
            lambda: self.recorder.membership(room_id, self.id) == membership,
            PATIENCE,
        )

    async def finds(self, room_id: str, whom: "Person", membership: str) -> None:
        """Returns once this person's server says that somebody is a member in that way."""

        async def is_so() -> bool:
            member = await self.read(room_id, "m.room.member", whom.id)
            return (member or {}).get("membership") == membership

        await until(f"{self} finds {whom} with membership {membership} in {room_id}", is_so, PATIENCE)
