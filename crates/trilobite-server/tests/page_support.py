"""What page.py tests with: a server that answers as the tests say, and a browser."""

import base64
import http.server
import json
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "src" / "page.html"
META = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')
TIMEOUT = 20  # Seconds until something that should happen is missing. No test depends on how fast it happens.


# ---- A server that answers as the tests say --------------------------------------------------------------------
def event(delta=None, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"object": "chat.completion.chunk", "choices": choices, **more}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def stream(text, step=12, reasoning="", finish="stop", usage=True):
    """The bytes of a whole answer: a comment, the role, the text in pieces, the usage, the end."""
    parts = [b": hello\n\n", event({"role": "assistant", "content": ""})]
    parts += [event({"reasoning_content": reasoning[at:at + step]}) for at in range(0, len(reasoning), step)]
    pieces = [event({"content": text[at:at + step]}) for at in range(0, len(text), step)]
    parts += [*pieces, event({}, finish)]
    if usage:
        parts.append(event(usage={"prompt_tokens": 7, "completion_tokens": len(pieces), "total_tokens": 7 + len(pieces)}))
    return b"".join(parts) + b"data: [DONE]\n\n"


def halves(first, second):
    """The bytes of an answer up to a word, and the rest."""
    begin = stream(first)
    return begin[:begin.index(event({}, "stop"))], stream(second)


class Answer:
    """What the server does with one request: a status, then pieces of the body, waiting at each threading.Event."""

    def __init__(self, *pieces, status=200, headers=()):
        self.pieces, self.status, self.headers = pieces, status, dict(headers)
        self.left = threading.Event()  # Set when the client goes away before the end.

    @classmethod
    def error(cls, status, message, **headers):
        body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}})
        return cls(body.encode(), status=status, headers=headers)

    @classmethod
    def text(cls, text, size=None, **options):
        data = stream(text, **options)
        size = size or len(data)
        return cls(*(data[at:at + size] for at in range(0, len(data), size)))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, answer, kind="application/json"):
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/event-stream" if answer.status == 200 and kind != "text/html" else kind)
        for name, value in answer.headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for piece in answer.pieces:
                if isinstance(piece, threading.Event):
                    while not piece.wait(0.05):  # Meanwhile, comments show whether the client is still there.
                        self.wfile.write(b"3\r\n:\n\n\r\n")
                    continue
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            answer.left.set()
            self.close_connection = True

    def allowed(self):
        key = self.server.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self.send(Answer.error(401, "Incorrect API key provided"))
        return False

    def do_GET(self):
        if self.path == "/":
            page = PAGE.read_text()
            policy = META.search(page).group(1) + "; frame-ancestors 'none'"
            self.send(Answer(page.encode(), headers={"Content-Security-Policy": policy}), "text/html")
        elif self.path == "/v1/models" and self.allowed():
            models = [{"id": name, "object": "model", "chat": name != "stories"} for name in self.server.models]
            self.send(Answer(json.dumps({"object": "list", "data": models}).encode()))
        elif self.path != "/v1/models":
            self.send(Answer.error(404, f"no {self.path}"))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in ("/v1/chat/completions", "/v1/completions") and self.allowed():
            self.server.requests.append(body)
            assert ("messages" in body) == (self.path == "/v1/chat/completions")
            self.send(self.server.answers.get(timeout=TIMEOUT))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.reset()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def reset(self):
        self.answers, self.requests, self.models, self.key = queue.Queue(), [], ["tiny"], None

    def handle_error(self, *_):
        pass  # A client that went away.


# ---- A browser, by the WebDriver protocol ----------------------------------------------------------------------
KEYS = {"enter": "\ue007", "shift": "\ue008", "control": "\ue009", "escape": "\ue00c", "tab": "\ue004"}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
WATCH = """window.faults = [];
addEventListener('error', (e) => faults.push(String(e.message)));
addEventListener('unhandledrejection', (e) => faults.push(String(e.reason)));
addEventListener('securitypolicyviolation', (e) => faults.push(e.violatedDirective + ' ' + e.blockedURI));
for (const name of ['alert', 'confirm', 'prompt', 'print', 'open']) window[name] = () => faults.push(name);"""


