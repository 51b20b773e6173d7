"""The line to a server, which can be cut."""

import asyncio
from contextlib import suppress


class Relay:
    """Passes on what comes to one port of this machine to another, byte by byte."""

    def __init__(self, port: int, to: int) -> None:
        self._port, self._to = port, to
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def cut(self) -> None:
        """Ends all connections; new ones are refused."""
        if self._server:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.close()
        await asyncio.gather(*self._passing)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(OSError):
                there_reader, there = await asyncio.open_connection("127.0.0.1", self._to)
                self._open.add(there)
                try:
                    await asyncio.gather(_copy(reader, there), _copy(there_reader, writer))
                finally:
                    self._open.discard(there)
                    there.close()
        finally:
            self._open.discard(writer)
            writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()
