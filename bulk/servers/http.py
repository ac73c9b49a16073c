"""Requests to one ComfyUI server, with bounded replies.

http.client neither follows a redirect nor asks a proxy of the environment: a server cannot send us to another address.
"""
import http.client
import json
import urllib.parse
import uuid

JSON_BYTES = 64 * 2 ** 20       # /object_info of a server with many packs is the largest
FILE_BYTES = 512 * 2 ** 20
MESSAGE_BYTES = 64 * 2 ** 10    # of an answer that refuses


class Unreachable(Exception):
    """The server did not answer, or not in the way ComfyUI does."""


class Refused(Exception):
    """The server answered with an error. status: of HTTP; answer: its text."""

    def __init__(self, status: int, answer: str):
        super().__init__(f"the server answered {status}: {answer[:500]}")
        self.status, self.answer = status, answer


class Server:
    """One connection to a server, for one thread: opened at the first request, kept for the next ones.

    url: http://host:port. Raises Unreachable where it is no address.
    """

    def __init__(self, url: str, timeout: float = 60):
        self.url = url
        parts = urllib.parse.urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        try:
            self._connection, self._folder = kind(parts.netloc, timeout=timeout), parts.path
        except http.client.InvalidURL as error:
            raise Unreachable(f"{url} is not the address of a server: {error}") from error

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def request(self, path: str, body: bytes | None = None, kind: str = "application/json", *, most: int = JSON_BYTES,
                method: str | None = None) -> tuple[bytes, dict]:
        """(content, headers) of a GET, or of a POST where there is a body. Raises Unreachable and Refused."""
        place = path.partition("?")[0]
        whole = False
        try:
            self._connection.request(method or ("GET" if body is None else "POST"), self._folder + path, body,
                                     {} if body is None else {"Content-Type": kind})
            answer = self._connection.getresponse()
            if answer.status >= 300:
                raise Refused(answer.status, answer.read(MESSAGE_BYTES).decode(errors="replace"))
            declared = answer.length
            content = answer.read(most + 1)
            if len(content) > most:
                raise Unreachable(f"{self.url} answered {place} with more than {most} bytes")
            if declared is not None and len(content) < declared:
                raise Unreachable(f"{self.url} broke off in its answer to {place}")
            whole = True
            return content, dict(answer.headers)
        except (OSError, ValueError) as error:
            raise Unreachable(f"{self.url} did not answer: {error}") from error
        except http.client.HTTPException as error:
            raise Unreachable(f"{self.url} broke off: {type(error).__name__} {error}") from error
        finally:
            if not whole:       # what is left of an answer would be taken for the next one
                self._connection.close()

    def get(self, path: str) -> dict:
        """The JSON object of a GET."""
        return self._object(self.request(path)[0], path)

    def post(self, path: str, content: object) -> dict:
        """The JSON object of a POST; {} where the answer is empty."""
        answer = self.request(path, json.dumps(content).encode())[0]
        return self._object(answer, path) if answer.strip() else {}

    def _object(self, answer: bytes, path: str) -> dict:
        try:
            found = json.loads(answer)
        except ValueError as error:
            raise Unreachable(f"{self.url} did not answer {path} with JSON. Is it a ComfyUI server?") from error
        if not isinstance(found, dict):
            raise Unreachable(f"{self.url} did not answer {path} as ComfyUI does")
        return found

    # ---- what ComfyUI offers ----

    def version(self) -> str:
        return str(self.get("/system_stats").get("system", {}).get("comfyui_version", "unknown"))

    def object_info(self, classes: list[str]) -> dict:
        """Descriptions of node classes; those that the server does not have are missing."""
        found = {}
        for name in classes:
            found.update(self.get(f"/object_info/{urllib.parse.quote(name, safe='')}"))
        return found

    def has_file(self, name: str, size: int) -> bool:
        """Whether the input folder has a file of this name and size. The name is made from its content."""
        query = urllib.parse.urlencode({"filename": name, "type": "input"})
        try:
            headers = self.request(f"/view?{query}", method="HEAD")[1]
        except Refused as error:
            if error.status == 404:
                return False
            raise
        return headers.get("Content-Length") == str(size)

    def upload(self, name: str, content: bytes) -> None:
        """Puts a file into the input folder. name: made from the content, of letters, digits and a dot."""
        # overwriting is for what a broken upload has left: another server of the same folder may be reading the file
        if self._uploaded_as(name, content, "false") != name and self._uploaded_as(name, content, "true") != name:
            raise Unreachable(f"{self.url} saved the file {name} under another name")

    def _uploaded_as(self, name: str, content: bytes, overwrite: str) -> str | None:
        boundary = uuid.uuid4().hex
        head = (f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\n{overwrite}\r\n'
                f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n")
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        answer = self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}")[0]
        return self._object(answer, "/upload/image").get("name")

    def file(self, description: dict) -> bytes:
        """A file that an output node wrote; description: {"filename", "subfolder", "type"}."""
        wanted = {key: str(description.get(key, "")) for key in ("filename", "subfolder", "type")}
        return self.request("/view?" + urllib.parse.urlencode(wanted), most=FILE_BYTES)[0]
