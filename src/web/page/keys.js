// Symbols of keys as X11 numbers them (X11/keysymdef.h), and combinations that browsers and
// desktops keep for themselves.

export const BACKSPACE = 0xff08;
export const RETURN = 0xff0d;
const TAB = 0xff09;
const ESCAPE = 0xff1b;

const CONTROL = [0xffe3, "ControlLeft"];
const ALT = [0xffe9, "AltLeft"];
const SUPER = [0xffeb, "MetaLeft"];
const functionKey = (number) => [0xffbe + number - 1, `F${number}`];

/** The symbol that a character is typed by. */
export function keySymbol(character) {
  if (character === "\n" || character === "\r") return RETURN;
  if (character === "\t") return TAB;
  const code = character.codePointAt(0);
  // Latin-1 is as it is; the rest is Unicode with a bit.
  return code < 0x100 ? code : 0x01000000 | code;
}

export const COMBINATIONS = [
  ["Ctrl-Alt-Del", [CONTROL, ALT, [0xffff, "Delete"]]],
  ["Ctrl-Alt-Backspace", [CONTROL, ALT, [BACKSPACE, "Backspace"]]],
  ["Ctrl-Alt-F1", [CONTROL, ALT, functionKey(1)]],
  ["Ctrl-Alt-F2", [CONTROL, ALT, functionKey(2)]],
  ["Ctrl-Alt-F3", [CONTROL, ALT, functionKey(3)]],
  ["Ctrl-Alt-F7", [CONTROL, ALT, functionKey(7)]],
  ["Alt-Tab", [ALT, [TAB, "Tab"]]],
  ["Alt-F4", [ALT, functionKey(4)]],
  ["Ctrl-W", [CONTROL, [0x77, "KeyW"]]],
  ["Super", [SUPER]],
  ["Print Screen", [[0xff61, "PrintScreen"]]],
  ["Escape", [[ESCAPE, "Escape"]]],
  ["Tab", [[TAB, "Tab"]]],
  ["F11", [functionKey(11)]],
];
