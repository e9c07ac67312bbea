// The console: connects to the machine, and wires buttons, consoles and status line.

import { Connection } from "./connection.js";
import { confirmed, copyText, textToType } from "./dialogs.js";
import { COMBINATIONS } from "./keys.js";
import { attachMenu } from "./menu.js";
import { ScreenPanel } from "./screen.js";
import { showMachine, showState, showStatus } from "./status.js";
import { Tabs } from "./tabs.js";
import { TerminalPanel } from "./terminal.js";

const element = (id) => document.getElementById(id);

// The token has become a cookie; it need not stay in the history.
history.replaceState(null, "", "/");

const control = new Connection("/control");
const tabs = new Tabs(element("tabs"), element("panels"));
let running = false;
let noticeTimer = null;

/** `action`: what its button does; without one it goes by itself. */
function notice(text, button = "", action = null) {
  clearTimeout(noticeTimer);
  element("notice-text").textContent = text;
  element("notice").hidden = text === "";
  element("notice-button").hidden = action === null;
  element("notice-button").textContent = button;
  element("notice-button").onclick = action;
  if (text !== "" && action === null) noticeTimer = setTimeout(() => notice(""), 6000);
}

function showConsoles(machine) {
  const screen = machine.screen || machine.terminals.length === 0;
  const wanted = new Set([...(screen ? ["screen"] : []), ...machine.terminals]);
  tabs.retain((id) => wanted.has(id));
  if (screen) tabs.add("screen", "Screen", (panel) => new ScreenPanel(panel));
  for (const id of machine.terminals)
    tabs.add(id, id.replace(/^serial(\d+)$/, "Serial $1"), (panel) => new TerminalPanel(panel, id));
}

function showRunning(state) {
  running = state === "running";
  const button = element("run");
  const word = running ? "Pause" : "Resume";
  button.disabled = false;
  button.title = `${word} the machine`;
  button.querySelector("span").textContent = word;
  button.querySelector(".pause").toggleAttribute("hidden", !running);
  button.querySelector(".play").toggleAttribute("hidden", running);
}

function command(name) {
  if (!control.send(JSON.stringify({ command: name }))) notice("There is no connection now.");
}

async function explainLoss() {
  showState("lost");
  element("run").disabled = true;
  const retry = () => control.backoff.now();
  try {
    const answer = await fetch("/", { cache: "no-store" });
    if (answer.status === 401) {
      control.stop();
      notice("This needs the address with the token in it, as Limen printed it.", "Reload",
        () => location.reload());
      return;
    }
  } catch {
    // Nobody answers.
  }
  if (control.socket?.readyState !== WebSocket.OPEN)
    notice("The connection to the machine is lost. Trying again…", "Try now", retry);
}

function ended() {
  control.stop();
  tabs.retain(() => true);
  for (const { content } of tabs.entries.values()) content.stop();
  showState("ended");
  element("run").disabled = true;
  notice("The machine has ended.", "Connect again", () => location.reload());
}

control.addEventListener("open", () => notice(""));
control.addEventListener("close", explainLoss);
control.addEventListener("message", ({ detail }) => {
  const message = JSON.parse(detail);
  if (message.type === "machine") {
    showMachine(message);
    showConsoles(message);
  } else if (message.type === "status") {
    showStatus(message);
    showRunning(message.state);
  } else if (message.type === "error") {
    notice(message.message);
  } else if (message.type === "ended") {
    ended();
  }
});

for (const button of document.querySelectorAll('[aria-haspopup="menu"]')) attachMenu(button);

element("run").addEventListener("click", () => command(running ? "pause" : "resume"));

for (const item of document.querySelectorAll("[data-command]"))
  item.addEventListener("click", async () => {
    const { command: name, confirm } = item.dataset;
    const answer = item.textContent.replace("…", "");
    if (!confirm || (await confirmed(confirm, answer))) command(name);
  });

for (const [title, keys] of COMBINATIONS) {
  const item = document.createElement("button");
  item.type = "button";
  item.role = "menuitem";
  item.textContent = title;
  item.addEventListener("click", () => tabs.active?.press(keys));
  element("keys-menu").append(item);
}

element("paste").addEventListener("click", async () => {
  const text = await textToType();
  tabs.active?.focus();
  if (text !== "") await tabs.active?.type(text);
});

async function copySelection() {
  const text = tabs.active?.selection ?? "";
  if (text === "") notice("Nothing is selected.");
  else if (!(await copyText(text))) notice("The browser does not allow it.");
  tabs.active?.focus();
}
element("copy").addEventListener("click", copySelection);
element("panels").addEventListener("copy-selection", copySelection);

element("scale").addEventListener("click", () => {
  const on = element("scale").getAttribute("aria-pressed") !== "true";
  element("scale").setAttribute("aria-pressed", String(on));
  const screen = tabs.entries.get("screen")?.content;
  if (screen) screen.scale = on;
});

element("touch-keyboard").addEventListener("click", () => tabs.active?.openKeyboard());

element("full").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else element("panels").requestFullscreen().then(() => tabs.active?.focus(), () => {});
});

/** What is for the graphical screen alone, and what for terminals. */
element("tabs").addEventListener("change", () => {
  const graphical = tabs.current === "screen";
  element("keys").disabled = !graphical;
  element("scale").disabled = !graphical;
  element("copy").disabled = graphical;
});

control.open();
