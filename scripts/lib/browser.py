"""A real Chromium without a window, driven through chromedriver (W3C WebDriver)."""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's web element identifier
KEYS = {"Enter": "\ue006", "Escape": "\ue00c", "Tab": "\ue004", "ArrowDown": "\ue015"}


class BrowserError(Exception):
    pass


def is_there():
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


class Browser:
    def __init__(self, width=1280, height=800):
        self.folder = tempfile.mkdtemp(prefix="limen-browser-")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                       env={**os.environ, "HOME": self.folder})
        self.session = None
        try:
            for line in self.driver.stdout:
                if match := re.search(r"started successfully on port (\d+)", line):
                    self.address = f"http://127.0.0.1:{match[1]}"
                    break
            else:
                raise BrowserError("chromedriver does not start")
            words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                     "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage",
                     "--disable-component-update", "--disable-sync", "--no-proxy-server",
                     f"--user-data-dir={self.folder}/profile", f"--window-size={width},{height}"]
            answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {
                "browserName": "chrome", "goog:chromeOptions": {"args": words},
                "goog:loggingPrefs": {"browser": "ALL"}}}})
            self.session = answer["sessionId"]
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.session:
            try:
                self._call("DELETE", f"/session/{self.session}")
            except (BrowserError, OSError):
                pass
        self.driver.terminate()
        self.driver.wait()
        self.driver.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, method, path, body=None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.address + path, data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise BrowserError(json.load(error)["value"]["message"].splitlines()[0]) from None

    def command(self, path, **body):
        return self._call("POST", f"/session/{self.session}/{path}", body)

    def open(self, url):
        self.command("url", url=url)

    def run(self, script, *arguments):
        """The value that a function's body returns; a promise is waited for."""
        return self.command("execute/sync", script=script, args=list(arguments))

    def wait(self, script, timeout=30):
        """Waits until `script` returns something true, and returns it."""
        end = time.monotonic() + timeout
        while True:
            value = self.run(script)
            if value:
                return value
            if time.monotonic() > end:
                raise BrowserError(f"not within {timeout} s: {script}; the page says: "
                                   f"{self.run('return document.body.innerText')[:1500]!r}; {self.log()}")
            time.sleep(0.1)

    def element(self, selector):
        return self.command("element", using="css selector", value=selector)[ELEMENT]

    def click(self, selector):
        self.command(f"element/{self.element(selector)}/click")

    def click_at(self, x, y):
        """At a place of the page's, in pixels from the top left of what is seen of it."""
        self.command("actions", actions=[{"type": "pointer", "id": "mouse", "actions": [
            {"type": "pointerMove", "x": x, "y": y}, {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0}]}])

    def fill(self, selector, text):
        self.command(f"element/{self.element(selector)}/value", text=text)

    def keys(self, *names):
        """Presses keys where the focus is: characters, or names of KEYS."""
        actions = []
        for name in names:
            value = KEYS.get(name, name)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self.command("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def type(self, text):
        self.keys(*text)

    def resize(self, width, height):
        self.command("window/rect", width=width, height=height)

    def picture(self, path):
        """A PNG of the page."""
        data = self._call("GET", f"/session/{self.session}/screenshot")
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def log(self):
        """What the page complained of since the last call: errors and violated policies."""
        return [entry["message"] for entry in self.command("se/log", type="browser")
                if entry["level"] == "SEVERE"]
