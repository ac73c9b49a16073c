"""Requests to one ComfyUI server, with bounded replies.

Neither is a redirect followed, nor a proxy of the environment asked: a server cannot send us to another address.
"""
import asyncio
import io
import json
from collections.abc import Mapping
from urllib.parse import quote

import aiohttp

JSON_BYTES = 64 * 2 ** 20       # /object_info of a server with many packs is the largest
FILE_BYTES = 512 * 2 ** 20


class ServerError(Exception):
    """The server did not answer as ComfyUI does. status, answer: of HTTP, where the server refused."""

    def __init__(self, message: str, status: int = 0, answer: str = ""):
        super().__init__(message)
        self.status, self.answer = status, answer


class Server:
    """Connections to a server, used as an async context manager. url: http://host:port. seconds: until an answer is late."""

    def __init__(self, url: str, seconds: float = 60):
        self.url = url
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)

    async def __aenter__(self) -> "Server":
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def request(self, method: str, path: str, most: int = JSON_BYTES, **content: object) -> tuple[bytes, Mapping]:
        """(content, headers) of an answer. content: as aiohttp takes it. Raises ServerError."""
        try:
            async with self._session.request(method, self.url + path, allow_redirects=False, **content) as answer:
                try:
                    found = await answer.content.readexactly(most + 1)
                except asyncio.IncompleteReadError as whole:
                    found = whole.partial
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = isinstance(error, OSError) and error.strerror or error
            raise ServerError(f"{self.url} did not answer: {reason}") from error
        if len(found) > most:
            raise ServerError(f"{self.url} answered {path} with more than {most} bytes")
        if answer.status >= 300:
            text = found.decode(errors="replace")
            raise ServerError(f"{self.url} answered {answer.status}: {text[:500]}", answer.status, text)
        return found, answer.headers

    async def json(self, method: str, path: str, **content: object) -> dict:
        """The JSON object of an answer; {} where that is empty. content: as aiohttp takes it. Raises ServerError."""
        answer = (await self.request(method, path, **content))[0]
        try:
            found = json.loads(answer or b"{}")
        except ValueError as error:
            raise ServerError(f"{self.url} did not answer {path} with JSON. Is it a ComfyUI server?") from error
        if not isinstance(found, dict):
            raise ServerError(f"{self.url} did not answer {path} as ComfyUI does")
        return found

    # ---- what ComfyUI offers ----

    async def object_info(self, classes: list[str]) -> dict:
        """Descriptions of node classes; those that the server does not have are missing."""
        found = {}
        for name in classes:
            found.update(await self.json("GET", f"/object_info/{quote(name, safe='')}"))
        return found

    async def has_file(self, name: str, size: int) -> bool:
        """Whether the input folder has a file of this name and size. The name is made from its content."""
        try:
            _, headers = await self.request("HEAD", "/view", params={"filename": name, "type": "input"})
        except ServerError as error:
            if error.status == 404:
                return False
            raise
        return headers.get("Content-Length") == str(size)

    async def upload(self, name: str, content: bytes) -> None:
        """Puts a file into the input folder. name: made from the content, of letters, digits and a dot."""
        # overwriting is for what a broken upload has left: another server of the same folder may be reading the file
        for overwrite in ("false", "true"):
            form = aiohttp.FormData({"overwrite": overwrite})
            form.add_field("image", io.BytesIO(content), filename=name)
            if (await self.json("POST", "/upload/image", data=form)).get("name") == name:
                return
        raise ServerError(f"{self.url} saved the file {name} under another name")

    async def file(self, description: dict) -> bytes:
        """A file that an output node wrote; description: {"filename", "subfolder", "type"}."""
        wanted = {key: str(description.get(key, "")) for key in ("filename", "subfolder", "type")}
        return (await self.request("GET", "/view", FILE_BYTES, params=wanted))[0]
