// Sockets that come back by themselves.

const FIRST_DELAY = 500;
const LONGEST_DELAY = 8000;

/** The address of a WebSocket of this server's. */
export function socketUrl(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** When to try again: later with every time in a row. */
export class Backoff {
  constructor(attempt) {
    this.attempt = attempt;
    this.delay = FIRST_DELAY;
    this.timer = null;
  }

  succeeded() {
    this.delay = FIRST_DELAY;
  }

  failed() {
    if (this.timer !== null) return;
    this.timer = setTimeout(() => this.now(), this.delay);
    this.delay = Math.min(2 * this.delay, LONGEST_DELAY);
  }

  now() {
    this.stop();
    this.attempt();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
  }
}

/**
 * A WebSocket that is opened again when it closes. Events: "open", "close", "message" (its data
 * as detail: a string, or an ArrayBuffer).
 */
export class Connection extends EventTarget {
  constructor(path) {
    super();
    this.path = path;
    this.socket = null;
    this.backoff = new Backoff(() => this.open());
  }

  open() {
    this.backoff.stop();
    if (this.socket !== null) return;
    const socket = new WebSocket(socketUrl(this.path));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.addEventListener("open", () => {
      this.backoff.succeeded();
      this.dispatchEvent(new Event("open"));
    });
    socket.addEventListener("message", (event) => {
      this.dispatchEvent(new CustomEvent("message", { detail: event.data }));
    });
    socket.addEventListener("close", () => {
      if (this.socket !== socket) return; // stopped
      this.socket = null;
      this.backoff.failed();
      this.dispatchEvent(new Event("close"));
    });
  }

  /** Does not come back. */
  stop() {
    this.backoff.stop();
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.backoff.stop();
  }

  /** False: there is no connection now. */
  send(data) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(data);
    return true;
  }
}
