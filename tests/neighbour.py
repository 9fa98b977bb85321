"""Another user of this machine who serves pages on a port of their own, and writes down all that
a browser sends there. Run as `python neighbour.py PORT VICTIM`; imports nothing of this checkout.

Each request is one line of JSON on stdout: its method, path and headers as they came. The pages try
what a page can: they ask the VICTIM, the port of the server next door, in every way that a browser
has, and install a service worker that answers for every page of their origin.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - looked for by name, when its files cannot be read any more
import json
import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VICTIM = sys.argv[-1]
_NOBODY = 65_534

# A worker stays in the browser when its server has ended, and stands before every later page.
WORKER = """
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.mode !== "navigate") return;
  event.respondWith(new Response("<h1>taken</h1>", {headers: {"content-type": "text/html"}}));
});
"""

PAGE = """<!doctype html><title>neighbour</title><h1>neighbour</h1>
<script>
const got = {};
const victims = ["127.0.0.1", "localhost", "[::1]", "abcdefghijklmnop.localhost"];
const read = async (name, url, options) => {
  try { got[name] = await (await fetch(url, options)).text(); } catch { got[name] = null; }
};
const loaded = (name, kind, url) => new Promise((done) => {
  const each = document.createElement(kind);
  const end = (what) => { got[name] = what; done(); };
  each.onerror = () => end(null);
  each.onload = () => {
    try { end(each.contentDocument?.body?.innerText ?? each.width ?? null); } catch { end(null); }
  };
  each[kind === "link" ? "href" : "src"] = url;
  if (kind === "link") each.rel = "stylesheet";
  document.body.append(each);
  setTimeout(() => end(null), 2000);
});
const talk = (name, url) => new Promise((done) => {
  const end = (what) => { got[name] = what; done(); };
  const line = url.startsWith("ws") ? new WebSocket(url)
    : new EventSource(url, {withCredentials: true});
  line.onopen = () => end("open");
  line.onmessage = (event) => end(event.data);
  line.onerror = () => end(null);
});
const posted = (name, url) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.name = name;
  const form = document.createElement("form");
  Object.assign(form, {method: "post", action: url, target: name, enctype: "text/plain"});
  form.innerHTML = `<input name='{"jobs": ["new"], "x": "' value='"}'>`;
  document.body.append(frame, form);
  form.submit();
  setTimeout(() => {
    try { got[name] = frame.contentDocument.body.innerText || null; } catch { got[name] = null; }
    done();
  }, 500);
});
window.attack = async () => {
  const all = [];
  for (const name of victims) {
    const at = `${name}:VICTIM`;
    for (const mode of ["cors", "no-cors"]) {
      const options = {mode, credentials: "include"};
      all.push(read(`fetch ${mode} ${name}`, `http://${at}/api/v1/jobs`, options));
    }
    all.push(read(`bearer ${name}`, `http://${at}/`, {headers: {authorization: "Bearer x"}}));
    for (const kind of ["iframe", "img", "script", "link", "object", "embed"]) {
      all.push(loaded(`${kind} ${name}`, kind, `http://${at}/jobs/first`));
    }
    all.push(talk(`socket ${name}`, `ws://${at}/api/v1/events`));
    all.push(talk(`events ${name}`, `http://${at}/api/v1/events`));
    all.push(posted(`form ${name}`, `http://${at}/api/v1/builds`));
  }
  await Promise.all(all);
  const opened = window.open(`http://127.0.0.1:VICTIM/`);
  await new Promise((done) => setTimeout(done, 300));
  try { got.opened = opened.document.body.innerText || null; } catch { got.opened = null; }
  got.opener = window.opener && "there";
  got.referrer = document.referrer || null;
  got.cookie = document.cookie || null;
  return got;
};
window.settle = async () => {
  await navigator.serviceWorker.register("/worker.js", {scope: "/"});
  await navigator.serviceWorker.ready;
};
</script>
""".replace("VICTIM", VICTIM)


class Neighbour(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        seen = {"method": self.command, "path": self.path, "headers": headers}
        sys.stdout.write(json.dumps(seen) + "\n")
        sys.stdout.flush()
        worker = self.path == "/worker.js"
        if self.path.startswith("/back"):
            self.send_response(302)
            self.send_header("location", f"http://127.0.0.1:{VICTIM}/jobs/first")
            self.end_headers()
            return
        body = (WORKER if worker else PAGE).encode()
        self.send_response(200)
        self.send_header("content-type", "text/javascript" if worker else "text/html")
        self.send_header("content-length", str(len(body)))
        # What a server can do to its host's other ports: set their cookies, and log them.
        self.send_header("set-cookie", f"popbuild-{VICTIM}=of-the-neighbour; Path=/")
        self.send_header("set-cookie", 'prefs={"theme":"dark"}; Path=/')
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET
    do_OPTIONS = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Each request is written down above."""


class Server(ThreadingHTTPServer):
    daemon_threads = True


class Server6(Server):
    address_family = socket.AF_INET6


def become_another_user() -> None:
    """Where we are root, be nobody from now on: all that is needed has been imported."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def main() -> None:
    """Listen at both addresses of the loopback, and say at which port."""
    become_another_user()
    server = Server(("127.0.0.1", int(sys.argv[1])), Neighbour)
    port = server.server_address[1]
    try:
        other = Server6(("::1", port), Neighbour)
        threading.Thread(target=other.serve_forever, daemon=True).start()
    except OSError:
        pass  # no IPv6 here, so no browser looks there either
    print(json.dumps({"port": port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
