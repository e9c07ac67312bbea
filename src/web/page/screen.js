// The graphical screen: noVNC in a panel.

import RFB from "/novnc/core/rfb.js";
import { Backoff, socketUrl } from "./connection.js";
import { keySymbol, RETURN, BACKSPACE } from "./keys.js";

/** Between two characters that are typed for somebody: a PS/2 keyboard holds but a few. */
const TYPING_PAUSE = 25;

export class ScreenPanel {
  constructor(element) {
    this.element = element;
    element.classList.add("screen");
    this.rfb = null;
    this.connected = false;
    this.scaled = true;
    this.backoff = new Backoff(() => this.connect());
    this.typist = this.makeTypist();
    this.connect();
  }

  connect() {
    this.backoff.stop();
    if (this.rfb !== null) return;
    const rfb = new RFB(this.element, socketUrl("/screen"), { shared: true });
    rfb.scaleViewport = this.scaled;
    rfb.focusOnClick = true;
    rfb.showDotCursor = true;
    rfb.background = "transparent";
    rfb.addEventListener("connect", () => {
      this.connected = true;
      this.element.dataset.connected = "true";
      this.backoff.succeeded();
    });
    rfb.addEventListener("disconnect", () => {
      this.connected = false;
      delete this.element.dataset.connected;
      this.rfb = null;
      this.backoff.failed();
    });
    this.rfb = rfb;
  }

  stop() {
    this.rfb?.disconnect();
    this.backoff.stop();
  }

  focus() {
    this.rfb?.focus();
  }

  shown() {
    // noVNC scaled to a panel without a size.
    if (this.rfb) this.rfb.scaleViewport = this.scaled;
  }

  set scale(on) {
    this.scaled = on;
    if (this.rfb) this.rfb.scaleViewport = on;
  }

  get selection() {
    return "";
  }

  /** Keys that are pressed together: [[symbol, code], ...]. */
  press(keys) {
    if (!this.connected) return;
    for (const [symbol, code] of keys) this.rfb.sendKey(symbol, code, true);
    for (const [symbol, code] of keys.toReversed()) this.rfb.sendKey(symbol, code, false);
    this.focus();
  }

  /** Types text on the guest's keyboard. */
  async type(text) {
    for (const character of text.replaceAll("\r\n", "\n")) {
      if (!this.connected) return;
      this.rfb.sendKey(keySymbol(character), null);
      await new Promise((resolve) => setTimeout(resolve, TYPING_PAUSE));
    }
  }

  /** What opens the keyboard of a phone, and takes what is typed there. */
  makeTypist() {
    const typist = document.createElement("textarea");
    typist.className = "typist";
    typist.tabIndex = -1;
    typist.autocapitalize = "off";
    typist.autocomplete = "off";
    typist.setAttribute("aria-label", "Keyboard of the guest");
    typist.addEventListener("input", (event) => {
      if (event.isComposing) return;
      if (event.inputType === "deleteContentBackward") this.press([[BACKSPACE, "Backspace"]]);
      else if (event.inputType === "insertLineBreak") this.press([[RETURN, "Enter"]]);
      else this.type(typist.value.slice(1));
      // Something to delete is always there.
      typist.value = " ";
      typist.focus();
    });
    typist.value = " ";
    this.element.after(typist);
    return typist;
  }

  openKeyboard() {
    this.typist.focus();
  }
}
