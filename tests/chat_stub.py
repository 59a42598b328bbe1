"""A chat endpoint that misbehaves, and what stands in for openai if it is missing."""

import importlib
import importlib.util
import json
import threading
import time
import types
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, finish="stop"):
    """Return the body of an answer, 10 tokens read and 2 written."""
    choice = dict(message=dict(role="assistant", content=text), finish_reason=finish)
    usage = dict(prompt_tokens=10, completion_tokens=2)
    return json.dumps(dict(model="stub-1", choices=[choice], usage=usage))


class ChatStub:
    """Serves chat completions; ``plan`` lists what happens to the first requests.

    Each step is ``ok``, a status, ``(429, seconds)``, ``cut``, ``nonsense`` or
    ``silence``. ``reply`` makes a text from the body of a request.
    """

    def __init__(self, reply=lambda body: "0.5"):
        self.reply, self.plan = reply, []
        self.bodies, self.times, self.keys = [], [], []
        #: How often each prompt was answered, and so paid for.
        self.paid = Counter()
        self._lock, self._silent = threading.Lock(), threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                stub.handle(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        ).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def handle(self, request):
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self._lock:
            step = self.plan.pop(0) if self.plan else "ok"
            self.bodies.append(body)
            self.times.append(time.monotonic())
            self.keys.append(request.headers["Authorization"])
        assert request.path == "/v1/chat/completions"
        status, pause = step if isinstance(step, tuple) else (step, None)
        if step == "silence":
            self._silent.wait(20)
            return
        content = completion(self.reply(body))
        if step == "ok":
            with self._lock:
                self.paid[json.dumps(body["messages"])] += 1
        elif step == "nonsense":
            content = "<html>busy</html>"
        elif step != "cut":
            content = json.dumps(dict(error=dict(message="stub says no")))
        request.send_response(status if isinstance(status, int) else 200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content.encode())))
        if pause is not None:
            request.send_header("Retry-After", str(pause))
        request.end_headers()
        sent = content.encode()
        request.wfile.write(sent[: len(sent) // 2] if step == "cut" else sent)

    def close(self):
        self._silent.set()
        self._server.shutdown()
        self._server.server_close()


# In place of the package -------------------------------------------------------------


class OpenAIError(Exception):
    pass


class APIConnectionError(OpenAIError):
    pass


class APIStatusError(OpenAIError):
    def __init__(self, error):
        super().__init__(f"Error code: {error.code} - {error.read().decode()}")
        self.status_code, self.response = error.code, error


class OpenAI:
    """The one call of the package that is used, over the standard library."""

    def __init__(self, *, base_url, api_key, timeout, max_retries):
        assert max_retries == 0
        self.base_url, self.api_key, self.timeout = base_url, api_key, timeout
        create = types.SimpleNamespace(create=self._create)
        completions = types.SimpleNamespace(with_raw_response=create)
        self.chat = types.SimpleNamespace(completions=completions)

    def _create(self, *, model, messages, extra_body):
        request = urllib.request.Request(
            f"{self.base_url}/chat/completions",
            json.dumps(dict(model=model, messages=messages, **extra_body)).encode(),
            {"Authorization": f"Bearer {self.api_key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise APIStatusError(error) from error
        except Exception as error:
            raise APIConnectionError(str(error)) from error
        return types.SimpleNamespace(text=text)


def openai_module():
    """Return the package, or the stand-in where it is not installed."""
    if importlib.util.find_spec("openai") is not None:
        return importlib.import_module("openai")
    module = types.ModuleType("openai")
    for one in (OpenAI, OpenAIError, APIConnectionError, APIStatusError):
        setattr(module, one.__name__, one)
    return module
