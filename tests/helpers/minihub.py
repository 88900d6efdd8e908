"""A Hugging Face Hub on loopback for tests: repositories, commits, tags, large files, tokens, and faults on demand.

It speaks what huggingface_hub needs to push and pull (read off an access log), holds everything in memory, and
has a commit whole or not at all, as the Hub does.
"""

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

WRITER, READER = "hf_writer", "hf_reader"  # tokens
LARGE = (".safetensors", ".flac", ".bin")  # stored by hash, uploaded apart from the commit


@dataclass
class Repository:
    """Commits by hash, each a dict of path -> bytes; branches and tags by name."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit({".gitattributes": b""})

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches["main"] = sha
        return sha

    def find(self, revision: str) -> str | None:
        """Hash of a branch, tag or commit."""
        return (
            self.branches.get(revision) or self.tags.get(revision) or {sha: sha for sha in self.commits}.get(revision)
        )


class Refusal(Exception):
    """An answer with an error code that huggingface_hub understands."""

    def __init__(self, status: int, code: str):
        super().__init__(code)
        self.status, self.code = status, code


class MiniHub:
    """The server; start it with `with MiniHub() as hub`, talk to it at `hub.url`.

    Attributes:
        repositories: by (kind, "user/name").
        requests: (method, path) of each request, in order.
        upload_fault: large uploads are refused half-way.
        download_fault: path of a file whose download breaks off half-way.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.upload_fault = False
        self.download_fault: str | None = None
        self.server = uvicorn.Server(uvicorn.Config(make_app(self), host="127.0.0.1", port=0, log_level="critical"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> "MiniHub":
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)

    def files(self, name: str, kind: str = "model") -> dict[str, bytes]:
        """What the main branch of a repository holds."""
        repository = self.repositories[kind, name]
        return repository.commits[repository.branches["main"]]

    def open(self, kind: str, name: str, request: Request, write: bool = False) -> Repository:
        """A repository, if the token of the request may read or write it."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        repository = self.repositories.get((kind, name))
        if write and token != WRITER:
            raise Refusal(403 if token == READER else 401, "Forbidden")
        if repository is None or (repository.private and token not in (WRITER, READER)):
            raise Refusal(404 if token in (WRITER, READER) else 401, "RepoNotFound")
        return repository


def blob(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def entry(path: str, content: bytes) -> dict:
    about = {"type": "file", "path": path, "size": len(content), "oid": blob(content)}
    if path.endswith(LARGE):
        about["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return about


def make_app(hub: MiniHub) -> FastAPI:
    """The routes."""
    app = FastAPI()

    @app.middleware("http")
    async def log(request: Request, call_next):
        hub.requests.append((request.method, request.url.path))
        return await call_next(request)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal):
        headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.code}
        return Response(json.dumps({"error": refusal.code}), refusal.status, headers)

    @app.post("/api/repos/create")
    async def create(request: Request):
        asked = await request.json()
        kind, name = asked.get("type") or "model", "/".join(filter(None, [asked.get("organization"), asked["name"]]))
        if request.headers.get("authorization", "") != f"Bearer {WRITER}":
            raise Refusal(401 if "authorization" not in request.headers else 403, "Forbidden")
        address = f"{hub.url}/{'' if kind == 'model' else f'{kind}s/'}{name}"
        if (kind, name) in hub.repositories:
            return Response(json.dumps({"error": "exists", "url": address}), 409)
        private = asked.get("private") or asked.get("visibility") == "private"
        hub.repositories[kind, name] = Repository(private=bool(private))
        return {"url": address, "name": name, "id": name}

    @app.post("/api/validate-yaml")
    async def validate_yaml(request: Request):
        head = (await request.json())["content"]
        fine = head.startswith("---\n")
        return {"errors": [] if fine else [{"message": "no metadata"}], "warnings": []}

    @app.get("/api/whoami-v2")
    async def whoami(request: Request):
        if request.headers.get("authorization", "") not in (f"Bearer {WRITER}", f"Bearer {READER}"):
            raise Refusal(401, "Unauthorized")
        return {"name": "user", "type": "user", "orgs": []}

    @app.post("/api/{kinds}/{user}/{name}/preupload/{revision}")
    async def preupload(kinds: str, user: str, name: str, revision: str, request: Request):
        hub.open(kinds[:-1], f"{user}/{name}", request, write=True)
        paths = [file["path"] for file in (await request.json())["files"]]
        return {
            "files": [
                {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular", "shouldIgnore": False}
                for path in paths
            ]
        }

    @app.post("/{path:path}.git/info/lfs/objects/batch")
    async def batch(path: str, request: Request):
        asked = (await request.json())["objects"]
        objects = [
            item
            if item["oid"] in hub.large
            else item | {"actions": {"upload": {"href": f"{hub.url}/lfs/{item['oid']}"}}}
            for item in asked
        ]
        return Response(
            json.dumps({"transfer": "basic", "objects": objects}), media_type="application/vnd.git-lfs+json"
        )

    @app.put("/lfs/{oid}")
    async def upload(oid: str, request: Request):
        content = b""
        async for chunk in request.stream():
            content += chunk
            if hub.upload_fault:
                raise Refusal(507, "InsufficientStorage")
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(422, "HashMismatch")
        hub.large[oid] = content
        return {}

    @app.post("/api/{kinds}/{user}/{name}/commit/{revision}")
    async def commit(kinds: str, user: str, name: str, revision: str, request: Request):
        repository = hub.open(kinds[:-1], f"{user}/{name}", request, write=True)
        files = dict(hub.files(f"{user}/{name}", kinds[:-1]))
        for line in (await request.body()).splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in hub.large:
                    raise Refusal(422, "LfsFileMissing")
                files[value["path"]] = hub.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(files)
        return {"commitUrl": f"{hub.url}/{user}/{name}/commit/{sha}", "commitOid": sha, "hookOutput": ""}

    @app.post("/api/{kinds}/{user}/{name}/tag/{revision}")
    async def tag(kinds: str, user: str, name: str, revision: str, request: Request):
        repository = hub.open(kinds[:-1], f"{user}/{name}", request, write=True)
        repository.tags[(await request.json())["tag"]] = repository.find(revision)
        return {}

    @app.get("/api/{kinds}/{user}/{name}/refs")
    async def refs(kinds: str, user: str, name: str, request: Request):
        repository = hub.open(kinds[:-1], f"{user}/{name}", request)
        told = {"branches": repository.branches, "tags": repository.tags}
        rows = {
            kind: [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": sha} for n, sha in names.items()]
            for kind, names in told.items()
        }
        return rows | {"converts": []}

    @app.get("/api/{kinds}/{user}/{name}/tree/{revision}")
    async def tree(kinds: str, user: str, name: str, revision: str, request: Request):
        repository = hub.open(kinds[:-1], f"{user}/{name}", request)
        sha = repository.find(revision)
        if sha is None:
            raise Refusal(404, "RevisionNotFound")
        return [entry(path, content) for path, content in sorted(repository.commits[sha].items())]

    @app.get("/api/{kinds}/{user}/{name}/revision/{revision}")
    @app.get("/api/{kinds}/{user}/{name}")
    async def info(kinds: str, user: str, name: str, request: Request, revision: str = "main"):
        repository = hub.open(kinds[:-1], f"{user}/{name}", request)
        sha = repository.find(revision)
        if sha is None:
            raise Refusal(404, "RevisionNotFound")
        siblings = [{"rfilename": path} for path in sorted(repository.commits[sha])]
        return {"id": f"{user}/{name}", "sha": sha, "private": repository.private, "tags": [], "siblings": siblings}

    @app.api_route("/{user}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    async def resolve(user: str, name: str, revision: str, path: str, request: Request):
        repository = hub.open("model", f"{user}/{name}", request)
        sha = repository.find(revision)
        if sha is None:
            raise Refusal(404, "RevisionNotFound")
        if path not in repository.commits[sha]:
            raise Refusal(404, "EntryNotFound")
        content = repository.commits[sha][path]
        about = entry(path, content)
        etag = about.get("lfs", about)["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if "lfs" in about:
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        first = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        body = content[first:]
        headers["Content-Length"] = str(len(body))
        if request.method == "HEAD":
            return Response(None, 200, headers)
        if hub.download_fault == path:  # says its whole length and closes in the middle
            return StreamingResponse(iter([body[: len(body) // 2]]), 206 if first else 200, headers)
        return Response(body, 206 if first else 200, headers)

    return app
