"""One of the two servers."""

import asyncio
import hmac
import os

import aiohttp

from .relay import Relay

SECRET = os.environ["PEERS_SECRET"]
"""By which accounts are made."""


class Homeserver:
    def __init__(self, title: str) -> None:
        """The server that the environment tells of."""
        self.title = title
        prefix = title.upper()
        self.url = os.environ[f"{prefix}_URL"]
        self.name = os.environ[f"{prefix}_NAME"]
        self._control = os.environ[f"{prefix}_CONTROL"]
        self.line = Relay(int(self.name.rpartition(":")[2]), int(os.environ[f"{prefix}_PORT"]))
        """By which the other one reaches it."""

    def __str__(self) -> str:
        return self.title

    async def start(self) -> None:
        """Starts it and returns when it answers."""
        await self._run("start")

    async def stop(self, signal: str) -> None:
        """Ends it by `TERM` or `KILL`."""
        await self._run(f"stop {signal}")

    async def _run(self, command: str) -> None:
        process = await asyncio.create_subprocess_shell(self._control + command)
        status = await asyncio.wait_for(process.wait(), 40)
        assert status == 0, f"{command} of {self} ended with status {status}"

    async def register(self, localpart: str) -> str:
        """Makes an account; returns an access token."""
        url = f"{self.url}/_synapse/admin/v1/register"
        async with aiohttp.ClientSession() as http:
            async with http.get(url) as answer:
                nonce = (await answer.json())["nonce"]
            password = f"{localpart} likes tea"
            proof = "\0".join((nonce, localpart, password, "notadmin")).encode()
            account = {
                "nonce": nonce,
                "username": localpart,
                "password": password,
                "mac": hmac.new(SECRET.encode(), proof, "sha1").hexdigest(),
            }
            async with http.post(url, json=account) as answer:
                assert answer.status == 200, await answer.text()
                return (await answer.json())["access_token"]
