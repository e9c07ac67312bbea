// Questions, and text for the guest.

const element = (id) => document.getElementById(id);

/** Resolves to whether the dialog was left by its "yes". */
function ask(dialog) {
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export function confirmed(question, answer) {
  element("confirm-text").textContent = question;
  element("confirm-yes").textContent = answer;
  return ask(element("confirm"));
}

/** Resolves to what is to be typed; "": nothing. */
export async function textToType() {
  const text = element("paste-text");
  text.value = "";
  const wanted = await ask(element("paste-dialog"));
  const value = text.value;
  text.value = "";
  return wanted ? value : "";
}

/** Puts text on the clipboard; false: the browser does not let us. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without HTTPS there is no such interface but on the host itself: the old way.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