class Browser:
    def __init__(self):
        missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
        if missing:
            sys.exit(f"error: {' and '.join(missing)} not found: apt-get install chromium chromium-driver")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.profile = tempfile.mkdtemp(prefix="page-test-")
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.base = f"http://127.0.0.1:{port}"
        self.session = ""
        until(self.ready, "chromedriver")
        options = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
                   "--no-first-run", "--disable-background-networking", f"--user-data-dir={self.profile}"]
        preferences = {"download.default_directory": self.profile}
        wanted = {"browserName": "chrome", "unhandledPromptBehavior": "ignore",
                  "goog:chromeOptions": {"binary": shutil.which("chromium"), "args": options, "prefs": preferences}}
        self.session = "/session/" + self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        self.size(1280, 800)

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + self.session + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"].split("\n")[0]) from None

    def ready(self):
        try:
            return self.call("GET", "/status")["ready"]
        except OSError:
            return False

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()
            shutil.rmtree(self.profile, ignore_errors=True)

    def cdp(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def js(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def size(self, width, height):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name):
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def find(self, css):
        return self.call("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def labelled(self, label, within="body"):
        """The last visible button with this text or label."""
        found = self.js("""return [...document.querySelector(arguments[1]).querySelectorAll('button')].findLast(
            (node) => (node.textContent === arguments[0] || node.ariaLabel === arguments[0]) && node.checkVisibility())""", label, within)
        assert found, f"no button {label!r}"
        return found[ELEMENT]

    def click(self, element):
        self.call("POST", f"/element/{element}/click", {})

    def press(self, label, within="body"):
        self.click(self.labelled(label, within))

    def type(self, css, text):
        self.call("POST", f"/element/{self.find(css)}/value", {"text": text})

    def clear(self, css):
        self.call("POST", f"/element/{self.find(css)}/clear", {})

    def keys(self, *names):
        """Presses keys, to whatever has the focus; those before the last are held meanwhile."""
        values = [KEYS.get(name, name) for name in names]
        actions = [{"type": "keyDown", "value": value} for value in values]
        actions += [{"type": "keyUp", "value": value} for value in reversed(values)]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def picture(self, path):
        Path(path).write_bytes(base64.b64decode(self.call("GET", "/screenshot")))


def until(condition, what):
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError(f"waited {TIMEOUT} s for {what}")


# ---- Pictures --------------------------------------------------------------------------------------------------
SAMPLE = """A **trilobite** is a marine arthropod that lived from 521 to 252 million years ago. Three things to know:

1. Its body has *three lobes*, along its length
2. It moulted, so that one animal left many fossils
3. Its eyes had lenses of `calcite`

| Period | Million years ago | Trilobites |
|:--|--:|:--|
| Cambrian | 539 to 487 | the first |
| Permian | 299 to 252 | the last |

```python
def lobes(width: float) -> list[float]:
    \"\"\"Left pleural lobe, axial lobe, right pleural lobe.\"\"\"
    return [0.35 * width, 0.30 * width, 0.35 * width]
```

> They died out at the end of the Permian. More: https://en.wikipedia.org/wiki/Trilobite"""


def pictures(case, folder):
    """Pictures of the page, to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    if case.server is None:
        case.setUp()
        case.ask("Once upon a time")
        case.idle()
        time.sleep(0.3)
        case.browser.picture(folder / "page.png")
        return
    case.server.models = ["test-server", "another"]
    case.setUp()
    case.server.models = ["test-server", "another"]
    case.open()
    case.browser.picture(folder / "empty.png")
    for title in ("Names for a cat", "Why is the sky blue?"):
        case.ask(title, Answer.text("…"))
        case.browser.press("New conversation")
    case.ask("What is a trilobite?", Answer(*(piece for byte in [stream(SAMPLE, step=5, reasoning="Briefly, with a table.")] for piece in (byte[:900], byte[900:]))))
    case.browser.size(1280, 860)
    case.browser.picture(folder / "page.png")
    case.ask("And now a very long answer", Answer.error(429, "The queue is full: 64 requests wait", Retry_After="5"))
    for name, size in (("wide", (1280, 860)), ("phone", (375, 720)), ("narrow", (320, 568))):
        for scheme in ("light", "dark"):
            case.browser.size(*size)
            case.browser.scheme(scheme)
            for part, top in (("top", "0"), ("end", "1e9")):
                case.js(f"document.querySelector('#log').scrollTop = {top}")
                time.sleep(0.3)
                case.browser.picture(folder / f"{name}-{scheme}-{part}.png")
    case.browser.press("Conversations")
    time.sleep(0.4)
    case.browser.picture(folder / "narrow-menu.png")
    case.browser.keys("escape")
    for name, size in (("wide", (1280, 860)), ("phone", (375, 720))):
        case.browser.size(*size)
        case.browser.press("Settings")
        time.sleep(0.3)
        case.browser.picture(folder / f"{name}-settings.png")
        case.browser.press("Done")
