// A serial port, console or monitor: xterm.js in a panel.

import { Terminal, fit } from "/xterm/xterm.js";
import { Connection } from "./connection.js";

/** Characters of one message. */
const PIECE = 4096;

/**
 * What a terminal answers (ECMA-48's DA and DSR, DEC's and xterm's kinds of them): in what was
 * written before, somebody has done so, or nobody waits any more.
 */
const QUESTIONS = /\x1b(?:\[[?>=]?[\d;]*[cn]|Z|\][^\x07\x1b]*\?(?:\x07|\x1b\\))/g;

const THEME = {
  background: "#0a0c10", foreground: "#dde3ee", cursor: "#7aa2ff", selection: "#7aa2ff55",
  black: "#1d222c", red: "#ff7b72", green: "#62d39a", yellow: "#f2c14e",
  blue: "#7aa2ff", magenta: "#d2a8ff", cyan: "#6fd6e5", white: "#c9d1de",
  brightBlack: "#6b7486", brightRed: "#ffa198", brightGreen: "#8ae6b8", brightYellow: "#ffd97a",
  brightBlue: "#a5c0ff", brightMagenta: "#e2c5ff", brightCyan: "#9be7f1", brightWhite: "#ffffff",
};

export class TerminalPanel {
  constructor(element, id) {
    this.element = element;
    element.classList.add("terminal");
    // Real text in the page: to be selected, searched, and read aloud.
    this.terminal = new Terminal({
      rendererType: "dom",
      cursorBlink: true,
      scrollback: 10000,
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
      fontSize: 14,
      theme: THEME,
    });
    this.terminal.open(element);
    this.terminal.textarea?.setAttribute("aria-label", `Terminal ${id}`);
    this.terminal.attachCustomKeyEventHandler((event) => this.shortcut(event));
    this.terminal.on("data", (text) => this.send(text));
    this.decoder = new TextDecoder();
    this.history = true;
    this.connection = new Connection(`/terminal/${encodeURIComponent(id)}`);
    this.connection.addEventListener("open", () => {
      // All that is kept comes once more, in one message.
      this.decoder = new TextDecoder();
      this.history = true;
      this.terminal.reset();
      element.dataset.connected = "true";
    });
    this.connection.addEventListener("close", () => delete element.dataset.connected);
    this.connection.addEventListener("message", ({ detail }) => {
      const text = this.decoder.decode(detail, { stream: true });
      this.terminal.write(this.history ? text.replaceAll(QUESTIONS, "") : text);
      this.history = false;
    });
    new ResizeObserver(() => this.fit()).observe(element);
    this.connection.open();
  }

  fit() {
    if (this.element.hidden) return;
    fit(this.terminal);
  }

  /** Ctrl-Shift-C copies; Ctrl-Shift-V is the browser's. */
  shortcut(event) {
    if (!event.ctrlKey || !event.shiftKey) return true;
    if (event.code === "KeyV") return false;
    if (event.code !== "KeyC") return true;
    if (event.type === "keydown") {
      event.preventDefault();
      this.element.dispatchEvent(new Event("copy-selection", { bubbles: true }));
    }
    return false;
  }

  send(text) {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length; at += PIECE)
      this.connection.send(bytes.subarray(at, at + PIECE));
  }

  /** As from the clipboard: a line's end is the Enter key. */
  async type(text) {
    this.send(text.replaceAll(/\r?\n/g, "\r"));
  }

  press() {}

  get selection() {
    return this.terminal.getSelection();
  }

  stop() {
    this.connection.stop();
  }

  focus() {
    this.terminal.focus();
  }

  shown() {
    this.fit();
  }

  openKeyboard() {
    this.terminal.focus();
  }
}
